"""The command line keeps its contract: streams, exit codes, precedence, secrets."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli import logs
from ingest.cli.app import COMMANDS, app
from ingest.config import Config, Endpoint
from ingest.errors import AuthRejected, Busy, Disconnected, IngestError, OutputError
from ingest.keeping.ledger import Ledger, Start
from ingest.local.server import create_app
from ingest.record import (
    Coverage,
    DocumentInfo,
    DocumentRow,
    Evidence,
    ModelInfo,
    Plan,
    PlanRow,
    RecipeInfo,
    Record,
    RunSummary,
    Totals,
)
from ingest.types import Event, Observer
from tests.conftest import ROOT
from tests.declared import declare_entry_points
from tests.local_calls import call as local_call
from tests.scripted_model import SCHEMA, ScriptedModel

KEY = "sk-very-secret-1234"
MODEL = ModelInfo(model="local-ocr-rules", profile="local", protocol="chat", endpoint="local")
RECIPE = RecipeInfo(name="receipts", schema_sha256="0", instructions_sha256="0")
RUN = ("run", "inbox", "--recipe", "receipts")
ONE = DocumentRow(name="a.pdf", status="complete", pages=2, chunks=1, requests=1, input_tokens=3_000)


class Job:
    """Stands where the folder job stands: keeps the settings it is given, and gives a summary or an error."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.paths: Sequence[str] = ()
        self.rows: tuple[DocumentRow, ...] = (ONE,)
        self.error: BaseException | None = None

    def __call__(self, paths: Sequence[str], config: Config, observer: Observer) -> RunSummary:
        """Run."""
        self.paths, self.config = paths, config
        observer(Event("run_started", documents=len(self.rows)))
        for row in self.rows:
            observer(Event("document_started", row.name))
            observer(Event("document_finished", row.name, status=row.status, message=row.problem or ""))
        if self.error is not None:
            raise self.error
        return summary(*self.rows)

    @property
    def settings(self) -> Config:
        """What it was given."""
        assert self.config is not None
        return self.config


