"""Frames of a video as screens: what is shown from when to when, what a screen's title, points and fields are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rapidfuzz import fuzz

from ingest.local.filler.text import squash
from ingest.local.filler.view import Row
from ingest.local.page import Line, Page, Segment, median

# Texts are the same, OCR's slips aside, from this likeness on; digits must be equal in any case.
_SAME_TITLE = 85.0
_SAME_LINE = 80.0
# Two frames show one screen when this share of the lines of one stands on the other.
_SHARED_LINES = 0.5
_ALL_LINES = 0.8
# Share of the frame's height, above and below, in which headers, footers and numbers stand.
_EDGE = 0.075
# Lines of a title have nearly the same height; a title is this much taller than the other lines, or stands first.
_SAME_HEIGHT = 0.82
_TALLER = 1.12
# Lines of one point stand closer than this, in heights of the line.
_CLOSE_LINES = 1.3
_MIN_LETTERS = 2
_MARK = re.compile(r"^(?:[•·∙●▪■□◦‣○*>»►▶➢✓]+|[-–—−一](?=\s))\s*")
_WHOLE_NUMBER = re.compile(r"(?<![^\W\d_])\d+(?![^\W\d_])")
_NUMBER = re.compile(r"^(?:(?:slide|page|folie|seite)\s*)?(\d{1,3})(?:\s*(?:/|of|von)\s*\d{1,3})?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Screen:
    """Frames in a row that show one slide, window or scene. `end_s` is None when its end is not known."""

    frames: tuple[Page, ...]
    end_s: float | None

    @property
    def start_s(self) -> float:
        """Time of its first frame."""
        return time_of(self.frames[0])

    @property
    def final(self) -> Page:
        """Its last frame."""
        return self.frames[-1]

    @property
    def is_owned(self) -> bool:
        """Whether a frame shows it that was not sent as context only."""
        return any(not frame.is_context for frame in self.frames)


@dataclass(frozen=True, slots=True)
class Span:
    """A line of text and the frames that show it. `is_new` when an earlier frame does not."""

    line: Line
    first: Page
    last: Page
    end_s: float | None
    is_new: bool
    is_owned: bool

    @property
    def start_s(self) -> float:
        """Time of the first frame that shows it."""
        return time_of(self.first)


@dataclass(frozen=True, slots=True)
class Face:
    """A frame taken apart: title, the slide's printed number, and the lines below the title."""

    title: Line | None
    title_text: str
    number: str | None
    body: tuple[Line, ...]


