"""The model's part of a digest: statements over the facts, each citing facts, never over the documents again.

The facts are written out as a text, and the library asks about that text as about any document. So chunks under the
price step, prices, the money limit, retries and the ledger are its own; what was answered once is not bought again.
Facts that need several requests are told in two rounds: statements over each part, then one telling over these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

import ingest
from pipelines.digest.citations import Source, check
from pipelines.digest.model import Asking, DocumentChange, Dropped, Statement
from pipelines.digest.settings import DigestRecipe
from pipelines.digest.wording import fact_text, happened

STATEMENTS_PER_REQUEST = 40
"""Statements kept of one request over facts; as many as a reader takes from a page, several times over."""

STATEMENT_CHARS = 400
"""Length up to which a statement is kept; longer ones are no statements."""

_HEADING_EVERY = 20

_INSTRUCTIONS = """\
The document is a list of facts about what changed in a set of documents. Lines that begin with == name a document and \
what became of it; the facts below it begin with their name in brackets, such as [F12], then the field and its value, \
or the old and the new value with an arrow between. Write the statements of a short digest over these facts.

- A statement is one sentence. It says what a reader should know, most important first; what belongs together is one \
statement. Leave out what is of no importance: the full list of facts is printed below the digest anyway.
- `facts` names every fact that the statement stands on, without the brackets: F12. A statement without facts, or with \
a number, date or name that none of its facts holds, is thrown away.
- Do not compute: no sums, no differences but those that stand in the facts. Write numbers and dates in digits, as \
they stand there.
- At most {most} statements for this part; none when nothing is worth telling.
- `section` is one of the sections given."""

_SECOND_ROUND = """\
The document is a list of statements about what changed in a set of documents, each with the facts it stands on in \
brackets, such as [F12, F40]. They were written over parts of the list of facts. Choose and join the most important \
ones into the statements of one digest, at most {most}. `facts` names every fact of the statements you join. Add \
nothing that they do not say, compute nothing, and leave numbers, dates and names as they stand."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote, after our checks. `problem` says why there is less than there should be."""

    statements: tuple[Statement, ...]
    dropped: Dropped
    asking: Asking
    model: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    statements: tuple[Statement, ...]
    asking: Asking
    model: str
    problem: str | None


def write(
    documents: Sequence[DocumentChange],
    facts: dict[str, Source],
    recipe: DigestRecipe,
    config: ingest.Config,
    max_cost_usd: Decimal | None,
    observer: ingest.Observer | None = None,
) -> Written:
    """Ask the model for the statements of a digest, for no more than `max_cost_usd`.

    Raises what `ingest.run` raises; then nothing is lost but time.
    """
    if max_cost_usd is not None and max_cost_usd <= 0:
        return Written((), Dropped(), Asking(), "", "the limit on money is used up")
    first = _ask(facts_text(documents), "facts", recipe, config, max_cost_usd, observer)
    kept, dropped = check(first.statements, facts, recipe.language)
    written = Written(kept, dropped, first.asking, first.model, first.problem)
    if first.asking.requests < 2 or len(kept) < 2:
        return written
    left = _left(max_cost_usd, first.asking.cost_usd)
    if left is not None and left <= 0:
        return written
    second = _ask(statements_text(kept, first.asking.requests), "statements", recipe, config, left, observer)
    joined, more = check(second.statements, facts, recipe.language)
    sums = {name: getattr(dropped, name) + getattr(more, name) for name in Dropped.model_fields}
    asking = Asking(
        requests=first.asking.requests + second.asking.requests,
        cost_usd=_sum(first.asking.cost_usd, second.asking.cost_usd),
    )
    problem = first.problem or second.problem
    return Written(joined or kept, Dropped(**sums), asking, first.model, problem)


def plan_writing(
    texts: Sequence[str], recipe: DigestRecipe, config: ingest.Config, max_cost_usd: Decimal | None
) -> ingest.Plan:
    """The price of asking about texts of facts: both rounds together, without sending anything."""
    with tempfile.TemporaryDirectory(prefix="ingest-digest-") as folder:
        plans = []
        for text in texts:
            path = Path(folder) / "facts.txt"
            path.write_text(text, encoding="utf-8")
            plans.append(ingest.plan([path], _config(config, recipe, "facts", max_cost_usd)))
            requests = plans[-1].totals.requests
            if requests > 1:
                path.write_text(_stand_in(requests), encoding="utf-8")
                plans.append(ingest.plan([path], _config(config, recipe, "statements", max_cost_usd)))
    return _joined(plans)


def facts_text(documents: Iterable[DocumentChange]) -> str:
    """The facts as the model reads them, each with its name."""
    return "\n".join(line for document in documents for line in _document_lines(document))


