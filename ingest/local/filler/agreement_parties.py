"""The parties an agreement names in its opening: name, role, address, registration number."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.local.filler.addresses import find_place, has_legal_form
from ingest.local.filler.clauses import pattern, shorten, strip_quotes, words
from ingest.local.filler.running import Running
from ingest.local.filler.view import Row

_OPENING_CHARS = 7000
_PARTIES_CHARS = 4000
_MAX_PARTIES = 12
_MAX_NAME_CHARS = 110
_OPEN, _CLOSE = "([", ")]"
_QUOTED = re.compile(
    r"[\"“„”«‟‘']\s?(?:the |der |die |das |le |la |les |l['’]|el |los |las |il "
    r"|de )?([^\"“”„«»‟’]{2,60}?)\s?[\"”“»’']",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|der|die|das|dem|den|le|la|les|l['’]|el|los|las|il|lo|de|het)\s+", re.IGNORECASE)
_LEADING = re.compile(
    r"^[\s,;:–—-]*(?:\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4})[.)]\s+)?(?:(?:and|und|et|y|e|sowie)\s+)?"
    r"(?:(?:between|among|de una parte,?|(?:y )?de otra(?: parte)?,?|on the one (?:hand|part),?|i\)|ii\)|der"
    r"|die|das|dem|den|la société|le|la|el|the company|firma)\s+)?"
    r"(?:(?:d\.|dña\.|don|doña|firma|herrn?|frau|mr\.?|mrs\.?|ms\.?|messrs\.?|m\.|mme|monsieur|madame)\s+)?(?=\S)",
    re.IGNORECASE,
)
_LEGAL_TAIL = (
    r"(?:Inc|LLC|L\.L\.C|Ltd|Limited|L\.P|LP|LLP|Corp|Corporation|Co|PLC|plc|N\.A|S\.A|S\.L|S\.A\.S|SAS|SARL"
    r"|S\.à ?r\.l|GmbH(?: & Co\. KG)?|AG|SE|KG|OHG|eG|e\.V|B\.V|N\.V|S\.p\.A|S\.r\.l|P\.C|Pty Ltd|Jr|Sr|II"
    r"|III)"
)
_BLANK = re.compile(r"^[\s_.\[\]()•●…–-]*$")
_AND = r"(?:and|und|et|y|e|sowie)"
_BOUNDARY = re.compile(
    rf"(?P<closed>[)\]”\"»]\s*[,;.]\s*(?:[–—-]\s*)?(?:{_AND}\s+)?(?=\S))"
    rf"|[,;]\s*{_AND}\s+(?:\(\d\)\s*)?(?:between\s+|par et entre\s+)?(?=\S)"
    rf"|\s+(?P<bare>{_AND})\s+(?=\S)|[;.]\s*(?=\(\d\))|[;.,]?\s*(?=\b(?:y )?de otra(?: parte)?\b)",
    re.IGNORECASE,
)
_NEXT_PARTY = re.compile(
    r"\W*(?:\(?\d\)|(?:y )?de otra\b|and\b|und\b|et\b|d['’]autre part\W+et\b|[–—-]\s*(?:im|nach))", re.IGNORECASE
)
_ON_OTHER = re.compile(
    r"^\s*(?:,|;)?\s*(?:on the (?:one|other)(?: hand| part)?|of the (?:first|second|one|other) part"
    r"|de una parte|de otra(?: parte)?|d'une part|d'autre part|einerseits|andererseits)\b,?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ContractParty:
    """A party as the opening names it; `row` is the line of the name."""

    name: str
    role: str | None
    address: str | None
    registration: str | None
    row: Row


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of an agreement as one text, lines of one paragraph joined, with the row of every place."""

    text: str
    starts: tuple[int, ...]
    rows: tuple[Row, ...]

    def row_at(self, offset: int) -> Row:
        """The row a character stands in."""
        return self.rows[max(bisect_right(self.starts, offset) - 1, 0)]


