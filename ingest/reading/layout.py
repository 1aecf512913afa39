"""Text laid out as on the page: words on a character grid, columns kept apart by two spaces or more."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.types import Word

_MAX_COLUMNS = 240
# A gap wider than this share of the line's height separates two segments (cells, columns); a table's gutters rarely
# stay below it.
_SEGMENT_GAP = 0.5
# Words from which a line may be prose rather than a row of cells.
_PROSE_WORDS = 5
# Gaps from which a page's typical space can be told.
_TELLING_GAPS = 20
# A shorter word in a narrow script can be higher than wide although it lies.
_TELLING_CHARS = 5


@dataclass(frozen=True, slots=True)
class _Segment:
    x0: float
    x1: float
    text: str


def layout_text(words: Sequence[Word]) -> str:
    """The words of a page as lines of text, each segment at the character column where it stands on the page.

    Words belong to one line when their vertical centres lie within half a word's height. Blank lines stand for
    vertical gaps. Within a segment words follow in reading order, right-to-left scripts included; columns of a page
    written from right to left count from its right edge. Text that runs down or up the page is turned upright: all of
    it on a page written so, else as lines of their own below the others.
    Works on any unit of length. The order of the input matters only to tell whether turned text runs up or down.
    """
    flat, turned = _split_turned(words)
    return "\n\n".join(text for text in (_layout(flat), _layout(_upright(turned))) if text)


def _layout(words: Sequence[Word]) -> str:
    lines = group_lines(words)
    if not lines:
        return ""
    left = min(word.bbox[0] for line in lines for word in line)
    right = max(word.bbox[2] for line in lines for word in line)
    unit = max(_char_width(words), (right - left) / _MAX_COLUMNS, 1e-6)
    limit = _space_limit(lines)
    directions = [_direction(word.text) for word in words if not word.text.isascii()]
    is_mirrored = directions.count("R") > len(words) / 2
    rendered: list[str] = []
    bottom = None
    for line in lines:
        top, height = min(w.bbox[1] for w in line), _median([w.bbox[3] - w.bbox[1] for w in line])
        if bottom is not None and top - bottom > 0.8 * height:
            rendered.append("")
        bottom = max(w.bbox[3] for w in line)
        segments = _segments(line, limit)
        if is_mirrored:
            segments = [_Segment(left + right - it.x1, left + right - it.x0, it.text) for it in reversed(segments)]
        rendered.append(_place(segments, left, unit))
    return "\n".join(rendered)


def _split_turned(words: Sequence[Word]) -> tuple[list[Word], list[Word]]:
    """Words that lie and words that stand on end. Short ones go with the majority, since their boxes tell nothing."""
    turned = [word for word in words if _stands(word)]
    if not turned:
        return list(words), []
    flat = [word for word in words if not _stands(word)]
    lying = sum(len(word.text) for word in flat if len(word.text) >= _TELLING_CHARS)
    return (flat, turned) if lying > sum(len(word.text) for word in turned) else ([], list(words))


def _stands(word: Word) -> bool:
    if len(word.text) < _TELLING_CHARS:
        return False
    x0, y0, x1, y1 = word.bbox
    return y1 - y0 > 1.4 * (x1 - x0)


def _upright(words: Sequence[Word]) -> list[Word]:
    """Standing words turned to lie: a quarter to the left when they run down the page, to the right when up."""
    steps = [
        after.bbox[1] - before.bbox[1]
        for before, after in itertools.pairwise(words)
        if min(before.bbox[2], after.bbox[2]) - max(before.bbox[0], after.bbox[0]) > 0
    ]
    if sum(step > 0 for step in steps) >= sum(step < 0 for step in steps):
        return [replace(w, bbox=(w.bbox[1], -w.bbox[2], w.bbox[3], -w.bbox[0])) for w in words]
    return [replace(w, bbox=(-w.bbox[3], w.bbox[0], -w.bbox[1], w.bbox[2])) for w in words]


def group_lines(words: Sequence[Word]) -> list[list[Word]]:
    """Words grouped to lines, lines from top to bottom, words from left to right."""
    lines: list[list[Word]] = []
    centres: list[float] = []
    heights: list[float] = []
    for word in sorted((w for w in words if not w.text.isspace() and w.text), key=_centre):
        _, top, _, bottom = word.bbox
        centre, height = (top + bottom) / 2, bottom - top
        # Only the last few lines can still take the word, since centres ascend.
        for back in range(-1, -min(3, len(lines)) - 1, -1):
            distance, other = abs(centre - centres[back]), heights[back]
            low, high = (height, other) if height < other else (other, height)
            if distance <= 0.45 * low or (distance <= 0.3 * high and not _collides(word, lines[back])):
                lines[back].append(word)
                break
        else:
            lines.append([word])
            centres.append(centre)
            heights.append(height)
    for line in lines:
        line.sort(key=_left)
    return lines


def _centre(word: Word) -> tuple[float, float]:
    x0, y0, _, y1 = word.bbox
    return (y0 + y1) / 2, x0


def _left(word: Word) -> float:
    return word.bbox[0]


def _collides(word: Word, line: Sequence[Word]) -> bool:
    return any(min(word.bbox[2], other.bbox[2]) - max(word.bbox[0], other.bbox[0]) > 0.5 for other in line)


def _space_limit(lines: Sequence[Sequence[Word]]) -> float:
    """Widest gap between words of one segment of this page, in heights.

    Typewriter faces have spaces as wide as a narrow gutter elsewhere; their spaces are all alike, which tells them.
    """
    gaps = sorted(gap for line in lines for gap in _gaps(line) if gap > 0.05)
    if len(gaps) < _TELLING_GAPS or gaps[len(gaps) // 4] > 1.25 * gaps[len(gaps) // 20]:
        return _SEGMENT_GAP
    return min(2 * _SEGMENT_GAP, max(_SEGMENT_GAP, 1.5 * gaps[len(gaps) // 4]))


def _gaps(line: Sequence[Word]) -> list[float]:
    """Gaps between neighbours on a line, in heights of the later word."""
    return [(b.bbox[0] - a.bbox[2]) / max(b.bbox[3] - b.bbox[1], 1e-6) for a, b in itertools.pairwise(line)]


def _segments(line: Sequence[Word], limit: float) -> list[_Segment]:
    """Cells of a table row, columns of prose: words that stand together.

    The gaps that cannot be spaces are cut first, so that a heading's cells are not taken for one line of prose.
    """
    groups: list[list[Word]] = []
    for stretch in _cut(line, 2 * _SEGMENT_GAP):
        groups += [stretch] if len(stretch) == 1 else _cut(stretch, max(limit, _prose_limit(stretch)))
    return [_Segment(group[0].bbox[0], group[-1].bbox[2], _join(_reading_order(group))) for group in groups]


def _cut(line: Sequence[Word], limit: float) -> list[list[Word]]:
    """The line cut at gaps wider than `limit` heights."""
    groups: list[list[Word]] = []
    right = -math.inf
    for word in line:
        x0, y0, x1, y1 = word.bbox
        if x0 - right <= limit * (y1 - y0):
            groups[-1].append(word)
        else:
            groups.append([word])
        right = max(right, x1) if len(groups[-1]) > 1 else x1
    return groups


def _prose_limit(stretch: Sequence[Word]) -> float:
    """Widest gap between words of one line of prose, in heights: set to full width it has wide spaces everywhere."""
    if len(stretch) < _PROSE_WORDS or 10 * sum(word.text[0].isalpha() for word in stretch) < 7 * len(stretch):
        return _SEGMENT_GAP
    gaps = sorted(_gaps(stretch))
    return min(2 * _SEGMENT_GAP, max(_SEGMENT_GAP, 1.6 * gaps[len(gaps) // 4]))


def _join(words: Sequence[Word]) -> str:
    text = words[0].text
    if len(words) == 1:
        return text
    for before, after in itertools.pairwise(words):
        gap = max(after.bbox[0] - before.bbox[2], before.bbox[0] - after.bbox[2])
        # Fragments of one word stand closer than any space; CJK words are joined by the font's own spacing.
        text += ("" if gap < 0.05 * (after.bbox[3] - after.bbox[1]) else " ") + after.text
    return text


def _reading_order(words: list[Word]) -> list[Word]:
    """Words from left to right, as they are read: right-to-left runs turned round, and the whole when they lead."""
    if len(words) == 1 or all(word.text.isascii() for word in words):
        return words
    directions = [_direction(word.text) for word in words]
    if "R" not in directions:
        return words
    base = "R" if directions.count("R") >= directions.count("L") else "L"
    runs = [
        (direction, [word for _, word in run])
        for direction, run in itertools.groupby(
            zip((each or base for each in directions), words, strict=True), key=lambda pair: pair[0]
        )
    ]
    ordered = [run[::-1] if direction == "R" else run for direction, run in runs]
    return [word for run in (reversed(ordered) if base == "R" else ordered) for word in run]


def _direction(text: str) -> str:
    """R or L by the first letter that has a direction, "" for numbers and signs."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return "R"
        if kind == "L":
            return "L"
    return ""


def _place(segments: Sequence[_Segment], left: float, unit: float) -> str:
    text, columns = "", 0
    for segment in segments:
        gap = max(math.floor((segment.x0 - left) / unit + 0.5) - columns, 2 if text else 0)
        text += " " * gap + segment.text
        columns += gap + _columns(segment.text)
    return text


def _columns(text: str) -> int:
    """Columns a text takes on a character grid, where East Asian characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _char_width(words: Sequence[Word]) -> float:
    """Width of a character of the page's smaller print, so that dense cells do not push their neighbours aside."""
    widths = sorted((w.bbox[2] - w.bbox[0]) / columns for w in words if (columns := _columns(w.text)) > 1)
    return widths[len(widths) * 2 // 5] if widths else 1.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
