"""The JSON Schema dialect of structured output, checked by its own code.

Strict schemas may use only the keywords the service documents; a reference must stay inside the schema in any mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

from ingest.local.refusal import invalid

_TYPES = {"integer", "number", "string", "boolean", "null", "array", "object"}
_SUPPORTED = {
    "type",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$defs",
    "definitions",
    "$ref",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
}
# Words without a meaning for the form of the answer.
_NOTES = {
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
}
_ONE = (
    "additionalProperties",
    "items",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties")


def check_schema(schema: object, param: str, *, is_strict: bool, max_depth: int) -> Mapping[str, object]:
    """The schema as given when the dialect allows it; raises a 400 Refusal naming the keyword and where it stands."""
    if not isinstance(schema, dict):
        raise invalid(param, "a JSON Schema object is expected")
    pending: list[tuple[object, str, int]] = [(schema, "#", 0)]
    while pending:
        node, place, depth = pending.pop()
        if depth > max_depth:
            raise invalid(param, f"the schema is nested deeper than {max_depth} levels at `{place[:200]}`")
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise invalid(param, f"`{place}` is not a schema")
        _check_references(node, schema, param, place)
        _check_form(node, param, place)
        if is_strict:
            _check_keywords(node, param, place)
        pending.extend((child, f"{place}/{step}", depth + 1) for child, step in _children(node, param, place))
    return schema


def _check_references(node: Mapping[str, object], root: Mapping[str, object], param: str, place: str) -> None:
    """Follows `$ref` from this node until a schema without one; a chain that comes back to itself is refused."""
    seen: set[str] = set()
    target: object = node
    while isinstance(target, dict) and target.get("$ref") is not None:
        reference = target["$ref"]
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise invalid(param, f"`$ref` at `{place}` must point inside the schema (`#/$defs/...`)")
        if reference in seen:
            raise invalid(param, f"`$ref` {reference!r} at `{place}` leads back to itself")
        seen.add(reference)
        target = _resolve(reference, root, param, place)


def _resolve(reference: str, root: Mapping[str, object], param: str, place: str) -> object:
    target: object = root
    for step in reference[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        else:
            raise invalid(param, f"`$ref` {reference!r} at `{place}` points to nothing")
    return target


def _check_form(node: Mapping[str, object], param: str, place: str) -> None:
    types = node.get("type")
    for name in types if isinstance(types, list) else [types]:
        if name is not None and not (isinstance(name, str) and name in _TYPES):
            raise invalid(param, f"type {str(name)[:60]!r} at `{place}` is not a JSON type")
    if "enum" in node and not (isinstance(node["enum"], list) and node["enum"]):
        raise invalid(param, f"`enum` at `{place}` must be a list with at least one value")
    required = node.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise invalid(param, f"`required` at `{place}` must be a list of property names")


def _check_keywords(node: Mapping[str, object], param: str, place: str) -> None:
    for keyword in node:
        if keyword not in _SUPPORTED and keyword not in _NOTES:
            raise invalid(param, f"keyword `{keyword}` at `{place}` is not supported when `strict` is true")
    properties = node.get("properties")
    known = properties if isinstance(properties, dict) else {}
    required = node.get("required")
    for name in required if isinstance(required, list) else []:
        if name not in known:
            raise invalid(param, f"`required` at `{place}` names {name!r}, which is not among the properties")


def _children(node: Mapping[str, object], param: str, place: str) -> Iterator[tuple[object, str]]:
    for keyword in _ONE:
        value = node.get(keyword)
        if isinstance(value, Sequence) and not isinstance(value, str):
            yield from ((child, f"{keyword}/{index}") for index, child in enumerate(value))
        elif value is not None:
            yield value, keyword
    for keyword in _MANY:
        value = node.get(keyword, [])
        if not isinstance(value, list):
            raise invalid(param, f"`{keyword}` at `{place}` must be a list of schemas")
        yield from ((child, f"{keyword}/{index}") for index, child in enumerate(value))
    for keyword in _NAMED:
        named = node.get(keyword, {})
        if not isinstance(named, dict):
            raise invalid(param, f"`{keyword}` at `{place}` must be an object of schemas")
        yield from ((child, f"{keyword}/{name}") for name, child in named.items())
