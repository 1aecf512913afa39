"""Whole documents through the merge, with readers of known quality in the model's place."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.merging.grounding import ground, ground_conflicts
from ingest.merging.merge import merge
from ingest.merging.pages import PageText
from ingest.types import Word
from tests.conftest import ROOT
from tests.merging_readers import (
    INVOICE,
    NoisyReader,
    Truth,
    cut,
    draw_invoice,
    plain,
    read_exactly,
)
from tests.merging_samples import page_texts

ROWS = {"type": "object", "properties": {"lines": {"type": "array", "items": {"type": "object"}}}}


def check_exact(truth: Truth, borders: list[int], context: int, dice: random.Random, is_cited: bool = True) -> None:
    """The merged record is the truth, whatever the order of arrival."""
    partials = [read_exactly(truth, chunk, is_cited) for chunk in cut(truth.pages, borders, context)]
    dice.shuffle(partials)
    merged = merge(partials, truth.schema)
    assert merged.data == truth.data
    assert merged.conflicts == ()
    assert json.dumps(merged.data, sort_keys=False) == json.dumps(truth.data, sort_keys=False)


def exact_cases(pages: int, rows: int) -> Any:
    """An invoice's seed, its rows and pages, where it is cut, the context and whether values are cited."""
    return st.integers(1, pages).flatmap(
        lambda count: st.tuples(
            st.randoms(use_true_random=False),
            st.integers(5, rows),
            st.just(count),
            st.lists(st.integers(1, max(1, count - 1)), max_size=count),
            st.integers(0, 2),
        )
    )


@given(exact_cases(pages=12, rows=60))
@settings(max_examples=80, deadline=None)
def test_exact_reader_gives_the_truth_for_every_partition(case: Any) -> None:
    """However a document is cut, no row may be lost, doubled, moved or joined to another; true repeats stay."""
    dice, rows, pages, borders, context = case
    check_exact(draw_invoice(dice, rows, pages), borders, context, dice)


@given(exact_cases(pages=12, rows=40))
@settings(max_examples=40, deadline=None)
def test_exact_reader_without_cites_gives_the_truth(case: Any) -> None:
    """Evidence is an option: without it, and without context, rows must come out the same."""
    dice, rows, pages, borders, _ = case
    check_exact(draw_invoice(dice, rows, pages), borders, 0, dice, is_cited=False)


@pytest.mark.long
@given(exact_cases(pages=120, rows=2_000))
@settings(max_examples=150, deadline=None)
def test_exact_reader_gives_the_truth_for_large_documents(case: Any) -> None:
    """As above, with up to two thousand rows on a hundred and twenty pages."""
    dice, rows, pages, borders, context = case
    check_exact(draw_invoice(dice, rows, pages), borders, context, dice)


def test_exact_reader_gives_the_truth_for_one_large_document() -> None:
    """The largest case of the long test above, once, so that every run has seen it."""
    dice = random.Random(7)
    check_exact(draw_invoice(dice, 2_000, 120), list(range(1, 120)), 1, dice)


def check_noisy(seed: int, rows: int, pages: int) -> Counter[str]:
    """Count what a noisy reader's document loses, doubles and recovers."""
    dice = random.Random(seed)
    truth, reader = draw_invoice(dice, rows, pages), NoisyReader(dice)
    chunks = cut(pages, dice.sample(range(1, pages), dice.randint(1, pages - 1)), context=dice.randint(1, 2))
    partials = [reader.read(truth, chunk) for chunk in chunks]
    dice.shuffle(partials)
    merged = merge(partials, INVOICE)
    found = Counter(plain(row) for row in merged.data["lines"])
    wanted = Counter(plain(row) for row, _ in truth.rows)
    dropped = Counter(plain(truth.rows[n][0]) for n in reader.dropped)
    assert not found - wanted, "rows doubled or made up"
    assert not (wanted - found) - dropped, "rows lost that the reader reported"
    if not reader.dropped:
        assert [plain(row) for row in merged.data["lines"]] == [plain(row) for row, _ in truth.rows]
    if 0 < reader.misread < len(chunks):
        assert [conflict.pointer for conflict in merged.conflicts if conflict.pointer == "/number"] == ["/number"]
        (conflict,) = (conflict for conflict in merged.conflicts if conflict.pointer == "/number")
        assert {side.value for side in conflict.sides} == {"RE-00000", truth.values["number"][0]}
    return Counter(
        documents=1,
        rows=rows,
        dropped=len(reader.dropped),
        lost=sum((wanted - found).values()),
        doubled=sum((found - wanted).values()),
        misread=reader.misread,
        conflicts=len(merged.conflicts),
    )


def test_noisy_reader_doubles_nothing_and_loses_nothing_of_what_it_saw() -> None:
    """Models repeat rows of context pages and write them otherwise; that must cost neither a row nor a double."""
    total = sum((check_noisy(seed, 60, 12) for seed in range(40)), Counter())
    assert total["dropped"] > total["lost"], "what one chunk overlooks another's context brings back"


