"""One document: read, planned, asked for chunk by chunk, merged, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ingest.engine.assembly import (
    ChunkResult,
    Findings,
    add_money,
    make_failed_record,
    make_record,
    renumber,
)
from ingest.engine.exchange import process_chunk
from ingest.engine.session import Session
from ingest.errors import SourceError
from ingest.merging import checks
from ingest.merging.grounding import ground, ground_conflicts
from ingest.merging.merge import Merged, merge
from ingest.merging.pages import PageText
from ingest.planning.pricing import cost_usd
from ingest.reading.discover import Found, describe
from ingest.record import PlanRow, Record
from ingest.types import Document, Event, JsonObject, PageWords, Source, Word

# Grounding looks into every page of a document up to this many; beyond it into the pages the model named.
_GROUND_ALL_PAGES = 200


async def process_document(session: Session, found: Found) -> tuple[Record[Any], ChunkResult]:
    """The record of one document and what it is made of. A file that cannot be read is a failed record, not an error.

    Raises what ends the run: AuthRejected, QuotaExhausted, LedgerError.
    """
    session.tell(Event("document_started", found.name))
    source = Source(found.name, found.path.absolute().as_uri(), found.path, 0, "", "")
    try:
        source = await asyncio.to_thread(describe, found, session.config.reading)
        document = await session.workers.open(source)
    except SourceError as error:
        return make_failed_record(session.config, source, error), ChunkResult()
    chunks = session.plan_chunks(document)
    session.tell(Event("document_planned", found.name, parts=len(document.parts), chunks=len(chunks)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(process_chunk(session, document, chunk)) for chunk in chunks]
    result = renumber(task.result() for task in tasks)
    findings = await _merge(session, document, result)
    return make_record(session.config, document, result, findings), result


async def plan_document(session: Session, found: Found) -> PlanRow:
    """What one document would need; answers that are in the ledger need nothing."""
    try:
        source = await asyncio.to_thread(describe, found, session.config.reading)
        document = await session.workers.open(source)
    except SourceError as error:
        return PlanRow(name=found.name, problem=error.message)
    profile, brief = session.config.profile, session.brief(document)
    output_tokens = int(brief.parameters["max_tokens"])
    chunks = session.plan_chunks(document)
    open_chunks = [chunk for chunk in chunks if not session.ledger.has_answer(session.key(document, chunk))]
    estimates = [chunk.estimate + brief.preamble for chunk in open_chunks]
    answers = [min(output_tokens, _expected_answer(estimate.expected)) for estimate in estimates]
    return PlanRow(
        name=found.name,
        pages=sum(part.kind == "page" for part in document.parts),
        frames=sum(part.kind == "frame" for part in document.parts),
        chunks=len(chunks),
        requests=len(open_chunks),
        input_tokens_expected=sum(estimate.expected for estimate in estimates),
        input_tokens_safe=sum(estimate.safe for estimate in estimates),
        output_tokens_ceiling=output_tokens * len(open_chunks),
        cost_usd_expected=add_money(
            cost_usd(profile, estimate.expected, tokens) for estimate, tokens in zip(estimates, answers, strict=True)
        ),
        cost_usd_ceiling=add_money(cost_usd(profile, estimate.safe, output_tokens) for estimate in estimates),
    )


def _expected_answer(input_tokens: int) -> int:
    """Output tokens to expect: records hold a part of what is printed, with keys and evidence around it."""
    return 300 + input_tokens // 4


async def _merge(session: Session, document: Document, result: ChunkResult) -> Findings:
    recipe = session.config.recipe
    if not result.partials:
        return Findings(None, {}, (), (), False)
    merged = await asyncio.to_thread(merge, result.partials, recipe.document_schema, recipe.merge)
    pages = await _page_texts(session, document, result, merged)
    chunk_pages = {
        partial.chunk.index: tuple(part.number for part in partial.chunk.parts) for partial in result.partials
    }
    return await asyncio.to_thread(_check, merged, recipe.document_schema, pages, chunk_pages)


async def _page_texts(session: Session, document: Document, result: ChunkResult, merged: Merged) -> dict[int, PageText]:
    """Words by page number: the text layer's, else those the model's side read from the image."""
    parts = [outcome.part for outcome in result.outcomes if outcome.status == "answered"]
    if len(parts) > _GROUND_ALL_PAGES:
        cited = {origin.cite.part_number for origins in merged.origins.values() for origin in origins}
        parts = [part for part in parts if part.number in cited]
    # As text, a page is loaded without rendering it.
    with_text = [replace(part, mode="text") for part in parts if part.text.chars]
    loaded = await session.workers.load(document, with_text, session.rendering) if with_text else ()
    words = {item.part.index: item.words for item in loaded}
    read = {page.part_number: page for page in result.page_words}
    texts: dict[int, PageText] = {}
    for part in parts:
        own = words.get(part.index, ())
        if not own and part.number in read:
            own = _to_points(read[part.number], part.width_pt, part.height_pt)
        texts[part.number] = PageText(part.number, own)
    return texts


def _to_points(page: PageWords, width_pt: float, height_pt: float) -> tuple[Word, ...]:
    """Words with boxes as fractions of the image, as words with boxes in points of the page."""
    scale = (width_pt, height_pt, width_pt, height_pt)
    boxes = ([edge * size for edge, size in zip(word.bbox, scale, strict=True)] for word in page.words)
    return tuple(Word(word.text, (x0, y0, x1, y1)) for word, (x0, y0, x1, y1) in zip(page.words, boxes, strict=True))


def _check(
    merged: Merged,
    document_schema: JsonObject,
    pages: Mapping[int, PageText],
    chunk_pages: Mapping[int, tuple[int, ...]],
) -> Findings:
    """The merged data made to fit the user's schema, each value looked up on its page, and what is wrong with it."""
    data = checks.prune(merged.data, document_schema)
    problems = checks.validate(data, document_schema)
    return Findings(
        data=data,
        provenance=ground(data, merged.origins, pages, chunk_pages, document_schema),
        conflicts=ground_conflicts(merged.conflicts, merged.side_origins, pages, chunk_pages),
        problems=problems,
        is_valid=not problems,
    )
