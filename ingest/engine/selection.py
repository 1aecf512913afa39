"""What of an earlier run is left alone: documents that did not change, or that nobody asked to try again."""

from __future__ import annotations

import asyncio

from ingest.engine.assembly import model_info, recipe_info
from ingest.engine.session import Session
from ingest.keeping.ledger.documents import DocumentState
from ingest.reading.containers import is_container
from ingest.reading.discover import Found, fingerprint_of
from ingest.record import Record
from ingest.types import JsonObject, Source


async def is_left_alone(session: Session, found: Found) -> bool:
    """Whether a document needs no look at all, as far as can be told without reading it.

    What holds other documents is always opened: they may be new, or have failed, though it did not change.
    """
    config = session.config
    if not (config.finding.changed_only or config.keeping.retry):
        return False
    state, record = _last(session, found.name)
    if state is None or record is None:
        return bool(config.keeping.retry)
    if config.finding.unpack and is_container(record.document.media_type):
        return False
    if config.keeping.retry and not _is_to_retry(session, record):
        return True
    if not config.finding.changed_only or not _is_settled(session, record) or state.fingerprint is None:
        return False
    return await asyncio.to_thread(fingerprint_of, found, config.finding) == state.fingerprint


def is_done(session: Session, source: Source) -> bool:
    """Whether a document that was read, and hashed, has the record that it would get."""
    config = session.config
    if not (config.finding.changed_only or config.keeping.retry):
        return False
    state, record = _last(session, source.name)
    if state is None or record is None:
        return bool(config.keeping.retry)
    if config.keeping.retry and not _is_to_retry(session, record):
        return True
    return config.finding.changed_only and _is_settled(session, record) and state.sha256 == source.sha256


def _last(session: Session, name: str) -> tuple[DocumentState | None, Record[JsonObject] | None]:
    documents = session.ledger.documents
    state = documents.state(session.config.recipe.name, name)
    version = None if state is None or state.status == "removed" else documents.version(state.version_id)
    return (state, version.record) if version is not None else (None, None)


def _is_settled(session: Session, record: Record[JsonObject]) -> bool:
    """Whether a record is complete and answers the question that would be asked now, by the same model."""
    config = session.config
    is_same = record.recipe == recipe_info(config) and record.model == model_info(config)
    return is_same and record.status == "complete"


def _is_to_retry(session: Session, record: Record[JsonObject]) -> bool:
    wanted = session.config.keeping.retry
    is_refused = "refused" in wanted and record.coverage.refused > 0
    return is_refused or record.status in wanted
