"""How accuracy is measured: every figure here was first computed by hand."""

from __future__ import annotations

import json
import time
from io import StringIO
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ingest.errors import ConfigError
from ingest.showing.evaluation import EvaluationOptions, compare, evaluate, judge, read_map, render
from ingest.showing.evaluation.alignment import best_pairing
from ingest.showing.evaluation.scores import Counts, RowScore, Tally


def count(
    predicted: Any, expected: Any, options: EvaluationOptions | None = None, left_out: tuple[str, ...] = ()
) -> Counts:
    """Leaves of one document by verdict."""
    counts = Counts()
    for leaf in compare(predicted, expected, options, left_out).leaves:
        counts.add(leaf)
    return counts


def verdicts(counts: Counts) -> dict[str, int]:
    """The verdicts that occur."""
    names = ("matched", "wrong", "missing", "invented", "extra")
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}


def rows_of(predicted: Any, expected: Any, path: str) -> RowScore:
    """The row score of one list."""
    tally = Tally()
    tally.add("a", "a", compare(predicted, expected))
    return next(row for row in tally.row_scores() if row.field == path)


def write(folder: Path, files: dict[str, Any]) -> Path:
    """A folder of JSON files."""
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    return folder


def record(name: str, data: Any) -> dict[str, Any]:
    """As much of a record as matters here."""
    return {"document": {"name": name}, "data": data, "status": "complete"}


@pytest.mark.parametrize(
    ("predicted", "expected", "ways"),
    [
        ("Acme Ltd", "Acme Ltd", "exact normalised"),
        ("ACME  LTD.", "Acme Ltd", "normalised"),
        ("Acme Inc", "Acme Ltd", ""),
        (10, 10.0, "exact normalised numeric"),
        ("9.00", 9, "numeric"),
        ("$8.20", "8.20", "numeric"),
        ("$8.20", 8.2, "numeric"),
        ("1.234,50", 1234.5, "numeric"),
        (3.33, 3.3333, "numeric"),
        (10.006, 10.0, ""),
        (10.005, 10.0, "numeric"),
        (12_000_000.4, 12_000_000.0, "numeric"),
        (-12.5, 12.5, ""),
        ("-12.50", "12.50", ""),
        ("1.5", "15", ""),
        ("1,5 kg", "15 kg", ""),
        ("20180605", "20180606", ""),
        (20180605, 20180606, ""),
        ("0042", 42, ""),
        ("0042", "42", ""),
        ("+49 (30) 123-456", "+49 30 123456", "normalised"),
        ("471102", 471102, "normalised numeric"),
        (True, True, "exact normalised"),
        (True, 1, ""),
        ("true", True, "normalised"),
        ("2018-12-25", "25/12/2018", "date"),
        ("05 MAR 2018", "2018-03-05", "date"),
        ("2018-03-04", "2018-04-03", ""),
        ("2018-03-04T10:00:00", "2018-03-04", "date"),
        ("2018-03-04 10:00", "2018-03-04 11:00", ""),
        ("NO.53 55,57 & 59, JALAN", "No. 53 55 57 59 Jalan", "normalised"),
        ("東京 都", "東京都", "normalised"),
        ("-", "x", ""),
        ("***", "---", ""),
    ],
)
def test_ways_to_say_the_same(predicted: Any, expected: Any, ways: str) -> None:
    """A metric that forgives a lost decimal point or sign would flatter every figure made with it."""
    judgement = judge(predicted, expected)
    assert " ".join(n for n in ("exact", "normalised", "numeric", "date") if getattr(judgement, n)) == ways
    assert judgement.is_match == bool(ways)


def test_day_first_reads_ambiguous_dates() -> None:
    """The same truth file means other days in Malaysia than in the USA."""
    assert not judge("2018-04-03", "03/04/2018").is_match
    assert judge("2018-04-03", "03/04/2018", EvaluationOptions(day_first=True)).date


def test_token_f1_by_hand() -> None:
    """Four tokens against three, two in common: 2*2/(4+3)."""
    judgement = judge("Acme Ltd of Leeds", "Acme Leeds plc")
    assert judgement.token_f1 == pytest.approx(4 / 7)
    assert not judgement.is_match


