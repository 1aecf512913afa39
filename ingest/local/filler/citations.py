"""The works a text cites: its list of references cut into entries, each entry into authors, title, venue, year."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.local.filler.columns import Strip
from ingest.local.filler.found import Found
from ingest.local.filler.papers import Paper
from ingest.local.filler.running import is_heading_line
from ingest.local.filler.view import Row

_MAX_ENTRIES = 400
_MAX_ENTRY_CHARS = 1500
_LABEL = re.compile(r"^(?:\[(?P<square>[\w+.-]{1,12})\]|(?P<plain>\d{1,3})\s?[.)](?=\s))\s*(?=\S)")
_BARE_LABEL = re.compile(r"^(?:\[[\w+.-]{1,12}\]|\d{1,3}[.)])$")
_YEAR_IN_BRACKETS = re.compile(r"[(\[]\s?((?:1[6-9]|20)\d\d)[a-z]?(?:,\s[A-Z][a-z]+(?:\s\d{1,2})?)?\s?[)\]]")
_YEAR = re.compile(r"(?<![\d:./–-])((?:1[6-9]|20)\d\d)[a-z]?(?![\d/–-]|\.\d)")
_DOI = re.compile(r"\b(10\.\d{4,9}/[^\s\"<>{}|]{2,120})")
_LINK = re.compile(
    r"(?:\b(?:URL|doi|available (?:at|from)|https?)\s*:?\s*|https?://)\S*(?:\s?10\.\d{4,9}/\S+|\S*)", re.IGNORECASE
)
_QUOTED = re.compile(r"[\"“„‟«]\s?(?P<title>[^\"“”„«»]{6,300}?)[,.?!]?\s?[\"”“»]")
# A full stop that ends a part: after a word of letters that is no initial and no abbreviation.
_STOP = re.compile(r"(?:(?<=[^\W\d_]{2})|(?<=[)\]’”0-9]))[.?!]+(?:\s+(?=[A-ZÀ-Þ0-9“\"(])|$)")
_ABBREVIATED = re.compile(
    r"(?:\b(?:[A-Z]|Jr|Sr|St|vol|no|pp|eds?|al|cf|vs|Dr|Mr|Proc|Conf|Int|Trans|Univ|Inc|Ltd|Tech|Rep|In)"
    r"|\bet al)$"
)
_FULL_NAMES = re.compile(r"^(?:[A-ZÀ-Þ][\w'’.-]*\s?){1,5}(?:,|\sand\s|\s&\s|$)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the list as one text, its mark without brackets, and its first row."""

    label: str | None
    text: str
    row: Row


def read_references(paper: Paper) -> list[dict[str, Found]]:
    """One record per work cited: label, authors, title, venue, year, doi; in printed order."""
    return [_record(entry) for entry in _entries(paper)]


def _entries(paper: Paper) -> Iterator[Entry]:
    strips = _strips(paper)
    if not strips:
        return
    is_labelled = sum(bool(_LABEL.match(strip.text)) for strip in strips[:40]) >= min(2, len(strips))
    groups: list[list[Strip]] = []
    for strip in strips:
        starts = _LABEL.match(strip.text) if is_labelled else (not groups or _begins_entry(strip, groups[-1]))
        if starts:
            if len(groups) >= _MAX_ENTRIES:
                break
            groups.append([strip])
        elif groups:
            groups[-1].append(strip)
    for group in groups:
        text = _join(group)[:_MAX_ENTRY_CHARS]
        match = _LABEL.match(text)
        label = (match["square"] or match["plain"]) if match else None
        body = text[match.end() :] if match else text
        if len(body) > 15:
            yield Entry(label, body, group[0].row)


def _strips(paper: Paper) -> list[Strip]:
    """The lines of the list of references, up to an appendix."""
    start = paper.references_start
    if start is None:
        return []
    strips: list[Strip] = []
    for paragraph in paper.running.paragraphs[start:]:
        first = paragraph.strips[0]
        if is_heading_line(first) and not _LABEL.match(first.text) and len(strips) > 3 and len(paragraph.text) < 90:
            break
        if (
            re.match(
                r"^(?:appendix|appendices|anhang|annexe?s?|anexos?|supplementary|[A-H]\.?\s+[A-Z][a-z]+\s?)\b",
                paragraph.text,
                re.IGNORECASE,
            )
            and len(paragraph.text) < 80
            and len(strips) > 3
        ):
            break
        strips.extend(paragraph.strips)
        if len(strips) > 8 * _MAX_ENTRIES:
            break
    return strips


def _begins_entry(strip: Strip, group: Sequence[Strip]) -> bool:
    """Whether a line without label begins an entry: at the column's edge, or after a full stop and a gap."""
    above = group[-1]
    char = strip.row.page.char_width
    if strip.column != above.column:
        return (
            strip.x0 - strip.left < 1.2 * char
            and bool(re.search(r"[.)\]]$|\d$", above.text))
            and strip.text[:1].isupper()
        )
    hangs = above.x0 - strip.x0 > 1.2 * char and strip.x0 - strip.left < 1.2 * char
    level = abs(above.x0 - strip.x0) <= 1.2 * char
    ended = bool(re.search(r"\.[”\"]?$|\d$", above.text))
    dated = len(group) >= 1 and bool(_YEAR.search(" ".join(s.text for s in group[-4:])))
    return strip.text[:1].isupper() and (
        hangs
        or (level and ended and dated and (strip.gap > 0.5 or above.x1 < above.left + 0.8 * (above.right - above.left)))
    )


