"""Chapters of HTML bound as an EPUB in memory: each chapter begins a page, its title goes to the outline."""

from __future__ import annotations

import html
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field

LETTER_PT = (612.0, 792.0)

_SHORT_CHARS = 40

_STYLE = (
    "body{font-family:sans-serif;margin:0}table{border-collapse:collapse;margin:4pt 0}"
    "td,th{border:1px solid #999;padding:1pt 6pt;text-align:left;vertical-align:top}"
    "td.s{white-space:nowrap}p{margin:3pt 0}td p{margin:0}h1,h2,h3,h4,h5,h6{margin:6pt 0}"
)


@dataclass(frozen=True, slots=True)
class Chapter:
    """What begins on a new page. An empty `title` makes no entry in the outline."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Book:
    """A document as chapters, with the pictures they show by file name, and its sheet size in points."""

    title: str
    chapters: Sequence[Chapter]
    pictures: dict[str, bytes] = field(default_factory=dict)
    width_pt: float = LETTER_PT[0]
    height_pt: float = LETTER_PT[1]
    font_pt: float = 11.0

    def to_epub(self) -> bytes:
        """The book as an EPUB file."""
        file = io.BytesIO()
        names = [f"c{index}.xhtml" for index in range(len(self.chapters))]
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("mimetype", "application/epub+zip")
            archive.writestr("META-INF/container.xml", _CONTAINER)
            archive.writestr("content.opf", self._manifest(names))
            archive.writestr("toc.ncx", self._outline(names))
            for name, chapter in zip(names, self.chapters, strict=True):
                archive.writestr(name, _page(chapter.body))
            for name, data in self.pictures.items():
                archive.writestr(name, data)
        return file.getvalue()

    def _manifest(self, names: Sequence[str]) -> str:
        items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names)
        order = "".join(f'<itemref idref="{name}"/>' for name in names)
        return (
            '<package xmlns="http://www.idpf.org/2007/opf" version="2.0">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<dc:title>{html.escape(self.title)}</dc:title></metadata>"
            f'<manifest><item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>{items}'
            "</manifest>"
            f'<spine toc="ncx">{order}</spine></package>'
        )

    def _outline(self, names: Sequence[str]) -> str:
        points = "".join(
            f'<navPoint id="n{index}" playOrder="{index}">'
            f"<navLabel><text>{html.escape(chapter.title)}</text></navLabel>"
            f'<content src="{name}"/></navPoint>'
            for index, (name, chapter) in enumerate(zip(names, self.chapters, strict=True))
            if chapter.title
        )
        return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/" version="2005-1"><navMap>{points}</navMap></ncx>'


_CONTAINER = (
    '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def _page(body: str) -> str:
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><head><style>{_STYLE}</style></head><body>{body}</body></html>'


def escape(text: str) -> str:
    """Text for HTML, without the control characters that XML forbids."""
    return html.escape("".join(one for one in text if one >= " " or one in "\t\n"), quote=True)


def to_table(rows: Sequence[Sequence[str]]) -> str:
    """Cells of HTML as a table. Rows are filled up to the longest, since columns are placed by count."""
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        return ""
    lines = ("".join(_cell(cell) for cell in [*row, *[""] * (columns - len(row))]) for row in rows)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(content: str) -> str:
    """Short cells stay on one line, so that a row of the table is a line of the text."""
    return f'<td class="s">{content}</td>' if len(content) <= _SHORT_CHARS else f"<td>{content}</td>"
