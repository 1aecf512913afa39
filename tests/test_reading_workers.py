"""A bad file is one bad record: whatever it does to its worker, the others go on."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pymupdf
import pytest

import ingest
from ingest.config import ReadingSettings
from ingest.errors import Encrypted, TooLarge, Unreadable, UnsupportedMedia
from ingest.reading.workers import Workers
from ingest.types import Document, Loaded, Source
from tests.reading_samples import RENDERING, describe_file, make_pdf

_SETTINGS = ReadingSettings(call_timeout_s=20, workers=2, worker_memory_bytes=1_500_000_000)
_QUICK = ReadingSettings(call_timeout_s=2.0, workers=2, worker_memory_bytes=600_000_000, max_output_bytes=50_000_000)

_MISCHIEF = '''
import ctypes, os, socket, subprocess, sys, time
from ingest.errors import Unreadable
from ingest.reading import Probed
from ingest.types import Document, Loaded, Part, Text

class Sneaky:
    def __init__(self, call): self.call = call
    def __reduce__(self):
        path = os.environ["TMPDIR"] + "/made-by-worker"
        return (os.mkdir, (path,)) if self.call == "function" else (subprocess.Popen, (["mkdir", path],))

def act(word):
    if word == "hang": time.sleep(600)
    if word == "spin":
        while True: pass
    if word == "crash": ctypes.string_at(0)
    if word == "exit": os._exit(3)
    if word == "raise": raise ZeroDivisionError("oops")
    if word == "refuse": raise Unreadable("says no")
    if word == "eat":
        hoard = []
        while True: hoard.append(bytearray(400_000_000))
    if word == "write":
        with open(os.environ["TMPDIR"] + "/big", "wb") as file: file.truncate(100_000_000)
    if word.startswith("connect"): socket.create_connection(("127.0.0.1", int(word.split()[1])), 5)
    if word.startswith("send"):
        command = f"import socket; socket.create_connection(('127.0.0.1', {word.split()[1]}), 5)"
        done = subprocess.run([sys.executable, "-c", command], capture_output=True)
        if done.returncode: raise OSError("child denied")
    if word == "print": os.write(1, b"noise" * 10_000); os.write(2, b"noise")

class Mischief:
    """One part for each line of the file; the line says what happens when it is `STAGE WORD`."""
    media_types = ("application/x-mischief",)
    def words(self, source, stage):
        lines = source.path.read_text().splitlines()
        return [line.partition(" ")[2] if line.startswith(stage) else "" for line in lines]
    def open(self, source, settings):
        raise AssertionError("survey and probe serve it")
    def survey(self, source, settings):
        for word in self.words(source, "survey"): act(word)
        return Document(source, tuple(Part(i, "page", "text") for i, _ in enumerate(self.words(source, ""))))
    def probe(self, document, indices, settings):
        words = self.words(document.source, "probe")
        for i in indices:
            act(words[i])
            yield Probed(document.parts[i])
    def load(self, document, parts, rendering, settings):
        words = self.words(document.source, "load")
        for part in parts:
            act(words[part.index])
            if words[part.index].startswith("sneak"): yield Sneaky(words[part.index].split()[1])
            if words[part.index] == "touch": document.source.path.write_text("another text")
            if words[part.index] == "bury": yield Loaded(part, (Text("x" * 90_000_000),))
            if words[part.index] == "wrong": yield Document(document.source, ())
            yield Loaded(part, (Text(str(os.getpid())),))
'''


@pytest.fixture
def mischief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Source]:
    """An outside package with an extractor that misbehaves on command."""
    package = tmp_path / "package"
    (package / "mischief-1.0.dist-info").mkdir(parents=True)
    (package / "mischief.py").write_text(_MISCHIEF)
    (package / "mischief-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mischief\nVersion: 1.0\n"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    entry = "[ingest.extractors]\napplication/x-mischief = mischief:Mischief\n"
    (package / "mischief-1.0.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(package))

    def make(text: str) -> Source:
        path = tmp_path / "file.mischief"
        path.write_text(text)
        size_bytes = len(text.encode())
        return Source("file.mischief", path.as_uri(), path, size_bytes, f"{hash(text)}", "application/x-mischief")

    return make


def _run(settings: ReadingSettings, act: Callable[[Workers], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with Workers(settings) as workers:
            return await act(workers)

    return asyncio.run(main())


def _read(settings: ReadingSettings, source: Source) -> tuple[Document, tuple[Loaded, ...]]:
    async def act(workers: Workers) -> tuple[Document, tuple[Loaded, ...]]:
        document = await workers.open(source)
        return document, await workers.load(document, document.parts, RENDERING)

    result: tuple[Document, tuple[Loaded, ...]] = _run(settings, act)
    return result


def test_a_document_is_read_as_in_process(tmp_path: Path) -> None:
    """Workers must change nothing but where the work is done."""
    from ingest.reading.paged import EXTRACTOR

    source = describe_file(tmp_path / "a.pdf", make_pdf(*(f"page {number}" for number in range(150))))
    document, loaded = _read(_SETTINGS, source)
    assert document == EXTRACTOR.open(source, _SETTINGS)
    assert loaded == tuple(EXTRACTOR.load(document, document.parts, RENDERING, _SETTINGS))


def test_errors_keep_their_class_and_words(tmp_path: Path) -> None:
    """The exit code and the advice depend on the class."""
    locked = describe_file(
        tmp_path / "locked.pdf", make_pdf("x", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")
    )
    zipped = describe_file(tmp_path / "a.bin", b"\x00\x01\x02\x03" * 30)
    damaged = describe_file(tmp_path / "bad.pdf", b"%PDF-1.4\n")

    async def act(workers: Workers) -> None:
        with pytest.raises(Encrypted, match="--password"):
            await workers.open(locked)
        with pytest.raises(UnsupportedMedia, match=r"a\.bin"):
            await workers.open(zipped)
        with pytest.raises(Unreadable, match=r"bad\.pdf"):
            await workers.open(damaged)

    _run(_SETTINGS, act)


@pytest.mark.parametrize(
    ("word", "error", "reason"),
    [
        ("hang", TooLarge, "longer than 2 s"),
        ("crash", Unreadable, "SIGSEGV"),
        ("exit", Unreadable, "status 3"),
        ("raise", Unreadable, "ZeroDivisionError: oops"),
        ("refuse", Unreadable, "says no"),
        ("eat", TooLarge, "memory"),
        ("write", Unreadable, "File too large"),
    ],
)
@pytest.mark.parametrize("stage", ["survey", "probe", "load"])
def test_whatever_a_file_does_only_its_guilty_page_fails(
    mischief: Callable[[str], Source], stage: str, word: str, error: type[Exception], reason: str
) -> None:
    """It cannot stop, hang, starve or corrupt the rest."""
    source = mischief(f"fine\nfine\n{stage} {word}\nfine\nfine")
    if stage == "survey":
        with pytest.raises(error, match=rf"(?s).*{reason}"):
            _read(_QUICK, source)
        return
    document, loaded = _read(_QUICK, source)
    problems = [part.error for part in document.parts] if stage == "probe" else [each.error for each in loaded]
    assert [problem is None for problem in problems] == [True, True, False, True, True]
    assert problems[2] is not None
    assert problems[2].part_index == 2
    assert reason in problems[2].message
    assert "page 3" in problems[2].message
    assert problems[2].code == error.code  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        ("bury", "too_large", "gave more than 50,000,000 bytes"),
        ("wrong", "unreadable", "gave an unexpected Document"),
    ],
)
def test_answers_are_bounded_and_checked(mischief: Callable[[str], Source], word: str, code: str, reason: str) -> None:
    """The driver's memory is not the extractor's to fill, nor its types to choose."""
    _, loaded = _read(_QUICK, mischief(f"fine\nload {word}\nfine"))
    assert [each.error is None for each in loaded] == [True, False, True]
    assert loaded[1].error is not None
    assert (loaded[1].error.code, reason in loaded[1].error.message) == (code, True)


def test_processor_time_has_its_own_limit(mischief: Callable[[str], Source]) -> None:
    """On a busy machine the clock says little about what a file costs."""
    settings = _QUICK.model_copy(update={"call_timeout_s": 30.0, "worker_cpu_s": 1.0})
    _, loaded = _read(settings, mischief("fine\nload spin\nfine"))
    assert [each.error is None for each in loaded] == [True, False, True]
    assert loaded[1].error is not None
    assert "worker_cpu_s" in loaded[1].error.message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process give up the network")
@pytest.mark.parametrize("word", ["connect", "send"])
def test_workers_and_what_they_start_have_no_network(mischief: Callable[[str], Source], word: str) -> None:
    """A file that takes over its parser cannot send away what it finds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        _, loaded = _read(_SETTINGS, mischief(f"fine\nload {word} {listener.getsockname()[1]}\nfine"))
        assert [each.error is None for each in loaded] == [True, False, True]
        assert loaded[1].error is not None
        assert "denied" in loaded[1].error.message
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_page_of_no_usable_size_is_told_with_its_file(tmp_path: Path) -> None:
    """Of ten thousand files one has to be found again."""
    data = make_pdf("some text").replace(b"[0 0 595 842]", b"[0 0 4294967295 842]")
    with pytest.raises(Unreadable, match=r"giant\.pdf: page 1 cannot be used: its size is .* export the file again"):
        _read(_SETTINGS, describe_file(tmp_path / "giant.pdf", data))


