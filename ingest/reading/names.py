"""Names of records: relative, with forward slashes, safe below any folder, and no two alike."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

STATE_FOLDER = ".ingest"

# A name gets a suffix and, while its record is written, another one: common file systems take 255 bytes.
_MAX_STEP_BYTES = 180
_MAX_NAME_BYTES = 900
# Of what a container adds to its own name: containers may stand in containers.
_MAX_MEMBER_BYTES = 360


class Names:
    """Names given so far. Compared as the most forgetful file system would: case folded, composed.

    A name is also the folder of what comes out of that document if it is an e-mail or archive, so no other document is
    named into it. Only hashes are kept: 16 bytes a name, whatever its length.
    """

    def __init__(self) -> None:
        # Files and folders below the output folder: OUT/run.json is the report of the run.
        self._files = {_digest("run.json"), _digest("records.jsonl")}
        self._folders: set[bytes] = set()
        self._keys: set[bytes] = set()

    def give(self, key: str, relative: PurePath) -> str | None:
        """A name for the document known as `key`, such as its path; None when that was given one before."""
        identity = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        if identity in self._keys:
            return None
        self._keys.add(identity)
        name = safe_name(relative)
        for folder in reversed(PurePath(name).parents[:-1]):
            if self._is_taken(folder.as_posix()):
                rest = PurePath(name).relative_to(folder).as_posix()
                name = f"{folder.as_posix()}~{_hash(folder.as_posix())}/{rest}"
                break
        if self._is_file(name):
            name = with_suffix(name, key)
        self._files.add(_digest(f"{name}.json"))
        self._folders.update(_digest(folder.as_posix()) for folder in PurePath(name).parents)
        return name

    def _is_taken(self, folder: str) -> bool:
        return not self._files.isdisjoint((_digest(folder), _digest(f"{folder}.json")))

    def _is_file(self, name: str) -> bool:
        record = _digest(f"{name}.json")
        return record in self._files or not self._folders.isdisjoint((record, _digest(name)))


class MemberNames:
    """Names of what comes out of one e-mail or archive: all below the container's own name."""

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._names = Names()
        self._count = 0

    def give(self, relative: PurePath) -> str:
        """A name of its own for the next member, whatever the others are called."""
        self._count += 1
        name = safe_name(relative, _MAX_MEMBER_BYTES)
        given = self._names.give(f"{self._count}:{name}", PurePath(name))
        return f"{self._parent}/{given}"


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of the patterns, capitals or not.

    A pattern with a slash is held against the whole name, one without against its last step.
    """
    folded, last = name.casefold(), name.casefold().rpartition("/")[2]
    return any(fnmatchcase(folded if "/" in each else last, each.casefold()) for each in patterns)


def safe_name(relative: PurePath, most_bytes: int = _MAX_NAME_BYTES) -> str:
    """A path as the name of a record: no step leads out, hides, or garbles a terminal."""
    steps = [_safe_step(step) for step in relative.parts if step not in ("", "/", ".", relative.anchor)]
    name = "/".join(steps) or "_"
    if len(name.encode()) > most_bytes:
        name = f"{_hash(name)}/{steps[-1]}"
    return name


def _safe_step(step: str) -> str:
    safe = "".join("_" if _is_unsafe(character) else character for character in step)
    if safe == STATE_FOLDER or not safe.strip(". "):
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


def with_suffix(name: str, key: str) -> str:
    """A name told apart from its like by a suffix made of the document's key."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    told_apart = f"{stem}~{_hash(key)}.{extension}" if dot and stem else f"{last}~{_hash(key)}"
    return f"{folder}{slash}{told_apart}"


def _digest(name: str) -> bytes:
    folded = unicodedata.normalize("NFC", name).casefold()
    return hashlib.blake2b(folded.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
