"""Records as Parquet: one file, or a folder with lists as tables of their own.

A Parquet file cannot be changed in place. So rows are collected beside, and at the end old and new rows are written as
a new file, row group by row group, which takes the old one's place. Memory holds one row group.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.config import Recipe
from ingest.errors import ConfigError, OutputError
from ingest.keeping.sinks.arrow import arrow_schema, pa, pq, rows_as, united_schema
from ingest.keeping.sinks.columns import Column, Type, unique_names
from ingest.keeping.sinks.latest import Latest
from ingest.keeping.sinks.names import identifier
from ingest.keeping.sinks.places import Place
from ingest.keeping.sinks.rows import KEY, Row, data_of, json_text, layout_of
from ingest.keeping.sinks.target import Target
from ingest.record import Record, RunSummary

# Rows wait in memory until they are written beside: so many, or so much of their data as JSON.
_WAITING_ROWS, _WAITING_BYTES = 1_000, 2_000_000
_GROUP_ROWS, _GROUP_BYTES = 50_000, 32_000_000
# A name that no property can have: theirs are without NUL.
_NUMBER = "\0number"


class Parquet:
    """A `Sink` for `PLACE.parquet`, or for a folder of tables with `parquet:FOLDER?explode=LIST,LIST` (`*`: all).

    Raises ConfigError when an option or the schema cannot be used, OutputError when a file there is none of records
    or has a column of another type.
    """

    def __init__(self, target: Target, recipe: Recipe) -> None:
        target.take_no_options(("explode",))
        self._layout = layout_of(recipe.document_schema)
        self._lists = _exploded(self._layout.data, target.options.get("explode"), target.label)
        self._latest = Latest()
        self._tables = self._open(target, recipe.name)

    def _open(self, target: Target, recipe: str) -> dict[str, _Table]:
        """A table for the records, by the name "", and one for each list."""
        place = Place(target.url)
        exploded = {one.column.name for one in self._lists}
        own = tuple(column for column in self._layout.columns if column.name not in exploded)
        name = identifier(recipe)
        tables = {"": (place.beside(f"{name}.parquet") if exploded else place, own)}
        for one in self._lists:
            tables[one.name] = (place.beside(f"{name}__{one.name}.parquet"), one.columns)
        return {key: _Table(file, columns, target.label) for key, (file, columns) in tables.items()}

    def write(self, record: Record[Any]) -> None:
        """Collect a record's rows."""
        row = self._layout.row(record)
        size = len(json_text(data_of(record))) + len(row["_evidence"] or "")
        number = self._latest.add(row[KEY])
        for one in self._lists:
            self._tables[one.name].add(one.rows(row), number, size)
        self._tables[""].add([row], number, size)

    def finish(self, summary: RunSummary) -> None:
        """Write the new files, then put all of them in place: lists before the records they belong to."""
        with ExitStack() as stack:
            for table in self._tables.values():
                table.write_whole(stack.enter_context(table.place.replacing()), self._latest)
        self.abort()

    def abort(self) -> None:
        """Drop what was collected."""
        for table in self._tables.values():
            table.close()


