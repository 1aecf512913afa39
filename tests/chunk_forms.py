"""The way back of `schema.restore`, for tests: data of the user's shape written as a model would answer it.

Also a checker of the strict dialect that shares nothing with the code that writes it.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from ingest.asking.schema import ChunkSchema
from ingest.asking.schema.shapes import (
    ArrayShape,
    Choice,
    Leaf,
    MapShape,
    ObjectShape,
    Place,
    Shape,
    TupleShape,
    resolve,
)

_WORDS = {"type", "enum", "anyOf", "properties", "required", "additionalProperties", "items", "$ref", "description"}
_TYPES = {"string", "number", "integer", "boolean", "null", "array", "object"}


def check_strict(schema: dict[str, Any]) -> None:
    """Fail unless the schema keeps to the strict dialect: known keywords, closed objects, everything required."""
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    definitions = schema.get("$defs", {})
    used: set[str] = set()
    pending = [{word: value for word, value in schema.items() if word != "$defs"}, *definitions.values()]
    while pending:
        node = pending.pop()
        assert isinstance(node, dict)
        assert node.keys() <= _WORDS, node.keys() - _WORDS
        types = node.get("type", [])
        types = [types] if isinstance(types, str) else types
        assert set(types) <= _TYPES
        assert len(set(types)) == len(types)
        if "$ref" in node:
            assert node.keys() == {"$ref"}, "a reference stands alone"
            name = node["$ref"].removeprefix("#/$defs/")
            assert name in definitions
            used.add(name)
        if "object" in types:
            assert node["required"] == list(node["properties"])
            assert node["additionalProperties"] is False
            pending += node["properties"].values()
        if "array" in types:
            pending.append(node["items"])
        pending += node.get("anyOf", [])
    assert used == definitions.keys(), "nothing is defined in vain"


def wrap(value: Any, chunk_schema: ChunkSchema, page: int = 1) -> Any:
    """Data of the user's shape as an answer in chunk form, with everything on `page`."""
    wrapper = _Wrapper(chunk_schema, page)
    place = Place.INSIDE if chunk_schema.evidence == "none" else Place.OUTSIDE
    answer = wrapper.wrap(chunk_schema.shape, value, place)
    is_object = isinstance(resolve(chunk_schema.shape, chunk_schema.table), ObjectShape)
    return answer if is_object else {"value": answer}


class _Wrapper:
    def __init__(self, chunk_schema: ChunkSchema, page: int) -> None:
        self._table = chunk_schema.table
        evidence = {"none": {}, "part": {"_page": page}, "quote": {"_page": page, "_quote": "as printed"}}
        self._evidence: dict[str, Any] = evidence[chunk_schema.evidence]

    def wrap(self, shape: Shape, value: Any, place: Place, is_option: bool = False) -> Any:
        """One value, in the form of its place."""
        shape = resolve(shape, self._table)
        if isinstance(shape, Leaf):
            is_plain = value is None and place is not Place.ENTRY
            is_plain = is_plain or not self._evidence or place is Place.INSIDE or not shape.cores
            return value if is_plain else self._evidence | {"value": value}
        if value is None:
            return None
        if isinstance(shape, Choice):
            return self._wrap_choice(shape, value, place)
        if isinstance(shape, ArrayShape):
            return [self.wrap(shape.items, item, Place.ENTRY) for item in value]
        if isinstance(shape, MapShape):
            return self._wrap_map(shape, value)
        own = dict(self._evidence) if place is Place.ENTRY else {}
        if isinstance(shape, TupleShape):
            for index, position in enumerate(shape.positions):
                item = value[index] if index < len(value) else None
                own[f"item_{index + 1}"] = self.wrap(position, item, place.below)
            if shape.rest is not None:
                own["rest"] = self.wrap(shape.rest, value[len(shape.positions) :], place.below)
            return own
        assert isinstance(shape, ObjectShape)
        for field in shape.fields:
            is_fixed = is_option and isinstance(field.shape, Leaf) and field.shape.is_constant
            below = Place.INSIDE if is_fixed else place.below
            item = value.get(field.name)
            target = resolve(field.shape, self._table)
            if item is None and isinstance(target, ArrayShape | MapShape) and not target.nullable:
                own[field.wire_name] = []
            else:
                own[field.wire_name] = self.wrap(field.shape, item, below)
        if shape.entries is not None:
            known = {field.name for field in shape.fields}
            free = {name: item for name, item in value.items() if name not in known}
            own[shape.entries_name] = self._wrap_map(shape.entries, free)
        return own

    def _wrap_map(self, shape: MapShape, value: dict[str, Any]) -> list[Any]:
        return [
            self._evidence | {"key": key, "value": self.wrap(shape.value, item, Place.INSIDE)}
            for key, item in value.items()
        ]

    def _wrap_choice(self, shape: Choice, value: Any, place: Place) -> Any:
        for option in shape.options:
            if self._is_of(option, value):
                return self.wrap(option, value, place, is_option=True)
        raise AssertionError(f"no option for {value!r}")

    def _is_of(self, shape: Shape, value: Any) -> bool:
        shape = resolve(shape, self._table)
        if isinstance(shape, Choice):
            return any(self._is_of(option, value) for option in shape.options)
        if isinstance(shape, Leaf):
            return not isinstance(value, dict | list)
        if isinstance(shape, ArrayShape | TupleShape):
            return isinstance(value, list)
        if isinstance(shape, MapShape):
            return isinstance(value, dict)
        assert isinstance(shape, ObjectShape)
        if not isinstance(value, dict):
            return False
        constants = [field for field in shape.fields if isinstance(field.shape, Leaf) and field.shape.is_constant]
        fixed = {field.name: field.shape.cores[0].enum for field in constants if isinstance(field.shape, Leaf)}
        return all(value.get(name) in (enum or ()) for name, enum in fixed.items()) and (
            bool(fixed) or value.keys() <= {field.name for field in shape.fields}
        )
