"""Subtitles as text at their times: tracks inside a video, and `.srt` or `.vtt` files beside it.

FFmpeg reads both, and hands every format over as ASS dialogue lines (libavcodec/ass.h).
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from charset_normalizer import from_bytes

from ingest.reading.sidecars import sidecars_of

_TEXT_CODECS = ("mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text", "sami", "subviewer", "microdvd", "jacosub")
_FORMATS = {".srt": "srt", ".vtt": "webvtt"}
_MAX_SIDECAR_BYTES = 20_000_000
PAUSE_S = 2.0
"""Silence of the subtitles after which a chunk may well begin."""

_OVERRIDE = re.compile(r"\{\\?[^{}]*\}")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,80}>")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: when it shows, in seconds from the start of the video, and its words."""

    start_s: float
    end_s: float
    text: str

    def shifted(self, by_s: float) -> Cue:
        """The same cue at another time."""
        return replace(self, start_s=self.start_s + by_s, end_s=self.end_s + by_s)


def pick_track(container: InputContainer) -> SubtitleStream | None:
    """The track of words that players show: the one flagged as default, else the first; forced ones come last."""
    tracks = [track for track in container.streams.subtitles if track.codec_context.name in _TEXT_CODECS]
    if not tracks:
        return None

    def rank(track: SubtitleStream) -> tuple[bool, bool, int]:
        flags = track.disposition
        return bool(flags & Disposition.forced), not flags & Disposition.default, track.index

    return min(tracks, key=rank)


def cues_of_packet(packet: Packet[Stream]) -> list[Cue]:
    """The cue in a packet of a text track, none when it is empty or damaged."""
    if packet.pts is None or not packet.size or not isinstance(packet.stream, SubtitleStream):
        return []
    try:
        shown = packet.stream.codec_context.decode2(packet)
    except (av.FFmpegError, ValueError):
        return []
    if shown is None or not packet.time_base:
        return []
    lines = [_plain(getattr(line, "ass", b"").decode("utf-8", "replace")) for line in shown.rects]
    text = "\n".join(line for line in lines if line)
    if not text:
        return []
    start_s = float(packet.pts * packet.time_base)
    duration_s = float((packet.duration or 0) * packet.time_base) or shown.end_display_time / 1000
    return [Cue(start_s, start_s + max(0.0, min(duration_s, 3600.0)), text)]


def read_sidecar(video: Path) -> tuple[Cue, ...] | None:
    """The cues of the file beside a video, ascending; None when there is none or it cannot be read."""
    for path in sidecars_of(video):
        try:
            data = path.read_bytes()[:_MAX_SIDECAR_BYTES]
        except OSError:
            continue
        cues = parse(data, _FORMATS[path.suffix.lower()])
        if cues:
            return cues
    return None


def parse(data: bytes, kind: str) -> tuple[Cue, ...]:
    """The cues of an SRT or WebVTT file in any encoding, ascending; none when it holds no cue."""
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n")
    cues: list[Cue] = []
    try:
        with av.open(io.BytesIO(text.encode()), "r", format=kind) as container:
            for packet in container.demux():
                cues += cues_of_packet(packet)
    except (av.FFmpegError, ValueError):
        return ()
    return tuple(sorted(cues, key=lambda cue: (cue.start_s, cue.end_s)))


def texts_of(intervals: Sequence[tuple[float, float]], cues: Sequence[Cue]) -> list[str]:
    """The words of each interval: a cue belongs to the one it begins in, so that nothing is said twice."""
    shown = sorted((cue for cue in cues if cue.end_s > 0), key=lambda cue: cue.start_s)
    starts = [max(0.0, cue.start_s) for cue in shown]
    texts = []
    for start_s, end_s in intervals:
        lines = (cue.text for cue in shown[bisect_left(starts, start_s) : bisect_left(starts, end_s)])
        texts.append("\n".join(line for line, _ in groupby(lines)))
    return texts


def pauses(cues: Sequence[Cue]) -> list[float]:
    """Times at which somebody speaks again after a pause."""
    found, silent_from = [], None
    for cue in cues:
        if silent_from is not None and cue.start_s - silent_from >= PAUSE_S:
            found.append(cue.start_s)
        silent_from = cue.end_s if silent_from is None else max(silent_from, cue.end_s)
    return found


def _plain(ass: str) -> str:
    """The words of an ASS dialogue line: eight fields, then text with override codes and line breaks."""
    text = ass.split(",", 8)[-1]
    text = _TAG.sub("", _OVERRIDE.sub("", text))
    lines = (line.strip() for line in text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").split("\n"))
    return "\n".join(line for line in lines if line)


def _decode(data: bytes) -> str:
    for encoding in ("utf-8-sig", "utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    best = from_bytes(data).best()
    return str(best) if best is not None else data.decode("latin-1")
