"""Numbers, dates and words as people write them: the readings of a printed text, and forms that compare equal.

Merging asks whether two chunks say the same, grounding whether a page says what the data says, evaluation whether
an answer is the truth. All three mean the same by "the same", so it is written once, here.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import unicodedata
from collections.abc import Hashable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from ingest.types import Json

# Longer texts are prose; reading them as a number or a date would only cost time.
_MAX_VALUE_CHARS: Final = 48

# ISO 4217 codes by the signs that are printed for them. A sign shared by several currencies stands under each.
CURRENCY_SIGNS: Final[dict[str, tuple[str, ...]]] = {
    "EUR": ("€",),
    "USD": ("$", "us$"),
    "GBP": ("£",),
    "JPY": ("¥", "円"),
    "CNY": ("¥", "元", "rmb"),
    "INR": ("₹", "rs", "rs."),
    "MYR": ("rm",),
    "CHF": ("fr.", "sfr.", "sfr"),
    "KRW": ("₩", "원"),
    "RUB": ("₽",),
    "PLN": ("zł",),
    "CZK": ("kč",),
    "TRY": ("₺",),
    "BRL": ("r$",),
    "ILS": ("₪",),
    "THB": ("฿",),
    "VND": ("₫",),
    "UAH": ("₴",),
    "AUD": ("$", "a$", "au$"),
    "CAD": ("$", "c$", "ca$"),
    "NZD": ("$", "nz$"),
    "SGD": ("$", "s$"),
    "HKD": ("$", "hk$"),
    "MXN": ("$", "mx$"),
    "TWD": ("nt$", "元"),
    "SEK": ("kr", "kr."),
    "NOK": ("kr", "kr."),
    "DKK": ("kr", "kr."),
    "HUF": ("ft",),
    "RON": ("lei",),
    "ZAR": ("r",),
    "IDR": ("rp", "rp."),
    "PHP": ("₱",),
}

_MONTHS_BY_LANGUAGE: Final = (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jänner feber mär apr mai jun jul aug sept okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv févr mars avr mai juin juil août sept oct nov déc",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago set oct nov dic",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "jan feb mrt apr mei jun jul aug sept okt nov dec",
)


def strip_accents(text: str) -> str:
    """`text` with plain letters in place of accented ones."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _month_numbers() -> dict[str, int]:
    numbers = {}
    for names in _MONTHS_BY_LANGUAGE:
        for number, name in enumerate(names.split(), start=1):
            numbers[name] = numbers[strip_accents(name)] = number
    numbers["maerz"] = 3
    return numbers


_MONTHS: Final = _month_numbers()
_MONTH: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY: Final = re.compile(
    r"\b(?:mon|tues?|wed|wednes|thu|thurs?|fri|sat|satur|sun)(?:day)?\b\.?,?"
    r"|\b(?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag)\b,?"
    r"|\b(?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)\b,?"
    r"|\b(?:lunes|martes|mi[ée]rcoles|jueves|viernes|s[áa]bado|domingo)\b,?"
    r"|\b(?:maandag|dinsdag|woensdag|donderdag|vrijdag|zaterdag|zondag)\b,?"
)
_TIME: Final = re.compile(
    r"(?<![\d:])([01]?\d|2[0-3])[:.]([0-5]\d)(?:[:.]([0-5]\d)(?:[.,]\d+)?)?(?!\d)\s*([ap]\.?m\b\.?)?"
)
_CLOCK: Final = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):([0-5]\d(?:[.,]\d+)?)")
_CLOCK_SUFFIX: Final = re.compile(
    r"(?:[t\s,]|\bat\b|\bum\b)+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[ap]\.?m\b\.?|uhr)?"
    r"\s*(?:z|[+-]\d{2}:?\d{2})?\s*$"
)

