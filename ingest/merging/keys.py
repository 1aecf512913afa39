"""Which items of several lists are one and the same, told by their keys."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ingest.merging.shape import SIMILARITY
from ingest.types import Json
from ingest.values import fold, normal_key, read_clock, read_number, squash, strip_accents, tokens

Place = tuple[int, int]
"""An item: (number of the list, number of the item in it)."""

# Shorter names are alike by chance.
_MIN_SIMILAR_CHARS: Final = 8
# Words as short as this tell things apart ("A" and "B", "II" and "III", "Ltd" and "LLC"): they must be equal.
_SHORT_WORD: Final = 3
_LONG_WORD: Final = 10
# Times in prompts and answers are rounded to a tenth of a second.
_ROUNDING_S: Final = 0.11
_DIGITS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a list's chunk stands among the document's parts, to tell which items may go on across its borders.

    `first` and `last` are the indexes of its outer owned parts. Of a video, `opens_s` is the end of its first frame's
    interval and `closes_s` the start of its last frame's: what reaches there is seen at the border.
    """

    first: int
    last: int
    opens_s: float | None = None
    closes_s: float | None = None

    def precedes(self, other: Edge) -> bool:
        """Whether the other chunk begins where this one ends, or both own pieces of one part."""
        return other.first - self.last in (0, 1)


@dataclass(frozen=True, slots=True)
class Listing:
    """How the items of a list are told apart: `keys` are the properties that identify one (paths may use `/`),
    `is_unique` that the schema forbids repeats, `edges` where each list's chunk stands; the others are the settings of
    `shape.Rule`."""

    keys: tuple[str, ...] = ()
    is_unique: bool = False
    similarity: float = SIMILARITY
    is_adjacent: bool = False
    span: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class _Key:
    """An item's key in comparable form. `texts` are its text parts without accents, `figures` all digits in them in
    order, `rest` the parts that are no text: those must be equal."""

    exact: Hashable
    texts: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    rest: tuple[Hashable, ...] = ()

    @property
    def block(self) -> Hashable:
        """Keys that differ in this are never one."""
        return (len(self.texts), self.figures, self.rest)

    @property
    def letters(self) -> str:
        """The text parts as one string of letters and digits."""
        return "".join(squash(text) for text in self.texts)


@dataclass(slots=True)
class _Group:
    key: _Key
    places: list[Place] = field(default_factory=list)


def by_key(lists: Sequence[Sequence[Json]], listing: Listing) -> list[list[Place]]:
    """Items with equal or nearly equal keys are one item; an item without a key stays alone.

    Keys are equal as values are (numbers, dates, case, spaces). Keys nearly equal are joined when they have the same
    figures, are similar enough (`listing.similarity`), and no chunk reports both: what one chunk tells apart is not
    one thing. With `is_adjacent` only items that meet at a chunk border are joined.
    """
    if listing.is_adjacent:
        return _join_neighbours(lists, listing)
    groups: dict[Hashable, _Group] = {}
    for number, items in enumerate(lists):
        for item, value in enumerate(items):
            key = _key_of(value, listing.keys)
            exact = ("alone", number, item) if key is None else key.exact
            groups.setdefault(exact, _Group(key or _Key(exact))).places.append((number, item))
    if listing.similarity >= 100:
        return [group.places for group in groups.values()]
    return [group.places for group in _join_similar(list(groups.values()), listing.similarity)]


def _key_of(value: Json, paths: Sequence[str]) -> _Key | None:
    """The key of an item; None when it has none."""
    found = [look_up(value, path) for path in paths]
    parts = [normal_key(part) for part in found]
    if all(part is None or part == "" for part in found):
        return None
    texts = {
        n: strip_accents(str(part))
        for n, part in enumerate(found)
        if isinstance(part, str) and parts[n] == _as_text(part)
    }
    rest = tuple((n, part) for n, part in enumerate(parts) if n not in texts)
    figures = tuple(figure for text in texts.values() for figure in _DIGITS.findall(fold(text)))
    return _Key(tuple(parts), tuple(texts.values()), figures, rest)


def _as_text(text: str) -> Hashable:
    return ("text", fold(text).replace(" ", ""))


def look_up(value: Json, path: str) -> Json:
    """The value at `path` (steps parted by `/`) of an item, None where there is none."""
    for step in path.removeprefix("/").split("/"):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _join_similar(groups: Sequence[_Group], similarity: float) -> list[_Group]:
    """Each group with the earlier one its key is most like, if it is like any."""
    blocks: dict[Hashable, _Block] = defaultdict(_Block)
    kept: list[_Group] = []
    for group in groups:
        letters = group.key.letters
        home = blocks[group.key.block].most_similar(group, letters, similarity) if letters else None
        if home is not None:
            home.places.extend(group.places)
            continue
        kept.append(group)
        if letters:
            blocks[group.key.block].add(letters, group)
    return kept


