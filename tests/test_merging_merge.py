"""Partials to one document's data: rules, order, origins, conflicts."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.merging.merge import Merged, Origin, check_rules, merge
from ingest.types import Chunk, Cite, Part, Partial

TEXT = {"type": ["string", "null"]}
NUMBER = {"type": ["number", "null"]}


def partial(index: int, data: Any, cites: dict[str, int] | None = None) -> Partial:
    """A chunk that owns page `index` + 1."""
    owned = (Part(index, "page", "text"),)
    return Partial(Chunk(index, owned), data, {pointer: Cite(number) for pointer, number in (cites or {}).items()})


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def merge_field(values: list[Any], node: dict[str, Any], rules: dict[str, Any] | None = None) -> Merged:
    """Merge documents of one field `f`, one chunk per value."""
    return merge([partial(i, {"f": value}) for i, value in enumerate(values)], schema(f=node), rules)


def test_same_value_written_differently_is_no_conflict() -> None:
    """A date or an amount that two pages print in two ways is one fact, and crying conflict would bury real ones."""
    for values in (
        ["2018-06-05", "05.06.2018"],
        ["1.234,50", "1,234.50"],
        [10, 10.0],
        ["ACME  Ltd", "Acme ltd"],
        ["5 June 2018", "5. Juni 2018"],
    ):
        merged = merge_field(values, {})
        assert merged.data["f"] == values[0]
        assert merged.conflicts == ()


def test_identifiers_are_not_numbers() -> None:
    """Invoice 0042 is not invoice 42."""
    assert len(merge_field(["0042", "42"], TEXT).conflicts) == 1


def test_majority_of_cited_chunks_wins_over_order() -> None:
    """One misreading on the first page must not beat what all others say."""
    cites = [{"/f": 1}, {"/f": 2}, {"/f": 3}]
    partials = [partial(i, {"f": v}, cites[i]) for i, v in enumerate(["A1", "A7", "a7"])]
    merged = merge(partials, schema(f=TEXT))
    assert merged.data == {"f": "A7"}
    (conflict,) = merged.conflicts
    assert (conflict.pointer, conflict.rule, conflict.chosen) == ("/f", "agree", "A7")
    assert [(side.value, side.chunk) for side in conflict.sides] == [("A1", 0), ("A7", 1)]
    assert merged.origins["/f"] == (Origin(1, Cite(2)), Origin(2, Cite(3), "a7"))
    assert merged.side_origins == (((Origin(0, Cite(1)),), (Origin(1, Cite(2)), Origin(2, Cite(3)))),)


def test_cited_value_beats_uncited_ones() -> None:
    """Evidence counts, not repetition."""
    partials = [partial(0, {"f": "A"}), partial(1, {"f": "A"}), partial(2, {"f": "B"}, {"/f": 3})]
    assert merge(partials, schema(f=TEXT)).data == {"f": "B"}


def test_first_in_reading_order_breaks_ties() -> None:
    """Without a majority the result must still be the same every time."""
    assert merge_field(["B", "A"], TEXT).data == {"f": "B"}


@pytest.mark.parametrize(
    ("rule", "values", "expected", "conflicts"),
    [
        ("first", [None, 3, 5], 3, 1),
        ("last", [3, 5, None], 5, 1),
        ("last", [5, 5.0, None], 5.0, 0),
        ("max", [3, 10, 5], 10, 0),
        ("max", ["9", "10"], "10", 0),
        ("min", ["2018-06-05", "3 May 2018"], "3 May 2018", 0),
        ("sum", [0.1, 0.2, None], 0.3, 0),
        ("sum", [1, 2], 3, 0),
        ("longest", ["Acme", "Acme Holding Ltd", "ACME Holding"], "Acme Holding Ltd", 0),
        ("longest", ["Acme Holding Ltd", "Bolt"], "Acme Holding Ltd", 1),
        ("any", [False, None, True], True, 0),
        ("all", [True, False], False, 0),
    ],
)
def test_declared_scalar_rules(rule: str, values: list[Any], expected: Any, conflicts: int) -> None:
    """A declared rule does what its name says, and only choosing between rivals is a disagreement."""
    merged = merge_field(values, {"x-merge": rule})
    assert merged.data == {"f": expected}
    assert type(merged.data["f"]) is type(expected)
    assert len(merged.conflicts) == conflicts


def test_null_and_empty_never_beat_a_value() -> None:
    """A chunk that does not show the total must not wipe it out, whatever the rule."""
    for rule in ("agree", "first", "last", "longest"):
        assert merge_field([None, "", "x", "", None], {"x-merge": rule}).data == {"f": "x"}
    assert merge_field([None, None], TEXT).data == {"f": None}
    assert merge_field([None, []], {"type": "array"}).data == {"f": []}


def test_recipe_rule_overrides_schema_rule() -> None:
    """A recipe must be able to correct a schema it does not own."""
    nested = schema(totals=schema(gross={**NUMBER, "x-merge": "first"}))
    partials = [partial(i, {"totals": {"gross": value}}) for i, value in enumerate([1, 2])]
    assert merge(partials, nested).data == {"totals": {"gross": 1}}
    assert merge(partials, nested, {"/totals/gross": "last"}).data == {"totals": {"gross": 2}}


def test_rows_are_concatenated_and_true_repeats_stay() -> None:
    """Two equal line items on two pages are two line items."""
    row = {"name": "Widget", "amount": 2}
    rows = {"type": "array", "items": schema(name=TEXT, amount=NUMBER)}
    partials = [
        partial(0, {"f": [row, row]}, {"/f/0": 1, "/f/1": 1}),
        partial(1, {"f": [row, {"name": None, "amount": 9}]}, {"/f/0": 2, "/f/1": 2}),
    ]
    merged = merge(partials, schema(f=rows))
    assert merged.data == {"f": [row, row, row, {"name": None, "amount": 9}]}
    assert merged.origins["/f/2/amount"] == (Origin(1, Cite(2)),)
    assert merged.origins["/f/3/amount"] == (Origin(1, Cite(2)),)
    assert "/f/3/name" not in merged.origins


def test_lists_of_names_are_united_but_numbers_are_not() -> None:
    """Every page repeats the parties; monthly figures that happen to be equal are still separate figures."""
    names = {"type": "array", "items": TEXT}
    assert merge_field([["Acme", "Bolt"], ["ACME", "Cog"]], names).data == {"f": ["Acme", "Bolt", "Cog"]}
    figures = {"type": "array", "items": {"type": "number"}}
    assert merge_field([[10, 20], [10]], figures).data == {"f": [10, 20, 10]}


def test_union_keeps_repeats_within_a_chunk_unless_forbidden() -> None:
    """What the model saw twice on one page stands there twice, except where the schema says that cannot be."""
    names = {"type": "array", "items": TEXT}
    assert merge_field([["a", "a", "b"], ["a"]], names).data == {"f": ["a", "a", "b"]}
    assert merge_field([["a", "a", "b"], ["a"]], {**names, "uniqueItems": True}).data == {"f": ["a", "b"]}


def test_by_key_joins_items_and_keeps_keyless_ones() -> None:
    """One order seen on two pages becomes one order with both pages' facts, and an item without key is not lost."""
    orders = {
        "type": "array",
        "x-merge": "by-key",
        "x-merge-key": "id",
        "items": schema(id=TEXT, date=TEXT, sum=NUMBER),
    }
    partials = [
        partial(0, {"f": [{"id": "A 1", "date": "2020-01-02", "sum": None}, {"id": None, "sum": 7}]}, {"/f/0": 1}),
        partial(1, {"f": [{"id": "a1", "date": "2020-01-03", "sum": 5}, {"id": None, "sum": 7}]}, {"/f/0": 2}),
    ]
    merged = merge(partials, schema(f=orders))
    assert merged.data["f"] == [
        {"id": "A 1", "date": "2020-01-02", "sum": 5},
        {"id": None, "sum": 7},
        {"id": None, "sum": 7},
    ]
    assert merged.origins["/f/0/sum"] == (Origin(1, Cite(2)),)
    assert [conflict.pointer for conflict in merged.conflicts] == ["/f/0/date"]


