"""The rule `synthesize`: one question about what chunks word differently, and its answer in the record."""

from __future__ import annotations

import json
from typing import Any

from ingest.asking import schema as asking_schema
from ingest.merging.merge import Merged, Origin, merge
from ingest.merging.synthesis import apply_answer, may_ask, question_of
from ingest.types import Cite
from tests.test_merging_merge import partial

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"prose": {"type": "string", "description": "What it is about"}},
    "properties": {
        "summary": {"$ref": "#/$defs/prose", "x-merge": "synthesize"},
        "title": {"type": "string"},
        "parts": {
            "type": "array",
            "x-merge": "by-key",
            "x-merge-key": "id",
            "items": {
                "type": "object",
                "properties": {"id": {"type": "string"}, "points": {"type": "array", "items": {"type": "string"}}},
            },
        },
    },
}
RULES = {"/parts/*/points": "synthesize"}


def merged(*summaries: str | None) -> Merged:
    documents = [
        {"summary": text, "title": "T", "parts": [{"id": "a", "points": [f"point {n}"]}]}
        for n, text in enumerate(summaries)
    ]
    partials = [
        partial(n, data, {"/summary": n + 1, "/title": n + 1, "/parts/0": n + 1}) for n, data in enumerate(documents)
    ]
    return merge(partials, SCHEMA, RULES)


def test_nothing_is_asked_where_chunks_agree() -> None:
    """A question costs money; equal values, and a document of one chunk, need none."""
    rules: dict[str, Any] = {}
    same = merge([partial(0, {"summary": "A b"}), partial(1, {"summary": "a B"})], SCHEMA, rules)
    assert question_of(same, SCHEMA, rules) is None
    assert question_of(merged("only"), SCHEMA, RULES) is None


def test_question_holds_the_chunks_values_and_asks_for_the_fields_types() -> None:
    """The model sees what the chunks said and nothing of the document, and must answer in the schema's own types."""
    question = question_of(merged("First half.", "Second half."), SCHEMA, RULES)
    assert question is not None
    asked = json.loads(question.text)
    assert [each["field"] for each in asked] == ["/summary", "/parts/0/points"]
    assert asked[0]["about"] == "What it is about"
    assert asked[0]["values"] == [
        {"pages": [1], "value": "First half."},
        {"pages": [2], "value": "Second half."},
    ]
    chunk_schema = asking_schema.derive(question.schema, "none")
    answer = {"field_1": "Both halves.", "field_2": ["point 0", "point 1"]}
    assert asking_schema.restore(answer, chunk_schema)[0] == answer


def test_answer_replaces_the_value_and_keeps_what_it_was_made_of() -> None:
    """A made text must show that it was made, of what, and where each piece stands."""
    before = merged("First half.", "Second half!")
    question = question_of(before, SCHEMA, RULES)
    assert question is not None
    after = apply_answer(before, question, {"field_1": "Both halves.", "field_2": ["point 0", "point 1"]})
    assert after.data["summary"] == "Both halves."
    assert after.data["parts"] == [{"id": "a", "points": ["point 0", "point 1"]}]
    (conflict, _) = after.conflicts
    assert (conflict.rule, conflict.chosen) == ("synthesize", "Both halves.")
    assert [side.value for side in conflict.sides] == ["First half.", "Second half!"]
    assert after.origins["/summary"] == (Origin(0, Cite(1), "First half."), Origin(1, Cite(2), "Second half!"))
    assert after.origins["/parts/0/points/1"] == (Origin(0, Cite(1)), Origin(1, Cite(2)))
    assert before.data["summary"] == "Second half!", "merging is pure"


def test_without_an_answer_the_longest_value_stands() -> None:
    """When the money is spent or the model fails there is still a value, and the conflict shows the others."""
    before = merged("First half.", "Second half!")
    question = question_of(before, SCHEMA, RULES)
    assert question is not None
    assert apply_answer(before, question, None) == before
    assert apply_answer(before, question, {"field_1": None, "field_2": []}).data == before.data
    assert len(before.conflicts) == 2


def test_whether_a_question_may_come_is_known_beforehand() -> None:
    """What may cost a request must be in the plan."""
    assert may_ask(SCHEMA)
    assert may_ask({"properties": {"a": {"type": "array", "items": {"type": "string"}}}}, {"/a": "synthesize"})
    assert not may_ask({"properties": {"a": {"type": "array", "items": {"type": "string"}}}}, {"/a": "union"})


def test_references_into_the_document_schema_itself_are_not_carried_over() -> None:
    """The answer's schema stands alone; a field described by another field of the document keeps its type."""
    document = {
        "properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a", "x-merge": "synthesize"}},
    }
    found = merge([partial(0, {"b": "x"}), partial(1, {"b": "y"})], document)
    question = question_of(found, document)
    assert question is not None
    assert question.schema["properties"]["field_1"]["type"] == ["string"]
    asking_schema.derive(question.schema, "none")
