"""One chunk until it is answered, split to the part to blame, or given up: all that a worker of an executor runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ingest.asking import parse, prompt, schema
from ingest.engine.assembly import ChunkResult, Expense, PartOutcome, Unasked, outcomes_of
from ingest.engine.blueprint import Brief
from ingest.engine.quotes import quote_chunk
from ingest.engine.session import Session
from ingest.errors import (
    AuthRejected,
    BudgetReached,
    ContentRefused,
    ContextExceeded,
    IngestError,
    Malformed,
    ModelError,
    OffSchema,
    QuotaExhausted,
    ReplyError,
    RequestRejected,
    SourceError,
    Truncated,
    Unreadable,
)
from ingest.planning.budget import least_cost_usd
from ingest.planning.chunks import split_chunk
from ingest.planning.pricing import cost_usd
from ingest.record import PartStatus
from ingest.types import Chunk, Cite, Document, Event, Loaded, PageWords, Partial, Problem, Reply

_SPLITTABLE = (Truncated, ContextExceeded, ContentRefused)
_RUNG_WORDS = ("response_format", "json_schema", "text.format", "output_config", "tool_choice", "tools")
_STOPS_THE_RUN = (AuthRejected, QuotaExhausted)


# Half a unit of the last digit of `[12.0 second]`.
_ROUNDED_S = 0.051

_Timed = TypeVar("_Timed", Cite, PageWords)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply with the chunk it answers (parts that could not be loaded have left it) and its bill."""

    chunk: Chunk
    reply: Reply
    result: ChunkResult


class _Recut(Exception):
    """The chunk has to be asked for in pieces: it could pass the price step as token counts are known by now."""

    def __init__(self, pieces: tuple[Chunk, ...]) -> None:
        super().__init__()
        self.pieces = pieces


