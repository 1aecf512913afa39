"""Numbers and amounts as printed: any locale's separators, signs before or after, currencies, percent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Symbol or abbreviation -> ISO 4217 code. `$` and `kr` belong to several countries; see `detect_currency`.
SYMBOLS = {
    "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW", "₺": "TRY", "₫": "VND", "₪": "ILS",
    "₦": "NGN", "₱": "PHP", "฿": "THB", "₴": "UAH", "$": "USD", "US$": "USD", "C$": "CAD", "CA$": "CAD", "A$": "AUD",
    "AU$": "AUD", "S$": "SGD", "HK$": "HKD", "NZ$": "NZD", "R$": "BRL", "RM": "MYR", "Rs": "INR", "Rs.": "INR",
    "zł": "PLN", "Kč": "CZK", "Ft": "HUF", "kr": "SEK", "kr.": "DKK", "Fr.": "CHF", "SFr.": "CHF", "lei": "RON",
    "Euro": "EUR", "EURO": "EUR",
}  # fmt: skip
CODES = frozenset(
    "EUR USD GBP CHF JPY CNY INR MYR SGD HKD AUD CAD NZD SEK NOK DKK PLN CZK HUF RON BGN TRY RUB UAH ZAR BRL MXN ARS "
    "CLP COP PEN AED SAR QAR KWD ILS EGP NGN KES THB IDR PHP VND KRW TWD PKR LKR BDT ISK RSD GEL KZT MAD TND".split()
)

_UNIT_OF_MONEY = "|".join(
    re.escape(word) for word in sorted([*SYMBOLS, *CODES], key=len, reverse=True) if not word[0].isdigit()
)
_DIGITS = (
    r"(?:\d{1,3}(?:(?:[.,'’][ ]?|[ \u00a0\u202f])\d{3}(?!\d))+(?:[.,]\d{1,6})?"  # grouped thousands
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"  # 1,23,456.78
    r"|\d+[.,]\d+|\d+[.,]-|\d+|[.,]\d{2})"
)
_NUMBER = re.compile(
    rf"(?<![\w.,/:])(?<!\d[-–])(?P<open>\()?(?P<sign>[-+−–]\s?)?(?P<before>(?:{_UNIT_OF_MONEY})\s?)?"
    rf"(?P<sign2>[-−–]\s?)?(?P<digits>{_DIGITS})"
    rf"(?:(?P<trail>\s?-)(?![\w-])|(?P<percent>\s?%)|(?P<after>\s?(?:{_UNIT_OF_MONEY}))(?![A-Za-z])|(?P<credit>\s?CR)\b)?"
    rf"(?P<close>\))?(?![\w/:]|[.,-]\d)",
)
_BARE_SIGN = re.compile(r"[-−–]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number found in a text: its value, where it stands, and what its print tells about it."""

    value: float
    start: int
    end: int
    decimals: int
    currency: str | None = None
    is_percent: bool = False
    is_grouped: bool = False

    @property
    def is_money(self) -> bool:
        """Whether it is printed as amounts of money are: with a currency or with two decimals."""
        return not self.is_percent and (self.currency is not None or self.decimals == 2)


def find_numbers(text: str, decimal: str = ".") -> list[Number]:
    """All numbers of a text from left to right. `decimal` settles what `1.234` and `1,234` mean."""
    return [_to_number(match, decimal) for match in _NUMBER.finditer(text[:4000])]


def parse_number(text: str, decimal: str = ".") -> float | None:
    """The value of a text that holds nothing but one number, perhaps with a currency or a percent sign."""
    numbers = find_numbers(text.strip(), decimal)
    if len(numbers) == 1 and numbers[0].start == 0 and numbers[0].end == len(text.strip()):
        return numbers[0].value
    return None


def _to_number(match: re.Match[str], decimal: str) -> Number:
    digits = match["digits"]
    value, decimals, grouped = _read_digits(digits, decimal)
    has_brackets = bool(match["open"] and match["close"])
    signs = (match["sign"] or "") + (match["sign2"] or "")
    if (
        _BARE_SIGN.search(signs)
        or match["trail"]
        or match["credit"]
        or (has_brackets and decimals == 2 and not match["percent"])
    ):
        value = -value
    currency = _currency_code(match["before"] or match["after"])
    start = match.start() if has_brackets or not match["open"] else match.start() + 1
    end = match.end() if has_brackets or not match["close"] else match.end() - 1
    return Number(value or 0.0, start, end, decimals, currency, bool(match["percent"]), grouped)


