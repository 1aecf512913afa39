"""Parts to chunks: the cheapest contiguous runs that stay below the price step, the window and the other limits.

The cost of a plan is what its requests are expected to cost: the tier's price of the input, the preamble repeated in
each request, context parts, and the answers. The dearest tier is used only for a part that exceeds the others alone and
cannot be cut (model-facts §10: a step is never worth crossing otherwise).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from ingest.errors import ConfigError
from ingest.planning import pricing
from ingest.planning.calibration import NO_REPLIES, Calibration
from ingest.planning.partition import Row, TierRuns, cheapest
from ingest.planning.pieces import fitting_pieces, split_part
from ingest.planning.tokens import KINDS, NO_COUNTS, Counts, count_part, counts_of_chunk, observe, owned_tokens
from ingest.profile import Profile, Tier
from ingest.types import Chunk, Detail, Document, Estimate, Observation, Part, Problem, Usage

# What a page of print takes at least: with less room beside the preamble nothing sensible can be asked.
_LEAST_PART_TOKENS = 2_000
# Whole numbers make sums exact, so that ties are ties: thousandths of a token, millionths of a dollar per million.
_MILLI = 1_000
_PRICE_SCALE = 1_000_000
# Where there is no price: output costs about six times as much as input everywhere (model-facts §10).
_RELATIVE_PRICES = (1, 6)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold.

    `target_tokens` is what the parts alone are filled to, by the expected estimate. `cap_tokens` is for the whole
    request by the safe estimate: the last price step, or the window. `window_tokens` is what no request may pass.
    """

    target_tokens: int
    cap_tokens: int
    max_bytes: int
    window_tokens: int = 2**31
    max_answer_tokens: int = 2**31
    max_images: int | None = None
    preamble: Counts = NO_COUNTS


