"""Two versions of a record's data compared, value by value. Pure functions of JSON values.

What is empty (null, "", an empty object or list) is nothing: it is neither added nor removed. Numbers are compared by
value, texts without differences of spacing.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import product
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
Kind: TypeAlias = Literal["added", "changed", "removed"]

_MOST_PAIRS = 2_500
"""Pairs of items compared with one another where a list changed; beyond, items are paired by their order."""

_ALIKE = 0.3
"""Share of equal fields from which two items of a list count as one that changed, and not as two."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is new, different or gone. `pointer` is a JSON Pointer into the new data, or into the old data for
    what was removed; `was` is the pointer of the old value."""

    kind: Kind
    pointer: str
    old: Json = None
    new: Json = None
    was: str = ""


def compare(old: Json, new: Json, keys: Mapping[str, Sequence[str]] | None = None) -> Iterator[Change]:
    """The changes that lead from `old` to `new`, in the order of the new data.

    Objects are compared field by field. Items of a list are paired first: by the fields that `keys` names for its path
    (such as `parties` or `rows/*/parts`), else equal items in their order and, between those, the most alike. So an
    item put in is one addition, and the items behind it are not told.
    """
    yield from _compare(old, new, "", "", "", keys or {})


def is_nothing(value: Json) -> bool:
    """Whether a value says nothing at all."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, dict):
        return all(is_nothing(item) for item in value.values())
    if isinstance(value, list):
        return all(is_nothing(item) for item in value)
    return value is None


def is_same(one: Json, other: Json) -> bool:
    """Whether two values say the same."""
    return canonical(one) == canonical(other)


def canonical(value: Json) -> str:
    """A text that is the same for values that say the same."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def keys_of(schema: Mapping[str, Any], merge: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Path of each list to the fields that tell its items apart: `x-merge-key` in a schema or in a recipe's rules."""
    found = dict(_schema_keys(schema, schema, "", 0))
    for path, rule in merge.items():
        if isinstance(rule, Mapping) and rule.get("x-merge-key"):
            found[path.strip("/")] = _names(rule["x-merge-key"])
    return found


