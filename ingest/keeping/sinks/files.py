"""Records as files: `OUT/<name>.json`, `OUT/records.jsonl`, `OUT/run.json`.

Every file appears whole or not at all: it is written under another name, forced to disk, and renamed. The other name
stands in a folder of this process alone, which a lock tells from one that a killed process left.

A name is on disk for sure once its folder is forced there, too. New records do that together, some dozens at a time:
all that a loss of power can take is the newest of them, and the same command writes them again from the ledger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from pydantic_core import from_json, to_json

from ingest.errors import OutputError
from ingest.record import Record, RunSummary

_RUN_FILE = "run.json"
_LINES_FILE = "records.jsonl"
_SCRATCH_PREFIX, _LOCK_NAME = ".writing-", "lock"
_NAMES_AT_ONCE = 64
"""Records whose names may not be on disk yet."""
# What file systems answer that cannot lock, or cannot force a folder to disk.
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF})


def write_whole(path: Path, content: str | bytes, scratch: Path | None = None, *, forces_name: bool = True) -> None:
    """Write a file so that it appears whole or not at all, and is on disk when this returns.

    `scratch` is where it is put together, on the same file system; by default beside its place. Without `forces_name`
    the caller sees to its folder. Raises OutputError when the folder cannot be written or the disk is full; nothing
    half-written stays.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = (scratch or path.parent) / f".{secrets.token_hex(8)}.part"
    try:
        _make_folder(path.parent)
        try:
            # A new file is as readable as the user's umask says; nobody else's is written to.
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
                file.write(data)
                _force(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if forces_name:
            _force_folder(path.parent)
    except OSError as error:
        raise _failure(path, error) from error


def record_path(folder: Path, name: str) -> Path:
    """Where the record of a document named `name` stands; a name that would hide `run.json` is set apart.

    Raises OutputError for a name that leads out of the folder.
    """
    steps = PurePosixPath(name)
    if steps.is_absolute() or ".." in steps.parts:
        raise OutputError(f"the record {name!r} would be written outside {folder}: give the document another name")
    path = f"{name}.json"
    return folder / ("run.record.json" if path == _RUN_FILE else path)


class FilesSink:
    """Writes each record as it comes, `records.jsonl` and `run.json` when the run ends.

    `records.jsonl` is collected out of sight and takes its place at the end, so an interrupted run leaves the one of
    the run before. Of two runs into one folder each writes whole files, and the last one to end has its `records.jsonl`
    and `run.json` there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folders: set[Path] = set()
        self._unforced = 0
        self._names: set[int] = set()
        self._has_repeats = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            self._scratch, self._lock = _take_scratch(folder)
        except OSError as error:
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose a writable -o") from error
        try:
            # The numbers of the run before must not be taken for this one's.
            (folder / _RUN_FILE).unlink(missing_ok=True)
            self._lines: IO[bytes] = (self._scratch / _LINES_FILE).open("wb")
        except OSError as error:
            self._leave()
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose a writable -o") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was told of when it was met
            self._lines.close()
        self._leave()

    def write(self, record: Record[Any]) -> None:
        """Write one record; its content is on disk when this returns. One that is there as it is stays untouched.

        Raises OutputError.
        """
        value = record.to_dict()
        path, content = record_path(self._folder, record.document.name), to_json(value, indent=2) + b"\n"
        before = _content_of(path)
        if before != content:
            # Where there was another, the ledger must not know of the new one while the old one may still come back.
            write_whole(path, content, self._scratch, forces_name=before is not None)
        if before is None:
            self._unforced += 1
            self._folders.add(path.parent)
        if self._unforced >= _NAMES_AT_ONCE:
            self._force_names()
        self._add_line(value)

    def repeat(self, record: Record[Any]) -> None:
        """Put a record of an earlier run, left alone in this one, among the lines. Raises OutputError.

        Its own file is written only where it is missing.
        """
        if record_path(self._folder, record.document.name).exists():
            self._add_line(record.to_dict())
        else:
            self.write(record)

    def _add_line(self, value: dict[str, Any]) -> None:
        name = hash(value["document"]["name"])
        self._has_repeats |= name in self._names
        self._names.add(name)
        try:
            self._lines.write(to_json(value) + b"\n")
        except OSError as error:
            raise _failure(self._folder / _LINES_FILE, error) from error

    def finish(self, summary: RunSummary) -> None:
        """Put `records.jsonl` and `run.json` in their places. Raises OutputError."""
        path = self._folder / _LINES_FILE
        self._force_names()
        try:
            if self._has_repeats:
                self._lines = _last_lines(self._lines)
            _force(self._lines)
            self._lines.close()
            os.replace(self._lines.name, path)
            _force_folder(self._folder)
        except OSError as error:
            raise _failure(path, error) from error
        write_whole(self._folder / _RUN_FILE, summary.model_dump_json(indent=2) + "\n", self._scratch)

    def _force_names(self) -> None:
        """Force the folders of the newest records to disk."""
        for folder in self._folders:
            try:
                _force_folder(folder)
            except OSError as error:
                raise _failure(folder, error) from error
        self._folders.clear()
        self._unforced = 0

    def _leave(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock.close()


def _last_lines(lines: IO[bytes]) -> IO[bytes]:
    """A file beside this one with the last line of each document: one that came again took its earlier self's place."""
    lines.close()
    path = Path(lines.name)
    with path.open("rb") as file:
        last = {from_json(line)["document"]["name"]: number for number, line in enumerate(file)}
        kept = path.with_suffix(".kept").open("wb")
        file.seek(0)
        numbers = set(last.values())
        kept.writelines(line for number, line in enumerate(file) if number in numbers)
    return kept


def _content_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _failure(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; nothing half-written was left."
        " Make room or choose a writable -o, and run the same command again to go on"
    )


def _force(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _force_folder(folder: Path) -> None:
    """Force a folder's names to disk, so that a rename outlives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make a folder with those above it, each on disk."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _force_folder(folder.parent)


def _take_scratch(folder: Path) -> tuple[Path, IO[bytes]]:
    """A folder for files in the making, and its lock, which is let go when the process ends, however it does."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=folder))
        try:
            lock = (scratch / _LOCK_NAME).open("wb")
        except FileNotFoundError:
            continue  # another run took it for a dead one's, before it was locked
        if _locked(lock, scratch, waits=True):
            return scratch, lock
        lock.close()


def _sweep(folder: Path) -> None:
    """Remove what killed runs left in the making; a folder whose lock is held belongs to one that lives."""
    for scratch in folder.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError), (scratch / _LOCK_NAME).open("ab") as lock:
            if _locked(lock, scratch, waits=False):
                shutil.rmtree(scratch, ignore_errors=True)


def _locked(lock: IO[bytes], scratch: Path, *, waits: bool) -> bool:
    """Whether the lock could be had, and is still that of the folder.

    Where files cannot be locked, one that waits goes on without, and nothing is ever swept.
    """
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        return waits and error.errno in _NOT_SUPPORTED
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (scratch / _LOCK_NAME).stat())
    except FileNotFoundError:
        return False
