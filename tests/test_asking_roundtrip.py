"""Chunk schemas over random document schemas: always in the dialect, always reversible."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest.asking import schema
from ingest.asking.coerce import coerce
from tests.chunk_forms import check_strict, wrap

JsonObject = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "value", "_page", "_quote", "key", "entries", "a/b~c", "größe", "item_1"])
TEXTS = st.text(max_size=6)
INTEGERS = st.integers(-1000, 1000)
EVIDENCE = st.sampled_from(["none", "part", "quote"])


def _text(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    extra = draw(st.sampled_from([{}, {"description": "words"}, {"maxLength": 9}, {"examples": ["x"]}]))
    return {"type": "string"} | extra, TEXTS


def _number(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    return draw(
        st.sampled_from(
            [
                ({"type": "integer", "minimum": -1000}, INTEGERS),
                ({"type": "number"}, st.floats(-1e6, 1e6) | INTEGERS),
                ({"type": "boolean"}, st.booleans()),
                ({"type": ["string", "number"]}, TEXTS | INTEGERS),
                ({"type": ["integer", "null"]}, INTEGERS | st.none()),
            ]
        )
    )


def _values(draw: st.DrawFn) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    values = draw(st.lists(st.sampled_from(["x", "y", 1, 2.5, True, None]), min_size=1, max_size=4, unique_by=repr))
    return {"enum": values}, st.sampled_from(values)


def _object(draw: st.DrawFn, depth: int, fewest: int = 0) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    names = draw(st.lists(NAMES, min_size=fewest, max_size=4, unique=True))
    children = {name: draw(forms(depth - 1)) for name in names}
    required = [name for name in names if draw(st.booleans())]
    form: JsonObject = {"type": "object", "properties": {name: child for name, (child, _) in children.items()}}
    form |= {"required": required, "additionalProperties": False}
    optional = {name: values for name, (_, values) in children.items() if name not in required}
    fixed = {name: children[name][1] for name in required}
    return form, st.fixed_dictionaries(fixed, optional=optional)


def _array(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    child, values = draw(forms(depth - 1))
    return {"type": "array", "items": child}, st.lists(values, max_size=3)


def _map(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    child, values = draw(forms(depth - 1))
    return {"type": "object", "additionalProperties": child}, st.dictionaries(TEXTS, values, max_size=3)


def _tuple(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    (first, one), (second, two) = draw(forms(depth - 1)), draw(forms(depth - 1))
    return {"type": "array", "prefixItems": [first, second], "items": False}, st.tuples(one, two).map(list)


def _option(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    child, values = draw(forms(depth - 1))
    return {"anyOf": [child, {"type": "null"}], "description": "perhaps"}, values | st.none()


def _union(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    forms_of = []
    for kind in ("cat", "dog"):
        child, values = draw(forms(depth - 1))
        form = {
            "type": "object",
            "properties": {"kind": {"const": kind}, "of": child},
            "required": ["kind", "of"],
        }
        forms_of.append((form, st.fixed_dictionaries({"kind": st.just(kind), "of": values})))
    return {draw(st.sampled_from(["oneOf", "anyOf"])): [form for form, _ in forms_of]}, st.one_of(
        [values for _, values in forms_of]
    )


def _all_of(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    child, values = draw(forms(depth - 1))
    return {"allOf": [child, {"description": "both"}]}, values


@st.composite
def forms(draw: st.DrawFn, depth: int) -> tuple[JsonObject, st.SearchStrategy[Any]]:
    """A schema, and the strategy of its valid instances."""
    if depth <= 0:
        return draw(st.sampled_from([_text, _number, _values]))(draw)
    compound = draw(st.sampled_from([_object, _object, _array, _map, _tuple, _option, _union, _all_of]))
    return compound(draw, depth)


@st.composite
def cases(draw: st.DrawFn) -> tuple[JsonObject, Any]:
    """A document schema with an object at its root, and valid data for it."""
    form, values = _object(draw, draw(st.integers(1, 3)), 1)
    return form, draw(values)


def tidy(value: Any, form: JsonObject) -> Any:
    """Data without what a chunk cannot tell apart: an optional property that is null or has no entries is as good as
    left out, a tuple of nothing but null is null, and an entry that holds nothing is none."""
    if "allOf" in form:
        return tidy(value, form["allOf"][0])
    options = form.get("anyOf") or form.get("oneOf")
    if options and value is not None:
        return tidy(value, next(option for option in options if _is_of(value, option)))
    if isinstance(value, list):
        children = form.get("prefixItems") or [form["items"]] * len(value)
        items = [tidy(item, child) for item, child in zip(value, children, strict=True)]
        if "prefixItems" in form:
            return None if all(item is None for item in items) else items
        return [item for item in items if not (isinstance(item, dict) and is_blank(item))]
    if isinstance(value, dict):
        properties = form.get("properties", {})
        free = form.get("additionalProperties", {})
        items_by_name = {name: tidy(item, properties.get(name, free)) for name, item in value.items()}
        needed = form.get("required", ()) if properties else value
        return {name: item for name, item in items_by_name.items() if item not in (None, [], {}) or name in needed}
    return value


def is_blank(value: Any) -> bool:
    """Whether there is nothing in it."""
    if isinstance(value, dict | list):
        return all(is_blank(item) for item in (value.values() if isinstance(value, dict) else value))
    return value is None


def _is_of(value: Any, option: JsonObject) -> bool:
    kind = option.get("properties", {}).get("kind", {}).get("const")
    return option != {"type": "null"} and (kind is None or value.get("kind") == kind)


@given(case=cases(), evidence=EVIDENCE)
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_data_survives_the_way_through_the_chunk_form(case: tuple[JsonObject, Any], evidence: Any) -> None:
    """What a model can say in the chunk schema comes back as exactly the data the user's schema describes."""
    form, data = case
    chunk_schema = schema.derive(form, evidence)
    check_strict(chunk_schema.schema)
    answer = wrap(data, chunk_schema)
    validator = Draft202012Validator(chunk_schema.schema)
    assert validator.is_valid(answer), list(validator.iter_errors(answer))
    restored, cites = schema.restore(answer, chunk_schema)
    assert tidy(restored, form) == tidy(data, form)
    assert bool(cites) <= (evidence != "none")
    assert all(cite.part_number == 1 for cite in cites.values())


