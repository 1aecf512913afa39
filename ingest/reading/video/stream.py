"""Opening a video, choosing its stream, and listing its packets: everything that needs no decoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from ingest.config import ReadingSettings
from ingest.errors import Encrypted, TooLarge, Unreadable
from ingest.reading.sampling import Timeline, make_timeline
from ingest.reading.video.subtitles import Cue, cues_of_packet, pick_track
from ingest.types import Source

_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,mxf,h264,hevc,ivf,obu,m4v,vc1,h263,"
    "rm,dv,nut,yuv4mpegpipe,wtv,gxf,roq,swf,av1"
)
"""Containers of one file. Play lists are not among them: they would have FFmpeg open other files."""

_CUT_SIGNS = ("prematurely", "partial file", "truncat", "packet corrupt")
"""What FFmpeg's demuxers warn of when a file ends in the middle."""
_DECLARED_SLACK_S = 1.0
_DECLARED_SLACK_SHARE = 0.02
"""A declared length may pass the real one by this much without anything being missing: sound ends later than pictures,
and headers round."""

DAMAGE = (av.FFmpegError, ValueError, RuntimeError, OSError)
"""What PyAV raises on files that are not what they should be; its own errors are subclasses of several of these."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A video before decoding. `cut_off_at_s` is the time its frames end at when the file is a part of a longer one,
    whose length is `declared_s`; `doubt` says what else is odd about it."""

    timeline: Timeline
    cues: tuple[Cue, ...]
    codec: str
    declared_s: float
    is_cut_off: bool
    doubt: str | None


def open_container(source: Source) -> InputContainer:
    """The container, which the caller closes. Raises Unreadable when FFmpeg makes nothing of the file."""
    try:
        return av.open(
            os.path.abspath(source.path),
            options={"protocol_whitelist": "file", "format_whitelist": _DEMUXERS},
            metadata_errors="replace",
        )
    except DAMAGE as error:
        raise Unreadable(f"{source.name} is no video that can be read ({reason(error)}): {_again()}") from error


@contextmanager
def opened(source: Source) -> Iterator[InputContainer]:
    """The container for a while. Raises Unreadable when FFmpeg makes nothing of the file."""
    with open_container(source) as container:
        yield container


