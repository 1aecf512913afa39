"""Seller, buyer and place of delivery: blocks under a heading, the sender's line over the address window, blocks by place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ingest.local.filler import codes
from ingest.local.filler.addresses import (
    find_place,
    has_business_word,
    has_legal_form,
    is_contact,
    is_country,
    is_greeting,
    is_name_like,
    is_registration,
    is_street,
    join_lines,
    role_of_label,
)
from ingest.local.filler.candidates import candidates_for
from ingest.local.filler.found import Found, from_candidate
from ingest.local.filler.heads import read_head
from ingest.local.filler.text import squash
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_MAX_PARTY_ROWS = 12
_MAX_PARTY_GAP = 1.6
_SENDER_PARTS = re.compile(r"\s+[-–—|*]\s+|\s*[·•●∙▪|]\s*|\s{2,}|,\s+")
_NAME_LABELS = frozenset(squash(word) for word in ("name", "firma", "company", "nom", "nombre", "razón social", "naam", "raison sociale", "company name", "firmenname", "kunde", "bedrijf", "nombre o razón social", "ragione sociale"))
_ADDRESS_LABELS = frozenset(squash(word) for word in ("address", "anschrift", "adresse", "dirección", "indirizzo", "adres", "domicilio", "strasse", "street", "warehouse address", "postal address", "domicilio social", "direccion fiscal"))
_CLIENT_TAX = ("client", "customer", "buyer", "kunde", "ihre", "your", "votre", "cliente", "acheteur", "destinat", "klant", "uw")
_SELLER_FIRST = ("seller", "buyer", "ship_to")


@dataclass(slots=True)
class Party:
    """One participant: its details by attribute, and the rows its block covers."""

    details: dict[str, Found] = field(default_factory=dict)
    rows: set[int] = field(default_factory=set)

    def put(self, attribute: str, data: str | None, row: Row, label: str | None, confidence: float) -> None:
        """Note a detail unless one is known."""
        if data and attribute not in self.details:
            self.details[attribute] = Found(data, row, label, confidence)


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of a party's block."""

    text: str
    row: Row
    segment: Segment


