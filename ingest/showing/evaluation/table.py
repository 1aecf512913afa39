"""An evaluation for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ingest.showing.evaluation.scores import Counts, Evaluation

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_MAX_NAMES: Final = 8
_MAX_SHOWN: Final = 40
_MAX_VALUE_CHARS: Final = 48


def render(evaluation: Evaluation, max_differences: int = 0) -> Group:
    """The evaluation as tables for a rich console; with `max_differences` leaves that do not match are listed too."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Table | Text] = [Text(line) for line in _headline(evaluation)]
    parts.append(_field_table(evaluation))
    if evaluation.rows:
        parts.append(_row_table(evaluation))
    if max_differences and evaluation.differences:
        parts.append(_difference_table(evaluation, max_differences))
    for shortfall in evaluation.shortfalls:
        shown = "nothing to score" if shortfall.score is None else _percent(shortfall.score)
        parts.append(Text(f"below the minimum: {shortfall.field} {shown}, wanted {_percent(shortfall.minimum)}", "red"))
    return Group(*parts)


def _headline(evaluation: Evaluation) -> list[str]:
    counts = evaluation.overall
    lines = [
        f"{len(evaluation.documents)} documents, {counts.matched} of {counts.expected} values match "
        f"({_percent(counts.accuracy)}); precision {_percent(counts.precision)}, F1 {_percent(counts.f1)}"
    ]
    if evaluation.unpredicted:
        lines.append(f"truths without a prediction: {_names(evaluation.unpredicted)}")
    if evaluation.untold:
        lines.append(f"predictions without a truth, not scored: {_names(evaluation.untold)}")
    return lines


def _field_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    lines = [(score.field or "(the whole)", _cells(score.counts)) for score in evaluation.fields]
    total = _cells(evaluation.overall)
    # A way to match, or to fail, that never occurs is not worth a column.
    shown = [name for name in total if name in ("values", "match") or total[name] not in ("0", "0.0%", "-")]
    table = Table(box=None, pad_edge=False)
    table.add_column("field", overflow="fold", min_width=16)
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for field, cells in lines:
        table.add_row(field, *(cells[name] for name in shown))
    table.add_row("all", *(total[name] for name in shown), style="bold")
    return table


def _cells(counts: Counts) -> dict[str, str]:
    ways = {"exact": counts.exact, "normalised": counts.normalised, "numeric": counts.numeric, "date": counts.date}
    shares = {name: _percent(n / counts.expected if counts.expected else None) for name, n in ways.items()}
    fates = {"wrong": counts.wrong, "missing": counts.missing, "invented": counts.invented, "extra": counts.extra}
    return {
        "values": str(counts.expected),
        "match": _percent(counts.accuracy),
        **shares,
        "token F1": _percent(counts.token_f1),
        **{name: str(number) for name, number in fates.items()},
    }


def _row_table(evaluation: Evaluation) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("rows of", overflow="fold")
    for name in ("expected", "predicted", "paired", "whole", "missing", "invented", "precision", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in evaluation.rows:
        numbers = (score.expected, score.predicted, score.paired, score.whole, score.missing, score.invented)
        leaves = score.leaves
        shares = (leaves.precision, leaves.accuracy, leaves.f1)
        table.add_row(score.field or "(the whole)", *map(str, numbers), *map(_percent, shares))
    return table


def _difference_table(evaluation: Evaluation, limit: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("document", "place", "", "expected", "predicted"):
        table.add_column(name, overflow="fold")
    for each in evaluation.differences[:limit]:
        values = (Text(_shorten(each.expected)), Text(_shorten(each.predicted)))
        table.add_row(Text(each.document), Text(each.pointer), each.verdict, *values)
    hidden = len(evaluation.differences) + evaluation.differences_left_out - limit
    if hidden > 0:
        table.caption = f"and {hidden} more"
    return table


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _shorten(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 1] + "…"
