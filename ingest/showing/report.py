"""Runs, plans and records as text for people: tables that fit the terminal, then what went wrong and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ingest.record import (
    DocumentRow,
    Evidence,
    ModelInfo,
    Plan,
    PlanRow,
    RecipeInfo,
    Record,
    RunSummary,
    Totals,
)
from ingest.showing.text import (
    STATUS_STYLES,
    count,
    dollars,
    duration,
    one_line,
    printable,
    rendered,
    shortened,
    terminal_width,
    thinned,
)
from ingest.types import Json

_ROWS = 30
_REASONS = 20


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
    table, width = _table(look), look.columns
    rows, total = summary.documents, summary.totals
    columns = _summary_columns(rows)
    numbers = sum(max(len(head), *(len(cell(row)) for row in (*rows, total))) + 2 for head, cell in columns)
    name_width = max(16, width - numbers - 11)
    table.add_column("document", count(len(rows), "document"), no_wrap=True, overflow="crop", min_width=name_width)
    table.add_column("status", no_wrap=True)
    for head, cell in columns:
        table.add_column(head, cell(total), justify="right", no_wrap=True)
    head_rows, left_out, tail_rows = thinned(rows, look.limit(_ROWS))
    for row in head_rows:
        _add_document(table, row, columns, name_width)
    if left_out:
        table.add_row(Text(f"… {left_out:,} more …", "dim"))
    for row in tail_rows:
        _add_document(table, row, columns, name_width)
    items: list[RenderableType] = [_heading(summary.recipe, summary.model)]
    if rows:
        items.append(table)
    items += _reasons([(row.name, row.status, row.problem) for row in rows if row.status != "complete"], look)
    items += [Text(line) for line in _closing(summary)]
    return rendered(*items, width=width, color=look.color)


def plan_table(plan: Plan, look: Look = PLAIN) -> str:
    """What a run would send and cost: a row per document, totals, and the documents that cannot be read."""
    table, width = _table(look), look.columns
    rows, total = plan.documents, plan.totals
    columns = _plan_columns(rows)
    numbers = sum(max(len(head), *(len(cell(row)) for row in (*rows, total))) + 2 for head, cell in columns)
    name_width = max(16, width - numbers)
    table.add_column("document", count(len(rows), "document"), no_wrap=True, overflow="crop", min_width=name_width)
    for head, cell in columns:
        table.add_column(head, cell(total), justify="right", no_wrap=True)
    head_rows, left_out, tail_rows = thinned(rows, look.limit(_ROWS))
    for row in (*head_rows, None, *tail_rows) if left_out else head_rows:
        if row is None:
            table.add_row(Text(f"… {left_out:,} more …", "dim"))
        else:
            style = "red" if row.problem else ""
            name = Text(shortened(printable(row.name), name_width), style)
            table.add_row(name, *(cell(row) for _, cell in columns))
    items: list[RenderableType] = [_heading(plan.recipe, plan.model)]
    if rows:
        items.append(table)
    items += _reasons([(row.name, "failed", row.problem) for row in rows if row.problem], look, "Cannot be read")
    items.append(Text(_price(total)))
    return rendered(*items, width=width, color=look.color)


def record_table(record: Record, look: Look = PLAIN) -> str:
    """One record: each value with the place it comes from, conflicts, and problems."""
    width = look.columns
    table = _table(look, footer=False)
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
    return rendered(*items, width=width, color=look.color)


_SummaryColumn = tuple[str, Callable[[Totals], str]]
_PlanColumn = tuple[str, Callable[[PlanRow], str]]


def _summary_columns(rows: Sequence[Totals]) -> list[_SummaryColumn]:
    """Columns worth showing: those about frames and the ledger only when there are any."""
    columns: list[_SummaryColumn] = [("pages", lambda row: f"{row.pages:,}")]
    if any(row.frames for row in rows):
        columns.append(("frames", lambda row: f"{row.frames:,}"))
    columns += [("chunks", lambda row: f"{row.chunks:,}"), ("requests", lambda row: f"{row.requests:,}")]
    if any(row.from_ledger for row in rows):
        columns.append(("kept", lambda row: f"{row.from_ledger:,}"))
    return [
        *columns,
        ("tokens in", lambda row: f"{row.input_tokens:,}"),
        ("out", lambda row: f"{row.output_tokens:,}"),
        ("cost", lambda row: dollars(row.cost_usd)),
    ]


def _plan_columns(rows: Sequence[PlanRow]) -> list[_PlanColumn]:
    columns: list[_PlanColumn] = [("pages", lambda row: f"{row.pages:,}")]
    if any(row.frames for row in rows):
        columns.append(("frames", lambda row: f"{row.frames:,}"))
    return [
        *columns,
        ("chunks", lambda row: f"{row.chunks:,}"),
        ("requests", lambda row: f"{row.requests:,}"),
        ("tokens in", lambda row: f"{row.input_tokens_expected:,}"),
        ("expected", lambda row: dollars(row.cost_usd_expected)),
        ("at most", lambda row: dollars(row.cost_usd_ceiling)),
    ]


def _table(look: Look, footer: bool = True) -> Table:
    return Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        show_footer=footer,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        footer_style="bold",
        width=None if footer else look.columns,
    )


def _heading(recipe: RecipeInfo, model: ModelInfo) -> Text:
    text = Text(f"Recipe {printable(recipe.name)}", "bold")
    if model.endpoint == "local":
        return text.append(f", local engine {model.model}: rules over the words read, no vision model", "not bold")
    return text.append(f", {model.model} at {printable(model.endpoint)}", "not bold")


def _add_document(table: Table, row: DocumentRow, columns: Sequence[_SummaryColumn], name_width: int) -> None:
    name = Text(shortened(printable(row.name), name_width))
    table.add_row(name, Text(row.status, STATUS_STYLES[row.status]), *(cell(row) for _, cell in columns))


def _reasons(
    rows: Sequence[tuple[str, str, str | None]], look: Look, title: str = "Not complete"
) -> list[RenderableType]:
    if not rows:
        return []
    items: list[RenderableType] = [Text(f"\n{title}", "bold")]
    shown, left_out, tail = thinned(rows, look.limit(_REASONS))
    for name, status, reason in (*shown, *tail):
        line = Text(printable(name), STATUS_STYLES[status])
        told = one_line(reason) if reason else status
        items.append(Padding(line.append(f": {told}", "default"), (0, 0, 0, 2)))
    if left_out:
        items.append(Text(f"  and {left_out:,} more", "dim"))
    return items


def _closing(summary: RunSummary) -> list[str]:
    counts = {status: getattr(summary, status) for status in STATUS_STYLES}
    told = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number) or "no documents"
    spent = "" if summary.spent_usd is None else f", {dollars(summary.spent_usd)} spent"
    lines = [
        "",
        f"{told} in {duration(summary.elapsed_s)}; {count(summary.requests_sent, 'request')} sent in this run{spent}.",
    ]
    if summary.output:
        lines.append(f"Records are in {printable(summary.output)}")
    return lines


def _price(total: PlanRow) -> str:
    requests = count(total.requests, "request")
    if not total.requests:
        return "\nNothing to send: every chunk is answered already." if total.chunks else "\nNothing to send."
    tokens = f"{total.input_tokens_expected:,} input tokens expected, {total.input_tokens_safe:,} at most"
    if total.cost_usd_ceiling is None:
        return f"\n{requests}: {tokens}; the profile has no prices."
    expected, ceiling = dollars(total.cost_usd_expected), dollars(total.cost_usd_ceiling)
    return f"\n{requests}: {tokens}; {expected} expected, {ceiling} at most. Nothing was sent."


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
