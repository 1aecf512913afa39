"""Numbers and dates as people write them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.values import normal_key, read_clock, read_date, read_dates, read_number, squash, tokens


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("1,234.50", ["1234.50"]),
        ("1.234,50 €", ["1234.50"]),
        ("1 234 567,5", ["1234567.5"]),
        ("1\u202f234,50", ["1234.50"]),
        ("12,34,567.89", ["1234567.89"]),
        ("1'000.-", ["1000"]),
        ("12,-", ["12"]),
        ("$8.20", ["8.20"]),
        ("RM 9.00", ["9.00"]),
        ("USD -5", ["-5"]),
        ("(1,200)", ["-1200", "-1.200"]),
        ("12.50-", ["-12.50"]),
        ("−3", ["-3"]),
        ("19 %", ["19"]),
        (".5", ["0.5"]),
        ("1.234", ["1.234", "1234"]),
        ("1,234", ["1234", "1.234"]),
        ("0.123", ["0.123"]),
        ("１２３", ["123"]),
        ("0042", []),
        ("1.2.3", []),
        ("1,2,3", []),
        ("12 34", []),
        ("05.06.2018", []),
        ("3 kg", []),
        ("-", []),
        ("", []),
        ("²", []),
        ("12.50²", ["12.50"]),
    ],
)
def test_numbers_are_read_in_any_locale(text: str, readings: list[str]) -> None:
    """A point is a decimal separator in London and a thousands separator in Berlin."""
    assert [str(number) for number in read_number(text)] == readings


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2018-06-05", ["2018-06-05"]),
        ("2018-06-05T10:11:12Z", ["2018-06-05"]),
        ("05.06.2018", ["2018-06-05"]),
        ("5/6/18", ["2018-06-05", "2018-05-06"]),
        ("25/12/2018", ["2018-12-25"]),
        ("12-25-2018", ["2018-12-25"]),
        ("Thu, 5 Jul 2018 10:00", ["2018-07-05"]),
        ("Donnerstag, 5. Juli 2018", ["2018-07-05"]),
        ("JUL 5, 2018", ["2018-07-05"]),
        ("1er janvier 2018", ["2018-01-01"]),
        ("15 MAR 2018", ["2018-03-15"]),
        ("2018年7月5日", ["2018-07-05"]),
        ("20180705", ["2018-07-05"]),
        ("1/1/70", ["1970-01-01"]),
        ("2018-13-05", []),
        ("30/02/2018", []),
        ("2018", []),
        ("1-2-3", []),
        ("5 Jul 2018 and 6 Jul 2018", []),
        ("3 may be", []),
    ],
)
def test_dates_are_read_in_common_notations(text: str, days: list[str]) -> None:
    """The same day has a dozen spellings, and some spellings are two days."""
    assert [day.isoformat() for day in read_dates(text)] == days


def test_order_of_day_and_month_is_decided_by_the_caller() -> None:
    """3/4/2018 is March in one country and April in another; a point leaves no doubt."""
    assert read_date("3/4/2018", day_first=True) == datetime.date(2018, 4, 3)
    assert read_date("3/4/2018") == datetime.date(2018, 3, 4)
    assert read_date("3.4.2018") == datetime.date(2018, 4, 3)


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2))
@settings(deadline=None)
def test_grouped_amounts_read_back(amount: Decimal) -> None:
    """Whatever groups and decimals are written with, the amount must come back."""
    english = f"{amount:,}"
    for text in (english, english.translate(str.maketrans(",.", ".,")), english.translate(str.maketrans(",.", " ,"))):
        assert read_number(text) == (amount,)


@given(st.text(max_size=30))
@settings(deadline=None)
def test_any_text_can_be_read(text: str) -> None:
    """Values come from documents of strangers; none may raise."""
    read_number(text)
    read_dates(text)
    hash(normal_key(text))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:07", 7), ("12:30", 750), ("1:02:03.5", 3723.5), ("90:00", 5400), ("12", None), ("1:75", None), ("", None)],
)
def test_times_are_read_as_seconds(text: str, seconds: float | None) -> None:
    """Players write minutes and seconds, hours where there are any."""
    assert read_clock(text) == seconds


def test_words_of_all_scripts() -> None:
    """Case, width, ligatures and accents must not hide that two texts are the same."""
    assert squash("O\ufb03ce STRASSE, ＡＢ") == squash("office straße ab")
    assert tokens("東京 Tokyo-2020") == ["東", "京", "tokyo", "2020"]