def read_opening(running: Running) -> Opening | None:
    """The first part of the document's text, or None when its first page is not there."""
    if not running.begins or not running.paragraphs:
        return None
    pieces: list[str] = []
    starts: list[int] = []
    rows: list[Row] = []
    length = 0
    for paragraph in running.paragraphs:
        if length > _OPENING_CHARS:
            break
        for start, strip in zip(paragraph.starts, paragraph.strips, strict=True):
            starts.append(length + start)
            rows.append(strip.row)
        pieces.append(paragraph.text + "\n")
        length += len(paragraph.text) + 1
    return Opening("".join(pieces), tuple(starts), tuple(rows))


def read_parties(opening: Opening) -> list[ContractParty]:
    """The parties in printed order; empty when the opening does not say who agrees with whom."""
    best: list[ContractParty] = []
    for match in list(pattern("opening", "between").finditer(opening.text))[:8]:
        if match[0].isupper() and re.match(r"[ ]*[A-Z]{2}[^a-z\n]*\n", opening.text[match.end() : match.end() + 200]):
            continue  # a title that names the parties
        found = list(_parties_from(opening, match.end()))
        if _worth(found) > _worth(best):
            best = found
        if len(best) >= 2 and best[0].role:
            break
    return best or list(_defined_parties(opening))


def _worth(parties: Sequence[ContractParty]) -> int:
    """How much a reading of the opening tells: parties with a role or description count more."""
    return sum(2 + bool(party.role) + bool(party.address) for party in parties)


def _parties_from(opening: Opening, start: int) -> Iterator[ContractParty]:
    text = opening.text[start : start + _PARTIES_CHARS]
    text = text[: _end_of_parties(text)]
    seen: set[str] = set()
    pieces = list(_pieces(text, False))
    if len(pieces) < 2:
        pieces = list(_pieces(text, True))
    for offset, piece in pieces:
        party = _party(opening, start + offset, piece)
        if party and party.name.casefold() not in seen and len(seen) < _MAX_PARTIES:
            seen.add(party.name.casefold())
            yield party


@lru_cache(maxsize=1)
def _until() -> re.Pattern[str]:
    return re.compile("|".join(words()["opening"]["until"]), re.IGNORECASE | re.MULTILINE)


def _end_of_parties(text: str) -> int:
    """Where the naming of the parties ends: at what follows it, or at a full stop outside brackets."""
    depth = 0
    end = len(text)
    for match in _until().finditer(text):
        if not _inside_brackets(text, match.start()) or match[0].startswith("("):
            end = match.start()
            break
    for index, character in enumerate(text[:end]):
        depth = depth + 1 if character in _OPEN else max(depth - 1, 0) if character in _CLOSE else depth
        if character == "." and depth == 0 and re.match(r"\.\s+[A-Z0-9]|\.\s*\n", text[index : index + 4]):
            before = text[max(0, index - 12) : index]
            if re.search(r"[)\]”»\"]$|\d{4,5}$", before) and not _NEXT_PARTY.match(text[index + 1 : index + 40]):
                return index
    return end


def _inside_brackets(text: str, place: int) -> bool:
    before = text[max(0, place - 400) : place]
    return sum(before.count(c) for c in _OPEN) > sum(before.count(c) for c in _CLOSE)


def _pieces(text: str, is_lenient: bool) -> Iterator[tuple[int, str]]:
    """The text cut where one party ends and the next begins, as (offset, piece)."""
    depths = _depths(text)
    start = 0
    for match in _BOUNDARY.finditer(text):
        place = match.start() + (1 if match["closed"] else 0)
        if depths[place] > 0 or not _begins_party(text[match.end() : match.end() + 200]):
            continue
        if not _ends_party(text[start:place], bool(match["bare"]) and not is_lenient):
            continue
        yield start, text[start:place]
        start = match.end()
    yield start, text[start:]


def _depths(text: str) -> list[int]:
    """For each place how many brackets are open before it."""
    depths = [0]
    for character in text:
        step = 1 if character in _OPEN else -1 if character in _CLOSE else 0
        depths.append(max(depths[-1] + step, 0))
    return depths


