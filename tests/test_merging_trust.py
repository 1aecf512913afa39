"""Declared checks, confidence and forms: what is said of a value beyond the value itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.merging.arithmetic import problems_of, read_checks, run_checks
from ingest.merging.confidence import confidence, confidences
from ingest.merging.forms import normalise
from ingest.merging.merge import Origin
from ingest.record import Conflict, Evidence
from ingest.types import Cite

NUMBER = {"type": ["number", "null"]}
LINE = {"type": "object", "properties": {"quantity": NUMBER, "price": NUMBER, "amount": NUMBER}}
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "lines": {"type": "array", "items": LINE},
        "net": NUMBER,
        "tax": NUMBER,
        "gross": NUMBER,
        "total due": NUMBER,
        "date": {"type": ["string", "null"], "format": "date"},
        "dates": {"type": "array", "items": {"type": "string", "format": "date"}},
    },
}


def verdicts(data: Any, *declared: Any) -> list[bool]:
    """Whether each check that applies holds."""
    return [verdict.holds for verdict in run_checks(data, read_checks(declared, FORM))]


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("net + tax = gross", [True]),
        ("sum(lines[*].amount) = net", [True]),
        ("sum(lines[*].amount) - net = 1", [False]),
        ("count(lines[*].amount) = 2", [True]),
        ("max(lines[*].amount) <= 60 + 2 * (3 - 1) / 4", [True]),
        ("min(lines[*].amount) > 41", [False]),
        ("lines[*].quantity * lines[*].price = lines[*].amount", [True, False]),
        ("lines[0].amount != lines[1].amount", [True]),
        ("abs(net - gross) >= tax", [True]),
        ("-net < 0", [True]),
        ('"total due" = gross', []),
        ("net / (tax - tax) = 1", []),
        ("lines[7].amount = 1", []),
    ],
)
def test_checks_say_what_holds(check: str, holds: list[bool]) -> None:
    """A check with a value that is not there says nothing: a hole is no contradiction."""
    lines = [{"quantity": 2, "price": 20.05, "amount": 40.1}, {"quantity": 1, "price": 60, "amount": 59.9}]
    data = {"lines": lines, "net": 100.0, "tax": 19.0, "gross": 119.0, "total due": None}
    assert verdicts(data, check) == holds


def test_rounding_is_no_failure_and_a_cent_more_is() -> None:
    """Printed amounts are rounded each; a tolerance of one's own goes before."""
    lines = [{"amount": 0.1}, {"amount": 0.2}]
    assert verdicts({"lines": lines, "net": 0.3}, "sum(lines[*].amount) = net") == [True]
    assert verdicts({"lines": lines, "net": 0.33}, "sum(lines[*].amount) = net") == [False]
    assert verdicts({"net": 10, "gross": 10.4}, {"that": "net = gross", "tolerance": 0.5}) == [True]
    assert verdicts({"net": 10, "gross": 10.001}, {"that": "net = gross", "tolerance": 0}) == [False]


def test_one_unknown_amount_makes_a_sum_unknown() -> None:
    """A sum over a hole would blame the total for it."""
    assert verdicts({"lines": [{"amount": 1}, {"amount": None}], "net": 5}, "sum(lines[*].amount) = net") == []
    assert verdicts({"lines": [], "net": 5}, "sum(lines[*].amount) = net") == []


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("net + tax", "compares nothing"),
        ("net = = gross", "not understood"),
        ("nett = gross", "no 'nett'"),
        ("sum(net) = gross", "values of a list"),
        ("net[*] = gross", "no list"),
        ("__import__('os') = 1", "not understood"),
        ("net = gross; tax", "not understood"),
        ("net = " + "(" * 50 + "1", "nested too deeply"),
        ("net = " + "1+" * 400 + "1", "longer than"),
        ({"that": "net = gross", "tolerence": 1}, "tolerance"),
        ({"that": "net = gross", "tolerance": -1}, "0 or more"),
    ],
)
def test_a_check_that_cannot_work_is_told_before_anything_is_sent(check: Any, words: str) -> None:
    """A misspelt field found after the answers came would have checked nothing."""
    with pytest.raises(ConfigError, match=words):
        read_checks([check], FORM)


