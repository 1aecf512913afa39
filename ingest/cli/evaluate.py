"""`ingest eval`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

from ingest.cli.output import say, say_json

_COLUMNS = 132
"""Least width of the tables: a dozen columns of numbers beside the names of fields."""

_existing = click.Path(exists=True, path_type=Path)


@click.command("eval")
@click.argument("predicted", type=_existing)
@click.argument("expected", type=_existing)
@click.option(
    "--map", "map_file", type=_existing, metavar="FILE", help="JSON object: path in EXPECTED to path in PREDICTED."
)
@click.option("--ignore", multiple=True, metavar="PATH", help="Leave this field of EXPECTED out; repeatable.")
@click.option("--only", multiple=True, metavar="PATH", help="Compare only this field of EXPECTED; repeatable.")
@click.option("--day-first", is_flag=True, help="Read 03/04/2018 as 3 April.")
@click.option(
    "--similar", multiple=True, metavar="PATH=SHARE", help="Texts match from this similarity, 0 to 1; repeatable."
)
@click.option("--within", multiple=True, metavar="PATH=DISTANCE", help="Numbers match up to this distance; repeatable.")
@click.option("--unsigned", multiple=True, metavar="PATH", help="Compare these numbers without sign; repeatable.")
@click.option(
    "--min",
    "minimums",
    multiple=True,
    metavar="PATH=SCORE",
    help="Exit with 1 when the score is lower, 0 to 1; `all` is the share of all values; repeatable.",
)
@click.option("--require-all", is_flag=True, help="An EXPECTED without prediction counts as wholly missing.")
@click.option(
    "-d", "--differences", default=0, type=click.IntRange(min=0), metavar="N", help="List the first N that differ."
)
@click.option("--json", "as_json", is_flag=True, help="All scores and differences as JSON on stdout.")
def evaluate(
    predicted: Path,
    expected: Path,
    map_file: Path | None,
    ignore: Sequence[str],
    only: Sequence[str],
    day_first: bool,
    similar: Sequence[str],
    within: Sequence[str],
    unsigned: Sequence[str],
    minimums: Sequence[str],
    require_all: bool,
    differences: int,
    as_json: bool,
) -> int:
    """Compare records with known answers, value by value.

    PREDICTED is a folder of records, records.jsonl or one record; EXPECTED a folder or file of truths, found by the
    names of the documents. A path is written like line_items/*/amount. The exit code is 1 below a --min.
    """
    from ingest.showing import evaluation
    from ingest.showing.text import printable, rendered, terminal_width

    options = evaluation.EvaluationOptions(
        map=evaluation.read_map(map_file) if map_file else {},
        ignore=tuple(ignore),
        only=tuple(only),
        day_first=day_first,
        similar=_shares("--similar", similar),
        within=_numbers("--within", within, None),
        unsigned=tuple(unsigned),
        minimums=_shares("--min", minimums),
        require_all=require_all,
    )
    result = evaluation.evaluate(predicted, expected, options)
    if as_json:
        say_json(result.to_dict())
    else:
        # Without colour every control character left is one of a document, and is shown as such.
        lines = rendered(evaluation.render(result, differences), width=max(terminal_width(), _COLUMNS)).splitlines()
        say("\n".join(printable(line) for line in lines))
    return 1 if result.shortfalls else 0


def _shares(flag: str, given: Sequence[str]) -> dict[str, float]:
    return _numbers(flag, given, 1.0)


def _numbers(flag: str, given: Sequence[str], highest: float | None) -> dict[str, float]:
    """Numbers by path, from 0 up."""
    found: dict[str, float] = {}
    for text in given:
        path, _, written = text.rpartition("=")
        try:
            number = float(written)
        except ValueError:
            number = -1.0
        if not path or not 0 <= number <= (math.inf if highest is None else highest) or math.isinf(number):
            bounds = "from 0 up, e.g. slides/*/start_s=1" if highest is None else "from 0 to 1, e.g. total=0.85"
            raise click.UsageError(f"{flag} {text!r} is not PATH=NUMBER with a number {bounds}")
        found[path] = number
    return found
