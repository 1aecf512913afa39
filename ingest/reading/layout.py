"""Text laid out as on the page: words on a character grid, columns kept apart by two spaces or more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.types import Word

_MAX_COLUMNS = 240
# A gap wider than this share of the line's height separates two segments (cells, columns); a justified line's
# spaces stay below it, a table's gutters rarely do.
_SEGMENT_GAP = 0.5


@dataclass(frozen=True, slots=True)
class _Segment:
    x0: float
    x1: float
    text: str


def layout_text(words: Sequence[Word]) -> str:
    """The words of a page as lines of text, each segment at the character column where it stands on the page.

    Words belong to one line when their vertical centres lie within half a word's height. Blank lines stand for
    vertical gaps. Works on any unit of length; reading order of the input does not matter.
    """
    lines = group_lines(words)
    if not lines:
        return ""
    left = min(word.bbox[0] for line in lines for word in line)
    right = max(word.bbox[2] for line in lines for word in line)
    unit = max(_char_width(words), (right - left) / _MAX_COLUMNS, 1e-6)
    rendered: list[str] = []
    bottom = None
    for line in lines:
        top, height = min(w.bbox[1] for w in line), _median([w.bbox[3] - w.bbox[1] for w in line])
        if bottom is not None and top - bottom > 0.8 * height:
            rendered.append("")
        bottom = max(w.bbox[3] for w in line)
        rendered.append(_place(_segments(line), left, unit))
    return "\n".join(rendered)


def group_lines(words: Sequence[Word]) -> list[list[Word]]:
    """Words grouped to lines, lines from top to bottom, words from left to right."""
    lines: list[list[Word]] = []
    centres: list[float] = []
    for word in sorted((w for w in words if w.text.strip()), key=lambda w: ((w.bbox[1] + w.bbox[3]) / 2, w.bbox[0])):
        centre, height = (word.bbox[1] + word.bbox[3]) / 2, word.bbox[3] - word.bbox[1]
        # Only the last few lines can still take the word, since centres ascend.
        for back in range(1, min(3, len(lines)) + 1):
            line = lines[-back]
            other = line[0].bbox[3] - line[0].bbox[1]
            if abs(centre - centres[-back]) <= 0.45 * min(height, other) or (
                abs(centre - centres[-back]) <= 0.3 * max(height, other) and not _collides(word, line)
            ):
                line.append(word)
                break
        else:
            lines.append([word])
            centres.append(centre)
    return [sorted(line, key=lambda w: w.bbox[0]) for line in lines]


def _collides(word: Word, line: Sequence[Word]) -> bool:
    return any(min(word.bbox[2], other.bbox[2]) - max(word.bbox[0], other.bbox[0]) > 0.5 for other in line)


def _segments(line: Sequence[Word]) -> list[_Segment]:
    segments: list[_Segment] = []
    for word in line:
        height = word.bbox[3] - word.bbox[1]
        if segments and word.bbox[0] - segments[-1].x1 <= _SEGMENT_GAP * height:
            last = segments[-1]
            # Fragments of one word stand closer than any space; CJK words are joined by the font's own spacing.
            glue = "" if word.bbox[0] - last.x1 < 0.05 * height else " "
            segments[-1] = _Segment(last.x0, word.bbox[2], last.text + glue + word.text)
        else:
            segments.append(_Segment(word.bbox[0], word.bbox[2], word.text))
    return segments


def _place(segments: Sequence[_Segment], left: float, unit: float) -> str:
    text = ""
    for segment in segments:
        column = math.floor((segment.x0 - left) / unit + 0.5)
        text += " " * max(column - len(text), 2 if text else 0) + segment.text
    return text


def _char_width(words: Sequence[Word]) -> float:
    """Width of a character of the page's smaller print, so that dense cells do not push their neighbours aside."""
    widths = sorted((w.bbox[2] - w.bbox[0]) / len(w.text) for w in words if len(w.text) > 1)
    return widths[len(widths) * 2 // 5] if widths else 1.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
