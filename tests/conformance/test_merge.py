"""What every merge strategy must keep, whatever it decides. A strategy in the table is under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.merging.merge import Merged, merge
from ingest.merging.strategies import STRATEGIES, Align
from ingest.types import Chunk, Cite, Part, Partial

SCALARS = st.none() | st.integers(0, 5) | st.booleans() | st.sampled_from(["a", "A", "b", "2020-01-02", "1.5"])
ITEMS = st.dictionaries(st.sampled_from(["id", "x"]), st.none() | st.integers(0, 3), max_size=2) | SCALARS
NAMES = sorted(STRATEGIES)


def values(name: str) -> st.SearchStrategy[Any]:
    """Values a strategy may meet: lists for those that align, anything else too for those that choose."""
    lists = st.lists(ITEMS, max_size=4)
    return st.none() | lists if isinstance(STRATEGIES[name], Align) else SCALARS | lists


def merge_with(name: str, found: list[Any], order: Sequence[int] = ()) -> Merged:
    """The field `f` of as many chunks as values; chunk i owns page i + 1 and cites it. Answers come in `order`."""
    schema = {"properties": {"f": {"x-merge": name, "x-merge-key": "id"}}}
    partials = [
        Partial(Chunk(i, (Part(i, "page", "text"),)), {"f": value}, {"/f": Cite(i + 1)})
        for i, value in enumerate(found)
    ]
    return merge([partials[i] for i in order] or partials, schema)


def leaves(value: Any, pointer: str = "") -> Iterator[str]:
    """Pointers of the leaves that are not null."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{pointer}/{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{pointer}/{number}")
    elif value is not None:
        yield pointer


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_has_an_origin(name: str) -> None:
    """A value without a source is a value nobody can check."""

    @given(st.lists(values(name), min_size=1, max_size=4))
    @settings(deadline=None)
    def check(found: list[Any]) -> None:
        merged = merge_with(name, found)
        assert set(merged.origins) == set(leaves(merged.data))
        for origins in merged.origins.values():
            assert origins
            for origin in origins:
                assert origin.cite.part_number == origin.chunk_index + 1

    check()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "by-key"])
def test_one_partial_is_unchanged(name: str) -> None:
    """With one chunk there is nothing to decide. (`by-key` joins equal keys even then: that is what a key says.)"""

    @given(values(name))
    @settings(deadline=None)
    def check(value: Any) -> None:
        assert merge_with(name, [value]).data == {"f": value}

    check()


@pytest.mark.parametrize("name", NAMES)
def test_null_changes_nothing(name: str) -> None:
    """A chunk that found nothing must not count as a voice."""

    @given(st.lists(values(name), min_size=1, max_size=3))
    @settings(deadline=None)
    def check(found: list[Any]) -> None:
        merged, padded = merge_with(name, found), merge_with(name, [*found, None])
        assert (padded.data, padded.origins, padded.conflicts) == (merged.data, merged.origins, merged.conflicts)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_conflicts_hold_every_side(name: str) -> None:
    """A value that lost must still be shown, with the chunks that said it."""

    @given(st.lists(values(name), min_size=1, max_size=4))
    @settings(deadline=None)
    def check(found: list[Any]) -> None:
        merged = merge_with(name, found)
        assert len(merged.conflicts) == len(merged.side_origins)
        for conflict, origins in zip(merged.conflicts, merged.side_origins, strict=True):
            assert len(conflict.sides) == len(origins) >= 2
            assert conflict.chosen in [side.value for side in conflict.sides]
            for side, chunks in zip(conflict.sides, origins, strict=True):
                assert side.chunk in {origin.chunk_index for origin in chunks}

    check()


@pytest.mark.parametrize("name", NAMES)
def test_order_of_arrival_changes_nothing(name: str) -> None:
    """Answers come when they come."""

    @given(st.lists(values(name), min_size=1, max_size=4), st.randoms(use_true_random=False))
    @settings(deadline=None)
    def check(found: list[Any], dice: Any) -> None:
        order = list(range(len(found)))
        dice.shuffle(order)
        assert merge_with(name, found, order) == merge_with(name, found)

    check()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_repeated_from_context_changes_nothing(name: str) -> None:
    """A chunk that repeats its neighbour's page, with that page as evidence, is no second source."""

    @given(st.lists(values(name), min_size=2, max_size=4))
    @settings(deadline=None)
    def check(found: list[Any]) -> None:
        schema = {"properties": {"f": {"x-merge": name, "x-merge-key": "id"}}}
        parts = [Part(i, "page", "text") for i in range(len(found))]
        plain, repeating = [], []
        for i, value in enumerate(found):
            chunk = Chunk(i, (parts[i],), (parts[i - 1],) if i else ())
            items = {f"/f/{n}": Cite(i + 1) for n in range(len(value))} if isinstance(value, list) else {}
            plain.append(Partial(chunk, {"f": value}, {"/f": Cite(i + 1), **items}))
            before = found[i - 1] if i else None
            if value is None and before not in (None, "", []):
                repeating.append(Partial(chunk, {"f": before}, {"/f": Cite(i)}))
            elif isinstance(value, list) and isinstance(before, list) and isinstance(STRATEGIES[name], Align):
                both = [*before, *value]
                cites = {f"/f/{n}": Cite(i if n < len(before) else i + 1) for n in range(len(both))}
                repeating.append(Partial(chunk, {"f": both}, cites))
            else:
                repeating.append(plain[-1])
        assert merge(repeating, schema).data == merge(plain, schema).data

    check()
