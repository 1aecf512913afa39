"""Seller, buyer, place of delivery: blocks under a heading, the sender's line over the address window, by place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

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
    is_title,
)
from ingest.local.filler.blocks import Item, Party, heading_of, put_address, read_block
from ingest.local.filler.candidates import Candidate, candidates_for
from ingest.local.filler.found import Found, from_candidate
from ingest.local.filler.heads import read_head
from ingest.local.filler.text import squash
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_MAX_PARTY_ROWS = 12
_MAX_PARTY_GAP = 0.9
_FIRST_GAP = 1.7
_FAR_CHARS = 28
_SENDER_PARTS = re.compile(r"\s+[-–—|*]\s+|\s*[·•●∙▪|]\s*|\s{2,}|,\s+")
_CLIENT_WORDS = (
    "client",
    "customer",
    "buyer",
    "kunde",
    "ihre",
    "your",
    "votre",
    "cliente",
    "acheteur",
    "destinat",
    "klant",
    "uw",
)
_DETAILS = frozenset({"tax_id", "email", "phone", "website", "fax"})
_CONTACTS = (("tax_id", "tax_id"), ("email", "email"), ("phone", "phone"), ("website", "url"), ("fax", "phone"))


class Parties:
    """The participants of one document, by role."""

    def __init__(self, view: View, table_rows: frozenset[int]) -> None:
        self.view = view
        self.table_rows = table_rows
        self.parties: dict[str, Party] = {}
        self._read_headed()
        self._read_window()
        self._read_head()
        self._read_unheaded()
        self._read_contacts()

    def get(self, role: str, attribute: str) -> Found | None:
        """A detail of a party."""
        party = self.parties.get(role)
        return party.details.get(attribute) if party else None

    @property
    def places(self) -> frozenset[tuple[int, int]]:
        """Places (row index, left edge) taken by blocks of parties."""
        return frozenset(place for party in self.parties.values() for place in party.places)

    @property
    def _has_first_page(self) -> bool:
        """Whether the pages begin with the document's first, the only one with a letterhead to go by."""
        return bool(self.view.pages) and self.view.pages[0].number <= 1

    def _read_headed(self) -> None:
        for row in self.view.rows:
            if row.index in self.table_rows:
                continue
            for index, segment in enumerate(row.segments):
                role, inline = heading_of(segment)
                if role is None:
                    continue
                items = list(self._below_heading(row, index, inline))
                if not items or not _is_plausible(items, bool(inline)):
                    continue
                label = segment.text[: len(segment.text) - len(inline)].strip(" :")
                party = read_block(items, self.view, label, 0.9)
                known = self.parties.get(role)
                if role == "other":
                    self.parties.setdefault(role, Party()).places.update(party.places)
                elif "name" in party.details and (known is None or len(party.details) > len(known.details)):
                    self.parties[role] = party

    def _below_heading(self, row: Row, index: int, inline: str) -> Iterator[Item]:
        """The lines that belong to a heading: beside it, then below it in its column."""
        segment = row.segments[index]
        slack = 3 * row.page.char_width
        right = row.segments[index + 1].x0 - 1 if index + 1 < len(row.segments) else float("inf")
        if inline:
            yield Item(inline, row, segment)
        beside = None if inline else self._beside(row, index)
        if beside:
            yield beside
            right = float("inf")
        gap_limit = _FIRST_GAP if not (inline or beside) else _MAX_PARTY_GAP
        has_place = False
        value_x0: float | None = beside.segment.x0 if beside else None
        for below in self.view.rows[row.index + 1 : row.index + 1 + _MAX_PARTY_ROWS]:
            is_late_place = (
                below.gap <= _FIRST_GAP and not has_place and any(find_place(s.text) for s in below.segments)
            )
            if (
                below.page is not row.page
                or below.index in self.table_rows
                or (below.gap > gap_limit and not is_late_place)
            ):
                return
            inside = [s for s in below.segments if segment.x0 - slack <= s.x0 < right]
            if not inside:
                continue
            first = inside[0]
            if first.x0 - segment.x0 > _FAR_CHARS * row.page.char_width and (
                value_x0 is None or abs(first.x0 - value_x0) > slack
            ):
                continue
            if heading_of(first)[0] is not None and len(inside) == 1:
                return
            gap_limit = _MAX_PARTY_GAP
            if has_place and not self._may_follow_place(below, first):
                return
            has_place = has_place or bool(find_place(first.text))
            if len(inside) > 1 and self._is_sub_label(below, first):
                value_x0 = inside[1].x0
                yield Item(f"{first.text.rstrip(':')}: {inside[1].text}", below, first)
            else:
                yield Item(first.text, below, first)

    def _may_follow_place(self, row: Row, segment: Segment) -> bool:
        """Whether a line may belong to a block below its town: a country, a contact, a tax number, another town."""
        if is_country(segment.text) or is_contact(segment.text) or find_place(segment.text):
            return True
        index = row.segments.index(segment)
        return any(m.concept in _DETAILS for h in self.view.hits[row.index] if h.segment == index for m in h.meanings)

    def _beside(self, row: Row, index: int) -> Item | None:
        """The segment right of a heading, when it is the party's name rather than another label."""
        if index + 1 >= len(row.segments):
            return None
        segment, following = row.segments[index], row.segments[index + 1]
        near = following.x0 - segment.x1 < 24 * row.page.char_width or self._goes_on_below(row, following)
        if heading_of(following)[0] or is_title(following.text) or not (segment.text.endswith(":") or near):
            return None
        if any(h.segment == index + 1 and h.start == 0 for h in self.view.hits[row.index]):
            return None
        below = self.view.rows[row.index + 1] if row.index + 1 < len(self.view.rows) else None
        if below and not segment.text.endswith(":") and below.gap < _MAX_PARTY_GAP:
            first = below.segments[0]
            if abs(first.x0 - segment.x0) < 2 * row.page.char_width and is_name_like(first.text):
                return None
        return Item(following.text, row, following) if is_name_like(following.text) else None

    def _goes_on_below(self, row: Row, segment: Segment) -> bool:
        """Whether the next line begins where a segment does, with nothing left of it."""
        below = self.view.rows[row.index + 1] if row.index + 1 < len(self.view.rows) else None
        if below is None or below.page is not row.page or below.gap > _MAX_PARTY_GAP:
            return False
        return abs(below.line.x0 - segment.x0) < 2 * row.page.char_width

    def _is_sub_label(self, row: Row, segment: Segment) -> bool:
        """Whether a segment is a label within a block, such as `Name:`."""
        index = row.segments.index(segment)
        return segment.text.endswith(":") or any(
            h.segment == index and h.start == 0 and h.end == len(segment.tokens) for h in self.view.hits[row.index]
        )

    def _read_window(self) -> None:
        """The sender's address in one line, and below it the recipient's in the window of the envelope."""
        for row in self.view.rows:
            if row.line.y0 > 0.45 * row.page.height or row.page is not self.view.rows[0].page:
                return
            segment = _joined(row)
            parts = _sender_parts(segment.text)
            if not parts:
                continue
            if "seller" not in self.parties:
                party = Party(places={(row.index, round(s.x0)) for s in row.segments if s.x0 < segment.x1})
                party.put("name", parts[0], row, None, 0.85)
                put_address([Item(part, row, segment) for part in parts[1:]], party, None, 0.85)
                self.parties["seller"] = party
            if "buyer" not in self.parties:
                self._read_recipient(row, segment)
            return

    def _read_recipient(self, row: Row, segment: Segment) -> None:
        items: list[Item] = []
        slack = 4 * row.page.char_width
        for below in self.view.rows[row.index + 1 : row.index + 12]:
            if below.page is not row.page or below.gap > (_MAX_PARTY_GAP if items else 4.0):
                break
            inside = [s for s in below.segments if abs(s.x0 - segment.x0) <= slack]
            if inside and not is_title(inside[0].text):
                items.append(Item(inside[0].text, below, inside[0]))
        if len(items) >= 2:
            party = read_block(items, self.view, None, 0.8)
            if "name" in party.details:
                self.parties["buyer"] = party

    def _read_head(self) -> None:
        """The issuer's name and address in the first lines."""
        head = read_head(self.view, self.table_rows) if self._has_first_page else None
        if head is None:
            return
        known = self.parties.get("seller")
        if known is None:
            known = self.parties["seller"] = Party()
            known.put("name", head.name or None, head.items[0].row, None, 0.65)
        if squash(str(known.details["name"].data) if "name" in known.details else "") == squash(head.name):
            known.places.update(item.place for item in head.items)
            if head.address:
                put_address(head.address, known, None, 0.65, is_whole=True)

    def _read_unheaded(self) -> None:
        """Blocks with a postal address that no heading names: the recipient's, or the issuer's if none was found."""
        if not self._has_first_page:
            return
        taken = self.places
        seller = self.parties.get("seller")
        blocks = [b for b in _address_blocks(self.view, self.table_rows) if not taken & {item.place for item in b}]
        names = {squash(str(p.details["name"].data)) for p in self.parties.values() if "name" in p.details}
        blocks = [block for block in blocks if squash(block[0].text) not in names]
        ranked = sorted(blocks, key=lambda block: -_seller_score(block))
        if (
            ranked
            and (seller is None or "address" not in seller.details)
            and (_seller_score(ranked[0]) >= 1.5 or (seller is None and ("buyer" in self.parties or len(ranked) > 1)))
        ):
            party = read_block(ranked.pop(0), self.view, None, 0.6)
            if "name" in party.details and (seller is None or _seller_score_of_head(seller) < 0.5):
                self.parties["seller"] = party
        if "buyer" not in self.parties:
            self._take_buyer([b for b in ranked if _seller_score(b) < 1.5])

    def _take_buyer(self, blocks: Sequence[Sequence[Item]]) -> None:
        first_page = self.view.rows[0].page if self.view.rows else None
        for block in sorted(blocks, key=lambda b: b[0].row.index):
            if block[0].row.page is first_page and block[0].row.line.y0 < 0.55 * block[0].row.page.height:
                party = read_block(block, self.view, None, 0.55)
                if "name" in party.details and "address" in party.details:
                    self.parties["buyer"] = party
                    return

    def _read_contacts(self) -> None:
        """Tax numbers and contacts outside a block: the client's if their label says so, else the issuer's."""
        taken = {role: party.places for role, party in self.parties.items()}
        for concept, kind in _CONTACTS:
            for candidate in candidates_for(concept, kind, self.view):
                role = self._owner(candidate, taken, concept)
                party = self.parties.setdefault(role, Party())
                if concept not in party.details:
                    party.details[concept] = from_candidate(candidate)
        self._read_bare_vat_id()

    def _owner(self, candidate: Candidate, taken: dict[str, set[tuple[int, int]]], concept: str) -> str:
        place = (candidate.label_row, round(candidate.x0))
        for role, places in taken.items():
            if place in places:
                return role
        if concept == "tax_id":
            words = squash(_label_context(candidate))
            return "buyer" if any(word in words for word in _CLIENT_WORDS) else "seller"
        return "seller"

    def _read_bare_vat_id(self) -> None:
        """A number in the shape of a VAT number, where no label led to the issuer's."""
        seller = self.parties.setdefault("seller", Party())
        if "tax_id" in seller.details:
            return
        taken = {index for role, party in self.parties.items() if role != "seller" for index, _ in party.places}
        for place in self.view.hits_by_concept.get("tax_id", ()):
            row = place[0]
            found = codes.find_vat_id(row.text)
            if found and row.index not in taken:
                seller.put("tax_id", found, row, None, 0.6)
                return


