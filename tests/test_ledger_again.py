"""What a later run asks again, and that the plan says so beforehand: after a change, with `--retry`, with `--fresh`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.config import Config
from ingest.engine import session
from ingest.errors import AuthRejected
from ingest.keeping.ledger import Ledger
from ingest.reading.workers import Workers
from ingest.record import Plan, Record, RunSummary
from tests.money import PAGE_BREAK, TextWorkers
from tests.reading_samples import make_image, make_pdf
from tests.scripted_model import SCHEMA, ScriptedModel, completion, failure

OFF_SCHEMA = completion('{"title": 7, "rows": "none"}')
REFUSED = completion("", "content_filter")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """A model at a price, in this process; retries do not wait, and files are read without workers."""
    import stamina

    stamina.set_testing(True, attempts=2)
    scripted = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    monkeypatch.setattr(session, "Workers", TextWorkers)
    return scripted


def write(folder: Path, name: str, pages: int = 2) -> Path:
    """A document with a row on each page."""
    folder.mkdir(exist_ok=True)
    texts = [f"TITLE: {name}\nROW {name}-{number} {number}\n{'plain words ' * 40}" for number in range(1, pages + 1)]
    (folder / f"{name}.txt").write_text(PAGE_BREAK.join(texts), encoding="utf-8")
    return folder / f"{name}.txt"


def config_for(tmp_path: Path, schema: Any = SCHEMA, instructions: str = "", **settings: dict[str, Any]) -> Config:
    """Settings of a run into `out`."""
    return ingest.configure(
        schema=schema, instructions=instructions, local=True, output=tmp_path / "out", settings=settings
    )


class Job:
    """Runs over a folder, each told of by its plan beforehand."""

    def __init__(self, model: ScriptedModel, tmp_path: Path) -> None:
        self.model, self.folder, self.out = model, tmp_path / "in", tmp_path / "out"

    def plan(self, config: Config) -> Plan:
        """What a run would send."""
        return ingest.plan([self.folder], config)

    def run(self, config: Config) -> tuple[list[list[int]], RunSummary]:
        """The calls of a run, as the pages each asked for; as many as its plan had said."""
        planned, before = self.plan(config), len(self.model.calls)
        summary = ingest.run_to_folder([self.folder], config)
        calls = self.model.calls[before:]
        assert planned.totals.requests == len(calls)
        return calls, summary

    def record(self, name: str) -> Record[dict[str, Any]]:
        """A record as it stands in the output folder."""
        return Record[dict[str, Any]].model_validate_json((self.out / f"{name}.txt.json").read_text())

    def rows(self, name: str) -> list[str]:
        """The rows of a record."""
        return [row["name"] for row in self.record(name).data["rows"]]


@pytest.fixture
def job(model: ScriptedModel, tmp_path: Path) -> Job:
    """Three documents of two pages."""
    for name in ("a", "b", "c"):
        write(tmp_path / "in", name)
    return Job(model, tmp_path)


def _wider(schema: dict[str, Any]) -> dict[str, Any]:
    changed = json.loads(json.dumps(schema))
    changed["properties"]["title"]["description"] = "As printed"
    return dict(changed)


@pytest.mark.parametrize(
    "change",
    [
        {"instructions": "Only what is printed in bold."},
        {"schema": _wider(SCHEMA)},
        {"asking": {"frequency_penalty": 0.5}},
        {"asking": {"max_tokens": 2_000}},
        {"asking": {"evidence": "quote"}},
    ],
    ids=["prompt", "schema", "parameter", "output limit", "evidence"],
)
def test_a_changed_question_is_asked_again(job: Job, tmp_path: Path, change: dict[str, Any]) -> None:
    """An answer to another question must never stand for this one; going back costs nothing."""
    first = config_for(tmp_path)
    assert len(job.run(first)[0]) == 3
    assert len(job.run(config_for(tmp_path, **change))[0]) == 3
    assert job.run(first)[0] == []
    assert job.plan(first).totals.answered == 3


def test_a_changed_page_policy_asks_again_only_about_pages_that_look_otherwise(
    tmp_path: Path, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is no part of a key, what it makes of each page is; a recipe may fix it as well as an option."""
    monkeypatch.setattr(session, "Workers", Workers)
    folder = tmp_path / "in"
    folder.mkdir()
    lines = "TITLE: T\nROW pear 1\n" + "words that make a text layer\n" * 8
    (folder / "plain.pdf").write_bytes(make_pdf(lines))
    (folder / "picture.png").write_bytes(make_image("PNG"))
    job = Job(model, tmp_path)

    def touched(config: Config) -> set[str]:
        return {row.name for row in job.plan(config).documents if row.requests}

    def policy(pages: str) -> Config:
        return config_for(tmp_path, reading={"pages": pages, "workers": 1})

    ingest.run_to_folder([folder], policy("auto"))
    assert touched(policy("text")) == set()
    assert len(job.run(policy("image"))[0]) == 1  # as planned
    assert touched(policy("auto")) == set()
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "schema.json").write_text(json.dumps(SCHEMA))
    (recipe / "recipe.toml").write_text('name = "schema"\n[reading]\npages = "both"\nworkers = 1\n')
    fixed = ingest.configure(recipe=str(recipe), local=True, output=tmp_path / "out")
    assert touched(fixed) == {"plain.pdf"}


