"""What can be said of any document: kind, date, author, recipient, reference, summary, facts, people, places."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any

from ingest.local.filler.addresses import find_place, has_legal_form, is_contact, is_country, is_street
from ingest.local.filler.dates import FoundDate, find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.grids import labelled_pairs
from ingest.local.filler.headings import Headings
from ingest.local.filler.running import Paragraph, Running
from ingest.local.filler.text import fold, squash
from ingest.local.filler.view import Row

_HEAD_ROWS = 24
_MAX_FACTS = 60
_MAX_PEOPLE = 60
_MAX_NAMES = 40
_SUMMARY_CHARS = 700
_SUMMARY_SENTENCES = 4
_PROSE_CHARS = 90
# A sentence with a colon says a fact when it is no longer than this.
_FACT_WORDS = 16
_BULLETS = " •·-–*|"
_FACT = re.compile(r"^(?P<label>[^\W\d_][^:;|]{1,40}?):\s+(?P<value>\S.{0,150})$")
_NO_LABEL = re.compile(
    r"https?$|^(?:fig(?:ure|\.)?|table|tab\.|abb\.|abbildung|tabelle|tableau|tabla|figura)\s?\d|"
    r"^(?:and|or|that|which|und|oder|dass|et|que|note|example|for example|e\.g|i\.e)\b|"
    r"\b(?:is|are|was|were|shall|will|ist|sind|est|sont|es|son)$",
    re.IGNORECASE,
)
_PARTICLES = "de|van|von|der|den|del|da|di|la|le|el"
_WORD = r"(?:[A-ZÀ-ÞŁŠŽ][\w'’-]+|[A-Z]\.)"
_NAME = rf"{_WORD}(?:\s+(?:(?:{_PARTICLES})\s+)*{_WORD}){{1,3}}"
_PERSON = re.compile(rf"^{_NAME}$")
_WITH_FUNCTION = re.compile(
    rf"(?P<name>{_NAME})\s*\((?P<role>[^()]{{2,50}})\)"
    rf"|(?P<name2>{_NAME})\s*[,–—-]\s*(?P<role2>[a-zà-þ][\w\s-]{{2,30}})(?=[,;.]|$)"
)
_COMPANY = re.compile(
    r"(?<![\w.])(?:[A-ZÀ-Þ0-9][\w&'’.-]{0,40}\s+(?:(?:&|and|und|et|y|of|de|der"
    r"|für)\s+)?){0,5}[A-ZÀ-Þ][\w&'’.-]{0,40},?\s+(?:GmbH(?: & Co\. KG)?|AG|SE|KG|OHG|UG|eG|e\.V\.|Ltd\.?|Limited"
    r"|LLC|L\.L\.C\.|LLP|Inc\.?|Corp\.?|Corporation|PLC|plc|S\.A\.S?\.?|SAS|SARL|S\.L\.U?\.?|S\.p\.A\."
    r"|S\.r\.l\.|B\.V\.|N\.V\.|Oy|AB|A/S|Pty Ltd|Sdn\.? Bhd\.?|N\.A\.)(?![\w])"
)
_BY = re.compile(
    r"^(?i:by|presented by|prepared by|written by|author|von|vorgelegt von|par|por)\s+" rf"(?P<name>{_NAME})$"
)
_ADDRESSED = re.compile(r"^(?:to|an|bill|an die|dear)\b", re.IGNORECASE)
_NUMBERED = re.compile(
    r"\b(?:No\.|Nr\.|N°|Ref\.|Az\.|№|Docket No\.|Document No\.|Exp\.)\s*([A-Z0-9][\w./–-]*\d[\w./–-]*)"
)
_LEADING_WORD = re.compile(r"^(?:The|Die|Der|Das|La|Le|El|Between|And|From|To|By|With|An)\s+")
_NOT_ITS_DATE = re.compile(r"\b(?:until|due|from|by|bis|ab|valid|before|since)\b", re.IGNORECASE)
_REFERENCE = re.compile(r"^[#:№\s]*(?P<value>[A-Z0-9][\w./–-]*\d[\w./–-]*(?:\s\d{2,})?)")


@lru_cache(maxsize=1)
def _words() -> Mapping[str, Any]:
    text = resources.files("ingest.local.filler.vocabulary").joinpath("documents.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=16)
def _labels(kind: str) -> frozenset[str]:
    return frozenset(squash(label) for label in _words()["labels"][kind])


@lru_cache(maxsize=4)
def _letter(kind: str) -> re.Pattern[str]:
    return re.compile("|".join(_words()["letter"][kind]), re.IGNORECASE)


@lru_cache(maxsize=1)
def _kinds() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((name, re.compile("|".join(forms), re.IGNORECASE)) for name, forms in _words()["kinds"].items())


def names_kind(text: str) -> bool:
    """Whether a text says what kind of document it stands on."""
    return any(matcher.search(text.strip()) for _, matcher in _kinds())


class Overview:
    """A document of any kind; what it says of itself is found when first asked for."""

    def __init__(self, running: Running, headings: Headings) -> None:
        self.running = running
        self.headings = headings
        self.view = running.view

    @cached_property
    def _head(self) -> list[Row]:
        """The first rows of the first page."""
        rows = self.view.rows
        if not self.running.begins or not rows:
            return []
        return [row for row in rows[:_HEAD_ROWS] if row.page is rows[0].page]

    @cached_property
    def _salutation(self) -> Row | None:
        greets = _letter("salutation")
        return next((row for row in self._head if len(row.text) < 90 and greets.search(row.text.strip())), None)

    @cached_property
    def _closing(self) -> Row | None:
        closing = _letter("closing")
        return next((row for row in self.view.rows if len(row.text) < 70 and closing.search(row.text.strip())), None)

    def kinds(self) -> list[Found]:
        """What kind of document it is, the surest first: told by its title, its first lines, its form as a letter."""
        found: list[Found] = []
        title = self.headings.title[0] if self.headings.title else None
        texts = [(str(title.data), title.row, 0.75)] if title else []
        short = [row for row in self._head[:10] if len(row.text) < 80 and not _FACT.match(row.text)]
        texts.extend((row.text, row, 0.55) for row in short)
        texts.extend(
            (segment.text, row, 0.5)
            for row in self._head[:10]
            for segment in (row.segments if row not in short else ())
            if len(segment.text) < 40 and not _FACT.match(segment.text)
        )
        if self._salutation is not None:
            found.append(Found("letter", self._salutation, None, 0.7))
        for text, row, confidence in texts:
            kinds = [kind for kind, matcher in _kinds() if matcher.search(text.strip())]
            found.extend(Found(kind, row, None, confidence) for kind in kinds)
        return found

    @cached_property
    def facts(self) -> list[tuple[str, str, Row]]:
        """Labels with their values in printed order."""
        found: list[tuple[str, str, Row]] = []
        seen: set[tuple[str, str]] = set()
        for label, value, row in sorted(self._pairs(), key=lambda pair: pair[2].index):
            key = (squash(label), squash(value))
            if key[0] and key[1] and key not in seen and len(found) < _MAX_FACTS:
                seen.add(key)
                found.append((label, value, row))
        return found

    def _pairs(self) -> Iterator[tuple[str, str, Row]]:
        yield from labelled_pairs(self.running.strips)
        for paragraph in self.running.paragraphs:
            if len(paragraph.text) > 700:
                continue
            lines = [(segment.text, strip.row) for strip in paragraph.strips for segment in strip.segments]
            labelled = [line for line in lines if _FACT.match(line[0].strip(_BULLETS))]
            if len(paragraph.strips) == 1 or len(labelled) * 2 > len(paragraph.strips):
                for text, row in labelled:
                    if ". " not in text:
                        yield from _pair(text, row)
            for sentence in paragraph.sentences:
                if len(sentence.text.split()) <= _FACT_WORDS:
                    yield from _pair(sentence.text, sentence.row)

    def labelled(self, kind: str, rows: int = 60) -> Found | None:
        """The value beside a label of a kind among the first facts."""
        wanted = _labels(kind)
        for label, value, row in self.facts:
            if squash(label) in wanted and row.index < rows:
                return Found(value.rstrip("."), row, label, 0.75)
        return None

    def date(self) -> Found | None:
        """The date of the document: labelled as such, or by itself in a line of the head."""
        for label, value, row in self.facts:
            if squash(label) in _labels("date") and row.index < 60:
                date = self.view.date_in(value)
                if date:
                    return Found(date, row, label, 0.8)
        for row in self._head:
            for segment in row.segments:
                dates = find_dates(segment.text)
                if dates and _stands_alone(segment.text, dates[0]):
                    return Found(dates[0].resolve(self.view.month_first).isoformat(), row, None, 0.6)
        return None

    def author(self) -> Found | None:
        """The person who wrote it: labelled, or named below the closing of a letter."""
        found = self.labelled("author")
        if found and _may_be_person(str(found.data)):
            return found
        for row in self._head[:12]:
            match = _BY.match(row.text.strip())
            if match:
                return Found(match["name"], row, None, 0.65)
        return self._signer()

    def _signer(self) -> Found | None:
        if self._closing is None:
            return None
        for row in self.view.rows[self._closing.index + 1 : self._closing.index + 6]:
            text = row.segments[0].text.strip(" ,")
            if row.page is not self._closing.page:
                return None
            if _PERSON.match(text) or re.fullmatch(r"[A-ZÀ-Þ][\w'’-]{2,20}", text):
                return Found(text, row, None, 0.6)
        return None

    def organisation(self) -> Found | None:
        """Who issued it: labelled, or a company's name by itself in the head."""
        found = self.labelled("organisation")
        if found:
            return found
        for row in self._head[:12]:
            for segment in row.segments:
                match = _COMPANY.search(segment.text)
                is_letterhead = self._salutation is None or row.index < self._salutation.index - 3
                if match and is_letterhead and not _ADDRESSED.match(segment.text):
                    return Found(match[0].strip(), row, None, 0.55)
        return None

    def recipient(self) -> Found | None:
        """To whom it is addressed: labelled, or the block above a letter's salutation."""
        found = self.labelled("recipient", _HEAD_ROWS)
        if found and re.fullmatch(r"[A-ZÀ-Þ][^<>#{}|\d]{2,80}", str(found.data)) and len(str(found.data).split()) <= 9:
            return found
        return self._above_salutation()

    def _above_salutation(self) -> Found | None:
        """The first line of the address block that ends above the salutation."""
        if self._salutation is None:
            return None
        rows = [row for row in self._head if row.index < self._salutation.index]
        places = [row for row in rows if find_place(row.segments[0].text) or is_street(row.segments[0].text)]
        if not places:
            return None
        last = places[-1]
        first = last
        for row in reversed(rows[: rows.index(last)]):
            if first.gap > 0.8 or abs(row.line.x0 - first.line.x0) > 3 * row.page.char_width:
                break
            first = row
        text = first.segments[0].text.strip(" ,")
        return None if is_contact(text) or find_dates(text) or first is last else Found(text, first, None, 0.6)

    def reference(self) -> Found | None:
        """File number or identifier, where a label names it."""
        wanted = _labels("reference")
        for label, value, row in self.facts:
            match = _REFERENCE.match(value) if squash(label) in wanted else None
            if match:
                return Found(match["value"].rstrip("."), row, label, 0.75)
        for row in self._head:
            for segment in row.segments:
                match = _NUMBERED.search(segment.text)
                if match and len(segment.text) < 80 and not find_dates(match[1]):
                    return Found(match[1].rstrip("."), row, None, 0.5)
        return None

    def summary(self) -> Found | None:
        """The first sentences of the first prose, as printed."""
        after = self.headings.title[1] if self.headings.title else 0
        chosen: list[str] = []
        row: Row | None = None
        for paragraph in self.running.paragraphs[after : after + 60]:
            if not _is_prose(paragraph):
                continue
            for sentence in paragraph.sentences:
                if len(chosen) >= _SUMMARY_SENTENCES or sum(map(len, chosen)) + len(sentence.text) > _SUMMARY_CHARS:
                    break
                if len(sentence.text) > 15:
                    chosen.append(sentence.text)
                    row = row or sentence.row
            if sum(map(len, chosen)) > 200 or len(chosen) >= _SUMMARY_SENTENCES:
                break
        if row is None or not chosen:
            return None
        return Found(" ".join(chosen), row, None, 0.45)

    def people(self) -> Iterator[dict[str, Found]]:
        """People where they are certain: in lists of those present, with a title, as author, below a letter."""
        seen: set[str] = set()
        for name, role, row in self._named():
            key = fold(name)
            if key in seen or len(seen) >= _MAX_PEOPLE:
                continue
            seen.add(key)
            record = {"name": Found(name, row, None, 0.6)}
            if role:
                record["role"] = Found(role, row, None, 0.55)
            yield record

    def _named(self) -> Iterator[tuple[str, str | None, Row]]:
        attending = frozenset(squash(word) for word in _words()["titles"]["attending"])
        functions = frozenset(fold(word) for word in _words()["titles"]["functions"])
        for label, value, row in self.facts:
            if squash(label) in attending:
                for part in re.split(r",\s+(?![^()]*\))|;\s*|\s+and\s+|\s+und\s+|\s+et\s+|\s+y\s+", value.rstrip(".")):
                    match = _WITH_FUNCTION.match(part)
                    if match:
                        yield match["name"] or match["name2"], match["role"] or match["role2"], row
                    elif _PERSON.match(part.strip()):
                        yield part.strip(), None, row
            elif (squash(label) in _labels("author") or fold(label) in functions) and _PERSON.match(value.rstrip(".")):
                yield value.rstrip("."), label, row
        author = self.author()
        if author and author.row and len(str(author.data).split()) > 1:
            yield str(author.data), author.label, author.row
        yield from self._titled()

    def _titled(self) -> Iterator[tuple[str, str | None, Row]]:
        """Names after a form of address: `Dr. Jane Roe`."""
        titles = "|".join(re.escape(word) for word in _words()["titles"]["before"] if len(word) > 1)
        matcher = re.compile(rf"\b(?:{titles})\.?\s+(?P<name>(?:(?:Dr|Prof)\.?\s+)*{_NAME})")
        for paragraph in self.running.paragraphs:
            for match in matcher.finditer(paragraph.text):
                yield match["name"], None, paragraph.row_at(match.start())

    def organisations(self) -> list[Found]:
        """Names with a legal form, each once."""
        found: list[Found] = []
        seen: set[str] = set()
        for paragraph in self.running.paragraphs:
            for match in _COMPANY.finditer(paragraph.text):
                name = re.sub(r"^[\d\W]+", "", _LEADING_WORD.sub("", match[0].strip(" ,")))
                key = squash(name)
                if (
                    key not in seen
                    and len(name) < 80
                    and not is_street(match[0])
                    and len(name.split()) > 1
                    and len(found) < _MAX_NAMES
                ):
                    seen.add(key)
                    found.append(Found(name, paragraph.row_at(match.start()), None, 0.6))
        return found

    def _is_address(self, row: Row) -> bool:
        """Whether a line, or the one above it, names a street."""
        near = self.view.rows[max(row.index - 1, 0) : row.index + 1]
        return any(is_street(part) for other in near for segment in other.segments for part in segment.text.split(", "))

    def places(self) -> list[Found]:
        """Towns and countries of printed addresses, and what a label calls a place; each once."""
        found: list[Found] = []
        seen: set[str] = set()

        def add(name: str, row: Row) -> None:
            name = name.strip(" .,;:")
            if name and squash(name) not in seen and len(name) < 60 and len(found) < _MAX_NAMES:
                seen.add(squash(name))
                found.append(Found(name, row, None, 0.55))

        for label, value, row in self.facts:
            if squash(label) in ("place", "location", "venue", "ort", "lieu", "lugar", "luogo", "plaats", "city"):
                add(value.split(",")[-1] if "," in value else value, row)
        for row in self.view.rows:
            for segment in row.segments if len(row.text) < 160 else ():
                place = find_place(segment.text)
                city = place.city if place else ""
                if (
                    len(city) > 2
                    and city[:1].isupper()
                    and self._is_address(row)
                    and not any(c.isdigit() for c in city)
                ):
                    add(re.split(r"\s{2,}|[|(]", city)[0], row)
                elif len(segment.text) < 30 and is_country(segment.text) and segment.text[:1].isupper():
                    add(segment.text, row)
        return found


def _stands_alone(text: str, date: FoundDate) -> bool:
    """Whether a date has its line for itself but for a few words, none of which makes it another day's date."""
    others = len(text.split()) - len(text[date.start : date.end].split())
    return others <= 3 and not _NOT_ITS_DATE.search(text) and not _FACT.match(text)


def _may_be_person(text: str) -> bool:
    return bool(_PERSON.match(text)) or (1 < len(text.split()) <= 4 and not has_legal_form(text))


def _is_prose(paragraph: Paragraph) -> bool:
    """Whether a paragraph is sentences rather than cells, contacts or numbers."""
    if len(paragraph.text) < _PROSE_CHARS or paragraph.strips[0].is_cells or is_contact(paragraph.text[:60]):
        return False
    return sum(c.isalpha() for c in paragraph.text) * 10 >= 6 * len(paragraph.text)


def _pair(text: str, row: Row) -> Iterator[tuple[str, str, Row]]:
    match = _FACT.match(text.strip(_BULLETS))
    if match is None or len(match["label"].split()) > 6 or match["value"].startswith("//"):
        return
    if len(squash(match["label"])) > 1 and not _NO_LABEL.search(match["label"]):
        yield match["label"].strip(), match["value"].strip(), row