def summary(*rows: DocumentRow) -> RunSummary:
    """A summary of documents."""
    counts = {status: sum(row.status == status for row in rows) for status in ("complete", "partial", "failed")}
    totals = Totals(pages=sum(row.pages for row in rows), cost_usd=Decimal("0.5"))
    return RunSummary(documents=rows, totals=totals, **counts, model=MODEL, recipe=RECIPE, output="out")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No keys or settings of the machine, an empty directory, entry points as installed, logging as it was."""
    for name in [name for name in os.environ if name.startswith("INGEST_") or name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    declare_entry_points(monkeypatch)
    monkeypatch.chdir(tmp_path)
    handlers, level = list(logging.getLogger().handlers), logging.getLogger("ingest").level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger("ingest").setLevel(level)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    """The job that `ingest run` finds."""
    job = Job()
    monkeypatch.setattr("ingest.cli.run.find_job", lambda name: job)
    return job


def call(*args: str, **environ: str) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, list(args), env=environ, prog_name="ingest")


def test_help_names_every_command_that_can_be_imported() -> None:
    """A command in the table that does not exist would be found by a user."""
    assert call("--help").exit_code == 0
    for name in COMMANDS:
        result = call(name, "--help")
        assert result.exit_code == 0, result.output
        assert name in call("--help").stdout


def test_no_key_and_not_local_names_both_ways_out(job: Job) -> None:
    """The first thing a new user meets must tell them what to do."""
    result = call(*RUN)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    for way_out in ("EMPIRIOLABS_API_KEY", "INGEST_API_KEY", "--local"):
        assert way_out in result.stderr
    assert result.stdout == ""
    assert job.config is None


@pytest.mark.parametrize("name", ["EMPIRIOLABS_API_KEY", "INGEST_API_KEY"])
def test_key_comes_from_the_environment_and_is_never_shown(job: Job, name: str) -> None:
    """A key in a terminal or a log is a key given away."""
    job.error = AuthRejected("the key was not accepted")
    result = call(*RUN, "--log-level", "debug", **{name: KEY})
    key = job.settings.endpoint.api_key
    assert key is not None
    assert key.get_secret_value() == KEY
    assert KEY not in result.output
    assert result.exit_code == 4


def test_local_needs_no_key_and_says_so_in_the_settings(job: Job) -> None:
    """Offline means offline: no address of the real endpoint is left in the settings."""
    assert call(*RUN, "--local").exit_code == 0
    assert job.settings.endpoint.local
    assert job.settings.profile.name == "local"
    assert job.settings.output == Path("out")
    assert job.paths == ("inbox",)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ((ONE,), 0),
        ((), 0),
        ((ONE, DocumentRow(name="b.pdf", status="partial", problem="page 2 was refused")), 1),
        ((ONE, DocumentRow(name="b.pdf", status="failed", problem="damaged")), 1),
        ((DocumentRow(name="b.pdf", status="skipped"),), 1),
    ],
)
def test_exit_code_tells_whether_all_are_complete(job: Job, rows: tuple[DocumentRow, ...], code: int) -> None:
    """A nightly script looks at nothing else."""
    job.rows = rows
    assert call(*RUN, "--local").exit_code == code


@pytest.mark.parametrize("error", [AuthRejected("no"), Busy("no"), OutputError("no")])
def test_each_branch_of_errors_has_its_exit_code(job: Job, error: IngestError) -> None:
    """One line on stderr, the branch in the exit code, no traceback."""
    job.error = error
    result = call(*RUN, "--local", "--quiet")
    assert (result.exit_code, result.stderr, result.stdout) == (error.exit_code, "error: no\n", "")


def test_interrupt_says_that_answers_are_kept(job: Job) -> None:
    """Who presses Ctrl-C on a long job wonders what it cost."""
    job.error = KeyboardInterrupt()
    result = call(*RUN, "--local", "-o", "there")
    assert result.exit_code == 130
    assert "kept in there" in result.stderr
    assert "Traceback" not in result.output


def test_sigterm_unwinds_the_run_and_says_that_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that stops the job must not leave worker processes behind."""
    unwound: list[bool] = []

    def job(paths: Sequence[str], config: Config, observer: Observer) -> RunSummary:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            unwound.append(True)
        raise AssertionError("SIGTERM was ignored")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("ingest.cli.run.find_job", lambda name: job)
    result = call(*RUN, "--local")
    assert result.exit_code == 143
    assert "Terminated. Answers received so far are kept in out" in result.stderr
    assert unwound
    assert signal.getsignal(signal.SIGTERM) is before


def test_stdout_holds_the_result_and_stderr_the_rest(job: Job) -> None:
    """`ingest run … --json | jq` must work while progress is shown."""
    job.rows = (ONE, DocumentRow(name="b.pdf", status="failed", problem="damaged"))
    result = call(*RUN, "--local", "--json")
    assert RunSummary.model_validate(json.loads(result.stdout)).failed == 1
    assert "[1/2] complete a.pdf" in result.stderr
    assert "[2/2] failed   b.pdf: damaged" in result.stderr
    assert call(*RUN, "--local", "--json", "--quiet").stderr == ""


def test_table_shows_what_failed_and_why(job: Job) -> None:
    """The reason must stand where the failure is seen."""
    job.rows = (ONE, DocumentRow(name="b.pdf", status="failed", problem="damaged: export it again"))
    table = call(*RUN, "--local", "--quiet").stdout
    assert "a.pdf" in table
    assert "b.pdf: damaged: export it again" in table
    assert "1 complete, 1 failed" in table
    assert "no vision model" in table


