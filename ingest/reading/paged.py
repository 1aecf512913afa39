"""Documents made of pages, by MuPDF: PDF, XPS, EPUB, SVG; and Office files, HTML and text, which it lays out as pages.

The only module that knows PyMuPDF. All boxes are in points of the page as displayed: crop box, rotation applied,
origin top left.
"""

from __future__ import annotations

import math
import re
import stringprep
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pymupdf
from PIL import Image as PillowImage
from pymupdf import mupdf

from ingest import types
from ingest.config import ReadingSettings
from ingest.errors import Encrypted, SourceError, TooLarge, Unreadable
from ingest.reading import Probed, pdfium
from ingest.reading.bands import Band, cut_page
from ingest.reading.book import LETTER_PT, Book
from ingest.reading.containers.message import MEDIA_TYPES as MESSAGE_TYPES
from ingest.reading.containers.message import read_message
from ingest.reading.imaging import fit_page, to_content
from ingest.reading.layout import layout_text
from ingest.reading.markup import read_html, read_text
from ingest.reading.office import MEDIA_TYPES as OFFICE_TYPES
from ingest.reading.office import read_office
from ingest.reading.policy import PageInk, Shape, choose_mode, has_trustworthy_text
from ingest.types import Content, Document, Loaded, Part, Problem, Rendering, Source, TextStats, Word

pymupdf.TOOLS.mupdf_display_errors(False)
pymupdf.TOOLS.mupdf_display_warnings(False)

_NATIVE = {
    "application/pdf": "pdf",
    "application/vnd.ms-xpsdocument": "xps",
    "application/epub+zip": "epub",
    "image/svg+xml": "svg",
}
_HANDED_OVER = ("application/pdf",)  # kinds of file that services read themselves
_FONT_PT = 11.0  # of documents that have no pages of their own

_TEXT_FLAGS = (
    pymupdf.TEXT_PRESERVE_WHITESPACE
    | pymupdf.TEXT_MEDIABOX_CLIP
    | pymupdf.TEXT_PRESERVE_IMAGES
    | pymupdf.TEXT_COLLECT_VECTORS
)
_PICTURE, _DRAWING = 1, 3  # types of a block, besides 0 for text
_MAX_SIDE_PT = 1e6
_MAX_TITLE_CHARS = 300


class PagedExtractor:
    """Reads documents of pages with MuPDF."""

    media_types = (
        *_NATIVE,
        *OFFICE_TYPES,
        *MESSAGE_TYPES,
        "text/html",
        "text/plain",
        "text/markdown",
        "text/csv",
        "application/json",
        "application/xml",
    )

    def __init__(self) -> None:
        self._last: _Opened | None = None

    def open(self, source: Source, settings: ReadingSettings) -> Document:
        """All pages probed. Raises Unreadable, Encrypted or TooLarge when there is no page to be had."""
        document = self.survey(source, settings)
        probed = tuple(self.probe(document, range(len(document.parts)), settings))
        problems = tuple(problem for each in probed for problem in each.problems)
        return replace(document, parts=tuple(each.part for each in probed), problems=document.problems + problems)

    def survey(self, source: Source, settings: ReadingSettings) -> Document:
        """Number of pages, title and outline."""
        opened = self._open(source, settings)
        pages = opened.count_pages()
        if pages > settings.max_pages:
            raise TooLarge(
                f"{source.name} has {pages:,} pages, more than the limit of {settings.max_pages:,}: raise max_pages"
            )
        sections = opened.sections()
        refusal = _why_not_native(opened, pages, settings)
        is_native = settings.documents == "native" and source.media_type in _HANDED_OVER and refusal is None
        mode: types.PageMode = "native" if is_native else "image"
        parts = tuple(Part(index, "page", mode, section=sections.get(index)) for index in range(pages))
        problems = () if refusal is None else (Problem("reading", "not_native", refusal),)
        return Document(source, parts, opened.title(), problems, opened.repairs())

    def probe(self, document: Document, indices: Sequence[int], settings: ReadingSettings) -> Iterator[Probed]:
        """Size, rotation, text and mode of pages. Nothing is rendered."""
        opened = self._open(document.source, settings)
        for index in indices:
            part = document.parts[index]
            try:
                yield _probe(opened, part, settings)
            except Exception as error:
                yield Probed(_probe_again(opened, part, error))

    def load(
        self, document: Document, parts: Sequence[Part], rendering: Rendering, settings: ReadingSettings
    ) -> Iterator[Loaded]:
        """Laid-out text, or JPEG within the pixel budget, or both, by the mode of each part; and its words.

        Of parts whose mode is native the first brings the file, and the others nothing.
        """
        opened = self._open(document.source, settings)
        bearer = next((part for part in parts if part.mode == "native"), None)
        for part in parts:
            try:
                if part.mode == "native":
                    yield _load_native(opened, part, len(document.parts), part is bearer)
                else:
                    yield _load(opened, part, rendering)
            except Exception as error:
                yield _load_again(opened, part, rendering, error)

    def _open(self, source: Source, settings: ReadingSettings) -> _Opened:
        """The file, kept open until another one is asked for: consecutive calls mostly want the same."""
        passwords = tuple(password.get_secret_value() for password in settings.passwords)
        key = (source.path, source.sha256, source.media_type, passwords)
        if self._last is None or self._last.key != key:
            self.close()
            self._last = _Opened(key, _unlock(_open_file(source), source, passwords), source, passwords)
        return self._last

    def close(self) -> None:
        """Let go of the file kept open."""
        if self._last is not None:
            self._last.document.close()
            self._last = None
            pymupdf.TOOLS.store_shrink(100)


