"""The one place that knows the order of the steps.

`Source → Document (probed) → Chunk (planned) → Request → Reply → Partial → Record`. The steps take values and
return values and never import one another; what one needs of another, this package hands it: a run over its
documents here, a document over its chunks in `documents.py`, a chunk until it is answered in `exchange.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from ingest.config import Config
from ingest.engine.assembly import ChunkResult, make_plan, make_row
from ingest.engine.documents import plan_document, process_document
from ingest.engine.session import Session
from ingest.errors import ConfigError, IngestError
from ingest.reading.discover import Found, discover
from ingest.record import DocumentRow, Plan, PlanRow, Record, RunSummary
from ingest.types import Event, Observer

__all__ = ["plan", "run"]


async def run(
    paths: Sequence[str | Path],
    config: Config,
    observer: Observer | None = None,
    on_summary: Callable[[RunSummary], None] | None = None,
) -> AsyncGenerator[Record[Any]]:
    """Ingest files, folders and globs; one record per document, in the order of discovery.

    Records are on disk (when `config.output` is set) before they are yielded. `on_summary` gets the run's summary
    after the last one. Memory holds the documents in flight, never the folder.

    Raises ConfigError when nothing is found or the schema cannot be asked for, AuthRejected and QuotaExhausted
    when the endpoint will not serve this account, LedgerError and OutputError when results cannot be kept.
    """
    started = time.monotonic()
    tell = observer or (lambda event: None)
    found = await _find(paths, config)
    async with Session(config, tell) as session:
        tell(Event("run_started", documents=len(found)))
        rows: list[DocumentRow] = []
        async with aclosing(_in_order(session, found)) as results:
            async for record, result in results:
                row = make_row(record, result)
                rows.append(row)
                session.write(record)
                tell(Event("document_finished", row.name, status=row.status, message=row.problem or ""))
                yield record
        summary = session.finish(rows, time.monotonic() - started)
        tell(Event("run_finished", documents=len(rows)))
        if on_summary is not None:
            on_summary(summary)


async def plan(paths: Sequence[str | Path], config: Config, observer: Observer | None = None) -> Plan:
    """What `run` would send and what it would cost; nothing is sent and no pixel is made.

    Raises ConfigError when nothing is found, the schema cannot be asked for, or the profile has no price.
    """
    if not config.profile.tiers:
        raise ConfigError(f"profile {config.profile.name} has no price: add tiers to a profile file of your own")
    tell = observer or (lambda event: None)
    found = await _find(paths, config)
    limit = asyncio.Semaphore(config.jobs)
    async with Session(config, tell, is_dry=True) as session:
        tell(Event("run_started", documents=len(found)))

        async def work(item: Found) -> PlanRow:
            async with limit:
                row = await plan_document(session, item)
            tell(Event("document_finished", row.name, status="planned", message=row.problem or ""))
            return row

        rows = await asyncio.gather(*(work(item) for item in found))
        tell(Event("run_finished", documents=len(rows)))
    return make_plan(config, rows)


async def _find(paths: Sequence[str | Path] | str | Path, config: Config) -> list[Found]:
    if isinstance(paths, str | Path):
        paths = [paths]
    found = await asyncio.to_thread(lambda: list(discover(paths, config.output)))
    if not found:
        raise ConfigError(f"no files found in {', '.join(str(path) for path in paths)}")
    return found


async def _in_order(session: Session, found: Sequence[Found]) -> AsyncGenerator[tuple[Record[Any], ChunkResult]]:
    """Documents in flight, results in the order given; the window bounds how far the quick ones may run ahead."""
    jobs = session.config.jobs
    limit = asyncio.Semaphore(jobs)
    window: deque[asyncio.Task[tuple[Record[Any], ChunkResult]]] = deque()

    async def work(item: Found) -> tuple[Record[Any], ChunkResult]:
        async with limit:
            try:
                return await process_document(session, item)
            except* IngestError as group:
                # Several chunks may fail with what ends the run; the first one speaks for them.
                raise _first(group) from None

    try:
        for item in found:
            window.append(asyncio.create_task(work(item)))
            if len(window) >= 4 * jobs:
                yield await window[0]
                window.popleft()
        while window:
            yield await window[0]
            window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def _first(group: BaseExceptionGroup[IngestError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