def test_what_was_read_while_its_file_changed_is_not_used(mischief: Callable[[str], Source]) -> None:
    """A record names the hash of its document: it must not hold what other bytes say."""
    _, loaded = _read(_QUICK, mischief("fine\nload touch\nfine"))
    assert [each.error is None for each in loaded] == [True, False, False]
    assert loaded[1].error is not None
    assert "changed while it was being read" in loaded[1].error.message


def test_a_file_that_kills_every_worker_is_given_up(mischief: Callable[[str], Source]) -> None:
    """A thousand pages that each hang for a minute must not hold up the night."""
    source = mischief("\n".join(["fine", *["load exit"] * 20]))
    document, loaded = _read(_QUICK, source)
    assert len(document.parts) == 21
    assert [each.error is None for each in loaded] == [True] + [False] * 20


@pytest.mark.parametrize("call", ["function", "class"])
def test_a_worker_that_was_taken_over_cannot_reach_its_parent(
    mischief: Callable[[str], Source], tmp_path: Path, call: str
) -> None:
    """Parsers of hostile formats do get exploited; the process with the API key must not unpickle what they send."""
    _, loaded = _read(_QUICK, mischief(f"fine\nload sneak {call}\nfine"))
    assert [each.error is None for each in loaded] == [True, False, True]
    assert loaded[1].error is not None
    assert "answered with something else" in loaded[1].error.message
    time.sleep(0.2)
    assert not (tmp_path / "made-by-worker").exists()


