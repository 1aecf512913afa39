"""What a chunk schema asks, keyword by keyword, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from ingest.asking import schema
from ingest.errors import ConfigError
from ingest.local.dialect import check_schema
from ingest.types import Cite
from tests.chunk_forms import check_strict, wrap

JsonObject = dict[str, Any]


def derive(properties: JsonObject, evidence: Any = "none", **keywords: Any) -> JsonObject:
    """Properties of the chunk schema of an object with `properties`, references still in place."""
    chunk_schema = schema.derive({"type": "object", "properties": properties} | keywords, evidence)
    check_strict(chunk_schema.schema)
    found: JsonObject = chunk_schema.schema["properties"]
    return found


def derive_one(child: JsonObject, evidence: Any = "none") -> JsonObject:
    """Chunk schema of one required property."""
    found: JsonObject = derive({"x": child}, evidence, required=["x"])["x"]
    return found


# --- what the model is asked ---


def test_a_leaf_outside_of_lists_carries_its_page() -> None:
    """Evidence per value is the promise; null as a whole is the way out when the page has no value."""
    found = derive_one({"type": "string", "description": "Name"}, "part")
    assert found == {
        "description": "Name",
        "anyOf": [
            {"type": "null"},
            {
                "type": "object",
                "properties": {"_page": {"type": "integer"}, "value": {"type": ["string", "null"]}},
                "required": ["_page", "value"],
                "additionalProperties": False,
            },
        ],
    }


def test_an_entry_of_a_list_carries_one_page_for_all_its_leaves() -> None:
    """A page on every cell of a table would cost more output than the table itself."""
    row = {
        "type": "object",
        "properties": {"a": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
    }
    found = derive_one({"type": "array", "items": row}, "quote")["items"]["properties"]
    assert list(found) == ["_page", "_quote", "a", "tags"]
    assert found["_page"] == {"type": ["integer", "null"]}
    assert found["a"] == {"type": ["number", "null"]}
    assert list(found["tags"]["items"]["properties"]) == ["_page", "_quote", "value"]


def test_without_evidence_nothing_is_added() -> None:
    """Evidence is a setting; its fields cost tokens."""
    assert "_page" not in json.dumps(
        derive({"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}})
    )


def test_values_used_often_are_defined_once() -> None:
    """The schema is paid for in every request."""
    chunk_schema = schema.derive({"type": "object", "properties": {name: {"type": "string"} for name in "abcdef"}})
    assert list(chunk_schema.schema["$defs"]) == ["cited_string"]
    assert chunk_schema.text.count("_page") == 2


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"type": "string", "format": "date"}, "Date as YYYY-MM-DD"),
        ({"type": "string", "pattern": "^[A-Z]+$"}, "Matches the pattern ^[A-Z]+$"),
        ({"type": "string", "minLength": 3}, "At least 3 characters"),
        ({"type": "string", "maxLength": 1}, "At most 1 character"),
        ({"type": "number", "minimum": 0, "maximum": 100}, "From 0 to 100"),
        ({"type": "number", "exclusiveMinimum": 0}, "Greater than 0"),
        ({"type": "integer", "multipleOf": 5}, "A multiple of 5"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "At least 1 entry in the whole document"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "No two entries alike"),
        ({"type": "string", "not": {"enum": ["n/a", "-"]}}, 'Not one of "n/a", "-"'),
        ({"type": "string", "examples": ["DE123", "FR9"]}, 'For example "DE123", "FR9"'),
        ({"type": "string", "title": "Name of the shop"}, "Name of the shop"),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
            "When a is given, b must be given too",
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "At least one of these is given: a; b",
        ),
    ],
)
def test_a_refused_keyword_is_told_in_words(keywords: JsonObject, words: str) -> None:
    """What strict schemas cannot say must still reach the model, or it answers in the wrong form."""
    assert derive_one(keywords)["description"] == words


def test_words_stand_behind_the_users_own() -> None:
    """The user's description comes first and is not repeated in other words."""
    assert (
        derive_one({"type": "string", "format": "date", "description": "Due"})["description"]
        == "Due (date as YYYY-MM-DD)"
    )
    told = "Due, as YYYY-MM-DD"
    assert derive_one({"type": "string", "format": "date", "description": told})["description"] == told


