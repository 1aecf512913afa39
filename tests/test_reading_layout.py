"""Text reads as the page does."""

from __future__ import annotations

import random

from ingest.reading.layout import layout_text
from ingest.types import Word


def _line(y: float, *cells: tuple[float, str], size: float = 10) -> list[Word]:
    words = []
    for x, text in cells:
        for word in text.split():
            words.append(Word(word, (x, y, x + len(word) * size / 2, y + size)))
            x += (len(word) + 0.6) * size / 2
    return words


def test_cells_of_a_table_stay_in_their_columns() -> None:
    """The model tells columns apart by position alone."""
    words = [
        *_line(10, (0, "Item"), (200, "Price")),
        *_line(25, (0, "Two pears"), (200, "1.20")),
        *_line(40, (200, "3.00")),
    ]
    random.Random(1).shuffle(words)
    lines = layout_text(words).splitlines()
    assert [line.find(text) for line, text in zip(lines, ("Price", "1.20", "3.00"), strict=True)] == [40, 40, 40]
    assert lines[1].startswith("Two pears  ")


def test_a_gap_between_paragraphs_is_an_empty_line() -> None:
    """Blocks of an invoice are told apart by space."""
    assert (
        layout_text([*_line(10, (0, "one")), *_line(22, (0, "two")), *_line(60, (0, "three"))]) == "one\ntwo\n\nthree"
    )


def test_right_to_left_text_is_in_reading_order() -> None:
    """Hebrew and Arabic stand on the page from right to left, but are read, and stored, in the other direction."""
    words = [Word("שלום", (150, 10, 190, 20)), Word("עולם", (107, 10, 147, 20)), Word("PDF", (84, 10, 104, 20))]
    words += [Word("API", (61, 10, 81, 20)), Word("סוף", (30, 10, 58, 20))]
    assert layout_text(words) == "שלום עולם API PDF סוף"


def test_columns_of_a_right_to_left_page_count_from_the_right() -> None:
    """The first column of an Arabic table is its rightmost."""
    words = [Word("שם", (280, 10, 300, 20)), Word("סכום", (0, 10, 40, 20)), Word("אגס", (270, 30, 300, 40))]
    words.append(Word("12", (20, 30, 40, 40)))
    lines = layout_text(words).splitlines()
    assert lines[0].startswith("שם")
    assert lines[2].startswith("אגס")
    assert lines[0].find("סכום") == lines[2].find("12")


def test_full_width_characters_take_two_columns() -> None:
    """Otherwise every column right of a Chinese cell is displaced."""
    words = [
        Word("数量", (0, 10, 20, 20)),
        Word("12", (100, 10, 110, 20)),
        Word("ab", (0, 25, 10, 35)),
        Word("7", (100, 25, 105, 35)),
    ]
    first, second = layout_text(words).splitlines()
    assert len(first) + 2 == second.index("7") + 2
    assert second.index("7") == first.index("12") + 2


def test_glyph_by_glyph_text_is_joined() -> None:
    """Many Chinese PDFs place every character by itself."""
    words = [Word(character, (10 * index, 0, 10 * index + 10, 10)) for index, character in enumerate("增值税发票")]
    assert layout_text(words) == "增值税发票"


def test_a_page_written_down_its_side_is_turned() -> None:
    """Landscape tables are often printed on upright pages."""
    down = [Word("Hello", (100, 10, 110, 40)), Word("World", (100, 45, 110, 75)), Word("second", (80, 10, 90, 45))]
    assert layout_text(down) == "Hello World\n\nsecond"
    up = [Word("Hello", (80, 60, 90, 90)), Word("World", (80, 25, 90, 55)), Word("second", (100, 50, 110, 90))]
    assert layout_text(up).split() == ["Hello", "World", "second"]


def test_a_note_along_the_margin_stands_apart() -> None:
    """A stamp down the side must not be mixed into the lines it passes."""
    words = [
        *_line(10, (50, "first line of text")),
        *_line(30, (50, "second line of text")),
        *_line(50, (50, "third line")),
    ]
    words.append(Word("arXiv:2401.00001", (5, 0, 15, 80)))
    assert layout_text(words).splitlines()[-1] == "arXiv:2401.00001"
    assert "arXiv" not in "\n".join(layout_text(words).splitlines()[:-1])


def test_prose_set_to_full_width_stays_one_segment() -> None:
    """Wide spaces of a justified line are no columns; those of a table's row are."""
    wide = [
        Word(word, (index * 31, 0, index * 31 + 25, 10))
        for index, word in enumerate(["lorem", "ipsum", "dolor", "sitam", "consec"])
    ]
    assert layout_text(wide) == "lorem ipsum dolor sitam consec"
    row = [
        Word(word, (index * 31, 0, index * 31 + 25, 10))
        for index, word in enumerate(["12.50", "13.75", "18.00", "19.25", "20.00"])
    ]
    assert layout_text(row).count("  ") == 4


def test_nothing_gives_nothing() -> None:
    """Blank pages exist."""
    assert layout_text([]) == ""
    assert layout_text([Word(" ", (0, 0, 5, 5))]) == ""
