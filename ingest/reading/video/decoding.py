"""Frames by their stamps, decoding as little as their codec allows.

Decoding begins at the keyframe before a wanted frame and ends with the last frame wanted of that keyframe's group.
Frames in between that no other frame refers to are skipped by the decoder (`skip_frame`, which takes effect packet by
packet); stretches without a wanted frame are jumped over. One thread each: workers decode side by side, and two of them
with a thread each do more than one with two, which would also hold frames back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby

from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ingest.config import ReadingSettings
from ingest.reading.sampling import Candidate, Timeline
from ingest.reading.video.stream import DAMAGE, only, opened, pick_stream, stamp_of
from ingest.types import Source

_READ_ON_S = 1.5
"""A keyframe this near is reached by reading on; farther ones by seeking."""
_MAX_BACK_S = 64.0
"""Seeking in containers without an index may land too late; it is tried again from up to this much earlier, and then
from the start."""
_SKIP_IS_FIXED = ("libdav1d",)
"""Decoders that read `skip_frame` when they are opened only."""


class Decoder:
    """Decodes wanted frames of one stream; the only reader of its container."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container, self.stream = container, stream
        self._context = stream.codec_context
        self._time_base = stream.time_base or Fraction(1, 1_000_000)
        self._context.thread_count = 1
        # Frames that lean on lost ones come out, too, marked as corrupt: streams may begin in the middle of a group.
        self._context.flags |= Flags.output_corrupt
        self._can_skip = self._context.name not in _SKIP_IS_FIXED
        self._packets: Iterator[Packet[VideoStream]] | None = None
        self._last_key: int | None = None  # of those read since the last seek
        self._position: int | None = None
        self._is_fresh = True
        self.began_at_keyframe = True
        """Whether the group being decoded does; else its first frames count as corrupt, and mostly are not."""
        self.has_lost = False
        """Whether a frame of the group being decoded was lost, on which those that follow lean."""
        only(container, stream)

    def frames(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, VideoFrame | None]]:
        """Each candidate, given ascending by stamp, with its frame; None when that cannot be decoded."""
        for anchor, members in groupby(candidates, key=lambda candidate: candidate.anchor):
            group = list(members)
            waiting = iter(group)
            expected = next(waiting, None)
            ready: dict[int, VideoFrame] = {}
            for stamp, frame in self._decode_group(anchor, {candidate.stamp for candidate in group}):
                ready[stamp] = frame
                while expected is not None and expected.stamp in ready:
                    yield expected, ready.pop(expected.stamp)
                    expected = next(waiting, None)
            while expected is not None:
                yield expected, ready.pop(expected.stamp, None)
                expected = next(waiting, None)

    def _decode_group(self, anchor: int, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
        """The wanted frames of one group, as they come out of the decoder."""
        packet = self._go_to(anchor)
        self.began_at_keyframe = packet is not None and packet.is_keyframe
        self.has_lost = False
        missing, sent = set(wanted), set(wanted)
        while packet is not None:
            stamp = stamp_of(packet)
            if self._can_skip:
                self._context.skip_frame = "DEFAULT" if packet.pts is None or stamp in wanted else "NONREF"
            for frame in self._decoded(packet):
                if frame.pts is not None and frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame.pts, frame
            sent.discard(stamp if stamp is not None else anchor)
            packet = self._next() if missing and sent else None
        for frame in self._decoded(None):
            if frame.pts is not None and frame.pts in missing:
                missing.discard(frame.pts)
                yield frame.pts, frame
        self._context.flush_buffers()

    def _decoded(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """What a packet gives, nothing when it is damaged; the rest that the decoder holds back for None."""
        try:
            return self._context.decode(packet)
        except DAMAGE:
            self.has_lost = True
            return []

    def _go_to(self, anchor: int) -> Packet[VideoStream] | None:
        """The packet at a stamp, None when it is not found."""
        read_on = int(_READ_ON_S / self._time_base)
        # A container just opened stands at its start.
        position = (self.stream.start_time or 0) - 1 if self._is_fresh else self._position
        is_near = position is not None and 0 < anchor - position <= read_on
        if is_near and (self._last_key is None or self._last_key < anchor):
            found = self._read_to(anchor)
            if found is not None:
                return found
        back_s = 0.0
        while back_s <= _MAX_BACK_S:
            if self._seek(anchor - int(back_s / self._time_base)):
                found = self._read_to(anchor)
                if found is not None:
                    return found
            back_s = back_s * 4 or 1.0
        return self._read_to(anchor) if self._seek(None) else None

    def _seek(self, stamp: int | None) -> bool:
        self._packets, self._last_key, self._position, self._is_fresh = None, None, None, False
        try:
            if stamp is None:
                self.container.seek(self.container.start_time or 0)
            else:
                self.container.seek(stamp, stream=self.stream)
        except DAMAGE:
            return False
        return True

    def _read_to(self, anchor: int) -> Packet[VideoStream] | None:
        """Pass over packets up to the one with a stamp; None when a later keyframe comes first."""
        while (packet := self._next()) is not None:
            stamp = stamp_of(packet)
            if stamp == anchor:
                return packet
            if packet.is_keyframe and stamp is not None and stamp > anchor:
                return None
        return None

    def _next(self) -> Packet[VideoStream] | None:
        if self._packets is None:
            self._packets = self.container.demux(self.stream)
        try:
            packet = next(self._packets, None)
        except DAMAGE:
            packet = None
        stamp = stamp_of(packet) if packet is not None else None
        if packet is None or stamp is None or not packet.size:
            self._packets = None
            return None
        self._position, self._is_fresh = stamp, False
        if packet.is_keyframe:
            self._last_key = stamp
        return packet


def decode_earlier(
    source: Source, settings: ReadingSettings, timeline: Timeline, candidate: Candidate
) -> VideoFrame | None:
    """A frame that came out damaged, decoded once more from the keyframe before the last; None when that is no better.

    Streams that are refreshed bit by bit have keyframes that are whole some frames later only.
    """
    anchor = timeline.anchor(candidate.anchor - 1)
    if anchor >= candidate.anchor:
        return None
    with opened(source) as container:
        decoder = Decoder(container, pick_stream(container, source, settings))
        ((_, frame),) = decoder.frames([replace(candidate, anchor=anchor)])
    return None if frame is None or frame.is_corrupt else frame
