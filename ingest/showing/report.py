"""Runs, plans and records as text for people: tables that fit the terminal, then what went wrong and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel
from rich.console import JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from ingest.config import Recipe
from ingest.recipes import schema_fields
from ingest.record import (
    DocumentRow,
    Evidence,
    Forecast,
    ModelInfo,
    Plan,
    PlanRow,
    RecipeInfo,
    Record,
    Remainder,
    RunSummary,
    Spending,
    Totals,
)
from ingest.showing.text import (
    STATUS_STYLES,
    compact,
    count,
    dollars,
    duration,
    one_line,
    printable,
    rendered,
    ruled_table,
    shortened,
    terminal_width,
    thinned,
    with_reason,
)
from ingest.types import Json

_ROWS = 30
_REASONS = 20
_NAME_COLUMNS = 28
_WIDE_COLUMNS = 100
_ALIKE = 3  # rows of one reason from which they are told in one

Row = TypeVar("Row", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Look:
    """How a report is laid out: columns of the terminal (None asks it), colour, and whether long lists are cut."""

    width: int | None = None
    color: bool = False
    verbose: bool = False

    @property
    def columns(self) -> int:
        """The width to fill."""
        return self.width or terminal_width()

    def limit(self, rows: int) -> int:
        """How many rows a list may have."""
        return 10**9 if self.verbose else rows


PLAIN = Look()


def summary_table(summary: RunSummary, look: Look = PLAIN) -> str:
    """What a run did: a row per document, totals, what is not complete and why, what it cost."""
    columns = _summary_columns(summary.documents)
    items: list[RenderableType] = [_heading(summary.recipe, summary.model)]
    if summary.documents:
        names = [(row.name, "") for row in summary.documents]
        items += ["", _documents_table(names, summary.documents, summary.totals, columns, look)]
    reasons = [(row.name, row.status, row.problem) for row in summary.documents if row.status != "complete"]
    items += reasons_of(reasons, look, "Not complete")
    items += ["", *(Text(line) for line in _closing(summary))]
    return rendered(*items, width=look.columns, color=look.color)


def plan_table(plan: Plan, look: Look = PLAIN) -> str:
    """What a run would send and cost: a row per document, totals, and the documents that cannot be read."""
    columns = _plan_columns(plan.documents)
    items: list[RenderableType] = [_heading(plan.recipe, plan.model)]
    if plan.documents:
        names = [(row.name, "red" if row.problem else "") for row in plan.documents]
        items += ["", _documents_table(names, plan.documents, plan.totals, columns, look)]
    reasons = [(row.name, "failed", row.problem) for row in plan.documents if row.problem]
    items += reasons_of(reasons, look, "Cannot be read")
    items += ["", Text(_price(plan.totals)), *_limit(plan), *_choices_table(plan, look)]
    return rendered(*items, width=look.columns, color=look.color)


def record_table(record: Record, look: Look = PLAIN) -> str:
    """One record: each value with the place it comes from, conflicts, and problems."""
    width = look.columns
    table = ruled_table(footer=False)
    table.width = width
    table.add_column("field", no_wrap=True, max_width=width // 3)
    table.add_column("value", ratio=1, overflow="fold")
    table.add_column("where", no_wrap=True)
    leaves = list(_leaves(record.data, ""))
    head, left_out, tail = thinned(leaves, look.limit(4 * _ROWS))
    for pointer, value in head:
        _add_leaf(table, record, pointer, value)
    if left_out:
        table.add_row(Text(f"… {left_out:,} more …", "dim"))
    for pointer, value in tail:
        _add_leaf(table, record, pointer, value)
    title = Text(printable(record.document.name), "bold").append(f"  {record.status}", STATUS_STYLES[record.status])
    items: list[RenderableType] = [title, Text(_coverage(record), "dim")]
    if leaves:
        items.append(table)
    for conflict in record.conflicts:
        sides = " | ".join(json.dumps(side.value, ensure_ascii=False) for side in conflict.sides)
        items.append(Text(f"conflict {printable(conflict.pointer)} ({conflict.rule}): {one_line(sides)}", "yellow"))
    for problem in record.problems:
        place = f" page {problem.part}" if problem.part else ""
        items.append(Text(f"{problem.stage}{place}: {one_line(problem.message)}", "red"))
    items += [
        Text(f"{note.code} {printable(note.pointer or '')}: {one_line(note.message)}", "dim") for note in record.notes
    ]
    return rendered(*items, width=width, color=look.color)


def records_table(records: Sequence[Record], look: Look = PLAIN) -> str:
    """What records hold: values, those without a place on the page, conflicts, problems."""
    table = ruled_table(footer=False)
    table.add_column("document")
    for head in ("status", "values", "ungrounded", "conflicts", "problems"):
        table.add_column(head, justify="left" if head == "status" else "right", no_wrap=True)
    head_rows, left_out, tail_rows = thinned(records, look.limit(_ROWS))
    for record in head_rows:
        table.add_row(*_overview(record, look))
    if left_out:
        table.add_row(Text(f"… {left_out:,} more …", "dim"))
    for record in tail_rows:
        table.add_row(*_overview(record, look))
    return rendered(table, width=look.columns, color=look.color)


def findings_table(findings: Sequence[tuple[str, str, str]], look: Look = PLAIN) -> str:
    """What `ingest doctor` found: subject, state (ok, absent, drift, missing), words."""
    styles = {"ok": "green", "absent": "yellow", "drift": "yellow", "missing": "red"}
    table = Table.grid(padding=(0, 2, 0, 0))
    for about, state, told in findings:
        table.add_row(Text(state, styles.get(state, "")), Text(printable(about), "bold"), Text(printable(told)))
    return rendered(table, width=look.columns, color=look.color)


def recipe_list(recipes: Sequence[tuple[str, str]], look: Look = PLAIN) -> str:
    """Names and descriptions of recipes."""
    if not recipes:
        return "No recipes are installed."
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, description in recipes:
        table.add_row(Text(printable(name), "bold"), Text(printable(description)))
    return rendered(table, width=look.columns, color=look.color)


def recipe_table(recipe: Recipe, look: Look = PLAIN) -> str:
    """One recipe: its fields with types and descriptions, its settings and its instructions."""
    table = ruled_table(footer=False)
    table.add_column("field", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("description", ratio=1)
    table.width = look.columns
    for path, kind, description in schema_fields(recipe.document_schema):
        table.add_row(Text(printable(path)), Text(kind, "dim"), Text(printable(description)))
    items: list[RenderableType] = [Text(printable(recipe.name), "bold")]
    if recipe.description:
        items.append(Text(printable(recipe.description)))
    items += ["", table]
    sections = {name: getattr(recipe, name) for name in ("reading", "asking", "planning", "budget", "merge")}
    settings = [
        f"  {name}.{key} = {json.dumps(value)}" for name, part in sections.items() for key, value in part.items()
    ]
    if settings:
        items += ["", Text("Settings", "bold"), *(Text(printable(line)) for line in settings)]
    if recipe.instructions:
        lines = [Text(f"  {printable(line)}", overflow="ignore") for line in recipe.instructions.splitlines()]
        items += ["", Text("Instructions", "bold"), *lines]
    return rendered(*items, width=look.columns, color=look.color)


def _overview(record: Record, look: Look) -> list[Text]:
    name = shortened(printable(record.document.name), max(look.columns - 54, 12))
    values = sum(value is not None for _, value in _leaves(record.data, ""))
    ungrounded = sum(any(place.grade == "ungrounded" for place in places) for places in record.provenance.values())
    numbers = (values, ungrounded, len(record.conflicts), len(record.problems))
    return [Text(name), Text(record.status, STATUS_STYLES[record.status]), *(Text(f"{number:,}") for number in numbers)]


class _Column(NamedTuple, Generic[Row]):
    """A column of a table of documents. On a narrow terminal the column of the highest `drop` goes first; 0 stays."""

    head: str
    cell: Callable[[Row], str]
    drop: int = 0
    style: Callable[[Row], str] | None = None
    justify: JustifyMethod = "right"

    def columns_needed(self, rows: Sequence[Row]) -> int:
        """Its width with the gap beside it."""
        return max(len(self.head), *(len(self.cell(row)) for row in rows)) + 2


def _summary_columns(rows: Sequence[DocumentRow]) -> list[_Column[Totals]]:
    columns = [
        _Column[Totals]("status", _status, style=lambda row: STATUS_STYLES.get(_status(row), ""), justify="left"),
        _Column[Totals]("pages", lambda row: f"{row.pages:,}", 1),
        _Column[Totals]("frames", lambda row: f"{row.frames:,}", 2),
        _Column[Totals]("chunks", lambda row: f"{row.chunks:,}", 4),
        _Column[Totals]("requests", lambda row: f"{row.requests:,}", 3),
        _Column[Totals]("tokens in", lambda row: compact(row.input_tokens)),
        _Column[Totals]("out", lambda row: compact(row.output_tokens), 2),
        _Column[Totals]("cost", lambda row: dollars(row.cost_usd)),
    ]
    return [column for column in columns if column.head != "frames" or any(row.frames for row in rows)]


def _plan_columns(rows: Sequence[PlanRow]) -> list[_Column[PlanRow]]:
    columns = [
        _Column[PlanRow]("pages", lambda row: f"{row.pages:,}", 1),
        _Column[PlanRow]("frames", lambda row: f"{row.frames:,}", 2),
        _Column[PlanRow]("chunks", lambda row: f"{row.chunks:,}", 4),
        _Column[PlanRow]("answered", lambda row: f"{row.answered:,}", 7),
        _Column[PlanRow]("requests", lambda row: f"{row.requests:,}", 3),
        _Column[PlanRow]("tokens in", lambda row: compact(row.input_tokens_expected)),
        _Column[PlanRow]("safe", lambda row: compact(row.input_tokens_safe), 5),
        _Column[PlanRow]("tier", _tier, 6),
        _Column[PlanRow]("cost", lambda row: dollars(row.cost_usd_expected)),
        _Column[PlanRow]("at most", lambda row: dollars(row.cost_usd_ceiling)),
    ]
    unused = {head for head in ("frames", "answered") if not any(getattr(row, head) for row in rows)}
    return [column for column in columns if column.head not in unused]


def _tier(row: PlanRow) -> str:
    """The price tier of a document's requests."""
    if not row.requests or row.cost_usd_expected is None:
        return "–"
    if not row.dear_requests:
        return "low"
    return "high" if row.dear_requests == row.requests else f"{row.dear_requests:,} high"


