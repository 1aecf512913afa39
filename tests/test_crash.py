"""kill -9 at any instant: nothing is lost, nothing is paid twice, nothing stays half-written."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.local_calls import image_bytes

ENDS_WITHIN_S = 120
"""Far above what a run takes: a test asks that it ends, a busy machine decides how fast."""

PROFILE = """
extends = "seed-2-0-pro"
name = "crash"
[rate_limits]
requests_per_minute = 1_000_000
tokens_per_minute = 1_000_000_000
ramp_tokens_per_minute = 1_000_000_000
concurrency = 8
"""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": ["string", "null"]},
        "total": {"type": ["number", "null"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"amount": {"type": ["number", "null"]}}}},
    },
}
DOCUMENTS = (
    "documents/invoices/us-one-page.pdf",
    "documents/invoices/de-three-pages.pdf",
    "documents/generic/price-list.md",
)
VIDEO = "videos/meeting/notes.mp4"


@dataclass
class Server:
    """An `ingest serve` that outlives the runs, with its own books."""

    base_url: str
    log: Path
    seen: int = 0

    def settled(self) -> list[dict[str, Any]]:
        """What it booked since the last look, once nothing is under way any more."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        with httpx.Client(base_url=self.base_url) as http:
            while True:
                begun = http.get("local/ledger").json()["totals"]["requests"]
                lines = self.log.read_text(encoding="utf-8").splitlines()
                if len(lines) >= begun:
                    break
                assert time.monotonic() < deadline, "the server is still at work on calls of dead clients"
                time.sleep(0.05)
        fresh, self.seen = lines[self.seen :], len(lines)
        return [json.loads(line) for line in fresh]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The local engine at the model's full price, in a process of its own."""
    log = tmp_path_factory.mktemp("server") / "requests.jsonl"
    command = [sys.executable, "-m", "ingest", "serve", "--port", "0", "--model", "seed-2-0-pro", "--show-ledger"]
    process = subprocess.Popen(
        [*command, "--ledger", str(log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip(), log)
    finally:
        process.kill()
        process.communicate()


@dataclass
class Job:
    """A folder that is run into one output folder after the other, by processes that may be killed."""

    server: Server
    folder: Path
    documents: Path
    records: dict[str, bytes] = field(default_factory=dict)
    paid: int = 0
    duration_s: float = 0.0
    points: Counter[str] = field(default_factory=Counter)

    def start(self, output: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A run in a process group of its own."""
        options = ["--profile", self.folder / "profile.toml", "--schema", self.folder / "schema.json", "-q", "--json"]
        options += ["--base-url", self.server.base_url, "--target-tokens", 1500, "-o", output]
        command = [sys.executable, "-m", "tests.crash_child", "run", self.documents, *options]
        return subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, **environment},
        )

    def finish(self, output: Path, **environment: str) -> None:
        """A run to its end."""
        process = self.start(output, **environment)
        _, errors = process.communicate(timeout=ENDS_WITHIN_S)
        assert process.returncode == 0, errors.decode()

    def measure(self) -> None:
        """An uninterrupted run: its records, its price, how long it takes and what points it passes."""
        self.finish(self.folder / "warm")
        self.server.settled()
        output, counts = self.folder / "whole", self.folder / "counts.json"
        started = time.monotonic()
        self.finish(output, CRASH_COUNTS=str(counts))
        self.duration_s = time.monotonic() - started
        self.records = read_records(output)
        assert len(self.records) == len(list(self.documents.iterdir())) + len(["records.jsonl"])
        self.paid = len(paid(self.server.settled()))
        self.points = Counter(json.loads(counts.read_text(encoding="utf-8")))


def read_records(output: Path) -> dict[str, bytes]:
    """The bytes of every record by its file's path, and of all together; everything else must be known."""
    files = {str(path.relative_to(output)): path for path in output.rglob("*") if path.is_file()}
    ours = {name for name in files if name.startswith((".ingest/", ".writing-")) or name == "run.json"}
    return {name: path.read_bytes() for name, path in files.items() if name not in ours}


def paid(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requests that the real service would bill."""
    return [entry for entry in entries if float(entry["list_cost_usd"]) > 0]


def check_wreck(job: Job, output: Path) -> int:
    """What a killed run left is sound: ledger, files, processes. Gives how many calls were in flight."""
    for name, content in read_records(output).items():
        assert content == job.records[name], f"{name} is half-written"
    path = output / ".ingest" / "ledger.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "attempts" not in tables:
            return 0
        columns = {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}
        if "booking" not in columns:
            return 0
        return int(connection.execute("SELECT COUNT(*) FROM attempts WHERE booking = 'open'").fetchone()[0])


def check_nothing_runs(group: int) -> None:
    """No process of a killed group is left, not even a dead one that nobody collects."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in processes() if process_group(pid) == group]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def processes() -> list[int]:
    """All processes there are."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def process_group(pid: int) -> int | None:
    """The group of a process, None when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def wait_for_death(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process that kills itself did so before it was done."""
    process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def kill_at_instant(job: Job, output: Path, dice: random.Random) -> bool:
    """Kill a run and its workers at some instant; False when it was done before."""
    process = job.start(output)
    try:
        process.wait(dice.uniform(0.2, 1.0) * job.duration_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    died = wait_for_death(process)
    # A rerun is quicker, and the machine now busier and now not: later instants follow what was seen.
    job.duration_s *= 1.05 if died else 0.8
    check_nothing_runs(process.pid)
    return died


def kill_at_point(job: Job, output: Path, point: str, number: int) -> bool:
    """Let a run kill itself, workers and all, when it passes a point; False when it never did."""
    process = job.start(output, CRASH_AT=f"{point}:{number}")
    died = wait_for_death(process)
    check_nothing_runs(process.pid)
    return died


def make_job(server: Server, folder: Path, *, is_mixed: bool) -> Job:
    """Documents of several kinds; with a picture and a video when it is mixed."""
    documents = folder / "in"
    documents.mkdir(parents=True)
    for name in (*DOCUMENTS, VIDEO) if is_mixed else DOCUMENTS:
        shutil.copy(ROOT / "fixtures" / name, documents)
    if is_mixed:
        (documents / "slip.png").write_bytes(image_bytes("Invoice number 77\nTotal 12.50", (240, 80)))
    (folder / "profile.toml").write_text(PROFILE, encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    job = Job(server, folder, documents)
    job.measure()
    return job


def crash_and_rerun(job: Job, output: Path, kills: list[Callable[[Path], bool]]) -> int:
    """Kill one run after the other, then let one end; the result is that of a run never killed. Gives the kills."""
    died, in_flight = 0, 0
    for kill in kills:
        died += kill(output)
        in_flight = max(in_flight, check_wreck(job, output))
    job.finish(output)
    assert read_records(output) == job.records
    assert not list(output.glob(".writing-*")), "leftovers of killed runs were not cleared away"
    entries = paid(job.server.settled())
    # Calls in flight at each of the kills stay open on the books for good.
    assert len(entries) <= job.paid + in_flight
    shutil.rmtree(output)
    return died


def test_killed_at_any_point_a_rerun_gives_the_same_records(server: Server, tmp_path: Path) -> None:
    """Power fails when it likes, also in the middle of a write: no record may differ, and no answer be bought again."""
    job, dice = make_job(server, tmp_path, is_mixed=False), random.Random(8)
    output = tmp_path / "out"

    def early(point: str) -> Callable[[Path], bool]:
        return lambda output: kill_at_point(job, output, point, dice.randint(1, max(1, job.points[point] // 3)))

    kills = [early("torn"), lambda output: kill_at_instant(job, output, dice)]
    assert crash_and_rerun(job, output, kills) >= 1


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_killed_a_hundred_times(server: Server, tmp_path: Path) -> None:
    """Rare windows show only to many kills: at random instants, at every kind of point, and during the rerun."""
    job, dice = make_job(server, tmp_path, is_mixed=True), random.Random(88)
    died = at_instant = 0

    def instant(output: Path) -> bool:
        nonlocal at_instant
        is_dead = kill_at_instant(job, output, dice)
        at_instant += is_dead
        return is_dead

    def point(output: Path) -> bool:
        name = dice.choice(sorted(job.points))
        return kill_at_point(job, output, name, dice.randint(1, job.points[name]))

    number = 0
    while at_instant < 100:
        number += 1
        died += crash_and_rerun(job, tmp_path / f"out{number}", [instant, point if number % 2 else instant])
    assert died > 100, "no run was killed at a chosen point"


def test_workers_die_with_a_killed_run(server: Server, tmp_path: Path) -> None:
    """A run that is killed alone, as the kernel does when memory is short, must not leave its readers behind."""
    documents = tmp_path / "in"
    documents.mkdir()
    shutil.copy(ROOT / "fixtures" / DOCUMENTS[1], documents)
    (tmp_path / "profile.toml").write_text(PROFILE, encoding="utf-8")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    process = Job(server, tmp_path, documents).start(tmp_path / "out")
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not [pid for pid in processes() if pid != process.pid and process_group(pid) == process.pid]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    check_nothing_runs(process.pid)
