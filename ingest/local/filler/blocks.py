"""Blocks of lines that describe a party: gathering aligned lines, telling name, address and contacts apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingest.local.filler import codes
from ingest.local.filler.addresses import (
    clean_name,
    find_place,
    is_address_label,
    is_contact,
    is_country,
    is_greeting,
    is_name_label,
    is_name_like,
    is_registration,
    is_street,
    join_lines,
    role_of_label,
    split_address,
)
from ingest.local.filler.found import Found
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_INLINE_PARTS = re.compile(r",\s+|\s+[-–—|]\s+|\s*[·•●∙▪]\s*|\s{2,}")
_LABEL = re.compile(r"^[^\W\d][\w .'/()&-]{0,38}:")
# Rows are looked at below a block for its tax number when a blank line parts it from the address.
_TAIL_ROWS = 3


@dataclass(slots=True)
class Party:
    """One participant: its details by attribute, and the places (row index, left edge) its block covers."""

    details: dict[str, Found] = field(default_factory=dict)
    places: set[tuple[int, int]] = field(default_factory=set)

    def put(self, attribute: str, data: str | None, row: Row, label: str | None, confidence: float) -> None:
        """Note a detail unless one is known."""
        if data and attribute not in self.details:
            self.details[attribute] = Found(data, row, label, confidence)


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a party's block."""

    text: str
    row: Row
    segment: Segment

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands: row index and left edge."""
        return self.row.index, round(self.segment.x0)


def heading_of(segment: Segment) -> tuple[str | None, str]:
    """Role and inline text of a heading segment: `Bill To`, `Sold by: Company`."""
    text = segment.text.strip()
    role = role_of_label(text.rstrip(":").strip())
    if role:
        return role, ""
    head, colon, rest = text.partition(":")
    role = role_of_label(head) if colon else None
    return (role, rest.strip()) if role else (None, "")


def read_block(items: Iterable[Item], view: View, label: str | None, confidence: float) -> Party:
    """A party from the lines of its block."""
    party = Party()
    plain: list[Item] = []
    for item in items:
        party.places.add(item.place)
        head, colon, rest = item.text.partition(":")
        if colon and rest.strip() and is_name_label(head):
            plain.insert(0, Item(rest.strip(), item.row, item.segment))
        elif colon and rest.strip() and is_address_label(head):
            plain.append(Item(rest.strip(), item.row, item.segment))
        elif (colon and rest.strip() and _LABEL.match(item.text)) or (
            is_contact(item.text) and not is_street(item.text) and not (plain and find_place(item.text))
        ):
            put_contact(item, party, view)
        elif not is_greeting(item.text) and not item.text.endswith(":"):
            plain.append(item)
    _put_name(plain, party, label, confidence)
    _read_tail(party, view)
    return party


def put_contact(item: Item, party: Party, view: View) -> None:
    """Tax number, mail, link and phone number of a line."""
    hits = {m.concept for h in view.hits[item.row.index] for m in h.meanings}
    if "tax_id" in hits or codes.find_vat_id(item.text):
        found = codes.find_vat_id(item.text) or codes.find_tax_id(
            item.text.partition(":")[2] or _after_label(item, view)
        )
        party.put("tax_id", found, item.row, None, 0.85)
        return
    party.put("email", codes.find_email(item.text), item.row, None, 0.9)
    party.put("website", codes.find_url(item.text), item.row, None, 0.8)
    if "fax" not in hits and not codes.find_iban(item.text) and not is_registration(item.text):
        party.put("phone", codes.find_phone(item.text), item.row, None, 0.7)


def _after_label(item: Item, view: View) -> str:
    """The words of a line after its label."""
    for hit in view.hits[item.row.index]:
        segment = item.row.segments[hit.segment]
        if segment is item.segment and hit.start == 0:
            return " ".join(token.text for token in segment.tokens[hit.end :])
    return item.text


def _read_tail(party: Party, view: View) -> None:
    """A tax number in the block's column a blank line below it."""
    if not party.places or "tax_id" in party.details:
        return
    last = max(party.places)
    for row in view.rows[last[0] + 1 : last[0] + 1 + _TAIL_ROWS]:
        if row.page is not view.rows[last[0]].page or row.gap > 1.6:
            return
        for index, segment in enumerate(row.segments):
            if abs(segment.x0 - last[1]) > 2.5 * row.page.char_width:
                continue
            if heading_of(segment)[0]:
                return
            hits = {m.concept for h in view.hits[row.index] if h.segment == index for m in h.meanings}
            if "tax_id" in hits:
                item = Item(segment.text if any(c.isdigit() for c in segment.text) else row.text, row, segment)
                put_contact(item, party, view)
                party.places.add(item.place)
                return


def _put_name(items: Sequence[Item], party: Party, label: str | None, confidence: float) -> None:
    """Name and address from the plain lines of a block."""
    if not items:
        return
    first = items[0]
    rest = list(items[1:])
    parts = [part.strip() for part in _INLINE_PARTS.split(first.text) if part.strip()]
    name = first.text.strip(" ,;")
    if len(parts) > 1 and any(find_place(part) or is_street(part) for part in parts[1:]):
        name = parts[0]
        rest = [Item(part, first.row, first.segment) for part in parts[1:]] + rest
    if is_street(name) or find_place(name):
        rest, name = list(items), ""
    elif not any(character.isalpha() for character in name):
        name = ""
    party.put("name", clean_name(name), first.row, label, confidence)
    put_address(rest, party, label, confidence)


def put_address(
    items: Sequence[Item], party: Party, label: str | None, confidence: float, is_whole: bool = False
) -> None:
    """The address among these lines, or all of them when `is_whole`, and its parts."""
    pieces = [Item(part, item.row, item.segment) for item in items for part in split_address(item.text)]
    lines = pieces if is_whole else address_lines(pieces)
    if not lines:
        return
    party.put("address", join_lines([item.text for item in lines]), lines[0].row, label, confidence)
    for item in lines:
        place = find_place(item.text)
        if is_street(item.text):
            party.put("street", item.text.strip(" ,"), item.row, label, confidence)
        elif is_country(item.text):
            party.put("country", item.text.strip(), item.row, label, confidence)
        if place:
            party.put("postcode", place.code, item.row, label, confidence)
            party.put("city", place.city, item.row, label, confidence)
            party.put("state", place.state, item.row, label, confidence)


def address_lines(items: Sequence[Item]) -> list[Item]:
    """From the first street (or the line before the town) to the town and its country."""
    streets = [index for index, item in enumerate(items) if is_street(item.text)]
    places = [
        index for index, item in enumerate(items) if find_place(item.text) and (not streets or index >= streets[0])
    ]
    if not places and not streets:
        return []
    if places:
        last = places[0]
        starts = [index for index in streets if index <= last]
        lead = last - 1 if last and is_name_like(items[last - 1].text) else last
        first = starts[0] if starts else lead
    else:
        first = streets[0]
        last = (
            min(streets[-1] + 1, len(items) - 1)
            if streets[-1] + 1 < len(items) and _may_be_town(items[streets[-1] + 1].text)
            else streets[-1]
        )
    while last + 1 < len(items) and (
        is_country(items[last + 1].text)
        or (items[last + 1].row is items[last].row and find_place(items[last + 1].text))
    ):
        last += 1
    return list(items[first : last + 1])


def _may_be_town(text: str) -> bool:
    return is_name_like(text) and len(text.split()) <= 4 and not any(character.isdigit() for character in text)