def statements_text(statements: Iterable[Statement], requests: int) -> str:
    """Statements as the model reads them in the second round; no more than the plan counted for so many requests."""
    room = len(_stand_in(requests))
    lines: list[str] = []
    for one in statements:
        line = f"[{', '.join(one.facts)}] {one.section}: {one.text}"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def _document_lines(document: DocumentChange) -> Iterator[str]:
    name = " ".join(document.name.split())
    reason = f": {' '.join(document.problem.split())}" if document.problem and not document.facts else ""
    yield f"== {name}: {happened(document)}{reason}"
    for number, fact in enumerate(document.facts):
        if number and number % _HEADING_EVERY == 0:
            yield f"== {name}, continued"
        # A new item of a list, or a value that came into a document that was there, is told apart from the rest.
        new = "new: " if fact.kind == "added" and document.kind != "added" else ""
        yield f"[{fact.id}] {fact.pointer}: {new}{fact_text(fact)}"


def _ask(
    text: str,
    step: str,
    recipe: DigestRecipe,
    config: ingest.Config,
    max_cost_usd: Decimal | None,
    observer: ingest.Observer | None,
) -> _Answer:
    with tempfile.TemporaryDirectory(prefix="ingest-digest-") as folder:
        path = Path(folder) / f"{step}.txt"
        path.write_text(text, encoding="utf-8")
        record = next(iter(ingest.run([path], config=_config(config, recipe, step, max_cost_usd), observer=observer)))
    usage = record.usage
    problem = record.problems[0].message if record.status != "complete" and record.problems else None
    return _Answer(
        statements=tuple(_statements(record.data, recipe)),
        asking=Asking(requests=usage.requests, cost_usd=usage.cost_usd),
        model=record.model.model,
        problem=problem,
    )


def _statements(data: dict[str, Any] | None, recipe: DigestRecipe) -> Iterator[Statement]:
    for item in (data or {}).get("statements") or ():
        text = " ".join(str(item.get("text") or "").split())
        if not text or len(text) > STATEMENT_CHARS:
            continue
        section = item.get("section") if item.get("section") in recipe.sections else recipe.sections[0]
        names = (str(name).strip().strip("[]").strip() for name in item.get("facts") or () if name)
        yield Statement(section=str(section), text=text, facts=tuple(dict.fromkeys(name for name in names if name)))


def _config(config: ingest.Config, recipe: DigestRecipe, step: str, max_cost_usd: Decimal | None) -> ingest.Config:
    """The settings of the records' run with what belongs to documents taken out; the same ledger, no files."""
    ledger = config.keeping.ledger
    if ledger is None and config.output is not None and (config.output / ".ingest").is_dir():
        ledger = SecretStr(f"sqlite:///{(config.output / '.ingest' / 'ledger.sqlite').absolute()}")
    return config.model_copy(
        update={
            "recipe": _recipe(recipe, step),
            "output": None,
            "reading": ingest.ReadingSettings(pages="text"),
            "planning": ingest.PlanningSettings(target_tokens=config.planning.target_tokens),
            "budget": ingest.BudgetSettings(max_cost_usd=max_cost_usd),
            "asking": config.asking.model_copy(update={"evidence": "none", "verify": False}),
            "keeping": ingest.KeepingSettings(ledger=ledger, claim_timeout_s=config.keeping.claim_timeout_s),
            "finding": type(config.finding)(),
        }
    )


def _recipe(recipe: DigestRecipe, step: str) -> ingest.Recipe:
    rules = _INSTRUCTIONS if step == "facts" else _SECOND_ROUND
    told = [rules.format(most=STATEMENTS_PER_REQUEST), f"Write in {recipe.language}."]
    if recipe.audience:
        told.append(f"The readers: {recipe.audience}.")
    if recipe.instructions:
        told.append(recipe.instructions)
    return ingest.Recipe(
        name=f"digest of {recipe.title}" if recipe.title else "digest",
        document_schema=_schema(recipe.sections),
        instructions="\n\n".join(told),
    )


def _schema(sections: Sequence[str]) -> dict[str, Any]:
    statement = {
        "type": "object",
        "properties": {
            "section": {"type": "string", "enum": list(sections), "description": "Section it belongs to"},
            "text": {"type": "string", "description": "The statement: one sentence"},
            "facts": {"type": "array", "items": {"type": "string"}, "description": "Names of its facts, such as F12"},
        },
        "required": ["section", "text", "facts"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "title": "Digest",
        "properties": {
            "statements": {
                "type": "array",
                "x-merge": "concat",
                "items": statement,
                "description": "The statements, most important first; written by you, not copied",
            }
        },
        "required": ["statements"],
        "additionalProperties": False,
    }


def _stand_in(requests: int) -> str:
    """A text as long as the statements of so many requests may be."""
    line = f"[F100000, F100001, F100002, F100003] {'statement ' * (STATEMENT_CHARS // 10)}"
    return "\n".join([line] * (requests * STATEMENTS_PER_REQUEST))


def _joined(plans: Sequence[ingest.Plan]) -> ingest.Plan:
    rows = [row for plan in plans for row in plan.documents]
    totals = plans[0].totals
    numbers = {
        name: _total([getattr(plan.totals, name) for plan in plans])
        for name in type(totals).model_fields
        if name not in ("name", "problem")
    }
    return plans[0].model_copy(
        update={"documents": tuple(rows), "totals": totals.model_copy(update=numbers), "choices": ()}
    )


def _total(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else sum(values, start=type(values[0])(0))


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _left(most: Decimal | None, spent: Decimal | None) -> Decimal | None:
    return None if most is None else most - (spent or Decimal(0))
