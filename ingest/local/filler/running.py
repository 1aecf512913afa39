"""Running text: the lines of the pages in reading order, column after column, gathered to paragraphs and sentences."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ingest.local.filler.columns import Strip, strips_of_page
from ingest.local.filler.view import Row, View
from ingest.local.page import median

# White space beyond the usual one between the lines of a page, in lines, that parts two paragraphs.
_PARAGRAPH_GAP = 0.6
_LOOSE_PARAGRAPH_GAP = 1.2
_INDENT_CHARS = 1.8
# A line that ends this share of its column early, after a full stop, ends a paragraph.
_SHORT_LINE = 0.85
_TITLE_ROWS = 8
_HEAD_LINES = 3
_SLIDE_LINES, _SLIDE_CHARS = 14, 60
_MAX_PARAGRAPH_CHARS = 12000
_PAGE_LABEL = re.compile(
    r"^[\s\-–—|·]*(?:(?:page|seite|p[aá]gina|p[aá]g\.?|blatt|s\.|p\.)\s*)?[\[(]?(?:\d{1,4}|[ivxl]{1,6})[\])]?"
    r"(?:\s*(?:/|of|von|de|sur|van|di|out of)\s*\d{1,4})?[\s\-–—|·]*$",
    re.IGNORECASE,
)
_FULL_STOP = re.compile(r"[.!?:;…]['\"”’»)\]]*$")
_ITEM = re.compile(
    r"^(?:[•●▪■◦‣∙·*–—-]\s|\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,5})[.)]\s|\d{1,2}(?:\.\d{1,2}){1,3}\.?\s?[A-ZÀ-Þ\"“(]|"
    r"§+\s?\d|(?:art(?:ikel|icle|ículo|icolo)?|section|clause|cláusula|ziffer)\.?\s?\d|\[\d{1,3}\]\s)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?…]+['\"”’»)\]]*(?=\s+['\"“‘«(\[¿¡§•]*[A-ZÀ-ÞΑ-ΩА-Я0-9¿¡])|[。！？]")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"“])(?:[A-Za-z]|No|Nos|Nr|Inc|Corp|Co|Ltd|Mr|Mrs|Ms|Dr|Prof|St|Sr|Sra|Jr|Art|Arts|Abs|Ziff"
    r"|vs|etc|approx|ca|bzw|usw|vgl|"
    r"gem|ggf|inkl|zzgl|Fig|Figs|Eq|Sec|Tab|al|cf|i\.e|e\.g|z\.B|d\.h|u\.a|U\.S|U\.K|S\.A|S\.L|p\.ex|núm|Mme"
    r"|Str|art|inc|"
    r"\d{1,2}(?:\.\d{1,2})*|Jan|Feb|Mar|Apr|Aug|Sept|Oct|Nov|Dec|Abb|Bd|Hrsg|Tel|Rev|Vol|pp|Lit|Buchst|Satz|ff|S|Nro)$"
)
# Headings that stand by themselves whatever is printed around them.
_SECTION_WORD = re.compile(
    r"^(?:abstract|references|bibliography|acknowledge?ments?|literatur(?:verzeichnis)?|zusammenfassung|danksagung|références|"
    r"bibliographie|remerciements|résumé|referencias|bibliografía|agradecimientos|resumen)\s*:?$",
    re.IGNORECASE,
)
_CAPTION = re.compile(
    r"^(?:(?:key\s?-?words|index terms|mots[- ]cl[ée]s|palabras[- ]clave|schlagw[oö]rter|abstract)\s?[:.—–-]"
    r"|(?:fig(?:ure|\.)?|table|tab\.|abb(?:ildung|\.)|tabelle|tableau|figura|tabla|tabella|scheme|exhibit"
    r"|chart)\s?\d{1,3}\s?[.:|–—-])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with the row where it begins."""

    text: str
    row: Row


