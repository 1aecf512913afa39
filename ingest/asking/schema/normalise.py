"""A document schema read into shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ingest.asking.schema import notes
from ingest.asking.schema.combine import NOTES, alternatives, canonical, is_forming, same
from ingest.asking.schema.pointers import look_up, reference_of
from ingest.asking.schema.shapes import (
    SCALARS,
    ArrayShape,
    Choice,
    Core,
    Field,
    Leaf,
    MapShape,
    ObjectShape,
    Reference,
    Shape,
    Table,
    TupleShape,
    resolve,
)
from ingest.errors import ConfigError
from ingest.types import Json, JsonObject

# Deeper forms cannot be asked for (the strict dialect's own advice is five levels). A reference counts twice.
_MAX_DEPTH = 96

_TYPE_WORDS = {
    "object": (
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
        "maxProperties", "unevaluatedProperties", "dependentRequired",
    ),
    "array": ("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"),
    "string": ("pattern", "format", "minLength", "maxLength", "contentEncoding", "contentMediaType"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip
_ANYTHING = Leaf((Core(("number", "boolean", "string")),), nullable=True)
_NOTHING = Leaf(())


def normalise(schema: JsonObject, reserved: frozenset[str]) -> tuple[Shape, Table]:
    """The shape of the whole data, and the shapes it refers to by name.

    `reserved` are the names of evidence fields: a property of the same name gets another name on the wire.
    Raises ConfigError when the schema asks for something that no strict schema can express.
    """
    reader = _Reader(schema, reserved)
    return reader.read(schema, ""), reader.table


class _Reader:
    def __init__(self, root: JsonObject, reserved: frozenset[str]) -> None:
        self.table: Table = {}
        self._root = root
        self._reserved = reserved
        self._names: dict[str, str] = {}
        self._open: set[str] = set()
        self._done: dict[tuple[str, str], Shape] = {}
        self._depth = 0

    def read(self, schema: Json, hint: str) -> Shape:
        """The shape of values that fit `schema`. `hint` is the property name, used for naming and for titles."""
        if isinstance(schema, bool):
            return _ANYTHING if schema else _NOTHING
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ConfigError(
                f"document schema: forms are nested more than {_MAX_DEPTH} levels deep below {hint!r}; "
                "a schema that contains itself must do so through one $ref"
            )
        try:
            return self._read_reference(schema, hint) or self._read_new(schema, hint)
        finally:
            self._depth -= 1

    def _read_reference(self, schema: JsonObject, hint: str) -> Shape | None:
        """A schema that only refers to another, perhaps with its own description; None for any other."""
        reference = _sole_reference(schema)
        if reference is None:
            return None
        name = self._named(look_up(self._root, reference), reference)
        description = _describe(schema, hint)
        target = self._settled(Reference(name))
        if isinstance(target, Leaf):
            return _described(target, description)
        return Reference(name, description)

    def _named(self, target: Json, reference: str) -> str:
        """The name under which the target of a reference stands in the table; it is read on its first use."""
        key = _key(target)
        if key not in self._names:
            name = self._names[key] = self._new_name(reference)
            if key not in self._open:
                self.table[name] = self.read(target, "")
        return self._names[key]

    def _new_name(self, reference: str) -> str:
        stem = re.sub(r"\W+", "_", reference.rsplit("/", 1)[-1], flags=re.ASCII).strip("_") or "document"
        name, count = stem, 1
        while name in self._names.values():
            count += 1
            name = f"{stem}_{count}"
        return name

    def _settled(self, shape: Shape) -> Shape | None:
        """The shape behind references; None while that is still being read."""
        while isinstance(shape, Reference):
            if shape.name not in self.table:
                return None
            shape = self.table[shape.name]
        return shape

    def _read_new(self, schema: JsonObject, hint: str) -> Shape:
        """A schema with keywords of its own. One met again while it is being read becomes a reference to itself."""
        key = _key(schema)
        if key in self._open:
            if key not in self._names:
                self._names[key] = self._new_name(hint)
            return Reference(self._names[key])
        done = self._done.get((key, hint))
        if done is not None:
            return done
        self._open.add(key)
        try:
            shape = self._done[key, hint] = self._read_options(schema, hint)
        finally:
            self._open.discard(key)
        if key in self._names:
            self.table[self._names[key]] = shape
        return shape

    def _read_options(self, schema: JsonObject, hint: str) -> Shape:
        """A list of options is read option by option, so that references stay references; anything else is merged."""
        own = schema.keys() & _KNOWN
        description = _describe(schema, hint)
        for keyword in ("anyOf", "oneOf"):
            if own == {keyword} and is_forming(schema[keyword]):
                options = [self.read(option, "") for option in _without_numerals(schema[keyword])]
                return self._choose(options, notes.add_notes(description, [notes.example_note(schema)]))
        if own == {"allOf"} and len(schema["allOf"]) == 1:
            return _described(self.read(schema["allOf"][0], hint), description)
        undescribed = {word: value for word, value in schema.items() if word not in ("description", "title")}
        return self._choose([self._read_plain(flat) for flat in alternatives(undescribed, self._root)], description)

    def _read_plain(self, schema: JsonObject) -> Shape:
        """A plain conjunction: split by type."""
        types = _types(schema)
        description = notes.add_notes(_describe(schema, ""), [*schema.get(NOTES, ()), notes.example_note(schema)])
        if "enum" in schema:
            return _read_values(schema["enum"], types, description)
        shapes: list[Shape] = []
        if "object" in types:
            shapes.append(self._read_object(schema))
        if "array" in types:
            shapes.append(self._read_array(schema))
        scalars = tuple(name for name in SCALARS if name in types)
        if scalars:
            shapes.append(Leaf((Core(_widest(scalars)),), description=_scalar_notes(schema, scalars)))
        if "null" in types:
            shapes.append(_NOTHING)
        return self._choose(shapes, description)

    def _read_object(self, schema: JsonObject) -> Shape:
        properties = dict(schema.get("properties", {}))
        required = schema.get("required", [])
        free = _free_schemas(schema)
        for name in required:
            properties.setdefault(name, free[0] if free else True)
        description = notes.add_notes("", notes.object_notes(schema))
        entries = self._read_entries(schema, free) if free else None
        if entries is not None and not properties:
            return replace(entries, description=notes.add_notes(description, [entries.description]))
        taken = set(properties)
        fields = []
        for name, child in properties.items():
            if child is False:
                continue
            wire_name = _free_name(name, taken - {name}) if name in self._reserved else name
            fields.append(Field(name, wire_name, self.read(child, name), name in required))
        entries_name = _free_name("entries", taken | self._reserved) if entries else ""
        if entries is not None:
            entries = replace(
                entries, description=entries.description or "Further entries, without a property of their own"
            )
        return ObjectShape(tuple(fields), entries, entries_name, description=description)

    def _read_entries(self, schema: JsonObject, free: list[Json]) -> MapShape:
        key = Leaf((Core(("string",)),), description="Name of the entry")
        if isinstance(schema.get("propertyNames"), dict):
            read = resolve(self.read({"type": "string", **schema["propertyNames"]}, ""), self.table)
            if isinstance(read, Leaf) and read.cores:
                key = replace(read, nullable=False, description=read.description or key.description)
        elif schema.get("patternProperties") and not schema.get("additionalProperties"):
            patterns = " or ".join(schema["patternProperties"])
            key = replace(key, description=f"Name of the entry (matches the pattern {patterns})")
        value = self._choose([self.read(child, "") for child in free], "")
        return MapShape(key, value, may_be_empty=not schema.get("minProperties"))

    def _read_array(self, schema: JsonObject) -> Shape:
        description = notes.add_notes("", notes.array_notes(schema))
        items = schema.get("items", schema.get("unevaluatedItems"))
        positions = schema.get("prefixItems")
        if positions:
            rest = ArrayShape(self.read(items, "")) if isinstance(items, dict) else None
            return TupleShape(tuple(self.read(part, "") for part in positions), rest)
        if items is None and isinstance(schema.get("contains"), dict):
            items = schema["contains"]
        item = self.read(True if items is None else items, "")
        return ArrayShape(item, may_be_empty=not schema.get("minItems"), description=description)

    def _choose(self, options: Iterable[Shape], description: str) -> Shape:
        """One shape for several options: null becomes a property of it, all scalar options become one leaf."""
        rest: list[Shape] = []
        leaves: list[Leaf] = []
        nullable = False
        for option in _unfold(options):
            target = self._settled(option)
            if isinstance(target, Leaf):
                nullable = nullable or target.nullable or not target.cores
                leaves.append(target)
                continue
            if not isinstance(option, Reference):
                nullable = nullable or option.nullable
                option = replace(option, nullable=False)
            if option not in rest:
                rest.append(option)
        if any(leaf.cores for leaf in leaves) or not rest:
            rest.insert(0, _join_leaves(leaves))
        if len(rest) == 1:
            return self._one(rest[0], nullable, description)
        return Choice(tuple(rest), nullable, description)

    def _one(self, shape: Shape, nullable: bool, description: str) -> Shape:
        if isinstance(shape, Reference):
            # A reference has no null of its own, so a choice of one carries it.
            return Choice((shape,), True, description) if nullable else _described(shape, description)
        return replace(shape, nullable=nullable or shape.nullable, description=_joined(description, shape.description))


_KNOWN = frozenset(
    {word for words in _TYPE_WORDS.values() for word in words}
    | {"type", "enum", "const", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas"}
    | {"minContains", "maxContains", "contentSchema"}
)


def _key(schema: Json) -> str:
    """Identity of a schema by its content."""
    if isinstance(schema, dict):
        schema = {word: value for word, value in schema.items() if word not in ("$defs", "definitions")}
    return canonical(schema)


def _without_numerals(options: list[Json]) -> list[Json]:
    """Options less the texts that only write a number another option already allows, as for decimal types."""
    has_number = any(isinstance(option, dict) and option.get("type") == "number" for option in options)
    return [option for option in options if not (has_number and _is_numeral(option))]


def _is_numeral(option: Json) -> bool:
    if not isinstance(option, dict) or option.get("type") != "string" or not isinstance(option.get("pattern"), str):
        return False
    pattern = re.compile(option["pattern"])
    return bool(pattern.search("12.5") and pattern.search("3")) and not any(map(pattern.search, ("a", "12-5", "1a")))


def _sole_reference(schema: JsonObject) -> str | None:
    reference = reference_of(schema)
    if reference is None:
        return None
    return reference if len([word for word in schema if word in _KNOWN]) == 1 else None


def _unfold(options: Iterable[Shape]) -> Iterable[Shape]:
    """Choices within a choice are choices of its own."""
    for option in options:
        if isinstance(option, Choice):
            if option.nullable:
                yield _NOTHING
            yield from option.options
        else:
            yield option


def _join_leaves(leaves: list[Leaf]) -> Leaf:
    """Scalar options as one leaf: the open types together, the listed values together."""
    open_types: list[str] = []
    values: list[Json] = []
    for core in (core for leaf in leaves for core in leaf.cores):
        if core.enum is None:
            open_types += core.types
        else:
            values += [value for value in core.enum if not any(same(value, other) for other in values)]
    cores: tuple[Core, ...] = (Core(_value_types(values), tuple(values)),) if values else ()
    if open_types:
        cores += (Core(_widest(tuple(name for name in SCALARS if name in open_types))),)
    with_words = [leaf for leaf in leaves if leaf.cores and leaf.description]
    words = [leaf.description for leaf in with_words]
    if len([leaf for leaf in leaves if leaf.cores]) > 1:
        words = [f"{_label(leaf)}: {_lower_first(leaf.description)}" for leaf in with_words]
    return Leaf(cores, description="; ".join(dict.fromkeys(words)))


def _label(leaf: Leaf) -> str:
    core = leaf.cores[0]
    if core.enum is not None:
        return " or ".join(str(value) for value in core.enum[:3]) + ("…" if len(core.enum) > 3 else "")
    return "text" if core.types == ("string",) else " or ".join(core.types)


def _described(shape: Shape, description: str) -> Shape:
    return replace(shape, description=description) if description else shape


def _joined(description: str, words: str) -> str:
    """A description with what a type asks behind it."""
    says_so = "YYYY-MM-DD" in description and _lower_first(words) == notes.FORMATS["date"]
    if not words or words == description or says_so:
        return description
    if not description:
        return words
    return f"{description} ({_lower_first(words)})"


def _lower_first(words: str) -> str:
    return words[0].lower() + words[1:] if words[1:2].islower() or words[1:2] == " " else words


def _describe(schema: JsonObject, hint: str) -> str:
    """The description, else a title that says more than the property's name."""
    description = schema.get("description")
    if isinstance(description, str) and description.strip():
        return description.strip()
    title = schema.get("title")
    if not isinstance(title, str) or _letters(title) == _letters(hint):
        return ""
    # The title of a single value says what it stands for; that of a class says nothing.
    is_single = "const" in schema or len(schema.get("enum", ())) == 1
    return title.strip() if hint or is_single else ""


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _types(schema: JsonObject) -> set[str]:
    """The declared types, else those the keywords speak of, else all scalars."""
    if "type" in schema:
        return set(schema["type"])
    if "enum" in schema:
        return {"string", "number", "integer", "boolean", "null", "object", "array"}
    found = {name for name, words in _TYPE_WORDS.items() if any(word in schema for word in words)}
    return found or {"string", "number", "boolean", "null"}


