"""A chunk schema cut down to some of what it asks for: fields, or some columns of one list.

An answer that is too long for one reply is asked for in slices. A slot is a place outside of all lists that one slice
asks for or does not: a field of the root, or of an object below it, by the names on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from ingest.asking.schema.shapes import ArrayShape, Field, MapShape, ObjectShape, Reference, Shape, Table, resolve
from ingest.asking.schema.write import VALUE, write
from ingest.types import EvidenceMode, Json, JsonObject, Medium

Slot: TypeAlias = tuple[str, ...]


def slots_of(shape: Shape, table: Table) -> tuple[Slot, ...]:
    """All slots in the order of the schema. A root that is not an object is the one slot `value`."""
    if not isinstance(resolve(shape, table), ObjectShape):
        return ((VALUE,),)
    return tuple(_slots(shape, table, (), frozenset()))


def _slots(shape: Shape, table: Table, path: Slot, above: frozenset[str]) -> Iterator[Slot]:
    target = resolve(shape, table)
    name = shape.name if isinstance(shape, Reference) else ""
    if not isinstance(target, ObjectShape) or target.entries is not None or not target.fields or name in above:
        yield path
        return
    for field in target.fields:
        yield from _slots(field.shape, table, (*path, field.wire_name), above | {name} if name else above)


def shape_at(shape: Shape, table: Table, slot: Slot) -> Shape:
    """What stands at a slot, references followed."""
    target = resolve(shape, table)
    if not isinstance(target, ObjectShape):
        return target
    for name in slot:
        assert isinstance(target, ObjectShape)
        target = resolve(next(field.shape for field in target.fields if field.wire_name == name), table)
    return target


def is_list(shape: Shape) -> bool:
    """Whether a slot is answered by a list of entries."""
    return isinstance(shape, ArrayShape | MapShape)


def columns_of(shape: Shape, table: Table, slot: Slot) -> tuple[str, ...]:
    """Names on the wire of the fields that the entries of the list at a slot have; none where they are no objects."""
    target = shape_at(shape, table, slot)
    items = resolve(target.items, table) if isinstance(target, ArrayShape) else None
    if not isinstance(items, ObjectShape) or items.entries is not None:
        return ()
    return tuple(field.wire_name for field in items.fields)


def narrow_shape(shape: Shape, table: Table, slots: Iterable[Slot], columns: Sequence[str] | None) -> Shape:
    """The shape with these slots alone, and of the entries of their lists these columns alone; None for all."""
    if not isinstance(resolve(shape, table), ObjectShape):
        return shape
    return _narrow(shape, table, list(slots), columns)


def _narrow(shape: Shape, table: Table, slots: Sequence[Slot], columns: Sequence[str] | None) -> Shape:
    if () in slots:
        return shape if columns is None else _with_columns(shape, table, columns)
    target = resolve(shape, table)
    assert isinstance(target, ObjectShape)
    fields: list[Field] = []
    for field in target.fields:
        below = [slot[1:] for slot in slots if slot[0] == field.wire_name]
        if below:
            fields.append(replace(field, shape=_narrow(field.shape, table, below, columns)))
    described = shape.description if isinstance(shape, Reference) else ""
    return replace(target, fields=tuple(fields), description=described or target.description)


def _with_columns(shape: Shape, table: Table, columns: Sequence[str]) -> Shape:
    target = resolve(shape, table)
    items = resolve(target.items, table) if isinstance(target, ArrayShape) else None
    if not isinstance(target, ArrayShape) or not isinstance(items, ObjectShape):
        return shape
    kept = tuple(field for field in items.fields if field.wire_name in columns)
    return replace(target, items=replace(items, fields=kept))


def written(shape: Shape, table: Table, evidence: EvidenceMode, medium: Medium) -> tuple[JsonObject, str]:
    """The chunk schema of a shape, and the same as compact JSON."""
    schema = write(shape, table, evidence, medium)
    return schema, json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def value_at(answer: Json, slot: Slot) -> tuple[bool, Json]:
    """Whether an answer in chunk form says something, be it null, at a slot; and what."""
    for name in slot:
        if answer is None:
            return True, None
        if not isinstance(answer, dict) or name not in answer:
            return False, None
        answer = answer[name]
    return True, answer


def put_at(answer: JsonObject, slot: Slot, value: Json) -> None:
    """Set what an answer in chunk form says at a slot; the objects on the way are made where they are missing."""
    for name in slot[:-1]:
        below = answer.get(name)
        if not isinstance(below, dict):
            below = answer[name] = {}
        answer = below
    answer[slot[-1]] = value


def blank(shape: Shape, table: Table) -> JsonObject:
    """The answer in chunk form that says nothing: lists empty, values and objects that may be missing null."""
    target = resolve(shape, table)
    if not isinstance(target, ObjectShape):
        return {VALUE: [] if is_list(target) else None}
    return _blank(target, table, frozenset())


def _blank(shape: ObjectShape, table: Table, above: frozenset[str]) -> JsonObject:
    answer: JsonObject = {}
    for field in shape.fields:
        target = resolve(field.shape, table)
        name = field.shape.name if isinstance(field.shape, Reference) else ""
        if is_list(target):
            answer[field.wire_name] = []
        elif isinstance(target, ObjectShape) and field.required and not target.nullable and name not in above:
            answer[field.wire_name] = _blank(target, table, above | {name} if name else above)
        else:
            answer[field.wire_name] = None
    if shape.entries is not None:
        answer[shape.entries_name] = []
    return answer
