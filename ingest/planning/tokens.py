"""Input tokens by the rules of a profile: pure functions of descriptors, no file opened, no pixel made.

Counts are kept by content kind, since a server may count each of them a little otherwise than the profile says:
`calibration.py` learns by how much, and turns counts into estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import add, attrgetter
from typing import Literal, TypeAlias

from ingest.profile import ImageRule, Overhead, Profile, TextRule, VideoRule
from ingest.types import Chunk, Detail, Estimate, Observation, Part, TextStats, Usage

Kind: TypeAlias = Literal["text", "image", "frame", "video", "file", "fixed"]
KINDS: tuple[Kind, ...] = ("text", "image", "frame", "video", "file", "fixed")
"""Text of parts; images of pages; images of frames; clips; whole files; what is the same in every request or part."""

_BAND_OVERLAP = 0.06  # share of the height by which the bands of an image reach over their two borders

_RATED = tuple(TextRule.model_fields)
_COUNTS_OF, _RATES_OF = attrgetter(*_RATED), attrgetter(*_RATED)

_ZEROS = (0,) * len(KINDS)
_INDEX = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Counts:
    """Input tokens by kind, in the order of `KINDS`: expected by the profile, and what its safe rules allow for."""

    expected: tuple[int, ...] = _ZEROS
    safe: tuple[int, ...] = _ZEROS

    @classmethod
    def of(cls, kind: Kind, estimate: Estimate) -> Counts:
        """Tokens of one kind alone."""
        index = _INDEX[kind]
        before, after = _ZEROS[:index], _ZEROS[index + 1 :]
        return cls((*before, estimate.expected, *after), (*before, estimate.safe, *after))

    def __add__(self, other: Counts) -> Counts:
        return Counts(tuple(map(add, self.expected, other.expected)), tuple(map(add, self.safe, other.safe)))

    @property
    def total(self) -> int:
        """Expected tokens of all kinds."""
        return sum(self.expected)

    @property
    def total_safe(self) -> int:
        """Tokens of all kinds by the safe rules."""
        return sum(self.safe)

    def pairs(self) -> tuple[tuple[str, int], ...]:
        """The expected tokens as `Observation.counts` wants them."""
        return tuple((kind, tokens) for kind, tokens in zip(KINDS, self.expected, strict=True) if tokens)


NO_COUNTS = Counts()


def estimate_text(stats: TextStats, rule: TextRule) -> Estimate:
    """Tokens of a text by what stands in it."""
    expected = safe = 0.0
    for count, (rate, safe_rate) in zip(_COUNTS_OF(stats), _RATES_OF(rule), strict=True):
        if count:
            expected += count * rate
            safe += count * safe_rate
    return Estimate(math.ceil(expected), math.ceil(max(expected, safe)))


def estimate_image(width_px: int, height_px: int, rule: ImageRule, default: ImageRule | None = None) -> Estimate:
    """Tokens of an image of this size.

    The safe value adds the rule's margin, and assumes with `default` that the detail asked for may not be honoured:
    the image then costs what the endpoint's default detail costs.
    """
    expected = _image_tokens(width_px, height_px, rule)
    safe = math.ceil(expected * (1 + rule.margin))
    if default is not None:
        safe = max(safe, math.ceil(_image_tokens(width_px, height_px, default) * (1 + default.margin)))
    return Estimate(expected, safe)


def _image_tokens(width_px: int, height_px: int, rule: ImageRule) -> int:
    tokens = math.ceil(width_px * height_px / rule.pixels_per_token)
    return min(max(tokens, rule.min_tokens), rule.max_tokens)


def estimate_video(duration_s: float, fps: float, rule: VideoRule, timestamp_tokens: tuple[int, int]) -> Estimate:
    """Tokens of a clip that the server samples itself: its frames share the budget of the video (model-facts §3.2).

    The stamps before the frames come on top of the budget.
    """
    frames = min(max(math.floor(duration_s * fps) + 1, rule.frames[0]), rule.frames[1])
    low, high = rule.tokens_per_frame
    tokens = math.ceil(frames * min(max(rule.budget_tokens / frames, low), high))
    return Estimate(tokens + frames * timestamp_tokens[0], tokens + frames * timestamp_tokens[1])


def count_part(part: Part, profile: Profile, detail: Detail, video_fps: float | None = None) -> Counts:
    """Tokens of one part as it will be sent, with the tags around it and its share of the request's overhead.

    A page is rendered to fill the image rule's pixel budget, so it costs what the budget costs; an image smaller
    than the budget costs what its own pixels cost. `video_fps` is the rate asked for clips.
    """
    if part.mode == "native":
        return _count_native(part, profile, video_fps)
    counts = _overhead(part, profile.overhead, 4 if part.mode in ("image", "both") else 1)
    if part.mode in ("text", "both") and part.text.chars:
        counts += Counts.of("text", estimate_text(part.text, profile.text))
    if part.mode in ("image", "both"):
        counts += _count_image(part, profile, detail)
    if part.moments:
        expected, safe = profile.frames.timestamp_tokens
        stamps = len(part.moments)
        counts += Counts.of("fixed", Estimate(stamps * expected, stamps * safe))
    return counts


def _count_image(part: Part, profile: Profile, detail: Detail) -> Counts:
    rule, default = profile.images[detail], profile.images[profile.default_detail]
    width_px, height_px = part.width_px, part.height_px
    if width_px and part.pieces > 1:
        height_px = math.ceil(height_px * (1 / part.pieces + _BAND_OVERLAP))
    if not width_px or width_px * height_px > rule.max_pixels:
        width_px, height_px = rule.max_pixels, 1
    return Counts.of("frame" if part.moments else "image", estimate_image(width_px, height_px, rule, default))


def _count_native(part: Part, profile: Profile, video_fps: float | None) -> Counts:
    counts = _overhead(part, profile.overhead, 2)
    if part.moments:
        rule = profile.video or VideoRule()
        duration_s = max(part.moments[-1].end_s - part.moments[0].start_s, 0.0)
        clip = estimate_video(duration_s, video_fps or rule.default_fps, rule, profile.frames.timestamp_tokens)
        return counts + Counts.of("video", clip)
    tokens = profile.files.tokens_per_page if profile.files else profile.images[profile.default_detail].max_tokens
    return counts + Counts.of("file", Estimate(tokens, tokens))


def _overhead(part: Part, overhead: Overhead, contents: int) -> Counts:
    """Content parts of this part (an image stands between two texts) and its tags: `<page number="123">`, `</page>`."""
    if part.moments:
        contents = min(contents, 2)
    tags = Estimate(12, 16) if not part.moments else Estimate(0, 2)
    return Counts.of("fixed", tags + Estimate(contents * overhead.per_part, contents * overhead.per_part))


def count_preamble(texts: Iterable[str], profile: Profile) -> Counts:
    """Tokens of a request before its parts: system message, instructions, schema and the overhead of a request."""
    overhead = profile.overhead
    tokens = overhead.per_request + 2 * overhead.per_message + 3 * overhead.per_part
    return Counts.of("fixed", estimate_text(TextStats.of("\n".join(texts)), profile.text) + Estimate(tokens, tokens))


def counts_of_chunk(
    chunk: Chunk, profile: Profile, detail: Detail, preamble: Counts = NO_COUNTS, video_fps: float | None = None
) -> Counts:
    """Tokens of a whole request: the preamble and all parts of the chunk, context included."""
    return sum((count_part(part, profile, detail, video_fps) for part in chunk.parts), preamble)


def owned_tokens(chunk: Chunk, profile: Profile, detail: Detail, video_fps: float | None = None) -> int:
    """Expected tokens of the owned parts alone: what the length of the answer goes with."""
    return sum(count_part(part, profile, detail, video_fps).total for part in chunk.owned)


def observe(counts: Counts, owned: int, usage: Usage) -> Observation:
    """What an answered request teaches: `counts` of the whole request, `owned` of its owned parts alone."""
    return Observation(counts.pairs(), owned, usage.input_tokens, usage.output_tokens - usage.reasoning_tokens)


def estimate_part(part: Part, profile: Profile, detail: Detail) -> Estimate:
    """Tokens of one part by the profile's rules, before any calibration."""
    counts = count_part(part, profile, detail)
    return Estimate(counts.total, counts.total_safe)
