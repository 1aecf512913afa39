"""The document schema as typed columns: what a table of its records looks like, whatever writes it.

A value has one type, or it is kept as JSON text: unions of several types, objects without named properties, lists by
position and schemas that contain themselves have no column type that holds all they allow.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, TypeAlias

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from ingest.errors import ConfigError
from ingest.types import Json, JsonObject

Kind: TypeAlias = Literal[
    "text", "integer", "number", "decimal", "boolean", "date", "timestamp", "time", "json", "struct", "list"
]

# Digits of a decimal column: the most that Arrow's decimal128 holds.
DECIMAL_DIGITS = 38
_MOST_SCALE = 18

# Several `anyOf` in one `allOf` multiply out; beyond this a value is kept as JSON text.
_MAX_ALTERNATIVES = 64

_FORMATS: Mapping[str, Kind] = {"date": "date", "date-time": "timestamp", "time": "time"}
_TEXT_KINDS = frozenset({"text", "date", "timestamp", "time"})
_NUMBER_KINDS = frozenset({"integer", "number", "decimal"})
_STRING_WORDS = frozenset({"format", "pattern", "minLength", "maxLength", "contentEncoding", "contentMediaType"})


@dataclass(frozen=True, slots=True)
class Type:
    """What a column holds. `scale` counts decimal places; a struct has `columns`, a list an `item`."""

    kind: Kind
    scale: int = 0
    columns: tuple[Column, ...] = ()
    item: Type | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or a struct. `key` is the property in the data, `name` what the table calls it."""

    key: str
    name: str
    type: Type


JSON = Type("json")


def columns_of(schema: JsonObject, reserved: Iterable[str] = ()) -> tuple[Column, ...]:
    """The columns of a document schema, in its order; their names are unique, also without regard to case.

    `reserved` are names that stand in the table already. Raises ConfigError for a schema that is not one of an
    object with properties, or whose references lead nowhere.
    """
    try:
        found = _Reader(schema).type_of((_Node(schema),))
    except Unresolvable as error:
        raise ConfigError(f"document schema: $ref {error.ref!r} leads to nothing that is part of it") from error
    if found.kind != "struct":
        raise ConfigError("a table needs a schema of an object with properties: this one names none at its root")
    return named(found.columns, reserved)


def named(columns: Sequence[Column], reserved: Iterable[str] = ()) -> tuple[Column, ...]:
    """The columns with names of their own; the columns of structs too."""
    names = unique_names([column.key for column in columns], reserved=reserved)
    return tuple(
        Column(column.key, name, _with_names(column.type)) for column, name in zip(columns, names, strict=True)
    )


def unique_names(keys: Sequence[str], fold: Callable[[str], str] = str, reserved: Iterable[str] = ()) -> list[str]:
    """A name for each key, made by `fold` and unique without regard to case.

    Of several keys with one name, the key that is that name in small letters keeps it; the others carry a mark made
    of the key, so that a name never comes to mean another key when the schema grows.
    """
    taken = {name.casefold() for name in reserved}
    folded = [fold(clean_text(key).replace("\0", "_")) or "field" for key in keys]
    count = Counter(name.casefold() for name in folded)

    def name_of(key: str, name: str) -> str:
        small = name.casefold()
        is_free = small not in taken and (count[small] == 1 or key == small)
        return name if is_free else f"{name}_{short_hash(key)}"

    return [name_of(key, name) for key, name in zip(keys, folded, strict=True)]


def short_hash(text: str) -> str:
    """A mark of eight characters that stands for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def clean_text(text: str) -> str:
    """The text with what UTF-8 cannot hold, halves of surrogate pairs, written out as an escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _with_names(kind: Type) -> Type:
    item = None if kind.item is None else _with_names(kind.item)
    return replace(kind, columns=named(kind.columns), item=item)


@dataclass(frozen=True, slots=True)
class _Node:
    """A sub-schema, and the references that were followed to reach it."""

    schema: Json
    within: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Plain:
    """One conjunction of keywords, references and combinations resolved away. `types` is None when any will do."""

    types: frozenset[str] | None = None
    words: JsonObject = field(default_factory=dict)
    properties: Mapping[str, tuple[_Node, ...]] = field(default_factory=dict)
    items: tuple[_Node, ...] = ()


class _Open(Exception):
    """The schema leads back into itself, or allows too much: no column type holds it."""


