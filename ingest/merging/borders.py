"""What happens to list items at the border of two chunks: copies are recognised, halves put together.

A part is owned by one chunk and may be carried by its neighbours as context. Two things go wrong there, and each has
one rule.

**Copies.** An item that a chunk cites on a part another chunk owns is the owner's item seen from next door. Where
the owner reports an item that says the same, the copy joins it (and fills what the owner has empty); where the owner
reports none, the item stays. Items without a cite are copies only when the last items of one chunk are, in order,
the first of the next, one of the two carries parts of the other, and the run has a row that each reports once.

**Halves.** The last item of a chunk and the first of the chunk that follows without a gap are halves of one when

1. they stand on the two parts at the border (or cite none), or the second cites the part the first stands on;
2. at least one of them lacks a property that every item inside the lists has, and together they lack none (at least
   three such items must be known);
3. no property has two different values, except one text that visibly goes on: the first part ends with a hyphen, a
   comma or an open bracket, or the second starts with a small letter or punctuation where no other item does.

Two whole rows fail the second condition, whatever they hold, so true rows are never joined.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ingest.merging.keys import Edge, Place
from ingest.types import Json
from ingest.values import has_cjk, normal_key, squash

Path = tuple[str, ...]

_MIN_INSIDE: Final = 3
_MIN_ROW_LEAVES: Final = 2
_GOES_ON: Final = re.compile(r"(?:[-‐‑–,;:/&+]|[(\[{][^)\]}]*)\s*$")
_CONTINUES: Final = re.compile(r"^\s*[,;.)\]}&/+]")
_HYPHENATED: Final = re.compile(r"(?<=[^\W\d_])[-‐]\s*$")


@dataclass(frozen=True, slots=True)
class Row:
    """An item of one chunk's list. `page` is the part number it cites, `owner` the number of the list of the chunk that
    owns that part: its own when it cites none, less than 0 (one number for each part) when that chunk has no list."""

    value: Json
    page: int | None
    owner: int


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Where a list's chunk stands. `edge` has the indexes of its outer owned parts, `numbers` the part numbers it
    owns, `carried` those it carries as context."""

    edge: Edge
    numbers: frozenset[int] = frozenset()
    carried: frozenset[int] = frozenset()

    def shares_with(self, other: Neighbourhood) -> bool:
        """Whether one of the two carries parts of the other."""
        return bool(self.carried & other.numbers or other.carried & self.numbers)


@dataclass(slots=True)
class Attachments:
    """Items that belong to others. `homes` leads from an item to the one it is a copy or the rest of; `texts` has the
    whole text of properties that only together with another item are whole, by item and path."""

    homes: dict[Place, Place] = field(default_factory=dict)
    texts: dict[Place, dict[Path, str]] = field(default_factory=dict)

    def home(self, place: Place) -> Place:
        """The item that `place` is a part of in the end; itself when it stands alone."""
        while place in self.homes:
            place = self.homes[place]
        return place


def attach(lists: Sequence[Sequence[Row]], chunks: Sequence[Neighbourhood]) -> Attachments:
    """The copies and second halves among the items of `lists`, which stand in reading order."""
    found = Attachments()
    _attach_copies(lists, found)
    for number in range(1, len(lists)):
        if chunks[number - 1].shares_with(chunks[number]):
            _attach_run(lists, number, found)
    inside = _Inside(lists)
    for number in range(1, len(lists)):
        # Two lists of one chunk are no neighbours.
        if chunks[number - 1] is not chunks[number] and chunks[number - 1].edge.precedes(chunks[number].edge):
            _attach_half(lists, number, chunks, inside, found)
    return found


# --- copies ---


def _attach_copies(lists: Sequence[Sequence[Row]], found: Attachments) -> None:
    """Items cited on another chunk's part, each to at most one of that chunk's items; what it lacks is added to it."""
    pools: dict[int, list[Place]] = {}
    for number, rows in enumerate(lists):
        foreign: dict[int, list[Place]] = defaultdict(list)
        for item, row in enumerate(rows):
            if row.owner != number:
                foreign[row.owner].append((number, item))
        for owner, copies in foreign.items():
            if owner not in pools:
                rows_there = lists[owner] if owner >= 0 else ()
                pools[owner] = [(owner, n) for n, row in enumerate(rows_there) if row.owner == owner]
            # What the owner lacks is kept, once: the other neighbour may report it too.
            pools[owner] += _match(copies, pools[owner], lists, found)


