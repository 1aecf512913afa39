"""The `Ingestor`: a run that stays open for as many calls, from as many threads and loops, as a program makes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, Unpack, overload
from weakref import WeakSet

from pydantic import BaseModel
from typing_extensions import TypeVar

from ingest.api.loops import LoopThread
from ingest.api.results import error_of, with_class
from ingest.api.settings import OnError, OnRecord, PathLike, Settings, class_of, config_of
from ingest.config import Config
from ingest.errors import Cancelled, ConfigError, NothingFound
from ingest.record import Plan, Record, RunSummary, Spending
from ingest.types import Event, Input, JsonObject, Observer

if TYPE_CHECKING:
    from ingest.engine import OpenRun

_LOG = logging.getLogger(__name__)

_M = TypeVar("_M", bound=BaseModel)
_R = TypeVar("_R")
_T = TypeVar("_T", default=dict[str, Any])

Given: TypeAlias = PathLike | Input
"""What may stand in a list of documents: a path, a URL, or an `Input`."""


class Ingestor(Generic[_T]):
    """One run that stays open: one client, ledger, set of workers, rate limiter and limit on money for many calls.

    Made from a `Config` or from the keywords of `configure`. Use it as a context manager, plain or asynchronous, or
    call `close`. Everything happens in a thread of its own, so that any thread and any event loop may call it, several
    at once. Limits on money and time count over all calls, and the summary is that of all of them; the output folder
    gets it when the Ingestor is closed.

    `observer` gets every event in that thread; one that raises is not called again. `on_record` gets each record before
    it is handed over, in the thread that called. With `on_error="raise"` a record that is not complete is raised as the
    error it stands for, with the record as its `record`.

    It pickles as its settings, without the hooks, and a forked child has a fresh one of the same settings.

    Raises ConfigError when the settings or the schema cannot be used.
    """

    @overload
    def __init__(
        self: Ingestor[_M],
        config: Config | None = ...,
        *,
        schema: type[_M],
        observer: Observer | None = ...,
        on_record: OnRecord | None = ...,
        on_error: OnError = ...,
        **settings: Unpack[Settings],
    ) -> None: ...
    @overload
    def __init__(
        self: Ingestor[dict[str, Any]],
        config: Config | None = ...,
        *,
        schema: JsonObject | PathLike | None = ...,
        observer: Observer | None = ...,
        on_record: OnRecord | None = ...,
        on_error: OnError = ...,
        **settings: Unpack[Settings],
    ) -> None: ...
    def __init__(
        self,
        config: Config | None = None,
        *,
        schema: JsonObject | type[BaseModel] | PathLike | None = None,
        observer: Observer | None = None,
        on_record: OnRecord | None = None,
        on_error: OnError = "record",
        **settings: Unpack[Settings],
    ) -> None:
        if on_error not in ("record", "raise"):
            raise ConfigError(f"on_error is 'record' or 'raise', not {on_error!r}")
        self.config = config_of(config, schema, **settings)
        self._model = class_of(schema)
        self._observer = observer
        self._on_record = on_record
        self._on_error: OnError = on_error
        self._start_afresh()
        _ALIVE.add(self)

    def _start_afresh(self) -> None:
        from ingest.engine import OpenRun

        self._run: OpenRun = OpenRun(self.config, _Guarded(self._observer))
        self._thread: LoopThread | None = None
        self._calls: set[_Call] = set()
        self._is_closed = False
        self._last: RunSummary | None = None
        # A signal handler that cancels may come back here while its thread holds the lock.
        self._guard = threading.RLock()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._thread else "not used yet"
        return f"Ingestor(recipe={self.config.recipe.name!r}, model={self.config.profile.model!r}, {state})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.config, self._model, self._on_error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def extract(self, path: Given) -> Record[_T]:
        """The record of one document; of an e-mail or an archive its own, not those of what it holds.

        Raises ConfigError when `path` is not one document, NothingFound when the settings leave it out, and the errors
        of `run`.
        """
        self._wait(self._check_single(path))
        return _first(path, list(self.run([path])))

    async def extract_async(self, path: Given) -> Record[_T]:
        """`extract` for programs that have a running event loop."""
        await self._wait_async(self._check_single(path))
        return _first(path, [record async for record in self.stream([path])])

    def run(self, paths: Sequence[Given]) -> Iterator[Record[_T]]:
        """Records of files, folders, globs and inputs, in the order of discovery, as they are ready.

        Leaving the iteration early cancels what is under way and keeps every answer received.

        Raises ConfigError when nothing is found, AuthRejected and QuotaExhausted when the endpoint will not serve this
        account, LedgerError and OutputError when results cannot be kept, Cancelled after `cancel`; and the errors of
        documents when they are to be raised.
        """
        return self._iterate(paths, is_priced_first=False)

    async def stream(self, paths: Sequence[Given]) -> AsyncIterator[Record[_T]]:
        """`run` for programs that have a running event loop. Cancelling the task that iterates ends it likewise."""
        call = self._begin(paths, is_priced_first=False)
        try:
            while (record := await self._next_async(call)) is not None:
                yield self._hand_over(record)
        finally:
            if call in self._calls:
                await self._wait_async(self._end(call))

    def plan(self, paths: Sequence[Given]) -> Plan:
        """What a call would send now and what it would cost; answers that are there already cost nothing.

        Raises ConfigError when nothing is found or the profile has no price.
        """
        return self._wait(self._plan(paths))

    async def plan_async(self, paths: Sequence[Given]) -> Plan:
        """`plan` for programs that have a running event loop."""
        return await self._wait_async(self._plan(paths))

    def summary(self) -> RunSummary:
        """What all calls did so far; after the end, what they did. Raises LedgerError."""
        if self._is_closed and self._last is not None:
            return self._last
        return self._wait(self._summary())

    def spending(self) -> Spending:
        """Where the money of all calls went so far. Raises LedgerError."""
        return self.summary().spending

    def cancel(self) -> None:
        """End all calls under way: each raises Cancelled. Answers received are kept, and further calls are welcome.

        May be called from any thread, a signal handler or a hook; it does not wait.
        """
        with self._guard:
            thread, calls = self._thread, list(self._calls)
            for call in calls:
                call.is_cancelled = True
        if thread is not None:
            for call in calls:
                thread.submit(call.stop())

    def close(self) -> None:
        """Cancel what is under way, put the summary in its place, and let workers, connections and ledger go.

        A summary of calls that were cut short is not put into the output folder. Raises LedgerError and OutputError
        when results cannot be kept.
        """
        if self._thread is not None and self._thread.is_mine:
            raise ConfigError("an observer cannot close the Ingestor that called it: cancel() it, or do this later")
        with self._guard:
            thread, self._thread = self._thread, None
            self._is_closed = True
            for call in self._calls:
                call.is_cancelled = True
        if thread is None:
            return
        try:
            thread.wait(self._finish())
        finally:
            thread.close()

    def _iterate(self, paths: Sequence[Given], is_priced_first: bool) -> Iterator[Record[_T]]:
        call = self._begin(paths, is_priced_first)
        try:
            while (record := self._next(call)) is not None:
                yield self._hand_over(record)
        finally:
            if call in self._calls:
                self._end_from_here(call)

    def _begin(self, paths: Sequence[Given], is_priced_first: bool) -> _Call:
        from ingest import engine

        given = [paths] if isinstance(paths, PathLike | Input) else list(paths)
        call = _Call(engine.records_of(self._run, given, is_priced_first))
        with self._guard:
            self._calls.add(call)
        return call

    def _next(self, call: _Call) -> Record[Any] | None:
        self._check_mine(call)
        try:
            return self._wait(call.next())
        except concurrent.futures.CancelledError:
            raise _told(call) from None

    async def _next_async(self, call: _Call) -> Record[Any] | None:
        self._check_mine(call)
        try:
            return await self._wait_async(call.next())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not call.is_cancelled or (task is not None and task.cancelling()):
                raise
            raise _told(call) from None

    def _check_mine(self, call: _Call) -> None:
        if call not in self._calls:
            raise ConfigError("this iteration was begun in another process, or its Ingestor is closed: begin another")

    def _end_from_here(self, call: _Call) -> None:
        """End a call; when the garbage collector does so in the loop's own thread, without waiting for it."""
        thread = self._thread
        if thread is not None and thread.is_mine:
            thread.submit(self._end(call))
        else:
            self._wait(self._end(call))

    async def _end(self, call: _Call) -> None:
        try:
            await call.close()
        finally:
            self._calls.discard(call)

    def _hand_over(self, record: Record[Any]) -> Record[_T]:
        if self._model is not None:
            record = with_class(record, self._model)
        if self._on_record is not None:
            self._on_record(record)
        if self._on_error == "raise" and record.status != "complete":
            raise error_of(record)
        return record

    def _loop(self) -> LoopThread:
        with self._guard:
            if self._is_closed:
                raise ConfigError("this Ingestor is closed: make another one")
            self._thread = self._thread or LoopThread()
            return self._thread

    def _wait(self, work: Coroutine[Any, Any, _R]) -> _R:
        try:
            thread = self._loop()
        except ConfigError:
            work.close()
            raise
        return thread.wait(work)

    async def _wait_async(self, work: Coroutine[Any, Any, _R]) -> _R:
        try:
            thread = self._loop()
        except ConfigError:
            work.close()
            raise
        return await asyncio.wrap_future(thread.submit(work))

    async def _check_single(self, path: Given) -> None:
        """Told before anything is asked: a folder would be paid for and then refused."""
        from ingest.reading.discover import discover

        if isinstance(path, Input) and path.uri is None:
            return
        output = self.config.output
        count = await asyncio.to_thread(lambda: sum(1 for _ in islice(discover([path], output), 2)))
        if count > 1:
            raise ConfigError(f"{path} holds several documents: use run() for more than one")

    async def _plan(self, paths: Sequence[Given]) -> Plan:
        from ingest import engine

        return await engine.plan(paths, self.config, self._run.tell, self._run)

    async def _summary(self) -> RunSummary:
        await self._run.session()
        return self._run.summary()

    async def _finish(self) -> None:
        try:
            for call in list(self._calls):
                await call.stop()
            if self._run.is_open:
                self._last = self._run.summary() if self._run.is_cut_short else await self._run.finish()
        finally:
            self._calls.clear()
            await self._run.close()