class _Reader:
    """Reads types out of one schema."""

    def __init__(self, schema: JsonObject) -> None:
        resource: Resource[Json] = DRAFT202012.create_resource(schema)
        self._resolver = Registry().resolver_with_root(resource)

    def type_of(self, nodes: tuple[_Node, ...]) -> Type:
        """The type of a value that fits all the sub-schemas."""
        try:
            plains = self._conjoin([self._alternatives(node) for node in nodes])
        except _Open:
            return JSON
        types = [found for plain in plains for found in self._types(plain)]
        return unite(types) if types else JSON

    def _alternatives(self, node: _Node) -> list[_Plain]:
        """The conjunctions of which a value must fit one; none when nothing can fit."""
        schema, within = node.schema, node.within
        if not isinstance(schema, dict):
            return [] if schema is False else [_Plain()]
        groups = [[_plain(schema, within)]]
        reference = schema.get("$ref", schema.get("$dynamicRef"))
        if isinstance(reference, str):
            if reference in within:
                raise _Open
            target = self._resolver.lookup(reference).contents
            groups.append(self._alternatives(_Node(target, within | {reference})))
        groups += [self._alternatives(_Node(part, within)) for part in schema.get("allOf", ())]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                options = (self._alternatives(_Node(option, within)) for option in schema[word])
                groups.append([plain for option in options for plain in option])
        return self._conjoin(groups)

    @staticmethod
    def _conjoin(groups: Sequence[Sequence[_Plain]]) -> list[_Plain]:
        found = [_Plain()]
        for group in groups:
            if len(found) * len(group) > _MAX_ALTERNATIVES:
                raise _Open
            pairs = itertools.product(found, group)
            found = [both for one, other in pairs if (both := _both(one, other)) is not None]
        return found

    def _types(self, plain: _Plain) -> list[Type]:
        """The types a conjunction allows, null left out."""
        names = _type_names(plain)
        if names is None:
            return [JSON]
        return [self._single(name, plain) for name in sorted(names - {"null"})]

    def _single(self, name: str, plain: _Plain) -> Type:
        if name == "object" and plain.properties:
            columns = ((key, self.type_of(nodes)) for key, nodes in plain.properties.items())
            return Type("struct", columns=tuple(Column(key, key, kind) for key, kind in columns))
        if name == "array" and plain.items and "prefixItems" not in plain.words:
            return Type("list", item=self.type_of(plain.items))
        if name == "string":
            return Type(_FORMATS.get(plain.words.get("format", ""), "text"))
        if name == "number":
            return _number(plain.words.get("multipleOf"))
        return Type("integer") if name == "integer" else Type("boolean") if name == "boolean" else JSON


def unite(types: Sequence[Type]) -> Type:
    """The type that holds every value of several types; JSON text when there is no closer one."""
    first, *others = types
    for other in others:
        first = _unite_two(first, other)
    return first


def _unite_two(one: Type, other: Type) -> Type:
    kinds = {one.kind, other.kind}
    if one == other:
        return one
    if kinds == {"struct"}:
        return Type("struct", columns=_unite_columns(one.columns, other.columns))
    if one.item is not None and other.item is not None:
        return Type("list", item=_unite_two(one.item, other.item))
    if kinds <= _TEXT_KINDS:
        return Type("text")
    if kinds <= _NUMBER_KINDS:
        return Type("number") if "number" in kinds else Type("decimal", max(one.scale, other.scale))
    return JSON


def _unite_columns(one: tuple[Column, ...], other: tuple[Column, ...]) -> tuple[Column, ...]:
    types = {column.key: column.type for column in one}
    for column in other:
        known = types.get(column.key)
        types[column.key] = column.type if known is None else _unite_two(known, column.type)
    return tuple(Column(key, key, kind) for key, kind in types.items())


def _plain(schema: JsonObject, within: frozenset[str]) -> _Plain:
    """The keywords of one schema object by itself."""
    stated = schema.get("type")
    return _Plain(
        None if stated is None else frozenset([stated] if isinstance(stated, str) else stated),
        {
            word: schema[word]
            for word in (*_STRING_WORDS, "multipleOf", "enum", "const", "prefixItems")
            if word in schema
        },
        {key: (_Node(value, within),) for key, value in schema.get("properties", {}).items()},
        (_Node(schema["items"], within),) if isinstance(schema.get("items"), dict) else (),
    )


def _both(one: _Plain, other: _Plain) -> _Plain | None:
    """Two conjunctions as one; None when no value has a type that both allow."""
    types = _common(one.types, other.types)
    if types is not None and not types:
        return None
    properties = dict(one.properties)
    for key, nodes in other.properties.items():
        properties[key] = (*properties.get(key, ()), *nodes)
    return _Plain(types, {**other.words, **one.words}, properties, (*one.items, *other.items))


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    common = one & other
    # An integer is a number too.
    return (
        common | {"integer"}
        if "integer" in one ^ other and "number" in one | other and "number" not in common
        else common
    )


def _type_names(plain: _Plain) -> frozenset[str] | None:
    """JSON types that a conjunction allows, from its values where they are listed; None when it says nothing."""
    values = [plain.words["const"]] if "const" in plain.words else plain.words.get("enum")
    if values is not None:
        return frozenset(_json_type(value) for value in values)
    if plain.types is not None:
        return plain.types - {"integer"} if "number" in plain.types else plain.types
    if plain.properties:
        return frozenset({"object"})
    if plain.items:
        return frozenset({"array"})
    return frozenset({"string"}) if _STRING_WORDS & plain.words.keys() else None


def _json_type(value: Json) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _number(multiple_of: Json) -> Type:
    """Exact decimals where the schema says of what every value is a multiple, such as cents; else a float."""
    if not isinstance(multiple_of, int | float):
        return Type("number")
    exponent = Decimal(str(multiple_of)).normalize().as_tuple().exponent
    scale = max(0, -exponent) if isinstance(exponent, int) else _MOST_SCALE + 1
    return Type("decimal", scale) if scale <= _MOST_SCALE else Type("number")
