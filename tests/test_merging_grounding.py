"""Where values stand on their pages: found, graded, boxed; never invented and never dropped."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.merging.grounding import PageText, ground, ground_conflicts
from ingest.merging.merge import Origin, merge
from ingest.record import Evidence
from ingest.types import Chunk, Cite, Moment, Part, Partial, Word

CHAR_PT, LINE_PT = 6.0, 12.0


def page(text: str, number: int = 1) -> PageText:
    """A page in a fixed-width type: each character 6 points wide, each line 12 high; words are parted by spaces."""
    words = []
    for row, line in enumerate(text.strip("\n").split("\n")):
        column = 0
        for token in line.split(" "):
            if token:
                x0, y0 = column * CHAR_PT, row * LINE_PT
                words.append(Word(token, (x0, y0, x0 + len(token) * CHAR_PT, y0 + 10)))
            column += len(token) + 1
    return PageText(number, tuple(words))


def find(value: Any, text: str, quote: str | None = None) -> Evidence:
    """Evidence of one value on a page that is cited."""
    origins = {"/f": (Origin(0, Cite(1, quote)),)}
    return ground({"f": value}, origins, {1: page(text)}, {0: (1,)})["/f"][0]


@pytest.mark.parametrize(
    ("value", "text", "quote", "grade"),
    [
        # text
        ("Acme Ltd", "to Acme Ltd today", "Acme Ltd", "exact"),
        ("Acme Ltd.", "to ACME  LTD today", "ACME LTD", "normalised"),
        ("office fluid", "o\ufb03ce \ufb02uid", "o\ufb03ce \ufb02uid", "normalised"),
        ("management", "the manage-\nment of", "manage- ment", "normalised"),
        ("DE123456789", "VAT:DE123456789;", "DE123456789", "exact"),
        ("(Acme) Ltd.", "for (Acme) Ltd. in", "(Acme) Ltd.", "exact"),
        ("12345678", "no 1234 5678 x", None, "ungrounded"),
        ("201-113-40209", "no 201 113 40209", "201 113 40209", "normalised"),
        # numbers, in any locale
        (1234.5, "sum 1,234.50", "1,234.50", "normalised"),
        (1234.5, "Summe 1.234,50 EUR", "1.234,50", "normalised"),
        (1234.5, "total 1 234,50 kr", "1 234,50", "normalised"),
        (1234567.89, "12,34,567.89", "12,34,567.89", "normalised"),
        (1234.5, "CHF 1'234.50", "1'234.50", "normalised"),
        (1234, "=1.234 Stk", "1.234", "normalised"),
        (12, "12 pieces", "12", "exact"),
        (12.5, "12.5 kg", "12.5", "exact"),
        (-12.5, "credit -12,50", "-12,50", "normalised"),
        (-12.5, "credit 12.50-", "12.50-", "normalised"),
        (-12.5, "credit - 12.50", "- 12.50", "normalised"),
        (-12.5, "credit (12.50)", "12.50", "normalised"),
        (14.73, "discount -14,73", "-14,73", "fuzzy"),
        (9.0, "TOTAL:RM9.00", None, "ungrounded"),
        (9.0, "TOTAL: $9.00", "9.00", "normalised"),
        (0.19, "VAT 19% incl", "19", "normalised"),
        (7, "item 007", "007", "normalised"),
        (165, "due 165.07", None, "ungrounded"),
        # dates
        ("2018-06-05", "on 2018-06-05 at", "2018-06-05", "exact"),
        ("2018-06-05", "vom 05.06.2018", "05.06.2018", "normalised"),
        ("2018-06-05", "dated 6/5/2018", "6/5/2018", "normalised"),
        ("2018-06-05", "June 5, 2018", "June 5, 2018", "normalised"),
        ("2018-06-05", "5th of June 2018", "5th of June 2018", "normalised"),
        ("2018-12-05", "5. Dezember 2018", "5. Dezember 2018", "normalised"),
        ("2018-08-05", "le 5 août 2018", "5 août 2018", "normalised"),
        ("2018-01-05", "5 de enero de 2018", "5 de enero de 2018", "normalised"),
        ("2018-03-05", "5 maart 2018", "5 maart 2018", "normalised"),
        ("2018-06-05", "2018年6月5日", "2018年6月5日", "normalised"),
        ("2018-06-05", "05-JUN-18", "05-JUN-18", "normalised"),
        ("2016-06-22", "as of June 22,\n2016 by", "June 22, 2016", "normalised"),
        ("2018-06-05", "6 May 2018", None, "ungrounded"),
        # times, currencies
        ("14:05", "at 2:05 PM", "2:05 PM", "normalised"),
        ("EUR", "total €12.50", "€", "normalised"),
        # scripts without spaces
        ("東京都千代田区", "住所:東京都千代田区丸の内", "東京都千代田区", "exact"),
        ("株式会社山田商店", "株式会社 山田商店 御中", "株式会社山田商店", "exact"),
        # misread
        ("Noisebridge", "at Noisebrldge today", "Noisebrldge", "fuzzy"),
        ("Hardware Trading Sdn Bhd", "HARDWARE TRAD1NG SDN BHD", "HARDWARE TRAD1NG SDN BHD", "fuzzy"),
        ("471102", "no 471103", None, "ungrounded"),
        ("Acme", "Acne", None, "ungrounded"),
        ("12 Main Street, 81100 Johor", "12 Main Street\nfor the attention of Mr X\n81100 Johor", ..., "fuzzy"),
    ],
)
def test_values_are_found_as_printed(value: Any, text: str, quote: Any, grade: str) -> None:
    """A value is evidence only when the page holds it; how it is written differs from country to country."""
    found = find(value, text)
    assert (found.grade, found.page) == (grade, 1)
    if quote is not ...:
        assert found.quote == quote


def test_box_covers_just_the_value() -> None:
    """The reviewer's eye follows the box: within a word, over a line end, never the whole line."""
    assert find("Acme Ltd", "to Acme Ltd x").bbox == (18, 0, 66, 10)
    assert find("DE12", "VAT:DE12;").bbox == (24, 0, 48, 10)
    assert find("Acme Holding", "of Acme\nHolding Ltd").bbox == (0, 0, 42, 22)


