"""The one place that knows the order of the steps.

`Source → Document (probed) → Chunk (planned) → Request → Reply → Partial → Record`. The steps take values and
return values and never import one another; what one needs of another, this package hands it: a run over its
documents here, a document over its chunks in `documents.py`, a chunk until it is answered in `exchange.py`.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from ingest import tracing
from ingest.config import Config
from ingest.engine.assembly import ChunkResult, make_forecast, make_plan
from ingest.engine.choices import Choices
from ingest.engine.documents import Opened, open_document, plan_document, process_document
from ingest.engine.open_run import OpenRun
from ingest.engine.session import Session
from ingest.engine.traces import tell_of
from ingest.errors import ConfigError, IngestError
from ingest.planning.pricing import require_price
from ingest.reading.discover import Found, discover
from ingest.record import Forecast, Plan, PlanRow, Record, RunSummary
from ingest.types import Event, Observer

__all__ = ["OpenRun", "plan", "records_of", "run"]

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
    opened = OpenRun(config, observer or (lambda event: None))
    try:
        async with aclosing(records_of(opened, paths, is_priced_first)) as records:
            async for record in records:
                yield record
        summary = await opened.finish()
        if on_summary is not None:
            on_summary(summary)
    finally:
        await opened.close()


async def records_of(
    opened: OpenRun, paths: Sequence[str | Path], is_priced_first: bool = False
) -> AsyncGenerator[Record[Any]]:
    """What `run` gives, in a run that its owner opened for this and other calls, and closes."""
    found = await _find(paths, opened.config)
    session, tell = await opened.session(), opened.tell
    tell(Event("run_started", documents=len(found)))
    is_whole = False
    try:
        ahead, planned = await _price_first(session, found) if is_priced_first else ({}, None)
        opened.planned = planned or opened.planned
        async with aclosing(_in_order(session, found, ahead)) as results:
            async for record, result in results:
                row = opened.note(record, result)
                await session.write(record)
                tell(Event("document_finished", row.name, status=row.status, message=row.problem or ""))
                yield record
        is_whole = True
    finally:
        opened.is_cut_short |= not is_whole
    tell(Event("run_finished", documents=len(found)))


async def plan(
    paths: Sequence[str | Path], config: Config, observer: Observer | None = None, opened: OpenRun | None = None
) -> Plan:
    """What `run` would send and what it would cost; nothing is sent and no pixel is made.

    A run that is `opened` lends what it has learned and bought.

    Raises ConfigError when nothing is found, the schema cannot be asked for, or the profile has no price.
    """
    require_price(config.profile)
    tell = observer or (lambda event: None)
    found = await _find(paths, config)
    limit = asyncio.Semaphore(config.documents_at_once)
    async with _planning(config, tell, opened) as session:
        tell(Event("run_started", documents=len(found)))

        choices = Choices(session.blueprint)

        async def work(item: Found) -> PlanRow:
            async with limit:
                probed = await open_document(session, item, will_load=False)
                row, chunks = plan_document(session, probed)
                choices.add(session, probed, row, chunks)
            tell(Event("document_finished", row.name, status="planned", message=row.problem or ""))
            return row

        rows = await asyncio.gather(*(work(item) for item in found))
        tell(Event("run_finished", documents=len(rows)))
    return make_plan(config, rows, list(choices.compared(rows)))


@asynccontextmanager
async def _planning(config: Config, tell: Observer, opened: OpenRun | None) -> AsyncGenerator[Session]:
    """The session of a run that is open, else one that writes nothing and asks nobody."""
    if opened is not None and opened.is_open:
        yield await opened.session()
        return
    async with Session(config, tell, is_dry=True) as session:
        yield session


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
            with tracing.span("ingest document", {"document": item.name}, parent=session.span) as step:
                session.tell(Event("document_started", item.name))
                opened = ahead.pop(item.name, None) or await open_document(session, item)
                try:
                    record, result = await process_document(session, opened)
                except* IngestError as group:
                    # Several chunks may fail with what ends the run; the first one speaks for them.
                    raise _first(group) from None
                tell_of(step, record)
                return record, result

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
