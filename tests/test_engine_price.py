"""Price through the whole path, with a scripted model in the model's place: plans, limits, calibration, the books."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.config import Config
from ingest.engine import session
from ingest.engine.accounts import spending_of
from ingest.errors import ConfigError
from ingest.keeping.ledger import Ledger
from ingest.profile import Profile, Tier, load_profile
from ingest.record import Record, RunSummary
from ingest.types import Event
from tests.conftest import ROOT
from tests.money import PAGE_BREAK, TextWorkers
from tests.scripted_model import SCHEMA, ScriptedModel, completion, failure, truth

SMALL = {"planning": {"target_tokens": 1_000}, "asking": {"max_tokens": 1_000}}
CALL = Decimal("0.00379")  # a thousand output tokens: most of what a small call can cost


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """The model in the embedded engine's place; retries do not wait."""
    import stamina

    stamina.set_testing(True, attempts=3)
    scripted = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    monkeypatch.setattr(session, "Workers", TextWorkers)
    return scripted


def write_text(path: Path, pages: int, title: str = "T1") -> Path:
    """A text with a title on page 1 and two rows a page."""
    texts = [f"TITLE: {title}\n"] + [""] * (pages - 1)
    for number in range(pages):
        texts[number] += f"ROW page{number + 1}row0 {number}\nROW page{number + 1}row1 {number}\n" + "plain words " * 90
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE_BREAK.join(texts), encoding="utf-8")
    return path


def paid(*tiers: tuple[int, str, str]) -> Profile:
    """The local profile with prices: Seed's own unless others are given."""
    prices = tuple(
        Tier(max_input_tokens=end, input_usd_per_million=Decimal(first), output_usd_per_million=Decimal(second))
        for end, first, second in tiers
    )
    return load_profile("local").model_copy(update={"tiers": prices or load_profile("seed-2-0-pro").tiers})


def make_config(output: Path, profile: Profile | None = None, **settings: Any) -> Config:
    """Settings for the scripted model at a price."""
    config = ingest.configure(schema=SCHEMA, local=True, output=output, settings=SMALL)
    config = config.model_copy(update={"profile": profile or paid()})
    budget = config.budget.model_copy(update={name: Decimal(value) for name, value in settings.items()})
    return config.model_copy(update={"budget": budget})


