"""Digests written by a model: over the facts alone, within the price step, at the price that was stated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stamina

import ingest
from ingest.asking.client import Client
from ingest.local.accounting import Tokenizer
from pipelines.digest import DigestSettings, plan
from tests.digest_samples import Desk, record
from tests.scripted_model import Answer, ScriptedModel, completion

_FACT = re.compile(r"\[(F\d+)\] (\S+): (.*)")
_PRICE_STEP = 128_000


class Writer(ScriptedModel):
    """A model that writes statements over the facts it is sent; `write` gets them as (name, pointer, text)."""

    def __init__(self, write: Callable[[list[tuple[str, str, str]]], list[dict[str, Any]]]) -> None:
        super().__init__()
        self.write = write
        self.texts: list[str] = []

    def answer(self, body: dict[str, Any]) -> Answer:
        """Statements over the facts, billed by the length of what was sent."""
        self.bodies.append(body)
        sent = "\n".join(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")
        self.texts.append(sent)
        text = json.dumps({"statements": self.write(_FACT.findall(sent))})
        return completion(text, input_tokens=_tokens(json.dumps(body)), output_tokens=_tokens(text))


def _tokens(text: str) -> int:
    """As the service counts: by the independent counter of the local engine."""
    return Tokenizer().count(text)


def _statement(text: str, *facts: str, section: str = "New invoices") -> dict[str, Any]:
    return {"section": section, "text": text, "facts": list(facts)}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Desk, Writer]]]:
    """A desk whose digests a given model writes, without a network; retries do not wait."""
    stamina.set_testing(True, attempts=2)

    def make(write: Callable[[list[tuple[str, str, str]]], list[dict[str, Any]]]) -> tuple[Desk, Writer]:
        model = Writer(write)
        monkeypatch.setattr(
            "ingest.engine.session.Client",
            lambda endpoint, profile, asking, app=None, **more: Client(endpoint, profile, asking, model, **more),
        )
        return Desk(tmp_path / "out", local=False, api_key="test").install(monkeypatch), model

    yield make
    stamina.set_testing(False)


def test_the_model_sees_facts_and_only_supported_statements_reach_the_page(
    asked: Callable[..., tuple[Desk, Writer]],
) -> None:
    """What the model invents, or cites wrongly, is dropped and counted; the changes are listed whatever it says."""
    desk, model = asked(
        lambda facts: [
            _statement("The gross amount is 1,200.00.", "F2"),
            _statement("The gross amount is 1,300.00.", "F2"),
            _statement("The gross amount is 1,200.00.", "F77"),
            _statement("Something is new."),
        ]
    )
    desk.today = [record("a.pdf", {"invoice_number": "A-1", "gross_amount": 1200.0})]
    made = desk.made()
    assert made.digest is not None
    assert [(one.text, one.facts) for one in made.digest.statements] == [("The gross amount is 1,200.00.", ("F2",))]
    dropped = made.digest.dropped
    assert (dropped.unsupported, dropped.unknown, dropped.uncited) == (1, 1, 1)
    assert (made.digest.made_by, made.digest.asking.requests, len(model.texts)) == ("model", 1, 1)
    assert "== a.pdf: new" in model.texts[0]
    assert "[F2] /gross_amount: 1,200.00" in model.texts[0]
    assert [fact.id for fact in made.digest.documents[0].facts] == ["F1", "F2"]


def test_without_news_nobody_is_asked(asked: Callable[..., tuple[Desk, Writer]]) -> None:
    """A quiet day costs nothing, also where a window wants its page, and where all that happened is a removal."""
    desk, model = asked(lambda facts: [])
    desk.today = [record("a.pdf", {"t": 1})]
    desk.made()
    assert desk.made().digest is None
    assert desk.made(DigestSettings(slot="today")).digest is not None
    desk.removed = ["a.pdf"]
    assert desk.made().digest is not None
    assert len(model.bodies) == 1


def test_a_digest_killed_before_it_was_stored_is_not_paid_again(
    asked: Callable[..., tuple[Desk, Writer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer stands in the ledger: the next call makes the same digest of it."""
    desk, model = asked(lambda facts: [_statement("The amount is 5.00.", facts[0][0])])
    desk.today = [record("a.pdf", {"gross_amount": 5.0})]
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.digest.job._store", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.made()
    made = desk.made()
    assert made.digest is not None
    assert [one.text for one in made.digest.statements] == ["The amount is 5.00."]
    assert len(model.bodies) == 1