def test_columns_are_read_down_not_across() -> None:
    """An address stands in a column, and the neighbouring column's words between its lines are not part of it."""
    text = "Acme Ltd          Invoice 17\n12 Main Street    Date 2018\n4711 Springfield  Page 1"
    found = find("12 Main Street, 4711 Springfield", text)
    assert found.grade == "normalised"
    assert found.bbox == (0, 12, 96, 34)


def test_pages_without_words_are_not_blamed() -> None:
    """An image we did not read can neither confirm nor refute the model."""
    for pages in ({1: PageText(1)}, {}):
        origins = {"/f": (Origin(0, Cite(1, "words")),)}
        found = ground({"f": "x"}, origins, pages, {0: (1,)})["/f"]
        assert found == (Evidence(page=1, quote="words", grade="cited"),)


def test_value_on_another_page_of_the_chunk_is_found_there() -> None:
    """Models miscount pages; what counts is where the value stands."""
    pages = {n: page(text, n) for n, text in enumerate(["nothing", "else", "total 1,234.50"], start=1)}
    found = ground({"f": 1234.5}, {"/f": (Origin(0, Cite(1)),)}, pages, {0: (1, 2, 3)})["/f"][0]
    assert (found.page, found.grade) == (3, "normalised")
    small = ground({"f": 4}, {"/f": (Origin(0, Cite(1)),)}, pages | {2: page("4", 2)}, {0: (1, 2, 3)})["/f"][0]
    assert (small.page, small.grade) == (1, "ungrounded")


def test_page_outside_the_chunk_is_not_believed() -> None:
    """The model cannot have seen a page it was not sent."""
    pages = {1: page("Acme Ltd"), 2: page("Bolt Inc", 2), 9: page("Bolt Inc", 9)}
    found = ground({"f": "Bolt Inc"}, {"/f": (Origin(0, Cite(9)),)}, pages, {0: (1, 2)})["/f"][0]
    assert (found.page, found.grade) == (2, "exact")


ROWS = """
1 Bolt      2  10.00  20.00
2 Nut       2  10.00  20.00
3 Washer    1   5.00   5.00
4 Nut       2  10.00  20.00
"""


