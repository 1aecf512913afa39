"""Records as tables of a database: one for the records, named as the recipe, and one for each list in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from ingest.config import Recipe
from ingest.errors import ConfigError, OutputError
from ingest.keeping.sinks.columns import DECIMAL_DIGITS, Type, clean_text
from ingest.keeping.sinks.rows import KEY, Layout, Row, layout_of
from ingest.keeping.sinks.tables import Table, flat_columns, flat_rows, table_of
from ingest.keeping.sinks.target import Target
from ingest.record import Record, RunSummary

_INSERT: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_BUSY_TIMEOUT_S = 30


class Sql:
    """A `Sink` for SQLite and PostgreSQL: every record one transaction, so a reader sees it whole at once.

    Tables are made and columns added when it is opened; nothing is ever dropped, and columns of the user's own are
    left alone. Raises ConfigError when the address or the schema cannot be used, OutputError when the database cannot
    be reached or holds a table or a column of another kind under a name that is needed.
    """

    def __init__(self, target: Target, recipe: Recipe) -> None:
        self._target = target
        layout = layout_of(recipe.document_schema, storable)
        self._layout = Layout(flat_columns(layout.data), storable)
        self._records = table_of(recipe.name, self._layout.columns)
        self._tables = _declared(self._records)
        self._engine = _engine(target)
        try:
            with self._transaction() as connection:
                retired = _Preparing(connection, self._tables, target.label).prepare(self._records)
        except BaseException:
            self.abort()
            raise
        self._upsert = _upsert(self._engine.dialect.name, self._tables[self._records.name])
        lists = [name for name in self._tables if name != self._records.name]
        self._clear = [_clear(name) for name in (*lists, *retired)]

    def write(self, record: Record[Any]) -> None:
        """Put a record in place of what was known of it."""
        rows: dict[str, list[Row]] = {name: [] for name in self._tables}
        row = self._layout.row(record)
        for table, values in flat_rows(self._records, row):
            rows[table.name].append(values)
        with self._transaction() as connection:
            # First of all, as it holds other writers of the same record off until all of it is there.
            connection.execute(self._upsert, rows.pop(self._records.name))
            for clear in self._clear:
                connection.execute(clear, {"id": row[KEY]})
            for name, of_list in rows.items():
                if of_list:
                    connection.execute(sa.insert(self._tables[name]), of_list)

    def finish(self, summary: RunSummary) -> None:
        """Nothing is left to do: every record is in the database."""

    def abort(self) -> None:
        """Let go of the database; records that were written stay."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._target.failed(error.orig if isinstance(error, DBAPIError) else error) from error


def storable(text: str) -> str:
    """The text as every database takes it: PostgreSQL has no NUL, so a replacement character stands for it."""
    return clean_text(text).replace("\0", "\ufffd")


_PLAIN: Mapping[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "json": sa.Text(),
    "integer": sa.BigInteger(),
    "number": sa.Double(),
    "boolean": sa.Boolean(),
    "date": sa.Date(),
    "timestamp": sa.DateTime(timezone=True),
    "time": sa.Time(),
}


def _sql_type(kind: Type) -> sa.types.TypeEngine[Any]:
    if kind.kind == "decimal":
        # SQLite has no decimals, only floats.
        return sa.Numeric(DECIMAL_DIGITS, kind.scale).with_variant(sa.Double(), "sqlite")
    return _PLAIN[kind.kind]


def _declared(records: Table) -> dict[str, sa.Table]:
    """The tables as SQLAlchemy knows them, the one of records first."""
    metadata = sa.MetaData()
    declared = {}
    for table in records.with_children():
        leaves = [sa.Column(leaf.name, _sql_type(leaf.type)) for leaf in table.leaves if leaf.name != KEY]
        if table is records:
            keys: list[sa.Column[Any]] = [sa.Column(KEY, sa.String(32), primary_key=True)]
        else:
            owner = sa.ForeignKey(f"{records.name}.{KEY}", ondelete="CASCADE")
            keys = [sa.Column(KEY, sa.String(32), owner, primary_key=True)]
            keys += [sa.Column(name, sa.BigInteger(), primary_key=True) for name in table.indexes]
        declared[table.name] = sa.Table(table.name, metadata, *keys, *leaves)
    return declared


def _upsert(dialect: str, table: sa.Table) -> sa.Insert:
    insert = _INSERT[dialect](table)
    values = {column.name: insert.excluded[column.name] for column in table.c if column.name != KEY}
    upsert: sa.Insert = insert.on_conflict_do_update(index_elements=[KEY], set_=values)
    return upsert


def _clear(name: str) -> sa.Delete:
    table = sa.table(name, sa.column(KEY))
    return sa.delete(table).where(table.c[KEY] == sa.bindparam("id"))


class _Preparing:
    """Makes the tables what the schema says, in one transaction."""

    def __init__(self, connection: sa.Connection, tables: Mapping[str, sa.Table], label: str) -> None:
        self._connection, self._tables, self._label = connection, tables, label

    def prepare(self, records: Table) -> list[str]:
        """Make and grow tables. Gives child tables of earlier schemas, whose rows go when their record is replaced."""
        if self._connection.dialect.name == "postgresql":
            # Several machines may begin at once.
            lock = zlib.crc32(f"ingest {records.name}".encode())
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        inspector = sa.inspect(self._connection)
        known = set(inspector.get_table_names())
        for name, table in self._tables.items():
            if name in known:
                self._grow(table, inspector)
            else:
                table.create(self._connection)
        return [
            name
            for name in sorted(known - self._tables.keys())
            if name.startswith(f"{records.name}__")
            and any(key["referred_table"] == records.name for key in inspector.get_foreign_keys(name))
        ]

    def _grow(self, table: sa.Table, inspector: sa.Inspector) -> None:
        there = {column["name"]: column["type"] for column in inspector.get_columns(table.name)}
        if KEY not in there:
            raise OutputError(
                f"{self._label} has a table {table.name} that is none of ours, and it was left as it is:"
                " choose another database, or another name for the recipe"
            )
        dialect = self._connection.dialect
        quote = dialect.identifier_preparer.quote
        for column in table.c:
            wanted = column.type.compile(dialect)
            if column.name not in there:
                add = f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {wanted}"
                self._connection.exec_driver_sql(add)
            elif (stands := there[column.name].compile(dialect)) != wanted:
                raise OutputError(
                    f"{self._label}: column {column.name} of table {table.name} is {stands}, the schema says {wanted}:"
                    " change the column, or choose another database"
                )


def _engine(target: Target) -> sa.Engine:
    try:
        url = make_url(target.url)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        _make_folder(url)
        arguments = {"timeout": _BUSY_TIMEOUT_S} if url.get_backend_name() == "sqlite" else {}
        return sa.create_engine(url, connect_args=arguments, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(
            f"--to {target.label}: not a database's address: sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"--to {target.label}: its driver is missing ({error.name}): pip install 'ingest[postgres]'"
        ) from error


def _make_folder(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith(("file:", ":")):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
