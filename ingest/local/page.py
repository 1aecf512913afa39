"""What the local engine sees of a page: words with boxes, in lines and segments, on one scale for text and images.

Unit of every coordinate: a character cell for text pages (one column wide, one printed line high; blank lines count),
a pixel of the upright image for pages read by OCR. The origin is the top left corner, y grows downwards. Rules that
must work on both divide by `Page.char_width` and `Page.line_height`, which are 1 on text pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Origin = Literal["text", "ocr"]


@dataclass(frozen=True, slots=True)
class Token:
    """A word and its box, in the unit of its page."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one line that stand together: a table cell, a label, a piece of a column."""

    tokens: tuple[Token, ...]
    text: str
    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def of(cls, tokens: Sequence[Token]) -> Segment:
        """The segment made of these words; they stand from left to right and there is at least one."""
        return cls(
            tuple(tokens),
            " ".join(token.text for token in tokens),
            tokens[0].x0,
            min(token.y0 for token in tokens),
            max(token.x1 for token in tokens),
            max(token.y1 for token in tokens),
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line: segments from left to right, at least one."""

    segments: tuple[Segment, ...]
    y0: float
    y1: float

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Line:
        """The line made of these segments."""
        return cls(tuple(segments), min(s.y0 for s in segments), max(s.y1 for s in segments))

    @property
    def x0(self) -> float:
        """Left edge."""
        return self.segments[0].x0

    @property
    def x1(self) -> float:
        """Right edge."""
        return max(segment.x1 for segment in self.segments)

    @property
    def text(self) -> str:
        """The words, segments parted by two spaces."""
        return "  ".join(segment.text for segment in self.segments)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All words from left to right."""
        return tuple(token for segment in self.segments for token in segment.tokens)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the rules see it.

    `number` counts from 1. A frame of a video, and what is said at its time, have `time_s`, seconds from the start of
    the video; `is_spoken` tells the one from the other. `is_context` marks a page sent for understanding only, whose
    values another call reports.
    `rotation_deg` is the clockwise turn (0, 90, 180, 270) that made the image upright and `skew_rad` the slope of its
    lines taken out afterwards, both about the centre; together they lead back to the image as it was sent.
    """

    number: int
    width: float
    height: float
    lines: tuple[Line, ...]
    origin: Origin
    is_context: bool = False
    char_width: float = 1.0
    line_height: float = 1.0
    rotation_deg: int = 0
    skew_rad: float = 0.0
    time_s: float | None = None
    is_spoken: bool = False

    def tokens(self) -> Iterator[Token]:
        """All words in reading order."""
        for line in self.lines:
            yield from line.tokens

    @property
    def text(self) -> str:
        """The words line by line."""
        return "\n".join(line.text for line in self.lines)


def median(values: Iterable[float], default: float = 1.0) -> float:
    """The middle value (the upper of two), or the default of an empty list."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else default


def turn(x: float, y: float, centre_x: float, centre_y: float, angle_rad: float) -> tuple[float, float]:
    """A point turned about a centre, clockwise on a page whose y grows downwards."""
    dx, dy = x - centre_x, y - centre_y
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return centre_x + dx * cos - dy * sin, centre_y + dx * sin + dy * cos
