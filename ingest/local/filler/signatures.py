"""Signature blocks: who signs for which party, in what function, on what day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ingest.local.filler.addresses import has_legal_form, looks_upper
from ingest.local.filler.agreement_parties import ContractParty, party_of, strip_name
from ingest.local.filler.clauses import pattern, words
from ingest.local.filler.dates import find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.text import fold, squash
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_REGION_ROWS = 90
_MAX_SIGNATURES = 20
_MAX_REGIONS = 6
# Labels this far apart, in characters, stand in columns of their own.
_COLUMN_CHARS = 14.0
_PERSON = re.compile(
    r"^(?:(?:Dr|Prof|Mr|Mrs|Ms|M|Mme|Herr|Frau|D|Dña|Don|Doña"
    r"|Dipl\.-Ing)\.?\s+)*(?:[A-ZÀ-Þ][\w'’.-]*\.?\s+){1,4}[A-ZÀ-Þ][\w'’-]+\.?(?:,?\s(?:Jr|Sr|II|III|PhD"
    r"|Esq)\.?)?$"
)
_ONE_LINE = re.compile(
    r"^(?P<place>[A-ZÀ-Þ][\w .'’-]{1,40}?),?\s+(?:den|le|a|am|the|on)?\s*(?P<date>[^–—|]{6,30}?)\s*[–—"
    r"|-]\s+(?P<name>[^,(]{4,60}),\s*(?P<title>[^(]{3,70}?)\s*(?:\((?P<party>[^)]{2,60})\))?$"
)
_RULE = re.compile(r"_{3,}|\.{5,}|…{2,}|-{5,}")
_SIGNED = re.compile(r"^/?s/?/\s*", re.IGNORECASE)


@dataclass(slots=True)
class _Block:
    """The lines of one signature as they are gathered."""

    party: tuple[str, Row] | None = None
    name: tuple[str, Row] | None = None
    title: tuple[str, Row] | None = None
    date: tuple[str, Row] | None = None
    awaits: str | None = None
    has_signature: bool = False
    lines: int = 0

    @property
    def is_signed(self) -> bool:
        """Whether a person is known."""
        return self.name is not None


@dataclass(slots=True)
class _Column:
    """The lines of a signature page's column from top to bottom."""

    x0: float
    lines: list[tuple[str, Row]] = field(default_factory=list)


def read_signatures(view: View, parties: Sequence[ContractParty]) -> list[dict[str, Found]]:
    """One record per person who signs: party, name, title, date as YYYY-MM-DD; in printed order."""
    records: list[dict[str, Found]] = []
    seen: set[tuple[str, str]] = set()
    for rows in _regions(view):
        blocks = list(_one_line_blocks(rows, view))
        if not blocks:
            blocks = [block for column in _columns(rows) for block in _blocks(column, view, parties)]
        for block in blocks:
            record = _record(block, parties) if block.name else None
            key = (
                (fold(str(record["name"].data)), str(record["party"].data) if "party" in record else "")
                if record
                else ("", "")
            )
            if record and key not in seen and len(records) < _MAX_SIGNATURES:
                seen.add(key)
                records.append(record)
    return records


def last_date(records: Sequence[dict[str, Found]]) -> Found | None:
    """The latest date beside a signature."""
    dates = [record["date"] for record in records if "date" in record]
    return max(dates, key=lambda found: str(found.data), default=None)


def _record(block: _Block, parties: Sequence[ContractParty]) -> dict[str, Found]:
    assert block.name is not None
    record = {"name": Found(block.name[0], block.name[1], None, 0.75)}
    party = party_of(block.party[0], parties) if block.party else None
    own = party_of(block.name[0], parties)
    if block.party:
        record["party"] = Found(party.name if party else block.party[0], block.party[1], None, 0.7)
    elif own:
        record["party"] = Found(own.name, block.name[1], None, 0.7)
    for key, place in (("title", block.title), ("date", block.date)):
        if place:
            record[key] = Found(place[0], place[1], None, 0.75)
    return record


