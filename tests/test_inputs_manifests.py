"""Lists of documents: of each kind, of any length, and of which documents a run takes."""

from __future__ import annotations

import io
import itertools
import json
import os
import time
import tracemalloc
from pathlib import Path

import fsspec
import pytest

import ingest
from ingest.config import FindingSettings
from ingest.errors import ConfigError, SourceError
from ingest.reading.discover import Found, discover
from ingest.types import Event
from tests.inputs import by_name, config, model, records, text, zipped
from tests.scripted_model import SCHEMA, ScriptedModel, failure

__all__ = ["model"]

pytestmark = pytest.mark.usefixtures("quick_readers")


def _found(manifest: Path | str, **settings: object) -> list[Found]:
    return list(discover([], None, FindingSettings.model_validate({"manifest": (str(manifest),), **settings})))


def _documents(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text(name))


def test_a_list_carries_names_and_metadata_into_the_records(tmp_path: Path, model: ScriptedModel) -> None:
    """A pipeline knows more of a document than its bytes say, and joins on it later."""
    _documents(tmp_path, "a.txt", "sub/b.txt")
    manifest = tmp_path / "list.csv"
    manifest.write_text('uri,name,customer,note\na.txt,,17,"x, y"\nsub/b.txt,second.txt,18,\nmissing.txt,,19,\n')
    found = by_name([], finding={"manifest": [str(manifest)]})
    assert list(found) == ["a.txt", "second.txt", "missing.txt"]
    assert found["a.txt"].document.metadata == {"customer": "17", "note": "x, y"}
    assert found["second.txt"].document.metadata == {"customer": "18"}
    assert (found["missing.txt"].status, found["missing.txt"].document.metadata) == ("failed", {"customer": "19"})


def test_every_kind_of_list_says_the_same(tmp_path: Path) -> None:
    """What a warehouse, a script and a person write are all lists."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"uri": "a.txt", "id": 1}, {"uri": "b.txt", "id": 2}]
    (tmp_path / "l.csv").write_text("\ufeffpath,id\na.txt,1\nb.txt,2\n", encoding="utf-8")
    (tmp_path / "l.tsv").write_text("uri\tid\na.txt\t1\nb.txt\t2\n")
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    (tmp_path / "l.txt").write_text("# ours\na.txt\n\nb.txt\n")
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "l.parquet")
    listed = {kind: _found(tmp_path / f"l.{kind}") for kind in ("csv", "tsv", "jsonl", "txt", "parquet")}
    for found in listed.values():
        assert [(each.name, each.place) for each in found] == [
            ("a.txt", tmp_path / "a.txt"),
            ("b.txt", tmp_path / "b.txt"),
        ]
    assert [each.metadata for each in listed["parquet"]] == [{"id": 1}, {"id": 2}]
    assert listed["parquet"] == listed["jsonl"]
    assert [each.metadata for each in listed["csv"]] == [{"id": "1"}, {"id": "2"}]


def test_names_of_a_list_do_not_depend_on_its_other_rows(tmp_path: Path) -> None:
    """A list grows every day; yesterday's records must keep their names."""
    rows = ["s3://bucket/2025/a.pdf", "s3://bucket/2026/a.pdf", "https://u:p@host/x/a.pdf?sig=1", "/data/in/a.pdf"]
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join([*rows, rows[0], "../outside.pdf", "sub/../b.pdf"]))
    names = [found.name for found in _found(manifest)]
    outside = (tmp_path.parent / "outside.pdf").as_posix().lstrip("/")
    assert names == [
        "bucket/2025/a.pdf",
        "bucket/2026/a.pdf",
        "host/x/a.pdf",
        "data/in/a.pdf",
        outside,
        "b.pdf",
    ]
    manifest.write_text(rows[1])
    assert [found.name for found in _found(manifest)] == ["bucket/2026/a.pdf"]


def test_a_bad_row_is_one_bad_record(tmp_path: Path, model: ScriptedModel) -> None:
    """Line 31,000 of a list must not end a run."""
    _documents(tmp_path, "a.txt")
    manifest = tmp_path / "list.jsonl"
    manifest.write_text('{"uri": "a.txt"}\nnonsense\n{"id": 3}\n')
    good, *bad = records([], finding={"manifest": [str(manifest)]})
    assert good.status == "complete"
    assert [each.status for each in bad] == ["failed", "failed"]
    assert "row 2" in bad[0].problems[0].message
    assert "has no uri" in bad[1].problems[0].message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.csv", b"url,id\na,1\n", "no column uri or path"),
        ("l.csv", b"uri\n\xff\xfe\xfa\n", "not UTF-8"),
        ("l.parquet", b"PAR1 nonsense PAR1", "no Parquet file"),
    ],
)
def test_a_list_that_is_none_is_told_before_anything_runs(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    """The header is wrong more often than the rows."""
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        list(ingest.run([], config=config(tmp_path / "out", finding={"manifest": [str(tmp_path / name)]})))
    with pytest.raises(ConfigError, match="is no file"):
        _found(tmp_path / "missing.csv")
    assert not (tmp_path / "out").exists()


def test_a_list_in_a_store_names_what_stands_beside_it_and_nothing_on_this_machine(tmp_path: Path) -> None:
    """Whoever can write a list elsewhere must not be able to have `/etc/passwd` sent to a model."""
    fs = fsspec.filesystem("memory")
    fs.pipe("/lists/today.txt", b"a.txt\n../b.txt\n/etc/passwd\nfile:///etc/passwd\ns3://bucket/c.txt\n")
    try:
        found = _found("memory://lists/today.txt")
    finally:
        fs.rm("/lists", recursive=True)
    uris = [each.shown_uri for each in found]
    assert uris[:2] == ["memory://lists/a.txt", "memory://b.txt"]
    assert uris[4] == "s3://bucket/c.txt"
    assert all(isinstance(each.place, SourceError) for each in found[2:4])


def test_standard_input_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`find | ingest run --manifest -` is how shells say it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.txt\nsub/b.txt\n")))
    assert [each.name for each in _found("-")] == ["a.txt", "sub/b.txt"]


def test_fifty_thousand_documents_are_listed_in_flat_memory(tmp_path: Path) -> None:
    """A list of any length is gone through row by row: what stays is a hash for each name."""
    manifest = tmp_path / "list.csv"
    with manifest.open("w") as file:
        file.write("uri,customer\n")
        file.writelines(
            f"s3://bucket/folder-{number % 100}/document-{number}.pdf,{number}\n" for number in range(50_000)
        )
    found = discover([], None, FindingSettings(manifest=(str(manifest),)))
    assert next(found).name == "bucket/folder-0/document-0.pdf"
    assert sum(1 for _ in itertools.islice(found, 40_000)) == 40_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(found, 8_000)) == 8_000
        # pathlib interns names for a while, in a table of Python's own that grows by doubling.
        traces = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in found) == 1_999
    # Two hashes for each document; rows and paths would take ten megabytes.
    assert sum(trace.size for trace in traces.statistics("filename")) < 3_000_000