class _Table:
    """One Parquet file: rows of this run collected beside, and merged with the old ones at the end."""

    def __init__(self, place: Place, columns: tuple[Column, ...], label: str) -> None:
        self.place = place
        self._schema = self._with_old(arrow_schema(columns), label)
        self._rows: list[Row] = []
        self._waiting_bytes = 0
        self._numbered = self._schema.append(pa.field(_NUMBER, pa.int64()))
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        # Without a name: nothing is left of it when the process is killed.
        self._file = tempfile.TemporaryFile(prefix="ingest-sink-")  # noqa: SIM115  # closed in `close`
        self._collected = pa.ipc.new_stream(self._file, self._numbered, options=options)

    def _with_old(self, schema: pa.Schema, label: str) -> pa.Schema:
        if not self.place.exists():
            return schema
        try:
            with self.place.reading() as file:
                old = pq.read_schema(file)
            if KEY not in old.names:
                raise ValueError("it holds no records of ours")
            return united_schema(old, schema)
        except (ValueError, pa.ArrowException) as error:
            raise OutputError(
                f"{label} cannot take these records: {error}. It was left as it is: choose another place"
            ) from error

    def add(self, rows: Iterable[Row], number: int, size_bytes: int) -> None:
        self._rows += ({**row, _NUMBER: number} for row in rows)
        self._waiting_bytes += size_bytes
        if len(self._rows) >= _WAITING_ROWS or self._waiting_bytes >= _WAITING_BYTES:
            self._collect()

    def _collect(self) -> None:
        if self._rows:
            self._collected.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._numbered))
        self._rows, self._waiting_bytes = [], 0

    def write_whole(self, path: Path, latest: Latest) -> None:
        """Write old and new rows as one file."""
        self._collect()
        self._collected.close()
        with pq.ParquetWriter(path, self._schema, compression="zstd") as writer:
            for group in _groups(self._all(latest)):
                writer.write_table(pa.Table.from_batches(group, self._schema))

    def close(self) -> None:
        self._file.close()

    def _all(self, latest: Latest) -> Iterator[pa.RecordBatch]:
        if self.place.exists():
            with self.place.reading() as file:
                for batch in pq.ParquetFile(file).iter_batches(_WAITING_ROWS):
                    keys = batch.column(KEY).to_pylist()
                    yield rows_as(_kept(batch, [key not in latest for key in keys]), self._schema)
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as batches:
            for batch in batches:
                numbers = batch.column(_NUMBER).to_pylist()
                kept = _kept(batch, [number not in latest.replaced for number in numbers])
                yield kept.drop_columns([_NUMBER])


def _kept(batch: pa.RecordBatch, is_kept: list[bool]) -> pa.RecordBatch:
    """The rows that stay; most often that is all of them."""
    return batch if all(is_kept) else batch.filter(pa.array(is_kept, pa.bool_()))


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches gathered into row groups of bounded size."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if rows:
        yield group


@dataclass(frozen=True, slots=True)
class _Exploded:
    """A list that is a table of its own. `fields` are the item's columns, with the names they have in that table."""

    column: Column
    name: str
    fields: tuple[tuple[str, Column], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its record, its place in the list from 0, and the item's fields or its `value`."""
        return (*_OF_LIST, *(Column(field.key, name, field.type) for name, field in self.fields))

    def rows(self, row: Row) -> Iterator[Row]:
        """The rows that a record's row holds for the table."""
        for index, item in enumerate(row[self.column.name] or ()):
            own = {KEY: row[KEY], "_document": row["_document"], "_recipe": row["_recipe"], "_index": index}
            values = item if isinstance(item, dict) else {"value": item}
            yield own | {name: values.get(field.name) for name, field in self.fields}


_OF_LIST = tuple(
    Column("", name, Type("integer" if name == "_index" else "text"))
    for name in (KEY, "_document", "_recipe", "_index")
)


def _exploded(columns: tuple[Column, ...], option: str | None, label: str) -> tuple[_Exploded, ...]:
    """The lists that are to be tables of their own."""
    if option is None:
        return ()
    lists = {column.key: column for column in columns if column.type.kind == "list"}
    wanted = list(lists) if option == "*" else [name for name in option.split(",") if name]
    unknown = [name for name in wanted if name not in lists]
    if unknown or not wanted:
        known = ", ".join(lists) or "none"
        raise ConfigError(f"--to parquet:{label}: explode= names lists of the schema, which are {known}; or * for all")
    names = dict(zip(lists, unique_names(list(lists), identifier), strict=True))
    return tuple(_explode(lists[key], names[key]) for key in wanted)


def _explode(column: Column, name: str) -> _Exploded:
    item = column.type.item
    assert item is not None
    fields = item.columns if item.kind == "struct" else (Column("value", "value", item),)
    names = unique_names([field.key for field in fields], reserved=[own.name for own in _OF_LIST])
    return _Exploded(column, name, tuple(zip(names, fields, strict=True)))
