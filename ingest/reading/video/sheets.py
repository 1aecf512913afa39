"""Contact sheets: several frames in one image, for models that price images flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from ingest.types import Moment, Rendering

_GAP_PX = 4


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
        width = self.columns * (self.cell_width_px + _GAP_PX) + _GAP_PX
        return width, self.rows * (self.cell_height_px + self.strip_px + _GAP_PX) + _GAP_PX


def shape_of(count: int) -> tuple[int, int]:
    """Columns and rows of a near-square grid with room for so many frames."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def cell_rendering(rendering: Rendering, count: int) -> Rendering:
    """How a single frame is rendered so that a sheet of `count` stays within the budget of one frame."""
    if count == 1:
        return rendering
    columns, rows = shape_of(count)
    # A tenth is left for strips and gaps; `grid_of` shrinks cells of extreme shapes further.
    return replace(rendering, frame_max_pixels=max(1, int(rendering.frame_max_pixels * 0.9 / (columns * rows))))


def grid_of(count: int, width_px: int, height_px: int, rendering: Rendering) -> Grid:
    """The grid for frames of one size, all of it within the budget of one frame."""
    columns, rows = shape_of(count)
    scale = 1.0
    while True:
        width, height = max(1, int(width_px * scale)), max(1, int(height_px * scale))
        strip = max(12, min(28, round(height * 0.09)))
        grid = Grid(columns, rows, width, height, strip)
        if grid.size[0] * grid.size[1] <= rendering.frame_max_pixels or (width == 1 and height == 1):
            return grid
        scale *= 0.98


def draw_sheet(
    pictures: Sequence[PillowImage.Image | None], moments: Sequence[Moment], grid: Grid
) -> PillowImage.Image:
    """The frames in reading order, each below its timestamp; the place of one that cannot be had stays gray."""
    sheet = PillowImage.new("RGB", grid.size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(grid.strip_px * 0.8)
    for place, (picture, moment) in enumerate(zip(pictures, moments, strict=True)):
        row, column = divmod(place, grid.columns)
        left = _GAP_PX + column * (grid.cell_width_px + _GAP_PX)
        top = _GAP_PX + row * (grid.cell_height_px + grid.strip_px + _GAP_PX)
        draw.text((left, top), f"{moment.timestamp_s:.1f} s", fill="black", font=font)
        cell = picture or PillowImage.new("RGB", (8, 8), "gray")
        cell = cell.copy()
        cell.thumbnail((grid.cell_width_px, grid.cell_height_px))
        sheet.paste(cell, (left, top + grid.strip_px))
    return sheet