def pick_stream(container: InputContainer, source: Source, settings: ReadingSettings) -> VideoStream:
    """The stream that `video_stream` names, else the one players show; cover pictures are not looked at.

    FFmpeg's choice prefers the stream flagged as default, then the one with the most pixels. Raises Unreadable when
    there is none, TooLarge when its frames pass `max_pixels`.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        has = "only sound" if container.streams.audio else "nothing to see"
        raise Unreadable(f"{source.name} has no video stream, {has}: leave it out, or give a file with a picture")
    # PyAV has no context for a codec that FFmpeg does not know.
    videos = [stream for stream in videos if stream.codec_context is not None]
    if not videos:
        raise Unreadable(f"{source.name} has a video stream in no known codec, or a damaged one: {_again()}")
    stream: VideoStream
    if settings.video_stream is not None:
        named = [video for video in videos if video.index == settings.video_stream]
        if not named:
            known = ", ".join(str(video.index) for video in videos)
            raise Unreadable(
                f"{source.name} has no video stream {settings.video_stream}: set video_stream to one of {known}"
            )
        stream = named[0]
    else:
        best = container.streams.best("video")
        stream = next((video for video in videos if best is not None and video.index == best.index), videos[0])
    context = stream.codec_context
    pixels = context.width * context.height
    if pixels > settings.max_pixels:
        raise TooLarge(
            f"{source.name}: its frames have {pixels:,} pixels, more than the limit of {settings.max_pixels:,}:"
            " raise max_pixels if the file is to be trusted"
        )
    return stream


def only(container: InputContainer, *wanted: Stream) -> None:
    """Have the demuxer pass over all other streams."""
    indices = {stream.index for stream in wanted}
    for stream in container.streams:
        stream.discard = Discard.default if stream.index in indices else Discard.all


def survey(source: Source, settings: ReadingSettings, with_subtitles: bool) -> Contents:
    """List the packets of the chosen stream, and the subtitles beside it, in one pass over the file.

    Memory holds three numbers for each frame. Raises Unreadable when there is no frame, Encrypted when nobody can
    decode them.
    """
    with _warnings() as logs, opened(source) as container:
        stream = pick_stream(container, source, settings)
        track = pick_track(container) if with_subtitles else None
        only(container, stream, *([track] if track else []))
        packets = _Packets(container, stream, track)
        time_base = stream.time_base or Fraction(1, 1_000_000)
        try:
            timeline = make_timeline(packets.read(source), time_base)
        except ValueError:
            raise _no_frames(source, stream, packets.error) from packets.error
        error, cues = packets.error, packets.cues
        declared_s = _declared_s(container, stream, timeline)
        is_short = declared_s - timeline.duration_s > max(_DECLARED_SLACK_S, _DECLARED_SLACK_SHARE * declared_s)
        signs = " ".join(message for _, _, message in logs).lower()
        is_cut_off = is_short and (error is not None or any(sign in signs for sign in _CUT_SIGNS))
        is_cut_off = is_cut_off or (is_short and _misses_indexed(container, stream, source))
        codec = stream.codec_context.name
    doubt = None
    if is_short and not is_cut_off:
        doubt = (
            f"{source.name} declares {declared_s:.1f} s, but its pictures end at {timeline.duration_s:.1f} s:"
            " taken to be that long"
        )
    elif error is not None and not is_cut_off:
        doubt = f"{source.name} is damaged ({reason(error)}): read as far as {timeline.duration_s:.1f} s"
    shifted = tuple(cue.shifted(-float(timeline.stamps[0] * time_base)) for cue in cues)
    return Contents(timeline, shifted, codec, declared_s, is_cut_off, doubt)


@contextmanager
def _warnings() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg says meanwhile, which is else not even put into words."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as logs:
            yield logs
    finally:
        av.logging.set_level(level)


class _Packets:
    """One pass over the packets of a stream; `cues` and `error` are filled on the way."""

    def __init__(self, container: InputContainer, stream: VideoStream, track: SubtitleStream | None) -> None:
        self.cues: list[Cue] = []
        self.error: Exception | None = None
        self._container, self._stream, self._track = container, stream, track

    def read(self, source: Source) -> Iterator[tuple[int, int, int, bool]]:
        """Stamp, duration, size and whether it is a keyframe, of each packet that will be shown."""
        streams: list[Stream] = [self._stream, self._track] if self._track else [self._stream]
        try:
            for packet in self._container.demux(streams):
                if packet.stream_index != self._stream.index:
                    self.cues += cues_of_packet(packet)
                    continue
                if packet.has_sidedata("encryption_info"):
                    raise Encrypted(f"{source.name} is encrypted (DRM): give a copy without protection")
                stamp = stamp_of(packet)
                if stamp is not None and packet.size and not packet.is_discard:
                    yield stamp, packet.duration or 0, packet.size, packet.is_keyframe
        except DAMAGE as error:
            self.error = error


def stamp_of(packet: Packet[Any]) -> int | None:
    """When a packet is shown, or else decoded: some containers tell only that."""
    return packet.pts if packet.pts is not None else packet.dts


def _declared_s(container: InputContainer, stream: VideoStream, timeline: Timeline) -> float:
    """The length that the header gives the stream, else the file; 0 when it gives none."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # its seconds are counted from the bytes that are there
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        start_s = (container.start_time or 0) / 1_000_000
        first_s = float(timeline.stamps[0] * timeline.time_base)
        return max(0.0, container.duration / 1_000_000 - max(0.0, first_s - start_s))
    return 0.0


def _misses_indexed(container: InputContainer, stream: VideoStream, source: Source) -> bool:
    """Whether the index of the file points behind its end: the rest was lost."""
    count = len(stream.index_entries)
    if not count:
        return False
    last = stream.index_entries[count - 1]
    return last.pos + last.size > source.size_bytes


def _no_frames(source: Source, stream: VideoStream, error: Exception | None) -> Unreadable:
    told = f" ({reason(error)})" if error is not None else ""
    return Unreadable(
        f"{source.name} has a video stream ({stream.codec_context.name}) but no frames{told}: it is cut off or only"
        f" the head of a stream; {_again()}"
    )


def _again() -> str:
    return "export or download it again"


def reason(error: BaseException) -> str:
    """What FFmpeg said, without the path, which is the user's."""
    return getattr(error, "strerror", None) or type(error).__name__
