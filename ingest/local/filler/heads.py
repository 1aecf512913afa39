"""The head of a receipt or letter: the issuer's name and address in the first lines, where no heading names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.local.filler.addresses import (
    find_place,
    has_business_word,
    has_legal_form,
    has_street_word,
    is_contact,
    is_country,
    is_name_like,
    is_registration,
    is_street,
    join_lines,
    looks_upper,
)
from ingest.local.filler.dates import find_dates
from ingest.local.filler.text import squash
from ingest.local.filler.view import Row, View

_HEAD_ROWS = 16
_TITLES = frozenset(
    squash(title)
    for title in (
        "invoice", "tax invoice", "receipt", "cash bill", "bill", "cash sale", "sales receipt", "credit note", "statement", "official receipt", "payment receipt", "simplified tax invoice", "order confirmation", "quotation", "cash receipt",
        "rechnung", "gutschrift", "quittung", "kassenbon", "beleg", "lieferschein", "bewirtungsbeleg", "kassenbeleg", "rechnungskorrektur",
        "facture", "avoir", "reçu", "ticket", "ticket de caisse", "factura", "factura simplificada", "recibo", "nota de crédito", "ticket de compra", "fattura", "scontrino", "ricevuta",
        "factuur", "kassabon", "bon", "creditnota", "welcome", "welcome to", "thank you", "willkommen", "bienvenue", "bienvenido", "copy", "duplicate", "original", "kopie", "duplicata", "copia", "customer copy",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """Name and address of the issuer with the rows they stand in."""

    name: str
    name_row: Row
    address: str | None
    address_row: Row | None
    rows: frozenset[int]


def is_title(text: str) -> bool:
    """Whether a line says what the document is rather than who issued it."""
    return squash(text) in _TITLES


def read_head(view: View) -> Head | None:
    """The issuer's name and address from the first lines of the first page."""
    rows = [row for row in view.rows if row.page is view.rows[0].page][:_HEAD_ROWS] if view.rows else []
    address = _address_rows(rows, view)
    limit = address[0].index if address else None
    names = _name_rows(rows, limit, view)
    if not names:
        return None
    name = " ".join(row.text.strip() for row in names)
    text = join_lines([row.text for row in address]) if address else None
    used = frozenset(row.index for row in (*names, *address))
    return Head(name, names[0], text, address[0] if address else None, used)


def _address_rows(rows: Sequence[Row], view: View) -> list[Row]:
    """The lines from the first to the last that look like an address, without contacts and registrations between."""
    chosen: list[Row] = []
    for row in rows:
        if row.index == rows[0].index and not find_place(row.text):
            continue
        text = row.text
        skip = is_contact(text) or is_registration(text) or find_dates(text)
        if chosen and (find_dates(text) or row.gap > 2 or row.index - chosen[-1].index > 2 or _is_label(row, view)):
            break
        if skip or _is_label(row, view):
            continue
        fits = bool(find_place(text)) or is_street(text) or is_country(text)
        if fits or (chosen and (has_street_word(text) or (is_name_like(text) and row.index == chosen[-1].index + 1 and not is_title(text) and len(text) < 45))):
            chosen.append(row)
    while chosen and not (find_place(chosen[-1].text) or is_street(chosen[-1].text) or is_country(chosen[-1].text) or has_street_word(chosen[-1].text) or _follows_place(chosen)):
        chosen.pop()
    return chosen


def _follows_place(rows: Sequence[Row]) -> bool:
    """Whether the last line directly follows the town, as a state's name does."""
    return len(rows) > 1 and bool(find_place(rows[-2].text)) and len(rows[-1].text.split()) <= 3


def _is_label(row: Row, view: View) -> bool:
    return any(h.segment == 0 and h.start == 0 and (h.has_colon or not h.is_weak) for h in view.hits[row.index])


def _name_rows(rows: Sequence[Row], limit: int | None, view: View) -> list[Row]:
    """The line, or lines, of the name: those just above the address, or the first that can be a name."""
    possible = [
        row for row in rows
        if (limit is None or row.index < limit) and is_name_like(row.text) and not is_title(row.text) and not is_contact(row.text)
        and not find_dates(row.text) and not _is_label(row, view)
    ]  # fmt: skip
    if not possible:
        return []
    strong = [row for row in possible if has_legal_form(row.text) or has_business_word(row.text)]
    anchor = strong[0] if strong else possible[0]
    chosen = [anchor]
    for row in reversed([r for r in possible if r.index < anchor.index]):
        if row.index == chosen[0].index - 1 and chosen[0].gap < 0.9 and looks_upper(row.text) == looks_upper(anchor.text) and limit is not None:
            chosen.insert(0, row)
        else:
            break
    for row in [r for r in possible if r.index > anchor.index]:
        if row.index == chosen[-1].index + 1 and row.gap < 0.9 and limit is not None and looks_upper(row.text) == looks_upper(anchor.text):
            chosen.append(row)
        else:
            break
    return chosen[:3]
