"""Whether a file is still the one that was hashed: a record must not claim the hash of other bytes."""

from __future__ import annotations

import os

from ingest.errors import Unreadable
from ingest.types import Source

_PREFIX = "file:"


def fingerprint(status: os.stat_result) -> str:
    """What a file in a folder is known by without reading it: size, time of change, and number on its disk."""
    return f"{_PREFIX}{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def check_unchanged(source: Source) -> None:
    """Raise Unreadable when the file has vanished, or was written to or replaced since it was hashed.

    A source without a fingerprint of this kind is known by its size alone.
    """
    try:
        status = source.path.stat()
    except OSError as error:
        raise Unreadable(
            f"{source.name} has vanished: {source.path} cannot be read any more ({error.strerror})"
        ) from error
    known = source.fingerprint or ""
    is_other = fingerprint(status) != known if known.startswith(_PREFIX) else status.st_size != source.size_bytes
    if is_other:
        raise Unreadable(f"{source.name} changed while it was being read: run again when it is complete")
