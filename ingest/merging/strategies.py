"""The merge strategies: pure functions from what the chunks say to what the record says.

There are two kinds. A **choice** makes one value of several; it sees the values that are not null, in reading
order, and says which of them stand behind the result and whether they disagreed. An **alignment** says which items of
several lists are one and the same; the merger then joins those items field by field.

`STRATEGIES` at the bottom is the table. To add one: write the function, add its line; other packages add theirs by the
entry point group `ingest.merge`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

from ingest.errors import ConfigError
from ingest.merging.keys import Listing, Place, by_key
from ingest.types import Json
from ingest.values import fold, normal_key, read_clock, read_dates, read_number


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one chunk says. `is_cited` when the model named the part it stands on; `place` is the number of that part,
    or of the first the chunk owns. Not `is_first_hand` when that part is another chunk's, and what that chunk says of
    it is among the candidates."""

    value: Json
    is_cited: bool = True
    place: int = 0
    is_first_hand: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """The value chosen, the numbers of the candidates that say so, and the disagreeing groups (empty when they agree).

    `sides`, when given, lists every group of candidates that say the same, the chosen one's among them.
    """

    value: Json
    supporters: tuple[int, ...]
    sides: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Choose:
    """A strategy for values: of several, one. `types` are the JSON types it can work on, None for all.

    One that `adds` gets no value twice that two chunks took from one part. One that `asks` is put to the model where
    the candidates differ, and what it returns stands in until (or unless) the model answers.
    """

    apply: Callable[[Sequence[Candidate]], Choice]
    types: frozenset[str] | None = None
    adds: bool = False
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Align:
    """A strategy for lists: the places of one merged item each, in the order of the merged list."""

    apply: Callable[[Sequence[Sequence[Json]], Listing], list[list[Place]]]
    needs_key: bool = False


Strategy = Choose | Align


def agree(candidates: Sequence[Candidate]) -> Choice:
    """The value most chunks give evidence for; the first in reading order when as many stand behind another."""
    groups = group_candidates(candidates)

    def weight(group: Sequence[int]) -> tuple[int, int]:
        own = [candidates[number] for number in group if candidates[number].is_first_hand]
        return (sum(candidate.is_cited for candidate in own), len(own))

    best = max(groups, key=weight)
    return Choice(candidates[best[0]].value, best, groups if len(groups) > 1 else ())


def first(candidates: Sequence[Candidate]) -> Choice:
    """The value on the first page: by its evidence, else by its chunk."""
    return _at(candidates, min(range(len(candidates)), key=lambda n: (candidates[n].place, n)))


def last(candidates: Sequence[Candidate]) -> Choice:
    """The value on the last page, by its evidence, else by its chunk: totals that are carried from page to page."""
    return _at(candidates, max(range(len(candidates)), key=lambda n: (candidates[n].place, n)))


def longest(candidates: Sequence[Candidate]) -> Choice:
    """The longest text (or list). Texts that it contains do not disagree with it."""
    lengths = [len(c.value) if isinstance(c.value, list | dict) else len(str(c.value)) for c in candidates]
    chosen = lengths.index(max(lengths))
    groups = group_candidates(candidates)
    own = next(group for group in groups if chosen in group)
    whole = fold(str(candidates[chosen].value))
    rivals = [g for g in groups if g is not own and fold(str(candidates[g[0]].value)) not in whole]
    sides = tuple(group for group in groups if group is own or group in rivals)
    return Choice(candidates[chosen].value, own, sides if rivals else ())


def smallest(candidates: Sequence[Candidate]) -> Choice:
    """The smallest number, earliest date, or first text of the alphabet."""
    return _extreme(candidates, largest=False)


def greatest(candidates: Sequence[Candidate]) -> Choice:
    """The greatest number, latest date, or last text of the alphabet."""
    return _extreme(candidates, largest=True)


def total(candidates: Sequence[Candidate]) -> Choice:
    """The sum, exact to the last decimal. Values of which one is no number cannot be added: then as `agree`."""
    numbers = [_number(candidate.value) for candidate in candidates]
    if any(number is None for number in numbers):
        return agree(candidates)
    result = sum((number for number in numbers if number is not None), Decimal(0))
    everyone = tuple(range(len(candidates)))
    if all(isinstance(candidate.value, str) for candidate in candidates):
        return Choice(str(result), everyone)
    return Choice(int(result) if result == int(result) and _all_whole(candidates) else float(result), everyone)


def any_true(candidates: Sequence[Candidate]) -> Choice:
    """True when one says so."""
    return _boolean(candidates, any(candidate.value is True for candidate in candidates))


