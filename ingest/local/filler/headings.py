"""Headings of running text, the title of a document, and its sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ingest.local.filler.addresses import (
    find_place,
    has_legal_form,
    is_contact,
    is_country,
    is_street,
    looks_upper,
    role_of_label,
)
from ingest.local.filler.clauses import pattern, split_number
from ingest.local.filler.columns import Strip
from ingest.local.filler.dates import find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.running import Paragraph, Running, is_heading_line, is_slide
from ingest.local.filler.signatures import is_role
from ingest.local.filler.view import Row

_MAX_HEADING_CHARS = 110
_MAX_HEADING_WORDS = 14
_MAX_TITLE_CHARS = 260
_TITLE_PARAGRAPHS = 14
_MAX_TITLE_LINES = 4
_MAX_SECTIONS = 120
# A paragraph this long is prose; the title stands above the first.
_PROSE_CHARS = 180
ABSTRACT = re.compile(
    r"^(?:#+\s*)?(?:abstract|a b s t r a c t|zusammenfassung|kurzfassung|résumé|resumen|riassunto|samenvatting"
    r"|resumo)\b\s*(?:[.:—–-]+\s*|$|(?=[A-ZÀ-Þ]))",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^(#{1,6})\s+")
_SUBJECT = re.compile(
    r"^(?:subject|re|betreff|betr\.?|objet|asunto|oggetto|betreft|onderwerp|title|titel|titre"
    r"|título)\s*:\s*(?P<title>\S.{2,200})$",
    re.IGNORECASE,
)
_NOISE = re.compile(
    r"^(?:EX-\d|exhibit\s|schedule \d|appendix\s\w{1,2}$|annex\s\w{1,2}$|attachment\s|arxiv:|doi\b|https?:"
    r"|www\.|vol\.|issn|isbn|page \d|seite \d|confidential$|draft$|final$|copy$|version\s|dear\b|to whom"
    r"|sehr geehrte|"
    r"madame|monsieur|estimad|published|received|accepted|copyright|©|see discussions|contents lists"
    r"|journal homepage|available online|this page)|\bdoi:|\bdoi\.org|\bissn\b|\bet al\.|\d{1,3}\(\d{1,3}\)"
    r"|\.html?\b|@",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"^(?:dear|to whom|sehr geehrte|liebe[rs]? |madame|monsieur|chère?s? |estimad|muy señor|gentile|egregio|geachte)\b",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"^[^\W\d_][^:]{1,30}:\s+\S.{0,80}$")
_VALUE = re.compile(r"^[\s\W\d]*$")
_ITEM = re.compile(r"^(?:[•●▪■◦‣∙·*]|[-–—]\s)")
_DEPTH = re.compile(r"^\d{1,2}((?:\.\d{1,2})*)")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its number, its level from 1 and the paragraphs below it."""

    number: str | None
    heading: str
    level: int
    row: Row
    body: tuple[Paragraph, ...]

    @property
    def printed(self) -> str:
        """The heading with its number."""
        return f"{self.number} {self.heading}" if self.number else self.heading


