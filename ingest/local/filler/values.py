"""Reading a value of a given kind out of the text beside a label."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ingest.local.filler import codes
from ingest.local.filler.dates import find_dates, find_times
from ingest.local.filler.numbers import CODES, SYMBOLS, Number, find_numbers
from ingest.local.filler.view import View

_LEADING = re.compile(r"^[\s:#.\-–=|*]+(?=\S)")
# A bare number among this many letters is part of a sentence rather than an amount.
_FOREIGN_LETTERS = 5


@dataclass(frozen=True, slots=True)
class Value:
    """A value read from print: as data, as printed, and how well it fits its kind (0..1)."""

    data: str | float
    printed: str
    fit: float = 1.0
    is_money: bool = False


def read(kind: str, text: str, view: View) -> Value | None:
    """The value of this kind at or near the beginning of a text, or None. Unknown kinds are read as text."""
    text = text.strip()
    if not text or len(text) > 4000:
        return None
    return _READERS.get(kind, _read_text)(text, view)


def pick_amount(text: str, view: View) -> Number | None:
    """The amount of a row: the last that is printed as money, else the last number that is no percentage."""
    numbers = [number for number in find_numbers(text, view.decimal) if not number.is_percent]
    money = [number for number in numbers if number.is_money]
    return money[-1] if money else numbers[-1] if numbers else None


def clean_text(text: str) -> str:
    """A text without the punctuation that parts it from its label."""
    return _LEADING.sub("", text.strip()).strip().rstrip("|").strip()


def _read_amount(text: str, view: View) -> Value | None:
    dates = find_dates(text)
    for date in dates:
        text = text[: date.start] + " " * (date.end - date.start) + text[date.end :]
    number = pick_amount(text, view)
    if not number:
        return None
    rest = text[: number.start] + text[number.end :]
    letters = sum(character.isalpha() for character in rest)
    if not number.is_money and letters >= _FOREIGN_LETTERS:
        return None
    fit = 1.0 if number.is_money else 0.4
    return Value(number.value, text[number.start : number.end].strip(), fit - min(0.3, letters * 0.01), number.is_money)


def _read_number(text: str, view: View) -> Value | None:
    numbers = find_numbers(text, view.decimal)
    if not numbers:
        return None
    first = numbers[0]
    return Value(first.value, text[first.start : first.end].strip(), 1.0 if first.start < 4 else 0.6)


def _read_percent(text: str, view: View) -> Value | None:
    numbers = find_numbers(text, view.decimal)
    percents = [number for number in numbers if number.is_percent] or [n for n in numbers if 0 <= n.value <= 100]
    return Value(percents[0].value, text[percents[0].start : percents[0].end]) if percents else None


def _read_date(text: str, view: View) -> Value | None:
    found = find_dates(text)
    if not found:
        return None
    first = found[0]
    fit = 1.0 if first.start <= 6 else 0.8 if first.start < 30 else 0.5
    return Value(first.resolve(view.month_first).isoformat(), text[first.start : first.end].strip(), fit)


def _read_time(text: str, view: View) -> Value | None:
    dates = find_dates(text)
    times = find_times(text)
    for start, end, value in times:
        if not any(start < date.end and date.start < end for date in dates):
            return Value(value[:5], text[start:end].strip())
    return None


def _read_id(text: str, view: View) -> Value | None:
    dates = find_dates(text[:40])
    found = codes.find_id(text)
    if not found or (dates and dates[0].start < 4 and len(found) <= dates[0].end):
        return None
    return Value(found, found, 1.0 if sum(c.isdigit() for c in found) >= 3 else 0.8)


def _read_currency(text: str, view: View) -> Value | None:
    for word in text.split()[:4]:
        word = word.strip("()[],;:")
        if word in CODES:
            return Value(word, word)
        if word in SYMBOLS:
            return Value(SYMBOLS[word], word)
    return None


def _read_text(text: str, view: View) -> Value | None:
    cleaned = clean_text(text)
    if not any(character.isalnum() for character in cleaned):
        return None
    return Value(cleaned, cleaned)


def _read_code(find: Callable[[str], str | None]) -> Callable[[str, View], Value | None]:
    def read_code(text: str, view: View) -> Value | None:
        found = find(text)
        return Value(found, found) if found else None

    return read_code


_READERS: dict[str, Callable[[str, View], Value | None]] = {
    "amount": _read_amount,
    "number": _read_number,
    "percent": _read_percent,
    "date": _read_date,
    "time": _read_time,
    "id": _read_id,
    "currency": _read_currency,
    "iban": _read_code(lambda text: codes.find_iban(text, labelled=True)),
    "bic": _read_code(codes.find_bic),
    "tax_id": _read_code(codes.find_tax_id),
    "email": _read_code(codes.find_email),
    "phone": _read_code(codes.find_phone),
    "url": _read_code(codes.find_url),
    "text": _read_text,
}
