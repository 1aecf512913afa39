"""Pictures: JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF, HEIC. Each frame of a file is a page.

Sizes are as displayed, after the orientation that the camera or scanner noted. Points are pixels · 72 / dpi with the
density the file states, and equal to pixels when it states none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from ingest import types
from ingest.config import ReadingSettings
from ingest.errors import SourceError, TooLarge, Unreadable, UnsupportedMedia
from ingest.reading.bands import cut_height
from ingest.reading.imaging import fit_image, flatten, to_content
from ingest.types import Document, Loaded, Part, Problem, Rendering, Source

_ORIENTATION = 0x0112  # EXIF 2.32, table 4
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_TURNED_BY_PILLOW = ("TIFF", "HEIF")
_REDUCIBLE = ("L", "RGB", "RGBA", "CMYK")
# Pillow reports damage by any of these, from many decoders.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    AttributeError,
    RuntimeError,
)


class ImageExtractor:
    """Reads pictures with Pillow."""

    media_types = (
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/bmp",
        "image/tiff",
        "image/jp2",
        "image/avif",
        "image/heic",
    )

    def open(self, source: Source, settings: ReadingSettings) -> Document:
        """Sizes of all frames. No pixel is decoded, except by formats that hide their frames behind pixels."""
        with _opened(source) as image:
            frames = _frame_count(image, source)
            if frames > settings.max_pages:
                limit = f"more than the limit of {settings.max_pages:,}"
                raise TooLarge(f"{source.name} has {frames:,} frames, {limit}: raise max_pages")
            parts = tuple(_describe(image, source, index, settings) for index in range(frames))
        if all(part.error is not None for part in parts):
            problem = parts[0].error
            message = problem.message if problem else f"{source.name} has no frame"
            raise (TooLarge if problem and problem.code == TooLarge.code else Unreadable)(message)
        return Document(source, parts)

    def load(
        self, document: Document, parts: Sequence[Part], rendering: Rendering, settings: ReadingSettings
    ) -> Iterator[Loaded]:
        """The frames as JPEG, upright, on white, within the pixel budget."""
        source = document.source
        with _opened(source) as image:
            for part in parts:
                try:
                    _check_pixels(image, source, part.index, settings)
                    image.seek(part.index)
                    _check_pixels(image, source, part.index, settings)
                    yield Loaded(part, (_render(image, part, rendering),))
                except (*_DAMAGE, MemoryError, SourceError) as error:
                    yield Loaded(part, (), error=_problem(source, part.index, error))


EXTRACTOR = ImageExtractor()


@contextmanager
def _opened(source: Source) -> Iterator[PillowImage.Image]:
    """The file as a Pillow image, with Pillow's warnings kept quiet and its own pixel limit off: ours comes first."""
    if source.media_type == "image/heic":
        _register_heif(source)
    limit = PillowImage.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            PillowImage.MAX_IMAGE_PIXELS = None
            with PillowImage.open(Path(source.path)) as image:
                yield image
        except SourceError:
            raise
        except UnidentifiedImageError as error:
            raise Unreadable(f"{source.name} is damaged: no image can be made out in it") from error
        except FileNotFoundError as error:
            raise Unreadable(f"{source.name} has vanished: {source.path} no longer exists") from error
        except _DAMAGE as error:
            raise Unreadable(f"{source.name} is damaged: {error}") from error
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _register_heif(source: Source) -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedMedia(f"{source.name} is a HEIC image: install ingest[heif] to read it") from error
    pillow_heif.register_heif_opener()


def _frame_count(image: PillowImage.Image, source: Source) -> int:
    if image.format == "MPO":
        return 1  # a photo with its thumbnail or depth map
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except _DAMAGE as error:
        raise Unreadable(f"{source.name} is damaged: its frames cannot be counted ({error})") from error


def _describe(image: PillowImage.Image, source: Source, index: int, settings: ReadingSettings) -> Part:
    part = Part(index, "page", "image")
    try:
        _check_pixels(image, source, index, settings)
        image.seek(index)
        _check_pixels(image, source, index, settings)
    except (*_DAMAGE, SourceError, MemoryError) as error:
        return replace(part, error=_problem(source, index, error))
    width, height = image.size
    dpi_x, dpi_y = _dpi(image)
    if _is_turned(image):
        width, height, dpi_x, dpi_y = height, width, dpi_y, dpi_x
    return replace(part, width_px=width, height_px=height, width_pt=width * 72 / dpi_x, height_pt=height * 72 / dpi_y)


def _check_pixels(image: PillowImage.Image, source: Source, index: int, settings: ReadingSettings) -> None:
    pixels = image.width * image.height
    if pixels <= 0:
        raise Unreadable(f"{source.name} is damaged: frame {index + 1} has no size", index)
    if pixels > settings.max_pixels:
        raise TooLarge(
            f"{source.name}: frame {index + 1} would decode to {pixels:,} pixels, more than the limit of "
            f"{settings.max_pixels:,}: raise max_pixels if the file is to be trusted",
            index,
        )


def _dpi(image: PillowImage.Image) -> tuple[float, float]:
    try:
        horizontal, vertical = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 72.0, 72.0
    plausible = all(20 <= value <= 10_000 for value in (horizontal, vertical))
    return (horizontal, vertical) if plausible else (72.0, 72.0)


def _is_turned(image: PillowImage.Image) -> bool:
    """Whether showing the image upright swaps its sides."""
    return image.format not in _TURNED_BY_PILLOW and _orientation(image) in (5, 6, 7, 8)


def _orientation(image: PillowImage.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1


def _render(image: PillowImage.Image, part: Part, rendering: Rendering) -> types.Image:
    if part.pieces > 1:
        return _render_band(image, part, rendering)
    fit = fit_image(part.width_px, part.height_px, rendering)
    turned = (part.width_px, part.height_px) != image.size
    wanted = (fit.height_px, fit.width_px) if turned else (fit.width_px, fit.height_px)
    if image.format == "JPEG":
        image.draft(None, wanted)  # a JPEG decodes at an eighth of its size for an eighth of the memory
    image.load()
    pixels = image
    shrink = min(pixels.width // wanted[0], pixels.height // wanted[1])
    if shrink > 1 and image.mode in _REDUCIBLE:
        pixels = pixels.reduce(shrink)
        pixels.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return to_content(flatten(_upright(image, pixels)), fit, rendering)


def _render_band(image: PillowImage.Image, part: Part, rendering: Rendering) -> types.Image:
    """One of the bands of an image too big for one request, from its full size."""
    image.load()
    pixels = _upright(image, image)
    top, bottom = cut_height(pixels.height, part.piece, part.pieces)
    band = pixels.crop((0, top, pixels.width, bottom))
    return to_content(flatten(band), fit_image(band.width, band.height, rendering), rendering)


def _upright(image: PillowImage.Image, pixels: PillowImage.Image) -> PillowImage.Image:
    """Pixels of the image turned as the camera or scanner noted."""
    orientation = _orientation(image)
    if orientation in _TURNS and image.format not in _TURNED_BY_PILLOW:
        return pixels.transpose(_TURNS[orientation])
    return pixels


def _problem(source: Source, index: int, error: BaseException) -> Problem:
    if isinstance(error, SourceError):
        return Problem("reading", error.code, error.message, index)
    if isinstance(error, MemoryError):
        return Problem(
            "reading", TooLarge.code, f"{source.name}: frame {index + 1} needs more memory than a worker may use", index
        )
    return Problem("reading", Unreadable.code, f"{source.name}: frame {index + 1} is damaged: {error}", index)
