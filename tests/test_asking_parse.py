"""Reply text to data: what is certain is put right, what is not is refused in words."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.asking import schema
from ingest.asking.parse import parse
from ingest.asking.schema import ChunkSchema
from ingest.errors import ContentRefused, Malformed, OffSchema, Truncated
from ingest.types import FinishReason, Reply, Usage

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "total": {"type": "number"},
        "count": {"type": "integer"},
        "paid": {"type": "boolean"},
        "currency": {"enum": ["EUR", "USD"]},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "amount": {"type": "number"}},
                "required": ["text", "amount"],
            },
        },
    },
    "required": ["name", "total", "count", "paid", "currency", "rows"],
}
CHUNK = schema.derive(FORM, "none")
NOTHING = {"name": None, "total": None, "count": None, "paid": None, "currency": None}


def reply(text: str, finish_reason: FinishReason = "stop") -> Reply:
    """A reply with that text."""
    return Reply(text, finish_reason, Usage(), "m")


def read(value: Any, chunk_schema: ChunkSchema = CHUNK) -> Any:
    """The data of an answer."""
    return parse(reply(json.dumps(value)), chunk_schema).value


WHOLE = NOTHING | {"rows": [{"text": "a {b} ```", "amount": 1.5}]}
TEXT = json.dumps(WHOLE)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\n {TEXT} \n",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Here is the data:\n```JSON\n{TEXT}\n```\nAnything else?",
        f"Sure {{as asked}}: {TEXT} Done.",
        f'<think>maybe {{"name": 1}}</think>{TEXT}',
        f"## Answer\n\n{TEXT}",
    ],
)
def test_the_object_is_found_in_what_stands_around_it(text: str) -> None:
    """Gateways and models wrap answers; an answer paid for should not be lost to a fence."""
    parsed = parse(reply(text), CHUNK)
    assert parsed.value == WHOLE
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ({"total": "12.50"}, {"total": 12.5}),
        ({"total": "1,234.50"}, {"total": 1234.5}),
        ({"total": "1.234,50"}, {"total": 1234.5}),
        ({"total": "-3"}, {"total": -3}),
        ({"total": ""}, {"total": None}),
        ({"count": 3.0}, {"count": 3}),
        ({"count": "3"}, {"count": 3}),
        ({"paid": "true"}, {"paid": True}),
        ({"name": 1234}, {"name": "1234"}),
        ({"currency": "eur "}, {"currency": "EUR"}),
        ({"unasked": 1}, {}),
    ],
)
def test_what_is_certain_is_put_right(given_value: dict[str, Any], expected: dict[str, Any]) -> None:
    """A second request for a pair of quotes would double the price of a page."""
    found = read({"rows": []} | given_value)
    assert found == NOTHING | {"rows": []} | expected
    assert [type(found[name]) for name in expected] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("given_value", "pointer"),
    [
        ({"total": "1,234"}, "/total"),
        ({"total": "12 %"}, "/total"),
        ({"total": "007"}, "/total"),
        ({"count": 2.5}, "/count"),
        ({"paid": "yes"}, "/paid"),
        ({"currency": "GBP"}, "/currency"),
        ({"name": 1.5}, "/name"),
        ({"name": {"first": "x"}}, "/name"),
        ({"rows": [{"text": "a", "amount": 1}, {"text": [], "amount": 1}]}, "/rows/1/text"),
        ({"rows": {}}, "/rows"),
    ],
)
def test_what_is_not_certain_is_refused_with_its_place(given_value: dict[str, Any], pointer: str) -> None:
    """A guess here would be a wrong value in a record; the words go back to the model."""
    with pytest.raises(OffSchema, match=f"at {pointer}: "):
        read({"rows": []} | given_value)


def test_a_missing_list_is_not_an_empty_one() -> None:
    """Nothing missing looks complete: who left the list out may have left the rows out."""
    with pytest.raises(OffSchema, match="'rows' is a required property"):
        read({"name": "x"})


def test_the_words_stay_short() -> None:
    """They go into the next request and into the record."""
    with pytest.raises(OffSchema) as caught:
        read({"rows": [{"text": {"x": "y" * 5000}, "amount": "z"} for _ in range(50)]})
    assert len(caught.value.message) < 1500


def test_evidence_is_put_right_as_well() -> None:
    """A page number in quotes is a page number."""
    found = read({"name": {"_page": "3", "value": "x"}, "rows": []}, schema.derive(FORM, "part"))
    assert found["name"] == {"_page": 3, "value": "x"}
    assert found["total"] is None


@pytest.mark.parametrize("bare", ["x", {"value": "x"}, {"_page": None, "value": "x"}])
def test_a_value_without_its_page_is_a_value(bare: Any) -> None:
    """Without a grammar models forget the evidence; the value is there, and grounding looks for it on all pages."""
    chunk_schema = schema.derive(FORM, "quote")
    data, cites = schema.restore(read({"name": bare, "rows": []}, chunk_schema), chunk_schema)
    assert data["name"] == "x"
    assert cites == {}


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_numbers_beyond_json_are_no_data(number: str) -> None:
    """They cannot be written to a record, nor added up."""
    with pytest.raises((OffSchema, Malformed)):
        parse(reply(TEXT.replace("1.5", number)), CHUNK)
    with pytest.raises((OffSchema, Malformed)):
        parse(reply("Answer: " + TEXT.replace("1.5", number)), CHUNK)


def test_half_characters_are_replaced() -> None:
    """A lone surrogate cannot be written to any file, and would fail the record long after it was paid for."""
    value = parse(reply(TEXT.replace("a {b}", "a \\ud83d {b}")), CHUNK).value
    assert value["rows"][0]["text"] == "a ? {b} ```"


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace('"name": null', "'name': null"),
        TEXT.replace("}]}", "},]}"),
        TEXT.replace('"name"', "name"),
        TEXT[:-1],
    ],
)
def test_broken_json_is_repaired_and_said_so(text: str) -> None:
    """The last resort saves an answer, and the record tells that it was needed."""
    parsed = parse(reply(text), CHUNK)
    assert parsed.value == WHOLE
    assert [problem.code for problem in parsed.problems] == ["repaired"]


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "[1, 2]", "null", '"text"', "{" * 5000, "{}}{"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """Nothing is made of nothing."""
    with pytest.raises((Malformed, OffSchema, Truncated)):
        parse(reply(text), CHUNK)


def test_a_filtered_answer_is_refused_even_when_it_reads_well() -> None:
    """What the filter let through is not the answer."""
    with pytest.raises(ContentRefused):
        parse(reply(TEXT, "content_filter"), CHUNK)


# --- cut off ---

ROWS = [{"text": f'row {number} \\ " }}', "amount": number + 0.5} for number in range(6)]
LONG = json.dumps(NOTHING | {"name": "x", "rows": ROWS})
# Where each row is whole in the text: what follows it there are the two closing brackets.
ENDS = [len(json.dumps(NOTHING | {"name": "x", "rows": ROWS[: count + 1]})) - 2 for count in range(len(ROWS))]


@given(cut=st.integers(1, len(LONG) - 2))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_cut_answer_keeps_whole_entries_only(cut: int) -> None:
    """Half a row is a wrong row; a whole one was paid for."""
    with pytest.raises(Truncated) as caught:
        parse(reply(LONG[:cut], "length"), CHUNK)
    answer = caught.value.answer
    if answer is None:
        return
    assert isinstance(answer, dict)
    assert answer.get("rows", []) == ROWS[: sum(end <= cut for end in ENDS)]


def test_a_cut_answer_is_told_without_a_finish_reason() -> None:
    """Some gateways end a cut answer with stop; repairing it would hide the missing rows."""
    with pytest.raises(Truncated):
        parse(reply(LONG[:-30], "stop"), CHUNK)


def test_the_outermost_open_entry_goes() -> None:
    """An entry whose inner list was cut is not whole, however whole the inner entries are."""
    form = {
        "type": "object",
        "properties": {
            "groups": {"type": "array", "items": {"type": "object", "properties": {"ns": {"type": "array"}}}},
        },
    }
    with pytest.raises(Truncated) as caught:
        parse(reply('{"groups":[{"ns":[1,2]},{"ns":[3,4', "length"), schema.derive(form, "none"))
    assert caught.value.answer == {"groups": [{"ns": [1, 2]}]}


@pytest.mark.parametrize(("cut", "kept"), [("[1,2", [1]), ("[1,2,", [1, 2]), ('["a","b', ["a"]), ("[true", [True])])
def test_a_number_at_the_cut_may_not_be_whole(cut: str, kept: list[Any]) -> None:
    """12 may have been the start of 120."""
    form = {"type": "object", "properties": {"a": {"type": "array"}}}
    with pytest.raises(Truncated) as caught:
        parse(reply(f'{{"a":{cut}', "length"), schema.derive(form, "none"))
    assert caught.value.answer == {"a": kept}


def test_an_answer_that_is_whole_at_the_limit_counts() -> None:
    """The limit may fall on the last bracket, or on blanks behind it."""
    assert parse(reply(f"{TEXT}   \n", "length"), CHUNK).value == WHOLE


# --- speed ---


def test_long_tables_are_checked_quickly() -> None:
    """Thousands of rows per answer are everyday; a validator that takes seconds would hold up the whole loop."""
    rows = [{"_page": 1, "text": f"row {number}", "amount": "1.5"} for number in range(5_000)]
    answer = json.dumps(dict.fromkeys(NOTHING) | {"rows": rows})
    chunk_schema = schema.derive(FORM, "part")
    started = time.process_time()
    assert len(parse(reply(answer), chunk_schema).value["rows"]) == 5_000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"total": "1.234,56 €"}, 1234.56),
        ({"total": "(12,50)"}, -12.5),
        ({"total": "EUR 12.00"}, 12.0),
        ({"total": "1.234", "paid": "7,50"}, 1234),
        ({"total": "1,234", "paid": "7.50"}, 1234),
        ({"total": "1.234", "paid": "7.50"}, 1.234),
    ],
)
def test_printed_numbers_are_read_where_the_answer_tells_how_and_noted(said: dict[str, Any], value: float) -> None:
    """A point is a decimal point or a thousands separator: the other numbers say which, or nobody does."""
    form = {"type": "object", "properties": {name: {"type": "number"} for name in ("total", "paid")}}
    chunk_schema = schema.derive(form, "none")
    answer = {"total": None, "paid": None} | said
    parsed = parse(Reply(json.dumps(answer), "stop", Usage(), "m"), chunk_schema)
    assert parsed.value["total"] == value
    assert (("total",), said["total"], value) in [(each.path, each.said, each.value) for each in parsed.changes]


def test_what_fits_is_not_noted() -> None:
    """A note for nothing hides the one that counts."""
    chunk_schema = schema.derive({"type": "object", "properties": {"total": {"type": "number"}}}, "part")
    answer = {"total": {"_page": 1, "value": 2}}
    assert parse(Reply(json.dumps(answer), "stop", Usage(), "m"), chunk_schema).changes == ()
