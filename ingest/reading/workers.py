"""Worker processes that read files, each call bounded in time and memory.

Every worker has its own process and its own socket, so that one that dies, hangs or is killed takes nothing with it
but its file: no lock, no queue and no thread is shared. Workers are started on first use as plain interpreters that
import this package only, never the caller's `__main__`: they work from notebooks, from standard input and from scripts
without a guard. Results arrive one by one; when a worker fails, what it has delivered is kept, and the page at work is
known.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from ingest.config import FindingSettings, ReadingSettings
from ingest.errors import ConfigError, IngestError, SourceError, TooLarge, Unreadable
from ingest.reading import Probed, Scan, Span, Spool
from ingest.reading.containers import Unpacked
from ingest.reading.serving import DONE, FAILED, ITEM, LENGTH, READY
from ingest.reading.spools import Spools
from ingest.types import Document, Loaded, Part, Problem, Rendering, Source

_START_TIMEOUT_S = 60.0
_PAGES_PER_SPAN = 64
"""A document of twice this many pages is probed by several workers at once."""
_MAX_FAILURES = 3
"""Pages that may fail in a row, each with its worker, before the rest of the document is given up."""
_PAGES_PER_TIMEOUT = 16
"""Pages that must on average be read within the time that any one of them may take."""

_PASSED_ON = frozenset(
    "PATH HOME LANG LANGUAGE TZ TMPDIR TEMP TMP LD_LIBRARY_PATH DYLD_LIBRARY_PATH VIRTUAL_ENV SYSTEMROOT".split()
)

_OUR_MODULES = (
    "ingest.types", "ingest.errors", "ingest.reading", "ingest.reading.sampling", "ingest.reading.containers"
)  # fmt: skip

_Result = TypeVar("_Result")


class _WorkerLost(Exception):
    """The worker died or was killed. `code` is that of the error to report; the text says how it ended."""

    def __init__(self, code: str, how: str) -> None:
        super().__init__(how)
        self.code, self.how = code, how


class Workers:
    """A pool of worker processes. Use as an async context manager; leaving it ends all workers.

    `open` and `load` may be called concurrently; at most `settings.workers` run at once and the others wait their turn.
    Cancelling a call ends the worker that was at it. Frames of videos are kept on disk between the two, at most
    `settings.spool_bytes` of them; the oldest document gives way.
    """

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.workers)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._spools = Spools(settings.spool_bytes)
        self._preparing: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._preparing:
            task.cancel()
        await asyncio.gather(*self._preparing, return_exceptions=True)
        workers, self._idle = list(self._all), []
        for worker in workers:
            self._end(worker)
        await asyncio.gather(*(worker.closed() for worker in workers))
        self._spools.close()

    async def open(self, source: Source, rendering: Rendering | None = None, will_load: bool = True) -> Document:
        """Probe a file: its parts in reading order, those that cannot be read with their `error`.

        Parts of a video depend on the rendering with which they will be loaded; without one the extractor's own is
        taken. `will_load` says that the parts are going to be loaded, too: frames that are decoded here are then kept
        on disk until they are sent.

        Raises Unreadable, UnsupportedMedia, Encrypted or TooLarge when no part can be had.
        """
        spool = self._spools.give(source, rendering, will_load)
        if spool.keeps_frames and self._settings.workers > 1:
            self._prepare(source)
        surveyed = await self._once("survey", source, (rendering, spool, self._settings))
        document: Document
        if isinstance(surveyed, Scan):
            document = surveyed.document
            if surveyed.spans:
                document = await self._look(surveyed, rendering, spool)
        else:
            document, is_pagewise = surveyed
            if is_pagewise:
                document = await self._probe(document)
        if not document.parts:
            raise Unreadable(f"{source.name} has no pages: it is damaged or cut off; export or download it again")
        first = document.parts[0].error
        if first is not None and all(part.error is not None for part in document.parts):
            raise _error(first.code, first.message)
        return document

    async def load(self, document: Document, parts: Sequence[Part], rendering: Rendering) -> tuple[Loaded, ...]:
        """The content of `parts`, in their order; a part that cannot be loaded has its `error` instead."""

        def failed(part: Part, problem: Problem) -> Loaded:
            return Loaded(part, (), error=problem)

        # The frames of a long video are many, and one call needs a few of them.
        sent = replace(document, parts=()) if document.medium == "video" else document
        spool = self._spools.find(document.source, rendering)
        loaded = await self._each("load", document, list(parts), lambda rest: (sent, rest, rendering, spool), failed)
        return tuple(loaded)

    async def unpack(
        self, source: Source, folder: Path, finding: FindingSettings
    ) -> tuple[tuple[Unpacked, ...], tuple[Problem, ...]]:
        """Put the documents of an e-mail or archive into a folder; and what was left out. Bounds are the settings'.

        Raises Unreadable, UnsupportedMedia or TooLarge when it cannot be opened at all.
        """
        results: list[Unpacked | Problem] = []
        arguments = (folder, finding, self._settings)
        try:
            await self._call("unpack", source, arguments, results.append, finding.unpack_timeout_s)
        except _WorkerLost as lost:
            results.append(Problem("reading", lost.code, f"{source.name} was not unpacked to its end: {lost.how}"))
        unpacked = tuple(each for each in results if isinstance(each, Unpacked) and each.path.parent == folder)
        return unpacked, tuple(each for each in results if isinstance(each, Problem))

    async def _once(self, operation: str, source: Source, arguments: tuple[object, ...]) -> Any:
        """The one result of a call about a whole file."""
        results: list[Any] = []
        try:
            await self._call(operation, source, arguments, results.append, self._settings.call_timeout_s)
        except _WorkerLost as lost:
            raise _error(lost.code, f"{source.name} cannot be read: {lost.how}") from None
        if not results:
            raise Unreadable(f"{source.name} cannot be read: its extractor gave nothing")
        return results[0]

    def _prepare(self, source: Source) -> None:
        """Have another worker start and import its libraries while the first one lists the packets of a video."""

        async def prepare() -> None:
            with contextlib.suppress(IngestError, _WorkerLost):  # the call that needs it will tell
                await self._call("prepare", source, (self._settings,), lambda _: None, _START_TIMEOUT_S)

        if len(self._all) < self._settings.workers:
            task = asyncio.ensure_future(prepare())
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)

    async def _look(self, scan: Scan, rendering: Rendering | None, spool: Spool) -> Document:
        """Have the spans of a video looked at, as many at once as there are workers, and its parts made.

        Spans are taken one after the other, not shared out beforehand: none knows how long another takes, and the time
        that one may take must not run while it waits.
        """
        document = scan.document
        results: list[list[Probed]] = [[] for _ in scan.spans]
        waiting = iter(enumerate(scan.spans))

        def failed(part: Part, problem: Problem) -> Probed:
            return Probed(replace(part, error=problem))

        async def work() -> list[Probed]:
            for place, span in waiting:

                def arguments(rest: list[Part], span: Span = span) -> tuple[object, ...]:
                    return document, span.rest(len(rest)), rendering, self._spools.current(spool)

                looked = await self._each("look", document, list(span.parts), arguments, failed)
                results[place] = [probed for probed in looked if probed.is_kept]
                self._spools.count(spool, sum(probed.stored_bytes for probed in looked))
            return []

        await _concatenate(work() for _ in range(min(self._settings.workers, len(scan.spans))))
        kept = tuple(each for span in results for each in span)
        settled: Document = await self._once(
            "settle", document.source, (document, kept, rendering, spool, self._settings)
        )
        return settled

    async def _probe(self, document: Document) -> Document:
        shells = document.parts
        spans = min(self._settings.workers, max(1, len(shells) // _PAGES_PER_SPAN))
        bounds = [len(shells) * span // spans for span in range(spans + 1)]

        def failed(part: Part, problem: Problem) -> Probed:
            return Probed(replace(part, error=problem))

        def arguments(rest: list[Part]) -> tuple[object, ...]:
            return document, [part.index for part in rest]

        probed = await _concatenate(
            self._each("probe", document, list(shells[start:stop]), arguments, failed)
            for start, stop in itertools.pairwise(bounds)
        )
        problems = tuple(problem for each in probed for problem in each.problems)
        return replace(document, parts=tuple(each.part for each in probed), problems=document.problems + problems)

    async def _each(
        self,
        operation: str,
        document: Document,
        parts: list[Part],
        arguments: Callable[[list[Part]], tuple[object, ...]],
        failed: Callable[[Part, Problem], _Result],
    ) -> list[_Result]:
        """One result for each part: what a worker delivers, or what `failed` makes of the problem.

        The part at which a worker is lost gets the blame, and another worker goes on behind it.
        """
        source, results, failures = document.source, list[_Result](), 0
        expected = Loaded if operation == "load" else Probed

        def deliver(result: Any) -> None:
            if not issubclass(type(result), expected) or len(results) == len(parts):
                raise _WorkerLost(Unreadable.code, f"its extractor gave an unexpected {type(result).__name__}")
            results.append(result)

        deadline = time.monotonic() + self._settings.call_timeout_s * (1 + len(parts) / _PAGES_PER_TIMEOUT)
        while len(results) < len(parts):
            rest, delivered = parts[len(results) :], len(results)
            problem = Problem("reading", Unreadable.code, f"{source.name}: its extractor left out pages")
            try:
                request = (*arguments(rest), self._settings)
                await self._call(operation, source, request, deliver, deadline - time.monotonic())
            except _WorkerLost as lost:
                problem = Problem("reading", lost.code, f"{source.name}: {lost.how}")
            except SourceError as error:
                problem = Problem("reading", error.code, error.message)
            failures = failures + 1 if len(results) == delivered else 1
            is_hopeless = failures >= _MAX_FAILURES or time.monotonic() > deadline
            for part in parts[len(results) : None if is_hopeless else len(results) + 1]:
                results.append(failed(part, _on_page(problem, part, source)))
        return results

    async def _call(
        self,
        operation: str,
        source: Source,
        arguments: tuple[object, ...],
        deliver: Callable[[Any], None],
        total_s: float,
    ) -> None:
        async with self._borrow(source) as worker:
            await worker.call((operation, source, arguments), deliver, self._settings.call_timeout_s, total_s)

    @contextlib.asynccontextmanager
    async def _borrow(self, source: Source) -> AsyncIterator[_Worker]:
        """A worker for one call: one that has the file open already, any idle one, or a new one."""
        async with self._turns:
            for worker in [worker for worker in self._idle if not worker.is_alive]:
                self._idle.remove(worker)  # killed from outside while it waited: no file is to blame
                self._end(worker)
            fitting = [worker for worker in self._idle if worker.last_sha256 == source.sha256]
            if self._idle:
                worker = fitting[-1] if fitting else self._idle[0]
                self._idle.remove(worker)
            else:
                worker = await self._start()
            worker.last_sha256 = source.sha256
            try:
                yield worker
            except IngestError:
                self._put_back(worker)  # it answered, and is in order
                raise
            except BaseException:
                self._end(worker)
                raise
            self._put_back(worker)

    async def _start(self) -> _Worker:
        try:
            worker = _Worker(self._settings)
        except OSError as error:
            raise ConfigError(f"worker processes do not start: {error}") from error
        self._all.add(worker)
        try:
            await worker.connect()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _put_back(self, worker: _Worker) -> None:
        if worker.should_retire or worker not in self._all:
            self._end(worker)
        else:
            self._idle.append(worker)

    def _end(self, worker: _Worker) -> None:
        self._all.discard(worker)
        worker.kill()


class _Unpickler(pickle.Unpickler):
    """Reads our own values only: a file that takes over its worker must not get at this process."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The classes that answers are made of. Raises UnpicklingError for anything else."""
        if module_name in _OUR_MODULES and "." not in global_name:
            found = super().find_class(module_name, global_name)
            if isinstance(found, type):
                return found
        if module_name.startswith("pathlib") and global_name in ("PosixPath", "WindowsPath", "PurePosixPath"):
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"a worker sent {module_name}.{global_name}")


