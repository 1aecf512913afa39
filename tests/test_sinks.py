"""Sinks one by one: what their targets mean, how their tables grow, and what they refuse."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError, IngestError, OutputError
from ingest.keeping.sinks import KINDS
from ingest.keeping.sinks.target import mask, read_target
from ingest.types import JsonObject
from tests.conftest import ROOT
from tests.postgres import Postgres
from tests.sink_samples import SCHEMA, data, recipe, record, write

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'ingest[arrow]'")

TARGETS = [
    ("-", "-", "-", {}),
    ("out.parquet", "parquet", "out.parquet", {}),
    ("s3://bucket/a/out.PARQUET", "parquet", "s3://bucket/a/out.PARQUET", {}),
    ("records.ndjson", "jsonl", "records.ndjson", {}),
    ("parquet:some/dir?explode=lines,tags", "parquet", "some/dir", {"explode": "lines,tags"}),
    ("parquet:s3://b/dir?explode=*", "parquet", "s3://b/dir", {"explode": "*"}),
    ("json:records", "json", "records", {}),
    ("sqlite:///out.db", "sqlite", "sqlite:///out.db", {}),
    ("postgres://u@h/db", "postgresql", "postgres://u@h/db", {}),
    ("postgresql+psycopg://u:p@h/db", "postgresql", "postgresql+psycopg://u:p@h/db", {}),
]


@pytest.mark.parametrize(("text", "kind", "url", "options"), TARGETS, ids=[text for text, *_ in TARGETS])
def test_a_target_says_what_is_written_where(text: str, kind: str, url: str, options: dict[str, str]) -> None:
    """The forms in the documentation mean what it says."""
    target = read_target(text)
    assert (target.kind, target.url, dict(target.options)) == (kind, url, options)
    assert kind in KINDS


@pytest.mark.parametrize("text", ["", "out", "out.csv", "http://h/x", "mysql://h/db", "jsonl:", "x.parquet.tmp"])
def test_a_target_of_no_known_kind_is_refused(text: str) -> None:
    """A misspelt target must not become a file of a surprising kind."""
    with pytest.raises(ConfigError, match="--to"):
        read_target(text)


@pytest.mark.parametrize(
    "to",
    [
        "postgresql://u:sesame@127.0.0.1:1/db",
        "postgresql://u@127.0.0.1:1/db?password=sesame",
        "s3://key:sesame@bucket/out.xlsx",
        "postgresql+nothing://u:sesame@h/db",
        "postgresql://u:sesame@[h/db",
        "postgresql://u:x/sesame@127.0.0.1:1/db",
        "postgresql://u:x?sesame@127.0.0.1:1/db",
        "postgresql://u:x@sesame@127.0.0.1:1/db",
        "postgresql://u@127.0.0.1:1/db?password=x@sesame",
        "postgresql://u:sesame/db",
        "postgresql:u:sesame@h/db",
        "nostore://u:sesame@h/x.jsonl",
        "sqlite:////proc/none/x.db?key=sesame",
    ],
)
def test_passwords_are_never_shown(to: str) -> None:
    """Messages end in logs and tickets."""
    with pytest.raises(IngestError) as caught:
        write(to, [])
    error: BaseException | None = caught.value
    assert "sesame" not in str(error)
    assert "sesame" not in mask(to)
    assert "sesame" not in repr(_target_or_none(to))


def _target_or_none(to: str) -> object:
    try:
        return read_target(to)
    except ConfigError:
        return None


def test_what_is_no_secret_is_shown() -> None:
    """People have to recognise which of their targets a message is about."""
    for url in ("postgresql://u@h:5432/db", "sqlite:///a/b.db", "s3://bucket/a b.parquet", "out/r.parquet"):
        assert mask(url) == url
    assert mask("postgresql+psycopg://u:secret@h:5432/db?sslmode=require") == "postgresql+psycopg://u:***@h:5432/db"


def test_the_targets_of_the_documentation_are_targets() -> None:
    """What the page shows can be typed."""
    text = (ROOT / "docs" / "sinks.md").read_text(encoding="utf-8")
    kinds = {read_target(found).kind for found in re.findall(r"--to ([\w./:-]+)", text)}
    assert kinds >= {"parquet", "sqlite", "jsonl"}
    shown = re.findall(r"^\| `([^`]+)`(?:, `([^`]+)`)? \|", text.partition("## Safe")[0], re.MULTILINE)
    assert {read_target(form).kind for forms in shown for form in forms if form and form != "--to"} == set(KINDS)


def test_the_same_place_twice_is_refused(tmp_path: Path) -> None:
    """Two sinks into one file would lose one another's rows."""
    to = str(tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="twice"):
        write([to, to], [])


