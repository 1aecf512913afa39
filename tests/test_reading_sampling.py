"""Choosing frames from stamps alone: evenly spaced, in bounds, with intervals that leave no gap."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.reading.sampling import (
    MAX_FPS,
    MIN_FPS,
    SNAP_FROM_S,
    SNAP_SHARE,
    Timeline,
    auto_fps,
    choose,
    make_timeline,
    pick_evenly,
    split,
    tile,
)

_BASE = Fraction(1, 1000)
_PACKET = st.tuples(st.integers(-100_000, 400_000), st.integers(-5, 5_000), st.integers(1, 90_000), st.booleans())
_RATE = st.floats(MIN_FPS, MAX_FPS)


def _steady(seconds: float, rate: int, key_every: int, sizes: dict[int, int] | None = None) -> Timeline:
    """A stream of even rhythm; keyframes take 20,000 bytes, the others 2,000 unless told otherwise."""
    frames = range(round(seconds * rate))
    packets = (
        (
            at * 1000 // rate,
            1000 // rate,
            (sizes or {}).get(at, 20_000 if at % key_every == 0 else 2_000),
            at % key_every == 0,
        )
        for at in frames
    )
    return make_timeline(packets, _BASE)


@settings(max_examples=300, deadline=None)
@given(packets=st.lists(_PACKET, min_size=1, max_size=60), fps=_RATE)
def test_any_stamps_give_ordered_frames_in_bounds_and_a_tiling(
    packets: list[tuple[int, int, int, bool]], fps: float
) -> None:
    """Broken clocks are common: unsorted, repeated and negative stamps, gaps, streams without keyframes."""
    timeline = make_timeline(packets, _BASE)
    candidates = choose(timeline, fps)
    stamps = [candidate.stamp for candidate in candidates]
    assert stamps == sorted(set(stamps))
    assert stamps[0] == timeline.stamps[0]
    assert set(stamps) <= set(timeline.stamps)
    assert all(candidate.anchor in timeline.keys or candidate.anchor == packets[0][0] for candidate in candidates)
    times = [timeline.seconds(stamp) for stamp in stamps]
    intervals = tile(times, timeline.duration_s)
    assert intervals[0][0] == 0.0
    assert intervals[-1][1] == timeline.duration_s
    assert all(before[1] == after[0] for before, after in pairwise(intervals))
    assert all(start <= time < end for (start, end), time in zip(intervals, times, strict=True))
    spans = split(timeline, candidates)
    assert tuple(each for span in spans for each in span) == candidates
    assert all(before[-1].anchor != after[0].anchor for before, after in pairwise(spans))


@settings(max_examples=200, deadline=None)
@given(packets=st.lists(_PACKET, min_size=1, max_size=60), fps=st.floats(1 / SNAP_FROM_S, MAX_FPS, exclude_min=True))
def test_even_frames_are_the_nearest_to_their_time(packets: list[tuple[int, int, int, bool]], fps: float) -> None:
    """Half a frame of the source is as close as one can get."""
    timeline = make_timeline(packets, _BASE)
    picked = pick_evenly(timeline, fps)
    for position in range(int(timeline.duration_s * fps)):
        wanted = timeline.stamps[0] + position / fps * 1000
        nearest = min(abs(stamp - wanted) for stamp in timeline.stamps)
        assert min(abs(stamp - wanted) for stamp in picked) <= nearest + 1


@pytest.mark.parametrize(("fps", "key_every"), [(0.2, 60), (0.2, 250), (0.5, 250), (0.25, 10_000)])
def test_low_rates_move_frames_within_the_tolerance_only(fps: float, key_every: int) -> None:
    """A keyframe nearby spares decoding; a frame for every wanted time stays all the same."""
    timeline = _steady(120, 25, key_every)
    picked = pick_evenly(timeline, fps)
    assert len(picked) == 120 * fps
    for position, stamp in enumerate(picked):
        assert abs(timeline.seconds(stamp) - position / fps) <= SNAP_SHARE / fps
        near = [key for key in timeline.keys if abs(timeline.seconds(key) - position / fps) < SNAP_SHARE / fps]
        assert not near or stamp in timeline.keys


def test_cuts_that_packets_announce_are_looked_at_at_any_rate() -> None:
    """A scene between two sampled frames is lost unless its first frame is looked at."""
    drawn_anew = {130: 15_000, 731: 16_000}
    timeline = _steady(60, 25, 250, drawn_anew)
    kinds = {candidate.stamp // 40: candidate.kind for candidate in choose(timeline, 0.2)}
    assert kinds[130] == kinds[731] == "cut"
    early = [(at * 40, 40, 9_000 if at in (0, 250, 311, 561) else 900, at in (0, 250, 311, 561)) for at in range(750)]
    kinds = {candidate.stamp // 40: candidate.kind for candidate in choose(make_timeline(early, _BASE), 0.2)}
    assert kinds[311] == "cut"


def test_flicker_does_not_pass_the_highest_rate() -> None:
    """A strobe light makes every frame a cut; the bill must stay bounded."""
    timeline = _steady(20, 50, 250, dict.fromkeys(range(3, 1000, 26), 30_000) | dict.fromkeys(range(100, 110), 18000))
    assert len(choose(timeline, 0.2)) <= 20 * MAX_FPS + 20 * 0.2 + 1


def test_auto_fits_the_fewest_requests_and_follows_the_motion() -> None:
    """The cheapest job that still sees what moves: long videos slowly, short lively ones fast."""
    lively = {at: 9_000 for at in range(1, 100_000) if at % 250}
    hour = auto_fps(_steady(3600, 10, 250, lively), 90, 20_000)
    assert hour == pytest.approx(MIN_FPS, abs=0.05)
    minute = auto_fps(_steady(60, 25, 250, lively), 90, 20_000)
    assert 1.0 < minute <= 90 / 60
    assert auto_fps(_steady(5, 25, 250, lively), 90, 20_000) == 2.0
    still = dict.fromkeys((at for at in range(15_000) if at % 250), 40)
    assert auto_fps(_steady(600, 25, 250, still), 90, 20_000) > auto_fps(_steady(600, 25, 250, lively), 90, 20_000)
    assert auto_fps(_steady(600, 25, 250, lively), 90, 150) * 600 <= 150