@dataclass(frozen=True)
class Paragraph:
    """Lines that belong together; `text` is joined with hyphenation undone; `starts` are the offsets of the lines."""

    index: int
    strips: tuple[Strip, ...]
    text: str
    starts: tuple[int, ...]

    @property
    def row(self) -> Row:
        """The first line."""
        return self.strips[0].row

    def row_at(self, offset: int) -> Row:
        """The line a character of the text stands in."""
        return self.strips[max(bisect_right(self.starts, offset) - 1, 0)].row

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences in order."""
        return tuple(Sentence(text, self.row_at(start)) for start, text in _split_sentences(self.text))


class Running:
    """The running text of a document: every line but running heads and page numbers, in reading order."""

    def __init__(self, view: View) -> None:
        self.view = view

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Pieces of lines in reading order: the columns of a page one after the other."""
        strips: list[Strip] = []
        rows_of: dict[int, list[Row]] = {}
        for row in self.view.rows:
            rows_of.setdefault(id(row.page), []).append(row)
        for page in self.view.pages:
            rows = rows_of.get(id(page), [])
            strips.extend(strips_of_page(page, _without_furniture(rows)))
        return tuple(strips)

    @cached_property
    def paragraphs(self) -> tuple[Paragraph, ...]:
        """Paragraphs in reading order; one that runs over a column or a page is one."""
        groups: list[list[Strip]] = []
        for strip in self.strips:
            if groups and _continues(groups[-1], strip, self._usual_gaps):
                groups[-1].append(strip)
            else:
                groups.append([strip])
        return tuple(self._paragraph(index, group) for index, group in enumerate(_rejoin(groups)))

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """All sentences in reading order."""
        return tuple(sentence for paragraph in self.paragraphs for sentence in paragraph.sentences)

    @cached_property
    def begins(self) -> bool:
        """Whether the document's first page is among these pages."""
        return bool(self.view.pages) and self.view.pages[0].number <= 1

    @cached_property
    def _usual_gaps(self) -> dict[int, float]:
        """The usual white space between lines of each page, in lines."""
        gaps: dict[int, list[float]] = {}
        for strip in self.strips:
            if 0 <= strip.gap < 3:
                gaps.setdefault(id(strip.row.page), []).append(strip.gap)
        return {page: min(median(found, 0.0), 1.2) for page, found in gaps.items()}

    @cached_property
    def _words(self) -> Counter[str]:
        """How often each word stands within a line, hyphens kept: to tell which hyphens belong to the word."""
        counts: Counter[str] = Counter()
        for row in self.view.rows:
            counts.update(word.lower() for word in _WORD.findall(row.text[:500]))
        return counts

    def usual_gap(self, row: Row) -> float:
        """The usual white space between the lines of a row's page, in lines."""
        return self._usual_gaps.get(id(row.page), 0.0)

    def _paragraph(self, index: int, strips: Sequence[Strip]) -> Paragraph:
        pieces: list[str] = []
        starts: list[int] = []
        length = 0
        for strip in strips:
            text = strip.text
            if pieces:
                glue = self._glue(pieces[-1], text)
                if glue == "-":
                    pieces[-1] = pieces[-1][:-1]
                    length -= 1
                elif glue:
                    pieces.append(glue)
                    length += len(glue)
            starts.append(length)
            pieces.append(text)
            length += len(text)
        return Paragraph(index, tuple(strips), "".join(pieces), tuple(starts))

    def _glue(self, left: str, right: str) -> str:
        """What joins two lines: a space, nothing after a hyphen that belongs to the word, `-` where it is to go."""
        if left.endswith("\u00ad"):
            return "-"
        if not (left.endswith(("-", "‐")) and right[:1].isalpha() and left[-2:-1].isalpha()):
            return " "
        head, tail = _WORD.findall(left[-40:-1]), _WORD.match(right[:40])
        if not head or not tail or not right[0].islower():
            return ""
        whole, parted = f"{head[-1]}{tail[0]}".lower(), f"{head[-1]}-{tail[0]}".lower()
        return "" if self._words[parted] > self._words[whole] else "-"


def _without_furniture(rows: Sequence[Row]) -> list[Row]:
    """The rows of a page without running heads and feet and page numbers; the first page keeps its head, the title."""
    first = bool(rows) and rows[0].index == 0 and rows[0].page.number <= 1
    kept = [row for position, row in enumerate(rows) if not row.is_repeated or (first and position < _TITLE_ROWS)]
    while kept and _PAGE_LABEL.match(kept[-1].text):
        kept.pop()
    while kept and _PAGE_LABEL.match(kept[0].text):
        kept.pop(0)
    return kept


def _continues(group: Sequence[Strip], strip: Strip, usual: dict[int, float]) -> bool:
    """Whether a line goes on with the paragraph above it."""
    above = group[-1]
    if strip.row.page is not above.row.page or strip.column != above.column:
        return False
    limit = _LOOSE_PARAGRAPH_GAP if strip.is_loose else _PARAGRAPH_GAP
    if strip.gap - usual.get(id(strip.row.page), 0.0) > limit:
        return False
    char = strip.row.page.char_width
    if len(group) == 1 and above.row.index < _HEAD_LINES and above.row.page.number <= 1 and not above.is_loose:
        # A short first line stands by itself though the next one begins with a small letter: a title.
        is_short = above.x1 < above.left + 0.6 * (above.right - above.left)
        if is_short and not above.text.endswith((",", "-", ":")) and _is_lower(strip.text):
            return False
    if is_slide(strip) and not _is_lower(strip.text) and not above.text.endswith((",", "-")):
        return False
    if _SECTION_WORD.match(strip.text) or _SECTION_WORD.match(above.text):
        return False
    if strip.is_cells != above.is_cells or _CAPTION.match(strip.text):
        return False
    if (strip.is_centred or above.is_centred) and abs(strip.x0 - above.x0) > 2.5 * char and len(group) <= 3:
        return False
    ends_early = above.x1 < above.left + _SHORT_LINE * (above.right - above.left)
    ended = bool(_FULL_STOP.search(above.text))
    if ended and (ends_early or strip.x0 - strip.left > _INDENT_CHARS * char) and not _is_lower(strip.text):
        return False
    if _ITEM.match(strip.text) and (ended or ends_early or strip.is_numbered):
        return False
    if is_heading_line(above) and len(group) <= 2:
        return ends_early is False and not _ends_heading(above.text)
    is_brief = strip.x1 < strip.left + 0.6 * (strip.right - strip.left)
    if is_heading_line(strip) and (ended or ends_early or is_brief):
        return False
    return not (
        ends_early
        and not ended
        and above.x1 < above.left + 0.6 * (above.right - above.left)
        and _starts_anew(strip, above)
    )