def _regions(view: View) -> Iterator[list[Row]]:
    """Rows after words that introduce signatures; of the last page where no words do."""
    region = pattern("signature", "region")
    covered = -1
    count = 0
    for row in view.rows:
        if row.index > covered and len(row.text) < 400 and region.search(row.text) and _has_labels(view, row.index):
            yield list(view.rows[row.index : row.index + _REGION_ROWS])
            covered = row.index + _REGION_ROWS
            count += 1
            if count >= _MAX_REGIONS:
                return
    if covered < 0:
        tail = list(view.rows[-45:])
        if (
            any(_ONE_LINE.match(row.text) for row in tail)
            or sum(bool(_label_of(s.text)) for r in tail for s in r.segments) >= 2
        ):
            yield tail


def _has_labels(view: View, start: int) -> bool:
    rows = view.rows[start : start + 40]
    labelled = sum(bool(_label_of(s.text)) or bool(_RULE.search(s.text)) for row in rows for s in row.segments)
    return labelled >= 2 or any(_ONE_LINE.match(row.text) for row in rows)


def _one_line_blocks(rows: Sequence[Row], view: View) -> Iterator[_Block]:
    """Signatures printed in one line each: `Kassel, den 14. Juni 2024 – Name, function (party)`."""
    for row in rows:
        match = _ONE_LINE.match(" ".join(segment.text for segment in row.segments)[:240])
        date = view.date_in(match["date"]) if match else None
        if match and date and _PERSON.match(match["name"].strip()):
            party = (match["party"], row) if match["party"] else None
            yield _Block(party, (match["name"].strip(), row), (match["title"].strip(), row), (date, row))


@lru_cache(maxsize=1)
def _labels() -> re.Pattern[str]:
    kinds = words()["signature"]
    groups = "|".join(f"(?P<{kind}>{'|'.join(kinds[kind])})" for kind in ("name", "title", "date", "by"))
    return re.compile(
        rf"^(?:{groups})(?:\s*\([^)]{{2,20}}\))?\s*(?:[:.]\s*|(?=\s/s/)|(?<=/s/)\s*|(?=\s*_{{3}})|$)", re.IGNORECASE
    )


def _label_of(text: str) -> tuple[str, str] | None:
    """Kind of label a line begins with (name, title, date, by), and the rest of the line."""
    match = _labels().match(text[:200])
    if not match or not match.lastgroup:
        return None
    kind = next(kind for kind in ("name", "title", "date", "by") if match[kind])
    if (
        kind in ("by", "date")
        and not re.search(r"[:.]\s*$|/s/|^(?:fdo|gez|by\s*$)", match[0].strip(), re.IGNORECASE)
        and text[match.end() :].strip()[:1].islower()
    ):
        return None
    return kind, text[match.end() :].strip(" :_")


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """The columns of a signature page, told by where labels, and the lines above them, begin."""
    edges: list[float] = []
    for row in rows:
        for segment in row.segments:
            if _label_of(segment.text) and all(
                abs(segment.x0 - edge) > _COLUMN_CHARS * row.page.char_width for edge in edges
            ):
                edges.append(segment.x0)
    main = [edge for edge in sorted(edges) if _weight(rows, edge) >= 2] or sorted(edges)[:1]
    columns = [_Column(edge) for edge in main] or [_Column(0.0)]
    for row in rows:
        slack = _COLUMN_CHARS / 2 * row.page.char_width
        pieces: dict[int, list[Segment]] = {}
        for segment in row.segments:
            index = max((i for i, column in enumerate(columns) if segment.x0 >= column.x0 - slack), default=0)
            pieces.setdefault(index, []).append(segment)
        for index, segments in pieces.items():
            text = " ".join(segment.text for segment in segments)
            if len(text) < 160:
                columns[index].lines.append((text, row))
    return columns


