"""A record as a row: what is known of its document, then its data, each value as its column's type wants it.

A value that does not fit its column leaves it null and is kept in `_unfit`, by its JSON Pointer, as JSON; so is a
property that the schema does not name. No row is lost, and no value.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from ingest.keeping.sinks.columns import DECIMAL_DIGITS, Column, Kind, Type, clean_text, columns_of
from ingest.record import Record
from ingest.types import Json, JsonObject

Row: TypeAlias = dict[str, Any]
"""Values by column name, as Python's own types: dates as `date`, decimals as `Decimal`, structs as `dict`."""

KEY = "_record_id"
"""The column that identifies a record: 32 hexadecimal digits made of the recipe's and the document's name."""

_COST_PLACES = 9
# Arithmetic that rounds nothing a column could hold.
_WIDE = Context(prec=400)

_ABOUT: tuple[tuple[str, Type], ...] = (
    (KEY, Type("text")),
    ("_document", Type("text")),
    ("_status", Type("text")),
    ("_recipe", Type("text")),
    ("_model", Type("text")),
    ("_uri", Type("text")),
    ("_sha256", Type("text")),
    ("_media_type", Type("text")),
    ("_pages", Type("integer")),
    ("_frames", Type("integer")),
    ("_parent", Type("text")),
    ("_metadata", Type("json")),
    ("_cost_usd", Type("decimal", _COST_PLACES)),
    ("_problems", Type("integer")),
    ("_problem", Type("text")),
)
_BESIDE: tuple[tuple[str, Type], ...] = (("_evidence", Type("json")), ("_unfit", Type("json")))

OWN_NAMES = tuple(name for name, _ in (*_ABOUT, *_BESIDE))
"""Columns of every table of records; a property of the data with such a name goes by another."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a recipe's records become rows. `data` are the schema's columns; `text` makes a text storable."""

    data: tuple[Column, ...]
    text: Callable[[str], str] = clean_text

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the table, in their order."""
        about, beside = (tuple(Column(name, name, kind) for name, kind in part) for part in (_ABOUT, _BESIDE))
        return (*about, *self.data, *beside)

    def row(self, record: Record[Any]) -> Row:
        """A record's row."""
        fit = _Fit(self.text)
        values = fit.struct(data_of(record) or {}, self.data, "")
        row = {name: self.text(value) if isinstance(value, str) else value for name, value in _about(record).items()}
        row |= values
        row["_unfit"] = json_text(fit.unfit) if fit.unfit else None
        return row


def layout_of(schema: JsonObject, text: Callable[[str], str] = clean_text) -> Layout:
    """The layout for records of a document schema. Raises ConfigError when it is none that a table can show."""
    return Layout(columns_of(schema, OWN_NAMES), text)


def record_id(name: str, recipe: str) -> str:
    """What identifies a record in every table: its document's name and its recipe."""
    return hashlib.sha256(clean_text(f"{recipe}\0{name}").encode()).hexdigest()[:32]


