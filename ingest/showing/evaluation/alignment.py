"""Rows of two lists paired so that as much as possible agrees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

MAX_EXACT_ROWS: Final = 300
"""Lists with more possible pairs than two of this length are paired approximately."""

# Rows that share a value with more rows than this say little about which belongs to which.
_MAX_CANDIDATES: Final = 40

Pair = tuple[int, int]


def best_pairing(weights: Sequence[Sequence[int]]) -> list[Pair]:
    """The pairs (row, column) with the greatest sum of weights; each row and column at most once.

    The Hungarian method with potentials (Kuhn 1955, in the shortest-path form of Jonker and Volgenant 1987): rows are
    added one by one along the cheapest augmenting path. O(rows² · columns) with rows <= columns.
    """
    if not weights or not weights[0]:
        return []
    if len(weights) > len(weights[0]):
        turned = [list(column) for column in zip(*weights, strict=True)]
        return sorted((row, column) for column, row in best_pairing(turned))
    top = max(max(row) for row in weights)
    costs = [[top - weight for weight in row] for row in weights]
    columns = len(costs[0])
    row_prices, column_prices = [0] * len(costs), [0] * columns
    owner = [-1] * columns
    for row in range(len(costs)):
        _add_row(row, costs, row_prices, column_prices, owner)
    return sorted((row, column) for column, row in enumerate(owner) if row >= 0)


def _add_row(
    row: int, costs: Sequence[Sequence[int]], row_prices: list[int], column_prices: list[int], owner: list[int]
) -> None:
    """Give `row` a column, moving earlier rows along the path that costs least."""
    columns = len(column_prices)
    distance: list[int | None] = [None] * columns
    came_from = [-1] * columns
    is_done = [False] * columns
    current, via, reached = row, -1, 0
    path_end = -1
    while path_end < 0:
        best, nearest = None, -1
        cost_row, price = costs[current], row_prices[current]
        for column in range(columns):
            if is_done[column]:
                continue
            length = reached + cost_row[column] - price - column_prices[column]
            known = distance[column]
            if known is None or length < known:
                distance[column], came_from[column], known = length, via, length
            if best is None or known < best:
                best, nearest = known, column
        assert best is not None
        reached, via = best, nearest
        is_done[nearest] = True
        if owner[nearest] < 0:
            path_end = nearest
        else:
            current = owner[nearest]
    _settle(row, reached, distance, is_done, row_prices, column_prices, owner)
    while path_end >= 0:
        before = came_from[path_end]
        owner[path_end] = owner[before] if before >= 0 else row
        path_end = before


def _settle(
    row: int,
    reached: int,
    distance: Sequence[int | None],
    is_done: Sequence[bool],
    row_prices: list[int],
    column_prices: list[int],
    owner: Sequence[int],
) -> None:
    """Raise and lower the prices so that all pairs made stay the cheapest."""
    row_prices[row] += reached
    for column, done in enumerate(is_done):
        length = distance[column]
        if done and length is not None:
            if owner[column] >= 0:
                row_prices[owner[column]] += reached - length
            column_prices[column] -= reached - length


def good_pairing(
    left: Sequence[Sequence[Hashable]], right: Sequence[Sequence[Hashable]], weigh: Callable[[int, int], int]
) -> list[Pair]:
    """A good pairing of long lists, each row given by the keys of its values.

    Rows with all keys the same are paired first, in order; then of the pairs that share a value the heaviest first.
    """
    pairs = _equal_rows(left, right)
    left_done, right_done = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for number, keys in enumerate(right):
        if number not in right_done:
            for key in set(keys):
                holders[key].append(number)
    weighed = []
    for number, keys in enumerate(left):
        if number in left_done:
            continue
        lists = sorted((holders[key] for key in set(keys) if key in holders), key=len)
        candidates = dict.fromkeys(other for holding in lists for other in holding[:_MAX_CANDIDATES])
        weighed += [(-weigh(number, other), number, other) for other in list(candidates)[:_MAX_CANDIDATES]]
    for _, number, other in sorted(weighed):
        if number not in left_done and other not in right_done:
            pairs.append((number, other))
            left_done.add(number)
            right_done.add(other)
    return sorted(pairs)


def _equal_rows(left: Sequence[Sequence[Hashable]], right: Sequence[Sequence[Hashable]]) -> list[Pair]:
    waiting: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
    for number in reversed(range(len(right))):
        waiting[tuple(right[number])].append(number)
    return [(number, waiting[tuple(keys)].pop()) for number, keys in enumerate(left) if waiting.get(tuple(keys))]
