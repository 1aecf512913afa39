"""The authors of a paper with affiliations and addresses, read from the lines between its title and its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.local.filler.columns import Strip
from ingest.local.filler.dates import find_dates
from ingest.local.filler.found import Found
from ingest.local.filler.headings import ABSTRACT
from ingest.local.filler.running import Paragraph
from ingest.local.filler.text import fold
from ingest.local.filler.view import Row

_MAX_LINES = 30
_MAX_AUTHORS = 60
_MARKS = re.compile(r"(?:[\s,]*(?:\d{1,2}(?![\d.])|[∗*†‡§¶#♠♣♦♥⋆★✉]))+$")
_MARK = re.compile(r"\d{1,2}|[†‡§¶#♠♣♦♥⋆★]")
_ORGANISATION = re.compile(
    r"universi|institut|department|\bdept\b|laborator|\blab\b|\blabs\b|research|college|school|cent(?:er|re|ro"
    r"|rum)\b|hospital|academy|facult|hochschule|fakultät|lehrstuhl|école|departamento|facultad|\binc\b"
    r"|\bltd\b|\bgmbh\b|\bllc\b|"
    r"\bcorp|google|microsoft|foundation|council|agency|ministry|society|museum|company|politecnico|technolog"
    r"|\bAI\b|instituto|\bCNRS\b|\bMIT\b|ETH\b|polytechn|consult|group|division|clinic",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"^(?:(?:Dr|Prof|Mr|Mrs|Ms)\.?\s+)*[A-ZÀ-ÞŁŠŽČĆŚ][\w'’´`˘¸.-]*(?:\s+(?:(?:de|van|von|der|den|del|da|di|la"
    r"|le|el|al|bin|ben|dos|du|ter|y|O)\s+)*[A-ZÀ-ÞŁŠŽČĆŚ˘´`][\w'’´`˘¸.-]*){1,4}$"
)
_SPLIT = re.compile(r"\s*;\s*|,\s+(?:and\s+|und\s+|et\s+|y\s+|&\s+)?|\s+(?:and|und|et|y|&)\s+|\s*[·•|]\s*")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_GROUP_EMAIL = re.compile(r"[{(\[]\s*([\w.+,;|\s-]{2,300}?)\s*[})\]]\s*@\s*([\w-]+(?:\.[\w-]+)+)")
_DEGREES = re.compile(r",?\s+(?:Ph\.?D\.?|M\.?D\.?|M\.?Sc\.?|B\.?Sc\.?|MBA|Dr\.?|Esq\.?)(?=\s|,|$)")
_AFFILIATION_MARK = re.compile(r"(?:(?<=\s)|^)(\d{1,2}|[†‡§¶#♠♣♦♥⋆★])\s*(?=[A-ZÀ-Þ])")
_NO_AUTHOR = re.compile(
    r"\b(?:abstract|introduction|university|institute|department|corresponding|contribution|conference|journal"
    r"|proceedings|received|accepted|member|senior|student|ieee|version|preprint|draft|technical report"
    r"|copyright)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Author:
    """An author as printed with the marks that lead to affiliations, and the row."""

    name: str
    marks: tuple[str, ...]
    row: Row


def read_authors(paragraphs: Sequence[Paragraph], start: int) -> list[dict[str, Found]]:
    """One record per author: name, affiliation, email; `start` is the index of the paragraph after the title."""
    strips = list(_zone(paragraphs, start))
    names, rest = _split_zone(strips)
    authors = list(_authors(names))[:_MAX_AUTHORS]
    if not authors:
        return []
    affiliations, common = _affiliations(rest)
    emails = _emails([*names, *rest])
    records: list[dict[str, Found]] = []
    for author, email in zip(authors, _assign(authors, emails), strict=True):
        record = {"name": Found(author.name, author.row, None, 0.75)}
        own = [affiliations[mark] for mark in author.marks if mark in affiliations]
        place = "; ".join(dict.fromkeys(own)) or common
        if place:
            record["affiliation"] = Found(place, author.row, None, 0.65)
        if email:
            record["email"] = Found(email, author.row, None, 0.65)
        records.append(record)
    return records


def _zone(paragraphs: Sequence[Paragraph], start: int) -> Iterator[Strip]:
    """The lines between the title and the abstract, or the first prose."""
    count = 0
    for paragraph in paragraphs[start:]:
        if ABSTRACT.match(paragraph.text) or re.match(
            r"^(?:key\s?words|1\.?\s+introduction)", paragraph.text, re.IGNORECASE
        ):
            return
        if len(paragraph.strips) > 3 and len(paragraph.text) > 260 and not _EMAIL.search(paragraph.text):
            return
        for strip in paragraph.strips:
            count += 1
            if count > _MAX_LINES:
                return
            yield strip


def _split_zone(strips: Sequence[Strip]) -> tuple[list[Strip], list[Strip]]:
    """The lines of names, and the lines after them."""
    names: list[Strip] = []
    rest: list[Strip] = []
    for strip in strips:
        text = strip.text.strip()
        if not any(c.isalpha() for c in text):
            if names:
                rest.append(strip)
            continue
        if not rest and _has_names(strip):
            names.append(strip)
        elif names:
            rest.append(strip)
        elif _ORGANISATION.search(text) and not names and len(rest) > 3:
            break
    return names, rest


def _has_names(strip: Strip) -> bool:
    text = strip.text
    if "@" in text or find_dates(text) or _NO_AUTHOR.search(text) or text.endswith(":") or re.match(r"^\d", text):
        return False
    if _ORGANISATION.search(text) and not _MARKS.search(text.split(",")[0]):
        return False
    pieces = [piece for segment in strip.segments for piece in _SPLIT.split(segment.text) if piece.strip()]
    persons = sum(bool(_PERSON.match(_clean(piece))) for piece in pieces)
    return persons * 2 > len([piece for piece in pieces if any(c.isalpha() for c in piece)]) - 1 and persons > 0


def _clean(text: str) -> str:
    text = re.sub(r"\(\s*\)|\([^)]*\)$", "", text).strip(" ,;.()")
    return _MARKS.sub("", _DEGREES.sub("", text)).strip(" ,;")


def _authors(strips: Sequence[Strip]) -> Iterator[Author]:
    """The persons of the lines of names; one parted by a line's end is put together."""
    pieces: list[tuple[str, Row]] = []
    open_end = False
    for strip in strips:
        for position, segment in enumerate(strip.segments):
            parts = [part for part in _SPLIT.split(segment.text) if any(c.isalpha() for c in part)]
            for number, part in enumerate(parts):
                joins = position == 0 and number == 0 and open_end and pieces
                if joins and not _PERSON.match(_clean(part)):
                    pieces[-1] = (f"{pieces[-1][0]} {part}", pieces[-1][1])
                else:
                    pieces.append((part, strip.row))
        open_end = not re.search(r"(?:,|\band|[\d∗*†‡§¶])\s*$", strip.text)
    for text, row in pieces:
        cleaned = _clean(re.sub(r"^(?:and|und|et|y|by|von|par|por)\s+", "", text.strip(), flags=re.IGNORECASE))
        if _PERSON.match(cleaned) and len(cleaned) < 60:
            trailing = _MARKS.search(re.sub(r"\(\s*\)", "", text).strip(" ,;."))
            yield Author(cleaned, tuple(_MARK.findall(trailing[0])) if trailing else (), row)


