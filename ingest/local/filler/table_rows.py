"""The body of a table below its heading: cells by column, printed lines gathered to records, pages joined."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ingest.local.filler.numbers import Number, find_numbers
from ingest.local.filler.tables import Column, Heading
from ingest.local.filler.text import squash
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

# Columns whose numbers tell that a line begins a record.
ANCHORS = ("amount", "unit_price", "quantity", "tax_amount", "tax_basis")
_NUMERIC = frozenset({*ANCHORS, "tax_rate", "discount"})
_TOTALS = frozenset({"net_total", "tax_total", "gross_total", "amount_due", "prepaid", "paid", "change", "rounding"})
_SIDE_AMOUNTS = frozenset({"discount_total", "charge_total"})
_SUBTOTALS = ("zwischensumme", "subtotal", "soustotal", "subtotaal")
_CONTINUED_GAP = 0.7
_MAX_SILENT_ROWS = 14
_LEAD_ROWS = 2
_APART_GAP = 1.7
# A note such as `Gross price: 9.90` below a record is no part of its description.
_LABELLED_NUMBER = re.compile(r"^\s*[^\W\d][^:]{2,48}\s?:\s*-?\d[\d.,]*\s*(?:%|[€$£]|[A-Z]{3})?\s*$")
# Columns of white space between words that may part two cells on pages whose words stand two columns apart.
_WIDE_SPACE = 2
# Letters a number cell may hold beside its number: a unit beside a quantity, a currency beside an amount.
_UNIT_LETTERS = 10
_CURRENCY_LETTERS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """The words of one column in one printed line."""

    text: str
    row: Row


@dataclass(slots=True)
class Record:
    """One entry of a table: the cells of each column (by concept, or `#index` for columns of unknown meaning)."""

    cells: dict[str, list[Cell]] = field(default_factory=dict)
    last_row: int = -1

    def text(self, key: str) -> str:
        """All words of a column."""
        return " ".join(cell.text for cell in self.cells.get(key, ()))

    def add(self, key: str, cell: Cell) -> None:
        """Append a cell."""
        self.cells.setdefault(key, []).append(cell)


@dataclass(slots=True)
class Table:
    """A heading and the records below it, over all its pages; `rows` are the view's row indexes it covers."""

    heading: Heading
    records: list[Record] = field(default_factory=list)
    rows: set[int] = field(default_factory=set)
    rights: dict[int, float] = field(default_factory=dict)

    def right_at(self, row_index: int) -> float:
        """Where the table ends to the right in one of its rows."""
        return self.rights.get(row_index, float("inf"))


def read_tables(view: View, headings: Sequence[Heading]) -> list[Table]:
    """The tables below these headings; a heading repeated on a later page continues its table."""
    tables: list[Table] = []
    for number, heading in enumerate(headings):
        following = headings[number + 1].first if number + 1 < len(headings) else len(view.rows)
        table = next((t for t in reversed(tables) if _continues(t, heading, view)), None)
        if table is None:
            table = Table(heading)
            tables.append(table)
        _Body(view, heading, table).read(heading.last + 1, following)
    return tables


def _continues(table: Table, heading: Heading, view: View) -> bool:
    """Whether a heading is the table's own, printed again on another page."""
    if view.rows[table.heading.first].page is view.rows[heading.first].page:
        return False
    own = [squash(column.heading) for column in table.heading.columns]
    return own == [squash(column.heading) for column in heading.columns] or (
        len(heading.concepts) >= 3 and table.heading.concepts == heading.concepts
    )


def sums_up_taxes(concepts: frozenset[str]) -> bool:
    """Whether columns sum up taxes by rate rather than list goods."""
    if concepts & {"quantity", "unit_price"}:
        return False
    if {"tax_amount", "tax_basis"} <= concepts:
        return True
    return "tax_rate" in concepts and bool(concepts & {"tax_amount", "tax_basis"}) and "description" not in concepts


def _letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def key_of(column: Column) -> str:
    """The name a column's cells go by in a record."""
    return column.concept or f"#{column.index}"