def _plain_environment() -> dict[str, str]:
    """What a process needs to start. Keys stay out of the processes that open hostile files."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(("LC_", "PYTHON", "COV_"))
    }


class _Worker:
    """One process and the socket to it."""

    def __init__(self, settings: ReadingSettings) -> None:
        self.last_sha256 = ""
        self.should_retire = False
        self._most_bytes = self._room_bytes = settings.max_output_bytes
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._socket, theirs = socket.socketpair()
        # Kept to tell why an interpreter did not even start.
        with theirs, tempfile.TemporaryFile() as errors:
            self._errors_fd = os.dup(errors.fileno())
            command = [sys.executable, "-P", "-m", "ingest.reading.serving", str(theirs.fileno()), str(os.getpid())]
            limits = (settings.worker_memory_bytes, settings.worker_cpu_s, settings.max_output_bytes)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, *map(str, limits)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
                env={**_plain_environment(), "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    async def connect(self) -> None:
        """Wait until the process has started. Raises ConfigError when it does not."""
        self._socket.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=1 << 20)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                kind, _ = await self._receive()
        except (TimeoutError, OSError, EOFError) as error:
            raise ConfigError(f"worker processes do not start: {self._last_words() or 'no answer'}") from error
        if kind != READY:
            raise ConfigError(f"worker processes do not start: unexpected {kind!r}")

    async def call(
        self, request: tuple[object, ...], deliver: Callable[[Any], None], timeout_s: float, total_s: float
    ) -> None:
        """Send a request and hand on each result. Raises what the worker raised, or _WorkerLost."""
        assert self._writer is not None
        deadline = time.monotonic() + total_s
        self._room_bytes = self._most_bytes
        data = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        try:
            self._writer.write(LENGTH.pack(len(data)) + data)
            while True:
                async with asyncio.timeout(max(0.0, min(timeout_s, deadline - time.monotonic()))):
                    kind, value = await self._receive()
                if kind == ITEM:
                    deliver(value)
                elif kind == FAILED:
                    error, self.should_retire = value
                    raise error if isinstance(error, SourceError) else pickle.UnpicklingError("no error of a file")
                elif kind == DONE:
                    self.should_retire = bool(value)
                    return
        except TimeoutError as error:
            how = f"reading took longer than {timeout_s:g} s and was stopped: raise call_timeout_s to give it more time"
            raise _WorkerLost(TooLarge.code, how) from error
        except pickle.UnpicklingError as error:
            raise _WorkerLost(Unreadable.code, f"its reader answered with something else ({error})") from error
        except (OSError, EOFError) as error:
            raise _WorkerLost(*self._autopsy()) from error

    async def _receive(self) -> tuple[str, Any]:
        assert self._reader is not None
        length = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
        self._room_bytes -= length
        if self._room_bytes < 0:
            how = f"reading gave more than {self._most_bytes:,} bytes and was stopped: raise max_output_bytes"
            raise _WorkerLost(TooLarge.code, how)
        data = await self._reader.readexactly(length)
        try:
            kind, value = _Unpickler(io.BytesIO(data)).load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # a worker that was taken over sends what it likes
            raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
        return kind, value

    def _autopsy(self) -> tuple[str, str]:
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return Unreadable.code, "its reader stopped answering"
        if status == -signal.SIGKILL:
            return TooLarge.code, "its reader was killed, most likely because the machine ran out of memory"
        if status == -signal.SIGXCPU:
            return TooLarge.code, "reading took too much processor time and was stopped: raise worker_cpu_s"
        if status < 0:
            return (
                Unreadable.code,
                f"its reader crashed ({signal.Signals(-status).name}): the file is damaged or malicious",
            )
        return Unreadable.code, f"its reader ended with status {status}: {self._last_words() or 'no reason given'}"

    def _last_words(self) -> str:
        if self._errors_fd < 0:
            return ""
        size = os.fstat(self._errors_fd).st_size
        lines = os.pread(self._errors_fd, 2_000, max(0, size - 2_000)).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def kill(self) -> None:
        """End the process at once. Safe to call twice."""
        if self.is_alive:
            self._process.kill()
            self._process.wait()
        if self._writer is not None:
            self._writer.transport.abort()
        else:
            self._socket.close()
        if self._errors_fd >= 0:
            os.close(self._errors_fd)
            self._errors_fd = -1

    async def closed(self) -> None:
        """Wait until the event loop has let go of the socket."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()


async def _concatenate(calls: Iterable[Coroutine[Any, Any, list[_Result]]]) -> list[_Result]:
    """The results of calls run side by side; when one fails or is cancelled, so are the others."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return [each for results in await asyncio.gather(*tasks) for each in results]
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _on_page(problem: Problem, part: Part, source: Source) -> Problem:
    # Frames are numbered when it is known which of them stay.
    where = f"{part.kind} at {part.moments[0].timestamp_s:.1f} s" if part.moments else f"{part.kind} {part.number}"
    prefix = f"{source.name}: "
    told = problem.message.removeprefix(prefix)
    is_named = told == problem.message and source.name in told
    message = f"{told} ({where})" if is_named else f"{prefix}{where}: {told}"
    return replace(problem, message=message, part_index=part.index)


def _error(code: str, message: str) -> SourceError:
    classes = {TooLarge.code: TooLarge, Unreadable.code: Unreadable}
    return classes.get(code, Unreadable)(message)