def _weight(rows: Sequence[Row], edge: float) -> int:
    return sum(
        bool(_label_of(segment.text)) and abs(segment.x0 - edge) <= _COLUMN_CHARS * row.page.char_width
        for row in rows
        for segment in row.segments
    )


def _blocks(column: _Column, view: View, parties: Sequence[ContractParty]) -> Iterator[_Block]:
    """The signatures of a column: a party's line, then labels or bare lines for name, function and date."""
    block = _Block()
    for text, row in column.lines:
        text = " ".join(_RULE.sub(" ", text).split()).strip(" :")
        if not text:
            block.has_signature = True
            continue
        label = _label_of(text)
        if label is None and _is_party_line(text, parties):
            if block.is_signed:
                yield block
            block = _Block(party=(strip_name(re.sub(r"\s*[(“\"].*$", "", text) or text), row))
        elif label:
            kind, value = label
            again = block.name is not None and fold(block.name[0]) == fold(_SIGNED.sub("", value).strip(" ,"))
            if (kind == "by" and block.is_signed and block.lines > 1 and not again) or (
                kind == "name" and block.is_signed and block.name and block.has_signature and block.lines > 3
            ):
                yield block
                block = _Block(party=block.party if block.lines <= 1 else None)
            _take(block, kind, value, row, view)
        else:
            _take_bare(block, text, row, view)
        block.lines += 1
    if block.is_signed:
        yield block


def _take(block: _Block, kind: str, value: str, row: Row, view: View) -> None:
    """Note what stands after a label; a signature after `By` serves as name only until the name is printed."""
    block.awaits = None
    if not value:
        block.awaits = kind if kind != "by" else None
        block.has_signature = block.has_signature or kind == "by"
        return
    if kind == "date":
        date = view.date_in(value)
        block.date = block.date or ((date, row) if date else None)
    elif kind == "title":
        block.title = block.title or (value[:120], row)
    else:
        block.has_signature = block.has_signature or kind == "by"
        person = _SIGNED.sub("", value).strip(" ,")
        if _PERSON.match(person) and (block.name is None or kind == "name"):
            block.name = (person, row)


def _take_bare(block: _Block, text: str, row: Row, view: View) -> None:
    """Note a line without label: what a label above waits for, a name, a function, a date."""
    if block.awaits:
        kind, block.awaits = block.awaits, None
        if kind != "name" or _PERSON.match(text):
            _take(block, kind, text, row, view)
        return
    if block.name is None and block.has_signature and _PERSON.match(text) and not _is_title(text):
        block.name = (text, row)
    elif block.name is not None and block.title is None and _is_title(text) and len(text) < 90:
        block.title = (text, row)
    elif block.date is None and block.name is not None and len(text) < 40 and find_dates(text):
        date = view.date_in(text)
        block.date = (date, row) if date else None


def _is_party_line(text: str, parties: Sequence[ContractParty]) -> bool:
    """Whether a line names a party: one of the opening's, its role, or a company's name by itself."""
    if len(text) > 90 or (text.endswith((".", ";")) and not has_legal_form(text)):
        return False
    if squash(text) in _role_words():
        return True
    known = party_of(text, parties)
    if known and (len(text) < 1.8 * len(known.name) + 14):
        is_person = not has_legal_form(known.name) and not looks_upper(text)
        return not is_person or fold(text) == fold(known.role or "")
    return has_legal_form(text) and len(text.split()) <= 9 and text[:1].isupper()


@lru_cache(maxsize=1)
def _titles() -> frozenset[str]:
    return frozenset(fold(word) for word in words()["signature"]["titles"])


@lru_cache(maxsize=1)
def _role_words() -> frozenset[str]:
    return frozenset(squash(word) for word in words()["signature"]["roles"])


def is_role(text: str) -> bool:
    """Whether a text is nothing but a word for a part in an agreement, such as `Employee`."""
    return squash(text) in _role_words()


def _is_title(text: str) -> bool:
    return "ignature" not in text and any(fold(word.strip(".,;:()")) in _titles() for word in text.split())