@given(text=st.text(alphabet='net+-*/()=<>!.[]01 "sumgros', max_size=30))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_a_check_or_refused_in_words(text: str) -> None:
    """A recipe of somebody else's must not crash a run, nor do anything but compare."""
    try:
        checks = read_checks([text], FORM)
    except ConfigError:
        return
    run_checks({"net": 1, "gross": 0, "lines": [{"amount": 1}]}, checks)


def test_the_schema_may_declare_checks_and_failures_are_problems_with_their_place() -> None:
    """One look at the record must show which amounts do not fit."""
    form = {**FORM, "x-check": ["net + tax = gross"]}
    checks = read_checks(["lines[*].quantity * lines[*].price = lines[*].amount"], form)
    data = {"lines": [{"quantity": 2, "price": 3, "amount": 7}], "net": 1, "tax": 1, "gross": 3}
    problems = problems_of(run_checks(data, checks))
    assert [problem.pointer for problem in problems] == ["/lines/0", None]
    assert {problem.code for problem in problems} == {"check_failed"}
    assert "net + tax = gross: 2 and 3" in problems[1].message


def test_confidence_follows_the_evidence() -> None:
    """Better evidence, agreement and checks raise it; dispute and failed checks lower it; it stays between 0 and 1."""
    grades = ["exact", "normalised", "fuzzy", "cited", "ungrounded"]
    figures = [confidence([grade]) for grade in grades]  # type: ignore[list-item]
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) == len(figures)
    assert confidence(["cited"]) < confidence(["cited"], agreeing_chunks=2) < confidence(["cited"], 2, held=1)
    assert confidence(["exact"], is_disputed=True) < confidence(["fuzzy"])
    assert confidence(["exact"], held=3, failed=1) == confidence(["exact"], failed=2) < confidence(["cited"])
    assert confidence(["ungrounded", "exact"]) == confidence(["exact"])
    assert 0 < confidence(["ungrounded"], is_disputed=True, failed=5) < confidence(["exact"], 9, held=9) < 1


def test_each_value_has_its_own_confidence() -> None:
    """A failed check touches the values it is about, a conflict those below it, and nothing else."""
    data = {"net": 1, "tax": 1, "gross": 3, "lines": [{"amount": 1}]}
    checks = run_checks(data, read_checks(["net + tax = gross"], FORM))
    evidence = (Evidence(page=1, grade="exact"),)
    provenance = dict.fromkeys(["/net", "/gross", "/lines/0/amount"], evidence)
    origins = {"/net": (Origin(0, Cite(1)), Origin(1, Cite(2)))}
    conflict = Conflict(pointer="/lines/0", chosen={}, rule="agree", sides=())
    found = confidences(provenance, origins, [conflict], checks)
    assert found["/gross"] == confidence(["exact"], failed=1)
    assert found["/net"] == confidence(["exact"], 2, failed=1)
    assert found["/lines/0/amount"] == confidence(["exact"], is_disputed=True)


@pytest.mark.parametrize(
    ("dates", "date", "written"),
    [
        ([], "3. April 2024", "2024-04-03"),
        ([], "03/04/2024", None),
        (["25/12/2023"], "03/04/2024", "2024-04-03"),
        (["12/25/2023"], "03/04/2024", "2024-03-04"),
        (["12/25/2023", "25/12/2023"], "03/04/2024", None),
        ([], "soon", None),
        ([], "2024-04-03", None),
        ([], "31.02.2024", None),
    ],
)
def test_dates_take_the_schemas_form_where_there_is_one_reading(
    dates: list[str], date: str, written: str | None
) -> None:
    """Day and month are told apart by the document's other dates or not at all; each change is noted."""
    data, notes = normalise({"date": date, "dates": dates}, FORM)
    assert data["date"] == (written or date)
    assert [note.pointer for note in notes if note.pointer == "/date"] == (["/date"] if written else [])
    assert all(repr(date) in note.message for note in notes if note.pointer == "/date")
