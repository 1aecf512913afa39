"""Whether two frames show the same, as somebody sees it who wants to read what is on them.

A coarse hash alone would call two slides alike that differ in one line, and comparing pixels would call two frames
different that differ in coding noise. So the difference is looked at block by block: noise is weak and everywhere, a
changed letter is strong and in one place; and its mean over all blocks, which small changes leave alone, tells scenes
apart.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageChops

_BLOCK_PX = 8
"""A letter that can be read at all covers about one block."""
_CLEAR = 22
"""Mean difference of a block (of 255) that no coding noise makes: a letter of text in black on white measures 30 to 90.
Measured on x264 at CRF 18 to 35 and VP9: noise of a picture coded anew stays below 16."""
_FAINT = 9
"""From here on, a block counts as changed when it stands out from the rest: pale print, thin strokes, small digits."""
_OUTSTANDING = 4.0
"""How many times as strong as the noise of the other blocks (their 99th percentile) a faint change must be."""

_CUT = 28.0
"""Mean difference of all blocks (of 255) from which two frames are of different scenes."""
_NEW_SLIDE_SHARE = 0.04
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


def compare(one: PillowImage.Image, other: PillowImage.Image) -> Difference:
    """How a picture in RGBX differs from one before it. Pictures of different sizes have nothing in common."""
    if one.size != other.size:
        return Difference(255.0, False, 1.0)
    blocks = ImageChops.difference(one, other).reduce(_BLOCK_PX)
    red, green, blue, _ = blocks.split()
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


def save_look(picture: PillowImage.Image, path: Path) -> None:
    """Put a picture on disk as it is, for the worker that compares across spans."""
    width, height = picture.size
    data = zlib.compress(picture.tobytes(), 1)
    path.write_bytes(width.to_bytes(4, "big") + height.to_bytes(4, "big") + data)


def read_look(path: Path) -> PillowImage.Image:
    """What `save_look` wrote."""
    data = path.read_bytes()
    size = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    return PillowImage.frombytes("RGBX", size, zlib.decompress(data[8:]))
