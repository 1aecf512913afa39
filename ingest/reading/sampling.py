"""Which frames of a video are looked at, from the stamps and sizes of its packets alone. Nothing is decoded here.

Times follow the picture: second 0 is the first frame that is shown, whatever the container calls it.
"""

from __future__ import annotations

import math
import statistics
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from ingest.config import FPS_BOUNDS

MIN_FPS, MAX_FPS = FPS_BOUNDS

SNAP_FROM_S = 2.0
"""Frames this far apart need not be taken at their very time when that saves decoding: a keyframe nearby needs no other
frame, and a frame shortly behind a keyframe few."""
SNAP_SHARE = 0.5
"""The tolerance of snapping: this share of the distance between frames. At half, no two frames meet and order holds."""

SCOUT_GAP_S = 1.0
"""Keyframes of a regular rhythm are looked at this far apart for scene cuts between sampled frames."""
_CUT_GAP_S = 1 / MAX_FPS
"""Frames that announce a cut by themselves are looked at this far apart at most: flicker must not pass the rate."""
_SPIKE = 6.0
"""A frame in the middle of a group this many times as large as its neighbours' median was drawn anew: a cut."""
_SPIKE_KEY_SHARE = 0.3
"""And it is at least this share of a keyframe, so that a ball rolling into a still picture is no cut."""
_SPIKE_WINDOW = 24
_EARLY = 0.9
"""A keyframe after less than this share of the usual number of frames came early: the encoder saw a cut."""

_LIVELY = 0.25
"""Mean size of a frame between keyframes, as a share of the keyframes', from which a picture counts as all motion.
Slides measure below 0.01, a talking head 0.03 to 0.1, sports and street scenes 0.2 and more."""
_CALM_FPS, _LIVELY_FPS = 1.0, 2.0
"""What `auto` takes of still pictures and of lively ones: more than two frames a second of the same scene tell a reader
little that two do not, and frames at cuts come on top. A higher --fps is for those who need a moment exactly."""
_FILL = 0.9
"""Share of a request that evenly spaced frames may fill: the rest is for frames at scene cuts."""

_SPAN_CANDIDATES = 32
_SPAN_FRAMES = 500

CandidateKind = Literal["even", "cut", "scout"]
"""Why a frame is looked at: `even` is kept unless it repeats what was seen; `cut` announced itself by its size, and is
kept when it shows something new; `scout` is kept only when it shows another scene."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The packets of a video stream: stamps of its frames in the order shown, each once, and their encoded sizes.

    `keys` are the stamps at which decoding can begin, ascending. Frames shown before the first of them, or all when
    there is none, are decoded from the first packet on, whose stamp is `anchor_first`. `end` is the stamp at which the
    last frame ends.
    """

    stamps: Sequence[int]
    sizes: Sequence[int]
    keys: Sequence[int]
    anchor_first: int
    end: int
    time_base: Fraction

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame shown to the end of the last."""
        return float((self.end - self.stamps[0]) * self.time_base)

    def seconds(self, stamp: int) -> float:
        """Time of a stamp from the start of the video."""
        return float((stamp - self.stamps[0]) * self.time_base)

    def anchor(self, stamp: int) -> int:
        """The stamp of the keyframe from which a frame is decoded."""
        at = bisect_right(self.keys, stamp) - 1
        return self.keys[at] if at >= 0 else self.anchor_first


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame to look at, by stamp; `anchor` is the stamp of the keyframe where its decoding begins."""

    stamp: int
    anchor: int
    kind: CandidateKind


