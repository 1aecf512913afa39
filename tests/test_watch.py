"""Watching: files are read once they are complete, again when they are replaced, and the end is a clean one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ingest
from ingest.keeping.ledger import Ledger
from pipelines.watch import Settling, watch
from tests.conftest import ROOT

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
SETTLE_S = 0.4


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def names(settling: Settling, inbox: Path) -> list[str]:
    found = [ingest.Input(path, name=path.name) for path in sorted(inbox.iterdir())]
    return [each.name for each in settling.ready(found)]


def test_a_file_is_ready_once_it_stands_still(inbox: Path) -> None:
    """Half an upload must not become a record."""
    clock = Clock()
    settling = Settling(5, clock)
    (inbox / "a.pdf").write_text("one", encoding="utf-8")
    assert names(settling, inbox) == []
    clock.now = 4
    with (inbox / "a.pdf").open("a", encoding="utf-8") as file:
        file.write("two")
    assert names(settling, inbox) == []
    clock.now = 8
    assert names(settling, inbox) == []
    clock.now = 9
    assert names(settling, inbox) == ["a.pdf"]
    clock.now = 99
    assert names(settling, inbox) == []


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_ready_again(inbox: Path) -> None:
    """Tools that keep times move new versions into place unseen by size and time alone."""
    clock = Clock()
    settling = Settling(5, clock)
    (inbox / "a.pdf").write_text("one", encoding="utf-8")
    names(settling, inbox)
    clock.now = 5
    assert names(settling, inbox) == ["a.pdf"]
    status = (inbox / "a.pdf").stat()
    (inbox / "new").write_text("two", encoding="utf-8")
    os.utime(inbox / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (inbox / "new").replace(inbox / "a.pdf")
    assert names(settling, inbox) == []
    clock.now = 10
    assert names(settling, inbox) == ["a.pdf"]


def test_a_file_that_went_and_came_back_is_ready_again(inbox: Path) -> None:
    """What was read stands for a file that is there, and memory must not grow with those that left."""
    clock = Clock()
    settling = Settling(0, clock)
    (inbox / "a.pdf").write_text("one", encoding="utf-8")
    status = (inbox / "a.pdf").stat()
    assert names(settling, inbox) == ["a.pdf"]
    (inbox / "a.pdf").rename(inbox.parent / "away")
    assert names(settling, inbox) == []
    (inbox.parent / "away").rename(inbox / "a.pdf")
    assert (inbox / "a.pdf").stat().st_mtime_ns == status.st_mtime_ns
    assert names(settling, inbox) == ["a.pdf"]


@pytest.mark.parametrize("name", ["a.pdf.part", "b.PDF.crdownload", "~$c.docx", "d.txt~", "e.tmp", "f.filepart"])
def test_names_of_unfinished_files_are_left_alone(inbox: Path, name: str) -> None:
    """A download that pauses looks complete but for its name."""
    (inbox / name).write_text("one", encoding="utf-8")
    assert names(Settling(0), inbox) == []


@pytest.fixture
def config(tmp_path: Path) -> ingest.Config:
    return ingest.configure(schema=SCHEMA, output=tmp_path / "out", local=True)


@pytest.fixture
def watching(inbox: Path, config: ingest.Config) -> Iterator[Callable[[], ingest.RunSummary]]:
    """A watch in a thread of its own; calling the fixture ends it and gives the summary."""
    stop = threading.Event()
    ended: list[ingest.RunSummary] = []
    thread = threading.Thread(
        target=lambda: ended.append(watch([inbox], config, settle_s=SETTLE_S, stop=stop)), daemon=True
    )
    thread.start()

    def end() -> ingest.RunSummary:
        stop.set()
        thread.join(60)
        return ended[0]

    yield end
    stop.set()
    thread.join(60)


def until(is_so: Callable[[], object], seconds: float = 40) -> None:
    """Wait for something; a test that waits in vain fails here."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def total(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["data"]["total"]
    except (OSError, ValueError):
        return None


def test_files_are_read_as_they_arrive_and_again_when_replaced(
    inbox: Path, config: ingest.Config, watching: Callable[[], ingest.RunSummary]
) -> None:
    """A folder that fills all day must need nobody who starts a run."""
    out = config.output or Path()
    (inbox / "sub").mkdir()
    (inbox / "sub" / "a.txt").write_text("Total: 10\n", encoding="utf-8")
    (inbox / "b.txt.part").write_text("Total: 1\n", encoding="utf-8")
    until(lambda: total(out / "sub" / "a.txt.json") == 10)
    assert not list(out.glob("b*.json"))
    (inbox / "b.txt.part").rename(inbox / "b.txt")
    (inbox / "sub" / "a.txt").write_text("Total: 12\n", encoding="utf-8")
    until(lambda: total(out / "b.txt.json") == 1 and total(out / "sub" / "a.txt.json") == 12)
    summary = watching()
    assert {row.name: row.status for row in summary.documents} == {"sub/a.txt": "complete", "b.txt": "complete"}
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["documents"]
    with Ledger(out) as ledger:
        versions = [version for version in ledger.documents.versions("schema") if version.name == "sub/a.txt"]
    assert [version.record.data["total"] for version in versions if version.record and version.record.data] == [10, 12]


@pytest.mark.timeout(120)
def test_sigterm_ends_a_watch_that_waits_with_its_summary(inbox: Path, tmp_path: Path) -> None:
    """A service manager stops it in the evening, and the records of the day are there."""
    (inbox / "a.txt").write_text("Total: 10\n", encoding="utf-8")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    args = ["run", str(inbox), "--schema", str(tmp_path / "schema.json"), "--local", "-o", str(tmp_path / "out")]
    command = [sys.executable, "-m", "ingest", *args, "--watch", "--settle", "0.3", "--json", "-q"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: total(tmp_path / "out" / "a.txt.json") == 10)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        out, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert json.loads(out)["documents"][0]["name"] == "a.txt"
    assert (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("path", ["nowhere", "s3://bucket/prefix"])
def test_places_that_cannot_be_watched_are_told_at_once(path: str, config: ingest.Config) -> None:
    """A mistyped folder must not be watched in vain for a day."""
    with pytest.raises(ingest.ConfigError):
        watch([path], config, settle_s=SETTLE_S)