def _ends_party(piece: str, needs_more: bool) -> bool:
    """Whether a piece holds a whole party: a name with a definition, a description or a legal form.

    `needs_more` when a bare `and` follows, which may stand within a name.
    """
    stripped = _ON_OTHER.sub("", piece).strip(" ,;")
    if not stripped:
        return False
    if needs_more:
        return bool(re.search(r"[)\]”»\"]$", stripped)) or has_legal_form("x " + " ".join(stripped.split()[-3:]))
    is_described = bool(re.search(r"[)\]”»\"]|,\s", stripped)) or has_legal_form(stripped[:160])
    return is_described or 0 < len(stripped.split()) <= 6


def _begins_party(rest: str) -> bool:
    """Whether what follows can be a party's name rather than more words about the one before."""
    rest = _ON_OTHER.sub("", rest).lstrip(" ,;(")
    first = rest[:1]
    if _BLANK.match(rest[:6]) and rest[:6].strip():
        return True
    lowered = rest[:40].lower()
    if lowered.startswith(
        (
            "der ",
            "die ",
            "dem ",
            "den ",
            "la ",
            "le ",
            "el ",
            "the ",
            "l'",
            "l’",
            "d.",
            "dña",
            "don ",
            "firma ",
            "m. ",
            "mme ",
        )
    ):
        return bool(re.match(r"(?:\S+\s+){1,3}?[A-ZÀ-Þ0-9]", rest)) and not re.match(
            r"the\s+part(?:y|ies)|die parteien", rest, re.IGNORECASE
        )
    word = rest.split(maxsplit=1)[0] if rest.split() else ""
    return first.isupper() or first.isdigit() or "." in word[:-1] or any(c.isupper() for c in word)


def _party(opening: Opening, offset: int, piece: str) -> ContractParty | None:
    match = _LEADING.match(piece)
    if match:
        offset += match.end()
        piece = piece[match.end() :]
    name, rest = _split_name(piece)
    if not _is_party_name(name):
        return None
    return ContractParty(name, _role(rest), _address(rest), _registration(rest), opening.row_at(offset))


@lru_cache(maxsize=1)
def _after_name() -> re.Pattern[str]:
    following = "|".join(words()["opening"]["after_name"])
    return re.compile(
        rf"\s*[,–—-]?\s*[(\[]|\s*[,–—]\s+(?:{following})|\s+(?:incorporated|registered|whose|residing|who)\b|\s*\n"
        rf"|,\s+(?=\d)|\s*[,;]?\s*[\"“„]|\s+[–—-]\s+|;",
        re.IGNORECASE,
    )


def _split_name(piece: str) -> tuple[str, str]:
    """The name at the beginning of a piece, and what the piece says about the party."""
    match = _after_name().search(piece)
    end = match.start() if match else len(piece)
    name = piece[:end]
    if "," in name:
        head, *tail = name.split(",")
        kept = [head]
        for part in tail:
            if not re.match(rf"\s*{_LEGAL_TAIL}\b\.?", part, re.IGNORECASE):
                break
            kept.append(part)
        end = len(",".join(kept))
    return strip_name(piece[:end]), piece[end:]


def strip_name(text: str) -> str:
    """A party's name without what surrounds it; the full stop of an abbreviation stays."""
    text = " ".join(text.split()).strip(' ,;:"“”„«»–—-*_')
    return (
        text[:-1]
        if text.endswith(".") and not re.search(rf"(?:\b{_LEGAL_TAIL}|\b[A-Z])\.$", text, re.IGNORECASE)
        else text
    )


def _is_party_name(name: str) -> bool:
    letters = [character for character in name if character.isalpha()]
    if len(letters) < 3 or len(name) > _MAX_NAME_CHARS or len(name.split()) > 14 or _BLANK.match(name) or "__" in name:
        return False
    if re.match(r"\d{1,2}[.)]\s|\(", name):
        return False
    if re.match(
        r"(?:the )?(?:[Uu]ndersigned|[Pp]art(?:y|ies)|PART(?:Y|IES)|following|[Dd]ate|[Ee]ffective|and|us|it|them"
        r"|you)\b",
        name,
    ):
        return False
    first = name.split()[0]
    return any(c.isupper() for c in first) or first[0].isdigit() or has_legal_form(name) or "." in first[:-1]


