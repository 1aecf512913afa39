"""Decoded frames to upright 8-bit RGB pictures in the size in which they are sent."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import av
import av.filter
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, ColorTrc, Interpolation, VideoReformatter
from PIL import Image as PillowImage

from ingest.errors import TooLarge
from ingest.reading.grids import most_cell_pixels
from ingest.reading.imaging import Fit, fit_image
from ingest.types import Rendering

_TURNS = {
    90: PillowImage.Transpose.ROTATE_90,
    180: PillowImage.Transpose.ROTATE_180,
    270: PillowImage.Transpose.ROTATE_270,
}
_CS_709, _CS_601 = 1, 5  # libswscale/swscale.h

# SMPTE ST 2084 (PQ) and ITU-R BT.2100 table 5 (HLG).
_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_WHITE_NITS = 203.0
"""Reference white of HDR video: paper, slides, captions (ITU-R BT.2408)."""
_PEAK_NITS = 1_000.0
# BT.2020 to BT.709 primaries (ITU-R BT.2087), applied after the curve: colours come out close enough to be named.
_TO_709 = (1.660, -0.588, -0.073, 0.0, -0.125, 1.133, -0.008, 0.0, -0.018, -0.101, 1.119, 0.0)


class Painter:
    """Makes pictures of the frames of one stream."""

    def __init__(self, sample_aspect: Fraction | None, rendering: Rendering, max_pixels: int, cells: int = 1) -> None:
        """`max_pixels` is the size a frame may decode to, `cells` how many of them share an image."""
        self._aspect = float(sample_aspect) if sample_aspect and 0.05 < float(sample_aspect) < 20 else 1.0
        self._rendering, self._cells = rendering, cells
        self._max_pixels = max_pixels
        self._scaler = VideoReformatter()

    def fit(self, frame: VideoFrame) -> Fit:
        """The size of a frame as it is sent, after pixel aspect and rotation."""
        width, height = round(frame.width * self._aspect), frame.height
        if abs(frame.rotation) % 180 == 90:
            width, height = height, width
        most = most_cell_pixels(width, height, self._cells, self._rendering)
        return fit_image(max(1, width), height, replace(self._rendering, max_pixels=most))

    def paint(self, frame: VideoFrame) -> PillowImage.Image:
        """The frame as a picture in RGBX of the size that `fit` gives, without the margin of extreme strips.

        Raises TooLarge for frames that grew beyond `max_pixels` in the middle of the stream.
        """
        if frame.width * frame.height > self._max_pixels:
            raise TooLarge(f"a frame has {frame.width * frame.height:,} pixels, more than the limit: raise max_pixels")
        fit = self.fit(frame)
        turn = round(frame.rotation / 90) * 90 % 360
        size = (fit.height_px, fit.width_px) if turn % 180 else (fit.width_px, fit.height_px)
        curve = frame.color_trc
        source = _deinterlaced(frame) if frame.interlaced_frame and size[1] > frame.height // 2 else frame
        picture = self._scaled(source, size)
        if curve in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
            picture = picture.convert("RGB").point(_tone_curve(int(curve)) * 3).convert("RGB", _TO_709).convert("RGBX")
        return picture.transpose(_TURNS[turn]) if turn else picture

    def _scaled(self, frame: VideoFrame, size: tuple[int, int]) -> PillowImage.Image:
        """Scaled and converted by FFmpeg in one step. Frames that name no matrix get that of their size, as players
        assume: BT.709 from 720 lines on, else BT.601."""
        shrinks = size[0] * 2 <= frame.width
        scaled = self._scaler.reformat(
            frame,
            size[0],
            size[1],
            "rgb0",
            src_colorspace=None if frame.colorspace not in (2, 0) else (_CS_709 if frame.height >= 720 else _CS_601),
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        plane = scaled.planes[0]
        # Four bytes a pixel is how Pillow holds them, too: nothing is copied, and FFmpeg converts in half the time.
        return PillowImage.frombuffer("RGBX", size, plane, "raw", "RGBX", plane.line_size, 1)  # type: ignore[arg-type]


def _deinterlaced(frame: VideoFrame) -> VideoFrame:
    """One whole picture from one half picture of an interlaced frame, the rows between drawn along its edges: filters
    that look at neighbouring frames, which are not decoded here, would take a single frame for a still and weave it."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    filter_ = graph.add("estdif", "mode=frame:deint=all")
    sink = graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    source.push(frame)
    source.push(None)
    result = sink.pull()
    return result if isinstance(result, VideoFrame) else frame


@cache
def _tone_curve(transfer: int) -> list[int]:
    """Code values of an HDR transfer function to those of an ordinary screen: reference white near the top, highlights
    compressed above it (Reinhard's extended curve), black and shadows in place."""
    table = []
    for code in range(256):
        value = code / 255
        nits = _pq(value) if transfer == int(ColorTrc.SMPTE2084) else _hlg(value)
        light, peak = nits / _WHITE_NITS * 0.8, _PEAK_NITS / _WHITE_NITS * 0.8
        mapped = min(1.0, light * (1 + light / peak**2) / (1 + light)) if light < peak else 1.0
        gain = 1.6  # brings reference white, which the curve lowers, back to about 85 % of the range
        table.append(round(255 * min(1.0, mapped * gain) ** (1 / 2.2)))
    return table


def _pq(value: float) -> float:
    root = value ** (1 / _PQ_M2)
    return float(10_000 * (max(root - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1))


def _hlg(value: float) -> float:

    scene = value * value / 3 if value <= 0.5 else (math.exp((value - _HLG_C) / _HLG_A) + _HLG_B) / 12
    return float(_PEAK_NITS * scene**1.2)
