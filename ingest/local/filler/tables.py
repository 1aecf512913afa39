"""Tables with a heading: finding the heading rows and what each column means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.local.filler import vocabulary
from ingest.local.filler.labels import longest_matches
from ingest.local.filler.text import squash
from ingest.local.filler.view import Row, View
from ingest.local.filler.vocabulary import Meaning
from ingest.local.page import Segment

_MIN_COLUMNS = 3
# A rate printed in a heading belongs to a line of totals, not to a table.
_RATE_IN_HEADING = re.compile(r"\d\s?%")
_MAX_HEADING_ROWS = 4
_HEADING_GAP = 0.9
# Order in which concepts claim columns where a heading fits several; the most telling first.
_CLAIM_ORDER = (
    "unit_price", "tax_rate", "tax_amount", "discount", "description", "position", "item_number", "unit", "line_date",
    "amount", "quantity", "tax_basis",
)  # fmt: skip
# Concepts that stand right of their rivals: the last fitting column is theirs.
_RIGHTMOST = frozenset({"amount"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, horizontal span in the page's unit, and what it means (None when unknown)."""

    index: int
    heading: str
    x0: float
    x1: float
    concept: str | None
    meanings: tuple[Meaning, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading rows of a table, as indexes into the view's rows (`last` included), and its columns.

    `right` is where something else begins on the same lines, such as a block of totals beside the table.
    """

    first: int
    last: int
    columns: tuple[Column, ...]
    right: float = float("inf")

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts of its columns."""
        return frozenset(column.concept for column in self.columns if column.concept)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Words of a heading row that belong together."""

    segment: Segment
    row: int
    is_known: bool


def find_headings(view: View) -> list[Heading]:
    """The headings of all tables, from top to bottom."""
    known = vocabulary.columns()
    pieces: list[list[_Piece]] = []
    rights: list[float] = []
    for row in view.rows:
        left_part, right = _before_amounts(row, view, _pieces(row, view, known.by_label, known.longest))
        pieces.append(left_part)
        rights.append(right)
    headings: list[Heading] = []
    index = 0
    while index < len(view.rows):
        heading = _best_heading(view, index, pieces, known.by_label)
        if heading:
            headings.append(replace(heading, right=min(rights[heading.first : heading.last + 1])))
            index = heading.last
        index += 1
    return headings


def _best_heading(
    view: View, start: int, pieces: Sequence[Sequence[_Piece]], labels: Mapping[str, tuple[Meaning, ...]]
) -> Heading | None:
    """The heading that begins at a row, or a better one within it, as a line above need not belong to it."""
    if not _known_count(pieces[start]) or not _looks_like_heading(pieces[start]):
        return None
    best = _heading_at(view, start, pieces, labels)
    for later in range(start + 1, best.last + 1) if best else ():
        shorter = _heading_at(view, later, pieces, labels)
        if shorter and best and _worth(shorter) > _worth(best):
            best = shorter
    return best


def _pieces(row: Row, view: View, labels: Mapping[str, tuple[Meaning, ...]], longest: int) -> list[_Piece]:
    """The segments of a row, each cut where several known headings stand in it side by side."""
    pieces: list[_Piece] = []
    for index, segment in enumerate(row.segments):
        if len(segment.text) > 90:
            pieces.append(_Piece(segment, row.index, False))
            continue
        spans = list(longest_matches(segment, labels, longest))
        covered = sum(end - start for start, end, _ in spans)
        is_label = any(
            h.segment == index and h.start == 0 and h.end == len(segment.tokens) for h in view.hits[row.index]
        )
        if len(spans) >= 2 and not is_label and covered >= len(segment.tokens) - 1:
            bounds = [start for start, _, _ in spans[1:]] + [len(segment.tokens)]
            starts = [0, *bounds[:-1]]
            pieces.extend(
                _Piece(Segment.of(segment.tokens[a:b]), row.index, True) for a, b in zip(starts, bounds, strict=True)
            )
        else:
            pieces.append(_Piece(segment, row.index, squash(segment.text) in labels or bool(spans)))
    return pieces


def _known_count(pieces: Sequence[_Piece]) -> int:
    return sum(piece.is_known for piece in pieces)


def _before_amounts(row: Row, view: View, pieces: list[_Piece]) -> tuple[list[_Piece], float]:
    """The pieces left of an amount with its label, as totals may stand beside a heading; and where those begin."""
    for number, piece in enumerate(pieces):
        if sum(character.isdigit() for character in piece.segment.text) > 2:
            labelled = any(
                h.start == 0 and row.segments[h.segment].x0 == pieces[number - 1].segment.x0
                for h in view.hits[row.index]
            )
            if number >= 4 and labelled:
                return pieces[: number - 1], (pieces[number - 2].segment.x1 + pieces[number - 1].segment.x0) / 2
            return pieces, float("inf")
    return pieces, float("inf")


def _looks_like_heading(pieces: Sequence[_Piece]) -> bool:
    """Whether a row may be part of a heading: short words, hardly a digit, no sentence, no label with its value."""
    text = " ".join(piece.segment.text for piece in pieces)
    digits = sum(character.isdigit() for character in text)
    if text.endswith(":") and len(pieces) < _MIN_COLUMNS:
        return False
    return digits <= 2 and all(len(p.segment.tokens) <= 6 and ":" not in p.segment.text[:-1] for p in pieces)


def _heading_at(
    view: View, start: int, pieces: Sequence[Sequence[_Piece]], labels: Mapping[str, tuple[Meaning, ...]]
) -> Heading | None:
    """The heading that begins at a row, taking in the rows below that belong to it."""
    best: Heading | None = None
    band: list[_Piece] = []
    for last in range(start, min(start + _MAX_HEADING_ROWS, len(view.rows))):
        row = view.rows[last]
        if last > start and (row.gap > _HEADING_GAP or row.page is not view.rows[start].page):
            break
        if not _looks_like_heading(pieces[last]) or (last > start and not _known_or_short(pieces[last])):
            break
        band.extend(pieces[last])
        columns = _columns(band, labels, row.page.char_width)
        heading = Heading(start, last, columns)
        if _is_heading(heading) and (best is None or _worth(heading) > _worth(best)):
            best = heading
    return best


def _known_or_short(pieces: Sequence[_Piece]) -> bool:
    return all(piece.is_known or len(piece.segment.text) <= 16 for piece in pieces)


def _worth(heading: Heading) -> tuple[int, int]:
    """How good a heading is: columns understood, then columns left unexplained (fewer is better)."""
    understood = sum(column.concept is not None for column in heading.columns)
    return understood, -sum(column.concept is None for column in heading.columns)


def _is_heading(heading: Heading) -> bool:
    if any(_RATE_IN_HEADING.search(column.heading) for column in heading.columns):
        return False
    understood = [column for column in heading.columns if column.concept or not column.meanings]
    concepts = heading.concepts
    if len(concepts) >= _MIN_COLUMNS:
        return len(understood) * 2 >= len(heading.columns)
    return len(concepts) == 2 and "amount" in concepts and bool(concepts & {"description", "tax_rate"})


def _columns(
    band: Sequence[_Piece], labels: Mapping[str, tuple[Meaning, ...]], char_width: float
) -> tuple[Column, ...]:
    """Pieces of the heading rows gathered to columns by their horizontal overlap, and given meanings."""
    clusters: list[list[_Piece]] = []
    for piece in sorted(band, key=lambda p: (p.segment.x0, p.row)):
        for cluster in clusters:
            x0, x1 = min(p.segment.x0 for p in cluster), max(p.segment.x1 for p in cluster)
            same_row = any(p.row == piece.row for p in cluster)
            overlap = min(x1, piece.segment.x1) - max(x0, piece.segment.x0)
            if not same_row and overlap > 0.3 * min(x1 - x0, piece.segment.x1 - piece.segment.x0) + 0.1 * char_width:
                cluster.append(piece)
                break
        else:
            clusters.append([piece])
    raw: list[Column] = []
    for index, cluster in enumerate(sorted(clusters, key=lambda c: min(p.segment.x0 for p in c))):
        ordered = sorted(cluster, key=lambda p: p.row)
        heading = " ".join(piece.segment.text for piece in ordered)
        meanings = _meanings(heading, [piece.segment.text for piece in ordered], labels)
        x0, x1 = min(p.segment.x0 for p in cluster), max(p.segment.x1 for p in cluster)
        raw.append(Column(index, heading, x0, x1, None, meanings))
    return _claim(raw)


def _meanings(heading: str, lines: Sequence[str], labels: Mapping[str, tuple[Meaning, ...]]) -> tuple[Meaning, ...]:
    """Meanings of a heading: of all its words, of its words without a unit in brackets, of one of its lines."""
    tries = [
        heading,
        heading.split("(")[0],
        "-".join(lines[:2]),
        *(" ".join(lines[:n]) for n in range(len(lines) - 1, 0, -1)),
    ]
    tries.extend(lines[1:])
    for text in tries:
        meanings = labels.get(squash(text))
        if meanings:
            return meanings
    words = heading.split()
    for length in range(len(words) - 1, 0, -1):
        for start in range(len(words) - length + 1):
            meanings = labels.get(squash("".join(words[start : start + length])))
            if meanings and length * 2 >= len(words):
                return tuple(Meaning(meaning.concept, True) for meaning in meanings)
    return ()


def _claim(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Each column given one concept, each concept one column: firm meanings before weak ones."""
    meant = {meaning.concept for column in columns for meaning in column.meanings if not meaning.is_weak}
    sole = {column.meanings[0].concept for column in columns if len({m.concept for m in column.meanings}) == 1}
    is_tax = (
        len(columns) <= 6 and "tax_basis" in meant and not sole & {"quantity", "unit_price", "item_number", "position"}
    )
    chosen = _claim_taxes(columns) if is_tax else {}
    for weak in (False, True):
        for concept in _CLAIM_ORDER:
            if concept not in chosen.values():
                index = _claimant(columns, concept, weak, chosen)
                if index is not None:
                    chosen[index] = concept
    free = [column.index for column in columns if column.index not in chosen]
    if free and "description" not in chosen.values() and not is_tax and free[0] < max(chosen, default=0):
        chosen[free[0]] = "description"
    return tuple(
        Column(column.index, column.heading, column.x0, column.x1, chosen.get(column.index), column.meanings)
        for column in columns
    )


def _claimant(columns: Sequence[Column], concept: str, weak: bool, chosen: dict[int, str]) -> int | None:
    """The free column that fits a concept best: one of no other meaning, the last for concepts that stand right."""
    fitting = [
        column.index
        for column in columns
        if column.index not in chosen and any(m.concept == concept and m.is_weak == weak for m in column.meanings)
    ]
    if concept in _RIGHTMOST:
        return max(fitting, default=None)
    sole = [index for index in fitting if len({m.concept for m in columns[index].meanings}) == 1]
    return next(iter(sole or fitting), None)


def _claim_taxes(columns: Sequence[Column]) -> dict[int, str]:
    """In a summary of taxes: what the tax is computed on, the tax itself, then the rate."""
    chosen: dict[int, str] = {}
    basis = _claimant(columns, "tax_basis", False, chosen)
    if basis is not None:
        chosen[basis] = "tax_basis"
    for concept, wanted in (("tax_amount", True), ("amount", False), ("tax_amount", False)):
        index = _claimant(columns, concept, False, chosen)
        is_sole = index is not None and len({m.concept for m in columns[index].meanings}) == 1
        if index is not None and (is_sole or not wanted):
            chosen[index] = "tax_amount"
            break
    rate = _claimant(columns, "tax_rate", False, chosen)
    if rate is not None:
        chosen[rate] = "tax_rate"
    return chosen
