"""Money: what a request costs. Always Decimal, always from the profile's tiers."""

from __future__ import annotations

from decimal import Decimal

from ingest.profile import Profile, Tier

_MILLION = Decimal(1_000_000)


def tier_of(profile: Profile, input_tokens: int) -> Tier | None:
    """The tier that bills a request with so many input tokens; None when the profile has no price.

    The tier is set by the input of that request alone, and all its tokens are billed at it.
    """
    for tier in profile.tiers:
        if input_tokens <= tier.max_input_tokens:
            return tier
    return profile.tiers[-1] if profile.tiers else None


def cost_usd(profile: Profile, input_tokens: int, output_tokens: int) -> Decimal | None:
    """Price of one request; None when the profile has no price. `output_tokens` includes reasoning."""
    tier = tier_of(profile, input_tokens)
    if tier is None:
        return None
    return (input_tokens * tier.input_usd_per_million + output_tokens * tier.output_usd_per_million) / _MILLION