@pytest.mark.long
def test_noisy_reader_on_large_documents() -> None:
    """As above, on documents of up to two thousand rows; prints the figures."""
    total: Counter[str] = Counter()
    for seed in range(60):
        dice = random.Random(seed)
        total += check_noisy(seed, dice.randint(200, 2_000), dice.randint(10, 120))
    print(dict(total))


def record_bytes(seed: int, arrival: int) -> bytes:
    """All that merging and grounding put into a record, of a noisy document whose answers came in some order."""
    dice = random.Random(seed)
    truth, reader = draw_invoice(dice, 80, 10), NoisyReader(dice)
    partials = [reader.read(truth, chunk) for chunk in cut(10, [2, 3, 5, 8], context=1)]
    random.Random(arrival).shuffle(partials)
    rules: dict[str, Any] = {
        "/seller/name": "longest",
        "/lines": {"x-merge": "by-key", "x-merge-key": ["name", "price"]},
    }
    merged = merge(partials, INVOICE, rules if seed % 2 else {})
    pages = {
        number: PageText(number, tuple(words_of(row for row, page in truth.rows if page == number)))
        for number in range(1, 11)
    }
    chunk_pages = {partial.chunk.index: tuple(part.number for part in partial.chunk.parts) for partial in partials}
    provenance = ground(merged.data, merged.origins, pages, chunk_pages, INVOICE)
    conflicts = ground_conflicts(merged.conflicts, merged.side_origins, pages, chunk_pages)
    written = {pointer: [each.model_dump() for each in places] for pointer, places in provenance.items()}
    whole = [merged.data, written, [conflict.model_dump() for conflict in conflicts]]
    return json.dumps(whole, ensure_ascii=False).encode()


def words_of(rows: Iterable[dict[str, Any]]) -> Iterator[Word]:
    """The values of rows as words on lines."""
    for line, row in enumerate(rows):
        for place, value in enumerate(str(value) for value in row.values() if value is not None):
            yield Word(value, (place * 90.0, line * 12.0, place * 90.0 + 80, line * 12.0 + 10))


@pytest.mark.parametrize("seed", range(6))
def test_same_answers_give_the_same_bytes(seed: int) -> None:
    """Answers come when they come; a rerun must write the same record to the byte."""
    assert len({record_bytes(seed, arrival) for arrival in range(5)}) == 1


def test_bytes_do_not_depend_on_the_process() -> None:
    """Sets are ordered by a hash that differs from one process to the next; records must not be."""
    program = "import hashlib; from tests.test_merging_readers import record_bytes as r; "
    program += "print(hashlib.sha256(r(0, 0) + r(1, 1) + r(3, 2)).hexdigest())"
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    outputs = {
        subprocess.run([sys.executable, "-c", program], env=each, cwd=ROOT, capture_output=True, check=True).stdout
        for each in environments
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 60


def lines_as_rows(pages: dict[int, PageText]) -> Truth:
    """Every printed line of a document as a row of cells: what a table reader would report at best."""
    rows = []
    for number, page in sorted(pages.items()):
        for line in page.lines:
            cells: list[list[int]] = list(page._cells(line))
            rows.append(({f"c{n}": " ".join(page.words[w].text for w in cell) for n, cell in enumerate(cells)}, number))
    return Truth(max(pages), tuple(rows), schema=ROWS)


@pytest.mark.corpus
def test_rows_of_real_documents_survive_every_cut(corpus: Path) -> None:
    """Real tables have ragged rows, group headings and rows that repeat; none may be taken for a half of another."""
    dice = random.Random(3)
    counted = 0
    for file in sorted((corpus / "adbuys").glob("*.pdf")):
        truth = lines_as_rows(page_texts(file))
        counted += len(truth.rows)
        for context in (0, 1):
            check_exact(truth, list(range(truth.pages)), context, dice)
            check_exact(truth, [dice.randint(1, truth.pages) for _ in range(2)], context, dice)
    for file in sorted((corpus / "tables").glob("*.truth.json")):
        truth = marked_rows(json.loads(file.read_text())["truth"])
        counted += len(truth.rows)
        for context in (0, 1):
            check_exact(truth, list(range(truth.pages)), context, dice)
            check_exact(truth, [dice.randint(1, truth.pages) for _ in range(2)], context, dice)
    assert counted > 1_000


def marked_rows(truth: dict[str, Any]) -> Truth:
    """The rows of tables marked by hand, in reading order."""
    rows: dict[tuple[int, int, int], dict[str, Any]] = {}
    for table, found in enumerate(truth["tables"]):
        for region in found["regions"]:
            for cell in region["cells"]:
                row = rows.setdefault((region["page"], table, cell["row"]), {})
                row[f"c{cell['col']}"] = cell["text"] or None
    ordered = tuple((row, page) for (page, _, _), row in sorted(rows.items(), key=lambda item: item[0]))
    return Truth(max(page for _, page in ordered), ordered, schema=ROWS)
