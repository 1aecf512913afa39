"""Money: what a request costs. Always Decimal, always from the profile's tiers (model-facts §10).

The tier is set by the input of that request alone, and all its tokens, input and output, are billed at it.
"""

from __future__ import annotations

import math
from decimal import Decimal

from ingest.errors import ConfigError
from ingest.profile import Profile, Tier
from ingest.types import Estimate

_MILLION = Decimal(1_000_000)
_LEAST_OUTPUT_TOKENS = 4_096
"""The service's own default limit (model-facts §1): where an answer is expected to be short, no less is allowed."""
_OUTPUT_ROOM = 1.25
"""How many times its safe estimate an answer may get at first. Before any reply that is five times the expected length:
dense tables take twice as much to write, with the page of each row, as to read."""


def tier_of(profile: Profile, input_tokens: int) -> Tier | None:
    """The tier that bills a request with so many input tokens; None when the profile has no price.

    Input beyond the last tier, which the server refuses, counts as the last.
    """
    for tier in profile.tiers:
        if input_tokens <= tier.max_input_tokens:
            return tier
    return profile.tiers[-1] if profile.tiers else None


def tier_number(profile: Profile, input_tokens: int) -> int:
    """The number of the tier that bills so many input tokens, from 1; 0 when the profile has no price."""
    tier = tier_of(profile, input_tokens)
    return 0 if tier is None else profile.tiers.index(tier) + 1


def cost_usd(profile: Profile, input_tokens: int, output_tokens: int) -> Decimal | None:
    """Price of one request; None when the profile has no price. `output_tokens` includes reasoning."""
    tier = tier_of(profile, input_tokens)
    if tier is None:
        return None
    return (input_tokens * tier.input_usd_per_million + output_tokens * tier.output_usd_per_million) / _MILLION


def require_price(profile: Profile) -> None:
    """Raises ConfigError when the profile has no price: an unknown price is never taken for nothing."""
    if not profile.tiers:
        raise ConfigError(
            f"profile {profile.name} has no price, so nothing can be priced or limited: write a profile file with"
            f' extends = "{profile.name}" and its tiers, and give it with --profile FILE'
        )


def price_usd(profile: Profile, input_tokens: int, output_tokens: int) -> Decimal:
    """Price of one request. Raises ConfigError when the profile has no price."""
    cost = cost_usd(profile, input_tokens, output_tokens)
    if cost is None:
        require_price(profile)
    return cost or Decimal(0)


def first_output_tokens(answer: Estimate, most: int) -> int:
    """An output limit that an answer of this estimate hardly ever meets: a multiple of 4,096, or `most`."""
    steps = max(math.ceil(_OUTPUT_ROOM * answer.safe / _LEAST_OUTPUT_TOKENS), 1)
    return min(steps * _LEAST_OUTPUT_TOKENS, most)


def most_output_tokens(profile: Profile, max_tokens: int, is_thinking: bool) -> int:
    """The most output a request can be billed for: reasoning comes on top of `max_tokens` (model-facts §1).

    Where thinking cannot be switched off it is always counted in.
    """
    reasoning = profile.max_reasoning_tokens if is_thinking or not profile.quirks.thinking else 0
    return min(max_tokens + reasoning, profile.window_tokens)


def worst_case_usd(profile: Profile, most_input_tokens: int, max_tokens: int, is_thinking: bool = False) -> Decimal:
    """What a request may cost at most, to be reserved before it is sent.

    `most_input_tokens` is what the server may count at most (`Calibration.most`); beyond the model's input limit it
    refuses, so that is the end. Raises ConfigError when the profile has no price.
    """
    tokens = min(most_input_tokens, profile.max_input_tokens)
    return price_usd(profile, tokens, most_output_tokens(profile, max_tokens, is_thinking))


def expected_usd(profile: Profile, input_tokens: Estimate, answer: Estimate, max_tokens: int) -> Decimal:
    """What a request is expected to cost: its expected tokens at the tier that its safe estimate falls in.

    Raises ConfigError when the profile has no price.
    """
    require_price(profile)
    tier = tier_of(profile, input_tokens.safe)
    assert tier is not None
    output_tokens = min(answer.expected, max_tokens)
    spent = input_tokens.expected * tier.input_usd_per_million + output_tokens * tier.output_usd_per_million
    return spent / _MILLION


def ceiling_usd(profile: Profile, input_tokens: Estimate, max_tokens: int, is_thinking: bool = False) -> Decimal:
    """What a request costs when its input is at the safe estimate and its answer as long as may be.

    Raises ConfigError when the profile has no price.
    """
    return worst_case_usd(profile, input_tokens.safe, max_tokens, is_thinking)
