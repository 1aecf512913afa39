"""The pages of a request as one list of rows, with the habits of the document: decimal mark, date order, currency."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ingest.local.filler.dates import find_dates, prefers_month_first
from ingest.local.filler.labels import Hit, find_hits
from ingest.local.filler.numbers import decimal_mark, detect_currency
from ingest.local.filler.text import squash
from ingest.local.page import Line, Page, Segment, Token

_AMERICAN = re.compile(
    r"\b[A-Z]{2} \d{5}(?:-\d{4})?\b|\bUSA\b|\bU\.S\.A?\b|\bUnited States\b|\bZIP\b|\b(?:Inc|LLC|Corp)\b", re.MULTILINE
)
_DAY_FIRST_PLACE = re.compile(r"\b(?:GmbH|S\.?A\.?R\.?L|Ltd|B\.?V\.|Sdn|Pty|Pvt|VAT|MwSt|TVA|IVA|UK|GST)\b")
_DIGITS = re.compile(r"\d+")
_PAGE_NUMBER = re.compile(
    r"\b(?:page|seite|blatt|p[aá]gina?|p[aá]g\.?|pagina|folio)\s*:?\s*\d{1,4}(?:\s?(?:/|of|von|de|sur|van|di)\s?\d{1,4})?|\b\d{1,3}\s?/\s?\d{1,3}\b",
    re.IGNORECASE,
)
# Words of lines that carry a sum over a page break: anywhere in the line, or at its beginning.
_CARRIED_INSIDE = tuple(
    (
        "ubertrag carriedforward broughtforward carryforward carryover carriedover areporter sumaysigue "
        "sumaanterior overdracht transporteren anreporter reportpage reportdelapage continuedon seitensumme "
        "totalpage pagetotal pagesubtotal ariportare riporto sumaysiguen transportvonseite sigueenpagina "
        "continuedfrom continuednextpage"
    ).split()
)
_CARRIED_FIRST = tuple(("report continued fortsetzung suite continua sigue vervolg").split())
# What the rules see of a word and of a line: print has no longer ones, and a search may take the square of a length.
_MAX_WORD_CHARS = 500
_MAX_LINE_CHARS = 20_000
# Rows this near the top or bottom of a page may be a running head or foot.
_MARGIN_ROWS = 12
_MASKED_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One printed line with its place in the document. `gap` is the white space above it, in lines."""

    index: int
    page: Page
    line: Line
    gap: float
    is_repeated: bool

    @property
    def text(self) -> str:
        """The words of the line."""
        return self.line.text

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the line."""
        return self.line.segments

    @property
    def is_carried(self) -> bool:
        """Whether the line carries a sum from one page to the next or says that a table goes on."""
        first = squash(self.line.segments[0].text)
        if len(self.line.segments) > 3 or len(first) > 60:
            return False
        return any(word in first for word in _CARRIED_INSIDE) or first.startswith(_CARRIED_FIRST)


@dataclass(frozen=True, slots=True)
class View:
    """All rows in reading order and the habits of the document."""

    pages: tuple[Page, ...]
    rows: tuple[Row, ...]
    hits: tuple[tuple[Hit, ...], ...]
    hits_by_concept: Mapping[str, tuple[tuple[Row, Hit, bool], ...]]
    decimal: str
    month_first: bool
    currency: str | None
    text: str = field(repr=False)

    @classmethod
    def of(cls, pages: Sequence[Page]) -> View:
        """The view of these pages, in the order given."""
        rows = _rows(pages)
        texts = [row.text for row in rows]
        text = "\n".join(texts)
        american = bool(_AMERICAN.search(text[:20000])) and not _DAY_FIRST_PLACE.search(text[:20000])
        hits = tuple(find_hits(row.line, row.page.origin == "ocr") for row in rows)
        return cls(
            tuple(pages),
            tuple(rows),
            hits,
            _by_concept(rows, hits),
            decimal_mark(texts),
            prefers_month_first(texts, american),
            detect_currency(text),
            text,
        )

    def date_in(self, text: str) -> str | None:
        """The first date of a text as YYYY-MM-DD."""
        found = find_dates(text)
        return found[0].resolve(self.month_first).isoformat() if found else None


def _by_concept(rows: Sequence[Row], hits: Sequence[Sequence[Hit]]) -> dict[str, tuple[tuple[Row, Hit, bool], ...]]:
    """For each concept its labels in reading order: row, label, and whether the label is weak for it."""
    found: dict[str, list[tuple[Row, Hit, bool]]] = {}
    for row in rows:
        for hit in hits[row.index]:
            for meaning in hit.meanings:
                found.setdefault(meaning.concept, []).append((row, hit, meaning.is_weak))
    return {concept: tuple(places) for concept, places in found.items()}


def _rows(pages: Sequence[Page]) -> list[Row]:
    repeated = _repeated_lines(pages)
    rows: list[Row] = []
    for page, lines in zip(pages, repeated, strict=True):
        bottom = 0.0
        for position, line in enumerate(map(_clipped, page.lines)):
            gap = (line.y0 - bottom) / page.line_height if position else 99.0
            bottom = line.y1
            rows.append(Row(len(rows), page, line, gap, position in lines))
    return rows


def _clipped(line: Line) -> Line:
    """The line as it is when words and line are of a length that print has, else its beginning, words cut short."""
    length = sum(len(segment.text) for segment in line.segments)
    if length <= _MAX_WORD_CHARS:
        return line
    longest = max(len(token.text) for segment in line.segments for token in segment.tokens)
    if length <= _MAX_LINE_CHARS and longest <= _MAX_WORD_CHARS:
        return line
    segments: list[Segment] = []
    room = _MAX_LINE_CHARS
    for segment in line.segments:
        tokens: list[Token] = []
        for token in segment.tokens:
            text = token.text[:_MAX_WORD_CHARS]
            room -= len(text) + 1
            if room < 0:
                break
            tokens.append(token if text == token.text else replace(token, text=text))
        if tokens:
            segments.append(Segment.of(tokens))
        if room < 0:
            break
    return Line.of(segments)


def _shape(line: Line) -> str:
    """The line's text, its digits masked when they can be no more than a page number or a date."""
    text = squash(_PAGE_NUMBER.sub(" ", line.text))
    return _DIGITS.sub("0", text) if sum(character.isdigit() for character in text) <= _MASKED_DIGITS else text