def test_flag_beats_environment_beats_recipe_beats_default(job: Job, tmp_path: Path) -> None:
    """The order of precedence is a promise."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "recipe.toml").write_text("[asking]\nmax_tokens = 100\ntimeout_s = 100\nmax_attempts = 2\n")
    (folder / "schema.json").write_text('{"type": "object", "properties": {"a": {}}}')
    environ = {"INGEST_MAX_TOKENS": "200", "INGEST_TIMEOUT": "200", "INGEST_JOBS": "7", "INGEST_LOCAL": "1"}
    result = call("run", "x", "--recipe", str(folder), "--max-tokens", "300", **environ)
    assert result.exit_code == 0, result.stderr
    asking = job.settings.asking
    assert (asking.max_tokens, asking.timeout_s, asking.max_attempts, asking.evidence) == (300, 200, 2, "part")
    assert job.settings.jobs == 7


def test_every_option_reaches_its_setting(job: Job) -> None:
    """An option that is parsed and then forgotten is worse than none."""
    args = (
        "--pages image --jpeg-quality 70 --max-pages 9 --read-timeout 5 --workers 1 --evidence quote --thinking "
        "--reasoning-effort high --image-detail xhigh --max-tokens 1000 --target-tokens 5000 --context-parts 2 "
        "--timeout 33 --max-attempts 1 --jobs 2 -o there --password s3cret --password other "
        "--max-cost $2.50 --max-cost-per-document 0.1"
    )
    assert call(*RUN, "--local", *args.split()).exit_code == 0
    config = job.settings
    assert config.reading.model_dump(include={"pages", "jpeg_quality", "max_pages", "call_timeout_s", "workers"}) == {
        "pages": "image",
        "jpeg_quality": 70,
        "max_pages": 9,
        "call_timeout_s": 5.0,
        "workers": 1,
    }
    expected = {
        "max_tokens": 1000,
        "enable_thinking": True,
        "reasoning_effort": "high",
        "image_detail": "xhigh",
        "evidence": "quote",
        "timeout_s": 33.0,
        "max_attempts": 1,
    }
    assert config.asking.model_dump(include=set(expected)) == expected
    assert (config.budget.max_cost_usd, config.budget.max_cost_per_document_usd) == (Decimal("2.50"), Decimal("0.1"))
    assert (config.planning.target_tokens, config.planning.context_parts) == (5000, 2)
    assert (config.jobs, config.output) == (2, Path("there"))
    assert [password.get_secret_value() for password in config.reading.passwords] == ["s3cret", "other"]


def test_a_limit_on_money_comes_from_flag_environment_or_recipe(job: Job, tmp_path: Path) -> None:
    """A nightly job sets it once, for all that it starts."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "recipe.toml").write_text('[budget]\nmax_cost_usd = "0.75"\n')
    (folder / "schema.json").write_text('{"type": "object", "properties": {"a": {}}}')
    mine = ("run", "x", "--recipe", str(folder), "--local")
    assert call(*mine).exit_code == 0
    assert job.settings.budget.max_cost_usd == Decimal("0.75")
    assert call(*mine, INGEST_MAX_COST="1.10").exit_code == 0
    assert job.settings.budget.max_cost_usd == Decimal("1.10")
    assert call(*mine, "--max-cost", "3", INGEST_MAX_COST="1.10").exit_code == 0
    assert job.settings.budget.max_cost_usd == 3


def test_passwords_in_the_environment_stand_one_per_line(job: Job) -> None:
    """A password may hold blanks."""
    assert call(*RUN, "--local", INGEST_PASSWORD="with blank\nother\n").exit_code == 0
    assert [word.get_secret_value() for word in job.settings.reading.passwords] == ["with blank", "other"]


def test_instructions_are_added_to_the_recipes_own(job: Job, tmp_path: Path) -> None:
    """A hint about one batch must not throw away what the recipe knows."""
    (tmp_path / "more.md").write_text("Amounts are in EUR.\n", encoding="utf-8")
    assert call(*RUN, "--local", "--instructions", "@more.md").exit_code == 0
    own, _, added = job.settings.recipe.instructions.rpartition("\n\n")
    assert added == "Amounts are in EUR."
    assert len(own) > 100


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("run", "x", "--local"), "say what to extract"),
        ((*RUN, "--local", "--schema", "s.json"), "--recipe and --schema exclude each other"),
        ((*RUN, "--local", "--base-url", "http://h/v1"), "--local and --base-url exclude each other"),
        ((*RUN, "--local", "--profile", "seed-2-0-pro"), "is not the local engine's"),
        ((*RUN, "--base-url", "h/v1"), "does not start with http"),
        ((*RUN, "--local", "--instructions", "@none.md"), "none.md cannot be read"),
        ((*RUN, "--profile", "nope"), "no profile 'nope'"),
        (("run", "--recipe", "receipts", "--local"), "Missing argument"),
        ((*RUN, "--local", "--jobs", "0"), "--jobs"),
        ((*RUN, "--local", "--max-cost", "0"), "not above zero"),
        ((*RUN, "--local", "--max-cost", "two"), "not an amount of dollars"),
        ((*RUN, "--local", "--reasoning-effort", "high"), "needs thinking"),
        (("run", "x", "--recipe", "receits", "--local"), "did you mean receipts?"),
        (("rum",), "Did you mean run?"),
        ((*RUN, "--loca"), "--local"),
    ],
)
def test_a_wrong_command_exits_2_and_says_what_to_do(job: Job, args: tuple[str, ...], told: str) -> None:
    """Usage and configuration share one exit code, and nothing has been read or sent."""
    result = call(*args)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output
    assert job.config is None