def test_items_are_located_on_their_own_lines() -> None:
    """In a table the same figures stand on every line; each row's box must be on that row."""
    rows = [
        {"name": "Bolt", "quantity": 2, "price": 10.0, "amount": 20.0},
        {"name": "Nut", "quantity": 2, "price": 10.0, "amount": 20.0},
        {"name": "Washer", "quantity": 1, "price": 5.0, "amount": 5.0},
        {"name": "Nut", "quantity": 2, "price": 10.0, "amount": 20.0},
    ]
    origins = {f"/rows/{n}/{key}": (Origin(0, Cite(1)),) for n, row in enumerate(rows) for key in row}
    found = ground({"rows": rows}, origins, {1: page(ROWS)}, {0: (1,)})
    for number in range(4):
        for key in rows[number]:
            box = found[f"/rows/{number}/{key}"][0].bbox
            assert box is not None
            assert box[1] == number * LINE_PT, (number, key)
    price, amount = (found[f"/rows/2/{key}"][0].bbox for key in ("price", "amount"))
    assert price is not None
    assert amount is not None
    assert price[0] < amount[0], "equal amounts on one line belong to the columns in order"


def test_field_name_and_quote_settle_which_of_several_places() -> None:
    """A total that also is a line's amount should be shown at the total."""
    text = "Coffee 9.00\nTotal 9.00\nCash 9.00"
    origins = {"/total": (Origin(0, Cite(1)),)}
    box = ground({"total": 9.0}, origins, {1: page(text)}, {0: (1,)})["/total"][0].bbox
    assert box is not None
    assert box[1] == LINE_PT
    assert find("Acme Ltd", "ACME LTD\nyours, Acme Ltd").quote == "Acme Ltd"
    box = find(9.0, text, quote="Cash 9.00").bbox
    assert box is not None
    assert box[1] == 2 * LINE_PT


def test_values_that_need_not_be_printed_are_cited() -> None:
    """Nobody prints `true`; calling a tick in a box ungrounded would drown the real alarms."""
    schema = {"properties": {"kind": {"enum": ["invoice", "credit_note"]}, "paid": {"type": "boolean"}, "x": {}}}
    data = {"kind": "credit_note", "paid": True, "x": "credit_note"}
    origins = {pointer: (Origin(0, Cite(1)),) for pointer in ("/kind", "/paid", "/x")}
    found = ground(data, origins, {1: page("Gutschrift")}, {0: (1,)}, schema)
    assert [found[p][0].grade for p in ("/kind", "/paid", "/x")] == ["cited", "cited", "ungrounded"]


def test_each_chunk_that_says_so_gives_evidence() -> None:
    """A value on three pages has three places to look at, and a place where it is not does not discredit the others."""
    pages = {1: page("Acme Ltd"), 2: page("nothing", 2), 3: page("ACME LTD", 3)}
    origins = {"/f": tuple(Origin(n, Cite(n + 1)) for n in range(3))}
    found = ground({"f": "Acme Ltd"}, origins, pages, {0: (1,), 1: (2,), 2: (3,)})["/f"]
    assert [(each.page, each.grade) for each in found] == [(1, "exact"), (3, "normalised")]


def test_conflict_sides_get_their_own_evidence() -> None:
    """To settle a disagreement one must see both places."""
    partials = [
        Partial(Chunk(i, (Part(i, "page", "text"),)), {"f": value}, {"/f": Cite(i + 1)})
        for i, value in enumerate(["A 17", "B 42"])
    ]
    merged = merge(partials, {})
    pages = {1: page("number A 17"), 2: page("number B 42", 2)}
    (conflict,) = ground_conflicts(merged.conflicts, merged.side_origins, pages, {0: (1,), 1: (2,)})
    assert [side.evidence[0].quote for side in conflict.sides] == ["A 17", "B 42"]
    assert [side.evidence[0].page for side in conflict.sides] == [1, 2]


@pytest.mark.parametrize(
    ("value", "text", "grade"),
    [
        ("83", "8.3", "ungrounded"),
        ("8.3", "83", "ungrounded"),
        ("1.1", "11", "ungrounded"),
        ("16.4", "16.4 and -16.4", "exact"),
        ("138", "1-3-8", "ungrounded"),
        ("1 234", "1,234", "normalised"),
        ("1234", "1,234", "normalised"),
        ("165", "165.00", "ungrounded"),
        ("DE 4711 0815", "DE47110815", "normalised"),
        ("0301234567", "030/1234567", "normalised"),
    ],
)
def test_points_and_strokes_are_part_of_a_figure(value: str, text: str, grade: str) -> None:
    """8.3 is not 83, yet a telephone number is the same however it is grouped."""
    assert find(value, text).grade == grade


