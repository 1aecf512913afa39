"""Positions without a heading, as on till receipts: text and amount in a line, or text above quantity and price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ingest.local.filler import vocabulary
from ingest.local.filler.dates import find_dates
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found, as_number
from ingest.local.filler.numbers import Number, find_numbers, parse_number
from ingest.local.filler.text import look, squash
from ingest.local.filler.view import Row, View

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_TOTALS = frozenset(
    {"net_total", "tax_total", "gross_total", "amount_due", "paid", "change", "rounding", "prepaid", "discount_total"}
)
_TIMES = re.compile(r"^\s*(?P<quantity>\d+(?:[.,]\d{1,3})?)\s*(?P<unit>[a-zA-Z]{1,4})?\s*[x×X*@]\s*")
_LEADING_COUNT = re.compile(r"^(?P<quantity>\d{1,3})\s*[xX×]?\s+(?=[^\W\d_])")
_TAX_MARK = re.compile(r"\s+(?:[A-Z]|\d|[A-Z]{2}|\*)$")
_ONLY_TIMES = re.compile(
    r"^\s*(?P<quantity>\d+(?:[.,]\d{1,3})?)\s*(?:[a-zA-Z]{1,4}\.?\s*)?[x×X*@]\s*(?P<price>(?:[^\W\d_]{0,3}|[€$£])\s?\d+[.,]\d{2}(?:\s?[€$£]|\s?[A-Z]{3})?)(?:\s?/\s?[a-zA-Z]{1,4})?\s*$"
)
_CENT = 0.0151
_MAX_NAME_CHARS = 60


def read_positions(fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Found]]:
    """The goods of a receipt: lines with an amount at their end between the head and the first total."""
    view = facts.view
    records: list[dict[str, Found]] = []
    concepts = {field.concept for field in fields.values()}
    waiting: Row | None = None
    times: Row | None = None
    for row in view.rows:
        if _is_total(row, view):
            if records:
                break
            waiting = None
            continue
        if records and _completes(row, records[-1], fields, view):
            continue
        if _ONLY_TIMES.match(row.text) and waiting is None:
            times = row
            continue
        entry = _read_line(row, waiting, view)
        if entry:
            records.append({name: entry[f.concept] for name, f in fields.items() if f.concept in entry})
            if times is not None:
                _completes(times, records[-1], fields, view)
            if "amount" not in concepts:
                _price_single(records[-1], entry, fields)
            waiting = times = None
        elif _may_describe(row):
            waiting = row
        else:
            waiting = None
    return [record for record in records if record]


def _price_single(record: dict[str, Found], entry: Mapping[str, Found], fields: Mapping[str, Field]) -> None:
    """The price of goods of which one was bought is what its line comes to; added where no amount is asked for."""
    name = next((name for name, field in fields.items() if field.concept == "unit_price"), None)
    if name and name not in record and "quantity" not in entry:
        record[name] = entry["amount"]


def _completes(row: Row, record: dict[str, Found], fields: Mapping[str, Field], view: View) -> bool:
    """Whether a line such as `2 x 4.50` gives quantity and price of the position above it; if so they are added."""
    names = {field.concept: name for name, field in fields.items()}
    match = _ONLY_TIMES.match(row.text)
    amount = record.get(names.get("amount", ""))
    if not match or amount is None or names.get("quantity", "") in record:
        return False
    quantity, price = (parse_number(match[group], view.decimal) for group in ("quantity", "price"))
    if quantity is None or price is None or abs(quantity * price - as_number(amount)) > _CENT:
        return False
    for concept, value in (("quantity", quantity), ("unit_price", price)):
        if concept in names:
            record[names[concept]] = Found(value, row, None, 0.65)
    return True


def _is_total(row: Row, view: View) -> bool:
    """Whether a line begins with a total's label, or has one of its own further on."""
    return any(
        {m.concept for m in hit.meanings} & _TOTALS
        and ((hit.segment == 0 and hit.start <= 1) or (hit.segment > 0 and hit.is_first and not hit.is_weak))
        for hit in view.hits[row.index]
    )


def _may_describe(row: Row) -> bool:
    """Whether a line without an amount may name the goods whose amount stands in the next."""
    if find_dates(row.text) or len(row.text) >= _MAX_NAME_CHARS or not any(c.isalpha() for c in row.text):
        return False
    headings = vocabulary.columns().by_look
    return sum(look(squash(token.text)) in headings for token in row.line.tokens) < 2


def _read_line(row: Row, above: Row | None, view: View) -> dict[str, Found] | None:
    """A position from one line, or from a line of numbers with the text above it."""
    text = _TAX_MARK.sub("", row.text)
    numbers = [n for n in find_numbers(text, view.decimal) if not n.is_percent]
    money = [n for n in numbers if n.decimals == 2]
    if not money or find_dates(text) or text[money[-1].end :].strip(" *€$£ABCDEFGSRZT#"):
        return None
    amount = money[-1]
    head = text[: amount.start].strip()
    times = _TIMES.match(head)
    words = head if sum(c.isalpha() for c in head) >= 3 and not times else ""
    if not words and above is None:
        return None
    entry: dict[str, Found] = {"amount": Found(amount.value, row, None, 0.7)}
    quantity, price = _quantity_and_price(head, numbers, amount, view)
    if quantity is None and len(row.segments) > 2 and row.segments[-2].text.isdigit():
        quantity = float(row.segments[-2].text)
    if quantity is not None:
        entry["quantity"] = Found(quantity, row, None, 0.65)
    if price is not None:
        entry["unit_price"] = Found(price, row, None, 0.65)
    if words:
        entry["description"] = Found(_strip_numbers(words, quantity, price, view), row, None, 0.65)
    elif above is not None:
        entry["description"] = Found(above.text.strip(), above, None, 0.6)
    return entry if entry["description"].data else None


def _quantity_and_price(
    head: str, numbers: list[Number], amount: Number, view: View
) -> tuple[float | None, float | None]:
    """Quantity and unit price among the numbers before the amount, if their product is the amount."""
    before = [n for n in numbers if n.end <= amount.start]
    for first in before:
        for second in before:
            if first is not second and first.value > 0 and abs(first.value * second.value - amount.value) < _CENT:
                quantity, price = (first, second) if second.decimals == 2 and first.decimals != 2 else (second, first)
                if first.decimals == second.decimals == 2 and first.start < second.start:
                    quantity, price = first, second
                return quantity.value, price.value
    count = _LEADING_COUNT.match(head)
    if count:
        return float(count["quantity"]), None
    return None, None


def _strip_numbers(words: str, quantity: float | None, price: float | None, view: View) -> str:
    """A description without the quantity and price printed around it."""
    text = words
    for number in reversed(find_numbers(text, view.decimal)):
        if (number.value == price and number.decimals == 2) or (
            number.value == quantity and (number.start == 0 or number.end >= len(text.rstrip(" xX×@")))
        ):
            text = text[: number.start] + text[number.end :]
    return re.sub(r"\s+", " ", re.sub(r"^\s*[xX×@]\s+|\s+[xX×@]\s*$", " ", text)).strip(" -@:;|")
