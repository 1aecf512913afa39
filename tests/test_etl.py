"""Jobs of others: one task of an orchestrator, a dlt resource, and the examples of docs/etl.md."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ingest
from pipelines.etl import dlt_resource, ingest_folder
from tests.docs import blocks, make_inbox, run_block

pytestmark = pytest.mark.usefixtures("quick_readers")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples speak of; packages of others keep their files in it, and call nobody."""
    make_inbox(tmp_path, "us-one-page.pdf")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "DAGSTER_HOME": "",
        "DLT_DATA_DIR": str(tmp_path / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def example(needs: str | None) -> tuple[str, int]:
    """The example of docs/etl.md for a package; the test is skipped where it is not installed."""
    if needs is not None and importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed: its example was not run")
    return next((code, line) for package, code, line in blocks("etl.md") if package == needs)


def run_example(needs: str | None) -> dict[str, Any]:
    """Run an example; gives its names."""
    code, line = example(needs)
    scope: dict[str, Any] = {"__name__": "etl_example"}
    run_block(code, "etl.md", line, scope)
    return scope


def finished(folder: Path) -> int:
    """How many records a job left complete."""
    return int(json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))["complete"])


def test_a_task_gives_a_small_summary_and_is_not_paid_twice(here: Path) -> None:
    """Orchestrators keep results in their database, and try tasks again."""
    summary = run_example(None)["summary"]
    assert (summary["documents"], summary["complete"], summary["not_complete"]) == (1, 1, [])
    assert json.loads(json.dumps(summary)) == summary
    again = ingest_folder("inbox/", "invoices", "out", local=True, to=["rows.jsonl"])
    assert again["requests_sent"] == 0
    assert len((here / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_a_task_can_insist_on_complete_records(here: Path) -> None:
    """A job that must not go on without a document has to fail there, and to say which one it was."""
    given = ["inbox/us-one-page.pdf", "damaged/broken.jpg"]
    summary = ingest_folder(given, "invoices", "out", local=True)
    assert [row["document"] for row in summary["not_complete"]] == ["broken.jpg"]
    with pytest.raises(ingest.IngestError, match=r"1 of 2 .*broken\.jpg"):
        ingest_folder(given, "invoices", "out", local=True, must_complete=True)


def test_dlt_loads_records_and_merges_them(here: Path) -> None:
    """Run twice, the tables hold the same rows; line items are rows of a child table that join with their invoice."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    scope = run_example("dlt")
    import duckdb

    def tables() -> tuple[Any, Any]:
        with duckdb.connect(str(here / "etl.duckdb")) as connection:
            parents = connection.sql(
                "SELECT _document, _recipe, _status, gross_amount FROM finance.invoices ORDER BY 1"
            ).fetchall()
            kinds = dict(connection.sql("SELECT column_name, data_type FROM information_schema.columns").fetchall())
            assert (kinds["invoice_date"], kinds["amount_due"]) == ("DATE", "DOUBLE")
            lines = connection.sql(
                "SELECT i._document, count(*) FROM finance.invoices i"
                " JOIN finance.invoices__line_items l ON l._dlt_parent_id = i._dlt_id GROUP BY 1 ORDER BY 1"
            ).fetchall()
        return parents, lines

    first = tables()
    assert [row[:3] for row in first[0]] == [("us-one-page.pdf", "invoices", "complete")]
    assert all(row[3] is not None for row in first[0])
    assert all(count > 0 for _, count in first[1])
    scope["pipeline"].run(dlt_resource("inbox/", scope["config"]))
    assert tables() == first
    make_inbox(here / "other", "ie-one-page.pdf")
    (here / "other" / "inbox" / "ie-one-page.pdf").replace(here / "inbox" / "us-one-page.pdf")
    scope["pipeline"].run(dlt_resource("inbox/", scope["config"]))
    (changed,) = tables()[0]
    assert changed[0] == "us-one-page.pdf"
    assert changed[3] != first[0][0][3]


def test_without_dlt_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An import error deep in a job does not say what to install."""
    monkeypatch.setitem(sys.modules, "dlt", None)
    with pytest.raises(ingest.ConfigError, match=r"ingest\[dlt\]"):
        dlt_resource("inbox", ingest.configure(recipe="invoices", local=True))


@pytest.mark.filterwarnings("default")
def test_the_airflow_example_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole DAG, as Airflow runs it, with the task in the environment of ingest."""
    example("airflow")
    monkeypatch.setenv("ETL_PYTHON", os.environ.get("ETL_PYTHON", sys.executable))
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    run = run_example("airflow")["invoices_dag"].test()
    assert run.state == "success"
    assert finished(here) == 1


@pytest.mark.filterwarnings("default")
def test_the_dagster_example_runs(here: Path) -> None:
    """The asset, materialised in this process."""
    scope = run_example("dagster")
    result = scope["dg"].materialize([scope["invoices"]])
    assert result.success
    assert finished(here) == 1


@pytest.mark.filterwarnings("default")
def test_the_prefect_example_runs(here: Path) -> None:
    """The flow, with the server that Prefect starts for a test."""
    example("prefect")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness():
        assert run_example("prefect")["invoices"]()["complete"] == 1
