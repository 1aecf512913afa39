"""Chunks: every part is sent once, no request passes a limit, and no other partition is cheaper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.planning.chunks import Planner, partition_to_json, plan_chunks, request_limits, split_chunk
from ingest.planning.tokens import Counts, count_part, estimate_image, estimate_part, estimate_video
from ingest.profile import FileRule, Profile, Tier, VideoRule
from ingest.types import Chunk, Document, Estimate, Moment, Part, Problem, TextStats
from tests.planned import PROFILE, document_of, paper, planner, served_tokens


def _part(index: int, mode: str, words: int, broken: bool = False, soft: bool = False) -> Part:
    error = Problem("read", "unreadable", "broken", index) if broken else None
    stats = TextStats(chars=words * 5, words=words)
    return Part(index, "page", mode, text=stats, section="A" if soft else None, error=error)  # type: ignore[arg-type]


_parts = st.lists(
    st.tuples(st.sampled_from(["text", "image", "both"]), st.integers(0, 20_000), st.booleans()), max_size=60
).map(lambda rows: [_part(index, *row) for index, row in enumerate(rows)])


@given(_parts, st.integers(1_000, 120_000), st.integers(0, 2))
def test_every_readable_part_is_owned_exactly_once(parts: list[Part], target: int, context_parts: int) -> None:
    """A part owned twice doubles its rows, a part owned by nobody is lost in silence."""
    limits = request_limits(PROFILE, Estimate(2_000, 2_500), target, 16_000)
    chunks = plan_chunks(document_of(parts), PROFILE, "high", limits, context_parts)
    owned = [(part.index, part.piece) for chunk in chunks for part in chunk.owned]
    assert len(set(owned)) == len(owned)
    assert sorted({index for index, _ in owned}) == [part.index for part in parts if part.error is None]
    assert owned == sorted(owned)
    for chunk in chunks:
        assert not {part.key for part in chunk.owned} & {part.key for part in chunk.context}


@given(_parts, st.integers(2_000, 120_000))
def test_only_a_part_too_big_alone_passes_the_target(parts: list[Part], target: int) -> None:
    """A user who wants small requests gets them wherever it can be."""
    limits = request_limits(PROFILE, Estimate(1_000, 1_000), target, 16_000)
    for chunk in plan_chunks(document_of(parts), PROFILE, "high", limits):
        assert len(chunk.owned) == 1 or chunk.estimate.expected <= limits.target_tokens


_pages = st.lists(
    st.tuples(
        st.sampled_from(["text", "image", "both"]), st.integers(0, 900), st.sampled_from(["en", "de", "zh", "table"])
    ),
    min_size=1,
    max_size=40,
)


@given(_pages, st.integers(0, 2), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_by_the_servers_own_count_every_request_is_cheap(
    pages: list[tuple[str, int, str]], context_parts: int, seed: int
) -> None:
    """The promise on price, judged by a counter that shares nothing with the estimator: pages of up to 900 lines."""
    each = paper(pages, seed)
    layout = planner(context_parts=context_parts).plan(each.document)
    assert not layout.problems
    for chunk in layout.chunks:
        assert served_tokens(each, chunk) < 128_000


def test_a_page_too_big_alone_is_cut_before_the_dear_tier_is_used() -> None:
    """A plan of a plant with 200,000 tokens of text would cost double; its pieces do not."""
    each = paper([("text", 5, "en"), ("both", 9_000, "table"), ("text", 5, "en")])
    plan = planner()
    layout = plan.plan(each.document)
    pieces = [part for chunk in layout.chunks for part in chunk.owned if part.index == 1]
    assert len(pieces) > 1
    assert [part.piece for part in pieces] == list(range(pieces[0].pieces))
    assert not layout.problems
    assert all(served_tokens(each, chunk) < 128_000 for chunk in layout.chunks)
    assert plan.restore(each.document, json.loads(json.dumps(partition_to_json(layout.chunks)))) == layout.chunks


def test_what_cannot_be_cut_uses_the_dear_tier_and_is_told() -> None:
    """The one case in which a request may cost double is named in the record."""
    profile = PROFILE.model_copy(update={"files": FileRule(max_pages=200)})
    plan = replace(planner(), profile=profile)
    parts = [Part(index, "page", "native") for index in range(110)]
    layout = plan.plan(document_of(parts))
    assert [len(chunk.owned) for chunk in layout.chunks] == [110]
    assert [problem.code for problem in layout.problems] == ["dear_tier"]
    assert plan.replan(document_of(parts), layout.chunks[0]) == layout.chunks
    too_many = plan.plan(document_of([Part(index, "page", "native") for index in range(190)]))
    assert not too_many.chunks
    assert [problem.code for problem in too_many.problems] == ["too_large"]


@given(st.lists(st.integers(0, 400_000), min_size=1, max_size=12), st.integers(1_000, 120_000))
@settings(max_examples=40, deadline=None)
def test_no_request_passes_the_window(words: list[int], target: int) -> None:
    """Beyond the window the server refuses, and the upload was for nothing."""
    plan = planner(target_tokens=target)
    layout = plan.plan(document_of([_part(index, "text", count) for index, count in enumerate(words)]))
    for chunk in layout.chunks:
        assert plan.estimate(chunk).safe <= PROFILE.max_input_tokens


def _tiers(*caps: int) -> tuple[Tier, ...]:
    prices = ("0.31", "0.63", "1.26")[-len(caps) :]
    return tuple(
        Tier(max_input_tokens=cap, input_usd_per_million=Decimal(price), output_usd_per_million=6 * Decimal(price))
        for cap, price in zip(caps, prices, strict=True)
    )


_PROFILES = [
    PROFILE,
    PROFILE.model_copy(update={"tiers": ()}),
    PROFILE.model_copy(update={"tiers": _tiers(32_000, 127_999, 224_000)}),
    PROFILE.model_copy(update={"tiers": _tiers(224_000), "max_images_per_request": 3}),
]
_small = st.lists(
    st.tuples(st.sampled_from(["text", "image", "both"]), st.integers(0, 40_000), st.just(False), st.booleans()),
    min_size=1,
    max_size=8,
).map(lambda rows: [_part(index, *row) for index, row in enumerate(rows)])


@given(_small, st.sampled_from(_PROFILES), st.integers(0, 2), st.sampled_from([9_000, 40_000, 120_000]))
@settings(max_examples=120, deadline=None)
def test_no_partition_is_cheaper_than_the_planned_one(
    parts: list[Part], profile: Profile, context_parts: int, target: int
) -> None:
    """The planner's cost is that of the best of all partitions, tried one by one; so are its cuts and its evenness."""
    limits = request_limits(profile, Estimate(3_000, 3_900), target, 16_000)
    limits = replace(limits, max_bytes=4_000_000)
    plan = Planner(profile, "high", limits, context_parts)
    planned = [(chunk.owned[0].index, chunk.owned[-1].index + 1) for chunk in plan.plan(document_of(parts)).chunks]
    best = min(
        (_price(plan, parts, runs) for runs in _partitions(len(parts)) if _is_allowed(plan, parts, runs)),
        key=lambda price: (price[0], price[1]),
    )
    cost, cuts, _ = _price(plan, parts, planned)
    assert (cost, cuts) == best[:2]


