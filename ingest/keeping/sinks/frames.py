"""Records as tables in memory: Arrow, pandas, polars. None of them is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ingest.errors import ConfigError
from ingest.keeping.sinks.rows import layout_of
from ingest.recipes import load_recipe, recipe_from_schema, recipe_names
from ingest.record import Record
from ingest.types import JsonObject

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


def records_to_arrow(records: Iterable[Record[Any]], schema: object = None) -> pyarrow.Table:
    """Records as an Arrow table: what is known of each document, its data in typed columns, its evidence as JSON.

    `schema` is the document schema: a JSON Schema, a path of one, or a class. Without it the class of the records'
    data is taken, or the recipe they name when it is installed and still the same.

    Raises ConfigError when the schema cannot be found or is none of an object, or when pyarrow is missing.
    """
    from ingest.keeping.sinks.arrow import arrow_schema, pa

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
