"""Applicators resolved: a schema as a list of alternatives, each one plain conjunction of keywords.

`$ref` and `allOf` are merged in, `anyOf` and `oneOf` multiply the alternatives, conditions add what they may bring.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable

from ingest.asking.schema.notes import condition_note, not_note, options_note
from ingest.asking.schema.pointers import look_up, reference_of
from ingest.errors import ConfigError
from ingest.types import Json, JsonObject

NOTES = "\0notes"
"""Keyword of a plain conjunction that holds words for the model about what was resolved away."""

# An `allOf` of several `anyOf` multiplies out; no schema written by people comes near.
_MAX_ALTERNATIVES = 64

_IN_PLACE = frozenset(
    {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "const"}
)
# An option without any of these gives a value no other form, it only constrains it.
_FORMING = frozenset(
    {
        "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "type", "enum", "const", "properties", "patternProperties",
        "additionalProperties", "unevaluatedProperties", "items", "prefixItems", "unevaluatedItems", "if",
    }
)  # fmt: skip
ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id"}
)


def alternatives(schema: Json, root: JsonObject, seen: frozenset[str] = frozenset()) -> list[JsonObject]:
    """The plain conjunctions of which a value must fit one; none when nothing can fit.

    Raises ConfigError for a reference that leads back to itself without a property or item between, and for a
    schema that multiplies out to more than 64 alternatives.
    """
    if isinstance(schema, bool):
        return [{}] if schema else []
    groups: list[list[JsonObject]] = [[_plain(schema)]]
    reference = reference_of(schema)
    if reference is not None:
        if reference in seen:
            raise ConfigError(f"document schema: $ref {reference!r} leads back to itself, so no value can fit it")
        groups.append(alternatives(look_up(root, reference), root, seen | {reference}))
    groups += [alternatives(part, root, seen) for part in schema.get("allOf", ())]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and is_forming(schema[keyword]):
            groups.append([flat for option in schema[keyword] for flat in alternatives(option, root, seen)])
    found = _multiply(groups)
    for candidates in _conditional_properties(schema, root, seen):
        found = [_with_optional(flat, candidates) for flat in found]
    return found


def is_forming(options: Iterable[Json]) -> bool:
    """Whether one of the options gives a value its form; otherwise they are only told to the model."""
    return any(isinstance(option, dict) and _FORMING & option.keys() for option in options)


def _plain(schema: JsonObject) -> JsonObject:
    """The schema's own keywords, applicators that only constrain turned into notes."""
    flat = {word: value for word, value in schema.items() if word not in _IN_PLACE}
    if isinstance(flat.get("type"), str):
        flat["type"] = [flat["type"]]
    if "const" in schema:
        constant = [schema["const"]]
        flat["enum"] = [value for value in flat["enum"] if same(value, schema["const"])] if "enum" in flat else constant
    notes = [not_note(schema["not"])] if "not" in schema else []
    if "if" in schema:
        notes.append(condition_note(schema))
    constraints = [word for word in ("anyOf", "oneOf") if word in schema and not is_forming(schema[word])]
    notes += [options_note(schema[word], word == "oneOf") for word in constraints]
    if any(notes):
        flat[NOTES] = [note for note in notes if note]
    return flat


def _multiply(groups: list[list[JsonObject]]) -> list[JsonObject]:
    """One conjunction per way of choosing from each group; impossible ones are left out."""
    found: list[JsonObject] = [{}]
    for group in groups:
        # One long list of options is no product, however long.
        if min(len(found), len(group)) > 1 and len(found) * len(group) > _MAX_ALTERNATIVES:
            raise ConfigError(
                f"document schema: anyOf and oneOf multiply out to more than {_MAX_ALTERNATIVES} forms of one value; "
                "write the forms as one list of options"
            )
        merged = (merge(left, right) for left, right in itertools.product(found, group))
        found = [flat for flat in merged if flat is not None]
    return found


def merge(left: JsonObject, right: JsonObject) -> JsonObject | None:
    """Both at once; None when no value can fit both."""
    merged = dict(left)
    for word, value in right.items():
        if word not in merged:
            merged[word] = value
        elif not same(merged[word], value):
            merged[word] = _COMBINE.get(word, _keep_first)(merged[word], value)
    if merged.get("type") == [] or merged.get("enum") == []:
        return None
    return merged


def same(left: Json, right: Json) -> bool:
    """Equality of JSON values: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _keep_first(left: Json, right: Json) -> Json:
    return left


def _types(left: Json, right: Json) -> Json:
    both = [name for name in left if name in right or (name == "integer" and "number" in right)]
    return both + [name for name in right if name == "integer" and "number" in left and name not in left]


def _values(left: Json, right: Json) -> Json:
    return [value for value in left if any(same(value, other) for other in right)]


def _both(left: Json, right: Json) -> Json:
    """A conjunction left for later: it is resolved when its turn comes, which keeps recursion lazy."""
    if left is True or right is False:
        return right
    if right is True or left is False:
        return left
    return {"allOf": [left, right]}


def _named(left: Json, right: Json) -> Json:
    merged = dict(left)
    for name, schema in right.items():
        merged[name] = schema if name not in merged or same(merged[name], schema) else _both(merged[name], schema)
    return merged


def _positions(left: Json, right: Json) -> Json:
    return [_both(one, two) for one, two in itertools.zip_longest(left, right, fillvalue=True)]


def _union(left: Json, right: Json) -> Json:
    return [*left, *(value for value in right if value not in left)]


def _texts(left: Json, right: Json) -> Json:
    return left if right in left else f"{left.rstrip()} {right}"


_COMBINE: dict[str, Callable[[Json, Json], Json]] = {
    "type": _types,
    "enum": _values,
    "properties": _named,
    "patternProperties": _named,
    "required": _union,
    NOTES: _union,
    "additionalProperties": _both,
    "unevaluatedProperties": _both,
    "unevaluatedItems": _both,
    "items": _both,
    "contains": _both,
    "propertyNames": _both,
    "prefixItems": _positions,
    "minimum": max,
    "exclusiveMinimum": max,
    "minLength": max,
    "minItems": max,
    "minProperties": max,
    "maximum": min,
    "exclusiveMaximum": min,
    "maxLength": min,
    "maxItems": min,
    "maxProperties": min,
    "pattern": lambda left, right: f"{left} and {right}",
    "uniqueItems": lambda left, right: True,
    "description": _texts,
    "dependentRequired": lambda left, right: left | right,
}


def _conditional_properties(
    schema: JsonObject, root: JsonObject, seen: frozenset[str]
) -> Iterable[dict[str, list[Json]]]:
    """Properties that `then`, `else` and dependentSchemas may bring, by name."""
    branches = [schema[word] for word in ("then", "else") if word in schema and "if" in schema]
    branches += list(schema.get("dependentSchemas", {}).values())
    candidates: dict[str, list[Json]] = {}
    for flat in (flat for branch in branches for flat in alternatives(branch, root, seen)):
        for name, child in flat.get("properties", {}).items():
            if not any(same(child, other) for other in candidates.setdefault(name, [])):
                candidates[name].append(child)
    if candidates:
        yield candidates


def _with_optional(flat: JsonObject, candidates: dict[str, list[Json]]) -> JsonObject:
    properties = dict(flat.get("properties", {}))
    for name, schemas in candidates.items():
        if name not in properties:
            properties[name] = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return flat | {"properties": properties}


def canonical(schema: Json) -> str:
    """Text that is equal for equal schemas."""
    return json.dumps(schema, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
