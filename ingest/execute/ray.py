"""The executor that is a Ray cluster: documents go to processes on its machines, and what became of them comes back.

One process of the cluster holds the limits of the run (`sharing`), and is known by a name of its own. Workers write
answers and tries to the ledger, and nothing else. A worker that dies is replaced, and its documents are given to
others, who find every answer it had received in the ledger.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import platform
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import urlsplit

from ingest.config import BudgetSettings, Config
from ingest.errors import ConfigError, IngestError, Unreadable
from ingest.execute import Done, Job, Pool, Work
from ingest.execute.sharing import Holder, Shared, stand_ins
from ingest.reading.discover import Found
from ingest.reading.staging import Turn
from ingest.types import Event, Input, Observer

try:
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ConfigError("Ray is not installed: pip install 'ingest[ray]'") from error

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.data import Dataset

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_TRIES = 3
"""Workers that a document may be given to, when each of them dies; the last has nothing else to do meanwhile."""
_STARTS = 3
"""Workers that may die one after the other before any of them was ready."""
_TELL_EVERY_S = 0.2
_END_S = 10.0
"""What a worker has for closing its ledger and its connections."""
_IMPATIENT_S = 30.0
_ROUNDS = 4
"""How many times the documents in flight a batch of a dataset has: its last ones keep few busy."""
_MORE_CALLS = 8
"""Calls of a worker's methods beside its documents."""
_MOST_WAITING = 100_000
"""Calls of the holder's methods at once: beyond, those that wait for leave would block those that give it back."""

_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OwnerDiedError,
)
"""How Ray says that a process is gone, or with it what it said."""


class RayExecutor:
    """Works on a cluster that runs, or on one that is started on this machine for as long as it takes."""

    is_remote = True

    def __init__(self, config: Config) -> None:
        self._config = config

    @asynccontextmanager
    async def start(self, here: Work[_T], away: Job[_T], tell: Observer) -> AsyncIterator[Pool[_T]]:
        """Workers in the cluster, each with a session of its own.

        Raises ConfigError when the cluster cannot be reached, or its machines cannot share the ledger.
        """
        config = self._config
        async with _connected(config):
            crew: _Crew[_T] = _Crew(config, away, tell)
            try:
                yield Pool(crew.work, crew.open())
            finally:
                await crew.close()


@asynccontextmanager
async def _connected(config: Config) -> AsyncIterator[None]:
    """The cluster that this process is connected to already, else the one that the settings name."""
    is_ours = not ray.is_initialized()
    try:
        await asyncio.to_thread(join, config)
        yield
    finally:
        if is_ours:
            await asyncio.to_thread(cast("Callable[[], None]", ray.shutdown))


def connect(address: str | None) -> None:
    """Join a cluster, or start one on this machine. Raises ConfigError when it cannot be reached."""
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            "the address of a Ray cluster is HOST:PORT or auto; for ray://, run the command on a machine of the cluster"
        )
    _tell_on_stderr()
    # Ray reports on its use to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        # What workers print goes to Ray's logs.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, AssertionError) as error:
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"the Ray cluster at {address or 'RAY_ADDRESS'} cannot be used: {told}") from error


def _tell_on_stderr() -> None:
    """Have Ray tell of workers that died on stderr: it has no setting for that, and stdout is for results."""
    module: Any = import_module("ray._private.worker")
    write = getattr(module, "print_to_stdstream", None)
    if write is None or getattr(write, "is_on_stderr", False):
        return

    @wraps(write)
    def on_stderr(data: dict[str, Any], *rest: Any, **options: Any) -> None:
        write({**data, "is_err": True}, *rest, **options)

    on_stderr.is_on_stderr = True  # type: ignore[attr-defined]
    module.print_to_stdstream = on_stderr


def join(config: Config) -> None:
    """Have this process connected to the cluster from now on.

    Raises ConfigError when it cannot be reached, or its machines cannot share the ledger.
    """
    if not ray.is_initialized():
        connect(config.execute.address)
    check_ledger(config)


def check_ledger(config: Config) -> None:
    """Raise ConfigError when the machines of the cluster cannot share the ledger."""
    if config.keeping.ledger is None and config.output is None:
        raise ConfigError("workers of a cluster share a ledger: give an output folder, or --ledger postgresql://…")
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if _is_in_file(config) and len(hosts) > 1:
        raise _not_shared(f"the cluster has {len(hosts)} machines, which")