def _partitions(count: int) -> Iterator[list[tuple[int, int]]]:
    for mask in range(2 ** (count - 1)):
        places = [0, *(at for at in range(1, count) if mask >> (at - 1) & 1), count]
        yield list(pairwise(places))


def _carried(plan: Planner, parts: Sequence[Part], start: int, stop: int) -> list[Part]:
    """A run with its context: all of it beside several parts, what fits beside one."""
    near = plan.context_parts
    if stop - start > 1 or _fits(plan, parts[max(0, start - near) : stop + near]):
        return list(parts[max(0, start - near) : stop + near])
    carried = list(parts[start:stop])
    for distance in range(1, near + 1):
        for at in (start - distance, stop + distance - 1):
            if 0 <= at < len(parts) and _fits(plan, [*carried, parts[at]]):
                carried.append(parts[at])
    return carried


def _fits(plan: Planner, parts: Sequence[Part]) -> bool:
    counts = [count_part(part, plan.profile, "high") for part in parts]
    images = sum(part.mode != "text" for part in parts)
    size = (
        sum(204 + (part.mode != "image") * 30 * part.text.words for part in parts)
        + images * 600_000
        - 4 * (len(parts) - images)
    )
    total, safe = sum(each.total for each in counts), 3_900 + sum(each.total_safe for each in counts)
    return (
        max(safe, 1.06 * (3_000 + total)) <= plan.limits.cap_tokens
        and total <= plan.limits.target_tokens
        and size <= plan.limits.max_bytes
        and images <= (plan.limits.max_images or images)
    )


