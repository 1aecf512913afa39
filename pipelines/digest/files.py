"""A digest's files: whole or not there, and the same bytes whenever they are written."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import ingest

if TYPE_CHECKING:
    from ingest.keeping.ledger.digests import Digest as Stored

FOLDER = "digests"
_UNSAFE = re.compile(r"[^\w.-]+")


def folder_of(output: Path, stored: Stored) -> Path:
    """`OUT/digests/NAME/TIME`; two digests of one second are told apart by what names their window."""
    when = stored.window_end.replace(":", "")
    mark = hashlib.sha256(stored.slot.encode()).hexdigest()[:6]
    return output / FOLDER / _safe(stored.name) / f"{when}-{mark}"


def write_files(output: Path, stored: Stored) -> Path:
    """Write digest.json, digest.md and digest.html from the ledger, and give their folder. Raises OutputError."""
    folder = folder_of(output, stored)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("json", stored.body), ("md", stored.markdown), ("html", stored.html)):
            _write(folder / f"digest.{suffix}", text)
    except OSError as error:
        raise ingest.OutputError(
            f"the digest cannot be written to {folder}: {error.strerror}; it is in the ledger, run again to write it"
        ) from error
    return folder


def _write(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".digest-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _safe(name: str) -> str:
    safe = _UNSAFE.sub("_", name).strip(".") or "_"
    return safe if safe == name else f"{safe[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
