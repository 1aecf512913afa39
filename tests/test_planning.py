"""Chunks and prices: every part is sent once, no request passes a limit, money is exact."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.planning.chunks import Limits, plan_chunks, request_limits, split_chunk
from ingest.planning.pricing import cost_usd
from ingest.planning.tokens import estimate_image, estimate_part
from ingest.profile import load_profile
from ingest.types import Chunk, Document, Estimate, Part, Problem, Source, TextStats

PROFILE = load_profile("seed-2-0-pro")


def _document(parts: list[Part]) -> Document:
    return Document(Source("a.pdf", "file:///a.pdf", Path("/a.pdf"), 1, "0" * 64, "application/pdf"), tuple(parts))


def _part(index: int, mode: str, latin: int, broken: bool) -> Part:
    error = Problem("read", "unreadable", "broken", index) if broken else None
    return Part(index, "page", mode, text=TextStats(latin=latin), error=error)  # type: ignore[arg-type]


_parts = st.lists(
    st.tuples(st.sampled_from(["text", "image", "both"]), st.integers(0, 60_000), st.booleans()), max_size=60
).map(lambda rows: [_part(index, *row) for index, row in enumerate(rows)])


@given(_parts, st.integers(1_000, 120_000), st.integers(0, 2))
def test_every_readable_part_is_owned_exactly_once(parts: list[Part], target: int, context_parts: int) -> None:
    """A part owned twice doubles its rows, a part owned by nobody is lost in silence."""
    limits = request_limits(PROFILE, Estimate(2_000, 2_500), target, 16_000)
    chunks = plan_chunks(_document(parts), PROFILE, "high", limits, context_parts)
    owned = [part.index for chunk in chunks for part in chunk.owned]
    assert owned == [part.index for part in parts if part.error is None]
    for chunk in chunks:
        assert not set(chunk.owned) & set(chunk.context)


@given(_parts, st.integers(2_000, 120_000))
def test_only_a_part_too_big_alone_passes_the_target(parts: list[Part], target: int) -> None:
    """Crossing the price step doubles the price of the whole request."""
    limits = request_limits(PROFILE, Estimate(1_000, 1_000), target, 16_000)
    for chunk in plan_chunks(_document(parts), PROFILE, "high", limits):
        assert len(chunk.owned) == 1 or chunk.estimate.expected <= limits.target_tokens


def test_the_default_plan_stays_under_the_price_step() -> None:
    """400 scanned pages must be billed at the cheap tier."""
    limits = request_limits(PROFILE, Estimate(3_000, 4_000), None, PROFILE.default_output_tokens)
    chunks = plan_chunks(_document([_part(i, "image", 0, False) for i in range(400)]), PROFILE, "high", limits)
    assert max(chunk.estimate.safe for chunk in chunks) + 4_000 < 128_000
    sizes = [len(chunk.owned) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1


def test_a_plan_is_the_same_every_time() -> None:
    """Request keys come from the plan: another plan would buy every answer again."""
    parts = [_part(i, "both", 3_000 * (i % 7), False) for i in range(80)]
    limits = Limits(50_000, 200_000, 10_000_000)
    assert plan_chunks(_document(parts), PROFILE, "high", limits) == plan_chunks(
        _document(parts), PROFILE, "high", limits
    )


def test_splitting_keeps_every_part() -> None:
    """A cut-off answer is asked for again in halves; nothing may fall between them."""
    parts = tuple(_part(i, "text", 10, False) for i in range(5))
    first, second = split_chunk(Chunk(3, parts[1:4], (parts[0], parts[4])))
    assert first.owned + second.owned == parts[1:4]
    assert first.context == (parts[0],)
    assert second.context == (parts[4],)
    assert split_chunk(first) == (first,)


def test_an_image_at_high_detail_costs_1280_whatever_its_size() -> None:
    """The model scales every image to the same number of pixels at this detail."""
    rule = PROFILE.images["high"]
    assert estimate_image(20, 20, rule).expected == 1280
    assert estimate_image(9_000, 9_000, rule).expected == 1280
    assert estimate_image(420, 420, PROFILE.images["low"]).expected == 100


def test_text_costs_less_than_an_image_of_it() -> None:
    """The reason why plain pages go as text."""
    text = estimate_part(_part(0, "text", 2_500, False), PROFILE, "high")
    image = estimate_part(_part(0, "image", 0, False), PROFILE, "high")
    assert text.expected < image.expected


def test_the_tier_is_set_by_the_input_alone_and_bills_the_whole_request() -> None:
    """127,999 tokens are cheap, 128,000 double the price of input and output."""
    assert cost_usd(PROFILE, 127_999, 1_000) == Decimal("127999") * Decimal("0.63") / 10**6 + Decimal("0.00379")
    assert cost_usd(PROFILE, 128_000, 1_000) == Decimal("0.16128") + Decimal("0.00758")
    assert cost_usd(PROFILE.model_copy(update={"tiers": ()}), 10, 10) is None


def test_the_safe_estimate_keeps_the_price_step() -> None:
    """Dense text may count for half as much again as expected: even then no request of several pages is dear."""
    limits = request_limits(PROFILE, Estimate(3_000, 4_000), None, PROFILE.default_output_tokens)
    dense = [Part(i, "page", "text", text=TextStats(digits=2_000, spaces=600)) for i in range(300)]
    for chunk in plan_chunks(_document(dense), PROFILE, "high", limits):
        assert chunk.estimate.safe + 4_000 <= PROFILE.tiers[0].max_input_tokens


def test_a_preamble_that_leaves_no_room_is_told_before_anything_is_sent() -> None:
    """A schema of thousands of fields would make every request dear, or too long."""
    with pytest.raises(ConfigError, match="fewer fields"):
        request_limits(PROFILE, Estimate(120_000, 127_000), None, 16_000)
