"""One document from its place to what became of it: the function that executors call, here or in other processes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ingest import tracing
from ingest.config import Config
from ingest.engine.assembly import Unasked, make_failed_record, make_row
from ingest.engine.documents import process_document
from ingest.engine.flow import in_order
from ingest.engine.listing import Listing
from ingest.engine.opening import Opened, open_document
from ingest.engine.session import Session
from ingest.engine.traces import start_of_run, tell_of
from ingest.errors import IngestError, SourceError
from ingest.execute import Done, Work
from ingest.execute.sharing import Shared
from ingest.reading.discover import Found
from ingest.reading.staging import Staging, Turn
from ingest.record import DocumentRow, Record
from ingest.types import Event, Observer, Source

_LEAST_S = 0.001
_MEMBERS_AT_ONCE = 4
"""Of one e-mail or archive, where all that it holds is done in the process that unpacked it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document, small enough to travel: its record, its line in the summary, what was not asked.

    There is neither record nor line of what was left alone. `fingerprint` is that of the source.
    """

    name: str
    record: Record[Any] | None = None
    row: DocumentRow | None = None
    unasked: tuple[Unasked, ...] = ()
    fingerprint: str | None = None


Outcomes = tuple[Outcome, ...]
"""Those of a document and of what it holds, in order, as far as they were done together."""


async def ingest(session: Session, found: Found, turn: Turn, probed: Opened | None = None) -> Done[Outcomes]:
    """One document from its place to its record; one that was `probed` before is not opened again.

    Raises what ends the run: AuthRejected, QuotaExhausted, LedgerError.
    """
    with tracing.span("ingest document", {"document": found.name}, parent=session.span) as step:
        session.tell(Event("document_started", found.name))
        opened = probed or await open_document(session, found, turn)
        try:
            if opened.is_left_alone:
                return Done((Outcome(found.name),), opened.children)
            record, result = await process_document(session, opened)
        except* IngestError as group:
            # Several chunks may fail with what ends the run; the first one speaks for them.
            raise first_of(group) from None
        finally:
            opened.release()
        tell_of(step, record)
        row = make_row(record, result)
        outcome = Outcome(row.name, record, row, result.unasked, opened.source.fingerprint)
        return Done((outcome,), opened.children)


def lost(config: Config, found: Found, error: SourceError) -> Done[Outcomes]:
    """The outcome of a document that nobody could be brought to an end with."""
    path = found.place if isinstance(found.place, Path) else Path(found.name)
    source = Source(found.name, found.shown_uri, path, 0, "", "", found.parent, found.metadata)
    record = make_failed_record(config, source, error)
    return Done((Outcome(found.name, record, DocumentRow(name=found.name, status="failed", problem=error.message)),))


@dataclass(frozen=True, slots=True)
class Away:
    """What a process elsewhere needs to work in a run: its settings and its number. It pickles, keys included."""

    config: Config
    run_id: int | None

    @classmethod
    def of(cls, config: Config, run_id: int | None) -> Away:
        """For a process that may have another working directory."""
        output = None if config.output is None else config.output.absolute()
        return cls(config.model_copy(update={"output": output}), run_id)

    @asynccontextmanager
    async def open(self, tell: Observer, shared: Shared, late_s: float = 0.0) -> AsyncGenerator[Work[Outcomes]]:
        """A session of that run: client, workers, and a ledger of its own to the same database.

        Nothing is written but answers and tries. Raises what opening a `Session` raises.
        """
        async with Session(_with_time_left(self.config, late_s), tell) as session:
            await session.begin(self.run_id, shared)
            session.span = start_of_run(self.config, session.run_id)
            try:
                yield _Whole(session)
            finally:
                session.span.end()


def _with_time_left(config: Config, late_s: float) -> Config:
    """The settings of who comes late to a run whose time is limited."""
    if config.asking.run_timeout_s is None:
        return config
    left_s = max(config.asking.run_timeout_s - late_s, _LEAST_S)
    return config.model_copy(update={"asking": config.asking.model_copy(update={"run_timeout_s": left_s})})


class _Whole:
    """Documents with all that they hold: what was unpacked stays on the disk of this machine."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue = _Queue(session.staging)

    async def __call__(self, found: Found, turn: Turn) -> Done[Outcomes]:
        work = partial(ingest, self._session)
        outcomes: list[Outcome] = []
        try:
            favour = partial(self._queue.favour, turn)
            results = in_order(Listing(lambda: iter((found,))), work, _MEMBERS_AT_ONCE, favour)
            async with aclosing(results):
                async for each in results:
                    outcomes += each
        finally:
            self._queue.leave(turn)
        return Done(tuple(outcomes))


class _Queue:
    """Which of the documents that are done at once never waits for room on disk: the first that came, as in `Staging`.

    `turn` is that of a document, `head` that of the first in it that is not done.
    """

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._heads: dict[Turn, Turn] = {}

    def favour(self, turn: Turn, head: Turn) -> None:
        """Note the first in a document that is not done."""
        self._heads[turn] = head
        self._tell()

    def leave(self, turn: Turn) -> None:
        """A document is done."""
        self._heads.pop(turn, None)
        self._tell()

    def _tell(self) -> None:
        head = next(iter(self._heads.values()), None)
        if head is not None:
            self._staging.favour(head)


def first_of(group: BaseExceptionGroup[IngestError]) -> BaseException:
    """The first error of a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
