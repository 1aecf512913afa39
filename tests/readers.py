"""Readers of files as threads of the test, for tests whose subject is something else: a process costs half a second.

`pytestmark = pytest.mark.usefixtures("quick_readers")` gives them to the tests of a module.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ingest.config import ReadingSettings
from ingest.reading import serving, workers

# MuPDF is for one thread at a time.
_TURN = threading.Lock()


class _Thread(threading.Thread):
    """Serves a socket as a worker process does, in the words of `subprocess.Popen`."""

    def __init__(self, served: socket.socket, settings: ReadingSettings) -> None:
        super().__init__(name="reader", daemon=True)
        self._served, self._settings = served, settings
        self.start()

    def run(self) -> None:
        settings = self._settings
        # The run may be over, and its end of the socket closed, at any time.
        gone = contextlib.suppress(BrokenPipeError, ConnectionResetError, ValueError)
        with gone, self._served, self._served.makefile("rwb") as stream:
            serving._serve(stream, settings.worker_memory_bytes, settings.worker_cpu_s)

    def poll(self) -> int | None:
        return None if self.is_alive() else 0

    def kill(self) -> None:
        """Nothing to do: it ends with its socket."""

    def wait(self, timeout: float | None = None) -> int:
        return 0


def _start(self: workers._Worker, settings: ReadingSettings) -> None:
    self.last_sha256, self.should_retire = "", False
    self._most_bytes = self._room_bytes = settings.max_output_bytes
    self._reader = self._writer = None
    self._socket, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as errors:
        self._errors_fd = os.dup(errors.fileno())
    self._process = _Thread(theirs, settings)  # type: ignore[assignment]


@pytest.fixture
def quick_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in the place of worker processes, one at work at a time and without bounds on memory and time."""
    results = serving._results

    def in_turn(*arguments: Any) -> Iterator[object]:
        with _TURN:
            yield from results(*arguments)

    if "pymupdf" not in sys.modules:
        monkeypatch.setitem(sys.modules, "pymupdf.layout", None)  # as in a worker: seconds, for what is not used
    monkeypatch.setattr(workers._Worker, "__init__", _start)
    monkeypatch.setattr(serving, "limit_cpu", lambda seconds: None)
    monkeypatch.setattr(serving, "_results", in_turn)
