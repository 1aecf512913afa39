"""All the sinks of a run as one: every record goes to each of them, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from ingest.config import Recipe
from ingest.errors import ConfigError, IngestError
from ingest.keeping.sinks import KINDS, Sink
from ingest.keeping.sinks.target import Target, read_target
from ingest.record import Record, RunSummary

_T = TypeVar("_T")


class Sinks:
    """The sinks that `--to` names. Use as an async context manager: leaving it without `finish` aborts them.

    They run in one thread of their own, one call at a time, and whoever writes waits for it: a slow database slows
    the run instead of filling the memory.

    Raises ConfigError for a target that is none or stands twice, OutputError for one that cannot be written to.
    """

    def __init__(self, to: Sequence[SecretStr], recipe: Recipe) -> None:
        self._targets = [read_target(target.get_secret_value()) for target in to]
        seen = {(target.kind, target.url) for target in self._targets}
        if len(seen) < len(self._targets):
            raise ConfigError("--to names the same place twice: leave one of them out")
        self._recipe = recipe
        self._open: list[tuple[Target, Sink]] = []
        self._thread = ThreadPoolExecutor(1, "ingest-sinks")

    async def __aenter__(self) -> Self:
        try:
            if self._targets:
                await self._call(self._open_all)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._targets:
                await self._call(self._abort_all)
        finally:
            self._thread.shutdown(wait=True)

    async def write(self, record: Record[Any]) -> None:
        """Give a record to every sink. Raises OutputError; the run should then stop."""
        if self._open:
            await self._call(self._write_all, record, self._open)

    async def repeat(self, record: Record[Any]) -> None:
        """Give a record that was made before to the sinks that keep records: a new one, or one whose last run was
        interrupted, does not have it yet. Raises OutputError."""
        keeping = [(target, sink) for target, sink in self._open if target.kind != "-"]
        if keeping:
            await self._call(self._write_all, record, keeping)

    async def finish(self, summary: RunSummary) -> None:
        """Finish every sink. One that fails does not keep the others from it; then the first OutputError is raised."""
        if self._open:
            await self._call(self._finish_all, summary)

    async def _call(self, work: Callable[..., None], *args: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _open_all(self) -> None:
        for target in self._targets:
            self._open.append((target, _told(target, _open, target, self._recipe)))

    def _write_all(self, record: Record[Any], sinks: Sequence[tuple[Target, Sink]]) -> None:
        for target, sink in sinks:
            _told(target, sink.write, record)

    def _finish_all(self, summary: RunSummary) -> None:
        first: IngestError | None = None
        for target, sink in self._open:
            try:
                _told(target, sink.finish, summary)
            except IngestError as error:
                first = first or error
        if first is not None:
            raise first

    def _abort_all(self) -> None:
        while self._open:
            target, sink = self._open.pop()
            _told(target, sink.abort)


def _open(target: Target, recipe: Recipe) -> Sink:
    module, _, name = KINDS[target.kind].partition(":")
    opened: Sink = getattr(import_module(module), name)(target, recipe)
    return opened


def _told(target: Target, work: Callable[..., _T], *args: object) -> _T:
    """Do something with a sink; whatever its libraries raise becomes an error that names it."""
    try:
        return work(*args)
    except IngestError:
        raise
    except Exception as error:
        raise target.failed(error) from error