class Headings:
    """The title and the sections of a document."""

    def __init__(self, running: Running) -> None:
        self.running = running

    @cached_property
    def title(self) -> tuple[Found, int] | None:
        """The title and the index of the first paragraph after it; None when there is none."""
        paragraphs = self.running.paragraphs
        if not self.running.begins or not paragraphs:
            return None
        first_page = paragraphs[0].row.page
        zone = [p for p in paragraphs[:_TITLE_PARAGRAPHS] if p.row.page is first_page or p.index < 4]
        greeting = next((position for position, p in enumerate(zone) if _GREETING.match(p.text)), len(zone))
        usable = [p for p in zone[:greeting] if _may_be_title(p)]
        prose = next((p.index for p in zone if len(p.text) > _PROSE_CHARS), paragraphs[-1].index + 1)
        above = [p for p in usable if p.index < prose]
        for paragraph in above:
            if pattern("title", "agreement").search(paragraph.text) and not find_dates(paragraph.text):
                return self._joined(self._first_of(paragraph), True)
        subject = next((m for p in zone if (m := _SUBJECT.match(p.text))), None)
        if subject:
            row = next(p.row for p in zone if _SUBJECT.match(p.text))
            return Found(subject["title"].strip(), row, None, 0.8), 0
        names = [p for p in above if not has_legal_form(p.text) and not _is_of_party(p.text)] or above
        return self._joined(names[0], False) if names else None

    def _first_of(self, paragraph: Paragraph) -> Paragraph:
        """The first line of the title an agreement's word stands in: lines above in the same print belong to it."""
        while paragraph.index > 0:
            above = self.running.paragraphs[paragraph.index - 1]
            alike = looks_upper(above.text) == looks_upper(paragraph.text) and above.row.page is paragraph.row.page
            if not alike or paragraph.strips[0].gap > 0.6 or not _may_be_title(above) or len(above.text) < 6:
                return paragraph
            if not looks_upper(paragraph.text) and not paragraph.strips[0].is_centred:
                return paragraph
            paragraph = above
        return paragraph

    def _joined(self, first: Paragraph, of_agreement: bool) -> tuple[Found, int]:
        """The title that begins with a paragraph, with the lines below in the same print."""
        text = _HASHES.sub("", first.text).strip()
        index = first.index + 1
        for below in self.running.paragraphs[first.index + 1 : first.index + _MAX_TITLE_LINES]:
            above = self.running.paragraphs[below.index - 1]
            strip = below.strips[0]
            alike = (
                looks_upper(below.text) == looks_upper(first.text)
                and strip.row.page is first.row.page
                and strip.gap < 0.7
            )
            goes_on = text.endswith((":", "-", "–", " and", " of", " for", ",")) or (
                alike
                and abs(_middle(strip) - _middle(above.strips[-1])) < 3 * strip.row.page.char_width
                and strip.x0 > strip.left
            )
            if (
                not goes_on
                or not _may_be_title(below)
                or _is_person_line(strip)
                or len(text) + len(below.text) > _MAX_TITLE_CHARS
            ):
                break
            if not of_agreement and looks_upper(first.text) and not looks_upper(below.text):
                break
            text = text[:-1] + below.text if text.endswith("-") and below.text[:1].islower() else f"{text} {below.text}"
            index = below.index + 1
        return Found(text.strip(" *_"), first.row, None, 0.75), index

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections in printed order, the title not among them."""
        after_title = self._front_end
        starts = [p for p in self.running.paragraphs if p.index >= after_title and self._is_heading(p)][:_MAX_SECTIONS]
        sections: list[Section] = []
        last = 0
        starts = [p for p in starts if not (has_legal_form(p.text) or is_role(p.text.strip()) or self._is_shouted(p))]
        for position, paragraph in enumerate(starts):
            end = starts[position + 1].index if position + 1 < len(starts) else len(self.running.paragraphs)
            text = _HASHES.sub("", paragraph.text).strip(" *_")
            number, heading = split_number(text)
            if number is None and (loose := re.match(r"^(\d{1,2}(?:\.\d{1,2})*)\s+(?=[A-ZÀ-Þ])", text)):
                number, heading = loose[1], text[loose.end() :]
            if number and number.isdigit():
                if not last < int(number) <= last + 2 and (last or self.running.begins):
                    continue
                last = int(number)
            level = _level(number, paragraph)
            body = self.running.paragraphs[paragraph.index + 1 : min(end, paragraph.index + 40)]
            sections.append(Section(number, heading.strip(" :"), level, paragraph.row, body))
        return tuple(sections)

    @cached_property
    def _front_end(self) -> int:
        """Index of the first paragraph after title and front matter: a paper's abstract ends that."""
        after_title = self.title[1] if self.title else 0
        for paragraph in self.running.paragraphs[:30]:
            if ABSTRACT.match(paragraph.text):
                return max(paragraph.index, after_title)
        return after_title

    def _is_shouted(self, paragraph: Paragraph) -> bool:
        """Whether a line in capitals is part of a text in capitals rather than a heading."""
        if not looks_upper(paragraph.text) or split_number(paragraph.text)[0]:
            return False
        around = self.running.paragraphs[max(paragraph.index - 1, 0) : paragraph.index + 2]
        return any(
            p is not paragraph and looks_upper(p.text) and not split_number(p.text)[0] and len(p.text) > 3
            for p in around
        )

    def _is_heading(self, paragraph: Paragraph) -> bool:
        text = paragraph.text.strip()
        if _HASHES.match(text):
            return True
        strip = paragraph.strips[0]
        if (
            len(paragraph.strips) > 2
            or len(text) > _MAX_HEADING_CHARS
            or len(text.split()) > _MAX_HEADING_WORDS
            or strip.is_cells
        ):
            return False
        if text.count(":") and _LABELLED.match(text) and find_dates(text):
            return False
        if (
            _VALUE.match(text)
            or _ITEM.match(text)
            or _LABELLED.match(text)
            or is_contact(text)
            or find_place(text)
            or "|" in text
        ):
            return False
        following = (
            self.running.paragraphs[paragraph.index + 1] if paragraph.index + 1 < len(self.running.paragraphs) else None
        )
        if following is None or following.row.page.number > paragraph.row.page.number + 1:
            return False
        above = self.running.paragraphs[paragraph.index - 1] if paragraph.index else None
        if above is not None and is_slide(strip) and above.row.page is not strip.row.page and strip.text[:1].isupper():
            return following.row.page is strip.row.page
        if is_heading_line(strip):
            return not (looks_upper(text) and (len(text) < 4 or any(c.isdigit() for c in text[-4:])))
        return self._stands_alone(paragraph, following)

    def _stands_alone(self, paragraph: Paragraph, following: Paragraph) -> bool:
        """Whether a short line without number or capitals is a heading: apart from what is above, prose below."""
        text = paragraph.text.strip()
        if (
            not text[:1].isupper()
            or text.endswith((".", ",", ";", ":", "!", '"'))
            or find_dates(text)
            or len(text) < 4
            or len(paragraph.strips) > 1
        ):
            return False
        strip = paragraph.strips[0]
        usual = self.running.usual_gap(strip.row)
        is_apart = strip.gap > usual + 0.4 and len(strip.segments) == 1
        is_prose = len(following.text) > 70 or bool(_ITEM.match(following.text))
        same_column = following.strips[0].column == strip.column
        return (
            is_apart
            and is_prose
            and same_column
            and abs(following.strips[0].left - strip.x0) < 6 * strip.row.page.char_width
        )