# Schemas that grow.
GROWN: JsonObject = {
    **SCHEMA,
    "properties": {
        **SCHEMA["properties"],
        "currency": {"type": "string"},
        "seller": {"properties": {"name": {"type": "string"}, "tax_id": {"type": "string"}}},
        "notes": {"items": {"properties": {"text": {"type": "string"}}}},
    },
}
CHANGED: JsonObject = {**SCHEMA, "properties": {**SCHEMA["properties"], "day": {"type": "integer"}}}


def grown_data() -> JsonObject:
    return data("G", 1) | {"currency": "EUR", "seller": {"name": "N", "tax_id": "T"}, "notes": [{"text": "n"}]}


def test_a_parquet_file_grows_with_the_schema(tmp_path: Path) -> None:
    """A field added to a recipe is a column for new records, null for old ones, in structs too."""
    path = tmp_path / "r.parquet"
    write(str(path), [record("a", data("A", 1)), record("b", data("B", 2))])
    write(str(path), [record("b", grown_data())], recipe(GROWN))
    old, new = sorted(pq.read_table(path).to_pylist(), key=lambda row: row["_document"])
    assert (old["title"], old["currency"], old["notes"]) == ("A", None, None)
    assert old["seller"] == {"name": "Größe & Söhne 株式会社", "tax_id": None}
    assert (new["currency"], new["seller"]["tax_id"], new["notes"]) == ("EUR", "T", [{"text": "n"}])
    # The schema before it grew still writes into it, and takes nothing away.
    write(str(path), [record("c", data("C", 3))])
    assert {row["_document"]: row["currency"] for row in pq.read_table(path).to_pylist()} == {
        "a": None,
        "b": "EUR",
        "c": None,
    }


def test_a_database_grows_with_the_schema(tmp_path: Path, postgres: Postgres) -> None:
    """Columns and tables are added, what the user added is left alone, and nothing is dropped."""
    for url in (f"sqlite:///{tmp_path / 'x.db'}", postgres.database()):
        write(url, [record("a", data("A", 1)), record("b", data("B", 2))])
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE bills ADD COLUMN approved TEXT")
            connection.exec_driver_sql("UPDATE bills SET approved = 'yes'")
        write(url, [record("b", grown_data())], recipe(GROWN))
        write(url, [record("a", data("A2", 5))])
        with engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT b._document, title, currency, seller__tax_id, approved, n.text FROM bills b"
                " LEFT JOIN bills__notes n USING (_record_id) ORDER BY 1"
            )
            assert [tuple(row) for row in found] == [
                ("a", "A2", None, None, "yes", None),
                ("b", "G", "EUR", "T", "yes", "n"),
            ]
        engine.dispose()


