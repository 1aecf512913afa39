"""What the caller named, as documents with safe names, one after the other; what a file is, before anybody opens it.

Paths, folders, patterns, URLs, lists and bytes all become `Found` values, lazily: a list of any length costs no memory.
Nothing is read here but folders and lists. `fetching` brings the bytes.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from ingest.config import FindingSettings, ReadingSettings, since_s
from ingest.errors import ConfigError, SourceError, TooLarge, Unreadable
from ingest.reading import stores
from ingest.reading.manifests import STANDARD_INPUT, Row, read_manifest, to_json
from ingest.reading.media import HEAD_BYTES, sniff
from ingest.reading.names import STATE_FOLDER, Names, matches
from ingest.reading.sidecars import is_sidecar
from ingest.reading.staging import Staged
from ingest.reading.stores import Remote
from ingest.reading.unchanged import fingerprint
from ingest.types import Input, JsonObject, Source

Given: TypeAlias = str | os.PathLike[str] | Input
"""What a caller names: a path, a folder, a pattern, a URL, or bytes."""

Place: TypeAlias = Path | Remote | Input | Staged | SourceError
"""Where the bytes of a document are; an error when the caller's list names none."""

_BLOCK_BYTES = 1 << 20
_OUTPUT_FILES = frozenset({"records.jsonl", "run.json"})
# What a record starts with, as it is written.
_RECORD_HEAD = b'{\n  "document": {\n    "name": '
# The known answers that `ingest eval` reads may stand beside the documents; they are no documents.
_TRUTH_SUFFIXES = (".truth.json", ".gold.json")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """A document to ingest and the name of its record: relative, with forward slashes, safe below any folder.

    `uri` tells people where it came from, and is made from a local path when empty. `parent` names the e-mail or
    archive that held it, and `depth` counts how many there are around it.
    """

    name: str
    place: Place
    uri: str = ""
    metadata: JsonObject = field(default_factory=dict)
    parent: str | None = None
    depth: int = 0

    @property
    def shown_uri(self) -> str:
        """Where it came from, without secrets."""
        if self.uri:
            return self.uri
        if isinstance(self.place, Path):
            return self.place.absolute().as_uri()
        return self.place.uri if isinstance(self.place, Remote) else f"memory:{self.name}"


def discover(
    given: Iterable[Given], output: Path | None = None, settings: FindingSettings | None = None
) -> Iterator[Found]:
    """The documents that were named: files, folders with all below them, patterns and lists; lazily, in a stable order.

    Within a folder files come sorted. Hidden files and folders, known answers (`NAME.truth.json`) and subtitles beside
    their video are skipped unless named themselves, and so is `output`, and any folder that an earlier run wrote to. No
    file comes twice. Two files that would share a record's name are told apart by a suffix made from the path of the
    later one. A folder that may not be read is found as if it were a file, so that it fails by itself. Filters of the
    settings hold for whatever is found.

    Raises ConfigError, before the first file, when nothing was named, a path does not exist, or a pattern matches
    nothing.
    """
    chosen = settings or FindingSettings()
    inputs = [each if isinstance(each, Input) else Input(os.fspath(each)) for each in given]
    if not inputs and not chosen.manifest:
        raise ConfigError("nothing to ingest: name a file, a folder, a pattern or a URL, or give --manifest")
    names = Names()
    # Checked one and all before the first is handed on: a mistyped path must not cost half a run.
    sources = [_begun(_of_input(each, key, names, output, chosen)) for each, key in _keyed(inputs)]
    sources += [_begun(_of_manifest(manifest, names, chosen)) for manifest in chosen.manifest]
    return (found for found in itertools.chain.from_iterable(sources) if _is_wanted(found, chosen))


def _begun(found: Iterator[_T]) -> Iterator[_T]:
    """The same iterator, gone to its first value."""
    first = list(itertools.islice(found, 1))
    return itertools.chain(first, found)