def _widest(types: tuple[str, ...]) -> tuple[str, ...]:
    """The types without `integer` where `number` says it."""
    return tuple(name for name in types if name != "integer" or "number" not in types)


def _read_values(values: list[Json], types: set[str], description: str) -> Shape:
    fitting = [value for value in values if _fits(value, types)]
    given = tuple(value for value in fitting if value is not None)
    cores = (Core(_value_types(list(given)), given),) if given else ()
    return Leaf(cores, nullable=len(given) < len(fitting), description=description)


def _value_types(values: list[Json]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_type_of(value) for value in values))


def _type_of(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    kinds = {str: "string", float: "number", dict: "object", list: "array"}
    return kinds.get(type(value), "null")


def _fits(value: Json, types: set[str]) -> bool:
    kind = _type_of(value)
    if kind == "number" and value == int(value) and "integer" in types:
        return True
    return kind in types or (kind == "integer" and "number" in types)


def _scalar_notes(schema: JsonObject, scalars: tuple[str, ...]) -> str:
    words = notes.text_notes(schema) if "string" in scalars else []
    if "number" in scalars or "integer" in scalars:
        words += notes.number_notes(schema)
    return notes.add_notes("", words)


def _free_schemas(schema: JsonObject) -> list[Json]:
    """Schemas of the values under free keys; none for an object whose properties are all named.

    An object with named properties that merely leaves others open is closed in the chunk schema: strict schemas
    must be, and a model would take the opening for an invitation.
    """
    found: list[Json] = [child for child in schema.get("patternProperties", {}).values() if child is not False]
    for word in ("additionalProperties", "unevaluatedProperties"):
        if isinstance(schema.get(word), dict):
            return [*found, schema[word]]
    is_open = schema.get("additionalProperties", schema.get("unevaluatedProperties", True)) is True
    return found or ([True] if is_open and not schema.get("properties") and not schema.get("required") else [])


def _free_name(name: str, taken: set[str] | frozenset[str]) -> str:
    while name in taken or name.startswith("_"):
        name = f"{name.lstrip('_')}_"
    return name
