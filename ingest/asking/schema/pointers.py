"""JSON Pointers and local references within one schema."""

from __future__ import annotations

from urllib.parse import unquote

from ingest.errors import ConfigError
from ingest.types import Json, JsonObject

# Where sub-schemas stand, by the form of the keyword's value.
ONE = (
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")


def escape(step: str) -> str:
    """A property name as a step of a JSON Pointer."""
    return step.replace("~", "~0").replace("/", "~1")


def join(pointer: str, *steps: str | int) -> str:
    """The pointer of something below `pointer`."""
    return pointer + "".join(f"/{escape(str(step))}" for step in steps)


def children(schema: JsonObject) -> list[tuple[tuple[str | int, ...], Json]]:
    """The direct sub-schemas of a schema with the steps that lead to them. Values of other keywords are data."""
    found: list[tuple[tuple[str | int, ...], Json]] = [((word,), schema[word]) for word in ONE if word in schema]
    for word in MANY:
        found += [((word, index), child) for index, child in enumerate(schema.get(word, ()))]
    for word in NAMED:
        found += [((word, name), child) for name, child in schema.get(word, {}).items()]
    return found


def reference_of(schema: JsonObject) -> str | None:
    """The reference a schema makes, if any. Within one document a dynamic one leads where a plain one does."""
    reference = schema.get("$ref", schema.get("$dynamicRef"))
    return reference if isinstance(reference, str) else None


def look_up(root: JsonObject, reference: str) -> Json:
    """The schema that a local reference (`#`, `#/$defs/x`, `#anchor`) names.

    Raises ConfigError when it leads outside the schema or to nothing.
    """
    if not reference.startswith("#"):
        raise ConfigError(
            f"$ref {reference!r} leads outside the schema: only references that start with # are followed, "
            "nothing is ever fetched; copy the definition under $defs"
        )
    fragment = unquote(reference[1:])
    if fragment and not fragment.startswith("/"):
        found = _anchors(root).get(fragment)
        if found is None:
            raise ConfigError(f"$ref {reference!r} names an $anchor that does not exist")
        return found
    node: Json = root
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            raise ConfigError(f"$ref {reference!r} leads to nothing: there is no {name!r}")
    if not isinstance(node, dict | bool):
        raise ConfigError(f"$ref {reference!r} leads to something that is not a schema")
    return node


def _anchors(root: JsonObject) -> dict[str, Json]:
    found: dict[str, Json] = {}
    pending: list[Json] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            found |= {node[word]: node for word in ("$anchor", "$dynamicAnchor") if isinstance(node.get(word), str)}
            pending += [child for _, child in children(node)]
    return found
