"""Parts to chunks: contiguous runs that fit the window, stay under the price step and share the load evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.errors import ConfigError
from ingest.planning.tokens import estimate_part
from ingest.profile import Profile
from ingest.types import Chunk, Detail, Document, Estimate, Part

# What a page of print takes at least: with less room beside the preamble nothing sensible can be asked.
_LEAST_PART_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold. Tokens are for the parts alone: the preamble is already taken off."""

    target_tokens: int
    max_tokens: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class _Cost:
    part: Part
    estimate: Estimate
    size_bytes: int


def request_limits(profile: Profile, preamble: Estimate, target_tokens: int | None, output_tokens: int) -> Limits:
    """Limits of one request after its preamble (system, instructions, schema).

    The target is what the user asked for, else the profile's; the cap, which the safe estimate keeps, is the price step
    or the window less the reserved output, whichever comes first. A part too big alone may pass it.

    Raises ConfigError when the preamble alone leaves no room for a page.
    """
    cap = min(profile.max_input_tokens, profile.window_tokens - output_tokens)
    if profile.tiers:
        cap = min(cap, profile.tiers[0].max_input_tokens)
    if preamble.safe + _LEAST_PART_TOKENS > cap:
        raise ConfigError(
            f"the schema and the instructions alone take up to {preamble.safe:,} tokens of the {cap:,} that a request"
            " may hold: ask for fewer fields, or in several runs"
        )
    target = min(target_tokens or profile.target_input_tokens, cap)
    return Limits(
        target_tokens=max(target - preamble.expected, 1),
        max_tokens=cap - preamble.safe,
        max_bytes=profile.max_request_bytes - 4 * preamble.safe - 10_000,
    )


def plan_chunks(
    document: Document, profile: Profile, detail: Detail, limits: Limits, context_parts: int = 0
) -> tuple[Chunk, ...]:
    """Chunks of a document: every readable part owned by exactly one chunk, in reading order.

    Greedy filling gives the smallest number of chunks; the fill level is then lowered as far as that number
    allows, so that the chunks are of even size. A part too big alone gets a chunk of its own. `context_parts`
    neighbours are carried on each side where they fit.
    """
    costs = [
        _Cost(part, estimate_part(part, profile, detail), _size_bytes(part, profile))
        for part in document.parts
        if part.error is None
    ]
    if not costs:
        return ()
    groups = _balance(costs, limits)
    return tuple(_chunk(index, groups, limits, context_parts) for index in range(len(groups)))


def split_chunk(chunk: Chunk) -> tuple[Chunk, ...]:
    """The two halves of a chunk, by estimated parts; a chunk of one part cannot be split and comes back alone.

    The halves keep the index of the chunk they come from; context parts stay with the half they adjoin.
    """
    if len(chunk.owned) < 2:
        return (chunk,)
    middle = len(chunk.owned) // 2
    first, second = chunk.owned[:middle], chunk.owned[middle:]
    before = tuple(part for part in chunk.context if part.index < first[0].index)
    after = tuple(part for part in chunk.context if part.index > second[-1].index)
    share = Estimate(chunk.estimate.expected // 2, chunk.estimate.safe // 2)
    return (Chunk(chunk.index, first, before, share), Chunk(chunk.index, second, after, share))


def _size_bytes(part: Part, profile: Profile) -> int:
    """Bytes of the part in the request body: base64 makes four of three, JSON may escape each character."""
    size = 200
    if part.mode != "image":
        size += 6 * part.text.chars + part.text.spaces * 8
    if part.mode != "text":
        size += profile.image_bytes * 4 // 3
    return size


def _fill(costs: Sequence[_Cost], limits: Limits, target: int) -> list[list[_Cost]]:
    groups: list[list[_Cost]] = []
    tokens = Estimate(0, 0)
    size = 0
    for cost in costs:
        together = tokens + cost.estimate
        if (
            not groups
            or together.expected > target
            or together.safe > limits.max_tokens
            or size + cost.size_bytes > limits.max_bytes
        ):
            groups.append([cost])
            tokens, size = cost.estimate, cost.size_bytes
        else:
            groups[-1].append(cost)
            tokens, size = together, size + cost.size_bytes
    return groups


def _balance(costs: Sequence[_Cost], limits: Limits) -> list[list[_Cost]]:
    best = _fill(costs, limits, limits.target_tokens)
    if len(best) == 1:
        return best
    low, high = 1, limits.target_tokens
    while high - low > 100:
        middle = (low + high) // 2
        groups = _fill(costs, limits, middle)
        if len(groups) > len(best):
            low = middle
        else:
            best, high = groups, middle
    return best


def _chunk(index: int, groups: Sequence[Sequence[_Cost]], limits: Limits, context_parts: int) -> Chunk:
    owned = groups[index]
    estimate = Estimate(0, 0)
    for cost in owned:
        estimate += cost.estimate
    size = sum(cost.size_bytes for cost in owned)
    neighbours: list[_Cost] = []
    if context_parts:
        before = [cost for group in groups[:index] for cost in group][-context_parts:]
        after = [cost for group in groups[index + 1 :] for cost in group][:context_parts]
        neighbours = [*reversed(before), *after]
    context: list[Part] = []
    for cost in neighbours:
        together = estimate + cost.estimate
        fits = together.expected <= limits.target_tokens and together.safe <= limits.max_tokens
        if fits and size + cost.size_bytes <= limits.max_bytes:
            estimate, size = together, size + cost.size_bytes
            context.append(cost.part)
    return Chunk(index, tuple(cost.part for cost in owned), tuple(context), estimate)