_DATE: Final = re.compile(
    rf"""(?<![\w])(?:
      (?P<y1>[12]\d{{3}})\s?(?P<s1>[-/.])\s?(?P<m1>\d{{1,2}})\s?(?P=s1)\s?(?P<d1>\d{{1,2}})(?![\d])
    | (?P<y2>[12]\d{{3}})\s?年\s?(?P<m2>\d{{1,2}})\s?月\s?(?P<d2>\d{{1,2}})\s?日?
    | (?P<a3>\d{{1,2}})\s?(?P<s3>[-/.])\s?(?P<b3>\d{{1,2}})\s?(?P=s3)\s?(?P<y3>[12]\d{{3}}|\d{{2}})(?![\d])
    | (?P<d4>\d{{1,2}})(?:\.|st\b|nd\b|rd\b|th\b|er\b|º|ª)?(?:\s?[-/]\s?|,?\s*(?:(?:de|of|day\sof)\s+)?)
      (?P<m4>{_MONTH})\b\.?,?(?:\s?[-/]\s?|\s*(?:(?:del?|of)\s+)?)'?(?P<y4>[12]\d{{3}}|\d{{2}})(?![\w])
    | (?P<m5>{_MONTH})\b\.?(?:\s?[-/]\s?|\s*)(?P<d5>\d{{1,2}})(?:st|nd|rd|th)?
      \s?(?:,|-|/|\s)\s?(?P<y5>[12]\d{{3}})(?![\w])
    | (?P<y6>[12]\d{{3}})[-/.\s]\s?(?P<m6>{_MONTH})\b\.?[-/.\s]\s?(?P<d6>\d{{1,2}})(?![\w])
    )""",
    re.VERBOSE,
)

_SIGN_WORDS: Final = "|".join(
    re.escape(sign) for sign in sorted({s for signs in CURRENCY_SIGNS.values() for s in signs}, key=len, reverse=True)
)
_CODE_WORDS: Final = "|".join(code.lower() for code in CURRENCY_SIGNS)
_MONEY_EDGE: Final = re.compile(
    rf"^(?:{_SIGN_WORDS}|{_CODE_WORDS})\s*(?=[-+(\d.,])|(?<=[\d)\-.,])\s*(?:{_SIGN_WORDS}|{_CODE_WORDS})$"
)
_NUMBER_CORE: Final = re.compile(r"[.,]?\d[\d.,' ]*")
_MINUSES: Final = str.maketrans("−–—‐‑’‘`´", "-----''''")
_RAISED: Final = dict.fromkeys(map(ord, "⁰¹²³⁴⁵⁶⁷⁸⁹"))
_SPACES: Final = re.compile(r"\s+")
_TOKEN: Final = re.compile(r"[^\W_]+")
_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


