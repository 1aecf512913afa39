"""Values that stand beside or below the labels of a concept, best first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingest.local.filler.labels import Hit
from ingest.local.filler.text import squash
from ingest.local.filler.values import Value, read
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

# What a candidate loses for the place where it stands; a value after its label and colon loses nothing.
_LOSS_NO_COLON = 0.03
_LOSS_RIGHT = 0.02
_LOSS_BELOW = 0.12
_LOSS_WEAK = 0.35
_LOSS_INSIDE = 0.2
_LOSS_REPEATED = 0.02
_BONUS_PER_LETTER = 0.004
_LOSS_LONGER_LABEL = 0.25
_LOSS_PER_ROW = 0.03
_FIT_WEIGHT = 0.5
_GOOD_FIT = 0.5
_BONUS_LETTERS = 20
# Letters after a label, in its segment, from which it is taken for part of a sentence.
_SENTENCE_LETTERS = 12
_MAX_VALUE_WORDS = 60
_BELOW_ROWS = 3
_TOTALS_ROWS = 40
_TOTALS_LABELS = frozenset(
    {
        "total",
        "totals",
        "summe",
        "gesamt",
        "totaux",
        "totales",
        "totaal",
        "totale",
        "grandtotal",
        "summen",
        "gesamtbetrag",
        "gesamtsumme",
        "total general",
        "somme",
    }
)
_NAME_LABELS = frozenset({"name", "nom", "nombre", "naam", "nome"})
_WORD = re.compile(r"[^\W\d_]+")
# Words after `total` that make it a count of things rather than a sum of money.
_COUNTED = frozenset(
    "qty quantity item items saving savings saved point points unit units pcs pieces anzahl menge artikel "
    "stuck stk nb nombre articles articulos unidades uds articoli pezzi aantal stuks weight gewicht poids "
    "peso hours stunden heures horas discount rabatt disc pax pages seiten days tage".split()
)
# Words between a total's label and its amount that leave the meaning as it is.
_HARMLESS = frozenset(
    "euro euros dollars ringgit francs including inclusive incl excl excluding sales inkl exkl inclus".split()
)
_MAX_BELOW_GAP = 1.6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value for a concept: where it stands, the label that names it, and a score (about 0..1.1)."""

    value: Value
    score: float
    row: Row
    label: str
    label_row: int
    place: str
    x0: float
    is_weak: bool = False
    quote: str | None = None

    @property
    def data(self) -> str | float:
        """The value as data."""
        return self.value.data


def candidates_for(concept: str, kind: str, view: View) -> list[Candidate]:
    """Candidates for a concept of the vocabulary from all its labels, best first, earlier first among equals."""
    found: list[Candidate] = []
    for row, hit, is_weak in view.hits_by_concept.get(concept, ()):
        found.extend(_around(row, hit, kind, view, is_weak))
    return sorted(found, key=lambda candidate: -candidate.score)


@dataclass(frozen=True, slots=True)
class _Label:
    """A label on the page while the values around it are looked at; `base` is the score of a value right after it."""

    row: Row
    hit: Hit
    kind: str
    is_weak: bool
    base: float
    inline: str

    @property
    def segment(self) -> Segment:
        """The segment the label stands in."""
        return self.row.segments[self.hit.segment]

    @property
    def text(self) -> str:
        """The label as printed."""
        words = self.segment.tokens[self.hit.start : self.hit.end]
        return " ".join(token.text for token in words).strip(" :#")

    def candidate(self, value: Value, loss: float, place: str, quote: str, row: Row | None = None) -> Candidate:
        """A value found in a place (in another row where one is given), scored by the place and by its own fit."""
        score = self.base - loss - (1 - value.fit) * _FIT_WEIGHT
        where = row or self.row
        return Candidate(value, score, where, self.text, self.row.index, place, self.segment.x0, self.is_weak, quote)


def _around(row: Row, hit: Hit, kind: str, view: View, is_weak: bool) -> Iterator[Candidate]:
    """The values a label may belong to: in its own segment, to its right, below it."""
    label = _label(row, hit, kind, view, is_weak)
    if label is None:
        return
    value = read(kind, label.inline, view) if label.inline else None
    if value:
        loss = 0.0 if hit.has_colon else _LOSS_NO_COLON + (_LOSS_INSIDE if kind == "text" else 0.0)
        yield label.candidate(value, loss, "inline", label.segment.text)
        if value.fit > _GOOD_FIT:
            return
    if kind == "amount" and not any(character.isdigit() for character in label.inline):
        yield from _in_totals_row(label, view)
    has_values_below = kind in ("text", "id") and _is_label_row(row, hit.segment, view)
    right = None if has_values_below else _right_of(row, hit, kind, view)
    if right:
        loss = _LOSS_RIGHT + (_LOSS_INSIDE if label.inline and kind != "amount" else 0.0)
        yield label.candidate(right, loss, "right", f"{label.segment.text} {right.printed}")
    elif sum(character.isalpha() for character in label.inline) <= _SENTENCE_LETTERS:
        for below, found in _below(row, hit, kind, view):
            loss = _LOSS_BELOW + _LOSS_PER_ROW * (below.index - row.index - 1)
            yield label.candidate(found, loss, "below", found.printed, below)
            return


