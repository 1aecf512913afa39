"""Files without pages of their own, for MuPDF to lay out: text of all kinds, and HTML."""

from __future__ import annotations

import codecs
import re

import charset_normalizer

from ingest.reading.book import LETTER_PT, Book, Chapter, escape
from ingest.types import Source

_FONT_PT = 9.0
_MARGINS_PT = 72.0
_MONOSPACE_EM = 0.6  # advance of a character of the built-in monospaced font
_MAX_COLUMNS = 240
_LINES_PER_CHAPTER = 1_000
"""Text comes in blocks of about this many lines, since drawing one page walks over its whole chapter."""


def read_html(source: Source) -> bytes:
    """HTML as UTF-8, whatever it was written in."""
    text = re.sub(r"<\?xml[^>]*\?>", "", decode(source.path.read_bytes()), count=1)
    # MuPDF would believe the statement of an encoding that no longer holds.
    return re.sub(r"<meta[^>]+charset[^>]*>", "", text, flags=re.IGNORECASE).encode()


def read_text(source: Source) -> Book:
    """A file of text as a book."""
    return text_book(decode(source.path.read_bytes()))


def text_book(text: str, title: str = "") -> Book:
    """Text in fixed pitch, on a sheet wide enough for its longest line within reason."""
    lines = text.expandtabs(8).splitlines() or [""]
    columns = min(_MAX_COLUMNS, max(len(line) for line in lines))
    width = max(LETTER_PT[0], columns * _MONOSPACE_EM * _FONT_PT + _MARGINS_PT)
    style = f"white-space:pre-wrap;font-family:monospace;font-size:{_FONT_PT:g}pt;margin:0"
    starts = range(0, len(lines), _LINES_PER_CHAPTER)
    blocks = [escape("\n".join(lines[start : start + _LINES_PER_CHAPTER])) for start in starts]
    chapters = [Chapter("", f'<pre style="{style}">{block}</pre>') for block in blocks]
    return Book(title, chapters, {}, width, LETTER_PT[1], _FONT_PT)


_CHARSET = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]+encoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE
)


def decode(data: bytes) -> str:
    """Text of unknown encoding: byte order mark, UTF-8, what the file declares, then what its bytes look like."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    declared = _CHARSET.search(data[:4096])
    if declared:
        try:
            return data.decode((declared[1] or declared[2]).decode("ascii"), "replace")
        except LookupError:
            pass
    best = charset_normalizer.from_bytes(data[:200_000]).best()
    encoding = best.encoding if best is not None else "cp1252"
    return data.decode(encoding, "replace")