def test_rules_reach_items_through_references_and_recursion() -> None:
    """Real schemas put the interesting part behind $ref, anyOf and allOf, and trees contain themselves."""
    document = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "note": {"allOf": [{"type": "string"}, {"x-merge": "last"}]},
                    "child": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
            }
        },
        "$ref": "#/$defs/node",
    }
    first = {"note": "a", "child": {"note": "b", "child": {"note": "c", "child": None}}}
    second = {"note": "x", "child": {"note": "y", "child": {"note": "z", "child": None}}}
    check_rules(document)
    assert merge([partial(0, first), partial(1, second)], document).data == second


def test_objects_of_different_kinds_do_not_break_the_merge() -> None:
    """anyOf lets one chunk answer with a text and another with an object; one wins and the other is shown."""
    merged = merge_field(["x", {"name": "y"}, [1]], {})
    assert merged.data == {"f": "x"}
    assert len(merged.conflicts[0].sides) == 3


def test_whole_values_chosen_keep_the_origins_of_their_leaves() -> None:
    """A list taken whole by `first` still shows where each of its values stands."""
    partials = [partial(i, {"f": [{"a": i}]}, {"/f/0": i + 1}) for i in range(2)]
    merged = merge(partials, schema(f={"x-merge": "first"}))
    assert merged.data == {"f": [{"a": 0}]}
    assert merged.origins == {"/f/0/a": (Origin(0, Cite(1)),)}


