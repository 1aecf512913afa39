"""A document from where it was found to its parts: fetched, hashed, taken apart if it holds others, probed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from ingest.engine.selection import is_done, is_left_alone
from ingest.engine.session import Session
from ingest.errors import DeadlinePassed, SourceError, TooLarge
from ingest.reading import can_extract
from ingest.reading.containers import is_container, most_bytes
from ingest.reading.discover import Found
from ingest.reading.fetching import Fetched, fetch
from ingest.reading.names import MemberNames
from ingest.reading.staging import Staged, Turn
from ingest.types import Document, Problem, Source


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was probed: the document, or the error that kept it from being one.

    Of an e-mail or archive `children` are the documents in it, and `losses` tell which of them could not be taken. An
    archive has neither document nor error. `is_left_alone`: nothing is to be asked or written about it.
    """

    source: Source
    document: Document | None
    error: SourceError | DeadlinePassed | None = None
    children: tuple[Found, ...] = ()
    losses: tuple[Problem, ...] = ()
    is_left_alone: bool = False
    fetched: Fetched | None = None

    @property
    def parts(self) -> int:
        """How many parts are held in memory."""
        return len(self.document.parts) if self.document is not None else 0

    def release(self) -> None:
        """Delete what was put on disk to read it. Safe to call twice."""
        if self.fetched is not None:
            self.fetched.release()


async def open_document(session: Session, found: Found, turn: Turn, will_load: bool = True) -> Opened:
    """Probe a file; one that cannot be read, or not within the run's time, is told in the result.

    `will_load` is for a run, which goes on to send. What is opened has to be released.

    Raises NoRoom when there is no room for its bytes and the turn does not wait.
    """
    config, fetched = session.config, None
    path = found.place if isinstance(found.place, Path) else Path(found.name)
    source = Source(found.name, found.shown_uri, path, 0, "", "", found.parent, found.metadata)
    children: tuple[Found, ...] = ()
    losses: tuple[Problem, ...] = ()
    try:
        async with session.in_time():
            if await is_left_alone(session, found):
                return Opened(source, None, is_left_alone=True)
            fetched = await fetch(found, session.staging, turn, config.finding, config.reading)
            source, document = fetched.source, None
            if config.finding.unpack and is_container(source.media_type):
                children, losses = await _take_apart(session, found, source, turn)
            if is_done(session, source):
                return Opened(source, None, None, children, losses, True, fetched)
            if not is_container(source.media_type) or can_extract(source.media_type) or not config.finding.unpack:
                document = await session.workers.open(source, session.rendering, will_load)
            return Opened(source, document, None, children, losses, False, fetched)
    except (SourceError, DeadlinePassed) as error:
        return Opened(source, None, error, children, losses, False, fetched)
    except BaseException:
        for child in children:
            _release(child)
        if fetched is not None:
            fetched.release()
        raise


async def _take_apart(
    session: Session, found: Found, source: Source, turn: Turn
) -> tuple[tuple[Found, ...], tuple[Problem, ...]]:
    """The documents in an e-mail or archive, on disk, and what was left out. Raises SourceError when it is damaged."""
    finding = session.config.finding
    if found.depth >= finding.max_depth:
        message = (
            f"{found.name} stands in {found.depth} containers within each other, and what it holds was left out:"
            " raise max_depth"
        )
        if not can_extract(source.media_type):
            raise TooLarge(message)
        return (), (Problem("reading", TooLarge.code, message),)
    stage = session.staging.open(turn)
    try:
        # The attachments of an e-mail are smaller than itself; an archive may unpack to anything within its bound.
        is_mail = can_extract(source.media_type)
        await stage.grow(source.size_bytes if is_mail else most_bytes(source.size_bytes, finding))
        unpacked, losses = await session.workers.unpack(source, stage.folder, finding)
        stage.shrink(sum(each.size_bytes for each in unpacked))
    except BaseException:
        stage.release()
        raise
    names = MemberNames(found.name)
    children = tuple(
        Found(
            name=names.give(PurePosixPath(each.name.replace("\\", "/"))),
            place=Staged(each.path, stage, each.size_bytes),
            uri=f"{source.uri}#{quote(each.name, errors='replace')}",
            metadata=found.metadata,
            parent=found.name,
            depth=found.depth + 1,
        )
        for each in unpacked
    )
    return children, losses


def release_all(opened: Sequence[Opened]) -> None:
    """Delete what documents that nobody asks about any more hold on disk, and what came out of them."""
    for each in opened:
        each.release()
        for child in each.children:
            _release(child)


def _release(child: Found) -> None:
    if isinstance(child.place, Staged):
        child.place.release()
