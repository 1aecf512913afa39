"""Files that hold documents: e-mails with attachments, archives.

`CONTAINERS` is the table: media type to `"module:attribute"`. A container lists its entries; what holds for all of them
stands here: how many, how large, under which names. A new kind is one module and its lines in the table.

Everything here runs in a worker process, and members go to disk block by block.
"""

from __future__ import annotations

import errno
import importlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, Protocol, cast

from ingest.config import FindingSettings, ReadingSettings
from ingest.errors import SourceError, TooLarge, Unreadable
from ingest.reading.names import matches, safe_name
from ingest.types import Problem, Source

_MESSAGE = "ingest.reading.containers.message:CONTAINER"
_ARCHIVE = "ingest.reading.containers.archives:CONTAINER"

CONTAINERS: dict[str, str] = {
    "message/rfc822": _MESSAGE,
    "application/vnd.ms-outlook": _MESSAGE,
    "application/zip": _ARCHIVE,
    "application/x-tar": _ARCHIVE,
    "application/gzip": _ARCHIVE,
    "application/x-bzip2": _ARCHIVE,
    "application/x-xz": _ARCHIVE,
}

DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What the libraries raise on damage, encryption and methods they do not know."""

FREE_RATIO_BYTES = 100_000_000
"""What any container may unpack to, however small it is: blank pages and logs shrink a thousand times."""

_BLOCK_BYTES = 1 << 20
_PROBLEMS_TOLD = 20
# What archivers of one system leave in archives for others, beside hidden files.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a container: its name as written there, and how to read it. `problem` says why that cannot be."""

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]] | None = None
    problem: str | None = None
    code: str = Unreadable.code


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A document that was put on disk. `name` is as written in the container."""

    name: str
    path: Path
    size_bytes: int


class Container(Protocol):
    """How one family of containers tells what it holds."""

    def entries(self, source: Source, settings: ReadingSettings) -> Iterator[Entry]:
        """The documents inside, in their order. Each is opened, if at all, before the next is asked for.

        Raises SourceError when the container cannot be opened.
        """
        ...


def is_container(media_type: str) -> bool:
    """Whether files of this kind hold documents."""
    return media_type in CONTAINERS


def most_bytes(size_bytes: int, finding: FindingSettings) -> int:
    """What a container of this size may unpack to."""
    by_ratio = max(size_bytes * finding.max_unpacked_ratio, FREE_RATIO_BYTES)
    return min(by_ratio, finding.max_unpacked_bytes)


def unpack(
    source: Source, folder: Path, finding: FindingSettings, settings: ReadingSettings
) -> Iterator[Unpacked | Problem]:
    """Put the documents of a container into a folder, one file each, within the bounds of the settings.

    Gives each as it is done. What is left out, and why, comes as problems, at most twenty of them. Hidden files and
    what the settings exclude are passed over.
    """
    module, _, attribute = CONTAINERS[source.media_type].partition(":")
    container: Container = getattr(importlib.import_module(module), attribute)
    told = 0
    for each in _unpack(container, source, folder, finding, settings):
        told += isinstance(each, Problem)
        if isinstance(each, Unpacked) or told <= _PROBLEMS_TOLD:
            yield each
    if told > _PROBLEMS_TOLD:
        yield _problem(f"{source.name}: {told - _PROBLEMS_TOLD:,} more of its documents could not be read")


def _unpack(
    container: Container, source: Source, folder: Path, finding: FindingSettings, settings: ReadingSettings
) -> Iterator[Unpacked | Problem]:
    room_bytes, count = most_bytes(source.size_bytes, finding), 0
    for entry in container.entries(source, settings):
        where = f"{source.name}: {safe_name(PurePosixPath(entry.name))}"
        if not _is_wanted(entry.name, source, finding):
            continue
        if entry.open is None:
            yield _problem(f"{where} {entry.problem}", entry.code)
            continue
        if count == finding.max_members:
            message = f"{source.name} holds more than {count:,} documents; the rest was left out: raise max_members"
            yield _problem(message, TooLarge.code)
            return
        count += 1
        path = folder / f"{count}{_suffix(entry.name)}"
        most = min(finding.max_member_bytes, room_bytes)
        try:
            size_bytes = _write(entry.open, path, most)
        except DAMAGE as error:
            path.unlink(missing_ok=True)
            yield _problem(f"{where} cannot be unpacked: {_reason(error)}")
            continue
        if size_bytes is not None:
            room_bytes -= size_bytes
            yield Unpacked(entry.name, path, size_bytes)
            continue
        path.unlink(missing_ok=True)
        if most < finding.max_member_bytes:
            message = f"{source.name} unpacks to more than is sane for its size; {where} and the rest were left out"
            yield _problem(f"{message}: raise max_unpacked_bytes and max_unpacked_ratio to read them", TooLarge.code)
            return
        message = f"{where} has more than {most:,} bytes and was left out: raise max_member_bytes"
        yield _problem(message, TooLarge.code)


def _write(open_entry: Callable[[], AbstractContextManager[BinaryIO]], path: Path, most_bytes: int) -> int | None:
    """Copy an entry, and tell its size; None when it has more bytes than allowed."""
    size_bytes = 0
    with open_entry() as file, path.open("wb") as target:
        while block := file.read(_BLOCK_BYTES):
            size_bytes += len(block)
            if size_bytes > most_bytes:
                return None
            target.write(block)
    return size_bytes


def _is_wanted(name: str, source: Source, finding: FindingSettings) -> bool:
    steps = PurePosixPath(name).parts
    is_hidden = any(step.startswith(".") and step.strip(".") for step in steps)
    is_litter = any(step in _LITTER for step in steps)
    return not is_hidden and not is_litter and not matches(f"{source.name}/{name}", finding.exclude)


def _suffix(name: str) -> str:
    suffix = PurePath(name).suffix
    return suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) <= 16 else ""


def _reason(error: Exception) -> str:
    if isinstance(error, SourceError):
        return error.message
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "it is larger than a worker may write; raise max_output_bytes"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    told = str(cast("object", error.args[0])) if error.args else ""
    return f"it is damaged ({told or type(error).__name__})"


def _problem(message: str, code: str = Unreadable.code) -> Problem:
    return Problem("reading", code, message)
