"""What happens to rows at the border of two chunks: copies, halves, and rows that are neither."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.merging.borders import join_text
from ingest.merging.merge import Merged, Origin, merge
from ingest.types import Cite, Partial
from tests.merging_readers import INVOICE, cut

ROW = {"position": "1", "article": "A1", "name": "Bolt", "quantity": 2, "price": 1.5, "amount": 3}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A whole row like no other."""
    return {
        "position": str(number),
        "article": f"A{number}",
        "name": f"Bolt {number}",
        "quantity": number,
        "price": 1.5,
        "amount": number * 1.5,
    } | changes


def empty(**filled: Any) -> dict[str, Any]:
    """A row that has only what is given."""
    return dict.fromkeys(ROW) | filled


def merge_rows(*lists: list[tuple[dict[str, Any], int | None]], context: int = 0, gap: int = 0) -> Merged:
    """Merge one list per chunk of one page; each row comes with the page it cites. `gap` pages were not answered."""
    chunks = cut(len(lists) + gap, range(1, len(lists) + gap), context)
    if gap:
        del chunks[1 : 1 + gap]
    partials = [
        Partial(
            chunk,
            {"lines": [value for value, _ in rows]},
            {f"/lines/{n}": Cite(page) for n, (_, page) in enumerate(rows) if page is not None},
        )
        for chunk, rows in zip(chunks, lists, strict=True)
    ]
    return merge(partials, INVOICE)


def on(page: int | None, *rows: dict[str, Any]) -> list[tuple[dict[str, Any], int | None]]:
    """Rows that cite one page."""
    return [(each, page) for each in rows]


def test_row_reported_from_a_context_page_is_its_owners_row() -> None:
    """A row seen by two chunks is one row; the neighbour's view fills what the owner's has empty."""
    merged = merge_rows(on(1, row(1), row(2, amount=None)), on(1, row(2, name="BOLT  2")) + on(2, row(3)), context=1)
    assert merged.data["lines"] == [row(1), row(2), row(3)]
    assert merged.conflicts == ()
    assert merged.origins["/lines/1/amount"] == (Origin(1, Cite(1)),)


def test_equal_rows_on_their_own_pages_stay() -> None:
    """The same article ordered twice, once on each side of the border, was ordered twice."""
    merged = merge_rows(on(1, row(1), row(2)), on(2, row(2), row(3)), context=1)
    assert merged.data["lines"] == [row(1), row(2), row(2), row(3)]


def test_each_copy_stands_for_one_row() -> None:
    """Two equal rows, both copied by the neighbour, are two rows and not four or one."""
    merged = merge_rows(on(1, row(1), row(2), row(2)), on(1, row(2), row(2)) + on(2, row(3)), context=1)
    assert merged.data["lines"] == [row(1), row(2), row(2), row(3)]


def test_copy_that_reads_otherwise_is_a_conflict_not_a_row() -> None:
    """One figure misread on one side must show as a disagreement about that figure."""
    merged = merge_rows(on(1, row(1), row(2)), on(1, row(2, amount=8)) + on(2, row(3)), context=1)
    assert merged.data["lines"] == [row(1), row(2), row(3)]
    (conflict,) = merged.conflicts
    assert conflict.pointer == "/lines/1/amount"
    assert [(side.value, side.chunk) for side in conflict.sides] == [(3.0, 0), (8, 1)]


def test_row_that_only_a_neighbour_saw_is_kept_once() -> None:
    """What the owner overlooked and both neighbours report is found, and found once."""
    merged = merge_rows(on(1, row(1)) + on(2, row(2)), on(2, row(3)), on(2, row(2)) + on(3, row(4)), context=1)
    assert sorted(line["position"] for line in merged.data["lines"]) == ["1", "2", "3", "4"]


def test_text_cut_by_the_border_is_completed_by_the_side_that_sees_it_whole() -> None:
    """The owner reads the row to the end of its page, the neighbour reads all of it."""
    merged = merge_rows(
        on(1, row(1), row(2, name="Bolt, galvanised")),
        on(1, row(2, name="Bolt, galvanised, with washer")) + on(2, row(3)),
        context=1,
    )
    assert merged.data["lines"][1] == row(2, name="Bolt, galvanised, with washer")
    assert merged.conflicts == ()
    assert merged.origins["/lines/1/name"] == (Origin(0, Cite(1), "Bolt, galvanised"), Origin(1, Cite(1)))


def test_uncited_copies_are_told_by_the_run_they_form() -> None:
    """Without evidence a copy is known by its place: the end of one list, in order, at the head of the next."""
    first, second = on(None, row(1), row(2), row(3)), on(None, row(2), row(3), row(4))
    assert len(merge_rows(first, second, context=1).data["lines"]) == 4
    assert len(merge_rows(first, second, context=0).data["lines"]) == 6, "nobody saw the other's page"
    same = on(None, row(1), row(1))
    assert len(merge_rows(same, same, context=1).data["lines"]) == 4, "rows all alike prove nothing"


WHOLE = [row(number) for number in range(10, 14)]


