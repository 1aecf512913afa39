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
from ingest.errors import ConfigError
from ingest.keeping.sinks.files import record_path
from ingest.record import Record, RunSummary, Spending

RUN_FILE, LINES_FILE, LEDGER_FOLDER = "run.json", "records.jsonl", ".ingest"

_M = TypeVar("_M", bound=BaseModel)
_folder = click.argument(
    "folder", metavar="[OUT]", default=DEFAULT_OUTPUT, type=click.Path(file_okay=False, path_type=Path)
)


@click.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="As JSON: the content of run.json, and the ledger's books.")
@click.option("-v", "--verbose", is_flag=True, help="List every document.")
def status(folder: Path, as_json: bool, verbose: bool) -> int:
    """Show how the last run into OUT went, and what all runs into it have cost.

    The exit code is that run's: 0 all complete, 1 some not, or not ended.
    """
    from ingest.showing.report import Look, books_table, summary_table

    look = Look(color=is_color(), verbose=verbose)
    books = _books(folder)
    has_ended = books is None or (folder / RUN_FILE).exists()
    summary = _read(folder / RUN_FILE, RunSummary, folder) if has_ended else None
    if as_json:
        value = {} if summary is None else summary.model_dump(mode="json")
        say_json(value | {"ledger": None if books is None else books.model_dump(mode="json")})
    else:
        if summary is None:
            say(f"No run has ended in {folder}: one is under way, or was stopped. Run it again to go on.")
        else:
            say(summary_table(summary, look))
        told = "" if books is None or not books.total_usd else books_table(books, look)
        if told and (summary is None or books != summary.spending):
            say(f"\n{told}")
    return 0 if summary is not None and summary.complete == len(summary.documents) else 1


@click.command()
@_folder
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The record, or all records, as JSON on stdout.")
@click.option("--answer", "key", metavar="KEY", help="The model's raw answer under a request key of a record.")
@click.option("-v", "--verbose", is_flag=True, help="List everything.")
def show(folder: Path, name: str | None, as_json: bool, key: str | None, verbose: bool) -> None:
    """Show the records in OUT, or the values of the one called NAME with the place each comes from."""
    if key is not None:
        say(_raw_answer(folder, key))
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


def _books(folder: Path) -> Spending | None:
    """What the ledger knows of all runs into the folder; None without a ledger."""
    if not (folder / LEDGER_FOLDER).is_dir():
        return None
    from ingest.engine.accounts import spending_of
    from ingest.keeping.ledger import Ledger

    with Ledger(folder) as ledger:
        return spending_of(ledger.attempts.postings())


def _raw_answer(folder: Path, key: str) -> str:
    """The text of an answer as it came, whether it could be used or not."""
    from ingest.keeping.ledger import Ledger

    if (folder / LEDGER_FOLDER).is_dir():
        with Ledger(folder) as ledger:
            reply = ledger.answers.get(key)
        if reply is not None:
            return reply.text
    raise ConfigError(f"{folder} has no answer under {key!r}: the keys of a record stand in its `keys`")


def _find(folder: Path, name: str) -> Record[Any]:
    for candidate in (name, name.removesuffix(".json")):
        path = record_path(folder, candidate)
        # A name that climbs out of the folder names no record.
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