EXTRACTOR = PagedExtractor()


@dataclass(frozen=True, slots=True)
class _Opened:
    key: tuple[object, ...]
    document: pymupdf.Document
    source: Source
    passwords: tuple[str, ...]

    @property
    def is_laid_out(self) -> bool:
        """Whether the pages are of our own making: their rules then only repeat what the text says."""
        return self.source.media_type not in _NATIVE

    def count_pages(self) -> int:
        try:
            pages = int(self.document.page_count)
        except Exception as error:
            raise _damaged(self.source, error) from error
        if pages < 1:
            raise Unreadable(f"{self.source.name} has no pages: it is damaged or cut off; export or download it again")
        return pages

    def page(self, index: int) -> pymupdf.Page:
        pymupdf.TOOLS.reset_mupdf_warnings()
        page: pymupdf.Page = self.document.load_page(index)
        return page

    def repairs(self) -> tuple[Problem, ...]:
        """A note when the file is damaged and its objects had to be searched for: some of them may be lost."""
        if not getattr(self.document, "is_repaired", False):
            return ()
        message = f"{self.source.name} is damaged and was repaired while it was read: pages or text may be missing"
        return (Problem("reading", "repaired", message),)

    def title(self) -> str | None:
        try:
            title = str((self.document.metadata or {}).get("title") or "")
        # MuPDF's binding raises errors of any class on a damaged file; without its title it can still be read.
        except Exception:
            return None
        return _one_line(title) or None

    def sections(self) -> dict[int, str]:
        """The first heading of the outline that points to each page."""
        sections: dict[int, str] = {}
        try:
            outline = self.document.get_toc(simple=True)
        # As above: a damaged outline costs its headings, never the pages.
        except Exception:
            return sections
        for _level, heading, number in outline:
            if number > 0 and _one_line(heading):
                sections.setdefault(number - 1, _one_line(heading))
        return sections


def _one_line(text: str) -> str:
    printable = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in text)
    return re.sub(r"\s+", " ", printable).strip()[:_MAX_TITLE_CHARS]


def _read_book(source: Source) -> Book:
    if source.media_type in OFFICE_TYPES:
        return read_office(source)
    return read_message(source) if source.media_type in MESSAGE_TYPES else read_text(source)


def _open_file(source: Source) -> pymupdf.Document:
    try:
        kind = _NATIVE.get(source.media_type)
        if kind is None and source.media_type != "text/html":
            book = _read_book(source)
            document = pymupdf.open(stream=book.to_epub(), filetype="epub")
            document.layout(width=book.width_pt, height=book.height_pt, fontsize=book.font_pt)
        elif kind is None:
            document = pymupdf.open(stream=read_html(source), filetype="html")
            document.layout(width=LETTER_PT[0], height=LETTER_PT[1], fontsize=_FONT_PT)
        elif source.path.name.isprintable():
            document = pymupdf.open(str(source.path), filetype=kind)
        else:
            document = pymupdf.open(stream=source.path.read_bytes(), filetype=kind)
        if kind == "epub":
            document.layout(width=LETTER_PT[0], height=LETTER_PT[1], fontsize=_FONT_PT)
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise Unreadable(f"{source.name} has vanished: {source.path} no longer exists") from error
    except Exception as error:
        raise _damaged(source, error) from error
    return document