def _is_allowed(plan: Planner, parts: Sequence[Part], runs: list[tuple[int, int]]) -> bool:
    """Several parts share a request only when that fits, with its context and its answer."""
    return all(
        stop - start == 1
        or (
            _fits(plan, _carried(plan, parts, start, stop))
            and 300 + 0.25 * sum(count_part(part, plan.profile, "high").total for part in parts[start:stop]) <= 16_000
        )
        for start, stop in runs
    )


def _price(plan: Planner, parts: Sequence[Part], runs: list[tuple[int, int]]) -> tuple[Decimal, int, int]:
    total, heaviest = Decimal(0), 0
    for start, stop in runs:
        carried = [count_part(part, plan.profile, "high") for part in _carried(plan, parts, start, stop)]
        owned = sum(count_part(part, plan.profile, "high").total for part in parts[start:stop])
        expected = 3_000 + sum(each.total for each in carried)
        safe = max(3_900 + sum(each.total_safe for each in carried), Decimal("1.06") * expected)
        tiers = [tier for tier in plan.profile.tiers if safe <= tier.max_input_tokens] or plan.profile.tiers[-1:]
        prices = (tiers[0].input_usd_per_million, tiers[0].output_usd_per_million) if tiers else (1, 6)
        total += expected * prices[0] + (300 + owned * Decimal("0.25")) * prices[1]
        heaviest = max(heaviest, owned)
    cuts = sum(parts[start].section is None for start, _ in runs if start)
    return total, cuts, heaviest


def test_chunks_begin_at_headings_where_that_costs_nothing() -> None:
    """A chapter in one request is read better than one torn in two, and two requests are needed anyway."""
    parts = [_part(index, "image", 0, soft=index == 25) for index in range(40)]
    limits = replace(planner().limits, max_images=30)
    chunks = replace(planner(), limits=limits).plan(document_of(parts)).chunks
    assert [chunk.owned[0].index for chunk in chunks] == [0, 25]


