"""Calibration: what replies teach about token counts, and that no request crosses the price step by surprise."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.planning.calibration import Calibration
from ingest.planning.chunks import Planner
from ingest.planning.tokens import Counts
from ingest.types import Estimate, Observation, Usage
from tests.planned import PROFILE, Paper, paper, planner, served_tokens

CAP = PROFILE.tiers[0].max_input_tokens
_KINDS = ("en", "de", "table")


def _papers(rng: random.Random, count: int) -> list[Paper]:
    """Documents of one to forty pages, of all modes and kinds of text."""
    found = []
    for seed in range(count):
        kind, mode = rng.choice(_KINDS), rng.choice(("text", "image", "both", "mixed"))
        modes = ("text", "image", "both") if mode == "mixed" else (mode,)
        pages = [(rng.choice(modes), rng.randint(5, 60), kind) for _ in range(rng.choice((1, 1, 2, 5, 40)))]
        found.append(paper(pages, seed))
    return found


def _serve(papers: list[Paper], skew: Mapping[str, float]) -> tuple[list[int], list[float], Calibration]:
    """Ask for all papers in turn: tokens counted by the server, relative errors of what was expected."""
    observations: list[Observation] = []
    counted, errors = [], []
    for each in papers:
        plan: Planner = replace(planner(), calibration=Calibration.of(observations))
        for chunk in plan.plan(each.document).chunks:
            tokens = served_tokens(each, chunk, skew)
            counted.append(tokens)
            errors.append(plan.estimate(chunk).expected / tokens - 1)
            observations.append(plan.observe(chunk, Usage(tokens, 900)))
    return counted, errors, Calibration.of(observations)


@pytest.mark.parametrize(
    ("text", "image"), [(1.0, 1.0), (1.2, 0.8), (0.8, 1.2), (1.2, 1.2), (0.8, 0.8), (1.06, 1.0), (0.9, 1.15)]
)
def test_after_twenty_replies_input_is_predicted_within_five_percent(text: float, image: float) -> None:
    """The bill is known beforehand only when the tokens are, however the server counts each kind of content."""
    papers = _papers(random.Random(5), 60)
    _, errors, calibration = _serve(papers, {"text": text, "image": image})
    late = sorted(abs(error) for error in errors[20:])
    assert late[int(0.95 * len(late))] <= 0.05
    assert calibration.error_band <= 0.08


@pytest.mark.parametrize("text", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("image", [0.8, 1.0, 1.2])
def test_after_twenty_replies_no_request_crosses_the_price_step(text: float, image: float) -> None:
    """One token too many doubles the price of the whole request; these are as full as the planner makes them."""
    skew = {"text": text, "image": image}
    _, _, calibration = _serve(_papers(random.Random(7), 24), skew)
    assert calibration.replies >= 20
    # No limit on bytes: only tokens are to hold the requests.
    plan = replace(planner(calibration), limits=replace(planner().limits, max_bytes=10**9))
    for mode, kind, lines in (("image", "en", 0), ("text", "table", 60), ("text", "en", 60), ("both", "de", 60)):
        each = paper([(mode, lines, kind)] * 200, seed=1)
        chunks = plan.plan(each.document).chunks
        assert len(chunks) > 1
        assert served_tokens(each, chunks[0], skew) <= CAP


@given(st.floats(0.7, 1.06), st.sampled_from(["image", "text", "both"]), st.sampled_from(_KINDS), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_first_request_stays_cheap_when_the_server_counts_six_percent_more(
    factor: float, mode: str, kind: str, seed: int
) -> None:
    """Nothing is known yet, and already the first request can cost double."""
    plan = planner()
    plan = replace(plan, limits=replace(plan.limits, max_bytes=10**9))
    each = paper([(mode, 60, kind)] * 110, seed)
    for chunk in plan.plan(each.document).chunks:
        assert plan.estimate(chunk).expected * factor <= CAP


def test_replanning_splits_a_chunk_that_replies_made_too_big() -> None:
    """A document planned before the first reply is still sent cheap when replies show that the server counts more."""
    before = replace(planner(), limits=replace(planner().limits, max_bytes=10**9))
    each = paper([("image", 0, "en")] * 180)
    chunk = before.plan(each.document).chunks[0]
    replies = [Observation((("image", 12_800), ("fixed", 2_000)), 13_000, 17_360, 500)] * 3
    after = replace(before, calibration=Calibration.of(replies))
    split = after.replan(each.document, chunk)
    assert len(split) > 1
    assert [part for each in split for part in each.owned] == list(chunk.owned)
    assert all(served_tokens(each, one, {"image": 1.2}) <= CAP for one in split)
    assert before.replan(each.document, chunk) == (chunk,)


def test_without_replies_the_profile_and_the_margin_hold() -> None:
    """The margin is the user's setting, and the profile's safe rules are a floor below it."""
    images = Counts.of("image", Estimate(100_000, 100_000))
    assert Calibration.of((), 0.06).estimate(images) == Estimate(100_000, 106_000)
    assert Calibration.of((), 0.1).estimate(images) == Estimate(100_000, 110_000)
    text = Counts.of("text", Estimate(100_000, 130_000))
    assert Calibration.of((), 0.06).estimate(text) == Estimate(100_000, 130_000)
    assert Calibration.of((), 0.06).error_band == 0.06
    assert Calibration.of(()).most(images) >= 120_000


def test_the_margin_shrinks_with_evidence_and_widens_when_predictions_were_wrong() -> None:
    """A margin that never shrinks wastes money, one that never widens loses it."""
    counts = Counts.of("image", Estimate(100_000, 100_000))
    steady = [Observation((("image", 10_000 + 10 * at),), 10_000, 10_500 + 10 * at, 500) for at in range(60)]
    bands = [Calibration.of(steady[:count]).error_band for count in (0, 5, 20, 60)]
    assert all(later < earlier for earlier, later in pairwise(bands))
    assert Calibration.of(steady).estimate(counts).expected == pytest.approx(105_000, rel=0.005)
    wild = [
        replace(each, input_tokens=round(each.input_tokens * (1.15 if at % 2 else 0.9)))
        for at, each in enumerate(steady)
    ]
    assert Calibration.of(wild).error_band > 3 * Calibration.of(steady).error_band


def test_a_server_that_changes_its_counting_is_followed() -> None:
    """Models behind a name are replaced; old replies must not outvote new ones for long."""
    old = [Observation((("text", 5_000), ("fixed", 2_000)), 5_000, 7_000, 500)] * 100
    new = [Observation((("text", 5_000), ("fixed", 2_000)), 5_000, 8_050, 500)] * 80
    counts = Counts((5_000, 0, 0, 0, 0, 2_000), (6_500, 0, 0, 0, 0, 2_600))
    assert Calibration.of([*old, *new]).estimate(counts).expected == pytest.approx(8_050, rel=0.02)


def test_one_absurd_reply_does_not_move_the_estimate() -> None:
    """A gateway that once reports a nonsense count must not ruin the plan of the next thousand documents."""
    good = [Observation((("text", 5_000 + at), ("fixed", 2_000)), 5_000, 7_000 + at, 500) for at in range(30)]
    counts = Counts((50_000, 0, 0, 0, 0, 2_000), (65_000, 0, 0, 0, 0, 2_600))
    spoilt = [*good, Observation((("text", 5_000), ("fixed", 2_000)), 5_000, 900_000, 500)]
    assert Calibration.of(spoilt).estimate(counts).expected == pytest.approx(52_000, rel=0.03)
    assert Calibration.of([*good, Observation((), 0, 0, 0)]) == Calibration.of(good)


def test_the_length_of_answers_is_learned() -> None:
    """Answers cost six times as much as input, and one that does not fit max_tokens is paid for twice."""
    replies = [
        Observation((("text", 1_000 * n), ("fixed", 2_000)), 1_000 * n, 1_000 * n + 2_000, 80 + 30 * n)
        for n in range(1, 40)
    ]
    calibration = Calibration.of(replies)
    assert calibration.answer(20_000).expected == pytest.approx(680, rel=0.1)
    assert Calibration.of(()).answer(20_000).expected == 5_300
    assert calibration.answer(20_000).safe >= calibration.answer(20_000).expected


_tokens = st.tuples(*[st.integers(0, 60_000)] * 3)


@given(st.lists(st.tuples(_tokens, st.floats(0.5, 1.6)), max_size=30), _tokens, _tokens)
@settings(max_examples=60, deadline=None)
def test_more_content_never_lowers_an_estimate(
    seen: list[tuple[tuple[int, int, int], float]], some: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    """The planner looks for the longest run that fits, and relies on shorter ones fitting too."""

    def counts(text: int, image: int, fixed: int) -> Counts:
        return Counts((text, image, 0, 0, 0, fixed), (text * 13 // 10, image, 0, 0, 0, fixed))

    replies = [
        Observation(
            (("text", text), ("image", image), ("fixed", fixed)),
            text + image,
            round(factor * (text + image + fixed)),
            9,
        )
        for (text, image, fixed), factor in seen
    ]
    calibration = Calibration.of(replies)
    less, both = calibration.estimate(counts(*some)), calibration.estimate(counts(*some) + counts(*more))
    assert both.expected >= less.expected
    assert both.safe >= less.safe
    assert less.safe >= less.expected
    assert calibration.most(counts(*some)) >= less.safe
    assert Calibration.of(list(replies)).estimate(counts(*some)) == less


def test_what_is_known_is_reported_by_kind() -> None:
    """`doctor` and `plan` show how far the profile's figures are off, and how sure that is."""
    replies = [Observation((("image", 12_800), ("fixed", 700)), 12_800, 14_780, 500)] * 25
    rows = {row.kind: row for row in Calibration.of(replies).report()}
    assert set(rows) == {"image", "fixed"}
    assert rows["image"].ratio == pytest.approx(1.1, abs=0.01)
    assert rows["image"].replies == 25
