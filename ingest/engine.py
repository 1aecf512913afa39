"""The one place that knows the order of the steps.

`Source → Document (probed) → Chunk (planned) → Request → Reply → Partial → Record`. The steps take values and
return values and never import one another; what one needs of another, this module hands it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from ingest.asking import parse, prompt, schema
from ingest.asking.client import Attempt, Client
from ingest.assembly import (
    ChunkResult,
    Expense,
    Findings,
    PartOutcome,
    add_money,
    make_failed_record,
    make_plan,
    make_record,
    make_row,
    model_info,
    outcomes_of,
    renumber,
    summarise,
)
from ingest.config import Config
from ingest.errors import (
    AuthRejected,
    ConfigError,
    ContentRefused,
    ContextExceeded,
    IngestError,
    ModelError,
    QuotaExhausted,
    ReplyError,
    RequestRejected,
    SourceError,
    Truncated,
    Unreadable,
)
from ingest.keeping.ledger import LEDGER_FOLDER, Ledger
from ingest.keeping.sinks.files import FilesSink
from ingest.merging import checks
from ingest.merging.grounding import ground, ground_conflicts
from ingest.merging.merge import Merged, check_rules, merge
from ingest.merging.pages import PageText
from ingest.planning.chunks import Limits, plan_chunks, request_limits, split_chunk
from ingest.planning.pricing import cost_usd
from ingest.planning.tokens import estimate_text
from ingest.reading.discover import Found, describe, discover
from ingest.reading.workers import Workers
from ingest.record import DocumentRow, PartStatus, Plan, PlanRow, Record, RunSummary
from ingest.types import (
    Chunk,
    Document,
    Estimate,
    Event,
    JsonObject,
    Loaded,
    Observer,
    PageWords,
    Partial,
    Problem,
    Rendering,
    Reply,
    Request,
    Source,
    TextStats,
    Word,
)

# Enters every request key: raised when the way content is made from a file changes.
_CONTENT_VERSION = 1
# Grounding looks into every page of a document up to this many; beyond it into the pages the model named.
_GROUND_ALL_PAGES = 200
_SPLITTABLE = (Truncated, ContextExceeded, ContentRefused)
_STOPS_THE_RUN = (AuthRejected, QuotaExhausted)


async def run(
    paths: Sequence[str | Path],
    config: Config,
    observer: Observer | None = None,
    on_summary: Callable[[RunSummary], None] | None = None,
) -> AsyncIterator[Record[Any]]:
    """Ingest files, folders and globs; one record per document, in the order of discovery.

    Records are on disk (when `config.output` is set) before they are yielded. `on_summary` gets the run's summary
    after the last one. Memory holds the documents in flight, never the folder.

    Raises ConfigError when nothing is found or the schema cannot be asked for, AuthRejected and QuotaExhausted
    when the endpoint will not serve this account, LedgerError and OutputError when results cannot be kept.
    """
    started = time.monotonic()
    found = await _find(paths, config)
    tell = observer or (lambda event: None)
    async with _Session(config, tell) as session:
        tell(Event("run_started", documents=len(found)))
        rows: list[DocumentRow] = []
        async for record, result in _in_order(session, found):
            rows.append(make_row(record, result))
            session.write(record)
            tell(Event("document_finished", record.document.name, status=record.status, message=rows[-1].problem or ""))
            yield record
        summary = session.finish(rows, time.monotonic() - started)
        tell(Event("run_finished", documents=len(rows)))
        if on_summary is not None:
            on_summary(summary)


async def plan(paths: Sequence[str | Path], config: Config, observer: Observer | None = None) -> Plan:
    """What `run` would send and what it would cost; nothing is sent and no pixel is made.

    Raises ConfigError when nothing is found, the schema cannot be asked for, or the profile has no price.
    """
    found = await _find(paths, config)
    if not config.profile.tiers:
        raise ConfigError(f"profile {config.profile.name} has no price: add [[tiers]] to a profile file of your own")
    tell = observer or (lambda event: None)
    async with _Session(config, tell, is_dry=True) as session:
        tell(Event("run_started", documents=len(found)))
        limit = asyncio.Semaphore(config.jobs)

        async def plan_one(item: Found) -> PlanRow:
            async with limit:
                row = await session.plan_document(item)
            tell(Event("document_finished", row.name, status="planned", message=row.problem or ""))
            return row

        rows = await asyncio.gather(*(plan_one(item) for item in found))
        tell(Event("run_finished", documents=len(rows)))
    return make_plan(config, rows)


async def _find(paths: Sequence[str | Path], config: Config) -> list[Found]:
    found = await asyncio.to_thread(lambda: list(discover(paths, config.output)))
    if not found:
        raise ConfigError(f"no files found in {', '.join(str(path) for path in paths)}")
    return found


async def _in_order(session: _Session, found: Sequence[Found]) -> AsyncIterator[tuple[Record[Any], ChunkResult]]:
    """Documents in flight, results in the order given; the window bounds how far the quick ones may run ahead."""
    limit = asyncio.Semaphore(session.config.jobs)
    window: deque[asyncio.Task[tuple[Record[Any], ChunkResult]]] = deque()

    async def work(item: Found) -> tuple[Record[Any], ChunkResult]:
        async with limit:
            return await session.ingest_document(item)

    try:
        for item in found:
            window.append(asyncio.create_task(work(item)))
            if len(window) >= 4 * session.config.jobs:
                yield await window.popleft()
        while window:
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply with the chunk it answers (parts that could not be loaded have left it) and its bill."""

    chunk: Chunk
    reply: Reply
    result: ChunkResult