def run(paths: list[Path], config: Config) -> tuple[list[Record[Any]], RunSummary]:
    """All records and the summary."""
    assert config.output is not None
    summary = ingest.run_to_folder(paths, config)
    lines = (config.output / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [Record[dict[str, Any]].model_validate_json(line) for line in lines], summary


def test_a_run_stops_at_its_limit_and_goes_on_from_there(tmp_path: Path, model: ScriptedModel) -> None:
    """What was bought stays bought; what is left is named with its price, and nothing is asked twice."""
    path = write_text(tmp_path / "in" / "a.txt", 9)
    other = write_text(tmp_path / "in" / "b.txt", 1, title="b")
    model.script = lambda pages, number: completion(json.dumps(truth([])), "stop", 1_000, 900)
    config = make_config(tmp_path / "out", max_cost_usd="0.02").model_copy(update={"jobs": 1})
    records, summary = run([path, other], config)
    first = [call[:] for call in model.calls]
    assert 1 <= len(first) < 10
    assert summary.spent_usd is not None
    assert summary.spent_usd <= Decimal("0.02")
    assert records[0].status == "partial"
    assert {part.status for part in records[0].coverage.parts} == {"answered", "skipped"}
    assert records[1].status == "skipped"
    assert [problem.code for problem in records[0].problems].count("budget") == 1
    rest = summary.remaining
    assert rest is not None
    assert (rest.documents, rest.parts) == (2, records[0].coverage.skipped + 1)
    assert rest.cost_usd_ceiling is not None
    assert rest.cost_usd_ceiling > (rest.cost_usd_expected or 0) > 0
    assert "--max-cost" in rest.reason
    model.calls.clear()
    records, summary = run([path, other], make_config(tmp_path / "out", max_cost_usd="1"))
    assert [record.status for record in records] == ["complete", "complete"]
    assert summary.remaining is None
    assert not [call for call in model.calls if call in first and call != [1]]


def test_a_limit_below_the_price_of_one_call_sends_nothing(tmp_path: Path, model: ScriptedModel) -> None:
    """Then the way out is a shorter answer, and the message says so."""
    path = write_text(tmp_path / "in" / "a.txt", 1)
    (record,), summary = run([path], make_config(tmp_path / "out", max_cost_usd="0.003"))
    assert model.calls == []
    assert (summary.spent_usd, record.status) == (0, "skipped")
    assert summary.remaining is not None
    assert "lower --max-tokens" in summary.remaining.reason


def test_a_document_stops_at_its_own_limit(tmp_path: Path, model: ScriptedModel) -> None:
    """One huge file must not eat the money of the others."""
    long = write_text(tmp_path / "in" / "a.txt", 9)
    short = write_text(tmp_path / "in" / "b.txt", 1, title="b")
    model.script = lambda pages, number: completion(json.dumps(truth([])), "stop", 1_000, 900)
    records, summary = run([long, short], make_config(tmp_path / "out", max_cost_per_document_usd="0.015"))
    assert [record.status for record in records] == ["partial", "complete"]
    assert all((row.cost_usd or 0) <= Decimal("0.015") for row in summary.spending.by_document)


def test_every_try_counts_towards_the_limit(tmp_path: Path, model: ScriptedModel) -> None:
    """A failed call may have been computed: six tries of one call can cost six times."""
    path = write_text(tmp_path / "in" / "a.txt", 1)
    model.script = lambda pages, number: failure(500, "InternalServiceError")
    _, summary = run([path], make_config(tmp_path / "out", max_cost_usd="0.03"))
    spending = summary.spending
    assert (spending.calls, spending.unconfirmed_calls, spending.retries) == (3, 3, 2)
    assert spending.confirmed_usd == 0
    assert spending.unconfirmed_usd is not None
    assert 3 * CALL < spending.unconfirmed_usd <= Decimal("0.03")
    model.script = lambda pages, number: failure(429, "rate_limit_exceeded")
    _, summary = run([path], make_config(tmp_path / "out2", max_cost_usd="0.01"))
    assert (summary.spending.calls, summary.spent_usd) == (3, 0)


def test_the_price_is_told_before_the_first_call_and_compared_after(tmp_path: Path, model: ScriptedModel) -> None:
    """Each file is probed once all the same."""
    for number in range(5):
        write_text(tmp_path / "in" / f"{number}.txt", 2, title=f"t{number}")
    seen: list[Event] = []
    config = make_config(tmp_path / "out")
    summary = ingest.run_to_folder([tmp_path / "in"], config, seen.append)
    kinds = [event.kind for event in seen]
    assert kinds.index("run_planned") < kinds.index("request_started")
    told = next(event for event in seen if event.kind == "run_planned")
    assert summary.planned is not None
    assert (told.requests, told.expected_usd) == (summary.planned.requests, summary.planned.cost_usd_expected)
    assert summary.planned.requests == len(model.calls)
    planned = ingest.plan([tmp_path / "in"], config.model_copy(update={"output": tmp_path / "none"}))
    assert planned.totals.cost_usd_ceiling == summary.planned.cost_usd_ceiling
    written = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert written["planned"]["cost_usd_expected"] == str(summary.planned.cost_usd_expected)
    assert written["spending"]["total_usd"] == str(summary.spent_usd)


def test_what_was_asked_is_never_cut_otherwise(tmp_path: Path, model: ScriptedModel) -> None:
    """Counts learned in one run would cut a document elsewhere in the next, and all of it would be bought again."""
    path = write_text(tmp_path / "in" / "a.txt", 9)
    config = make_config(tmp_path / "out")
    config = config.model_copy(update={"planning": config.planning.model_copy(update={"target_tokens": 1_700})})
    model.script = lambda pages, number: failure(500, "InternalServiceError") if 9 in pages else None
    run([path], config)
    model.script = lambda pages, number: None
    model.calls.clear()
    (record,), _ = run([path], config)
    assert record.status == "complete"
    assert len(model.calls) == 1
    with sqlite3.connect(tmp_path / "out" / ".ingest" / "ledger.sqlite") as ledger:
        ledger.execute("DELETE FROM partitions")
    ledger.close()
    model.calls.clear()
    run([path], config)
    assert model.calls  # the scripted model counts a hundred tokens a request: another cut


def test_a_chunk_that_grew_too_large_is_cut_before_it_is_sent(tmp_path: Path, model: ScriptedModel) -> None:
    """Replies that show a dearer count keep the later requests below the price step; a rerun finds the same pieces."""
    path = write_text(tmp_path / "in" / "a.txt", 40)
    profile = paid((4_000, "0.63", "3.79"), (224_000, "1.26", "7.58"))

    def dear(pages: list[int], number: int) -> Any:
        _, body = completion(json.dumps(truth([(page, f"ROW p{page} {page}") for page in pages])))
        # The preamble and each page count half as much again as the profile says.
        body["usage"]["prompt_tokens"] = round(1.6 * (1_700 + 330 * len(pages)))
        return 200, body

    model.script = dear
    config = make_config(tmp_path / "out", profile)
    planning = config.planning.model_copy(update={"target_tokens": 3_600})
    config = config.model_copy(update={"planning": planning, "jobs": 1})
    (record,), summary = run([path], config)
    assert record.status == "complete"
    sizes = [len(call) for call in model.calls]
    assert sizes[0] > sizes[-1]
    assert sorted(page for call in model.calls for page in call) == list(range(1, 41))
    chunks = [part.chunk for part in record.coverage.parts]
    assert chunks == sorted(chunks)  # type: ignore[type-var]
    before = (tmp_path / "out" / "a.txt.json").read_bytes()
    _, again = run([path], config)
    assert again.requests_sent == 0
    assert (tmp_path / "out" / "a.txt.json").read_bytes() == before
    assert summary.requests_sent == len(model.calls)


_KILLED = """
import os, stamina
from contextlib import nullcontext
from pathlib import Path
from ingest.engine import session
from tests.money import TextWorkers
from tests.scripted_model import ScriptedModel
from tests.test_engine_price import make_config
import ingest

def script(pages, number):
    if number == 3:
        os._exit(9)

stamina.set_testing(True, attempts=3)
session.EmbeddedEngine = lambda: nullcontext(ScriptedModel(script))
session.Workers = TextWorkers
ingest.run_to_folder([Path({folder!r})], make_config(Path({output!r})).model_copy(update={{"jobs": 1}}))
"""


def test_a_killed_run_leaves_the_worst_case_on_the_books(tmp_path: Path, model: ScriptedModel) -> None:
    """What was under way may have been billed; the next run says so, and buys nothing again that came back."""
    write_text(tmp_path / "in" / "a.txt", 9)
    program = _KILLED.format(folder=str(tmp_path / "in"), output=str(tmp_path / "out"))
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 9
    with Ledger(tmp_path / "out") as ledger:
        books = spending_of(ledger.attempts.postings())
    assert books.unsettled_calls >= 1
    assert books.unsettled_usd is not None
    assert books.unsettled_usd >= CALL
    bought = books.calls - books.unsettled_calls
    _, summary = run([tmp_path / "in"], make_config(tmp_path / "out"))
    assert (summary.earlier_unsettled_calls, summary.earlier_unsettled_usd) == (
        books.unsettled_calls,
        books.unsettled_usd,
    )
    assert summary.complete == 1
    assert summary.totals.from_ledger == bought


def test_other_settings_are_priced_beside_the_present_ones(tmp_path: Path, model: ScriptedModel) -> None:
    """Whether thinking or quotes are worth their money is decided before they are bought."""
    write_text(tmp_path / "in" / "a.txt", 3)
    planned = ingest.plan([tmp_path / "in"], make_config(tmp_path / "out"))
    choices = {choice.name: choice for choice in planned.choices}
    assert {"--pages image", "--pages both", "--thinking", "--evidence none", "--evidence quote"} <= choices.keys()
    assert "--pages text" not in choices  # that is how these pages are sent as they are
    assert (choices["--pages image"].difference_usd or 0) > 0
    assert (choices["--evidence none"].difference_usd or 0) < 0 < (choices["--evidence quote"].difference_usd or 0)
    thinking = choices["--thinking"]
    assert (thinking.cost_usd_ceiling or 0) > (planned.totals.cost_usd_ceiling or 0)
    assert model.calls == []


def test_a_price_that_is_not_known_is_an_error_in_a_plan_and_none_in_a_run(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """Unknown is not free."""
    path = write_text(tmp_path / "in" / "a.txt", 1)
    config = make_config(tmp_path / "out", paid().model_copy(update={"tiers": ()}))
    with pytest.raises(ConfigError, match="no price"):
        ingest.plan([path], config)
    (record,), summary = run([path], config)
    assert record.usage.cost_usd is None
    assert summary.spent_usd is None
    assert summary.planned is not None
    assert summary.planned.cost_usd_expected is None


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "much"])
def test_a_limit_that_is_no_amount_is_refused(amount: str) -> None:
    """A typing error must not become no limit."""
    with pytest.raises(ConfigError, match="max_cost_usd"):
        ingest.configure(schema=SCHEMA, local=True, max_cost=amount)


