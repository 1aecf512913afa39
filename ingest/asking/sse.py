"""Server-sent events, from bytes as they come: a strict decoder of the event stream format of the HTML standard.

Written out here rather than taken from a library: the ones for httpx decode with replacement characters, so that a
damaged stream looks whole, and hold no bound on an event that never ends.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest.errors import Disconnected

# One event holds at most a whole answer (65,536 tokens, some 300 kB) or the words of the local engine's pages.
_MAX_EVENT_CHARS = 64_000_000


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its type ("" when none was named) and its data lines joined by line feeds."""

    name: str
    data: str


@dataclass(slots=True)
class SseDecoder:
    """Bytes in pieces of any size to events; comments and fields without meaning here are passed over."""

    _decode: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))
    _pieces: list[str] = field(default_factory=list)
    _held_chars: int = 0
    _after_cr: bool = False
    _is_first: bool = True
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, block: bytes) -> Iterator[SseEvent]:
        """The events that `block` completes.

        Raises Disconnected for bytes that are not UTF-8, and for an event beyond all bounds.
        """
        try:
            text = self._decode.decode(block)
        except UnicodeDecodeError as error:
            raise Disconnected("the stream was damaged on its way: it is not UTF-8") from error
        if self._is_first and text:
            text, self._is_first = text.removeprefix("\ufeff"), False
        for line in self._lines(text):
            event = self._take(line)
            if event is not None:
                yield event

    def _lines(self, text: str) -> Iterator[str]:
        """Whole lines: they end with CR, LF or both, which may arrive apart."""
        if self._after_cr and text:
            text, self._after_cr = text.removeprefix("\n"), False
        if text.endswith("\r"):
            self._after_cr = True
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *whole, rest = text.split("\n")
        for line in whole:
            yield "".join((*self._pieces, line))
            self._pieces = []
        if rest:
            self._pieces.append(rest)
            self._hold(len(rest))

    def _hold(self, chars: int) -> None:
        self._held_chars += chars
        if self._held_chars > _MAX_EVENT_CHARS:
            raise Disconnected(f"the stream holds an event of more than {_MAX_EVENT_CHARS} characters")

    def _take(self, line: str) -> SseEvent | None:
        if not line:
            event = SseEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._held_chars = "", [], 0
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._hold(len(value))
            self._data.append(value)
        elif name == "event":
            self._name = value
        return None