class Parties:
    """The participants of one document, by role."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.parties: dict[str, Party] = {}
        self._read_headed()
        self._read_window()
        self._read_unheaded()
        self._read_tax_ids()

    def get(self, role: str, attribute: str) -> Found | None:
        """A detail of a party."""
        party = self.parties.get(role)
        return party.details.get(attribute) if party else None

    def _read_headed(self) -> None:
        for row in self.view.rows:
            for index, segment in enumerate(row.segments):
                role, inline = _heading(segment)
                if role in (None, "other"):
                    continue
                assert role is not None
                items = list(self._below_heading(row, index, inline))
                if not items or not _is_plausible(items, bool(inline)):
                    continue
                label = segment.text[: len(segment.text) - len(inline)].strip(" :") if inline else segment.text.strip(" :")
                party = Party()
                self._assemble(items, party, label, 0.9)
                if "name" in party.details and (role not in self.parties or len(party.details) > len(self.parties[role].details)):
                    self.parties[role] = party

    def _below_heading(self, row: Row, index: int, inline: str) -> Iterator[_Item]:
        """The lines that belong to a heading: beside it, then below it in its column."""
        segment = row.segments[index]
        following = row.segments[index + 1 :]
        slack = 3 * row.page.char_width
        right = following[0].x0 - slack / 3 if following else float("inf")
        if inline:
            yield _Item(inline, row, segment)
        elif following and not _heading(following[0])[0] and not self._is_labelled(row, index + 1) and (
            segment.text.endswith(":") or following[0].x0 - segment.x1 < 24 * row.page.char_width
        ):
            beside = following[0]
            if not find_numbers_only(beside.text):
                yield _Item(beside.text, row, beside)
                segment = beside if segment.text.endswith(":") or len(following) == 1 else segment
                right = following[1].x0 - slack / 3 if len(following) > 1 else float("inf")
        first_gap = True
        for below in self.view.rows[row.index + 1 : row.index + 1 + _MAX_PARTY_ROWS]:
            if below.page is not row.page or below.gap > (_MAX_PARTY_GAP + (0.6 if first_gap else 0)):
                return
            inside = [s for s in below.segments if segment.x0 - slack <= s.x0 < right]
            if not inside:
                if any(s.x0 < segment.x0 - slack and s.x1 > segment.x0 + slack for s in below.segments):
                    return
                continue
            first = inside[0]
            if first.x0 - segment.x0 > 28 * row.page.char_width and not inline:
                continue
            if _heading(first)[0] is not None and not squash(first.text.split(":")[0]) in _NAME_LABELS:
                return
            first_gap = False
            text = first.text if len(inside) == 1 else f"{first.text}  {inside[1].text}" if first.text.endswith(":") or self._is_labelled(below, below.segments.index(first)) else first.text
            yield _Item(text, below, first)

    def _is_labelled(self, row: Row, index: int) -> bool:
        """Whether a segment begins with a label of the document rather than of a party."""
        return any(h.segment == index and h.start == 0 and (h.has_colon or not h.is_weak) for h in self.view.hits[row.index])

    def _assemble(self, items: Sequence[_Item], party: Party, label: str | None, confidence: float) -> None:
        """Name, address and other details from the lines of a block."""
        plain: list[_Item] = []
        under: str | None = None
        for item in items:
            party.rows.add(item.row.index)
            head, _, rest = item.text.partition(":")
            key = squash(head)
            if rest.strip() and key in _NAME_LABELS:
                plain.insert(0, _Item(rest.strip(), item.row, item.segment))
                under = None
            elif rest.strip() and key in _ADDRESS_LABELS:
                plain.append(_Item(rest.strip(), item.row, item.segment))
                under = "address"
            elif rest.strip() and (is_contact(item.text) or len(head) <= 40):
                self._put_contact(item, party)
            elif is_contact(item.text) and not (is_street(item.text) or (plain and find_place(item.text))):
                self._put_contact(item, party)
            elif not is_greeting(item.text):
                plain.append(item)
        del under
        _put_name_and_address(plain, party, label, confidence)

    def _put_contact(self, item: _Item, party: Party) -> None:
        text = item.text
        hits = {m.concept for h in self.view.hits[item.row.index] for m in h.meanings}
        if "tax_id" in hits:
            party.put("tax_id", codes.find_vat_id(text) or codes.find_tax_id(text.partition(":")[2] or text), item.row, None, 0.85)
        party.put("email", codes.find_email(text), item.row, None, 0.9)
        party.put("website", codes.find_url(text), item.row, None, 0.8)
        if "tax_id" not in hits and "fax" not in hits and not codes.find_iban(text):
            party.put("phone", codes.find_phone(text), item.row, None, 0.7)

    def _read_window(self) -> None:
        """The sender's address in one line, and below it the recipient's in the window of the envelope."""
        for row in self.view.rows:
            for segment in row.segments:
                parts = _sender_parts(segment.text)
                if not parts or row.gap < 0 or row.line.y0 > 0.45 * row.page.height:
                    continue
                if "seller" not in self.parties:
                    party = Party(rows={row.index})
                    party.put("name", parts[0], row, None, 0.85)
                    party.put("address", join_lines(parts[1:]), row, None, 0.85)
                    self._split_address(party, parts[1:], row)
                    self.parties["seller"] = party
                if "buyer" not in self.parties:
                    self._read_recipient(row, segment)
                return

    def _read_recipient(self, row: Row, segment: Segment) -> None:
        items: list[_Item] = []
        slack = 4 * row.page.char_width
        for below in self.view.rows[row.index + 1 : row.index + 12]:
            if below.page is not row.page or (below.gap > 1.3 if items else below.gap > 4):
                break
            inside = [s for s in below.segments if abs(s.x0 - segment.x0) <= slack]
            if inside:
                items.append(_Item(inside[0].text, below, inside[0]))
        if len(items) >= 2:
            party = Party()
            self._assemble(items, party, None, 0.8)
            if "name" in party.details:
                self.parties["buyer"] = party

    def _read_unheaded(self) -> None:
        """Blocks with a postal address that no heading names: the issuer's and the recipient's."""
        taken = {index for party in self.parties.values() for index in party.rows}
        blocks = [block for block in _address_blocks(self.view) if not taken & {item.row.index for item in block}]
        known = {squash(str(p.details["name"].data)) for p in self.parties.values() if "name" in p.details}
        blocks = [block for block in blocks if squash(block[0].text) not in known]
        scored = sorted(blocks, key=lambda block: -_seller_score(block, self.view))
        if "seller" not in self.parties:
            self._read_seller(scored)
            seller = self.parties.get("seller")
            scored = [b for b in scored if not seller or not seller.rows & {item.row.index for item in b}]
        if "buyer" not in self.parties and scored:
            first_page = [b for b in scored if b[0].row.page is self.view.rows[0].page and _seller_score(b, self.view) < 2.5]
            if first_page:
                party = Party()
                self._assemble(first_page[-1], party, None, 0.55)
                if "name" in party.details and "address" in party.details:
                    self.parties["buyer"] = party

    def _read_seller(self, scored: Sequence[Sequence[_Item]]) -> None:
        head = read_head(self.view)
        if scored and (_seller_score(scored[0], self.view) >= 1.5 or (len(scored) > 1 and "buyer" not in self.parties) or (len(scored) == 1 and "buyer" in self.parties)):
            party = Party()
            self._assemble(scored[0], party, None, 0.65)
            if "name" in party.details:
                if head and head.name and squash(head.name).startswith(squash(str(party.details["name"].data))):
                    party.details["name"] = Found(head.name, head.name_row, None, 0.65)
                self.parties["seller"] = party
                return
        if head:
            party = Party(rows=set(head.rows))
            party.put("name", head.name, head.name_row, None, 0.6)
            if head.address and head.address_row:
                party.put("address", head.address, head.address_row, None, 0.6)
                self._split_address(party, head.address.split(", "), head.address_row)
            if party.details:
                self.parties["seller"] = party

    def _split_address(self, party: Party, lines: Sequence[str], row: Row) -> None:
        for line in lines:
            place = find_place(line)
            if place:
                party.put("postcode", place.code, row, None, 0.7)
                party.put("city", place.city, row, None, 0.7)
                party.put("state", place.state, row, None, 0.7)
            elif is_country(line):
                party.put("country", line.strip(), row, None, 0.7)
            elif is_street(line):
                party.put("street", line.strip(), row, None, 0.7)

    def _read_tax_ids(self) -> None:
        """Tax numbers outside a block: the client's if their label says so, else the issuer's."""
        buyer_rows = self.parties["buyer"].rows if "buyer" in self.parties else set()
        seller_rows = self.parties["seller"].rows if "seller" in self.parties else set()
        for concept, kind in (("tax_id", "tax_id"), ("email", "email"), ("phone", "phone"), ("website", "url"), ("fax", "phone")):
            for candidate in candidates_for(concept, kind, self.view):
                words = squash(candidate.row.text) if concept != "tax_id" else squash(_label_context(candidate.row, candidate.label))
                is_clients = any(word in words for word in _CLIENT_TAX) if concept == "tax_id" else False
                if candidate.label_row in buyer_rows - seller_rows or candidate.row.index in buyer_rows - seller_rows:
                    is_clients = True
                role = "buyer" if is_clients else "seller"
                party = self.parties.setdefault(role, Party())
                if concept not in party.details:
                    party.details[concept] = from_candidate(candidate)
        if "tax_id" not in self.parties.get("seller", Party()).details:
            self._read_bare_vat_id()

    def _read_bare_vat_id(self) -> None:
        for row in self.view.rows:
            found = codes.find_vat_id(row.text) if "tax_id" in {m.concept for h in self.view.hits[row.index] for m in h.meanings} else None
            if found and row.index not in (self.parties["buyer"].rows if "buyer" in self.parties else ()):
                self.parties.setdefault("seller", Party()).put("tax_id", found, row, None, 0.6)
                return


def find_numbers_only(text: str) -> bool:
    """Whether a text holds no word of letters."""
    return not any(character.isalpha() for character in text)


def _label_context(row: Row, label: str) -> str:
    """The words of a label's segment up to its end and two words on: `N° TVA client`."""
    for segment in row.segments:
        position = squash(segment.text).find(squash(label))
        if position >= 0:
            return segment.text[: len(label) + 16]
    return label