def test_keys_are_escaped_in_pointers() -> None:
    """A field named `a/b` must not be mistaken for `b` in `a`."""
    merged = merge([partial(0, {"a/b": {"~c": 1}}, {"/a~1b/~0c": 4})], {})
    assert merged.origins == {"/a~1b/~0c": (Origin(0, Cite(4)),)}


def test_fields_come_in_the_order_of_the_schema() -> None:
    """Records of one recipe should read alike, whichever chunk found what."""
    merged = merge([partial(0, {"z": 1, "b": 2}), partial(1, {"a": 3})], schema(a=NUMBER, b=NUMBER))
    assert list(merged.data) == ["a", "b", "z"]


def test_nothing_to_merge_is_no_data() -> None:
    """A document of which no chunk was answered has no data, not empty data."""
    assert merge([], schema(f=TEXT)).data is None


@pytest.mark.parametrize(
    ("node", "rules", "words"),
    [
        ({"type": "string", "x-merge": "lats"}, {}, "unknown merge strategy 'lats'"),
        ({"type": "string", "x-merge": "concat"}, {}, "merges lists"),
        ({"type": "array", "x-merge": "by-key"}, {}, "needs x-merge-key"),
        ({"type": "object", "x-merge": "sum"}, {}, "cannot merge object"),
        ({"type": "string"}, {"/g": "last"}, "no 'g' there (known: f)"),
        ({"type": "string"}, {"/f/*": "last"}, "there is none"),
    ],
)
def test_impossible_rules_are_refused_before_anything_is_spent(
    node: dict[str, Any], rules: dict[str, Any], words: str
) -> None:
    """A typing error in a rule must not come to light after the model has been paid."""
    with pytest.raises(ConfigError) as caught:
        check_rules(schema(f=node), rules)
    assert words in str(caught.value)


def test_hundred_thousand_leaves_merge_in_seconds() -> None:
    """A thousand chunks must not take the time of their square."""
    rows = {"type": "array", "items": schema(**{f"c{n}": NUMBER for n in range(10)})}
    row = {f"c{n}": n for n in range(10)}
    partials = [
        partial(i, {"total": i, "rows": [row] * 10}, {f"/rows/{n}": i + 1 for n in range(10)}) for i in range(1000)
    ]
    begin = time.monotonic()
    merged = merge(partials, schema(rows=rows, total={**NUMBER, "x-merge": "last"}))
    assert time.monotonic() - begin < 10
    assert len(merged.data["rows"]) == 10_000
    assert merged.data["total"] == 999
    assert len(merged.origins) == 100_001


LEAVES = st.none() | st.booleans() | st.integers(-99, 99) | st.text("ab 1", max_size=3)
DATA = st.dictionaries(
    st.sampled_from("abc"), st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=6), max_size=3
)