def _label(row: Row, hit: Hit, kind: str, view: View, is_weak: bool) -> _Label | None:
    """The label with its score, or None when the words after it give it another meaning."""
    base = 1.0 - _LOSS_WEAK if is_weak else 1.0 + _BONUS_PER_LETTER * min(len(hit.label), _BONUS_LETTERS)
    base -= _LOSS_REPEATED if row.is_repeated else 0.0
    if not hit.is_first and not _starts_label(row.segments[hit.segment], hit):
        base -= _LOSS_INSIDE
    inline = _rest_of_segment(row, hit, view)
    if kind == "amount":
        words = [squash(word) for word in _WORD.findall(inline[: _first_digit(inline)])]
        if any(word in _COUNTED for word in words[:2]):
            return None
        base -= _LOSS_LONGER_LABEL if any(len(word) > 3 and word not in _HARMLESS for word in words) else 0.0
    return _Label(row, hit, kind, is_weak, base, inline)


def _is_label_row(row: Row, first: int, view: View) -> bool:
    """Whether a row holds labels from a segment on, with their values below: the next row aligned."""
    labels = row.segments[first:]
    text = " ".join(segment.text for segment in labels)
    if len(labels) < 2 or row.index + 1 >= len(view.rows) or any(c.isdigit() or c == ":" for c in text):
        return False
    below = view.rows[row.index + 1]
    if below.page is not row.page or below.gap > _MAX_BELOW_GAP:
        return False
    slack = 2 * row.page.char_width
    aligned = sum(any(abs(s.x0 - other.x0) <= slack for other in below.segments) for s in labels)
    return aligned >= 2


def _in_totals_row(label: _Label, view: View) -> Iterator[Candidate]:
    """The amount under a column's heading in the row of totals that closes its table."""
    row, segment = label.row, label.segment
    if len(row.segments) < 2 or any(character.isdigit() for character in row.text):
        return
    for below in view.rows[row.index + 1 : row.index + 1 + _TOTALS_ROWS]:
        if below.page is not row.page:
            return
        first = squash(below.segments[0].text)
        if first not in _TOTALS_LABELS or len(below.segments) < min(3, len(row.segments)):
            continue
        for other in below.segments[1:]:
            value = read("amount", other.text, view)
            if value and value.is_money and min(other.x1, segment.x1) > max(other.x0, segment.x0):
                yield label.candidate(value, _LOSS_RIGHT, "column", below.text, below)
        return


def _first_digit(text: str) -> int:
    return next((index for index, character in enumerate(text) if character.isdigit()), len(text))


def _starts_label(segment: Segment, hit: Hit) -> bool:
    """Whether words before the label end a label or value of their own, or are no words at all."""
    before = segment.tokens[hit.start - 1].text
    return before.endswith((":", ",", "|", ";", "-", "–", "•", "·", "/", "*")) or not any(c.isalnum() for c in before)


def _rest_of_segment(row: Row, hit: Hit, view: View) -> str:
    """The words of the segment after the label, up to the next label."""
    segment = row.segments[hit.segment]
    end = len(segment.tokens)
    for other in view.hits[row.index]:
        if other.segment != hit.segment or other.start < hit.end or (other.end == end and not other.has_colon):
            continue
        if other.has_colon or not other.is_weak:
            end = other.start
            break
    rest = " ".join(token.text for token in segment.tokens[hit.end : min(end, hit.end + _MAX_VALUE_WORDS)]).strip()
    return rest.lstrip(":.|= ").strip()


def _right_of(row: Row, hit: Hit, kind: str, view: View) -> Value | None:
    """The value in the segments to the right, which no other label claims; the last one for amounts."""
    best: Value | None = None
    for index in range(hit.segment + 1, len(row.segments)):
        claimed = any(h.segment == index and h.start == 0 and not h.is_weak for h in view.hits[row.index])
        whole = len(row.segments[index].tokens)
        claimed = claimed or any(
            h.segment == index and h.start == 0 and (h.has_colon or (kind == "amount" and h.end == whole))
            for h in view.hits[row.index]
        )
        if claimed:
            break
        text = row.segments[index].text.lstrip(": ").strip()
        if text.endswith(":") and kind in ("text", "id"):
            if squash(text) in _NAME_LABELS:
                continue
            break
        value = read(kind, text, view) if text else None
        if value and (kind == "amount" or best is None) and (best is None or value.fit >= best.fit):
            best = value
        if kind != "amount" and (best or (value is None and len(text) > 3)):
            break
    return best


def _below(row: Row, hit: Hit, kind: str, view: View) -> Iterator[tuple[Row, Value]]:
    """Values in the rows below that stand under the label."""
    segment = row.segments[hit.segment]
    x0 = segment.tokens[hit.start].x0
    x1 = segment.tokens[hit.end - 1].x1
    slack = row.page.char_width * 1.5
    for below in view.rows[row.index + 1 : row.index + 1 + _BELOW_ROWS]:
        if below.page is not row.page or below.gap > _MAX_BELOW_GAP:
            return
        for index, other in enumerate(below.segments):
            if other.x1 < x0 - slack or other.x0 > x1 + slack:
                continue
            if any(
                h.segment == index and h.start == 0 and (h.has_colon or not h.is_weak) for h in view.hits[below.index]
            ):
                return
            value = read(kind, other.text, view)
            if value:
                yield below, value
            return