def _match(
    copies: Sequence[Place], own: Sequence[Place], lists: Sequence[Sequence[Row]], found: Attachments
) -> list[Place]:
    """Attach the copies that the owner has: equal ones first, then the most similar. Returns those it does not have."""
    by_key: dict[Hashable, list[Place]] = defaultdict(list)
    for place in own:
        by_key[_identity(_row(lists, place))].append(place)
    left, taken = [], set()
    for copy in copies:
        same = by_key.get(_identity(_row(lists, copy)))
        if same:
            found.homes[copy] = same.pop(0)
            taken.add(found.homes[copy])
        else:
            left.append(copy)
    missing = []
    by_page: dict[int | None, list[Place]] = defaultdict(list)
    for place in own:
        if place not in taken:
            by_page[_row(lists, place).page].append(place)
    for copy in left:
        near = (*by_page[_row(lists, copy).page], *by_page[None]) if isinstance(_row(lists, copy).value, dict) else ()
        scored = [(_likeness(_row(lists, copy).value, _row(lists, place).value), place) for place in near]
        best = max((score for score, _ in scored), default=0.0)
        if best <= 0.5:
            missing.append(copy)
            continue
        home = next(place for score, place in scored if score == best)
        by_page[_row(lists, home).page].remove(home)
        found.homes[copy] = home
        _complete(copy, home, lists, found)
    return missing


def _identity(row: Row) -> Hashable:
    """Equal for items that say the same, whatever their spelling."""
    if not isinstance(row.value, dict):
        return (row.page, _value_key(row.value))
    return (row.page, frozenset((path, _value_key(value)) for path, value in leaves(row.value)))


def _value_key(value: Json) -> Hashable:
    kind = normal_key(value)
    return ("text", squash(value) or value) if isinstance(value, str) and kind[:1] == ("text",) else kind  # type: ignore[index]


def _likeness(one: Json, other: Json) -> float:
    """Share of the properties both have that agree, 0 to 1; 0 unless two agree, or all there are."""
    a, b = dict(leaves(one)), dict(leaves(other))
    both = a.keys() & b.keys()
    agreeing = sum(_agree(a[path], b[path]) for path in both)
    return agreeing / len(both) if agreeing >= min(2, len(a), len(b)) and both else 0.0


def _agree(one: Json, other: Json) -> bool:
    return _value_key(one) == _value_key(other) or _is_cut(one, other) or _is_cut(other, one)


def _is_cut(piece: Json, whole: Json) -> bool:
    """Whether a text is the begin or the end of a longer one."""
    if not isinstance(piece, str) or not isinstance(whole, str):
        return False
    a, b = squash(piece), squash(whole)
    return 3 <= len(a) < len(b) and (b.startswith(a) or b.endswith(a))


def _complete(copy: Place, home: Place, lists: Sequence[Sequence[Row]], found: Attachments) -> None:
    """Of a text that one of the two has cut short the whole one holds for both."""
    a, b = dict(leaves(_row(lists, copy).value)), dict(leaves(_row(lists, home).value))
    for path in a.keys() & b.keys():
        for piece, whole in ((a[path], b[path]), (b[path], a[path])):
            if _is_cut(piece, whole):
                found.texts.setdefault(copy, {})[path] = found.texts.setdefault(home, {})[path] = whole


def _attach_run(lists: Sequence[Sequence[Row]], number: int, found: Attachments) -> None:
    """The longest run of uncited items that ends one list and begins the next."""
    before = [n for n, row in enumerate(lists[number - 1]) if (number - 1, n) not in found.homes]
    after = [n for n, row in enumerate(lists[number]) if (number, n) not in found.homes]
    tail = [_identity(lists[number - 1][n]) for n in _cut_at_cite(lists[number - 1], before[::-1])][::-1]
    head = [_identity(lists[number][n]) for n in _cut_at_cite(lists[number], after)]
    counts, others = Counter(tail), Counter(head)
    for size in range(min(len(tail), len(head)), 0, -1):
        if tail[-size:] == head[:size] and any(counts[key] == others[key] == 1 for key in head[:size]):
            for copy, home in zip(after[:size], before[-size:], strict=True):
                found.homes[(number, copy)] = (number - 1, home)
            return


def _cut_at_cite(rows: Sequence[Row], order: Sequence[int]) -> Iterator[int]:
    """Numbers of the items up to the first with a cite, or that is too small to be known again."""
    for number in order:
        if rows[number].page is not None or len(list(leaves(rows[number].value))) < _MIN_ROW_LEAVES:
            return
        yield number