def test_a_limit_below_the_price_leaves_the_change_list_and_says_so(
    asked: Callable[..., tuple[Desk, Writer]],
) -> None:
    """Own budget: nothing is sent that could pass it, and the digest is made by rules, with a note."""
    desk, model = asked(lambda facts: [])
    desk.today = [record("a.pdf", {"gross_amount": 5.0})]
    made = desk.made(DigestSettings(max_cost_usd=Decimal("0.000001")))
    assert made.digest is not None
    assert model.bodies == []
    assert made.digest.made_by == "rules"
    assert made.digest.documents[0].facts
    assert "not whole" in made.digest.notices[0]


def test_what_reading_left_of_the_limit_is_for_writing(asked: Callable[..., tuple[Desk, Writer]]) -> None:
    """--max-cost holds for the whole command when the writing has no limit of its own."""
    desk, model = asked(lambda facts: [])
    desk.config = desk.config.model_copy(update={"budget": ingest.BudgetSettings(max_cost_usd=Decimal("0.000001"))})
    desk.today = [record("a.pdf", {"gross_amount": 5.0})]
    made = desk.made()
    assert model.bodies == []
    assert not made.is_fine
    assert "not whole" in made.notices[0]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("records", "target_tokens"), [(80, 9_000), pytest.param(2_000, None, marks=pytest.mark.long)])
def test_many_records_stay_under_the_price_step_at_the_stated_price(
    asked: Callable[..., tuple[Desk, Writer]], monkeypatch: pytest.MonkeyPatch, records: int, target_tokens: int | None
) -> None:
    """Many facts are told in parts and the parts joined: each request at the cheap price, none dearer than planned."""
    desk, model = asked(
        lambda facts: (
            [_statement(f"{pointer} is {text}", name) for name, pointer, text in facts[:30]]
            or [_statement("The invoice number is INV-7.", "F22")]
        )
    )
    desk.today = [
        record(
            f"2026/invoice-{n:04}.pdf",
            {
                "invoice_number": f"INV-{n}",
                "gross_amount": 100.0 + n,
                "line_items": [{"description": "Maintenance of the heating", "amount": 50.0 + n} for _ in range(4)],
            },
        )
        for n in range(records)
    ]
    desk.run_to_folder([])
    planning = ingest.PlanningSettings(target_tokens=target_tokens)
    desk.config = desk.config.model_copy(update={"planning": planning})
    monkeypatch.setattr(ingest, "plan", _plan_of_nothing_to_read(ingest.plan))
    planned = plan(["/elsewhere"], desk.config)
    assert planned.facts == 6 * records
    made = desk.made()
    assert made.digest is not None
    asking = made.digest.asking
    assert sum(len(one.facts) for one in made.digest.documents) == 6 * records
    assert asking.requests > 2
    assert all(_tokens(json.dumps(body)) < (target_tokens or _PRICE_STEP) for body in model.bodies)
    assert planned.writing.dear_requests == 0
    assert planned.writing.requests >= asking.requests
    assert asking.cost_usd is not None
    assert planned.writing.cost_usd_ceiling is not None
    assert Decimal(0) < asking.cost_usd <= planned.writing.cost_usd_ceiling
    # The last request is about the statements of the others.
    assert "New invoices: /" in model.texts[-1]
    assert made.digest.statements


def _plan_of_nothing_to_read(plan_of: Callable[..., ingest.Plan]) -> Callable[..., ingest.Plan]:
    """Documents of the desk are no files: reading them is planned as nothing."""

    def planned(paths: Any, config: ingest.Config, observer: Any = None) -> ingest.Plan:
        if "/elsewhere" in paths:
            raise ingest.NothingFound("nothing")
        return plan_of(paths, config, observer)

    return planned
