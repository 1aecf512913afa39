"""Partials to one document's data, by declared rules, whatever the order in which the answers came.

Each value keeps its origins: which chunks say so and where the model says it stands. Where chunks disagree the
rule decides, and the disagreement is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ingest.errors import ConfigError
from ingest.merging.borders import Neighbourhood, Row, attach, with_texts
from ingest.merging.keys import Edge, Listing, Place
from ingest.merging.shape import Rules, Shape, escape, root_shape, split_pointer
from ingest.merging.strategies import Align, Candidate, Choice, Choose, find_strategy, group_candidates
from ingest.record import Conflict, ConflictSide
from ingest.types import Cite, Json, JsonObject, Partial
from ingest.values import canonical_json, fold

_NO_CITE: Final = Cite(None)
_CHOOSE: Final = "agree"


class Origin(NamedTuple):
    """Where a value comes from: the chunk that says so (index from 0), and the part the model cites.

    `said` is what that chunk says there when the merged value is not just that: a text put together of two pieces, a
    sum, another spelling.
    """

    chunk_index: int
    cite: Cite
    said: Json = None


Origins = tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """One document's data. `origins` has every leaf that is not null, by JSON Pointer.

    `conflicts` have no evidence yet; `side_origins` holds for each conflict the origins of its sides, so that
    `grounding.ground_conflicts` can find it. `questions` are the numbers of the conflicts that the rule `synthesize`
    puts to the model; see `synthesis`.
    """

    data: Json
    origins: dict[str, Origins] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    side_origins: tuple[tuple[Origins, ...], ...] = ()
    questions: tuple[int, ...] = ()


def merge(partials: Sequence[Partial], schema: JsonObject, rules: Rules | None = None) -> Merged:
    """All chunks' data as one.

    The rule of a field is, in this order: `rules` by its path, `x-merge` in `schema`, its type (scalars `agree`,
    objects field by field, lists of texts `union`, other lists `concat`). Null and missing never beat a value. The
    result does not depend on the order of `partials`. Raises ConfigError for a rule that names no strategy.
    """
    ordered = sorted(partials, key=_reading_order)
    merger = _Merger({part.number: n for n, partial in enumerate(ordered) for part in partial.chunk.owned})
    claims = [_root_claim(partial, position) for position, partial in enumerate(ordered)]
    data = merger.merge(claims, root_shape(schema, rules), "") if claims else None
    return Merged(data, merger.origins, tuple(merger.conflicts), tuple(merger.side_origins), tuple(merger.questions))


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
    """The partial a claim stems from: its position among all in reading order, and where its chunk stands."""

    position: int
    chunk_index: int
    cites: Mapping[str, Cite]
    place: Neighbourhood


@dataclass(frozen=True, slots=True)
class _Claim:
    """A value in a partial: where it stands there, the cite that holds for it, and what the chunk said itself when
    the value was completed from elsewhere."""

    value: Json
    source: _Source
    pointer: str
    cite: Cite
    said: Json = None

    def below(self, step: str | int) -> _Claim:
        """The claim about a property, or an item, of this value."""
        pointer = f"{self.pointer}/{escape(str(step))}"
        said = self.said[step] if isinstance(self.said, dict) and step in self.said else None
        return _Claim(self.value[step], self.source, pointer, self.source.cites.get(pointer, self.cite), said)

    def origin_of(self, value: Json) -> Origin:
        """The origin this claim gives to a merged value."""
        said = self.value if self.said is None else self.said
        # 1 and 1.0 are one number and different texts.
        is_same = isinstance(said, dict | list) or (said == value and type(said) is type(value))
        return Origin(self.source.chunk_index, self.cite, None if is_same else said)

    @property
    def origin(self) -> Origin:
        return Origin(self.source.chunk_index, self.cite)

    @property
    def page(self) -> int | None:
        """The part cited, unless the model cannot have seen it."""
        number, place = self.cite.part_number, self.source.place
        return number if number in place.numbers or number in place.carried else None


def _root_claim(partial: Partial, position: int) -> _Claim:
    chunk = partial.chunk
    indexes = [part.index for part in chunk.owned]
    first, last = (chunk.owned[0].moments, chunk.owned[-1].moments) if chunk.owned else ((), ())
    edge = Edge(
        min(indexes, default=0),
        max(indexes, default=0),
        first[0].end_s if first else None,
        last[-1].start_s if last else None,
    )
    owned = frozenset(part.number for part in chunk.owned)
    place = Neighbourhood(edge, owned, frozenset(part.number for part in chunk.context) - owned)
    source = _Source(position, chunk.index, partial.cites, place)
    return _Claim(partial.data, source, "", partial.cites.get("", _NO_CITE))


def _reading_order(partial: Partial) -> tuple[tuple[int, int], int, str]:
    first = min(((part.index, part.piece) for part in partial.chunk.owned), default=(0, 0))
    return (first, partial.chunk.index, canonical_json(partial.data))


class _Merger:
    """One merge: collects origins and conflicts while it descends. `owners` leads from a part's number to the position
    of the partial that owns it."""

    def __init__(self, owners: Mapping[int, int]) -> None:
        self._owners = owners
        self.questions: list[int] = []
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
            for key in claim.value:
                fields.setdefault(key, []).append(claim.below(key))
        return {
            key: self.merge(found, shape.child(key), f"{pointer}/{escape(key)}")
            for key, found in fields.items()
            if found
        }

    def _merge_lists(self, strategy: Align, claims: Sequence[_Claim], shape: Shape, pointer: str) -> list[Json]:
        items = [[claim.below(n) for n in range(len(claim.value))] for claim in claims]
        homes: dict[Place, list[Place]] = {}
        if len(claims) > 1:
            homes = self._attach(items, [claim.source for claim in claims])
        attached = {place for places in homes.values() for place in places}
        kept = [[n for n in range(len(own)) if (number, n) not in attached] for number, own in enumerate(items)]
        groups = strategy.apply(
            [[items[number][n].value for n in own] for number, own in enumerate(kept)], _listing(shape, claims)
        )
        merged = []
        for position, places in enumerate(groups):
            own = [(number, kept[number][n]) for number, n in places]
            whole = [each for place in own for each in (place, *homes.get(place, ()))]
            found = [items[number][n] for number, n in whole]
            merged.append(self.merge(found, shape.items, f"{pointer}/{position}"))
        return merged

    def _attach(self, items: list[list[_Claim]], sources: Sequence[_Source]) -> dict[Place, list[Place]]:
        """The copies and second halves that belong to each item; texts completed by them are put into `items`."""
        numbers: dict[int, int] = {}
        for number, source in enumerate(sources):
            numbers.setdefault(source.position, number)
        rows = [[self._row(claim, number, numbers) for claim in claims] for number, claims in enumerate(items)]
        attachments = attach(rows, [source.place for source in sources])
        for (number, n), texts in attachments.texts.items():
            claim = items[number][n]
            items[number][n] = replace(claim, value=with_texts(claim.value, texts), said=claim.value)
        homes: dict[Place, list[Place]] = {}
        for place in sorted(attachments.homes):
            homes.setdefault(attachments.home(place), []).append(place)
        return homes

    def _row(self, claim: _Claim, number: int, numbers: Mapping[int, int]) -> Row:
        page = claim.page
        if page is None or page in claim.source.place.numbers:
            return Row(claim.value, page, number)
        return Row(claim.value, page, numbers.get(self._owners.get(page, -1), -page))

    def _choose(self, strategy: Choose, claims: Sequence[_Claim], shape: Shape, pointer: str) -> Json:
        if len(claims) == 1:
            self._note_origins(claims[0].value, claims, pointer)
            return claims[0].value
        own = [claim for claim in claims if not self._is_second_hand(claim, claims)]
        if strategy.adds:
            claims = own
        candidates = [_candidate(claim, claim in own) for claim in claims]
        choice = _choose_preferred(strategy, candidates, claims, shape.rule.prefer if shape.rule else ())
        self._note_origins(choice.value, [claims[number] for number in choice.supporters], pointer)
        if choice.sides:
            if strategy.asks:
                self.questions.append(len(self.conflicts))
            self._note_conflict(choice, claims, shape, pointer)
        return choice.value

    def _is_second_hand(self, claim: _Claim, claims: Sequence[_Claim]) -> bool:
        """Whether a value is taken from another chunk's part, and that chunk has a value of its own."""
        page = claim.page
        if page is None or page in claim.source.place.numbers:
            return False
        owner = self._owners.get(page)
        return any(other.source.position == owner for other in claims)

    def _note_origins(self, value: Json, claims: Sequence[_Claim], pointer: str) -> None:
        """Origins of the leaves of a value taken whole: those of the supporters that have the leaf."""
        if isinstance(value, dict):
            for key, item in value.items():
                self._note_origins(item, _below(claims, key), f"{pointer}/{escape(key)}")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._note_origins(item, _below(claims, number), f"{pointer}/{number}")
        elif value is not None:
            self.origins[pointer] = tuple(dict.fromkeys(claim.origin_of(value) for claim in claims))

    def _note_conflict(self, choice: Choice, claims: Sequence[_Claim], shape: Shape, pointer: str) -> None:
        shown = [_spokesman(side, claims, choice) for side in choice.sides]
        sides = tuple(ConflictSide(value=claim.value, chunk=claim.source.chunk_index) for claim in shown)
        rule = shape.rule.name if shape.rule else _CHOOSE
        self.conflicts.append(Conflict(pointer=pointer, chosen=choice.value, rule=rule, sides=sides))
        self.side_origins.append(
            tuple(tuple(dict.fromkeys(claims[number].origin for number in side)) for side in choice.sides)
        )


