"""Keywords the strict dialect refuses, in plain words for the model.

The words go into descriptions; the merged record is still checked against the keywords themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from ingest.types import Json, JsonObject

# Longer conditions would drown the description they stand in.
_MAX_JSON_CHARS = 300

FORMATS = {
    "date": "date as YYYY-MM-DD",
    "date-time": "date and time as YYYY-MM-DDThh:mm:ss with offset, such as 2024-05-31T14:30:00Z",
    "time": "time as hh:mm:ss",
    "duration": "duration in ISO 8601, such as P3D or PT1H30M",
    "email": "e-mail address",
    "idn-email": "e-mail address",
    "hostname": "host name",
    "idn-hostname": "host name",
    "ipv4": "IPv4 address",
    "ipv6": "IPv6 address",
    "uri": "URI with its scheme, such as https://example.org",
    "uri-reference": "URI",
    "iri": "IRI with its scheme",
    "iri-reference": "IRI",
    "uri-template": "URI template",
    "uuid": "UUID",
    "json-pointer": "JSON Pointer",
    "relative-json-pointer": "relative JSON Pointer",
    "regex": "regular expression",
    "binary": "",
    "password": "",
}

Words = Callable[[Json], str]

_TEXT: dict[str, Words] = {
    "format": lambda value: FORMATS.get(value, f"format {value}"),
    "pattern": lambda value: f"matches the pattern {value}",
    "minLength": lambda value: f"at least {_count(value, 'character')}" if value > 1 else "",
    "maxLength": lambda value: f"at most {_count(value, 'character')}",
    "contentEncoding": lambda value: f"encoded as {value}",
    "contentMediaType": lambda value: f"holds {value}",
}
_NUMBER: dict[str, Words] = {
    "minimum": lambda value: f"at least {_show(value)}",
    "maximum": lambda value: f"at most {_show(value)}",
    "exclusiveMinimum": lambda value: f"greater than {_show(value)}",
    "exclusiveMaximum": lambda value: f"less than {_show(value)}",
    "multipleOf": lambda value: f"a multiple of {_show(value)}",
}
# A chunk may hold fewer entries than the whole document must.
_ARRAY: dict[str, Words] = {
    "minItems": lambda value: f"at least {_count(value, 'entry')} in the whole document" if value else "",
    "maxItems": lambda value: f"at most {_count(value, 'entry')} in the whole document",
    "uniqueItems": lambda value: "no two entries alike" if value else "",
}
_OBJECT: dict[str, Words] = {
    "minProperties": lambda value: f"at least {_count(value, 'entry')} in the whole document" if value else "",
    "maxProperties": lambda value: f"at most {_count(value, 'entry')} in the whole document",
    "dependentRequired": lambda value: "; ".join(_depends(name, names) for name, names in value.items() if names),
}


def text_notes(schema: JsonObject) -> list[str]:
    """What is asked of a text."""
    return _collect(schema, _TEXT)


def number_notes(schema: JsonObject) -> list[str]:
    """What is asked of a number."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        rest = {name: value for name, value in schema.items() if name not in ("minimum", "maximum")}
        return [f"from {_show(low)} to {_show(high)}", *_collect(rest, _NUMBER)]
    return _collect(schema, _NUMBER)


def array_notes(schema: JsonObject) -> list[str]:
    """What is asked of a list."""
    notes = _collect(schema, _ARRAY)
    contains = schema.get("contains")
    if isinstance(contains, dict) and contains and schema.get("minContains", 1):
        notes.append(f"one entry or more fits {_schema_text(contains)}")
    return notes


def object_notes(schema: JsonObject) -> list[str]:
    """What is asked of an object."""
    return _collect(schema, _OBJECT)


def not_note(schema: Json) -> str:
    """What a value must not be."""
    if not isinstance(schema, dict) or not schema:
        return ""
    if set(schema) == {"const"}:
        return f"not {_show(schema['const'])}"
    if set(schema) == {"enum"}:
        return f"not one of {', '.join(_show(value) for value in schema['enum'])}"
    if set(schema) == {"required"}:
        return f"not with {_names(schema['required'])} given"
    return f"must not fit {_schema_text(schema)}"


def condition_note(schema: JsonObject) -> str:
    """`if`, `then` and `else` in words."""
    condition, then = schema.get("if"), schema.get("then")
    simple = _simple_condition(condition)
    if simple and isinstance(then, dict) and set(then) == {"required"} and "else" not in schema:
        return f"when {simple}, {_names(then['required'])} must be given"
    parts = {word: schema[word] for word in ("if", "then", "else") if word in schema}
    return f"condition: {_schema_text(parts)}" if len(parts) > 1 else ""


def options_note(options: list[Json], only_one: bool) -> str:
    """Options that constrain a value without giving it another form, such as a choice of required properties."""
    if all(isinstance(option, dict) and set(option) == {"required"} for option in options):
        sets = [" and ".join(option["required"]) for option in options if option["required"]]
        return f"{'exactly' if only_one else 'at least'} one of these is given: {'; '.join(sets)}" if sets else ""
    return f"{'exactly one' if only_one else 'any'} of these holds: {_schema_text(options)}"


def example_note(schema: JsonObject) -> str:
    """Up to three examples."""
    examples = schema.get("examples")
    if not isinstance(examples, list):
        return ""
    shown = [_show(value) for value in examples if not isinstance(value, dict | list) and value is not None][:3]
    return f"for example {', '.join(shown)}" if shown else ""


def add_notes(description: str, notes: list[str]) -> str:
    """A description with the notes behind it in brackets."""
    words = "; ".join(dict.fromkeys(note for note in notes if note))
    if not words:
        return description
    if not description:
        return words[0].upper() + words[1:]
    return f"{description} ({words})"


def _collect(schema: JsonObject, table: dict[str, Words]) -> list[str]:
    return [words(schema[keyword]) for keyword, words in table.items() if keyword in schema]


def _depends(name: str, names: list[str]) -> str:
    return f"when {name} is given, {_names(names)} must be given too"


def _simple_condition(condition: Json) -> str:
    """ "x is A and y is B" for a condition on constants; "" for any other."""
    if not isinstance(condition, dict) or not set(condition) <= {"properties", "required"}:
        return ""
    words = []
    for name, schema in condition.get("properties", {}).items():
        if not isinstance(schema, dict) or not ({"const"} == set(schema) or {"enum"} == set(schema)):
            return ""
        values = [schema["const"]] if "const" in schema else schema["enum"]
        words.append(f"{name} is {' or '.join(_show(value) for value in values)}")
    return " and ".join(words)


def _names(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else "nothing"


def _count(value: Json, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{_show(value)} {noun if value == 1 else plural}"


def _show(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _schema_text(schema: Json) -> str:
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _MAX_JSON_CHARS else f"{text[:_MAX_JSON_CHARS]}…"