def all_true(candidates: Sequence[Candidate]) -> Choice:
    """True when none says otherwise."""
    return _boolean(candidates, all(candidate.value is True for candidate in candidates))


def concat(lists: Sequence[Sequence[Json]], listing: Listing) -> list[list[Place]]:
    """All items in reading order; true repeats stay."""
    return [[(number, item)] for number, items in enumerate(lists) for item in range(len(items))]


def union(lists: Sequence[Sequence[Json]], listing: Listing) -> list[list[Place]]:
    """Each item once, in reading order; what one chunk repeats within itself stays so, unless repeats are forbidden."""
    merged: dict[tuple[Hashable, int], list[Place]] = {}
    for number, items in enumerate(lists):
        seen: dict[Hashable, int] = {}
        for item, value in enumerate(items):
            key = normal_key(value)
            repeat = 0 if listing.is_unique else seen.get(key, 0)
            seen[key] = repeat + 1
            merged.setdefault((key, repeat), []).append((number, item))
    return list(merged.values())


def _at(candidates: Sequence[Candidate], number: int) -> Choice:
    groups = group_candidates(candidates)
    own = next(group for group in groups if number in group)
    return Choice(candidates[number].value, own, groups if len(groups) > 1 else ())


def group_candidates(candidates: Sequence[Candidate]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the candidates that say the same, groups and members in reading order."""
    groups: dict[Hashable, list[int]] = {}
    for number, candidate in enumerate(candidates):
        groups.setdefault(normal_key(candidate.value), []).append(number)
    return tuple(tuple(group) for group in groups.values())


def _extreme(candidates: Sequence[Candidate], largest: bool) -> Choice:
    values = [candidate.value for candidate in candidates]
    numbers = [_number(value) for value in values]
    dates = [_date_text(value) for value in values]
    clocks = [read_clock(value) if isinstance(value, str) else None for value in values]
    keys: list[Decimal] | list[str] | list[float]
    if all(number is not None for number in numbers):
        keys = [number for number in numbers if number is not None]
    elif all(clock is not None for clock in clocks):
        keys = [clock for clock in clocks if clock is not None]
    elif all(date is not None for date in dates):
        keys = [date for date in dates if date is not None]
    else:
        keys = [fold(str(value)) for value in values]
    best = max(keys) if largest else min(keys)
    supporters = tuple(number for number, key in enumerate(keys) if key == best)
    return Choice(values[supporters[0]], supporters)


def _boolean(candidates: Sequence[Candidate], result: bool) -> Choice:
    if not all(isinstance(candidate.value, bool) for candidate in candidates):
        return agree(candidates)
    return Choice(result, tuple(n for n, candidate in enumerate(candidates) if candidate.value is result))


def _number(value: Json) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = Decimal(str(value))
        return number if number.is_finite() else None
    readings = read_number(value) if isinstance(value, str) else ()
    return readings[0] if len(readings) == 1 else None


def _date_text(value: Json) -> str | None:
    readings = read_dates(value) if isinstance(value, str) else ()
    return readings[0].isoformat() if len(readings) == 1 else None


def _all_whole(candidates: Sequence[Candidate]) -> bool:
    return all(not isinstance(candidate.value, float) for candidate in candidates)


_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
_ORDERED: Final = _SCALARS - {"boolean"}

STRATEGIES: Final[dict[str, Strategy]] = {
    "agree": Choose(agree),
    "first": Choose(first),
    "last": Choose(last),
    "max": Choose(greatest, _ORDERED),
    "min": Choose(smallest, _ORDERED),
    "sum": Choose(total, _ORDERED, adds=True),
    "longest": Choose(longest),
    "any": Choose(any_true, frozenset({"boolean", "null"})),
    "all": Choose(all_true, frozenset({"boolean", "null"})),
    "synthesize": Choose(longest, asks=True),
    "concat": Align(concat),
    "union": Align(union),
    "by-key": Align(by_key, needs_key=True),
}


@lru_cache(maxsize=64)
def find_strategy(name: str) -> Strategy:
    """The strategy called `name`. Raises ConfigError when neither the table nor an installed package has it."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    from importlib.metadata import entry_points

    for entry in entry_points(group="ingest.merge", name=name):
        found = entry.load()
        if isinstance(found, Choose | Align):
            return found
        raise ConfigError(f"merge strategy {name!r} of {entry.value} must be a Choose or an Align, not {found!r}")
    raise ConfigError(f"unknown merge strategy {name!r}; known are {', '.join(STRATEGIES)}")
