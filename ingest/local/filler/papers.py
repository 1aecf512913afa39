"""What a scholarly text says of itself: abstract, keywords, journal, identifiers, date, funding, captions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from ingest.local.filler.dates import MONTH_BY_NAME, find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.headings import ABSTRACT, Headings
from ingest.local.filler.running import Paragraph, Running, is_heading_line
from ingest.local.filler.text import fold
from ingest.local.filler.view import Row

_FRONT_PARAGRAPHS = 40
_MAX_ABSTRACT_CHARS = 5000
_MAX_KEYWORDS = 25
_MAX_CAPTIONS = 150
_MAX_CAPTION_CHARS = 700
_KEYWORDS = re.compile(
    r"^(?:key\s?-?words(?: and phrases)?|index terms|schlagw[oö]rte?r?|schlüsselw[oö]rter|stichworte"
    r"|mots[- ]cl[ée]s|palabras[- ]clave|parole chiave|trefwoorden"
    r"|palavras[- ]chave)\s*[.:—–-]*\s*(?P<words>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_AFTER_ABSTRACT = re.compile(
    r"^(?:key\s?-?words|index terms|ccs concepts|acm reference|categories and subject|jel\b|msc\b|pacs"
    r"|\d?\.?\s*introduction|i\.\s+introduction|schlagw|mots[- ]cl|palabras[- ]clave|\W*equal contribution"
    r"|correspondence)",
    re.IGNORECASE,
)
_DOI = re.compile(r"\b(10\.\d{4,9}/[^\s\"<>{}|]{3,100})")
_ARXIV = re.compile(r"\barXiv:\s?(\d{4}\.\d{4,5}(?:v\d{1,2})?|[a-z-]+(?:\.[A-Z]{2})?/\d{7})", re.IGNORECASE)
_ISBN = re.compile(r"\bISBN(?:-1[03])?:?\s?((?:97[89][- ]?)?[\d][\d -]{8,14}[\dX])\b")
_REPORT = re.compile(
    r"\b((?:Technical |Tech\. |Research )?(?:Report|Working Paper"
    r"|Discussion Paper)\s(?:No\.?\s?)?[A-Z]{0,6}[-/ ]?\d[\w./-]{0,20})",
    re.IGNORECASE,
)
_JOURNAL = re.compile(
    r"^(?P<venue>[A-ZÀ-Þ][^\d]{3,90}?),?\s+(?:vol(?:ume|\.)?\s*"
    r"|bd\.?\s*)?(?P<volume>\d{1,4})\s?(?:\((?P<issue>\d{1,4}(?:[-–/]\d{1,3})?)\)|,?\s*(?:no|nr|issue|n°"
    r"|heft)\.?\s*(?P<issue2>\d{1,4}))?"
    r"(?:\s*\((?P<year0>(?:19|20)\d\d)\))?(?:\s*[,:;]\s*(?:pp?\.?\s*"
    r"|s\.\s*)?(?P<pages>\d{1,5}\s?[-–—]\s?\d{1,5}|[a-z]?\d{2,7}(?=\s*\())?)?(?:[\s,.(]*(?P<year>(?:19"
    r"|20)\d\d)\)?)?",
    re.IGNORECASE,
)
_VENUE_LINE = re.compile(
    r"\b(?P<venue>(?:(?:In )?Proceedings of|Advances in|Lecture Notes in|International (?:Conference|Journal"
    r"|Workshop)|(?:IEEE|ACM) (?:Transactions|Conference|Journal|Symposium)|\d{1,2}(?:st|nd|rd"
    r"|th) (?:Conference|International|Annual|Workshop)|Journal of|Annals of|Zeitschrift für|Revue"
    r"|Revista)\b[^.;|]{3,120})"
)
_YEAR = re.compile(r"(?<![\d./-])((?:19|20)\d\d)(?![\d/-])")
_MONTH_YEAR = re.compile(r"\b([^\W\d_]{3,10})\.?\s+((?:19|20)\d\d)\b")
_FUNDING = re.compile(
    r"\b(?:(?:was|were|is|are|been)\s+(?:\w+\s+){0,3}(?:funded|supported|financed)|funded by|supported by"
    r"|financial support|grant (?:no|number|agreement)|gefördert|finanziert durch|financé|soutenu par"
    r"|financiad[ao])\b",
    re.IGNORECASE,
)
_FUNDING_HEAD = re.compile(
    r"^(?:acknowledge?ments?|funding|danksagung|förderung|remerciements|financement|agradecimientos"
    r"|financiación)\b",
    re.IGNORECASE,
)
_FIGURE_WORDS = r"fig(?:ure|\.)?|abb(?:ildung|\.)|figura|scheme|chart|afbeelding|abbildung"
_TABLE_WORDS = r"table|tab\.|tabelle|tableau|tabla|tabella|tabel"
REFERENCES = re.compile(
    r"^(?:#+\s*)?(?:\d{1,2}\.?\s+|[IVX]+\.\s+)?(?:references(?: and notes)?|bibliography|works cited"
    r"|literature(?: cited)?|literatur(?:verzeichnis)?|quellen(?:verzeichnis)?"
    r"|références(?: bibliographiques)?|bibliographie|referencias(?: bibliográficas)?|bibliografía"
    r"|bibliografia|riferimenti(?: bibliografici)?|literatuur)\s*:?$",
    re.IGNORECASE,
)


class Paper:
    """A scholarly text; what it says is found when first asked for."""

    def __init__(self, running: Running, headings: Headings) -> None:
        self.running = running
        self.headings = headings
        self.view = running.view

    @cached_property
    def is_one(self) -> bool:
        """Whether the document has the marks of a scholarly text: an abstract, references, a DOI."""
        marks = int(self._abstract_heading is not None) + int(self.references_start is not None)
        head = self.view.text[:6000]
        return (
            marks >= 1 and marks + bool(_DOI.search(head)) + bool(_ARXIV.search(self.view.text[:12000])) >= 2
        ) or marks == 2

    @cached_property
    def front(self) -> tuple[Paragraph, ...]:
        """The paragraphs of the first page; empty when it is not there."""
        if not self.running.begins or not self.running.paragraphs:
            return ()
        page = self.running.paragraphs[0].row.page
        return tuple(p for p in self.running.paragraphs[:_FRONT_PARAGRAPHS] if p.row.page is page)

    @cached_property
    def _abstract_heading(self) -> Paragraph | None:
        return (
            next((p for p in self.running.paragraphs[:60] if ABSTRACT.match(p.text)), None)
            if self.running.begins
            else None
        )

    @property
    def abstract_index(self) -> int | None:
        """Index of the paragraph the abstract begins with."""
        return self._abstract_heading.index if self._abstract_heading else None

    def abstract(self) -> Found | None:
        """The abstract, its paragraphs joined."""
        heading = self._abstract_heading
        if heading is None:
            return None
        match = ABSTRACT.match(heading.text)
        pieces = [heading.text[match.end() :].strip()] if match else []
        row: Row | None = heading.row if pieces and pieces[0] else None
        for paragraph in self.running.paragraphs[heading.index + 1 : heading.index + 9]:
            size = sum(map(len, pieces))
            if (
                _AFTER_ABSTRACT.match(paragraph.text)
                or is_heading_line(paragraph.strips[0])
                or size + len(paragraph.text) > _MAX_ABSTRACT_CHARS
            ):
                break
            if size > 200 and not self._goes_on(paragraph):
                break
            pieces.append(paragraph.text)
            row = row or paragraph.row
        text = " ".join(piece for piece in pieces if piece)
        return Found(text, row, heading.text[:30].strip(), 0.85) if len(text) > 40 and row else None

    def _goes_on(self, paragraph: Paragraph) -> bool:
        """Whether a paragraph follows the one above in its column without a wide gap, and ends no page."""
        above = self.running.paragraphs[paragraph.index - 1]
        near = paragraph.strips[0].gap < 2 and paragraph.strips[0].column == above.strips[0].column
        return (
            near
            and len(paragraph.text) > 60
            and abs(paragraph.strips[-1].left - above.strips[-1].left) < 3 * paragraph.row.page.char_width
        )

    def keywords(self) -> list[Found]:
        """The keywords as printed."""
        for paragraph in self.running.paragraphs[:80]:
            match = _KEYWORDS.match(paragraph.text)
            if not match:
                continue
            text = match["words"]
            following = self.running.paragraphs[paragraph.index + 1 : paragraph.index + 4]
            for below in following:
                if text and not (
                    below.text.startswith(("·", "•", ";", ",")) or text.rstrip().endswith((",", ";", "·"))
                ):
                    break
                text = f"{text} {below.text}"
            parts = (
                re.split(r"\s*[;·•|]\s*|\s+[–—]\s+", text) if re.search(r"[;·•|]", text) else re.split(r"\s*,\s*", text)
            )
            cleaned = [part.strip(" .,;:") for part in parts]
            return [Found(part, paragraph.row, "keywords", 0.8) for part in cleaned if 1 < len(part) <= 80][
                :_MAX_KEYWORDS
            ]
        return []

    def doi(self) -> Found | None:
        """The DOI of the text itself: on the first page before the references."""
        for row in self._front_rows():
            match = _DOI.search(row.text)
            if match:
                return Found(match[1].rstrip(".,;:)]}"), row, "doi", 0.85)
        return None

    def identifier(self) -> Found | None:
        """An arXiv number, ISBN or report number on the first page."""
        for name, matcher in (("arXiv", _ARXIV), ("ISBN", _ISBN), ("report", _REPORT)):
            for row in self._front_rows():
                match = matcher.search(row.text)
                if match:
                    return Found(f"arXiv:{match[1]}" if name == "arXiv" else match[1].strip(), row, name, 0.8)
        return None

    def _front_rows(self) -> list[Row]:
        """The rows of the first page, running heads included, up to the references."""
        if not self.running.begins or not self.view.rows:
            return []
        page = self.view.rows[0].page
        return [row for row in self.view.rows[:200] if row.page is page]

    @cached_property
    def _journal(self) -> tuple[re.Match[str], Row] | None:
        rows = self._front_rows()
        for row in [*rows[:6], *rows[-4:]]:
            for segment in row.segments:
                match = _JOURNAL.match(segment.text)
                if (
                    match
                    and (match["issue"] or match["issue2"] or match["pages"])
                    and (match["year"] or match["year0"] or match["pages"])
                ):
                    return match, row
        return None

    def venue(self) -> Found | None:
        """The journal, proceedings or preprint server."""
        if self._journal:
            match, row = self._journal
            return Found(match["venue"].strip(" ,"), row, None, 0.75)
        rows = self._front_rows()
        for row in [*rows[:5], *rows[-8:]]:
            line = _VENUE_LINE.search(row.text)
            if line and len(row.text) < 220:
                return Found(line["venue"].strip(" ,"), row, None, 0.6)
        arxiv = next((row for row in rows if _ARXIV.search(row.text)), None)
        return Found("arXiv", arxiv, None, 0.5) if arxiv else None

    def volume(self) -> Found | None:
        """Volume with issue, as 14(2)."""
        if not self._journal:
            return None
        match, row = self._journal
        issue = match["issue"] or match["issue2"]
        return Found(f"{match['volume']}({issue})" if issue else match["volume"], row, None, 0.7)

    def issue(self) -> Found | None:
        """The issue of the journal."""
        if not self._journal:
            return None
        match, row = self._journal
        issue = match["issue"] or match["issue2"]
        return Found(issue, row, None, 0.7) if issue else None

    def pages(self) -> Found | None:
        """The range of pages in the journal."""
        if not self._journal or not self._journal[0]["pages"]:
            return None
        match, row = self._journal
        return Found(re.sub(r"\s*[-–—]\s*", "-", match["pages"]), row, None, 0.7)

    def publication_date(self) -> Found | None:
        """The date of publication as exact as the first page prints it: YYYY-MM-DD, YYYY-MM or YYYY."""
        limit = self._abstract_heading.row.index if self._abstract_heading else 25
        head = [row for row in self._front_rows() if row.index < limit]
        for row in head:
            dates = find_dates(row.text)
            if dates:
                return Found(dates[0].resolve(self.view.month_first).isoformat(), row, None, 0.65)
        for row in head:
            for match in _MONTH_YEAR.finditer(row.text):
                month = MONTH_BY_NAME.get(fold(match[1]))
                if month:
                    return Found(f"{match[2]}-{month:02d}", row, None, 0.6)
        year = self._journal_year()
        if year:
            return year
        stamp = next((row for row in self._front_rows() if _ARXIV.search(row.text)), None)
        stamped = stamp and find_dates(stamp.text)
        if stamp and stamped:
            return Found(stamped[0].resolve(self.view.month_first).isoformat(), stamp, None, 0.6)
        for row in [*head[:8], *self._front_rows()[-6:]]:
            plain = _YEAR.search(row.text)
            if plain and re.search(
                r"©|copyright|\(c\)|conference|workshop|proceedings|journal|published|\b(?:vol|thesis)\b",
                row.text,
                re.IGNORECASE,
            ):
                return Found(plain[1], row, None, 0.5)
        return None

    def _journal_year(self) -> Found | None:
        if not self._journal:
            return None
        match, row = self._journal
        year = match["year"] or match["year0"]
        return Found(year, row, None, 0.75) if year else None

    def year(self) -> Found | None:
        """The year of publication."""
        date = self.publication_date()
        return Found(float(str(date.data)[:4]), date.row, None, date.confidence) if date else None

    def funding(self) -> Found | None:
        """The statement of funding, as printed."""
        for paragraph in self.running.paragraphs:
            if not _FUNDING_HEAD.match(paragraph.text) or len(paragraph.text) > 4000:
                continue
            for body in self.running.paragraphs[paragraph.index : paragraph.index + 3]:
                found = [s for s in body.sentences if _FUNDING.search(s.text)]
                if found:
                    text = " ".join(_FUNDING_HEAD.sub("", s.text).lstrip(" .:—-") for s in found[:4])
                    return Found(text, found[0].row, None, 0.7)
        return None

    @cached_property
    def references_start(self) -> int | None:
        """Index of the paragraph after the last heading of references, or None."""
        found = [p.index for p in self.running.paragraphs if len(p.text) < 60 and REFERENCES.match(p.text)]
        return found[-1] + 1 if found else None

    def captions(self, of_tables: bool) -> Iterator[dict[str, Found]]:
        """Figures, or tables, by their captions: label and caption."""
        kind = _TABLE_WORDS if of_tables else _FIGURE_WORDS
        matcher = re.compile(
            rf"^(?P<label>(?:{kind})\s?(?:[A-Z]\.?)?\d{{1,3}}(?:\.\d{{1,2}})?)\s?[.:|–—-]\s*(?P<caption>\S.*)$",
            re.IGNORECASE | re.DOTALL,
        )
        seen: set[str] = set()
        for paragraph in self.running.paragraphs:
            match = (
                matcher.match(paragraph.text) if paragraph.text[:1].isalpha() and len(seen) < _MAX_CAPTIONS else None
            )
            if not match or fold(match["label"]) in seen:
                continue
            seen.add(fold(match["label"]))
            caption = match["caption"].strip()
            if len(caption) > _MAX_CAPTION_CHARS:
                caption = caption[:_MAX_CAPTION_CHARS].rsplit(" ", 1)[0] + " …"
            yield {
                "label": Found(match["label"], paragraph.row, None, 0.8),
                "caption": Found(caption, paragraph.row, None, 0.75),
            }