def _middle(strip: Strip) -> float:
    return (strip.x0 + strip.x1) / 2


def _is_of_party(text: str) -> bool:
    """Whether a line is part of an address, or the heading above one, as letters and invoices begin with."""
    head, colon, _ = text.partition(":")
    return is_street(text) or (bool(colon) and role_of_label(head.strip()) is not None) or is_country(text)


def _may_be_title(paragraph: Paragraph) -> bool:
    text = _HASHES.sub("", paragraph.text).strip()
    letters = sum(character.isalpha() for character in text)
    if (
        not letters >= 3
        or len(text) > _MAX_TITLE_CHARS
        or len(paragraph.strips) > 3
        or letters * 2 < len(text.replace(" ", ""))
    ):
        return False
    is_agreement = bool(pattern("title", "agreement").search(text))
    if (
        _NOISE.search(text)
        or find_place(text)
        or paragraph.strips[0].is_cells
        or (is_contact(text) and not is_agreement)
    ):
        return False
    dates = find_dates(text)
    if dates and letters - sum(c.isalpha() for c in text[dates[0].start : dates[0].end]) < 6:
        return False
    if re.search(r"[a-zß-ÿ]{2}[.!]\s+[A-ZÀ-Þ]", text) or (text.endswith(".") and len(text.split()) > 7):
        return False
    is_label = bool(_LABELLED.match(text)) and not paragraph.strips[0].is_centred and text.count(" ") < 4
    return not (is_label and (paragraph.index > 0 or text.count(" ") < 3)) and not text.endswith((",", ";"))


_MARKED_NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]+\s?(?:\d(?:,\d)*|[∗*†‡§¶])(?:\s|,|$)")
_NAME_LIST = re.compile(
    r"^(?:[A-ZÀ-Þ][\w'’.-]*\s){1,3}[A-ZÀ-Þ][\w'’-]+(?:,\s(?:and\s)?|\sand\s|\sund\s|\set\s"
    r"|\sy\s)(?:[A-ZÀ-Þ][\w'’.-]*\s){1,3}[A-ZÀ-Þ][\w'’-]+"
)


def _is_person_line(strip: Strip) -> bool:
    """Whether a line below a title lists persons."""
    return bool(_MARKED_NAME.search(strip.text) or _NAME_LIST.match(strip.text)) or "@" in strip.text


def _level(number: str | None, paragraph: Paragraph) -> int:
    hashes = _HASHES.match(paragraph.text)
    if hashes:
        return max(len(hashes[1]) - 1, 1)
    if number:
        match = _DEPTH.match(number.lstrip("§ "))
        return 1 + match[1].count(".") if match else 1 if not number.startswith("(") and not number.islower() else 3
    return 1


def first_sentences(section: Section, count: int, limit: int) -> Found | None:
    """The first sentences of the prose below a heading, as printed."""
    chosen: list[str] = []
    row: Row | None = None
    for sentence in _prose_sentences(section):
        if chosen and sum(map(len, chosen)) + len(sentence[0]) > limit:
            break
        chosen.append(sentence[0])
        row = row or sentence[1]
        if len(chosen) >= count:
            break
    if not chosen or row is None:
        return None
    text = " ".join(chosen)
    return Found(text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …", row, section.heading, 0.5)


def _prose_sentences(section: Section) -> Iterator[tuple[str, Row]]:
    for paragraph in section.body:
        if paragraph.strips[0].is_cells or len(paragraph.text) < 25:
            continue
        for sentence in paragraph.sentences:
            if len(sentence.text) > 20:
                yield sentence.text, sentence.row
