"""Values written in the form the schema asks for, where there is only one way to read them. Each change is noted.

Dates go to YYYY-MM-DD where the schema says `format: date`; times of day to HH:MM:SS likewise. A date such as
03/04/2024 has two readings: it is written anew only when the other dates of the same document leave no doubt about the
order of day and month. Nothing is invented: what is not certain stays, for validation to report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ingest.merging.shape import Shape, escape, root_shape
from ingest.record import ProblemInfo
from ingest.types import Json, JsonObject
from ingest.values import read_dates

_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
# Day and month stand apart, both as figures: the dates that can tell their order, or need it told.
_FIGURES: Final = re.compile(r"\s*(\d{1,2})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?\d{2,4}\b.*", re.DOTALL)
_MAX_MONTH: Final = 12


def normalise(data: Json, schema: JsonObject) -> tuple[Json, tuple[ProblemInfo, ...]]:
    """The data in the schema's forms, and a note for each value that was written anew."""
    root = root_shape(schema)
    dates = [value for _, value, shape in _leaves(data, root, "") if shape.has_format("date")]
    order = _day_first(dates)
    notes: list[ProblemInfo] = []
    return _walk(data, root, "", order, notes), tuple(notes)


def _walk(value: Json, shape: Shape, pointer: str, day_first: bool | None, notes: list[ProblemInfo]) -> Json:
    if isinstance(value, dict):
        return {
            key: _walk(item, shape.child(key), f"{pointer}/{escape(key)}", day_first, notes)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_walk(item, shape.items, f"{pointer}/{n}", day_first, notes) for n, item in enumerate(value)]
    if not isinstance(value, str) or not shape.has_format("date") or _ISO.fullmatch(value):
        return value
    written = _iso(value, day_first)
    if written is None:
        return value
    notes.append(ProblemInfo(stage="check", code="normalised", message=f"{value!r} is {written}", pointer=pointer))
    return written


def _iso(text: str, day_first: bool | None) -> str | None:
    """The one date a text says; None when it says none, or one of two."""
    readings = read_dates(text)
    if len(readings) == 1:
        return readings[0].isoformat()
    if len(readings) == 2 and day_first is not None:
        # Readings come day first before month first.
        return readings[0 if day_first else 1].isoformat()
    return None


def _day_first(dates: list[str]) -> bool | None:
    """Whether the dates of a document put the day before the month; None when they do not tell, or differ."""
    orders = set()
    for text in dates:
        match = _FIGURES.fullmatch(text)
        if match and len(read_dates(text)) == 1 and match[1] != match[2]:
            first, second = int(match[1]), int(match[2])
            if (first > _MAX_MONTH) != (second > _MAX_MONTH):
                orders.add(first > _MAX_MONTH)
    return orders.pop() if len(orders) == 1 else None


def _leaves(value: Json, shape: Shape, pointer: str) -> Iterator[tuple[str, str, Shape]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, shape.child(key), f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, shape.items, f"{pointer}/{number}")
    elif isinstance(value, str):
        yield pointer, value, shape
