"""Office Open XML as chapters of HTML, which MuPDF then lays out as pages.

MuPDF opens these files too, but drops the structure that extraction lives on: table cells come one per line, slides
run into each other, dates show as serial numbers. Here tables stay tables, every slide and sheet begins a page, and
cells read as in the program they were made with.
"""

from __future__ import annotations

from ingest.errors import UnsupportedMedia
from ingest.reading.book import Book
from ingest.reading.office.package import Package
from ingest.reading.office.sheets import read_sheets
from ingest.reading.office.slides import read_slides
from ingest.reading.office.word import read_word
from ingest.types import Source

_OPENXML = "application/vnd.openxmlformats-officedocument."
_READERS = {
    f"{_OPENXML}wordprocessingml.document": read_word,
    f"{_OPENXML}presentationml.presentation": read_slides,
    f"{_OPENXML}spreadsheetml.sheet": read_sheets,
}
MEDIA_TYPES = tuple(_READERS)


def read_office(source: Source) -> Book:
    """The content of an Office file as a book.

    Raises Unreadable when the file is damaged, TooLarge when it unpacks to more than a sane document would.
    """
    reader = _READERS.get(source.media_type)
    if reader is None:
        raise UnsupportedMedia(f"{source.name} is {source.media_type}, which is no Office Open XML document")
    with Package(source) as package:
        return reader(package)
