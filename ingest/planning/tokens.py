"""Token estimates: pure functions of descriptors, every figure from the profile."""

from __future__ import annotations

import math

from ingest.profile import ImageRule, Profile, TextRule
from ingest.types import Detail, Estimate, Part, TextStats


def estimate_text(stats: TextStats, rule: TextRule) -> Estimate:
    """Tokens of a text by its character classes."""
    counts = (
        (stats.latin, rule.latin),
        (stats.cjk, rule.cjk),
        (stats.digits, rule.digits),
        (stats.other, rule.other),
        (stats.spaces, rule.spaces),
    )
    expected = sum(count * rate[0] for count, rate in counts)
    safe = sum(count * rate[1] for count, rate in counts)
    return Estimate(math.ceil(expected), math.ceil(safe))


def estimate_image(width_px: int, height_px: int, rule: ImageRule) -> Estimate:
    """Tokens of an image of this size; the safe value assumes that the detail asked for is not honoured."""
    tokens = math.ceil(width_px * height_px / rule.pixels_per_token)
    expected = min(max(tokens, rule.min_tokens), rule.max_tokens)
    return Estimate(expected, math.ceil(rule.max_tokens * (1 + rule.margin)))


def estimate_part(part: Part, profile: Profile, detail: Detail) -> Estimate:
    """Tokens of one part as it will be sent, with its share of the request's overhead.

    A page is rendered to fill the image rule's pixel budget, so it costs what the budget costs; an image smaller
    than the budget costs what its own pixels cost.
    """
    total = Estimate(profile.overhead.per_part, profile.overhead.per_part)
    if part.mode in ("text", "both"):
        total += estimate_text(part.text, profile.text)
    if part.mode in ("image", "both"):
        rule = profile.images[detail]
        width_px, height_px = part.width_px, part.height_px
        if not width_px or width_px * height_px > rule.max_pixels:
            width_px, height_px = rule.max_pixels, 1
        total += estimate_image(width_px, height_px, rule)
        # An image stands between an opening and a closing text part.
        total += Estimate(3 * profile.overhead.per_part, 3 * profile.overhead.per_part)
    # The tags around a page: `<page number="123">` and `</page>`.
    return total + Estimate(12, 16)
