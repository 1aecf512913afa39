"""Results to records and summaries: pure functions, called by the engine when a document or a run has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from ingest.config import Config
from ingest.errors import DeadlinePassed, IngestError
from ingest.record import (
    Choice,
    Conflict,
    Coverage,
    DocumentInfo,
    DocumentRow,
    Evidence,
    Forecast,
    ModelInfo,
    PartCoverage,
    PartStatus,
    Plan,
    PlanRow,
    ProblemInfo,
    RecipeInfo,
    Record,
    Remainder,
    RunSummary,
    Spending,
    Totals,
    UsageInfo,
    status_of,
)
from ingest.types import Chunk, Document, Json, PageWords, Part, Partial, Problem, Source, Usage

NO_TEXT_LAYER = "no_text_layer"
"""Code of the problem of a page of which nothing would be sent: a scan when only text is wanted."""

_PLAN_COUNTS = (
    "pages",
    "frames",
    "chunks",
    "answered",
    "requests",
    "dear_requests",
    "input_tokens_expected",
    "input_tokens_safe",
    "output_tokens_expected",
    "output_tokens_ceiling",
)


@dataclass(frozen=True, slots=True)
class Expense:
    """One answer and what it cost; None when the profile has no price."""

    key: str
    usage: Usage
    cost_usd: Decimal | None
    from_ledger: bool


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """What became of one owned part of a chunk, or of a piece of it. `start` is the first part of that chunk."""

    part: Part
    status: PartStatus
    start: tuple[int, int]
    attempts: int
    reason: str | None = None
    chunk_index: int = 0


@dataclass(frozen=True, slots=True)
class Unasked:
    """A request that a limit on money kept from being sent, and what it would cost; None without a price."""

    parts: int
    expected_usd: Decimal | None
    ceiling_usd: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What became of one chunk, its halves included when it had to be split."""

    partials: tuple[Partial, ...] = ()
    outcomes: tuple[PartOutcome, ...] = ()
    expenses: tuple[Expense, ...] = ()
    problems: tuple[Problem, ...] = ()
    page_words: tuple[PageWords, ...] = ()
    keys: tuple[str, ...] = ()
    unasked: tuple[Unasked, ...] = ()
    notes: tuple[Problem, ...] = ()

    def __add__(self, other: ChunkResult) -> ChunkResult:
        return ChunkResult(
            self.partials + other.partials,
            self.outcomes + other.outcomes,
            self.expenses + other.expenses,
            self.problems + other.problems,
            self.page_words + other.page_words,
            self.keys + other.keys,
            self.unasked + other.unasked,
            self.notes + other.notes,
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """The merged data of a document with all that was found out about it."""

    data: Json
    provenance: Mapping[str, tuple[Evidence, ...]]
    conflicts: tuple[Conflict, ...]
    problems: tuple[ProblemInfo, ...]
    is_valid: bool
    confidence: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[ProblemInfo, ...] = ()


def outcomes_of(chunk: Chunk, status: PartStatus, attempts: int, reason: str | None = None) -> tuple[PartOutcome, ...]:
    """The same outcome for every owned part of a chunk."""
    first = chunk.owned[0]
    return tuple(PartOutcome(part, status, (first.index, first.piece), attempts, reason) for part in chunk.owned)


def renumber(results: Iterable[ChunkResult]) -> ChunkResult:
    """The results of a document's chunks as one, chunks numbered in reading order as they were asked at last.

    Pieces of a split chunk share its planned index; merging needs to tell them apart. How a chunk came to be split
    leaves no trace in the numbers, so that a rerun from the ledger gives the same record.
    """
    total = ChunkResult()
    for result in results:
        total += result
    starts = sorted({outcome.start for outcome in total.outcomes})
    index_of = {start: index for index, start in enumerate(starts)}
    ordered = sorted(total.partials, key=_place)
    partials = [replace(each, chunk=replace(each.chunk, index=index_of[_place(each)])) for each in ordered]
    outcomes = [replace(outcome, chunk_index=index_of[outcome.start]) for outcome in total.outcomes]
    return replace(total, partials=tuple(partials), outcomes=tuple(outcomes))


def _place(partial: Partial) -> tuple[int, int]:
    first = partial.chunk.owned[0]
    return first.index, first.piece


def make_record(config: Config, document: Document, result: ChunkResult, findings: Findings) -> Record[Any]:
    """The record of a document whose chunks have all ended."""
    coverage = _coverage(document, result)
    problems = (
        *(_problem_info(problem) for problem in document.problems),
        *(_problem_info(part.error) for part in document.parts if part.error is not None),
        *(_problem_info(problem) for problem in result.problems),
        *findings.problems,
    )
    return Record[dict[str, Any]](
        document=_document_info(document),
        data=findings.data,
        status=status_of(coverage, findings.is_valid),
        provenance=dict(findings.provenance),
        confidence=dict(findings.confidence),
        conflicts=findings.conflicts,
        coverage=coverage,
        problems=_without_repeats(problems),
        notes=_without_repeats((*(_problem_info(note) for note in document.notes + result.notes), *findings.notes)),
        usage=_usage_info(result.expenses),
        model=model_info(config),
        recipe=recipe_info(config),
        keys=result.keys,
    )


def make_failed_record(config: Config, source: Source, error: IngestError) -> Record[Any]:
    """The record of a source that could not be read at all, or that the run had no time left to open."""
    info = DocumentInfo(
        name=source.name,
        uri=source.uri,
        sha256=source.sha256,
        media_type=source.media_type,
        size_bytes=source.size_bytes,
        parent=source.parent,
        metadata=dict(source.metadata),
    )
    is_late = isinstance(error, DeadlinePassed)
    problem = Problem("ask" if is_late else "read", error.code, error.message, error.part_index)
    return Record[dict[str, Any]](
        document=info,
        status="skipped" if is_late else "failed",
        problems=(_problem_info(problem),),
        model=model_info(config),
        recipe=recipe_info(config),
    )


def model_info(config: Config) -> ModelInfo:
    """Who answers under this configuration."""
    return ModelInfo(
        model=config.profile.model,
        profile=config.profile.name,
        protocol=config.endpoint.protocol,
        endpoint=config.endpoint.label,
    )


def recipe_info(config: Config) -> RecipeInfo:
    """What is asked under this configuration."""
    recipe = config.recipe
    return RecipeInfo(
        name=recipe.name, schema_sha256=recipe.schema_sha256, instructions_sha256=recipe.instructions_sha256
    )


def hollow_parts(document: Document) -> dict[int, Problem]:
    """Parts that are not blank and of which nothing would be sent, by index: scans when only text is wanted."""
    return {
        problem.part_index: problem
        for problem in document.problems
        if problem.code == NO_TEXT_LAYER and problem.part_index is not None
    }


def make_row(record: Record[Any], result: ChunkResult) -> DocumentRow:
    """A document's line in the summary of a run."""
    return DocumentRow(
        name=record.document.name,
        status=record.status,
        pages=record.document.pages,
        frames=record.document.frames,
        chunks=len({outcome.chunk_index for outcome in result.outcomes}),
        requests=len(result.expenses),
        from_ledger=sum(expense.from_ledger for expense in result.expenses),
        input_tokens=record.usage.input_tokens,
        output_tokens=record.usage.output_tokens,
        cost_usd=record.usage.cost_usd,
        problem=record.problems[0].message if record.problems else None,
    )


def summarise(
    config: Config,
    rows: Sequence[DocumentRow],
    spending: Spending,
    earlier: Spending,
    remaining: Remainder | None,
    planned: Forecast | None,
    elapsed_s: float,
) -> RunSummary:
    """The summary of a run. `earlier` is what killed runs before it left unsettled."""
    totals = Totals(
        **{
            name: sum(getattr(row, name) for row in rows)
            for name in ("pages", "frames", "chunks", "requests", "from_ledger", "input_tokens", "output_tokens")
        },
        cost_usd=add_money(row.cost_usd for row in rows),
    )
    counts = {
        status: sum(row.status == status for row in rows) for status in ("complete", "partial", "failed", "skipped")
    }
    return RunSummary(
        documents=tuple(rows),
        totals=totals,
        **counts,
        requests_sent=spending.calls,
        spent_usd=spending.total_usd,
        max_cost_usd=config.budget.max_cost_usd,
        max_cost_per_document_usd=config.budget.max_cost_per_document_usd,
        planned=planned,
        spending=spending,
        earlier_unsettled_calls=earlier.unsettled_calls,
        earlier_unsettled_usd=earlier.unsettled_usd,
        remaining=remaining,
        elapsed_s=round(elapsed_s, 3),
        model=model_info(config),
        recipe=recipe_info(config),
        output=None if config.output is None else str(config.output),
    )


def sum_of_plans(rows: Sequence[PlanRow]) -> PlanRow:
    """The totals of plan rows; its name is empty."""
    return PlanRow(
        name="",
        **{name: sum(getattr(row, name) for row in rows) for name in _PLAN_COUNTS},
        cost_usd_expected=add_money(row.cost_usd_expected for row in rows),
        cost_usd_ceiling=add_money(row.cost_usd_ceiling for row in rows),
    )


def make_plan(config: Config, rows: Sequence[PlanRow], choices: Sequence[Choice]) -> Plan:
    """A plan from its rows."""
    return Plan(
        documents=tuple(rows),
        totals=sum_of_plans(rows),
        choices=tuple(choices),
        max_cost_usd=config.budget.max_cost_usd,
        model=model_info(config),
        recipe=recipe_info(config),
    )


def make_forecast(rows: Sequence[PlanRow]) -> Forecast:
    """What a run is about to send, from the plans of its documents."""
    total = sum_of_plans(rows)
    return Forecast(
        documents=len(rows),
        requests=total.requests,
        input_tokens_expected=total.input_tokens_expected,
        input_tokens_safe=total.input_tokens_safe,
        cost_usd_expected=total.cost_usd_expected,
        cost_usd_ceiling=total.cost_usd_ceiling,
    )


def make_remainder(unasked: Sequence[Sequence[Unasked]]) -> Remainder | None:
    """What a limit on money left undone, document by document; None when nothing."""
    missing = [request for document in unasked for request in document]
    if not missing:
        return None
    return Remainder(
        documents=sum(bool(document) for document in unasked),
        requests=len(missing),
        parts=sum(request.parts for request in missing),
        cost_usd_expected=add_money(request.expected_usd for request in missing),
        cost_usd_ceiling=add_money(request.ceiling_usd for request in missing),
        reason=missing[0].reason,
    )


def add_money(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Sum of amounts; None as soon as one is not known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _document_info(document: Document) -> DocumentInfo:
    source = document.source
    return DocumentInfo(
        name=source.name,
        uri=source.uri,
        sha256=source.sha256,
        media_type=source.media_type,
        size_bytes=source.size_bytes,
        parent=source.parent,
        metadata=dict(source.metadata),
        pages=sum(part.kind == "page" for part in document.parts),
        frames=sum(len(part.moments) for part in document.parts if part.kind == "frame"),
        title=document.title,
    )


def _coverage(document: Document, result: ChunkResult) -> Coverage:
    by_index = _by_part(result.outcomes)
    lost = {problem.part_index: problem.message for problem in document.problems if problem.code == "too_large"}
    hollow = hollow_parts(document)
    rows: list[PartCoverage] = []
    for part in document.parts:
        outcome = by_index.get(part.index)
        if outcome is not None:
            rows.append(
                PartCoverage(
                    number=part.number,
                    status=outcome.status,
                    mode=part.mode,
                    chunk=outcome.chunk_index,
                    attempts=outcome.attempts,
                    reason=outcome.reason,
                )
            )
        elif part.error is None and part.index in hollow:
            rows.append(
                PartCoverage(number=part.number, status="skipped", mode=part.mode, reason=hollow[part.index].message)
            )
        else:
            reason = part.error.message if part.error else lost.get(part.index, "never sent")
            rows.append(PartCoverage(number=part.number, status="failed", mode=part.mode, reason=reason))
    counts = {
        status: sum(row.status == status for row in rows) for status in ("answered", "refused", "failed", "skipped")
    }
    return Coverage(total=len(rows), **counts, parts=tuple(rows))


_FROM_BAD_TO_GOOD: tuple[PartStatus, ...] = ("failed", "refused", "skipped", "answered")


def badness(status: PartStatus) -> int:
    """Sorts what became of parts from bad to good."""
    return _FROM_BAD_TO_GOOD.index(status)


def _by_part(outcomes: Iterable[PartOutcome]) -> dict[int, PartOutcome]:
    """One outcome for each part: of a part sent in pieces the worst, since a hole is a hole."""
    found: dict[int, PartOutcome] = {}
    for outcome in outcomes:
        other = found.setdefault(outcome.part.index, outcome)
        if badness(outcome.status) < badness(other.status):
            found[outcome.part.index] = outcome
    return found


def _usage_info(expenses: Sequence[Expense]) -> UsageInfo:
    usage = Usage()
    for expense in expenses:
        usage += expense.usage
    return UsageInfo(
        requests=len(expenses),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        cost_usd=add_money(expense.cost_usd for expense in expenses),
    )


def _problem_info(problem: Problem) -> ProblemInfo:
    number = None if problem.part_index is None else problem.part_index + 1
    return ProblemInfo(stage=problem.stage, code=problem.code, message=problem.message, part=number)


def _without_repeats(problems: Iterable[ProblemInfo]) -> tuple[ProblemInfo, ...]:
    return tuple(dict.fromkeys(problems))
