"""One chunk until it is answered, split to the part to blame, or given up: all that a worker of an executor runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ingest import tracing
from ingest.asking import parse, prompt, schema
from ingest.asking.coerce import Change
from ingest.asking.schema.write import PAGE, TIME, VALUE
from ingest.engine import slicing
from ingest.engine.assembly import ChunkResult, Expense, PartOutcome, Unasked, badness
from ingest.engine.blueprint import Brief
from ingest.engine.output_limits import OutputLimit, short_key
from ingest.engine.quotes import quote_chunk
from ingest.engine.session import Session
from ingest.engine.slicing import Ask, Said
from ingest.errors import (
    AuthRejected,
    BudgetReached,
    ContentRefused,
    ContextExceeded,
    DeadlinePassed,
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
from ingest.planning.pricing import cost_usd
from ingest.record import PartStatus
from ingest.types import Chunk, Cite, Document, Event, Json, Loaded, PageWords, Part, Partial, Problem, Reply

_SPLITTABLE = (ContextExceeded, ContentRefused)
_RUNG_WORDS = ("response_format", "json_schema", "text.format", "output_config", "tool_choice", "tools")
_STOPS_THE_RUN = (AuthRejected, QuotaExhausted)
# Requests for one part before it is given up; a long table at a very small output limit takes dozens.
_MAX_ASKS_PER_PART = 100

_MAX_NOTES, _MAX_NOTE_CHARS = 50, 60

# Half a unit of the last digit of `[12.0 second]`.
_ROUNDED_S = 0.051

_Timed = TypeVar("_Timed", Cite, PageWords)
_Place = tuple[int, int]


async def process_chunk(session: Session, document: Document, chunk: Chunk) -> ChunkResult:
    """Everything about one chunk; what goes wrong is in the result.

    Cut off: what is complete is kept, and the rest asked for in smaller questions (see `slicing`). Too long or refused:
    asked again in halves. Not JSON or off the schema: asked once more, with the validator's words. Beyond the limit on
    money: skipped.

    Raises AuthRejected and QuotaExhausted, which end the run, and LedgerError.
    """
    exchange = Exchange(session, document, chunk)
    first, last = chunk.owned[0], chunk.owned[-1]
    where = {"ingest.chunk.first": first.number, "ingest.chunk.last": last.number, "ingest.chunk.kind": first.kind}
    with tracing.span("ingest chunk", {"chunk": chunk.index}, {"ingest.chunk.index": chunk.index, **where}) as step:
        await exchange.settle(Ask(chunk))
        result = exchange.result()
        step.set(
            {
                "ingest.requests": len(result.expenses),
                "ingest.from_ledger": sum(expense.from_ledger for expense in result.expenses),
                "ingest.status": min((outcome.status for outcome in result.outcomes), key=badness, default="answered"),
            }
        )
    return result


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with the question it answers (parts that could not be loaded have left it) and its key."""

    ask: Ask
    reply: Reply
    key: str


@dataclass(frozen=True, slots=True)
class _Hole:
    """A question that got no answer, or parts of it that could not even be sent."""

    chunk: Chunk
    status: PartStatus
    reason: str


class _Recut(Exception):
    """The chunk has to be asked for in pieces: it could pass the price step as token counts are known by now."""

    def __init__(self, pieces: tuple[Chunk, ...]) -> None:
        super().__init__()
        self.pieces = pieces


class _Again(Exception):
    """The answer that left a hole was set aside: the question is put again."""


