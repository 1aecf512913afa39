"""Records as a dlt resource: dlt makes the tables, and merges what comes again."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ingest

KEY = ("_document", "_recipe")
"""Columns that identify a record, here as in the tables of `--to`."""

_OWN_COLUMNS = {"_problem": "text", "_cost_usd": "decimal"}
_DATA_TYPES = {"string": "text", "number": "double", "integer": "bigint", "boolean": "bool"}
_FORMATS = {"date": "date", "date-time": "timestamp", "time": "time"}


def dlt_resource(paths: str | Sequence[str], config: ingest.Config, name: str | None = None) -> Any:
    """A dlt resource that yields a row for each document: its data, and what is known of it in columns with `_`.

    Rows are merged by document and recipe, so that a document that comes again takes the place of its earlier self;
    arrays become child tables. Columns have the types of the schema, also while they are empty. The table is named like
    the recipe unless `name` is given. With an output folder in `config` a load that is repeated asks for nothing twice.

    Raises ConfigError when dlt is not installed; while it is read, what `ingest.Ingestor.run` raises.
    """
    try:
        dlt = importlib.import_module("dlt")
    except ImportError as error:
        raise ingest.ConfigError("dlt is not installed: pip install 'ingest[dlt]'") from error
    given = [paths] if isinstance(paths, str) else list(paths)

    def rows() -> Iterator[dict[str, Any]]:
        for record in ingest.run(given, config=config):
            yield _row(record)

    columns = {**_OWN_COLUMNS, **dict(_columns(config.recipe.document_schema))}
    return dlt.resource(
        rows,
        name=name or config.recipe.name,
        primary_key=KEY,
        write_disposition="merge",
        columns={column: {"data_type": kind} for column, kind in columns.items()},
    )


def _columns(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The plain values at the top of a document schema, with dlt's name of their type."""
    for name, rule in schema.get("properties", {}).items():
        types = rule.get("type", ()) if isinstance(rule, dict) else ()
        kinds = {types} if isinstance(types, str) else set(types)
        (kind,) = kinds - {"null"} if len(kinds - {"null"}) == 1 else (None,)
        if kind in _DATA_TYPES:
            yield name, _FORMATS.get(rule.get("format"), _DATA_TYPES[kind]) if kind == "string" else _DATA_TYPES[kind]


def _row(record: ingest.Record) -> dict[str, Any]:
    document = record.document
    return {
        "_document": document.name,
        "_recipe": record.recipe.name,
        "_status": record.status,
        "_model": record.model.model,
        "_uri": document.uri,
        "_sha256": document.sha256,
        "_pages": document.pages,
        "_cost_usd": record.usage.cost_usd,
        "_problem": record.problems[0].message if record.problems else None,
        **(record.data or {}),
    }
