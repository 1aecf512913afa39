"""What a line of an address block is: a street, a town with its postal code, a country, a contact, a name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from ingest.local.filler.dates import find_dates
from ingest.local.filler.text import squash

# Postal code and town in the orders and shapes of Europe, North America, India and South-East Asia.
_POSTCODE_CITY = re.compile(
    r"(?:^|[,;|]\s*|[-–•·●]\s+|\s)"
    r"(?P<code>(?:[A-Z]{1,3}[- ])?(?:\d{5}(?:-\d{4})?|\d{4} ?[A-Z]{2}|\d{4}|\d{3} \d{2}|\d{2}-\d{3}))[ ,]+"
    r"(?P<city>[^\W\d_][^\d,;|]{1,40})"
)
_CITY_STATE_ZIP = re.compile(
    r"(?P<city>[^\W\d_][^\d,]{1,30}),?\s+(?P<state>[A-Z]{2})\.?,?\s+(?P<code>\d{5}(?:-\d{4})?)\b"
)
_UK_CODE = re.compile(r"\b(?P<code>[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})\b")
_EIRCODE = re.compile(r"\b(?P<code>[A-Z]\d[\dW] ?[A-Z\d]{4})\b")
_CANADA_CODE = re.compile(r"\b(?P<code>[A-Z]\d[A-Z] ?\d[A-Z]\d)\b")
_CITY_CODE = re.compile(r"(?P<city>[^\W\d_][^\d,;:()#]{2,30}?)[\s,]*[-–]?\s?(?P<code>\d{6}|\d{3} \d{3})\b(?![-/.\d])")
_HOUSE_LAST = re.compile(r"^[^\W\d_][^\d:]{2,45}\s\d{1,4}(?:\s?[-/]\s?\d{1,4})?\s?[a-zA-Z]?$")
_HOUSE_FIRST = re.compile(r"^(?:no\.?\s*|lot\.?\s*|#)?\d{1,5}[\w/&.-]*\s?(?:bis|ter)?,?\s+[^\W\d_].{2,}", re.IGNORECASE)
_HOUSE_AND_NAME = re.compile(r"^\d{1,4}[A-Za-z]?,? (?:[A-ZÀ-Ý][\w'’.-]+ ?){1,4}$")
_CONTACT_SIGN = re.compile(r"@|www\.|https?:|\+\d{2}|[☎✆✉📞]|\(?0\d{1,4}\)?[ /-]\d{3}")
# Street words that OCR runs together with the street's name.
_GLUED_STREETS = ("jalan", "jln", "lorong", "calle", "avenida")
_ADDRESS_PARTS = re.compile(r"\s+[-–—|]\s+|\s*[·•●∙▪]\s*|\s{2,}")
_WORDS = re.compile(r"[^\W_]+(?:[./'-][^\W_]+)*\.?")
_REG_NO = re.compile(
    r"^\(?\s*(?:co\.?\s*)?(?:reg\.?\s*)?(?:no\.?\s*)?:?\s*\(?\s*(?:[A-Z]{0,3}\d{5,12}|\d{1,3}(?:,\d{3}){1,2})\s*-?\s*[A-Z]{0,2}\s*\)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PlaceParts:
    """Postal code, town and state of a line."""

    code: str
    city: str
    state: str | None
    start: int


@dataclass(frozen=True, slots=True)
class _Lists:
    roles: dict[str, str]
    street: frozenset[str]
    countries: frozenset[str]
    legal: frozenset[str]
    business: frozenset[str]
    contact: frozenset[str]
    titles: frozenset[str]
    name_labels: frozenset[str]
    address_labels: frozenset[str]
    greetings: frozenset[str]


@lru_cache(maxsize=1)
def _lists() -> _Lists:
    table = tomllib.loads(
        resources.files("ingest.local.filler.vocabulary").joinpath("parties.toml").read_text(encoding="utf-8")
    )
    roles: dict[str, str] = {}
    for role, labels in table["roles"].items():
        for label in labels:
            roles.setdefault(squash(label), role)
    words = {
        name: frozenset(map(squash, listed)) for name, listed in (*table["address"].items(), *table["details"].items())
    }
    return _Lists(
        roles,
        street=words["street"],
        countries=words["countries"],
        legal=words["legal"],
        business=words["business"],
        contact=words["contact"],
        titles=frozenset(map(squash, table["titles"])),
        name_labels=words["name"],
        address_labels=words["address"],
        greetings=words["greeting"],
    )


def is_title(text: str) -> bool:
    """Whether a line says what the document is rather than who issued it."""
    return squash(text) in _lists().titles


def is_name_label(text: str) -> bool:
    """Whether a label inside a block announces the party's name."""
    return squash(text) in _lists().name_labels


def is_address_label(text: str) -> bool:
    """Whether a label inside a block announces the address."""
    return squash(text) in _lists().address_labels


def role_of_label(text: str) -> str | None:
    """The role a heading such as `Bill To:` gives to the lines below it."""
    return _lists().roles.get(squash(text)) if len(text) <= 48 else None


