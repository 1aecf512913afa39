"""Tax rates printed as lines rather than as a table: `VAT 19 % on 100.00   19.00`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found, as_number
from ingest.local.filler.labels import Hit
from ingest.local.filler.numbers import Number, find_numbers
from ingest.local.filler.view import Row, View

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_MAX_RATE = 40.0
_TAX = frozenset({"tax_total", "tax_rate"})
_CENT = 0.02


def read_tax_lines(fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Found]]:
    """One entry per rate: lines with a tax label, a percentage and an amount."""
    records: list[dict[str, Found]] = []
    seen: set[tuple[float, float]] = set()
    for row in facts.view.rows:
        hit = None if row.index in facts.item_rows else _tax_label(row, facts.view)
        numbers = _numbers_of_label(row, hit, facts.view) if hit else []
        rate = next((n for n in numbers if n.is_percent and 0 <= n.value <= _MAX_RATE), None)
        amounts = [n for n in numbers if n.is_money] or _amount_below(row, facts)
        if hit is None or rate is None or not amounts:
            continue
        amount, basis = _amount_and_basis(rate, amounts)
        if (rate.value, amount.value) in seen:
            continue
        seen.add((rate.value, amount.value))
        values = {"tax_rate": rate, "tax_amount": amount, "amount": amount, "tax_basis": basis}
        label = " ".join(t.text for t in row.segments[hit.segment].tokens[hit.start : hit.end])
        records.append(
            {
                name: Found(number.value, row, label, 0.75)
                for name, field in fields.items()
                if (number := values.get(field.concept or "")) is not None
            }
        )
    return [_with_basis(record, fields, facts, len(records)) for record in records if record]


def _tax_label(row: Row, view: View) -> Hit | None:
    """The first label of a row that names a tax."""
    return next((h for h in view.hits[row.index] if any(m.concept in _TAX for m in h.meanings)), None)


def _numbers_of_label(row: Row, hit: Hit, view: View) -> list[Number]:
    """The numbers from a tax label's segment up to the next label that names something else."""
    stop = next(
        (
            other.segment
            for other in view.hits[row.index]
            if other.segment > hit.segment
            and other.start == 0
            and not any(m.concept in _TAX or m.concept == "net_total" for m in other.meanings)
        ),
        len(row.segments),
    )
    return find_numbers("  ".join(s.text for s in row.segments[hit.segment : stop]), view.decimal)


def _amount_below(row: Row, facts: Facts) -> list[Number]:
    """The total of all taxes where it stands below the label of this row."""
    total = facts.totals.get("tax_total")
    if total is None or total.label_row != row.index or total.place != "below":
        return []
    return [Number(float(total.data), 0, 0, 2)]


def _amount_and_basis(rate: Number, amounts: list[Number]) -> tuple[Number, Number | None]:
    """The tax and what it is computed on, told apart by the rate."""
    for amount in reversed(amounts):
        for basis in amounts:
            if basis is not amount and abs(basis.value * rate.value / 100 - amount.value) <= _CENT + 0.001 * abs(
                basis.value
            ):
                return amount, basis
    return amounts[-1], None


def _with_basis(record: dict[str, Found], fields: Mapping[str, Field], facts: Facts, count: int) -> dict[str, Found]:
    """A single rate without a printed basis is computed on the net total, when that agrees."""
    name = next((n for n, field in fields.items() if field.concept == "tax_basis"), None)
    net = facts.totals.get("net_total")
    rate = next((record[n] for n, field in fields.items() if field.concept == "tax_rate" and n in record), None)
    amount = next(
        (record[n] for n, field in fields.items() if field.concept in ("tax_amount", "amount") and n in record), None
    )
    if not (name and name not in record and count == 1 and net and rate and amount):
        return record
    if abs(float(net.data) * as_number(rate) / 100 - as_number(amount)) > _CENT:
        return record
    return {**record, name: Found(net.data, net.row, net.label, 0.7)}