def test_a_flag_beats_a_variable_that_excludes_it(job: Job, tmp_path: Path) -> None:
    """A variable set for every run must not stand in the way of one."""
    (tmp_path / "s.json").write_text('{"type": "object", "properties": {"a": {}}}')
    result = call("run", "x", "--schema", "s.json", "--local", INGEST_RECIPE="receipts", INGEST_BASE_URL="http://h/v1")
    assert result.exit_code == 0, result.stderr
    assert job.settings.recipe.name == "s"
    assert job.settings.endpoint.local


def test_a_job_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation must not look like a bug."""
    from importlib import metadata

    monkeypatch.setattr(metadata, "entry_points", lambda **_: [])
    result = call("run", "x", "--schema", "ingest.record:Record", "--local")
    assert result.exit_code == 2
    assert "'folder' is not installed" in result.stderr


def plan_of(*rows: PlanRow) -> Plan:
    """A plan of documents."""
    totals = PlanRow(
        name="",
        chunks=sum(row.chunks for row in rows),
        requests=sum(row.requests for row in rows),
        cost_usd_expected=Decimal("1.5"),
        cost_usd_ceiling=Decimal("3"),
    )
    return Plan(documents=rows, totals=totals, model=MODEL, recipe=RECIPE)


def test_plan_needs_no_key_and_prices_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bill is known before it is sent, and before one has an account."""
    seen: list[Config] = []

    def plan(paths: Sequence[str], config: Config, observer: Observer) -> Plan:
        seen.append(config)
        return plan_of(PlanRow(name="a.pdf", chunks=2, requests=2))

    monkeypatch.setattr("ingest.api.plan", plan)
    result = call("plan", "x", "--recipe", "receipts")
    assert result.exit_code == 0, result.stderr
    assert "$1.50 expected, $3.00 at most. Nothing was sent." in result.stdout
    assert seen[0].endpoint.api_key is None
    assert seen[0].profile.name == "seed-2-0-pro"
    as_json = json.loads(call("plan", "x", "--recipe", "receipts", "--json").stdout)
    assert Plan.model_validate(as_json).totals.requests == 2