# --- halves ---


class _Inside:
    """What the items that no border can have cut look like: all but the first and last of each list."""

    def __init__(self, lists: Sequence[Sequence[Row]]) -> None:
        self._rows = [row.value for rows in lists for row in rows[1:-1] if isinstance(row.value, dict)]
        self._core: frozenset[Path] | None = None
        self._small: dict[Path, bool] = {}

    @property
    def core(self) -> frozenset[Path]:
        """The properties all of them have; empty when too few are known."""
        if self._core is None:
            self._core = frozenset()
            if len(self._rows) >= _MIN_INSIDE:
                filled = [{path for path, _ in leaves(value)} for value in self._rows]
                self._core = frozenset(set.intersection(*filled))
        return self._core

    def start_small(self, path: Path) -> bool:
        """Whether any of them begins its text at `path` with a small letter."""
        if path not in self._small:
            texts = (dict(leaves(value)).get(path) for value in self._rows)
            self._small[path] = any(isinstance(text, str) and text.lstrip()[:1].islower() for text in texts)
        return self._small[path]


def _attach_half(
    lists: Sequence[Sequence[Row]],
    number: int,
    chunks: Sequence[Neighbourhood],
    inside: _Inside,
    found: Attachments,
) -> None:
    """Join the last item of a list with the first of the next when they are halves of one."""
    first = next((n for n in reversed(range(len(lists[number - 1]))) if lists[number - 1][n].owner == number - 1), None)
    second = next((n for n in range(len(lists[number])) if (number, n) not in found.homes), None)
    if first is None or second is None:
        return
    head, rest = lists[number - 1][first], lists[number][second]
    border = (chunks[number - 1].edge.last + 1, chunks[number].edge.first + 1)
    if head.page not in (None, border[0]) or rest.page not in (None, border[1], head.page):
        return
    if not isinstance(head.value, dict) or not isinstance(rest.value, dict):
        return
    home = found.home((number - 1, first))
    whole = dict(leaves(_row(lists, home).value)) | dict(leaves(head.value)) | found.texts.get(home, {})
    texts = _fit(whole, dict(leaves(rest.value)), inside)
    if texts is None:
        return
    found.homes[(number, second)] = home
    for place in (home, (number - 1, first), (number, second)) if texts else ():
        found.texts.setdefault(place, {}).update(texts)


def _fit(head: Mapping[Path, Json], rest: Mapping[Path, Json], inside: _Inside) -> dict[Path, str] | None:
    """None when two items are no halves of one (rules 2 and 3 above), else the text that goes on, if any does."""
    core = inside.core
    if len(core) < _MIN_ROW_LEAVES or not core <= head.keys() | rest.keys():
        return None
    if core <= head.keys() and core <= rest.keys():
        return None
    unequal = [path for path in head.keys() & rest.keys() if normal_key(head[path]) != normal_key(rest[path])]
    if not unequal:
        return {}
    one, other = head[unequal[0]], rest[unequal[0]]
    if len(unequal) > 1 or not isinstance(one, str) or not isinstance(other, str):
        return None
    is_small = other.lstrip()[:1].islower() and not inside.start_small(unequal[0])
    if not (is_small or _GOES_ON.search(one) or _CONTINUES.match(other)):
        return None
    return {unequal[0]: join_text(one, other)}


def join_text(one: str, other: str) -> str:
    """A text and what follows of it: a hyphen that only broke the word goes, scripts without spaces get none."""
    one, other = one.rstrip(), other.lstrip()
    if _HYPHENATED.search(one) and other[:1].islower():
        return _HYPHENATED.sub("", one) + other
    glue = "" if has_cjk(one[-1:]) and has_cjk(other[:1]) else " "
    return f"{one}{glue}{other}"


def leaves(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """The values in an item that are not null or empty, with the steps that lead there; lists count as one value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif value is not None and value not in ("", []):
        yield path, value


def with_texts(value: Json, texts: Mapping[Path, str]) -> Json:
    """A copy of an item with the texts at their paths replaced."""
    if not isinstance(value, dict):
        return value
    replaced = dict(value)
    for key in value:
        below = {path[1:]: text for path, text in texts.items() if path[:1] == (key,)}
        if () in below:
            replaced[key] = below[()]
        elif below:
            replaced[key] = with_texts(value[key], below)
    return replaced


def _row(lists: Sequence[Sequence[Row]], place: Place) -> Row:
    return lists[place[0]][place[1]]
