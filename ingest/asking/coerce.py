"""An answer moved to its chunk schema where that is certain: no value is guessed, none is lost.

Understands the few keywords a chunk schema is written in. What cannot be moved is left for the validator to name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ingest.asking.schema.write import PAGE, QUOTE, VALUE
from ingest.types import Json, JsonObject
from ingest.values import read_amount, read_number

_PLAIN_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d+)?")
# Both separators present: no doubt which is which.
_GROUPED_POINT = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+\.\d+")
_GROUPED_COMMA = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+,\d+")
_DECIMALS = re.compile(r"\d([.,])(?:\d{1,2}|\d{4,})\D*\Z")
_MAX_AMOUNT_CHARS = 40
# Beyond it a float no longer holds every whole number.
_MAX_WHOLE_DIGITS = 15


# The page of a value whose page is not known; pages count from 1.
_NO_PAGE = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A value that was written anew: where it stands in the answer, as it came, and as it is now."""

    path: tuple[str | int, ...]
    said: Json
    value: Json


def coerce(
    answer: Json, schema: JsonObject, has_evidence: bool, changes: list[Change] | None = None
) -> tuple[Json, bool]:
    """The answer in the form of the chunk schema, and whether it fits it now.

    `has_evidence` says that values stand in objects with their page: one given without is taken without a page.
    Values written anew are added to `changes`; evidence that was missing and keys beyond the schema are none.
    """
    coercer = _Coercer(schema, has_evidence, _decimal_mark(answer))
    result = coercer.coerce(answer, schema)
    if changes is not None:
        changes += coercer.changes
    return result


def _decimal_mark(answer: Json) -> str | None:
    """The sign before the decimals in the numbers that were written as text; None when they do not tell, or differ."""
    marks: set[str] = set()
    pending = [answer]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and len(value) <= _MAX_AMOUNT_CHARS:
            match = _DECIMALS.search(value)
            if match and len(read_number(value)) == 1:
                marks.add(match[1])
    return marks.pop() if len(marks) == 1 else None


class _Coercer:
    def __init__(self, root: JsonObject, has_evidence: bool, decimal_mark: str | None) -> None:
        self.changes: list[Change] = []
        self._definitions: JsonObject = root.get("$defs", {})
        self._has_evidence = has_evidence
        self._decimal_mark = decimal_mark
        self._path: list[str | int] = []

    def coerce(self, value: Json, schema: JsonObject) -> tuple[Json, bool]:
        """The value as the schema wants it; unchanged, and False, when that takes more than is certain."""
        schema = self._resolve(schema)
        if "anyOf" in schema:
            return self._any(value, schema["anyOf"])
        types = _types(schema)
        if value is None:
            return None, "null" in types if types else None in schema.get("enum", ())
        if "properties" in schema:
            if self._has_evidence and _is_wrapper(schema):
                value = _wrapped(value, schema)
            if isinstance(value, dict):
                return self._object(value, schema)
        if isinstance(value, list) and "array" in types and "items" in schema:
            return self._array(value, schema["items"])
        moved, fits = (
            _from_list(value, schema["enum"]) if "enum" in schema else _scalar(value, types, self._decimal_mark)
        )
        if fits and moved is not value and moved is not None and not _is_same_number(moved, value):
            self.changes.append(Change(tuple(self._path), value, moved))
        return moved, fits

    def _below(self, step: str | int, value: Json, schema: JsonObject) -> tuple[Json, bool]:
        self._path.append(step)
        result = self.coerce(value, schema)
        self._path.pop()
        return result

    def _resolve(self, schema: JsonObject) -> JsonObject:
        while "$ref" in schema:
            schema = self._definitions[str(schema["$ref"]).rsplit("/", 1)[-1]]
        return schema

    def _any(self, value: Json, options: list[JsonObject]) -> tuple[Json, bool]:
        """The option the value fits as it is, else the first it can be moved to."""
        moved: list[tuple[Json, list[Change]]] = []
        before = len(self.changes)
        for option in options:
            result, fits = self.coerce(value, option)
            changes = self.changes[before:]
            del self.changes[before:]
            if fits and result is value:
                return value, True
            if fits:
                moved.append((result, changes))
        if moved:
            chosen = next((each for each in moved if each[0] == value), moved[0])
            self.changes += chosen[1]
            return chosen[0], True
        # The option of the same kind still gets its properties set right, so that the validator's words are few.
        for option in options:
            resolved = self._resolve(option)
            if isinstance(value, dict) and value.keys() & resolved.get("properties", {}).keys():
                return self.coerce(value, resolved)
        return value, False

    def _object(self, value: JsonObject, schema: JsonObject) -> tuple[Json, bool]:
        """Keys beyond the schema are dropped; a missing one that may be null is null."""
        result: JsonObject = {}
        fits = True
        changed = list(value) != list(schema["properties"])
        for name, child in schema["properties"].items():
            if name not in value:
                if self._admits_null(child):
                    result[name] = None
                else:
                    fits = False
                continue
            result[name], is_fitting = self._below(name, value[name], child)
            changed = changed or result[name] is not value[name]
            fits = fits and is_fitting
        return (result if changed else value), fits

    def _array(self, value: list[Json], items: JsonObject) -> tuple[Json, bool]:
        results = [self._below(number, item, items) for number, item in enumerate(value)]
        fits = all(is_fitting for _, is_fitting in results)
        changed = any(result is not item for (result, _), item in zip(results, value, strict=True))
        return ([result for result, _ in results] if changed else value), fits

    def _admits_null(self, schema: JsonObject) -> bool:
        schema = self._resolve(schema)
        if "anyOf" in schema:
            return any(self._admits_null(option) for option in schema["anyOf"])
        return "null" in _types(schema) or ("type" not in schema and None in schema.get("enum", ()))


