"""Typed reading of a request body: each getter returns a checked value, None when absent, or raises a 400 Refusal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.local.refusal import Refusal, invalid

# No documented field nests deeper than its schema does; deeper bodies are refused before any recursion over them.
_MAX_DEPTH = 200
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_body(raw: bytes) -> Mapping[str, Any]:
    """The JSON object in a request body.

    NaN and infinities, other than UTF-8 text, too deep nesting and anything but an object are a 400. Half surrogate
    pairs in strings become U+FFFD, since no later step could encode them.
    """
    try:
        body = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise Refusal(400, "InvalidParameter", "The request body is nested too deeply.") from error
    except ValueError as error:
        raise Refusal(400, "InvalidParameter", f"The request body is not valid JSON: {str(error)[:200]}.") from error
    if not isinstance(body, dict):
        raise Refusal(400, "InvalidParameter", "The request body is not a JSON object.")
    _check_depth(body)
    if _SURROGATE.search(raw):
        return {_whole_text(key): _whole_strings(value) for key, value in body.items()}
    return body


def _check_depth(body: Mapping[str, Any]) -> None:
    level: list[Any] = [body]
    for _ in range(_MAX_DEPTH):
        children = (child for value in level for child in (value.values() if isinstance(value, dict) else value))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise Refusal(400, "InvalidParameter", f"The request body is nested deeper than {_MAX_DEPTH} levels.")


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"the number {literal[:40]} is too large")
    return number


def _whole_text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _whole_strings(value: Any) -> Any:
    if isinstance(value, str):
        return _whole_text(value)
    if isinstance(value, list):
        return [_whole_strings(item) for item in value]
    if isinstance(value, dict):
        return {_whole_text(key): _whole_strings(item) for key, item in value.items()}
    return value


class Fields:
    """A JSON object of the request and where it stands (`path` is "" for the body, else ends with a dot)."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self.values = values
        self.path = path

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number within both bounds."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(self.path + name, "an integer is expected")
        if not low <= value <= high:
            raise invalid(self.path + name, f"{_short(value)} is outside {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within both bounds."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(self.path + name, "a number is expected")
        if not low <= value <= high:
            raise invalid(self.path + name, f"{_short(value)} is outside {low} to {high}")
        return float(value)

    def boolean(self, name: str) -> bool | None:
        """true or false."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise invalid(self.path + name, "true or false is expected")

    def string(self, name: str) -> str | None:
        """Text."""
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise invalid(self.path + name, "a string is expected")

    def choice(self, name: str, options: Iterable[str]) -> str | None:
        """One of the words."""
        value = self.values.get(name)
        if value is None:
            return None
        allowed = sorted(options)
        if not isinstance(value, str) or value not in allowed:
            raise invalid(self.path + name, f"{_short(value)} is not one of {', '.join(allowed)}")
        return value

    def mapping(self, name: str) -> Fields | None:
        """A JSON object."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise invalid(self.path + name, "an object is expected")
        return Fields(value, f"{self.path}{name}.")

    def array(self, name: str) -> list[Any] | None:
        """A JSON array."""
        value = self.values.get(name)
        if value is None or isinstance(value, list):
            return value
        raise invalid(self.path + name, "an array is expected")


def _short(value: object) -> str:
    return f"`{str(value)[:60]}`" if not isinstance(value, int) or abs(value) < 10**60 else "a number of many digits"