class _Session:
    """What the documents of one run share: settings made ready, workers, client, ledger."""

    def __init__(self, config: Config, tell: Observer, is_dry: bool = False) -> None:
        self.config = config
        self._tell = tell
        self._is_dry = is_dry
        recipe = config.recipe
        schema.check_document_schema(recipe.document_schema)
        check_rules(recipe.document_schema, recipe.merge)
        self._chunk_schema = schema.derive(recipe.document_schema, config.asking.evidence, recipe.name)
        self._detail = config.asking.image_detail or config.profile.default_detail
        self._rendering = _rendering(config)
        self._parameters = _parameters(config)
        self._rung_index = 0
        self._frames = {
            rung: prompt.frame(recipe, config.asking.evidence, rung, self._chunk_schema)
            for rung in config.profile.ladder
        }
        self._frame = self._frames[config.profile.ladder[0]]
        self._preamble = _preamble(config, self._frame, self._chunk_schema)
        self._limits = _limits(config, self._preamble)
        self._in_flight = asyncio.Semaphore(config.profile.rate_limits.concurrency + 1)
        self._key_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        config = self.config
        try:
            ledger_folder = None if self._is_dry and not _has_ledger(config.output) else config.output
            self._ledger = self._stack.enter_context(Ledger(ledger_folder))
            self._workers = await self._stack.enter_async_context(Workers(config.reading))
            if not self._is_dry:
                self._sink = self._stack.enter_context(FilesSink(config.output)) if config.output else None
                info = model_info(config)
                self._run_id = self._ledger.start_run(config.recipe.name, info.model, info.endpoint)
                self._client = Client(
                    config.endpoint,
                    config.profile,
                    config.asking,
                    app=_local_app() if config.endpoint.local else None,
                    on_attempt=self._record_attempt,
                )
                self._stack.push_async_callback(self._client.close)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def write(self, record: Record[Any]) -> None:
        """Put a record on disk."""
        if self._sink is not None:
            self._sink.write(record)

    def finish(self, rows: Sequence[DocumentRow], elapsed_s: float) -> RunSummary:
        """Close the run's books."""
        self._ledger.finish_run(self._run_id)
        calls, spent = self._ledger.run_spending(self._run_id)
        summary = summarise(self.config, rows, calls, spent, elapsed_s)
        if self._sink is not None:
            self._sink.finish(summary)
        return summary

    # --- what every request shares ---

    def _key(self, document: Document, chunk: Chunk, hint: str | None = None) -> str:
        """Identity of a request, from content and settings alone.

        The rung is left out: an answer is the same answer whichever way the schema was handed over.
        """
        frame = self._frame
        owned = {part.index for part in chunk.owned}
        identity = {
            "version": _CONTENT_VERSION,
            "source": document.source.sha256,
            "parts": [[part.key, part.index in owned] for part in chunk.parts],
            "of": len(document.parts),
            "rendering": self._rendering.key if any(part.mode != "text" for part in chunk.parts) else "",
            "prompt": [frame.system, frame.opening, frame.closing, hint],
            "schema": self._chunk_schema.schema,
            "model": self.config.profile.model,
            "endpoint": self.config.endpoint.label,
            "parameters": self._parameters,
        }
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    # --- one document ---

    async def ingest_document(self, found: Found) -> tuple[Record[Any], ChunkResult]:
        """Read, ask, merge and check one document. A file that cannot be read is a failed record, not an error."""
        self._tell(Event("document_started", found.name))
        source = Source(found.name, found.path.as_uri(), found.path, 0, "", "")
        try:
            source = await asyncio.to_thread(describe, found, self.config.reading)
            document = await self._workers.open(source)
        except SourceError as error:
            return make_failed_record(self.config, source, error), ChunkResult()
        chunks = self._plan_chunks(document)
        self._tell(Event("document_planned", found.name, parts=len(document.parts), chunks=len(chunks)))
        results = await asyncio.gather(*(self._ingest_chunk(document, chunk) for chunk in chunks))
        result = renumber(results)
        findings = await self._merge(document, result)
        return make_record(self.config, document, result, findings), result

    async def plan_document(self, found: Found) -> PlanRow:
        """What one document would need."""
        try:
            source = await asyncio.to_thread(describe, found, self.config.reading)
            document = await self._workers.open(source)
        except SourceError as error:
            return PlanRow(name=found.name, problem=error.message)
        chunks = self._plan_chunks(document)
        open_chunks = [chunk for chunk in chunks if not self._ledger.has_answer(self._key(document, chunk))]
        output = int(self._parameters["max_tokens"])
        profile = self.config.profile
        preamble = self._preamble
        expected = [chunk.estimate.expected + preamble.expected for chunk in open_chunks]
        safe = [chunk.estimate.safe + preamble.safe for chunk in open_chunks]
        return PlanRow(
            name=found.name,
            pages=sum(part.kind == "page" for part in document.parts),
            frames=sum(part.kind == "frame" for part in document.parts),
            chunks=len(chunks),
            requests=len(open_chunks),
            input_tokens_expected=sum(expected),
            input_tokens_safe=sum(safe),
            output_tokens_ceiling=output * len(open_chunks),
            cost_usd_expected=add_money(cost_usd(profile, tokens, output // 8) for tokens in expected),
            cost_usd_ceiling=add_money(cost_usd(profile, tokens, output) for tokens in safe),
        )

    def _plan_chunks(self, document: Document) -> tuple[Chunk, ...]:
        profile, planning = self.config.profile, self.config.planning
        return plan_chunks(document, profile, self._detail, self._limits, planning.context_parts)

    # --- one chunk ---

    async def _ingest_chunk(self, document: Document, chunk: Chunk, attempts: int = 0) -> ChunkResult:
        """Ask for one chunk until it is answered, split to the part to blame, or failed."""
        attempts += 1
        result = ChunkResult()
        hint: str | None = None
        for _ in range(2):
            try:
                answer = await self._answer(document, chunk, hint)
            except _STOPS_THE_RUN:
                raise
            except _SPLITTABLE as error:
                return result + await self._split(document, chunk, error, attempts)
            except (ModelError, SourceError) as error:
                return result + _failed(chunk, error, attempts)
            chunk = answer.chunk
            result += answer.result
            try:
                return result + self._read_answer(answer, attempts)
            except _SPLITTABLE as error:
                return result + await self._split(document, chunk, error, attempts)
            except ReplyError as error:
                # One more try, with the validator's words; then the chunk has failed.
                if hint is not None:
                    return result + _failed(chunk, error, attempts)
                hint = error.message
                attempts += 1
        raise AssertionError("the second try returns")

    async def _answer(self, document: Document, chunk: Chunk, hint: str | None) -> _Answer:
        """The answer to a chunk, from the ledger or bought; on disk before anybody reads it.

        Parts that cannot be loaded leave the chunk, and are named in the result. Two documents with the same
        bytes ask once: the key's lock makes the second find the first one's answer.
        """
        key = self._key(document, chunk, hint)
        async with self._key_locks.setdefault(key, asyncio.Lock()):
            reply = self._ledger.answer(key)
            if reply is not None:
                return self._bill(chunk, key, reply, True)
            async with self._in_flight:
                loaded = await self._workers.load(document, chunk.parts, self._rendering)
                lost = ChunkResult()
                if any(item.error for item in loaded):
                    chunk, lost = _without_unreadable(chunk, loaded)
                    key = self._key(document, chunk, hint)
                    reply = self._ledger.answer(key)
                    if reply is not None:
                        return self._bill(chunk, key, reply, True, lost)
                reply = await self._ask(document, chunk, loaded, key, hint)
        return self._bill(chunk, key, reply, False, lost)

    async def _ask(
        self, document: Document, chunk: Chunk, loaded: Sequence[Loaded], key: str, hint: str | None
    ) -> Reply:
        good = tuple(item for item in loaded if item.error is None)
        reserve = chunk.estimate.safe + self._preamble.safe + int(self._parameters["max_tokens"])
        self._tell(Event("request_started", document.source.name))
        while True:
            rung = self.config.profile.ladder[self._rung_index]
            frame = self._frames[rung]
            request = Request(
                key=key,
                model=self.config.profile.model,
                system=frame.system,
                contents=prompt.contents(frame, document, chunk, good, hint),
                schema=self._chunk_schema.schema,
                schema_name=self._chunk_schema.name,
                rung=rung,
                parameters=self._parameters,
            )
            try:
                reply = await self._client.ask(request, reserve_tokens=reserve)
            except RequestRejected as error:
                if not _is_about_the_rung(error) or rung == self.config.profile.ladder[-1]:
                    raise
                self._rung_index = self.config.profile.ladder.index(rung) + 1
                continue
            self._ledger.store_answer(key, reply)
            return reply

    def _bill(
        self, chunk: Chunk, key: str, reply: Reply, from_ledger: bool, lost: ChunkResult | None = None
    ) -> _Answer:
        usage = reply.usage
        expense = Expense(
            key, usage, cost_usd(self.config.profile, usage.input_tokens, usage.output_tokens), from_ledger
        )
        result = ChunkResult(expenses=(expense,), keys=(key,))
        self._tell(Event("request_finished", from_ledger=from_ledger))
        return _Answer(chunk, reply, result if lost is None else lost + result)

    def _read_answer(self, answer: _Answer, attempts: int) -> ChunkResult:
        """The answer's data in the user's shape. Raises ReplyError classes and ContentRefused."""
        parsed = parse.parse(answer.reply, self._chunk_schema)
        data, cites = schema.restore(parsed.value, self._chunk_schema)
        return ChunkResult(
            partials=(Partial(answer.chunk, data, cites),),
            outcomes=outcomes_of(answer.chunk, "answered", attempts),
            problems=tuple(replace(problem, part_index=None) for problem in parsed.problems),
            page_words=answer.reply.page_words,
        )

    async def _split(self, document: Document, chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
        """The halves of a chunk that was cut off, too long or refused; a single part is given up with its reason."""
        halves = split_chunk(chunk)
        if len(halves) == 1:
            return _failed(chunk, error, attempts)
        result = ChunkResult()
        for half in halves:
            result += await self._ingest_chunk(document, half, attempts)
        return result

    def _record_attempt(self, attempt: Attempt) -> None:
        cost = cost_usd(self.config.profile, attempt.usage.input_tokens, attempt.usage.output_tokens)
        self._ledger.record_attempt(
            self._run_id,
            attempt.key,
            attempt.elapsed_s,
            attempt.outcome,
            attempt.message,
            attempt.usage,
            cost if attempt.outcome == "answered" else None,
        )

    # --- merging ---

    async def _merge(self, document: Document, result: ChunkResult) -> Findings:
        document_schema = self.config.recipe.document_schema
        if not result.partials:
            return Findings(None, {}, (), (), False)
        merged = await asyncio.to_thread(merge, result.partials, document_schema, self.config.recipe.merge)
        pages = await self._page_texts(document, result, merged)
        return await asyncio.to_thread(_check, merged, document_schema, pages, _chunk_pages(result))

    async def _page_texts(self, document: Document, result: ChunkResult, merged: Merged) -> dict[int, PageText]:
        """Words by page number: the text layer's, else those the model's side read from the image."""
        parts = [outcome.part for outcome in result.outcomes if outcome.status == "answered"]
        if len(parts) > _GROUND_ALL_PAGES:
            cited = {origin.cite.part_number for origins in merged.origins.values() for origin in origins}
            parts = [part for part in parts if part.number in cited]
        # As text, a page is loaded without rendering it.
        with_text = [replace(part, mode="text") for part in parts if part.text.chars]
        loaded = await self._workers.load(document, with_text, self._rendering) if with_text else ()
        words = {item.part.index: item.words for item in loaded}
        texts = {part.number: PageText(part.number, words.get(part.index, ())) for part in parts}
        sizes = {part.number: (part.width_pt, part.height_pt) for part in parts}
        for page in result.page_words:
            if page.part_number in texts and not texts[page.part_number].words:
                texts[page.part_number] = PageText(page.part_number, _to_points(page, sizes[page.part_number]))
        return texts


def _has_ledger(output: Path | None) -> bool:
    return output is not None and (output / LEDGER_FOLDER).is_dir()


def _local_app() -> Any:
    """The embedded engine, mounted in-process; imported only when asked for."""
    from ingest.local.server import create_app

    return create_app()


def _rendering(config: Config) -> Rendering:
    profile = config.profile
    rule = profile.images[config.asking.image_detail or profile.default_detail]
    limits = profile.image_limits
    return Rendering(
        max_pixels=rule.max_pixels,
        max_bytes=min(profile.image_bytes, limits.max_bytes),
        min_side_px=limits.min_side_px,
        max_aspect_ratio=limits.max_aspect_ratio,
        jpeg_quality=config.reading.jpeg_quality,
    )


def _parameters(config: Config) -> dict[str, Any]:
    """The model's settings by gateway name; which of them an endpoint takes is for the wire to know."""
    asking, profile = config.asking, config.profile
    parameters: dict[str, Any] = {
        "max_tokens": asking.max_tokens or profile.default_output_tokens,
        "enable_thinking": asking.enable_thinking,
        "image_detail": asking.image_detail or profile.default_detail,
    }
    if asking.enable_thinking and asking.reasoning_effort:
        parameters["reasoning_effort"] = asking.reasoning_effort
    return parameters


def _preamble(config: Config, frame: prompt.Frame, chunk_schema: schema.ChunkSchema) -> Estimate:
    profile = config.profile
    schema_text = json.dumps(chunk_schema.schema, ensure_ascii=False)
    text = "".join((frame.system, frame.opening, frame.closing, schema_text))
    overhead = profile.overhead.per_request + 2 * profile.overhead.per_message + 3 * profile.overhead.per_part
    return estimate_text(TextStats.of(text), profile.text) + Estimate(overhead, overhead)


def _limits(config: Config, preamble: Estimate) -> Limits:
    output_tokens = config.asking.max_tokens or config.profile.default_output_tokens
    return request_limits(config.profile, preamble, config.planning.target_tokens, output_tokens)


def _is_about_the_rung(error: RequestRejected) -> bool:
    """Whether a refusal is about the way the schema was handed over, not about its content."""
    words = error.message.lower()
    return any(word in words for word in ("response_format", "json_schema", "tool_choice", "tools"))


def _failed(chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
    status: PartStatus = "refused" if isinstance(error, ContentRefused) else "failed"
    stage = "parse" if isinstance(error, ReplyError) else "read" if isinstance(error, SourceError) else "ask"
    problems = tuple(Problem(stage, error.code, error.message, part.index) for part in chunk.owned[:1])
    if len(chunk.owned) > 1:
        first, last = chunk.owned[0].number, chunk.owned[-1].number
        problems = (Problem(stage, error.code, f"parts {first} to {last}: {error.message}"),)
    return ChunkResult(outcomes=outcomes_of(chunk, status, attempts, error.message), problems=problems)


def _without_unreadable(chunk: Chunk, loaded: Sequence[Loaded]) -> tuple[Chunk, ChunkResult]:
    """The chunk less the parts that could not be loaded, and what became of those.

    Raises Unreadable when nothing is left that the chunk owns.
    """
    errors = {item.part.index: item.error for item in loaded if item.error is not None}
    owned = tuple(part for part in chunk.owned if part.index not in errors)
    if not owned:
        first = errors[chunk.owned[0].index]
        raise Unreadable(first.message if first else "no part could be read", chunk.owned[0].index)
    context = tuple(part for part in chunk.context if part.index not in errors)
    lost = tuple(part for part in chunk.owned if part.index in errors)
    outcomes = tuple(
        PartOutcome(part, "failed", chunk.index, 0, problem.message if (problem := errors[part.index]) else None)
        for part in lost
    )
    problems = tuple(problem for part in lost if (problem := errors[part.index]) is not None)
    return replace(chunk, owned=owned, context=context), ChunkResult(outcomes=outcomes, problems=problems)


def _check(
    merged: Merged, document_schema: JsonObject, pages: dict[int, PageText], chunk_pages: dict[int, tuple[int, ...]]
) -> Findings:
    """The merged data made to fit the user's schema, each value looked up on its page, and what is wrong with it."""
    data = checks.prune(merged.data, document_schema)
    problems = checks.validate(data, document_schema)
    return Findings(
        data=data,
        provenance=ground(data, merged.origins, pages, chunk_pages, document_schema),
        conflicts=ground_conflicts(merged.conflicts, merged.side_origins, pages, chunk_pages),
        problems=problems,
        is_valid=not problems,
    )


def _to_points(page: PageWords, size_pt: tuple[float, float]) -> tuple[Word, ...]:
    """Words with boxes as fractions of the image, as words with boxes in points of the page."""
    width, height = size_pt
    return tuple(
        Word(word.text, (word.bbox[0] * width, word.bbox[1] * height, word.bbox[2] * width, word.bbox[3] * height))
        for word in page.words
    )


def _chunk_pages(result: ChunkResult) -> dict[int, tuple[int, ...]]:
    """Page numbers by chunk index: where a value may stand when not where the model said."""
    return {partial.chunk.index: tuple(part.number for part in partial.chunk.parts) for partial in result.partials}
