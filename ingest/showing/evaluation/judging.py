"""Two values compared: in how many ways do they say the same?"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from ingest.showing.evaluation.settings import EvaluationOptions
from ingest.types import Json
from ingest.values import find_times, fold, read_date, read_dates, read_number, squash, tokens

_QUANTITY: Final = re.compile(r"[^\w]*\d[\d.,' ]*[^\w]*[^\W\d_]{0,5}\.?")


class Judgement(NamedTuple):
    """How a predicted leaf compares with the expected one.

    - `exact`: the same JSON value (10 and 10.0 are).
    - `normalised`: the same text without case, spaces and punctuation. Where the text is a quantity, its decimal
      separator and sign count.
    - `numeric`: the same number within the tolerances, however written; whole numbers must be equal.
    - `date`: the same day, however written; where both have a time of day, the same minute too.
    - `token_f1`: harmonic mean of the shares of tokens in common, 0 to 1.
    - `similarity`: 0 to 1, from the insertions and deletions that turn one text into the other, without case, spaces
      and punctuation.
    """

    exact: bool
    normalised: bool
    numeric: bool
    date: bool
    token_f1: float
    similarity: float

    @property
    def is_match(self) -> bool:
        """Whether the values say the same: exact, normalised, numeric or date."""
        return self.exact or self.normalised or self.numeric or self.date


NOTHING: Final = Judgement(False, False, False, False, 0.0, 0.0)
"""The judgement on a value that is not there."""


def judge(predicted: Json, expected: Json, options: EvaluationOptions | None = None) -> Judgement:
    """Compare two leaves, neither of them null."""
    options = options or EvaluationOptions()
    tolerances = (options.absolute_tolerance, options.relative_tolerance)
    # 1, 1.0 and True are one key of a cache, but three values.
    kinds = (type(predicted).__name__, type(expected).__name__)
    return _judge(predicted, expected, kinds, options.day_first, tolerances)


@lru_cache(maxsize=200_000)
def _judge(
    predicted: Json, expected: Json, kinds: tuple[str, str], day_first: bool, tolerances: tuple[float, float]
) -> Judgement:
    is_flag = [kind == "bool" for kind in kinds]
    exact = predicted == expected and is_flag[0] == is_flag[1]
    numeric = not any(is_flag) and _is_same_number(predicted, expected, tolerances)
    return Judgement(
        exact=exact,
        normalised=exact or _is_same_text(predicted, expected),
        numeric=numeric,
        date=_is_same_date(predicted, expected, day_first),
        token_f1=1.0 if exact else _token_f1(_text(predicted), _text(expected)),
        similarity=1.0 if exact else _similarity(_text(predicted), _text(expected)),
    )


def is_within(predicted: Json, expected: Json, distance: float) -> bool:
    """Whether two numbers, however written, are no further apart than `distance`."""
    limit = Decimal(str(distance))
    if isinstance(predicted, bool) or isinstance(expected, bool):
        return False
    return any(abs(left - right) <= limit for right in _numbers(expected) for left in _numbers(predicted))


def without_sign(value: Json) -> Json:
    """A number, or a text that is one, without its minus."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value)
    return value.strip("-\u2212 ") if isinstance(value, str) else value


def is_empty(value: Json) -> bool:
    """Whether a leaf says nothing: null, or a text without a character."""
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _is_same_text(predicted: Json, expected: Json) -> bool:
    if isinstance(predicted, float) or isinstance(expected, float):
        return False
    left, right = fold(_text(predicted)), fold(_text(expected))
    if left.replace(" ", "") == right.replace(" ", ""):
        return True
    # Without its point 1.5 would be 15, without its sign a credit a charge: quantities keep their punctuation.
    if _QUANTITY.fullmatch(left) or _QUANTITY.fullmatch(right) or read_number(left) or read_number(right):
        return _is_same_code(left, right)
    return squash(left) == squash(right) != ""


def _is_same_code(left: str, right: str) -> bool:
    """Texts of digits that differ in punctuation other than decimal separators and signs: phone and account numbers."""
    if any(re.search(r"\d[.,]\d|^\W*[-−–(]|\d[-−–]$", text) for text in (left, right)):
        return False
    return squash(left) == squash(right) != ""


def _is_same_number(predicted: Json, expected: Json, tolerances: tuple[float, float]) -> bool:
    absolute, relative = (Decimal(str(tolerance)) for tolerance in tolerances)
    for right in _numbers(expected):
        for left in _numbers(predicted):
            if left == right:
                return True
            is_whole = left == left.to_integral_value() and right == right.to_integral_value()
            if not is_whole and abs(left - right) <= max(absolute, relative * abs(right)):
                return True
    return False


def _numbers(value: Json) -> tuple[Decimal, ...]:
    if isinstance(value, str):
        return read_number(value)
    number = Decimal(str(value))
    return (number,) if number.is_finite() else ()


def _is_same_date(predicted: Json, expected: Json, day_first: bool) -> bool:
    if not isinstance(predicted, str) or not isinstance(expected, str):
        return False
    if not read_dates(predicted) or read_date(predicted, day_first) != read_date(expected, day_first):
        return False
    times = [[time.minutes for time in find_times(fold(text))] for text in (predicted, expected)]
    has_both = all(times) and all(":" in text for text in (predicted, expected))
    return not has_both or times[0] == times[1]


def _token_f1(predicted: str, expected: str) -> float:
    left, right = Counter(tokens(predicted)), Counter(tokens(expected))
    common = sum((left & right).values())
    return 2 * common / (left.total() + right.total()) if common else 0.0


def _similarity(predicted: str, expected: str) -> float:
    from rapidfuzz import fuzz

    left, right = squash(predicted), squash(expected)
    return fuzz.ratio(left, right) / 100 if left and right else 0.0