def _is_wrapper(schema: JsonObject) -> bool:
    """Whether the schema is that of one value with its evidence."""
    names = schema["properties"].keys()
    return PAGE in names and VALUE in names and names <= {PAGE, QUOTE, VALUE}


def _wrapped(value: Json, schema: JsonObject) -> Json:
    """A bare value, or one without its page, with the evidence it lacks."""
    if isinstance(value, list) or (isinstance(value, dict) and VALUE not in value):
        return value
    given = value if isinstance(value, dict) else {VALUE: value}
    if given.get(PAGE) is not None or "null" in _types(schema["properties"][PAGE]):
        return given
    return {**given, PAGE: _NO_PAGE}


def _types(schema: JsonObject) -> tuple[str, ...]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def _from_list(value: Json, values: list[Json]) -> tuple[Json, bool]:
    """A value of the list, whatever its case and outer spaces."""
    if any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values):
        return value, True
    if not isinstance(value, str):
        return value, False
    if not value.strip() and None in values:
        return None, True
    alike = [other for other in values if isinstance(other, str) and _folded(other) == _folded(value)]
    return (alike[0], True) if len(alike) == 1 else (value, False)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_same_number(moved: Json, value: Json) -> bool:
    """Whether only the way a number is held has changed: 2.0 and 2."""
    return isinstance(moved, int | float) and isinstance(value, int | float) and moved == value


def _scalar(value: Json, types: tuple[str, ...], decimal_mark: str | None) -> tuple[Json, bool]:
    if isinstance(value, bool):
        return value, "boolean" in types
    if isinstance(value, str):
        if "string" in types:
            return value, True
        return next(_readings(value.strip(), types, decimal_mark), (value, False))
    if isinstance(value, int):
        if {"integer", "number"} & set(types):
            return value, True
        # A number written as text by the schema, as in the document: digits survive the way, decimals need not.
        return (str(value), True) if "string" in types else (value, False)
    if isinstance(value, float):
        if not math.isfinite(value):
            return value, False
        if "number" in types:
            return value, True
        return (int(value), True) if "integer" in types and value.is_integer() else (value, False)
    return value, False


def _readings(text: str, types: tuple[str, ...], decimal_mark: str | None) -> Iterator[tuple[Json, bool]]:
    """What a text says as one of the types."""
    if not text and "null" in types:
        yield None, True
    if "boolean" in types and text.casefold() in ("true", "false"):
        yield text.casefold() == "true", True
    if {"integer", "number"} & set(types):
        # Where the answer's other numbers show how it writes them, they go before JSON's own way.
        is_told = decimal_mark is not None and len(read_number(text)) > 1
        number = None if is_told else _number(text)
        if number is None:
            number = _printed_number(text, decimal_mark)
        if isinstance(number, int) or (number is not None and "number" in types):
            yield number, True
        elif number is not None and number.is_integer():
            yield int(number), True


def _printed_number(text: str, decimal_mark: str | None) -> int | float | None:
    """A number as documents print it, with a currency sign or in brackets; of two readings the one that the other
    numbers of the answer tell. A percentage may mean itself or a hundredth, and is none."""
    amount = read_amount(text)
    readings = amount.readings
    if len(readings) == 2 and decimal_mark is not None:
        mark = next((char for char in text if char in ".,"), "")
        readings = tuple(each for each in readings if (each == each.to_integral_value()) == (mark != decimal_mark))
    if len(readings) != 1 or amount.is_percent or len(readings[0].as_tuple().digits) > _MAX_WHOLE_DIGITS:
        return None
    (number,) = readings
    return int(number) if number == number.to_integral_value() and "." not in str(number) else float(number)


def _number(text: str) -> int | float | None:
    if _GROUPED_POINT.fullmatch(text):
        text = text.replace(",", "")
    elif _GROUPED_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    elif not _PLAIN_NUMBER.fullmatch(text):
        return None
    if "." in text:
        return float(text)
    return int(text) if len(text.lstrip("+-")) <= _MAX_WHOLE_DIGITS else None
