"""What a ledger knows of all runs as text for people: the runs, what became of the documents, what it all cost."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from ingest.record import RunRow, Spending, Standing
from ingest.showing.report import PLAIN, Look, reasons_of, spending_lines
from ingest.showing.text import compact, count, dollars, printable, rendered, ruled_table, thinned

_RUNS = 12
_STATE_STYLES = {"finished": "", "under way": "cyan", "interrupted": "yellow"}


def standing_table(standing: Standing, look: Look = PLAIN, names_reasons: bool = True) -> str:
    """The runs, and the documents by what became of them; with `names_reasons` those that are not complete, and why."""
    table = ruled_table(footer=False)
    for heads in ("run", "started", "state", "recipe", "model"):
        table.add_column(heads, no_wrap=True)
    for heads in ("calls", "cost"):
        table.add_column(heads, justify="right", no_wrap=True)
    head, left_out, tail = thinned(standing.runs, look.limit(_RUNS))
    for part in (head, tail):
        for run in part:
            table.add_row(*_cells(run))
        if part is head and left_out:
            table.add_row(Text(f"… {left_out:,} more …", "dim"))
    items: list[RenderableType] = [table] if standing.runs else []
    counts = ", ".join(f"{number:,} {status}" for status, number in standing.states.items())
    if counts:
        items += ["", Text(f"{count(sum(standing.states.values()), 'document')} in the ledger: {counts}.")]
    if names_reasons:
        rows = [(row.name, row.status, row.problem) for row in standing.not_complete]
        items += reasons_of(rows, look, "Not complete")
    return rendered(*items, width=look.columns, color=look.color)


def _cells(run: RunRow) -> list[Text]:
    started = f"{run.started_at[:10]} {run.started_at[11:16]}"
    return [
        Text(f"{run.id:,}"),
        Text(started),
        Text(run.state, _STATE_STYLES[run.state]),
        Text(printable(run.recipe)),
        Text(printable(run.model)),
        Text(f"{run.calls:,}"),
        Text(dollars(run.spent_usd)),
    ]


def books_table(books: Spending, look: Look = PLAIN) -> str:
    """What all runs into a folder have cost, by recipe."""
    table = ruled_table()
    table.add_column("all runs, by recipe", count(books.calls, "call"))
    for head, total in (
        ("calls", f"{books.calls:,}"),
        ("tokens in", ""),
        ("out", ""),
        ("cost", dollars(books.total_usd)),
    ):
        table.add_column(head, total, justify="right", no_wrap=True)
    for row in books.by_recipe:
        numbers = (f"{row.calls:,}", compact(row.input_tokens), compact(row.output_tokens), dollars(row.cost_usd))
        table.add_row(Text(printable(row.name)), *(Text(number) for number in numbers))
    items: list[RenderableType] = [table, ""]
    items += [Text(line) for line in spending_lines(books)]
    if books.unsettled_calls:
        told = f"{count(books.unsettled_calls, 'call')} of these never ended"
        items.append(Text(f"{told}: under way, or lost with a run that was killed."))
    return rendered(*items, width=look.columns, color=look.color)
