"""Whole runs into sinks: what a user of `--to` gets, pays and is told."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.config import Config
from ingest.engine import session
from ingest.errors import ConfigError, OutputError
from tests.postgres import Postgres
from tests.scripted_model import SCHEMA, ScriptedModel
from tests.test_engine import write_pdf

pytestmark = pytest.mark.usefixtures("quick_readers")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """The model in the embedded engine's place."""
    scripted = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    return scripted


def config_to(*to: str, output: Path | None = None, **settings: dict[str, Any]) -> Config:
    """Settings of a run into these places."""
    return ingest.configure(schema=SCHEMA, local=True, output=output, settings={"keeping": {"to": to}, **settings})


def rows_of(url: str, statement: str) -> list[tuple[Any, ...]]:
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(statement)]
    engine.dispose()
    return found


def test_an_s3_folder_goes_into_parquet_on_s3_and_postgresql_twice(
    tmp_path: Path, model: ScriptedModel, s3: Any, postgres: Postgres
) -> None:
    """The job of every night: the second night sends nothing, and the tables hold the same rows."""
    pq = pytest.importorskip("pyarrow.parquet")
    for name in ("a", "b", "c"):
        s3.put_file(str(write_pdf(tmp_path / f"{name}.pdf", 1, title=name)), f"bucket/in/{name}.pdf")
    database = postgres.database()
    config = config_to("s3://bucket/tables/out.parquet", database, output=tmp_path / "out")

    def job() -> tuple[list[Any], list[Any], list[Any]]:
        ingest.run_to_folder(["s3://bucket/in/"], config)
        with s3.open("bucket/tables/out.parquet", "rb") as file:
            table = pq.read_table(file).to_pylist()
        columns = "_document, _status, title"
        lines = "SELECT _record_id, _index, name, amount FROM schema__rows ORDER BY 1, 2"
        return table, rows_of(database, f"SELECT {columns} FROM schema ORDER BY 1"), rows_of(database, lines)

    first, sent = job(), len(model.calls)
    table, records, lines = first
    assert sent == 3
    assert [(row["title"], row["_status"]) for row in table] == [(name, "complete") for name in "abc"]
    assert [(row[1], row[2]) for row in records] == [("complete", name) for name in "abc"]
    assert len(lines) == sum(len(row["rows"]) for row in table) == 6
    assert job() == first
    assert len(model.calls) == sent


def test_a_sink_that_fails_stops_the_run_and_nothing_is_paid_twice(
    tmp_path: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must cost the run, not the money."""
    for name in ("a", "b"):
        write_pdf(tmp_path / "in" / f"{name}.pdf", 1, title=name)
    target, database = tmp_path / "kept.jsonl", f"sqlite:///{tmp_path / 'x.db'}"
    config = config_to(database, str(target), output=tmp_path / "out")

    def fail(*_: object) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("ingest.keeping.sinks.lines.JsonLines.write", fail)
        with pytest.raises(OutputError, match=r"kept\.jsonl.*no space left.*run the same command again"):
            ingest.run_to_folder([tmp_path / "in"], config)
    assert not target.exists()
    sent = len(model.calls)
    assert ingest.run_to_folder([tmp_path / "in"], config).requests_sent == 2 - sent
    assert [json.loads(line)["data"]["title"] for line in target.read_text().splitlines()] == ["a", "b"]
    assert rows_of(database, "SELECT title FROM schema ORDER BY 1") == [("a",), ("b",)]


def test_a_sink_that_cannot_finish_keeps_no_other_from_it(
    tmp_path: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One store that is down at the end must not take the other tables with it, nor the records' own folder."""
    path = write_pdf(tmp_path / "a.pdf", 1)

    def fail(*_: object) -> None:
        raise TimeoutError("the store is away")

    monkeypatch.setattr("ingest.keeping.sinks.lines.JsonLines.finish", fail)
    config = config_to(str(tmp_path / "r.jsonl"), f"json:{tmp_path / 'r'}", output=tmp_path / "out")
    with pytest.raises(OutputError, match="the store is away"):
        ingest.run_to_folder([path], config)
    assert (tmp_path / "r" / "records.jsonl").exists()
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == (tmp_path / "r" / "records.jsonl").read_bytes()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["complete"] == 1


def test_a_target_that_is_none_is_told_before_anything_is_asked(tmp_path: Path, model: ScriptedModel) -> None:
    """A misspelt sink after an hour of paid work would be bitter."""
    path = write_pdf(tmp_path / "a.pdf", 1)
    for to in ("out.xlsx", "mysql://h/db", "parquet:", "parquet:x?explode=nothing", "nostore://b/x.parquet"):
        with pytest.raises(ConfigError, match=r"nostore|--to"):
            ingest.run_to_folder([path], config_to(to, output=tmp_path / "out"))
    (tmp_path / "notes.jsonl").write_text('{"my": "notes"}\n')
    with pytest.raises(OutputError, match="other lines than records"):
        ingest.run_to_folder([path], config_to(str(tmp_path / "notes.jsonl"), output=tmp_path / "out"))
    assert (tmp_path / "notes.jsonl").read_text() == '{"my": "notes"}\n'
    assert model.calls == []


def test_what_did_not_change_still_reaches_a_new_sink(tmp_path: Path, model: ScriptedModel) -> None:
    """With --changed-only nothing is read again, and yet a table that is new, or lost, holds every record."""
    for name in ("a", "b"):
        write_pdf(tmp_path / "in" / f"{name}.pdf", 1, title=name)
    ingest.run_to_folder([tmp_path / "in"], config_to(output=tmp_path / "out"))
    target = tmp_path / "late.jsonl"
    config = config_to(str(target), output=tmp_path / "out", finding={"changed_only": True})
    ingest.run_to_folder([tmp_path / "in"], config)
    assert sorted(json.loads(line)["data"]["title"] for line in target.read_text().splitlines()) == ["a", "b"]
    assert len(model.calls) == 2


def test_what_was_written_is_no_document(tmp_path: Path, model: ScriptedModel) -> None:
    """Tables may stand beside the documents; the next run must not read them as such."""
    folder = tmp_path / "in"
    write_pdf(folder / "a.pdf", 1)
    to = (str(folder / "r.jsonl"), f"sqlite:///{folder / 'x.db'}", f"json:{folder / 'records'}")
    for _ in range(2):
        summary = ingest.run_to_folder([folder], config_to(*to, output=tmp_path / "out"))
        assert [row.name for row in summary.documents] == ["a.pdf"]


def test_a_reader_that_goes_away_ends_the_run(
    tmp_path: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `| head` nobody reads what the rest would cost; what was answered is kept."""
    for name in ("a", "b", "c"):
        write_pdf(tmp_path / "in" / f"{name}.pdf", 1, title=name)
    reading, writing = os.pipe()
    os.close(reading)
    closed = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(OutputError, match="reader went away"):
        ingest.run_to_folder([tmp_path / "in"], config_to("-", output=tmp_path / "out"))
    sys.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        closed.close()


def test_records_come_on_stdout_and_nothing_else_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`ingest run … --to - | jq` works because stdout holds records alone."""
    from ingest.cli.app import app

    path = write_pdf(tmp_path / "a.pdf", 1)
    schema = tmp_path / "s.json"
    schema.write_text(json.dumps(SCHEMA))
    with pytest.raises(SystemExit):
        app(["run", str(path), "--schema", str(schema), "--local", "-o", str(tmp_path / "out"), "--to", "-"])
    out, err = capfd.readouterr()
    (line,) = out.splitlines()
    assert json.loads(line)["document"]["name"] == "a.pdf"
    assert "a.pdf" in err
