"""Lists a video answers: slides, scenes, events, steps, fields of forms, and what stands below a heading in notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ingest.local.filler.footage import Footage, Screen, Span, line_text, row_of, time_of
from ingest.local.filler.found import Found
from ingest.local.filler.schema import Node, types_of
from ingest.local.filler.screens import read_fields
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.view import Row
from ingest.local.page import Line, Page

Record = dict[str, Found]

_TOPICS: Mapping[str, str] = {
    "slide": "slides", "slides": "slides", "folien": "slides", "diapositives": "slides", "scene": "slides",
    "scenes": "slides", "screens": "slides", "chapters": "slides", "segments": "slides", "shots": "slides",
    "event": "events", "events": "events", "incidents": "events", "occurrences": "events", "changes": "events",
    "alarms": "events", "messages": "events", "steps": "steps", "actions": "steps", "interactions": "steps",
    "clicks": "steps", "fields": "fields", "form": "fields", "inputs": "fields", "entries": "fields",
}  # fmt: skip
_HEADINGS: Mapping[str, frozenset[str]] = {
    "agenda": frozenset("agenda topics tagesordnung themen ordredujour ordendeldia".split()),
    "decisions": frozenset("decisions decided resolutions beschlusse beschlüsse entscheidungen decisionsmade".split()),
    "tasks": frozenset(
        "actionitems actions actionpoints tasks todo todos nextsteps aufgaben offenepunkte massnahmen".split()
    ),
    "participants": frozenset("participants attendees present attendance teilnehmer anwesend presents".split()),
}
_START = frozenset("start starts begin begins from appears shown".split())
_END = frozenset("end ends until to gone over disappears".split())
_TIME = frozenset("time at when timestamp second seconds moment".split())
_TITLE = frozenset("title name heading headline topic slide chapter scene screen window dialogue".split())
_NUMBER = frozenset("number no nr page index".split())
_BODY = frozenset("bullets bullet points lines text content contents body items".split())
_SAID = frozenset("spoken said narration transcript subtitles speech notes".split())
_WHAT = frozenset("what action description event happening happens message change step decision task text item".split())
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?\b")
_TASK_OWNER = re.compile(
    r"^(?P<task>\S.*?)\s*(?:\s[-–—|]\s|\()\s*(?P<owner>[^\W\d_][\w'’.-]*(?: [^\W\d_][\w'’.-]*){0,2})"
    r"(?:\s*[,;]\s*(?:by |until |bis )?(?P<due>[^()]+?))?\)?$"
)
_OWNER_TASK = re.compile(
    r"^(?P<owner>[A-ZÀ-Þ][\w'’.-]*(?: [A-ZÀ-Þ][\w'’.-]*){0,2}):\s+(?P<task>.+?)"
    r"(?:,?\s+(?:by|until|bis)\s+(?P<due>.+))?$"
)
_NUMBERED = re.compile(r"^(?:\d{1,2}[.)]|[a-z]\))\s+")


def find(path: Sequence[str], node: Node, nodes: Mapping[str, Node], footage: Footage) -> list[Record] | None:
    """The entries of a list of objects; None leaves it to the rules for documents."""
    topic = _topic(path, nodes)
    section = section_of(path)
    if section is not None:
        return list(_section_records(section, nodes, footage))
    finder = _FINDERS.get(topic or "")
    return None if finder is None else list(finder(nodes, footage))


def find_texts(path: Sequence[str], footage: Footage) -> list[Found] | None:
    """The entries of a list of plain texts: below a heading of notes, titles of slides; None for any other list."""
    section = section_of(path)
    if section is not None:
        texts = list(_section_lines(section, footage))
        parts = [(part, found) for found in texts for part in _parts(str(found.data), section)]
        return [replace(found, data=part) for part, found in parts]
    topic = _topic(path, {})
    if topic == "slides":
        return [found for screen in _slides(footage) if (found := _title(screen, footage))]
    if topic == "events":
        return [_what(span, has_clock=False) for span in _events(footage)]
    return None


def section_of(path: Sequence[str]) -> str | None:
    """The part of a meeting's notes a list asks for."""
    name = squash("".join(name_words(path[-1]))) if path else ""
    return next((section for section, words in _HEADINGS.items() if name in words), None)


def _topic(path: Sequence[str], nodes: Mapping[str, Node]) -> str | None:
    words = name_words(path[-1]) if path else []
    for word in reversed(words):
        if word in _TOPICS:
            return _TOPICS[word]
    roles = set(_roles(nodes).values())
    if "start" in roles and "title" in roles:
        return "slides"
    return "events" if roles & {"start", "time"} and "what" in roles else None