@dataclass
class Footage:
    """A video as far as it was sent. `end_s` is its end, where the request reaches it."""

    pages: Sequence[Page]
    end_s: float | None = None
    _faces: dict[int, Face] = field(default_factory=dict)

    @cached_property
    def frames(self) -> tuple[Page, ...]:
        """The frames, in the order of time."""
        return tuple(page for page in self.pages if not page.is_spoken)

    @cached_property
    def spoken(self) -> tuple[Page, ...]:
        """What is said, each text once where it goes on over several frames."""
        found: list[Page] = []
        for page in self.pages:
            if page.is_spoken and (not found or squash(page.text) != squash(found[-1].text)):
                found.append(page)
        return tuple(found)

    @cached_property
    def screens(self) -> tuple[Screen, ...]:
        """The screens in the order of time."""
        groups: list[list[Page]] = []
        for frame in self.frames:
            if groups and self._shows_same(groups[-1][-1], frame):
                groups[-1].append(frame)
            else:
                groups.append([frame])
        ends = [time_of(group[0]) for group in groups[1:]] + [self.end_s]
        return tuple(Screen(tuple(group), end) for group, end in zip(groups, ends, strict=False))

    @property
    def view_pages(self) -> list[Page]:
        """Each screen in its final state and each thing said once: what rules for documents are to read."""
        shown = [screen.final for screen in self.screens]
        return sorted([*shown, *self.spoken], key=lambda page: page.number)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Every line with the time it is shown, in the order in which they appear."""
        open_spans: list[tuple[Line, Page, Page, bool, bool]] = []
        found: list[Span] = []
        for position, frame in enumerate(self.frames):
            lines = [line for line in frame.lines if _letters(line.text) >= _MIN_LETTERS]
            kept: list[tuple[Line, Page, Page, bool, bool]] = []
            for line, first, last, is_new, is_owned in open_spans:
                match = next((other for other in lines if is_same_line(line.text, other.text)), None)
                if match is None:
                    found.append(Span(line, first, last, time_of(frame), is_new, is_owned))
                    continue
                lines.remove(match)
                kept.append((match, first, frame, is_new, is_owned or not frame.is_context))
            kept += [(line, frame, frame, position > 0, not frame.is_context) for line in lines]
            open_spans = kept
        found += [Span(line, first, last, self.end_s, new, owned) for line, first, last, new, owned in open_spans]
        return tuple(sorted(found, key=lambda span: (span.start_s, span.line.y0)))

    def face(self, frame: Page) -> Face:
        """The frame taken apart."""
        if id(frame) not in self._faces:
            self._faces[id(frame)] = _take_apart(frame)
        return self._faces[id(frame)]

    def points(self, frame: Page) -> list[tuple[str, Line]]:
        """The points below the title, lines that belong together joined, without marks; each with its first line."""
        body = [line for line in self.face(frame).body if _letters(line.text) >= 1 and not self.is_fixture(frame, line)]
        points: list[tuple[str, Line]] = []
        above: Line | None = None
        for line in body:
            text = line_text(line)
            cleaned = _MARK.sub("", text).strip()
            if not cleaned:
                continue
            if above is not None and points and cleaned == text and self._goes_on(above, line):
                points[-1] = (f"{points[-1][0]} {cleaned}", points[-1][1])
            else:
                points.append((cleaned, line))
            above = line
        return points

    def is_fixture(self, frame: Page, line: Line) -> bool:
        """Whether a line at the edge of the frame is no part of the content.

        That is one smaller than the others, one with a number alone in it, or one that stands on other screens as well.
        """
        if not _is_at_edge(frame, line):
            return False
        if len(squash(line.text)) <= _MIN_LETTERS or _printed_number(line.segments) or self._edges[_masked(line)] > 1:
            return True
        others = median((o.y1 - o.y0 for o in self.face(frame).body if not _is_at_edge(frame, o)), 0.0)
        return line.y1 - line.y0 < _SAME_HEIGHT * others

    @cached_property
    def _edges(self) -> Counter[str]:
        """How many screens have a line at their edge, its digits masked."""
        return Counter(
            key
            for screen in self.screens
            for key in {_masked(line) for line in screen.final.lines if _is_at_edge(screen.final, line)}
        )

    @cached_property
    def _right(self) -> float:
        """How far to the right text is set, as a share of the width of the frame."""
        edges = (line.x1 / max(page.width, 1.0) for page in self.frames for line in self.face(page).body)
        return max(edges, default=1.0)

    def _goes_on(self, above: Line, line: Line) -> bool:
        """Whether a line continues the one above: close below it, and its first word had no room there."""
        height = max(above.y1 - above.y0, line.y1 - line.y0)
        width = max(frame.width for frame in self.frames)
        first = line.tokens[0]
        is_full = above.x1 + (first.x1 - first.x0) > 0.97 * self._right * width
        return line.y0 - above.y0 < _CLOSE_LINES * height and is_full

    def first_seen(self, page: Page, line: Line) -> float:
        """Time of the first frame of its screen that shows a line of one of the frames."""
        if page.is_spoken:
            return time_of(page)
        for screen in self.screens:
            if not screen.start_s <= time_of(page) <= time_of(screen.final):
                continue
            for frame in screen.frames:
                if any(is_same_line(other.text, line.text, exact_digits=True) for other in frame.lines):
                    return time_of(frame)
        return time_of(page)

    def said(self, screen: Screen) -> list[Page]:
        """What is said while a screen is shown."""
        end_s = screen.end_s if screen.end_s is not None else float("inf")
        return [page for page in self.spoken if screen.start_s <= time_of(page) < end_s]

    def _shows_same(self, earlier: Page, later: Page) -> bool:
        one, other = self.face(earlier), self.face(later)
        if one.title is None and other.title is None:
            return not earlier.lines and not later.lines
        if one.number and other.number and one.number != other.number:
            return False
        before, after = [line.text for line in one.body], [line.text for line in other.body]
        if is_same_title(one.title_text, other.title_text):
            return not before or not after or _shared(before, after) >= _SHARED_LINES
        before, after = [line.text for line in earlier.lines], [line.text for line in later.lines]
        return min(len(before), len(after)) > 2 and _shared(before, after) >= _ALL_LINES


def time_of(page: Page) -> float:
    """Seconds from the start of the video."""
    return page.time_s if page.time_s is not None else 0.0


def row_of(page: Page, line: Line) -> Row:
    """A line of a frame as evidence. It counts as this call's own, whether or not the frame was sent as context."""
    return Row(0, replace(page, is_context=False), line, 0.0, False)