def test_a_long_list_begins_at_once(tmp_path: Path, model: ScriptedModel) -> None:
    """The first record of a long job comes while the rest is still being listed; memory holds a window of it."""
    _documents(tmp_path, *(f"{number}.txt" for number in range(8)))
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join(f"{number}.txt" for number in range(50_000)))
    events: list[Event] = []
    chosen = config(None, finding={"manifest": [str(manifest)]})
    run = ingest.run([], config=chosen, observer=events.append)
    first = list(itertools.islice(run, 8))
    started = sum(event.kind == "document_started" for event in events)
    run.close()  # type: ignore[attr-defined]
    assert [record.status for record in first] == ["complete"] * 8
    assert (events[0].kind, events[0].documents) == ("run_started", 0)
    assert started <= 8 + 5 * chosen.documents_at_once


def test_patterns_choose_among_what_is_found(tmp_path: Path) -> None:
    """A folder holds more than one wants."""
    _documents(tmp_path, "a.pdf", "B.PDF", "c.txt", "drafts/d.pdf", "x/drafts/e.pdf")

    def names(**settings: tuple[str, ...]) -> list[str]:
        return [found.name for found in discover([tmp_path], None, FindingSettings(**settings))]  # type: ignore[arg-type]

    assert names(include=("*.pdf",)) == ["B.PDF", "a.pdf", "drafts/d.pdf", "x/drafts/e.pdf"]
    assert names(include=("*.pdf",), exclude=("drafts/*",)) == ["B.PDF", "a.pdf", "x/drafts/e.pdf"]
    assert names(exclude=("*/drafts/*", "c.*", "drafts/*")) == ["B.PDF", "a.pdf"]


def test_only_what_is_new_since_a_time(tmp_path: Path, model: ScriptedModel) -> None:
    """A nightly job takes what came since yesterday, and nothing new is no error."""
    _documents(tmp_path, "old.txt", "new.txt")
    os.utime(tmp_path / "old.txt", (time.time() - 7_200,) * 2)
    assert list(by_name([tmp_path], finding={"since": "1h"})) == ["new.txt"]
    assert list(by_name([tmp_path], finding={"since": "2020-01-01"})) == ["new.txt", "old.txt"]
    summary = ingest.run_to_folder([tmp_path / "old.txt"], config(tmp_path / "out", finding={"since": "1h"}))
    assert summary.documents == ()
    with pytest.raises(ConfigError, match="neither a time"):
        config(None, finding={"since": "yesterday"})


def test_only_what_changed_is_taken_and_what_failed_is_tried_again(tmp_path: Path, model: ScriptedModel) -> None:
    """The cheapest nightly job opens nothing that it knows; a moved clock alone is no change, another schema is one."""
    folder, output = tmp_path / "in", tmp_path / "out"
    _documents(folder, "a.txt", "b.txt", "touched.txt")
    (folder / "c.zip").write_bytes(zipped({"d.txt": text("D"), "e.txt": text("E")}))
    fails = iter([True])
    model.script = lambda pages, number: failure(400, "bad_request") if next(fails, False) else None
    first = by_name([folder], output)
    assert sum(record.status != "complete" for record in first.values()) == 1
    (folder / "b.txt").write_bytes(text("changed"))
    os.utime(folder / "touched.txt", (time.time() - 7_200,) * 2)
    changed = {"finding": {"changed_only": True}}
    second = by_name([folder], output, **changed)
    failed = {name for name, record in first.items() if record.status != "complete"}
    assert set(second) == failed | {"b.txt"}
    assert by_name([folder], output, **changed) == {}
    (folder / "c.zip").write_bytes(zipped({"d.txt": text("D"), "e.txt": text("E2")}))
    assert list(by_name([folder], output, **changed)) == ["c.zip", "c.zip/e.txt"]
    other = ingest.configure(
        schema={**SCHEMA, "description": "another"}, recipe=None, local=True, output=output, settings=changed
    )
    assert len(list(ingest.run([folder / "a.txt"], config=other))) == 1
