"""Every keyword of JSON Schema 2020-12: asked for, told in a description, checked by us alone, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest.asking import schema
from ingest.errors import ConfigError
from tests.chunk_forms import check_strict, wrap
from tests.test_asking_roundtrip import EVIDENCE, cases, tidy

TEXT = {"type": "string"}
OBJECT = {"type": "object", "properties": {"a": TEXT, "b": TEXT}}
LIST = {"type": "array", "items": TEXT}

# The child schema that uses the keyword, and what must be found in the chunk schema's text; None where the keyword says
# nothing to the model and is checked by us, or means nothing to the data.
CASES: dict[str, tuple[Any, str | None]] = {
    # core
    "$schema": (None, None),
    "$id": (None, None),
    "$vocabulary": (None, None),
    "$comment": ({**TEXT, "$comment": "for us"}, None),
    "$anchor": ({"$ref": "#there"}, '"integer"'),
    "$dynamicAnchor": ({"$dynamicRef": "#moving"}, '"boolean"'),
    "$dynamicRef": ({"$dynamicRef": "#moving"}, '"boolean"'),
    "$ref": ({"$ref": "#/$defs/there"}, '"integer"'),
    "$defs": ({"$ref": "#/$defs/there"}, '"integer"'),
    # applicator
    "allOf": ({"allOf": [TEXT, {"description": "both"}]}, "both"),
    "anyOf": ({"anyOf": [TEXT, {"type": "number"}]}, '"number"'),
    "oneOf": ({"oneOf": [TEXT, {"type": "number"}]}, '"number"'),
    "not": ({**TEXT, "not": {"const": "bad"}}, "bad"),
    "if": ({**OBJECT, "if": {"properties": {"a": {"const": "x"}}}, "then": {"required": ["b"]}}, "a is"),
    "then": ({**OBJECT, "if": {"properties": {"a": {"const": "x"}}}, "then": {"properties": {"c": TEXT}}}, '"c"'),
    "else": ({**OBJECT, "if": {"properties": {"a": {"const": "x"}}}, "else": {"properties": {"d": TEXT}}}, '"d"'),
    "dependentSchemas": ({**OBJECT, "dependentSchemas": {"a": {"properties": {"e": TEXT}}}}, '"e"'),
    "prefixItems": ({"type": "array", "prefixItems": [TEXT, {"type": "number"}]}, "item_2"),
    "items": (LIST, '"items"'),
    "contains": ({**LIST, "contains": {"const": "must"}}, "must"),
    "properties": (OBJECT, '"a"'),
    "patternProperties": ({"type": "object", "patternProperties": {"^k": TEXT}}, "^k"),
    "additionalProperties": ({"type": "object", "additionalProperties": TEXT}, '"key"'),
    "propertyNames": ({"type": "object", "additionalProperties": TEXT, "propertyNames": {"pattern": "^p"}}, "^p"),
    # unevaluated
    "unevaluatedItems": ({"type": "array", "prefixItems": [TEXT], "unevaluatedItems": False}, "item_1"),
    "unevaluatedProperties": ({**OBJECT, "unevaluatedProperties": False}, '"a"'),
    # validation
    "type": (TEXT, '"string"'),
    "enum": ({"enum": ["one", "two"]}, "two"),
    "const": ({"const": "only"}, "only"),
    "multipleOf": ({"type": "number", "multipleOf": 0.25}, "0.25"),
    "maximum": ({"type": "number", "maximum": 77}, "77"),
    "exclusiveMaximum": ({"type": "number", "exclusiveMaximum": 77}, "77"),
    "minimum": ({"type": "number", "minimum": 77}, "77"),
    "exclusiveMinimum": ({"type": "number", "exclusiveMinimum": 77}, "77"),
    "maxLength": ({**TEXT, "maxLength": 77}, "77"),
    "minLength": ({**TEXT, "minLength": 77}, "77"),
    "pattern": ({**TEXT, "pattern": "^Z[0-9]+$"}, "^Z[0-9]+$"),
    "maxItems": ({**LIST, "maxItems": 77}, "77"),
    "minItems": ({**LIST, "minItems": 77}, None),
    "uniqueItems": ({**LIST, "uniqueItems": True}, None),
    "maxContains": ({**LIST, "contains": {"const": "must"}, "maxContains": 77}, None),
    "minContains": ({**LIST, "contains": {"const": "must"}, "minContains": 77}, None),
    "maxProperties": ({"type": "object", "additionalProperties": TEXT, "maxProperties": 77}, None),
    "minProperties": ({"type": "object", "additionalProperties": TEXT, "minProperties": 77}, None),
    "required": ({**OBJECT, "required": ["a"]}, '"a"'),
    "dependentRequired": ({**OBJECT, "dependentRequired": {"a": ["b"]}}, "when a is given"),
    # annotations and content
    "title": ({**TEXT, "title": "A Heading Of Its Own"}, None),
    "description": ({**TEXT, "description": "what it is"}, "what it is"),
    "default": ({**TEXT, "default": "usual"}, None),
    "deprecated": ({**TEXT, "deprecated": True}, None),
    "readOnly": ({**TEXT, "readOnly": True}, None),
    "writeOnly": ({**TEXT, "writeOnly": True}, None),
    "examples": ({**TEXT, "examples": ["such as this"]}, "such as this"),
    "contentEncoding": ({**TEXT, "contentEncoding": "base64"}, None),
    "contentMediaType": ({**TEXT, "contentMediaType": "image/png"}, None),
    "contentSchema": ({**TEXT, "contentMediaType": "application/json", "contentSchema": OBJECT}, None),
}
FORMATS = (
    "date-time date time duration email idn-email hostname idn-hostname ipv4 ipv6 uri uri-reference iri iri-reference"
    " uuid uri-template json-pointer relative-json-pointer regex"
).split()


def _form(keyword: str, child: Any) -> dict[str, Any]:
    defs = {
        "there": {"type": "integer", "$anchor": "there"},
        "moving": {"type": "boolean", "$dynamicAnchor": "moving"},
    }
    top: dict[str, Any] = {"type": "object", "properties": {"x": TEXT if child is None else child}, "$defs": defs}
    values = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.org/form"}
    return top | ({keyword: values.get(keyword, {})} if child is None else {})


@pytest.mark.parametrize("evidence", ["none", "part", "quote"])
@pytest.mark.parametrize("keyword", CASES)
def test_a_keyword_is_asked_for_or_told(keyword: str, evidence: Any) -> None:
    """None crashes the derivation, none reaches the API that refuses it, and what binds the answer is said to it."""
    child, told = CASES[keyword]
    chunk_schema = schema.derive(_form(keyword, child), evidence)
    check_strict(chunk_schema.schema)
    if told is not None:
        assert told.lower() in chunk_schema.text.lower()


@pytest.mark.parametrize("name", [*FORMATS, "unheard-of"])
def test_every_format_is_told(name: str) -> None:
    """A format is not in the dialect: the words for it are all the model has."""
    chunk_schema = schema.derive({"type": "object", "properties": {"x": {**TEXT, "format": name}}}, "none")
    check_strict(chunk_schema.schema)
    assert "description" in chunk_schema.schema["properties"]["x"]


def test_no_keyword_of_the_standard_is_missing_here() -> None:
    """The list is the standard's own, taken from its meta-schemas."""
    from jsonschema_specifications import REGISTRY

    base = "https://json-schema.org/draft/2020-12/meta/"
    names = "core applicator unevaluated validation format-annotation content meta-data".split()
    known = {word for name in names for word in REGISTRY.contents(base + name)["properties"]}
    assert known - {"format"} == CASES.keys()


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"$ref": "https://example.org/other.json"}, "leads outside the schema"),
        ({"$ref": "#/$defs/none"}, "leads to nothing"),
        ({"$dynamicRef": "#none"}, "does not exist"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(form: Any, words: str) -> None:
    """Nothing is ever fetched: a reference out of the schema is an error before anything is sent."""
    with pytest.raises(ConfigError, match=words):
        schema.derive({"type": "object", "properties": {"x": form}})


@st.composite
def _restricted(draw: st.DrawFn, value: Any, form: Any) -> Any:
    """The instance with some entries of its lists, at any depth: what a chunk of the document holds."""
    if "allOf" in form:
        return draw(_restricted(value, form["allOf"][0]))
    options = form.get("anyOf") or form.get("oneOf")
    if options and value is not None:
        kind = value.get("kind") if isinstance(value, dict) else None
        fitting = [each for each in options if each.get("properties", {}).get("kind", {}).get("const", kind) == kind]
        fitting = [each for each in fitting if each != {"type": "null"} and Draft202012Validator(each).is_valid(value)]
        return draw(_restricted(value, fitting[0])) if fitting else value
    if isinstance(value, list) and "prefixItems" not in form:
        return [draw(_restricted(item, form["items"])) for item in value if draw(st.booleans())]
    if isinstance(value, dict):
        below = form.get("properties", {})
        free = form.get("additionalProperties")
        found = {}
        for name, item in value.items():
            if name in below:
                found[name] = draw(_restricted(item, below[name]))
            elif draw(st.booleans()):
                found[name] = draw(_restricted(item, free)) if isinstance(free, dict) else item
        return found
    return value


@given(data=st.data(), case=cases(), evidence=EVIDENCE)
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_chunk_schema_takes_every_part_of_an_instance(data: Any, case: tuple[Any, Any], evidence: Any) -> None:
    """A chunk holds some of a document's entries, and some of its slots are asked for alone: all of that must fit."""
    form, whole = case
    some = data.draw(_restricted(whole, form))
    chunk_schema = schema.derive(form, evidence)
    answer = wrap(some, chunk_schema)
    assert Draft202012Validator(chunk_schema.schema).is_valid(answer)
    restored, _ = schema.restore(answer, chunk_schema)
    assert tidy(restored, form) == tidy(some, form)
    slots = data.draw(st.lists(st.sampled_from(chunk_schema.slots), min_size=1, unique=True))
    narrowed = schema.narrow(chunk_schema, slots)
    check_strict(narrowed.schema)
    assert narrowed.slots == tuple(slot for slot in chunk_schema.slots if slot in slots)
