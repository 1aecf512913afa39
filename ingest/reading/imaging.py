"""Pixels to image parts: sizes are computed before any pixel is made, then scaled and encoded by Pillow."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image as PillowImage
from PIL import ImageChops

from ingest import types
from ingest.types import Rendering

_MAX_ZOOM = 600 / 72
"""Pages smaller than a stamp are not blown up to the whole budget: 600 dpi is as fine as print gets."""

_GRAY_TOLERANCE = 10
"""Difference between channels (of 255) that JPEG noise makes in a gray scan; coloured ink differs by more."""

_MIN_QUALITY = 40


@dataclass(frozen=True, slots=True)
class Fit:
    """Size of the content in pixels, and of the white canvas it stands on (the same but for extreme strips)."""

    width_px: int
    height_px: int
    canvas_width_px: int
    canvas_height_px: int


def fit_page(width_pt: float, height_pt: float, rendering: Rendering) -> Fit:
    """The size at which a page fills the pixel budget, whatever its size in points."""
    return _fit(width_pt, height_pt, rendering, _MAX_ZOOM)


def fit_image(width_px: int, height_px: int, rendering: Rendering) -> Fit:
    """The size of an image within the pixel budget; never larger than it is, except to reach the shortest side."""
    return _fit(width_px, height_px, rendering, 1.0)


def _fit(width: float, height: float, rendering: Rendering, max_zoom: float) -> Fit:
    width, height = max(width, 1e-3), max(height, 1e-3)
    ratio = max(rendering.max_aspect_ratio, 1.0)
    canvas_width, canvas_height = max(width, height / ratio), max(height, width / ratio)
    largest = math.sqrt(rendering.max_pixels / (canvas_width * canvas_height))
    zoom = min(largest, max(max_zoom, rendering.min_side_px / min(canvas_width, canvas_height)))
    inner = [_pixels(side * zoom) for side in (width, height)]
    outer = [_pixels(side * zoom) for side in (canvas_width, canvas_height)]
    outer = [max(side, rendering.min_side_px) for side in outer]
    while outer[0] * outer[1] > rendering.max_pixels and max(outer) > 1:
        outer[outer.index(max(outer))] -= 1
    return Fit(min(inner[0], outer[0]), min(inner[1], outer[1]), outer[0], outer[1])


def _pixels(side: float) -> int:
    # A side that is a whole number but for rounding error keeps its last pixel.
    return max(1, math.floor(side + 1e-6))


def to_content(image: PillowImage.Image, fit: Fit, rendering: Rendering, may_be_gray: bool = True) -> types.Image:
    """An RGB or gray image scaled to `fit` and encoded as JPEG within the byte limit.

    `may_be_gray` has it looked at for colour, and sent without when there is none.
    """
    if image.size != (fit.width_px, fit.height_px):
        image = image.resize((fit.width_px, fit.height_px), PillowImage.Resampling.LANCZOS, reducing_gap=3.0)
    if may_be_gray and is_gray(image):
        image = image.convert("L")
    if (fit.canvas_width_px, fit.canvas_height_px) != image.size:
        canvas = PillowImage.new(image.mode, (fit.canvas_width_px, fit.canvas_height_px), "white")
        canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
        image = canvas
    data, image = _encode(image, rendering)
    return types.Image(data, "image/jpeg", image.width, image.height)


def is_gray(image: PillowImage.Image) -> bool:
    """Whether an image shows no colour, noise apart."""
    if image.mode == "L":
        return True
    # A third of the size is enough to see colour by, and costs a third of the time.
    red, green, blue = (image.reduce(3) if min(image.size) > 300 else image).split()
    pairs = ((red, green), (green, blue))
    return all(_extrema(ImageChops.difference(one, other))[1] <= _GRAY_TOLERANCE for one, other in pairs)


def _encode(image: PillowImage.Image, rendering: Rendering) -> tuple[bytes, PillowImage.Image]:
    """JPEG at the wanted quality; when too many bytes, first coarser, then smaller."""
    quality = rendering.jpeg_quality
    while True:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= rendering.max_bytes or min(image.size) <= rendering.min_side_px:
            return file.getvalue(), image
        if quality > _MIN_QUALITY:
            quality = max(_MIN_QUALITY, quality - 15)
        else:
            smaller = [max(rendering.min_side_px, round(side * 0.8)) for side in image.size]
            image = image.resize((smaller[0], smaller[1]), PillowImage.Resampling.LANCZOS)


def flatten(image: PillowImage.Image) -> PillowImage.Image:
    """Any Pillow image as 8-bit RGB or gray on white: palettes, alpha, CMYK, 16 and 32 bits, floats."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bits(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = PillowImage.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _to_8_bits(image: PillowImage.Image) -> PillowImage.Image:
    """Deep gray: full-scale 16 bits by their high byte; anything else stretched over its own range."""
    low, high = _extrema(image)
    if image.mode != "F" and low >= 0 and 255 < high <= 65_535:
        low, high = 0.0, 65_535.0
    elif image.mode != "F" and low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    scale = 255.0 / (high - low) if high > low else 0.0
    deep = image.convert("I") if image.mode.startswith("I;16") else image
    return deep.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _extrema(image: PillowImage.Image) -> tuple[float, float]:
    extrema = image.getextrema()
    low, high = extrema[0], extrema[1]
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise ValueError(f"unexpected bands in an image of mode {image.mode}")
    return low, high
