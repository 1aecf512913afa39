"""A run that stays open: one session for as many calls as its owner makes, and what became of their documents."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from ingest.config import Config
from ingest.engine.assembly import Unasked, make_remainder
from ingest.engine.session import Session
from ingest.engine.working import Away, Outcome, Outcomes, ingest
from ingest.engine.writing import Writer
from ingest.execute import Executor, Pool, load_executor
from ingest.reading.discover import Found
from ingest.reading.names import with_suffix
from ingest.record import DocumentRow, Forecast, RunSummary
from ingest.types import Observer


class OpenRun:
    """One run over any number of calls: one ledger, one client, one set of workers, one limit on money, one summary.

    Documents are worked on by the executor's pool, by default that of the settings; all writing is done here. Nothing
    is opened before `session` is first awaited; `pool` and `writer` are there from then on. For one event loop.

    Raises ConfigError when the schema, a merge rule, the endpoint or the executor cannot be used.
    """

    pool: Pool[Outcomes]
    writer: Writer

    def __init__(self, config: Config, tell: Observer, executor: Executor | None = None) -> None:
        self.config = config
        self.tell = tell
        self.planned: Forecast | None = None
        self.is_cut_short = False
        """Whether a call ended before its last document: the summary then is not that of all that was asked for."""
        self._session = Session(config, tell)
        self._executor = executor or load_executor(config)
        self._stack = AsyncExitStack()
        self._is_open = False
        self._opening = asyncio.Lock()
        # A run may go over a hundred thousand documents: as text a row takes a tenth of the memory.
        self._rows: dict[str, bytes] = {}
        self._unasked: dict[str, tuple[Unasked, ...]] = {}
        self._owners: dict[bytes, bytes] = {}
        self._started_s = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether anything was opened that has to be closed."""
        return self._is_open

    @property
    def is_remote(self) -> bool:
        """Whether documents are worked on in other processes; the session here then only plans."""
        return self._executor.is_remote

    async def session(self) -> Session:
        """What the calls share; opened by the first one.

        Raises what opening a `Session`, a `Writer` or an executor's pool raises.
        """
        async with self._opening:
            if not self._is_open:
                try:
                    await self._open()
                except BaseException:
                    await self._stack.aclose()
                    raise
                self._is_open = True
        return self._session

    async def _open(self) -> None:
        session = await self._stack.enter_async_context(self._session)
        self.writer = await self._stack.enter_async_context(Writer(self.config, session.ledger))
        session.span = self.writer.span
        if not self.is_remote:
            await session.begin(self.writer.run_id)
        away = Away.of(self.config, self.writer.run_id)
        starting = self._executor.start(partial(ingest, session), away, self.tell)
        self.pool = await self._stack.enter_async_context(starting)

    def named(self, found: Found) -> Found:
        """The document under a name that no other of this run has: calls know nothing of one another.

        The later of two that share one is told apart by its address; one that comes again keeps its name.
        """
        address = found.shown_uri
        owner = _digest(address)
        if self._owners.setdefault(_digest(found.name.casefold()), owner) == owner:
            return found
        return replace(found, name=with_suffix(found.name, address))

    def note(self, outcome: Outcome) -> DocumentRow:
        """Take down what became of a document. One that comes again takes the place of its earlier self."""
        row = outcome.row
        assert row is not None
        self._rows[row.name] = row.model_dump_json().encode()
        self._unasked.pop(row.name, None)
        if outcome.unasked:
            self._unasked[row.name] = outcome.unasked
        return row

    def summary(self) -> RunSummary:
        """What the run did so far. Opened runs only."""
        remaining = make_remainder(list(self._unasked.values()))
        elapsed_s = time.monotonic() - self._started_s
        rows = [DocumentRow.model_validate_json(row) for row in self._rows.values()]
        return self.writer.summary(rows, remaining, self.planned, elapsed_s)

    async def finish(self) -> RunSummary:
        """Close the books and leave the summary in the output folder. Opened runs only."""
        summary = self.summary()
        await self.writer.finish(summary)
        return summary

    async def close(self) -> None:
        """Close what was opened."""
        if self._is_open:
            self._is_open = False
            await self._stack.aclose()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