def fold(text: str) -> str:
    """`text` without differences of case, spacing, ligatures and character width."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def squash(text: str) -> str:
    """The letters and digits of `text`, folded, and nothing else."""
    return "".join(_TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()))


def tokens(text: str) -> list[str]:
    """The words and numbers of `text`, folded; each ideograph, kana or hangul syllable is a token of its own."""
    found: list[str] = []
    for run in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _CJK.search(run):
            found.extend(_split_cjk(run))
        else:
            found.append(run)
    return found


def has_cjk(text: str) -> bool:
    """Whether `text` holds characters of a script that is written without spaces."""
    return _CJK.search(text) is not None


def _split_cjk(run: str) -> Iterator[str]:
    rest = ""
    for char in run:
        if _CJK.match(char):
            if rest:
                yield rest
            rest = ""
            yield char
        else:
            rest += char
    if rest:
        yield rest


class Amount(NamedTuple):
    """The ways a text reads as a number, likeliest first, and whether it says percent."""

    readings: tuple[Decimal, ...]
    is_percent: bool


_NO_AMOUNT: Final = Amount((), False)


def read_number(text: str) -> tuple[Decimal, ...]:
    """What `text` says as a number, whatever the locale; empty when it is not one.

    Currency signs and codes, percent signs, accounting parentheses and trailing minus signs are understood.
    "1.234" may be one and a bit or more than a thousand: both readings are given, the likelier first. A whole
    number with leading zeros is an identifier, not a number.
    """
    return read_amount(text).readings


@lru_cache(maxsize=65_536)
def read_amount(text: str) -> Amount:
    """As `read_number`, and whether a percent sign stands by it."""
    # A raised figure refers to a footnote; normalising would append it to the number.
    text = text.translate(_RAISED)
    if len(text) > _MAX_VALUE_CHARS or not any(c.isdigit() for c in text):
        return _NO_AMOUNT
    core = _SPACES.sub(" ", unicodedata.normalize("NFKC", text).translate(_MINUSES).casefold()).strip()
    is_percent = core.endswith("%") or core.startswith("%")
    core = core.strip("% ")
    negative = False
    for _ in range(3):
        stripped = _MONEY_EDGE.sub("", core).strip()
        if stripped.startswith("(") and stripped.endswith(")") and not negative:
            negative, stripped = True, stripped[1:-1].strip()
        elif stripped.endswith((" cr", "-")) and stripped[:1].isdigit() and not stripped.endswith((",-", ".-")):
            negative, stripped = not negative, stripped.removesuffix("-").removesuffix(" cr").strip()
        elif stripped.startswith(("-", "+")):
            negative, stripped = stripped.startswith("-") != negative, stripped[1:].strip()
        if stripped == core:
            break
        core = stripped
    core = re.sub(r"[.,]-{1,2}$", "", core)
    if not _NUMBER_CORE.fullmatch(core):
        return _NO_AMOUNT
    return Amount(tuple(-value if negative else value for value in _read_digits(core)), is_percent)


def _read_digits(core: str) -> tuple[Decimal, ...]:
    core = core.rstrip(".,' ") if core[-1:] in ".,' " else core
    points = [c for c in core if c in ".,"]
    if not points:
        return _whole(core)
    last = points[-1]
    head, _, tail = core.rpartition(last)
    if len(set(points)) == 1 and len(points) > 1:
        return _whole(core)
    if points.count(last) > 1:
        return ()
    if not tail.isdigit():
        # Groups of three after the decimal point occur in physics, not on documents.
        return ()
    whole = _whole(head or "0", leading_zeros=True)
    decimals = tuple(Decimal(f"{value}.{tail}") for value in whole)
    is_grouping = len(points) == 1 and len(tail) == 3 and head.isdigit() and len(head) <= 3 and head[0] != "0"
    if not is_grouping:
        return decimals
    grouped = (Decimal(head + tail),)
    return grouped + decimals if last == "," else decimals + grouped


def _whole(text: str, leading_zeros: bool = False) -> tuple[Decimal, ...]:
    """A whole number with or without grouping; thousands in threes, or in twos above as in India."""
    if text.isdigit():
        if len(text) > 1 and text[0] == "0" and not leading_zeros:
            return ()
        return (Decimal(text),)
    separators = {c for c in text if not c.isdigit()}
    if len(separators) != 1:
        return ()
    groups = text.split(separators.pop())
    sizes = [len(group) for group in groups]
    if not (1 <= sizes[0] <= 3 and sizes[-1] == 3 and groups[0][:1] != "0"):
        return ()
    if all(size == 3 for size in sizes[1:]) or (sizes[0] <= 2 and all(size == 2 for size in sizes[1:-1])):
        return (Decimal("".join(groups)),)
    return ()


class FoundDate(NamedTuple):
    """A date in a text: where it stands, and its readings, day first before month first."""

    start: int
    end: int
    readings: tuple[datetime.date, ...]


def find_dates(text: str) -> Iterator[FoundDate]:
    """The dates written in `text`: ISO, numeric, with month names in English, German, French, Spanish, Dutch, or CJK.

    `text` must be case-folded.
    """
    for match in _DATE.finditer(text):
        readings = _readings(match)
        if readings:
            yield FoundDate(match.start(), match.end(), readings)


@lru_cache(maxsize=65_536)
def read_dates(text: str) -> tuple[datetime.date, ...]:
    """What `text` says as a date, day first before month first; empty when it is not just a date (or date and time)."""
    if len(text) > _MAX_VALUE_CHARS or not any(c.isdigit() for c in text):
        return ()
    core = _CLOCK_SUFFIX.sub("", _WEEKDAY.sub(" ", fold(text))).strip(" ,.;")
    match = _DATE.fullmatch(core)
    if match:
        return _readings(match)
    if len(core) == 8 and core.isascii() and core.isdigit() and core[:2] in ("19", "20"):
        return _days((int(core[:4]), int(core[4:6]), int(core[6:])))
    return ()


def read_date(text: str, day_first: bool = False) -> datetime.date | None:
    """The one date `text` says. `day_first` decides where a date with slashes or dashes has two readings."""
    readings = read_dates(text)
    if not readings:
        return None
    return readings[0] if day_first else readings[-1]


def _readings(match: re.Match[str]) -> tuple[datetime.date, ...]:
    groups = match.groupdict()
    if groups["y1"]:
        return _days((int(groups["y1"]), int(groups["m1"]), int(groups["d1"])))
    if groups["y2"]:
        return _days((int(groups["y2"]), int(groups["m2"]), int(groups["d2"])))
    if groups["y3"]:
        year, first, second = _full_year(groups["y3"]), int(groups["a3"]), int(groups["b3"])
        both = _days((year, second, first), (year, first, second))
        # Nobody who writes points between the parts puts the month first.
        return both[:1] if groups["s3"] == "." else both
    for form in ("4", "5", "6"):
        if groups[f"y{form}"]:
            return _days((_full_year(groups[f"y{form}"]), _MONTHS[groups[f"m{form}"]], int(groups[f"d{form}"])))
    return ()


def _days(*candidates: tuple[int, int, int]) -> tuple[datetime.date, ...]:
    found: list[datetime.date] = []
    for year, month, day in candidates:
        try:
            date = datetime.date(year, month, day)
        except ValueError:
            continue
        if date not in found:
            found.append(date)
    return tuple(found)


def _full_year(text: str) -> int:
    # POSIX convention: 69 to 99 are of the last century.
    year = int(text)
    if len(text) > 2:
        return year
    return year + (2000 if year < 69 else 1900)


class FoundTime(NamedTuple):
    """A time of day in a text: where it stands, as HH:MM and, when printed, seconds."""

    start: int
    end: int
    minutes: str
    seconds: str | None


def find_times(text: str) -> Iterator[FoundTime]:
    """The times of day written in `text` (case-folded), in 24-hour form."""
    for match in _TIME.finditer(text):
        hour = int(match[1])
        if match[4]:
            hour = hour % 12 + (12 if match[4].startswith("p") else 0)
        yield FoundTime(match.start(), match.end(), f"{hour:02}:{match[2]}", match[3])


def read_clock(text: str) -> float | None:
    """A point or length of time such as 0:07, 12:30, 1:02:03.5 in seconds; None when `text` is none.

    Two figures are minutes and seconds; of times of day the order comes out the same.
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def normal_key(value: Json) -> Hashable:
    """A key that is equal for values which say the same: numbers and dates however written, text up to case and spaces.

    A text with more than one reading as number or date compares as text. Arrays and objects compare whole.
    """
    if value is None or isinstance(value, bool):
        return ("literal", value)
    if isinstance(value, int | float):
        return ("number", Decimal(str(value))) if math.isfinite(value) else ("text", str(value))
    if not isinstance(value, str):
        return ("json", canonical_json(value))
    dates = read_dates(value)
    if len(dates) == 1:
        return ("date", dates[0].isoformat())
    amount = read_amount(value) if not dates else _NO_AMOUNT
    if len(amount.readings) == 1 and not amount.is_percent:
        return ("number", amount.readings[0])
    return ("text", fold(value).replace(" ", ""))


def canonical_json(value: Json) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
