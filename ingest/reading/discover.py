"""What the command was given, as files with safe names; what a file is, before anybody opens it."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from ingest.config import ReadingSettings
from ingest.errors import ConfigError, TooLarge, Unreadable
from ingest.reading.media import HEAD_BYTES, sniff
from ingest.reading.sidecars import is_sidecar
from ingest.types import Source

_BLOCK_BYTES = 1 << 20
# A name gets a suffix and, while its record is written, another one: common file systems take 255 bytes.
_MAX_STEP_BYTES = 180
_MAX_NAME_BYTES = 900
_STATE_FOLDER = ".ingest"
_OUTPUT_FILES = frozenset({"records.jsonl", "run.json"})
# What a record starts with, as it is written.
_RECORD_HEAD = b'{\n  "document": {\n    "name": '
# The known answers that `ingest eval` reads may stand beside the documents; they are no documents.
_TRUTH_SUFFIXES = (".truth.json", ".gold.json")


@dataclass(frozen=True, slots=True)
class Found:
    """A file to ingest and the name of its record: relative, with forward slashes, safe below any folder."""

    name: str
    path: Path


def discover(paths: Iterable[str | os.PathLike[str]], output: Path | None = None) -> Iterator[Found]:
    """The files that `paths` name: files, folders with all below them, and glob patterns; lazily, in a stable order.

    Within a folder files come sorted. Hidden files and folders, known answers (`NAME.truth.json`) and subtitles beside
    their video are skipped unless named themselves, and so is `output`, and any folder that an earlier run wrote to. No
    file comes twice. Two files that would share a record's name are told apart by a suffix made from the path of the
    later one. A folder that may not be read is found as if it were a file, so that it fails by itself.

    Raises ConfigError, before the first file, when a path does not exist or a pattern matches nothing.
    """
    given = [os.fspath(path) for path in paths]
    for path in given:
        _check_exists(path)
    return _discover(given, output)


def _discover(paths: Iterable[str], output: Path | None) -> Iterator[Found]:
    names = _Names()
    for given in paths:
        for path, relative in _expand(given, output):
            found = names.give(path, relative)
            if found is not None:
                yield found


def describe(found: Found, settings: ReadingSettings) -> Source:
    """Hash a file block by block and find its media type.

    Raises Unreadable when it is empty, vanished, no regular file or may not be read; TooLarge beyond `max_file_bytes`.
    """
    try:
        status = found.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable(f"the folder {found.name} may not be read: check the permissions of {found.path}")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{found.name} is not a regular file: give files or folders of files")
        if status.st_size > settings.max_file_bytes:
            raise TooLarge(
                f"{found.name} has {status.st_size:,} bytes, more than the limit of {settings.max_file_bytes:,}: "
                "raise max_file_bytes to read it"
            )
        with found.path.open("rb") as file:
            digest, size_bytes = hashlib.sha256(), 0
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
            if not size_bytes:
                raise Unreadable(f"{found.name} is empty: 0 bytes, there is nothing to read")
            file.seek(0)
            media_type = sniff(file.read(HEAD_BYTES), found.path.name, file)
    except FileNotFoundError as error:
        raise Unreadable(f"{found.name} has vanished: {found.path} no longer exists") from error
    except PermissionError as error:
        raise Unreadable(f"{found.name} may not be read: check the permissions of {found.path}") from error
    except OSError as error:
        raise Unreadable(f"{found.name} cannot be read: {error.strerror or error}") from error
    uri = found.path.absolute().as_uri()
    return Source(found.name, uri, found.path, size_bytes, digest.hexdigest(), media_type)


class _Names:
    """Names given so far. Compared as the most forgetful file system would: case folded, composed."""

    def __init__(self) -> None:
        # Files and folders below the output folder: OUT/run.json is the report of the run.
        self._files: set[str] = {"run.json", "records.jsonl"}
        self._folders: set[str] = set()
        self._paths: set[str] = set()

    def give(self, path: Path, relative: PurePath) -> Found | None:
        """The file with a name of its own, or None when this very path was given before."""
        absolute = os.path.abspath(path)
        if absolute in self._paths:
            return None
        self._paths.add(absolute)
        name = _safe_name(relative)
        for folder in PurePath(name).parents:
            if _fold(folder.as_posix()) in self._files:
                rest = PurePath(name).relative_to(folder).as_posix()
                name = f"{folder.as_posix()}~{_hash(folder.as_posix())}/{rest}"
        if _fold(f"{name}.json") in self._files | self._folders:
            name = _with_suffix(name, absolute)
        self._files.add(_fold(f"{name}.json"))
        self._folders.update(_fold(folder.as_posix()) for folder in PurePath(name).parents)
        return Found(name, path)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _with_suffix(name: str, key: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    told_apart = f"{stem}~{_hash(key)}.{extension}" if dot and stem else f"{last}~{_hash(key)}"
    return f"{folder}{slash}{told_apart}"


def _safe_name(relative: PurePath) -> str:
    steps = [_safe_step(step) for step in relative.parts if step not in ("", "/", ".", relative.anchor)]
    name = "/".join(steps) or "_"
    if len(name.encode()) > _MAX_NAME_BYTES:
        name = f"{_hash(name)}/{steps[-1]}"
    return name


def _safe_step(step: str) -> str:
    safe = "".join("_" if _is_unsafe(character) else character for character in step)
    if safe == _STATE_FOLDER or not safe.strip(". "):
        safe = f"_{safe.strip('. ')}"
    if len(safe.encode()) <= _MAX_STEP_BYTES:
        return safe
    extension = PurePath(safe).suffix if len(PurePath(safe).suffix.encode()) <= 16 else ""
    room = _MAX_STEP_BYTES - len(extension.encode()) - 9
    return f"{safe.encode()[:room].decode(errors='ignore')}~{_hash(step)}{extension}"


def _is_unsafe(character: str) -> bool:
    # Control characters, halves of broken encodings, and marks that reverse how a name reads.
    return (
        character in "/\\"
        or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or "\u202a" <= character <= "\u202e"
    )


def _check_exists(given: str) -> None:
    if not given:
        raise ConfigError("an empty path was given: name a file, a folder or a pattern")
    try:
        exists = os.path.lexists(given)
    except ValueError as error:
        raise ConfigError(f"{given!r} is not a usable path: {error}") from error
    if exists:
        return
    if "://" in given:
        raise ConfigError(f"{given} is not a path: copy remote files to a folder first, and give that")
    if not glob.has_magic(given):
        raise ConfigError(f"{given} does not exist: check the path")
    if next(glob.iglob(given, recursive=True), None) is None:
        raise ConfigError(f"nothing matches the pattern {given}: check it, and quote it in a shell")


def _expand(given: str, output: Path | None) -> Iterator[tuple[Path, PurePath]]:
    path = Path(given)
    if path.is_dir():
        yield from _walk(path, path, output)
    elif os.path.lexists(given):
        yield path, PurePath(path.name)
    else:
        yield from _match(given, output)


def _match(pattern: str, output: Path | None) -> Iterator[tuple[Path, PurePath]]:
    """Files that match come with a name relative to the part of the pattern that has no wildcard."""
    fixed = Path(*itertools.takewhile(lambda step: not glob.has_magic(step), Path(pattern).parts[:-1]))
    for hit in sorted(glob.glob(pattern, recursive=True)):
        path = Path(hit)
        if not path.is_dir():
            if not _is_ours(path, output):
                yield path, path.relative_to(fixed)
        elif "**" not in pattern:
            yield from _walk(path, fixed, output)


def _walk(folder: Path, root: Path, output: Path | None) -> Iterator[tuple[Path, PurePath]]:
    """Regular files below `folder`, sorted within each folder; folders behind links come last, and no folder twice."""
    pending, linked, seen = [folder], list[Path](), set[tuple[int, int]]()
    while pending or linked:
        current = pending.pop() if pending else linked.pop(0)
        try:
            status = current.stat()
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except PermissionError:
            yield current, current.relative_to(root)
            continue
        except OSError:
            continue  # vanished while walking
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        visible = [entry for entry in entries if not entry.name.startswith(".") and not _is_output(entry.path, output)]
        folders = [entry for entry in visible if _is_source_folder(entry)]
        for entry in visible:
            path = Path(entry.path)
            if _may_hold_bytes(entry) and not _is_ours(path, output):
                yield path, path.relative_to(root)
        pending.extend(Path(entry.path) for entry in reversed(folders) if not entry.is_symlink())
        linked.extend(Path(entry.path) for entry in folders if entry.is_symlink())


def _is_source_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not os.path.isdir(os.path.join(entry.path, _STATE_FOLDER))
    except OSError:
        return False


def _may_hold_bytes(entry: os.DirEntry[str]) -> bool:
    """Regular files, and links to nowhere, which are reported; never pipes or devices."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _is_output(path: str, output: Path | None) -> bool:
    return output is not None and os.path.abspath(path) == os.path.abspath(output)


def _is_ours(path: Path, output: Path | None) -> bool:
    """Whether a file found by looking is no document: a known answer, a record, what a run leaves beside records, or
    the subtitles of a video beside it, which are read with the video."""
    if path.name.endswith(_TRUTH_SUFFIXES) or is_sidecar(path):
        return True
    if path.name in _OUTPUT_FILES:
        folder = path.absolute().parent
        return (folder / _STATE_FOLDER).is_dir() or (output is not None and folder == output.absolute())
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_RECORD_HEAD)) == _RECORD_HEAD
    except OSError:
        return False
