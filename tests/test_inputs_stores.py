"""Documents that are no local files: what fsspec reads, bytes and open files, and the room they take on disk."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import ingest
from ingest.config import FindingSettings, ReadingSettings
from ingest.errors import ConfigError, Unreadable
from ingest.reading.discover import Found, discover
from ingest.reading.fetching import fetch
from ingest.reading.staging import NoRoom, Staging, Turn
from ingest.reading.stores import mask
from tests.inputs import by_name, model, records, text, web, zipped
from tests.scripted_model import ScriptedModel

__all__ = ["model"]

pytestmark = pytest.mark.usefixtures("quick_readers")


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's store in memory, empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def _names(*given: str) -> list[str]:
    return [each.name for each in discover(given)]


def _fill(fs: Any, **files: bytes) -> None:
    for path, content in files.items():
        fs.pipe(path.replace("__", "/"), content)


def test_a_bucket_is_read_like_a_folder_and_asked_about_once(tmp_path: Path, model: ScriptedModel, s3: Any) -> None:
    """A nightly job over S3: names as in a folder, archives opened too, and the second run sends nothing."""
    s3.pipe(
        {
            "bucket/in/a.txt": text("A"),
            "bucket/in/sub/b.txt": text("B"),
            "bucket/in/c.zip": zipped({"d.txt": text("D")}),
            "bucket/in/.hidden": b"x",
            "bucket/elsewhere.txt": text("E"),
        }
    )
    found = by_name(["s3://bucket/in/"], tmp_path / "out")
    assert list(found) == ["a.txt", "c.zip", "c.zip/d.txt", "sub/b.txt"]
    assert found["sub/b.txt"].document.uri == "s3://bucket/in/sub/b.txt"
    assert found["c.zip/d.txt"].document.uri == "s3://bucket/in/c.zip#d.txt"
    assert [each.data and each.data["title"] for each in found.values()] == ["A", None, "D", "B"]
    sent = len(model.calls)
    assert by_name(["s3://bucket/in"], tmp_path / "out") == found
    assert len(model.calls) == sent
    assert by_name(["s3://bucket/in/"], tmp_path / "out", finding={"changed_only": True}) == {}
    assert [each.name for each in discover(["s3://bucket/in/**/*.txt"])] == ["a.txt", "sub/b.txt"]


def test_what_changed_in_a_bucket_is_found_though_its_listing_was_read_before(
    tmp_path: Path, model: ScriptedModel, s3: Any
) -> None:
    """Drivers remember listings; a program that watches a bucket must see new objects."""
    s3.pipe("bucket/in/a.txt", text("A"))
    assert list(by_name(["s3://bucket/in"], tmp_path / "out")) == ["a.txt"]
    s3.pipe("bucket/in/b.txt", text("B"))
    s3.pipe("bucket/in/a.txt", text("A2"))
    found = by_name(["s3://bucket/in"], tmp_path / "out", finding={"changed_only": True})
    assert {name: each.data["title"] for name, each in found.items()} == {"a.txt": "A2", "b.txt": "B"}


def test_files_folders_and_patterns_of_any_store(model: ScriptedModel, memory: Any) -> None:
    """What works on a disk works in a store: one file, a folder, a pattern; names are the same."""
    _fill(memory, in__a=text("A"), in__sub__b=text("B"), in__sub__deep__c=text("C"))
    assert [each.data["title"] for each in records(["memory://in"])] == ["A", "B", "C"]
    assert _names("memory://in/a") == ["a"]
    assert _names("memory://in") == ["a", "sub/b", "sub/deep/c"]
    assert _names("memory://in/sub/*") == ["b"]
    with pytest.raises(ConfigError, match="does not exist"):
        _names("memory://in/missing")
    with pytest.raises(ConfigError, match="nothing matches"):
        _names("memory://in/*.pdf")


def test_chains_reach_into_an_archive(tmp_path: Path, model: ScriptedModel) -> None:
    """`zip://` names a member, or all, of an archive without unpacking it to a folder first."""
    (tmp_path / "a.zip").write_bytes(zipped({"x/one.txt": text("1"), "x/two.txt": text("2"), "three.txt": text("3")}))
    found = records([f"zip://{tmp_path}/a.zip"])
    assert [(each.document.name, each.data["title"]) for each in found] == [
        ("three.txt", "3"),
        ("x/one.txt", "1"),
        ("x/two.txt", "2"),
    ]
    (tmp_path / "a.zip").write_bytes(zipped({"x/one.txt": text("1"), "x/two.txt": text("2"), "more.txt": text("4")}))
    assert _names(f"zip::{tmp_path}/a.zip") == ["more.txt", "x/one.txt", "x/two.txt"]
    assert _names(f"zip://x/one.txt::{tmp_path}/a.zip") == ["one.txt"]
    assert _names(f"zip://x/*.txt::file://{tmp_path}/a.zip") == ["one.txt", "two.txt"]


def test_a_web_address_is_fetched_and_its_secrets_are_seen_nowhere(
    tmp_path: Path, model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    """A signed URL is a password: it must not stand in names, records, logs, errors or the ledger."""
    caplog.set_level(logging.DEBUG)
    with web({"/files/a%20b.txt": text("A")}) as (address, _):
        secret = address.replace("http://", "http://user:hunter2@")
        given = [f"{secret}/files/a%20b.txt?sig=s3cr3t&x=1", f"{secret}/missing.txt?sig=s3cr3t"]
        one, two = records(given, tmp_path / "out")
    assert (one.document.name, one.data["title"]) == ("a b.txt", "A")
    assert one.document.uri == f"{address}/files/a%20b.txt"
    assert two.status == "failed"
    assert "does not exist" in two.problems[0].message
    told = "".join(record.getMessage() for record in caplog.records if record.name.startswith("ingest"))
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for hidden in ("hunter2", "s3cr3t"):
        assert hidden not in told
        assert hidden.encode() not in written
    with pytest.raises(ConfigError) as error:
        records(["memory://user:hunter2@nowhere/a.txt?sig=s3cr3t".replace("?sig=s3cr3t", "")])
    assert "hunter2" not in str(error.value)


def test_a_download_that_fails_in_passing_is_tried_again(model: ScriptedModel) -> None:
    """One 503 of a busy server must not cost a document."""
    with web({"/a.txt": text("A")}, failures=1) as (address, asked):
        (record,) = records([f"{address}/a.txt"])
    assert record.status == "complete"
    assert len(asked) > 1


def test_a_download_that_is_cut_off_is_one_failed_record(tmp_path: Path, model: ScriptedModel) -> None:
    """Half a document must never pass for a whole one."""
    good = tmp_path / "good.txt"
    good.write_bytes(text("good"))
    with web({"/a.txt": text("A") * 1_000}, cut_at=5_000) as (address, _):
        bad, fine = records([f"{address}/a.txt", good])
    assert (bad.status, fine.status) == ("failed", "complete")
    assert "cannot be fetched" in bad.problems[0].message or "cut off" in bad.problems[0].message


def test_a_large_remote_file_is_refused_without_being_fetched_whole(model: ScriptedModel) -> None:
    """The bound on files holds for those whose size is told, and for those that only turn out large."""
    with web({"/a.txt": text("A") * 10_000}) as (address, asked):
        (record,) = records([f"{address}/a.txt"], reading={"max_file_bytes": 10_000})
    assert record.problems[0].code == "too_large"
    assert len(asked) == 1
    (record,) = records([ingest.Input(file=io.BytesIO(b"x" * 50_000), name="b.txt")], reading={"max_file_bytes": 9})
    assert record.problems[0].code == "too_large"


def test_bytes_and_open_files_of_a_program(tmp_path: Path, model: ScriptedModel) -> None:
    """A web service has uploads, not paths; what it knows of them stands in the record."""
    with (tmp_path / "upload.txt").open("wb+") as upload:
        upload.write(text("file"))
        upload.seek(0)
        one, two, three = records(
            [
                ingest.Input(data=text("bytes"), name="../up/load.txt", metadata={"customer": 7}),
                ingest.Input(file=upload),
                ingest.Input(tmp_path / "upload.txt", name="named.txt", metadata={"when": ["a"]}),
            ]
        )
        assert not upload.closed
    assert [one.document.name, two.document.name, three.document.name] == ["_/up/load.txt", "upload.txt", "named.txt"]
    assert [each.data and each.data["title"] for each in (one, two)] == ["bytes", "file"]
    assert one.document.metadata == {"customer": 7}
    assert one.document.uri.startswith("memory:")
    assert three.document.metadata == {"when": ["a"]}


def test_bytes_of_one_name_are_told_apart_the_same_way_every_time(tmp_path: Path, model: ScriptedModel) -> None:
    """Two uploads called scan.txt: a name that changes from run to run would leave a row more in every table."""

    def night() -> dict[str, str]:
        uploads = [ingest.Input(data=text(title), name="scan.txt") for title in ("A", "B")]
        return {name: record.data["title"] for name, record in by_name([*uploads, uploads[0]], tmp_path).items()}

    first = night()
    assert sorted(first.values()) == ["A", "B"]
    assert first["scan.txt"] == "A"
    assert night() == first


@pytest.mark.parametrize("wrong", [{}, {"data": b"x"}, {"data": b"x", "uri": "a", "name": "a"}])
def test_an_input_is_exactly_one_thing(wrong: dict[str, Any]) -> None:
    """A mistake in a call is told where it is made."""
    with pytest.raises(ConfigError):
        ingest.Input(**wrong)


def test_a_file_of_text_and_metadata_that_is_no_json_are_told() -> None:
    """`open(path)` without "rb" is the usual slip."""
    (record,) = records([ingest.Input(file=io.StringIO("x"), name="a.txt")])  # type: ignore[arg-type]
    assert "reading bytes" in record.problems[0].message
    with pytest.raises(ConfigError, match="metadata"):
        records([ingest.Input(data=b"x", name="a", metadata={"x": float("nan")})])


def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out of a missing package is one line to type."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=r"pip install 'ingest\[gcs\]'"):
        next(discover(["gs://bucket/a.pdf"]))
    with pytest.raises(ConfigError, match="no address that can be read"):
        next(discover(["nonsense://bucket/a.pdf"]))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host/a.pdf?sig=1#x", "https://host/a.pdf"),
        ("zip://in/a.pdf::https://u:p@host/b.zip?sig=1", "zip://in/a.pdf::https://host/b.zip"),
        ("ftp://u:p@host/a.pdf", "ftp://host/a.pdf"),
        ("s3://key:secret@bucket/a?b.pdf", "s3://bucket/a?b.pdf"),
        ("/data/a@b.pdf", "/data/a@b.pdf"),
    ],
)
def test_masking(url: str, shown: str) -> None:
    """What is shown of an address finds the file again and opens nothing."""
    assert mask(url) == shown


def test_fetched_bytes_are_deleted_and_stay_within_their_room(
    tmp_path: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terabyte in a bucket must pass through a small disk."""
    held: list[int] = []
    taken = Staging._take

    async def take(self: Staging, size_bytes: int, turn: Turn) -> None:
        await taken(self, size_bytes, turn)
        held.append(self.used_bytes)

    monkeypatch.setattr(Staging, "_take", take)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    one = text("x") * 30
    given = [ingest.Input(data=text(str(number)) + one, name=f"{number}.txt") for number in range(12)]
    found = records(given, None, finding={"staged_bytes": 3 * len(one)})
    assert [each.status for each in found] == ["complete"] * 12
    # The first document in order may pass the bound by itself.
    assert max(held) <= 5 * len(one)
    assert max(held) >= 2 * len(one)
    assert list((tmp_path / "tmp").glob("ingest-*")) == []


