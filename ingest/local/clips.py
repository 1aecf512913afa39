"""Videos of a request: container header to duration and frame count. Nothing is decoded and nothing is fetched.

The one module of the local engine that opens containers with PyAV.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from ingest.local.numbers import RequestLimits, VideoRule
from ingest.local.refusal import invalid

_AVI = "avi"
_MOV = "mov"


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video as it was sent. `frame_count` is what the container says, 0 when it does not; `fps` the part's wish."""

    data: bytes
    media_type: str
    duration_s: float
    frame_count: int
    fps: float | None = None


def inspect_video(
    data: bytes, media_type: str, limits: RequestLimits, fps: float | None = None, param: str = "video_url"
) -> VideoPart:
    """The video when its bytes are of a container allowed for the declared type; raises a 400 Refusal otherwise."""
    if len(data) > limits.max_video_bytes:
        raise invalid(param, f"the video has {len(data)} bytes, more than {limits.max_video_bytes}")
    container = _container(data)
    allowed = limits.video_media_types.get(container, ())
    if not allowed:
        raise invalid(param, "the bytes are not an MP4, MOV or AVI video")
    if media_type not in allowed:
        raise invalid(param, f"the video is declared as {media_type!r} but its bytes are {' or '.join(allowed)}")
    seconds, frames = _read_header(data, _AVI if container == _AVI else _MOV, param)
    if seconds <= 0 or not math.isfinite(seconds):
        raise invalid(param, "the container does not tell the video's duration; remux it")
    return VideoPart(data, media_type, seconds, frames, fps)


def _container(data: bytes) -> str:
    """`mp4`, `mov` or `avi` by the first bytes, "" for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return _AVI
    if data[4:8] == b"ftyp":
        return "mov" if data[8:12] == b"qt  " else "mp4"
    if data[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return "mov"
    return ""


def _read_header(data: bytes, demuxer: str, param: str) -> tuple[float, int]:
    """Seconds and frames of the first video stream, 0 for what the container does not tell.

    The demuxer is named, so that no other one (of lists, of networks) is ever tried on these bytes.
    """
    import av

    try:
        with av.open(io.BytesIO(data), mode="r", format=demuxer) as opened:
            if not opened.streams.video:
                raise invalid(param, "the file holds no video stream")
            stream = opened.streams.video[0]
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            if seconds <= 0 and opened.duration:
                seconds = opened.duration / av.time_base
            return seconds, stream.frames
    except av.FFmpegError as error:
        raise invalid(param, f"the bytes cannot be opened as a video ({str(error)[:100]})") from error


def sampled_frames(duration_s: float, frame_count: int, fps: float, rule: VideoRule) -> int:
    """Frames the service takes: one at 0 and one every 1/fps, the end included, kept within the rule's bounds.

    A file with fewer frames than the lower bound gives all it has.
    """
    wanted = math.floor(duration_s * fps + 1e-6) + 1
    least = min(rule.min_frames, frame_count) if frame_count else rule.min_frames
    return min(max(wanted, least), rule.max_frames)


def count_video(video: VideoPart, fps: float, rule: VideoRule) -> int:
    """Tokens of a video: its frames at an equal share of the budget, and a timestamp before each."""
    frames = sampled_frames(video.duration_s, video.frame_count, fps, rule)
    share = rule.token_budget // frames
    fitting = [step for step in rule.frame_tokens if step <= share]
    if rule.is_stepped:
        per_frame = max(fitting, default=rule.frame_tokens[0])
    else:
        per_frame = min(max(share, rule.frame_tokens[0]), rule.frame_tokens[-1])
    return frames * (per_frame + rule.tokens_per_stamp)