def _repeated_lines(pages: Sequence[Page]) -> list[frozenset[int]]:
    """For each page the positions of its running head and foot: lines that stand so at the edge of another page too."""
    heads = [[_shape(_clipped(line)) for line in page.lines[:_MARGIN_ROWS]] for page in pages]
    feet = [[_shape(_clipped(line)) for line in page.lines[::-1][:_MARGIN_ROWS]] for page in pages]
    result: list[frozenset[int]] = []
    known_heads, known_feet = _shared(heads), _shared(feet)
    for page, head, foot in zip(pages, heads, feet, strict=True):
        top = _leading(head, known_heads)
        bottom = _leading(foot, known_feet)
        count = len(page.lines)
        result.append(frozenset([*range(top), *range(count - bottom, count)]) if top + bottom < count else frozenset())
    return result


_Places = dict[str, Counter[int]]


def _shared(edges: Sequence[Sequence[str]]) -> _Places:
    """Shapes at the edge of two pages or more, and of a third of all pages; how often each stands at which place."""
    places: _Places = {}
    for edge in edges:
        for position, shape in enumerate(edge):
            places.setdefault(shape, Counter())[position] += 1
    pages: Counter[str] = Counter()
    for edge in edges:
        pages.update(set(edge))
    return {shape: places[shape] for shape, count in pages.items() if count >= max(2, len(edges) / 3)}


def _leading(edge: Sequence[str], known: _Places) -> int:
    """How many lines from the edge inwards are known.

    One unknown line among them is allowed when what follows it stands at the same place of another page.
    """
    end = 0
    for position, shape in enumerate(edge):
        if shape in known and (position == end or known[shape][position] > 1):
            end = position + 1
        elif position - end >= 1:
            break
    return end