def _unlimited(config: Config) -> Config:
    """The settings without a limit on the length of answers of one's own."""
    return config.model_copy(update={"asking": config.asking.model_copy(update={"max_tokens": None})})


def test_an_answer_that_meets_the_first_limit_is_asked_for_at_the_full_one(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """A low limit keeps lost calls cheap, and must never cost an answer its end; neither is bought twice."""
    path = write_text(tmp_path / "in" / "a.txt", 3)

    def answer(pages: list[int], number: int) -> Any:
        if model.bodies[-1]["max_tokens"] < 32_768:
            return completion('{"title": null, "ro', "length", 2_000, model.bodies[-1]["max_tokens"])
        return None

    model.script = answer
    config = _unlimited(make_config(tmp_path / "out"))
    config = config.model_copy(update={"planning": config.planning.model_copy(update={"target_tokens": None})})
    (record,), summary = run([path], config)
    assert record.status == "complete"
    assert [body["max_tokens"] for body in model.bodies] == [4_096, 32_768]
    assert (summary.spending.cut_off, summary.spending.retries) == (1, 1)
    assert record.usage.cost_usd == summary.spent_usd
    before = (tmp_path / "out" / "a.txt.json").read_bytes()
    _, again = run([path], config)
    assert again.requests_sent == 0
    assert (tmp_path / "out" / "a.txt.json").read_bytes() == before
    assert ingest.plan([path], config).totals.requests == 0


def test_a_first_answer_that_was_cut_off_is_not_bought_again_for_lack_of_money(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """The full limit may not be affordable today; tomorrow only that is paid."""
    path = write_text(tmp_path / "in" / "a.txt", 1)
    model.script = lambda pages, number: (
        completion('{"title": nu', "length", 1_000, 4_096) if model.bodies[-1]["max_tokens"] == 4_096 else None
    )
    config = _unlimited(make_config(tmp_path / "out", max_cost_usd="0.05"))
    (record,), summary = run([path], config)
    assert (record.status, len(model.calls)) == ("skipped", 1)
    assert summary.remaining is not None
    (record,), summary = run([path], _unlimited(make_config(tmp_path / "out")))
    assert record.status == "complete"
    assert [body["max_tokens"] for body in model.bodies] == [4_096, 32_768]


def test_an_answer_cut_off_below_every_limit_of_ours_is_not_asked_for_at_a_higher_one(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """Then a gateway cuts, and a higher limit changes nothing."""
    path = write_text(tmp_path / "in" / "a.txt", 1)
    model.script = lambda pages, number: completion('{"title": nu', "length", 1_000, 1_024)
    run([path], _unlimited(make_config(tmp_path / "out")))
    assert {body["max_tokens"] for body in model.bodies} == {4_096}


def test_lost_calls_leave_a_small_limit_room(tmp_path: Path, model: ScriptedModel) -> None:
    """Booked at 32,768 tokens each, one lost call would end this run."""
    path = write_text(tmp_path / "in" / "a.txt", 6)
    model.script = lambda pages, number: failure(500, "InternalServiceError") if number % 3 == 0 else None
    (record,), summary = run([path], _unlimited(make_config(tmp_path / "out", max_cost_usd="0.15")))
    assert record.status == "complete"
    assert summary.spending.unconfirmed_calls > 0
