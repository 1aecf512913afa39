"""A screen somebody works on: the fields of its form, what changes in them, and the messages that appear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.local.filler.footage import Footage, Screen, is_same_line, line_text
from ingest.local.filler.text import squash
from ingest.local.page import Line, Page

_MAX_LABEL_WORDS = 6
_MIN_ROWS = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A field with its final value ("" when it is empty), and the first frame that shows that value."""

    label: str
    value: str
    frame: Page
    line: Line


@dataclass(frozen=True, slots=True)
class Worked:
    """What happens on a screen: fields at the end, values as they are filled in, texts that appear elsewhere."""

    entries: tuple[Entry, ...]
    changes: tuple[tuple[str, str, Page, Line], ...]
    messages: tuple[tuple[Page, Line, str], ...]


def read_fields(screen: Screen, footage: Footage) -> Worked:
    """The form on a screen, told by labels that stand below one another with values beside them."""
    labels = _labels(screen, footage)
    final = {squash(label): (label, value, line) for label, value, line in _rows(screen.final, labels, footage)}
    entries: list[Entry] = []
    for key, (label, value, line) in final.items():
        first = _first_with(screen.frames, key, value, labels, footage) if value else screen.final
        entries.append(Entry(label, value, first, line))
    return Worked(tuple(entries), tuple(_changes(screen, labels, footage)), tuple(_messages(screen, labels, footage)))


def _labels(screen: Screen, footage: Footage) -> frozenset[str]:
    """Labels of fields: first words of lines with something beside them, in one column; none without two of them."""
    columns: list[tuple[float, str]] = []
    width = 1.0
    for frame in screen.frames:
        title = footage.face(frame).title
        width = 2 * frame.char_width
        columns += [
            (line.segments[0].x0, squash(line.segments[0].text))
            for line in frame.lines
            if len(line.segments) == 2 and (title is None or line.y0 > title.y0) and _may_be_label(line)
        ]
    if not columns:
        return frozenset()
    left = max((x for x, _ in columns), key=lambda x: len({key for other, key in columns if abs(other - x) < width}))
    found = frozenset(key for x, key in columns if abs(x - left) < width)
    return found if len(found) >= _MIN_ROWS else frozenset()


def _may_be_label(line: Line) -> bool:
    text = line.segments[0].text
    return 0 < len(text.split()) <= _MAX_LABEL_WORDS and any(character.isalpha() for character in text)


def _rows(frame: Page, labels: frozenset[str], footage: Footage) -> list[tuple[str, str, Line]]:
    """Label, value and line of each field, from top to bottom."""
    rows: list[tuple[str, str, Line]] = []
    for line in frame.lines:
        label = line.segments[0].text
        if squash(label) in labels:
            rows.append((label.rstrip(" :"), " ".join(s.text for s in line.segments[1:]).strip(), line))
    return rows


def _value_in(frame: Page, key: str, labels: frozenset[str], footage: Footage) -> tuple[str, Line] | None:
    return next(((v, line) for label, v, line in _rows(frame, labels, footage) if squash(label) == key), None)


def _first_with(frames: Sequence[Page], key: str, value: str, labels: frozenset[str], footage: Footage) -> Page:
    """The first frame from which on a field has its final value."""
    first = frames[-1]
    for frame in reversed(frames):
        found = _value_in(frame, key, labels, footage)
        if found is None or squash(found[0]) != squash(value):
            break
        first = frame
    return first


def _changes(screen: Screen, labels: frozenset[str], footage: Footage) -> list[tuple[str, str, Page, Line]]:
    """Values as they are filled in: one for each field and run of frames in which it alone grows."""
    found: list[tuple[str, str, Page, Line]] = []
    values: dict[str, str] = {}
    typing = ""
    for number, frame in enumerate(screen.frames):
        for label, value, line in _rows(frame, labels, footage):
            key = squash(label)
            if number and value and value != values.get(key, ""):
                if typing == key and found and squash(value).startswith(squash(found[-1][1])):
                    found[-1] = (label, value, *found[-1][2:])
                else:
                    found.append((label, value, frame, line))
                typing = key
            values[key] = value
    return found


def _messages(screen: Screen, labels: frozenset[str], footage: Footage) -> list[tuple[Page, Line, str]]:
    """Texts that appear while the screen is shown, other than values of fields."""
    found: list[tuple[Page, Line, str]] = []
    known: list[str] = [segment.text for line in screen.frames[0].lines for segment in line.segments]
    for frame in screen.frames[1:]:
        for line in frame.lines:
            for segment in line.segments:
                if squash(line.segments[0].text) in labels or len(squash(segment.text)) < 3:
                    continue
                if not any(is_same_line(segment.text, other) for other in known):
                    known.append(segment.text)
                    found.append((frame, line, segment.text))
    return found


def last_message(footage: Footage) -> tuple[Page, Line, str] | None:
    """The last text that appeared on a screen, other than values of fields; None when none did."""
    for screen in reversed(footage.screens):
        messages = _messages(screen, _labels(screen, footage), footage)
        if messages:
            return messages[-1]
    return None


def window_name(footage: Footage) -> tuple[Page, Line, str] | None:
    """The line above the title on most screens: the name in the bar of a window."""
    counts: dict[str, tuple[int, Page, Line]] = {}
    for screen in footage.screens:
        title = footage.face(screen.final).title
        above = [line for line in screen.final.lines if title is not None and line.y1 <= title.y0]
        if above:
            key = squash(above[0].text)
            counts[key] = (counts.get(key, (0,))[0] + 1, screen.final, above[0])
    if not counts:
        return None
    count, page, line = max(counts.values(), key=lambda entry: entry[0])
    return (page, line, line_text(line)) if count * 2 >= len(footage.screens) else None
