"""Files without pages of their own as HTML that MuPDF can lay out: text, Markdown, HTML."""

from __future__ import annotations

import codecs
import html
import re
from dataclasses import dataclass

import charset_normalizer

from ingest.types import Source

_SHEET_WIDTH_PT, _SHEET_HEIGHT_PT = 612.0, 792.0  # US letter
_TEXT_FONT_PT, _FONT_PT = 9.0, 11.0
_MARGINS_PT = 72.0
_MONOSPACE_EM = 0.6  # advance of a character of the built-in monospaced font
_MAX_COLUMNS = 240


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML in UTF-8 and the sheet it is laid out on, in points."""

    html: bytes
    width_pt: float = _SHEET_WIDTH_PT
    height_pt: float = _SHEET_HEIGHT_PT
    font_pt: float = _FONT_PT


def to_markup(source: Source) -> Markup:
    """The content of a file as HTML."""
    text = decode(source.path.read_bytes())
    return Markup(_as_utf8_html(text).encode()) if source.media_type == "text/html" else _preformatted(text)


def _preformatted(text: str) -> Markup:
    lines = text.expandtabs(8).splitlines()
    columns = min(_MAX_COLUMNS, max((len(line) for line in lines), default=0))
    width = max(_SHEET_WIDTH_PT, columns * _MONOSPACE_EM * _TEXT_FONT_PT + _MARGINS_PT)
    body = html.escape("\n".join(lines), quote=False)
    style = f"white-space:pre-wrap;font-family:monospace;font-size:{_TEXT_FONT_PT:g}pt;margin:0"
    return Markup(f'<html><body><pre style="{style}">{body}</pre></body></html>'.encode(), width, font_pt=_TEXT_FONT_PT)


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


def _as_utf8_html(text: str) -> str:
    """HTML whose own statement of an encoding is gone, since MuPDF would believe it."""
    text = re.sub(r"<\?xml[^>]*\?>", "", text, count=1)
    return re.sub(r"<meta[^>]+charset[^>]*>", "", text, flags=re.IGNORECASE)
