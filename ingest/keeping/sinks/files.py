"""Records as files: `OUT/<name>.json`, `OUT/records.jsonl`, `OUT/run.json`.

Every file appears whole or not at all: it is written under another name, forced to disk, and renamed. The other name
stands in a folder of this process alone, which a lock tells from one that a killed process left.
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

from pydantic_core import to_json

from ingest.errors import OutputError
from ingest.record import Record, RunSummary

_RUN_FILE = "run.json"
_LINES_FILE = "records.jsonl"
_SCRATCH_PREFIX, _LOCK_NAME = ".writing-", "lock"
# What file systems answer that cannot lock, or cannot force a folder to disk.
_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF})


def write_whole(path: Path, content: str | bytes, scratch: Path | None = None) -> None:
    """Write a file so that it appears whole or not at all, and is on disk when this returns.

    `scratch` is where it is put together, on the same file system; by default beside its place. Raises OutputError when
    the folder cannot be written or the disk is full; nothing half-written stays.
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            self._scratch, self._lock = _take_scratch(folder)
        except OSError as error:
            raise OutputError(f"cannot write into {folder}: {error.strerror}; choose a writable -o") from error
        try:
            # The numbers of the run before must not be taken for this one's.
            (folder / _RUN_FILE).unlink(missing_ok=True)
            self._lines = (self._scratch / _LINES_FILE).open("wb")
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
        """Write one record; it is on disk when this returns. Raises OutputError."""
        value = record.to_dict()
        path = record_path(self._folder, record.document.name)
        write_whole(path, to_json(value, indent=2) + b"\n", self._scratch)
        try:
            self._lines.write(to_json(value) + b"\n")
        except OSError as error:
            raise _failure(self._folder / _LINES_FILE, error) from error

    def finish(self, summary: RunSummary) -> None:
        """Put `records.jsonl` and `run.json` in their places. Raises OutputError."""
        path = self._folder / _LINES_FILE
        try:
            _force(self._lines)
            self._lines.close()
            os.replace(self._lines.name, path)
            _force_folder(self._folder)
        except OSError as error:
            raise _failure(path, error) from error
        write_whole(self._folder / _RUN_FILE, summary.model_dump_json(indent=2) + "\n", self._scratch)

    def _leave(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock.close()


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
