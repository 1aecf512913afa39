"""`ingest status` and `ingest show`: what a run left in its folder."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from ingest.cli.options import DEFAULT_OUTPUT
from ingest.cli.output import is_color, say, say_json
from ingest.errors import ConfigError, OutputError
from ingest.keeping.sinks.files import record_path
from ingest.record import Record, RunSummary, Standing

RUN_FILE, LINES_FILE, LEDGER_FOLDER = "run.json", "records.jsonl", ".ingest"

_M = TypeVar("_M", bound=BaseModel)
_folder = click.argument(
    "folder", metavar="[OUT]", default=DEFAULT_OUTPUT, type=click.Path(file_okay=False, path_type=Path)
)


_ledger = click.option(
    "--ledger",
    "url",
    envvar="INGEST_LEDGER",
    metavar="URL",
    help="The database that keeps answers and money, when it is not the file in OUT/.ingest.",
)


@click.command()
@_folder
@_ledger
@click.option("--json", "as_json", is_flag=True, help="As JSON: the content of run.json, and what the ledger knows.")
@click.option("-v", "--verbose", is_flag=True, help="List every document and every run.")
def status(folder: Path, url: str | None, as_json: bool, verbose: bool) -> int:
    """Show how the last run into OUT went, and all runs in its ledger: documents by status, failures, money.

    The exit code is the last run's: 0 all complete, 1 some not, or not ended; 1 also when a digest was not delivered or
    a scheduled job failed.
    """
    summary, standing = _look_up(folder, url)
    if as_json:
        say_json(_as_json(summary, standing))
    else:
        _tell(folder, summary, standing, verbose)
    if standing is not None and (standing.undelivered or standing.failed_jobs):
        return 1
    if summary is None and url is not None and standing is not None:
        has_ended = bool(standing.runs) and standing.runs[-1].state == "finished"
        return 0 if has_ended and not standing.not_complete else 1
    return 0 if summary is not None and summary.complete == len(summary.documents) else 1


def _look_up(folder: Path, url: str | None) -> tuple[RunSummary | None, Standing | None]:
    """What the last run wrote when it ended, and what the ledger knows; at least one of them."""
    has_ledger = url is not None or (folder / LEDGER_FOLDER).is_dir()
    summary = None
    if not has_ledger or (folder / RUN_FILE).exists():
        summary = _read(folder / RUN_FILE, RunSummary, folder)
    if not has_ledger:
        return summary, None
    from ingest.api import open_ledger
    from ingest.engine.standing import standing_of

    with open_ledger(folder, url) as ledger:
        return summary, standing_of(ledger)


def _as_json(summary: RunSummary | None, standing: Standing | None) -> dict[str, Any]:
    value = {} if summary is None else summary.model_dump(mode="json")
    if standing is None:
        return value | {"ledger": None}
    known = standing.model_dump(mode="json")
    return value | {"ledger": known.pop("books")} | known


def _tell(folder: Path, summary: RunSummary | None, standing: Standing | None, verbose: bool) -> None:
    from ingest.showing.report import Look, summary_table
    from ingest.showing.standing import books_table, standing_table

    look = Look(color=is_color(), verbose=verbose)
    if summary is not None:
        say(summary_table(summary, look))
    else:
        say(f"No run has ended in {folder}: one is under way, or was stopped. Run it again to go on.")
    if standing is None:
        return
    # The last run's own table names its failures already, unless other documents failed before it.
    told = set() if summary is None else {row.name for row in summary.documents if row.status != "complete"}
    say(f"\n{standing_table(standing, look, any(row.name not in told for row in standing.not_complete))}")
    for sent in standing.undelivered:
        say(f"Not delivered to {sent.to}: {sent.what}, {sent.state} (tries: {sent.tries}): {sent.reason}")
    for job in standing.failed_jobs:
        say(f"The job {job.name} failed with exit code {job.exit_code}; its output is in {job.log}")
    books = standing.books
    if books.total_usd and (summary is None or books != summary.spending):
        say(f"\n{books_table(books, look)}")


@click.command()
@_folder
@click.argument("name", required=False)
@_ledger
@click.option("--json", "as_json", is_flag=True, help="The record, or all records, as JSON on stdout.")
@click.option("--answer", "key", metavar="KEY", help="The model's raw answer under a request key of a record.")
@click.option("-v", "--verbose", is_flag=True, help="List everything.")
def show(folder: Path, name: str | None, url: str | None, as_json: bool, key: str | None, verbose: bool) -> None:
    """Show the records in OUT, or the values of the one called NAME with the place each comes from."""
    if key is not None:
        say(_raw_answer(folder, url, key))
        return
    from ingest.showing.report import Look, record_table, records_table

    look = Look(color=is_color(), verbose=verbose)
    if name is None:
        records = list(_records(folder))
        if as_json:
            say_json([record.to_dict() for record in records])
        else:
            say(records_table(records, look))
        return
    record = _find(folder, name)
    say(record.to_json() if as_json else record_table(record, look))


def _raw_answer(folder: Path, url: str | None, key: str) -> str:
    """The text of an answer as it came, whether it could be used or not."""
    if url is not None or (folder / LEDGER_FOLDER).is_dir():
        from ingest.api import open_ledger

        with open_ledger(folder, url) as ledger:
            reply = ledger.answers.get(key)
        if reply is not None:
            return reply.text
    raise ConfigError(f"{folder} has no answer under {key!r}: the keys of a record stand in its `keys`")


def _find(folder: Path, name: str) -> Record[Any]:
    for candidate in (name, name.removesuffix(".json")):
        try:
            path = record_path(folder, candidate)
        except OutputError:  # a name that climbs out of the folder names no record
            continue
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return _read(path, Record[dict[str, Any]], folder)
    names = [record.document.name for record in _records(folder)]
    holding = [known for known in names if name.lower() in known.lower()]
    close = holding[:5] or difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else f": ingest show {folder} lists them"
    raise ConfigError(f"{folder} has no record of {name!r}{hint}")


def _records(folder: Path) -> Iterator[Record[Any]]:
    path = folder / LINES_FILE
    for number, line in enumerate(_text(path, folder).rstrip("\n").split("\n"), 1):
        yield _parsed(line, Record[dict[str, Any]], f"{path}, line {number}")


def _read(path: Path, model: type[_M], folder: Path) -> _M:
    return _parsed(_text(path, folder), model, str(path))


def _text(path: Path, folder: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"no run has ended in {folder}: it has no {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _parsed(text: str, model: type[_M], where: str) -> _M:
    try:
        return model.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise ConfigError(f"{where} was not written by this version of ingest: {str(error).splitlines()[0]}") from error