def _damaged(source: Source, error: BaseException) -> SourceError:
    if _is_memory(error):
        return TooLarge(f"{source.name} needs more memory than a worker may use: raise worker_memory_bytes")
    return Unreadable(
        f"{source.name} cannot be opened: it is damaged or cut off; export or download it again ({_reason(error)})"
    )


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or ("malloc" in str(error) and "failed" in str(error))


def _reason(error: BaseException) -> str:
    text = re.sub(r"^code=\d+:\s*", "", _one_line(str(error)))
    return re.sub(r"'[^']*/[^']*'", "the file", text) or type(error).__name__


def _problem(source: Source, index: int, error: BaseException) -> Problem:
    if isinstance(error, SourceError):
        is_told = source.name in error.message
        message = error.message if is_told else f"{source.name}: page {index + 1} cannot be used: {error.message}"
        return Problem("reading", error.code, message, index)
    if _is_memory(error):
        message = f"{source.name}: page {index + 1} needs more memory than a worker may use: raise worker_memory_bytes"
        return Problem("reading", TooLarge.code, message, index)
    return Problem("reading", Unreadable.code, f"{source.name}: page {index + 1} is damaged: {_reason(error)}", index)


def _unlock(document: pymupdf.Document, source: Source, passwords: Sequence[str]) -> pymupdf.Document:
    if not document.needs_pass:
        return document
    for password in passwords:
        if any(document.authenticate(variant) for variant in _variants(password)):
            return document
    document.close()
    if passwords:
        raise Encrypted(
            f"{source.name} is encrypted and none of the {len(passwords)} passwords fits: give its own with --password"
        )
    raise Encrypted(f"{source.name} is encrypted: give its password with --password")


def _variants(password: str) -> list[str]:
    """A password as typed, composed, and prepared as PDF 2.0 wants it (RFC 4013): writers differ."""
    return list(dict.fromkeys((password, unicodedata.normalize("NFC", password), _saslprep(password))))


def _saslprep(text: str) -> str:
    kept = (" " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one))
    return unicodedata.normalize("NFKC", "".join(kept))


def _read(page: pymupdf.Page) -> PageInk:
    """Words, pictures and drawings of a page, widgets and annotations included, in one pass over its content."""
    fz_page = page.this.super() if isinstance(page.this, mupdf.PdfPage) else page.this
    bounds = mupdf.fz_bound_page(fz_page)
    width, height = bounds.x1 - bounds.x0, bounds.y1 - bounds.y0
    if not (math.isfinite(width * height) and 0 < width <= _MAX_SIDE_PT and 0 < height <= _MAX_SIDE_PT):
        raise Unreadable(f"its size is {width:g} by {height:g} points; export the file again")
    structured = mupdf.FzStextPage(bounds)
    device = mupdf.fz_new_stext_device(structured, mupdf.FzStextOptions(_TEXT_FLAGS))
    mupdf.fz_run_page(fz_page, device, mupdf.FzMatrix(1, 0, 0, 1, 0, 0), mupdf.FzCookie())
    mupdf.fz_close_device(device)
    text_page = pymupdf.TextPage(structured)
    left, top = bounds.x0, bounds.y0
    words = [
        Word(text if text.isprintable() else _printable(text), (x0 - left, y0 - top, x1 - left, y1 - top))
        for x0, y0, x1, y1, text, _block, _line, _number in text_page.extractWORDS()
        if not text.isspace()
    ]
    pictures: list[types.BBox] = []
    shapes: list[Shape] = []
    for x0, y0, x1, y1, label, _number, kind in text_page.extractBLOCKS():
        box = (x0 - left, y0 - top, x1 - left, y1 - top)
        if kind == _PICTURE:
            pictures.append(box)
        elif kind == _DRAWING:
            shapes.append(Shape(box, "is-rect: true" in label, "#ffffff" in label))
    return PageInk(width, height, words, pictures, shapes)


def _printable(text: str) -> str:
    """A word without control characters and halves of characters, which no request can carry."""
    return "".join("\ufffd" if unicodedata.category(one) in ("Cc", "Cs") else one for one in text)


