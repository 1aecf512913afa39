"""Tax rates printed as lines rather than as a table: `VAT 19 % on 100.00   19.00`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.numbers import Number, find_numbers

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_MAX_RATE = 40.0
_CENT = 0.02


def read_tax_lines(fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Found]]:
    """One entry per rate: lines with a tax label, a percentage and an amount."""
    view = facts.view
    records: list[dict[str, Found]] = []
    seen: set[tuple[float, float]] = set()
    for row in view.rows:
        if row.index in facts.item_rows:
            continue
        hit = next(
            (h for h in view.hits[row.index] if any(m.concept in ("tax_total", "tax_rate") for m in h.meanings)), None
        )
        if hit is None:
            continue
        segments = row.segments[hit.segment :]
        stop = next(
            (
                h.segment
                for h in view.hits[row.index]
                if h.segment > hit.segment
                and h.start == 0
                and not any(m.concept in ("tax_total", "tax_rate", "net_total") for m in h.meanings)
            ),
            None,
        )
        text = "  ".join(s.text for s in (segments if stop is None else row.segments[hit.segment : stop]))
        numbers = find_numbers(text, view.decimal)
        rate = next((n for n in numbers if n.is_percent and 0 <= n.value <= _MAX_RATE), None)
        amounts = [n for n in numbers if n.is_money]
        if rate is None:
            continue
        below = facts.totals.get("tax_total")
        if not amounts and below is not None and below.label_row == row.index and below.place == "below":
            amounts = [Number(float(below.data), 0, 0, 2)]
        if not amounts:
            continue
        amount, basis = _amount_and_basis(rate, amounts)
        key = (rate.value, amount.value)
        if key in seen:
            continue
        seen.add(key)
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
    if name and name not in record and count == 1 and net and rate and amount:
        if abs(float(net.data) * float(rate.data) / 100 - float(amount.data)) <= _CENT:
            return {**record, name: Found(net.data, net.row, net.label, 0.7)}
    return record
