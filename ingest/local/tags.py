"""What a request asks to read: instructions, pages, and a schema written in the prompt.

A prompt may mark its pages: `<document pages="2">`, then for every page `<page number="N">` (with ` context="yes"` for
one sent for understanding only), its text and images, `</page>`, and at the end `</document>`. The tag `<document`
opens a line. Without it each text part and each image of the user's messages is a page of its own. A page may come in
pieces with one number, each between tags of its own. `<document seconds="613.2">` opens a video (see `frames`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.local.contract import Ask, Message, Part, TextPart
from ingest.local.files import FilePart
from ingest.local.frames import SentFrame, read_frames
from ingest.local.images import ImagePart

_TAG = re.compile(r"<(/?)(document|page)\b([^<>]{0,200})>")
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_KNOWN = re.compile(r"^Of the list `([^`\n]{1,400})` the first (\d{1,6}) entries are known", re.MULTILINE)
# A schema begins at an opening brace; a prompt with more of them than this is not searched to its end.
_MAX_BRACES_TRIED = 500


@dataclass(frozen=True, slots=True)
class SentPage:
    """One page as it was sent. `number` counts from 1. A `file` stands for all its pages, the first being `number`."""

    number: int
    text: str
    images: tuple[bytes, ...] = ()
    is_context: bool = False
    file: FilePart | None = None

    @property
    def has_text(self) -> bool:
        """Whether the page brings words of its own, so that none need be read from its image."""
        return any(character.isalnum() for character in self.text)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything the engine needs of a prompt. `schema` is the one written in words, if there is one.

    A request shows pages or the `frames` of a video; `end_s` is the end of the video where the request reaches it.
    `known` is the path of a list of which so many entries are known: only the last of them and the rest are wanted.
    """

    pages: tuple[SentPage, ...]
    instructions: str
    schema: Mapping[str, Any] | None = None
    frames: tuple[SentFrame, ...] = ()
    end_s: float | None = None
    known: tuple[tuple[str, ...], int] | None = None


def read_prompt(ask: Ask) -> Reading:
    """The pages, instructions and written schema of a request; no schema is looked for where one is given as such."""
    system = "\n\n".join(_texts(message for message in ask.messages if message.role in ("system", "developer")))
    parts = [part for message in ask.messages if message.role == "user" for part in message.parts]
    video = read_frames(parts)
    if video is not None:
        schema, before = _written_schema(ask, system, video.before, video.after)
        return Reading((), before, schema, video.frames, video.end_s, _known(video.after))
    marked = _Marked()
    for part in parts:
        marked.take(part)
    if marked.was_inside:
        pages, before, after = marked.finish()
        schema, before = _written_schema(ask, system, before, after)
        return Reading(pages, before, schema, known=_known(after))
    return _read_unmarked(parts, system, has_form=ask.form is not None)


def _known(after: str) -> tuple[tuple[str, ...], int] | None:
    """The list of which the first entries are known, as the words behind the document say it, and how many."""
    match = _KNOWN.search(after)
    return (tuple(match[1].split("/")), int(match[2])) if match else None


def _written_schema(ask: Ask, system: str, before: str, after: str) -> tuple[Mapping[str, Any] | None, str]:
    """The schema written around a document, and the instructions without it; none where one is given as such."""
    if ask.form is not None:
        return None, before.strip()
    schema, before = find_schema(before)
    return find_schema(system)[0] or schema or find_schema(after)[0], before.strip()


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        yield from (part.text for part in message.parts if isinstance(part, TextPart))


def _read_unmarked(parts: Sequence[Part], system: str, *, has_form: bool) -> Reading:
    schema, instructions = (None, system) if has_form else find_schema(system)
    pages: list[SentPage] = []
    for part in parts:
        if isinstance(part, ImagePart):
            pages.append(SentPage(len(pages) + 1, "", (part.data,)))
        if isinstance(part, FilePart):
            pages.append(SentPage(len(pages) + 1, "", file=part))
        if not isinstance(part, TextPart):
            continue
        text = part.text
        if schema is None and not has_form:
            schema, text = find_schema(text)
        if text.strip():
            pages.append(SentPage(len(pages) + 1, text))
    return Reading(tuple(pages), instructions.strip(), schema)


@dataclass(slots=True)
class _Marked:
    """Reads parts in order and cuts them at the tags."""

    pages: list[SentPage] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    number: int | None = None
    is_context: bool = False
    is_inside: bool = False
    was_inside: bool = False

    def take(self, part: Part) -> None:
        """One more content part."""
        if isinstance(part, ImagePart):
            self._take_image(part)
        if isinstance(part, FilePart) and self.is_inside:
            self._close_page()
            self.pages.append(SentPage(self._next_number(), "", file=part))
        if not isinstance(part, TextPart):
            return
        end = 0
        for tag in _TAG.finditer(part.text):
            if not self.is_inside and not _opens_document(tag):
                continue
            self._take_text(part.text[end : tag.start()])
            self._take_tag(bool(tag[1]), tag[2], dict(_ATTRIBUTE.findall(tag[3])))
            end = tag.end()
        self._take_text(part.text[end:])

    def finish(self) -> tuple[tuple[SentPage, ...], str, str]:
        """The pages, the text before the first document, and the text after it outside of documents."""
        self._close_page()
        return tuple(self.pages), "\n".join(self.before), "\n".join(self.after)

    def _take_image(self, part: ImagePart) -> None:
        if self.number is not None:
            self.images.append(part.data)
        elif self.is_inside:
            self.pages.append(SentPage(self._next_number(), "", (part.data,)))

    def _take_text(self, text: str) -> None:
        if self.number is not None:
            self.text.append(text)
        elif not self.is_inside and text.strip():
            (self.after if self.was_inside else self.before).append(text)

    def _take_tag(self, is_closing: bool, name: str, attributes: Mapping[str, str]) -> None:
        self._close_page()
        if name == "document":
            self.is_inside = not is_closing
            self.was_inside = True
        elif not is_closing:
            number = attributes.get("number", "")
            self.number = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else self._next_number()
            self.is_context = attributes.get("context") == "yes"

    def _close_page(self) -> None:
        if self.number is not None:
            text = "".join(self.text).removeprefix("\n")
            self.pages.append(SentPage(self.number, text, tuple(self.images), self.is_context))
        self.number, self.is_context = None, False
        self.text, self.images = [], []

    def _next_number(self) -> int:
        return max((page.number for page in self.pages), default=0) + 1


def _opens_document(tag: re.Match[str]) -> bool:
    """Whether the tag begins a document: instructions may speak of `<document>` within a line."""
    line_start = tag.string.rfind("\n", 0, tag.start()) + 1
    return tag[2] == "document" and not tag[1] and not tag.string[line_start : tag.start()].strip()


def find_schema(text: str) -> tuple[Mapping[str, Any] | None, str]:
    """The largest JSON Schema object written in a text, and the text without it."""
    decoder = json.JSONDecoder()
    found: tuple[int, int, Mapping[str, Any]] | None = None
    start = text.find("{")
    for _ in range(_MAX_BRACES_TRIED):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if _is_schema(value) and (found is None or end - start > found[1] - found[0]):
            found = (start, end, value)
        start = text.find("{", end)
    if found is None:
        return None, text
    return found[2], text[: found[0]] + text[found[1] :]


def _is_schema(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("properties"), dict) or "$schema" in value:
        return True
    return any(isinstance(value.get(word), list) for word in ("anyOf", "oneOf", "allOf")) or (
        value.get("type") == "array" and isinstance(value.get("items"), dict)
    )