def test_plan_tells_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that leaves files out silently is a wrong price."""
    broken = PlanRow(name="b.pdf", problem="damaged")
    monkeypatch.setattr("ingest.api.plan", lambda paths, config, observer: plan_of(broken))
    result = call("plan", "x", "--recipe", "receipts", "-q")
    assert result.exit_code == 1
    assert "b.pdf: damaged" in result.stdout


def record(name: str, **more: Any) -> Record[dict[str, Any]]:
    """A record with a grounded and an ungrounded value."""
    return Record[dict[str, Any]](
        document=DocumentInfo(name=name, uri="", sha256="", media_type="application/pdf", size_bytes=1),
        data={"shop": "ACME", "items": [{"price": 2.5}], "tax": None},
        status="complete",
        provenance={
            "/shop": (Evidence(page=1, quote="ACME", grade="exact"),),
            "/items/0/price": (Evidence(page=2, grade="ungrounded"),),
        },
        coverage=Coverage(total=2, answered=2),
        model=MODEL,
        recipe=RECIPE,
        **more,
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder as a run leaves it."""
    folder = tmp_path / "out"
    folder.mkdir()
    records = [record("a.pdf"), record("sub/b.pdf")]
    for item in records:
        path = folder / f"{item.document.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(item.to_json(), encoding="utf-8")
    lines = "".join(item.to_json(indent=None) + "\n" for item in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    failed = DocumentRow(name="sub/b.pdf", status="failed", problem="damaged")
    (folder / "run.json").write_text(summary(ONE, failed).model_dump_json(), encoding="utf-8")
    return folder


def test_status_repeats_the_runs_report_and_exit_code(finished: Path) -> None:
    """Who comes back in the morning sees what the night did."""
    result = call("status", str(finished))
    assert result.exit_code == 1
    assert "sub/b.pdf: damaged" in result.stdout
    assert json.loads(call("status", "--json").stdout)["failed"] == 1


def test_status_shows_the_books_of_a_run_that_was_killed(tmp_path: Path) -> None:
    """Without run.json the ledger still knows what may have been billed."""
    with Ledger(tmp_path / "out") as ledger:
        run = ledger.runs.start("receipts", "m", "e")
        ledger.attempts.start(run, Start("k", "a.pdf", "receipts", 1, False, Decimal("0.25")))
    result = call("status", "out")
    assert result.exit_code == 1
    assert "No run has ended in out" in result.stdout
    assert "$0.2500 of it is for 1 call that died" in result.stdout
    assert "1 call of these never ended" in result.stdout
    books = json.loads(call("status", "out", "--json").stdout)["ledger"]
    assert (books["unsettled_usd"], books["by_recipe"][0]["name"]) == ("0.25", "receipts")


def test_show_lists_records_and_shows_places(finished: Path) -> None:
    """Every value shows where it came from, without opening a JSON file."""
    assert "sub/b.pdf" in call("show", str(finished)).stdout
    shown = call("show", str(finished), "sub/b.pdf").stdout
    assert "ACME" in shown
    assert "page 1 exact" in shown
    assert "page 2 ungrounded" in shown
    assert json.loads(call("show", "out", "a.pdf", "--json").stdout)["data"]["shop"] == "ACME"
    assert len(json.loads(call("show", "out", "--json").stdout)) == 2


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("show", "out", "b.pdf"), "did you mean sub/b.pdf?"),
        (("show", "out", "../secret"), "no record of '../secret'"),
        (("status", "nowhere"), "no run has ended in nowhere"),
    ],
)
def test_show_and_status_say_what_is_missing(finished: Path, args: tuple[str, ...], told: str) -> None:
    """A name cannot climb out of the folder, and a slip names the near one."""
    (finished.parent / "secret.json").write_text(record("x").to_json(), encoding="utf-8")
    result = call(*args)
    assert result.exit_code == 2
    assert told in result.stderr


def test_whole_path_from_files_to_records_and_nothing_is_paid_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All commands over one real run: plan, run, run again, status, show; one bad file does not stop the others."""
    monkeypatch.setattr("ingest.engine.session.EmbeddedEngine", lambda: nullcontext(ScriptedModel()))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "good.txt").write_text("TITLE: T1\nROW first 1.5\n", encoding="utf-8")
    (inbox / "bad.pdf").write_bytes(b"%PDF-1.7 cut off")
    options = ("inbox", "--schema", "schema.json", "--local", "-o", "out")
    planned = json.loads(call("plan", *options, "--json").stdout)
    assert (planned["totals"]["requests"], planned["documents"][0]["name"]) == (1, "bad.pdf")
    assert not (tmp_path / "out" / "run.json").exists()
    first = call("run", *options, "--json")
    assert first.exit_code == 1, first.stderr
    assert json.loads(first.stdout)["requests_sent"] == 1
    assert json.loads((tmp_path / "out" / "good.txt.json").read_text(encoding="utf-8"))["data"]["title"] == "T1"
    again = json.loads(call("run", *options, "--json").stdout)
    assert (again["requests_sent"], again["totals"]["from_ledger"]) == (0, 1)
    assert json.loads(call("plan", *options, "--json").stdout)["totals"]["requests"] == 0
    assert "bad.pdf" in call("status", "out").stdout
    assert "T1" in call("show", "out", "good.txt").stdout


def test_recipes_are_listed_and_shown() -> None:
    """A name for --recipe can be found without reading the manual."""
    assert "receipts" in call("recipes").stdout
    assert call("recipes", "list").stdout == call("recipes").stdout
    assert "Instructions" in call("recipes", "show", "receipts").stdout
    assert json.loads(call("recipes", "show", "receipts", "--json").stdout)["name"] == "receipts"
    assert {row["name"] for row in json.loads(call("recipes", "list", "--json").stdout)} >= {"invoices", "receipts"}


def test_eval_scores_records_and_fails_below_a_minimum(finished: Path, tmp_path: Path) -> None:
    """An accuracy promise is kept by a number in a script."""
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "a.truth.json").write_text('{"shop": "Acme", "tax": 3}', encoding="utf-8")
    args = ("eval", str(finished), str(truth), "--ignore", "items")
    scores = json.loads(call(*args, "--json").stdout)
    assert (scores["overall"]["matched"], scores["overall"]["missing"]) == (1, 1)
    assert call(*args, "--min", "shop=1", "--min", "all=0.5").exit_code == 0
    short = call(*args, "--min", "tax=0.9")
    assert short.exit_code == 1
    assert "below the minimum: tax" in short.stdout
    assert call(*args, "--min", "tax").exit_code == 2


def test_doctor_names_the_key_and_never_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its output is pasted into bug reports."""

    async def fetch(endpoint: Endpoint, model: str) -> None:
        return None

    monkeypatch.setattr("ingest.asking.client.fetch_model_card", fetch)
    result = call("doctor", EMPIRIOLABS_API_KEY=KEY)
    assert "present in EMPIRIOLABS_API_KEY" in result.stdout
    assert KEY not in result.output
    assert "or run with --local" in call("doctor").stdout


