"""Filling a JSON Schema from pages: the walk over the schema, evidence, and the promise that the result validates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from ingest.local.filler import lists, vocabulary
from ingest.local.filler.facts import Facts
from ingest.local.filler.fields import describe
from ingest.local.filler.footage import Footage
from ingest.local.filler.found import Found
from ingest.local.filler.schema import (
    EVIDENCE_KEYS,
    MISSING,
    Json,
    Node,
    Schema,
    blank,
    fit,
    is_wrapper,
    properties,
    types_of,
    unnamed_required,
)
from ingest.local.filler.view import Row, View
from ingest.local.page import Page

_MAX_DEPTH = 8
_MENDING_ROUNDS = 3
# Tried in turn where a schema forbids the least value of its types.
_SIMPLEST: tuple[Json, ...] = (None, "", 0, False, [], {})
# Keywords the walk itself obeys. Any other makes the result be checked, and mended, at the end.
_CHECKED_KEYWORDS = frozenset(
    "pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems "
    "uniqueItems contains minProperties maxProperties propertyNames patternProperties not if dependentRequired "
    "dependentSchemas prefixItems format oneOf unevaluatedProperties unevaluatedItems".split()
)


@dataclass(frozen=True, slots=True)
class Filled:
    """Data that conforms to the schema; per JSON Pointer of a filled value its confidence (0..1) and printed label."""

    data: Json
    confidence: dict[str, float]
    labels: dict[str, str]


def fill(
    schema: Mapping[str, Any], pages: Sequence[Page], instructions: str = "", end_s: float | None = None
) -> Filled:
    """Fill a JSON Schema with what the pages say; null, or the least valid value, where they say nothing.

    Works by general rules only and never invents: what cannot be read stays empty. `instructions` is the text the
    caller sent along; it names no values and is not searched for any. Pages with a time are frames of a video, which
    ends at `end_s` when the request reaches its end. Never raises on an odd schema.
    """
    walk = _Walk(Schema(schema), _facts(pages, end_s))
    result = walk.value(schema, (), "", 0)
    data = result.data if result.data is not MISSING else blank(walk.schema, schema)
    data = _mend(data, schema, walk.schema)
    return Filled(data, walk.confidence, walk.labels)


def _facts(pages: Sequence[Page], end_s: float | None) -> Facts:
    if all(page.time_s is None for page in pages):
        return Facts(View.of(pages))
    footage = Footage(pages, end_s)
    return Facts(View.of(footage.view_pages), footage)


@dataclass(frozen=True, slots=True)
class _Result:
    """A value for a node; `row` is where it was read; `is_found` whether anything was."""

    data: Json
    row: Row | None = None
    is_found: bool = False
    quote: str | None = None


@dataclass(slots=True)
class _Walk:
    """One pass over the schema."""

    schema: Schema
    facts: Facts
    confidence: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def value(self, node: Any, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        """The value for a node, tried with each of its alternatives; blank when nothing is found."""
        if depth > _MAX_DEPTH:
            return _Result(blank(self.schema, node))
        empty: _Result | None = None
        for option in self.schema.alternatives(node):
            option = _with_description(option, self.schema.plain(node))
            result = self._option(option, path, pointer, depth)
            if result.is_found:
                return result
            if result.data is not MISSING and empty is None and "null" not in types_of(option):
                empty = result
        if self.schema.allows_null(node) and not (empty and isinstance(empty.data, list)):
            return _Result(None)
        return empty or _Result(blank(self.schema, node))

    def _option(self, node: Node, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        if "const" in node:
            return _Result(node["const"])
        kinds = types_of(node) - {"null"}
        if "object" in kinds and "properties" in node:
            return (
                self._wrapped(node, path, pointer, depth)
                if is_wrapper(node)
                else self._object(node, path, pointer, depth)
            )
        if "array" in kinds and ("items" in node or kinds == {"array"}):
            return self._array(node, path, pointer, depth)
        if kinds == {"object"}:
            return _Result({})
        return self._leaf(node, path, pointer) if kinds else _Result(MISSING)

    def _leaf(self, node: Node, path: tuple[str, ...], pointer: str) -> _Result:
        asked = describe(path, node)
        found = self.facts.scalar(asked, node)
        return self._place(found, node, pointer)

    def _place(self, found: Found | None, node: Node, pointer: str) -> _Result:
        """The found value made to fit the node, noted with its confidence; nothing when its page is only context."""
        if found is None or (found.row is not None and found.row.page.is_context):
            return _Result(MISSING)
        data = fit(found.data, node)
        if data is MISSING or data is None:
            return _Result(MISSING)
        self.confidence[pointer] = found.confidence
        if found.label:
            self.labels[pointer] = found.label
        return _Result(data, found.row or self.facts.first_row, True, found.quote)

    def _wrapped(self, node: Node, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        members = dict(properties(node))
        inner = _with_description(self.schema.plain(members["value"]), node)
        result = self.value(inner, path, f"{pointer}/value", depth + 1)
        if not result.is_found:
            return _Result(MISSING)
        data = self._with_evidence({"value": result.data}, members, result.row, result.quote)
        return _Result(data, result.row, True, result.quote)

    def _object(self, node: Node, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        members = dict(properties(node))
        data: dict[str, Json] = {}
        row: Row | None = None
        is_found = False
        for name, child in members.items():
            if name in EVIDENCE_KEYS:
                continue
            result = self.value(child, (*path, name), f"{pointer}/{_escape(name)}", depth + 1)
            data[name] = result.data
            is_found = is_found or result.is_found
            row = row or result.row
        complete = self._with_evidence(data, members, row)
        complete.update(unnamed_required(self.schema, node, complete))
        return _Result(complete, row, is_found)

    def _with_evidence(
        self, data: Mapping[str, Json], members: Mapping[str, Any], row: Row | None, quote: str | None = None
    ) -> dict[str, Json]:
        """The data with its evidence keys filled, in the order the schema names them."""
        complete: dict[str, Json] = {}
        for name, child in members.items():
            if name == "_page":
                complete[name] = row.page.number if row else blank(self.schema, child)
            elif name == "_time_s":
                complete[name] = self.facts.time_s(row) if row else blank(self.schema, child)
            elif name == "_quote":
                complete[name] = quote or (Found("", row).quote if row else blank(self.schema, child))
            else:
                complete[name] = data[name]
        return complete

    def _array(self, node: Node, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        item = node.get("items", {})
        options = [option for option in self.schema.alternatives(item) if types_of(option) - {"null"}]
        objects = [option for option in options if "properties" in option and not is_wrapper(option)]
        if objects:
            return self._rows(objects[0], node, path, pointer, depth)
        wrappers = [option for option in options if is_wrapper(option)]
        return self._scalars(options[0] if options else {}, bool(wrappers), node, path, pointer)

    def _rows(self, item: Node, node: Node, path: tuple[str, ...], pointer: str, depth: int) -> _Result:
        """An array of objects: records found by the rules, each fitted to the item's properties."""
        members = {name: child for name, child in properties(item) if name not in EVIDENCE_KEYS}
        fields = {
            name: describe((*path, name), self._scalar_node(child), vocabulary.columns())
            for name, child in members.items()
        }
        records = self.facts.records(path, node, fields, {name: self._scalar_node(c) for name, c in members.items()})
        rows: list[Json] = []
        first: Row | None = None
        for record in records:
            place = f"{pointer}/{len(rows)}"
            row = next((found.row for found in record.values() if found.row), None)
            if row is not None and row.page.is_context:
                continue
            data: dict[str, Json] = {}
            for name, child in members.items():
                data[name] = self._cell(child, record.get(name), (*path, name), f"{place}/{_escape(name)}", depth)
            rows.append(self._with_evidence(data, dict(properties(item)), row))
            first = first or row
        return _Result(rows, first, bool(rows))

    def _cell(self, child: Any, found: Found | None, path: tuple[str, ...], pointer: str, depth: int) -> Json:
        for option in self.schema.alternatives(child):
            if is_wrapper(option):
                members = dict(properties(option))
                value = self._cell(members["value"], found, path, f"{pointer}/value", depth + 1)
                if found and value is not None:
                    return self._with_evidence({"value": value}, members, found.row, found.quote)
                continue
            if found is not None and isinstance(found.data, list):
                if any(isinstance(entry, Found) for entry in found.data):
                    item = option.get("items", {})
                    places = (f"{pointer}/{position}" for position in range(len(found.data)))
                    return [self._cell(item, e, path, p, depth + 1) for e, p in zip(found.data, places, strict=True)]
                return _shaped(found.data, option, self.schema)
            if found is not None:
                result = self._place(found, option, pointer)
                if result.is_found:
                    return result.data
        return [] if _takes_list(self.schema, child) else blank(self.schema, child)

    def _scalars(self, item: Node, wrapped: bool, node: Node, path: tuple[str, ...], pointer: str) -> _Result:
        """An array of plain values."""
        inner = self.schema.plain(dict(properties(item))["value"]) if wrapped else item
        asked = describe(path, _with_description(inner, node))
        values: list[Json] = []
        first: Row | None = None
        for found in lists.find_list(asked, inner, self.facts):
            place = f"{pointer}/{len(values)}"
            result = MISSING
            for option in self.schema.alternatives(inner):
                placed = self._place(found, option, f"{place}/value" if wrapped else place)
                if placed.is_found:
                    result = placed.data
                    break
            if result is MISSING:
                continue
            members = dict(properties(item))
            values.append(
                self._with_evidence({"value": result}, members, found.row, found.quote) if wrapped else result
            )
            first = first or found.row
        return _Result(values, first, bool(values))

    def _scalar_node(self, child: Any) -> Node:
        """The node of the value itself below a cell: wrappers opened, null left out."""
        plain = self.schema.plain(child)
        for option in self.schema.alternatives(child):
            if is_wrapper(option):
                return _with_description(self._scalar_node(dict(properties(option))["value"]), plain)
            if types_of(option) != {"null"}:
                return _with_description(option, plain)
        return plain


