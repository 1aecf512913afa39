"""Answers limited to a few hundred tokens: tables come out whole, by smaller questions."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ingest
from ingest.asking import schema
from ingest.asking.parse import read_cut
from ingest.asking.schema import Slot
from ingest.cli.status import show
from ingest.engine import session, slicing
from ingest.engine.slicing import After, Ask, Said, Scope
from ingest.types import Chunk, Json, Part, Reply, Usage
from tests.faulty_runs import prepare, run_once
from tests.scripted_model import SCHEMA, ScriptedModel, completion
from tests.test_engine import write_pdf

FORM = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "seller": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "amount": {"type": "number"}, "unit": {"type": "string"}},
                "required": ["name", "amount"],
            },
        },
        "total": {"type": "number"},
    },
    "required": ["title", "rows"],
}
CHUNK = schema.derive(FORM, "part")
ROWS: Slot = ("rows",)
PARTS = tuple(Part(index, "page", "text") for index in range(4))


def row(page: int | None, name: str, amount: float = 1.0) -> dict[str, Any]:
    """An entry in chunk form."""
    return {"_page": page, "name": name, "amount": amount, "unit": None}


def part_of(value: Json, chunk: Chunk) -> int | None:
    """The page an entry is cited at."""
    return value.get("_page") if isinstance(value, dict) else None


def cut(text: str) -> Any:
    """What is kept of a text that was cut off."""
    return read_cut(Reply(text, "length", Usage(), "m"), CHUNK)


@pytest.mark.parametrize(
    ("text", "done", "open_slot"),
    [
        ('{"title": {"_page": 1, "value": "x"}, "ro', [("title",)], None),
        ('{"title": {"_page": 1, "value": "x', [], ("title",)),
        ('{"title": null, "seller": {"name": null}, "rows": [], "total": {"_page": 1, "value": 12', 3, ("total",)),
        ('{"title": null, "seller": {"na', [("title",)], None),
        ('{"title": null, "rows": [{"_page": 1, "name": "a", "amount": 1', [("title",)], ROWS),
        ("no JSON at all", None, None),
    ],
)
def test_what_is_complete_of_a_cut_answer(text: str, done: Any, open_slot: Slot | None) -> None:
    """A number or a text that may go on is not complete, whatever it looks like."""
    found = cut(text)
    if done is None:
        assert found is None
        return
    assert found.open == open_slot
    assert (len(found.done) if isinstance(done, int) else list(found.done)) == done


def test_entries_of_certain_pages_are_kept_and_the_rest_is_asked_in_fewer_pages() -> None:
    """The page of the last entry may hold more: it is asked again whole, and what was kept is not asked again."""
    rows = [row(1, "a"), row(2, "b"), row(3, "c")]
    answer = cut('{"title": null, "seller": null, "rows": ' + json.dumps(rows)[:-1] + ', {"_page": 3, "name": "d')
    step = slicing.next_step(Ask(Chunk(0, PARTS)), answer, CHUNK, part_of)
    assert step is not None
    kept = [entry["name"] for said in step.said for entry in said.value.get("rows", [])]
    assert kept == ["a", "b"]
    assert [([part.number for part in ask.chunk.owned], ask.scope.slots) for ask in step.asks] == [
        ([1, 2], (("total",),)),
        ([3], (("rows",), ("total",))),
        ([4], (("rows",), ("total",))),
    ]
    assert [part.number for part in step.asks[1].chunk.context] == [2, 4]


@pytest.mark.parametrize(
    "rows", [[row(2, "a"), row(1, "b")], [row(None, "a"), row(2, "b")], [row(9, "a"), row(9, "b")]]
)
def test_entries_in_no_order_are_not_kept(rows: list[Json]) -> None:
    """Where pages are out of order nobody knows which page is complete: a row would be lost or doubled."""
    answer = cut('{"title": null, "seller": null, "rows": ' + json.dumps(rows)[:-1] + ", {")
    step = slicing.next_step(Ask(Chunk(0, PARTS)), answer, CHUNK, part_of)
    assert step is not None
    assert not any("rows" in said.value for said in step.said)
    assert [[part.number for part in ask.chunk.owned] for ask in step.asks] == [[1, 2], [3, 4]]


def test_a_model_in_a_loop_is_not_believed() -> None:
    """A model that repeats one row until the limit would fill a table with it."""
    rows = [row(1, "a"), *[row(1, "same")] * 40]
    answer = cut('{"title": null, "seller": null, "rows": ' + json.dumps(rows)[:-1] + ", {")
    step = slicing.next_step(Ask(Chunk(0, PARTS[:1])), answer, CHUNK, part_of)
    assert step is not None
    assert [entry["name"] for said in step.said for entry in said.value.get("rows", [])] == ["a"]


def test_a_list_goes_on_behind_its_last_entry() -> None:
    """The entry that is named comes again, and is counted once; rows that truly repeat stay."""
    ask = Ask(Chunk(0, PARTS[:1]), Scope((ROWS,), after=After(2, row(1, "b"))))
    for given in (["b", "b", "c"], ["a", "b", "b", "c"]):
        assert slicing.fresh({"rows": [row(1, name) for name in given]}, ask) == {"rows": [row(1, "b"), row(1, "c")]}
    assert slicing.fresh({"rows": [row(1, "c")]}, ask) == {"rows": [row(1, "c")]}
    assert '"b"' in str(slicing.words(ask))


def test_columns_asked_apart_become_rows_again() -> None:
    """When not one entry fits, columns do; of different lengths they make no rows."""
    chunk = Chunk(0, PARTS[:1])
    nothing = slicing.next_step(Ask(chunk, Scope((ROWS,))), cut('{"rows": [{"_page": 1, "na'), CHUNK, part_of)
    assert nothing is not None
    assert [ask.scope.columns for ask in nothing.asks] == [("name",), ("amount", "unit")]
    first = Said(chunk, (ROWS,), {"rows": [{"_page": 1, "name": "a"}, {"_page": 1, "name": "b"}]}, ("name",))
    second = Said(chunk, (ROWS,), {"rows": [{"_page": 1, "amount": 1, "unit": None}] * 2}, ("amount", "unit"))
    assert slicing.together([first, second], CHUNK)["rows"] == [row(1, "a", 1), row(1, "b", 1)]
    short = Said(chunk, (ROWS,), {"rows": [{"_page": 1, "amount": 1, "unit": None}]}, ("amount", "unit"))
    with pytest.raises(slicing.UnevenColumns):
        slicing.together([first, short], CHUNK)


def test_slices_are_schemas_of_their_own() -> None:
    """A slice is asked like a schema: strict, closed, with nothing but what is wanted."""
    narrowed = schema.narrow(CHUNK, [("seller", "name"), ROWS], ["amount"])
    assert list(narrowed.schema["properties"]) == ["seller", "rows"]
    assert list(narrowed.schema["properties"]["rows"]["items"]["properties"]) == ["_page", "amount"]


def test_a_list_too_long_for_one_answer_goes_on_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next question names the last entry that is known, after the document and fenced like the rest of its text."""
    model = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(model))
    path = write_pdf(tmp_path / "in" / "a.pdf", 1, rows=5)
    rows = [{"_page": 1, "name": f"page1row{number}", "amount": 100.0 + number} for number in range(5)]

    def answer(pages: list[int], number: int) -> Any:
        start = {1: 0, 2: 1}.get(number, 3)
        text = json.dumps({"title": None, "rows": rows[start:]})
        return (
            completion(text[: text.index('"amount"', text.index(f"page1row{start + 2}"))], "length")
            if start < 3
            else (completion(text))
        )

    model.script = answer
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out")
    summary = ingest.run_to_folder([path], config)
    record = json.loads((tmp_path / "out" / "a.pdf.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["data"]["rows"]] == [f"page1row{number}" for number in range(5)]
    assert record["status"] == "complete"
    assert record["coverage"]["parts"][0]["attempts"] == summary.requests_sent == 3
    last = model.bodies[1]["messages"][-1]["content"][-1]["text"]
    assert "first 2 entries are known" in last
    assert "page1row1" in last


def test_a_page_that_is_always_cut_off_ends_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller questions end somewhere; the record names the raw answer, which can be looked at."""
    model = ScriptedModel(lambda pages, number: completion('{"title": "', "length"))
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(model))
    path = write_pdf(tmp_path / "in" / "a.pdf", 2)
    ingest.run_to_folder([path], ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "a.pdf.json").read_text(encoding="utf-8"))
    assert record["status"] == "failed"
    assert len(model.calls) < 20
    key = record["problems"][0]["message"].rpartition("key ")[2].rstrip(")")
    shown = CliRunner().invoke(show, [str(tmp_path / "out"), "--answer", key], standalone_mode=False)
    assert shown.output.strip() == '{"title": "'


@pytest.mark.parametrize("max_tokens", [300, 600])
def test_long_tables_come_out_whole(
    fixtures_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_tokens: int
) -> None:
    """The same records as with room for everything, and the answers that were cut off are on the bill."""
    paths = [fixtures_folder / "documents" / "invoices" / name for name in ("de-three-pages.pdf", "at-one-page.pdf")]
    prepare(monkeypatch, 0, 0.0)
    whole = run_once(paths)
    assert isinstance(whole, list)
    config = ingest.configure(
        recipe="invoices",
        local=True,
        output=tmp_path,
        settings={"reading": {"pages": "text"}, "asking": {"max_tokens": max_tokens}},
    )
    summary = ingest.run_to_folder(paths, config)
    assert summary.spending.cut_off > 3
    assert summary.requests_sent > 8
    for line in (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        (expected,) = [each for each in whole if each["document"]["name"] == record["document"]["name"]]
        assert record["status"] == "complete"
        assert record["data"] == expected["data"]
        assert record["usage"]["requests"] > expected["usage"]["requests"]
    assert ingest.run_to_folder(paths, config).requests_sent == 0