def test_verdicts_by_hand() -> None:
    """One document with one leaf of each fate."""
    truth = {"a": "x", "b": 5, "c": "2020-01-02", "d": None, "e": {"f": "g", "h": ""}, "i": None}
    data = {"a": "X", "b": 6, "c": None, "d": "made up", "e": {"f": "g", "new": 1}, "also": {"new": [1, 2, None]}}
    counts = count(data, truth)
    assert verdicts(counts) == {"matched": 2, "wrong": 1, "missing": 1, "invented": 1, "extra": 3}
    assert counts.expected == 4
    assert counts.accuracy == pytest.approx(2 / 4)
    assert counts.precision == pytest.approx(2 / 4)
    assert counts.f1 == pytest.approx(2 * 2 / (4 + 4))
    assert (counts.exact, counts.normalised, counts.numeric, counts.date) == (1, 2, 0, 0)


def test_absent_data_is_all_missing() -> None:
    """A failed document must lower the score, not drop out of it."""
    assert verdicts(count(None, {"a": 1, "b": [{"c": 2}, {"c": None}], "d": ["x"]})) == {"missing": 3}


def test_wrong_shape_is_both_missing_and_invented() -> None:
    """An object where a text belongs answers nothing and says something that is not there."""
    assert verdicts(count({"a": {"b": 1, "c": 2}}, {"a": "x"})) == {"missing": 1, "invented": 2}
    assert verdicts(count({"a": "x"}, {"a": {"b": 1, "c": None}})) == {"missing": 1, "invented": 1}


def test_lists_of_values_are_multisets() -> None:
    """Order does not count, repeats do."""
    assert verdicts(count({"p": ["b", "A"]}, {"p": ["a", "b"]})) == {"matched": 2}
    assert verdicts(count({"p": ["a", "a"]}, {"p": ["a"]})) == {"matched": 1, "invented": 1}
    assert verdicts(count({"p": ["a"]}, {"p": ["a", "a", "c"]})) == {"matched": 1, "missing": 2}
    assert verdicts(count({"p": ["a", "z", None]}, {"p": ["a", "b", "c"]})) == {"matched": 1, "wrong": 1, "missing": 1}
    assert verdicts(count({"p": "a"}, {"p": ["a"]})) == {"matched": 1}
    assert verdicts(count({"p": ["x"]}, {"p": []})) == {"invented": 1}


def test_rows_by_hand() -> None:
    """Three rows against three: one whole, one with a wrong leaf, one missing, one invented."""
    truth = {"rows": [{"n": "bolt", "q": 1, "x": 5}, {"n": "nut", "q": 2, "x": 6}, {"n": "cog", "q": 3, "x": 7}]}
    data = {
        "rows": [
            {"n": "nut", "q": 9, "x": 6, "new": 1},
            {"n": "gear", "q": 100, "x": 200, "new": 2},
            {"n": "BOLT", "q": 1.0, "x": "5.00"},
        ]
    }
    rows = rows_of(data, truth, "rows")
    assert (rows.expected, rows.predicted, rows.paired, rows.whole) == (3, 3, 2, 1)
    assert (rows.missing, rows.invented) == (1, 1)
    assert verdicts(rows.leaves) == {"matched": 5, "wrong": 1, "missing": 3, "invented": 3, "extra": 2}
    # 9 leaves expected, 9 given, 5 match.
    assert (rows.leaves.accuracy, rows.leaves.precision, rows.leaves.f1) == pytest.approx((5 / 9, 5 / 9, 5 / 9))


def test_rows_are_paired_for_the_best_sum_not_greedily() -> None:
    """Taking the best partner for the first row first would leave the second with none."""
    truth = {"rows": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 9}]}
    data = {"rows": [{"a": 1, "b": 2, "c": 3}, {"a": 7, "b": 8, "c": 3}]}
    assert count(data, truth).matched == 3
    crossed = {"rows": [{"a": 1, "b": 2, "c": 9}, {"a": 1, "b": 5, "c": 3}]}
    assert count(crossed, truth).matched == 5


