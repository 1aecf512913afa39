"""The rule `synthesize`: one more request about a document, over what its chunks said and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ingest.asking import parse, prompt, schema
from ingest.asking.schema import ChunkSchema
from ingest.engine.assembly import ChunkResult, Expense
from ingest.engine.session import Session
from ingest.errors import AuthRejected, BudgetReached, ContextExceeded, ModelError, QuotaExhausted, ReplyError
from ingest.merging.merge import Merged
from ingest.merging.synthesis import Question, apply_answer, question_of
from ingest.planning.pricing import cost_usd
from ingest.planning.tokens import count_preamble
from ingest.types import Document, Problem, Reply, Request, Rung, Text

_CLOSING = "Answer with one JSON object that fits the schema, and nothing else."


@dataclass(frozen=True, slots=True)
class _Ask:
    """A question made ready: the request that puts it, and its safe estimate of input tokens."""

    request: Request
    chunk_schema: ChunkSchema
    tokens: int


async def synthesize(session: Session, document: Document, merged: Merged) -> tuple[Merged, ChunkResult]:
    """`merged` with the values the model makes of those on which chunks differ, and what asking took.

    Nothing is asked where nothing differs. When there is no answer, for lack of money or by failure, the longest of the
    chunks' values stays, and a problem says so.

    Raises AuthRejected and QuotaExhausted, which end the run, and LedgerError.
    """
    recipe = session.config.recipe
    question = question_of(merged, recipe.document_schema, recipe.merge)
    if question is None:
        return merged, ChunkResult()
    ask = _prepare(session, document, question)
    key = ask.request.key
    try:
        async with session.turn(key, document) as turn:
            reply, is_known = turn.reply, turn.reply is not None
            if reply is None:
                reply = await _buy(session, document, ask)
        usage = reply.usage
        cost = cost_usd(session.config.profile, usage.input_tokens, usage.output_tokens)
        result = ChunkResult(expenses=(Expense(key, usage, cost, is_known),), keys=(key,))
    except (AuthRejected, QuotaExhausted):
        raise
    except (BudgetReached, ModelError, ReplyError) as error:
        return merged, ChunkResult(problems=(_problem(error.message),))
    try:
        answer, _ = schema.restore(parse.parse(reply, ask.chunk_schema).value, ask.chunk_schema)
    except (ModelError, ReplyError) as error:
        return merged, result + ChunkResult(problems=(_problem(error.message),))
    return apply_answer(merged, question, answer), result


def _prepare(session: Session, document: Document, question: Question) -> _Ask:
    config, brief, rung = session.config, session.brief(document), session.rung
    chunk_schema = schema.derive(question.schema, "none", f"{config.recipe.name}_synthesis")
    system = question.instructions
    text = prompt.neutralise(question.text)
    identity = {
        "synthesis": [system, text, _CLOSING],
        "schema": chunk_schema.schema,
        "model": config.profile.model,
        "endpoint": config.endpoint.label,
        "parameters": brief.parameters,
    }
    written = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    request = Request(
        key=hashlib.sha256(written.encode()).hexdigest(),
        model=config.profile.model,
        system=system,
        contents=(Text(text), Text(_closing(rung, chunk_schema))),
        schema=chunk_schema.schema,
        schema_name=chunk_schema.name,
        rung=rung,
        parameters=brief.parameters,
    )
    counts = count_preamble((system, text, _CLOSING, json.dumps(chunk_schema.schema)), config.profile)
    return _Ask(request, chunk_schema, counts.total_safe)


def _closing(rung: Rung, chunk_schema: ChunkSchema) -> str:
    return f"{_CLOSING}\n{chunk_schema.text}" if rung == "prompt" else _CLOSING


async def _buy(session: Session, document: Document, ask: _Ask) -> Reply:
    """The answer, on disk when this returns. Raises what asking can raise."""
    brief = session.brief(document)
    if ask.tokens > brief.limits.cap_tokens:
        raise ContextExceeded("the values to be made one are too long for one request")
    with session.books.asking(ask.request, document.source.name, is_repeat=False):
        reply = await session.client.ask(ask.request, ask.tokens + int(brief.parameters["max_tokens"]))
        session.books.keep(ask.request.key, reply, None)
    return reply


def _problem(reason: str) -> Problem:
    return Problem("merge", "not_synthesized", f"the longest value of the chunks was kept: {reason}")