class _Body:
    """Reads the lines below one heading into records of a table."""

    def __init__(self, view: View, heading: Heading, table: Table) -> None:
        self.view = view
        self.heading = heading
        self.table = table
        self.columns = heading.columns
        self.is_tax_summary = sums_up_taxes(heading.concepts)
        self.pending: list[tuple[Row, dict[str, str]]] = []
        self.current: Record | None = None
        self.silent = 0
        self.is_text_above = False

    def read(self, start: int, stop: int) -> None:
        """Take in rows until the table ends: at totals, at the next heading, after a long silence."""
        page = self.view.rows[self.heading.first].page
        for index in range(self.heading.first, self.heading.last + 1):
            self._cover(index)
        for row in self.view.rows[start:stop]:
            if row.page is not page:
                if row.page.origin != page.origin or not self._resumes(row, stop):
                    break
                page = row.page
            if row.is_repeated or self._is_carried(row):
                continue
            cells = self._cells(row)
            anchors = self._anchors(cells)
            if self._is_end(row, cells, anchors) or self._stands_apart(row, cells, anchors):
                break
            if anchors and self._is_side_amount(row, anchors):
                continue
            if self.is_tax_summary and self.table.records and row.gap > _APART_GAP:
                break
            if not self._take(row, cells, anchors):
                break
        self.pending.clear()

    def _cover(self, row_index: int) -> None:
        self.table.rows.add(row_index)
        self.table.rights[row_index] = self.heading.right

    def _resumes(self, first: Row, stop: int) -> bool:
        """Whether a new page without a heading goes on with records, by the numbers in its first lines."""
        for row in self.view.rows[first.index : min(first.index + 12, stop)]:
            if row.page is not first.page or row.is_repeated or self._is_carried(row):
                continue
            cells = self._cells(row)
            anchors = self._anchors(cells)
            if self._is_end(row, cells, anchors):
                return False
            if len(anchors) >= 2:
                return True
        return False

    def _is_carried(self, row: Row) -> bool:
        """Whether a line carries a sum from one page to the next or says the table goes on."""
        first = squash(row.segments[0].text)
        return row.is_carried or (first.startswith(_SUBTOTALS) and len(row.segments) <= 3)

    def _is_end(self, row: Row, cells: dict[str, str], anchors: Sequence[str]) -> bool:
        """Whether a line is the table's total."""
        for hit in self.view.hits[row.index]:
            names = {meaning.concept for meaning in hit.meanings}
            if self.is_tax_summary:
                names -= {"tax_total"}
            if (
                not names & _TOTALS
                or not (hit.is_first or hit.start <= 1)
                or row.segments[hit.segment].x0 >= self.heading.right - 1
            ):
                continue
            if hit.segment == 0 or not self._under_text(row.segments[hit.segment]):
                has_item = "quantity" in anchors and "unit_price" in anchors and hit.segment > 0
                covers = _letters(hit.label) >= 0.4 * _letters(squash(row.segments[hit.segment].text))
                if covers and not has_item and (anchors or hit.has_colon or find_numbers(row.text, self.view.decimal)):
                    return not ("position" in cells and "unit_price" in anchors)
        return False

    def _stands_apart(self, row: Row, cells: dict[str, str], anchors: Sequence[str]) -> bool:
        """Whether a line with nothing but an amount stands apart from the records, as a sum of unknown name does."""
        if (
            list(anchors) != ["amount"]
            or not self.table.records
            or not self.heading.concepts & {"unit_price", "quantity"}
        ):
            return False
        if "position" in cells or "item_number" in cells or row.gap < _CONTINUED_GAP:
            return False
        usual = sum("unit_price" in record.cells or "quantity" in record.cells for record in self.table.records)
        words = [s for s in row.segments if any(c.isalpha() for c in s.text)]
        return usual * 2 > len(self.table.records) and bool(words) and not self._under_text(words[0])

    def _under_text(self, segment: Segment) -> bool:
        """Whether a segment stands in the description's column."""
        column = next((c for c in self.columns if c.concept == "description"), None)
        return column is not None and abs(segment.x0 - column.x0) <= 2 * self.view.rows[0].page.char_width

    def _is_side_amount(self, row: Row, anchors: Sequence[str]) -> bool:
        """Whether a line is a discount or charge on the whole rather than a record."""
        if len(anchors) > 1:
            return False
        hits = self.view.hits[row.index]
        return any(h.segment == 0 and h.start == 0 and {m.concept for m in h.meanings} & _SIDE_AMOUNTS for h in hits)

    def _take(self, row: Row, cells: dict[str, str], anchors: Sequence[str]) -> bool:
        """Put a line into the current record, a new one, or aside; False when the table seems to be over."""
        if anchors:
            self.silent = 0
            if not self._completes(row, anchors):
                self._begin(row, cells)
            self._fill(row, cells)
            return True
        self.silent += 1
        if self.silent > _MAX_SILENT_ROWS:
            return False
        follows = self.current is not None and row.index == self.current.last_row + 1 and row.gap <= _CONTINUED_GAP
        if follows and not self.is_text_above:
            has_numbers = any(key in _NUMERIC and any(c.isdigit() for c in text) for key, text in cells.items())
            if has_numbers or _LABELLED_NUMBER.match(row.text):
                self.pending.append((row, cells))
            else:
                self._fill(row, self._words(row, cells))
        else:
            self.pending.append((row, cells))
            self._late_position(cells, row)
        return True

    def _completes(self, row: Row, anchors: Sequence[str]) -> bool:
        """Whether a line with numbers only adds what the current record still lacks."""
        if self.current is None or row.index - self.current.last_row > 1 or row.gap > _CONTINUED_GAP:
            return False
        has = {key for key in ANCHORS if key in self.current.cells}
        return not has & set(anchors) and "amount" not in has

    def _begin(self, row: Row, cells: dict[str, str]) -> None:
        """Start a record; lines set aside just above belong to it when it has no description of its own."""
        self.current = Record()
        self.table.records.append(self.current)
        lead: list[tuple[Row, dict[str, str]]] = []
        expected = row.index - 1
        for above, above_cells in reversed(self.pending):
            if above.index != expected or self.view.rows[above.index + 1].gap > _CONTINUED_GAP:
                break
            lead.append((above, above_cells))
            expected -= 1
        if not any(character.isalpha() for character in cells.get("description", "")):
            # Which way descriptions stand shows at the first record; later ones keep to it.
            self.is_text_above = self.is_text_above or (bool(lead) and len(self.table.records) == 1)
            for above, above_cells in reversed(lead[:_LEAD_ROWS]):
                self._fill(above, self._words(above, above_cells))
        self.pending.clear()

    def _words(self, row: Row, cells: dict[str, str]) -> dict[str, str]:
        """The cells of a line without numbers; a text that runs on under several columns is description as a whole."""
        if len(row.segments) == 1 and len(cells) > 1 and not _NUMERIC.isdisjoint(cells):
            return {"description": row.segments[0].text}
        return {key: text for key, text in cells.items() if key not in _NUMERIC}

    def _fill(self, row: Row, cells: dict[str, str]) -> None:
        assert self.current is not None
        for key, text in cells.items():
            self.current.add(key, Cell(text, row))
        self.current.last_row = row.index
        self._cover(row.index)

    def _late_position(self, cells: dict[str, str], row: Row) -> None:
        """A position number printed at half height of a tall record goes to the record it stands in."""
        if "position" in cells and self.current is not None and "position" not in self.current.cells:
            self.current.add("position", Cell(cells["position"], row))

    def _anchors(self, cells: dict[str, str]) -> list[str]:
        """The anchor columns of a line that hold a number."""
        found: list[str] = []
        for key in ANCHORS:
            text = cells.get(key)
            if not text:
                continue
            numbers = find_numbers(text, self.view.decimal)
            if not numbers or len(text) > 30:
                continue
            rest = text[: numbers[0].start] + text[numbers[-1].end :]
            letters = sum(character.isalpha() for character in rest)
            if letters <= (_UNIT_LETTERS if key == "quantity" else _CURRENCY_LETTERS) and self._is_usual(key, numbers):
                found.append(key)
        return found if self._suffices(found) else []

    def _is_usual(self, key: str, numbers: Sequence[Number]) -> bool:
        """Whether an amount is printed as money where the amounts before it are."""
        if key != "amount" or any(number.is_money for number in numbers):
            return True
        known = [cell.text for record in self.table.records for cell in record.cells.get(key, ())[:1]]
        return not any(number.is_money for text in known[:3] for number in find_numbers(text, self.view.decimal))

    def _suffices(self, found: Sequence[str]) -> bool:
        """Whether these columns with numbers make a record: more than a bare quantity, two in a tax summary."""
        if self.is_tax_summary:
            return len(found) >= 2
        return found != ["quantity"] or not self.heading.concepts & {"amount", "unit_price"}

    def _cells(self, row: Row) -> dict[str, str]:
        """The words of a line by column."""
        cells: dict[str, str] = {}
        for segment in row.segments:
            if segment.x0 >= self.heading.right - row.page.char_width:
                break
            for column, text in self._assign(segment, row):
                key = key_of(column)
                cells[key] = f"{cells[key]} {text}" if key in cells else text
        return self._with_quantity(cells)

    def _with_quantity(self, cells: dict[str, str]) -> dict[str, str]:
        """A quantity that ran into the column of units, put back into its own."""
        numbers = find_numbers(cells.get("unit", ""), self.view.decimal)
        if "quantity" not in cells and numbers and numbers[0].start == 0 and "quantity" in self.heading.concepts:
            text = cells["unit"]
            return {**cells, "quantity": text[: numbers[0].end].strip(), "unit": text[numbers[0].end :].strip()}
        return cells

    def _assign(self, segment: Segment, row: Row) -> Iterator[tuple[Column, str]]:
        """The column a segment stands in; a segment under several number columns is divided among them."""
        touched = [c for c in self.columns if min(c.x1, segment.x1) - max(c.x0, segment.x0) > 0]
        numeric = [c for c in touched if c.concept in _NUMERIC]
        if len(touched) >= 2 and len(segment.tokens) > 1 and (numeric or self._is_parted(segment, touched, row)):
            yield from self._divide(segment, touched)
            return
        if touched:
            best = max(touched, key=lambda c: min(c.x1, segment.x1) - max(c.x0, segment.x0))
            yield best, segment.text
            return
        column = self._nearest(segment, row)
        if column:
            yield column, segment.text

    def _is_parted(self, segment: Segment, touched: Sequence[Column], row: Row) -> bool:
        """Whether a word of a segment begins, after a wide space, where a further column begins."""
        pairs = zip(segment.tokens, segment.tokens[1:], strict=False)
        return row.page.origin == "text" and any(
            right.x0 - left.x1 >= _WIDE_SPACE and abs(right.x0 - column.x0) <= _WIDE_SPACE
            for left, right in pairs
            for column in touched[1:]
        )

    def _divide(self, segment: Segment, touched: Sequence[Column]) -> Iterator[tuple[Column, str]]:
        words: dict[int, list[str]] = {}
        for token in segment.tokens:
            middle = (token.x0 + token.x1) / 2
            best = min(touched, key=lambda c: max(c.x0 - middle, middle - c.x1, 0.0))
            words.setdefault(best.index, []).append(token.text)
        for column in touched:
            if column.index in words:
                yield column, " ".join(words[column.index])

    def _nearest(self, segment: Segment, row: Row) -> Column | None:
        """The column for a segment that stands under no heading: the nearest, of numbers for a number."""
        is_number = bool(find_numbers(segment.text, self.view.decimal)) and sum(c.isalpha() for c in segment.text) <= 4
        best: tuple[float, Column] | None = None
        for column in self.columns:
            distance = max(column.x0 - segment.x1, segment.x0 - column.x1)
            if is_number != (column.concept in _NUMERIC) and column.concept is not None:
                distance += 6 * row.page.char_width
            if not is_number and column.concept in _NUMERIC:
                distance += 40 * row.page.char_width
            if best is None or distance < best[0]:
                best = (distance, column)
        return best[1] if best and best[0] < 60 * row.page.char_width else None
