"""One document: read, planned, asked for chunk by chunk, merged, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ingest.engine.assembly import (
    ChunkResult,
    Findings,
    make_failed_record,
    make_record,
    renumber,
)
from ingest.engine.exchange import process_chunk
from ingest.engine.opening import Opened
from ingest.engine.quotes import missing_of, quote_document
from ingest.engine.rehearsal import rehearse
from ingest.engine.second_look import verify
from ingest.engine.session import Session
from ingest.engine.synthesis import synthesize
from ingest.merging import arithmetic, checks, forms
from ingest.merging.confidence import confidences
from ingest.merging.grounding import ground, ground_conflicts
from ingest.merging.merge import Merged, merge
from ingest.merging.pages import PageText
from ingest.reading.bands import cut_page
from ingest.record import PlanRow, ProblemInfo, Record
from ingest.types import Chunk, Document, Event, JsonObject, Loaded, PageWords, Problem, Text, Word

# Grounding looks into every page of a document up to this many; beyond it into the pages the model named.
_GROUND_ALL_PAGES = 200


async def process_document(session: Session, opened: Opened) -> tuple[Record[Any], ChunkResult]:
    """The record of one document and what it is made of. A file that cannot be read is a failed record, not an error.

    Raises what ends the run: AuthRejected, QuotaExhausted, LedgerError.
    """
    document = opened.document
    if opened.error is not None:
        failed = make_failed_record(session.config, opened.source, opened.error)
        return _with_losses(failed, opened.losses), ChunkResult()
    if document is None:
        return _archive_record(session, opened), ChunkResult()
    # Held to the end: copies of the document, and chunks that are cut anew, find it here.
    cut = session.cut(document)
    document = replace(document, problems=(*document.problems, *cut.problems))
    chunks = cut.chunks
    session.tell(Event("document_planned", opened.source.name, parts=len(document.parts), chunks=len(chunks)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(process_chunk(session, document, chunk)) for chunk in chunks]
    result = renumber(task.result() for task in tasks)
    findings, made = await _merge(session, document, result)
    result += made
    return _with_losses(make_record(session.config, document, result, findings), opened.losses), result


def _archive_record(session: Session, opened: Opened) -> Record[Any]:
    """The record of what only holds other documents: no data, and complete when all of them could be taken."""
    nothing = Findings(None, {}, (), (), True)
    record = make_record(session.config, Document(opened.source, ()), ChunkResult(), nothing)
    is_lost = opened.losses and not opened.children
    return _with_losses(record.model_copy(update={"status": "failed" if is_lost else "complete"}), opened.losses)


def _with_losses(record: Record[Any], losses: Sequence[Problem]) -> Record[Any]:
    """The record with what was left out of the documents in it: it is not complete then."""
    if not losses:
        return record
    told = tuple(ProblemInfo(stage="read", code=loss.code, message=loss.message) for loss in losses)
    status = "partial" if record.status == "complete" else record.status
    return record.model_copy(update={"status": status, "problems": (*record.problems, *told)})


async def plan_document(session: Session, opened: Opened) -> tuple[PlanRow, tuple[Chunk, ...]]:
    """What one document would need, and its chunks; answers that are in the ledger, and count, need nothing."""
    document = opened.document
    if document is None:
        problem = opened.error.message if opened.error else next((loss.message for loss in opened.losses), None)
        return PlanRow(name=opened.source.name, problem=problem), ()

    def is_answered(chunk: Chunk) -> bool:
        return session.has_answer(session.key(document, chunk))

    chunks = session.layout(document).chunks
    if session.config.keeping.retry:
        missing = [await rehearse(session, document, chunk) for chunk in chunks]
    else:
        missing = [missing_of(chunk, is_answered) for chunk in chunks]
    return quote_document(session.blueprint, document, chunks, session.calibration, missing), chunks


async def _merge(session: Session, document: Document, result: ChunkResult) -> tuple[Findings, ChunkResult]:
    """What the chunks say together, and what was asked to make it one (see `synthesis`)."""
    recipe = session.config.recipe
    if not result.partials:
        return Findings(None, {}, (), (), False), ChunkResult()
    merged = await asyncio.to_thread(merge, result.partials, recipe.document_schema, recipe.merge)
    merged, made = await synthesize(session, document, merged)
    if session.config.asking.verify:
        merged, looked = await verify(session, document, result, merged)
        made += looked
    pages = await _page_texts(session, document, result, merged)
    chunk_pages = {
        partial.chunk.index: tuple(part.number for part in partial.chunk.parts) for partial in result.partials
    }
    findings = await asyncio.to_thread(_check, merged, recipe.document_schema, pages, chunk_pages, session.checks)
    return findings, made


async def _page_texts(session: Session, document: Document, result: ChunkResult, merged: Merged) -> dict[int, PageText]:
    """Words by page number: the text layer's, else those the model's side read from the image."""
    parts = [outcome.part for outcome in result.outcomes if outcome.status == "answered"]
    if len(parts) > _GROUND_ALL_PAGES:
        cited = {origin.cite.part_number for origins in merged.origins.values() for origin in origins}
        parts = [part for part in parts if part.number in cited]
    # As text, a page is loaded without rendering it.
    with_text = [replace(part, mode="text") for part in parts if part.text.chars]
    loaded = await session.workers.load(document, with_text, session.rendering) if with_text else ()
    words = {item.part.index: item.words or _spoken(item) for item in loaded}
    read: dict[int | None, list[PageWords]] = {}
    for page in result.page_words:
        read.setdefault(page.part_number, []).append(page)
    texts: dict[int, PageText] = {}
    for part in parts:
        own = words.get(part.index, ())
        if part.number in read and (part.moments or not own):
            size = (part.width_px, part.height_px) if part.moments else (part.width_pt, part.height_pt)
            shown = sorted(read[part.number], key=lambda page: page.piece)
            own += tuple(word for page in shown for word in _to_points(page, *size))
        texts[part.number] = PageText(part.number, own, part.moments)
    return texts


def _spoken(item: Loaded) -> tuple[Word, ...]:
    """The subtitles of a frame as words without a place in the picture."""
    texts = (content.text for content in item.contents if isinstance(content, Text) and item.part.moments)
    return tuple(Word(word, (0.0, 0.0, 0.0, 0.0)) for text in texts for word in text.split())


def _to_points(page: PageWords, width_pt: float, height_pt: float) -> tuple[Word, ...]:
    """Words with boxes as fractions of the image, as words with boxes in points of the page.

    The image of a piece is a band of the page that reaches over its borders: what stands there is the neighbour's.
    """
    band = cut_page((), 1.0, page.pieces)[page.piece]
    first, last = page.piece / page.pieces, (page.piece + 1) / page.pieces
    words: list[Word] = []
    for word in page.words:
        x0, y0, x1, y1 = word.bbox
        top, bottom = (band.top + edge * (band.bottom - band.top) for edge in (y0, y1))
        centre = (top + bottom) / 2
        if page.pieces == 1 or first <= centre < last or (centre >= last and page.piece == page.pieces - 1):
            words.append(Word(word.text, (x0 * width_pt, top * height_pt, x1 * width_pt, bottom * height_pt)))
    return tuple(words)


def _check(
    merged: Merged,
    document_schema: JsonObject,
    pages: Mapping[int, PageText],
    chunk_pages: Mapping[int, tuple[int, ...]],
    declared: Sequence[arithmetic.Check],
) -> Findings:
    """The merged data made to fit the user's schema, each value looked up on its page, and what is wrong with it."""
    data, notes = forms.normalise(checks.prune(merged.data, document_schema), document_schema)
    problems = checks.validate(data, document_schema)
    verdicts = arithmetic.run_checks(data, declared)
    provenance = ground(data, merged.origins, pages, chunk_pages, document_schema)
    return Findings(
        data=data,
        provenance=provenance,
        confidence=confidences(provenance, merged.origins, merged.conflicts, verdicts),
        conflicts=ground_conflicts(merged.conflicts, merged.side_origins, pages, chunk_pages),
        problems=(*problems, *arithmetic.problems_of(verdicts)),
        notes=notes,
        # A check that fails is a doubt, not a hole.
        is_valid=not problems,
    )
