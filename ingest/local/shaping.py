"""What the answers of every protocol are made of: server-sent events, pieces of text, and our own page words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.local.answering import Answer

ENGINE = "local-ocr-rules"
PIECE_CHARACTERS = 120
# Places kept of a word box, a ten-thousandth of the page: finer than OCR is.
_BOX_DIGITS = 4
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: a JSON object, or a bare word such as `[DONE]`; `name` stands in its `event:` line.

    `is_delta` events bring pieces of the answer; `is_closing` ones say that the stream ended as it should.
    """

    data: Mapping[str, Any] | str
    name: str = ""
    is_delta: bool = False
    is_closing: bool = False

    def encode(self) -> bytes:
        """The event as it goes over the wire."""
        text = self.data if isinstance(self.data, str) else _encode(self.data)
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {text}\n\n".encode()


def pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The text cut into pieces of `size` characters."""
    yield from (text[at : at + size] for at in range(0, len(text), size))


def page_words(answer: Answer) -> dict[str, Any]:
    """The engine's own field: the words read from images, with boxes as fractions of the page. Absent without any."""
    if not answer.page_words:
        return {}
    pages = [
        {**read.place, "words": [[*(round(edge, _BOX_DIGITS) for edge in word[:4]), word[4]] for word in read.words]}
        for read in answer.page_words
    ]
    return {"x_page_words": pages}