def _heading(segment: Segment) -> tuple[str | None, str]:
    """Role and inline text of a heading segment: `Bill To`, `Sold by: Company`."""
    text = segment.text.strip()
    role = role_of_label(text.rstrip(":").strip())
    if role:
        return role, ""
    head, colon, rest = text.partition(":")
    role = role_of_label(head) if colon else None
    return (role, rest.strip()) if role else (None, "")


def _is_plausible(items: Sequence[_Item], inline: bool) -> bool:
    """Whether lines under a heading can be a party: a name, and no mere numbers."""
    if inline:
        return any(character.isalpha() for character in items[0].text)
    return any(is_name_like(item.text) for item in items[:3]) and (
        len(items) > 1 or has_legal_form(items[0].text) or has_business_word(items[0].text) or ":" not in items[0].text
    )


def _put_name_and_address(items: Sequence[_Item], party: Party, label: str | None, confidence: float) -> None:
    if not items:
        return
    first = items[0]
    parts = [part.strip() for part in re.split(r",\s+|\s+[-–|]\s+", first.text) if part.strip()]
    rest = list(items[1:])
    name = first.text.strip(" ,;")
    if len(parts) > 1 and any(find_place(part) or is_street(part) for part in parts[1:]):
        name = parts[0]
        rest = [_Item(part, first.row, first.segment) for part in parts[1:]] + rest
    if is_street(name) or find_place(name):
        rest, name = list(items), ""
    party.put("name", name, first.row, label, confidence)
    lines = _address_lines(rest)
    if lines:
        party.put("address", join_lines([item.text for item in lines]), lines[0].row, label, confidence)
    for item in lines:
        place = find_place(item.text)
        if place:
            party.put("postcode", place.code, item.row, label, confidence)
            party.put("city", place.city, item.row, label, confidence)
            party.put("state", place.state, item.row, label, confidence)
        elif is_country(item.text):
            party.put("country", item.text.strip(), item.row, label, confidence)
        elif is_street(item.text):
            party.put("street", item.text.strip(" ,"), item.row, label, confidence)


