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
from ingest.record import Record, RunSummary

RUN_FILE, LINES_FILE = "run.json", "records.jsonl"

_M = TypeVar("_M", bound=BaseModel)
_folder = click.argument(
    "folder", metavar="[OUT]", default=DEFAULT_OUTPUT, type=click.Path(file_okay=False, path_type=Path)
)


@click.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout: the content of run.json.")
@click.option("-v", "--verbose", is_flag=True, help="List every document.")
def status(folder: Path, as_json: bool, verbose: bool) -> int:
    """Show how the last run into OUT went. The exit code is that run's: 0 all complete, 1 some not."""
    from ingest.showing.report import Look, summary_table

    summary = _read(folder / RUN_FILE, RunSummary, folder)
    if as_json:
        say_json(summary.model_dump(mode="json"))
    else:
        say(summary_table(summary, Look(color=is_color(), verbose=verbose)))
    return 0 if summary.complete == len(summary.documents) else 1


@click.command()
@_folder
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The record, or all records, as JSON on stdout.")
@click.option("-v", "--verbose", is_flag=True, help="List everything.")
def show(folder: Path, name: str | None, as_json: bool, verbose: bool) -> None:
    """Show the records in OUT, or the values of the one called NAME with the place each comes from."""
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
