"""Pages sent in pieces: which words and which band of the image belong to each piece.

Bands follow the text where there is text, so that the words and the image of a piece show the same; else they are of
equal height. Images of neighbouring pieces overlap a little, so that no line is cut in both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ingest.reading.layout import group_lines
from ingest.types import Word

OVERLAP = 0.03
"""Share of the page's height by which the image of a piece reaches over its borders."""


@dataclass(frozen=True, slots=True)
class Band:
    """One piece of a page: its words, and the top and bottom of its image, in the unit of the words' boxes."""

    words: tuple[Word, ...]
    top: float
    bottom: float


def cut_page(words: Sequence[Word], height: float, pieces: int) -> list[Band]:
    """The bands of a page from top to bottom, with even shares of its characters, cut between lines."""
    groups = _groups(words, pieces) if words else [[] for _ in range(pieces)]
    reach = OVERLAP * height
    borders = [0.0, *(_border(groups, at, height) for at in range(1, pieces)), height]
    for at in range(1, pieces + 1):
        borders[at] = max(borders[at], borders[at - 1])
    return [
        Band(tuple(group), max(borders[at] - reach, 0.0), min(borders[at + 1] + reach, height))
        for at, group in enumerate(groups)
    ]


def cut_height(height_px: int, piece: int, pieces: int) -> tuple[int, int]:
    """Top and bottom row of one of so many bands of equal height, overlap included."""
    reach = round(OVERLAP * height_px)
    top, bottom = height_px * piece // pieces - reach, height_px * (piece + 1) // pieces + reach
    return max(top, 0), max(min(bottom, height_px), 1)


def _groups(words: Sequence[Word], pieces: int) -> list[list[Word]]:
    """Words in so many runs of about as many characters, cut between lines unless a line is longer than half a run."""
    lines = group_lines(words)
    flat = [word for line in lines for word in line]
    written = list(accumulate((len(word.text) for word in flat), initial=0))
    starts = list(accumulate((len(line) for line in lines), initial=0))
    share = written[-1] / pieces
    cuts = [0]
    for piece in range(1, pieces):
        cut = bisect_left(written, piece * share)
        after = starts[min(bisect_left(starts, cut), len(starts) - 1)]
        before = starts[max(bisect_left(starts, cut) - 1, 0)]
        snapped = min((before, after), key=lambda place: abs(written[place] - piece * share))
        if abs(written[snapped] - piece * share) <= share / 4:
            cut = snapped
        cuts.append(max(cut, cuts[-1]))
    cuts.append(len(flat))
    return [flat[cuts[at] : cuts[at + 1]] for at in range(pieces)]


def _border(groups: Sequence[Sequence[Word]], at: int, height: float) -> float:
    """Where band `at` begins: between its first line and the last line above it."""
    above = [word.bbox[3] for group in groups[:at] for word in group]
    below = [word.bbox[1] for word in groups[at]]
    if not above or not below:
        return max(above, default=0.0) if above else height * at / len(groups)
    return min(max((max(above) + min(below)) / 2, 0.0), height)