def test_titles_that_repeat_the_name_are_dropped() -> None:
    """Class generators title every field with its own name, which tells the model nothing and costs tokens."""
    assert derive({"total_due": {"type": "number", "title": "Total Due"}}) == {
        "total_due": {"type": ["number", "null"]}
    }


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"const": "EUR"}, {"type": ["string", "null"], "enum": ["EUR", None]}),
        ({"enum": ["a", 1, None]}, {"type": ["string", "integer", "null"], "enum": ["a", 1, None]}),
        ({"type": "string", "enum": ["a", 1]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"type": ["string", "null"], "enum": ["a", "b", None]}),
        ({"type": ["integer", "string"]}, {"type": ["integer", "string", "null"]}),
        ({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}, {"type": ["number", "string", "null"]}),
        (
            {"anyOf": [{"enum": ["x"]}, {"type": "number"}]},
            {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "number"}, {"type": "null"}]},
        ),
        ({"allOf": [{"type": "number"}, {"enum": [1, 2, "x"]}]}, {"type": ["integer", "null"], "enum": [1, 2, None]}),
        ({"minimum": 3}, {"description": "At least 3", "type": ["number", "null"]}),
        ({}, {"type": ["number", "boolean", "string", "null"]}),
        ({"type": "null"}, {"type": "null"}),
    ],
)
def test_forms_of_a_leaf(form: JsonObject, expected: JsonObject) -> None:
    """The many ways to write one value meet in one strict form that admits null."""
    assert derive_one(form) == expected


def test_a_long_list_of_constants_keeps_what_they_stand_for() -> None:
    """Code lists run to hundreds of values, each titled with its meaning."""
    codes = [{"const": f"C{number}", "title": f"Meaning {number}"} for number in range(200)]
    found = derive_one({"type": "string", "oneOf": codes})
    assert len(found["enum"]) == 201
    assert "C7: meaning 7" in found["description"]


def test_a_number_that_may_be_written_as_text_is_a_number() -> None:
    """Decimal types allow both; two forms of one amount would only disagree between chunks."""
    form = {
        "anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
            {"type": "null"},
        ]
    }
    assert derive_one(form) == {"type": ["number", "null"]}


def test_all_of_is_merged() -> None:
    """Composed schemas are common; a strict one must name all properties in one place."""
    form = {
        "allOf": [
            {"$ref": "#/$defs/base"},
            {"properties": {"b": {"type": "string"}, "a": {"maxLength": 3}}, "required": ["b"]},
        ],
        "properties": {"c": {"type": "boolean"}},
    }
    found = derive({"x": form}, **{"$defs": {"base": {"type": "object", "properties": {"a": {"type": "string"}}}}})["x"]
    assert found["properties"].keys() == {"a", "b", "c"}
    assert found["properties"]["a"] == {"description": "At most 3 characters", "type": ["string", "null"]}


def test_conditions_bring_their_properties() -> None:
    """A property that only `then` names would otherwise never be asked for."""
    form = {
        "type": "object",
        "properties": {"country": {"type": "string"}},
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"zip": {"type": "string"}}},
        "else": {"properties": {"zip": {"type": "integer"}, "code": {"type": "string"}}},
    }
    found = derive_one(form)
    assert list(found["properties"]) == ["country", "zip", "code"]
    assert found["properties"]["zip"] == {"type": ["integer", "string", "null"]}
    assert "condition" in found["description"].lower()


def test_dependent_schemas_bring_their_properties() -> None:
    """The same for properties that come with another one."""
    form = {
        "type": "object",
        "properties": {"card": {"type": "string"}},
        "dependentSchemas": {"card": {"properties": {"billing": {"type": "string"}}, "required": ["billing"]}},
    }
    assert list(derive_one(form)["properties"]) == ["card", "billing"]


