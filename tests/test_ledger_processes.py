"""Several processes on one ledger: each chunk is paid for once, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import LedgerError
from ingest.keeping.ledger import Ledger
from tests.conftest import ROOT
from tests.postgres import Postgres

SCHEMA = {"type": "object", "properties": {"invoice_number": {"type": ["string", "null"]}}}
ENDS_WITHIN_S = 120
DOCUMENTS = 16


@dataclass
class Server:
    """The local engine in a process of its own, with the list of what it was asked and billed."""

    url: str
    log: Path

    @property
    def paid(self) -> int:
        """Answers that it billed."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return sum(json.loads(line)["status"] == 200 for line in lines)


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command of ours in a group of its own, killed with all its children when the test leaves."""
    command = [sys.executable, "-m", "ingest", *arguments]
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        kill(run)


def kill(run: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole group."""
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A model that takes its time for each answer."""
    log = tmp_path / "requests.jsonl"
    with process("serve", "--port", "0", "--latency", "0.4", "--request-log", str(log)) as run:
        assert run.stdout is not None
        yield Server(run.stdout.readline().strip(), log)


@pytest.fixture
def job(tmp_path: Path, server: Server) -> list[str]:
    """The arguments of a run over a folder of small documents, all but its output."""
    (tmp_path / "in").mkdir()
    for number in range(DOCUMENTS):
        (tmp_path / "in" / f"{number:02}.txt").write_text(f"Invoice number R-{number}\n")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    schema = ["--schema", str(tmp_path / "schema.json")]
    model = ["--profile", "local", "--base-url", server.url, "--concurrency", "4"]
    return ["run", str(tmp_path / "in"), *schema, *model, "--workers", "1", "-q", "--json"]


def ended(run: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a run, which has to have gone well."""
    out, told = run.communicate(timeout=ENDS_WITHIN_S)
    assert run.returncode == 0, told
    return dict(json.loads(out))


def answered(folder: Path | None, url: str | None) -> int:
    """Answers in the ledger so far."""
    try:
        with Ledger(folder, url) as ledger:
            return sum(posting.outcome == "answered" for posting in ledger.attempts.postings())
    except LedgerError:
        return 0


def numbers(folder: Path) -> list[str]:
    """What the records of an output folder say."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.txt.json"))]
    assert {record["status"] for record in records} == {"complete"}
    return [record["data"]["invoice_number"] for record in records]


EXPECTED = [f"R-{number}" for number in range(DOCUMENTS)]


@pytest.mark.timeout(ENDS_WITHIN_S * 3)
def test_two_runs_into_one_folder_ask_for_each_chunk_once(server: Server, job: list[str], tmp_path: Path) -> None:
    """A nightly run that starts while yesterday's is under way must not pay for everything again."""
    out = tmp_path / "out"
    with process(*job, "-o", str(out)) as one, process(*job, "-o", str(out)) as two:
        summaries = [ended(one), ended(two)]
    assert server.paid == DOCUMENTS
    assert sum(summary["requests_sent"] for summary in summaries) == DOCUMENTS
    assert sum(summary["totals"]["from_ledger"] for summary in summaries) == DOCUMENTS
    assert numbers(out) == EXPECTED
    assert len((out / "records.jsonl").read_text().splitlines()) == DOCUMENTS
    with Ledger(out) as ledger:
        assert [run.finished_at is not None for run in ledger.runs.all()] == [True, True]
        assert ledger.claims.live_runs() == frozenset()


@pytest.mark.long
@pytest.mark.timeout(ENDS_WITHIN_S * 3)
def test_a_killed_run_is_not_waited_for(server: Server, job: list[str], tmp_path: Path) -> None:
    """Who starts again at once after a crash goes on at once, and pays only for what was under way."""
    out = tmp_path / "out"
    with process(*job, "-o", str(out)) as run:
        wait_until(lambda: answered(out, None) >= DOCUMENTS // 4)
        kill(run)
    with Ledger(out) as ledger:
        in_flight = len(ledger.attempts.left_open(2))
    with process(*job, "-o", str(out), "--claim-timeout", "3600") as again:
        summary = ended(again)
    assert server.paid <= DOCUMENTS + in_flight
    assert summary["earlier_unsettled_calls"] == in_flight
    assert numbers(out) == EXPECTED


@pytest.mark.timeout(ENDS_WITHIN_S * 3)
def test_three_processes_on_one_postgresql_ledger_one_of_them_killed(
    server: Server, job: list[str], tmp_path: Path, postgres: Postgres
) -> None:
    """Several machines share the work and the bill; what a dead one was asking for is asked for by another."""
    url = postgres.database("postgresql")
    outs = [tmp_path / f"out{number}" for number in range(3)]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(process(*job, "-o", str(out), "--claim-timeout", "3600", INGEST_LEDGER=url))
            for out in outs
        ]
        wait_until(lambda: answered(None, url) >= DOCUMENTS // 4)
        kill(runs[0])
        summaries = [ended(run) for run in runs[1:]]
    with Ledger(None, url) as ledger:
        postings = ledger.attempts.postings()
        states = list(ledger.documents.states())
    bought = Counter(posting.key for posting in postings if posting.outcome == "answered")
    in_flight = sum(posting.booking == "open" for posting in postings)
    assert set(bought.values()) == {1}
    assert len(bought) == DOCUMENTS
    assert server.paid <= DOCUMENTS + in_flight
    assert [summary["complete"] for summary in summaries] == [DOCUMENTS] * 2
    assert [numbers(out) for out in outs[1:]] == [EXPECTED] * 2
    assert [state.status for state in states] == ["complete"] * DOCUMENTS


def wait_until(is_so: Any) -> None:
    """Look every now and then; a machine that is busy decides how long it takes."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.1)