def _currency_code(printed: str | None) -> str | None:
    if not printed or not printed.strip():
        return None
    return SYMBOLS.get(printed.strip(), printed.strip())


def _read_digits(digits: str, decimal: str) -> tuple[float, int, bool]:
    """Value, number of decimals, and whether thousands are grouped."""
    digits = re.sub(r"[.,]-$", "", digits)
    plain = re.sub(r"[\s'’]", "", digits)
    grouped = len(plain) != len(digits)
    last = max(plain.rfind("."), plain.rfind(","))
    if last < 0:
        return float(plain), 0, grouped
    head, tail = plain[:last], plain[last + 1 :]
    mark = plain[last]
    if (mark in head and len(tail) == 3) or (len(tail) == 3 and _is_thousands(head, mark, decimal)):
        whole = re.sub(r"[.,]", "", plain)
        return float(whole), 0, True
    whole = re.sub(r"[.,]", "", head)
    return float(f"{whole or '0'}.{tail}"), len(tail), grouped or len(whole) != len(head)


def _is_thousands(head: str, mark: str, decimal: str) -> bool:
    """Whether `head` + mark + three digits is a whole number in thousands rather than a fraction."""
    if re.search(r"[.,]", head):
        return False
    return head not in ("", "0") and not head.startswith("0") and len(head) <= 3 and mark != decimal


_TWO_DECIMALS = re.compile(r"(?<![\d.,])\d{1,3}(?:[.,' ]?\d{3})*([.,])\d{2}(?![\d.,])")


def decimal_mark(texts: Iterable[str]) -> str:
    """The decimal mark most amounts of these texts use, `.` when there is no evidence."""
    counts = {".": 0, ",": 0}
    for text in texts:
        for match in _TWO_DECIMALS.finditer(text[:2000]):
            counts[match[1]] += 1
    return "," if counts[","] > counts["."] else "."


_MONEY_WORD = re.compile(rf"(?<![A-Za-z])(?<![A-Za-z]\d)(?P<unit>{_UNIT_OF_MONEY})(?![A-Za-z])")
_NEAR_NUMBER = re.compile(r"^\s?[-(]?\d|^\s*\)|^$")
_DOLLAR_HINTS = (
    ("CAD", re.compile(r"\b(?:Canada|Ontario|Québec|Quebec|British Columbia|Alberta|GST/HST)\b")),
    ("AUD", re.compile(r"\b(?:Australia|ABN|NSW|Victoria VIC|Queensland)\b")),
    ("SGD", re.compile(r"\bSingapore\b")),
    ("MYR", re.compile(r"\b(?:Malaysia|Sdn\.? ?Bhd|Johor|Selangor|Kuala Lumpur|Penang)\b", re.IGNORECASE)),
    ("HKD", re.compile(r"\bHong ?Kong\b")),
    ("NZD", re.compile(r"\bNew Zealand\b")),
)
_KRONE_HINTS = (
    ("NOK", re.compile(r"\b(?:Norge|Norway|MVA|Oslo)\b")),
    ("DKK", re.compile(r"\b(?:Danmark|Denmark|CVR|Moms.{0,4}25|København)\b")),
)


def detect_currency(text: str) -> str | None:
    """ISO code of the currency most amounts are printed in; hints of the country settle `$` and `kr`."""
    counts: dict[str, float] = {}
    for match in _MONEY_WORD.finditer(text):
        unit = match["unit"]
        code = SYMBOLS.get(unit, unit)
        after, before = text[match.end() : match.end() + 3], text[max(0, match.start() - 3) : match.start()]
        beside_number = bool(_NEAR_NUMBER.match(after)) or bool(re.search(r"\d[ )]?$", before))
        if not beside_number and len(unit) < 3 and unit.isalpha():
            beside_number = after[:1] == ")" and before[-1:] == "("
            if not beside_number:
                continue
        counts[code] = counts.get(code, 0) + (1.0 if beside_number else 0.6)
    if not counts:
        return None
    best = max(counts, key=lambda code: counts[code])
    hints = {"USD": _DOLLAR_HINTS, "SEK": _KRONE_HINTS}.get(best, ())
    if best in text or (best == "USD" and "US$" in text):
        return best
    return next((code for code, hint in hints if hint.search(text)), best)
