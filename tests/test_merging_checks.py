"""Merged data against the user's schema: what is certain is put right, the rest is said plainly."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.merging.checks import prune, validate

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "date": {"type": ["string", "null"], "format": "date"},
        "rows": {
            "type": "array",
            "items": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
        },
        "seller": {
            "type": "object",
            "properties": {"city": {"type": ["string", "null"]}, "vat": {"type": "string"}},
            "required": ["city"],
        },
    },
    "required": ["name", "date", "rows", "seller"],
}


def test_prune_restores_what_is_certain_and_invents_nothing() -> None:
    """The chunk schema lets everything be null; the user's schema must not fail for that alone."""
    assert prune({"seller": {"vat": None}}, SCHEMA) == {"date": None, "rows": [], "seller": {"city": None}}
    assert prune({"rows": None, "seller": None}, SCHEMA) == {"date": None, "rows": [], "seller": {"city": None}}
    full = {"name": "a", "date": "2020-01-02", "rows": [{"n": 1}], "seller": {"city": "b", "vat": "c"}}
    assert prune(full, SCHEMA) == full


def test_prune_keeps_null_where_it_is_allowed_and_drops_it_where_it_is_not() -> None:
    """An optional text that was not found is absent, not null, when the schema says text."""
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {"enum": ["x", None]}}}
    assert prune({"a": None, "b": None, "c": None}, schema) == {"b": None, "c": None}


def test_prune_follows_references_and_stops_in_circles() -> None:
    """A schema that requires itself for ever cannot be filled, and must not be tried for ever."""
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}},
        "properties": {
            "root": {"$ref": "#/$defs/node"},
            "leaf": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        },
        "required": ["root", "leaf"],
    }
    assert prune({}, schema) == {"root": {}, "leaf": None}


@pytest.mark.parametrize(
    ("data", "pointer", "message"),
    [
        ({"n": "x"}, "/n", "n must be a number, and is 'x'"),
        ({"n": -1}, "/n", "n must be at least 0, and is -1"),
        ({"d": "5.6.2018"}, "/d", "d must be a date (YYYY-MM-DD), and is '5.6.2018'"),
        ({"e": "z"}, "/e", "e must be one of ['x', 'y'], and is 'z'"),
        ({"l": []}, "/l", "l must have at least 1 items, and has 0"),
        ({"o": {}}, "/o", "o lacks p, q"),
        ({"l": [{"a/b": None}]}, "/l/0/a~1b", "l/0/a~1b must be a text, and is null"),
        ({"u": 3}, "/u", "u must be a text or null, and is 3"),
    ],
)
def test_violations_are_told_in_plain_words(data: Any, pointer: str, message: str) -> None:
    """People who read records know their fields, not the keywords of JSON Schema."""
    schema = {
        "properties": {
            "n": {"type": "number", "minimum": 0},
            "d": {"type": "string", "format": "date"},
            "e": {"enum": ["x", "y"]},
            "l": {"minItems": 1, "items": {"properties": {"a/b": {"type": "string"}}}},
            "o": {"required": ["p", "q"]},
            "u": {"type": ["string", "null"]},
        }
    }
    (problem,) = validate(data, schema)
    assert (problem.stage, problem.code, problem.pointer, problem.message) == ("check", "off_schema", pointer, message)


def test_violations_are_bounded() -> None:
    """A wrong column of ten thousand rows must not make a record of ten thousand complaints."""
    problems = validate([None] * 10_000, {"items": {"type": "string"}}, limit=5)
    assert len(problems) == 6
    assert "more than 5" in problems[-1].message


def test_unusable_schema_is_a_problem_not_a_crash() -> None:
    """A bad reference must cost one field of one report, not the run."""
    for schema in ({"$ref": "#/$defs/nowhere"}, {"$ref": "https://example.org/x.json"}, {"type": "text"}):
        (problem,) = validate({}, schema)
        assert problem.code == "bad_schema"
    assert prune({"a": None}, {"$ref": "#/$defs/nowhere"}) == {"a": None}


def test_cents_are_multiples_of_a_cent() -> None:
    """In floats 2212.99 is no multiple of 0.01, and an amount read right would make its record partial."""
    schema = {"properties": {"total": {"type": "number", "multipleOf": 0.01}}}
    for total in (2212.99, 10416.62, 0.07, -19.99, 1e300, 10**400, 3):
        assert validate({"total": total}, schema) == ()
    (problem,) = validate({"total": 2.345}, schema)
    assert (problem.code, problem.pointer) == ("off_schema", "/total")