def is_same_title(one: str, other: str) -> bool:
    """Whether two titles are the same but for slips of OCR; their digits must be equal."""
    return _digits(one) == _digits(other) and fuzz.ratio(squash(one), squash(other)) >= _SAME_TITLE


def is_same_line(one: str, other: str, *, exact_digits: bool = False) -> bool:
    """Whether two lines are the same but for slips of OCR, or a figure in them."""
    if exact_digits and _digits(one) != _digits(other):
        return False
    left, right = squash(one), squash(other)
    return left == right or (min(len(left), len(right)) > 3 and fuzz.ratio(left, right) >= _SAME_LINE)


def line_text(line: Line) -> str:
    """The words of a line with single spaces."""
    return " ".join(segment.text for segment in line.segments).strip()


def _shared(before: Sequence[str], after: Sequence[str]) -> float:
    """Share of the lines of the shorter list that stand on the longer one."""
    few, many = sorted((before, after), key=len)
    return sum(any(is_same_line(one, other) for other in many) for one in few) / len(few) if few else 1.0


def _digits(text: str) -> list[str]:
    """The numbers in a text; a digit within a word may be a misread letter."""
    return _WHOLE_NUMBER.findall(text)


def _masked(line: Line) -> str:
    return "".join("0" if character.isdigit() else character for character in squash(line.text))


def _is_at_edge(frame: Page, line: Line) -> bool:
    middle = (line.y0 + line.y1) / 2 / max(frame.height, 1.0)
    return not _EDGE <= middle <= 1 - _EDGE


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _take_apart(frame: Page) -> Face:
    number: str | None = None
    inner: list[Line] = []
    for line in frame.lines:
        if _is_at_edge(frame, line):
            number = number or _printed_number(line.segments)
        inner.append(line)
    title = _title_lines(inner)
    if not title:
        return Face(None, "", number, tuple(inner))
    body = tuple(line for line in inner if line not in title and line.y0 > title[0].y0)
    return Face(title[0], " ".join(line_text(line) for line in title), number, body)


def _printed_number(segments: Iterable[Segment]) -> str | None:
    return next((match[1] for segment in segments if (match := _NUMBER.match(segment.text.strip()))), None)


def _title_lines(lines: Sequence[Line]) -> list[Line]:
    """The tallest line of letters with the lines of the same height right below it; none where no line stands out."""
    able = [line for line in lines if sum(character.isalpha() for character in line.text) >= _MIN_LETTERS]
    if not able:
        return []
    tallest = max(able, key=lambda line: line.y1 - line.y0)
    height = tallest.y1 - tallest.y0
    others = median((line.y1 - line.y0 for line in able if line is not tallest), height / 2)
    first = next(line for line in able if line.y1 - line.y0 >= _SAME_HEIGHT * height)
    if height < _TALLER * others:
        return [able[0]]
    title = [first]
    for line in lines[lines.index(first) + 1 :]:
        above = title[-1]
        if line.y1 - line.y0 < _SAME_HEIGHT * height or line.y0 - above.y0 > 1.5 * height:
            break
        title.append(line)
    return title