class Exchange:
    """All questions about one chunk, what was said to them, and what they cost."""

    def __init__(self, session: Session, document: Document, chunk: Chunk) -> None:
        self._session = session
        self._document = document
        self._schema = session.brief(document).chunk_schema
        self._most_asks = _MAX_ASKS_PER_PART * len(chunk.owned)
        self._books = ChunkResult()
        self._said: list[Said] = []
        self._holes: list[_Hole] = []
        self._lost: list[PartOutcome] = []
        self._attempts: Counter[_Place] = Counter()
        self._asks = 0
        # Keys of answers that are asked for again: see `_set_aside`.
        self._aside: set[str] = set()

    async def settle(self, ask: Ask) -> None:
        """Ask until every owned part is answered at every slot, or has a hole with its reason."""
        while True:
            before = self._books, self._attempts.copy(), self._asks, len(self._lost)
            try:
                return await self._settle(ask)
            except _Again:
                # As if the answer had never been there, in the record too.
                self._books, self._attempts, self._asks, lost = before
                del self._lost[lost:]

    async def _settle(self, ask: Ask) -> None:
        hint: str | None = None
        while True:
            answer: Answer | None = None
            try:
                answer = await self._answer(ask, hint)
                ask = answer.ask
                self._count(ask)
                return self._take(answer)
            except _STOPS_THE_RUN:
                raise
            except _Recut as recut:
                return await self._settle_all([replace(ask, chunk=piece) for piece in recut.pieces])
            except BudgetReached as error:
                return self._unaffordable(ask, error)
            except Truncated as error:
                assert answer is not None
                return await self._go_on(answer, error)
            except _SPLITTABLE as error:
                return await self._split(ask, error, answer)
            except ReplyError as error:
                if answer is None or hint is not None:
                    return self._give_up(ask, error, answer, hint)
                hint = error.message
            except (ModelError, SourceError) as error:
                return self._give_up(ask, error, answer)

    async def _settle_all(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            await self.settle(ask)

    async def _split(self, ask: Ask, error: IngestError, answer: Answer | None) -> None:
        """The question in halves of its parts; a single part is given up with its reason."""
        halves = slicing.in_halves(ask)
        if len(halves) == 1:
            return self._give_up(ask, error, answer)
        if answer is None:
            self._count(ask)
        return await self._settle_all(halves)

    async def _go_on(self, answer: Answer, error: Truncated) -> None:
        """Keep what is complete of an answer that was cut off, and ask for the rest in smaller questions."""
        ask = answer.ask
        cut = parse.read_cut(answer.reply, self._brief(ask).chunk_schema) or parse.CutAnswer({}, ())
        step = slicing.next_step(ask, cut, self._schema, _part_of)
        if step is None or self._asks + len(step.asks) > self._most_asks:
            return self._give_up(ask, error, answer)
        if step.said:
            self._said += step.said
            self._hear(answer)
        return await self._settle_all(step.asks)

    def _take(self, answer: Answer) -> None:
        """Keep an answer. Raises ReplyError classes and ContentRefused."""
        ask = answer.ask
        parsed = parse.parse(answer.reply, self._brief(ask).chunk_schema)
        value = slicing.fresh(parsed.value, ask)
        self._said.append(Said(ask.chunk, ask.scope.slots or self._schema.slots, value, ask.scope.columns))
        self._books += ChunkResult(problems=parsed.problems, notes=tuple(_notes(parsed.changes)))
        self._hear(answer)

    def _hear(self, answer: Answer) -> None:
        """The words that came with an answer, for grounding."""
        words = tuple(_in_pieces(answer.reply.page_words, answer.ask.chunk))
        self._books += ChunkResult(page_words=words)

    def _count(self, ask: Ask) -> None:
        self._asks += 1
        self._attempts.update(_place(part) for part in ask.chunk.owned)

    def _brief(self, ask: Ask) -> Brief:
        brief = self._session.brief(self._document)
        return self._session.blueprint.narrowed(brief, ask.scope.slots, ask.scope.columns)

    # --- asking ---

    async def _answer(self, ask: Ask, hint: str | None) -> Answer:
        """The answer to a question, from the ledger or bought; on disk before anybody reads it.

        Parts that cannot be loaded leave the chunk, and are noted.
        """
        session, document = self._session, self._document
        key = self._key(ask, hint)
        async with session.turn(key, document, ask.chunk, is_aside=key in self._aside) as turn:
            if turn.reply is not None:
                self._recall(key)
                return self._bill(ask, key, turn.reply, from_ledger=True)
            assert turn.place is not None
            reply: Reply | None = None
            ask = replace(ask, chunk=self._affordable(self._recut(ask, hint), key))
            loaded = await session.load(document, ask.chunk, turn.place)
            if any(item.error for item in loaded):
                ask = self._without_unreadable(ask, loaded)
                key = self._key(ask, hint)
                reply = session.turns.recall(key, is_aside=key in self._aside)
            is_known = reply is not None
            has_short = self._recall(key)
            if reply is None:
                reply = await self._ask(ask, loaded, key, hint, is_repeat=hint is not None or has_short)
        return self._bill(ask, key, reply, from_ledger=is_known)

    def _recall(self, key: str) -> bool:
        """Whether an answer was cut off at the first, lower output limit before; its bill is part of this one."""
        reply = self._session.turns.recall(short_key(key))
        if reply is not None:
            self._note(short_key(key), reply, from_ledger=True)
        return reply is not None

    def _key(self, ask: Ask, hint: str | None) -> str:
        narrowed = None if ask.scope == slicing.WHOLE else ask.scope.identity
        return self._session.key(self._document, ask.chunk, hint, narrowed)

    def _recut(self, ask: Ask, hint: str | None) -> Chunk:
        """The chunk with its present estimate. Raises _Recut when it has to go in pieces; only whole questions do."""
        is_whole = hint is None and ask.scope == slicing.WHOLE
        pieces = self._session.replan(self._document, ask.chunk) if is_whole else (ask.chunk,)
        if len(pieces) > 1:
            raise _Recut(pieces)
        return pieces[0]

    def _affordable(self, chunk: Chunk, key: str) -> Chunk:
        """The chunk. Raises BudgetReached before anything is rendered when not even its least price is left."""
        session, document = self._session, self._document
        planner, limit = session.planner(document), session.limits(document, chunk, key)[0]
        least_usd = least_cost_usd(planner.profile, planner.estimate(chunk).expected, limit.max_tokens)
        session.books.budget.check(document.source.name, least_usd)
        return chunk

    async def _ask(self, ask: Ask, loaded: Sequence[Loaded], key: str, hint: str | None, *, is_repeat: bool) -> Reply:
        """Ask at the first output limit, and at the full one when the answer is cut off. It is on disk then."""
        for limit in self._session.limits(self._document, ask.chunk, key):
            reply = await self._ask_once(ask, loaded, limit, hint, is_repeat=is_repeat)
            if not limit.cuts(reply):
                break
            self._note(limit.key, reply, from_ledger=False)
            is_repeat = True
        return reply

    async def _ask_once(
        self, ask: Ask, loaded: Sequence[Loaded], limit: OutputLimit, hint: str | None, *, is_repeat: bool
    ) -> Reply:
        """Ask on the present rung; a rung the endpoint refuses is left for the one below."""
        session, document, chunk = self._session, self._document, ask.chunk
        session.tell(Event("request_started", document.source.name))
        brief, name = self._brief(ask), document.source.name
        input_tokens = session.planner(document).estimate(chunk).safe
        reserve_tokens = input_tokens + min(chunk.answer.safe, limit.max_tokens)
        # Only the usual question, the whole schema without a hint, has the prompt that is counted.
        unusual = hint if ask.scope == slicing.WHOLE else ask.scope.name
        while True:
            rung = session.rung
            contents = prompt.contents(brief.frames[rung], document, chunk, loaded, hint, slicing.words(ask))
            request = session.request(limit.key, brief, contents, rung, limit.max_tokens)
            try:
                with session.books.asking(request, name, is_repeat=is_repeat):
                    reply = await session.client.ask(request, reserve_tokens, input_tokens + limit.max_tokens)
                    session.keep(document, chunk, limit, reply, unusual)
            except RequestRejected as error:
                if not _is_about_the_rung(error) or not session.step_down(rung):
                    raise
            else:
                session.rungs.answered(rung, not session.rungs.is_on_trial(rung) or _fits(reply, brief))
                return reply

    def _note(self, key: str, reply: Reply, *, from_ledger: bool) -> None:
        usage, session = reply.usage, self._session
        cost = cost_usd(session.config.profile, usage.input_tokens, usage.output_tokens)
        session.tell(Event("request_finished", self._document.source.name, from_ledger=from_ledger))
        self._books += ChunkResult(expenses=(Expense(key, usage, cost, from_ledger),), keys=(key,))

    def _bill(self, ask: Ask, key: str, reply: Reply, *, from_ledger: bool) -> Answer:
        self._note(key, reply, from_ledger=from_ledger)
        return Answer(ask, reply, key)

    def _without_unreadable(self, ask: Ask, loaded: Sequence[Loaded]) -> Ask:
        """The question less the parts that could not be loaded; what became of those is noted.

        Raises Unreadable when nothing is left that the chunk owns.
        """
        chunk = ask.chunk
        errors = {item.part.index: item.error for item in loaded if item.error is not None}
        owned = tuple(part for part in chunk.owned if part.index not in errors)
        if not owned:
            raise Unreadable(errors[chunk.owned[0].index].message, chunk.owned[0].index)
        lost = [part for part in chunk.owned if part.index in errors]
        start = _place(owned[0])
        self._lost += [PartOutcome(part, "failed", start, 0, errors[part.index].message) for part in lost]
        self._books += ChunkResult(problems=tuple(errors[part.index] for part in lost))
        context = tuple(part for part in chunk.context if part.index not in errors)
        return replace(ask, chunk=replace(chunk, owned=owned, context=context))

    # --- holes ---

    def _set_aside(self, ask: Ask, answer: Answer, hint: str | None) -> None:
        """With `--retry`, have an answer that leaves a hole asked for again, once, when an earlier run got it.

        Raises _Again. Answers that were of use, the larger ones that were cut off or refused before included, stay.
        """
        if not self._session.config.keeping.retry:
            return
        keys = {answer.key, self._key(ask, hint), self._key(ask, None)}
        earlier = {key for key in keys - self._aside if self._session.turns.is_earlier(key)}
        if earlier:
            self._aside |= earlier
            raise _Again

    def _give_up(self, ask: Ask, error: IngestError, answer: Answer | None, hint: str | None = None) -> None:
        """Note a hole with its reason. Raises _Again when the answer that leaves it is asked for again."""
        if answer is None:
            self._count(ask)
        else:
            self._set_aside(ask, answer, hint)
        statuses: dict[type[IngestError], PartStatus] = {ContentRefused: "refused", DeadlinePassed: "skipped"}
        status = statuses.get(type(error), "failed")
        stage = "parse" if isinstance(error, ReplyError) else "read" if isinstance(error, SourceError) else "ask"
        chunk, name = ask.chunk, ask.scope.name
        first, last = chunk.owned[0], chunk.owned[-1]
        reason = f"{name}: {error.message}" if name else error.message
        told = f"{reason} (raw answer: key {answer.key})" if answer is not None else reason
        if first is last:
            problem = Problem(stage, error.code, told, first.index)
        else:
            problem = Problem(stage, error.code, f"{first.kind}s {first.number} to {last.number}: {told}")
        self._holes.append(_Hole(chunk, status, reason))
        self._books += ChunkResult(problems=(problem,))

    def _unaffordable(self, ask: Ask, error: BudgetReached) -> None:
        """The chunk left out for lack of money, with what it would cost. The amounts stand in the summary alone."""
        session, chunk = self._session, ask.chunk
        quote = quote_chunk(session.blueprint, self._document, chunk, session.calibration)
        reason = "the limit on money was reached before this was asked: run again with more to go on from here"
        unasked = Unasked(len(chunk.owned), quote.expected_usd, quote.ceiling_usd, error.message)
        self._holes.append(_Hole(chunk, "skipped", reason))
        self._books += ChunkResult(problems=(Problem("ask", error.code, reason),), unasked=(unasked,))

    # --- the result ---

    def result(self) -> ChunkResult:
        """Everything about the chunk: data by runs of parts that no question divides, and what became of each part."""
        asked = [*(said.chunk for said in self._said), *(hole.chunk for hole in self._holes)]
        runs = slicing.runs_of(asked)
        pieces: dict[_Place, list[Said]] = {_place(run.owned[0]): [] for run in runs}
        for said in self._said:
            for run, share in slicing.shares(said, runs, _part_of):
                pieces[_place(run.owned[0])].append(share)
        partials = tuple(self._partial(run, own) for run in runs if (own := pieces[_place(run.owned[0])]))
        holes: dict[_Place, _Hole] = {}
        for status in ("answered", "skipped", "refused", "failed"):
            holes |= {_place(part): hole for hole in self._holes if hole.status == status for part in hole.chunk.owned}
        outcomes = [self._outcome(part, run, holes.get(_place(part))) for run in runs for part in run.owned]
        words = tuple(dict.fromkeys(self._books.page_words))
        return replace(self._books, partials=partials, outcomes=(*outcomes, *self._lost), page_words=words)

    def _partial(self, run: Chunk, pieces: Sequence[Said]) -> Partial:
        try:
            value = slicing.together(pieces, self._schema)
        except slicing.UnevenColumns:
            reason = "a list that was asked for column by column came with columns of different lengths"
            self._holes.append(_Hole(run, "failed", reason))
            self._books += ChunkResult(problems=(Problem("parse", "uneven_columns", reason, run.owned[0].index),))
            value = slicing.together([piece for piece in pieces if piece.columns is None], self._schema)
        data, cites = schema.restore(value, self._schema)
        return Partial(run, data, {pointer: _placed(cite, run) for pointer, cite in cites.items()})

    def _outcome(self, part: Part, run: Chunk, hole: _Hole | None) -> PartOutcome:
        start, attempts = _place(run.owned[0]), self._attempts[_place(part)]
        if hole is None:
            return PartOutcome(part, "answered", start, attempts)
        return PartOutcome(part, hole.status, start, attempts, hole.reason)


def _place(part: Part) -> _Place:
    return part.index, part.piece


def _part_of(value: Json, chunk: Chunk) -> int | None:
    """The number of the part an entry, or a value with its evidence, is cited at."""
    if not isinstance(value, dict):
        return None
    number, time_s = value.get(PAGE), value.get(TIME)
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if isinstance(time_s, int | float) and not isinstance(time_s, bool):
        return _placed(Cite(None, None, float(time_s)), chunk).part_number
    return None


def _notes(changes: Sequence[Change]) -> Iterator[Problem]:
    """What was written anew in an answer to fit the schema."""
    for change in changes[:_MAX_NOTES]:
        place = "/".join(str(step) for step in change.path if step != VALUE)
        yield Problem("parse", "normalised", f"{place}: {_shown(change.said)} is {_shown(change.value)}")
    if len(changes) > _MAX_NOTES:
        yield Problem("parse", "normalised", f"{len(changes) - _MAX_NOTES} further values were written anew")


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_NOTE_CHARS else f"{text[: _MAX_NOTE_CHARS - 1]}…"


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


def _in_pieces(read: Sequence[PageWords], chunk: Chunk) -> Iterator[PageWords]:
    """The words of images, each with the part it shows; images of one page come in the order of its pieces."""
    sent: dict[int, list[Part]] = {}
    for part in chunk.parts:
        if part.mode in ("image", "both"):
            sent.setdefault(part.number, []).append(part)
    for words in read:
        placed = _placed(words, chunk)
        pieces = sent.get(placed.part_number or 0, [])
        if len(pieces) > 1 or any(part.pieces > 1 for part in pieces):
            part = pieces.pop(0)
            placed = replace(placed, piece=part.piece, pieces=part.pieces)
        yield placed


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