def data_of(record: Record[Any]) -> JsonObject | None:
    """A record's data as a JSON value; decimals of a class stay exact."""
    data = record.data
    return _plain(data.model_dump(by_alias=True)) if isinstance(data, BaseModel) else data


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(to_jsonable_python(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, Decimal) else to_jsonable_python(value)


def json_text(value: object) -> str:
    """JSON text that every reader takes: no NaN, no infinity (they become words), nothing that is not UTF-8."""
    try:
        return to_json(value, inf_nan_mode="strings").decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return to_json(_clean(value), inf_nan_mode="strings").decode()


def _clean(value: Json) -> Json:
    """A JSON value with every text such that UTF-8 holds it."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def _about(record: Record[Any]) -> Row:
    document, cost = record.document, record.usage.cost_usd
    return {
        KEY: record_id(document.name, record.recipe.name),
        "_document": document.name,
        "_status": record.status,
        "_recipe": record.recipe.name,
        "_model": record.model.model,
        "_uri": document.uri,
        "_sha256": document.sha256,
        "_media_type": document.media_type,
        "_pages": document.pages,
        "_frames": document.frames,
        "_parent": document.parent,
        "_metadata": json_text(document.metadata) if document.metadata else None,
        "_cost_usd": None if cost is None else cost.quantize(Decimal(1).scaleb(-_COST_PLACES), ROUND_HALF_EVEN),
        "_problems": len(record.problems),
        "_problem": record.problems[0].message if record.problems else None,
        "_evidence": _evidence(record) if record.provenance else None,
    }


def _evidence(record: Record[Any]) -> str:
    """Where the values come from, as it stands in the record's file."""
    try:
        return to_json(record.provenance, exclude_none=True).decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return json_text(record.to_dict()["provenance"])


class _Misfit(Exception):
    """The value is none of its column's type."""


@dataclass(slots=True)
class _Fit:
    """Fits values into columns, and collects those that do not fit."""

    text: Callable[[str], str]
    unfit: dict[str, Json] = field(default_factory=dict)

    def value(self, value: Json, kind: Type, pointer: str) -> Any:
        if value is None:
            return None
        if kind.kind == "struct" and isinstance(value, dict):
            return self.struct(value, kind.columns, pointer)
        if kind.item is not None and isinstance(value, list):
            return [self.value(item, kind.item, f"{pointer}/{index}") for index, item in enumerate(value)]
        try:
            fitted = _READERS[kind.kind](value, kind.scale)
        except (_Misfit, ValueError, OverflowError):
            self.unfit[pointer] = value
            return None
        if isinstance(fitted, str):
            stored = self.text(fitted)
            if stored != fitted and kind.kind == "text":
                self.unfit[pointer] = value
            return stored
        return fitted

    def struct(self, value: JsonObject, columns: tuple[Column, ...], pointer: str) -> Row:
        for key in value.keys() - {column.key for column in columns}:
            self.unfit[f"{pointer}/{_escape(key)}"] = value[key]
        return {
            column.name: self.value(value.get(column.key), column.type, f"{pointer}/{_escape(column.key)}")
            for column in columns
        }


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _text(value: Json, _: int) -> str:
    if not isinstance(value, str):
        raise _Misfit
    return value


def _integer(value: Json, _: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**63) <= value < 2**63:
        raise _Misfit
    if value != int(value):
        raise _Misfit
    return int(value)


def _number(value: Json, _: int) -> float:
    """As a float; a whole number that a float does not hold exactly does not fit."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        raise _Misfit
    if isinstance(value, int) and int(float(value)) != value:
        raise _Misfit
    return float(value)


def _decimal(value: Json, scale: int) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _Misfit
    exact = Decimal(str(value))
    if not exact.is_finite() or exact.adjusted() >= DECIMAL_DIGITS - scale:
        raise _Misfit
    _, digits, exponent = exact.normalize(_WIDE).as_tuple()
    if not isinstance(exponent, int) or -exponent > scale or len(digits) > DECIMAL_DIGITS:
        raise _Misfit
    return exact.quantize(Decimal(1).scaleb(-scale), context=_WIDE)


def _boolean(value: Json, _: int) -> bool:
    if not isinstance(value, bool):
        raise _Misfit
    return value


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"(\d\d:\d\d:\d\d(?:\.\d{1,6})?)0*([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


def _date(value: Json, _: int) -> datetime.date:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise _Misfit
    return datetime.date.fromisoformat(value)


def _timestamp(value: Json, _: int) -> datetime.datetime:
    """A moment, in UTC. A time without its offset from UTC names no moment."""
    if not isinstance(value, str) or not _DATE.fullmatch(value[:10]) or value[10:11] not in ("T", "t", " "):
        raise _Misfit
    clock = _CLOCK.fullmatch(value[11:])
    if clock is None or clock[2] is None:
        raise _Misfit
    moment = datetime.datetime.fromisoformat(f"{value[:10]}T{clock[1]}{clock[2].upper()}")
    return moment.astimezone(datetime.UTC)


def _time(value: Json, _: int) -> datetime.time:
    """A time of day, without an offset or in UTC: another offset cannot be told apart in a column of times."""
    clock = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if clock is None or (clock[2] or "Z").upper() not in ("Z", "+00:00"):
        raise _Misfit
    return datetime.time.fromisoformat(clock[1])


def _json(value: Json, _: int) -> str:
    return json_text(value)


def _misfit(value: Json, _: int) -> None:
    raise _Misfit


_READERS: Mapping[Kind, Callable[[Json, int], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "time": _time,
    "json": _json,
    "struct": _misfit,
    "list": _misfit,
}