def test_siblings_of_a_reference_are_kept() -> None:
    """In 2020-12 a reference has neighbours; in strict dialects it has none."""
    shared = {
        "$defs": {"money": {"type": "object", "properties": {"amount": {"type": "number"}}, "description": "Money"}}
    }
    found = derive({"a": {"$ref": "#/$defs/money", "description": "Net"}, "b": {"$ref": "#/$defs/money"}}, **shared)
    assert found["a"] == {"description": "Net", "anyOf": [{"type": "null"}, {"$ref": "#/$defs/money"}]}
    assert found["b"] == {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/money"}]}
    tight = {"a": {"$ref": "#/$defs/money", "properties": {"unit": {"type": "string"}}}}
    assert list(derive(tight, **shared)["a"]["properties"]) == ["unit", "amount"]


def test_anchors_are_references_too() -> None:
    """$anchor and $dynamicRef lead somewhere within the document like any other reference."""
    shared = {"$defs": {"m": {"$anchor": "money", "type": "number"}, "n": {"$dynamicAnchor": "n", "type": "boolean"}}}
    found = derive({"a": {"$ref": "#money"}, "b": {"$dynamicRef": "#n"}}, **shared)
    assert found == {"a": {"type": ["number", "null"]}, "b": {"type": ["boolean", "null"]}}


def test_a_choice_of_objects_is_told_apart_by_its_constants() -> None:
    """A kind that could be null would leave the option in doubt, and restore would have to guess."""
    form = {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": kind}, "v": {"type": type_}}, "required": ["kind"]}
            for kind, type_ in (("text", "string"), ("count", "integer"))
        ]
    }
    found = derive_one(form, "part")
    assert found["anyOf"][0] == {"type": "null"}
    assert found["anyOf"][1]["properties"]["kind"] == {"type": "string", "enum": ["text"]}
    chunk_schema = schema.derive({"type": "object", "properties": {"x": form}})
    answer = {"x": {"kind": "count", "v": {"_page": 2, "value": 3}}}
    assert schema.restore(answer, chunk_schema) == ({"x": {"kind": "count", "v": 3}}, {"/x/v": Cite(2)})


def test_free_keys_become_entries_and_come_back() -> None:
    """Strict schemas have no free keys, users' schemas do."""
    form: JsonObject = {
        "type": "object",
        "properties": {
            "rates": {"type": "object", "additionalProperties": {"type": "number"}},
            "mixed": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "entries": {"type": "string"}},
                "patternProperties": {"^x-": {"type": "string"}},
            },
            "by_color": {
                "type": "object",
                "propertyNames": {"enum": ["red", "blue"]},
                "additionalProperties": {"type": "integer"},
            },
        },
    }
    chunk_schema = schema.derive(form, "part")
    check_strict(chunk_schema.schema)
    keys = chunk_schema.schema["properties"]["by_color"]["items"]["properties"]["key"]
    assert keys["enum"] == ["red", "blue"]
    data = {"rates": {"EUR/USD": 1.08, "x": 2}, "mixed": {"name": "n", "x-a": "1"}, "by_color": {"red": 1}}
    restored, cites = schema.restore(wrap(data, chunk_schema, page=4), chunk_schema)
    assert restored == data
    assert cites["/rates/EUR~1USD"] == Cite(4)


def test_tuples_become_objects_and_come_back() -> None:
    """A list whose positions differ cannot keep its length in the strict dialect; an object can."""
    form = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}], "items": {"type": "boolean"}}
    chunk_schema = schema.derive({"type": "object", "properties": {"x": form}}, "part")
    check_strict(chunk_schema.schema)
    for data in ({"x": ["a", 1, True, False]}, {"x": [None, 1]}):
        assert schema.restore(wrap(data, chunk_schema), chunk_schema)[0] == data
    nothing = {"x": {"item_1": None, "item_2": None, "rest": []}}
    assert schema.restore(nothing, chunk_schema)[0] == {}


def test_the_users_own_page_field_keeps_its_name() -> None:
    """A property named like an evidence field must not be taken for one."""
    form = {"type": "object", "properties": {"_page": {"type": "string"}, "page_": {"type": "string"}}}
    chunk_schema = schema.derive({"type": "object", "properties": {"x": {"type": "array", "items": form}}})
    data = {"x": [{"_page": "iv", "page_": "v"}]}
    restored, cites = schema.restore(wrap(data, chunk_schema, page=3), chunk_schema)
    assert (restored, cites) == (data, {"/x/0": Cite(3)})


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}, [{"a": "x"}]),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "x"}),
        (
            {
                "anyOf": [
                    {"type": "object", "properties": {"a": {"type": "string"}}},
                    {"type": "array", "items": {"type": "number"}},
                ]
            },
            [1, 2],
        ),
    ],
)
def test_a_root_that_is_not_an_object_is_carried_in_one(form: JsonObject, data: Any) -> None:
    """Tools and strict schemas want an object at the root; a list of rows is a fair thing to ask for."""
    chunk_schema = schema.derive(form)
    check_strict(chunk_schema.schema)
    restored, cites = schema.restore(wrap(data, chunk_schema), chunk_schema)
    assert restored == data
    assert all(pointer.startswith("/") for pointer in cites)