def _is_in_file(config: Config) -> bool:
    url = config.keeping.ledger
    return url is None or urlsplit(url.get_secret_value()).scheme.startswith("sqlite")


def _not_shared(who: str) -> ConfigError:
    return ConfigError(
        f"{who} cannot share a ledger in a file: give one in PostgreSQL, --ledger postgresql://USER@HOST/NAME"
    )


@dataclass(frozen=True, slots=True)
class Membership:
    """What a worker has to know of the cluster: who holds the limits, and which ones; the one machine it may be on."""

    holder: ActorHandle[Any]
    budget: BudgetSettings
    host: str | None

    @classmethod
    def of(cls, config: Config, holder: ActorHandle[Any]) -> Membership:
        """For the workers of a run. A machine that joins the cluster later cannot read a ledger in a file."""
        return cls(holder, config.budget, platform.node() if _is_in_file(config) else None)

    def stand_ins(self, name: str) -> AbstractAsyncContextManager[Shared]:
        """What the worker asks in the place of limits and budget. Raises ConfigError on a machine too many."""
        if self.host not in (None, platform.node()):
            raise _not_shared(f"{platform.node()} joined the cluster, and machines of a cluster")
        return stand_ins(HolderLine(self.holder), name, self.budget)


def count_workers(config: Config) -> int:
    """How many processes work: as many as were asked for, else one for every CPU of the cluster."""
    return config.execute.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)


def start_holder(config: Config) -> ActorHandle[Any]:
    """The process that holds the limits of one run, on the machine of whoever starts it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    name = f"ingest-limits-{secrets.token_hex(4)}"
    options = {"name": name, "num_cpus": 0, "max_concurrency": _MOST_WAITING, "scheduling_strategy": here}
    started = _remote(Holder).options(**options).remote(config.profile.rate_limits, config.calls_at_once, config.budget)
    return cast("ActorHandle[Any]", started)


def _remote(kind: type) -> Any:
    return ray.remote(kind)


@dataclass(frozen=True, slots=True)
class HolderLine:
    """The way to the holder of a run."""

    holder: ActorHandle[Any]

    async def ask(self, method: str, *arguments: object) -> Any:
        """What a method of the holder gives. Raises IngestError when the holder is gone."""
        try:
            return await getattr(self.holder, method).remote(*arguments)
        except _LOST as error:
            raise IngestError(
                "the process that holds the limits of the run is gone: run the same command again to go on"
            ) from error

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of the holder, and do not wait."""
        getattr(self.holder, method).remote(*arguments)


_MAIL: contextvars.ContextVar[_Mail] = contextvars.ContextVar("ingest_ray_mail")