def _address_lines(items: Sequence[_Item]) -> list[_Item]:
    """From the first street (or the line before the town) to the town and its country."""
    places = [index for index, item in enumerate(items) if find_place(item.text)]
    streets = [index for index, item in enumerate(items) if is_street(item.text)]
    if not places and not streets:
        return [item for item in items if is_country(item.text)] and list(items)
    last = places[-1] if places else streets[-1]
    starts = [index for index in streets if index <= last]
    first = min(starts) if starts else max(0, last - 1 if last and is_name_like(items[last - 1].text) else last)
    while last + 1 < len(items) and (is_country(items[last + 1].text) or (not places and last + 1 <= streets[-1] + 2 and is_name_like(items[last + 1].text))):
        last += 1
    return list(items[first : last + 1])


def _sender_parts(text: str) -> list[str] | None:
    """Name, street and town of a sender's line such as `Company - Street 1 - 12345 Town`."""
    if not 20 <= len(text) <= 150:
        return None
    parts = [part.strip() for part in _SENDER_PARTS.split(text) if part.strip()]
    if not 3 <= len(parts) <= 6 or ":" in parts[0] or is_street(parts[0]) or find_place(parts[0]):
        return None
    if not any(find_place(part) for part in parts[1:]) or not any(is_street(part) for part in parts[1:]):
        return None
    return parts if all(len(part) <= 60 for part in parts) and is_name_like(parts[0]) else None


def _address_blocks(view: View) -> list[list[_Item]]:
    """Stacks of aligned segments with a postal code and a town in one of them."""
    open_blocks: list[list[_Item]] = []
    closed: list[list[_Item]] = []
    for row in view.rows:
        slack = 1.6 * row.page.char_width
        still_open: list[list[_Item]] = []
        for block in open_blocks:
            last = block[-1].row
            distance = (row.line.y0 - last.line.y1) / row.page.line_height if last.page is row.page else 99
            (still_open if distance <= 0.8 else closed).append(block)
        open_blocks = still_open
        for segment in row.segments:
            if len(segment.text) > 80:
                continue
            for block in open_blocks:
                other = block[-1].segment
                centred = abs((other.x0 + other.x1) - (segment.x0 + segment.x1)) / 2 <= slack
                if block[-1].row is not row and (abs(other.x0 - segment.x0) <= slack or centred or abs(other.x1 - segment.x1) <= slack / 3):
                    block.append(_Item(segment.text, row, segment))
                    break
            else:
                open_blocks.append([_Item(segment.text, row, segment)])
    closed.extend(open_blocks)
    return [b for b in (_trim(block) for block in closed) if len(b) >= 2 and any(find_place(item.text) for item in b)]


def _trim(block: Sequence[_Item]) -> list[_Item]:
    """A block without lines before its name that are labels, contacts or numbers."""
    start = 0
    while start < len(block) and (
        is_contact(block[start].text) or is_registration(block[start].text) or not is_name_like(block[start].text) or is_street(block[start].text) or ":" in block[start].text
    ) and not find_place(block[start].text):
        start += 1
    return list(block[start:])


def _seller_score(block: Sequence[_Item], view: View) -> float:
    """How much a block looks like the issuer's rather than the recipient's."""
    first = block[0].row
    score = 1.0 if any(is_contact(item.text) for item in block) else 0.0
    score += 1.0 if any(codes.find_vat_id(item.text) or codes.find_iban(item.text) for item in block) else 0.0
    score += 0.7 if first.line.y0 < 0.12 * first.page.height else 0.0
    score += 0.5 if first.line.y0 > 0.8 * first.page.height else 0.0
    score += 0.4 if has_legal_form(block[0].text) or has_business_word(block[0].text) else 0.0
    score -= 0.4 if is_greeting(block[0].text) else 0.0
    return score - 0.001 * first.index
