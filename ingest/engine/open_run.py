"""A run that stays open: one session for as many calls as its owner makes, and what became of their documents."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from typing import Any

from ingest.config import Config
from ingest.engine.assembly import ChunkResult, Unasked, make_remainder, make_row
from ingest.engine.session import Session
from ingest.reading.discover import Found
from ingest.reading.names import with_suffix
from ingest.record import DocumentRow, Forecast, Record, RunSummary
from ingest.types import Observer


class OpenRun:
    """One run over any number of calls: one ledger, one client, one set of workers, one limit on money, one summary.

    Nothing is opened before `session` is first awaited. For one event loop.

    Raises ConfigError when the schema, a merge rule or the endpoint cannot be used.
    """

    def __init__(self, config: Config, tell: Observer) -> None:
        self.config = config
        self.tell = tell
        self.planned: Forecast | None = None
        self.is_cut_short = False
        """Whether a call ended before its last document: the summary then is not that of all that was asked for."""
        self._session = Session(config, tell)
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

    async def session(self) -> Session:
        """What the calls share; opened by the first one. Raises what opening a `Session` raises."""
        async with self._opening:
            if not self._is_open:
                await self._session.__aenter__()
                self._is_open = True
        return self._session

    def named(self, found: Found) -> Found:
        """The document under a name that no other of this run has: calls know nothing of one another.

        The later of two that share one is told apart by its address; one that comes again keeps its name.
        """
        address = found.shown_uri
        owner = _digest(address)
        if self._owners.setdefault(_digest(found.name.casefold()), owner) == owner:
            return found
        return replace(found, name=with_suffix(found.name, address))

    def note(self, record: Record[Any], result: ChunkResult) -> DocumentRow:
        """Take down what became of a document. One that comes again takes the place of its earlier self."""
        row = make_row(record, result)
        self._rows[row.name] = row.model_dump_json().encode()
        self._unasked.pop(row.name, None)
        if result.unasked:
            self._unasked[row.name] = result.unasked
        return row

    def summary(self) -> RunSummary:
        """What the run did so far. Opened runs only."""
        remaining = make_remainder(list(self._unasked.values()))
        elapsed_s = time.monotonic() - self._started_s
        rows = [DocumentRow.model_validate_json(row) for row in self._rows.values()]
        return self._session.summary(rows, remaining, self.planned, elapsed_s)

    async def finish(self) -> RunSummary:
        """Close the books and leave the summary in the output folder. Opened runs only."""
        summary = self.summary()
        await self._session.finish(summary)
        return summary

    async def close(self) -> None:
        """Close what was opened."""
        if self._is_open:
            self._is_open = False
            await self._session.__aexit__(None, None, None)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