def test_another_model_or_endpoint_is_asked_again(job: Job, tmp_path: Path) -> None:
    """Answers of a cheap model must not be taken for those of a better one."""
    config = config_for(tmp_path)
    job.run(config)
    other = config.profile.model_copy(update={"model": "another"})
    assert job.plan(config.model_copy(update={"profile": other})).totals.requests == 3
    elsewhere = config.endpoint.model_copy(update={"local": False, "base_url": "http://127.0.0.1:1/v1"})
    assert job.plan(config.model_copy(update={"endpoint": elsewhere})).totals.requests == 3
    assert job.plan(config).totals.requests == 0


def test_only_a_changed_file_is_asked_again_and_a_moved_one_is_not(job: Job, tmp_path: Path) -> None:
    """Names and places are no content."""
    config = config_for(tmp_path)
    job.run(config)
    write(job.folder, "b", pages=3)
    (job.folder / "deep").mkdir()
    (job.folder / "c.txt").rename(job.folder / "deep" / "renamed.txt")
    planned = {row.name: (row.requests, row.answered) for row in job.plan(config).documents}
    assert planned == {"a.txt": (0, 1), "b.txt": (1, 0), "deep/renamed.txt": (0, 1)}
    assert job.run(config)[0] == [[1, 2, 3]]


def test_fresh_asks_everything_again_and_keeps_the_books(job: Job, tmp_path: Path) -> None:
    """A model that was changed behind its name is asked anew; what was spent stays spent."""
    config = config_for(tmp_path)
    job.run(config)
    job.model.script = lambda pages, number: completion('{"title": {"value": "new", "_page": 1}, "rows": []}')
    calls, summary = job.run(config_for(tmp_path, keeping={"fresh": True}))
    assert (len(calls), summary.totals.from_ledger) == (3, 0)
    assert {job.record(name).data["title"] for name in "abc"} == {"new"}
    calls, summary = job.run(config)
    assert (calls, summary.totals.from_ledger) == ([], 3)
    assert {job.record(name).data["title"] for name in "abc"} == {"new"}
    with Ledger(job.out) as ledger:
        assert len(ledger.attempts.postings()) == 6


def test_a_fresh_run_that_stops_loses_nothing(job: Job, tmp_path: Path) -> None:
    """What it did not come to is still answered."""
    config = config_for(tmp_path)
    job.run(config)
    job.model.script = lambda pages, number: failure(401, "InvalidApiKey", "no")
    with pytest.raises(AuthRejected):
        ingest.run_to_folder([job.folder], config_for(tmp_path, keeping={"fresh": True}))
    assert job.run(config)[0] == []


def _spoil(job: Job, answers: dict[str, Any]) -> None:
    """Let the model answer about documents, by a word of their text, as told."""
    bodies = job.model.bodies

    def script(pages: list[int], number: int) -> Any:
        words = json.dumps(bodies[-1])
        return next((answer for name, answer in answers.items() if f"TITLE: {name}" in words), None)

    job.model.script = script


def test_retry_asks_again_only_what_left_a_hole(job: Job, tmp_path: Path) -> None:
    """A plain rerun must not pay for the same bad answer; one that is told to gets another, and only that."""
    config = config_for(tmp_path)
    _spoil(job, {"b": OFF_SCHEMA})
    ingest.run_to_folder([job.folder], config)
    assert (job.record("a").status, job.record("b").status) == ("complete", "failed")
    assert job.run(config)[0] == []
    _spoil(job, {})
    retry = config_for(tmp_path, keeping={"retry": ["failed"]})
    assert [row.name for row in job.plan(retry).documents] == ["b.txt"]
    calls, summary = job.run(retry)
    assert calls == [[1, 2]]
    assert [(row.name, row.status) for row in summary.documents] == [("b.txt", "complete")]
    assert len((job.out / "records.jsonl").read_text().splitlines()) == 3
    assert (job.rows("b"), job.record("b").usage.requests) == (["b-1", "b-2"], 1)
    assert job.run(config)[0] == []
    assert job.rows("b") == ["b-1", "b-2"]
    assert job.run(retry)[0] == []


def test_retry_keeps_the_good_halves_of_what_was_refused(job: Job, tmp_path: Path) -> None:
    """The page to blame is asked for again; its neighbours were paid for."""
    config = config_for(tmp_path)
    job.model.script = lambda pages, number: REFUSED if 2 in pages else None
    ingest.run_to_folder([job.folder / "a.txt"], config)
    assert job.record("a").coverage.refused == 1
    job.model.script = lambda pages, number: None
    assert job.run(config_for(tmp_path, keeping={"retry": ["failed"]}))[0] == []
    calls, _ = job.run(config_for(tmp_path, keeping={"retry": ["refused"]}))
    assert calls == [[2]]
    assert (job.record("a").status, job.rows("a")) == ("complete", ["a-1", "a-2"])


def test_a_retry_that_fails_again_is_paid_once(job: Job, tmp_path: Path) -> None:
    """Asking again is one try, not a loop; the next run stands on its answer."""
    _spoil(job, {"c": REFUSED})
    config = config_for(tmp_path)
    ingest.run_to_folder([job.folder], config)
    before = (job.out / "c.txt.json").read_text()
    calls, _ = job.run(config_for(tmp_path, keeping={"retry": ["refused", "partial"]}))
    assert calls == [[1], [2]]
    assert (job.out / "c.txt.json").read_text() == before
    assert job.run(config)[0] == []


def test_answers_are_priced_once(job: Job, tmp_path: Path) -> None:
    """What a plan says of a job half done is the price of the other half."""
    ingest.run_to_folder([job.folder / "a.txt"], config_for(tmp_path))
    planned = job.plan(config_for(tmp_path))
    assert (planned.totals.chunks, planned.totals.answered, planned.totals.requests) == (3, 1, 2)
    assert planned.documents[0].cost_usd_expected == Decimal(0)
