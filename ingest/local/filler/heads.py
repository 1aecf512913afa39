"""The head of a letter or receipt: the issuer's name and address in the first lines, where no heading names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.local.filler.addresses import (
    clean_name,
    find_place,
    has_business_word,
    has_legal_form,
    has_street_word,
    is_address,
    is_contact,
    is_name_like,
    is_registration,
    is_street,
    is_title,
    looks_upper,
)
from ingest.local.filler.blocks import Item, heading_of
from ingest.local.filler.dates import find_dates
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_HEAD_ROWS = 16
_ADDRESS_GAP = {"text": 0.9, "ocr": 1.3}
_NAME_GAP = 2.6
_BILLING = ("gross_total", "tax_total", "invoice_number", "amount_due")


@dataclass(frozen=True, slots=True)
class Head:
    """Name of the issuer, the lines of the address, and all lines used."""

    name: str
    address: tuple[Item, ...]
    items: tuple[Item, ...]


def read_head(view: View, table_rows: frozenset[int]) -> Head | None:
    """The issuer's name and address from the first lines of the first page."""
    first = view.rows[0].page if view.rows else None
    rows = [row for row in view.rows[:_HEAD_ROWS] if row.page is first and row.index not in table_rows]
    names = _name_items(rows, view)
    address = _address_items(names, rows, view)
    if not address and not _is_certain(names, view):
        return None
    return Head(" ".join(clean_name(item.text) for item in names), tuple(address), (*names, *address))


def _is_certain(names: Sequence[Item], view: View) -> bool:
    """Whether a name without an address is an issuer's: by its legal form, or on a page that bills something."""
    if any(has_legal_form(item.text) or has_business_word(item.text) for item in names):
        return True
    return bool(names) and any(concept in view.hits_by_concept for concept in _BILLING)


def _may_be_name(text: str) -> bool:
    text = clean_name(text)
    return (
        is_name_like(text) and not is_title(text) and not is_contact(text) and not find_dates(text)
        and not is_street(text) and not find_place(text) and ":" not in text
    )  # fmt: skip


def _name_items(rows: Sequence[Row], view: View) -> list[Item]:
    """The line, or lines, of the name: above the first line of an address, a legal form or business word preferred."""
    limit = next((row.index for row in rows if any(is_address(s.text) for s in row.segments)), None)
    possible: list[Item] = []
    for row in rows:
        if limit is not None and row.index >= limit:
            break
        segment = next((s for s in (_whole(row), *row.segments) if _may_be_name(s.text)), None)
        if heading_of(row.segments[0])[0] or _is_label(row, view):
            if possible:
                break
            continue
        if segment is not None:
            possible.append(Item(segment.text, row, segment))
    if not possible:
        return []
    strong = [item for item in possible if has_legal_form(item.text) or has_business_word(item.text)]
    anchor = strong[0] if strong else possible[0]
    return _with_neighbours(anchor, possible) if limit is not None else [anchor]


def _whole(row: Row) -> Segment:
    """The segments of a row taken together when they stand close, as widely spaced print does."""
    tokens = [token for segment in row.segments for token in segment.tokens]
    gaps = [right.x0 - left.x1 for left, right in zip(row.segments, row.segments[1:], strict=False)]
    is_close = all(gap < 1.5 * (row.line.y1 - row.line.y0) for gap in gaps) and row.page.origin == "ocr"
    return Segment.of(tokens) if is_close else row.segments[0]


def _with_neighbours(anchor: Item, possible: Sequence[Item]) -> list[Item]:
    """The name's line with lines directly above and below it in the same kind of print."""
    chosen = [anchor]
    for item in reversed([i for i in possible if i.row.index < anchor.row.index]):
        if (
            item.row.index != chosen[0].row.index - 1
            or chosen[0].row.gap > _ADDRESS_GAP[item.row.page.origin]
            or not _is_akin(item, anchor)
            or not looks_upper(item.text)
        ):
            break
        chosen.insert(0, item)
    for item in [i for i in possible if i.row.index > anchor.row.index]:
        if (
            item.row.index != chosen[-1].row.index + 1
            or item.row.gap > _ADDRESS_GAP[item.row.page.origin]
            or not _is_akin(item, anchor)
            or not looks_upper(item.text)
        ):
            break
        chosen.append(item)
    return chosen[:3]


def _is_akin(item: Item, anchor: Item) -> bool:
    return looks_upper(item.text) == looks_upper(anchor.text) and not any(c.isdigit() for c in item.text)


def _address_items(names: Sequence[Item], rows: Sequence[Row], view: View) -> list[Item]:
    """The lines of the address below the name; registrations and contacts between them are left out."""
    chosen: list[Item] = []
    anchor = names[-1] if names else None
    for position, row in enumerate(rows):
        if anchor and row.index <= anchor.row.index:
            continue
        item = _in_column(row, chosen[-1] if chosen else anchor)
        text = item.text
        if row.gap > (_ADDRESS_GAP[row.page.origin] if chosen else _NAME_GAP) and row is not rows[0]:
            break
        place = find_place(text)
        if is_registration(text) or (is_contact(text) and not is_street(text) and not (place and text[:1].isdigit())):
            if chosen and find_place(chosen[-1].text):
                break
            continue
        if is_title(text) or heading_of(item.segment)[0] or find_dates(text) or _is_label(row, view):
            if chosen:
                break
            continue
        follows = position + 1 < len(rows) and is_address(rows[position + 1].text)
        if (
            is_address(text)
            or (follows and text[:1].isdigit() and any(c.isalpha() for c in text))
            or (chosen and _may_continue(text))
            or (has_street_word(text) and any(c.isdigit() for c in text))
        ):
            chosen.append(item)
        elif chosen:
            break
    while chosen and not _ends_address(chosen):
        chosen.pop()
    return chosen


def _in_column(row: Row, above: Item | None) -> Item:
    """The segment of a row that stands under a line: nearest by its left edge, middle or right edge."""
    if above is None or row.page.origin == "ocr":
        segment = _whole(row)
        return Item(segment.text, row, segment)

    def distance(index: int) -> float:
        segment, other = row.segments[index], above.segment
        middle = abs((segment.x0 + segment.x1) - (other.x0 + other.x1)) / 2
        return min(abs(segment.x0 - other.x0), middle, abs(segment.x1 - other.x1))

    best = min(range(len(row.segments)), key=distance)
    return Item(row.segments[best].text, row, row.segments[best])


def _may_continue(text: str) -> bool:
    return has_street_word(text) or (is_name_like(text) and len(text) < 45)


def _ends_address(items: Sequence[Item]) -> bool:
    """Whether the last line can end an address: a town, a street, a country, or what directly follows the town."""
    text = items[-1].text
    if is_address(text) or has_street_word(text):
        return True
    return len(items) > 1 and bool(find_place(items[-2].text)) and len(text.split()) <= 4


def _is_label(row: Row, view: View) -> bool:
    return any(h.segment == 0 and h.start == 0 and (h.has_colon or not h.is_weak) for h in view.hits[row.index])
