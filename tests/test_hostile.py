"""The worst files known in one batch with good ones: each ends as the catalogue says, and no other is touched."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import ingest
from ingest.config import ReadingSettings
from ingest.engine import session
from ingest.errors import IngestError
from ingest.reading.discover import Found, describe
from ingest.reading.temporary import TemporaryFolder
from ingest.reading.workers import Workers
from tests.reading_samples import RENDERING, make_frames, make_image, make_pdf
from tests.scripted_model import SCHEMA, ScriptedModel

_MEMORY_BYTES = 2_000_000_000
_READING = {"call_timeout_s": 60.0, "worker_memory_bytes": _MEMORY_BYTES, "pages": "auto"}
_WORKER = b"ingest.reading.serving"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted model in the embedded engine's place: what is tried here is reading."""
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(ScriptedModel()))


def _run(paths: list[Path], output: Path, **more: Any) -> dict[str, dict[str, Any]]:
    settings = {"reading": _READING | more.pop("reading", {})}
    ask: dict[str, Any] = {"schema": SCHEMA} | more
    config = ingest.configure(local=True, output=output, settings=settings, **ask)
    ingest.run_to_folder(paths, config)
    lines = (output / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["document"]["name"]: record for record in map(json.loads, lines)}


def _good_files(folder: Path) -> list[Path]:
    """Files that a scripted model finds something in."""
    folder.mkdir()
    for number in range(4):
        lines = f"TITLE: T{number}\nROW pear {number}.5\nROW plum 2\n" + "words that make a text layer " * 4
        (folder / f"good-{number}.pdf").write_bytes(make_pdf(lines, f"ROW nut {number}"))
    (folder / "good.txt").write_text("TITLE: T9\nROW fig 7\n")
    (folder / "good.png").write_bytes(make_image("PNG"))
    return sorted(folder.iterdir())


class _Watch:
    """Looks at the processes that this one starts: the most memory each asked for, and what is left of them."""

    def __init__(self) -> None:
        self.peak_bytes: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for a while."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for pid in _children():
                peak = _status(pid).get("VmPeak", "0 kB").split()[0]
                if _WORKER in _command(pid):
                    self.peak_bytes[pid] = max(self.peak_bytes.get(pid, 0), int(peak) * 1024)

    def left(self) -> list[int]:
        """Workers that still run, and dead children nobody has buried."""
        return [pid for pid in _children() if _WORKER in _command(pid) or _status(pid).get("State", "").startswith("Z")]


def _children() -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _disagreement(item: dict[str, Any], record: dict[str, Any]) -> str | None:
    """Why a record is not what the catalogue expects; None when it is."""
    expected, status = item["expected"], record["status"]
    told = " ".join(problem["message"] for problem in record["problems"])
    name = item["file"].partition("/")[2]
    if "Traceback" in told or (status == "failed" and not told.startswith(name)):
        return f"{name}: told as {told!r}"
    if "no pages" in expected:
        is_right = status == "failed" and "no pages" in told
    elif "password required" in expected:
        is_right = status == "failed" and "--password" in told
    elif expected.startswith("clean_error"):
        is_right = status == "failed" and ("cannot be opened" in told or "is empty" in told)
    elif expected.startswith("ok_partial"):
        lost = [part["number"] for part in record["coverage"]["parts"] if part["status"] != "answered"]
        is_right = status == "partial" and lost == item["measured"]["pages_that_fail"]
    elif expected.startswith("bounded"):
        is_right = status in ("complete", "failed")
    else:
        is_right = status == "complete" and record["coverage"]["total"] == item["measured"]["pages"]
    return None if is_right else f"{name}: expected {expected}, got {status} ({told})"


def _catalogued(corpus: Path) -> list[dict[str, Any]]:
    items = json.loads((corpus / "catalog.json").read_text())["items"]
    return [item for item in items if item["file"].split("/")[0] in ("hostile", "encrypted")]


def _check_batch(corpus: Path, good: list[Path], folder: Path, **ask: Any) -> None:
    """One run over all, and one over the good ones alone."""
    alone = _run(good, folder / "alone", **ask)
    watch = _Watch()
    with watch.watching():
        together = _run([corpus / "hostile", *good, corpus / "encrypted"], folder / "together", **ask)
    items = _catalogued(corpus)
    assert len(items) == 46
    wrong = [_disagreement(item, together[item["file"].partition("/")[2]]) for item in items]
    assert [each for each in wrong if each] == []
    assert {name: together[name] for name in alone} == alone
    assert {record["status"] for record in alone.values()} == {"complete"}
    assert len(together) == len(items) + len(good)
    if sys.platform == "linux":
        assert watch.peak_bytes
        assert max(watch.peak_bytes.values()) <= _MEMORY_BYTES
        assert watch.left() == []


@pytest.mark.corpus
def test_the_worst_files_in_one_batch_with_good_ones(corpus: Path, tmp_path: Path, model: None) -> None:
    """A nightly folder holds both: 46 of 46 as catalogued, the good ones as without them, nothing left running."""
    _check_batch(corpus, _good_files(tmp_path / "good"), tmp_path)