def _label_context(candidate: Candidate) -> str:
    """The words of a label's segment up to its end and a little on: `N° TVA client`."""
    for segment in candidate.row.segments:
        position = segment.text.casefold().find(candidate.label.casefold())
        if position >= 0:
            return segment.text[: position + len(candidate.label) + 10]
    return candidate.label


def _is_plausible(items: Sequence[Item], inline: bool) -> bool:
    """Whether lines under a heading can be a party: a name, and no mere numbers."""
    if inline:
        return any(character.isalpha() for character in items[0].text)
    if not any(is_name_like(item.text) or ":" in item.text for item in items[:3]):
        return False
    alone = len(items) == 1 and not (has_legal_form(items[0].text) or has_business_word(items[0].text))
    return not alone or (is_name_like(items[0].text) and ":" not in items[0].text)


def _joined(row: Row) -> Segment:
    """The first segment with those that follow it closely, as bullets may stand between wide spaces."""
    tokens = list(row.segments[0].tokens)
    for segment in row.segments[1:]:
        if segment.x0 - tokens[-1].x1 > 4 * row.page.char_width:
            break
        tokens.extend(segment.tokens)
    return Segment.of(tokens)


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


def _address_blocks(view: View, table_rows: frozenset[int]) -> list[list[Item]]:
    """Stacks of aligned segments with a postal code and a town in one of them."""
    open_blocks: list[list[Item]] = []
    closed: list[list[Item]] = []
    for row in view.rows:
        slack = 1.6 * row.page.char_width
        still_open: list[list[Item]] = []
        for block in open_blocks:
            last = block[-1].row
            distance = (row.line.y0 - last.line.y1) / row.page.line_height if last.page is row.page else 99.0
            (still_open if distance <= (0.8 if find_place(block[-1].text) else _FIRST_GAP) else closed).append(block)
        open_blocks = still_open
        if row.index in table_rows:
            continue
        for segment in row.segments:
            if len(segment.text) > 80:
                continue
            owner = next((b for b in open_blocks if _goes_on(b[-1], segment, row, slack)), None)
            if owner is None:
                open_blocks.append([Item(segment.text, row, segment)])
            else:
                owner.append(Item(segment.text, row, segment))
    closed.extend(open_blocks)
    return [b for b in (_trim(block) for block in closed) if len(b) >= 2 and any(find_place(item.text) for item in b)]


