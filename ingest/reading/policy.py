"""How a page is sent: as image, as text, or as both. Pure functions of what stands on the page; no library."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest.types import BBox, PageMode, PagePolicy, Word

_MAX_BAD_SHARE = 0.15
"""Share of characters without a meaning up to which a text layer is believed (bullets of symbol fonts are such)."""

_PICTURE_SHARE = 0.03
"""Share of the page that pictures must cover to be more than decoration: a letterhead's logo stays below."""

_SCAN_SHARE = 0.5
"""Share of the page that one picture covers when the page is a scan, or a slide on a full background."""

_SCAN_MIN_WORDS = 12
"""Fewer words over a scan are a stamp, a page number or a footer, not its text."""

_MIN_TEXT_SHARE = 0.05
"""Share of the inked cells of a page that text must cover; below, the writing is drawn or painted."""

_MIN_CURVES = 40
"""Drawn shapes, neither rules nor boxes, that make a chart or a plan rather than decoration."""

_MIN_RULES = 2
"""Rules in each direction that make a table."""

_MIN_BANDS = 6
"""Filled boxes that make a table of coloured rows or cells."""

_MUCH_TEXT_CHARS = 400
"""Legible characters that are a page's text whatever else is painted on it."""

_CELLS = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """A drawn path: where it stands, whether it is a rectangle or straight rule, and whether it is drawn in white."""

    bbox: BBox
    is_box: bool
    is_white: bool


@dataclass(frozen=True, slots=True)
class PageInk:
    """Everything on a page, in points of the displayed page."""

    width_pt: float
    height_pt: float
    words: Sequence[Word]
    pictures: Sequence[BBox]
    shapes: Sequence[Shape]

    @property
    def is_blank(self) -> bool:
        """Whether nothing is printed on the page."""
        return not self.words and not self.pictures and all(shape.is_white for shape in self.shapes)


def choose_mode(ink: PageInk, policy: PagePolicy) -> PageMode:
    """The mode of a page under a policy; `auto` decides by what stands on it. A blank page is an empty text.

    `both` falls back to the image where there is no text; `text` stays, since the user wants no image to be sent.
    """
    if policy == "both" and not ink.words:
        return "image"
    if policy != "auto":
        return policy
    if ink.is_blank:
        return "text"
    if not has_trustworthy_text(ink):
        return "image"
    return "both" if has_graphics(ink) else "text"


def has_trustworthy_text(ink: PageInk) -> bool:
    """Whether the text layer holds the writing of the page: enough of it, legible, and covering what is inked."""
    text = "".join(word.text for word in ink.words)
    if not text or _bad_share(text) > _MAX_BAD_SHARE:
        return False
    largest = max((_share(box, ink) for box in ink.pictures), default=0.0)
    if largest >= _SCAN_SHARE and len(ink.words) < _SCAN_MIN_WORDS and len(text) < 6 * _SCAN_MIN_WORDS:
        return False
    if len(text) >= _MUCH_TEXT_CHARS:
        return True
    inked = _cells(ink, (*ink.pictures, *(shape.bbox for shape in ink.shapes if _is_ink(shape, ink))))
    written = _cells(ink, (word.bbox for word in ink.words))
    return len(written) >= _MIN_TEXT_SHARE * len(inked | written)


def has_graphics(ink: PageInk) -> bool:
    """Whether the page shows what its text cannot say: pictures, ruled tables, charts and drawings."""
    if sum(_share(box, ink) for box in ink.pictures) >= _PICTURE_SHARE:
        return True
    inked = [shape for shape in ink.shapes if _is_ink(shape, ink)]
    if sum(not shape.is_box for shape in inked) >= _MIN_CURVES:
        return True
    return _has_table(inked, ink)


def _has_table(shapes: Iterable[Shape], ink: PageInk) -> bool:
    rows, columns, bands = set[int](), set[int](), 0
    for shape in shapes:
        x0, y0, x1, y1 = shape.bbox
        width, height = x1 - x0, y1 - y0
        if width > 20 and height > 6 and shape.is_box:
            bands += 1
            rows.update((round(y0), round(y1)))
            columns.update((round(x0), round(x1)))
        elif height <= 3 and width > 0.05 * ink.width_pt:
            rows.add(round(y0))
        elif width <= 3 and height > 8:
            columns.add(round(x0))
    ruled = len(rows) > _MIN_RULES and len(columns) > _MIN_RULES
    return ruled or bands >= _MIN_BANDS


def _is_ink(shape: Shape, ink: PageInk) -> bool:
    """White paint and the page's own background do not show."""
    return not shape.is_white and _share(shape.bbox, ink) < 0.9


def _bad_share(text: str) -> float:
    return sum(_is_bad(character) for character in text if not " " <= character <= "~") / len(text)


def _is_bad(character: str) -> bool:
    return character == "\ufffd" or unicodedata.category(character) in ("Co", "Cn", "Cc", "Cs")


def _share(box: BBox, ink: PageInk) -> float:
    width = max(0.0, min(box[2], ink.width_pt) - max(box[0], 0.0))
    height = max(0.0, min(box[3], ink.height_pt) - max(box[1], 0.0))
    return width * height / max(ink.width_pt * ink.height_pt, 1e-6)


def _cells(ink: PageInk, boxes: Iterable[BBox]) -> set[tuple[int, int]]:
    """Cells of a coarse grid over the page that the boxes touch."""
    across, down = _CELLS / max(ink.width_pt, 1e-6), _CELLS / max(ink.height_pt, 1e-6)
    touched: set[tuple[int, int]] = set()
    for x0, y0, x1, y1 in boxes:
        columns = range(max(0, int(x0 * across)), min(_CELLS - 1, int(x1 * across)) + 1)
        rows = range(max(0, int(y0 * down)), min(_CELLS - 1, int(y1 * down)) + 1)
        if len(columns) * len(rows) == _CELLS * _CELLS:
            return {(column, row) for column in columns for row in rows}
        touched.update((column, row) for column in columns for row in rows)
    return touched
