"""Outputs: whole or not at all, whatever the disk, the folder and the input do meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import OutputError, SourceError
from ingest.keeping.sinks import files
from ingest.keeping.sinks.files import FilesSink, record_path, write_whole
from ingest.reading.discover import describe, discover
from ingest.reading.workers import Workers
from ingest.record import DocumentInfo, ModelInfo, RecipeInfo, Record, RunSummary, Totals
from ingest.types import Document, Loaded
from tests.conftest import ROOT
from tests.reading_samples import RENDERING, SETTINGS

MODEL = ModelInfo(model="m", profile="p", protocol="chat", endpoint="local")
RECIPE = RecipeInfo(name="r", schema_sha256="0", instructions_sha256="0")
SUMMARY = RunSummary(documents=(), totals=Totals(), model=MODEL, recipe=RECIPE)
HELD = "import sys, time\nfrom pathlib import Path\nfrom ingest.keeping.sinks.files import FilesSink\n"
HELD += "sink = FilesSink(Path(sys.argv[1]))\nprint('ready', flush=True)\ntime.sleep(60)\n"


def record(name: str, words: str = "x") -> Record[dict[str, Any]]:
    """A record of a document by this name."""
    info = DocumentInfo(name=name, uri="file:///x", sha256="0", media_type="text/plain", size_bytes=1)
    return Record[dict[str, Any]](document=info, data={"words": words}, status="complete", model=MODEL, recipe=RECIPE)


def seen(folder: Path) -> set[str]:
    """Names of the files that anybody may read."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(path) for path in paths if not path.parts[0].startswith(".")}


class _Failing:
    """Makes the n-th of the calls that reach the disk fail as a full disk does; 0 lets all pass and counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.passed, self._at = 0, at
        for name in ("open", "fsync", "replace"):
            patch.setattr(files.os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self.passed += 1
            if self.passed == self._at:
                raise OSError(28, "No space left on device")
            return call(*args, **options)

        return watched


def whole_run(folder: Path, at_end: Callable[[], None] = lambda: None) -> None:
    """Two records, one below a new folder, and the summary; `at_end` is called when all of it should be there."""
    with FilesSink(folder) as sink:
        sink.write(record("a.txt", "new"))
        sink.write(record("sub/b.txt", "new"))
        sink.finish(SUMMARY)
        at_end()


def test_a_full_disk_at_any_step_leaves_only_whole_files(tmp_path: Path) -> None:
    """Whatever call it is that fails, each file is the old one or the new one, and the same run can be done again."""
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        counter = _Failing(patch, 0)
        whole_run(tmp_path / "count", lambda: calls.append(counter.passed))
    assert calls[0] > 10
    for at in range(1, calls[0] + 1):
        output = tmp_path / str(at)
        with FilesSink(output) as sink:
            sink.write(record("a.txt", "old"))
            sink.finish(SUMMARY)
        with pytest.MonkeyPatch.context() as patch:
            _Failing(patch, at)
            with pytest.raises(OutputError, match="No space left on device"):
                whole_run(output)
        for name in seen(output):
            text = (output / name).read_text(encoding="utf-8")
            assert [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
        assert not list(output.rglob(".*")), f"litter after a failure at call {at}"
        whole_run(output)
        assert seen(output) == {"a.txt.json", "sub/b.txt.json", "records.jsonl", "run.json"}
        assert "old" not in (output / "records.jsonl").read_text(encoding="utf-8")


def run(documents: Path, output: Path, limit_bytes: int = 0) -> subprocess.CompletedProcess[str]:
    """`ingest run` in a process, whose files may not grow beyond a limit."""

    def limit() -> None:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    (documents.parent / "schema.json").write_text('{"type": "object", "properties": {"total": {"type": "number"}}}')
    command = [
        sys.executable,
        "-m",
        "ingest",
        "run",
        documents,
        "--local",
        "--workers",
        "1",
        "-q",
        "--json",
        "-o",
        output,
    ]
    return subprocess.run(
        [*map(str, command), "--schema", str(documents.parent / "schema.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder of short texts."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Total: {number}.50 EUR\n" * 40, encoding="utf-8")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = "size=200k,mode=777"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_stops_the_run_and_room_lets_it_go_on(documents: Path, small_disk: Path) -> None:
    """One line says what to do; nothing broken is left, and after making room the same command ends the job."""
    output = small_disk / "out"
    done = run(documents, output)
    assert done.returncode in (6, 7), done.stderr
    assert "Traceback" not in done.stderr
    assert "full" in done.stderr or "No space left" in done.stderr
    for path in output.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    again = run(documents, output)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["complete"] == 6
    assert not list(output.glob(".writing-*"))


def test_a_folder_that_may_not_be_written_is_one_line(documents: Path, small_disk: Path) -> None:
    """A share that was mounted read-only is told before anything is asked."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run(documents, small_disk / "out")
    assert done.returncode in (6, 7)
    assert "Read-only file system" in done.stderr
    assert "choose a writable -o" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limit_on_the_size_of_files_is_no_crash(documents: Path, tmp_path: Path) -> None:
    """A quota fails in the middle of a file, where a full disk does; the ledger stays sound and the job goes on."""
    done = run(documents, tmp_path / "out", limit_bytes=60_000)
    assert done.returncode in (6, 7), done.stderr
    assert "Traceback" not in done.stderr
    again = run(documents, tmp_path / "out")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["complete"] == 6


