"""What a document schema says, reduced to a few shapes that a strict chunk schema can express.

`normalise` reads a JSON Schema into shapes, `write` turns shapes into the chunk schema, `restore` walks the same
shapes to turn an answer back into the user's own form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from ingest.types import Json

# The order in which types are written: the particular before text, which takes anything.
SCALARS = ("number", "integer", "boolean", "string")


@dataclass(frozen=True, slots=True)
class Core:
    """One alternative of a leaf: scalar types, or the values allowed."""

    types: tuple[str, ...]
    enum: tuple[Json, ...] | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value without inner structure. No cores at all means that null is the only value."""

    cores: tuple[Core, ...]
    nullable: bool = False
    description: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether only one value is possible; in a choice of objects it tells the options apart."""
        values = [value for core in self.cores for value in core.enum or (None, None)]
        return len(values) == 1 and not self.nullable


@dataclass(frozen=True, slots=True)
class Field:
    """A property. `wire_name` differs from `name` only where an evidence field would clash with it."""

    name: str
    wire_name: str
    shape: Shape
    required: bool


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """An object with known properties, and, when `entries` is set, free keys beside them under `entries_name`."""

    fields: tuple[Field, ...]
    entries: MapShape | None = None
    entries_name: str = ""
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class MapShape:
    """An object of free keys, sent as a list of key and value entries."""

    key: Leaf
    value: Shape
    may_be_empty: bool = True
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """A list of any length. The user's schema may forbid an empty one; the chunk schema never does."""

    items: Shape
    may_be_empty: bool = True
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class TupleShape:
    """A list whose positions have their own shapes, sent as an object; `rest` is the list that may follow."""

    positions: tuple[Shape, ...]
    rest: ArrayShape | None = None
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several shapes; never holds another choice, and at most one leaf."""

    options: tuple[Shape, ...]
    nullable: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A shape of the table by its name: shared between places, or recursive."""

    name: str
    description: str = ""


Shape: TypeAlias = Leaf | ObjectShape | MapShape | ArrayShape | TupleShape | Choice | Reference
Table: TypeAlias = dict[str, Shape]


class Place(Enum):
    """Where a value stands, which decides how its evidence is written.

    OUTSIDE: in no list: each leaf carries its own evidence. ENTRY: an entry of a list: it carries the evidence for
    all its leaves. INSIDE: below an entry: no evidence of its own.
    """

    OUTSIDE = "outside"
    ENTRY = "entry"
    INSIDE = "inside"

    @property
    def below(self) -> Place:
        """The place of a property of an object that stands here."""
        return Place.OUTSIDE if self is Place.OUTSIDE else Place.INSIDE


def resolve(shape: Shape, table: Table) -> Shape:
    """The shape itself, references followed."""
    while isinstance(shape, Reference):
        shape = table[shape.name]
    return shape


def admits_null(shape: Shape, table: Table) -> bool:
    """Whether the user's own schema allows null there."""
    shape = resolve(shape, table)
    assert not isinstance(shape, Reference)
    return shape.nullable or (isinstance(shape, Leaf) and not shape.cores)