class _Mail:
    """Events of one document that are not yet told."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._came = asyncio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._came.set()

    async def some(self) -> None:
        """Wait for any."""
        await self._came.wait()

    def take(self) -> tuple[Event, ...]:
        taken, self._events = tuple(self._events), []
        self._came.clear()
        return taken


def _post(event: Event) -> None:
    mail = _MAIL.get(None)
    if mail is not None:
        mail.put(event)


class Worker(Generic[_T]):
    """One process of the cluster, made from the settings once, that documents are given to."""

    def __init__(self, job: Job[_T], membership: Membership, name: str) -> None:
        self._job = job
        self._membership = membership
        self._name = name
        self._stack = AsyncExitStack()

    async def open(self, late_s: float) -> IngestError | None:
        """Make ready, so long after the first; the error when that fails."""
        try:
            shared = await self._stack.enter_async_context(self._membership.stand_ins(self._name))
            self._work = await self._stack.enter_async_context(self._job.open(_post, shared, late_s))
        except IngestError as error:
            return error
        return None

    async def work(self, found: Found) -> AsyncGenerator[tuple[Event, ...] | Done[_T] | IngestError]:
        """What happens to a document as it happens; in the end what became of it, or the error that ends the run."""
        mail, context = _Mail(), contextvars.copy_context()
        context.run(_MAIL.set, mail)
        task = asyncio.get_running_loop().create_task(_called(self._work, found), context=context)
        try:
            while not task.done():
                some = asyncio.ensure_future(mail.some())
                await asyncio.wait((task, some), return_when=asyncio.FIRST_COMPLETED)
                some.cancel()
                # Many come in bunches.
                await asyncio.wait((task,), timeout=_TELL_EVERY_S)
                if events := mail.take():
                    yield events
            yield task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,))

    async def close(self) -> None:
        """Let go of everything."""
        await self._stack.aclose()


async def _called(work: Work[_T], found: Found) -> Done[_T] | IngestError:
    try:
        return await work(found, Turn())
    except IngestError as error:
        return error


class _Member(Generic[_T]):
    """A worker as the driver sees it: how many documents it has, and whether it is kept for one alone."""

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self.handle = handle
        self.busy = 0
        self.is_reserved = False
        self.is_dead = False


class _Crew(Generic[_T]):
    """The workers of one run. Those that die are replaced; each document goes to the one that has the least to do."""

    def __init__(self, config: Config, job: Job[_T], tell: Observer) -> None:
        self._config = config
        self._job = job
        self._tell = tell
        self._jobs = config.documents_at_once
        self._holder: Any = start_holder(config)
        self._membership = Membership.of(config, self._holder)
        self._ready: list[_Member[_T]] = []
        self._all: list[_Member[_T]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: IngestError | None = None
        self._began_s: float | None = None
        self._changed = asyncio.Condition()

    def open(self) -> int:
        """Start the workers, and give their number; documents may come at once."""
        number = count_workers(self._config)
        for _ in range(number):
            self._spawn(self._start())
        self._spawn(self._complain())
        return number

    async def close(self) -> None:
        """End the workers, those that can in order."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        closing = [asyncio.ensure_future(_awaited(member.handle.close.remote())) for member in self._ready]
        if closing:
            await asyncio.wait(closing, timeout=_END_S)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        for handle in (*(member.handle for member in self._all), self._holder):
            ray.kill(handle)

    async def work(self, found: Found, turn: Turn) -> Done[_T]:
        """What became of a document. Raises Unreadable when every worker that had it died."""
        sent = portable(found)
        for number in range(1, _TRIES + 1):
            async with self._member(is_alone=number == _TRIES) as member:
                try:
                    return await self._given(member, sent)
                except _LOST:
                    _LOG.warning("a worker of the cluster died and is replaced", extra={"document": found.name})
                    await self._bury(member)
        raise Unreadable(
            f"{found.name}: {_TRIES} workers of the cluster died while they were at it, one with nothing else"
        )

    async def _given(self, member: _Member[_T], found: Found) -> Done[_T]:
        answers = member.handle.work.remote(found)
        try:
            async for answer in answers:
                told = await answer
                if isinstance(told, Done):
                    return told
                if isinstance(told, IngestError):
                    raise told
                for event in told:
                    self._tell(event)
        except asyncio.CancelledError:
            with suppress(ray.exceptions.RayError):
                ray.cancel(answers)
            raise
        raise ray.exceptions.WorkerCrashedError

    @asynccontextmanager
    async def _member(self, is_alone: bool) -> AsyncIterator[_Member[_T]]:
        """A worker that has room for a document; with `is_alone` one that has nothing else, and gets nothing else."""
        member = await (self._reserved() if is_alone else self._until(self._least_busy))
        member.busy += 1
        try:
            yield member
        finally:
            member.busy -= 1
            member.is_reserved = False
            await self._wake()

    def _least_busy(self) -> _Member[_T] | None:
        free = [member for member in self._ready if member.busy < self._jobs and not member.is_reserved]
        return min(free, key=lambda member: member.busy, default=None)

    async def _reserved(self) -> _Member[_T]:
        def emptied() -> _Member[_T] | None:
            return member if member.busy == 0 or member.is_dead else None

        while True:
            member = await self._until(self._least_busy)
            member.is_reserved = True
            await self._until(emptied)
            if not member.is_dead:
                return member

    async def _until(self, find: Callable[[], _Member[_T] | None]) -> _Member[_T]:
        async with self._changed:
            while (member := find()) is None:
                if self._failure is not None:
                    raise self._failure
                await self._changed.wait()
            return member

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _start(self) -> None:
        for _ in range(_STARTS):
            name = secrets.token_hex(8)
            options = {"num_cpus": 1, "max_concurrency": self._jobs + _MORE_CALLS, "scheduling_strategy": "SPREAD"}
            handle = _remote(Worker).options(**options).remote(self._job, self._membership, name)
            member: _Member[_T] = _Member(name, handle)
            self._all.append(member)
            try:
                failure = await handle.open.remote(self._late_s())
            except ray.exceptions.RayError as error:
                _LOG.warning("a worker of the cluster did not start: %s", str(error).strip().splitlines()[0])
                self._let_go(member)
                continue
            if failure is None:
                self._ready.append(member)
                self._began_s = self._began_s or time.monotonic()
            else:
                self._failure = failure
            return await self._wake()
        self._failure = IngestError(
            f"{_STARTS} workers of the cluster ended before they were ready: is this program installed on all its"
            " machines? Ray's logs tell more"
        )
        return await self._wake()

    async def _bury(self, member: _Member[_T]) -> None:
        """A worker is dead: what it held is free, and another takes its place."""
        if member.is_dead:
            return
        self._ready.remove(member)
        self._let_go(member)
        self._spawn(self._start())
        await self._wake()

    def _let_go(self, member: _Member[_T]) -> None:
        member.is_dead = True
        self._all.remove(member)
        self._holder.bury.remote(member.name)
        # It may live on where it cannot be reached.
        ray.kill(member.handle)

    def _late_s(self) -> float:
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    async def _complain(self) -> None:
        await asyncio.sleep(_IMPATIENT_S)
        if not self._ready:
            _LOG.warning("no worker has started for %g s: has the cluster a free CPU?", _IMPATIENT_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _awaited(answer: Awaitable[object]) -> None:
    with suppress(ray.exceptions.RayError):
        await answer


class Batches(Generic[_T]):
    """What Ray Data makes once in each of its processes, and calls with rows: the same work, for a dataset.

    `read` tells which documents a row names, `write` makes rows of what became of those of a batch.
    """

    def __init__(
        self,
        job: Job[_T],
        membership: Membership,
        config: Config,
        read: Callable[[Mapping[str, Any]], Sequence[Found]],
        write: Callable[[Sequence[_T]], Any],
    ) -> None:
        self._job = job
        self._membership = membership
        self._config = config
        self._read = read
        self._write = write
        self._stack = AsyncExitStack()
        self._runner = asyncio.Runner()
        self._work = self._runner.run(self._open())

    def __call__(self, batch: Any) -> Any:
        """The documents of an Arrow table of rows, as many at once as in any other process."""
        return self._write(self._runner.run(self._done(batch.to_pylist())))

    def __del__(self) -> None:
        with suppress(Exception):
            self._runner.run(self._stack.aclose())
            self._runner.close()

    async def _open(self) -> Work[_T]:
        shared = await self._stack.enter_async_context(self._membership.stand_ins(secrets.token_hex(8)))
        return await self._stack.enter_async_context(self._job.open(lambda event: None, shared))

    async def _done(self, rows: Sequence[Mapping[str, Any]]) -> list[_T]:
        places = asyncio.Semaphore(self._config.documents_at_once)

        async def one(found: Found) -> Done[_T]:
            async with places:
                return await self._work(found, Turn())

        found = [each for row in rows for each in self._read(row)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(each)) for each in found]
        except* IngestError as errors:
            raise _first_of(errors) from None
        return [value for task in tasks if (value := task.result().value) is not None]