def test_plain_place_on_a_later_page_beats_part_of_a_word_on_an_earlier() -> None:
    """Uncited, a 5 belongs to the cell that says 5, not to chapter 2-5 on the page before."""
    pages = {1: page("see 2-5 and -16.4"), 2: page("5 16.4", 2)}
    origins = {pointer: (Origin(0, Cite(None)),) for pointer in ("/a", "/b", "/c")}
    found = ground({"a": "5", "b": "16.4", "c": 5}, origins, pages, {0: (1, 2)})
    assert [found[pointer][0].page for pointer in ("/a", "/b", "/c")] == [2, 2, 2]


def test_value_of_two_pages_is_looked_up_piece_by_piece() -> None:
    """A text joined over a page break stands nowhere as a whole; each piece has its place."""
    origins = {"/f": (Origin(0, Cite(1), "Bolt, galva-"), Origin(1, Cite(2), "nised"))}
    found = ground(
        {"f": "Bolt, galvanised"}, origins, {1: page("Bolt, galva-"), 2: page("nised", 2)}, {0: (1,), 1: (2,)}
    )
    assert [(each.page, each.grade, each.quote) for each in found["/f"]] == [
        (1, "exact", "Bolt, galva-"),
        (2, "exact", "nised"),
    ]


def moment(second: float, length_s: float = 2.0) -> Moment:
    return Moment(int(second * 90_000), 1, 90_000, second, second, second + length_s)


def subtitles(text: str, number: int, *moments: Moment) -> PageText:
    """Subtitles have no place in the picture."""
    return PageText(number, tuple(Word(word, (0, 0, 0, 0)) for word in text.split()), moments)


def test_value_of_a_video_shows_its_interval_and_frame() -> None:
    """In a video the place of a value is a time: the frame that shows it, and how long that frame stands."""
    pages = {1: subtitles("welcome to the course", 1, moment(0)), 2: PageText(2, (), (moment(2),))}
    origins = {"/a": (Origin(0, Cite(1, None, 1.0)),), "/b": (Origin(0, Cite(2, "Agenda", 2.0)),)}
    found = ground({"a": "the Course", "b": "Agenda"}, origins, pages, {0: (1, 2)})
    assert found["/a"] == (Evidence(quote="the course", grade="normalised", start_s=0.0, end_s=2.0, frame_pts=0),)
    assert found["/b"] == (Evidence(quote="Agenda", grade="cited", start_s=2.0, end_s=4.0, frame_pts=180_000),)


def test_subtitles_cannot_refute_what_the_picture_shows() -> None:
    """A value missing from the subtitles may stand on the slide; one missing from words read off the frame does not."""
    frame = PageText(2, page("Agenda Budget").words, (moment(2),))
    pages = {1: subtitles("welcome", 1, moment(0)), 2: frame}
    origins = {"/a": (Origin(0, Cite(1)),), "/b": (Origin(1, Cite(2)),), "/c": (Origin(1, Cite(2)),)}
    found = ground({"a": "Agenda", "b": "Minutes", "c": "budget"}, origins, pages, {0: (1,), 1: (2,)})
    assert [found[pointer][0].grade for pointer in ("/a", "/b", "/c")] == ["cited", "ungrounded", "normalised"]
    assert all(each.page is None and each.bbox is None for places in found.values() for each in places)


def test_frame_of_a_contact_sheet_is_told_by_the_time_cited() -> None:
    """A part may show several frames; without a time the whole part is the interval."""
    sheet = PageText(1, (), (moment(0), moment(2), moment(4)))
    for time_s, interval in ((3.0, (2.0, 4.0, 180_000)), (None, (0.0, 6.0, 0)), (99.0, (0.0, 6.0, 0))):
        (found,) = ground({"f": "x"}, {"/f": (Origin(0, Cite(1, None, time_s)),)}, {1: sheet}, {0: (1,)})["/f"]
        assert (found.start_s, found.end_s, found.frame_pts) == interval


