"""What a run writes: records to where they go, and its line in the ledger. One process of a run does all of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from ingest.config import Config
from ingest.engine.accounts import spending_of
from ingest.engine.assembly import model_info, summarise
from ingest.engine.traces import start_of_run, tell_of_run
from ingest.keeping.ledger import Ledger
from ingest.keeping.sinks.fan import Sinks
from ingest.keeping.sinks.files import FilesSink
from ingest.record import DocumentRow, Forecast, Record, Remainder, RunSummary


class Writer:
    """The record files, the sinks and the run's own line. Use as an async context manager.

    Raises OutputError and ConfigError when records cannot be put where they go, LedgerError.
    """

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        config, stack = self._config, self._stack
        try:
            self._files = stack.enter_context(FilesSink(config.output)) if config.output else None
            self._sinks = await stack.enter_async_context(Sinks(config.keeping.to, config.recipe))
            info = model_info(config)
            self.run_id = self._ledger.runs.start(config.recipe.name, info.model, info.endpoint)
            self.span = start_of_run(config, self.run_id)
            stack.callback(self.span.end)
        except BaseException:
            await stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def write(self, record: Record[Any], fingerprint: str | None = None) -> None:
        """Put a record where it goes, and note in the ledger what became of the document."""
        if self._files is not None:
            self._files.write(record)
        await self._sinks.write(record)
        self._ledger.documents.store(self.run_id, record, fingerprint)

    async def repeat(self, name: str) -> None:
        """Give the sinks the last record of a document that is left alone: they may lack it."""
        documents = self._ledger.documents
        state = documents.state(self._config.recipe.name, name)
        version = None if state is None else documents.version(state.version_id)
        if version is None or version.record is None:
            return
        if self._files is not None:
            self._files.repeat(version.record)
        await self._sinks.repeat(version.record)

    def summary(
        self, rows: Sequence[DocumentRow], remaining: Remainder | None, planned: Forecast | None, elapsed_s: float
    ) -> RunSummary:
        """What the run did so far, with its books."""
        ledger = self._ledger
        spending = spending_of(ledger.attempts.each(self.run_id))
        earlier = spending_of(ledger.attempts.left_open(self.run_id, ledger.claims.live_runs()))
        return summarise(self._config, rows, spending, earlier, remaining, planned, elapsed_s)

    async def finish(self, summary: RunSummary) -> None:
        """Put what the sinks collected and the run's summary in their places, then close the run's books."""
        tell_of_run(self.span, summary)
        try:
            await self._sinks.finish(summary)
        finally:
            # A store that is away must not keep the records from the output folder.
            if self._files is not None:
                self._files.finish(summary)
        self._ledger.runs.finish(self.run_id)
