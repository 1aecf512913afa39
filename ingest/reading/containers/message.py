"""E-mails, whatever program wrote them: headers and text become a page, attachments documents of their own."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import BinaryIO, cast

from ingest.config import ReadingSettings
from ingest.errors import Unreadable
from ingest.reading import can_extract
from ingest.reading.book import Book
from ingest.reading.containers import Entry
from ingest.reading.markup import text_book
from ingest.types import Source

MEDIA_TYPES = ("message/rfc822", "application/vnd.ms-outlook")

HEADERS = ("From", "To", "Cc", "Date", "Subject")
"""What is shown of the headers, in this order."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in an e-mail. `read` gives its bytes."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """An e-mail: headers by name, the text, what is attached, and whether it breaks off before its end."""

    headers: dict[str, str]
    text: str
    attachments: tuple[Attachment, ...]
    is_cut_off: bool = False


class Messages:
    """Lists the attachments of an e-mail."""

    def entries(self, source: Source, settings: ReadingSettings) -> Iterator[Entry]:
        """What is attached, in its order. Raises Unreadable when the e-mail cannot be taken apart."""
        message = _read(source)
        for attachment in message.attachments:
            yield Entry(attachment.name, _opener(attachment))
        if message.is_cut_off:
            yield Entry("the end", problem="is missing: the e-mail breaks off, and its last part may be incomplete")


CONTAINER = Messages()


def read_message(source: Source) -> Book:
    """An e-mail as pages: headers, names of the attachments, text.

    Raises Unreadable when there is nothing in it, UnsupportedMedia when a package is missing that reads it.
    """
    message = _read(source)
    lines = [f"{name}: {_one_line(message.headers[name])}" for name in HEADERS if message.headers.get(name)]
    if message.attachments:
        lines.append(f"Attachments: {', '.join(_one_line(each.name) for each in message.attachments)}")
    if not lines and not message.text.strip():
        raise Unreadable(f"{source.name} is an empty e-mail: it has neither headers nor text")
    return text_book("\n".join((*lines, "", message.text.strip("\n"))), message.headers.get("Subject", ""))


def _read(source: Source) -> Message:
    named = mimetypes.guess_type(source.name)[0] or ""
    if not named.startswith(("text/", "message/")) and named not in MEDIA_TYPES and can_extract(named):
        # What gateways and scanners leave in the place of a file must not pass for it.
        raise Unreadable(f"{source.name} cannot be opened: it is an e-mail under another name; rename it to .eml")
    try:
        if source.media_type == "message/rfc822":
            from ingest.reading.containers.mail import read_mail

            return read_mail(source)
        from ingest.reading.containers.outlook import read_outlook

        return read_outlook(source)
    except RecursionError as error:
        raise Unreadable(f"{source.name} nests its parts too deeply to be read: it is damaged or malicious") from error


def _opener(attachment: Attachment) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: cast("AbstractContextManager[BinaryIO]", closing(io.BytesIO(attachment.read())))


def _one_line(text: str) -> str:
    return " ".join(text.split())


_BLOCKS = frozenset(
    "address article aside blockquote body center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6"
    " header hr html li main nav ol p pre section table tbody tfoot thead tr ul".split()
)
_SPACED = frozenset("blockquote h1 h2 h3 h4 h5 h6 ol p pre table ul".split())
_UNSEEN = frozenset("head script style template title noscript object svg math".split())


class _TextOf(HTMLParser):
    """Collects the words of HTML, a line for each block and row. Nothing is run, and nothing fetched."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[list[str]] = [[]]
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line where a browser would."""
        if tag in _UNSEEN and tag != "noscript":
            self._unseen.append(tag)
        elif tag == "br":
            self.lines.append([])
        elif tag in _BLOCKS:
            self._begin(tag)
            if tag == "li":
                self.lines[-1].append("- ")
        elif tag in ("td", "th") and self.lines[-1]:
            self.lines[-1].append("   ")

    def _begin(self, tag: str) -> None:
        """Begin a line, behind an empty one where browsers leave room."""
        if self.lines[-1]:
            self.lines.append([])
        if tag in _SPACED and len(self.lines) > 1 and self.lines[-2]:
            self.lines.append([])

    def handle_endtag(self, tag: str) -> None:
        """End what is not shown, and the line of a block."""
        if tag in self._unseen:
            while self._unseen.pop() != tag:
                pass
        elif tag == "body":
            self._unseen.clear()
        elif tag in _BLOCKS:
            self._begin(tag)

    def handle_data(self, data: str) -> None:
        """Words, with blanks as a browser shows them."""
        if not self._unseen and data:
            words = " ".join(data.split())
            if not words and not self.lines[-1]:
                return
            before, after = data[:1].isspace() and self.lines[-1], data[-1:].isspace()
            self.lines[-1].append(f"{' ' if before else ''}{words}{' ' if after and words else ''}")


def html_to_text(html: str) -> str:
    """The words of HTML as lines of plain text."""
    reader = _TextOf()
    reader.feed(html)
    reader.close()
    lines = ["".join(line).strip() for line in reader.lines]
    kept = [line for at, line in enumerate(lines) if line.strip() or (at and lines[at - 1].strip())]
    return "\n".join(kept).strip("\n")
