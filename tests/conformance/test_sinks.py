"""What every sink owes, whatever it writes to: a new sink is done when it passes here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.types import JsonObject
from tests.postgres import Postgres
from tests.sink_samples import data, recipe, record, write, write_some

Seen = dict[str, JsonObject]
"""By document: what a reader sees of it, as `status`, `title`, `total`, `lines` and `tags`."""


class Case:
    """A target and how a user of it reads its records."""

    collects = False
    """Whether nothing is seen of a run before it is finished."""

    def __init__(self, to: str, read: Callable[[str], Seen]) -> None:
        self.to = to
        self._read = read

    def read(self, of: str = "bills") -> Seen:
        """The records of one recipe."""
        return self._read(of)


def shown(status: str, value: JsonObject | None) -> JsonObject:
    """How a record with this data is to be seen."""
    lines = [(line["label"], line["amount"], line["marks"]) for line in value["lines"]] if value else []
    total = None if value is None else value["total"]
    title = None if value is None else value["title"]
    return {"status": status, "title": title, "total": total, "lines": lines, "tags": value["tags"] if value else []}


def number(value: Any) -> float | None:
    return None if value is None else float(value)


def read_lines(path: Path, of: str) -> Seen:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    rows = [row for row in rows if row["recipe"]["name"] == of]
    seen = {row["document"]["name"]: shown(row["status"], row["data"]) for row in rows}
    assert len(seen) == len(rows)
    return seen


def read_folder(folder: Path, of: str) -> Seen:
    rows = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if path.name != "run.json"]
    return {row["document"]["name"]: shown(row["status"], row["data"]) for row in rows}


def read_parquet(path: Path, of: str) -> Seen:
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [row for row in pq.read_table(path).to_pylist() if row["_recipe"] == of] if path.exists() else []
    seen = {
        row["_document"]: {
            "status": row["_status"],
            "title": row["title"],
            "total": number(row["total"]),
            "lines": [(line["label"], line["amount"], line["marks"]) for line in row["lines"] or ()],
            "tags": row["tags"] or [],
        }
        for row in rows
    }
    assert len(seen) == len(rows)
    return seen


def read_exploded(folder: Path, of: str) -> Seen:
    pq = pytest.importorskip("pyarrow.parquet")
    if not (folder / f"{of}.parquet").exists():
        return {}
    rows = pq.read_table(folder / f"{of}.parquet").to_pylist()
    lines, tags = (pq.read_table(folder / f"{of}__{name}.parquet").to_pylist() for name in ("lines", "tags"))
    ids = {row["_record_id"] for row in rows}
    assert len(ids) == len(rows)
    assert {row["_record_id"] for row in (*lines, *tags)} <= ids, "orphans"
    return {
        row["_document"]: {
            "status": row["_status"],
            "title": row["title"],
            "total": number(row["total"]),
            "lines": [(line["label"], line["amount"], line["marks"]) for line in _of(row, lines)],
            "tags": [tag["value"] for tag in _of(row, tags)],
        }
        for row in rows
    }


def _of(row: JsonObject, items: list[JsonObject]) -> list[JsonObject]:
    found = [item for item in items if item["_record_id"] == row["_record_id"]]
    assert [item["_index"] for item in found] == list(range(len(found)))
    return found


def read_sql(url: str, of: str) -> Seen:
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.connect() as connection:

        def rows(name: str, order: str) -> list[JsonObject]:
            found = connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY {order}").mappings()
            return [dict(row) for row in found]

        records = rows(of, "_record_id") if sa.inspect(connection).has_table(of) else []
        if not records:
            return {}
        lines, tags = rows(f"{of}__lines", "_record_id, _index"), rows(f"{of}__tags", "_record_id, _index")
        marks = rows(f"{of}__lines__marks", "_record_id, _index_1, _index")
    engine.dispose()
    ids = {row["_record_id"] for row in records}
    assert {row["_record_id"] for row in (*lines, *tags, *marks)} <= ids, "orphans"
    line_ids = {(line["_record_id"], line["_index"]) for line in lines}
    assert {(mark["_record_id"], mark["_index_1"]) for mark in marks} <= line_ids, "orphans"

    def marks_of(line: JsonObject) -> list[str]:
        own = (line["_record_id"], line["_index"])
        return [mark["value"] for mark in marks if (mark["_record_id"], mark["_index_1"]) == own]

    return {
        row["_document"]: {
            "status": row["_status"],
            "title": row["title"],
            "total": number(row["total"]),
            "lines": [(line["label"], line["amount"], marks_of(line)) for line in _of(row, lines)],
            "tags": [tag["value"] for tag in _of(row, tags)],
        }
        for row in records
    }


def _case(kind: str, folder: Path, postgres: Callable[[], Postgres]) -> Case:
    if kind == "jsonl":
        return Case(str(folder / "r.jsonl"), lambda of: read_lines(folder / "r.jsonl", of))
    if kind == "json":
        return Case(f"json:{folder / 'j'}", lambda of: read_folder(folder / "j", of))
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        return Case(str(folder / "r.parquet"), lambda of: read_parquet(folder / "r.parquet", of))
    if kind == "exploded":
        pytest.importorskip("pyarrow")
        return Case(f"parquet:{folder / 'p'}?explode=lines,tags", lambda of: read_exploded(folder / "p", of))
    url = f"sqlite:///{folder / 'r.db'}" if kind == "sqlite" else postgres().database()
    return Case(url, lambda of: read_sql(url, of))


KINDS = ("json", "jsonl", "parquet", "exploded", "sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Every sink that keeps records, empty."""
    made = _case(request.param, tmp_path, lambda: request.getfixturevalue("postgres"))
    made.collects = request.param in ("jsonl", "parquet", "exploded")
    return made