def make_timeline(packets: Iterable[tuple[int, int, int, bool]], time_base: Fraction) -> Timeline:
    """The timeline of packets given as (stamp, duration, size, is keyframe) in the order of decoding.

    Stamps may come unsorted, twice, negative and with gaps; durations may be 0. Raises ValueError without packets.
    """
    stamps, durations, sizes, keys = array("q"), array("q"), array("q"), array("q")
    for stamp, duration, size, is_key in packets:
        stamps.append(stamp)
        durations.append(duration)
        sizes.append(size)
        if is_key:
            keys.append(stamp)
    if not stamps:
        raise ValueError("no packets")
    order = sorted(range(len(stamps)), key=stamps.__getitem__)
    # A stamp that comes twice counts once, as its first packet.
    order = [at for place, at in enumerate(order) if not place or stamps[at] != stamps[order[place - 1]]]
    shown = array("q", (stamps[at] for at in order))
    last_duration = durations[order[-1]]
    if last_duration <= 0:
        gaps = [after - before for before, after in pairwise(shown)]
        last_duration = statistics.median_low(gaps) if gaps else max(1, round(Fraction(1, 25) / time_base))
    ordered = array("q", sorted(set(keys)))
    end = shown[-1] + last_duration
    return Timeline(shown, array("q", (sizes[at] for at in order)), ordered, stamps[0], end, time_base)


def motion(timeline: Timeline) -> float:
    """How much of the picture changes from frame to frame, 0 to 1, judged by what the encoder spent on it.

    Mean size of frames between keyframes over the mean size of keyframes. Streams of keyframes alone say nothing: 0.2.
    """
    keys = set(timeline.keys)
    key_sizes = [size for stamp, size in zip(timeline.stamps, timeline.sizes, strict=True) if stamp in keys]
    others = len(timeline.stamps) - len(key_sizes)
    if not key_sizes or others < len(key_sizes):
        return 0.2
    between = (sum(timeline.sizes) - sum(key_sizes)) / others
    return min(1.0, between / max(1.0, sum(key_sizes) / len(key_sizes)))


def auto_fps(timeline: Timeline, frames_per_request: int, max_frames: int) -> float:
    """The rate of `--fps auto`: as many frames as the fewest requests hold, and no more than the motion is worth.

    The fewest requests are those of the lowest rate. Still pictures repeat themselves, and repeats are dropped before
    anything is sent, so they are looked at more often than the budget alone would allow.
    """
    duration_s = max(timeline.duration_s, 1e-6)
    lively = motion(timeline) / _LIVELY
    kept_share = min(1.0, max(0.2, lively))
    per_request = max(1.0, frames_per_request * _FILL)
    requests = math.ceil(MIN_FPS * duration_s * kept_share / per_request)
    fitting = requests * per_request / (duration_s * kept_share)
    worth = _CALM_FPS + (_LIVELY_FPS - _CALM_FPS) * min(1.0, lively)
    bounded = min(fitting, worth, max_frames * _FILL / duration_s)
    return min(MAX_FPS, max(MIN_FPS, bounded))


def pick_evenly(timeline: Timeline, fps: float) -> list[int]:
    """Stamps of the frames nearest to 0, 1/fps, 2/fps …, each once, ascending: each within half the distance between
    its neighbours in the source. From `SNAP_FROM_S` on, one within the tolerance that costs less decoding is taken
    instead: the nearest keyframe, or else the frame that comes first after the keyframe before."""
    origin, spacing_s = timeline.stamps[0], 1 / fps
    count = max(1, math.ceil(timeline.duration_s * fps - 1e-9))
    tolerance = int(Fraction(spacing_s * SNAP_SHARE) / timeline.time_base) if spacing_s >= SNAP_FROM_S else 0
    step = Fraction(spacing_s).limit_denominator(1_000_000) / timeline.time_base
    picked: list[int] = []
    for position in range(count):
        wanted = origin + round(position * step)
        stamp = _nearest(timeline.stamps, wanted)
        if tolerance and timeline.keys:
            stamp = _snapped(timeline, wanted, tolerance)
        if not picked or stamp > picked[-1]:
            picked.append(stamp)
    if picked[0] != origin:
        picked.insert(0, origin)
    return picked


def choose(timeline: Timeline, fps: float) -> tuple[Candidate, ...]:
    """All frames to look at, ascending: evenly spaced ones, those that announce a cut, and scouts between them."""
    kinds: dict[int, CandidateKind] = {}
    for stamp in _scouts(timeline):
        kinds[stamp] = "scout"
    for stamp in _announced_cuts(timeline):
        kinds[stamp] = "cut"
    for stamp in pick_evenly(timeline, fps):
        kinds[stamp] = "even"
    return tuple(Candidate(stamp, timeline.anchor(stamp), kinds[stamp]) for stamp in sorted(kinds))


