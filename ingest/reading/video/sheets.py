"""Contact sheets: several frames in one image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from ingest.reading.grids import GAP_PX, Grid
from ingest.types import Moment


def draw_sheet(
    pictures: Sequence[PillowImage.Image | None], moments: Sequence[Moment], grid: Grid
) -> PillowImage.Image:
    """The frames in reading order, each below its timestamp; the place of one that cannot be had stays gray."""
    sheet = PillowImage.new("RGB", grid.size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(grid.strip_px * 0.8)
    for place, (picture, moment) in enumerate(zip(pictures, moments, strict=True)):
        row, column = divmod(place, grid.columns)
        left = GAP_PX + column * (grid.cell_width_px + GAP_PX)
        top = GAP_PX + row * (grid.cell_height_px + grid.strip_px + GAP_PX)
        draw.text((left, top), f"{moment.timestamp_s:.1f} s", fill="black", font=font)
        cell = picture or PillowImage.new("RGB", (8, 8), "gray")
        cell = cell.copy()
        cell.thumbnail((grid.cell_width_px, grid.cell_height_px))
        sheet.paste(cell, (left, top + grid.strip_px))
    return sheet