async def process_chunk(session: Session, document: Document, chunk: Chunk, attempts: int = 0) -> ChunkResult:
    """Everything about one chunk; what goes wrong is in the result.

    Cut off, too long or refused: asked again in halves. Not JSON or off the schema: asked once more, with the
    validator's words. Beyond the limit on money: skipped. `attempts` counts the asks that carried these parts before.

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
        except _Recut as recut:
            for piece in recut.pieces:
                result += await process_chunk(session, document, piece, attempts - 1)
            return result
        except BudgetReached as error:
            return result + _unaffordable(session, document, chunk, error, attempts - 1)
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
            chunk = _affordable(session, document, _recut(session, document, chunk, hint))
            loaded = await session.workers.load(document, chunk.parts, session.rendering)
            lost = ChunkResult()
            if any(item.error for item in loaded):
                chunk, lost = _without_unreadable(chunk, loaded)
                key = session.key(document, chunk, hint)
                reply = session.ledger.answer(key)
            is_known = reply is not None
            if reply is None:
                reply = await _ask(session, document, chunk, loaded, key, hint)
    answer = _bill(session, document, chunk, key, reply, from_ledger=is_known)
    return replace(answer, result=lost + answer.result)


def _recut(session: Session, document: Document, chunk: Chunk, hint: str | None) -> Chunk:
    """The chunk with its present estimate. Raises _Recut when it has to go in pieces; only whole chunks do."""
    pieces = session.replan(document, chunk) if hint is None else (chunk,)
    if len(pieces) > 1:
        raise _Recut(pieces)
    return pieces[0]


def _affordable(session: Session, document: Document, chunk: Chunk) -> Chunk:
    """The chunk. Raises BudgetReached before anything is rendered when not even its least price is left."""
    planner, parameters = session.planner(document), session.brief(document).parameters
    least_usd = least_cost_usd(planner.profile, planner.estimate(chunk).expected, int(parameters["max_tokens"]))
    session.books.budget.check(document.source.name, least_usd)
    return chunk


async def _ask(
    session: Session, document: Document, chunk: Chunk, loaded: Sequence[Loaded], key: str, hint: str | None
) -> Reply:
    """Ask on the present rung; a rung the endpoint refuses is left for the one below. The answer is on disk then."""
    session.tell(Event("request_started", document.source.name))
    brief, name = session.brief(document), document.source.name
    answer_tokens = min(chunk.answer.safe, int(brief.parameters["max_tokens"]))
    reserve_tokens = session.planner(document).estimate(chunk).safe + answer_tokens
    while True:
        rung = session.rung
        contents = prompt.contents(brief.frames[rung], document, chunk, loaded, hint)
        request = session.request(key, brief, contents, rung)
        try:
            with session.books.asking(request, name, is_repeat=hint is not None):
                reply = await session.client.ask(request, reserve_tokens)
                session.keep(document, chunk, key, reply, hint)
        except RequestRejected as error:
            if not _is_about_the_rung(error) or not session.step_down(rung):
                raise
        else:
            session.rungs.answered(rung, not session.rungs.is_on_trial(rung) or _fits(reply, brief))
            return reply


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
        page_words=tuple(_placed(words, answer.chunk) for words in answer.reply.page_words),
    )


def _placed(place: _Timed, chunk: Chunk) -> _Timed:
    """What is told by time, with the number of the part of the chunk that shows that time."""
    time_s = place.time_s
    if time_s is None or place.part_number is not None:
        return place
    moments = [(part, moment) for part in chunk.parts for moment in part.moments]
    if not moments:
        return place
    # The model repeats the time written before a frame, which is rounded: the frame goes before the interval.
    part, moment = min(moments, key=lambda each: abs(each[1].timestamp_s - time_s))
    if abs(moment.timestamp_s - time_s) > _ROUNDED_S:
        part = next((each for each, moment in moments if moment.start_s <= time_s < moment.end_s), part)
    return replace(place, part_number=part.number)


async def _split(session: Session, document: Document, chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
    """The chunk in halves, never the same size again; a single part is given up with its reason."""
    halves = split_chunk(chunk)
    if len(halves) == 1:
        return _given_up(chunk, error, attempts)
    result = ChunkResult()
    for half in halves:
        result += await process_chunk(session, document, half, attempts)
    return result


def _fits(reply: Reply, brief: Brief) -> bool:
    """Whether an answer is what was asked for; one that was cut off or filtered says nothing of that."""
    try:
        parse.parse(reply, brief.chunk_schema)
    except (Malformed, OffSchema):
        return False
    except (Truncated, ContentRefused):
        pass
    return True


def _is_about_the_rung(error: RequestRejected) -> bool:
    """Whether a refusal is about the way the schema was handed over, not about its content."""
    words = error.message.lower()
    return any(word in words for word in _RUNG_WORDS)


def _given_up(chunk: Chunk, error: IngestError, attempts: int) -> ChunkResult:
    status: PartStatus = "refused" if isinstance(error, ContentRefused) else "failed"
    stage = "parse" if isinstance(error, ReplyError) else "read" if isinstance(error, SourceError) else "ask"
    first, last = chunk.owned[0], chunk.owned[-1]
    if first is last:
        problem = Problem(stage, error.code, error.message, first.index)
    else:
        problem = Problem(stage, error.code, f"{first.kind}s {first.number} to {last.number}: {error.message}")
    return ChunkResult(outcomes=outcomes_of(chunk, status, attempts, error.message), problems=(problem,))


def _unaffordable(
    session: Session, document: Document, chunk: Chunk, error: BudgetReached, attempts: int
) -> ChunkResult:
    """The chunk left out for lack of money, with what it would cost. The amounts stand in the summary alone."""
    quote = quote_chunk(session.blueprint, document, chunk, session.calibration)
    reason = "the limit on money was reached before this was asked: run again with more to go on from here"
    unasked = Unasked(len(chunk.owned), quote.expected_usd, quote.ceiling_usd, error.message)
    return ChunkResult(
        outcomes=outcomes_of(chunk, "skipped", attempts, reason),
        problems=(Problem("ask", error.code, reason),),
        unasked=(unasked,),
    )


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
        outcomes=tuple(
            PartOutcome(part, "failed", (chunk.owned[0].index, chunk.owned[0].piece), 0, errors[part.index].message)
            for part in lost
        ),
        problems=tuple(errors[part.index] for part in lost),
    )
    context = tuple(part for part in chunk.context if part.index not in errors)
    return replace(chunk, owned=owned, context=context), result
