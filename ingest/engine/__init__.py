"""The one place that knows the order of the steps.

`Source → Document (probed) → Chunk (planned) → Request → Reply → Partial → Record`. The steps take values and
return values and never import one another; what one needs of another, this package hands it: a run over its
documents here, a document over its chunks in `documents.py`, a chunk until it is answered in `exchange.py`.
"""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

from ingest.config import Config
from ingest.engine.assembly import ChunkResult, Unasked, make_forecast, make_plan, make_remainder, make_row
from ingest.engine.choices import Choices
from ingest.engine.documents import Opened, open_document, plan_document, process_document
from ingest.engine.session import Session
from ingest.errors import ConfigError, IngestError
from ingest.planning.pricing import require_price
from ingest.reading.discover import Found, discover
from ingest.record import DocumentRow, Forecast, Plan, PlanRow, Record, RunSummary
from ingest.types import Event, Observer

__all__ = ["plan", "run"]

_MOST_PARTS_AHEAD = 20_000
"""Parts that are probed, and held in memory, before the first call of a run: some 20 MB."""

_PROBED_AT_ONCE = 8
"""Documents probed at once before the first call: a few more than there are worker processes."""

_VIDEOS_AT_ONCE = 4
"""Videos in flight: each keeps frames on disk from its opening until they are sent."""


async def run(
    paths: Sequence[str | Path],
    config: Config,
    observer: Observer | None = None,
    on_summary: Callable[[RunSummary], None] | None = None,
    is_priced_first: bool = False,
) -> AsyncGenerator[Record[Any]]:
    """Ingest files, folders and globs; one record per document, in the order of discovery.

    Records are on disk (when `config.output` is set) before they are yielded. `on_summary` gets the run's summary
    after the last one. Memory holds the documents in flight, never the folder. With `is_priced_first` the documents are
    all probed before the first call, and the observer is told what the run is planned to cost; each is probed once.

    Raises ConfigError when nothing is found or the schema cannot be asked for, AuthRejected and QuotaExhausted
    when the endpoint will not serve this account, LedgerError and OutputError when results cannot be kept.
    """
    started = time.monotonic()
    tell = observer or (lambda event: None)
    found = await _find(paths, config)
    async with Session(config, tell) as session:
        tell(Event("run_started", documents=len(found)))
        ahead, planned = await _price_first(session, found) if is_priced_first else ({}, None)
        rows: list[DocumentRow] = []
        unasked: list[tuple[Unasked, ...]] = []
        async with aclosing(_in_order(session, found, ahead)) as results:
            async for record, result in results:
                row = make_row(record, result)
                rows.append(row)
                unasked.append(result.unasked)
                session.write(record)
                tell(Event("document_finished", row.name, status=row.status, message=row.problem or ""))
                yield record
        summary = session.finish(rows, make_remainder(unasked), planned, time.monotonic() - started)
        tell(Event("run_finished", documents=len(rows)))
        if on_summary is not None:
            on_summary(summary)


async def plan(paths: Sequence[str | Path], config: Config, observer: Observer | None = None) -> Plan:
    """What `run` would send and what it would cost; nothing is sent and no pixel is made.

    Raises ConfigError when nothing is found, the schema cannot be asked for, or the profile has no price.
    """
    require_price(config.profile)
    tell = observer or (lambda event: None)
    found = await _find(paths, config)
    limit = asyncio.Semaphore(config.documents_at_once)
    async with Session(config, tell, is_dry=True) as session:
        tell(Event("run_started", documents=len(found)))

        choices = Choices(session.blueprint)

        async def work(item: Found) -> PlanRow:
            async with limit:
                opened = await open_document(session, item, will_load=False)
                row, chunks = plan_document(session, opened)
                choices.add(session, opened, row, chunks)
            tell(Event("document_finished", row.name, status="planned", message=row.problem or ""))
            return row

        rows = await asyncio.gather(*(work(item) for item in found))
        tell(Event("run_finished", documents=len(rows)))
    return make_plan(config, rows, list(choices.compared(rows)))


async def _price_first(session: Session, found: Sequence[Found]) -> tuple[dict[str, Opened], Forecast | None]:
    """Documents probed before anything is sent, by name, and what asking about all of them is planned to cost.

    No file is probed twice: what was probed is kept. Of more than a bounded number of parts the rest is left for later,
    and there is no forecast.
    """
    ahead: dict[str, Opened] = {}
    rows: list[PlanRow] = []
    waiting, kept = deque(found), 0

    async def work() -> None:
        nonlocal kept
        while waiting and kept < _MOST_PARTS_AHEAD:
            item = waiting.popleft()
            opened = await open_document(session, item)
            kept += opened.parts
            rows.append(plan_document(session, opened)[0])
            ahead[item.name] = opened

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(session.config.documents_at_once, _PROBED_AT_ONCE)):
                group.create_task(work())
    except* IngestError as errors:
        raise _first(errors) from None
    if waiting:
        return ahead, None
    forecast = make_forecast(rows)
    session.tell(
        Event(
            "run_planned",
            documents=len(rows),
            requests=forecast.requests,
            expected_usd=forecast.cost_usd_expected,
            ceiling_usd=forecast.cost_usd_ceiling,
        )
    )
    return ahead, forecast


async def _find(paths: Sequence[str | Path] | str | Path, config: Config) -> list[Found]:
    if isinstance(paths, str | Path):
        paths = [paths]
    found = await asyncio.to_thread(lambda: list(discover(paths, config.output)))
    if not found:
        raise ConfigError(f"no files found in {', '.join(str(path) for path in paths)}")
    return found


async def _in_order(
    session: Session, found: Sequence[Found], ahead: dict[str, Opened]
) -> AsyncGenerator[tuple[Record[Any], ChunkResult]]:
    """Documents in flight, results in the order given; the window bounds how far the quick ones may run ahead."""
    jobs = session.config.documents_at_once
    limit, video_limit = asyncio.Semaphore(jobs), asyncio.Semaphore(min(jobs, _VIDEOS_AT_ONCE))
    window: deque[asyncio.Task[tuple[Record[Any], ChunkResult]]] = deque()

    async def work(item: Found) -> tuple[Record[Any], ChunkResult]:
        async with video_limit if _is_video(item) else nullcontext(), limit:
            session.tell(Event("document_started", item.name))
            opened = ahead.pop(item.name, None) or await open_document(session, item)
            try:
                return await process_document(session, opened)
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


def _is_video(item: Found) -> bool:
    """Whether a file is a video by its name, which is enough to share out the disk."""
    media_type, _ = mimetypes.guess_type(item.path.name)
    return (media_type or "").startswith("video/")


def _first(group: BaseExceptionGroup[IngestError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
