"""The cheapest partition of a row of units into contiguous runs, by dynamic programming over whole numbers.

Within one tier the cost of a run is separable: what stands at its end less what stands at its start, plus a constant
(its preamble and the base of its answer). Runs that may be sent together are those from `first[j]` on, and that bound
never goes back. The best start of a run is therefore the minimum of a sliding window, kept in a monotone queue (Lemire
2006): time is linear in the units and the tiers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_NEVER = -1


@dataclass(frozen=True, slots=True)
class TierRuns:
    """One tier that runs may be billed at.

    `input_price` and `output_price` are per unit of weight. `first[j]` is the earliest unit from which a run may reach
    to just before unit `j` and still be billed at this tier; `j` itself when no run may.
    """

    input_price: int
    output_price: int
    first: Sequence[int]


@dataclass(frozen=True, slots=True)
class Row:
    """Units in order, as sums over those before each place: `input[j] - input[i]` is the weight of units i to j - 1.

    `answer` is the same of the answers. `alone[i]` is the cost of unit i in a run of its own, which is always allowed.
    `is_soft[i]` says that a run may well begin at unit i. A run carries `context` units on either side as well, pays
    for `base_input` and `base_answer` once, and is kept even by `input` weight.
    """

    input: Sequence[int]
    answer: Sequence[int]
    alone: Sequence[int]
    is_soft: Sequence[bool]
    tiers: Sequence[TierRuns]
    context: int
    base_input: int
    base_answer: int


def cheapest(row: Row) -> list[tuple[int, int]]:
    """Bounds (start, stop) of the runs, in order: the cheapest there are.

    Among equally cheap ones those with the most runs that begin at soft boundaries, and among those the one whose
    heaviest run is lightest.
    """
    count = len(row.alone)
    if not count:
        return []
    best, starts = _solve(row, row.input[count])
    runs = _trace(starts)
    if len(runs) < 2:
        return runs
    low, high = 0, max(row.input[stop] - row.input[start] for start, stop in runs)
    # A hundredth of a run more or less is as even as anybody wants.
    while high - low > max(high // 100, 1):
        middle = (low + high) // 2
        cost, starts = _solve(row, middle)
        if cost == best:
            runs = _trace(starts)
            high = min(middle, max(row.input[stop] - row.input[start] for start, stop in runs))
            if high <= low:
                break
        else:
            low = middle
    return runs


def _solve(row: Row, heaviest: int) -> tuple[int, list[int]]:
    """Lowest key (cost, then hard cuts) with runs of more than one unit no heavier than so much; starts by stop."""
    count = len(row.alone)
    scale = count + 1
    ends = [min(count, place + row.context) for place in range(count + 1)]
    keys, starts = [0] * (count + 1), [_NEVER] * (count + 1)
    queues: list[deque[tuple[int, int]]] = [deque() for _ in row.tiers]
    lightest = _first_within(row.input, heaviest)
    for stop in range(1, count + 1):
        start = stop - 1
        cut = 1 if start and not row.is_soft[start] else 0
        key, chosen = keys[start] + row.alone[start] * scale + cut, start
        before = row.input[max(0, start - row.context)]
        for tier, queue in zip(row.tiers, queues, strict=True):
            opening = keys[start] + cut - scale * (tier.input_price * before + tier.output_price * row.answer[start])
            while queue and queue[-1][0] > opening:
                queue.pop()
            queue.append((opening, start))
            bound = max(tier.first[stop], lightest[stop])
            while queue and queue[0][1] < bound:
                queue.popleft()
            if queue:
                closing = tier.input_price * (row.input[ends[stop]] + row.base_input)
                closing += tier.output_price * (row.answer[stop] + row.base_answer)
                together = queue[0][0] + scale * closing
                if together < key:
                    key, chosen = together, queue[0][1]
        keys[stop], starts[stop] = key, chosen
    return keys[count], starts


def _first_within(sums: Sequence[int], heaviest: int) -> list[int]:
    """For each place the earliest start from which the weight up to it is no more than `heaviest`."""
    return [bisect_left(sums, sums[place] - heaviest, 0, place + 1) for place in range(len(sums))]


def _trace(starts: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    stop = len(starts) - 1
    while stop > 0:
        runs.append((starts[stop], stop))
        stop = starts[stop]
    return runs[::-1]
