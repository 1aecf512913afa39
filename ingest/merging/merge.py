"""Partials to one document's data, by declared rules, whatever the order in which the answers came.

Each value keeps its origins: which chunks say so and where the model says it stands. Where chunks disagree the
rule decides, and the disagreement is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ingest.errors import ConfigError
from ingest.merging.shape import Rules, Shape, escape, root_shape, split_pointer
from ingest.merging.strategies import Align, Candidate, Choice, Choose, Listing, find_strategy
from ingest.record import Conflict, ConflictSide
from ingest.types import Cite, Json, JsonObject, Partial
from ingest.values import canonical_json

_NO_CITE: Final = Cite(None)
_CHOOSE: Final = "agree"


class Origin(NamedTuple):
    """Where a value comes from: the chunk that says so (index from 0), and the part the model cites."""

    chunk_index: int
    cite: Cite


Origins = tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """One document's data. `origins` has every leaf that is not null, by JSON Pointer.

    `conflicts` have no evidence yet; `side_origins` holds for each conflict the origins of its sides, so that
    `grounding.ground_conflicts` can find it.
    """

    data: Json
    origins: dict[str, Origins] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    side_origins: tuple[tuple[Origins, ...], ...] = ()


def merge(partials: Sequence[Partial], schema: JsonObject, rules: Rules | None = None) -> Merged:
    """All chunks' data as one.

    The rule of a field is, in this order: `rules` by its path, `x-merge` in `schema`, its type (scalars `agree`,
    objects field by field, lists of texts `union`, other lists `concat`). Null and missing never beat a value. The
    result does not depend on the order of `partials`. Raises ConfigError for a rule that names no strategy.
    """
    ordered = sorted(partials, key=_reading_order)
    merger = _Merger()
    claims = [_root_claim(partial) for partial in ordered]
    data = merger.merge(claims, root_shape(schema, rules), "") if claims else None
    return Merged(data, merger.origins, tuple(merger.conflicts), tuple(merger.side_origins))


def check_rules(schema: JsonObject, rules: Rules | None = None) -> None:
    """Raise ConfigError for a merge rule that cannot work, so that it is known before anything is read or sent.

    Covers the whole schema and `rules`: unknown strategies, strategies that cannot take the field's type, a missing
    `x-merge-key`, and paths that name no field.
    """
    root = root_shape(schema, rules)
    for path in rules or {}:
        _check_path(root, path)
    _check_shape(root, "", set())


def _check_path(root: Shape, path: str) -> None:
    shape = root
    for step in split_pointer(path):
        if step == "*":
            if "array" not in shape.types:
                raise ConfigError(f"merge rule for {path!r}: '*' stands for the items of a list, and there is none")
            shape = shape.items
        elif shape.has_child(step):
            shape = shape.child(step)
        else:
            known = ", ".join(shape.order) or "none"
            raise ConfigError(f"merge rule for {path!r}: the schema has no {step!r} there (known: {known})")
    if shape.rule is not None:
        _check_rule(shape, path)


def _check_shape(shape: Shape, path: str, seen: set[tuple[int, ...]]) -> None:
    # A schema that refers to itself comes back to the same nodes; each needs looking at once.
    if shape.identity in seen:
        return
    seen.add(shape.identity)
    if shape.rule is not None:
        _check_rule(shape, path or "/")
    for key in shape.order:
        _check_shape(shape.child(key), f"{path}/{escape(key)}", seen)
    if shape.has_items:
        _check_shape(shape.items, f"{path}/*", seen)


def _check_rule(shape: Shape, path: str) -> None:
    rule = shape.rule
    assert rule is not None
    try:
        strategy = find_strategy(rule.name)
    except ConfigError as error:
        raise ConfigError(f"merge rule for {path!r}: {error}") from error
    if isinstance(strategy, Align):
        if "array" not in shape.types:
            raise ConfigError(f"merge rule for {path!r}: {rule.name!r} merges lists, and this is none")
        if strategy.needs_key and not rule.keys:
            raise ConfigError(
                f"merge rule for {path!r}: {rule.name!r} needs x-merge-key, the property that identifies an item"
            )
    elif strategy.types is not None and not (shape.types - {"null"}) & strategy.types:
        allowed = ", ".join(sorted(shape.types - {"null"})) or "nothing"
        raise ConfigError(f"merge rule for {path!r}: {rule.name!r} cannot merge {allowed}")


@dataclass(frozen=True, slots=True)
class _Source:
    """The partial a claim stems from."""

    chunk_index: int
    cites: Mapping[str, Cite]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A value in a partial: where it stands there, and the cite that holds for it."""

    value: Json
    source: _Source
    pointer: str
    cite: Cite

    def below(self, step: str, value: Json) -> _Claim:
        pointer = f"{self.pointer}/{step}"
        return _Claim(value, self.source, pointer, self.source.cites.get(pointer, self.cite))

    @property
    def origin(self) -> Origin:
        return Origin(self.source.chunk_index, self.cite)


def _root_claim(partial: Partial) -> _Claim:
    source = _Source(partial.chunk.index, partial.cites)
    return _Claim(partial.data, source, "", partial.cites.get("", _NO_CITE))


def _reading_order(partial: Partial) -> tuple[int, int, str]:
    owned = partial.chunk.owned
    first = min((part.index for part in owned), default=0)
    return (first, partial.chunk.index, canonical_json(partial.data))


