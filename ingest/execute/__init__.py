"""Executors: who calls the function that takes a document from its place to its record, and where.

The engine hands over that function and gets it back as a `Pool`; an executor knows nothing of what it does. Local is
this process; elsewhere the same function is made from the settings, once in each process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Generic, Protocol, TypeAlias, TypeVar

from ingest.config import Config
from ingest.execute.sharing import Shared
from ingest.reading.discover import Found
from ingest.reading.staging import Turn
from ingest.types import Observer

EXECUTORS = {
    "local": "ingest.execute.local:LocalExecutor",
    "ray": "ingest.execute.ray:RayExecutor",
}
"""Executors by name, each loaded when it is first asked for."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Done(Generic[_T]):
    """What became of a document, None when there is nothing to tell, and the documents that came out of it.

    Who gives `children` leaves it to the caller to have them done, too.
    """

    value: _T | None
    children: tuple[Found, ...] = ()


Work: TypeAlias = Callable[[Found, Turn], Awaitable[Done[_T]]]
"""Takes one document from its place to what became of it."""


class Job(Protocol[_T]):
    """What another process needs to be able to work. It pickles."""

    def open(self, tell: Observer, shared: Shared, late_s: float = 0.0) -> AbstractAsyncContextManager[Work[_T]]:
        """Make this process ready, for one event loop; `shared` are the limits of all who work on the same run.

        `late_s` is how long ago the others were ready: so much of the run's time is over.
        The work that it gives leaves no children: what a document holds is done where it was unpacked.
        """


@dataclass(frozen=True, slots=True)
class Pool(Generic[_T]):
    """The function to call for each document, and how many processes stand behind it.

    It raises SourceError when a document was lost with every process that had it.
    """

    work: Work[_T]
    workers: int = 1


class Executor(Protocol):
    """A way to have documents worked on. With `is_remote` it happens in other processes, and `here` is not called."""

    @property
    def is_remote(self) -> bool:
        """Whether documents are worked on in other processes."""

    def start(self, here: Work[_T], away: Job[_T], tell: Observer) -> AbstractAsyncContextManager[Pool[_T]]:
        """Make all ready, and let go of it in the end. Raises ConfigError when there is nobody to do the work."""


def load_executor(config: Config) -> Executor:
    """The executor that the settings name. Raises ConfigError when the package behind it is not installed."""
    module, _, name = EXECUTORS[config.execute.executor].partition(":")
    executor: Executor = getattr(import_module(module), name)(config)
    return executor
