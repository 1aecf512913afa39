"""The second look: gaps filled with evidence, nothing overwritten, money in its own line and share."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.engine import session
from ingest.merging.merge import merge
from ingest.merging.review import apply_review
from ingest.types import Chunk, Cite, Part, Partial
from tests.scripted_model import SCHEMA, ScriptedModel, completion
from tests.test_engine import write_pdf

PARTS = tuple(Part(index, "page", "text") for index in range(2))


def partial(data: Any, pages: dict[str, int]) -> Partial:
    """What one chunk of two pages says."""
    return Partial(Chunk(0, PARTS), data, {pointer: Cite(page) for pointer, page in pages.items()})


def test_a_second_look_fills_gaps_and_disputes_but_overwrites_nothing() -> None:
    """A second opinion is not a better one: what differs is shown, what was missing comes with its own evidence."""
    rows = [{"name": "a", "amount": 1}, {"name": "c", "amount": 3}, {"name": "c", "amount": 3}]
    first = partial({"title": None, "rows": rows}, {"/rows/0": 1, "/rows/1": 2, "/rows/2": 2})
    merged = merge([first], SCHEMA)
    found = [{"name": "b", "amount": 2}, {"name": "a", "amount": 7}, {"name": "c", "amount": 3}]
    second = partial({"title": "T", "rows": found}, {"/title": 1, "/rows/0": 1, "/rows/1": 1, "/rows/2": 2})
    reviewed = apply_review(merged, first, second)
    assert reviewed.data["title"] == "T"
    assert [(row["name"], row["amount"]) for row in reviewed.data["rows"]] == [("a", 1), ("b", 2), ("c", 3), ("c", 3)]
    assert reviewed.origins["/title"][0].cite == Cite(1)
    assert reviewed.origins["/rows/1/name"][0].cite == Cite(1)
    assert reviewed.origins["/rows/2/name"] == merged.origins["/rows/1/name"]
    (conflict,) = reviewed.conflicts
    assert (conflict.pointer, conflict.chosen, [side.value for side in conflict.sides]) == ("/rows/0/amount", 1, [1, 7])
    assert merged.data["title"] is None, "the merged data itself is not touched"


def test_an_empty_second_look_changes_nothing() -> None:
    """Null and no entries say: all of it is right."""
    first = partial({"title": "T", "rows": [{"name": "a", "amount": 1}]}, {"/title": 1, "/rows/0": 1})
    merged = merge([first], SCHEMA)
    assert apply_review(merged, first, partial({"title": None, "rows": []}, {})) == merged
    assert apply_review(merged, first, first) == merged


def test_a_run_with_second_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned, asked, on the books in a line of its own, and not bought twice."""
    model = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(model))
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    row = {"_page": 1, "name": "page1row0", "amount": 100.0}
    model.script = lambda pages, number: completion(json.dumps({"title": None, "rows": [row]})) if number == 1 else None
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out", settings={"asking": {"verify": True}})
    assert ingest.plan([path], config).totals.requests == 2
    summary = ingest.run_to_folder([path], config)
    record = json.loads((tmp_path / "out" / "a.pdf.json").read_text(encoding="utf-8"))
    assert summary.requests_sent == 2
    assert "page1row0" in model.bodies[1]["messages"][-1]["content"][-1]["text"]
    assert [each["name"] for each in record["data"]["rows"]] == ["page1row0", "page1row1"]
    assert record["data"]["title"] == "T1"
    assert record["provenance"]["/title"][0]["grade"] == "exact"
    assert [line.name for line in summary.spending.by_recipe] == ["schema", "schema, second look"]
    assert ingest.run_to_folder([path], config).requests_sent == 0


def test_a_second_look_that_fails_leaves_the_record_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look is an extra: without it the record is what it would have been, and says what was left out."""
    model = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(model))
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    model.script = lambda pages, number: completion("no idea") if number > 1 else None
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out", settings={"asking": {"verify": True}})
    ingest.run_to_folder([path], config)
    record = json.loads((tmp_path / "out" / "a.pdf.json").read_text(encoding="utf-8"))
    assert record["status"] == "complete"
    assert [problem["code"] for problem in record["problems"]] == ["not_verified"]
    assert record["usage"]["requests"] == 2
