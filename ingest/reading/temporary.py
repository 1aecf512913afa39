"""Temporary folders that do not outlive their run, not even one that was killed: the next run clears them away."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

if sys.platform != "win32":  # without such locks, what a killed run leaves behind stays
    import fcntl

_PREFIX = "ingest-"
_LOCK = ".owner"
_UNLOCKED = ".owner.new"


class TemporaryFolder:
    """A folder of this process below the system's folder for temporary files; `close` removes it.

    It holds a file that stays locked as long as this process lives. Folders of this user whose lock is free were left
    by processes that were killed: making a new one removes them first.
    """

    def __init__(self) -> None:
        _remove_left_behind()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Locked before it has its name, so that nobody ever finds it free.
        self._lock = os.open(self.path / _UNLOCKED, os.O_CREAT | os.O_RDWR, 0o600)
        if sys.platform != "win32":
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(self.path / _UNLOCKED, self.path / _LOCK)

    def close(self) -> None:
        """Remove the folder and what is in it. Safe to call twice."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_left_behind() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_free(folder)


def _remove_if_free(folder: Path) -> None:
    if sys.platform == "win32":
        return
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