def _shaped(data: Json, node: Any, schema: Schema, depth: int = 0) -> Json:
    """Lists and objects a rule found whole (tables), made to fit the node; what does not fit becomes blank."""
    for option in schema.alternatives(node):
        kinds = types_of(option)
        if isinstance(data, list) and "array" in kinds and depth < _MAX_DEPTH:
            return [_shaped(entry, option.get("items", {}), schema, depth + 1) for entry in data]
        if is_wrapper(option) and data is not None:
            members = dict(properties(option))
            inner = _shaped(data, members["value"], schema, depth + 1)
            return {name: inner if name == "value" else blank(schema, child) for name, child in members.items()}
        if isinstance(data, dict) and "object" in kinds:
            return {
                name: _shaped(data[name], child, schema, depth + 1) if name in data else blank(schema, child)
                for name, child in properties(option)
            }
        result = fit(data, option)
        if result is not MISSING:
            return result
    return blank(schema, node)


def _takes_list(schema: Schema, node: Any) -> bool:
    return any(types_of(option) == {"array"} for option in schema.alternatives(node)) and not schema.allows_null(node)


def _with_description(node: Node, outer: Node) -> Node:
    """The node with title and description of the node around it where it has none."""
    missing = {key: outer[key] for key in ("title", "description") if key in outer and key not in node}
    return {**node, **missing} if missing else node


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _uses_checked_keywords(node: Any, depth: int = 0) -> bool:
    if depth > 30:
        return True
    if isinstance(node, Mapping):
        return bool(_CHECKED_KEYWORDS & node.keys()) or any(
            _uses_checked_keywords(child, depth + 1) for child in node.values()
        )
    return isinstance(node, list) and any(_uses_checked_keywords(child, depth + 1) for child in node)


def _mend(data: Json, raw: Mapping[str, Any], schema: Schema) -> Json:
    """The data with values that break a keyword the walk does not obey replaced by ones that keep it."""
    if not _uses_checked_keywords(raw):
        return data
    validator = Draft202012Validator(raw)
    try:
        for _ in range(_MENDING_ROUNDS):
            errors = list(validator.iter_errors(data))
            if not errors:
                break
            for error in errors:
                data = _mended(data, error, validator, schema)
    except Exception as error:  # a broken `$ref` or expression in the caller's schema raises errors of many kinds
        del error
    return data


def _mended(data: Json, error: ValidationError, validator: Draft202012Validator, schema: Schema) -> Json:
    """The data with the value an error speaks of replaced by the least value its node allows."""
    node = error.schema if isinstance(error.schema, Mapping) else {}
    checker = validator.evolve(schema=node)
    least = blank(schema, node)
    value = next((option for option in (least, *_SIMPLEST) if checker.is_valid(option)), least)
    path = list(error.absolute_path)
    if not path:
        return value
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return data