def _status(row: Totals) -> str:
    return row.status if isinstance(row, DocumentRow) else ""


def _documents_table(
    names: Sequence[tuple[str, str]], rows: Sequence[Row], total: Row, columns: Sequence[_Column[Row]], look: Look
) -> Table:
    """Rows with their names and styles, and the totals below; columns are dropped until names can be told apart."""
    kept = list(columns)
    longest = max(len(name) for name, _ in names)

    def room() -> int:
        return look.columns - sum(column.columns_needed((*rows, total)) for column in kept)

    while room() < min(longest, _NAME_COLUMNS) and any(column.drop for column in kept):
        kept.remove(max(kept, key=lambda column: column.drop))
    table = ruled_table()
    table.add_column("document", count(len(rows), "document"), no_wrap=True)
    for column in kept:
        table.add_column(column.head, column.cell(total), justify=column.justify, no_wrap=True)
    head, left_out, tail = thinned(list(zip(names, rows, strict=True)), look.limit(_ROWS))
    for (name, style), row in head:
        table.add_row(Text(shortened(printable(name), max(room(), 12)), style), *_cells(kept, row))
    if left_out:
        table.add_row(Text(f"… {left_out:,} more …", "dim"))
    for (name, style), row in tail:
        table.add_row(Text(shortened(printable(name), max(room(), 12)), style), *_cells(kept, row))
    return table


