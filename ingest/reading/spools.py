"""Folders for frames between opening a video and sending them, within a bound of disk space."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from ingest.reading import Spool
from ingest.reading.temporary import TemporaryFolder
from ingest.types import Rendering, Source


class Spools:
    """A folder for each video opened, below one temporary folder that ends with the run.

    When the frames of all of them pass `max_bytes`, those of videos that were loaded from are removed, the first loaded
    first. When none is left, further frames are not stored, and are decoded again for sending. Those that wait for
    their first loading stay: videos are sent in the order in which they were opened.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._folder: TemporaryFolder | None = None
        self._stored: dict[Path, int] = {}
        self._loaded: list[Path] = []

    def give(self, source: Source, rendering: Rendering | None, keeps_frames: bool) -> Spool:
        """A folder for a video, made by the time it is needed; anything else costs nothing."""
        if not source.media_type.startswith(("video/", "application/")):
            return Spool(Path(), keeps_frames=False)
        folder = self._path(source, rendering)
        folder.mkdir(exist_ok=True)
        self._stored.setdefault(folder, 0)
        return self.current(Spool(folder, keeps_frames))

    def find(self, source: Source, rendering: Rendering) -> Spool | None:
        """The folder of a video that was opened with this rendering, if it is still there."""
        folder = self._path(source, rendering) if self._folder else None
        if folder is None or folder not in self._stored:
            return None
        if folder not in self._loaded:
            self._loaded.append(folder)
        return Spool(folder, keeps_frames=False)

    def current(self, spool: Spool) -> Spool:
        """The same spool, without room for frames when none is left."""
        has_room = sum(self._stored.values()) < self._max_bytes
        return replace(spool, keeps_frames=spool.keeps_frames and has_room)

    def count(self, spool: Spool, stored_bytes: int) -> None:
        """Note what was put into a spool, and make room for what is to come."""
        self._stored[spool.folder] = self._stored.get(spool.folder, 0) + stored_bytes
        while self._loaded and sum(self._stored.values()) >= self._max_bytes:
            used = self._loaded.pop(0)
            for frame in used.glob("*.jpg"):
                frame.unlink(missing_ok=True)
            self._stored[used] = 0

    def close(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _path(self, source: Source, rendering: Rendering | None) -> Path:
        if self._folder is None:
            self._folder = TemporaryFolder()
        key = f"{source.sha256}:{source.path}:{rendering.key if rendering else ''}"
        return self._folder.path / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:24]