def test_what_extractors_print_reaches_nobody(
    mischief: Callable[[str], Source], capfd: pytest.CaptureFixture[str]
) -> None:
    """stdout carries results only."""
    _read(_QUICK, mischief("load print\nload print"))
    assert capfd.readouterr() == ("", "")


def test_neighbours_of_a_crash_are_untouched(mischief: Callable[[str], Source], tmp_path: Path) -> None:
    """Files are read side by side."""
    bad = mischief("probe crash")
    good = [describe_file(tmp_path / f"{number}.pdf", make_pdf(f"document {number}")) for number in range(6)]

    async def act(workers: Workers) -> list[Document | BaseException]:
        opened = (workers.open(source) for source in (good[0], bad, *good[1:3], bad, *good[3:]))
        return await asyncio.gather(*opened, return_exceptions=True)

    results = _run(_SETTINGS, act)
    assert [isinstance(result, Unreadable) for result in results] == [
        False,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_cancelling_a_call_ends_its_worker_and_frees_its_place(
    mischief: Callable[[str], Source], tmp_path: Path
) -> None:
    """Ctrl-C and a spent budget cancel what is under way."""
    stuck, good = mischief("survey hang"), describe_file(tmp_path / "a.pdf", make_pdf("x"))

    async def act(workers: Workers) -> float:
        tasks = [asyncio.create_task(workers.open(stuck)) for _ in range(4)]
        await asyncio.sleep(1.5)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in done)
        started = time.monotonic()
        assert len((await workers.open(good)).parts) == 1
        return time.monotonic() - started

    assert _run(_SETTINGS, act) < 10