def split(timeline: Timeline, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], ...]:
    """The candidates in stretches of about equal work for workers side by side, none of which divides a group of
    frames that is decoded together. They depend on the video alone, so any number of workers finds the same frames."""
    spans: list[list[Candidate]] = []
    frames = 0
    for candidate in candidates:
        start = spans[-1][0].anchor if spans else candidate.anchor
        frames = bisect_left(timeline.stamps, candidate.stamp) - bisect_left(timeline.stamps, start)
        is_full = spans and (len(spans[-1]) >= _SPAN_CANDIDATES or frames >= _SPAN_FRAMES)
        if not spans or (is_full and candidate.anchor > spans[-1][-1].stamp):
            spans.append([])
        spans[-1].append(candidate)
    return tuple(tuple(span) for span in spans)


def tile(times_s: Sequence[float], duration_s: float) -> tuple[tuple[float, float], ...]:
    """The interval that each of these ascending times stands for: from itself to the next, the first from 0."""
    starts = [0.0, *times_s[1:]]
    return tuple(pairwise([*starts, max(duration_s, starts[-1])])) if times_s else ()


def _nearest(stamps: Sequence[int], wanted: int) -> int:
    """The stamp nearest to the one wanted; the earlier of two."""
    at = bisect_left(stamps, wanted)
    if at == 0:
        return stamps[0]
    if at == len(stamps):
        return stamps[-1]
    before, after = stamps[at - 1], stamps[at]
    return after if after - wanted < wanted - before else before


def _snapped(timeline: Timeline, wanted: int, tolerance: int) -> int:
    """The cheapest frame strictly within the tolerance, so that no two wanted times share one."""
    key = _nearest(timeline.keys, wanted)
    if abs(key - wanted) < tolerance:
        return key
    at = bisect_right(timeline.stamps, wanted - tolerance)
    return (
        timeline.stamps[at]
        if at < len(timeline.stamps) and timeline.stamps[at] <= wanted
        else _nearest(timeline.stamps, wanted)
    )


def _announced_cuts(timeline: Timeline) -> list[int]:
    """Frames that the encoder drew anew out of its rhythm: keyframes before their time, and very large others."""
    found = _spikes(timeline)
    positions = [bisect_left(timeline.stamps, key) for key in timeline.keys]
    distances = [after - before for before, after in pairwise(positions)]
    # Keyframes so dense that their places tell nothing are left to the scouts.
    if distances and len(positions) * 8 <= len(timeline.stamps):
        usual = max(*distances, len(timeline.stamps) - positions[-1])
        found += [key for key, gap in zip(timeline.keys[1:], distances, strict=True) if gap < usual * _EARLY]
    return _spaced(sorted(found), timeline, _CUT_GAP_S)


def _spikes(timeline: Timeline) -> list[int]:
    """Frames between keyframes that are far larger than those around them."""
    if not timeline.keys or len(timeline.keys) * 2 > len(timeline.stamps):
        return []
    keys = set(timeline.keys)
    key_sizes = [size for stamp, size in zip(timeline.stamps, timeline.sizes, strict=True) if stamp in keys]
    floor = _SPIKE_KEY_SHARE * statistics.median(key_sizes)
    found = []
    for at, (stamp, size) in enumerate(zip(timeline.stamps, timeline.sizes, strict=True)):
        if size < floor or stamp in keys:
            continue
        around = timeline.sizes[max(0, at - _SPIKE_WINDOW) : at + _SPIKE_WINDOW]
        if size > _SPIKE * statistics.median(around):
            found.append(stamp)
    return found


def _scouts(timeline: Timeline) -> list[int]:
    return _spaced(timeline.keys, timeline, SCOUT_GAP_S)


def _spaced(stamps: Iterable[int], timeline: Timeline, gap_s: float) -> list[int]:
    gap = Fraction(gap_s) / timeline.time_base
    taken: list[int] = []
    for stamp in stamps:
        if not taken or stamp - taken[-1] >= gap:
            taken.append(stamp)
    return taken
