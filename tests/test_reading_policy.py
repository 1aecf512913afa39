"""When a text layer is believed."""

from __future__ import annotations

import pytest

from ingest.reading.policy import PageInk, Shape, choose_mode, has_trustworthy_text
from ingest.types import Word


def _page(text: str, columns: int = 10, shapes: tuple[Shape, ...] = ()) -> PageInk:
    words = [
        Word(
            word,
            (
                50 + 50 * (index % columns),
                50 + 12 * (index // columns),
                90 + 50 * (index % columns),
                60 + 12 * (index // columns),
            ),
        )
        for index, word in enumerate(text.split())
    ]
    return PageInk(600, 800, words, [], list(shapes))


@pytest.mark.parametrize(
    ("text", "believed"),
    [
        ("plain words " * 50, True),
        ("\u2022 item \uf0b7 symbol bullets are private characters " * 20, True),
        ("\ufffd\ufffd\ufffd \ufffd\ufffd " * 50, False),
        ("\ue001\ue002\ue003\ue004 " * 50, False),
        ("wo\x01rd \x02\x03gar\x04bage\x05 " * 50, False),
        ("日本語の文書 " * 50, True),
        ("", False),
    ],
)
def test_a_text_layer_without_meaning_is_not_believed(text: str, believed: bool) -> None:
    """Fonts without a mapping give garbage that looks like text to a program."""
    assert has_trustworthy_text(_page(text)) is believed
    assert choose_mode(_page(text + " x"), "auto") == ("text" if believed or not text else "image")


def test_writing_drawn_as_curves_is_sent_as_an_image() -> None:
    """Some programs turn all letters to outlines and leave only a page number as text."""
    letters = tuple(
        Shape((50 + 8 * column, 50 + 14 * row, 56 + 8 * column, 60 + 14 * row), False, False)
        for row in range(50)
        for column in range(60)
    )
    assert choose_mode(_page("7", shapes=letters), "auto") == "image"


def test_white_paint_and_backgrounds_are_not_ink() -> None:
    """Print drivers paint the whole page white first."""
    paint = (Shape((0, 0, 600, 800), True, True), Shape((0, 0, 600, 800), True, False))
    assert choose_mode(_page("plain words " * 50, shapes=paint), "auto") == "text"
    assert choose_mode(PageInk(600, 800, [], [], paint[:1]), "auto") == "text"