def _roles(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Property name -> what it asks of an entry: start, end, time, clock, number, title, body, said, label, value."""
    found: dict[str, str] = {}
    for name, node in nodes.items():
        role = _role(name, node)
        if role is not None:
            found[name] = role
    return found


def _role(name: str, node: Node) -> str | None:
    words = set(name_words(name)) - {"s", "ms", "sec"}
    kinds = types_of(node) - {"null"}
    if words & {"clock"} or (words & _TIME and "time of day" in str(node.get("description", "")).lower()):
        return "clock"
    if "duration" in words:
        return "duration"
    for role, known in (("start", _START), ("end", _END), ("time", _TIME)):
        if words & known and not kinds & {"array", "object", "boolean"}:
            return role
    if words & {"label", "field"}:
        return "label"
    if words & {"value", "entry", "input"}:
        return "value"
    for role, known in (("number", _NUMBER), ("said", _SAID), ("body", _BODY), ("what", _WHAT), ("title", _TITLE)):
        if words & known and (role != "body" or "array" in kinds or not words & _WHAT - _BODY):
            return role
    if words & {"owner", "assignee", "responsible", "who"}:
        return "owner"
    return "due" if words & {"due", "deadline"} else None


def _fill(nodes: Mapping[str, Node], values: Mapping[str, Found | None]) -> Record:
    """The values under the names the schema has for them; times as it wants them, a number or a text."""
    record: Record = {}
    for name, role in _roles(nodes).items():
        found = values.get(role)
        if found is None:
            continue
        is_time = role in ("start", "end", "time", "duration")
        wants_text = is_time and not types_of(nodes[name]) & {"number", "integer"}
        record[name] = replace(found, data=_clock_text(float(str(found.data)))) if wants_text else found
    return record


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _at(time_s: float | None, page: Page, line: Line) -> Found | None:
    return None if time_s is None else Found(round(time_s, 3), row_of(page, line), None, 0.85)


# --- slides and scenes ---


def _slides(footage: Footage) -> list[Screen]:
    """Screens with a title that are this call's to report."""
    return [screen for screen in footage.screens if screen.is_owned and footage.face(screen.final).title is not None]


def _title(screen: Screen, footage: Footage) -> Found | None:
    face = footage.face(screen.final)
    if face.title is None:
        return None
    first = footage.face(screen.frames[0]).title or face.title
    return Found(face.title_text, row_of(screen.frames[0], first), None, 0.8)


def _title_beside(screen: Screen, footage: Footage, row: Row) -> Found | None:
    """The title of a screen as part of an entry whose evidence stands in another row."""
    found = _title(screen, footage)
    return replace(found, row=row) if found else None


def _slide_records(nodes: Mapping[str, Node], footage: Footage) -> Iterator[Record]:
    names = {role: name for name, role in _roles(nodes).items()}
    for screen in _slides(footage):
        face, first = footage.face(screen.final), screen.frames[0]
        line = footage.face(first).title or face.title
        title = _title(screen, footage)
        if line is None or title is None:
            continue
        said = " ".join(page.text.replace("\n", " ") for page in footage.said(screen))
        row = row_of(first, line)
        values: dict[str, Found | None] = {
            "title": title,
            "number": Found(face.number, row, None, 0.7) if face.number else None,
            "start": _at(screen.start_s, first, line),
            "time": _at(screen.start_s, first, line),
            "end": _at(screen.end_s, first, line),
            "duration": _at(None if screen.end_s is None else screen.end_s - screen.start_s, first, line),
            "said": Found(said, row, None, 0.7) if said else None,
        }
        points = [_point(text, point, screen, footage) for text, point in footage.points(screen.final)]
        for role in ("body", "what"):
            is_list = "array" in types_of(nodes[names[role]]) if role in names else False
            joined = "\n".join(str(point.data) for point in points)
            if points:
                values[role] = Found(list(points) if is_list else joined, row, None, 0.75)
        if "title" not in names and "what" in names:
            values["what"] = title
        yield _fill(nodes, values)


def _point(text: str, line: Line, screen: Screen, footage: Footage) -> Found:
    time_s = footage.first_seen(screen.final, line)
    first = next((frame for frame in screen.frames if time_of(frame) >= time_s), screen.final)
    return Found(text, row_of(first, line), None, 0.75)


# --- events ---


def _events(footage: Footage) -> list[Span]:
    """Lines that appear after the first frame, or go before the last."""
    ended = [span for span in footage.spans if span.end_s is not None and span.end_s != footage.end_s]
    gone = {id(span) for span in ended}
    return [span for span in footage.spans if span.is_owned and (span.is_new or id(span) in gone)]


def _what(span: Span, *, has_clock: bool) -> Found:
    text = line_text(span.line)
    if has_clock:
        text = _CLOCK.sub("", text, count=1).strip(" -–:|,") or text
    return Found(text, row_of(span.first, span.line), None, 0.7)


def _event_records(nodes: Mapping[str, Node], footage: Footage) -> Iterator[Record]:
    roles = set(_roles(nodes).values())
    for span in _events(footage):
        clock = _CLOCK.search(span.line.text)
        what = _what(span, has_clock="clock" in roles)
        yield _fill(
            nodes,
            {
                "start": _at(span.start_s, span.first, span.line),
                "time": _at(span.start_s, span.first, span.line),
                "end": _at(span.end_s, span.first, span.line),
                "duration": _at(None if span.end_s is None else span.end_s - span.start_s, span.first, span.line),
                "clock": Found(clock[0], row_of(span.first, span.line), None, 0.8) if clock else None,
                "what": what,
                "title": what if "what" not in roles else None,
                "body": what if "what" not in roles and "title" not in roles else None,
            },
        )


# --- screens worked on ---


def _step_records(nodes: Mapping[str, Node], footage: Footage) -> Iterator[Record]:
    """A step for every field that is filled, every screen that opens and every message that appears."""
    steps: list[tuple[float, str, Screen, Page, Line]] = []
    for number, screen in enumerate(footage.screens):
        face = footage.face(screen.final)
        if number and face.title is not None:
            steps.append((screen.start_s, face.title_text, screen, screen.frames[0], face.title))
        for label, value, frame, line in read_fields(screen, footage).changes:
            steps.append((time_of(frame), f"{label}: {value}", screen, frame, line))
        for frame, line, text in read_fields(screen, footage).messages:
            steps.append((time_of(frame), text, screen, frame, line))
    for start_s, action, screen, frame, line in sorted(steps, key=lambda step: step[0]):
        if frame.is_context:
            continue
        yield _fill(
            nodes,
            {
                "start": _at(start_s, frame, line),
                "time": _at(start_s, frame, line),
                "title": _title_beside(screen, footage, row_of(frame, line)),
                "what": Found(action, row_of(frame, line), None, 0.6),
            },
        )


def _field_records(nodes: Mapping[str, Node], footage: Footage) -> Iterator[Record]:
    for screen in footage.screens:
        if not screen.is_owned:
            continue
        for entry in read_fields(screen, footage).entries:
            row = row_of(entry.frame, entry.line)
            yield _fill(
                nodes,
                {
                    "title": _title_beside(screen, footage, row),
                    "label": Found(entry.label, row, None, 0.75),
                    "what": Found(entry.label, row, None, 0.75),
                    "value": Found(entry.value, row, entry.label, 0.75) if entry.value else None,
                    "time": _at(time_of(entry.frame), entry.frame, entry.line) if entry.value else None,
                    "start": _at(time_of(entry.frame), entry.frame, entry.line) if entry.value else None,
                },
            )


# --- notes of meetings ---


def _section_lines(section: str, footage: Footage) -> Iterator[Found]:
    """The lines below a heading, each once, at the time it is seen first."""
    seen: set[str] = set()
    for screen in footage.screens:
        for line in _below(section, screen.final, footage):
            text = _NUMBERED.sub("", line_text(line)).strip(" •·-–*")
            time_s = footage.first_seen(screen.final, line)
            first = next((frame for frame in screen.frames if time_of(frame) >= time_s), screen.final)
            if squash(text) and squash(text) not in seen and not first.is_context:
                seen.add(squash(text))
                yield Found(text, row_of(first, line), None, 0.7)


def _below(section: str, frame: Page, footage: Footage) -> list[Line]:
    """The lines between a heading and the next one; the points of a slide with that title."""
    face = footage.face(frame)
    if squash(face.title_text) in _HEADINGS[section]:
        return [line for _, line in footage.points(frame)]
    lines = list(frame.lines)
    for number, line in enumerate(lines):
        if squash(line.text) not in _HEADINGS[section]:
            continue
        below: list[Line] = []
        for other in lines[number + 1 :]:
            is_heading = any(squash(other.text) in words for words in _HEADINGS.values())
            if is_heading or other.x0 < line.x0 + 0.3 * (line.y1 - line.y0) or footage.is_fixture(frame, other):
                break
            below.append(other)
        return below
    return []


def _parts(text: str, section: str) -> list[str]:
    return (
        [part.strip() for part in re.split(r"[,;]\s+", text) if part.strip()] if section == "participants" else [text]
    )


def _section_records(section: str, nodes: Mapping[str, Node], footage: Footage) -> Iterator[Record]:
    for found in _section_lines(section, footage):
        assert found.row is not None
        time = _at(time_of(found.row.page), found.row.page, found.row.line)
        values: dict[str, Found | None] = {"what": found, "title": found, "time": time}
        if section == "tasks":
            match = _TASK_OWNER.match(str(found.data)) or _OWNER_TASK.match(str(found.data))
            if match:
                parts = {role: match[role] for role in ("task", "owner", "due")}
                values["what"] = values["title"] = replace(found, data=parts["task"].strip())
                for role in ("owner", "due"):
                    values[role] = replace(found, data=parts[role].strip()) if parts[role] else None
        for part in _parts(str(found.data), section) if section == "participants" else ():
            yield _fill(nodes, {"title": replace(found, data=part), "what": replace(found, data=part)})
        if section != "participants":
            yield _fill(nodes, values)


_Finder = Callable[[Mapping[str, Node], Footage], Iterator[Record]]
_FINDERS: Mapping[str, _Finder] = {
    "slides": _slide_records,
    "events": _event_records,
    "steps": _step_records,
    "fields": _field_records,
}
