"""A checked request to a finished answer: pages are read, the form is filled, the answer is cut to its length.

This is the core every protocol shares. Work on the processor runs in threads: reading images in a pool of its own,
since the OCR engine serves one caller at a time, everything else in a pool of as many threads as there are cores. A
cancelled request gives up its place after the page in hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from ingest.errors import SourceError
from ingest.local import reader
from ingest.local.accounting import Tokenizer, Usage
from ingest.local.contract import Ask, TextPart
from ingest.local.dialect import check_schema
from ingest.local.files import render_pages
from ingest.local.filler import fill
from ingest.local.frames import SentFrame
from ingest.local.numbers import load_limits
from ingest.local.page import Page
from ingest.local.refusal import invalid
from ingest.local.tags import Reading, SentPage, read_prompt

P = ParamSpec("P")
T = TypeVar("T")

# Words read and matched in a few milliseconds.
_SHORT_CHARACTERS = 8_000

Words = Sequence[tuple[float, float, float, float, str]]


@dataclass(frozen=True, slots=True)
class ReadWords:
    """Words read from an image: a page by its `number`, or a frame by its `time_s`."""

    words: Words
    number: int | None = None
    time_s: float | None = None

    @property
    def place(self) -> dict[str, float]:
        """Page number or seconds under the name they have on the wire."""
        return {"page": self.number} if self.number is not None else {"time_s": self.time_s or 0.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer in no protocol's shape.

    `text` is the content, or the arguments of `tool_name`. `finish_reason` is stop, length, content_filter, refusal,
    tool_calls or stop_sequence (then `stop_word` is the word), or "" when a fault leaves it out. `page_words` has one
    entry per image read by OCR: its page number or time, and words with boxes as fractions of the image.
    """

    text: str
    reasoning: str
    finish_reason: str
    usage: Usage
    tool_name: str | None = None
    stop_word: str | None = None
    page_words: tuple[ReadWords, ...] = ()
    pages_read: int = 0
    pages_by_ocr: int = 0


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """Faults of manner that a real service has: `ignores_schema` answers in words, `wraps_json` puts code fences
    around JSON unless the request switched formatting off."""

    ignores_schema: bool = False
    wraps_json: bool = False