def _affiliations(strips: Sequence[Strip]) -> tuple[dict[str, str], str | None]:
    """Affiliations by mark, and the one without a mark that holds for all others."""
    lines = [strip.text for strip in strips if not find_dates(strip.text)]
    text = _GROUP_EMAIL.sub(" ", " \n ".join(lines))
    text = re.sub(r"\S*@\S+", " ", text)
    parts = _AFFILIATION_MARK.split(text)
    by_mark: dict[str, str] = {}
    for mark, place in zip(parts[1::2], parts[2::2], strict=False):
        cleaned = _place(place)
        if (
            cleaned
            and mark not in by_mark
            and (_ORGANISATION.search(cleaned) or mark.isdigit())
            and "ontribut" not in cleaned
        ):
            by_mark[mark] = cleaned
    head = _place(parts[0]) if parts else ""
    common = head if head and _ORGANISATION.search(head) else None
    return by_mark, common


def _place(text: str) -> str:
    lines = [
        re.sub(r"^(?:corresponding author|correspondence|e-?mail)s?\b.*$", "", line.strip(" ,;:"), flags=re.IGNORECASE)
        for line in text.split("\n")
    ]
    joined = ", ".join(line for line in lines if any(c.isalpha() for c in line))
    return " ".join(joined.split())[:240].strip(" ,;")


def _emails(strips: Sequence[Strip]) -> list[str]:
    found: list[str] = []
    for strip in strips:
        for match in _GROUP_EMAIL.finditer(strip.text[:600]):
            found.extend(f"{name.strip()}@{match[2]}" for name in re.split(r"[,;|]", match[1]) if name.strip())
        found.extend(_EMAIL.findall(_GROUP_EMAIL.sub(" ", strip.text[:600])))
    return list(dict.fromkeys(found))


def _assign(authors: Sequence[Author], emails: Sequence[str]) -> list[str | None]:
    """The address of each author: the one whose first part is like the name."""
    left = list(emails)
    chosen: list[str | None] = []
    for author in authors:
        best = max(left, key=lambda email: _likeness(author.name, email), default=None)
        if best is not None and _likeness(author.name, best) >= 3:
            chosen.append(best)
            left.remove(best)
        else:
            chosen.append(None)
    return chosen


def _likeness(name: str, email: str) -> float:
    """How much an address looks like a name; 3 and more is telling."""
    local = re.sub(r"[^a-z]", "", fold(email.split("@")[0]))
    words = [re.sub(r"[^a-z]", "", fold(word)) for word in name.split()]
    words = [word for word in words if word]
    if not local or not words:
        return 0
    first, last = words[0], words[-1]
    score = 0.0
    if len(last) >= 3 and last in local:
        score += 3 + len(last) / 20
    if len(first) >= 3 and first in local:
        score += 3 + len(first) / 20
    if local == "".join(word[0] for word in words) or (len(local) >= 4 and local == (first[0] + last)[: len(local)]):
        score += 3
    if score and local.startswith(first[0]):
        score += 0.5
    return score