def test_whoever_waits_for_room_gets_it_when_his_turn_comes(tmp_path: Path) -> None:
    """Otherwise two documents could wait for each other's room for ever."""

    async def main() -> None:
        reading, finding = ReadingSettings(), FindingSettings()
        given = [Found(f"{number}.txt", ingest.Input(data=b"x" * 100, name="a")) for number in range(3)]
        with Staging(150) as staging:
            first = await fetch(given[0], staging, Turn(), finding, reading)
            with pytest.raises(NoRoom):
                await fetch(given[1], staging, Turn(may_wait=False), finding, reading)
            turns = [Turn(), Turn()]
            waiting = [
                asyncio.create_task(fetch(each, staging, turn, finding, reading))
                for each, turn in zip(given[1:], turns, strict=True)
            ]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            staging.favour(turns[1])
            second = await waiting[1]
            assert not waiting[0].done()
            first.release()
            second.release()
            third = await waiting[0]
            third.release()
            assert staging.used_bytes == 0

    asyncio.run(main())


def test_a_closed_file_is_one_bad_record() -> None:
    """A program that closes its file too early loses that document only."""
    closed = io.BytesIO(b"x")
    closed.close()

    async def main() -> None:
        found = Found("a.txt", ingest.Input(file=closed, name="a.txt"))
        with Staging(100) as staging, pytest.raises(Unreadable, match="closed"):
            await fetch(found, staging, Turn(), FindingSettings(), ReadingSettings())

    asyncio.run(main())


def test_the_ledger_knows_remote_documents_by_the_stores_own_tag(
    tmp_path: Path, model: ScriptedModel, memory: Any
) -> None:
    """`--changed-only` must not download a bucket to learn that nothing changed."""
    (tmp_path / "x").mkdir()
    with web({"/a.txt": text("A")}) as (address, asked):
        records([f"{address}/a.txt"], tmp_path / "out")
        asked.clear()
        assert records([f"{address}/a.txt"], tmp_path / "out", finding={"changed_only": True}) == []
        assert len(asked) == 1
    with ingest.open_ledger(tmp_path / "out") as ledger:
        (state,) = ledger.documents.states()
    assert state.fingerprint is not None
    assert state.fingerprint.startswith("store:")
    assert json.loads((tmp_path / "out" / "a.txt.json").read_text())["document"]["uri"].startswith("http://127.0.0.1")
