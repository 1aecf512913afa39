"""Single values a video answers: its title, who speaks, where and when; the program shown and how the work ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ingest.local.filler.dates import find_dates
from ingest.local.filler.fields import Field
from ingest.local.filler.footage import Footage, Screen, line_text, row_of
from ingest.local.filler.found import Found
from ingest.local.filler.screens import last_message, window_name
from ingest.local.filler.text import name_words, squash
from ingest.local.page import Line

_PARTICLES = "de|van|von|der|den|del|da|di|la|le|el"
_PERSON = re.compile(
    rf"^(?:(?:Dr|Prof)\.?\s+)*[A-ZÀ-Þ][\w'’-]+(?:\s+(?:(?:{_PARTICLES})\s+)*[A-ZÀ-Þ][\w'’.-]+){{1,3}}$"
)
_SOURCE = re.compile(r"^(?:camera|cam|kamera|caméra|cámara|channel|kanal)\b[\s.:#-]*\S+", re.IGNORECASE)
# Only what is shown in the first seconds opens a video.
_OPENING_S = 5.0
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_SUMMARY_SENTENCES = 4
_SUMMARY_CHARS = 700
_MIN_SAID_CHARS = 60


def answers(asked: Field) -> bool:
    """Whether the rules here decide about a field of a video."""
    return _topic(asked) is not None


def find(asked: Field, footage: Footage) -> Found | None:
    """The value of a field of a video, or None."""
    topic = _topic(asked)
    return None if topic is None else _FINDERS[topic](footage)


def _topic(asked: Field) -> str | None:
    if len(asked.path) != 1:
        return None
    words = set(name_words(asked.path[0])) - _OF_THE_VIDEO
    return next((topic for topic, names in _NAMES.items() if words and words <= names), None)


# Words of a property's name that say no more than that it is about this video.
_OF_THE_VIDEO = frozenset("name lecture talk video meeting recording of the".split())
_NAMES: Mapping[str, frozenset[str]] = {
    "speaker": frozenset("speaker presenter lecturer referent redner orateur ponente".split()),
    "event": frozenset("event conference course occasion institution veranstaltung".split()),
    "application": frozenset("application program programme app software website".split()),
    "outcome": frozenset("outcome result final last confirmation message".split()),
    "source": frozenset("source camera device".split()),
    "location": frozenset("location place site room".split()),
    "date": frozenset("date day datum".split()),
    "title": frozenset("title titel titre heading".split()),
    "summary": frozenset("summary abstract overview".split()),
}


def _opening(footage: Footage) -> Screen | None:
    """The screen the video opens with, where the request begins there."""
    screens = footage.screens
    return screens[0] if screens and screens[0].start_s < _OPENING_S and not screens[0].frames[0].is_context else None


def _opening_lines(footage: Footage) -> list[Line]:
    screen = _opening(footage)
    return [] if screen is None else list(footage.face(screen.frames[0]).body)


def _found(footage: Footage, line: Line, text: str, confidence: float = 0.7) -> Found:
    return Found(text, row_of(footage.screens[0].frames[0], line), None, confidence)


def _title(footage: Footage) -> Found | None:
    screen = _opening(footage)
    face = footage.face(screen.frames[0]) if screen else None
    return _found(footage, face.title, face.title_text, 0.75) if face and face.title else None


def _speaker(footage: Footage) -> Found | None:
    for line in _opening_lines(footage):
        if _PERSON.match(line_text(line)):
            return _found(footage, line, line_text(line))
    return None


def _event(footage: Footage) -> Found | None:
    """What stands before the date in a line of the opening."""
    for line in _opening_lines(footage):
        text = line_text(line)
        dates = find_dates(text)
        name = text[: dates[0].start].strip(" ,;|·–-") if dates else ""
        if len(squash(name)) > 3:
            return _found(footage, line, name, 0.6)
    return None


def _date(footage: Footage) -> Found | None:
    screen = _opening(footage)
    for line in screen.frames[0].lines if screen else ():
        dates = find_dates(line_text(line))
        if dates:
            return _found(footage, line, dates[0].resolve(month_first=False).isoformat())
    return None


def _application(footage: Footage) -> Found | None:
    found = window_name(footage)
    return Found(found[2], row_of(found[0], found[1]), None, 0.6) if found else None


def _outcome(footage: Footage) -> Found | None:
    found = last_message(footage)
    return Found(found[2], row_of(found[0], found[1]), None, 0.6) if found else None


def _source(footage: Footage) -> Found | None:
    for line in footage.screens[0].frames[0].lines if footage.screens else ():
        if _SOURCE.match(line_text(line)):
            return _found(footage, line, line_text(line))
    return None


def _location(footage: Footage) -> Found | None:
    """The headline that stays: what a control room's display or a camera's picture is titled with."""
    found = _title(footage)
    return found if found and _source(footage) else None


def _summary(footage: Footage) -> Found | None:
    """The first sentences that are said; slides alone are no prose to take one from."""
    said = [page for page in footage.spoken if not page.is_context]
    text = " ".join(page.text.replace("\n", " ") for page in said)
    sentences = _SENTENCE_END.split(text)[:_SUMMARY_SENTENCES]
    if not said or not said[0].lines or len(text) < _MIN_SAID_CHARS:
        return None
    return Found(" ".join(sentences)[:_SUMMARY_CHARS].strip(), row_of(said[0], said[0].lines[0]), None, 0.4)


_FINDERS: Mapping[str, Callable[[Footage], Found | None]] = {
    "speaker": _speaker,
    "event": _event,
    "application": _application,
    "outcome": _outcome,
    "source": _source,
    "location": _location,
    "date": _date,
    "title": _title,
    "summary": _summary,
}