@pytest.mark.corpus
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_same_with_the_local_engine_reading_them(corpus: Path, fixtures_folder: Path, tmp_path: Path) -> None:
    """Its OCR gets to see what the readers made of those files."""
    good = sorted((fixtures_folder / "documents" / "invoices").iterdir())
    _check_batch(corpus, good, tmp_path, schema=None, recipe="invoices")


@pytest.mark.corpus
def test_passwords_open_what_was_locked(corpus: Path, tmp_path: Path, model: None) -> None:
    """All passwords are given at once, as for a folder of statements from several banks."""
    items = [item for item in _catalogued(corpus) if item.get("password")]
    passwords = tuple(SecretStr(item["password"]) for item in items)
    paths = [corpus / item["file"] for item in items]
    records = _run(paths, tmp_path, reading={"passwords": passwords})
    assert {record["status"] for record in records.values()} == {"complete"}
    assert len(records) == len(items) == 8
    assert {"kanbanery", "asdfzxcv"} <= {item["password"] for item in items}
    for text in ((tmp_path / "run.json").read_text(), (tmp_path / "records.jsonl").read_text()):
        assert "kanbanery" not in text
        assert "asdfzxcv" not in text


@pytest.mark.corpus
@pytest.mark.long
@pytest.mark.timeout(900)
def test_each_of_the_worst_files_stays_within_its_bounds(corpus: Path) -> None:
    """Nobody waits longer for a file than the settings say."""
    settings = ReadingSettings(call_timeout_s=20, workers=1, worker_memory_bytes=_MEMORY_BYTES)
    took: dict[str, float] = {}

    async def main() -> None:
        async with Workers(settings) as workers:
            for item in _catalogued(corpus):
                started = time.monotonic()
                try:
                    source = describe(Found(item["file"], corpus / item["file"]), settings)
                    document = await workers.open(source)
                    await workers.load(document, document.parts, RENDERING)
                except IngestError:
                    pass
                took[item["file"]] = time.monotonic() - started

    asyncio.run(main())
    slowest = sorted(took, key=lambda name: -took[name])[:8]
    print("slowest: " + ", ".join(f"{name} {took[name]:.1f} s" for name in slowest))
    assert {name: seconds for name, seconds in took.items() if seconds > settings.call_timeout_s} == {}


def test_bad_files_do_not_change_the_records_of_good_ones(tmp_path: Path, fixtures_folder: Path, model: None) -> None:
    """The same without a corpus: damaged files of our own, a bomb and a broken page among good files."""
    good = _good_files(tmp_path / "good")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bomb.gif").write_bytes(b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + b"\x00" * 6 + b";")
    (bad / "cut.tif").write_bytes(make_frames("TIFF")[:-3000])
    (bad / "loop.pdf").write_bytes(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[2 0 R]/Count 1>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    )
    damaged = sorted((fixtures_folder / "damaged").iterdir())
    watch = _Watch()
    with watch.watching():
        together = _run([bad, *damaged, *good], tmp_path / "together")
    alone = _run(good, tmp_path / "alone")
    assert {name: together[name] for name in alone} == alone
    others = {name: record["status"] for name, record in together.items() if name not in alone}
    assert set(others.values()) <= {"failed", "partial", "complete"}
    assert others["bomb.gif"] == others["loop.pdf"] == others["empty.pdf"] == "failed"
    assert others["text-named.pdf"] != "partial"
    if sys.platform == "linux":
        assert watch.left() == []


def test_a_repaired_file_says_so_and_is_complete(tmp_path: Path, model: None) -> None:
    """A damaged file may have lost pages that nobody can count: whoever trusts the record should know."""
    whole = make_pdf("TITLE: T1\n" + "words that make a text layer " * 4)
    (tmp_path / "whole.pdf").write_bytes(whole)
    (tmp_path / "cut.pdf").write_bytes(whole[: whole.rindex(b"xref")])
    records = _run([tmp_path / "whole.pdf", tmp_path / "cut.pdf"], tmp_path / "out")
    assert [record["status"] for record in records.values()] == ["complete", "complete"]
    assert records["whole.pdf"]["notes"] == []
    assert records["cut.pdf"]["problems"] == []
    (note,) = records["cut.pdf"]["notes"]
    assert (note["code"], "cut.pdf is damaged and was repaired" in note["message"]) == ("repaired", True)


def test_temporary_folders_of_killed_runs_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of videos fill the disk; those of a run that still works must stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = TemporaryFolder()
    (living.path / "frame.jpg").write_bytes(b"x")
    killed = os.fork() if hasattr(os, "fork") else pytest.skip("needs fork")
    if killed == 0:  # pragma: no cover - another process
        TemporaryFolder().path.joinpath("frame.jpg").write_bytes(b"y")
        os._exit(9)
    os.waitpid(killed, 0)
    strange = tmp_path / "ingest-of-another-program"
    strange.mkdir()
    assert len(list(tmp_path.glob("ingest-*"))) == 3
    later = TemporaryFolder()
    assert sorted(tmp_path.glob("ingest-*")) == sorted([living.path, strange, later.path])
    assert (living.path / "frame.jpg").read_bytes() == b"x"
    living.close()
    later.close()
    living.close()
    assert list(tmp_path.iterdir()) == [strange]