def _join(strips: Sequence[Strip]) -> str:
    text = ""
    for strip in strips:
        if text.endswith("-") and strip.text[:1].islower() and text[-2:-1].isalpha():
            text = text[:-1] + strip.text
        else:
            text = f"{text} {strip.text}" if text else strip.text
    return " ".join(text.split())


def _record(entry: Entry) -> dict[str, Found]:
    record: dict[str, Found] = {}

    def put(key: str, value: str | float | None, confidence: float) -> None:
        if value:
            record[key] = Found(value, entry.row, None, confidence)

    doi = _DOI.search(entry.text)
    year = _year_of(entry.text)
    authors, title, venue = _split(_LINK.sub(" ", entry.text) if doi or "http" in entry.text.lower() else entry.text)
    put("label", entry.label, 0.85)
    put("authors", authors, 0.65)
    put("title", title, 0.65)
    put("venue", venue, 0.55)
    put("year", float(year) if year else None, 0.75)
    put("doi", doi[1].rstrip(".,;:)]}") if doi else None, 0.85)
    put("text", entry.text, 0.8)
    return record


def _year_of(text: str) -> str | None:
    bracketed = _YEAR_IN_BRACKETS.search(text)
    if bracketed:
        return bracketed[1]
    plain = _YEAR.findall(_DOI.sub(" ", _LINK.sub(" ", text)))
    return plain[-1] if plain else None


def _split(text: str) -> tuple[str | None, str | None, str | None]:
    """Authors, title and venue of an entry, by the shapes lists of references have."""
    text = " ".join(text.split())
    quoted = _QUOTED.search(text)
    if quoted and quoted.start() > 3:
        return _authors(text[: quoted.start()]), quoted["title"].strip(" ,."), _venue(text[quoted.end() :])
    dated = re.match(
        r"^(?P<authors>.{3,400}?)[.,]?\s*[(\[](?:1[6-9]"
        r"|20)\d\d[a-z]?(?:,[^)\]]{1,20})?[)\]]\s*[.,:]?\s*(?P<rest>.{4,})$",
        text,
    )
    if dated and len(_parts(dated["authors"])) == 1 and ":" not in dated["authors"]:
        parts = _parts(dated["rest"])
        return _authors(dated["authors"]), parts[0].strip(" .,") or None, _venue(" ".join(parts[1:]))
    colon = re.match(r"^(?P<authors>[^:]{3,300}?[^:\d\s]):\s+(?P<rest>[A-ZÀ-Þ0-9].{4,})$", text)
    if (
        colon
        and re.search(r"\b[A-Z]\.", colon["authors"])
        and not _STOP.search(re.sub(r"\b[A-Z]\.", "", colon["authors"]) + " X")
    ):
        parts = _parts(colon["rest"])
        return _authors(colon["authors"]), parts[0].strip(" .,"), _venue(" ".join(parts[1:]))
    parts = _parts(text)
    if len(parts) >= 3 and re.fullmatch(r"[(\[]?(?:1[6-9]|20)\d\d[a-z]?[)\]]?\.?", parts[1].strip()):
        return _authors(parts[0]), parts[2].strip(" .,"), _venue(" ".join(parts[3:]))
    if len(parts) >= 2:
        parts[1] = re.sub(r"^(?:1[6-9]|20)\d\d[a-z]?\.\s+", "", parts[1])
        return _authors(parts[0]), parts[1].strip(" .,"), _venue(" ".join(parts[2:]))
    return None, text.strip(" .,")[:300] or None, None


def _parts(text: str) -> list[str]:
    """The parts of an entry between full stops that are no abbreviations; question and exclamation marks are kept."""
    parts: list[str] = []
    start = 0
    for match in _STOP.finditer(text):
        if match[0][0] == "." and _ABBREVIATED.search(text[max(0, match.start() - 8) : match.start()]):
            continue
        kept = match.start() + 1 if match[0][0] in "?!" else match.start()
        if text[start:kept].strip():
            parts.append(text[start:kept].strip())
        start = match.end()
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts or [text]


def _authors(text: str) -> str | None:
    cleaned = re.sub(r"[.,]\s*(?:1[6-9]|20)\d\d[a-z]?$", "", text.strip(" ,;:.")).strip(" ,;:.")
    cleaned = re.sub(r",?\s+and$", "", cleaned)
    if not 2 < len(cleaned) < 600 or not any(c.isalpha() for c in cleaned):
        return None
    return cleaned + "." if re.search(r"\b[A-Z]$", cleaned) else cleaned


def _venue(text: str) -> str | None:
    cleaned = _YEAR_IN_BRACKETS.sub(" ", text)
    cleaned = re.sub(r"^\W*In:?\s+", "", cleaned)
    cleaned = re.sub(r"[,.\s]*\b(?:1[6-9]|20)\d\d[a-z]?\.?\s*$", "", cleaned.strip(" .,;"))
    cleaned = " ".join(cleaned.split()).strip(" ,.;:")
    return cleaned[:300] if sum(c.isalpha() for c in cleaned) >= 3 else None