# --- recursion ---


class Section(BaseModel):
    """A part of a contract."""

    title: str
    within: Section | None = None
    sections: list[Section] = []


def test_a_schema_may_contain_itself() -> None:
    """Outlines and bills of material are trees; outside and inside of lists they carry evidence differently."""
    chunk_schema = schema.derive(Section.model_json_schema(), "part")
    check_strict(chunk_schema.schema)
    data = {
        "title": "1",
        "within": {"title": "0", "within": None, "sections": []},
        "sections": [{"title": "1.1", "within": {"title": "1", "within": None, "sections": []}, "sections": []}],
    }
    answer = wrap(data, chunk_schema)
    assert Draft202012Validator(chunk_schema.schema).is_valid(answer)
    restored, cites = schema.restore(answer, chunk_schema)
    assert Section.model_validate(restored) == Section.model_validate(data)
    assert cites.keys() == {"/title", "/within/title", "/sections/0"}


def test_a_root_may_refer_to_itself() -> None:
    """`$ref: "#"` is how hand-written trees recur."""
    form = {
        "type": "object",
        "properties": {"n": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    }
    chunk_schema = schema.derive(form)
    check_strict(chunk_schema.schema)
    data = {"n": "a", "kids": [{"n": "b", "kids": [{"n": "c", "kids": []}]}]}
    restored, _ = schema.restore(wrap(data, chunk_schema), chunk_schema)
    assert restored == data


def test_recursion_through_all_of_ends() -> None:
    """A merged schema that contains itself has no reference of its own to stop at."""
    node = {
        "type": "object",
        "properties": {"n": {"type": "string"}, "kid": {"allOf": [{"$ref": "#/$defs/node"}, {"minProperties": 1}]}},
    }
    chunk_schema = schema.derive({"$ref": "#/$defs/node", "$defs": {"node": node}})
    check_strict(chunk_schema.schema)
    restored, _ = schema.restore(wrap({"n": "a", "kid": {"n": "b", "kid": {"n": "c"}}}, chunk_schema), chunk_schema)
    assert restored == {"n": "a", "kid": {"n": "b", "kid": {"n": "c"}}}


def test_shared_definitions_do_not_multiply() -> None:
    """Definitions that use each other twice would double at every level if they were written out."""
    definitions: JsonObject = {"d0": {"type": "object", "properties": {"v": {"type": "string"}}}}
    for level in range(1, 25):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"type": "object", "properties": {"l": below, "r": below}}
    chunk_schema = schema.derive({"$ref": "#/$defs/d24", "$defs": definitions})
    assert len(chunk_schema.text) < 10_000


# --- what comes back ---


def test_nulls_come_back_where_the_user_has_a_place_for_them() -> None:
    """A missing value is told apart from one that was looked for and not found, as far as the schema lets it be."""
    form: JsonObject = {
        "type": "object",
        "properties": {
            "needed": {"type": "string"},
            "nullable": {"type": ["string", "null"]},
            "optional": {"type": "string"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "words": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["needed", "words"],
    }
    answer = {"needed": None, "nullable": None, "optional": None, "rows": None, "words": [{"_page": 1, "value": None}]}
    restored, cites = schema.restore(answer, schema.derive(form))
    assert restored == {"needed": None, "nullable": None, "words": []}
    assert cites == {}


def test_an_empty_list_comes_back_where_it_is_allowed() -> None:
    """No entries is an answer, unless the user's schema would call it wrong and nobody asked for the property."""
    rows = {"type": "array", "items": {"type": "string"}}
    form = {"type": "object", "properties": {"a": rows, "b": rows | {"minItems": 1}, "c": {"$ref": "#/properties/b"}}}
    found = derive(form["properties"], "none")
    assert all(found[name]["type"] == "array" for name in "ab")
    assert schema.restore({"a": [], "b": [], "c": []}, schema.derive(form))[0] == {"a": []}


def test_blank_rows_are_left_out() -> None:
    """Models pad tables with rows of nulls; as entries they would make a good record invalid."""
    row = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "number"}}},
    }
    form = {"type": "object", "properties": {"rows": {"type": "array", "items": row}}}
    blank = {"_page": 7, "a": None, "b": []}
    answer = {"rows": [blank, {"_page": 1, "a": "x", "b": []}, blank]}
    data, cites = schema.restore(answer, schema.derive(form))
    assert data == {"rows": [{"a": "x", "b": []}]}
    assert cites == {"/rows/0": Cite(1)}