def _cells(columns: Sequence[_Column[Row]], row: Row) -> list[Text]:
    return [Text(column.cell(row), column.style(row) if column.style else "") for column in columns]


def _heading(recipe: RecipeInfo, model: ModelInfo) -> Text:
    text = Text(f"Recipe {printable(recipe.name)}", "bold")
    if model.endpoint == "local":
        return text.append(f", local engine {model.model}: rules over the words read, no vision model", "not bold")
    return text.append(f", {model.model} at {printable(model.endpoint)}", "not bold")


def reasons_of(rows: Sequence[tuple[str, str, str | None]], look: Look, title: str) -> list[RenderableType]:
    """Documents with their status and what went wrong, below a title; many alike as one."""
    if not rows:
        return []
    head, left_out, tail = thinned(rows if look.verbose else _grouped(rows), look.limit(_REASONS))
    table = Table.grid(padding=(0, 2, 0, 0))
    for part in (head, tail):
        for name, status, reason in part:
            told = Text(with_reason(name, reason), overflow="fold")
            table.add_row(Text(f"  {status}", STATUS_STYLES[status]), told)
        if part is head and left_out:
            table.add_row("", Text(f"… {left_out:,} more …", "dim"))
    return ["", Text(title, "bold"), table]


def _grouped(rows: Sequence[tuple[str, str, str | None]]) -> list[tuple[str, str, str | None]]:
    """The rows, three or more with the same status and reason as one."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    for name, status, reason in rows:
        groups.setdefault((status, reason), []).append(name)
    found = list[tuple[str, str, str | None]]()
    for (status, reason), names in groups.items():
        if len(names) < _ALIKE:
            found += [(name, status, reason) for name in names]
        else:
            found.append((f"{count(len(names), 'document')}, {names[0]} to {names[-1]}", status, reason))
    return found


def _closing(summary: RunSummary) -> list[str]:
    counts = {status: getattr(summary, status) for status in STATUS_STYLES}
    told = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number) or "no documents"
    spent = "" if summary.spent_usd is None else f", {dollars(summary.spent_usd)} spent"
    if summary.spent_usd is not None and summary.max_cost_usd is not None:
        spent += f" of {dollars(summary.max_cost_usd)} allowed"
    lines = [
        f"{told} in {duration(summary.elapsed_s)}; {count(summary.requests_sent, 'request')} sent in this run{spent}.",
        *_money(summary),
    ]
    if kept := summary.totals.from_ledger:
        lines.append(f"{count(kept, 'answer')} came from the ledger.")
    if summary.output:
        lines.append(f"Records are in {printable(summary.output)}")
    return lines


def _money(summary: RunSummary) -> list[str]:
    """Plan and spending, what was lost and what is left; nothing where nothing costs anything."""
    lines, planned, rest = list[str](), summary.planned, summary.remaining
    if planned is not None and planned.cost_usd_ceiling:
        took = (
            "" if summary.spent_usd is None else f"; it took {summary.requests_sent:,} and {dollars(summary.spent_usd)}"
        )
        lines.append(f"The plan was {count(planned.requests, 'request')}: {_range(planned)}{took}.")
    if summary.spent_usd:
        lines += spending_lines(summary.spending)
    if summary.earlier_unsettled_calls:
        lost = dollars(summary.earlier_unsettled_usd)
        lines.append(
            f"Runs that were killed earlier left {count(summary.earlier_unsettled_calls, 'call')} unsettled:"
            f" up to {lost} may have been billed for them besides."
        )
    if rest is not None:
        lines.append(
            f"Left for lack of money: {count(rest.requests, 'request')} about {count(rest.documents, 'document')},"
            f" {_range(rest)}. {rest.reason[:1].upper()}{rest.reason[1:]}."
        )
    return lines


def spending_lines(spending: Spending) -> list[str]:
    """Where money went, in sentences: by kind of token and tier, and what bought nothing."""
    kinds = {
        "input": spending.by_kind.input_usd,
        "cached input": spending.by_kind.cached_usd,
        "output": spending.by_kind.output_usd,
        "reasoning": spending.by_kind.reasoning_usd,
    }
    told = ", ".join(f"{dollars(amount)} {name}" for name, amount in kinds.items() if amount)
    lines = [f"By kind of token: {told}."] if told else []
    if len(spending.by_tier) > 1:
        tiers = (
            f"{dollars(row.cost_usd)} for {count(row.calls, 'call')} up to {int(row.name):,} input tokens"
            for row in spending.by_tier
        )
        lines.append(f"By price tier: {', '.join(tiers)}.")
    if spending.retries:
        lines.append(f"{dollars(spending.retries_usd)} of it went to {count(spending.retries, 'repeated call')}.")
    if spending.cut_off:
        answers = count(spending.cut_off, "answer")
        lines.append(f"{dollars(spending.cut_off_usd)} of it went to {answers} cut off at the output limit.")
    if spending.unconfirmed_calls:
        lines.append(
            f"{dollars(spending.unconfirmed_usd)} of it is for {count(spending.unconfirmed_calls, 'call')} that died"
            " before the service said what was used, booked at the most that can have been billed."
        )
    return lines


def _range(priced: Forecast | Remainder | PlanRow) -> str:
    return f"{dollars(priced.cost_usd_expected)} expected, {dollars(priced.cost_usd_ceiling)} at most"


def _choices_table(plan: Plan, look: Look) -> list[RenderableType]:
    """What other settings would change, each beside the present price; nothing for a model that is free."""
    if not plan.totals.cost_usd_ceiling or not plan.choices:
        return []
    table = ruled_table(footer=False)
    table.add_column("with", no_wrap=True)
    is_wide = look.columns >= _WIDE_COLUMNS
    for head in ("requests", "tokens in", "cost", "at most", "change"):
        if head != "at most" or is_wide:
            table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    now = plan.totals
    table.add_row(
        Text("these settings", "bold"),
        Text(f"{now.requests:,}"),
        Text(compact(now.input_tokens_expected)),
        Text(dollars(now.cost_usd_expected)),
        *([Text(dollars(now.cost_usd_ceiling))] if is_wide else []),
    )
    for choice in plan.choices:
        change = choice.difference_usd
        style = "" if not change else "green" if change < 0 else "yellow"
        sign = "" if not change else "–" if change < 0 else "+"
        dear = f"{choice.dear_requests:,} at the higher price" if choice.dear_requests else ""
        table.add_row(
            Text(choice.name),
            Text(f"{choice.requests:,}"),
            Text(compact(choice.input_tokens_expected)),
            Text(dollars(choice.cost_usd_expected)),
            *([Text(dollars(choice.cost_usd_ceiling))] if is_wide else []),
            Text(f"{sign}{dollars(None if change is None else abs(change))}", style),
            Text("; ".join(note for note in (dear, choice.note) if note), "dim"),
        )
    return ["", Text("What other settings would cost", "bold"), table]


def _limit(plan: Plan) -> list[RenderableType]:
    limit, total = plan.max_cost_usd, plan.totals
    if limit is None or total.cost_usd_expected is None or total.cost_usd_ceiling is None:
        return []
    if total.cost_usd_ceiling <= limit:
        return [Text(f"The limit of {dollars(limit)} covers all of it.")]
    if total.cost_usd_expected <= limit:
        told = f"The limit of {dollars(limit)} covers what is expected; if it costs more, the run stops and can go on."
    else:
        told = f"The limit of {dollars(limit)} does not cover what is expected: the run would stop early."
    room = "A call is sent only while the most it can cost is left, thinking and lost answers included."
    return [Text(told), Text(room)]


def _price(total: PlanRow) -> str:
    requests = count(total.requests, "request")
    if not total.requests:
        return "Nothing to send: every chunk is answered already." if total.chunks else "Nothing to send."
    tokens = f"{total.input_tokens_expected:,} input tokens expected, {total.input_tokens_safe:,} at most"
    if total.cost_usd_ceiling is None:
        return f"{requests}: {tokens}; the profile has no prices."
    dear = f" {total.dear_requests:,} of them at the higher price." if total.dear_requests else ""
    known = f" {count(total.answered, 'chunk')} answered already." if total.answered else ""
    return f"{requests}: {tokens}; {_range(total)}.{dear}{known} Nothing was sent."


def _coverage(record: Record) -> str:
    covered = record.coverage
    counts = {name: getattr(covered, name) for name in ("answered", "refused", "failed", "skipped")}
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none answered"
    noun = "frame" if record.document.frames else "page"
    cost = "" if record.usage.cost_usd is None else f", {dollars(record.usage.cost_usd)}"
    return f"{count(covered.total, noun)} ({told}), {record.model.model} with {printable(record.recipe.name)}{cost}"


def _add_leaf(table: Table, record: Record, pointer: str, value: Json) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    places = record.provenance.get(pointer, ())
    table.add_row(
        Text(printable(pointer.removeprefix("/"))),
        Text(printable(text), "dim" if value is None else ""),
        Text(_place(places[0]) if places else "", "yellow" if places and places[0].grade == "ungrounded" else "dim"),
    )


def _place(place: Evidence) -> str:
    if place.start_s is not None:
        return f"{place.start_s:.1f} s {place.grade}"
    return f"page {place.page} {place.grade}" if place.page else place.grade


def _leaves(value: Json, pointer: str) -> list[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        steps = [(str(name).replace("~", "~0").replace("/", "~1"), item) for name, item in value.items()]
    elif isinstance(value, list) and value:
        steps = [(str(index), item) for index, item in enumerate(value)]
    else:
        return [] if pointer == "" and value is None else [(pointer, value)]
    return [leaf for step, item in steps for leaf in _leaves(item, f"{pointer}/{step}")]
