"""What a run is doing, on stderr: a live view on a terminal, one line per document elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Literal, Self, TextIO, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingest.showing.text import STATUS_STYLES, count, dollars, duration, printable, shortened, with_reason
from ingest.types import Event

Mode: TypeAlias = Literal["live", "lines", "quiet"]

_NAMES_SHOWN = 6
_TROUBLE = ("partial", "failed", "skipped")
_SILENCE_S = 15.0
"""In line mode a sign of life is given when nothing was printed for this long."""


@dataclass(slots=True)
class _Tally:
    """What happened so far. `active` holds chunks done and planned by document name."""

    documents: int = 0
    documents_planned: int = 0
    documents_done: int = 0
    not_complete: int = 0
    chunks: int = 0
    chunks_done: int = 0
    from_ledger: int = 0
    active: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Count one event."""
        done, planned = self.active.get(event.name, (0, 0))
        if event.kind == "run_started":
            self.documents = event.documents
        elif event.kind == "run_planned":
            self.documents = max(self.documents, event.documents)
        elif event.kind == "document_started":
            self.active[event.name] = (0, 0)
        elif event.kind == "document_planned":
            self.documents_planned += 1
            self.chunks += event.chunks
            self.active[event.name] = (done, event.chunks)
        elif event.kind == "request_finished":
            self.chunks_done += 1
            self.from_ledger += event.from_ledger
            if event.name in self.active:
                self.active[event.name] = (done + 1, planned)
        elif event.kind == "document_finished":
            self.documents_done += 1
            self.documents_planned += not planned
            if self.documents:
                # Documents come out of e-mails and archives that nobody counted.
                self.documents = max(self.documents, self.documents_done)
            self.not_complete += event.status in _TROUBLE
            self.active.pop(event.name, None)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1: chunks of the documents planned so far, documents of the whole."""
        if not self.documents:
            return 0.0
        whole = self.documents_done / self.documents
        if not self.chunks:
            return min(whole, 1.0)
        # Split chunks are counted as they are answered, so the first ratio may pass 1.
        begun = min(self.chunks_done / self.chunks, 1.0) * self.documents_planned / self.documents
        return min(max(begun, whole), 1.0)

    @property
    def place(self) -> str:
        """Documents done, of how many when that is known."""
        return f"{self.documents_done:,}/{self.documents:,}" if self.documents else f"{self.documents_done:,}"

    def line(self) -> str:
        """The counts in words."""
        words = [f"{self.place} documents"]
        if self.chunks:
            words.append(f"{min(self.chunks_done, self.chunks):,}/{self.chunks:,} chunks")
        if self.from_ledger:
            words.append(f"{self.from_ledger:,} from the ledger")
        if self.not_complete:
            words.append(f"{self.not_complete:,} not complete")
        return " · ".join(words)


class Progress:
    """Shows the events of a run: `with Progress() as progress: run(paths, config, progress)`.

    A terminal gets a live view that vanishes at the end; anything else one line per document. Failures stay
    visible, with their reasons. `quiet` shows nothing. Trouble with the stream never reaches the run.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._mode: Mode = "quiet" if quiet else "live" if _is_live(self._stream) else "lines"
        self._clock = clock
        self._start_s = self._said_s = clock()
        self._tally = _Tally()
        self._lock = Lock()
        self._console = Console(file=self._stream, highlight=False, emoji=False)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._start_s = self._said_s = self._clock()
        if self._mode == "live":
            # Only stderr is ours; stdout carries results.
            self._live = Live(
                console=self._console,
                get_renderable=self._view,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        with self._lock:
            self._tally.take(event)
            tally = self._tally.line()
            place = f"[{self._tally.place}]"
        if self._mode == "quiet":
            return
        with contextlib.suppress(OSError):
            if event.kind == "document_finished":
                self._say_finished(event, place)
            elif event.kind == "run_planned":
                self._say_planned(event)
            elif self._mode == "lines" and event.kind == "run_started":
                self._say_line(count(event.documents, "document") if event.documents else "listing documents")
            elif self._mode == "lines" and self._clock() - self._said_s >= _SILENCE_S:
                self._say_line(f"{tally} · {duration(self._clock() - self._start_s)}")

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        with self._lock:
            return self._tally.share

    def _say_finished(self, event: Event, place: str) -> None:
        told = with_reason(event.name, event.message)
        # Planning finishes every document alike; one it could not read brings a reason.
        status = "failed" if event.status == "planned" and event.message else event.status
        if self._mode == "lines":
            if status != "planned":
                self._say_line(f"{place} {status:<8} {told}")
        elif status in _TROUBLE:
            text = Text(f"{status:<8} ", STATUS_STYLES[status])
            self._console.print(text.append(told, "default"), soft_wrap=False)

    def _say_planned(self, event: Event) -> None:
        """The price before the first call; a model that is free has none to tell."""
        told = count(event.requests, "request")
        if event.ceiling_usd:
            told = f"{told}: {dollars(event.expected_usd)} expected, {dollars(event.ceiling_usd)} at most"
        if self._mode == "lines":
            self._say_line(f"Planned {told}")
        else:
            self._console.print(Text(f"Planned {told}"))

    def _say_line(self, line: str) -> None:
        self._said_s = self._clock()
        print(line, file=self._stream, flush=True)

    def _view(self) -> Group:
        with self._lock:
            share, line, active = self._tally.share, self._tally.line(), list(self._tally.active.items())
        elapsed_s = self._clock() - self._start_s
        bar = Table.grid(padding=(0, 2))
        bar.add_column(no_wrap=True)
        bar.add_column(no_wrap=True, overflow="ellipsis")
        bar.add_row(ProgressBar(total=1.0, completed=share, width=20), Text(f"{line} · {_timing(elapsed_s, share)}"))
        width = max(20, self._console.width - 20)
        names = [
            Text(f"  {shortened(printable(name), width)}", "dim", no_wrap=True).append(
                f"  {done}/{planned} chunks" if done else f"  {planned} chunks" if planned > 1 else "", "cyan"
            )
            for name, (done, planned) in active[:_NAMES_SHOWN]
        ]
        if len(active) > _NAMES_SHOWN:
            names.append(Text(f"  and {len(active) - _NAMES_SHOWN} more", "dim"))
        return Group(bar, *names)


def _timing(elapsed_s: float, share: float) -> str:
    """Time gone, and time left once enough is done to tell."""
    if share < 0.05 or elapsed_s < 10 or share >= 1:
        return duration(elapsed_s)
    return f"{duration(elapsed_s)}, about {duration(elapsed_s * (1 - share) / share)} left"


def _is_live(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