def _goes_on(last: Item, segment: Segment, row: Row, slack: float) -> bool:
    """Whether a segment continues a block: aligned with it, and next to it unless it is a street or town."""
    if last.row is row or not _is_aligned(last.segment, segment, slack):
        return False
    distance = (row.line.y0 - last.row.line.y1) / row.page.line_height
    return distance <= 0.8 or is_street(segment.text) or bool(find_place(segment.text))


def _is_aligned(above: Segment, below: Segment, slack: float) -> bool:
    centred = abs((above.x0 + above.x1) - (below.x0 + below.x1)) / 2 <= slack
    return abs(above.x0 - below.x0) <= slack or centred or abs(above.x1 - below.x1) <= slack / 3


def _trim(block: Sequence[Item]) -> list[Item]:
    """A block without lines before its name that are labels, contacts, titles or numbers."""
    start = 0
    while start < len(block) and not find_place(block[start].text):
        text = block[start].text
        if not (
            is_contact(text)
            or is_registration(text)
            or not is_name_like(text)
            or is_street(text)
            or ":" in text
            or is_title(text)
        ):
            break
        start += 1
    return list(block[start:])


def _seller_score(block: Sequence[Item]) -> float:
    """How much a block looks like the issuer's rather than the recipient's."""
    first = block[0].row
    score = 1.0 if any(is_contact(item.text) for item in block) else 0.0
    score += 1.0 if any(codes.find_vat_id(item.text) or codes.find_iban(item.text) for item in block) else 0.0
    score += 0.7 if first.line.y0 < 0.12 * first.page.height else 0.0
    score += 0.5 if first.line.y0 > 0.8 * first.page.height else 0.0
    score += 0.4 if has_legal_form(block[0].text) or has_business_word(block[0].text) else 0.0
    score -= 0.4 if is_greeting(block[0].text) else 0.0
    return score - 0.001 * first.index


def _seller_score_of_head(party: Party) -> float:
    """How sure the name taken from the head is: a legal form or kind of business makes it so."""
    name = str(party.details["name"].data) if "name" in party.details else ""
    return 1.0 if has_legal_form(name) or has_business_word(name) else 0.0
