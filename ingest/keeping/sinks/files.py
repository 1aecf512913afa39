"""Records as files: `OUT/<name>.json`, `OUT/records.jsonl`, `OUT/run.json`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Self

from pydantic_core import to_json

from ingest.errors import OutputError
from ingest.record import Record, RunSummary

_RUN_FILE = "run.json"
_LINES_FILE = "records.jsonl"


def write_whole(path: Path, content: str) -> None:
    """Write a file so that it appears whole or not at all: temporary file, fsync, rename.

    Raises OutputError when the folder cannot be written or the disk is full; nothing half-written stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=".tmp-", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # A temporary file is private; a result is as readable as the user's umask says.
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; nothing half-written was left") from error


def record_path(folder: Path, name: str) -> Path:
    """Where the record of a document named `name` stands; a name that would hide `run.json` is set apart."""
    path = f"{name}.json"
    return folder / ("run.record.json" if path == _RUN_FILE else path)


class FilesSink:
    """Writes each record as it comes, `records.jsonl` and `run.json` when the run ends.

    `records.jsonl` is collected in a temporary file and takes its place at the end, so an interrupted run leaves
    the one of the run before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The numbers of the run before, and what a killed run left, must not be taken for this one's.
            (folder / _RUN_FILE).unlink(missing_ok=True)
            for left in folder.glob(".tmp-*.part"):
                left.unlink(missing_ok=True)
            self._lines = tempfile.NamedTemporaryFile(  # noqa: SIM115  # closed in `finish` or `__exit__`
                "w", encoding="utf-8", dir=folder, prefix=".tmp-", suffix=".part", delete=False
            )
        except OSError as error:
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose a writable -o") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        Path(self._lines.name).unlink(missing_ok=True)

    def write(self, record: Record[Any]) -> None:
        """Write one record."""
        value = record.to_dict()
        write_whole(record_path(self._folder, record.document.name), to_json(value, indent=2).decode() + "\n")
        try:
            self._lines.write(to_json(value).decode() + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._folder / _LINES_FILE}: {error.strerror}") from error

    def finish(self, summary: RunSummary) -> None:
        """Put `records.jsonl` and `run.json` in their places."""
        try:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            Path(self._lines.name).chmod(0o666 & ~_umask())
            Path(self._lines.name).replace(self._folder / _LINES_FILE)
        except OSError as error:
            raise OutputError(f"cannot write {self._folder / _LINES_FILE}: {error.strerror}") from error
        write_whole(self._folder / _RUN_FILE, summary.model_dump_json(indent=2) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