def _probe(opened: _Opened, part: Part, settings: ReadingSettings) -> Probed:
    page = opened.page(part.index)
    ink = _read(page)
    if opened.is_laid_out:
        ink = replace(ink, shapes=())
    mode = choose_mode(ink, settings.pages)
    if opened.is_laid_out and settings.pages == "auto" and mode == "image" and ink.words:
        mode = "both"  # its text is the file's own, whatever it looks like
    if part.mode == "native":
        mode = "native"
    layer = TextStats.of(layout_text(ink.words)) if ink.words else TextStats()
    text = TextStats() if mode == "image" else layer
    unsent = layer if mode == "image" and (ink.words or ink.is_blank) else None
    problems: tuple[Problem, ...] = ()
    if mode == "text" and not ink.words and not ink.is_blank:
        message = f"page {part.number} has no text layer, and the setting pages=text sends no image of it"
        problems = (Problem("reading", "no_text_layer", message, part.index),)
    probed = replace(
        part,
        mode=mode,
        width_pt=ink.width_pt,
        height_pt=ink.height_pt,
        rotation=int(page.rotation),
        text=text,
        unsent=unsent,
    )
    return Probed(probed, problems)


def _why_not_native(opened: _Opened, pages: int, settings: ReadingSettings) -> str | None:
    """Why a file that is wanted as it is goes as pages all the same; None when it does not, or was not wanted so."""
    source = opened.source
    if settings.documents != "native" or source.media_type not in _HANDED_OVER:
        return None
    if pages > settings.native_max_pages:
        how = f"it has {pages:,} pages, and at most {settings.native_max_pages:,} are handed over"
    elif source.size_bytes > settings.native_max_bytes:
        how = f"it has {source.size_bytes:,} bytes, and at most {settings.native_max_bytes:,} are handed over"
    elif opened.document.needs_pass:
        how = "it needs a password, which the service cannot be given"
    else:
        return None
    return f"{source.name} was sent as pages, not as it is: {how}"


def _load_native(opened: _Opened, part: Part, pages: int, is_bearer: bool) -> Loaded:
    """The whole file, or nothing where another part brings it; and the words of the page for grounding."""
    words = tuple(_read(opened.page(part.index)).words)
    if not is_bearer:
        return Loaded(part, (), words)
    source = opened.source
    name = f"document.{_NATIVE[source.media_type]}"
    return Loaded(part, (types.File(source.path.read_bytes(), source.media_type, name, pages),), words)


def _load(opened: _Opened, part: Part, rendering: Rendering) -> Loaded:
    page = opened.page(part.index)
    ink = _read(page)
    band = Band(tuple(ink.words), 0.0, ink.height_pt)
    if part.pieces > 1:
        band = cut_page(ink.words if part.mode != "image" else (), ink.height_pt, part.pieces)[part.piece]
    contents: list[Content] = []
    if part.mode != "image":
        contents.append(types.Text(layout_text(band.words)))
    if part.mode != "text":
        contents.append(_render(page, ink, band, rendering))
    # Grounding wants the whole page whatever the piece.
    words = tuple(ink.words) if part.mode != "image" or has_trustworthy_text(ink) else ()
    return Loaded(part, tuple(contents), words)


def _probe_again(opened: _Opened, part: Part, error: Exception) -> Part:
    """A page that MuPDF cannot read, as image when the second engine can."""
    if opened.source.media_type == "application/pdf" and not isinstance(error, MemoryError):
        size = pdfium.measure_page(opened.source, part.index, opened.passwords)
        if size is not None:
            return replace(part, mode="image", width_pt=size[0], height_pt=size[1])
    return replace(part, error=_problem(opened.source, part.index, error))


def _load_again(opened: _Opened, part: Part, rendering: Rendering, error: Exception) -> Loaded:
    if opened.source.media_type == "application/pdf" and part.mode == "image" and not isinstance(error, MemoryError):
        image = pdfium.render_page(opened.source, part.index, opened.passwords, rendering)
        if image is not None:
            return Loaded(part, (image,))
    return Loaded(part, (), error=_problem(opened.source, part.index, error))


def _render(page: pymupdf.Page, ink: PageInk, band: Band, rendering: Rendering) -> types.Image:
    height_pt = band.bottom - band.top
    fit = fit_page(ink.width_pt, height_pt, rendering)
    zoom = pymupdf.Matrix(fit.width_px / ink.width_pt, fit.height_px / height_pt)
    left, top = page.rect.x0, page.rect.y0
    is_whole = height_pt >= ink.height_pt
    clip = None if is_whole else pymupdf.Rect(left, top + band.top, left + ink.width_pt, top + band.bottom)
    pixmap = page.get_pixmap(matrix=zoom, colorspace=pymupdf.csRGB, alpha=False, clip=clip)
    image = PillowImage.frombuffer(
        "RGB", (pixmap.width, pixmap.height), pixmap.samples_mv, "raw", "RGB", pixmap.stride, 1
    )
    return to_content(image, fit, rendering)
