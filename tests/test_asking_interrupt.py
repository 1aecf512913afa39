"""Ctrl-C while answers are under way: the run ends, what was received is kept, and a second run goes on from there."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import wire_samples
from tests.conftest import ROOT

SCHEMA = {"type": "object", "properties": {"title": {"type": ["string", "null"]}}}
ANSWER = json.dumps({"title": {"value": None, "_page": None}})
ENDS_WITHIN_S = 60
"""Far above the 2 s of the promise: a test measures that it ends, a busy machine decides how fast."""


class _Slow(BaseHTTPRequestHandler):
    """Answers `quick` calls at once; of the others it begins a stream and leaves it open."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.calls += 1
            is_quick = self.server.calls <= self.server.quick
        content = wire_samples.to_bytes(wire_samples.events("chat", ANSWER))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content if is_quick else content[:400])
        self.wfile.flush()
        if not is_quick:
            self.server.released.wait(ENDS_WITHIN_S)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Servers in tests say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    """A model that begins answers and does not end them."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    server.lock, server.released = threading.Lock(), threading.Event()
    server.calls, server.quick = 0, 3
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def start(tmp_path: Path, server: Any) -> subprocess.Popen[str]:
    """`ingest run` as a process of its own."""
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    flags = ["--schema", str(tmp_path / "schema.json"), "-o", str(tmp_path / "out"), "--base-url", url, "-q"]
    command = [sys.executable, "-m", "ingest", "run", str(tmp_path / "in"), *flags]
    environment = os.environ | {"INGEST_API_KEY": "k-12345678"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answers(ledger: Path) -> int:
    """Answers on disk so far."""
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_an_interrupted_run_keeps_what_it_has_and_goes_on(number: signal.Signals, server: Any, tmp_path: Path) -> None:
    """A night's run that is stopped must not be paid for twice."""
    (tmp_path / "in").mkdir()
    for index in range(7):
        (tmp_path / "in" / f"{index}.txt").write_text(f"page of text number {index}\n")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    run = start(tmp_path, server)
    deadline = time.monotonic() + ENDS_WITHIN_S
    ledger = tmp_path / "out" / ".ingest" / "ledger.sqlite"
    while (server.calls < 5 or answers(ledger) < 3) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(number)
    _, told = run.communicate(timeout=ENDS_WITHIN_S)
    assert run.returncode == 128 + number, told
    assert "run the same command again to go on" in told
    assert len(list((tmp_path / "out").glob("*.txt.json"))) <= 3

    before, server.quick = server.calls, 1_000
    again = start(tmp_path, server)
    _, told = again.communicate(timeout=ENDS_WITHIN_S)
    assert again.returncode == 0, told
    records = sorted((tmp_path / "out").glob("*.txt.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["complete"] * 7
    assert server.calls - before == 4
