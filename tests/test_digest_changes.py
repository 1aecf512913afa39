"""What a digest tells of two versions of a record, and what its thresholds and citations let through."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest
from pipelines.digest.alerts import compile_alerts, raised
from pipelines.digest.changes import Change, compare, is_nothing, is_same, keys_of
from pipelines.digest.citations import check, sources
from pipelines.digest.model import DocumentChange, Fact, Statement
from pipelines.digest.settings import Alert
from pipelines.digest.wording import number_text, pointer_text, value_text

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 2.25]),
    st.sampled_from(["", "a", "bb", "c d"]),
)
_values = st.recursive(
    _scalars,
    lambda below: st.one_of(
        st.dictionaries(st.sampled_from("pqr"), below, max_size=3),
        st.lists(below.filter(lambda item: not is_nothing(item)), max_size=4),
    ),
    max_leaves=12,
)
_records = st.dictionaries(st.sampled_from(["x", "y", "z"]), _values, max_size=3)


def _rebuild(old: Any, was: str, now: str, told: list[Change]) -> Any:
    """The new value from the old one and the changes told."""
    for change in told:
        if change.kind == "removed" and change.pointer == was:
            return None
        if change.kind != "removed" and change.pointer == now:
            return change.new
    below = [change.pointer[len(now) + 1 :].split("/")[0] for change in told if change.pointer.startswith(f"{now}/")]
    if any(step.isdigit() for step in below) or (isinstance(old, list) and not below):
        return _rebuild_list(old if isinstance(old, list) else [], was, now, told)
    if isinstance(old, dict) or below:
        before = old if isinstance(old, dict) else {}
        names = dict.fromkeys([*before, *below])
        return {name: _rebuild(before.get(name), f"{was}/{name}", f"{now}/{name}", told) for name in names}
    return old


def _rebuild_list(old: list[Any], was: str, now: str, told: list[Change]) -> list[Any]:
    gone = {change.pointer for change in told if change.kind == "removed"}
    come = {change.pointer: change.new for change in told if change.kind == "added" and not change.was}
    kept = [number for number in range(len(old)) if f"{was}/{number}" not in gone]
    result: list[Any] = []
    while kept or f"{now}/{len(result)}" in come:
        pointer = f"{now}/{len(result)}"
        if pointer in come:
            result.append(come[pointer])
        else:
            number = kept.pop(0)
            result.append(_rebuild(old[number], f"{was}/{number}", pointer, told))
    return result


@settings(max_examples=150, deadline=None)
@given(_records, _records)
def test_the_told_changes_lead_from_the_old_record_to_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    """A change left out or told wrong would leave the reader with another record than there is."""
    told = list(compare(old, new))
    assert is_same(_rebuild(old, "", "", told), new), told
    assert bool(told) != is_same(old, new)


def test_an_item_put_in_is_one_addition() -> None:
    """A new first line must not read as a change of all lines behind it."""
    rows = [{"n": "a", "v": 1.0}, {"n": "b", "v": 2.0}, {"n": "c", "v": 3.0}]
    told = list(compare({"rows": rows}, {"rows": [{"n": "new", "v": 9.0}, *rows]}))
    assert [(change.kind, change.pointer) for change in told] == [("added", "/rows/0")]


def test_an_item_that_changed_among_moved_ones_is_told_by_its_field() -> None:
    """One price that rose is one line, at the new place of its row."""
    old = [{"n": "paint", "v": 1.0}, {"n": "brush", "v": 2.0}]
    new = [{"n": "ladder", "v": 50.0}, {"n": "paint", "v": 1.0}, {"n": "brush", "v": 2.5}]
    told = list(compare({"rows": old}, {"rows": new}))
    assert {(change.kind, change.pointer) for change in told} == {("added", "/rows/0"), ("changed", "/rows/2/v")}
    assert next(change for change in told if change.kind == "changed").was == "/rows/1/v"


def test_items_with_a_key_are_paired_by_it_whatever_their_order() -> None:
    """Parties listed in another order are the same parties."""
    schema = {"properties": {"parties": {"x-merge": "by-key", "x-merge-key": "name", "items": {"type": "object"}}}}
    keys = keys_of(schema, {})
    old = {"parties": [{"name": "A", "role": "buyer"}, {"name": "B", "role": "seller"}]}
    new = {"parties": [{"name": "B", "role": "seller"}, {"name": "A", "role": "tenant"}]}
    told = list(compare(old, new, keys))
    assert [(change.kind, change.pointer, change.was) for change in told] == [
        ("changed", "/parties/1/role", "/parties/0/role")
    ]
    assert keys_of({}, {"rows": {"x-merge": "by-key", "x-merge-key": ["a", "b"]}}) == {"rows": ("a", "b")}


def test_numbers_are_compared_by_value_and_nothing_is_no_news() -> None:
    """1.0 for 1, another spacing, and an empty field for a missing one are no changes; true for 1 is."""
    assert not list(compare({"a": 1, "b": "x  y", "c": None}, {"a": 1.0, "b": "x y", "d": {"e": []}}))
    assert len(list(compare({"a": 1}, {"a": True}))) == 1


def test_words_of_facts() -> None:
    """Readers see grouped amounts, untouched years, and places counted from one."""
    assert (number_text(1200.5), number_text(2024), number_text(12000)) == ("1,200.50", "2024", "12,000")
    assert pointer_text("/line_items/3/unit_price") == "Line items 4 · unit price"
    assert value_text({"a_b": 1, "c": None}) == "a b: 1"


_DAY = datetime.date(2026, 3, 1)


def _raised(when: str, data: dict[str, Any]) -> list[tuple[str, Any]]:
    conditions = compile_alerts([Alert(name="x", when=when)])
    return [pair for one in raised(conditions, data, _DAY) for pair in one.values]


def test_thresholds_hold_by_the_data_and_the_day() -> None:
    """What asks for attention is decided by us: amounts over a limit, dates close or past; nulls never."""
    assert _raised("total > 10000", {"total": 10000.5}) == [("/total", 10000.5)]
    assert not _raised("total > 10000", {"total": 10000})
    assert not _raised("total > 10000", {"total": None})
    assert _raised("within(due, 7)", {"due": "2026-03-08"}) == [("/due", "2026-03-08")]
    assert not _raised("within(due, 7)", {"due": "2026-03-09"})
    assert not _raised("within(due, 7)", {"due": "2026-02-28"})
    assert _raised("days_until(due) < 0", {"due": "2026-02-28"})
    assert not _raised("days_until(due) < 0", {"due": "soon"})
    assert _raised("seller.name == 'ACME' && total > 5", {"seller": {"name": "ACME"}, "total": 6}) == [
        ("/seller/name", "ACME"),
        ("/total", 6),
    ]
    assert _raised("rows[?amount > 5]", {"rows": [{"amount": 7}]}) == [("/rows", [{"amount": 7}])]


@pytest.mark.parametrize("when", ["total >", "no_such(total)", "abs(name) > 1"])
def test_a_wrong_condition_is_told_as_such(when: str) -> None:
    """A threshold with a slip of the pen must not silently never apply."""
    with pytest.raises(ingest.ConfigError, match="'x'"):
        _raised(when, {"total": 1, "name": "text"})


_INVOICE = DocumentChange(
    name="inbox/acme-17.pdf",
    kind="changed",
    status="complete",
    version_id=1,
    facts=(
        Fact(id="F1", kind="changed", pointer="/gross_amount", old=900.0, new=1200.0),
        Fact(id="F2", kind="changed", pointer="/due_date", old="2026-03-01", new="2026-11-29"),
        Fact(id="F3", kind="added", pointer="/seller/name", new="Drummock Technology LLC"),
    ),
)
_OTHER = DocumentChange(
    name="inbox/b.pdf",
    kind="added",
    status="complete",
    version_id=2,
    facts=(Fact(id="F4", kind="added", pointer="/seller/name", new="Tessandier SARL"),),
)
_FACTS = sources([_INVOICE, _OTHER])


def _kept(text: str, *facts: str, language: str = "English") -> bool:
    kept, _ = check([Statement(section="s", text=text, facts=facts)], _FACTS, language)
    return bool(kept)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("The gross amount rose from 900 to 1,200.00 (+33.3 %).", ["F1"]),
        ("The total is now 1.200,00.", ["F1"]),
        ("Payment moved to 29 November 2026.", ["F2"]),
        ("Payment moved to 29.11.2026 from 2026-03-01.", ["F2"]),
        ("Drummock Technology's invoice acme-17.pdf changed in 2 values.", ["F1", "F3"]),
        ("An invoice of Tessandier SARL came in.", ["F4"]),
    ],
)
def test_a_statement_that_its_facts_hold_is_kept(text: str, facts: list[str]) -> None:
    """Dropping what is right would leave an empty digest."""
    assert _kept(text, *facts)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("The gross amount rose to 1,300.00.", ["F1"]),
        ("The amount rose by 34 %.", ["F1"]),
        ("Payment moved to 30 November 2026.", ["F2"]),
        ("The amount of Drummock rose to 1,200.00.", ["F1"]),
        ("Tessandier changed its due date.", ["F2"]),
        ("The buyer is Northwind and the amount 1,200.00.", ["F1"]),
        ("Invoice INV-99 changed.", ["F1"]),
        ('It says "payable at once".', ["F1"]),
    ],
)
def test_a_statement_that_says_more_than_its_facts_is_dropped(text: str, facts: list[str]) -> None:
    """Invented or wrongly cited numbers, dates, codes, names and quotes never reach the reader."""
    assert not _kept(text, *facts)


def test_nouns_of_german_are_no_names_but_known_names_are() -> None:
    """In German every noun has a capital letter; a name known from other facts is checked all the same."""
    assert _kept("Der Betrag der Rechnung stieg auf 1.200,00.", "F1", language="German")
    assert not _kept("Die Rechnung von Tessandier stieg auf 1.200,00.", "F1", language="German")


def test_dropped_statements_are_counted_by_reason() -> None:
    """The digest says how many were not let through, so that a model gone wrong shows."""
    statements = [
        Statement(section="s", text="Something changed.", facts=()),
        Statement(section="s", text="The amount is 1,200.00.", facts=("F99",)),
        Statement(section="s", text="The amount is 77.", facts=("F1",)),
        Statement(section="s", text="The amount is 1,200.00.", facts=("F1",)),
        Statement(section="s", text="The amount is 1,200.00.", facts=("F1",)),
    ]
    kept, dropped = check(statements, _FACTS)
    assert [one.text for one in kept] == ["The amount is 1,200.00."]
    assert (dropped.uncited, dropped.unknown, dropped.unsupported, dropped.total) == (1, 1, 1, 3)
