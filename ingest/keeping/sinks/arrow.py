"""Records as Arrow tables: types of columns, and tables for pandas and polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ingest.errors import ConfigError
from ingest.keeping.sinks.columns import DECIMAL_DIGITS, Column, Type
from ingest.keeping.sinks.rows import layout_of
from ingest.recipes import load_recipe, recipe_from_schema, recipe_names
from ingest.record import Record
from ingest.types import JsonObject

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
    "records_to_arrow",
    "rows_as",
    "to_pandas",
    "to_polars",
    "united_schema",
]

if TYPE_CHECKING:
    import pandas
    import polars

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


def records_to_arrow(records: Iterable[Record[Any]], schema: object = None) -> pa.Table:
    """Records as an Arrow table: what is known of each document, its data in typed columns, its evidence as JSON.

    `schema` is the document schema: a JSON Schema, a path of one, or a class. Without it the class of the records'
    data is taken, or the recipe they name when it is installed and still the same.

    Raises ConfigError when the schema cannot be found or is none of an object, or when pyarrow is missing.
    """
    held = list(records)
    layout = layout_of(_schema_of(held) if schema is None else recipe_from_schema(schema).document_schema)
    return pa.Table.from_pylist([layout.row(record) for record in held], schema=arrow_schema(layout.columns))


def to_pandas(records: Iterable[Record[Any]], schema: object = None) -> pandas.DataFrame:
    """`records_to_arrow` as a pandas data frame whose columns keep their Arrow types.

    Raises ConfigError as `records_to_arrow` does, or when pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("to_pandas needs pandas: pip install 'ingest[arrow]' pandas") from error
    frame: pandas.DataFrame = records_to_arrow(records, schema).to_pandas(types_mapper=pandas.ArrowDtype)
    return frame


def to_polars(records: Iterable[Record[Any]], schema: object = None) -> polars.DataFrame:
    """`records_to_arrow` as a polars data frame.

    Raises ConfigError as `records_to_arrow` does, or when polars is missing.
    """
    try:
        import polars
    except ImportError as error:
        raise ConfigError("to_polars needs polars: pip install 'ingest[arrow]' polars") from error
    frame = polars.from_arrow(records_to_arrow(records, schema))
    assert isinstance(frame, polars.DataFrame)
    return frame


def _schema_of(records: Sequence[Record[Any]]) -> JsonObject:
    for record in records:
        if isinstance(record.data, BaseModel):
            return recipe_from_schema(type(record.data)).document_schema
    recipes = {(record.recipe.name, record.recipe.schema_sha256) for record in records}
    if len(recipes) == 1:
        name, sha256 = recipes.pop()
        recipe = load_recipe(name) if name in recipe_names() else None
        if recipe is not None and recipe.schema_sha256 == sha256:
            return recipe.document_schema
    raise ConfigError("the records do not tell their schema: give it, as schema=")


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
