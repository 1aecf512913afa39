"""Nested rows as flat tables: structs become columns, lists become child tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingest.keeping.sinks.columns import JSON, Column, Type, unique_names
from ingest.keeping.sinks.names import MAX_NAME_BYTES, fitted, identifier
from ingest.keeping.sinks.rows import KEY, OWN_NAMES, Row

INDEX = "_index"
"""The column of a child table that holds an item's place in its list, from 0, as JSON Pointers count."""

# Room for the mark that tells two names apart.
_MOST_COLUMN_BYTES = MAX_NAME_BYTES - 9


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column of a flat table. `path` leads to its value in a nested row, or in an item of a list; () is the item."""

    name: str
    path: tuple[str, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class Table:
    """A flat table. `path` leads to its list, in a row of its parent; `outer` counts the lists around that one."""

    name: str
    leaves: tuple[Leaf, ...]
    path: tuple[str, ...] = ()
    outer: int = 0
    children: tuple[Table, ...] = ()

    @property
    def indexes(self) -> tuple[str, ...]:
        """Columns that tell a child table's rows of one record apart: places in the lists around, then in its own."""
        return (*(f"{INDEX}_{number}" for number in range(1, self.outer + 1)), INDEX)

    def with_children(self) -> Iterator[Table]:
        """The table, and all below it."""
        yield self
        for child in self.children:
            yield from child.with_children()


def flat_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, with lists of lists as JSON text: they have no flat table."""
    return tuple(replace(column, type=_flat(column.type)) for column in columns)


def _flat(kind: Type) -> Type:
    if kind.item is None:
        return replace(kind, columns=flat_columns(kind.columns))
    return JSON if kind.item.kind == "list" else replace(kind, item=_flat(kind.item))


def table_of(name: str, columns: Sequence[Column]) -> Table:
    """The table of records, with a child table for every list. Names are such that every database takes them."""
    own = tuple(Leaf(column.name, (column.name,), column.type) for column in columns if column.name in OWN_NAMES)
    data = [column for column in columns if column.name not in OWN_NAMES]
    table = _table(identifier(name), _branches(data), OWN_NAMES, -1)
    return _distinct(replace(table, leaves=(*own, *table.leaves)), set())


@dataclass(frozen=True, slots=True)
class _Branch:
    """A value below structs: the properties that lead to it, and the names of the columns they are."""

    keys: tuple[str, ...]
    path: tuple[str, ...]
    type: Type


def _branches(columns: Sequence[Column], keys: tuple[str, ...] = (), path: tuple[str, ...] = ()) -> list[_Branch]:
    found = []
    for column in columns:
        here = _Branch((*keys, column.key), (*path, column.name), column.type)
        found += _branches(column.type.columns, here.keys, here.path) if column.type.kind == "struct" else [here]
    return found


def _table(name: str, branches: Sequence[_Branch], reserved: Sequence[str], outer: int) -> Table:
    """A table; `outer` counts the lists around its own, -1 for the table of records."""
    keys = ["__".join(branch.keys) for branch in branches]
    names = unique_names(keys, lambda key: fitted(identifier(key), _MOST_COLUMN_BYTES), reserved)
    leaves, children = [], []
    for column, branch in zip(names, branches, strict=True):
        item = branch.type.item
        if item is None:
            leaves.append(Leaf(column, branch.path, branch.type))
            continue
        below = _branches(item.columns) if item.kind == "struct" else [_Branch(("value",), (), item)]
        child = fitted(f"{name}__{column}")
        own = (KEY, INDEX, *(f"{INDEX}_{number}" for number in range(1, outer + 2)))
        children.append(replace(_table(child, below, own, outer + 1), path=branch.path))
    return Table(name, tuple(leaves), outer=max(outer, 0), children=tuple(children))


def _distinct(table: Table, taken: set[str]) -> Table:
    """The tables with names of their own: a list in a list `a` may be called as a list `a__b`."""
    name = table.name
    while name in taken:
        name = fitted(f"{name}__list")
    taken.add(name)
    return replace(table, name=name, children=tuple(_distinct(child, taken) for child in table.children))


def flat_rows(table: Table, row: Row) -> Iterator[tuple[Table, Row]]:
    """A record's nested row as rows of its table and of those below."""
    yield table, {leaf.name: _at(row, leaf.path) for leaf in table.leaves}
    yield from _child_rows(table, row, {KEY: row[KEY]})


def _child_rows(table: Table, item: Any, above: Row) -> Iterator[tuple[Table, Row]]:
    for child in table.children:
        for index, entry in enumerate(_at(item, child.path) or ()):
            yield child, above | {INDEX: index} | {leaf.name: _at(entry, leaf.path) for leaf in child.leaves}
            yield from _child_rows(child, entry, above | {f"{INDEX}_{child.outer + 1}": index})


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if value is None:
            return None
        value = value[name]
    return value