def map_documents(
    rows: Any,
    job: Job[_T],
    config: Config,
    read: Callable[[Mapping[str, Any]], Sequence[Found]],
    write: Callable[[Sequence[_T]], Any],
) -> Dataset:
    """A dataset of what became of the documents that rows name: a dataset of them, or a list, which is sent in pieces.

    Nothing happens before it is read.
    """
    import ray.data

    workers, at_once = count_workers(config), config.documents_at_once * _ROUNDS
    if isinstance(rows, list):
        pieces = max(-(-len(rows) // at_once), min(workers, len(rows)))
        rows = ray.data.from_items(rows, override_num_blocks=pieces)
    mapped: Dataset = rows.map_batches(
        cast("Any", Batches),
        fn_constructor_args=(job, Membership.of(config, start_holder(config)), config, read, write),
        batch_size=at_once,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=1,
    )
    return mapped


def _first_of(group: BaseExceptionGroup[IngestError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def portable(found: Found) -> Found:
    """The document as another process finds it. Raises Unreadable for an open file, which stays in its process."""
    if isinstance(found.place, Path):
        return replace(found, place=found.place.absolute())
    if isinstance(found.place, Input) and found.place.file is not None:
        raise Unreadable(
            f"{found.name} is an open file, which cannot be sent to a cluster: give its bytes, path or URL"
        )
    return found
