"""The second look (`--verify`): each chunk is sent once more with what was found in it, to name what is amiss."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from ingest.asking import parse, prompt, schema
from ingest.engine.assembly import ChunkResult, Expense
from ingest.engine.session import Session
from ingest.errors import AuthRejected, ContextExceeded, IngestError, LedgerError, ModelError, QuotaExhausted
from ingest.merging.merge import Merged
from ingest.merging.review import apply_review
from ingest.planning.budget import worst_case
from ingest.planning.pricing import cost_usd
from ingest.planning.tokens import count_preamble
from ingest.types import Document, Partial, Problem, Reply

PURPOSE = "second look"
_WORDS = """\
These values were extracted from the document above before:
{data}
Compare them with the document. Answer in the same form with what is missing or wrong alone: null for every value \
that is right, the value as the document has it where it is missing or wrong, in lists only the entries that are \
missing."""


async def verify(
    session: Session, document: Document, result: ChunkResult, merged: Merged
) -> tuple[Merged, ChunkResult]:
    """`merged` with what second looks bring, and what they took.

    A look that fails, or that its share of the money does not allow, is left out and a problem says so: the record is
    as good as without it. Raises AuthRejected and QuotaExhausted, which end the run, and LedgerError.
    """
    made = ChunkResult()
    for partial in result.partials:
        try:
            reply, taken = await _look(session, document, partial)
            made += taken
            second = _read(session, document, partial, reply)
        except (AuthRejected, QuotaExhausted, LedgerError):
            raise
        except IngestError as error:
            first, last = partial.chunk.owned[0], partial.chunk.owned[-1]
            place = (
                f"{first.kind} {first.number}" if first is last else f"{first.kind}s {first.number} to {last.number}"
            )
            message = f"the second look at {place} was left out: {error.message}"
            made += ChunkResult(problems=(Problem("ask", "not_verified", message),))
            continue
        merged = await asyncio.to_thread(apply_review, merged, partial, second)
    return merged, made


def _read(session: Session, document: Document, partial: Partial, reply: Reply) -> Partial:
    """What a look says. Raises ReplyError classes and ContentRefused."""
    chunk_schema = session.brief(document).chunk_schema
    data, cites = schema.restore(parse.parse(reply, chunk_schema).value, chunk_schema)
    return Partial(partial.chunk, data, cites)


async def _look(session: Session, document: Document, partial: Partial) -> tuple[Reply, ChunkResult]:
    """The answer to one look, from the ledger or bought, and what it took."""
    known = _WORDS.format(data=json.dumps(partial.data, ensure_ascii=False, separators=(",", ":")))
    key = session.key(document, replace(partial.chunk, index=0), None, {"second look": known})
    async with session.turn(key, document) as turn:
        reply, is_known = turn.reply, turn.reply is not None
        if reply is None:
            reply = await _buy(session, document, partial, key, known)
    usage = reply.usage
    cost = cost_usd(session.config.profile, usage.input_tokens, usage.output_tokens)
    return reply, ChunkResult(expenses=(Expense(key, usage, cost, is_known),), keys=(key,))


async def _buy(session: Session, document: Document, partial: Partial, key: str, known: str) -> Reply:
    """The answer, on disk when this returns. Raises what asking can raise, and BudgetReached beyond their share."""
    chunk, brief, rung, name = partial.chunk, session.brief(document), session.rung, document.source.name
    tokens = (
        session.planner(document).estimate(chunk).safe + count_preamble((known,), session.config.profile).total_safe
    )
    if tokens > brief.limits.cap_tokens:
        raise ContextExceeded("with what was found it is too long for one request of the cheapest price")
    loaded = await session.workers.load(document, chunk.parts, session.rendering)
    readable = [item for item in loaded if item.error is None]
    if not readable:
        raise ModelError("nothing of it could be loaded")
    contents = prompt.contents(brief.frames[rung], document, chunk, readable, None, known)
    request = session.request(key, brief, contents, rung)
    session.books.check_share(worst_case(request, session.config.profile).cost_usd)
    with session.books.asking(request, name, is_repeat=False, purpose=PURPOSE):
        reply = await session.client.ask(request, tokens + chunk.answer.safe)
        session.books.keep(key, reply, None)
    return reply