def test_times_of_a_video_need_not_be_printed() -> None:
    """When a slide starts is known from the frame; a 12 that somebody says elsewhere is no evidence for it."""
    pages = {1: subtitles("twelve and 62", 1, moment(12)), 2: subtitles("at 12 or 62", 2, moment(14))}
    row = {"start": 12.0, "end": 62, "clock": "0:13"}
    origins = {f"/{key}": (Origin(0, Cite(1, None, 12.0)),) for key in row}
    found = ground(row, origins, pages, {0: (1, 2)})
    assert [(found[f"/{key}"][0].start_s, found[f"/{key}"][0].grade) for key in row] == [
        (12.0, "exact"),
        (12.0, "exact"),
        (12.0, "cited"),
    ]
    assert found["/start"][0].quote is None
    del pages[1]
    pages[1] = subtitles("twelve", 1, moment(12))
    assert ground({"end": 62}, {"/end": origins["/end"]}, pages, {0: (1, 2)})["/end"][0].grade == "cited"


def test_uncited_value_of_a_video_is_found_in_its_subtitles() -> None:
    """Without evidence from the model the words still say when."""
    pages = {n: subtitles(text, n, moment(2 * n)) for n, text in enumerate(["one", "two Budget", "three"], start=1)}
    (found,) = ground({"f": "budget"}, {"/f": (Origin(0, Cite(None)),)}, pages, {0: (1, 2, 3)})["/f"]
    assert (found.start_s, found.quote) == (4.0, "Budget")
    (missing,) = ground({"f": "costs"}, {"/f": (Origin(0, Cite(None)),)}, pages, {0: (1, 2, 3)})["/f"]
    assert (missing.grade, missing.page, missing.start_s) == ("cited", None, None)


def test_thousand_values_in_hundred_pages_stay_quick() -> None:
    """The worst case: one chunk of 100 pages, nothing cited, half the values nowhere to be found."""
    lines = [
        f"row{n} Lorem ipsum dolor sit amet {n * 37}.{n % 90 + 10} on {n % 28 + 1:02}.03.2019 consectetur"
        for n in range(50)
    ]
    pages = {number: page("\n".join(f"p{number} {line}" for line in lines), number) for number in range(1, 101)}
    rows = [
        {"a": f"p{n} row3", "b": 37 * 3 + 0.13, "c": "2019-03-04", "d": f"nowhere to be seen {n}", "e": 987_654 + n}
        for n in range(1, 201)
    ]
    origins = {f"/rows/{n}/{key}": (Origin(0, Cite(None)),) for n, row in enumerate(rows) for key in row}
    begin = time.monotonic()
    found = ground({"rows": rows}, origins, pages, {0: tuple(pages)})
    assert time.monotonic() - begin < 10
    assert found["/rows/6/a"][0].page == 7
    assert found["/rows/6/d"][0].grade == "ungrounded"


VALUE = (
    st.text(max_size=12) | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.sampled_from(["EUR", "9:05"])
)
WORD = st.text(max_size=8) | st.sampled_from(["1.234,50", "5.", "June", "2018", "-", "(12)", "\ufb01x", "e\u0301", "ß"])


@given(st.lists(VALUE, max_size=4), st.lists(st.tuples(WORD, st.integers(0, 40), st.integers(0, 3)), max_size=12))
@settings(deadline=None)
def test_any_value_on_any_page_gets_evidence(values: list[Any], placed: list[tuple[str, int, int]]) -> None:
    """Pages of strangers hold anything; a value must come out with a grade, and a box must lie on the page."""
    words = tuple(Word(text, (x * 10.0, y * 12.0, x * 10.0 + 30, y * 12.0 + 10)) for text, x, y in placed)
    origins = {f"/f/{n}": (Origin(0, Cite(1)),) for n in range(len(values))}
    found = ground({"f": values}, origins, {1: PageText(1, words)}, {0: (1,)})
    assert set(found) == set(origins)
    for evidence in found.values():
        if (box := evidence[0].bbox) is not None:
            assert 0 <= box[0] <= box[2] <= 430
            assert 0 <= box[1] <= box[3] <= 46


@given(st.lists(st.text("ab1 ", min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=8), st.data())
@settings(deadline=None)
def test_what_is_printed_is_always_found(words: list[str], data: st.DataObject) -> None:
    """Words copied from a page are on that page, exactly."""
    text = " ".join(" ".join(words).split())
    parts = text.split(" ")
    first = data.draw(st.integers(0, len(parts) - 1))
    last = data.draw(st.integers(first, len(parts) - 1))
    value = " ".join(parts[first : last + 1])
    assert (find(value, text).grade, find(value, text).quote) == ("exact", value)
