"""Columns as Arrow types. Whoever needs pyarrow takes it from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ingest.errors import ConfigError
from ingest.keeping.sinks.columns import DECIMAL_DIGITS, Column, Type

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as missing:
    raise ConfigError("Parquet and Arrow need pyarrow: pip install 'ingest[arrow]'") from missing

__all__ = [
    "arrow_schema",
    "arrow_type",
    "pa",
    "pq",
    "rows_as",
    "united_schema",
]

_PLAIN = {
    "text": pa.string(),
    "json": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "time": pa.time64("us"),
}


def arrow_type(kind: Type) -> pa.DataType:
    """A column's type in Arrow. JSON text is a string."""
    if kind.kind == "decimal":
        return pa.decimal128(DECIMAL_DIGITS, kind.scale)
    if kind.kind == "struct":
        return pa.struct([pa.field(column.name, arrow_type(column.type)) for column in kind.columns])
    return pa.list_(arrow_type(kind.item)) if kind.item is not None else _PLAIN[kind.kind]


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of a table with these columns; any of them may be null."""
    return pa.schema([pa.field(column.name, arrow_type(column.type)) for column in columns])


def united_schema(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """A schema for rows of both: the old columns, then new ones, in structs as well.

    Raises ValueError, with the column's name, when a column has another type than before.
    """
    return pa.schema(_united_fields(old, new, ""))


def _united_fields(old: Iterable[pa.Field], new: Iterable[pa.Field], path: str) -> list[pa.Field]:
    fields: dict[str, pa.DataType] = {field.name: field.type for field in old}
    for field in new:
        known = fields.get(field.name)
        fields[field.name] = field.type if known is None else _united(known, field.type, f"{path}{field.name}")
    return [pa.field(name, kind) for name, kind in fields.items()]


def _united(old: pa.DataType, new: pa.DataType, path: str) -> pa.DataType:
    if old == new:
        return new
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return pa.struct(_united_fields(list(old), list(new), f"{path}."))
    if pa.types.is_list(old) and pa.types.is_list(new):
        return pa.list_(_united(old.value_type, new.value_type, path))
    raise ValueError(f"column {path} is {old} there and {new} by the schema")


def rows_as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a batch under a united schema; what they lack is null."""
    if batch.schema.equals(schema):
        return batch
    rows: Sequence[Mapping[str, Any]] = batch.to_pylist()
    return pa.RecordBatch.from_pylist(rows, schema=schema)
