"""Items told by their keys: across chunks, nearly alike, and through the borders of a video."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import ConfigError
from ingest.merging.merge import check_rules, merge
from ingest.types import Chunk, Cite, Moment, Part, Partial

TEXT = {"type": ["string", "null"]}
NUMBER = {"type": ["number", "null"]}


def join(lists: list[list[dict[str, Any]]], rule: dict[str, Any], chunks: list[Chunk] | None = None) -> Any:
    """The merged list `f` of as many chunks as lists."""
    schema = {"properties": {"f": {"type": "array", "items": {"type": "object"}}}}
    chunks = chunks or [Chunk(n, (Part(n, "page", "text"),)) for n in range(len(lists))]
    partials = [
        Partial(chunk, {"f": items}, {f"/f/{n}": Cite(chunk.owned[0].number) for n in range(len(items))})
        for chunk, items in zip(chunks, lists, strict=True)
    ]
    check_rules(schema, {"/f": {"x-merge": "by-key", **rule}})
    return merge(partials, schema, {"/f": {"x-merge": "by-key", **rule}}).data["f"]


def names(*keys: str, **rule: Any) -> int:
    """How many entities the keys are when each stands in a chunk of its own."""
    return len(join([[{"name": key}] for key in keys], {"x-merge-key": "name", **rule}))


@pytest.mark.parametrize(
    "keys",
    [
        ("Acme GmbH", "ACME  GmbH"),
        ("Noisebridge Ltd", "Noisebrldge Ltd"),
        ("Müller & Söhne Maschinenbau", "Muller & Sohne Maschinenbau"),
        ("Acme-Holding", "Acme Holding"),
        ("Order A-17", "Order A 17"),
        ("2024-03-05", "5 March 2024"),
        ("1,234.50", "1234.5"),
        ("Weatherproof Components International", "Weatherpoof Components Internationai"),
    ],
)
def test_one_entity_written_in_two_ways(keys: tuple[str, str]) -> None:
    """Spelling, spacing and a misread letter must not make two parties of one."""
    assert names(*keys) == 1


@pytest.mark.parametrize(
    "keys",
    [
        ("Order 4711", "Order 4712"),
        ("Invoice 2023 Widget Works", "Invoice 2024 Widget Works"),
        ("1-23", "12-3"),
        ("0042", "42"),
        ("Appendix Schedule A", "Appendix Schedule B"),
        ("Part II General Terms", "Part III General Terms"),
        ("Acme Northern Trading Company", "Acme Southern Trading Company"),
        ("Acme", "Acne"),
        ("Maria Weber", "Mario Huber"),
        ("Acme Holding", "Acme Holding Services"),
    ],
)
def test_two_entities_with_similar_names(keys: tuple[str, str]) -> None:
    """Other figures, other short words or one word more name another thing."""
    assert names(*keys) == 2


def test_similarity_is_a_setting() -> None:
    """Who needs exact keys can have them."""
    assert names("Noisebridge Ltd", "Noisebrldge Ltd", **{"x-merge-similarity": 100}) == 2


def test_names_that_one_chunk_tells_apart_stay_apart() -> None:
    """Two people of nearly one name on one page are two; a third spelling elsewhere joins only one of them."""
    found = join(
        [[{"n": "Christian Meier"}, {"n": "Christiane Meier"}], [{"n": "Christiane Meier"}]], {"x-merge-key": "n"}
    )
    assert [item["n"] for item in found] == ["Christian Meier", "Christiane Meier"]


def test_keys_of_several_parts() -> None:
    """Every part of a key counts, a number as a number."""
    first = {"vendor": "Noisebridge Ltd", "year": 2023, "sum": 1}
    second = {"vendor": "Noisebrldge Ltd", "year": 2023.0, "note": "x"}
    other = {"vendor": "Noisebridge Ltd", "year": 2024}
    found = join([[first], [second, other]], {"x-merge-key": ["vendor", "year"]})
    assert found == [first | {"note": "x"}, other]


def test_thousands_of_names_are_joined_quickly() -> None:
    """Each name may be compared with every other; that must not take the square of the time."""
    lists = [
        [
            {"name": f"{chr(97 + n % 26)}{chr(97 + c % 26)}{'xyz'[n % 3] * 4} {chr(97 + c // 26)}ompany holding"}
            for n in range(10)
        ]
        for c in range(500)
    ]
    assert len(join(lists, {"x-merge-key": "name"})) <= 5_000


# --- neighbours in a video ---


def video(*lengths_s: int) -> list[Chunk]:
    """Chunks of a video with a frame every two seconds, of these lengths."""
    chunks, start = [], 0
    for index, length_s in enumerate(lengths_s):
        parts = []
        for second in range(start, start + length_s, 2):
            moment = Moment(second * 90, 1, 90, float(second), float(second), float(second + 2))
            parts.append(Part(second // 2, "frame", "image", moments=(moment,)))
        chunks.append(Chunk(index, tuple(parts)))
        start += length_s
    return chunks


SLIDES = {"x-merge-key": "title", "x-merge-adjacent": True, "x-merge-span": ["start", "end"]}


def slide(title: str, start: Any, end: Any) -> dict[str, Any]:
    return {"title": title, "start": start, "end": end}


def test_slide_seen_on_both_sides_of_a_border_is_one() -> None:
    """It starts where the first chunk saw it start and ends where the last saw it end, through any number of chunks."""
    found = join(
        [
            [slide("Intro", 0, 6), slide("Agenda", 6, 10)],
            [slide("AGENDA", 10, 20)],
            [slide("Agenda", 20, 24), slide("End", 24, 28)],
        ],
        SLIDES,
        video(10, 10, 10),
    )
    assert found == [slide("Intro", 0, 6), slide("Agenda", 6, 24), slide("End", 24, 28)]


def test_slide_that_comes_back_later_is_another() -> None:
    """An agenda shown again in the second half is a second showing."""
    found = join(
        [[slide("Agenda", 0, 4), slide("Facts", 4, 9.9)], [slide("Facts", 10, 14), slide("Agenda", 14, 20)]],
        SLIDES,
        video(10, 10),
    )
    assert [item["title"] for item in found] == ["Agenda", "Facts", "Agenda"]
    assert found[1] == slide("Facts", 4, 14)


def test_slide_lasts_through_a_chunk_whose_row_was_a_copy() -> None:
    """A chunk of one frame may see only what its neighbour owns; the slide goes on all the same."""
    first, second, third = video(6)[0].owned
    chunks = [Chunk(0, (first,)), Chunk(1, (second,), (first,)), Chunk(2, (third,), (second,))]
    rows = [slide("A", 0, None), slide("A", 0, None), slide("A", 2, 6)]
    cites = [Cite(first.number), Cite(first.number), Cite(second.number)]
    schema = {"properties": {"f": {"type": "array", "items": {"type": "object"}}}}
    partials = [
        Partial(chunk, {"f": [row]}, {"/f/0": cite}) for chunk, row, cite in zip(chunks, rows, cites, strict=True)
    ]
    assert merge(partials, schema, {"/f": {"x-merge": "by-key", **SLIDES}}).data["f"] == [slide("A", 0, 6)]


def test_slides_meet_on_the_frames_beside_the_border() -> None:
    """The last frame of one chunk and the first of the next are two seconds apart, and nothing was seen between."""
    assert len(join([[slide("A", 0, 8)], [slide("A", 10, 12)]], SLIDES, video(10, 10))) == 1
    assert len(join([[slide("A", 0, 7)], [slide("A", 10, 12)]], SLIDES, video(10, 10))) == 2
    assert len(join([[slide("A", 0, 8)], [slide("A", 12.5, 14)]], SLIDES, video(10, 10))) == 2


def test_several_events_go_on_at_once() -> None:
    """Concurrent events are told by their keys and times, not by their place in the list."""
    found = join(
        [
            [slide("rain", "0:02", "0:10"), slide("walk", "0:04", "0:09")],
            [slide("walk", "0:10", "0:12"), slide("rain", "0:10", "1:05")],
        ],
        SLIDES,
        video(10, 60),
    )
    assert found == [slide("rain", "0:02", "1:05"), slide("walk", "0:04", "0:12")]


def test_without_times_the_last_and_the_first_item_meet() -> None:
    """Where items carry no times their order says which of them stand at the border."""
    rule = {"x-merge-key": "title", "x-merge-adjacent": True}
    found = join([[{"title": "A"}, {"title": "B"}], [{"title": "B"}, {"title": "A"}]], rule)
    assert [item["title"] for item in found] == ["A", "B", "A"]
    gap = [Chunk(0, (Part(0, "page", "text"),)), Chunk(1, (Part(5, "page", "text"),))]
    assert len(join([[{"title": "B"}], [{"title": "B"}]], rule, gap)) == 2


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"x-merge-similarity": 101}, "from 0 to 100"),
        ({"x-merge-adjacent": "yes"}, "true or false"),
        ({"x-merge-span": ["start"]}, "start and end"),
        ({"x-merge-prefer": [1]}, "list of texts"),
        ({"x-merge-keys": "n"}, "unknown merge keyword 'x-merge-keys'"),
    ],
)
def test_settings_that_cannot_be_are_refused(rule: dict[str, Any], words: str) -> None:
    """A typing error in a setting must come to light before anything is spent."""
    with pytest.raises(ConfigError, match=words):
        join([[{"n": "x"}]], {"x-merge-key": "n", **rule})