def find_place(text: str) -> PlaceParts | None:
    """Postal code and town of a line, or None. A line must not be a date or a long sentence."""
    text = text.strip()
    if not 5 <= len(text) <= 160 or not any(c.isdigit() for c in text) or find_dates(text):
        return None
    for pattern in (_CITY_STATE_ZIP, _POSTCODE_CITY, _UK_CODE, _CANADA_CODE, _EIRCODE, _CITY_CODE):
        match = pattern.search(text)
        if not match or len(text.split()) > 18:
            continue
        groups = match.groupdict()
        city = (groups.get("city") or text[: match.start()].split(",")[-1]).strip(" ,.-–")
        if pattern is _POSTCODE_CITY and not _is_town(groups["code"], city, text, match.start("code")):
            continue
        return PlaceParts(
            groups["code"].strip(),
            city,
            groups.get("state"),
            match.start("code" if pattern is not _CITY_CODE else "city"),
        )
    return None


def _is_town(code: str, city: str, text: str, start: int) -> bool:
    """Whether what follows the digits is a town: capitalised, and no street word after a mere house number."""
    if not city[:1].isupper():
        return False
    if re.fullmatch(r"\d{4}", code):
        first = squash(city.split()[0])
        words = [squash(word) for word in _WORDS.findall(city)]
        return (
            first not in _lists().street
            and not any(w in _lists().street for w in words[1:])
            and start <= 6
            and len(city) >= 3
        )
    return squash(city.split()[0]) not in {"jalan", "jln", "rue", "street", "calle"}


def is_street(text: str) -> bool:
    """Whether a line names a street, a building or a post box."""
    if len(text) > 110 or find_dates(text):
        return False
    words = [squash(word) for word in _WORDS.findall(text)]
    known = _lists().street
    has_street_word = any(
        word in known
        or (
            word.endswith(("strasse", "str", "straat", "weg", "gasse", "platz", "allee", "laan", "gracht"))
            and len(word) > 5
        )
        for word in words
    )
    has_digit = any(c.isdigit() for c in text)
    if has_street_word and has_digit:
        return True
    if _HOUSE_AND_NAME.match(text) and not has_business_word(text) and not has_legal_form(text):
        return True
    if _HOUSE_LAST.match(text) and not has_business_word(text) and not has_legal_form(text):
        return True
    return (any(word.startswith(_GLUED_STREETS) for word in words) and has_digit) or (
        bool(_HOUSE_FIRST.match(text)) and has_street_word
    )


def has_street_word(text: str) -> bool:
    """Whether a line has a word that names streets, quarters or buildings."""
    return any(squash(word) in _lists().street for word in _WORDS.findall(text))


def is_country(text: str) -> bool:
    """Whether a line is a country's name, perhaps in two languages."""
    return all(squash(part) in _lists().countries for part in re.split(r"[/|]", text)) and bool(squash(text))


def is_contact(text: str) -> bool:
    """Whether a line tells how to get in touch or a registration: phone, mail, bank, tax number."""
    words = [squash(word) for word in _WORDS.findall(text)[:3]]
    return (
        bool(_CONTACT_SIGN.search(text)) or any(word in _lists().contact for word in words[:2]) or is_registration(text)
    )


def is_registration(text: str) -> bool:
    """Whether a line is nothing but a registration number, such as (867388-U)."""
    return bool(_REG_NO.match(text.strip()))


def has_legal_form(text: str) -> bool:
    """Whether a line carries a company's legal form."""
    words = [squash(word) for word in _WORDS.findall(text)]
    known = _lists().legal
    return any(word in known for word in words[1:]) or any(
        "".join(words[i : i + 2]) in known for i in range(1, len(words))
    )


def has_business_word(text: str) -> bool:
    """Whether a line carries a word for a kind of business."""
    return any(squash(word) in _lists().business for word in _WORDS.findall(text))


def is_name_like(text: str) -> bool:
    """Whether a line could be a name: mostly letters, not long, no sentence."""
    letters = sum(character.isalpha() for character in text)
    digits = sum(character.isdigit() for character in text)
    return (
        letters >= 3
        and digits <= max(3, letters // 3)
        and len(text) <= 70
        and len(text.split()) <= 9
        and not text.endswith(":")
    )


def join_lines(lines: Sequence[str]) -> str:
    """Lines of an address in one line, parted by commas."""
    parts = [line.strip().strip(",;|").strip() for line in lines]
    return ", ".join(part for part in parts if part)


def looks_upper(text: str) -> bool:
    """Whether a line is in capitals."""
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and sum(character.isupper() for character in letters) >= 0.8 * len(letters)


_TRAILING_REGISTRATION = re.compile(
    r"\s*[(\[]?\s*(?:[A-Z]{2})?\d{4,7}\s*-\s*[A-Z]\s*[)\]]?\.?$|\s*[(\[]\s*(?:co\.?\s*)?(?:reg\.?\s*)?(?:no\.?)?\s*:?\s*[A-Z]{0,2}\d{4,12}\s*-?[A-Z]?\s*[)\]]$",
    re.IGNORECASE,
)


def clean_name(text: str) -> str:
    """A name without the registration number printed after it."""
    return _TRAILING_REGISTRATION.sub("", text.strip(" ,;")).strip(" ,;") or text.strip()


def split_address(text: str) -> list[str]:
    """The parts of an address printed in one line with dashes, dots or wide spaces between."""
    return [part.strip(" ,") for part in _ADDRESS_PARTS.split(text) if part.strip(" ,")]


def is_address(text: str) -> bool:
    """Whether a line holds a street, a town or a country."""
    return any(find_place(part) or is_street(part) or is_country(part) for part in split_address(text))


def is_greeting(text: str) -> bool:
    """Whether a line is a title such as `Herrn` or `Mr`."""
    return squash(text) in _lists().greetings
