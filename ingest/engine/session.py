"""What the documents of one run share: settings made ready for asking, workers, client, ledger, sink."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from ingest.asking import prompt, schema
from ingest.asking.client import Attempt, Client
from ingest.asking.schema import ChunkSchema
from ingest.config import Config
from ingest.engine.assembly import hollow_parts, model_info, summarise
from ingest.engine.embedded import EmbeddedEngine
from ingest.errors import ConfigError
from ingest.keeping.ledger import LEDGER_FOLDER, NOT_SENT, Ledger
from ingest.keeping.sinks.files import FilesSink
from ingest.merging.merge import check_rules
from ingest.planning.chunks import Limits, plan_chunks, request_limits
from ingest.planning.pricing import cost_usd
from ingest.planning.tokens import estimate_text
from ingest.reading.workers import Workers
from ingest.record import DocumentRow, Record, RunSummary
from ingest.types import (
    Chunk,
    Content,
    Document,
    Estimate,
    JsonObject,
    Medium,
    Observer,
    Rendering,
    Request,
    Rung,
    TextStats,
)

# Enters every request key: raised when the way content is made from a file changes.
_CONTENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Brief:
    """What is asked of every document of one medium, and what a request of it may hold.

    `frames` is the static text by rung, `preamble` its tokens with schema and overhead, `parameters` the model's own
    settings by gateway name.
    """

    chunk_schema: ChunkSchema
    frames: Mapping[Rung, prompt.Frame]
    preamble: Estimate
    limits: Limits
    parameters: JsonObject


class Session:
    """One run's steps made ready. Use as an async context manager; leaving it closes everything it opened.

    With `is_dry` nothing is written and nobody is asked: enough for planning.

    Raises ConfigError when the schema, a merge rule or the endpoint cannot be used, LedgerError and OutputError when
    the output folder cannot.
    """

    def __init__(self, config: Config, tell: Observer, is_dry: bool = False) -> None:
        recipe = config.recipe
        schema.check_document_schema(recipe.document_schema)
        check_rules(recipe.document_schema, recipe.merge)
        self.config = config
        self.tell = tell
        self._briefs: dict[Medium, Brief] = {"pages": _brief(config, "pages"), "video": _brief(config, "video")}
        self.rendering = _rendering(config, self._briefs["video"])
        self._is_dry = is_dry
        self._rung_index = 0
        # Loaded parts wait for their turn at the client: this bounds the bytes in flight.
        self.in_flight = asyncio.Semaphore(config.profile.rate_limits.concurrency + 1)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        config = self.config
        try:
            has_ledger = config.output is not None and (config.output / LEDGER_FOLDER).is_dir()
            folder = config.output if has_ledger or not self._is_dry else None
            self.ledger = self._stack.enter_context(Ledger(folder, is_shared=self._is_dry))
            self.workers = await self._stack.enter_async_context(Workers(config.reading))
            if not self._is_dry:
                self._sink = self._stack.enter_context(FilesSink(config.output)) if config.output else None
                info = model_info(config)
                self._run_id = self.ledger.start_run(config.recipe.name, info.model, info.endpoint)
                app = await self._stack.enter_async_context(EmbeddedEngine()) if config.endpoint.local else None
                client = Client(config.endpoint, config.profile, config.asking, app, self._record_attempt)
                self.client = await self._stack.enter_async_context(client)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def rung(self) -> Rung:
        """How the schema is handed over at present."""
        return self.config.profile.ladder[self._rung_index]

    def step_down(self, refused: Rung) -> bool:
        """Go on with the rung below one that was refused; False when there is none."""
        below = self.config.profile.ladder.index(refused) + 1
        if below == len(self.config.profile.ladder):
            return False
        self._rung_index = max(self._rung_index, below)
        return True

    def brief(self, document: Document) -> Brief:
        """What is asked of a document of this medium."""
        return self._briefs[document.medium]

    def plan_chunks(self, document: Document) -> tuple[Chunk, ...]:
        """The document's chunks. Parts of which nothing would be sent are in none."""
        brief = self.brief(document)
        hollow = hollow_parts(document)
        document = replace(document, parts=tuple(part for part in document.parts if part.index not in hollow))
        detail = brief.parameters["image_detail"]
        return plan_chunks(document, self.config.profile, detail, brief.limits, self.config.planning.context_parts)

    def key(self, document: Document, chunk: Chunk, hint: str | None = None) -> str:
        """Identity of a request, from content and settings alone.

        The rung is left out: an answer is the same answer whichever way the schema was handed over.
        """
        brief = self.brief(document)
        frame = brief.frames[self.config.profile.ladder[0]]
        owned = {part.index for part in chunk.owned}
        identity = {
            "version": _CONTENT_VERSION,
            "source": document.source.sha256,
            "parts": [[part.key, part.index in owned] for part in chunk.parts],
            "of": len(document.parts),
            "rendering": self.rendering.key if any(part.mode != "text" for part in chunk.parts) else "",
            "prompt": [frame.system, frame.opening, frame.closing, hint],
            "schema": brief.chunk_schema.schema,
            "model": self.config.profile.model,
            "endpoint": self.config.endpoint.label,
            "parameters": brief.parameters,
        }
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def lock(self, key: str) -> asyncio.Lock:
        """The lock of a request key: two documents with the same bytes ask once."""
        return self._locks.setdefault(key, asyncio.Lock())

    def request(self, key: str, brief: Brief, contents: tuple[Content, ...], rung: Rung) -> Request:
        """A request with all that is the same for every chunk."""
        return Request(
            key=key,
            model=self.config.profile.model,
            system=brief.frames[rung].system,
            contents=contents,
            schema=brief.chunk_schema.schema,
            schema_name=brief.chunk_schema.name,
            rung=rung,
            parameters=brief.parameters,
        )

    def write(self, record: Record[Any]) -> None:
        """Put a record on disk."""
        if self._sink is not None:
            self._sink.write(record)

    def finish(self, rows: Sequence[DocumentRow], elapsed_s: float) -> RunSummary:
        """Close the run's books."""
        self.ledger.finish_run(self._run_id)
        calls, spent_usd = self.ledger.run_spending(self._run_id)
        summary = summarise(self.config, rows, calls, spent_usd, elapsed_s)
        if self._sink is not None:
            self._sink.finish(summary)
        return summary

    def _record_attempt(self, attempt: Attempt) -> None:
        is_paid = attempt.outcome == "answered"
        outcome = attempt.outcome if attempt.is_sent else NOT_SENT
        usage = attempt.usage
        cost = cost_usd(self.config.profile, usage.input_tokens, usage.output_tokens) if is_paid else None
        self.ledger.record_attempt(self._run_id, attempt.key, attempt.elapsed_s, outcome, attempt.message, usage, cost)


