"""Contact sheets, before any pixel: how many frames an image holds, how large, and what becomes of a video's parts.

A sheet costs what one of its frames would cost alone: its cells share the pixels of that frame. Where images are priced
flat, cells share all that the flat price buys, and stay as large as they are if that is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.types import Part, Rendering

GAP_PX = 4
_CELLS_SHARE = 0.9
"""Share of a sheet that its cells take; strips and gaps have the rest."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of equal size in rows, each with a strip for its timestamp above it."""

    columns: int
    rows: int
    cell_width_px: int
    cell_height_px: int
    strip_px: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet in pixels."""
        width = self.columns * (self.cell_width_px + GAP_PX) + GAP_PX
        return width, self.rows * (self.cell_height_px + self.strip_px + GAP_PX) + GAP_PX


def shape_of(count: int) -> tuple[int, int]:
    """Columns and rows of a near-square grid with room for so many frames."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def most_cell_pixels(width_px: int, height_px: int, count: int, rendering: Rendering) -> int:
    """Pixels of one of `count` cells, for frames of this size: all of them together cost what one frame does."""
    if count == 1:
        return rendering.frame_max_pixels
    columns, rows = shape_of(count)
    alone = min(width_px * height_px, rendering.frame_max_pixels)
    return max(1, int(max(alone, _free_pixels(rendering)) * _CELLS_SHARE / (columns * rows)))


def grid_of(count: int, width_px: int, height_px: int, rendering: Rendering) -> Grid:
    """The grid for cells of one size, which give way a little to the strips and gaps between them."""
    columns, rows = shape_of(count)
    wanted = max(int(width_px * height_px * columns * rows / _CELLS_SHARE), _free_pixels(rendering))
    most = min(wanted, rendering.frame_max_pixels)
    scale = 1.0
    while True:
        width, height = max(1, int(width_px * scale)), max(1, int(height_px * scale))
        strip = max(12, min(28, round(height * 0.09)))
        grid = Grid(columns, rows, width, height, strip)
        if grid.size[0] * grid.size[1] <= most or (width == 1 and height == 1):
            return grid
        scale *= 0.98


def on_sheets(parts: Sequence[Part], count: int, rendering: Rendering) -> Iterator[Part]:
    """Parts in the size of cells, so many to a sheet; one that cannot be read stays a part of its own, and is named."""
    pending: list[Part] = []
    index = 0
    for part in (*parts, None):
        if pending and (part is None or part.error is not None or len(pending) == count):
            yield _sheet(index, pending, rendering)
            index, pending = index + 1, []
        if part is not None and part.error is not None:
            yield replace(part, index=index, error=replace(part.error, part_index=index))
            index += 1
        elif part is not None:
            pending.append(part)


def as_cell(part: Part, count: int, rendering: Rendering) -> Part:
    """A frame that was planned to be sent alone, in the size it has on a sheet."""
    most = most_cell_pixels(part.width_px, part.height_px, count, rendering)
    zoom = min(1.0, math.sqrt(most / max(1, part.width_px * part.height_px)))
    return replace(part, width_px=max(1, int(part.width_px * zoom)), height_px=max(1, int(part.height_px * zoom)))


def _sheet(index: int, frames: Sequence[Part], rendering: Rendering) -> Part:
    if len(frames) == 1:
        return replace(frames[0], index=index)
    grid = grid_of(len(frames), max(f.width_px for f in frames), max(f.height_px for f in frames), rendering)
    moments = tuple(moment for frame in frames for moment in frame.moments)
    width, height = grid.size
    return replace(frames[0], index=index, width_px=width, height_px=height, moments=moments)


def _free_pixels(rendering: Rendering) -> int:
    return min(rendering.frame_free_pixels, rendering.frame_max_pixels)
