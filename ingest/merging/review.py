"""A second look at a chunk, brought into the merged data: gaps are filled, nothing is overwritten.

The second look names what is missing and what is wrong. A missing value or entry is taken in with its own evidence. A
value that it would have otherwise stays as it is, and the disagreement is a conflict by the rule `second look`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from ingest.merging.merge import Merged, Origin, Origins
from ingest.merging.shape import escape
from ingest.record import Conflict, ConflictSide
from ingest.types import Cite, Json, Partial
from ingest.values import canonical_json, normal_key

RULE: Final = "second look"
_NO_CITE: Final = Cite(None)
# From this share of equal values on two entries are one that was read differently.
_ALIKE: Final = 0.5


def apply_review(merged: Merged, first: Partial, second: Partial) -> Merged:
    """`merged` with what the second look at a chunk adds to what the first one said.

    Both are of the same chunk; `first` tells what was known, so that a value which lost to another chunk's by a merge
    rule is not disputed again.
    """
    review = _Review(merged, second)
    review.compare(merged.data, first.data, second.data, "")
    return review.result()


class _Review:
    def __init__(self, merged: Merged, second: Partial) -> None:
        self._merged = merged
        self._data = copy.deepcopy(merged.data)
        self._origins = dict(merged.origins)
        self._conflicts = list(merged.conflicts)
        self._sides = list(merged.side_origins)
        self._second = second
        self._new: list[tuple[str, int, Json, Cite]] = []

    def compare(self, value: Json, first: Json, second: Json, pointer: str) -> None:
        """Descend into what both say; `value` is the merged value at the pointer."""
        if second is None:
            return
        if isinstance(second, dict) and (isinstance(value, dict) or value is None):
            for key, item in second.items():
                below = value.get(key) if isinstance(value, dict) else None
                known = first.get(key) if isinstance(first, dict) else None
                self.compare(below, known, item, f"{pointer}/{escape(key)}")
        elif isinstance(second, list) and (isinstance(value, list) or value is None):
            self._compare_lists(value or [], second, pointer)
        elif value is None:
            self._fill(pointer, second, self._cite(pointer))
        elif normal_key(second) not in (normal_key(value), normal_key(first)):
            self._dispute(pointer, value, second, self._cite(pointer))

    def _compare_lists(self, entries: list[Json], second: list[Json], pointer: str) -> None:
        left = dict(enumerate(entries))
        unknown: list[tuple[int, Json]] = []
        for number, entry in enumerate(second):
            same = next((place for place, each in left.items() if _key(each) == _key(entry)), None)
            if same is None:
                unknown.append((number, entry))
            else:
                del left[same]
        for number, entry in unknown:
            cite = self._cite(f"{pointer}/{number}")
            alike = max(left, key=lambda place: _likeness(left[place], entry), default=None)
            if alike is not None and _likeness(left[alike], entry) >= _ALIKE:
                self._compare_entries(left.pop(alike), entry, f"{pointer}/{alike}", cite)
            else:
                self._new.append((pointer, self._place(pointer, len(entries), cite), entry, cite))

    def _compare_entries(self, value: Json, second: Json, pointer: str, cite: Cite) -> None:
        known = dict(_leaves(value, ""))
        for below, item in _leaves(second, ""):
            if known.get(below) is None:
                self._fill(pointer + below, item, cite)
            elif normal_key(item) != normal_key(known[below]):
                self._dispute(pointer + below, known[below], item, cite)

    def _place(self, pointer: str, count: int, cite: Cite) -> int:
        """Where a missing entry goes: behind the last one of its own or an earlier part, else at the end."""
        number = cite.part_number
        if number is None:
            return count
        place = 0
        for other, origins in self._merged.origins.items():
            if other.startswith(f"{pointer}/") and any((o.cite.part_number or 0) <= number for o in origins):
                place = max(place, int(other[len(pointer) + 1 :].split("/", 1)[0]) + 1)
        return place

    def _cite(self, pointer: str) -> Cite:
        cites: Mapping[str, Cite] = self._second.cites
        steps = pointer.split("/")
        above = ("/".join(steps[:count]) for count in range(len(steps), 0, -1))
        return next((cites[each] for each in above if each in cites), _NO_CITE)

    def _origin(self, cite: Cite) -> Origins:
        return (Origin(self._second.chunk.index, cite),)

    def _fill(self, pointer: str, value: Json, cite: Cite) -> None:
        if _put(self._data, pointer, value):
            self._origins[pointer] = self._origin(cite)

    def _dispute(self, pointer: str, value: Json, second: Json, cite: Cite) -> None:
        known = self._merged.origins.get(pointer, ())
        chunk = known[0].chunk_index if known else self._second.chunk.index
        sides = (ConflictSide(value=value, chunk=chunk), ConflictSide(value=second, chunk=self._second.chunk.index))
        self._conflicts.append(Conflict(pointer=pointer, chosen=value, rule=RULE, sides=sides))
        self._sides.append((known, self._origin(cite)))

    def result(self) -> Merged:
        """The merged data with everything brought in; pointers behind an entry that came in are moved on."""
        # From the back, so that the places of the others still hold.
        order = sorted(range(len(self._new)), key=lambda n: (self._new[n][0], self._new[n][1], n), reverse=True)
        for pointer, place, entry, cite in (self._new[n] for n in order):
            entries = _get(self._data, pointer)
            if not isinstance(entries, list) and not _put(self._data, pointer, entries := []):
                continue
            place = min(place, len(entries))
            entries.insert(place, entry)
            self._origins = {_moved(key, pointer, place): origins for key, origins in self._origins.items()}
            self._conflicts = [
                each.model_copy(update={"pointer": _moved(each.pointer, pointer, place)}) for each in self._conflicts
            ]
            self._origins |= {f"{pointer}/{place}{below}": self._origin(cite) for below, _ in _leaves(entry, "")}
        return replace(
            self._merged,
            data=self._data,
            origins=self._origins,
            conflicts=tuple(self._conflicts),
            side_origins=tuple(self._sides),
        )


def _moved(pointer: str, list_pointer: str, place: int) -> str:
    if not pointer.startswith(f"{list_pointer}/"):
        return pointer
    number, slash, below = pointer[len(list_pointer) + 1 :].partition("/")
    return f"{list_pointer}/{int(number) + (int(number) >= place)}{slash}{below}"


def _leaves(value: Json, pointer: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{pointer}/{number}")
    elif value is not None:
        yield pointer, value


def _key(value: Json) -> str:
    return canonical_json([[pointer, str(normal_key(item))] for pointer, item in _leaves(value, "")])


def _likeness(value: Json, other: Json) -> float:
    """The share of equal values of two entries, by the one that has fewer."""
    ours = {pointer: normal_key(item) for pointer, item in _leaves(value, "")}
    theirs = {pointer: normal_key(item) for pointer, item in _leaves(other, "")}
    fewer = min(len(ours), len(theirs))
    return sum(theirs.get(pointer) == key for pointer, key in ours.items()) / fewer if fewer else 0.0


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _get(data: Json, pointer: str) -> Json:
    for step in _steps(pointer):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


def _put(data: Json, pointer: str, value: Json) -> bool:
    """Set a value below objects and entries that are there; objects that are null are made. False where that fails."""
    *steps, last = _steps(pointer)
    for step in steps:
        if isinstance(data, dict):
            if data.get(step) is None:
                data[step] = {}
            data = data[step]
        elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return False
    if not isinstance(data, dict):
        return False
    data[last] = value
    return True
