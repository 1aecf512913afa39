"""`ingest status`: what a ledger knows of all runs, also while one is under way, and when it is in a database."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli.app import app
from ingest.keeping.ledger import Ending, Ledger, Start
from ingest.record import Coverage, DocumentInfo, ModelInfo, ProblemInfo, RecipeInfo, Record, Status
from ingest.types import Bill, Usage

PAID = Ending(
    "answered",
    "",
    0.1,
    "usage",
    Usage(10, 2),
    Bill(127_999, Decimal(1), Decimal(0), Decimal(1), Decimal(0)),
    Decimal(2),
)


def call(*arguments: str) -> Result:
    """A command as the shell would start it."""
    return CliRunner().invoke(app, list(arguments), prog_name="ingest")


def store(ledger: Ledger, run: int, name: str, status: Status, problem: str = "") -> None:
    """What became of a document."""
    record = Record[dict[str, Any]](
        document=DocumentInfo(name=name, uri="", sha256="", media_type="", size_bytes=1),
        status=status,
        coverage=Coverage(),
        problems=(ProblemInfo(stage="ask", code="x", message=problem),) if problem else (),
        model=ModelInfo(profile="p", model="m", endpoint="e", protocol="chat"),
        recipe=RecipeInfo(name="invoices", schema_sha256="1", instructions_sha256="2"),
    )
    ledger.documents.store(run, record)


@pytest.fixture(params=["folder", "address"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a ledger in an output folder, or in a database anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return ["out"] if request.param == "folder" else ["--ledger", f"sqlite:///{tmp_path}/elsewhere.sqlite"]


def opened(place: list[str]) -> Ledger:
    """The ledger those arguments name."""
    return Ledger(Path(place[0])) if len(place) == 1 else Ledger(None, place[1])


def test_runs_documents_failures_and_money(place: list[str]) -> None:
    """Who comes back in the morning sees every run of the night, what failed and why, and the bill."""
    with opened(place) as ledger:
        killed = ledger.runs.start("invoices", "m", "e")
        ledger.attempts.start(killed, Start("k", "a.pdf", "invoices", 1, False, Decimal("0.25")))
        done = ledger.runs.start("invoices", "m", "e")
        ledger.attempts.settle(ledger.attempts.start(done, Start("l", "a.pdf", "invoices", 1, False, None)), PAID)
        store(ledger, done, "a.pdf", "complete")
        store(ledger, done, "b[/].pdf", "failed", "damaged\x1b[31m")
        ledger.runs.finish(done)
        live = ledger.runs.start("invoices", "m", "e")
        ledger.claims.enter(live, 60)
        shown = call("status", *place)
        told = json.loads(call("status", *place, "--json").stdout)
    assert shown.exit_code == 1
    assert [(run["state"], run["calls"], run["spent_usd"]) for run in told["runs"]] == [
        ("interrupted", 1, "0.25"),
        ("finished", 1, "2"),
        ("under way", 0, "0"),
    ]
    assert (told["states"], told["ledger"]["total_usd"]) == ({"complete": 1, "failed": 1}, "2.25")
    assert [(row["name"], row["problem"]) for row in told["not_complete"]] == [("b[/].pdf", "damaged\x1b[31m")]
    for words in ("interrupted", "under way", "2 documents in the ledger: 1 complete, 1 failed", "b[/].pdf: damaged"):
        assert words in shown.stdout
    assert "\x1b" not in shown.stdout


def test_the_exit_code_without_a_folder_is_the_last_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that watches a shared database learns whether all is well."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    monkeypatch.setenv("INGEST_LEDGER", url)
    with Ledger(None, url) as ledger:
        run = ledger.runs.start("invoices", "m", "e")
        store(ledger, run, "a.pdf", "complete")
        assert call("status").exit_code == 1
        ledger.runs.finish(run)
        assert call("status").exit_code == 0
        store(ledger, run, "b.pdf", "partial")
        assert call("status").exit_code == 1
