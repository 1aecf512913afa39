"""Room on disk, within a bound, for bytes that have to be read and are no local file: downloads, unpacked members."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ingest.reading.temporary import TemporaryFolder


class NoRoom(Exception):
    """There is no room, and whoever asked would not wait."""


class Turn:
    """A document's place in the order of the run. The first of those that are open never waits for room."""

    def __init__(self, may_wait: bool = True) -> None:
        self.is_first = False
        self.may_wait = may_wait


class Stage:
    """A folder of one document, and the bytes it holds. Releasing it deletes them."""

    def __init__(self, staging: Staging, folder: Path, turn: Turn) -> None:
        self._staging = staging
        self._turn = turn
        self.folder = folder
        self.size_bytes = 0

    async def grow(self, size_bytes: int) -> None:
        """Wait for room for so many more bytes. Raises NoRoom when there is none and the turn does not wait."""
        if size_bytes:
            await self._staging._take(size_bytes, self._turn)
            self.size_bytes += size_bytes

    def shrink(self, size_bytes: int) -> None:
        """Give back what was asked for and not needed: the stage holds `size_bytes`."""
        self._staging._give(self.size_bytes - size_bytes)
        self.size_bytes = size_bytes

    def release(self) -> None:
        """Delete what is here. Safe to call twice."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.shrink(0)


class Staging:
    """Stages below one temporary folder that ends with the run, together at most `most_bytes`.

    Room is given to whoever finds it. The first document of the run that is not done gets it in any case, so that it is
    always done in the end, and what it holds comes free: the bound may be passed by that one document.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._used_bytes = 0
        self._folder: TemporaryFolder | None = None
        self._count = 0
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    @property
    def used_bytes(self) -> int:
        """What all stages hold together."""
        return self._used_bytes

    def open(self, turn: Turn) -> Stage:
        """An empty stage."""
        if self._folder is None:
            self._folder = TemporaryFolder()
        self._count += 1
        folder = self._folder.path / f"stage-{self._count}"
        folder.mkdir()
        return Stage(self, folder, turn)

    def favour(self, turn: Turn) -> None:
        """Note that no document before this one is open any more."""
        if not turn.is_first:
            turn.is_first = True
            self._wake()

    async def _take(self, size_bytes: int, turn: Turn) -> None:
        while self._used_bytes + size_bytes > self._most_bytes and not turn.is_first:
            if not turn.may_wait:
                raise NoRoom
            await self._changed.wait()
        self._used_bytes += size_bytes

    def _give(self, size_bytes: int) -> None:
        if size_bytes:
            self._used_bytes -= size_bytes
            self._wake()

    def _wake(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Staged:
    """One file in a stage, deleted when its document is done."""

    path: Path
    stage: Stage
    size_bytes: int

    def release(self) -> None:
        """Delete the file and give its room back. Safe to call twice."""
        if self.path.exists():
            self.path.unlink(missing_ok=True)
            self.stage.shrink(self.stage.size_bytes - self.size_bytes)