def test_a_list_that_left_the_schema_leaves_no_stale_rows(tmp_path: Path) -> None:
    """When a record is replaced, its rows in tables of an earlier schema are none of the new record's."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    write(url, [record("a", grown_data()), record("b", grown_data())], recipe(GROWN))
    write(url, [record("a", data("A", 1))])
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT r._document FROM bills__notes JOIN bills r USING (_record_id)")
        assert [tuple(row) for row in left] == [("b",)]
    engine.dispose()


def test_a_changed_type_is_told_and_nothing_is_touched(tmp_path: Path, postgres: Postgres) -> None:
    """A column cannot be two things; the old rows stay as they are."""
    path = tmp_path / "r.parquet"
    for to in (str(path), f"sqlite:///{tmp_path / 'x.db'}", postgres.database()):
        write(to, [record("a", data("A", 1))])
        with pytest.raises(OutputError, match="day"):
            write(to, [record("a", data("A", 1))], recipe(CHANGED))
        write(to, [record("a", data("A", 1))])
    assert pq.read_table(path).num_rows == 1


def test_what_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    """A table of somebody else's under the recipe's name, or a Parquet file of other data, is not overwritten."""
    import pyarrow as pa

    path, url = tmp_path / "r.parquet", f"sqlite:///{tmp_path / 'x.db'}"
    pq.write_table(pa.table({"x": [1]}), path)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE bills (x TEXT)")
    engine.dispose()
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    for to in (str(path), url, str(tmp_path / "broken.parquet")):
        with pytest.raises(OutputError, match="left as it is"):
            write(to, [record("a", data("A", 1))])
    assert pq.read_table(path).column_names == ["x"]
    assert (tmp_path / "broken.parquet").read_bytes() == b"no parquet"


HOSTILE_NAMES = [
    "select", "ORDER", "group by", 'quo"te', "it's", "semi;colon--", "x" * 200, "x" * 200 + "y", "发票号码", "Größe",
    "GRÖSSE", "Total", "total", "TOTAL", "total_", "line-items", "line_items", "LineItems", "_status", "_record_id", "",
    " ", "\0", "\ud800", "%s", ":bind", "a.b", "1st", "\n", "💶", "é" * 60, "ﬁ", "fi",
]  # fmt: skip


def test_hostile_property_names_become_columns(tmp_path: Path, postgres: Postgres) -> None:
    """Schemas come from other systems: reserved words, other scripts, names too long for PostgreSQL, look-alikes."""
    leaves: JsonObject = {name: {"type": "string"} for name in HOSTILE_NAMES}
    lists = {"type": "array", "items": {"type": "object", "properties": leaves}}
    # Both lists would be called a__b.
    schema = {"properties": {**leaves, "a": {"properties": {"b": lists}}, "a__b": lists}}
    value: JsonObject = {name: f"v{at}" for at, name in enumerate(HOSTILE_NAMES)}
    hostile = recipe(schema, name="drop table 発票; " + "n" * 80)
    made = record("a", {**value, "a": {"b": [value]}, "a__b": [value]}, of=hostile)
    for url in (f"sqlite:///{tmp_path / 'x.db'}", postgres.database()):
        write(url, [made], hostile)
        write(url, [made], hostile)
        engine = sa.create_engine(url)
        metadata = sa.MetaData()
        metadata.reflect(engine)
        assert len(metadata.tables) == 3
        with engine.connect() as connection:
            for table in metadata.tables.values():
                (row,) = connection.execute(sa.select(table)).mappings().all()
                assert set(row.values()) >= set(value.values())
                assert all(len(name.encode()) <= 63 for name in (table.name, *table.c.keys()))
        engine.dispose()


_words = st.text(min_size=0, max_size=12)


@given(names=st.lists(_words, min_size=1, max_size=6, unique=True), value=_words)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_and_texts_can_be_stored(names: list[str], value: str, tmp_path: Path) -> None:
    """No name and no text breaks out of its column."""
    path = tmp_path / "any.db"
    path.unlink(missing_ok=True)
    schema = {"properties": {name: {"type": "string"} for name in names}}
    to = [f"sqlite:///{path}", str(tmp_path / "any.parquet")]
    Path(to[1]).unlink(missing_ok=True)
    write(to, [record("a", dict.fromkeys(names, value))], recipe(schema))
    engine = sa.create_engine(to[0])
    with engine.connect() as connection:
        (row,) = connection.exec_driver_sql("SELECT * FROM bills").mappings().all()
    engine.dispose()
    stored = [item for name, item in row.items() if not name.startswith("_") or name[1:2].isdigit()]
    assert stored == [value.replace("\0", "\ufffd")] * len(names)
    (kept,) = pq.read_table(to[1]).to_pylist()
    assert list(kept.values()).count(value) >= len(names)


def test_postgresql_holds_exact_amounts_and_dates(tmp_path: Path, postgres: Postgres) -> None:
    """In the database an amount is a number to sum up, a date a date to compare; SQLite only has floats."""
    rows = [record(f"{at}", data("A", 0.1)) for at in range(3)]
    query = "SELECT sum(total), min(day), min(_cost_usd) FROM bills"
    for url, expected in (
        (postgres.database(), ["0.30", "2024-02-29", "0.000123450"]),
        (f"sqlite:///{tmp_path / 'x.db'}", ["0.30000000000000004", "2024-02-29", "0.00012345"]),
    ):
        write(url, rows)
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            (found,) = connection.exec_driver_sql(query)
            assert [str(value) for value in found] == expected
        engine.dispose()


def test_two_machines_may_begin_at_once_on_postgresql(postgres: Postgres) -> None:
    """Jobs on several machines start on the same minute, and the tables are made once."""
    from concurrent.futures import ThreadPoolExecutor

    url = postgres.database()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: write(url, [record(name, data(name, 1, 2))]), ["a", "b", "a", "a"]))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT _document, count(*) FROM bills JOIN bills__lines USING (_record_id) "
                                           "GROUP BY 1 ORDER BY 1")  # fmt: skip
        assert [tuple(row) for row in found] == [("a", 2), ("b", 2)]
    engine.dispose()


def test_a_killed_run_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    """kill -9 asks nobody; whoever reads the table in the morning reads yesterday's, whole."""
    parquet, lines = tmp_path / "t" / "r.parquet", tmp_path / "t" / "r.jsonl"
    write([str(parquet), str(lines)], [record("a", data("A", 1))])
    before = (parquet.read_bytes(), lines.read_bytes())
    program = textwrap.dedent(
        f"""
        import os, signal
        from ingest.keeping.sinks import fan
        from tests.sink_samples import *
        make = lambda: (record(str(at), data("X", 1)) for at in range(3000))
        async def main():
            async with Sinks([SecretStr(to) for to in {[str(parquet), str(lines)]!r}], recipe()) as sinks:
                for each in make():
                    await sinks.write(each)
                os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)})
    assert done.returncode == -signal.SIGKILL
    assert (parquet.read_bytes(), lines.read_bytes()) == before
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["r.jsonl", "r.parquet"]
    assert list(scratch.iterdir()) == []


def test_row_groups_are_bounded_and_many_runs_stay_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file written by a job that runs each night must not become a heap of tiny row groups."""
    from ingest.keeping.sinks import parquet

    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    monkeypatch.setattr(parquet, "_WAITING_ROWS", 4)
    path = tmp_path / "r.parquet"
    for night in range(6):
        write(str(path), [record(f"{night}-{at}", data("A", 1)) for at in range(5)])
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_rows == 30
    assert metadata.num_row_groups <= 4
    assert max(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)) <= 13


