"""The records for an array of objects: from a table that fits, else by rules for what such arrays usually hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.local.filler import prose_records
from ingest.local.filler.codes import find_id
from ingest.local.filler.fields import Field, is_vague
from ingest.local.filler.found import Found, as_number
from ingest.local.filler.numbers import find_numbers
from ingest.local.filler.receipts import read_positions
from ingest.local.filler.schema import Node
from ingest.local.filler.table_rows import ANCHORS, Cell, Record, Table, key_of, sums_up_taxes
from ingest.local.filler.taxes import read_tax_lines
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.values import read
from ingest.local.filler.view import View

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

Records = list[dict[str, Found]]

_TAX_ARRAYS = frozenset("tax taxes vat mwst steuern steuer tva iva btw gst levies".split())
_CENT = 0.0151
_NUMERIC_KINDS = frozenset({"amount", "number", "percent"})
# Concepts one column may stand in for when an item asks for the other.
_STAND_INS: Mapping[str, tuple[str, ...]] = {
    "amount": ("tax_basis",),
    "tax_basis": ("amount",),
    "tax_amount": ("amount",),
    "description": ("item_number",),
}


def find_records(
    path: Sequence[str], node: Node, fields: Mapping[str, Field], nodes: Mapping[str, Node], facts: Facts
) -> Records:
    """The entries of an array of objects, each a finding per property."""
    if not fields:
        return []
    words = name_words(path[-1]) if path else []
    concepts = {field.concept for field in fields.values() if field.concept}
    is_tax = bool(_TAX_ARRAYS & set(words)) or (
        "tax_rate" in concepts and not concepts & {"description", "quantity", "unit_price"}
    )
    if is_tax:
        fields = {name: _as_tax_field(field) for name, field in fields.items()}
    fields = _with_one_rate(fields)
    special = prose_records.find(path, node, fields, facts)
    if special is not None:
        return special
    table = _best_table(facts.tables, fields, is_tax, facts.view)
    if table:
        records = [_from_table(record, table, fields, facts.view) for record in table.records]
        records = [record for record in records if record]
        if records:
            return records
    if is_tax:
        return read_tax_lines(fields, facts)
    if concepts & {"amount", "unit_price"} and concepts & {"description", "item_number"}:
        return read_positions(_with_amount(fields), facts)
    return []


_UNIT_WORDS = frozenset("unit each per single einzel unitaire unitario piece stueck".split())


def _with_amount(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """The fields with a bare `price` taken for what the line comes to, where nothing else of it is asked for."""
    if {field.concept for field in fields.values()} & {"amount", "quantity"}:
        return fields
    return {
        name: replace(field, concept="amount")
        if field.concept == "unit_price" and not _UNIT_WORDS & set(name_words(f"{name} {field.description}"))
        else field
        for name, field in fields.items()
    }


_IN_TAX_ARRAY = {"unit_price": "tax_rate", "amount": "tax_amount"}
_RATE_WORDS = frozenset("rate percent percentage pct satz prozent taux tipo aliquota tarief category".split())


def _as_tax_field(field: Field) -> Field:
    """The field with the meaning its name has among taxes: `rate` is a tax rate, `amount` the tax."""
    concept = _IN_TAX_ARRAY.get(field.concept or "", field.concept)
    kind = "percent" if concept == "tax_rate" else field.kind
    return replace(field, concept=concept, kind=kind)


def _with_one_rate(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """The fields with `tax` beside `tax_rate` taken for the amount of the tax."""
    rates = {name for name, field in fields.items() if field.concept == "tax_rate"}
    plain = {name for name in rates if not any(word.endswith(tuple(_RATE_WORDS)) for word in name_words(name))}
    has_amount = any(field.concept == "tax_amount" for field in fields.values())
    if len(rates) < 2 or len(plain) != 1 or has_amount:
        return fields
    return {n: replace(f, concept="tax_amount", kind="amount") if n in plain else f for n, f in fields.items()}


def _best_table(tables: Sequence[Table], fields: Mapping[str, Field], is_tax: bool, view: View) -> Table | None:
    """The table whose columns give most of the wanted properties; tax summaries only for tax arrays."""
    best: tuple[float, Table] | None = None
    for table in tables:
        if not table.records:
            continue
        concepts = table.heading.concepts
        if is_tax != sums_up_taxes(concepts):
            continue
        keys = {name: _column_key(field, table) for name, field in fields.items()}
        matched = sum(key is not None for key in keys.values())
        if matched < min(2, len(fields)):
            continue
        score = matched + 0.01 * len(table.records) + (2.0 * _tax_agreement(table, view) if is_tax else 0.0)
        if best is None or score > best[0]:
            best = (score, table)
    return best[1] if best else None


def _tax_agreement(table: Table, view: View) -> float:
    """Share of the records whose tax is the rate of the basis."""
    agreeing = 0
    for record in table.records:
        rate, basis, tax = (_number(record, key, view) for key in ("tax_rate", "tax_basis", "tax_amount"))
        agreeing += rate is not None and basis is not None and tax is not None and abs(basis * rate / 100 - tax) < 0.03
    return agreeing / max(len(table.records), 1)


def _number(record: Record, key: str, view: View) -> float | None:
    numbers = find_numbers(record.text(key), view.decimal)
    percents = [number for number in numbers if number.is_percent]
    return (percents or numbers)[0].value if numbers else None


def _column_key(field: Field, table: Table) -> str | None:
    """The record key of the column a field means: by concept, by its own words, by a concept that may stand in."""
    columns = table.heading.columns
    for column in columns:
        if field.concept and column.concept == field.concept:
            return key_of(column)
    for column in columns:
        is_other = field.concept and column.concept and is_vague(field.name)
        if squash(column.heading) in field.own_labels and not is_other:
            return key_of(column)
    for concept in _STAND_INS.get(field.concept or "", ()):
        if any(column.concept == concept for column in columns):
            return concept
    return None


_LEADING_RATE = re.compile(r"^(?P<own>\d{1,2}(?:[.,]\d{1,2})?\s?%)\s+(?P<rest>\S.*)$")
_LEADING_UNIT = re.compile(r"^(?P<own>[^\W\d_]{1,10}\.?)\s+(?P<rest>[\w./-]*\d[\w./-]*)$")
# Cells printed so close that one ran into the next: the column left empty, the one that took its words, their form.
_RAN_INTO = (("tax_rate", "amount", _LEADING_RATE), ("unit", "item_number", _LEADING_UNIT))


def _parted(record: Record, table: Table) -> Record:
    """The record with a cell that ran into the next column put back into its own, which stands empty."""
    cells = dict(record.cells)
    for own, other, form in _RAN_INTO:
        match = form.match(cells[other][0].text) if other in cells else None
        if match and own in table.heading.concepts and not record.text(own).strip():
            row = cells[other][0].row
            cells[own] = [Cell(match["own"], row)]
            cells[other] = [Cell(match["rest"], row), *cells[other][1:]]
    return Record(cells, record.last_row)


def _from_table(record: Record, table: Table, fields: Mapping[str, Field], view: View) -> dict[str, Found]:
    record = _parted(record, table)
    found: dict[str, Found] = {}
    for name, field in fields.items():
        key = _column_key(field, table)
        if key and key in record.cells:
            value = _cell_value(field, key, record, view)
            if value is not None:
                label = next((c.heading for c in table.heading.columns if key_of(c) == key), None)
                found[name] = Found(value, record.cells[key][0].row, label, 0.85)
    _add_unit(record, fields, found, view)
    return _with_decimals(found, fields)


def _with_decimals(found: dict[str, Found], fields: Mapping[str, Field]) -> dict[str, Found]:
    """A record whose amount lost its decimal mark in OCR, when quantity times price tells so."""
    names = {field.concept: name for name, field in fields.items()}
    parts = [found.get(names.get(concept, "")) for concept in ("quantity", "unit_price", "amount")]
    quantity, price, amount = parts
    if quantity is None or price is None or amount is None or amount.row is None or amount.row.page.origin != "ocr":
        return found
    product, value = as_number(quantity) * as_number(price), as_number(amount)
    if value.is_integer() and abs(value - product) > 1 and abs(value / 100 - product) < _CENT:
        return {**found, names["amount"]: replace(amount, data=value / 100)}
    return found


def _cell_value(field: Field, key: str, record: Record, view: View) -> str | float | None:
    text = record.text(key)
    if field.kind in _NUMERIC_KINDS:
        for cell in record.cells[key]:
            numbers = find_numbers(cell.text, view.decimal)
            if field.kind == "percent":
                numbers = [number for number in numbers if number.is_percent] or numbers
            if numbers:
                money = [number for number in numbers if number.is_money]
                return (money[-1] if money and field.kind == "amount" else numbers[0]).value
        return None
    if field.kind == "date":
        value = read("date", text, view)
        return value.data if value else None
    if field.concept == "unit":
        letters = " ".join(word for word in text.split() if not any(c.isdigit() for c in word) or not word[0].isdigit())
        return letters.strip(" .,()") or None
    if field.concept == "position":
        return record.cells[key][0].text.strip(" .)")
    if field.concept == "item_number":
        return _item_number(record, key)
    if field.concept == "description" and len(record.cells[key]) > 1:
        text = " ".join(cell.text for cell in _without_codes(record, key)) or text
    return text.strip(" ;") or None


def _without_codes(record: Record, key: str) -> list[Cell]:
    """The cells of a description but for a code or price on the line of the numbers, the words being above or below."""
    numeric = {cell.row.index for name in ANCHORS for cell in record.cells.get(name, ())}
    return [c for c in record.cells[key] if c.row.index not in numeric or any(letter.isalpha() for letter in c.text)]


def _item_number(record: Record, key: str) -> str | None:
    """The first printed article number of a record."""
    for cell in record.cells[key]:
        text = cell.text.strip()
        if len(text.split()) <= 3 and any(c.isalnum() for c in text) and not text.startswith("("):
            return text
    return find_id(record.text(key))


def _add_unit(record: Record, fields: Mapping[str, Field], found: dict[str, Found], view: View) -> None:
    """The unit printed with the quantity, where the table has no column for it."""
    name = next((n for n, field in fields.items() if field.concept == "unit"), None)
    if name is None or name in found or "quantity" not in record.cells:
        return
    cell = record.cells["quantity"][0]
    numbers = find_numbers(cell.text, view.decimal)
    if numbers:
        rest = cell.text[numbers[0].end :].strip(" .,()x×")
        if rest and len(rest) <= 12 and any(c.isalpha() for c in rest):
            found[name] = Found(rest, cell.row, None, 0.7)
