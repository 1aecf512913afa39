"""`ingest run --events`: lines that programs may rely on, and a command that behaves in pipes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli.app import app
from tests.docs import DOCS

RUN = ("run", "--schema", "schema.json", "--local")
SCHEMA = {
    "type": "object",
    "properties": {"invoice_number": {"type": ["string", "null"]}},
    "required": ["invoice_number"],
    "additionalProperties": False,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an invoice and a file that is none, to work in."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "inbox" / "invoice.txt").write_text("Invoice number: 4711\nTotal: 12.00\n")
    (tmp_path / "inbox" / "broken.pdf").write_bytes(b"%PDF-1.7 nothing more")
    monkeypatch.chdir(tmp_path)
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("ingest").level
    yield tmp_path
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("ingest").setLevel(level)


def call(*args: str, stdin: str = "") -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [*RUN, *args], input=stdin, prog_name="ingest")


def start(*args: str, **streams: Any) -> subprocess.Popen[str]:
    """Run the command in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "ingest", *RUN, *args], stderr=subprocess.PIPE, text=True, **streams)


def told(output: str) -> list[dict[str, Any]]:
    """The events that were printed."""
    return [json.loads(line) for line in output.splitlines()]


def documented() -> dict[str, set[str]]:
    """Events and their fields, as docs/etl.md has them."""
    page = (DOCS / "etl.md").read_text(encoding="utf-8")
    table = page[page.index("<!-- events -->") : page.index("<!-- end -->")]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    names = re.compile(r"`(\w+)`")
    return {names.findall(event)[0]: set(names.findall(re.sub(r"\([^)]*\)|:.*", "", rest))) for event, rest in rows}


def test_events_tell_a_run_as_documented(here: Path) -> None:
    """Somebody's dashboard is built on these fields; a missing one breaks it, and colours would, too."""
    done = call("inbox", "-o", "out", "-q", "--events")
    assert done.exit_code == 1, done.stderr
    assert done.stderr == ""
    events = told(done.stdout)
    fields = documented()
    assert set(fields) - {event["event"] for event in events} == {"run_failed"}
    for event in events:
        assert event.pop("version") == 1
        assert datetime.fromisoformat(event.pop("at")).tzinfo is not None
        assert set(event) == fields[event.pop("event")] | {"event"}
    ends = {event["document"]: event for event in events if "record" in event}
    assert {name: end["status"] for name, end in ends.items()} == {
        "broken.pdf": "failed",
        "invoice.txt": "complete",
    }
    assert ends["broken.pdf"]["problem"]
    assert json.loads((here / ends["invoice.txt"]["record"]).read_text())["status"] == "complete"
    assert events[-1]["exit_code"] == 1
    assert events[-1]["summary"] == json.loads((here / "out" / "run.json").read_text())

    again = told(call("-", "-o", "out", "-q", "--events", stdin="inbox/invoice.txt\0").stdout)
    assert [event["from_ledger"] for event in again if event["event"] == "request_finished"] == [True]
    assert again[-1]["exit_code"] == 0


def test_what_ends_a_run_early_is_the_last_event(here: Path) -> None:
    """Who reads the stream must not have to guess from its silence."""
    done = call("nowhere", "-o", "out", "-q", "--events")
    (event,) = told(done.stdout)
    assert done.exit_code == event["exit_code"] == 2
    assert event["event"] == "run_failed"
    assert "nowhere" in event["message"]
    assert set(event) - {"version", "at", "event"} == documented()["run_failed"]
    assert done.stderr.startswith("error: nowhere")


def test_termination_is_told(here: Path) -> None:
    """A scheduler that stops the job gets an event and the exit code of the signal."""
    process = start("inbox", "-o", "out", "-q", "--events", stdout=subprocess.PIPE)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert first["event"] == "run_started"
    assert told(rest)[-1]["event"] == "run_failed"
    assert told(rest)[-1]["exit_code"] == process.returncode == 143


def test_a_reader_that_goes_away_does_not_end_the_run(here: Path) -> None:
    """`--events | head -1` still leaves every record, and says nothing of broken pipes."""
    reading, writing = os.pipe()
    process = start("inbox/invoice.txt", "-o", "out", "-q", "--events", stdout=writing)
    os.close(writing)
    os.close(reading)
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert json.loads((here / "out" / "run.json").read_text())["complete"] == 1


@pytest.mark.parametrize("other", [("--json",), ("--to", "-")])
def test_two_things_on_stdout_are_refused(here: Path, other: tuple[str, ...]) -> None:
    """Mixed lines would be of no use to either reader."""
    done = call("inbox", "-o", "out", "--events", *other)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "stdout" in done.stderr


def test_records_on_stdout_send_the_summary_to_stderr(here: Path) -> None:
    """`--to - | jq` must see records and nothing else."""
    done = call("inbox/invoice.txt", "-o", "out", "-q", "--to", "-")
    (record,) = told(done.stdout)
    assert record["document"]["name"] == "invoice.txt"
    assert "1 complete" in done.stderr
    assert "\x1b" not in done.stderr