def _brief(config: Config, medium: Medium) -> Brief:
    recipe, ladder = config.recipe, config.profile.ladder
    try:
        chunk_schema = schema.derive(recipe.document_schema, config.asking.evidence, recipe.name, medium)
    except RecursionError as error:
        raise ConfigError("the document schema is nested too deeply: flatten it") from error
    frames = {rung: prompt.frame(recipe, config.asking.evidence, rung, chunk_schema, medium) for rung in ladder}
    preamble = _preamble(config, frames[ladder[0]], chunk_schema.text)
    parameters = _parameters(config, medium)
    limits = request_limits(config.profile, preamble, config.planning.target_tokens, int(parameters["max_tokens"]))
    return Brief(chunk_schema, frames, preamble, limits, parameters)


def _rendering(config: Config, brief: Brief) -> Rendering:
    profile = config.profile
    rule = profile.images[config.asking.image_detail or profile.default_detail]
    limits = profile.image_limits
    frame_rule = profile.images[brief.parameters["image_detail"]]
    frame_tokens = min(config.reading.frame_tokens or profile.frames.max_tokens, frame_rule.max_tokens)
    tokens = frame_tokens + profile.frames.timestamp_tokens[0] + 2 * profile.overhead.per_part
    return Rendering(
        max_pixels=rule.max_pixels,
        max_bytes=min(profile.image_bytes, limits.max_bytes),
        min_side_px=limits.min_side_px,
        max_aspect_ratio=limits.max_aspect_ratio,
        jpeg_quality=config.reading.jpeg_quality,
        frame_max_pixels=min(frame_tokens * frame_rule.pixels_per_token, frame_rule.max_pixels),
        frames_per_request=max(brief.limits.target_tokens // tokens, 1),
    )


def _parameters(config: Config, medium: Medium) -> JsonObject:
    """The model's settings by gateway name; which of them an endpoint takes is for the wire to know."""
    asking, profile = config.asking, config.profile
    detail = profile.frames.detail if medium == "video" else profile.default_detail
    parameters: JsonObject = {
        "max_tokens": asking.max_tokens or profile.default_output_tokens,
        "enable_thinking": asking.enable_thinking,
        "image_detail": asking.image_detail or detail,
    }
    if asking.enable_thinking and asking.reasoning_effort:
        parameters["reasoning_effort"] = asking.reasoning_effort
    return parameters


def _preamble(config: Config, frame: prompt.Frame, schema_text: str) -> Estimate:
    """Tokens of a request before its parts: system message, instructions, schema, overhead."""
    profile = config.profile
    text = "".join((frame.system, frame.opening, frame.closing, schema_text))
    overhead = profile.overhead.per_request + 2 * profile.overhead.per_message + 3 * profile.overhead.per_part
    return estimate_text(TextStats.of(text), profile.text) + Estimate(overhead, overhead)
