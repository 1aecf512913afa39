"""The rule `synthesize` through the whole path: asked once, paid once, labelled, and never in the way of a record."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.config import Config
from ingest.engine import session
from tests.scripted_model import SCHEMA, Answer, ScriptedModel, completion, failure
from tests.test_engine import run, write_pdf


def make_config(output: Path) -> Config:
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["title"]["x-merge"] = "synthesize"
    return ingest.configure(schema=schema, local=True, output=output, settings={"planning": {"target_tokens": 1_000}})


def play(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> ScriptedModel:
    """A model that titles pages as told, and gives `answer` to the question about titles."""
    import stamina

    def script(pages: list[int], number: int) -> Answer | None:
        if not pages:
            return answer
        title = {"_page": pages[0], "value": f"Pages from {pages[0]}"}
        return completion(json.dumps({"title": title, "rows": []}))

    stamina.set_testing(True, attempts=3)
    model = ScriptedModel(script)
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(model))
    return model


def read(tmp_path: Path, model: ScriptedModel) -> tuple[Any, int]:
    """The record of one document of several chunks, and how many questions were put about titles."""
    file = tmp_path / "in" / "a.pdf"
    if not file.exists():
        write_pdf(file, pages=4, rows=12)
    (record,), _ = run([file], make_config(tmp_path / "out"))
    return record, sum(not pages for pages in model.calls)


def test_values_are_made_one_by_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model sees what the chunks said and no page; the record shows the made value as such, and its price."""
    model = play(monkeypatch, completion(json.dumps({"field_1": "All pages"})))
    record, asked = read(tmp_path, model)
    assert asked == 1
    assert (record.data["title"], record.status) == ("All pages", "complete")
    (conflict,) = record.conflicts
    assert (conflict.rule, conflict.chosen) == ("synthesize", "All pages")
    assert record.usage.requests == len(model.calls) == len(record.keys)
    (body,) = [body for body, pages in zip(model.bodies, model.calls, strict=True) if not pages]
    assert "Pages from 1" in json.dumps(body)
    assert "page1row0" not in json.dumps(body)
    again, asked = read(tmp_path, model)
    assert asked == 1, "what was answered is not asked again"
    assert again == record


@pytest.mark.parametrize("answer", [failure(400, "InvalidParameter"), completion("no JSON at all")])
def test_without_an_answer_the_longest_value_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """A question that fails must not cost the record."""
    record, asked = read(tmp_path, play(monkeypatch, answer))
    assert asked >= 1
    assert record.data["title"].startswith("Pages from ")
    assert [problem.code for problem in record.problems] == ["not_synthesized"]
    assert record.status == "complete"


def test_plan_counts_the_question(tmp_path: Path) -> None:
    """The bill is known before it is sent, and the question is on it."""
    file = write_pdf(tmp_path / "in" / "a.pdf", pages=4, rows=12)
    plan = ingest.plan([file], make_config(tmp_path / "out"))
    (row,) = plan.documents
    assert row.requests == row.chunks + 1 > 2