class _Block:
    """Groups whose keys have the same figures, by the length of their letters: texts of unlike lengths are unlike."""

    def __init__(self) -> None:
        self._lengths: list[int] = []
        self._by_length: dict[int, tuple[list[str], list[_Group]]] = {}

    def add(self, letters: str, group: _Group) -> None:
        """Make a group findable."""
        if len(letters) not in self._by_length:
            self._lengths.insert(bisect_left(self._lengths, len(letters)), len(letters))
            self._by_length[len(letters)] = ([], [])
        texts, groups = self._by_length[len(letters)]
        texts.append(letters)
        groups.append(group)

    def most_similar(self, group: _Group, letters: str, similarity: float) -> _Group | None:
        """The group whose key is most like the given one's; the first of several."""
        from rapidfuzz import fuzz, process

        # The ratio of two texts cannot be above 200 times the shorter length by the sum of both.
        slack = (200 - similarity) / max(similarity, 1.0)
        low, high = int(len(letters) / slack), int(len(letters) * slack) + 1
        best: tuple[float, _Group] | None = None
        chunks = {number for number, _ in group.places}
        for length in self._lengths[bisect_left(self._lengths, low) : bisect_right(self._lengths, high)]:
            texts, groups = self._by_length[length]
            found = process.extract(letters, texts, scorer=fuzz.ratio, score_cutoff=similarity, limit=4)
            for _, score, at in found:
                other = groups[at]
                is_better = best is None or score > best[0]
                apart = any(number in chunks for number, _ in other.places)
                if is_better and not apart and _are_alike(group.key, other.key, similarity):
                    best = (score, other)
        return None if best is None else best[1]


def _are_alike(one: _Key, other: _Key, similarity: float) -> bool:
    """Whether two keys of the same figures name one thing: part by part the same words but for single letters."""
    return all(_texts_alike(a, b, similarity) for a, b in zip(one.texts, other.texts, strict=True))


def _texts_alike(one: str, other: str, similarity: float) -> bool:
    from rapidfuzz import fuzz
    from rapidfuzz.distance import OSA

    a, b = squash(one), squash(other)
    if a == b:
        return bool(a) or fold(one) == fold(other)
    if min(len(a), len(b)) < _MIN_SIMILAR_CHARS or fuzz.ratio(a, b) < similarity:
        return False
    words, others = tokens(one), tokens(other)
    if len(words) != len(others):
        return False
    for word, mate in zip(words, others, strict=True):
        length = min(len(word), len(mate))
        allowed = (length > _SHORT_WORD) + (length >= _LONG_WORD)
        if OSA.distance(word, mate) > allowed:
            return False
    return True


def _join_neighbours(lists: Sequence[Sequence[Json]], listing: Listing) -> list[list[Place]]:
    """Items of one key that meet at the border of two chunks, through as many borders as they last."""
    merged: list[_Group] = []
    before: list[_Group] = []
    for number, items in enumerate(lists):
        if not items and number and _are_neighbours(listing, number):
            continue  # what lasts through a chunk may have been said by its neighbours alone
        here: list[_Group] = []
        for item, value in enumerate(items):
            key = _key_of(value, listing.keys)
            home = None
            if key is not None and number and _are_neighbours(listing, number):
                home = next((g for g in before if _goes_on(g, key, lists, (number, item), listing)), None)
            if home is None:
                home = _Group(key or _Key(("alone", number, item)))
                merged.append(home)
            else:
                before.remove(home)
            home.places.append((number, item))
            here.append(home)
        before = here
    return [group.places for group in merged]


def _are_neighbours(listing: Listing, number: int) -> bool:
    if not listing.edges:
        return True
    before, here = listing.edges[number - 1], listing.edges[number]
    return before is not here and before.precedes(here)


def _goes_on(group: _Group, key: _Key, lists: Sequence[Sequence[Json]], place: Place, listing: Listing) -> bool:
    """Whether the item at `place` is the group's last item, seen again behind the border."""
    same = group.key.exact == key.exact or (
        bool(key.texts) and group.key.block == key.block and _are_alike(group.key, key, listing.similarity)
    )
    if not same:
        return False
    last, (number, item) = group.places[-1], place
    if listing.span:
        end = _seconds(look_up(lists[last[0]][last[1]], listing.span[1]))
        start = _seconds(look_up(lists[number][item], listing.span[0]))
        if start is not None and end is not None:
            return _meet(end, start, listing, number)
    return item == 0 and last[1] == len(lists[last[0]]) - 1


def _meet(end_s: float, start_s: float, listing: Listing, number: int) -> bool:
    """Whether what ends and what starts touch, or are both seen on the frames beside the border."""
    if start_s <= end_s + _ROUNDING_S:
        return True
    if not listing.edges:
        return False
    closes, opens = listing.edges[number - 1].closes_s, listing.edges[number].opens_s
    if closes is None or opens is None:
        return False
    return end_s >= closes - _ROUNDING_S and start_s <= opens + _ROUNDING_S


def _seconds(value: Json) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    clock = read_clock(value)
    readings = read_number(value) if clock is None else ()
    return float(readings[0]) if readings else clock
