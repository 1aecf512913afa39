"""Columns of a page: where the gutters are, and its lines cut there and put in reading order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.local.filler.view import Row
from ingest.local.page import Page, Segment, median

# A gutter is where this many lines, and this share of the page's lines, begin a piece at the same place.
_MIN_LINES = 7
_MIN_SHARE = 0.22
# Words a line of a text column has at least, on average; cells of a table have fewer.
_MIN_WORDS = 3.5
_MIN_COLUMN_SHARE = 0.2
_MAX_COLUMNS = 4
_SLACK_CHARS = 2.0
_NUMBER = re.compile(
    r"^(?:\d{1,2}(?:\.\d{1,2})*[.)]?|[A-Z][.)]|\([a-z\d]{1,3}\)|§+\s?\d{1,3}[a-z]?|[•●▪◦*–-]|\[\d{1,3}\])$"
)
_MARGIN_NOTE_CHARS = 5
_JOINED_GAP = 0.6
_CELL_GAP_CHARS = 3.0


@dataclass(frozen=True, slots=True)
class Strip:
    """A printed line, or the piece of it in one column.

    `left` and `right` are the edges of the column's text, `gap` the white space above within the column, in lines.
    `is_numbered` marks a line that begins with a number or mark printed apart from its words,
    `is_loose` one whose gap may come from the lines of the column beside it.
    """

    text: str
    row: Row
    segments: tuple[Segment, ...]
    column: int
    gap: float
    left: float
    right: float
    is_numbered: bool = False
    is_loose: bool = False

    @property
    def x0(self) -> float:
        """Left edge of the words."""
        return self.segments[0].x0

    @property
    def x1(self) -> float:
        """Right edge of the words."""
        return self.segments[-1].x1

    @property
    def is_cells(self) -> bool:
        """Whether the pieces stand as the cells of a table do: few words each, far apart."""
        if len(self.segments) < 3 or len(self.segments) * 3 < sum(len(s.tokens) for s in self.segments):
            return False
        pairs = zip(self.segments, self.segments[1:], strict=False)
        wide = sum(right.x0 - left.x1 >= _CELL_GAP_CHARS * self.row.page.char_width for left, right in pairs)
        return wide * 2 >= len(self.segments) - 1

    @property
    def is_centred(self) -> bool:
        """Whether the line stands in the middle of its column, away from both edges."""
        before, after = self.x0 - self.left, self.right - self.x1
        is_short = self.x1 - self.x0 < 0.75 * (self.right - self.left)
        return (
            is_short
            and min(before, after) > 4 * self.row.page.char_width
            and abs(before - after) < 0.3 * (self.right - self.left)
        )


def strips_of_page(page: Page, rows: Sequence[Row]) -> list[Strip]:
    """The lines of a page in reading order, those of columns column by column."""
    lines = _without_margin_notes(page, [(row, row.segments) for row in rows])
    gutters = _gutters(page, lines)
    strips: list[Strip] = []
    region: list[tuple[Row, list[list[Segment]]]] = []
    is_whole = False
    is_loose = bool(gutters) and page.origin == "text"
    number = 0
    for row, segments in lines:
        cut = _cut(segments, gutters, page.char_width)
        if cut is not None and is_whole and _ends_whole(row, cut, region[-1][0]):
            cut = None
        if (cut is None) != is_whole and region:
            strips.extend(_columns_of(region, number, not is_whole and is_loose))
            number += len(gutters) + 1
            region = []
        is_whole = cut is None
        region.append((row, [list(segments)] if cut is None else cut))
    strips.extend(_columns_of(region, number, not is_whole and is_loose))
    return _with_gaps(_with_edges(strips), page)


def _ends_whole(row: Row, cut: Sequence[Sequence[Segment]], above: Row) -> bool:
    """Whether a line that keeps to the first column is the short last line of a paragraph across all columns."""
    alone = not any(cut[1:])
    return alone and row.gap < _JOINED_GAP and abs(row.line.x0 - above.line.x0) < _SLACK_CHARS * row.page.char_width


def _without_margin_notes(
    page: Page, lines: Sequence[tuple[Row, tuple[Segment, ...]]]
) -> list[tuple[Row, tuple[Segment, ...]]]:
    """The lines without what is printed sideways in the left margin, short words far left of the text."""
    usual = median((segments[0].x0 for _, segments in lines if len(segments[0].text) > 20), 0.0)
    if usual < 8 * page.char_width or page.origin == "ocr":
        return list(lines)
    kept: list[tuple[Row, tuple[Segment, ...]]] = []
    for row, segments in lines:
        first = segments[0]
        aside = first.x0 < 4 and first.x1 < usual - 2 and len(first.text) <= _MARGIN_NOTE_CHARS and first.text.isalnum()
        rest = segments[1:] if aside else segments
        if rest:
            kept.append((row, rest))
    return kept


def _gutters(page: Page, lines: Sequence[tuple[Row, tuple[Segment, ...]]]) -> list[float]:
    """Left edges of the columns right of the first, from left to right; empty on a page of one column."""
    if len(lines) < _MIN_LINES:
        return []
    char = page.char_width
    left = min(segments[0].x0 for _, segments in lines)
    right = max(segments[-1].x1 for _, segments in lines)
    width = max(right - left, 1.0)
    starts: dict[int, list[tuple[tuple[Segment, ...], int]]] = {}
    for _, segments in lines:
        for index, segment in enumerate(segments):
            if index > 0 or segment.x0 > left + 0.3 * width:
                starts.setdefault(int(segment.x0 / (_SLACK_CHARS * char)), []).append((segments, index))
    found: list[tuple[int, float]] = []
    for key, places in starts.items():
        both = [*places, *starts.get(key + 1, ())]
        if len(both) >= max(_MIN_LINES, _MIN_SHARE * len(lines)) and _is_column(both, width, char):
            edge = min(segments[index].x0 for segments, index in both)
            if edge > left + 0.15 * width:
                found.append((len(both), edge))
    chosen: list[float] = []
    for _, edge in sorted(found, key=lambda item: (-item[0], item[1])):
        apart = all(abs(edge - other) > _MIN_COLUMN_SHARE * width for other in chosen)
        if apart and right - edge > 0.15 * width and _is_clear(edge, lines, char):
            chosen.append(edge)
    return sorted(chosen[: _MAX_COLUMNS - 1])


def _is_column(places: Sequence[tuple[tuple[Segment, ...], int]], width: float, char: float) -> bool:
    """Whether what begins here, and what stands left of it, is text rather than cells of a table."""
    right_words = [sum(len(s.tokens) for s in segments[index:]) for segments, index in places]
    left_words = [sum(len(s.tokens) for s in segments[:index]) for segments, index in places if index]
    if len(left_words) < 0.4 * len(places) or sum(right_words) < _MIN_WORDS * len(places):
        return False
    if sum(left_words) < _MIN_WORDS * len(left_words):
        return False
    spans = [segments[-1].x1 - segments[index].x0 for segments, index in places]
    return median(spans) > 0.18 * width


def _is_clear(edge: float, lines: Sequence[tuple[Row, tuple[Segment, ...]]], char: float) -> bool:
    """Whether most lines that reach past the edge leave it free."""
    crossing = sum(any(s.x0 < edge - 3 * char and s.x1 > edge + 3 * char for s in segments) for _, segments in lines)
    beginning = sum(any(abs(s.x0 - edge) <= _SLACK_CHARS * char for s in segments) for _, segments in lines)
    return beginning > 0.6 * crossing


def _cut(segments: tuple[Segment, ...], gutters: Sequence[float], char: float) -> list[list[Segment]] | None:
    """The segments of a line by column; None when one runs across a gutter, or there is none."""
    if not gutters:
        return [list(segments)]
    columns: list[list[Segment]] = [[] for _ in range(len(gutters) + 1)]
    for segment in segments:
        place = sum(segment.x0 >= gutter - _SLACK_CHARS * char for gutter in gutters)
        if place < len(gutters) and segment.x1 > gutters[place] + _SLACK_CHARS * char:
            return None
        columns[place].append(segment)
    return columns


def _columns_of(region: Sequence[tuple[Row, list[list[Segment]]]], number: int, is_loose: bool) -> Iterator[Strip]:
    for column in range(max((len(cut) for _, cut in region), default=0)):
        for row, cut in region:
            if column < len(cut) and cut[column]:
                segments = tuple(cut[column])
                text = " ".join(segment.text for segment in segments)
                numbered = len(segments) > 1 and bool(_NUMBER.match(segments[0].text))
                yield Strip(text, row, segments, number + column, 0.0, 0.0, 0.0, numbered, is_loose)


def _with_edges(strips: Sequence[Strip]) -> list[Strip]:
    """The strips with the edges of their columns; lines across all columns share the edges of the page."""
    lefts: dict[int, list[float]] = {}
    rights: dict[int, list[float]] = {}
    for strip in strips:
        lefts.setdefault(strip.column, []).append(strip.x0)
        rights.setdefault(strip.column, []).append(strip.x1)
    edges = {column: (_low(lefts[column]), max(rights[column])) for column in lefts}
    return [replace(s, left=edges[s.column][0], right=edges[s.column][1]) for s in strips]


def _low(values: Sequence[float]) -> float:
    """A left edge: low, yet not that of one line that sticks out."""
    ordered = sorted(values)
    return ordered[len(ordered) // 10]


def _with_gaps(strips: Sequence[Strip], page: Page) -> list[Strip]:
    result: list[Strip] = []
    for strip in strips:
        above = result[-1] if result else None
        gap = 9.0
        if above is not None and above.column == strip.column:
            gap = max((strip.row.line.y0 - above.row.line.y1) / page.line_height, 0.0)
        result.append(replace(strip, gap=gap))
    return result