def test_files_in_the_making_of_a_living_run_stay_and_those_of_a_dead_one_go(tmp_path: Path) -> None:
    """Two runs may share a folder: the second must not sweep away what the first is writing."""
    output = tmp_path / "out"
    command = [sys.executable, "-c", HELD, str(output)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        (theirs,) = output.glob(".writing-*")
        whole_run(output)
        assert (theirs / "records.jsonl").exists()
    finally:
        other.kill()
        other.communicate()
    assert theirs.exists()
    whole_run(output)
    assert not theirs.exists()
    assert seen(output) == {"a.txt.json", "sub/b.txt.json", "records.jsonl", "run.json"}


def test_a_record_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    """What copies or builds on new files must see those that are new."""
    whole_run(tmp_path)
    before = (tmp_path / "a.txt.json").stat()
    whole_run(tmp_path)
    after = (tmp_path / "a.txt.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with FilesSink(tmp_path) as sink:
        sink.write(record("a.txt", "newer"))
    assert json.loads((tmp_path / "a.txt.json").read_text(encoding="utf-8"))["data"] == {"words": "newer"}


def test_two_runs_into_one_folder_leave_whole_files_of_the_last(tmp_path: Path) -> None:
    """Lines of two runs must not mix: `records.jsonl` is that of one of them."""
    with FilesSink(tmp_path) as first, FilesSink(tmp_path) as second:
        first.write(record("a.txt", "first"))
        second.write(record("a.txt", "second"))
        second.write(record("b.txt", "second"))
        second.finish(SUMMARY)
        first.finish(SUMMARY)
    (line,) = (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["data"] == {"words": "first"}


@pytest.mark.parametrize("name", ["../a", "sub/../../a", "/etc/a"])
def test_no_record_is_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    """Names are made safe where files are found; a program that hands in its own must not get past the folder."""
    with pytest.raises(OutputError, match="outside"):
        record_path(tmp_path / "out", name)


def test_files_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    """A colleague's group reads the results when the user's settings say so, and nobody when they do not."""
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.json", "{}")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def change_in_place(path: Path) -> None:
    """Other words of the same length, as an editor writes them."""
    path.write_text(path.read_text(encoding="utf-8").replace("old", "new"), encoding="utf-8")


def replace(path: Path) -> None:
    """Another file of the same size and time of change under the name, as a download ends."""
    status = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text(encoding="utf-8").replace("old", "new"), encoding="utf-8")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("change", [change_in_place, replace, Path.unlink])
@pytest.mark.parametrize("is_open", [False, True], ids=["before opening", "before loading"])
def test_bytes_that_were_not_hashed_are_never_read_as_if_they_were(
    tmp_path: Path, change: Callable[[Path], None], is_open: bool
) -> None:
    """A record that names the hash of one file and holds the words of another could not be trusted at all."""
    path = tmp_path / "a.txt"
    path.write_text("old words\n" * 50, encoding="utf-8")

    async def read() -> str:
        (found,) = discover([path])
        source = describe(found, SETTINGS)
        async with Workers(SETTINGS) as workers:
            document: Document | None = await workers.open(source, RENDERING) if is_open else None
            change(path)
            try:
                document = document or await workers.open(source, RENDERING)
                loaded: tuple[Loaded, ...] = await workers.load(document, document.parts, RENDERING)
            except SourceError as error:
                return error.message
        assert all(item.contents == () for item in loaded)
        return " ".join(item.error.message for item in loaded if item.error is not None)

    assert ("vanished" if change is Path.unlink else "changed while it was being read") in asyncio.run(read())
