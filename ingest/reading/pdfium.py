"""A second engine for PDF pages that the first one cannot read. Needs the extra `pypdfium`; without it there is none.

It only looks at single pages of files that MuPDF has opened: whether a file is a document at all has one judge. PDFium
opens files that are cut off or fuzzed and shows what it can, be it empty pages: taken for documents, they would seem to
be read whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image as PillowImage

from ingest.errors import Unreadable
from ingest.reading.imaging import fit_page, to_content
from ingest.types import Image, Rendering, Source

_FAILURES = (Unreadable, RuntimeError, ValueError, OSError, IndexError, ArithmeticError)


def measure_page(source: Source, index: int, passwords: Sequence[str]) -> tuple[float, float] | None:
    """Width and height of a page as displayed, in points; None when this engine cannot read it either."""
    try:
        with _page(source, index, passwords) as page:
            width, height = page.get_size()
    except _FAILURES:
        return None
    return (width, height) if 0 < width <= 1e6 and 0 < height <= 1e6 else None


def render_page(source: Source, index: int, passwords: Sequence[str], rendering: Rendering) -> Image | None:
    """A page as JPEG within the pixel budget; None when this engine cannot read it either."""
    try:
        with _page(source, index, passwords) as page:
            width, height = page.get_size()
            fit = fit_page(width, height, rendering)
            image: PillowImage.Image = page.render(scale=fit.width_px / width).to_pil().convert("RGB")
            return to_content(image, fit, rendering)
    except _FAILURES:
        return None


@contextmanager
def _page(source: Source, index: int, passwords: Sequence[str]) -> Iterator[Any]:
    document = _open(source, passwords)
    try:
        yield document[index]
    finally:
        document.close()


def _open(source: Source, passwords: Sequence[str]) -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise Unreadable(f"{source.name}: there is no second engine; ingest[pypdfium] brings it") from error
    for password in (None, *passwords):
        try:
            return pypdfium2.PdfDocument(source.path, password=password)
        except pypdfium2.PdfiumError:
            continue
    raise Unreadable(f"{source.name} cannot be opened by the second engine either")