def escape(step: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")


def _compare(
    old: Json, new: Json, was: str, pointer: str, path: str, keys: Mapping[str, Sequence[str]]
) -> Iterator[Change]:
    if is_nothing(old) and is_nothing(new):
        return
    if _both(dict, old, new):
        before, after = (value if isinstance(value, dict) else {} for value in (old, new))
        for name in [*after, *(name for name in before if name not in after)]:
            step = escape(name)
            below = f"{path}/{name}" if path else name
            yield from _compare(before.get(name), after.get(name), f"{was}/{step}", f"{pointer}/{step}", below, keys)
    elif _both(list, old, new):
        items = [value if isinstance(value, list) else [] for value in (old, new)]
        yield from _compare_lists(items[0], items[1], was, pointer, path, keys)
    elif is_nothing(old):
        yield Change("added", pointer, None, new, was)
    elif is_nothing(new):
        yield Change("removed", was, old, None, was)
    elif not is_same(old, new):
        yield Change("changed", pointer, old, new, was)


def _both(kind: type, old: Json, new: Json) -> bool:
    """Whether both are of a kind; nothing may stand for one of them."""
    return (
        (isinstance(old, kind) or is_nothing(old))
        and (isinstance(new, kind) or is_nothing(new))
        and (isinstance(old, kind) or isinstance(new, kind))
    )


def _compare_lists(
    old: list[Json], new: list[Json], was: str, pointer: str, path: str, keys: Mapping[str, Sequence[str]]
) -> Iterator[Change]:
    before = [number for number, item in enumerate(old) if not is_nothing(item)]
    after = [number for number, item in enumerate(new) if not is_nothing(item)]
    pairs = _pairs([old[number] for number in before], [new[number] for number in after], keys.get(path, ()))
    partner = {after[j]: before[i] for i, j in pairs}
    for number in after:
        if number not in partner:
            yield Change("added", f"{pointer}/{number}", None, new[number], "")
        else:
            source = partner[number]
            yield from _compare(old[source], new[number], f"{was}/{source}", f"{pointer}/{number}", f"{path}/*", keys)
    for number in sorted(set(before) - set(partner.values())):
        yield Change("removed", f"{was}/{number}", old[number], None, f"{was}/{number}")


def _pairs(old: list[Json], new: list[Json], key: Sequence[str]) -> list[tuple[int, int]]:
    """Which items of two lists are one and the same, as positions."""
    if key:
        paired = _paired_by_key(old, new, key)
        if paired is not None:
            return paired
    found: list[tuple[int, int]] = []
    matcher = SequenceMatcher(
        None, [canonical(item) for item in old], [canonical(item) for item in new], autojunk=False
    )
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            found.extend(zip(range(i1, i2), range(j1, j2), strict=True))
        elif tag == "replace":
            found.extend((i1 + i, j1 + j) for i, j in _alike(old[i1:i2], new[j1:j2]))
    return found


def _paired_by_key(old: list[Json], new: list[Json], key: Sequence[str]) -> list[tuple[int, int]] | None:
    """Items with the same key; None when a key is missing or stands twice, so that it does not tell them apart."""
    places: list[dict[str, int]] = []
    for items in (old, new):
        said = [[_at(item, name) for name in key] for item in items]
        named = {canonical(values): number for number, values in enumerate(said)}
        if len(named) < len(items) or any(is_nothing(values) for values in said):
            return None
        places.append(named)
    return [(i, places[1][name]) for name, i in places[0].items() if name in places[1]]


def _at(item: Json, path: str) -> Json:
    """What stands at a path such as `seller/name`."""
    for step in path.strip("/").split("/"):
        item = item.get(step) if isinstance(item, dict) else None
    return item


def _alike(old: list[Json], new: list[Json]) -> list[tuple[int, int]]:
    """The most alike items paired, in the order of both lists (an alignment by dynamic programming)."""
    if len(old) * len(new) > _MOST_PAIRS:
        return [(n, n) for n in range(min(len(old), len(new))) if _likeness(old[n], new[n]) >= _ALIKE]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    scores = {(i, j): _likeness(old[i], new[j]) for i, j in product(range(len(old)), range(len(new)))}
    for i, j in product(reversed(range(len(old))), reversed(range(len(new)))):
        paired = scores[i, j] + best[i + 1][j + 1] if scores[i, j] >= _ALIKE else 0.0
        best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    found, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if scores[i, j] >= _ALIKE and best[i][j] == scores[i, j] + best[i + 1][j + 1]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _likeness(one: Json, other: Json) -> float:
    """0 to 1: the share of fields that say the same, texts by their common letters."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if not (is_nothing(one.get(name)) and is_nothing(other.get(name)))]
        shared = sum(_likeness(one.get(name), other.get(name)) for name in names)
        return shared / len(names) if names else 1.0
    if isinstance(one, str) and isinstance(other, str):
        return 1.0 if is_same(one, other) else SequenceMatcher(None, one[:200], other[:200]).quick_ratio() / 2
    return float(is_same(one, other))


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if not is_nothing(item)} or None
    if isinstance(value, list):
        return [_plain(item) for item in value if not is_nothing(item)] or None
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split()) or None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _schema_keys(
    schema: Mapping[str, Any], root: Mapping[str, Any], path: str, depth: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for step in reference[2:].split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
        schema = {**target, **schema} if isinstance(target, Mapping) else schema
    if depth > 20:  # a schema that contains itself
        return
    if schema.get("x-merge-key"):
        yield path, _names(schema["x-merge-key"])
    for name, below in (schema.get("properties") or {}).items():
        if isinstance(below, Mapping):
            yield from _schema_keys(below, root, f"{path}/{name}" if path else name, depth + 1)
    if isinstance(schema.get("items"), Mapping):
        yield from _schema_keys(schema["items"], root, f"{path}/*", depth + 1)


def _names(key: Any) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)