def test_cites_name_leaves_and_entries() -> None:
    """Grounding looks for a value on the page its cite names."""
    form = {
        "type": "object",
        "properties": {
            "total": {"type": "number"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        },
    }
    answer = {
        "total": {"_page": 3, "_quote": " Total 12 ", "value": 12},
        "rows": [{"_page": None, "_quote": None, "a": "x"}, {"_page": 0, "_quote": "y 2", "a": "y"}],
    }
    data, cites = schema.restore(answer, schema.derive(form, "quote"))
    assert data == {"total": 12, "rows": [{"a": "x"}, {"a": "y"}]}
    assert cites == {"/total": Cite(3, "Total 12"), "/rows/1": Cite(None, "y 2")}


# --- schemas from elsewhere ---


class Cash(BaseModel):
    """Paid in cash."""

    kind: Literal["cash"] = "cash"
    given: Decimal


class Card(BaseModel):
    """Paid by card."""

    kind: Literal["card"] = "card"
    last_digits: Annotated[str, Field(pattern=r"^\d{4}$")]


class Bill(BaseModel):
    """A bill."""

    day: date
    total: Decimal | None = None
    status: Literal["paid", "open"]
    payments: list[Annotated[Cash | Card, Field(discriminator="kind")]]
    rates: dict[str, Decimal] = {}
    size: tuple[int, int] | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0
    anything: Any = None


def test_pydantic_models_survive() -> None:
    """Most users bring a class; what comes back must validate as that class."""
    chunk_schema = schema.derive(Bill.model_json_schema(), "quote")
    check_strict(chunk_schema.schema)
    bill = Bill(
        day=date(2024, 5, 31),
        total=Decimal("12.5"),
        status="paid",
        payments=[Cash(given=Decimal(20)), Card(last_digits="1234")],
        rates={"EUR": Decimal("1.5")},
        size=(3, 4),
        anything="x",
    )
    answer = wrap(bill.model_dump(mode="json"), chunk_schema)
    assert Draft202012Validator(chunk_schema.schema).is_valid(answer)
    restored, _ = schema.restore(answer, chunk_schema)
    assert Bill.model_validate(restored) == bill


def test_enough_is_asked_of_the_project_recipes() -> None:
    """The recipes that come with the package are schemas like any other."""
    paths = sorted(Path(__file__).parent.parent.glob("pipelines/recipes/*/schema.json"))
    assert paths
    for path in paths:
        document_schema = json.loads(path.read_text(encoding="utf-8"))
        for evidence in ("none", "part", "quote"):
            chunk_schema = schema.derive(document_schema, evidence)
            check_strict(chunk_schema.schema)
            assert len(chunk_schema.text) < 2 * len(json.dumps(document_schema))


def test_the_local_engine_takes_every_chunk_schema() -> None:
    """The independent referee checks the dialect by the API's documentation, not by what this package writes."""
    for document_schema in (Bill.model_json_schema(), Section.model_json_schema()):
        for evidence in ("none", "part", "quote"):
            sent = schema.derive(document_schema, evidence).schema
            assert check_schema(sent, "schema", is_strict=True, max_depth=64) == sent


def _gold_cases(corpus: Path) -> Iterator[tuple[JsonObject, Any]]:
    for path in sorted(corpus.glob("extract-bench/*/*-schema.json")):
        form = json.loads(path.read_text(encoding="utf-8"))
        for gold in sorted(path.parent.glob("*.gold.json")):
            yield form.get("schema_definition", form), json.loads(gold.read_text(encoding="utf-8"))


@pytest.mark.corpus
@pytest.mark.parametrize("evidence", ["none", "part", "quote"])
def test_published_extraction_schemas_survive(corpus: Path, evidence: Any) -> None:
    """Large hand-written schemas with unknown annotations, nullable unions and references, and real answers to them."""
    cases = list(_gold_cases(corpus))
    assert len(cases) >= 5
    for form, gold in cases:
        chunk_schema = schema.derive(form, evidence)
        check_strict(chunk_schema.schema)
        assert "evaluation_config" not in chunk_schema.text
        if not Draft202012Validator(form).is_valid(gold):
            continue
        answer = wrap(gold, chunk_schema)
        assert Draft202012Validator(chunk_schema.schema).is_valid(answer)
        restored, _ = schema.restore(answer, chunk_schema)
        assert _without_nulls(restored) == _without_nulls(_named(gold, form, form))


def _named(value: Any, form: JsonObject, root: JsonObject) -> Any:
    """Gold data without the keys that its open schema does not name, which nobody was asked for."""
    if "$ref" in form:
        return _named(value, root["$defs"][form["$ref"].rsplit("/", 1)[-1]], root)
    if "anyOf" in form:
        options = [option for option in form["anyOf"] if option.get("type") in (None, _type_name(value))]
        return _named(value, options[0], root) if options else value
    if isinstance(value, dict):
        known = form.get("properties") or dict.fromkeys(value, form.get("additionalProperties"))
        return {name: _named(item, known[name], root) for name, item in value.items() if name in known}
    return [_named(item, form["items"], root) for item in value] if isinstance(value, list) else value


def _type_name(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", type(None): "null"}.get(type(value), "number")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


# --- what is refused, and what never crashes ---


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("text", "must be a JSON object"),
        ({"type": "strin"}, "/type: type must be one of"),
        ({"properties": {"a": {"required": True}}}, "/properties/a/required: required must be a list"),
        ({"properties": {"type": 3}}, "/properties/type: 3 is not of type"),
        ({"properties": {"a": {"items": [{}]}}}, "prefixItems"),
        ({"properties": {"a": {"pattern": "["}}}, "/properties/a/pattern: '[' is not a regular expression"),
        ({"properties": {"a": {"$ref": "https://example.org/a.json"}}}, "nothing is ever fetched"),
        ({"properties": {"a": {"$ref": "other.json#/a"}}}, "leads outside the schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "/properties/a: $ref '#/$defs/none' leads to nothing"),
        ({"properties": {"a": {"$ref": "#none"}}}, "$anchor"),
        ({"properties": {"a": {"$id": "http://x/y", "type": "string"}}}, "$id is only supported at the root"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}}, "itself"),
        ({}, "asks for no fields"),
        ({"type": "object"} | {"properties": {}, "additionalProperties": False}, "asks for no fields"),
        ({"name": "x", "schema": {"type": "object", "properties": {"a": {}}}}, "inside its 'schema'"),
    ],
)
def test_a_schema_that_cannot_be_asked_is_refused_before_anything_is_sent(form: Any, words: str) -> None:
    """The user learns where the schema is wrong, in words, and pays nothing."""
    with pytest.raises(ConfigError) as caught:
        schema.derive(form)
    assert words in caught.value.message


