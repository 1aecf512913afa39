"""Pieces of a video as small files of their own, for models that take video: copied where possible, else encoded anew.

Sound is left out: the models that take clips do not hear it, and it costs bytes (model-facts §3.3).
"""

from __future__ import annotations

import io
import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.errors import TooLarge
from ingest.reading.sampling import Candidate, Timeline
from ingest.reading.video.decoding import Decoder
from ingest.reading.video.pixels import Painter
from ingest.reading.video.stream import DAMAGE, only, stamp_of
from ingest.types import Moment, Part, Rendering

MEDIA_TYPE = "video/mp4"
_COPIED = ("h264",)
"""Codecs that every model's reader decodes; others are encoded as H.264."""
_CONTAINER_SHARE = 0.97
"""What a container adds to the packets stays below the rest."""
_ENCODED_MAX_FPS = 5
"""Models sample clips at this rate at most: a clip that is encoded anyway needs no more frames."""
_ENCODED_BITS_PER_PIXEL = 0.12
_CRF = "23"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a video: positions in the timeline, the last excluded."""

    start: int
    stop: int


def plan(timeline: Timeline, codec: str, rendering: Rendering) -> tuple[Part, ...]:
    """The clips of a video in order: each begins at a keyframe and stays within bytes and seconds, if the keyframes
    are close enough; else it begins where it must, and will be encoded."""
    parts = []
    for index, stretch in enumerate(_stretches(timeline, codec, rendering)):
        moments = _moments(timeline, stretch, rendering.clip_fps)
        parts.append(Part(index, "clip", "native", moments=moments, is_break=index > 0))
    return tuple(parts)


def _stretches(timeline: Timeline, codec: str, rendering: Rendering) -> Iterator[Stretch]:
    limit = rendering.clip_max_bytes * _CONTAINER_SHARE if codec in _COPIED else math.inf
    longest = int(Fraction(rendering.clip_max_s) / timeline.time_base)
    cuts = {bisect_left(timeline.stamps, key) for key in timeline.keys}
    start, last_key, size = 0, 0, 0
    for at, stamp in enumerate(timeline.stamps):
        if at in cuts:
            last_key = at
        size += timeline.sizes[at]
        if at > start and (size > limit or stamp - timeline.stamps[start] >= longest):
            stop = last_key if last_key > start else at
            yield Stretch(start, stop)
            start, size = stop, sum(timeline.sizes[stop : at + 1])
    yield Stretch(start, len(timeline.stamps))


def _moments(timeline: Timeline, stretch: Stretch, fps: float) -> tuple[Moment, ...]:
    """The frames that a model which samples the clip at `fps` will see, and the intervals they stand for."""
    stamps, base = timeline.stamps, timeline.time_base
    first = stamps[stretch.start]
    end = stamps[stretch.stop] if stretch.stop < len(stamps) else timeline.end
    step = Fraction(1 / fps).limit_denominator(1_000_000) / base
    picked: list[int] = []
    for position in range(max(1, math.ceil((end - first) / step))):
        at = bisect_left(stamps, first + round(position * step), stretch.start, stretch.stop)
        stamp = stamps[min(at, stretch.stop - 1)]
        if not picked or stamp > picked[-1]:
            picked.append(stamp)
    times = [timeline.seconds(stamp) for stamp in (*picked, end)]
    return tuple(
        Moment(stamp, base.numerator, base.denominator, times[at], times[at], times[at + 1])
        for at, stamp in enumerate(picked)
    )


def cut(container: InputContainer, stream: VideoStream, timeline: Timeline, part: Part, rendering: Rendering) -> bytes:
    """The bytes of a clip as MP4.

    Raises TooLarge when it stays above the limit even encoded anew.
    """
    first = part.moments[0].pts
    duration = part.moments[-1].end_s - part.moments[0].start_s
    start = bisect_left(timeline.stamps, first)
    stop = bisect_left(timeline.stamps, first + int(Fraction(duration) / timeline.time_base))
    can_copy = stream.codec_context.name in _COPIED and (start == 0 or timeline.anchor(first) == first)
    if can_copy and _is_plain(stream):
        data = _copied(container, stream, timeline, Stretch(start, stop))
        if data and len(data) <= rendering.clip_max_bytes:
            return data
    data = _encoded(container, stream, timeline, Stretch(start, stop), rendering)
    if len(data) > rendering.clip_max_bytes:
        raise TooLarge(f"a clip of {duration:.0f} s takes {len(data):,} bytes even encoded anew: send frames instead")
    return data


def _is_plain(stream: VideoStream) -> bool:
    """Whether copied packets show as they should without what the container says of rotation."""
    return stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")


def _copied(container: InputContainer, stream: VideoStream, timeline: Timeline, stretch: Stretch) -> bytes:
    file = io.BytesIO()
    first = timeline.stamps[stretch.start]
    stop = timeline.stamps[stretch.stop] if stretch.stop < len(timeline.stamps) else timeline.end
    only(container, stream)
    try:
        container.seek(timeline.anchor(first), stream=stream)
        with av.open(file, "w", format="mp4") as output:
            out = output.add_stream_from_template(stream)
            begun = False
            for packet in container.demux(stream):
                stamp = stamp_of(packet)
                if stamp is None or packet.dts is None:
                    break
                begun = begun or stamp == first
                if begun and packet.is_keyframe and stamp >= stop:
                    break
                if begun and first <= stamp < stop:
                    packet.pts, packet.dts = stamp - first, packet.dts - first
                    packet.stream = out
                    output.mux(packet)
    except DAMAGE:
        return b""
    return file.getvalue()


def _encoded(
    container: InputContainer, stream: VideoStream, timeline: Timeline, stretch: Stretch, rendering: Rendering
) -> bytes:
    """Upright, with square pixels, at the rate that models sample at most, in H.264."""
    stamps = timeline.stamps[stretch.start : stretch.stop]
    end = timeline.stamps[stretch.stop] if stretch.stop < len(timeline.stamps) else timeline.end
    chosen: list[Candidate] = []
    gap = Fraction(1, _ENCODED_MAX_FPS) / timeline.time_base
    for stamp in stamps:
        if not chosen or stamp - chosen[-1].stamp >= gap * 9 / 10:
            chosen.append(Candidate(stamp, timeline.anchor(stamp), "even"))
    painter = Painter(stream.sample_aspect_ratio, rendering, max_pixels=1 << 40)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        out: VideoStream | None = None
        for candidate, frame in Decoder(container, stream).frames(chosen):
            if frame is None:
                continue
            picture = painter.paint(frame)
            if out is None:
                seconds = float((end - stamps[0]) * timeline.time_base)
                out = _h264(output, picture.width // 2 * 2, picture.height // 2 * 2, seconds, rendering)
            picture = picture.crop((0, 0, out.width, out.height))
            encoded: VideoFrame = av.VideoFrame.from_image(picture.convert("RGB"))  # type: ignore[no-untyped-call]
            encoded.pts = round((candidate.stamp - stamps[0]) * timeline.time_base * 1000)
            encoded.time_base = Fraction(1, 1000)
            output.mux(out.encode(encoded))
        if out is not None:
            output.mux(out.encode(None))
    return file.getvalue()


def _h264(output: OutputContainer, width: int, height: int, seconds: float, rendering: Rendering) -> VideoStream:
    out: VideoStream = output.add_stream("libx264", rate=_ENCODED_MAX_FPS)
    out.width, out.height = max(2, width), max(2, height)
    out.pix_fmt = "yuv420p"
    out.codec_context.time_base = Fraction(1, 1000)
    out.codec_context.thread_count = 1
    fitting = int(rendering.clip_max_bytes * 8 * 0.9 / max(seconds, 1.0))
    usual = int(out.width * out.height * _ENCODED_MAX_FPS * _ENCODED_BITS_PER_PIXEL * 4)
    most = max(20_000, min(fitting, usual))
    out.options = {"preset": "veryfast", "crf": _CRF, "maxrate": str(most), "bufsize": str(most * 2)}
    return out