def _keyed(inputs: Sequence[Input]) -> Iterator[tuple[Input, str]]:
    """Each input with what it is known by. Bytes have no place: those of one name are told apart by their order, which
    is the same the next time, too; the same input named twice is one."""
    numbers: dict[int, str] = {}
    count = Counter[str]()
    for each in inputs:
        if id(each) not in numbers:
            numbers[id(each)] = f"memory:{count[each.name]}:{each.name}"
            count[each.name] += 1
        yield each, numbers[id(each)]


def _of_input(each: Input, key: str, names: Names, output: Path | None, settings: FindingSettings) -> Iterator[Found]:
    metadata = to_json(each.metadata)
    if each.uri is None:
        name = names.give(key, PurePath(each.name))
        if name is not None:
            yield Found(name, each, metadata=metadata)
        return
    given = os.fspath(each.uri)
    own_name = PurePath(each.name) if each.name else None
    if stores.is_url(given) and not _exists(given):
        for remote, below in stores.expand(given, settings):
            if below.name.endswith(_TRUTH_SUFFIXES):
                continue
            name = names.give(remote.url, own_name or below)
            if name is not None:
                yield Found(name, remote, metadata=metadata)
        return
    local = _local(given)
    _check_exists(local)
    for path, relative in _expand(local, output):
        name = names.give(os.path.abspath(path), own_name or relative)
        if name is not None:
            yield Found(name, path, metadata=metadata)


def _of_manifest(manifest: str, names: Names, settings: FindingSettings) -> Iterator[Found]:
    is_remote = stores.is_url(manifest) and not _exists(manifest)
    if not is_remote:
        manifest = _local(manifest)
        if manifest != STANDARD_INPUT and not os.path.isfile(manifest):
            raise ConfigError(f"--manifest: {manifest} is no file: check the path")
    shown = stores.mask(manifest)
    for row in read_manifest(manifest, settings):
        try:
            key, relative, place = _located(row, manifest, is_remote)
        except SourceError as error:
            key, relative, place = (
                f"{manifest} row {row.number}",
                PurePath(f"row {row.number} of {PurePath(shown).name}"),
                error,
            )
        name = names.give(f"{key}\0{row.name}" if row.name else key, PurePath(row.name) if row.name else relative)
        if name is not None:
            uri = shown if isinstance(place, SourceError) else ""
            yield Found(name, place, uri, row.metadata)


def _located(row: Row, manifest: str, is_remote: bool) -> tuple[str, PurePath, Place]:
    """What a row names: its identity, a name that does not depend on the other rows, and its place."""
    where = f"row {row.number} of {stores.mask(manifest)}"
    if row.problem:
        raise Unreadable(f"{where} {row.problem}: correct the list")
    address = row.uri
    if is_remote and not stores.is_url(address):
        if address.startswith(("/", "\\", "~")) or address.lower().startswith("file:"):
            # Whoever wrote a list elsewhere must not choose among the files of this machine.
            raise Unreadable(f"{where} names a file of this machine, which a list read from elsewhere may not")
        joined = stores.join(manifest, address)
        return joined, PurePath(address), Remote(joined, stores.mask(joined))
    if stores.is_url(address):
        return address, stores.full_name(address), Remote(address, stores.mask(address))
    folder = Path() if manifest == STANDARD_INPUT else Path(manifest).absolute().parent
    path = Path(os.path.normpath(folder / _local(address)))
    base = folder.absolute()
    absolute = path.absolute()
    relative = absolute.relative_to(base) if absolute.is_relative_to(base) else absolute.relative_to(absolute.anchor)
    return str(absolute), relative, absolute


def _is_wanted(found: Found, settings: FindingSettings) -> bool:
    if settings.include and not matches(found.name, settings.include):
        return False
    if matches(found.name, settings.exclude):
        return False
    if settings.since is None:
        return True
    modified_s = _modified_s(found, settings)
    return modified_s is None or modified_s >= since_s(settings.since, time.time())


