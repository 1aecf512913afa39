"""The daemon: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.app import app
from ingest.keeping.ledger import Ledger
from ingest.keeping.ledger.schedules import ScheduleRun
from tests.conftest import ROOT

pytest.importorskip("cronsim", reason="needs the extra digest")
pytest.importorskip("apscheduler", reason="needs the extra digest")

OVERDUE = timedelta(days=3)
QUICK = ("status", "nowhere")
"""A command that ends at once, with exit code 2."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def keep(state: Path, *arguments: str, name: str = "morning") -> None:
    """A job of every day whose last three times were missed."""
    with Ledger(state) as ledger:
        ledger.schedules.add(name, "0 7 * * *", "UTC", arguments, str(state.parent), datetime.now(UTC) - OVERDUE)


def runs(state: Path, name: str = "morning") -> tuple[ScheduleRun, ...]:
    with Ledger(state) as ledger:
        return ledger.schedules.runs(name)


@pytest.fixture
def start(state: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts daemons, and ends what a failed test left of them."""
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ingest", "schedule", "run", "--state", str(state), "--log-level", "info"]
        started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for daemon in started:
        with suppress(ProcessLookupError):
            daemon.kill()
        daemon.communicate()


def until(is_so: Callable[[], object], seconds: float = 40) -> None:
    """Wait for something; a test that waits in vain fails here."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def end(daemon: subprocess.Popen[str]) -> str:
    daemon.send_signal(signal.SIGTERM)
    _, told = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, told
    return told


def test_two_daemons_serve_what_was_missed_once_and_stop_when_told(
    state: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    """After three days off one run catches up, however many daemons start; a service manager can stop them."""
    keep(state, *QUICK)
    daemons = [start(), start()]
    until(lambda: any(run.finished_at for run in runs(state)))
    told = "".join(end(daemon) for daemon in daemons)
    (run,) = runs(state)
    assert (run.cause, run.due_count, run.exit_code) == ("catch-up", 3, 2)
    assert "ingest" in Path(run.log).read_text(encoding="utf-8") or "error" in Path(run.log).read_text(encoding="utf-8")
    assert "job morning ended with exit code 2" in told


@pytest.fixture
def deaf_server() -> Iterator[str]:
    """A model that takes a request and never answers."""
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            is_over.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    is_over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def hanging(state: Path, url: str) -> tuple[str, ...]:
    """A run that waits for its answer until it is stopped."""
    (state.parent / "a.txt").write_text("total 10\n", encoding="utf-8")
    (state.parent / "schema.json").write_text(json.dumps({"type": "object", "properties": {"total": {}}}), "utf-8")
    return ("run", "a.txt", "--schema", "schema.json", "--base-url", url, "-o", "out")


@pytest.mark.timeout(180)
def test_a_stop_interrupts_the_command_and_the_next_start_runs_it_again(
    state: Path, start: Callable[[], subprocess.Popen[str]], deaf_server: str
) -> None:
    """A restart of the machine at seven must cost neither the digest nor a hung shutdown."""
    keep(state, *hanging(state, deaf_server))
    daemon = start()
    until((state.parent / "out" / ".ingest").exists)
    end(daemon)
    assert [run.exit_code for run in runs(state)] == [143]
    again = start()
    until(lambda: len(runs(state)) == 2)
    end(again)
    assert {run.cause for run in runs(state)} == {"catch-up"}


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_daemon_that_is_killed_leaves_no_second_command_beside_the_first(
    state: Path, start: Callable[[], subprocess.Popen[str]], deaf_server: str
) -> None:
    """After kill -9 of the daemon the command goes on; a new daemon must wait for it."""
    keep(state, *hanging(state, deaf_server))
    killed = start()
    until((state.parent / "out" / ".ingest").exists)
    (orphan,) = _children(killed.pid)
    killed.kill()
    killed.wait()
    with Ledger(state) as ledger:
        # As if the claim had run out, so that only the lock is left to keep the second daemon off.
        ledger.schedules._database.write("UPDATE schedules SET claimed_until = '2000-01-01T00:00:00+00:00'", {})
    again = start()
    time.sleep(4)
    assert again.poll() is None
    assert len(runs(state)) == 1
    os.kill(orphan, signal.SIGKILL)
    until(lambda: len(runs(state)) == 2)
    end(again)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for task in text.parent.parent.iterdir() for word in (task / "children").read_text().split()]
    return [child for child in found if b"-P" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_the_command_line_adds_lists_runs_and_removes(state: Path) -> None:
    """What people type is what they get, and a failed job shows in the exit code of the list."""

    def call(*args: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["schedule", *args, "--state", str(state)] if "--" not in args else _at(args))
        return done.exit_code, done.output

    def _at(args: tuple[str, ...]) -> list[str]:
        place = args.index("--")
        return ["schedule", *args[:place], "--state", str(state), *args[place:]]

    add = ("add", "morning", "--cron", "0 7 * * 1-5", "--tz", "Europe/Berlin", "--", *QUICK)
    assert call("list") == (0, "No jobs. ingest schedule add --help shows how to add one.\n")
    code, told = call(*add)
    assert (code, "07:00 CE" in told) == (0, True)
    assert call(*add)[0] == 2
    code, told = call("list")
    assert code == 0
    assert "0 7 * * 1-5 Europe/Berlin" in told
    assert "never run" in told
    assert len(call("next", "morning", "-n", "3")[1].splitlines()) == 3
    assert call("run-now", "morning")[0] == 2
    code, told = call("list", "--json")
    (listed,) = json.loads(told)
    assert (code, listed["last_run"]["exit_code"], listed["arguments"]) == (1, 2, list(QUICK))
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri" in call("export", "morning", "--systemd")[1]
    assert call("export", "morning")[0] == 2
    assert call("remove", "morning")[0] == 0
    assert call("remove", "morning")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("run", "inbox", "--recipee", "x"), "--recipee"),
        (("plan", "inbox", "--jobs", "0"), "--jobs"),
        (("run", "--help"), "only shows"),
    ],
)
def test_a_command_with_a_typing_error_is_not_added(state: Path, arguments: tuple[str, ...], hint: str) -> None:
    """The error must come today from the person who typed it, not at seven from a log."""
    args = ["schedule", "add", "x", "--cron", "0 7 * * *", "--state", str(state), "--", *arguments]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 2
    assert hint in done.output