class _Call:
    """The records of one call, one by one. All but `is_cancelled` belongs to the Ingestor's loop."""

    def __init__(self, records: AsyncGenerator[Record[Any]]) -> None:
        self.is_cancelled = False
        self._records = records
        self._turn = asyncio.Lock()
        self._step: asyncio.Task[Any] | None = None

    async def next(self) -> Record[Any] | None:
        """The next record; None at the end."""
        async with self._turn:
            if self.is_cancelled:
                raise asyncio.CancelledError
            self._step = asyncio.current_task()
            try:
                return await anext(self._records, None)
            finally:
                self._step = None

    async def stop(self) -> None:
        """End a call in the middle."""
        self.is_cancelled = True
        if self._step is not None:
            self._step.cancel()
        await self.close()

    async def close(self) -> None:
        """Let go of all the call holds, once a step under way has ended."""
        async with self._turn:
            await self._records.aclose()


class _Guarded:
    """An observer that cannot hurt a run: one that raises is told of in the log, and not called again."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            self._observer = None
            _LOG.warning("an observer failed and is not called again", exc_info=True)


def _first(path: Given, records: Sequence[Record[_T]]) -> Record[_T]:
    if not records:
        raise NothingFound(f"{path} is left out by the settings, or did not change: there is no new record of it")
    return records[0]


def _told(call: _Call) -> Cancelled:
    assert call.is_cancelled
    return Cancelled("cancelled; every answer received is kept, and the same call goes on from there")


def _restored(config: Config, model: type[BaseModel] | None, on_error: OnError) -> Ingestor[Any]:
    if model is None:
        return Ingestor(config, on_error=on_error)
    restored: Ingestor[Any] = Ingestor(config, on_error=on_error)
    restored._model = model
    return restored


_ALIVE: WeakSet[Ingestor[Any]] = WeakSet()
_LEFT_TO_PARENT: list[object] = []


def _after_fork() -> None:
    """A forked child has none of the threads: every Ingestor starts afresh, and what was open stays the parent's."""
    for ingestor in list(_ALIVE):
        if not ingestor._is_closed:
            _LEFT_TO_PARENT.append((ingestor._run, ingestor._thread, ingestor._calls))
            ingestor._start_afresh()


os.register_at_fork(after_in_child=_after_fork)
