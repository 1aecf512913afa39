"""Pages sent in pieces, as the engine sees them: where their words stand, and what the model is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingest.asking.prompt import Frame, contents
from ingest.engine.documents import _to_points
from ingest.engine.exchange import _in_pieces
from ingest.planning.pieces import split_part
from ingest.reading.bands import cut_height
from ingest.types import Chunk, Loaded, PageWords, Part, Text, TextStats, Word
from tests.planned import document_of

WIDTH, HEIGHT, PIECES = 600.0, 800.0, 4
LINES = 40


def _seen(piece: int) -> PageWords:
    """What is read of a band: the lines that it shows whole, a few of them its neighbour's."""
    top, bottom = cut_height(8_000, piece, PIECES)
    words = []
    for line in range(LINES):
        y0, y1 = line * 200 + 60, line * 200 + 140
        if top <= y0 and y1 <= bottom:
            box = (0.1, (y0 - top) / (bottom - top), 0.5, (y1 - top) / (bottom - top))
            words.append(Word(f"line{line}", box))
    return PageWords(3, tuple(words))


def test_words_read_in_bands_stand_at_their_place_on_the_page() -> None:
    """A box that counts from the top of a band points at another line of the page."""
    part = Part(2, "page", "image", WIDTH, HEIGHT)
    pieces = split_part(part, PIECES)
    other = PageWords(4, (Word("next", (0.0, 0.5, 1.0, 0.6)),))
    chunk = Chunk(0, (*pieces, replace(part, index=3)))
    placed = list(_in_pieces([*(_seen(piece) for piece in range(PIECES)), other], chunk))
    assert [(words.piece, words.pieces) for words in placed] == [(0, 4), (1, 4), (2, 4), (3, 4), (0, 1)]
    found = [word for words in placed[:PIECES] for word in _to_points(words, WIDTH, HEIGHT)]
    assert [word.text for word in found] == [f"line{line}" for line in range(LINES)]
    for line, word in enumerate(found):
        assert word.bbox == pytest.approx((60.0, line * 20 + 6, 300.0, line * 20 + 14), abs=0.2)
    assert _to_points(other, WIDTH, HEIGHT)[0].bbox == pytest.approx((0.0, 400.0, 600.0, 480.0))


def test_pieces_in_chunks_of_their_own_keep_their_numbers() -> None:
    """A chunk that holds the third piece alone must not have it taken for the first."""
    part = Part(2, "page", "image", WIDTH, HEIGHT)
    third = split_part(part, PIECES)[2]
    (words,) = _in_pieces([_seen(2)], Chunk(0, (third,)))
    assert (words.piece, words.pieces) == (2, 4)


def test_pieces_are_explained_where_there_are_any() -> None:
    """The mark on the tag means nothing to a model that is not told; other prompts stay as they are."""
    frame = Frame("system", "opening", "closing")
    part = Part(0, "page", "text", WIDTH, HEIGHT, text=TextStats.of("words " * 40))
    document = document_of([part])

    def last(parts: tuple[Part, ...]) -> str:
        loaded = [Loaded(each, (Text("words"),)) for each in parts]
        content = contents(frame, document, Chunk(0, parts), loaded)[-1]
        assert isinstance(content, Text)
        return content.text

    assert last((part,)) == "</document>\nclosing"
    told = last(split_part(part, 2)[:1])
    assert 'piece="2 of 4"' in told
    assert told.endswith("\nclosing")