def test_deep_nesting_is_refused_not_crashed() -> None:
    """A hostile or generated schema must not overflow the stack."""
    form: JsonObject = {"type": "string"}
    for _ in range(3000):
        form = {"type": "object", "properties": {"a": form}}
    with pytest.raises(ConfigError, match="nested deeper"):
        schema.derive(form)


def test_options_that_multiply_out_are_refused() -> None:
    """Nobody can fill, and no grammar can hold, the product of many unions."""
    unions = [{"anyOf": [{"type": "object", "properties": {f"{part}{n}": {}}} for n in range(4)]} for part in "abcdef"]
    with pytest.raises(ConfigError, match="multiply out"):
        schema.derive({"allOf": unions})


LEAVES = st.sampled_from(
    [True, False, {}, {"type": "string"}, {"$ref": "#/$defs/d"}, {"const": 1}, {"enum": [None]}, {"type": "null"}]
)
TYPE = st.sampled_from(["string", "number", "integer", "boolean", "null", "array", "object"])


def _keywords(children: st.SearchStrategy[Any]) -> st.SearchStrategy[JsonObject]:
    one, several = children, st.lists(children, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from(["a", "b", "_page"]), children, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPE | st.lists(TYPE, min_size=1, max_size=3, unique=True),
            "enum": st.lists(st.sampled_from(["x", 1, None, {"a": 1}, [1]]), max_size=3),
            "const": st.sampled_from(["x", None, 2.5, [1], {"a": 1}]),
            "properties": named,
            "patternProperties": named,
            "dependentSchemas": named,
            "required": st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=2),
            "dependentRequired": st.just({"a": ["b"]}),
            "additionalProperties": one,
            "unevaluatedProperties": one,
            "propertyNames": one,
            "items": one,
            "prefixItems": several,
            "unevaluatedItems": one,
            "contains": one,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": one,
            "if": one,
            "then": one,
            "else": one,
            "minimum": st.integers(0, 3),
            "maximum": st.integers(0, 3),
            "minLength": st.integers(0, 3),
            "pattern": st.sampled_from(["a", "^b"]),
            "format": st.sampled_from(["date", "unheard-of"]),
            "minItems": st.integers(0, 3),
            "uniqueItems": st.booleans(),
            "description": st.sampled_from(["", "words"]),
            "default": st.just(1),
            "examples": st.just(["x"]),
        },
    )


