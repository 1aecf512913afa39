"""What requests and documents would cost, from descriptors alone: for `plan`, for forecasts, and for what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from ingest.engine.assembly import add_money
from ingest.engine.blueprint import Blueprint
from ingest.engine.output_limits import first_limit
from ingest.merging.synthesis import may_ask
from ingest.planning import pricing
from ingest.planning.calibration import Calibration
from ingest.planning.chunks import split_chunk
from ingest.record import PlanRow
from ingest.types import Chunk, Document, Estimate

_REASONING_SHARE = 1.0
"""Reasoning to expect for each token of the answer when thinking is on. A published sample had 0.53 at no stated effort
(model-facts §6); twice that is assumed, since nothing bounds it but the ceiling."""


@dataclass(frozen=True, slots=True)
class Quote:
    """One request: tokens in and out, and money; None without a price. `is_dear`: above the cheapest tier.

    The ceiling counts an answer that is cut off at the first output limit and asked for again at the full one.
    """

    input_tokens: Estimate
    output_expected: int
    output_ceiling: int
    is_dear: bool
    expected_usd: Decimal | None
    ceiling_usd: Decimal | None


def quote_chunk(blueprint: Blueprint, document: Document, chunk: Chunk, calibration: Calibration) -> Quote:
    """What asking about a chunk would take, as token counts are known now."""
    tokens = blueprint.planner(document, calibration).estimate(chunk)
    return _quote(blueprint, document, tokens, chunk.answer.expected, first_limit(blueprint.brief(document), chunk))


def quote_synthesis(blueprint: Blueprint, document: Document, chunks: Sequence[Chunk]) -> Quote:
    """What making one value of what the chunks said would take, were all of it made one (rule `synthesize`)."""
    answers = sum((chunk.answer for chunk in chunks), Estimate(0, 0))
    cap_tokens = blueprint.brief(document).limits.cap_tokens
    tokens = Estimate(min(answers.expected, cap_tokens), min(answers.safe, cap_tokens))
    return _quote(blueprint, document, tokens, answers.expected // max(len(chunks), 1))


def quote_look(blueprint: Blueprint, document: Document, chunk: Chunk, calibration: Calibration) -> Quote:
    """What a second look at a chunk would take: its parts again with what was found in them."""
    tokens = blueprint.planner(document, calibration).estimate(chunk) + chunk.answer
    return _quote(blueprint, document, tokens, chunk.answer.expected)


def _quote(
    blueprint: Blueprint, document: Document, tokens: Estimate, answer_tokens: int, first_tokens: int | None = None
) -> Quote:
    profile, parameters = blueprint.config.profile, blueprint.brief(document).parameters
    max_tokens, is_thinking = int(parameters["max_tokens"]), bool(parameters["enable_thinking"])
    visible = min(answer_tokens, max_tokens)
    answer = Estimate(visible, visible)
    limit = max_tokens
    if is_thinking:
        reasoning = round(visible * _REASONING_SHARE)
        answer, limit = answer + Estimate(reasoning, reasoning), max_tokens + reasoning
    has_price = bool(profile.tiers)
    cut_off = first_tokens if first_tokens is not None and first_tokens < max_tokens else 0
    ceiling_usd = pricing.ceiling_usd(profile, tokens, max_tokens, is_thinking) if has_price else None
    if ceiling_usd is not None and cut_off:
        ceiling_usd += pricing.ceiling_usd(profile, tokens, cut_off, is_thinking)
    return Quote(
        input_tokens=tokens,
        output_expected=answer.expected,
        output_ceiling=pricing.most_output_tokens(profile, max_tokens, is_thinking) + cut_off,
        is_dear=pricing.tier_number(profile, tokens.safe) > 1,
        expected_usd=pricing.expected_usd(profile, tokens, answer, limit) if has_price else None,
        ceiling_usd=ceiling_usd,
    )


def quote_document(
    blueprint: Blueprint,
    document: Document,
    chunks: Sequence[Chunk],
    calibration: Calibration,
    missing_by_chunk: Sequence[Sequence[Chunk]],
) -> PlanRow:
    """What a document would need beyond what is answered already: for each chunk the requests that would be sent."""
    missing = list(chain.from_iterable(missing_by_chunk))
    quotes = [quote_chunk(blueprint, document, chunk, calibration) for chunk in missing]
    recipe = blueprint.config.recipe
    if missing and len(chunks) > 1 and may_ask(recipe.document_schema, recipe.merge):
        quotes.append(quote_synthesis(blueprint, document, chunks))
    if blueprint.config.asking.verify:
        quotes += [quote_look(blueprint, document, chunk, calibration) for chunk in missing]
    return PlanRow(
        name=document.source.name,
        pages=sum(part.kind == "page" for part in document.parts),
        frames=sum(part.kind == "frame" for part in document.parts),
        chunks=len(chunks),
        answered=sum(not requests for requests in missing_by_chunk),
        requests=len(quotes),
        dear_requests=sum(quote.is_dear for quote in quotes),
        input_tokens_expected=sum(quote.input_tokens.expected for quote in quotes),
        input_tokens_safe=sum(quote.input_tokens.safe for quote in quotes),
        output_tokens_expected=sum(quote.output_expected for quote in quotes),
        output_tokens_ceiling=sum(quote.output_ceiling for quote in quotes),
        cost_usd_expected=add_money(quote.expected_usd for quote in quotes),
        cost_usd_ceiling=add_money(quote.ceiling_usd for quote in quotes),
    )


def missing_of(chunk: Chunk, is_answered: Callable[[Chunk], bool]) -> tuple[Chunk, ...]:
    """The requests that would be sent about a chunk: none, itself, or what is missing of its halves."""
    if is_answered(chunk):
        return ()
    halves = split_chunk(chunk)
    if len(halves) > 1 and any(is_answered(half) for half in halves):
        return tuple(part for half in halves for part in missing_of(half, is_answered))
    return (chunk,)
