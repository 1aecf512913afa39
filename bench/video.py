"""Frames out of long videos: time against `ffmpeg` and OpenCV, memory over length, and what is not decoded.

    python bench/video.py                        # every figure; exit code 1 when one falls short
    python bench/video.py --only rates           # also: memory, av1

Whole processes are timed, one after the other in turn, `--repeats` times; figures are ratios of the best times. On a
machine that others use, the ratios of processor time tell more. Ours is this file with `--sample`: worker processes
started, the file opened (packets listed, frames decoded, compared, encoded) and all its parts loaded, as a run does,
without asking a model. All make JPEG of the same size and quality. Clips are made once, below `--folder`, by PyAV with
x264 at its defaults and SVT-AV1 at its fastest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFilter

from ingest.config import ReadingSettings
from ingest.reading import DEFAULT_RENDERING
from ingest.reading.discover import Found, describe
from ingest.reading.workers import Workers

_RATES = {"0.2": 4.0, "1": 1.5, "5": 1.1}
_QUALITY = 80
# The quantiser scale of FFmpeg's JPEG encoder that gives files of about the size of Pillow's at quality 80.
_QSCALE = "4"


def main() -> int:
    """Measure what was asked for; 0 when every figure reaches its goal."""
    parser = argparse.ArgumentParser(description="Video benchmark")
    parser.add_argument("--only", choices=["rates", "memory", "av1"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ingest-bench-video")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=4.0, help="length of the H.264 clip")
    parser.add_argument("--sample", nargs=2, metavar=("FILE", "FPS"), help=argparse.SUPPRESS)
    parser.add_argument("--opencv", nargs=3, metavar=("FILE", "FPS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample:
        return asyncio.run(_sample(Path(arguments.sample[0]), float(arguments.sample[1])))
    if arguments.opencv:
        return _opencv(*arguments.opencv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name, measure in (("rates", _rates), ("memory", _memory), ("av1", _av1)):
        if arguments.only in (None, name):
            results += measure(arguments)
    print(f"{'what':42} {'value':>8} {'goal':>7}")
    for what, value, goal, is_met in results:
        print(f"{what:42} {value:8.2f} {goal:>7}  {'ok' if is_met else 'short'}")
    return 0 if all(is_met for *_, is_met in results) else 1


async def _sample(path: Path, fps: float) -> int:
    """Ours: open and load everything, frames let go as they come."""
    settings = ReadingSettings(fps=fps, jpeg_quality=_QUALITY)
    frames = 0
    async with Workers(settings) as workers:
        source = describe(Found(path.name, path), settings)
        document = await workers.open(source, DEFAULT_RENDERING)
        for start in range(0, len(document.parts), 60):
            loaded = await workers.load(document, document.parts[start : start + 60], DEFAULT_RENDERING)
            frames += sum(bool(each.contents) for each in loaded)
    print(json.dumps({"frames": frames}))
    return 0


def _opencv(path: str, fps: str, folder: str) -> int:
    """OpenCV as its users write it: grab every frame, retrieve and write the wanted ones."""
    import cv2

    capture = cv2.VideoCapture(path)
    rate, wanted, at, number = capture.get(cv2.CAP_PROP_FPS), 0.0, 0, 0
    while capture.grab():
        if at / rate >= wanted - 0.5 / rate:
            _, frame = capture.retrieve()
            cv2.imwrite(f"{folder}/{number:05d}.jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            number, wanted = number + 1, wanted + 1 / float(fps)
        at += 1
    return 0


def _rates(arguments: argparse.Namespace) -> list[tuple[str, float, str, bool]]:
    clip = _h264_clip(arguments.folder, arguments.minutes)
    results = []
    for fps, goal in _RATES.items():
        rivals = {"ffmpeg": _ffmpeg(clip, fps, arguments.folder / "frames")}
        if _has_opencv():
            rivals["opencv"] = [sys.executable, __file__, "--opencv", str(clip), fps, str(arguments.folder / "frames")]
        commands = {"ingest": [sys.executable, __file__, "--sample", str(clip), fps], **rivals}
        best = _race(commands, arguments)
        _tell(best, f"at {fps} fps")
        for name in rivals:
            ratio = best[name][0] / best["ingest"][0]
            bound, is_met = (f">= {goal:g}", ratio >= goal) if name == "ffmpeg" else ("", True)
            results.append((f"{fps} fps, times as fast as {name}", ratio, bound, is_met))
            results.append((f"{fps} fps, processor time of {name}", best[name][1] / best["ingest"][1], "", True))
    return results


def _memory(arguments: argparse.Namespace) -> list[tuple[str, float, str, bool]]:
    short = _h264_clip(arguments.folder, arguments.minutes)
    long = _repeated(short, 10)
    peaks = []
    for clip in (short, long):
        # A short run is looked at fewer times, and its peak the more easily missed.
        peak = max(_peak_bytes([sys.executable, __file__, "--sample", str(clip), "1"]) for _ in range(3))
        print(f"{clip.name}: peak {peak / 1e6:.0f} MB", file=sys.stderr)
        peaks.append(peak)
    ratio = peaks[1] / peaks[0]
    return [("peak memory, ten times the length", ratio, "<= 1.10", ratio <= 1.10)]


def _av1(arguments: argparse.Namespace) -> list[tuple[str, float, str, bool]]:
    clip = _av1_clip(arguments.folder)
    commands = {
        "ingest": [sys.executable, __file__, "--sample", str(clip), "0.2"],
        "decode": ["ffmpeg", "-v", "error", "-i", str(clip), "-f", "null", "-"],
    }
    arguments.repeats = min(arguments.repeats, 2)
    best = _race(commands, arguments)
    _tell(best, "4K AV1 at 0.2 fps")
    share = best["ingest"][0] / best["decode"][0]
    return [("4K AV1 at 0.2 fps, share of decoding all", share, "< 0.5", share < 0.5)]


def _race(commands: dict[str, list[str]], arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """The best time of each command and its processor time in seconds, in turn so that a busy moment hits all."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(arguments.repeats):
        for name, command in commands.items():
            folder = arguments.folder / "frames"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            used, start = _processor_s(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took = time.perf_counter() - start, _processor_s() - used
            before = best.get(name, took)
            best[name] = min(before[0], took[0]), min(before[1], took[1])
    return best


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tell(best: dict[str, tuple[float, float]], what: str) -> None:
    told = (f"{name} {wall:.2f} s ({used:.2f} s of processor)" for name, (wall, used) in best.items())
    print(f"{what}: {', '.join(told)}", file=sys.stderr)


def _ffmpeg(clip: Path, fps: str, folder: Path) -> list[str]:
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-vf", f"fps={fps}", "-q:v", _QSCALE]
    return [*command, str(folder / "%05d.jpg")]


def _has_opencv() -> bool:
    from importlib.util import find_spec

    return find_spec("cv2") is not None


def _peak_bytes(command: list[str]) -> int:
    """The most memory that a process and those it started held at once, shared pages counted once (Linux)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_pss_bytes(member) for member in _tree(process.pid)))
        time.sleep(0.02)
    return peak


def _tree(root: int) -> Iterator[int]:
    yield root
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _pss_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _h264_clip(folder: Path, minutes: float) -> Path:
    """1280x720 at 30 fps, x264 at its defaults (medium, CRF 23, 250 frames between keyframes at most): scenes of 5 to
    25 s of a camera moving over textured pictures, with grain, and things that move in them."""
    path = folder / f"h264-720p-{minutes:g}min.mp4"
    if path.exists():
        return path
    print(f"making {path}", file=sys.stderr)
    rate, draw = 30, random.Random(7)
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        number, total = 0, int(minutes * 60 * rate)
        grain = [Image.effect_noise((1280, 720), 8).convert("RGB") for _ in range(5)]
        while number < total:
            for picture in _scene(draw, draw.randint(5 * rate, 25 * rate)):
                noisy = Image.blend(picture, grain[number % 5], 0.08)
                frame = av.VideoFrame.from_image(noisy)
                frame.pts, frame.time_base = number, Fraction(1, rate)
                output.mux(stream.encode(frame))
                number += 1
                if number == total:
                    break
        output.mux(stream.encode(None))
    partial.rename(path)
    return path


def _scene(draw: random.Random, frames: int) -> Iterator[Image.Image]:
    canvas = Image.new("RGB", (1700, 1000), tuple(draw.randint(30, 220) for _ in range(3)))
    pen = ImageDraw.Draw(canvas)
    for _ in range(140):
        x, y, w, h = draw.randint(-100, 1700), draw.randint(-100, 1000), draw.randint(10, 380), draw.randint(10, 260)
        colour = tuple(draw.randint(0, 255) for _ in range(3))
        (pen.ellipse if draw.random() < 0.5 else pen.rectangle)((x, y, x + w, y + h), fill=colour)
    texture = Image.effect_noise(canvas.size, 60).filter(ImageFilter.GaussianBlur(1.2)).convert("RGB")
    canvas = Image.blend(canvas.filter(ImageFilter.GaussianBlur(1.5)), texture, 0.35)
    dx, dy, speed = draw.uniform(-1, 1), draw.uniform(-1, 1), draw.uniform(0.0, 2.5)
    movers = [[draw.randint(0, 1200), draw.randint(0, 640), draw.uniform(-6, 6), draw.uniform(-4, 4)] for _ in range(4)]
    sprites = [Image.effect_noise((draw.randint(60, 180), draw.randint(60, 160)), 90).convert("RGB") for _ in movers]
    for at in range(frames):
        left, top = 210 + (dx * speed * at) % 200, 140 + (dy * speed * at) % 130
        picture = canvas.crop((int(left), int(top), int(left) + 1280, int(top) + 720))
        for sprite, (x, y, vx, vy) in zip(sprites, movers, strict=True):
            picture.paste(sprite, (int(x + vx * at) % 1200, int(y + vy * at) % 640))
        yield picture


def _repeated(clip: Path, times: int) -> Path:
    """The same clip several times over, packets copied."""
    path = clip.with_name(f"{clip.stem}-x{times}.mp4")
    if not path.exists():
        partial = path.with_suffix(".part.mp4")
        command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(times - 1), "-i", str(clip), "-c", "copy"]
        subprocess.run([*command, str(partial)], check=True)
        partial.rename(path)
    return path


def _av1_clip(folder: Path) -> Path:
    """3840x2160, 6 minutes at 60 fps (21,600 frames), SVT-AV1 at its fastest: a slide on which little moves."""
    path = folder / "av1-2160p-6min.mp4"
    if path.exists():
        return path
    print(f"making {path}, which takes a quarter of an hour or more", file=sys.stderr)
    minute = path.with_name("av1-2160p-1min.mp4")
    if not minute.exists():
        partial = path.with_suffix(".part.mp4")
        _encode_av1(partial, 60 * 60)
        partial.rename(minute)
    partial = path.with_suffix(".part.mp4")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-stream_loop", "5", "-i", str(minute), "-c", "copy", str(partial)], check=True
    )
    partial.rename(path)
    return path


def _encode_av1(path: Path, frames: int) -> None:
    draw = random.Random(11)
    base = next(_scene(draw, 1)).resize((3840, 2160), Image.Resampling.BICUBIC)
    sprite = Image.effect_noise((320, 240), 90).convert("RGB")
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libsvtav1", rate=60)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        stream.options = {"preset": "13", "crf": "45"}
        for number in range(frames):
            picture = base.copy()
            picture.paste(sprite, (number * 7 % 3400, 300 + number * 3 % 1500))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, 60)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
