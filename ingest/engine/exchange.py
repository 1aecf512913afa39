"""One chunk until it is answered, split to the part to blame, or given up: all that a worker of an executor runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.asking import parse, prompt, schema
from ingest.engine.assembly import ChunkResult, Expense, PartOutcome, outcomes_of
from ingest.engine.session import Session
from ingest.errors import (
    AuthRejected,
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
from ingest.planning.chunks import split_chunk
from ingest.planning.pricing import cost_usd
from ingest.record import PartStatus
from ingest.types import Chunk, Cite, Document, Event, Loaded, Partial, Problem, Reply

_SPLITTABLE = (Truncated, ContextExceeded, ContentRefused)
_STOPS_THE_RUN = (AuthRejected, QuotaExhausted)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply with the chunk it answers (parts that could not be loaded have left it) and its bill."""

    chunk: Chunk
    reply: Reply
    result: ChunkResult


async def process_chunk(session: Session, document: Document, chunk: Chunk, attempts: int = 0) -> ChunkResult:
    """Everything about one chunk; what goes wrong is in the result.

    Cut off, too long or refused: asked again in halves. Not JSON or off the schema: asked once more, with the
    validator's words. `attempts` counts the asks that carried these parts before.

    Raises AuthRejected and QuotaExhausted, which end the run, and LedgerError.
    """
    result = ChunkResult()
    hint: str | None = None
    while True:
        attempts += 1
        try:
            answer = await _answer(session, document, chunk, hint)
            chunk, result = answer.chunk, result + answer.result
            return result + _read_answer(session, document, answer, attempts)
        except _STOPS_THE_RUN:
            raise
        except _SPLITTABLE as error:
            return result + await _split(session, document, chunk, error, attempts)
        except ReplyError as error:
            if hint is not None:
                return result + _given_up(chunk, error, attempts)
            hint = error.message
        except (ModelError, SourceError) as error:
            return result + _given_up(chunk, error, attempts)


async def _answer(session: Session, document: Document, chunk: Chunk, hint: str | None) -> _Answer:
    """The answer to a chunk, from the ledger or bought; on disk before anybody reads it.

    Parts that cannot be loaded leave the chunk, and are named in the result.
    """
    key = session.key(document, chunk, hint)
    async with session.lock(key):
        reply = session.ledger.answer(key)
        if reply is not None:
            return _bill(session, document, chunk, key, reply, from_ledger=True)
        async with session.in_flight:
            loaded = await session.workers.load(document, chunk.parts, session.rendering)
            lost = ChunkResult()
            if any(item.error for item in loaded):
                chunk, lost = _without_unreadable(chunk, loaded)
                key = session.key(document, chunk, hint)
                reply = session.ledger.answer(key)
            is_known = reply is not None
            if reply is None:
                reply = await _ask(session, document, chunk, loaded, key, hint)
                session.ledger.store_answer(key, reply)
    answer = _bill(session, document, chunk, key, reply, from_ledger=is_known)
    return replace(answer, result=lost + answer.result)


async def _ask(
    session: Session, document: Document, chunk: Chunk, loaded: Sequence[Loaded], key: str, hint: str | None
) -> Reply:
    """Ask on the present rung; a rung the endpoint refuses is left for the one below."""
    session.tell(Event("request_started", document.source.name))
    brief = session.brief(document)
    reserve_tokens = chunk.estimate.safe + brief.preamble.safe + int(brief.parameters["max_tokens"])
    while True:
        rung = session.rung
        contents = prompt.contents(brief.frames[rung], document, chunk, loaded, hint)
        try:
            return await session.client.ask(session.request(key, brief, contents, rung), reserve_tokens)
        except RequestRejected as error:
            if not _is_about_the_rung(error) or not session.step_down(rung):
                raise


def _bill(session: Session, document: Document, chunk: Chunk, key: str, reply: Reply, *, from_ledger: bool) -> _Answer:
    usage = reply.usage
    cost = cost_usd(session.config.profile, usage.input_tokens, usage.output_tokens)
    session.tell(Event("request_finished", document.source.name, from_ledger=from_ledger))
    return _Answer(chunk, reply, ChunkResult(expenses=(Expense(key, usage, cost, from_ledger),), keys=(key,)))


def _read_answer(session: Session, document: Document, answer: _Answer, attempts: int) -> ChunkResult:
    """The answer's data in the user's shape. Raises ReplyError classes and ContentRefused."""
    chunk_schema = session.brief(document).chunk_schema
    parsed = parse.parse(answer.reply, chunk_schema)
    data, cites = schema.restore(parsed.value, chunk_schema)
    placed = {pointer: _placed(cite, answer.chunk) for pointer, cite in cites.items()}
    return ChunkResult(
        partials=(Partial(answer.chunk, data, placed),),
        outcomes=outcomes_of(answer.chunk, "answered", attempts),
        problems=parsed.problems,
        page_words=answer.reply.page_words,
    )


def _placed(cite: Cite, chunk: Chunk) -> Cite:
    """A cite by time with the number of the part of the chunk that shows that time."""
    time_s = cite.time_s
    if time_s is None or cite.part_number is not None:
        return cite
    timed = [part for part in chunk.parts if part.moments]
    within = (part for part in timed if part.moments[0].start_s <= time_s < part.moments[-1].end_s)
    nearest = min(timed, key=lambda part: abs(part.moments[0].timestamp_s - time_s), default=None)
    part = next(within, nearest)
    return cite if part is None else replace(cite, part_number=part.number)


async def _split(session: Session, document: Document, chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
    """The chunk in halves, never the same size again; a single part is given up with its reason."""
    halves = split_chunk(chunk)
    if len(halves) == 1:
        return _given_up(chunk, error, attempts)
    result = ChunkResult()
    for half in halves:
        result += await process_chunk(session, document, half, attempts)
    return result


def _is_about_the_rung(error: RequestRejected) -> bool:
    """Whether a refusal is about the way the schema was handed over, not about its content."""
    words = error.message.lower()
    return any(word in words for word in ("response_format", "json_schema", "tool_choice", "tools"))


def _given_up(chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
    status: PartStatus = "refused" if isinstance(error, ContentRefused) else "failed"
    stage = "parse" if isinstance(error, ReplyError) else "read" if isinstance(error, SourceError) else "ask"
    first, last = chunk.owned[0], chunk.owned[-1]
    if first is last:
        problem = Problem(stage, error.code, error.message, first.index)
    else:
        problem = Problem(stage, error.code, f"{first.kind}s {first.number} to {last.number}: {error.message}")
    return ChunkResult(outcomes=outcomes_of(chunk, status, attempts, error.message), problems=(problem,))


def _without_unreadable(chunk: Chunk, loaded: Sequence[Loaded]) -> tuple[Chunk, ChunkResult]:
    """The chunk less the parts that could not be loaded, and what became of those.

    Raises Unreadable when nothing is left that the chunk owns.
    """
    errors = {item.part.index: item.error for item in loaded if item.error is not None}
    owned = tuple(part for part in chunk.owned if part.index not in errors)
    if not owned:
        raise Unreadable(errors[chunk.owned[0].index].message, chunk.owned[0].index)
    lost = [part for part in chunk.owned if part.index in errors]
    result = ChunkResult(
        outcomes=tuple(PartOutcome(part, "failed", chunk.index, 0, errors[part.index].message) for part in lost),
        problems=tuple(errors[part.index] for part in lost),
    )
    context = tuple(part for part in chunk.context if part.index not in errors)
    return replace(chunk, owned=owned, context=context), result
