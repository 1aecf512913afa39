"""The one place that knows the order of the steps.

`Source → Document (probed) → Chunk (planned) → Request → Reply → Partial → Record`. The steps take values and
return values and never import one another; what one needs of another, this package hands it: a run over its
documents here, a document over its chunks in `documents.py`, a chunk until it is answered in `exchange.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from ingest.config import Config
from ingest.engine.assembly import make_forecast, make_plan
from ingest.engine.choices import Choices
from ingest.engine.documents import plan_document
from ingest.engine.flow import in_order
from ingest.engine.listing import Listing
from ingest.engine.open_run import OpenRun
from ingest.engine.opening import Opened, open_document, release_all
from ingest.engine.session import Session
from ingest.engine.working import Outcome, Outcomes, first_of, ingest, lost
from ingest.errors import IngestError, NothingFound, SourceError
from ingest.execute import Done
from ingest.keeping.sinks.target import local_places
from ingest.planning.pricing import require_price
from ingest.reading.discover import Found, Given, discover
from ingest.reading.staging import NoRoom, Turn
from ingest.reading.stores import mask
from ingest.record import Forecast, Plan, PlanRow, Record, RunSummary
from ingest.types import Event, Input, Observer

__all__ = ["OpenRun", "plan", "records_of", "run"]

_MOST_PARTS_AHEAD = 20_000
"""Parts that are probed, and held in memory, before the first call of a run: some 20 MB."""

_PROBED_AT_ONCE = 8
"""Documents probed at once before the first call: a few more than there are worker processes."""


async def run(
    paths: Sequence[Given],
    config: Config,
    observer: Observer | None = None,
    on_summary: Callable[[RunSummary], None] | None = None,
    is_priced_first: bool = False,
) -> AsyncGenerator[Record[Any]]:
    """Ingest what is named; one record per document, in the order of discovery, what it holds right behind it.

    Records are on disk (when `config.output` is set) before they are yielded. `on_summary` gets the run's summary
    after the last one. Memory holds the documents in flight, never the folder. With `is_priced_first` the documents of
    a small job are all probed before the first call, and the observer is told what the run is planned to cost; each is
    probed once.

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
    opened: OpenRun, paths: Sequence[Given], is_priced_first: bool = False
) -> AsyncGenerator[Record[Any]]:
    """What `run` gives, in a run that its owner opened for this and other calls, and closes."""
    ahead: dict[str, Opened] = {}
    is_whole, count = False, 0
    async with _listing(paths, opened.config, opened) as listing:
        session, tell = await opened.session(), opened.tell
        tell(Event("run_started", documents=listing.count or 0))
        try:
            is_priced = is_priced_first and not opened.is_remote
            planned = await _price_first(session, listing, ahead) if is_priced else None
            opened.planned = planned or opened.planned
            async with aclosing(_outcomes(opened, session, listing, ahead)) as results:
                async for outcome in results:
                    if outcome.record is None:
                        await opened.writer.repeat(outcome.name)
                        tell(Event("document_finished", outcome.name, status="unchanged"))
                        continue
                    row = opened.note(outcome)
                    count += 1
                    await opened.writer.write(outcome.record, outcome.fingerprint)
                    tell(Event("document_finished", row.name, status=row.status, message=row.problem or ""))
                    yield outcome.record
            is_whole = True
        finally:
            opened.is_cut_short |= not is_whole
            release_all(list(ahead.values()))
        tell(Event("run_finished", documents=count))


async def _outcomes(
    opened: OpenRun, session: Session, listing: Listing, ahead: dict[str, Opened]
) -> AsyncGenerator[Outcome]:
    """What becomes of the documents, in order; the executor's pool works on them. Those opened `ahead` are here."""
    pool = opened.pool

    async def work(found: Found, turn: Turn) -> Done[Outcomes]:
        probed = ahead.pop(found.name, None)
        if probed is not None:
            return await ingest(session, found, turn, probed)
        try:
            return await pool.work(found, turn)
        except SourceError as error:
            return lost(opened.config, found, error)

    jobs = opened.config.documents_at_once
    async with aclosing(in_order(listing, work, jobs, session.staging.favour, pool.workers)) as results:
        async for outcomes in results:
            for outcome in outcomes:
                yield outcome