FIRST = {"a.pdf": data("A", 1.25, 2.5), "b/ü.pdf": data("B", 0.1, 0.2, 0.3), "c.pdf": None}


def records_of(values: dict[str, JsonObject | None]) -> list[Any]:
    return [record(name, value) for name, value in values.items()]


def seen_of(values: dict[str, JsonObject | None]) -> Seen:
    return {name: shown("failed" if value is None else "complete", value) for name, value in values.items()}


def test_records_arrive_and_a_second_run_changes_nothing(case: Case) -> None:
    """A nightly job writes the same records again; its tables must not grow. A failed record is a row without data."""
    write(case.to, records_of(FIRST))
    assert case.read() == seen_of(FIRST)
    write(case.to, records_of(FIRST))
    assert case.read() == seen_of(FIRST)


def test_a_run_over_some_documents_keeps_the_rows_of_the_others(case: Case) -> None:
    """Yesterday's documents are not in today's folder, and their rows stay."""
    write(case.to, records_of(FIRST))
    more = {"d.pdf": data("D", 4)}
    write(case.to, records_of(more))
    assert case.read() == seen_of({**FIRST, **more})


def test_a_changed_record_takes_its_old_rows_with_it(case: Case) -> None:
    """A corrected invoice with fewer lines must not keep lines of the old one."""
    write(case.to, records_of(FIRST))
    changed = {"a.pdf": data("A2", 9), "b/ü.pdf": None, "c.pdf": data("C", 1, 2)}
    write(case.to, records_of(changed))
    assert case.read() == seen_of(changed)


def test_the_last_of_two_records_of_a_document_counts(case: Case) -> None:
    """A long run may meet a document again."""
    write(case.to, [record("a.pdf", data("old", 1, 2, 3)), record("b.pdf", None), record("a.pdf", data("new", 4))])
    assert case.read() == seen_of({"a.pdf": data("new", 4), "b.pdf": None})


def test_an_interrupted_run_leaves_whole_what_was_there(case: Case) -> None:
    """Whoever reads after a crash finds every record whole, old or new."""
    write(case.to, records_of(FIRST))
    new = {"a.pdf": data("A2", 9), "d.pdf": data("D", 4)}
    write_some(case.to, records_of(new))
    assert case.read() == seen_of(FIRST if case.collects else {**FIRST, **new})
    write(case.to, records_of(new))
    assert case.read() == seen_of({**FIRST, **new})


def test_hostile_names_and_values_lose_no_row(case: Case) -> None:
    """Names and values come from documents; none may break a table, or bring a row down."""
    name = "x'); DROP TABLE bills;--\"`☃\n.pdf"
    value = data("null \0 half \ud800 'quoted' \"twice\" %s :id ?", 1)
    value |= {"total": 10**400, "day": "yesterday", "seller": "no object", "more": {"nested": [1, None]}}
    value["lines"][0] |= {"amount": float("nan"), "label": 5}
    value["tags"] = "no list"
    if case.to.startswith("json:"):
        pytest.skip("a folder of JSON files has no columns; its names and values are tested with it")
    write(case.to, [record(name, value), record("a.pdf", data("A", 1))])
    write(case.to, [record(name, value)])
    seen = case.read()
    assert seen["a.pdf"] == shown("complete", data("A", 1))
    assert len(seen) == 2
    assert seen[name]["title"].endswith("'quoted' \"twice\" %s :id ?")


def test_two_recipes_share_a_place(case: Case) -> None:
    """The same document under two recipes is two records."""
    if case.to.startswith("json:"):
        pytest.skip("a folder of JSON files is of one recipe, as an output folder is")
    other = recipe(name="orders")
    write(case.to, [record("a.pdf", data("A", 1))])
    write(case.to, [record("a.pdf", data("order", 2), of=other)], other)
    assert case.read("bills") == seen_of({"a.pdf": data("A", 1)})
    assert case.read("orders") == seen_of({"a.pdf": data("order", 2)})
