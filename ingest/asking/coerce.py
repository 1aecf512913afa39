"""An answer moved to its chunk schema where that is certain: no value is guessed, none is lost.

Understands the few keywords a chunk schema is written in. What cannot be moved is left for the validator to name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ingest.asking.schema.write import PAGE, QUOTE, VALUE
from ingest.types import Json, JsonObject

_PLAIN_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d+)?")
# Both separators present: no doubt which is which.
_GROUPED_POINT = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+\.\d+")
_GROUPED_COMMA = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+,\d+")
# Beyond it a float no longer holds every whole number.
_MAX_WHOLE_DIGITS = 15


# The page of a value whose page is not known; pages count from 1.
_NO_PAGE = 0


def coerce(answer: Json, schema: JsonObject, has_evidence: bool) -> tuple[Json, bool]:
    """The answer in the form of the chunk schema, and whether it fits it now.

    `has_evidence` says that values stand in objects with their page: one given without is taken without a page.
    """
    return _Coercer(schema, has_evidence).coerce(answer, schema)


class _Coercer:
    def __init__(self, root: JsonObject, has_evidence: bool) -> None:
        self._definitions: JsonObject = root.get("$defs", {})
        self._has_evidence = has_evidence

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
        if "enum" in schema:
            return _from_list(value, schema["enum"])
        return _scalar(value, types)

    def _resolve(self, schema: JsonObject) -> JsonObject:
        while "$ref" in schema:
            schema = self._definitions[str(schema["$ref"]).rsplit("/", 1)[-1]]
        return schema

    def _any(self, value: Json, options: list[JsonObject]) -> tuple[Json, bool]:
        """The option the value fits as it is, else the first it can be moved to."""
        moved: list[Json] = []
        for option in options:
            result, fits = self.coerce(value, option)
            if fits and result is value:
                return value, True
            if fits:
                moved.append(result)
        if moved:
            return next((result for result in moved if result == value), moved[0]), True
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
            result[name], is_fitting = self.coerce(value[name], child)
            changed = changed or result[name] is not value[name]
            fits = fits and is_fitting
        return (result if changed else value), fits

    def _array(self, value: list[Json], items: JsonObject) -> tuple[Json, bool]:
        results = [self.coerce(item, items) for item in value]
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


def _scalar(value: Json, types: tuple[str, ...]) -> tuple[Json, bool]:
    if isinstance(value, bool):
        return value, "boolean" in types
    if isinstance(value, str):
        if "string" in types:
            return value, True
        return next(_readings(value.strip(), types), (value, False))
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


def _readings(text: str, types: tuple[str, ...]) -> Iterator[tuple[Json, bool]]:
    """What a text says as one of the types."""
    if not text and "null" in types:
        yield None, True
    if "boolean" in types and text.casefold() in ("true", "false"):
        yield text.casefold() == "true", True
    if {"integer", "number"} & set(types):
        number = _number(text)
        if isinstance(number, int) or (number is not None and "number" in types):
            yield number, True
        elif number is not None and number.is_integer():
            yield int(number), True


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
