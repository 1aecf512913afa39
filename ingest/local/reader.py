"""Pages from what a request carries: laid-out text as it is, images by OCR on this machine.

Images are decoded and read in a process of their own (`eyes.py`); nothing is downloaded and no connection is opened. An
image that was read once is not read again: results are kept by the SHA-256 of the bytes.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ingest.local.eyes import EYES
from ingest.local.page import Line, Page, Segment, Token, turn

_CACHED_IMAGES = 512
_WORD = re.compile(r"\S+")


def read_text(number: int, text: str, is_context: bool = False) -> Page:
    """A page of laid-out text: one line per printed line, segments parted by two spaces or more."""
    rows = [row.expandtabs(4).rstrip() for row in text.splitlines()]
    gap = _segment_gap(rows)
    lines: list[Line] = []
    for y, row in enumerate(rows):
        tokens = [Token(m.group(), m.start(), y, m.end(), y + 1) for m in _WORD.finditer(row)]
        if tokens:
            lines.append(Line.of(_split_segments(tokens, gap)))
    width = max((len(row) for row in rows), default=0)
    return Page(number, float(width), float(len(rows)), tuple(lines), "text", is_context)


def _segment_gap(rows: Iterable[str]) -> float:
    """Columns of white space that part two segments: 2, or 3 on a page whose words themselves stand two apart."""
    gaps = [len(m.group()) for row in rows for m in re.finditer(r"(?<=\S) +(?=\S)", row)]
    single, double = gaps.count(1), gaps.count(2)
    return 3.0 if double > 5 and double > 4 * single else 2.0


def _split_segments(tokens: Sequence[Token], gap: float) -> list[Segment]:
    runs: list[list[Token]] = [[tokens[0]]]
    for token in tokens[1:]:
        if token.x0 - runs[-1][-1].x1 >= gap:
            runs.append([token])
        else:
            runs[-1].append(token)
    return [Segment.of(run) for run in runs]


def read_image(number: int, data: bytes, is_context: bool = False) -> Page:
    """A page read from an encoded image (PNG, JPEG, WebP, GIF, TIFF, BMP).

    Raises Unreadable when the bytes cannot be decoded as an image, or reading them fails.
    """
    page = _CACHE.get(data)
    return replace(page, number=number, is_context=is_context)


def read_cells(data: bytes, grid: tuple[int, int], count: int) -> list[Page]:
    """The frames of a contact sheet, read one by one: the first `count` cells of (columns, rows), line by line.

    The time drawn above a frame is left out of its words.

    Raises Unreadable when the bytes cannot be decoded as an image, or reading them fails.
    """
    return EYES.read("cells", data, columns=grid[0], rows=grid[1], count=count)


def read_frame(data: bytes) -> Page:
    """A frame of a video, with number 0. One that looks the same as an earlier one is not read again.

    Raises Unreadable when the bytes cannot be decoded as an image, or reading them fails.
    """
    (page,) = EYES.read("frame", data)
    return page


def page_words(page: Page) -> list[tuple[float, float, float, float, str]]:
    """Words of a page with boxes (x0, y0, x1, y1) as fractions 0..1 of the image as it was sent, top left origin."""
    return [(*_as_sent(page, token), token.text) for token in page.tokens()]


def _as_sent(page: Page, token: Token) -> tuple[float, float, float, float]:
    corners = [(x, y) for x in (token.x0, token.x1) for y in (token.y0, token.y1)]
    if page.skew_rad:
        # A word is thin: turning its middle line back keeps the box tight.
        middle = (token.y0 + token.y1) / 2
        half = (token.y1 - token.y0) / 2
        ends = [turn(x, middle, page.width / 2, page.height / 2, page.skew_rad) for x in (token.x0, token.x1)]
        corners = [(x, y + shift) for x, y in ends for shift in (-half, half)]
    fractions = [(x / max(page.width, 1.0), y / max(page.height, 1.0)) for x, y in corners]
    turned = [_UNTURN[page.rotation_deg](x, y) for x, y in fractions]
    xs = [min(max(x, 0.0), 1.0) for x, _ in turned]
    ys = [min(max(y, 0.0), 1.0) for _, y in turned]
    return (min(xs), min(ys), max(xs), max(ys))


_UNTURN = {
    0: lambda x, y: (x, y),
    90: lambda x, y: (y, 1 - x),
    180: lambda x, y: (1 - x, 1 - y),
    270: lambda x, y: (1 - y, x),
}


class _PageCache:
    """Pages read by OCR, the least recently used dropped first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, data: bytes) -> Page:
        """The page in this image, with number 0; raises Unreadable."""
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        (page,) = EYES.read("image", data)
        with self._lock:
            self._pages[key] = page
            while len(self._pages) > self._size:
                self._pages.popitem(last=False)
        return page


_CACHE = _PageCache(_CACHED_IMAGES)