def test_invented_rows_where_the_truth_has_none() -> None:
    """An empty list is a statement: there are no rows."""
    rows = rows_of({"rows": [{"a": 1, "b": None}]}, {"rows": []}, "rows")
    assert (rows.expected, rows.invented, rows.leaves.invented) == (0, 1, 1)


def test_nested_lists_are_paired_within_their_rows() -> None:
    """Tables with groups of rows must not mix the rows of two groups."""
    truth = {"g": [{"k": "A", "r": [{"v": 1}, {"v": 2}]}, {"k": "B", "r": [{"v": 3}]}]}
    data = {"g": [{"k": "B", "r": [{"v": 3}]}, {"k": "A", "r": [{"v": 2}]}]}
    assert verdicts(count(data, truth)) == {"matched": 4, "missing": 1}
    assert rows_of(data, truth, "g/*/r").missing == 1


def test_fields_can_be_mapped_ignored_and_chosen() -> None:
    """Truth and schema rarely use the same names; the comparison must not need the files rewritten."""
    truth = {
        "totals": {"grand_total": 5},
        "line_items": [{"name": "x", "line_total": 1, "unit": "C62"}],
        "profile": "p",
    }
    data = {
        "gross_amount": 5,
        "items": [{"description": "x", "amount": 1, "unit": "Stk"}],
        "totals": {"grand_total": 9},
    }
    options = EvaluationOptions(
        map={
            "totals/grand_total": "gross_amount",
            "line_items/*/name": "items/*/description",
            "/line_items/*/line_total": "/items/*/amount",
        },
        ignore=["profile", "line_items/*/unit"],
    )
    assert verdicts(count(data, truth, options)) == {"matched": 3, "extra": 1}
    assert verdicts(count(data, truth, EvaluationOptions(only=["totals"]))) == {"wrong": 1}
    assert data["gross_amount"] == 5, "the prediction itself stays as it was"


def test_mapped_field_is_not_answered_by_its_namesake() -> None:
    """When `amount` is to come from `total`, another field that happens to be called `amount` is no answer."""
    options = EvaluationOptions(map={"amount": "total"})
    assert verdicts(count({"amount": 5}, {"amount": 5}, options)) == {"missing": 1}
    swapped = EvaluationOptions(map={"a": "b", "b": "a"})
    assert verdicts(count({"a": 1, "b": 2}, {"a": 2, "b": 1}, swapped)) == {"matched": 2}


def test_leaves_the_truth_disowns_are_left_out() -> None:
    """Truths taken from embedded XML hold values the page does not show; nobody can read those."""
    truth = {"totals": {"a": 1, "b": 2}, "rows": [{"x": 1, "y": 2}]}
    counts = count({"totals": {"a": 9, "b": 2}, "rows": [{"x": 1}]}, truth, None, ("/totals/a", "rows/0/y"))
    assert verdicts(counts) == {"matched": 2}


def test_similarity_counts_only_where_asked_for() -> None:
    """Addresses with noisy labels are matched by likeness; totals never are."""
    truth, data = {"address": "12, JALAN TAMPOI 7/4, JOHOR"}, {"address": "12, JALAN TAMPO1 7/4, JOHOR"}
    assert verdicts(count(data, truth)) == {"wrong": 1}
    assert verdicts(count(data, truth, EvaluationOptions(similar={"address": 0.9}))) == {"matched": 1}