def _modified_s(found: Found, settings: FindingSettings) -> float | None:
    """When a file was changed, in seconds since 1970; None when its place does not tell, or it will fail anyway."""
    try:
        if isinstance(found.place, Path):
            return found.place.stat().st_mtime
        if isinstance(found.place, Remote):
            return (found.place if found.place.modified_s else stores.look(found.place, settings)).modified_s
    except (OSError, ValueError, SourceError):
        pass
    return None


def fingerprint_of(found: Found, settings: FindingSettings) -> str | None:
    """What a document is known by without reading it; None when its place gives nothing, or cannot be asked."""
    try:
        if isinstance(found.place, Path):
            return fingerprint(found.place.stat())
        if isinstance(found.place, Remote):
            return found.place.fingerprint or stores.look(found.place, settings).fingerprint
    except (OSError, ValueError, SourceError):
        pass
    return None


def describe(found: Found, settings: ReadingSettings, path: Path | None = None, mark: str | None = None) -> Source:
    """Hash a file block by block and find its media type. `path` is where its bytes were put if it is no local file,
    and `mark` the fingerprint of where they came from.

    Raises Unreadable when it is empty, vanished, no regular file or may not be read; TooLarge beyond `max_file_bytes`.
    """
    if path is None:
        if not isinstance(found.place, Path):
            raise Unreadable(f"{found.name} was not fetched")
        path = found.place
    suffixed = path.name if path is found.place else found.name
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable(f"{found.name} is a folder, or may not be read: check the permissions of {path}")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{found.name} is not a regular file: give files or folders of files")
        check_size(found.name, status.st_size, settings)
        with path.open("rb") as file:
            # Of the file that is open, before its first byte is read: a change from here on shows.
            own_mark = fingerprint(os.fstat(file.fileno())) if path is found.place else mark
            digest, size_bytes = hashlib.sha256(), 0
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size_bytes += len(block)
            if not size_bytes:
                raise Unreadable(f"{found.name} is empty: 0 bytes, there is nothing to read")
            file.seek(0)
            media_type = sniff(file.read(HEAD_BYTES), suffixed, file)
    except FileNotFoundError as error:
        raise Unreadable(f"{found.name} has vanished: {path} no longer exists") from error
    except PermissionError as error:
        raise Unreadable(f"{found.name} may not be read: check the permissions of {path}") from error
    except OSError as error:
        raise Unreadable(f"{found.name} cannot be read: {error.strerror or error}") from error
    return Source(
        name=found.name,
        uri=found.shown_uri,
        path=path,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
        media_type=media_type,
        parent=found.parent,
        metadata=found.metadata,
        fingerprint=own_mark,
    )


def check_size(name: str, size_bytes: int, settings: ReadingSettings) -> None:
    """Raise TooLarge for a file beyond the bound."""
    if size_bytes > settings.max_file_bytes:
        raise TooLarge(
            f"{name} has {size_bytes:,} bytes, more than the limit of {settings.max_file_bytes:,}: "
            "raise max_file_bytes to read it"
        )


def _local(given: str) -> str:
    """A path, also where it is written as a `file://` URL."""
    return unquote(urlsplit(given).path) if given.lower().startswith("file://") else given


def _exists(given: str) -> bool:
    try:
        return os.path.lexists(given)
    except ValueError as error:
        raise ConfigError(f"{given!r} is not a usable path: {error}") from error


def _check_exists(given: str) -> None:
    if not given:
        raise ConfigError("an empty path was given: name a file, a folder or a pattern")
    if _exists(given):
        return
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
        return entry.is_dir() and not os.path.isdir(os.path.join(entry.path, STATE_FOLDER))
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
        return (folder / STATE_FOLDER).is_dir() or (output is not None and folder == output.absolute())
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_RECORD_HEAD)) == _RECORD_HEAD
    except OSError:
        return False