async def plan(
    paths: Sequence[Given], config: Config, observer: Observer | None = None, opened: OpenRun | None = None
) -> Plan:
    """What `run` would send and what it would cost; nothing is sent and no pixel is made.

    A run that is `opened` lends what it has learned and bought.

    Raises ConfigError when nothing is found, the schema cannot be asked for, or the profile has no price.
    """
    require_price(config.profile)
    tell = observer or (lambda event: None)
    async with _listing(paths, config, opened) as listing, _planning(config, tell, opened) as session:
        tell(Event("run_started", documents=listing.count or 0))
        choices = Choices(session.blueprint)

        async def work(found: Found, turn: Turn) -> Done[PlanRow]:
            probed = await open_document(session, found, turn, will_load=False)
            probed.release()
            if probed.is_left_alone:
                return Done(None, probed.children)
            row, chunks = await plan_document(session, probed)
            choices.add(session, probed, row, chunks)
            tell(Event("document_finished", row.name, status="planned", message=row.problem or ""))
            return Done(row, probed.children)

        jobs = config.documents_at_once
        async with aclosing(in_order(listing, work, jobs, session.staging.favour)) as planned:
            rows = [row async for row in planned]
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


async def _price_first(session: Session, listing: Listing, ahead: dict[str, Opened]) -> Forecast | None:
    """Probe documents before anything is sent, and tell what asking about all of them is planned to cost.

    No file is probed twice: what was probed is put into `ahead`, by name. A job that is too long to be listed first is
    not priced; of more than a bounded number of parts, or bytes on disk, the rest is left for later, and there is no
    forecast.
    """
    if listing.count is None:
        return None
    rows: list[PlanRow] = []
    waiting, kept, is_full = deque(listing.ahead), 0, False

    async def work() -> None:
        nonlocal kept, is_full
        while waiting and kept < _MOST_PARTS_AHEAD and not is_full:
            found = waiting.popleft()
            try:
                opened = await open_document(session, found, Turn(may_wait=False))
            except NoRoom:
                is_full = True
                return
            kept += opened.parts
            waiting.extend(opened.children)
            if not opened.is_left_alone:
                rows.append((await plan_document(session, opened))[0])
            ahead[found.name] = opened

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(session.config.documents_at_once, _PROBED_AT_ONCE)):
                group.create_task(work())
    except* IngestError as errors:
        raise first_of(errors) from None
    if waiting or is_full:
        return None
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
    return forecast


@asynccontextmanager
async def _listing(paths: Sequence[Given] | Given, config: Config, opened: OpenRun | None) -> AsyncGenerator[Listing]:
    """What is named, listed a little ahead. Raises ConfigError when it does not exist, or is nothing."""
    given = [paths] if isinstance(paths, str | os.PathLike | Input) else list(paths)
    results = local_places(target.get_secret_value() for target in config.keeping.to)

    def found() -> Iterator[Found]:
        for each in discover(given, config.output, config.finding):
            if not _is_below(each, results):
                yield each if opened is None else opened.named(each)

    listing = Listing(found)
    try:
        await listing.look_ahead()
        # A nightly job that asks for what is new may well find nothing.
        if listing.is_at_end and config.finding.since is None:
            named = [each.name or str(each.uri) if isinstance(each, Input) else os.fspath(each) for each in given]
            named += ["standard input" if each == "-" else each for each in config.finding.manifest]
            raise NothingFound(f"no files found in {', '.join(map(mask, named))}")
        yield listing
    finally:
        await listing.close()


def _is_below(found: Found, places: frozenset[Path]) -> bool:
    """Whether a file is one of these, or in a folder that is."""
    if not places or not isinstance(found.place, Path):
        return False
    path = found.place.absolute()
    return not places.isdisjoint((path, *path.parents))