def test_folders_are_matched_by_name(tmp_path: Path) -> None:
    """A figure over the wrong pairs is worse than none, so names must agree and the rest is listed."""
    predicted = write(
        tmp_path / "out",
        {
            "sub/a.pdf.json": record("sub/a.pdf", {"x": 1}),
            "b.tar.gz.json": record("b.tar.gz", {"x": 1}),
            "c.pdf.json": {"x": 1},
            "d.pdf.json": record("d.pdf", {"x": 1}),
            "d.png.json": record("d.png", {"x": 1}),
            "e.pdf.json": record("e.pdf", None),
            "2019/f.pdf.json": record("2019/f.pdf", {"x": 1}),
            "run.json": {"not": "a record"},
            ".ingest/state.json": {"not": "a record"},
        },
    )
    expected = write(
        tmp_path / "truth",
        {
            "sub/a.truth.json": {"truth": {"x": 1}},
            "b.tar.gz.gold.json": {"x": 1},
            "c.pdf.truth.json": {"x": 2},
            "d.truth.json": {"x": 1},
            "e.truth.json": {"truth": {"x": 1}},
            "2018/f.truth.json": {"x": 1},
            "catalog.json": {"not": "a truth"},
        },
    )
    result = evaluate(predicted, expected)
    pairs = {(score.name, score.truth, score.counts.matched, score.counts.expected) for score in result.documents}
    assert pairs == {
        ("sub/a.pdf", "sub/a", 1, 1),
        ("b.tar.gz", "b.tar.gz", 1, 1),
        ("c.pdf", "c.pdf", 0, 1),
        ("e.pdf", "e", 0, 1),
    }
    assert set(result.untold) == {"d.pdf", "d.png", "2019/f.pdf"}
    assert [name.partition(" ")[0] for name in result.unpredicted] == ["2018/f", "d"]
    assert "d.pdf, d.png" in result.unpredicted[1]
    assert result.overall.accuracy == pytest.approx(2 / 4)
    strict = evaluate(predicted, expected, EvaluationOptions(require_all=True))
    assert strict.overall.accuracy == pytest.approx(2 / 6)


def test_truths_deeper_or_less_deep_than_records_are_found(tmp_path: Path) -> None:
    """A run over a parent folder puts its name before every record's name."""
    predicted = write(tmp_path / "out", {"receipts/r1.jpg.json": record("receipts/r1.jpg", {"x": 1})})
    expected = write(tmp_path / "truth", {"r1.truth.json": {"truth": {"x": 1}}, "r2.truth.json": {"truth": {"x": 1}}})
    assert [score.truth for score in evaluate(predicted, expected).documents] == ["r1"]