def is_slide(strip: Strip) -> bool:
    """Whether a line stands on a page of a few short lines, such as a slide or a title page: each says its own."""
    page = strip.row.page
    return len(page.lines) <= _SLIDE_LINES and strip.right - strip.left < _SLIDE_CHARS * page.char_width


def _starts_anew(strip: Strip, above: Strip) -> bool:
    """Whether a line below a short, unended line is something of its own, as in addresses, lists and headings."""
    return not _is_lower(strip.text) and (
        len(above.text) < 60 or strip.x1 - strip.left > 0.8 * (strip.right - strip.left)
    )


def _is_lower(text: str) -> bool:
    return text[:1].islower()


def _ends_heading(text: str) -> bool:
    return len(text) < 60


_NUMBERED = re.compile(
    r"^(?:(?:§+|art(?:ikel|icle|ículo|icolo)?\.?|section|chapter|kapitel|chapitre|capítulo|abschnitt|teil|part"
    r"|clause|cláusula|annex|appendix|anhang|annexe|anexo|anlage)\s*)?"
    r"(?:\d{1,2}(?:\.\d{1,2}){0,3}|[IVX]{1,5}(?=[. ])|[A-H](?=\.\s))[.):]?\s+\S",
    re.IGNORECASE,
)
_OPEN_END = re.compile(
    r"(?:[,;]|\b(?:the|of|and|or|to|in|a|an|for|with|by|is|are|at|on|der|die|das|und|des|von|le|la|de|et|du|el"
    r"|y|los|las))$",
    re.IGNORECASE,
)
_NOT_IN_HEADING = re.compile(r"[@€$]|https?:|www\.|\d{4}-\d\d|[,;]$|\.\s+[a-z]")


def is_heading_line(strip: Strip) -> bool:
    """Whether a line looks like a heading by itself: numbered and short, or in capitals."""
    text = strip.text.strip()
    letters = [character for character in text if character.isalpha()]
    if not len(letters) > 2 or len(text) > 90 or _NOT_IN_HEADING.search(text):
        return False
    words = text.split()
    if _NUMBERED.match(text) and len(words) <= 14 and not _OPEN_END.search(text):
        return _is_numbered_heading(strip, words)
    return len(letters) >= 4 and all(c.isupper() for c in letters) and len(words) <= 12 and not text.endswith(",")


def _is_numbered_heading(strip: Strip, words: Sequence[str]) -> bool:
    """Whether the words after a number read as a heading: capitals, or few words in a line that ends early."""
    first = next((word for word in words[1:] if word[:1].isalpha()), "")
    if not first[:1].isupper() or (strip.text.endswith(".") and len(words) > 7) or words[0].endswith(":"):
        return False
    long_words = [word for word in words[1:] if len(word) > 3 and word[0].isalpha()]
    capitals = sum(word[0].isupper() for word in long_words)
    is_short = strip.x1 < strip.left + 0.65 * (strip.right - strip.left)
    return capitals * 2 >= len(long_words) or (is_short and len(words) <= 8)


def _rejoin(groups: Sequence[list[Strip]]) -> Iterator[list[Strip]]:
    """Groups with a sentence broken by a column's or page's end put together again."""
    pending: list[Strip] | None = None
    for group in groups:
        if pending is None:
            pending = list(group)
            continue
        last, first = pending[-1], group[0]
        elsewhere = last.row.page is not first.row.page or last.column != first.column
        size = sum(len(strip.text) for strip in pending)
        broken = elsewhere and not _FULL_STOP.search(last.text) and len(last.text) > 25 and size < _MAX_PARAGRAPH_CHARS
        if broken and (_is_lower(first.text) or (last.text.endswith("-") and not is_heading_line(first))):
            pending.extend(group)
        else:
            yield pending
            pending = list(group)
    if pending:
        yield pending


def _split_sentences(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        before = text[max(start, match.start() - 14) : match.start()]
        if match[0][0] == "." and len(match[0]) == 1 and _ABBREVIATION.search(before):
            continue
        piece = text[start : match.end()].strip()
        if piece:
            yield _skip(text, start), piece
        start = match.end()
    piece = text[start:].strip()
    if piece:
        yield _skip(text, start), piece


def _skip(text: str, start: int) -> int:
    """The first place from `start` that is no white space."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start
