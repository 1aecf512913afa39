"""Which documents are no longer where they were; careful, since a folder that is not mounted is no news."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from ingest.keeping.ledger.documents import DocumentState


@dataclass(frozen=True, slots=True)
class Gone:
    """Names of documents that are gone; `doubtful` are places where nothing is left of many, and nothing is said.

    `seen` tells which folder each place was when there was something in it, for the next time.
    """

    names: tuple[str, ...]
    doubtful: tuple[str, ...]
    seen: Mapping[str, str]


@dataclass(slots=True)
class _Root:
    place: str
    is_alive: bool = False
    absent: list[str] = field(default_factory=list)


def find_gone(
    known: Iterable[DocumentState],
    listed: Mapping[str, str],
    paths: Sequence[str | Path],
    parent_of: Callable[[DocumentState], str | None],
    is_whole: bool = True,
    seen: Mapping[str, str] | None = None,
) -> Gone:
    """Compare what the ledger knows with what a run over `paths` found (`listed`, status by name).

    A local document is gone when its file does not exist; what merely was not listed, or may not be looked at, is not.
    Anything else (an object in a bucket, an attachment) is gone when it is not listed although its place, or what it
    came in, is; this can be told only of a listing that `is_whole`, with nothing left out by choice. Documents outside
    of the paths are left alone. Where not one known document is left and none was found, the place may not be mounted:
    nothing is gone, unless it is the very folder that `seen` tells of, which then was emptied.
    """
    seen = dict(seen or {})
    roots = [_Root(_root(os.fspath(path))) for path in paths]
    for state in known:
        root = next((root for root in roots if _is_below(state.uri, root.place)), None)
        if root is None:
            continue
        if state.name in listed:
            root.is_alive = True
        elif state.status == "removed":
            continue
        elif _is_gone(state, listed, is_whole, parent_of):
            root.absent.append(state.name)
        elif state.uri.startswith("file:"):
            root.is_alive = True
    for root in roots:
        identity = _identity(root.place)
        if root.is_alive and identity is not None:
            seen[root.place] = identity
        root.is_alive |= identity is not None and identity == seen.get(root.place)
    names = (name for root in roots if root.is_alive for name in root.absent)
    doubtful = (root.place for root in roots if root.absent and not root.is_alive)
    return Gone(tuple(sorted(names)), tuple(doubtful), seen)


def _is_gone(
    state: DocumentState, listed: Mapping[str, str], is_whole: bool, parent_of: Callable[[DocumentState], str | None]
) -> bool:
    parts, parent = urlsplit(state.uri), parent_of(state)
    if parts.scheme == "file" and _is_file_gone(unquote(parts.path)):
        return True
    if parent is not None and parent in listed:
        # What could not be opened today says nothing about what is in it.
        return is_whole and listed[parent] == "complete"
    return is_whole and parts.scheme != "file"


def _is_file_gone(path: str) -> bool:
    """Whether a path surely does not exist; not when nobody may look."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _root(path: str) -> str:
    """The URI below which documents of a path lie; the folder before the first wildcard of a pattern."""
    if "://" in path:
        return path.partition("*")[0].rstrip("/")
    if glob.has_magic(path) and not os.path.lexists(path):
        fixed: list[str] = []
        for step in Path(path).parts[:-1]:
            if glob.has_magic(step):
                break
            fixed.append(step)
        path = os.path.join(*fixed) if fixed else "."
    return Path(path).absolute().as_uri().rstrip("/")


def _identity(place: str) -> str | None:
    """Which folder stands at a place: its device and number. None for what is no folder of this machine."""
    parts = urlsplit(place)
    if parts.scheme != "file":
        return None
    try:
        found = os.stat(unquote(parts.path))
    except (OSError, ValueError):
        return None
    return f"{found.st_dev}:{found.st_ino}"


def _is_below(uri: str, root: str) -> bool:
    return uri == root or uri.startswith((f"{root}/", f"{root}#", f"{root}!"))
