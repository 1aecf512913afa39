"""Prices: exact to the last digit, never nothing where they are not known."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ingest.errors import ConfigError
from ingest.local.accounting import Usage as ServedUsage
from ingest.local.accounting import price as served_price
from ingest.local.numbers import load_numbers
from ingest.planning import pricing
from ingest.profile import load_profile
from ingest.types import Estimate

PROFILE = load_profile("seed-2-0-pro")
UNPRICED = PROFILE.model_copy(update={"tiers": ()})


def test_the_tier_is_set_by_the_input_alone_and_bills_the_whole_request() -> None:
    """127,999 tokens are cheap, 128,000 double the price of input and output."""
    cheap = Decimal("127999") * Decimal("0.63") / 10**6 + Decimal("0.00379")
    assert pricing.cost_usd(PROFILE, 127_999, 1_000) == cheap
    assert pricing.cost_usd(PROFILE, 128_000, 1_000) == Decimal("0.16128") + Decimal("0.00758")
    assert [pricing.tier_number(PROFILE, tokens) for tokens in (1, 127_999, 128_000)] == [1, 1, 2]


@pytest.mark.parametrize("input_tokens", [1, 4_321, 127_999, 128_000, 223_999])
@pytest.mark.parametrize("output_tokens", [0, 77, 32_768])
def test_every_price_is_that_of_the_servers_own_books(input_tokens: int, output_tokens: int) -> None:
    """Two computations that share nothing agree to the last digit."""
    served = served_price(ServedUsage(input_tokens, output_tokens), load_numbers("seed-2.0"))
    assert pricing.price_usd(PROFILE, input_tokens, output_tokens) == served


def test_an_unknown_price_is_an_error_and_never_nothing() -> None:
    """A plan of $0 for a model whose price nobody entered would be believed."""
    assert pricing.cost_usd(UNPRICED, 10, 10) is None
    assert pricing.tier_number(UNPRICED, 10) == 0
    for ask in (
        lambda: pricing.require_price(UNPRICED),
        lambda: pricing.price_usd(UNPRICED, 10, 10),
        lambda: pricing.worst_case_usd(UNPRICED, 10, 10),
        lambda: pricing.expected_usd(UNPRICED, Estimate(10, 11), Estimate(5, 6), 100),
        lambda: pricing.ceiling_usd(UNPRICED, Estimate(10, 11), 100),
    ):
        with pytest.raises(ConfigError, match="has no price"):
            ask()


def test_the_worst_case_covers_reasoning_and_stops_at_the_window() -> None:
    """Reasoning is billed as output on top of max_tokens, and input beyond the window is refused, not billed."""
    plain = pricing.worst_case_usd(PROFILE, 100_000, 32_768)
    assert plain == Decimal("0.063") + 32_768 * Decimal("3.79") / 10**6
    thinking = pricing.worst_case_usd(PROFILE, 100_000, 32_768, is_thinking=True)
    assert thinking == Decimal("0.063") + (32_768 + 131_072) * Decimal("3.79") / 10**6
    assert pricing.worst_case_usd(PROFILE, 999_999, 100) == pricing.price_usd(PROFILE, 224_000, 100)


def test_the_expected_cost_is_at_the_tier_of_the_safe_estimate() -> None:
    """A request that may well be dear is not shown as cheap; a long answer ends at max_tokens."""
    dear = pricing.expected_usd(PROFILE, Estimate(125_000, 130_000), Estimate(1_000, 2_000), 32_768)
    assert dear == pricing.price_usd(PROFILE, 130_000, 1_000) - 5_000 * Decimal("1.26") / 10**6
    capped = pricing.expected_usd(PROFILE, Estimate(1_000, 1_060), Estimate(9_000, 18_000), 4_096)
    assert capped == pricing.price_usd(PROFILE, 1_000, 4_096)
    assert pricing.ceiling_usd(PROFILE, Estimate(1_000, 1_060), 4_096) == pricing.price_usd(PROFILE, 1_060, 4_096)
