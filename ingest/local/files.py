"""Documents of a request: PDF to page sizes, and to page images for reading, by PDFium."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from ingest.local.numbers import load_table
from ingest.local.refusal import invalid

_POINTS_PER_INCH = 72
# PDFium serves one caller at a time.
_PDFIUM_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class FilePart:
    """A PDF as it was sent. `page_sizes_px` are width and height of each page as the image the model sees."""

    data: bytes
    name: str
    page_sizes_px: tuple[tuple[int, int], ...]


def inspect_pdf(data: bytes, media_type: str, name: str, param: str = "file") -> FilePart:
    """The PDF with its pages' sizes; raises a 400 Refusal for other bytes, other types and locked files."""
    if media_type != "application/pdf":
        raise invalid(param, f"the file is declared as {media_type[:100]!r}; only application/pdf is read")
    if b"%PDF-" not in data[:1024]:
        raise invalid(param, "the file is declared as application/pdf but its bytes are not a PDF")
    pdfium = _load_pdfium(param)
    sizes = []
    try:
        with _PDFIUM_LOCK, pdfium.PdfDocument(data) as document:
            for index in range(len(document)):
                width_pt, height_pt = document.get_page_size(index)
                scale = _scale(width_pt, height_pt)
                sizes.append((max(round(width_pt * scale), 1), max(round(height_pt * scale), 1)))
    except pdfium.PdfiumError as error:
        raise invalid(param, f"the PDF cannot be opened ({error}); it may be damaged or locked") from error
    if not sizes:
        raise invalid(param, "the PDF has no pages")
    return FilePart(data, name, tuple(sizes))


def render_pages(part: FilePart) -> Iterator[bytes]:
    """The pages as PNG images, in order, one in memory at a time. The text layer is not used, as upstream."""
    pdfium = _load_pdfium("file")
    for index in range(len(part.page_sizes_px)):
        with _PDFIUM_LOCK, pdfium.PdfDocument(part.data) as document:
            page = document[index]
            image = page.render(scale=_scale(*page.get_size())).to_pil()
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        yield buffer.getvalue()


def _scale(width_pt: float, height_pt: float) -> float:
    """Pixels per point."""
    rule = load_table("documents")
    scale = rule["page_dpi"] / _POINTS_PER_INCH
    area = width_pt * height_pt * scale * scale
    return scale if area <= rule["max_page_pixels"] else float(scale * (rule["max_page_pixels"] / area) ** 0.5)


def _load_pdfium(param: str) -> ModuleType:
    try:
        import pypdfium2
    except ImportError as error:
        reason = "this engine needs pypdfium2 to read PDF files; run: pip install 'ingest[pypdfium]'"
        raise invalid(param, reason) from error
    return pypdfium2  # type: ignore[no-any-return]