def _listing(shape: Shape, claims: Sequence[_Claim]) -> Listing:
    edges = tuple(claim.source.place.edge for claim in claims)
    rule = shape.rule
    if rule is None:
        return Listing(is_unique=shape.is_unique, edges=edges)
    return Listing(rule.keys, shape.is_unique, rule.similarity, rule.is_adjacent, rule.span, edges)


def _candidate(claim: _Claim, is_first_hand: bool) -> Candidate:
    page = claim.page
    place = claim.source.place.edge.first + 1 if page is None else page
    return Candidate(claim.value, claim.cite.part_number is not None, place, is_first_hand)


def _choose_preferred(
    strategy: Choose, candidates: Sequence[Candidate], claims: Sequence[_Claim], words: Sequence[str]
) -> Choice:
    """The choice among the values whose quotes have one of the words, if any has; the others are sides all the same."""
    marks = [fold(word) for word in words]
    preferred = [
        number
        for number, claim in enumerate(claims)
        if claim.cite.quote is not None and any(mark in fold(claim.cite.quote) for mark in marks)
    ]
    if not preferred or len(preferred) == len(claims):
        return strategy.apply(candidates)
    choice = strategy.apply([candidates[number] for number in preferred])
    supporters = tuple(preferred[number] for number in choice.supporters)
    groups = group_candidates(candidates)
    own = next(group for group in groups if supporters[0] in group)
    return Choice(choice.value, own if set(supporters) <= set(own) else supporters, groups if len(groups) > 1 else ())


def _spokesman(side: Sequence[int], claims: Sequence[_Claim], choice: Choice) -> _Claim:
    """The claim shown for a side: of the side that won the one whose value was taken, else the first."""
    if side == choice.supporters:
        return next(claims[number] for number in side if claims[number].value == choice.value)
    return claims[side[0]]


def _below(claims: Sequence[_Claim], step: str | int) -> list[_Claim]:
    found = []
    for claim in claims:
        is_there = step in claim.value if isinstance(claim.value, dict) else False
        if isinstance(claim.value, list) and isinstance(step, int):
            is_there = step < len(claim.value)
        if is_there:
            found.append(claim.below(step))
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