def test_a_list_of_its_own_keeps_apart_what_is_called_alike(tmp_path: Path) -> None:
    """Exploded lists have names of their own, and items may have properties named as the table's own columns."""
    item = {"properties": {"_index": {"type": "string"}, "value": {"type": "integer"}}}
    schema = {"properties": {"line-items": {"items": item}, "line_items": {"items": {"type": "string"}}}}
    value = {"line-items": [{"_index": "i", "value": 3}, None], "line_items": ["x"]}
    write(f"parquet:{tmp_path}?explode=*", [record("a", value)], recipe(schema))
    names = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert len(names) == 3
    tables = [pq.read_table(tmp_path / name).to_pylist() for name in names]
    (objects,) = [rows for rows in tables if len(rows) == 2]
    assert [(row["_index"], row["value"]) for row in objects] == [(0, 3), (1, None)]
    assert "i" in objects[0].values()
    assert objects[0]["_record_id"] == objects[1]["_record_id"]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it reads what to install, not a traceback."""
    for name in [name for name in sys.modules if name.startswith("ingest.keeping.sinks.")]:
        if name.endswith((".arrow", ".parquet")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'ingest\[arrow\]'"):
        write(str(tmp_path / "x.parquet"), [])


def test_several_sinks_take_the_same_records(tmp_path: Path) -> None:
    """--to may stand as often as there are readers."""
    to: list[Any] = [str(tmp_path / "r.parquet"), f"sqlite:///{tmp_path / 'r.db'}", str(tmp_path / "r.jsonl")]
    write(to, [record("a", data("A", 1)), record("b", None)])
    assert pq.read_table(to[0]).num_rows == 2
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2