@dataclass(frozen=True, slots=True)
class Layout:
    """A document's chunks and what is to be said about them.

    Parts that exceed the window alone and cannot be cut are in no chunk; a problem names each.
    """

    chunks: tuple[Chunk, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Unit:
    """A part or a piece of one. `weight` is in thousandths of an expected token."""

    part: Part
    counts: Counts
    weight: int
    size_bytes: int

    @property
    def images(self) -> int:
        return int(self.part.mode in ("image", "both"))


def request_limits(profile: Profile, preamble: Estimate, target_tokens: int | None, output_tokens: int) -> Limits:
    """Limits of one request whose preamble (system, instructions, schema, overhead) is estimated at so much.

    The target is what the user asked for, else the profile's. `output_tokens` is the request's `max_tokens`.

    Raises ConfigError when the preamble alone leaves no room for a page.
    """
    window = min(profile.max_input_tokens, profile.window_tokens - output_tokens)
    cap = min(window, profile.tiers[max(len(profile.tiers) - 2, 0)].max_input_tokens) if profile.tiers else window
    if preamble.safe + _LEAST_PART_TOKENS > cap:
        raise ConfigError(
            f"the schema and the instructions alone take up to {preamble.safe:,} tokens of the {cap:,} that a request"
            " may hold: ask for fewer fields, or in several runs"
        )
    target = min(target_tokens or profile.target_input_tokens, cap)
    return Limits(
        target_tokens=max(target - preamble.expected, 1),
        cap_tokens=cap,
        max_bytes=profile.max_request_bytes - 4 * preamble.safe - 10_000,
        window_tokens=window,
        max_answer_tokens=output_tokens,
        max_images=profile.max_images_per_request,
        preamble=Counts.of("fixed", preamble),
    )


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans chunks for one kind of request. Pure: the same arguments always give the same plan.

    `detail` is the image detail of the requests, `video_fps` the rate asked for clips; `context_parts` neighbours are
    carried on each side of a chunk of several parts, and beside a part alone as far as they fit.
    """

    profile: Profile
    detail: Detail
    limits: Limits
    context_parts: int = 0
    calibration: Calibration = NO_REPLIES
    video_fps: float | None = None

    def plan(self, document: Document) -> Layout:
        """The document's chunks: every readable part owned by exactly one, in reading order.

        A file handed over whole is one chunk. A part too big alone is cut in pieces where that helps.
        """
        parts = [part for part in document.parts if part.error is None]
        if _is_whole_file(parts):
            return self._plan_whole(document, parts)
        units = [unit for part in parts for unit in self._units(part, document)]
        kept = [unit for unit in units if self._is_within_window(unit)]
        problems = [] if len(kept) == len(units) else [self._too_large(unit.part) for unit in units if unit not in kept]
        runs = cheapest(self._row(kept)) if kept else []
        chunks = tuple(self._chunk(index, kept, *run) for index, run in enumerate(runs))
        problems += [self._dear(chunk) for chunk in chunks if not self._is_cheap(chunk)]
        return Layout(chunks, tuple(problems))

    def replan(self, document: Document, chunk: Chunk) -> tuple[Chunk, ...]:
        """The chunk as the present calibration sees it, in several when it now may pass the cap.

        To be called just before sending; all keep the index of the chunk they come from. A chunk of one part that
        cannot be cut comes back alone, whatever it costs.
        """
        if self._is_cheap(chunk) or _is_whole_file(chunk.owned):
            return (self._estimated(chunk),)
        units = [unit for part in chunk.owned for unit in self._units(part, document)]
        first, last = _place(chunk.owned[0]), _place(chunk.owned[-1])
        before = [self._unit(part, document) for part in chunk.parts if _place(part) < first]
        after = [self._unit(part, document) for part in chunk.parts if _place(part) > last]
        around, shift = [*before, *units, *after], len(before)
        runs = cheapest(self._row(units))
        return tuple(self._chunk(chunk.index, around, start + shift, stop + shift) for start, stop in runs)

    def counts(self, chunk: Chunk) -> Counts:
        """Tokens of the whole request by the profile's rules, preamble included."""
        return counts_of_chunk(chunk, self.profile, self.detail, self.limits.preamble, self.video_fps)

    def estimate(self, chunk: Chunk) -> Estimate:
        """Input tokens of the whole request, preamble included."""
        return self.calibration.estimate(self.counts(chunk))

    def most_input_tokens(self, chunk: Chunk) -> int:
        """Input tokens of the whole request for which money is to be reserved."""
        return self.calibration.most(self.counts(chunk))

    def size_bytes(self, document: Document, chunk: Chunk) -> int:
        """Bytes that the chunk's parts take of a request's body at most."""
        return sum(_size_bytes(part, self.profile, document) for part in chunk.parts)

    def observe(self, chunk: Chunk, usage: Usage) -> Observation:
        """What the answer to this chunk teaches."""
        owned = owned_tokens(chunk, self.profile, self.detail, self.video_fps)
        return observe(self.counts(chunk), owned, usage)

    def restore(self, document: Document, pinned: Any) -> tuple[Chunk, ...] | None:
        """The chunks that `partition_to_json` wrote down, with present estimates; None when they do not fit.

        They fit when they own every readable part of the document, and every piece of it, exactly once.
        """
        chunks = _read_partition(document, pinned)
        if chunks is None or not _owns_all(document, chunks):
            return None
        return tuple(self._estimated(chunk) for chunk in chunks)

    def _plan_whole(self, document: Document, parts: Sequence[Part]) -> Layout:
        chunk = self._estimated(Chunk(0, tuple(parts)))
        size_bytes = document.source.size_bytes * 4 // 3
        if self.estimate(chunk).safe > self.limits.window_tokens or size_bytes > self.limits.max_bytes:
            message = (
                f"{document.source.name} is too large to be handed over whole ({len(parts)} pages, {size_bytes:,} bytes"
                " as sent): send it as pages (--documents pages)"
            )
            return Layout((), (Problem("planning", "too_large", message),))
        return Layout((chunk,), () if self._is_cheap(chunk) else (self._dear(chunk),))

    def _units(self, part: Part, document: Document) -> list[_Unit]:
        def fits(piece: Part) -> bool:
            return self._fits(self._unit(piece, document))

        unit = self._unit(part, document)
        if self._fits(unit):
            return [unit]
        return [self._unit(piece, document) for piece in fitting_pieces(part, fits)]

    def _unit(self, part: Part, document: Document) -> _Unit:
        counts = count_part(part, self.profile, self.detail, self.video_fps)
        weight = round(_MILLI * self.calibration.weigh(counts.expected))
        return _Unit(part, counts, weight, _size_bytes(part, self.profile, document))

    def _fits(self, unit: _Unit) -> bool:
        """Whether a unit fits a request of its own, the target apart.

        The answer does not count: one that is too long for one reply is asked for in several, over the whole part.
        """
        limits = self.limits
        return (
            self._safe_tokens(unit.counts) <= limits.cap_tokens
            and unit.size_bytes <= limits.max_bytes
            and (limits.max_images is None or unit.images <= limits.max_images)
        )

    def _is_within_window(self, unit: _Unit) -> bool:
        return self._safe_tokens(unit.counts) <= self.limits.window_tokens

    def _safe_tokens(self, counts: Counts) -> int:
        """Safe estimate of a request of parts with these counts and the preamble."""
        return self.calibration.estimate(self.limits.preamble + counts).safe

    def _is_cheap(self, chunk: Chunk) -> bool:
        return self.estimate(chunk).safe <= self.limits.cap_tokens

    def _row(self, units: Sequence[_Unit]) -> Row:
        base, share = self.calibration.answer_line
        weights = _sums([unit.weight for unit in units])
        answers = _sums([round(_MILLI * share * unit.counts.total) for unit in units])
        base_input = round(_MILLI * self.calibration.weigh(self.limits.preamble.expected))
        base_answer = round(_MILLI * base)
        firsts = self._linear_bounds(units, weights, answers, base_answer)
        tiers = [
            TierRuns(*prices, self._first(units, firsts, cap)) for prices, cap in self._allowed(self.profile.tiers)
        ]
        alone = [self._alone(units, index, tiers, base_input, base_answer) for index in range(len(units))]
        is_soft = [unit.part.is_break or (unit.part.section is not None and not unit.part.piece) for unit in units]
        return Row(weights, answers, alone, is_soft, tiers, self.context_parts, base_input, base_answer)

    def _allowed(self, tiers: Sequence[Tier]) -> list[tuple[tuple[int, int], int]]:
        """Prices and caps of the tiers that requests of several parts may use: all but the last of several."""
        cap = self.limits.cap_tokens
        allowed = [(_prices(tier), min(tier.max_input_tokens, cap)) for tier in tiers[: max(len(tiers) - 1, 1)]]
        return allowed or [(_RELATIVE_PRICES, cap)]

    def _linear_bounds(
        self, units: Sequence[_Unit], weights: Sequence[int], answers: Sequence[int], base_answer: int
    ) -> list[int]:
        """For each place the earliest start of a run up to it within the target, bytes, images and answer length.

        Context counts, but for the answer.
        """
        limits, count, context = self.limits, len(units), self.context_parts
        bounded = [
            (weights, limits.target_tokens * _MILLI, context),
            (_sums([unit.size_bytes for unit in units]), limits.max_bytes, context),
            (answers, limits.max_answer_tokens * _MILLI - base_answer, 0),
        ]
        if limits.max_images is not None:
            bounded.append((_sums([unit.images for unit in units]), limits.max_images, context))
        firsts = [0] * (count + 1)
        for sums, most, around in bounded:
            for place in range(count + 1):
                end = sums[min(count, place + around)]
                start = bisect_left(sums, end - most)
                # The run starts behind its context, unless the document does.
                start = start + around if start else 0
                firsts[place] = max(firsts[place], min(start, place))
        return firsts

    def _first(self, units: Sequence[_Unit], bounds: Sequence[int], cap_tokens: int) -> list[int]:
        """For each place the earliest start of a run up to it whose safe estimate keeps the cap, context included."""
        expected = [_sums([unit.counts.expected[kind] for unit in units]) for kind in range(len(KINDS))]
        safe = [_sums([unit.counts.safe[kind] for unit in units]) for kind in range(len(KINDS))]
        preamble, count, context = self.limits.preamble, len(units), self.context_parts
        firsts, start = [0], 0
        for place in range(1, count + 1):
            start = max(start, bounds[place])
            end = min(count, place + context)
            while start < place:
                begin = max(0, start - context)
                counts = Counts(
                    tuple(fix + sums[end] - sums[begin] for fix, sums in zip(preamble.expected, expected, strict=True)),
                    tuple(fix + sums[end] - sums[begin] for fix, sums in zip(preamble.safe, safe, strict=True)),
                )
                if self.calibration.estimate(counts).safe <= cap_tokens:
                    break
                start += 1
            firsts.append(start)
        return firsts

    def _alone(
        self, units: Sequence[_Unit], index: int, tiers: Sequence[TierRuns], base_input: int, base_answer: int
    ) -> int:
        """Cost of a unit in a request of its own, with as much context as fits."""
        fitting = [tier for tier in tiers if tier.first[index + 1] <= index]
        answer = base_answer + round(_MILLI * self.calibration.answer_line[1] * units[index].counts.total)
        if fitting:
            near = units[max(0, index - self.context_parts) : index + self.context_parts + 1]
            weight = base_input + sum(unit.weight for unit in near)
            return min(weight * tier.input_price + answer * tier.output_price for tier in fitting)
        carried = [units[index], *self._context(units, index, index + 1)]
        weight = base_input + sum(unit.weight for unit in carried)
        safe = self._safe_tokens(sum((unit.counts for unit in carried), NO_COUNTS))
        tier = pricing.tier_of(self.profile, safe)
        input_price, output_price = _prices(tier) if tier else _RELATIVE_PRICES
        return weight * input_price + answer * output_price

    def _context(self, units: Sequence[_Unit], start: int, stop: int) -> list[_Unit]:
        """Neighbours of a run that fit beside it, the nearest first; never pieces of a part that the run owns."""
        indexes = {unit.part.index for unit in units[start:stop]}
        near: list[_Unit] = []
        for distance in range(1, self.context_parts + 1):
            near += units[start - distance : start - distance + 1] if start >= distance else ()
            near += units[stop + distance - 1 : stop + distance]
        carried = list(units[start:stop])
        for unit in near:
            within = sum(each.weight for each in (*carried, unit)) <= self.limits.target_tokens * _MILLI
            if unit.part.index not in indexes and within and self._fits_beside(carried, unit):
                carried.append(unit)
        return carried[stop - start :]

    def _fits_beside(self, carried: Sequence[_Unit], unit: _Unit) -> bool:
        counts = sum((each.counts for each in (*carried, unit)), NO_COUNTS)
        sizes, images = ([each.size_bytes for each in (*carried, unit)], [each.images for each in (*carried, unit)])
        return (
            self._safe_tokens(counts) <= self.limits.cap_tokens
            and sum(sizes) <= self.limits.max_bytes
            and (self.limits.max_images is None or sum(images) <= self.limits.max_images)
        )

    def _chunk(self, index: int, units: Sequence[_Unit], start: int, stop: int) -> Chunk:
        context = self._context(units, start, stop) if self.context_parts else []
        owned = units[start:stop]
        counts = sum((unit.counts for unit in owned), NO_COUNTS)
        answer = self.calibration.answer(counts.total)
        estimate = self.calibration.estimate(sum((unit.counts for unit in context), counts))
        return Chunk(index, tuple(unit.part for unit in owned), tuple(unit.part for unit in context), estimate, answer)

    def _estimated(self, chunk: Chunk) -> Chunk:
        counts = counts_of_chunk(chunk, self.profile, self.detail, NO_COUNTS, self.video_fps)
        answer = self.calibration.answer(owned_tokens(chunk, self.profile, self.detail, self.video_fps))
        return replace(chunk, estimate=self.calibration.estimate(counts), answer=answer)

    def _dear(self, chunk: Chunk) -> Problem:
        first = chunk.owned[0]
        what = f"{first.kind} {first.number}" if len(chunk.owned) == 1 else "the file"
        message = (
            f"{what} alone may take {self.estimate(chunk).safe:,} input tokens, more than the"
            f" {self.limits.cap_tokens:,} of a request at the lower price, and cannot be cut: it is sent at the higher"
        )
        return Problem("planning", "dear_tier", message, first.index if len(chunk.owned) == 1 else None)

    def _too_large(self, part: Part) -> Problem:
        message = f"{part.kind} {part.number} alone exceeds the {self.limits.window_tokens:,} input tokens of the model"
        return Problem("planning", "too_large", f"{message}, and cannot be cut", part.index)


def plan_chunks(
    document: Document,
    profile: Profile,
    detail: Detail,
    limits: Limits,
    context_parts: int = 0,
    calibration: Calibration | None = None,
) -> tuple[Chunk, ...]:
    """Chunks of a document: `Planner.plan` without its problems."""
    return Planner(profile, detail, limits, context_parts, calibration or NO_REPLIES).plan(document).chunks


def split_chunk(chunk: Chunk) -> tuple[Chunk, ...]:
    """The two halves of a chunk, by number of parts; a chunk of one part cannot be split and comes back alone.

    The halves keep the index of the chunk they come from; context parts stay with the half they adjoin.
    """
    if len(chunk.owned) < 2:
        return (chunk,)
    middle = len(chunk.owned) // 2
    first, second = chunk.owned[:middle], chunk.owned[middle:]
    before = tuple(part for part in chunk.context if _place(part) < _place(first[0]))
    after = tuple(part for part in chunk.context if _place(part) > _place(second[-1]))
    share = Estimate(chunk.estimate.expected // 2, chunk.estimate.safe // 2)
    answer = Estimate(chunk.answer.expected // 2, chunk.answer.safe // 2)
    return (
        Chunk(chunk.index, first, before, share, answer),
        Chunk(chunk.index, second, after, share, answer),
    )


def partition_to_json(chunks: Sequence[Chunk]) -> list[dict[str, list[list[int]]]]:
    """Which parts each chunk owns and carries, to be kept so that a rerun asks the same: nothing is paid twice.

    Runs of whole parts are `[first, last]` by index, pieces `[index, index, piece, pieces]`.
    """
    return [{"owned": _to_spans(chunk.owned), "context": _to_spans(chunk.context)} for chunk in chunks]


def _to_spans(parts: Sequence[Part]) -> list[list[int]]:
    spans: list[list[int]] = []
    for part in parts:
        if part.pieces > 1:
            spans.append([part.index, part.index, part.piece, part.pieces])
        elif spans and len(spans[-1]) == 2 and spans[-1][1] == part.index - 1:
            spans[-1][1] = part.index
        else:
            spans.append([part.index, part.index])
    return spans


def _read_partition(document: Document, pinned: Any) -> tuple[Chunk, ...] | None:
    by_index = {part.index: part for part in document.parts}
    try:
        return tuple(
            Chunk(index, _from_spans(by_index, chunk["owned"]), _from_spans(by_index, chunk["context"]))
            for index, chunk in enumerate(pinned)
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


def _from_spans(by_index: dict[int, Part], spans: Sequence[Sequence[int]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for first, last, *cut in spans:
        if cut:
            parts.append(split_part(by_index[first], cut[1])[cut[0]])
        else:
            parts += [by_index[index] for index in range(first, last + 1) if by_index[index].error is None]
    return tuple(parts)


def _owns_all(document: Document, chunks: Sequence[Chunk]) -> bool:
    owned: dict[int, list[Part]] = {}
    for chunk in chunks:
        for part in chunk.owned:
            owned.setdefault(part.index, []).append(part)
    whole = all(
        [part.piece for part in parts] == list(range(parts[0].pieces))
        and {part.pieces for part in parts} == {len(parts)}
        for parts in owned.values()
    )
    return (
        whole
        and all(chunk.owned for chunk in chunks)
        and set(owned) == {part.index for part in document.parts if part.error is None}
    )


def _size_bytes(part: Part, profile: Profile, document: Document) -> int:
    """Bytes of the part in the request body: base64 makes four of three, JSON may escape each character.

    An image is squeezed to the profile's bytes, and takes no more than a byte for each pixel.
    """
    if part.mode == "native":
        total_s = sum(each.moments[-1].end_s - each.moments[0].start_s for each in document.parts if each.moments)
        own_s = part.moments[-1].end_s - part.moments[0].start_s if part.moments else 0.0
        return 200 + round(document.source.size_bytes * (own_s / total_s if total_s else 1.0)) * 4 // 3
    size = 200
    if part.mode != "image":
        size += 6 * part.text.chars + part.text.spaces * 8
    if part.mode != "text":
        pixels = part.width_px * part.height_px // part.pieces
        size += min(profile.image_bytes, pixels or profile.image_bytes) * 4 // 3 + 4
    return size


def _is_whole_file(parts: Sequence[Part]) -> bool:
    """Whether the parts are the pages of a file that is handed over as it is."""
    return any(part.mode == "native" and part.kind == "page" for part in parts)


def _place(part: Part) -> tuple[int, int]:
    return part.index, part.piece


def _prices(tier: Tier) -> tuple[int, int]:
    """Whole numbers for the prices of a tier; where it is free, relative ones, so that tokens are still saved."""
    prices = (round(tier.input_usd_per_million * _PRICE_SCALE), round(tier.output_usd_per_million * _PRICE_SCALE))
    return prices if any(prices) else _RELATIVE_PRICES


def _sums(values: Sequence[int]) -> list[int]:
    return list(accumulate(values, initial=0))