class _Merger:
    """One merge: collects origins and conflicts while it descends."""

    def __init__(self) -> None:
        self.origins: dict[str, Origins] = {}
        self.conflicts: list[Conflict] = []
        self.side_origins: list[tuple[Origins, ...]] = []

    def merge(self, claims: Sequence[_Claim], shape: Shape, pointer: str) -> Json:
        """The merged value of `claims`, which stand in reading order, to stand at `pointer`."""
        claims = _with_value(claims)
        if claims[0].value is None:
            return None
        strategy = find_strategy(shape.rule.name) if shape.rule else None
        if isinstance(strategy, Choose):
            return self._choose(strategy, claims, shape, pointer)
        if all(isinstance(claim.value, dict) for claim in claims):
            return self._merge_objects(claims, shape, pointer)
        if all(isinstance(claim.value, list) for claim in claims):
            aligned = strategy or find_strategy(_list_rule(claims, shape))
            assert isinstance(aligned, Align)
            return self._merge_lists(aligned, claims, shape, pointer)
        choose = find_strategy(_CHOOSE)
        assert isinstance(choose, Choose)
        return self._choose(choose, claims, shape, pointer)

    def _merge_objects(self, claims: Sequence[_Claim], shape: Shape, pointer: str) -> JsonObject:
        fields: dict[str, list[_Claim]] = {key: [] for key in shape.order}
        for claim in claims:
            for key, value in claim.value.items():
                fields.setdefault(key, []).append(claim.below(escape(key), value))
        return {
            key: self.merge(found, shape.child(key), f"{pointer}/{escape(key)}")
            for key, found in fields.items()
            if found
        }

    def _merge_lists(self, strategy: Align, claims: Sequence[_Claim], shape: Shape, pointer: str) -> list[Json]:
        listing = Listing(shape.rule.keys if shape.rule else (), shape.is_unique)
        groups = strategy.apply([claim.value for claim in claims], listing)
        merged = []
        for position, places in enumerate(groups):
            items = [claims[number].below(str(item), claims[number].value[item]) for number, item in places]
            merged.append(self.merge(items, shape.items, f"{pointer}/{position}"))
        return merged

    def _choose(self, strategy: Choose, claims: Sequence[_Claim], shape: Shape, pointer: str) -> Json:
        if len(claims) == 1:
            choice = Choice(claims[0].value, (0,))
        else:
            cited = [Candidate(claim.value, claim.cite.part_number is not None) for claim in claims]
            choice = strategy.apply(cited)
        self._note_origins(choice.value, [claims[number] for number in choice.supporters], pointer)
        if choice.sides:
            self._note_conflict(choice, claims, shape, pointer)
        return choice.value

    def _note_origins(self, value: Json, claims: Sequence[_Claim], pointer: str) -> None:
        """Origins of the leaves of a value taken whole: those of the supporters that have the leaf."""
        if isinstance(value, dict):
            for key, item in value.items():
                self._note_origins(item, _below(claims, key), f"{pointer}/{escape(key)}")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._note_origins(item, _below(claims, number), f"{pointer}/{number}")
        elif value is not None:
            self.origins[pointer] = tuple(dict.fromkeys(claim.origin for claim in claims))

    def _note_conflict(self, choice: Choice, claims: Sequence[_Claim], shape: Shape, pointer: str) -> None:
        shown = [_spokesman(side, claims, choice) for side in choice.sides]
        sides = tuple(ConflictSide(value=claim.value, chunk=claim.source.chunk_index) for claim in shown)
        rule = shape.rule.name if shape.rule else _CHOOSE
        self.conflicts.append(Conflict(pointer=pointer, chosen=choice.value, rule=rule, sides=sides))
        self.side_origins.append(
            tuple(tuple(dict.fromkeys(claims[number].origin for number in side)) for side in choice.sides)
        )


def _spokesman(side: Sequence[int], claims: Sequence[_Claim], choice: Choice) -> _Claim:
    """The claim shown for a side: of the side that won the one whose value was taken, else the first."""
    if side == choice.supporters:
        return next(claims[number] for number in side if claims[number].value == choice.value)
    return claims[side[0]]


def _below(claims: Sequence[_Claim], step: str | int) -> list[_Claim]:
    found = []
    for claim in claims:
        if isinstance(claim.value, dict) and step in claim.value:
            found.append(claim.below(escape(str(step)), claim.value[step]))
        elif isinstance(claim.value, list) and isinstance(step, int) and step < len(claim.value):
            found.append(claim.below(str(step), claim.value[step]))
    return found


def _with_value(claims: Sequence[_Claim]) -> Sequence[_Claim]:
    """The claims that say most: an empty text or list counts only where no chunk has more, null where none has that."""
    best = max(_substance(claim.value) for claim in claims)
    return [claim for claim in claims if _substance(claim.value) == best]


def _substance(value: Json) -> int:
    if value is None:
        return 0
    return 1 if value in ("", [], {}) else 2


def _list_rule(claims: Sequence[_Claim], shape: Shape) -> str:
    """Lists of texts are names (parties, keywords) that chunks repeat; all else is rows, where repeats are real."""
    if shape.is_unique:
        return "union"
    types = shape.items.types
    if "string" not in types:
        return "concat"
    if types <= {"string", "null"}:
        return "union"
    return "union" if all(isinstance(item, str) for claim in claims for item in claim.value) else "concat"
