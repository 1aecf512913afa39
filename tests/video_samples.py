"""Small videos made on the spot: slides, moving pictures, odd containers, and subtitles."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import av
from PIL import Image, ImageDraw, ImageFont

SIZE = (320, 180)


def make_slide(title: str, *lines: str, size: tuple[int, int] = SIZE, note: str = "") -> Image.Image:
    """A slide: a title in a bar, lines below it, and a small pale note at the foot."""
    picture = Image.new("RGB", size, "white")
    pen, unit = ImageDraw.Draw(picture), size[1] / 18
    pen.rectangle((0, 0, size[0], int(unit * 2.6)), fill="#204080")
    pen.text((unit, unit * 0.4), title, font=ImageFont.load_default(unit * 1.5), fill="white")
    for row, line in enumerate(lines):
        pen.text((unit * 1.5, unit * (4 + row * 1.9)), line, font=ImageFont.load_default(unit), fill="black")
    pen.text((unit * 1.5, size[1] - unit * 1.6), note, font=ImageFont.load_default(unit * 0.9), fill="#707070")
    return picture


def make_moving(count: int, size: tuple[int, int] = SIZE) -> Iterator[Image.Image]:
    """Pictures in which everything moves: no two of them alike."""
    for at in range(count):
        picture = Image.new("RGB", size, (30, 90, 60))
        pen = ImageDraw.Draw(picture)
        for ball in range(6):
            x, y = (at * (7 + ball * 3) + ball * 51) % size[0], (at * (5 + ball * 2) + ball * 23) % size[1]
            pen.ellipse((x, y, x + 40, y + 40), fill=(40 * ball, 255 - 30 * ball, (at * 9) % 255))
        yield picture


def hold(*states: tuple[float, Image.Image], rate: int = 10) -> Iterator[Image.Image]:
    """Each picture for so many seconds."""
    for seconds, picture in states:
        for _ in range(round(seconds * rate)):
            yield picture


def make_srt(subtitles: Sequence[tuple[float, float, str]]) -> bytes:
    """A subtitle file with these lines, from and to so many seconds (below a minute)."""
    times = "00:00:{:06.3f} --> 00:00:{:06.3f}"
    blocks = (
        f"{number}\n{times.format(start_s, end_s).replace('.', ',')}\n{text}\n"
        for number, (start_s, end_s, text) in enumerate(subtitles, 1)
    )
    return "\n".join(blocks).encode()


def encode_video(
    pictures: Iterable[Image.Image],
    container: str = "mp4",
    codec: str = "libx264",
    rate: int = 10,
    stamps: Sequence[int] | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    aspect: Fraction | None = None,
    transfer: int = 2,
    **options: str,
) -> bytes:
    """A video of these pictures; `stamps` are their times in 1/1000 s instead of an even rate, `transfer` the
    number of the curve that they are said to follow."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: av.VideoStream | None = None
        spoken = av.open(io.BytesIO(make_srt(subtitles)), "r", format="srt") if subtitles else None
        track = output.add_stream_from_template(spoken.streams.subtitles[0]) if spoken else None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = output.add_stream(codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = *picture.size, pixel_format
                stream.codec_context.thread_count = 1
                if codec == "libx264":
                    options = {"preset": "veryfast", **options}
                if stamps is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                stream.codec_context.color_trc = transfer
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if rotation:
                    stream.set_display_rotation(rotation)
                stream.options = options
            frame = av.VideoFrame.from_image(picture)
            frame.color_trc = transfer
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode(None))
        if spoken is not None:
            for packet in spoken.demux():
                if packet.dts is not None:
                    packet.stream = track
                    output.mux(packet)
            spoken.close()
    return file.getvalue()


def make_sound() -> bytes:
    """An MP4 file without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


SHORT = tuple(make_moving(8, (96, 64)))
"""Enough of a video to see that a container is read."""

VIDEO_SAMPLES: dict[str, tuple[str, str, str]] = {
    "video/mp4": ("a.mp4", "mp4", "libx264"),
    "video/quicktime": ("a.mov", "mov", "libx264"),
    "video/3gpp": ("a.3gp", "3gp", "mpeg4"),
    "video/x-matroska": ("a.mkv", "matroska", "libx264"),
    "video/webm": ("a.webm", "webm", "libsvtav1"),
    "video/x-msvideo": ("a.avi", "avi", "mpeg4"),
    "video/mp2t": ("a.ts", "mpegts", "libx264"),
    "video/mpeg": ("a.mpg", "mpeg", "mpeg2video"),
    "video/x-ms-wmv": ("a.wmv", "asf", "wmv2"),
    "video/x-flv": ("a.flv", "flv", "flv"),
    "video/mxf": ("a.mxf", "mxf", "mpeg2video"),
    "video/x-ivf": ("a.ivf", "ivf", "libsvtav1"),
    "video/x-y4m": ("a.y4m", "yuv4mpegpipe", "rawvideo"),
    "video/x-rm": ("a.rm", "rm", "rv10"),
}
"""File name, container and codec of each kind that can be made here; nothing here writes Ogg video."""


def make_sample(media_type: str) -> tuple[str, bytes]:
    """A short video of a media type: name and bytes."""
    name, container, codec = VIDEO_SAMPLES[media_type]
    return name, encode_video(SHORT, container, codec, rate=25)