def test_single_files_and_lines_of_records(tmp_path: Path) -> None:
    """Two files named on the command line belong together; records.jsonl is a folder in one file."""
    folder = write(tmp_path, {"p.json": record("other.pdf", {"x": 1}), "t.json": {"truth": {"x": 1}}})
    assert evaluate(folder / "p.json", folder / "t.json").overall.accuracy == 1
    lines = "\n".join(json.dumps(record(f"{name}.pdf", {"x": "\u2028"}), ensure_ascii=False) for name in "ab")
    (tmp_path / "records.jsonl").write_text(lines + "\n", encoding="utf-8")
    truths = write(tmp_path / "truths", {"a.json": {"x": "\u2028y"}, "b.json": {"x": "y"}})
    assert len(evaluate(tmp_path / "records.jsonl", truths).documents) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"p/x.json": {"a": 1}, "t/y.json": {"a": 1}}, "names do not match"),
        ({"t/y.json": {"a": 1}}, "no records"),
        ({"p/x.json": {"a": 1}}, "no truth"),
    ],
)
def test_nothing_to_compare_is_an_error(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    """An evaluation of nothing must not report success."""
    (tmp_path / "p").mkdir()
    (tmp_path / "t").mkdir()
    write(tmp_path, files)
    with pytest.raises(ConfigError) as caught:
        evaluate(tmp_path / "p", tmp_path / "t")
    assert words in str(caught.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    """One damaged truth among hundreds must be found at once."""
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\.json"):
        evaluate(tmp_path / "a.json", tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"missing\.json"):
        evaluate(tmp_path / "missing.json", tmp_path / "a.json")
    (tmp_path / "map.json").write_text('{"a/*/b": "c"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="equally often"):
        read_map(tmp_path / "map.json")


def test_minimums_catch_low_unknown_and_empty_fields(tmp_path: Path) -> None:
    """A gate that a typing error opens is no gate."""
    predicted = write(tmp_path / "p", {"a.pdf.json": {"x": 1, "rows": [{"y": 1}, {"y": 2}]}})
    expected = write(tmp_path / "t", {"a.json": {"x": 1, "rows": [{"y": 1}], "z": None}})
    minimums = {"x": 1.0, "rows": 0.9, "rows/*/y": 1.0, "all": 1.0, "nowhere": 0.1, "z": 0.1}
    result = evaluate(predicted, expected, EvaluationOptions(minimums=minimums))
    # rows: one leaf expected, two given, one matches.
    assert {(each.field, each.score) for each in result.shortfalls} == {("rows", 2 / 3), ("nowhere", None), ("z", None)}


def test_result_is_json_and_table(tmp_path: Path) -> None:
    """Programs read the numbers, people the table; both must hold the same, in a narrow terminal too."""
    predicted = write(tmp_path / "p", {"a.pdf.json": {"x": "[red]1", "rows": [{"y": 1}]}, "alone.pdf.json": {}})
    expected = write(tmp_path / "t", {"a.json": {"x": "2", "rows": [{"y": 1}, {"y": 5}]}})
    result = evaluate(predicted, expected)
    value = json.loads(json.dumps(result.to_dict()))
    assert value["overall"]["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert value["rows"]["rows"]["missing"] == 1
    assert value["differences"][0] == {
        "document": "a.pdf", "field": "x", "pointer": "/x", "verdict": "wrong", "expected": "2", "predicted": "[red]1",
    }  # fmt: skip
    out = StringIO()
    Console(file=out, width=100).print(render(result, max_differences=5))
    for words in ("1 of 3 values match", "rows/*/y", "33.3%", "[red]1", "not scored: alone.pdf"):
        assert words in out.getvalue()


def test_pairing_is_optimal() -> None:
    """Checked against every permutation."""

    @given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
    def check(weights: list[list[int]]) -> None:
        pairs = best_pairing(weights)
        rows, columns = len(weights), 4
        assert len(pairs) == min(rows, columns)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
        table = weights if rows <= columns else [list(column) for column in zip(*weights, strict=True)]
        best = max(
            sum(table[row][column] for row, column in enumerate(chosen))
            for chosen in permutations(range(len(table[0])), len(table))
        )
        assert sum(weights[row][column] for row, column in pairs) == best

    check()


LEAF = (
    st.integers(-99, 99) | st.text("abc 12.-", min_size=1, max_size=6).filter(lambda text: text.strip()) | st.booleans()
)
ROW = st.dictionaries(st.sampled_from("xyz"), LEAF, min_size=1)
DOCUMENT = st.fixed_dictionaries({"f": LEAF, "v": st.lists(LEAF, max_size=4), "rows": st.lists(ROW, max_size=5)})


@given(DOCUMENT)
def test_perfect_prediction_scores_one(document: dict[str, Any]) -> None:
    """Anything less would put a ceiling on what can be reached."""
    counts = count(document, document)
    assert counts.accuracy == counts.precision == counts.f1 == 1.0
    assert set(verdicts(counts)) == {"matched"}


@given(DOCUMENT, DOCUMENT, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(data: dict[str, Any], truth: dict[str, Any], random: Any) -> None:
    """A table read from right to left is the same table."""
    shuffled = data | {key: random.sample(data[key], len(data[key])) for key in ("v", "rows")}
    assert count(shuffled, truth).to_dict() == count(data, truth).to_dict()


@given(st.lists(ROW, min_size=1, max_size=6), st.data())
def test_dropped_rows_are_missing(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """Dropping k rows costs exactly their leaves, and no other row is blamed."""
    kept = data.draw(st.sets(st.sampled_from(range(len(rows)))))
    score = rows_of({"rows": [rows[n] for n in sorted(kept)]}, {"rows": rows}, "rows")
    assert (score.missing, score.invented, score.whole) == (len(rows) - len(kept), 0, len(kept))
    assert score.leaves.missing == sum(len(row) for row in rows) - sum(len(rows[n]) for n in kept)


def test_long_tables_are_compared_in_bounded_time() -> None:
    """Thousands of rows, shuffled, some missing, some wrong: seconds, and the counts still right."""
    truth = [{"n": f"row {n}", "q": n % 7, "x": n * 1.5} for n in range(2000)]
    data = [dict(row) for row in reversed(truth[:-50])]
    for row in data[:100]:
        row["x"] = -1.0
    begin = time.monotonic()
    score = rows_of({"rows": data}, {"rows": truth}, "rows")
    assert time.monotonic() - begin < 20
    assert (score.paired, score.missing, score.invented, score.whole) == (1950, 50, 0, 1850)
    assert score.leaves.wrong == 100


@pytest.mark.corpus
def test_truths_of_the_corpus_agree_with_themselves(corpus: Path, tmp_path: Path) -> None:
    """Every truth must be readable, and reaching 100 % must be possible on it."""
    for folder in ("receipts", "invoices", "adbuys", "contracts", "peer-cases", "extract-bench"):
        out = tmp_path / folder
        for path in sorted((corpus / folder).rglob("*.json")):
            name = path.relative_to(corpus / folder).as_posix()
            stem = name.removesuffix(".truth.json").removesuffix(".gold.json")
            if stem != name:
                value = json.loads(path.read_text(encoding="utf-8"))
                write(out, {f"{stem}.pdf.json": record(f"{folder}/{stem}.pdf", value.get("truth", value))})
        result = evaluate(out, corpus / folder)
        assert (result.overall.accuracy, result.overall.precision) == (1.0, 1.0), folder
        assert not result.unpredicted
        assert not result.overall.extra


def test_one_map_serves_truths_of_several_shapes() -> None:
    """A field must not be moved away for a truth that knows it under its own name."""
    options = EvaluationOptions(map={"lines/*/pos": "items/*/position", "name": "title"})
    predicted = {"title": "A", "items": [{"position": "1"}]}
    for expected in ({"items": [{"position": "1"}]}, {"lines": [{"pos": "1"}], "name": "A"}):
        verdicts = [leaf.verdict for leaf in compare(predicted, expected, options).leaves]
        assert verdicts.count("matched") == len(expected)
        assert not {"missing", "wrong"} & set(verdicts)


def test_signs_may_be_left_out_of_a_field() -> None:
    """A credit note is negative on paper and positive in its XML; elsewhere a wrong sign is a wrong value."""
    options = EvaluationOptions(unsigned=("totals",))
    predicted, expected = {"totals": {"net": -5.5}, "balance": -5.5}, {"totals": {"net": 5.5}, "balance": 5.5}
    verdicts = {leaf.field: leaf.verdict for leaf in compare(predicted, expected, options).leaves}
    assert verdicts == {("totals", "net"): "matched", ("balance",): "wrong"}


def test_times_match_within_the_distance_allowed(tmp_path: Path) -> None:
    """Frames sampled once a second cannot tell when a slide appeared to the tenth; whole seconds may differ as well."""
    truth, predicted = tmp_path / "a.truth.json", tmp_path / "a.json"
    truth.write_text(
        json.dumps({"truth": {"slides": [{"title": "Plan", "start_s": 12}, {"title": "End", "start_s": 30.4}]}})
    )
    predicted.write_text(json.dumps({"slides": [{"title": "Plan", "start_s": 13}, {"title": "End", "start_s": 32.4}]}))
    strict = evaluate(predicted, truth, EvaluationOptions()).to_dict()["overall"]
    wide = evaluate(predicted, truth, EvaluationOptions(within={"slides/*/start_s": 1.0})).to_dict()["overall"]
    assert (strict["matched"], wide["matched"]) == (2, 3)


def test_fields_a_truth_does_not_score_do_not_count(tmp_path: Path) -> None:
    """A summary in other words is not wrong."""
    truth, predicted = tmp_path / "a.truth.json", tmp_path / "a.json"
    values = {"total": 3, "summary": None, "rows": [{"a": 1, "note": "x"}]}
    truth.write_text(json.dumps({"truth": values, "unscored": ["summary", "rows/*/note"]}))
    predicted.write_text(json.dumps({"total": 3, "summary": "So it is.", "rows": [{"a": 1, "note": "y"}]}))
    overall = evaluate(predicted, truth, EvaluationOptions()).to_dict()["overall"]
    assert (overall["accuracy"], overall["precision"]) == (1.0, 1.0)
