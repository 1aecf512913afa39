"""When a job is due, through every trick of clocks and calendars."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ingest.errors import ConfigError

pytest.importorskip("cronsim", reason="needs the extra digest")
from pipelines.schedule.cron import parse

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def local(line: str, zone: str, start: str, until: str) -> list[str]:
    """Due times from one local time (exclusive) to another, as local times with offsets."""
    place = zoneinfo.ZoneInfo(zone)
    low, high = (datetime.fromisoformat(text).replace(tzinfo=place) for text in (start, until))
    return [f"{due.astimezone(place):%m-%d %H:%M %z}" for due in parse(line, zone).between(low, high)]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("0", "Sun"),
        ("7", "Sun"),
        ("sun", "Sun"),
        ("MON-fri", "Mon Tue Wed Thu Fri"),
        ("6,0", "Sun Sat"),
        ("5-7", "Sun Fri Sat"),
        ("1-5/2", "Mon Wed Fri"),
        ("*/2", "Sun Tue Thu Sat"),
        ("*", "Sun Mon Tue Wed Thu Fri Sat"),
    ],
)
def test_weekdays_are_crons(field: str, days: str) -> None:
    """Digests of Monday to Friday must not come from Tuesday to Saturday."""
    sunday = datetime(2026, 3, 1, tzinfo=UTC)
    dues = parse(f"0 7 * * {field}", "UTC").between(sunday, sunday + timedelta(days=7))
    assert [f"{due:%a}" for due in dues] == days.split()


def test_day_and_weekday_together_mean_either() -> None:
    """The 13th or a Friday: cron's old rule, which people rely on."""
    start = datetime(2026, 10, 1, tzinfo=UTC)
    dues = parse("0 0 13 * 5", "UTC").between(start, start + timedelta(days=20))
    assert [due.day for due in dues] == [2, 9, 13, 16]


@pytest.mark.parametrize(
    ("line", "zone", "start", "until", "expected"),
    [
        # Clocks go forward: the skipped time is due once, at the moment they go.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", "2026-03-30T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0,15,30 2 29 3 *", BERLIN, "2026-03-28T12:00", "2026-03-30T12:00", ["03-29 03:00 +0200"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", "2026-03-08T12:00", ["03-08 03:00 -0400"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", "2026-10-04T12:00", ["10-04 02:30 +1100"]),
        # Clocks go back: the repeated time is due once, at the first.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", "2026-10-26T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", "2026-11-01T12:00", ["11-01 01:30 -0400"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", "2026-04-05T12:00", ["04-05 01:45 +1100"]),
        # A job of the morning stays in the morning of its place.
        ("0 7 * * *", BERLIN, "2026-03-28T00:00", "2026-03-30T00:00", ["03-28 07:00 +0100", "03-29 07:00 +0200"]),
        # Every hour is every hour.
        (
            "0 * * * *", BERLIN, "2026-10-25T01:30", "2026-10-25T03:30",
            ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"],
        ),
        ("30 * * * *", BERLIN, "2026-03-29T01:00", "2026-03-29T04:00", ["03-29 01:30 +0100", "03-29 03:30 +0200"]),
        (
            "*/30 * * * *", LORD_HOWE, "2026-04-05T01:00", "2026-04-05T02:00",
            ["04-05 01:30 +1100", "04-05 01:30 +1030", "04-05 02:00 +1030"],
        ),
    ],
)  # fmt: skip
def test_clocks_that_change(line: str, zone: str, start: str, until: str, expected: list[str]) -> None:
    """Twice a year a digest must not be missing, and must not come twice."""
    assert local(line, zone, start, until) == expected


def test_a_moment_inside_the_repeated_hour_repeats_nothing() -> None:
    """A daemon that restarts in that hour must not run the job again."""
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert parse("30 2 * * *", BERLIN).next(second_pass) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_hourly_times_stay_an_hour_apart_all_year() -> None:
    """No change of clocks may stop, double or reorder a job that runs all day."""
    for zone in (BERLIN, NEW_YORK):
        start = datetime(2026, 1, 1, tzinfo=UTC)
        dues = parse("0 * * * *", zone).between(start, start + timedelta(days=365), most=10_000)
        assert {later - earlier for earlier, later in pairwise(dues)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    "line",
    ["0 7 * *", "0 0 7 * * 1", "60 7 * * *", "0 7 * * 8", "0 7 31 2 *", "0 7 L * *", "0 7 * * 5L", "0 7 * * 1#2",
     "", "0 7 * * mo", "5-1 * * * *", "*/0 * * * *", "0 7 * * 1;reboot", "@daily"],
)  # fmt: skip
def test_lines_that_are_none_are_refused(line: str) -> None:
    """A job that silently never runs is worse than an error."""
    with pytest.raises(ConfigError, match="--cron"):
        parse(line, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "Europe"])
def test_time_zones_that_are_none_are_refused(zone: str) -> None:
    """A misspelled zone must not become UTC."""
    with pytest.raises(ConfigError, match="Europe/Berlin"):
        parse("0 7 * * *", zone)


def test_a_system_without_time_zones_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim containers have no database of time zones."""

    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(ConfigError, match="tzdata"):
        parse("0 7 * * *", BERLIN)