class Answerer:
    """Answers checked requests. Safe to use from many tasks; `close` lets its threads go."""

    def __init__(self, tokenizer: Tokenizer, style: AnswerStyle | None = None) -> None:
        self._tokenizer = tokenizer
        self._style = style or AnswerStyle()
        self._cores = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="local-engine")
        self._eyes = ThreadPoolExecutor(1, thread_name_prefix="local-ocr")

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function of the processor in a thread, at most as many at once as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self._cores, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Starts nothing new and lets the threads end after the work in hand."""
        self._cores.shutdown(wait=False, cancel_futures=True)
        self._eyes.shutdown(wait=False, cancel_futures=True)

    async def answer(self, ask: Ask, input_tokens: int, cached_tokens: int = 0) -> Answer:
        """Reads the pages and fills the form; raises a 400 Refusal for an image that cannot be read."""
        if _is_short(ask):
            # One change of thread instead of one for each page and step: it would be most of the work.
            answer = await self.work(self._answer_words, ask, (input_tokens, cached_tokens))
            if answer is not None:
                return answer
        reading = await self.work(read_prompt, ask)
        if reading.frames:
            pages, words = await self._read_frames(reading.frames)
        else:
            pages, words = await self._read_pages(reading.pages)
        schema, text = await self.work(self._compose, ask, reading, pages)
        return await self.work(self._finish, ask, schema, text, pages, words, (input_tokens, cached_tokens))

    def _answer_words(self, ask: Ask, tokens_in: tuple[int, int]) -> Answer | None:
        """The answer to a request of words alone; None for one that shows a video."""
        reading = read_prompt(ask)
        if reading.frames:
            return None
        pages = [reader.read_text(page.number, page.text, page.is_context) for page in reading.pages]
        schema, text = self._compose(ask, reading, pages)
        return self._finish(ask, schema, text, pages, (), tokens_in)

    async def _read_pages(self, sent: Sequence[SentPage]) -> tuple[list[Page], list[ReadWords]]:
        loop = asyncio.get_running_loop()
        pages: list[Page] = []
        words: list[ReadWords] = []
        for page in sent:
            if page.file is None and (page.has_text or not page.images):
                pages.append(await self.work(reader.read_text, page.number, page.text, page.is_context))
                continue
            images = iter(page.images) if page.file is None else render_pages(page.file)
            number = page.number
            while (data := await self.work(next, images, None)) is not None:
                read = await loop.run_in_executor(self._eyes, _read_image, number, data, page.is_context)
                pages.append(read)
                words.append(ReadWords(reader.page_words(read), number))
                number += page.file is not None
        return pages, words

    async def _read_frames(self, sent: Sequence[SentFrame]) -> tuple[list[Page], list[ReadWords]]:
        """Each frame as a page, followed by what is said at its time as another."""
        loop = asyncio.get_running_loop()
        pages: list[Page] = []
        words: list[ReadWords] = []
        for frame in sent:
            read = await loop.run_in_executor(self._eyes, _read_frame, frame) if frame.image is not None else []
            for time_s, page in zip(frame.times_s, read, strict=False):
                page = replace(page, number=len(pages) + 1, time_s=time_s, is_context=frame.is_context)
                pages.append(page)
                words.append(ReadWords(reader.page_words(page), time_s=time_s))
            if frame.subtitles:
                spoken = await self.work(reader.read_text, len(pages) + 1, frame.subtitles, frame.is_context)
                pages.append(replace(spoken, time_s=frame.times_s[0], is_spoken=True))
        return pages, words

    def _compose(self, ask: Ask, reading: Reading, pages: Sequence[Page]) -> tuple[Mapping[str, Any] | None, str]:
        """The schema filled (None for a plain answer) and the text of the whole answer."""
        schema = ask.form.schema if ask.form else reading.schema
        if self._style.ignores_schema and not (ask.form and ask.form.tool_name):
            schema = None
        plain = "\n\n".join(page.text for page in pages if page.text)
        if schema is None:
            return None, plain
        if ask.form is None:
            # A schema written in the prompt is only a wish, but it must be safe to walk.
            check_schema(schema, "messages", is_strict=False, max_depth=load_limits().max_schema_depth)
        filled = fill(schema, pages, reading.instructions, reading.end_s)
        if ask.form and ask.form.is_optional and not _says_anything(filled.data):
            return None, plain
        text = json.dumps(_without_known(filled.data, reading.known), ensure_ascii=False, allow_nan=False)
        if self._style.wraps_json and not ask.is_raw and not (ask.form and ask.form.tool_name):
            text = f"```json\n{text}\n```"
        return schema, text

    def _finish(
        self,
        ask: Ask,
        schema: Mapping[str, Any] | None,
        text: str,
        pages: Sequence[Page],
        words: Sequence[ReadWords],
        tokens_in: tuple[int, int],
    ) -> Answer:
        input_tokens, cached_tokens = tokens_in
        numbers = ask.model.numbers
        text, stop_word = _until(ask.stop, text) if schema is None else (text, None)
        total = ask.max_total_tokens or ask.max_tokens + numbers.window_tokens
        reasoning, reasoning_tokens, _ = self._tokenizer.cut(_describe(pages) if ask.is_thinking else "", total)
        room = max(min(ask.max_tokens, numbers.window_tokens - input_tokens, total - reasoning_tokens), 0)
        text, output_tokens, was_cut = self._tokenizer.cut(text, room)
        tool_name = ask.form.tool_name if ask.form and schema is not None else None
        return Answer(
            text=text,
            reasoning=reasoning,
            finish_reason=_finish_reason(was_cut, tool_name, stop_word),
            usage=Usage(input_tokens, output_tokens + reasoning_tokens, cached_tokens, reasoning_tokens),
            tool_name=tool_name,
            stop_word=None if was_cut else stop_word,
            page_words=tuple(words),
            pages_read=len(pages),
            pages_by_ocr=sum(page.origin == "ocr" for page in pages),
        )


def _is_short(ask: Ask) -> bool:
    """Whether a request has few words and nothing else."""
    parts = [part for message in ask.messages for part in message.parts]
    if not all(isinstance(part, TextPart) for part in parts):
        return False
    return sum(len(part.text) for part in parts if isinstance(part, TextPart)) <= _SHORT_CHARACTERS


def _read_image(number: int, data: bytes, is_context: bool) -> Page:
    try:
        return reader.read_image(number, data, is_context)
    except SourceError as error:
        raise invalid("image_url", f"the image of page {number} cannot be read: {error}") from error


def _read_frame(frame: SentFrame) -> list[Page]:
    """The frames in one image of a video, with number 0."""
    data = frame.image or b""
    try:
        if len(frame.times_s) == 1:
            return [reader.read_frame(data)]
        return reader.read_cells(data, frame.grid, len(frame.times_s))
    except SourceError as error:
        raise invalid("image_url", f"the frame at {frame.times_s[0]} seconds cannot be read: {error}") from error


def _finish_reason(was_cut: bool, tool_name: str | None, stop_word: str | None) -> str:
    if was_cut:
        return "length"
    return "tool_calls" if tool_name else "stop_sequence" if stop_word else "stop"


def _until(stop: Sequence[str], text: str) -> tuple[str, str | None]:
    """The text up to the first stop word, and that word."""
    match = re.search("|".join(map(re.escape, stop)), text) if stop else None
    return (text[: match.start()], match[0]) if match else (text, None)


def _without_known(data: Any, known: tuple[tuple[str, ...], int] | None) -> Any:
    """The data with the list of that name from its last known entry on."""
    if known is None:
        return data
    (name, *below), count = known
    if not isinstance(data, Mapping) or name not in data:
        return data
    value = data[name]
    if below:
        shorter = _without_known(value, (tuple(below), count))
    else:
        shorter = value[max(count - 1, 0) :] if isinstance(value, list) else value
    return {**data, name: shorter}


def _says_anything(value: Any) -> bool:
    """Whether a filled form holds any value but null."""
    if isinstance(value, Mapping):
        return any(_says_anything(item) for item in value.values())
    if isinstance(value, list):
        return any(_says_anything(item) for item in value)
    return value is not None


def _describe(pages: Sequence[Page]) -> str:
    """What the engine did, in a sentence: its stand-in for a summary of thoughts."""
    by_ocr = sum(page.origin == "ocr" for page in pages)
    word_count = sum(1 for page in pages for _ in page.tokens())
    return f"Read {word_count} words on {len(pages)} pages, {by_ocr} of them by OCR, and matched them by rules."