def test_leaving_ends_all_processes_at_once(mischief: Callable[[str], Source]) -> None:
    """No zombie and no orphan may stay behind a finished or broken run."""
    source = mischief("fine\nload hang")

    async def act(workers: Workers) -> int:
        document = await workers.open(source)
        loaded = await workers.load(document, document.parts[:1], RENDERING)
        task = asyncio.create_task(workers.load(document, document.parts[1:], RENDERING))
        await asyncio.sleep(0.2)
        task.cancel()
        content = loaded[0].contents[0]
        assert hasattr(content, "text")
        return int(content.text)

    pid = _run(_SETTINGS, act)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_file_that_changes_under_way_is_noticed(tmp_path: Path) -> None:
    """A record must be of the bytes whose hash it carries."""
    source = describe_file(tmp_path / "a.pdf", make_pdf("x"))
    source.path.write_bytes(make_pdf("x", "y"))
    with pytest.raises(Unreadable, match="changed"):
        _read(_SETTINGS, source)
    source.path.unlink()
    with pytest.raises(Unreadable, match="vanished"):
        _read(_SETTINGS, source)


_SCRIPT = """
import asyncio, sys
from pathlib import Path
from ingest.config import ReadingSettings
from ingest.reading.discover import Found, describe
from ingest.reading.workers import Workers

async def main():
    settings = ReadingSettings()
    async with Workers(settings) as workers:
        print(len((await workers.open(describe(Found("a.pdf", Path(sys.argv[1])), settings))).parts))

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["file", "stdin", "thread"])
def test_it_works_from_scripts_without_a_guard_and_from_standard_input(tmp_path: Path, how: str) -> None:
    """People paste examples into a file or a notebook; none of them writes `if __name__ == "__main__"`."""
    source = describe_file(tmp_path / "a.pdf", make_pdf("x", "y"))
    script = _SCRIPT
    if how == "thread":
        script = _SCRIPT.replace(
            "asyncio.run(main())",
            "import threading; t = threading.Thread(target=asyncio.run, args=(main(),)); t.start(); t.join()",
        )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-W", "error", "-" if how == "stdin" else str(tmp_path / "script.py"), str(source.path)]
    root = str(Path(ingest.__file__).parent.parent)
    done = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.stdout.strip(), done.stderr) == ("2", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_outlive_a_killed_parent(mischief: Callable[[str], Source], tmp_path: Path) -> None:
    """kill -9 on a run must not leave processes that hold memory for ever."""
    source = mischief("survey hang")
    made = f'Source("x", "", Path(sys.argv[1]), {source.size_bytes}, "", "application/x-mischief")'
    script = _SCRIPT.replace('describe(Found("a.pdf", Path(sys.argv[1])), settings)', made)
    script = script.replace("import asyncio, sys", "import asyncio, sys\nfrom ingest.types import Source")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script, str(source.path)], env=environment)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 20
    while not (pids := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    parent.kill()
    parent.wait()
    assert pids
    while any(_is_running(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_running(int(pid)) for pid in pids)


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_worker_killed_from_outside_costs_no_file(tmp_path: Path) -> None:
    """When memory runs out the system kills whom it likes; the next file is not to blame."""
    source = describe_file(tmp_path / "a.pdf", make_pdf("x"))

    async def act(workers: Workers) -> int:
        await workers.open(source)
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        for pid in children:
            if b"ingest.reading.serving" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
        await asyncio.sleep(0.2)
        return len((await workers.open(source)).parts)

    assert _run(_SETTINGS, act) == 1


def test_nothing_starts_before_it_is_needed() -> None:
    """A run that finds all answers in the ledger should not wait for interpreters."""

    async def act(workers: Workers) -> None:
        return None

    started = time.monotonic()
    _run(_SETTINGS, act)
    assert time.monotonic() - started < 0.2