@pytest.mark.parametrize(
    ("head", "rest", "whole"),
    [
        (
            empty(position="5", article="A5", name="Bolt"),
            empty(quantity=5, price=1.5, amount=7.5),
            row(5, name="Bolt"),
        ),
        (row(5, name="Bolt, galva-"), empty(name="nised"), row(5, name="Bolt, galvanised")),
        (row(5, name="Bolt, galvanised,"), empty(name="DIN 933"), row(5, name="Bolt, galvanised, DIN 933")),
        (row(5, name="Bolt (galvanised"), empty(name="10 pieces)"), row(5, name="Bolt (galvanised 10 pieces)")),
        (row(5, name="Bolt galvanised"), empty(name="with washer"), row(5, name="Bolt galvanised with washer")),
        (
            empty(position="5", article="A5", name="Bolt,"),
            empty(name="zinc", quantity=5, price=1.5, amount=7.5),
            row(5, name="Bolt, zinc"),
        ),
        (
            empty(position="5", article="A5", name="Bolt"),
            empty(position="5", quantity=5, price=1.5, amount=7.5),
            row(5, name="Bolt"),
        ),
    ],
)
def test_halves_of_a_row_become_one(head: dict[str, Any], rest: dict[str, Any], whole: dict[str, Any]) -> None:
    """A page break through a row must not make two broken rows of it, and both halves stay its evidence."""
    merged = merge_rows(on(1, *WHOLE, head), on(2, rest, *WHOLE))
    assert merged.data["lines"] == [*WHOLE, whole, *WHOLE]
    assert merged.conflicts == ()
    assert {o.chunk_index for key in ROW for o in merged.origins[f"/lines/4/{key}"]} == {0, 1}


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (row(5), row(6)),
        (row(5), row(5)),
        (row(5), empty(name="Delivery free of charge")),
        (empty(name="Services"), row(6)),
        (empty(position="5", name="Bolt", amount=7), empty(position="6", name="nut", price=8)),
        (empty(name="Bolt"), empty(name="Nut")),
        (row(5, amount=None), row(6, quantity=None)),
        (empty(position="5", article="A5", name="Bolt"), empty(quantity=5)),
    ],
)
def test_two_rows_stay_two(head: dict[str, Any], rest: dict[str, Any]) -> None:
    """Rows with gaps are common; joining two of them would destroy both."""
    merged = merge_rows(on(1, *WHOLE, head), on(2, rest, *WHOLE))
    assert merged.data["lines"] == [*WHOLE, head, rest, *WHOLE]


HEAD = empty(position="5", article="A5", name="Bolt")
REST = empty(quantity=5, price=1.5, amount=7.5)


def test_halves_are_joined_only_across_one_border() -> None:
    """With a page missing between them, or away from the border, two fragments have nothing to do with each other."""
    assert len(merge_rows(on(1, *WHOLE, HEAD), on(3, REST, *WHOLE), gap=1).data["lines"]) == 10
    assert len(merge_rows(on(1, *WHOLE, HEAD, WHOLE[0]), on(2, REST, *WHOLE)).data["lines"]) == 11
    assert len(merge_rows(on(1, *WHOLE, HEAD), on(2, WHOLE[0], REST)).data["lines"]) == 7


def test_halves_need_whole_rows_to_compare_with() -> None:
    """Nobody can say what a whole row of this document has when only fragments are known."""
    assert len(merge_rows(on(1, HEAD), on(2, REST)).data["lines"]) == 2


def test_rest_that_cites_the_page_where_the_row_begins_is_joined() -> None:
    """An entry cites the page where it starts, even where the reader only sees its end."""
    merged = merge_rows(on(1, *WHOLE, HEAD), on(1, REST) + on(2, *WHOLE), context=1)
    assert merged.data["lines"] == [*WHOLE, row(5, name="Bolt"), *WHOLE]


def test_row_over_three_pages() -> None:
    """A description may go on for pages."""
    merged = merge_rows(
        on(1, *WHOLE, row(5, name="Bolt,")), on(2, empty(name="galvanised,")), on(3, empty(name="large"), *WHOLE)
    )
    assert merged.data["lines"] == [*WHOLE, row(5, name="Bolt, galvanised, large"), *WHOLE]
    assert [origin.said for origin in merged.origins["/lines/4/name"]] == ["Bolt,", "galvanised,", "large"]


@pytest.mark.parametrize(
    ("one", "other", "whole"),
    [
        ("galva-", "nised", "galvanised"),
        ("A4-", "Paper", "A4- Paper"),
        ("steel,", "2 m", "steel, 2 m"),
        ("東京都", "千代田区", "東京都千代田区"),
    ],
)
def test_texts_are_put_together_as_they_were_broken(one: str, other: str, whole: str) -> None:
    """A hyphen that only broke a word goes, one that belongs to it stays."""
    assert join_text(one, other) == whole


CELL = st.none() | st.sampled_from(["a", "b,", "c-"]) | st.integers(0, 3)
ROWS = st.lists(st.fixed_dictionaries({"name": CELL, "unit": CELL, "amount": CELL}), max_size=5)


@given(st.lists(ROWS, min_size=1, max_size=5), st.integers(0, 1))
@settings(deadline=None)
def test_nothing_said_is_lost(lists: list[list[dict[str, Any]]], context: int) -> None:
    """Whatever is joined or recognised as a copy, every value that was reported is in the record or in a conflict."""
    merged = merge_rows(*(on(number, *rows) for number, rows in enumerate(lists, start=1)), context=context)
    kept = {str(value) for line in merged.data["lines"] for value in line.values()}
    kept |= {str(side.value) for conflict in merged.conflicts for side in conflict.sides}
    told = [str(value) for rows in lists for line in rows for value in line.values() if value is not None]
    assert all(any(text.rstrip("-") in each for each in kept) for text in told)
