"""Tables of any kind as printed: caption, column headings, rows of cells."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.local.filler.columns import Strip
from ingest.local.filler.running import Running
from ingest.local.filler.view import Row
from ingest.local.page import Segment, median

_MAX_GRIDS = 60
_MAX_ROWS = 400
_MAX_COLUMNS = 30
_GAP_LINES = 1.7
_WIDE_GAP_CHARS = 3.0
_MAX_CELL_CHARS = 90
_WRAPPED_GAP = 0.6
_RULER = re.compile(r"^[\s|:+=-]+$")
_CAPTION = re.compile(
    r"^(?:table|tab\.|tabelle|tableau|tabla|tabella|exhibit|schedule)\s?[\dIVX]{1,4}\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: caption or None, headings (empty without a heading row), cells row by row, first row."""

    caption: str | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    row: Row


def read_grids(running: Running) -> list[Grid]:
    """The tables of a document in printed order; lines that stand as cells on at least two rows make one."""
    grids: list[Grid] = []
    strips = running.strips
    index = 0
    while index < len(strips) and len(grids) < _MAX_GRIDS:
        end = _run_end(strips, index)
        if end - index >= 2:
            grid = _grid(strips, index, end)
            if grid:
                grids.append(grid)
        index = max(end, index + 1)
    return _continued(grids)


def _run_end(strips: Sequence[Strip], start: int) -> int:
    """Where the rows of cells that begin at a strip end."""
    piped = strips[start].text.lstrip().startswith("|")
    end = start
    while end < len(strips) and end - start < _MAX_ROWS:
        strip = strips[end]
        if end > start and (
            strip.row.page is not strips[start].row.page
            or strip.column != strips[start].column
            or strip.gap > _GAP_LINES
        ):
            break
        if piped != strip.text.lstrip().startswith("|"):
            break
        if not (piped or _is_row(strip) or (end > start + 1 and _is_wrapped(strips, end))):
            break
        end += 1
    return end


def _is_wrapped(strips: Sequence[Strip], index: int) -> bool:
    """Whether a line is the second line of a cell: short, close below a row of cells, another row below it."""
    strip = strips[index]
    close = strip.gap < _WRAPPED_GAP and len(strip.segments) == 1 and len(strip.text) <= _MAX_CELL_CHARS
    following = strips[index + 1] if index + 1 < len(strips) else None
    return close and following is not None and following.row.page is strip.row.page and _is_row(following)


def _is_row(strip: Strip) -> bool:
    """Whether a line is cells: two pieces or more, short, apart by wide space."""
    segments = strip.segments
    if len(segments) < 2 or any(len(segment.text) > _MAX_CELL_CHARS for segment in segments):
        return False
    char = strip.row.page.char_width
    gaps = [right.x0 - left.x1 for left, right in itertools.pairwise(segments)]
    if median(gaps) < _WIDE_GAP_CHARS * char:
        return False
    words = sum(len(segment.tokens) for segment in segments)
    numeric = any(sum(c.isdigit() for c in s.text) * 2 >= len(s.text.replace(" ", "")) for s in segments)
    filled = sum(segment.x1 - segment.x0 for segment in segments) / max(segments[-1].x1 - segments[0].x0, 1e-6)
    return (numeric and words <= 6 * len(segments)) or (words <= 4 * len(segments) and filled < 0.82) or strip.is_cells


def _grid(strips: Sequence[Strip], start: int, end: int) -> Grid | None:
    run = strips[start:end]
    if run[0].text.lstrip().startswith("|"):
        cells = [
            [cell.strip() for cell in strip.text.strip().strip("|").split("|")]
            for strip in run
            if not _RULER.match(strip.text)
        ]
        has_heading = len(run) > 1 and bool(_RULER.match(run[1].text))
        width = max((len(row) for row in cells), default=0)
        padded = [[*row, *[""] * (width - len(row))] for row in cells]
        table = [tuple(cell if cell else None for cell in row) for row in padded]
    else:
        edges = _edges(run)
        width = len(edges)
        if width < 2 or (width == 2 and len(run) < 3):
            return None
        table = _table(run, edges)
        has_heading = _is_heading(table)
        if all(row[0].endswith(":") for row in table if row[0]):
            return None  # labels and their values
    empty = sum(cell is None for row in table for cell in row)
    if width < 2 or width > _MAX_COLUMNS or len(table) < 2 or empty * 2 > len(table) * width:
        return None
    columns = tuple(cell or "" for cell in table[0]) if has_heading else ()
    return Grid(_caption(strips, start, end), columns, tuple(table[1:] if has_heading else table), run[0].row)


