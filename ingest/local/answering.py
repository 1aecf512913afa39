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
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from ingest.errors import SourceError
from ingest.local import reader
from ingest.local.accounting import Tokenizer, Usage
from ingest.local.contract import Ask
from ingest.local.dialect import check_schema
from ingest.local.filler import fill
from ingest.local.numbers import load_limits
from ingest.local.page import Page
from ingest.local.refusal import invalid
from ingest.local.tags import Reading, SentPage, read_prompt

P = ParamSpec("P")
T = TypeVar("T")

Words = Sequence[tuple[float, float, float, float, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer in no protocol's shape.

    `text` is the content, or the arguments of `tool_name`. `finish_reason` is stop, length, content_filter or
    tool_calls. `page_words` has one entry per image read by OCR: page number, and words with boxes as fractions.
    """

    text: str
    reasoning: str
    finish_reason: str
    usage: Usage
    tool_name: str | None = None
    page_words: tuple[tuple[int, Words], ...] = ()
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
        reading = await self.work(read_prompt, ask)
        pages, words = await self._read_pages(reading.pages)
        schema, text = await self.work(self._compose, ask, reading, pages)
        return await self.work(self._finish, ask, schema, text, pages, words, (input_tokens, cached_tokens))

    async def _read_pages(self, sent: Sequence[SentPage]) -> tuple[list[Page], list[tuple[int, Words]]]:
        loop = asyncio.get_running_loop()
        pages: list[Page] = []
        words: list[tuple[int, Words]] = []
        for page in sent:
            if page.has_text or not page.images:
                pages.append(await self.work(reader.read_text, page.number, page.text, page.is_context))
                continue
            for data in page.images:
                read = await loop.run_in_executor(self._eyes, _read_image, page.number, data, page.is_context)
                pages.append(read)
                words.append((page.number, reader.page_words(read)))
        return pages, words

    def _compose(self, ask: Ask, reading: Reading, pages: Sequence[Page]) -> tuple[Mapping[str, Any] | None, str]:
        """The schema filled (None for a plain answer) and the text of the whole answer."""
        schema = ask.form.schema if ask.form else reading.schema
        if self._style.ignores_schema and not (ask.form and ask.form.tool_name):
            schema = None
        if schema is None:
            return None, _until(ask.stop, "\n\n".join(page.text for page in pages if page.text))
        if ask.form is None:
            # A schema written in the prompt is only a wish, but it must be safe to walk.
            check_schema(schema, "messages", is_strict=False, max_depth=load_limits().max_schema_depth)
        filled = fill(schema, pages, reading.instructions)
        text = json.dumps(filled.data, ensure_ascii=False, allow_nan=False)
        if self._style.wraps_json and not ask.is_raw and not (ask.form and ask.form.tool_name):
            text = f"```json\n{text}\n```"
        return schema, text

    def _finish(
        self,
        ask: Ask,
        schema: Mapping[str, Any] | None,
        text: str,
        pages: Sequence[Page],
        words: Sequence[tuple[int, Words]],
        tokens_in: tuple[int, int],
    ) -> Answer:
        input_tokens, cached_tokens = tokens_in
        room = max(min(ask.max_tokens, ask.model.numbers.window_tokens - input_tokens), 0)
        text, output_tokens, was_cut = self._tokenizer.cut(text, room)
        reasoning = _describe(pages) if ask.is_thinking else ""
        reasoning_tokens = self._tokenizer.count(reasoning)
        tool_name = ask.form.tool_name if ask.form and schema is not None else None
        return Answer(
            text=text,
            reasoning=reasoning,
            finish_reason="length" if was_cut else "tool_calls" if tool_name else "stop",
            usage=Usage(input_tokens, output_tokens + reasoning_tokens, cached_tokens, reasoning_tokens),
            tool_name=tool_name,
            page_words=tuple(words),
            pages_read=len(pages),
            pages_by_ocr=sum(page.origin == "ocr" for page in pages),
        )


def _read_image(number: int, data: bytes, is_context: bool) -> Page:
    try:
        return reader.read_image(number, data, is_context)
    except SourceError as error:
        raise invalid("image_url", f"the image of page {number} cannot be read: {error}") from error


def _until(stop: Sequence[str], text: str) -> str:
    if not stop:
        return text
    match = re.search("|".join(map(re.escape, stop)), text)
    return text[: match.start()] if match else text


def _describe(pages: Sequence[Page]) -> str:
    """What the engine did, in a sentence: its stand-in for a summary of thoughts."""
    by_ocr = sum(page.origin == "ocr" for page in pages)
    word_count = sum(1 for page in pages for _ in page.tokens())
    return f"Read {word_count} words on {len(pages)} pages, {by_ocr} of them by OCR, and matched them by rules."