ANY_SCHEMA = st.recursive(LEAVES, _keywords, max_leaves=8)


@given(child=ANY_SCHEMA, definition=ANY_SCHEMA, evidence=st.sampled_from(["none", "part", "quote"]))
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_valid_schema_is_asked_for_or_refused_in_words(child: Any, definition: Any, evidence: Any) -> None:
    """Whatever keywords a schema combines, the user gets a strict schema or a ConfigError, never a traceback."""
    form = {"type": "object", "properties": {"x": child, "y": {"type": "string"}}, "$defs": {"d": definition}}
    try:
        chunk_schema = schema.derive(form, evidence)
    except ConfigError:
        return
    check_strict(chunk_schema.schema)
    # Saying nothing is always possible.
    nothing = {name: [] if _is_list(part) else None for name, part in chunk_schema.schema["properties"].items()}
    schema.restore(nothing, chunk_schema)


def _is_list(part: JsonObject) -> bool:
    return part.get("type") == "array"


# --- videos ---


def test_values_of_a_video_carry_their_time() -> None:
    """A frame has no number a reader could count; its time stands before it."""
    form = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}},
        "required": ["a", "b"],
    }
    chunk_schema = schema.derive(form, "quote", medium="video")
    check_strict(chunk_schema.schema)
    answer = {
        "a": {"_time_s": 12.5, "_quote": "Alpha", "value": "alpha"},
        "b": [{"_time_s": None, "_quote": None, "value": "x"}, {"_time_s": 0, "_quote": None, "value": "y"}],
    }
    Draft202012Validator(chunk_schema.schema).validate(answer)
    data, cites = schema.restore(answer, chunk_schema)
    assert data == {"a": "alpha", "b": ["x", "y"]}
    assert cites == {"/a": Cite(None, "Alpha", 12.5), "/b/1": Cite(None, None, 0.0)}


def test_pages_and_videos_ask_for_the_same_but_for_the_place() -> None:
    """One recipe serves a folder of documents and videos."""
    form = {"type": "object", "properties": {"a": {"type": "string"}, "_time_s": {"type": "number"}}}
    pages, video = schema.derive(form, "part"), schema.derive(form, "part", medium="video")
    assert '"_page":{"type":"integer"}' in pages.text
    assert '"_page"' not in video.text
    assert '"_time_s":{"type":"number"}' in video.text
    # The user's own property of that name is asked for under another one, and comes back under its own.
    own = next(name for name in video.schema["properties"] if name not in ("a", "_time_s"))
    answer = {"a": None, own: {"_time_s": 3.0, "value": 7}}
    assert schema.restore(answer, video) == ({"_time_s": 7}, {"/_time_s": Cite(None, None, 3.0)})


@pytest.mark.parametrize("place", [-1, True, "12", float("inf")])
def test_a_time_that_is_none_is_no_evidence(place: Any) -> None:
    """Local validation may be lenient; a cite that leads nowhere would break grounding."""
    form = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    answer = {"a": {"_time_s": place, "value": "x"}}
    assert schema.restore(answer, schema.derive(form, "part", medium="video")) == ({"a": "x"}, {})