@given(st.lists(DATA, max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_arrival_does_not_matter(documents: list[Any], random: Any) -> None:
    """Answers come when they come; a rerun must write the same bytes."""
    partials = [partial(i, data, {"/a": i + 1}) for i, data in enumerate(documents)]
    shuffled = random.sample(partials, len(partials))
    assert merge(shuffled, {}) == merge(partials, {})


@given(DATA)
@settings(deadline=None)
def test_one_partial_is_unchanged(data: Any) -> None:
    """A document that fits one request must not be touched by merging."""
    merged = merge([partial(0, data)], {})
    assert merged.data == data
    assert merged.conflicts == ()


@given(
    st.lists(st.lists(st.dictionaries(st.just("k"), st.integers(0, 3), min_size=1), max_size=4), min_size=1, max_size=5)
)
@settings(deadline=None)
def test_concat_keeps_every_row(lists: list[Any]) -> None:
    """No row may vanish or move, repeated or not."""
    rows = {"type": "array", "items": schema(k=NUMBER)}
    assert merge_field(lists, rows).data["f"] == [row for rows in lists for row in rows]


def test_last_goes_by_the_page_of_the_evidence() -> None:
    """A chunk that cites a neighbour's page does not make its value later than that page."""
    owned = [Part(n, "page", "text") for n in range(3)]
    early = Partial(Chunk(0, (owned[0],), (owned[1], owned[2])), {"f": 7}, {"/f": Cite(3)})
    late = Partial(Chunk(1, (owned[1],)), {"f": 5}, {"/f": Cite(2)})
    assert merge([early, late], schema(f={"x-merge": "last"})).data == {"f": 7}
    assert merge([early, late], schema(f={"x-merge": "first"})).data == {"f": 5}


def test_sum_counts_no_page_twice() -> None:
    """A page's sum that the neighbour reports too, from its context, is one sum."""
    owned = [Part(n, "page", "text") for n in range(2)]
    first = Partial(Chunk(0, (owned[0],), (owned[1],)), {"f": 10}, {"/f": Cite(1)})
    second = Partial(Chunk(1, (owned[1],), (owned[0],)), {"f": 10}, {"/f": Cite(1)})
    third = Partial(Chunk(1, (owned[1],), (owned[0],)), {"f": 4}, {"/f": Cite(2)})
    node = schema(f={"x-merge": "sum"})
    assert merge([first, second], node).data == {"f": 10}
    merged = merge([first, third], node)
    assert merged.data == {"f": 14}
    assert [origin.said for origin in merged.origins["/f"]] == [10, 4], "each addend has its own place"


def test_value_taken_from_a_neighbours_page_is_no_second_voice() -> None:
    """Two chunks that read one page are one witness, else context would outvote the rest of the document."""
    parts = [Part(n, "page", "text") for n in range(3)]
    partials = [
        Partial(Chunk(0, (parts[0],)), {"f": "A"}, {"/f": Cite(1)}),
        Partial(Chunk(1, (parts[1],)), {"f": "B"}, {"/f": Cite(2)}),
        Partial(Chunk(2, (parts[2],), (parts[1],)), {"f": "B"}, {"/f": Cite(2)}),
    ]
    assert merge(partials, schema(f=TEXT)).data == {"f": "A"}


def test_preferred_words_decide_before_the_rule() -> None:
    """A recipe may say which label counts; what stands elsewhere loses, and is shown."""
    values, quotes = [9_000.0, 120.0, 80.0], ["Gross total 9,000.00", "TOTAL DUE 120.00", "Week 3 80.00"]
    partials = [
        Partial(Chunk(n, (Part(n, "page", "text"),)), {"f": value}, {"/f": Cite(n + 1, quote)})
        for n, (value, quote) in enumerate(zip(values, quotes, strict=True))
    ]
    rule: dict[str, Any] = {"x-merge": "last", "x-merge-prefer": ["gross", "total due"]}
    merged = merge(partials, schema(f=NUMBER), {"/f": rule})
    assert merged.data == {"f": 120.0}
    (conflict,) = merged.conflicts
    assert [side.value for side in conflict.sides] == values
    rule["x-merge-prefer"] = "nowhere printed"
    assert merge(partials, schema(f=NUMBER), {"/f": rule}).data == {"f": 80.0}


def test_times_are_ordered_as_times() -> None:
    """Ten minutes come after nine, whatever the alphabet says."""
    assert merge_field(["10:02", "9:58", "1:00:10"], {"x-merge": "max"}).data == {"f": "1:00:10"}
    assert merge_field(["10:02", "9:58", "1:00:10"], {"x-merge": "min"}).data == {"f": "9:58"}


def test_two_lists_of_one_chunk_are_no_neighbours() -> None:
    """Two orders of one number on one page give their lines together; their lines are whole rows."""
    lines = {"type": "array", "items": schema(name=TEXT, amount=NUMBER)}
    orders = {"type": "array", "x-merge": "by-key", "x-merge-key": "id", "items": schema(id=TEXT, lines=lines)}
    rows = [{"name": f"row {n}", "amount": n} for n in range(5)]
    first = {"id": "1", "lines": [*rows, {"name": "x", "amount": None}]}
    second = {"id": "1", "lines": [{"name": None, "amount": 3}, *rows]}
    data = merge([partial(0, {"f": [first, second]}, {"/f/0": 1, "/f/1": 1})], schema(f=orders)).data
    assert len(data["f"][0]["lines"]) == 12
