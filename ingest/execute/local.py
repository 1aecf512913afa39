"""The executor that is this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

from ingest.config import Config
from ingest.execute import Job, Pool, Work
from ingest.types import Observer

_T = TypeVar("_T")


class LocalExecutor:
    """Calls the function here, in the loop that asks."""

    is_remote = False

    def __init__(self, config: Config) -> None:
        pass

    @asynccontextmanager
    async def start(self, here: Work[_T], away: Job[_T], tell: Observer) -> AsyncGenerator[Pool[_T]]:
        """The function as it is."""
        yield Pool(here)
