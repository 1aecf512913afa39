"""Dates and times of day as printed: numeric in any order, with month names of several languages, compact."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ingest.local.filler.text import fold

_MONTHS = (
    "january jan januar janvier janv enero ene gennaio gen januari janeiro jaenner",
    "february feb februar fevrier fevr fev febrero febbraio februari fevereiro febr",
    "march mar marz maerz mrz mars marzo maart mrt marco",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag mei maio",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug aout agosto ago augustus agustus",
    "september sep sept septembre septiembre settembre set setiembre setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez decembre diciembre dic dicembre dezembro desember",
)
MONTH_BY_NAME = {name: month for month, names in enumerate(_MONTHS, 1) for name in names.split()}
_MONTH = r"(?P<month>[^\W\d_]{3,10})\.?"
_NUMERIC = re.compile(
    r"(?<![\d.,/-])(?P<a>\d{1,4})\s?(?P<mark>[-/.])\s?(?P<b>\d{1,2})\s?(?P=mark)\s?(?P<c>\d{4}|\d{2})"
    r"(?=$|[^\d]|\d{1,2}:\d\d)(?![-/]\d|[.,]\d)"
)
_YEAR_FIRST = re.compile(
    r"(?<![\d.,/-])(?P<a>\d{4})\s?(?P<mark>[-/.])\s?(?P<b>0?[1-9]|1[0-2])\s?(?P=mark)\s?(?P<c>0[1-9]|[12]\d|3[01]|[1-9](?!\d))(?![-/]\d)"
)
_SPACED = re.compile(r"(?<![\d.,/+-])(?<![\d.,/+-] )(?P<a>\d{1,2}) (?P<b>\d{1,2}) (?P<c>(?:19|20)\d{2})(?! ?[\d.,/-])")
_DAY_MONTH = re.compile(
    r"(?<![\d.,/-])(?P<day>\d{1,2})(?:st|nd|rd|th|er|º|ª|°|\.)?(?:[\s-]+day)?[\s,./-]*(?:(?:of|de|del|day of)\s+)?"
    + _MONTH + r"[\s,./'’-]*(?:(?:de|del)\s+)?(?P<year>\d{4}|\d{2})" + r"(?=$|\D|\d{1,2}:\d\d)",
    re.IGNORECASE,
)  # fmt: skip
_MONTH_DAY = re.compile(
    r"(?<![^\W\d_])" + _MONTH + r"[\s-]*(?P<day>\d{1,2})(?:st|nd|rd|th)?(?:\s*,\s*|\s+|\s*-\s*)(?P<year>\d{4})(?!\d)",
    re.IGNORECASE,
)
_COMPACT = re.compile(
    r"(?<![\w.,/-])(?P<year>(?:19|20)\d{2})(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?![\w.,/-])"
)
_ORDINAL_DAY_OF = re.compile(
    r"(?<!\d)(?P<day>\d{1,2})(?:st|nd|rd|th)?\s+day\s+of\s+" + _MONTH + r"[\s,]+(?P<year>\d{4})", re.IGNORECASE
)
_TIME = re.compile(
    r"(?<![\d:.])(?P<hour>[01]?\d|2[0-4])\s?(?P<mark>[:h.])\s?(?P<minute>[0-5]\d)(?:\s?[:.]\s?(?P<second>[0-5]\d))?"
    r"\s?(?P<half>[ap]\.?m\b\.?|uhr\b)?(?![\d:]|[.,]\d)",
    re.IGNORECASE,
)
_RANGE = re.compile(r"([./]\d{2}|[./]\d{4})[-–](?=\d{1,2}[./]\d{1,2}[./])")
_AFTER_YEAR = re.compile(r"(\d{4})(?=\d{1,2}:\d\d)")


@dataclass(frozen=True, slots=True)
class FoundDate:
    """A date in a text: year, month and day when the print settles their order, else both readings."""

    start: int
    end: int
    day_first: datetime.date | None
    month_first: datetime.date | None

    def resolve(self, month_first: bool) -> datetime.date:
        """The date, read month first or day first where both are possible."""
        chosen = self.month_first if month_first else self.day_first
        other = self.day_first if month_first else self.month_first
        result = chosen or other
        assert result is not None
        return result

    @property
    def is_ambiguous(self) -> bool:
        """Whether the two readings differ."""
        return self.day_first is not None and self.month_first is not None and self.day_first != self.month_first


def find_dates(text: str) -> list[FoundDate]:
    """All dates of a text from left to right, without overlaps."""
    text = text[:4000]
    if not any(character.isdigit() for character in text):
        return []
    text = _RANGE.sub(r"\1 ", text)
    found: list[FoundDate] = []
    for pattern, read in _READERS:
        for match in pattern.finditer(text):
            date = read(match)
            if date and not any(date.start < other.end and other.start < date.end for other in found):
                found.append(date)
    return sorted(found, key=lambda date: date.start)


def prefers_month_first(texts: Iterable[str], american: bool) -> bool:
    """Whether ambiguous dates are read month first: unambiguous dates with slashes or dashes decide, else the hint."""
    day_first = month_first = 0
    for text in texts:
        for match in _NUMERIC.finditer(text[:2000]):
            first, second = int(match["a"]), int(match["b"])
            if len(match["a"]) > 2 or match["mark"] == ".":
                continue
            day_first += 12 < first <= 31 and second <= 12
            month_first += 12 < second <= 31 and first <= 12
    return month_first > day_first or (american and month_first == day_first)


def find_times(text: str) -> list[tuple[int, int, str]]:
    """Times of day as (start, end, HH:MM or HH:MM:SS in 24 hours)."""
    found: list[tuple[int, int, str]] = []
    for match in _TIME.finditer(_AFTER_YEAR.sub(r"\1 ", text[:4000])):
        half = (match["half"] or "").lower().replace(".", "")
        if match["mark"] == "." and not half:
            continue
        hour = int(match["hour"])
        if half == "pm" and hour < 12:
            hour += 12
        if half == "am" and hour == 12:
            hour = 0
        if hour < 24:
            seconds = f":{match['second']}" if match["second"] else ""
            found.append((match.start(), match.end(), f"{hour:02d}:{match['minute']}{seconds}"))
    return found


def _date(year: int, month: int, day: int) -> datetime.date | None:
    if year < 100:
        year += 2000 if year < 70 else 1900
    if not 1800 <= year <= 2199:
        return None
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _read_numeric(match: re.Match[str]) -> FoundDate | None:
    first, second, third = int(match["a"]), int(match["b"]), int(match["c"])
    if len(match["a"]) == 4 or (len(match["a"]) == 2 and first > 31 and third <= 31):
        both = _date(first, second, third) if len(match["c"]) == 2 or third <= 31 else None
        return FoundDate(match.start(), match.end(), both, both) if both else None
    if len(match["a"]) == 3:
        return None
    day_first = _date(third, second, first)
    month_first = _date(third, first, second)
    if "mark" in match.groupdict() and match["mark"] == "." and day_first:
        month_first = None
    if not day_first and not month_first:
        return None
    return FoundDate(match.start(), match.end(), day_first, month_first)


def _read_named(match: re.Match[str]) -> FoundDate | None:
    month = MONTH_BY_NAME.get(fold(match["month"]))
    date = _date(int(match["year"]), month, int(match["day"])) if month else None
    return FoundDate(match.start(), match.end(), date, date) if date else None


def _read_compact(match: re.Match[str]) -> FoundDate | None:
    date = _date(int(match["year"]), int(match["month"]), int(match["day"]))
    return FoundDate(match.start(), match.end(), date, date) if date else None


_READERS = (
    (_YEAR_FIRST, _read_numeric),
    (_ORDINAL_DAY_OF, _read_named),
    (_NUMERIC, _read_numeric),
    (_DAY_MONTH, _read_named),
    (_MONTH_DAY, _read_named),
    (_SPACED, _read_numeric),
    (_COMPACT, _read_compact),
)
