"""When a job is due: cron's five fields, in the time of a place.

cronsim reads the fields and finds the days. What the clocks of the place do is decided here, as Debian's cron does:
a time that is skipped when the clocks go forward is due once, at the moment they go; a time that comes twice when they
go back is due at the first. A job of every hour is not bound to a time of day: it goes on by the hour through both.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import ingest

if TYPE_CHECKING:
    from cronsim import CronSim

# Names, numbers, lists, ranges, steps: what every scheduler understands alike. Not L, W, # and seconds.
_FIELD = re.compile(r"(\*|\w+(-\w+)?)(/\d+)?(,(\*|\w+(-\w+)?)(/\d+)?)*")
_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
# No place moves its clocks back by more than this.
_MOST_REPEATED = timedelta(hours=3)
_YEAR_2000 = datetime(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Fields:
    """The days and times a cron line names. Weekdays count from Sunday = 0.

    `is_either_day` tells that a day matches by its number or by its weekday; else it must match by both.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    is_either_day: bool


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line in a time zone, checked when it is made by `parse`."""

    line: str
    timezone: str

    @property
    def fields(self) -> Fields:
        """What the line names."""
        found = _sim(self.line, _YEAR_2000)
        weekdays = sorted({int(day) % 7 for day in found.weekdays if isinstance(day, int)})
        return Fields(
            minutes=tuple(sorted(found.minutes)),
            hours=tuple(sorted(found.hours)),
            days=tuple(sorted(found.days)),
            months=tuple(sorted(found.months)),
            weekdays=tuple(weekdays),
            is_either_day=not found.day_and,
        )

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every time it is due after a moment, in UTC, in order, without end."""
        zone = load_zone(self.timezone)
        start = moment.astimezone(zone).replace(tzinfo=None) - _MOST_REPEATED
        last = moment
        for due in _instants(_sim(self.line, start), zone):
            if due > last:
                yield due
                last = due

    def next(self, moment: datetime) -> datetime:
        """The first time it is due after a moment, in UTC."""
        return next(self.after(moment))

    def between(self, after: datetime, until: datetime, most: int = 1_000) -> tuple[datetime, ...]:
        """The times it was due after one moment and up to another, the first `most` of them."""
        found = []
        for due in islice(self.after(after), most):
            if due > until:
                break
            found.append(due)
        return tuple(found)


def parse(line: str, timezone: str) -> Cron:
    """A cron line of five fields in a time zone such as Europe/Berlin.

    Raises ConfigError when it is none, when it never comes, or when the time zone is not known.
    """
    fields = line.split()
    if len(fields) != 5:
        raise ingest.ConfigError(
            f'--cron {line!r}: write five fields, minute hour day month weekday, such as "0 7 * * 1-5"'
        )
    for field in fields:
        if not _FIELD.fullmatch(field) or re.search(r"\bL\b|\bLW\b|\d[LW]", field, re.I):
            raise ingest.ConfigError(
                f"--cron {line!r}: {field!r} is none of *, numbers, names, ranges, lists and /steps"
            )
    load_zone(timezone)
    cron = Cron(" ".join(fields), timezone)
    if next(iter(_sim(cron.line, _YEAR_2000)), None) is None:
        raise ingest.ConfigError(f"--cron {line!r} never comes: no month has such a day")
    return cron


def load_zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of that name. Raises ConfigError when there is none, or no database of them."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not zoneinfo.available_timezones():
            raise ingest.ConfigError("this system has no time zones: pip install tzdata") from error
        raise ingest.ConfigError(f"--tz {name!r} is no time zone: write one such as Europe/Berlin or UTC") from error


def weekday_names(weekdays: tuple[int, ...]) -> tuple[str, ...]:
    """English short names, from Monday on."""
    return tuple(_WEEKDAYS[day] for day in sorted(weekdays, key=lambda day: (day - 1) % 7))


def _sim(line: str, start: datetime) -> CronSim:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ingest.ConfigError("schedules need cronsim: pip install 'ingest[digest]'") from error
    try:
        return CronSim(line, start)
    except CronSimError as error:
        raise ingest.ConfigError(f"--cron {line!r}: {error}".lower().replace("bad", "cannot read the")) from error


def _instants(local_times: Any, zone: zoneinfo.ZoneInfo) -> Iterator[datetime]:
    """Local times as moments in UTC, in order; see the module for what becomes of skipped and repeated ones."""
    is_hourly = len(local_times.hours) == 24
    repeated: list[datetime] = []
    for local in local_times:
        first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        second = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if first < second:
            yield first
            repeated += [second] if is_hourly else []
            continue
        yield from repeated
        repeated = []
        if first == second:
            yield first
        elif not is_hourly:
            yield _change(second, first, zone)


def _change(low: datetime, high: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The moment between two at which the clocks go forward, to the second."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
