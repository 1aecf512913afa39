"""Reading any JSON Schema: references, combinations, types; fitting a found value to a node; the least valid value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.local.filler.text import squash

Json = Any
Node = Mapping[str, Any]

MISSING = object()
EVIDENCE_KEYS = frozenset({"_page", "_time_s", "_quote"})
_MAX_REFS = 24
_MAX_ALTERNATIVES = 24
_TRUE_WORDS = frozenset("yes true ja oui si vrai wahr verdadero x y 1 on checked".split())
_FALSE_WORDS = frozenset("no false nein non faux falsch falso n 0 off none nee".split())


@dataclass(frozen=True, slots=True)
class Schema:
    """A document schema whose nodes are read with references followed and `allOf` merged."""

    root: Node

    def plain(self, node: Any) -> Node:
        """The node without `$ref` and `allOf`: what they bring is merged in. `true` and oddities become {}."""
        for _ in range(_MAX_REFS):
            if not isinstance(node, Mapping):
                return {}
            if "$ref" in node:
                target = self._target(str(node["$ref"]))
                node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
            elif isinstance(node.get("allOf"), list):
                node = self._merge_all(node)
            else:
                return node
        return {}

    def alternatives(self, node: Any, depth: int = 0) -> list[Node]:
        """What `anyOf` and `oneOf` allow, each merged with the keywords beside them; the node itself without them."""
        plain = self.plain(node)
        for keyword in ("anyOf", "oneOf"):
            options = plain.get(keyword)
            if isinstance(options, list) and depth < 4:
                rest = {key: value for key, value in plain.items() if key != keyword}
                merged = [_merge(rest, self.plain(option)) for option in options[:_MAX_ALTERNATIVES]]
                return [found for option in merged for found in self.alternatives(option, depth + 1)]
        return [plain]

    def allows_null(self, node: Any) -> bool:
        """Whether null is a valid value."""
        return any(_allows_null(option) for option in self.alternatives(node))

    def kinds(self, node: Any) -> set[str]:
        """JSON types the node allows other than null; all of them when it names none."""
        return {kind for option in self.alternatives(node) for kind in types_of(option)} - {"null"}

    def _target(self, reference: str) -> Node:
        if not reference.startswith("#"):
            return {}
        current: Any = self.root
        for part in reference[1:].split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(current, Mapping) and part in current:
                current = current[part]
            elif isinstance(current, list) and part.isdigit() and int(part) < len(current):
                current = current[int(part)]
            else:
                return {}
        return current if isinstance(current, Mapping) else {}

    def _merge_all(self, node: Node) -> Node:
        merged: Node = {key: value for key, value in node.items() if key != "allOf"}
        for part in node["allOf"][:_MAX_ALTERNATIVES]:
            plain = self.plain(part) if isinstance(part, Mapping) and "allOf" not in part else part
            merged = _merge(merged, plain if isinstance(plain, Mapping) else {})
        return merged


def _merge(first: Node, second: Node) -> Node:
    merged = {**first, **second}
    for key in ("properties", "$defs"):
        if key in first and key in second:
            merged[key] = {**first[key], **second[key]}
    if "required" in first and "required" in second:
        merged["required"] = [
            *first["required"],
            *(name for name in second["required"] if name not in first["required"]),
        ]
    if "description" in first and "description" not in second:
        merged["description"] = first["description"]
    return merged


def types_of(node: Node) -> set[str]:
    """JSON types a plain node allows."""
    declared = node.get("type")
    if isinstance(declared, str):
        return {declared}
    if isinstance(declared, list):
        return {str(kind) for kind in declared}
    if "const" in node:
        return {_type_name(node["const"])}
    if isinstance(node.get("enum"), list):
        return {_type_name(value) for value in node["enum"]}
    if "properties" in node:
        return {"object"}
    if "items" in node or "prefixItems" in node:
        return {"array"}
    return {"string", "number", "integer", "boolean", "object", "array", "null"}


def _type_name(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "string")


def _allows_null(node: Node) -> bool:
    if "const" in node:
        return node["const"] is None
    if isinstance(node.get("enum"), list) and None not in node["enum"]:
        return False
    return "null" in types_of(node)


def fit(value: Json, node: Node) -> Json:
    """The value as the plain node wants it, or MISSING when it cannot be made to fit."""
    if "const" in node:
        return node["const"] if _same(value, node["const"]) else MISSING
    if isinstance(node.get("enum"), list):
        return _fit_enum(value, node["enum"])
    kinds = types_of(node)
    if isinstance(value, bool):
        return value if "boolean" in kinds else str(value).lower() if "string" in kinds else MISSING
    if isinstance(value, (int, float)):
        return _fit_number(value, kinds)
    if isinstance(value, str):
        return _fit_string(value, kinds)
    if isinstance(value, list):
        return value if "array" in kinds else MISSING
    if isinstance(value, dict):
        return value if "object" in kinds else MISSING
    return None if value is None and "null" in kinds else MISSING


def _same(value: Json, wanted: Json) -> bool:
    return value == wanted or (isinstance(value, str) and isinstance(wanted, str) and squash(value) == squash(wanted))


def _fit_number(value: float, kinds: set[str]) -> Json:
    if "number" in kinds:
        return int(value) if float(value).is_integer() and abs(value) < 1e15 else value
    if "integer" in kinds:
        return int(value) if float(value).is_integer() else MISSING
    if "string" in kinds:
        return f"{value:g}" if float(value).is_integer() else repr(value)
    return MISSING


def _fit_string(value: str, kinds: set[str]) -> Json:
    if "string" in kinds:
        return value
    if "boolean" in kinds:
        word = squash(value)
        return True if word in _TRUE_WORDS else False if word in _FALSE_WORDS else MISSING
    if kinds & {"number", "integer"}:
        match = re.fullmatch(r"\s*-?\d{1,15}(?:\.\d+)?\s*", value)
        return _fit_number(float(match[0]), kinds) if match else MISSING
    return MISSING


def _fit_enum(value: Json, options: Sequence[Json]) -> Json:
    for option in options:
        if option is not None and _same(value, option):
            return option
    if isinstance(value, str) and len(squash(value)) >= 2:
        wanted = squash(value)
        near = [o for o in options if isinstance(o, str) and squash(o) and (squash(o) in wanted or wanted in squash(o))]
        if len(near) == 1:
            return near[0]
    return MISSING


def blank(schema: Schema, node: Any, depth: int = 0) -> Json:
    """The least value the node allows: null where it may be, else empty strings, zeros, empty lists, first options."""
    options = schema.alternatives(node)
    if any(_allows_null(option) for option in options) or not options or depth > 12:
        return None
    plain = options[0]
    if "const" in plain:
        return plain["const"]
    if isinstance(plain.get("enum"), list) and plain["enum"]:
        return plain["enum"][0]
    if "default" in plain:
        return plain["default"]
    kinds = types_of(plain)
    if "object" in kinds:
        required = plain.get("required", ())
        data = {name: blank(schema, child, depth + 1) for name, child in properties(plain) if name in required}
        return {**data, **unnamed_required(schema, plain, data)}
    if "array" in kinds:
        count = min(int(plain.get("minItems", 0) or 0), 50)
        return [blank(schema, plain.get("items", {}), depth + 1) for _ in range(count)]
    if "string" in kinds:
        return "" if not plain.get("minLength") else " " * min(int(plain["minLength"]), 1000)
    if kinds & {"integer", "number"}:
        return _least_number(plain)
    return False


def _least_number(node: Node) -> Json:
    if "minimum" in node:
        return max(node["minimum"], 0)
    if "exclusiveMinimum" in node and not isinstance(node["exclusiveMinimum"], bool):
        return max(int(node["exclusiveMinimum"]) + 1, 0)
    return min(0, node["maximum"]) if isinstance(node.get("maximum"), (int, float)) else 0


def unnamed_required(schema: Schema, node: Node, data: Mapping[str, Json]) -> dict[str, Json]:
    """Blank values for properties that an object requires without describing them."""
    required = node.get("required", ())
    missing = (
        [name for name in required if isinstance(name, str) and name not in data] if isinstance(required, list) else []
    )
    return {name: blank(schema, node.get("additionalProperties", {}), 1) for name in missing}


def properties(node: Node) -> Iterator[tuple[str, Any]]:
    """Names and nodes of an object's properties."""
    declared = node.get("properties")
    if isinstance(declared, Mapping):
        yield from declared.items()


def is_wrapper(node: Node) -> bool:
    """Whether the node is an object that carries one value together with its evidence."""
    names = {name for name, _ in properties(node)}
    return "value" in names and bool(names & EVIDENCE_KEYS) and names <= EVIDENCE_KEYS | {"value"}