def test_the_default_plan_stays_under_the_price_step_in_even_chunks() -> None:
    """400 scanned pages must be billed at the cheap tier, and no request be left with a rest."""
    limits = request_limits(PROFILE, Estimate(3_000, 4_000), None, PROFILE.default_output_tokens)
    plan = Planner(PROFILE, "high", limits)
    chunks = plan.plan(document_of([_part(i, "image", 0) for i in range(400)])).chunks
    assert max(plan.estimate(chunk).safe for chunk in chunks) < 128_000
    sizes = [len(chunk.owned) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 0.2 * max(sizes)


def test_a_plan_is_the_same_every_time() -> None:
    """Request keys come from the plan: another plan would buy every answer again."""
    parts = [_part(i, "both", 3_000 * (i % 7)) for i in range(80)]
    one, two = (planner(context_parts=1).plan(document_of(list(parts))) for _ in range(2))
    assert one == two
    assert partition_to_json(one.chunks) == partition_to_json(two.chunks)


def test_an_answer_too_long_for_max_tokens_is_split_beforehand() -> None:
    """A cut-off answer is paid for and then asked for again."""
    parts = [_part(index, "text", 3_000) for index in range(20)]
    limits = request_limits(PROFILE, Estimate(2_000, 2_500), None, 4_000)
    for chunk in plan_chunks(document_of(parts), PROFILE, "high", limits):
        assert chunk.answer.expected <= 4_000


def test_a_partition_written_down_is_restored_or_refused() -> None:
    """A rerun must ask what was asked before, whatever calibration has learned since; but never leave a page out."""
    document = document_of([_part(index, "image", 0, broken=index == 3) for index in range(90)])
    plan = planner(context_parts=1)
    chunks = plan.plan(document).chunks
    pinned = json.loads(json.dumps(partition_to_json(chunks)))
    assert plan.restore(document, pinned) == chunks
    assert plan.restore(document, pinned[1:]) is None
    assert plan.restore(document, [*pinned, pinned[0]]) is None
    assert plan.restore(document_of(document.parts[:50]), pinned) is None
    for nonsense in (
        None,
        3,
        "x",
        {},
        [{}],
        [{"owned": [[1]], "context": []}],
        [{"owned": [["a", "b"]], "context": []}],
    ):
        assert plan.restore(document, nonsense) is None


def test_splitting_keeps_every_part() -> None:
    """A cut-off answer is asked for again in halves; nothing may fall between them."""
    parts = tuple(_part(i, "text", 10) for i in range(5))
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
    assert estimate_image(420, 420, PROFILE.images["low"], rule) == Estimate(100, 1280)


def test_a_clip_costs_what_its_frames_share_of_the_budget() -> None:
    """A five-second clip has at least 16 frames at 384 tokens, an hour 1280 frames at 64; stamps come on top."""
    rule = VideoRule()
    assert estimate_video(5, 1, rule, (12, 15)) == Estimate(16 * 384 + 16 * 12, 16 * 384 + 16 * 15)
    assert estimate_video(3_600, 1, rule, (12, 15)).expected == 1280 * 64 + 1280 * 12
    clip = Part(0, "clip", "native", moments=(Moment(0, 1, 1, 0.0, 0.0, 60.0),))
    assert count_part(clip, PROFILE, "low", 1.0).expected[3] == 61 * 384 + 61 * 12


def test_frames_are_planned_for_the_case_that_their_detail_is_not_honoured() -> None:
    """If the gateway drops `low`, every frame costs 1280 tokens, and ninety fill the cheap tier."""
    frames = [
        Part(i, "frame", "image", width_px=420, height_px=420, moments=(Moment(i, 1, 1, i, i, i + 1),))
        for i in range(300)
    ]
    plan = replace(planner(), detail="low")
    for chunk in plan.plan(document_of(frames)).chunks:
        assert plan.limits.preamble.total_safe + 1280 * len(chunk.owned) < 128_000


def test_text_costs_less_than_an_image_of_it() -> None:
    """The reason why plain pages go as text."""
    text = estimate_part(_part(0, "text", 600), PROFILE, "high")
    image = estimate_part(_part(0, "image", 0), PROFILE, "high")
    assert text.expected < image.expected


def test_a_preamble_that_leaves_no_room_is_told_before_anything_is_sent() -> None:
    """A schema of thousands of fields would make every request dear, or too long."""
    with pytest.raises(ConfigError, match="fewer fields"):
        request_limits(PROFILE, Estimate(120_000, 127_000), None, 16_000)


def test_counts_add_up() -> None:
    """What the ledger keeps of a request is the sum of its parts."""
    one, two = Counts.of("text", Estimate(5, 7)), Counts.of("image", Estimate(1280, 1280))
    assert (one + two).pairs() == (("text", 5), ("image", 1280))
    assert ((one + two).total, (one + two).total_safe) == (1285, 1287)


def test_an_empty_document_has_no_chunks() -> None:
    """Nothing readable, nothing sent."""
    assert planner().plan(document_of([_part(0, "text", 5, broken=True)])).chunks == ()
    assert isinstance(planner().plan(document_of([])).chunks, tuple)
    assert isinstance(document_of([]), Document)