DEARER = {"min_input_tokens": 0, "max_input_tokens": 224_000, "input_usd_per_million": 0.7, "output_usd_per_million": 4}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "prices and limits of seed-2-0-pro are those of the profile"),
        ({"pricing_rows": [DEARER]}, "costs $0.7 in and $4 out per million tokens; the profile says $0.63 and $3.79"),
        ({"max_output_tokens": 32_768}, "the output limit is 32,768 tokens; the profile says 65,536"),
        ({"supported_parameters": ["max_tokens"]}, "does not list image_detail, enable_thinking"),
        ({"input_modalities": ["text"]}, "and no images"),
        (None, "says nothing of seed-2-0-pro"),
    ],
)
def test_doctor_tells_where_the_endpoint_differs_from_the_profile(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any] | None, told: str
) -> None:
    """A price that moved makes every plan and every limit wrong."""
    app = create_app(models=["seed-2-0-pro"])
    card: dict[str, Any] = local_call(app, "GET", "/v1/models/seed-2-0-pro").json()

    async def fetch(endpoint: Endpoint, model: str) -> dict[str, Any] | None:
        assert endpoint.api_key is not None
        return None if changes is None else card | changes

    monkeypatch.setattr("ingest.asking.client.fetch_model_card", fetch)
    result = call("doctor", EMPIRIOLABS_API_KEY=KEY, COLUMNS="300")
    assert told in result.stdout
    assert KEY not in result.output


def test_doctor_without_a_key_or_an_answer_asks_nobody_and_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run where there is no network, too."""

    async def fail(endpoint: Endpoint, model: str) -> None:
        raise Disconnected("no answer from the endpoint")

    monkeypatch.setattr("ingest.asking.client.fetch_model_card", fail)
    assert "model card" not in call("doctor").stdout
    result = call("doctor", EMPIRIOLABS_API_KEY=KEY, COLUMNS="300")
    assert "no answer from the endpoint" in result.stdout
    assert "Traceback" not in result.output


def test_log_is_structured_and_masks_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a module logs by mistake, the key does not come out."""
    log = logging.getLogger("ingest.test")
    logs.configure("info", "text")
    logs.mask([KEY])
    log.info("call of %s", KEY, extra={"key": KEY, "attempt": 2})
    line = capsys.readouterr().err
    assert "info ingest.test call of *** key=*** attempt=2" in line
    logs.configure("info", "json")
    logs.mask([KEY])
    log.warning("slow", extra={"elapsed_s": 1.5})
    assert json.loads(capsys.readouterr().err)["elapsed_s"] == 1.5


@pytest.mark.parametrize("args", [["--help"], ["recipes", "show", "papers", "--json"]])
def test_a_reader_that_goes_away_is_no_error(args: list[str]) -> None:
    """`ingest … | head -1` ends quietly."""
    command = [sys.executable, "-m", "ingest", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_bug_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: Job
) -> None:
    """A crash must not be taken for `some records not complete`."""
    from ingest.cli import CRASHED, main

    job.error = ZeroDivisionError("oops")
    monkeypatch.setattr(sys, "argv", ["ingest", *RUN, "--local"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == CRASHED
    assert "ZeroDivisionError" in capsys.readouterr().err