@given(case=cases(), evidence=EVIDENCE)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_fitting_answer_is_not_moved(case: tuple[JsonObject, Any], evidence: Any) -> None:
    """Coercion is for answers that do not fit: one that fits must pass through untouched, or values would be lost."""
    form, data = case
    chunk_schema = schema.derive(form, evidence)
    answer = wrap(data, chunk_schema)
    moved, fits = coerce(answer, chunk_schema.schema, evidence != "none")
    assert fits
    assert moved == answer


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(-10, 10) | st.sampled_from(["x", "12", "1.234,50", "", "TRUE"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children, max_size=3),
    max_leaves=6,
)


@given(case=cases(), evidence=EVIDENCE, answer=st.dictionaries(NAMES, JSON_VALUES, max_size=5))
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_the_quick_check_agrees_with_the_validator(
    case: tuple[JsonObject, Any], evidence: Any, answer: JsonObject
) -> None:
    """The full validator runs only on what the quick check refuses, so the two must mean the same by fitting."""
    chunk_schema = schema.derive(case[0], evidence)
    moved, fits = coerce(answer, chunk_schema.schema, evidence != "none")
    assert fits == Draft202012Validator(chunk_schema.schema).is_valid(moved)


@pytest.mark.parametrize("evidence", ["none", "part", "quote"])
@given(case=cases(), answer=JSON_VALUES)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_restoring_never_fails(evidence: Any, case: tuple[JsonObject, Any], answer: Any) -> None:
    """An odd answer is a wrong value to be checked later, never a crash in the middle of a paid run."""
    schema.restore(answer, schema.derive(case[0], evidence))