@lru_cache(maxsize=1)
def _named_after() -> re.Pattern[str]:
    introductions = "|".join(words()["opening"]["defined"])
    return re.compile(
        rf"(?:{introductions})\s*[\"“„«']?\s*(?:the |der |die |das |le |la |l['’]|el |los |las "
        rf"|il )?(?P<role>[A-ZÀ-Þ][\w'’ -]{{1,40}}?)\s*[\"”“»']?\s*(?:genannt|bezeichnet|[,;.)\]\n–-]|$)",
        re.IGNORECASE,
    )


def _role(rest: str) -> str | None:
    """What the agreement calls the party: the first defined term that is no word for all parties."""
    unwanted = pattern("opening", "no_role")
    for match in _QUOTED.finditer(rest[:1500]):
        role = _ARTICLE.sub("", strip_quotes(match[1]))
        if role[:1].isupper() and not unwanted.search(role) and len(role.split()) <= 5:
            return role
    named = _named_after().search(rest[:1500])
    if named and named["role"][:1].isupper():
        role = strip_quotes(named["role"])
        return None if unwanted.search(role) else role
    dashed = re.search(r"[–—-]\s*([A-ZÀ-Þ][\wÀ-ÿ]{3,30})\s*[–—-]", rest[:600])
    return dashed[1] if dashed else None


@lru_cache(maxsize=1)
def _address_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    opening = words()["opening"]
    return (
        re.compile(rf"(?:{'|'.join(opening['address'])})\s+(?P<address>\S.{{4,220}})", re.IGNORECASE | re.DOTALL),
        re.compile(
            rf"{'|'.join(opening['address_end'])}|[(\[;]|,?\s+and\s+(?=[a-z])|(?<!Inc)(?<!Ltd)(?<!Co)(?<!No)\.\s",
            re.IGNORECASE,
        ),
    )


def _address(rest: str) -> str | None:
    introduced, end = _address_patterns()
    text = " ".join(rest[:1200].split())
    match = introduced.search(text)
    address = ""
    if match:
        address = match["address"]
        closing = end.search(address, 3)
        address = address[: closing.start()] if closing else address
    elif find_place(text.lstrip(" ,")[:150].split("(")[0]) or re.match(
        r"^[\s,]*[^(]{4,70},\s*\d{4,5}\s+[A-ZÀ-Þ]", text
    ):
        address = text.lstrip(" ,")
        closing = end.search(address)
        address = address[: closing.start()] if closing else address
    address = re.split(r"\s*\b(?:on the (?:one|other) hand|collectively)\b", address)[0].strip(" ,;:–-")
    return shorten(address, 200) if len(address) >= 6 and any(c.isalpha() for c in address) else None


def _registration(rest: str) -> str | None:
    match = pattern("opening", "registration").search(" ".join(rest[:1200].split()))
    if not match:
        return None
    return next((group.strip() for group in match.groups() if group), match[0].strip())


def _defined_parties(opening: Opening) -> Iterator[ContractParty]:
    """Parties of an opening without `between`: names with a legal form and a defined term right after them."""
    form = re.compile(
        rf"(?P<name>(?:[A-Z][\w&.'’-]*,? ){{1,7}}{_LEGAL_TAIL}\b\.?)\s*\((?=[^)]{{0,30}}[\"“„«])", re.MULTILINE
    )
    for match in list(form.finditer(opening.text[:2500]))[:4]:
        name = strip_name(match["name"])
        if _is_party_name(name):
            rest = opening.text[match.end() - 1 : match.end() + 400]
            yield ContractParty(
                name, _role(rest[: rest.find(")") + 1] or rest), None, None, opening.row_at(match.start())
            )


def party_of(text: str, parties: Sequence[ContractParty]) -> ContractParty | None:
    """The party a text names, by its name or its role."""
    folded = re.sub(r"[^\w]+", "", text).casefold()
    for party in parties:
        for form in (party.name, party.role or ""):
            key = re.sub(r"[^\w]+", "", form).casefold()
            if len(key) >= 4 and (key in folded or (len(folded) >= 6 and folded in key)):
                return party
    return None
