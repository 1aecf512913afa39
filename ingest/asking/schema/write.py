"""Shapes written as a chunk schema in the strict dialect.

Of the dialect's keywords only these are used: `type enum anyOf properties required additionalProperties items $defs
$ref description`. Every object is closed and names all its properties as required; what may be missing may be null.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TypeAlias

from ingest.asking.schema.combine import canonical
from ingest.asking.schema.shapes import (
    ArrayShape,
    Choice,
    Core,
    Field,
    Leaf,
    MapShape,
    ObjectShape,
    Place,
    Reference,
    Shape,
    Table,
    TupleShape,
    admits_null,
    resolve,
)
from ingest.errors import ConfigError
from ingest.types import EvidenceMode, JsonObject, Medium

PAGE, TIME, QUOTE, VALUE, KEY, REST = "_page", "_time_s", "_quote", "value", "key", "rest"
_NULL: JsonObject = {"type": "null"}
# A schema of this size is beyond any model's window.
_MAX_NODES = 50_000

_Definition: TypeAlias = tuple[str, Place, bool]


def position_name(index: int) -> str:
    """Property that holds position `index` (from 0) of a tuple."""
    return f"item_{index + 1}"


def first_place(evidence: EvidenceMode) -> Place:
    """Where the whole data stands. Without evidence all places are written alike."""
    return Place.INSIDE if evidence == "none" else Place.OUTSIDE


def place_name(medium: Medium) -> str:
    """The evidence field that says where a value stands: the number of a page, or seconds of a video."""
    return TIME if medium == "video" else PAGE


def reserved_names(evidence: EvidenceMode, medium: Medium = "pages") -> frozenset[str]:
    """Names of the evidence fields."""
    place = place_name(medium)
    return frozenset({"none": (), "part": (place,), "quote": (place, QUOTE)}[evidence])


def write(shape: Shape, table: Table, evidence: EvidenceMode, medium: Medium = "pages") -> JsonObject:
    """The chunk schema of `shape`. A root that is not an object is written as the property `value` of one."""
    counting = _Writer(table, evidence, medium, frozenset())
    counting.write_root(shape)
    used_once = frozenset(name for name, count in counting.uses.items() if count == 1)
    return _Writer(table, evidence, medium, used_once).write_root(shape)


class _Writer:
    """One pass over the shapes. Definitions in `inline` are written where they are used, all others under $defs."""

    def __init__(self, table: Table, evidence: EvidenceMode, medium: Medium, inline: frozenset[object]) -> None:
        self.uses: Counter[object] = Counter()
        self._table = table
        self._evidence = evidence
        self._medium = medium
        self._inline = inline
        self._names: dict[object, str] = {}
        self._definitions: JsonObject = {}
        self._nodes = 0

    def write_root(self, shape: Shape) -> JsonObject:
        place = first_place(self._evidence)
        target = resolve(shape, self._table)
        if isinstance(target, ObjectShape):
            root = self._object(target, place, False, False)
        else:
            root = _closed({VALUE: self._write(shape, place, admits_null(shape, self._table))})
        return root | {"$defs": self._definitions} if self._definitions else root

    def _write(self, shape: Shape, place: Place, null: bool, is_option: bool = False) -> JsonObject:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ConfigError(
                f"the document schema unfolds to more than {_MAX_NODES} places; put shared forms under $defs"
            )
        if isinstance(shape, Leaf):
            return self._leaf(shape, place, null, is_option)
        if isinstance(shape, ObjectShape):
            return self._object(shape, place, null, is_option)
        if isinstance(shape, ArrayShape):
            return self._array(shape, place, null)
        if isinstance(shape, MapShape):
            return self._map(shape, null)
        if isinstance(shape, TupleShape):
            return self._tuple(shape, place, null)
        if isinstance(shape, Choice):
            return self._choice(shape, place, null)
        return self._reference(shape, place, null, is_option)

    def _leaf(self, leaf: Leaf, place: Place, null: bool, is_option: bool) -> JsonObject:
        if not leaf.cores:
            return _described(leaf.description, _NULL)
        if place is Place.INSIDE or self._evidence == "none":
            return _described(leaf.description, _values(leaf, null))
        if place is Place.ENTRY:
            body = self._evidence_fields(True) | {VALUE: _values(leaf, null)}
            return self._with_description(leaf.description, self._share(body, leaf), null=False)
        body = self._evidence_fields(False) | {VALUE: _values(leaf, True)}
        return self._with_description(leaf.description, self._share(body, leaf), null=not is_option)

    def _object(self, shape: ObjectShape, place: Place, null: bool, is_option: bool) -> JsonObject:
        properties = self._evidence_fields(True) if place is Place.ENTRY else {}
        for field in shape.fields:
            if is_option and isinstance(field.shape, Leaf) and field.shape.is_constant:
                # Tells the options apart: naming the option is no claim about the document.
                properties[field.wire_name] = _described(field.shape.description, _values(field.shape, False))
                continue
            may_be_null = admits_null(field.shape, self._table) or self._needs_null(field)
            properties[field.wire_name] = self._write(field.shape, place.below, may_be_null)
        if shape.entries is not None:
            properties[shape.entries_name] = self._map(shape.entries, False)
        return _described(shape.description, _closed(properties, null))

    def _needs_null(self, field: Field) -> bool:
        """Whether null must say "nothing" there: a list can be empty instead, a required object hold only nulls."""
        target = resolve(field.shape, self._table)
        if isinstance(target, ArrayShape | MapShape):
            return False
        return not field.required or isinstance(target, Leaf | Choice)

    def _array(self, shape: ArrayShape, place: Place, null: bool) -> JsonObject:
        items = self._write(shape.items, Place.ENTRY, admits_null(shape.items, self._table))
        return _described(shape.description, {"type": _type("array", null), "items": items})

    def _map(self, shape: MapShape, null: bool) -> JsonObject:
        value = self._write(shape.value, Place.INSIDE, True)
        key = _described(shape.key.description, _values(shape.key, False))
        entry = _closed(self._evidence_fields(True) | {KEY: key, VALUE: value})
        return _described(shape.description, {"type": _type("array", null), "items": entry})

    def _tuple(self, shape: TupleShape, place: Place, null: bool) -> JsonObject:
        properties = self._evidence_fields(True) if place is Place.ENTRY else {}
        for index, position in enumerate(shape.positions):
            properties[position_name(index)] = self._write(position, place.below, True)
        if shape.rest is not None:
            properties[REST] = self._array(shape.rest, place.below, False)
        return _described(shape.description, _closed(properties, null))

    def _choice(self, shape: Choice, place: Place, null: bool) -> JsonObject:
        null = null or shape.nullable or any(admits_null(option, self._table) for option in shape.options)
        options = [self._write(option, place, False, is_option=True) for option in shape.options]
        # A leaf with several cores is a choice itself.
        flat = [each for option in options for each in (option["anyOf"] if option.keys() == {"anyOf"} else [option])]
        return _described(shape.description, {"anyOf": [_NULL, *flat] if null else flat})

    def _reference(self, shape: Reference, place: Place, null: bool, is_option: bool) -> JsonObject:
        target = resolve(shape, self._table)
        if isinstance(target, Leaf):
            return self._leaf(target, place, null, is_option)
        if self._evidence == "none":
            place = Place.INSIDE
        is_option = is_option and isinstance(target, ObjectShape)
        key: _Definition = (shape.name, place, is_option)
        self.uses[key] += 1
        if key in self._inline:
            body = self._write(target, place, null, is_option)
            return body | {"description": shape.description} if shape.description else body
        if key not in self._names:
            name = self._names[key] = self._new_name(shape.name)
            self._definitions[name] = {}
            self._definitions[name] = self._write(target, place, False, is_option)
        body = {"$ref": f"#/$defs/{self._names[key]}"}
        return self._with_description(shape.description, body, null)

    def _share(self, properties: JsonObject, leaf: Leaf) -> JsonObject:
        """A value with its evidence; one that is used twice or more is written once, under $defs."""
        body = _closed(properties)
        key = canonical(body)
        self.uses[key] += 1
        if key in self._inline:
            return body
        if key not in self._names:
            stem = "value" if leaf.cores[0].enum or len(leaf.cores) > 1 else "_or_".join(leaf.cores[0].types)
            self._names[key] = self._new_name(f"cited_{stem}")
            self._definitions[self._names[key]] = body
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _new_name(self, stem: str) -> str:
        name, count = stem, 1
        while name in self._definitions:
            count += 1
            name = f"{stem}_{count}"
        return name

    def _evidence_fields(self, may_be_null: bool) -> JsonObject:
        if self._evidence == "none":
            return {}
        kind = "number" if self._medium == "video" else "integer"
        fields: JsonObject = {place_name(self._medium): {"type": _type(kind, may_be_null)}}
        return fields | {QUOTE: {"type": ["string", "null"]}} if self._evidence == "quote" else fields

    def _with_description(self, description: str, body: JsonObject, null: bool) -> JsonObject:
        """`$ref` takes no neighbours in strict dialects, so a description stands around it."""
        if null:
            return _described(description, {"anyOf": [_NULL, body]})
        if description and "$ref" in body:
            return {"description": description, "anyOf": [body]}
        return _described(description, body)


def _values(leaf: Leaf, null: bool) -> JsonObject:
    """The values of a leaf, with null among them when it may be."""
    schemas = [_core(core, null and len(leaf.cores) == 1) for core in leaf.cores]
    if len(schemas) == 1:
        return schemas[0]
    return {"anyOf": [*schemas, _NULL] if null else schemas}


def _core(core: Core, null: bool) -> JsonObject:
    types = [*core.types, "null"] if null else list(core.types)
    schema: JsonObject = {"type": types[0] if len(types) == 1 else types}
    if core.enum is None:
        return schema
    values = {"enum": [*core.enum, None] if null else list(core.enum)}
    # Strict dialects want an object or array type to say what is in it.
    return values if {"object", "array"} & set(types) else schema | values


def _type(name: str, null: bool) -> str | list[str]:
    return [name, "null"] if null else name


def _closed(properties: JsonObject, null: bool = False) -> JsonObject:
    return {
        "type": _type("object", null),
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _described(description: str, schema: JsonObject) -> JsonObject:
    return {"description": description, **schema} if description else dict(schema)


def schema_name(title: object) -> str:
    """A name for `response_format` and for the tool: letters, digits, `_` and `-`, at most 64 of them."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", title).strip("_")[:64] if isinstance(title, str) else ""
    return text or "extraction"