def _table(run: Sequence[Strip], edges: Sequence[tuple[float, float]]) -> list[tuple[str | None, ...]]:
    """The cells of each row; a line that goes on with a cell above is added to it."""
    table: list[tuple[str | None, ...]] = []
    for strip in run:
        cells = _cells(strip, edges)
        if table and len(strip.segments) == 1:
            pairs = zip(table[-1], cells, strict=True)
            table[-1] = tuple(f"{above or ''} {cell or ''}".strip() or None for above, cell in pairs)
        else:
            table.append(cells)
    return table


def _edges(run: Sequence[Strip]) -> list[tuple[float, float]]:
    """The horizontal spans of the columns: pieces that overlap, over all rows of about the usual number of pieces."""
    counts = sorted(len(strip.segments) for strip in run)
    usual = counts[len(counts) * 3 // 4]
    spans: list[list[float]] = []
    for strip in run:
        if len(strip.segments) < usual:
            continue
        for segment in strip.segments:
            hit = [span for span in spans if min(span[1], segment.x1) - max(span[0], segment.x0) > 0]
            if not hit:
                spans.append([segment.x0, segment.x1])
            elif len(hit) == 1:
                hit[0][0], hit[0][1] = min(hit[0][0], segment.x0), max(hit[0][1], segment.x1)
    return [(span[0], span[1]) for span in sorted(spans)][:_MAX_COLUMNS]


def _cells(strip: Strip, edges: Sequence[tuple[float, float]]) -> tuple[str | None, ...]:
    cells: list[str] = [""] * len(edges)
    for segment in strip.segments:
        index = max(range(len(edges)), key=lambda i: _closeness(segment, edges[i]))
        cells[index] = f"{cells[index]} {segment.text}".strip()
    return tuple(cell or None for cell in cells)


def _closeness(segment: Segment, edge: tuple[float, float]) -> float:
    """How much a piece overlaps a column; minus the distance when it does not."""
    return min(edge[1], segment.x1) - max(edge[0], segment.x0)


def _is_heading(table: Sequence[tuple[str | None, ...]]) -> bool:
    """Whether the first row names columns: hardly a number in it, numbers below, or at least every column named."""
    first = [cell for cell in table[0] if cell]
    digits = sum(any(c.isdigit() for c in cell) for cell in first)
    below = sum(any(c.isdigit() for c in cell or "") for row in table[1:4] for cell in row)
    return len(first) >= len(table[0]) - 1 and digits * 3 <= len(first) and below > 0


def _caption(strips: Sequence[Strip], start: int, end: int) -> str | None:
    """The line right above a table, or below it, that names it."""
    above = strips[start - 1] if start else None
    below = strips[end] if end < len(strips) else None
    for strip in (above, below):
        if strip is not None and strip.row.page is strips[start].row.page and _CAPTION.match(strip.text):
            return strip.text[:240]
    first = strips[start]
    if (
        above is not None
        and above.row.page is first.row.page
        and above.column == first.column
        and first.gap < _GAP_LINES
    ):
        text = above.text.strip(" #*")
        if (
            3 < len(text) <= 90
            and not text.endswith((".", ",", ";"))
            and above.text[:1].isupper()
            and len(above.segments) == 1
        ):
            return text.rstrip(":")
    return None


def _continued(grids: Sequence[Grid]) -> list[Grid]:
    """Tables whose heading is printed again on the next page joined to one."""
    result: list[Grid] = []
    page = 0
    for grid in grids:
        last = result[-1] if result else None
        if last is not None and grid.row.page.number in (page, page + 1) and _goes_on(last, grid):
            result[-1] = Grid(last.caption, last.columns, (*last.rows, *grid.rows)[: 5 * _MAX_ROWS], last.row)
        else:
            result.append(grid)
        page = grid.row.page.number
    return result


def _goes_on(last: Grid, grid: Grid) -> bool:
    """Whether a table goes on with the one before it: the same headings again, or none and as many columns."""
    if grid.columns:
        return last.columns == grid.columns
    return grid.caption is None and bool(last.columns) and bool(grid.rows) and len(grid.rows[0]) == len(last.columns)


def labelled_pairs(strips: Sequence[Strip]) -> Iterator[tuple[str, str, Row]]:
    """Labels and values that stand side by side: `Label:` in one piece of a line, its value in the next."""
    for strip in strips:
        for left, right in zip(strip.segments, strip.segments[1:], strict=False):
            if (
                left.text.endswith(":")
                and 2 < len(left.text) <= 42
                and not right.text.endswith(":")
                and len(right.text) <= 150
            ):
                yield left.text.rstrip(": "), right.text, strip.row
