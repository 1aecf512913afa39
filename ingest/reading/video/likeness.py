"""Whether two frames show the same, as somebody sees it who wants to read what is on them.

A coarse hash alone would call two slides alike that differ in one line, and comparing pixels would call two frames
different that differ in coding noise. So frames are remembered as the means of small blocks, fine enough that a changed
letter fills one and large enough that noise is averaged away, and compared block by block: noise is weak and
everywhere, a changed letter is strong and in one place. Scenes are told apart by the mean over all blocks, which small
changes leave alone.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageChops

_BLOCK_PX, _SMALL_BLOCK_PX = 4, 3
_LARGE_PX = 400_000
"""Frames are divided into blocks of 4 by 4 pixels, or 3 by 3 when they have fewer pixels than this."""
_CLEAR = 36
"""Difference of a block (of 255) that no coding noise makes. Measured on slides coded by x264 at CRF 18 to 36 and at
150 kbit/s, in frames of 0.06 to 0.9 megapixels: noise, most of it where a keyframe draws the picture anew, reaches 33,
and 21 when the picture is still otherwise. Of changes, a digit and a pale line make 47 and more; a gray plus sign of 16
pixels height makes 56 at 1280 by 720."""
_FAINT = 24
_OUTSTANDING = 8
"""From `_FAINT` on, a block counts as changed when it is so many times as strong as the 99th percentile of all blocks:
a small change in a picture that is still otherwise."""

_CUT = 28.0
"""Mean difference of all blocks (of 255) from which two frames are of different scenes."""
_NEW_SLIDE_SHARE = 0.008
"""Share of changed blocks from which a picture that stood still has become another one: a slide, a window, a page."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two frames differ: `mean` over all blocks, 0 to 255; `is_repeat` whether they show the same, coding noise
    apart; `changed` the share of blocks that clearly differ."""

    mean: float
    is_repeat: bool
    changed: float

    def is_cut(self, stood_still: bool) -> bool:
        """Whether another scene begins; `stood_still` tells that nothing had moved before."""
        return self.mean > _CUT or (stood_still and self.changed > _NEW_SLIDE_SHARE)


def look_at(picture: PillowImage.Image) -> PillowImage.Image:
    """What is remembered of a picture in RGBX to compare others with."""
    return picture.reduce(_BLOCK_PX if picture.width * picture.height >= _LARGE_PX else _SMALL_BLOCK_PX)


def compare(one: PillowImage.Image, other: PillowImage.Image) -> Difference:
    """How a frame differs from one before it, by their looks. Frames of different sizes have nothing in common."""
    if one.size != other.size:
        return Difference(255.0, False, 1.0)
    red, green, blue, _ = ImageChops.difference(one, other).split()
    histogram = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    count = sum(histogram)
    top = max(value for value, many in enumerate(histogram) if many)
    is_repeat = top < _FAINT or (top < _CLEAR and top < _OUTSTANDING * _percentile(histogram, 0.99))
    mean = sum(value * many for value, many in enumerate(histogram)) / count
    return Difference(mean, is_repeat, sum(histogram[_CLEAR:]) / count)


def _percentile(histogram: list[int], share: float) -> int:
    left = sum(histogram) * (1 - share)
    for value in range(len(histogram) - 1, -1, -1):
        left -= histogram[value]
        if left < 0:
            return value
    return 0


def save_look(look: PillowImage.Image, path: Path) -> None:
    """Put a look on disk, for the worker that compares across spans."""
    width, height = look.size
    data = zlib.compress(look.tobytes(), 1)
    path.write_bytes(width.to_bytes(4, "big") + height.to_bytes(4, "big") + data)


def read_look(path: Path) -> PillowImage.Image:
    """What `save_look` wrote."""
    data = path.read_bytes()
    size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    return PillowImage.frombytes("RGBX", size, zlib.decompress(data[8:]))
