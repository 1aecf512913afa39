"""The job behind `ingest run --watch`: files are read as they arrive and are complete.

Folders are looked through again and again, which works on network drives too, where changes are not announced. A file
is complete when its size and time have stood still for a while; names of unfinished downloads are left alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import ingest

SETTLE_S = 5.0
"""How long a file stands still before it counts as complete."""
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
_PAUSE_S = 5.0

Mark: TypeAlias = tuple[int, int, int]
"""What changes when a file does: size, time of change, and which file it is."""


class Settling:
    """Which files have come to rest. `clock` counts seconds and never goes back."""

    def __init__(self, settle_s: float = SETTLE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._seen: dict[str, tuple[Mark, float]] = {}
        self._read: dict[str, Mark] = {}

    def ready(self, found: Sequence[ingest.Input]) -> list[ingest.Input]:
        """The files that are complete and were not read as they are now; they count as read from here on."""
        now = self._clock()
        seen: dict[str, tuple[Mark, float]] = {}
        done: list[ingest.Input] = []
        for each in found:
            mark = _mark(each.uri)
            path = os.fspath(each.uri or "")
            if mark is None or _is_unfinished(Path(path).name):
                continue
            before = self._seen.get(path)
            seen[path] = before if before is not None and before[0] == mark else (mark, now)
            if now - seen[path][1] >= self._settle_s and self._read.get(path) != mark:
                done.append(each)
                self._read[path] = mark
        self._seen = seen
        self._read = {path: mark for path, mark in self._read.items() if path in seen}
        return done


def watch(
    paths: Sequence[str | Path],
    config: ingest.Config,
    observer: ingest.Observer | None = None,
    *,
    settle_s: float = SETTLE_S,
    stop: threading.Event | None = None,
) -> ingest.RunSummary:
    """Read what is in the folders and whatever arrives, as one run, until `stop` is set or Ctrl-C comes.

    A file that is replaced is read again, as a new version of its record. When it ends between files the summary of
    all of them is written and given; while files are read, Ctrl-C ends it as it ends `ingest run`, and every answer
    received is kept.

    Raises ConfigError without an output folder, or when a path does not exist or is not on this machine; else what
    `ingest.Ingestor.run` raises.
    """
    if config.output is None:
        raise ingest.ConfigError("watching needs an output folder: set Config.output")
    stop = stop or threading.Event()
    settling = Settling(settle_s)
    with ingest.Ingestor(config, observer=observer) as ingestor:
        ingestor.summary()  # opens the run, so that what is wrong with it shows before the first file comes
        while not stop.is_set():
            try:
                started = time.monotonic()
                ready = settling.ready(list(ingest.find(paths, config)))
                if not ready:
                    # A look at a huge folder takes a while; at most a tenth of the time is spent on looking.
                    stop.wait(max(min(settle_s / 4, _PAUSE_S), 10 * (time.monotonic() - started), 0.1))
            except KeyboardInterrupt:
                break
            _read(ingestor, ready)
    return ingestor.summary()


def _read(ingestor: ingest.Ingestor, ready: Sequence[ingest.Input]) -> None:
    """One call for all that are ready; a file that went away in the meantime is none of ours."""
    while present := [each for each in ready if _mark(each.uri) is not None]:
        try:
            for _ in ingestor.run(present):
                pass
        except ingest.ConfigError:
            if all(_mark(each.uri) is not None for each in present):
                raise
        else:
            return


def _mark(path: object) -> Mark | None:
    try:
        status = os.stat(os.fspath(path))  # type: ignore[call-overload]  # inputs found in folders are paths
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _is_unfinished(name: str) -> bool:
    return name.startswith("~") or name.lower().endswith(_UNFINISHED)
