"""Parts too big for one request, cut in pieces: blocks of a page's text, bands of its image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from ingest.types import Part, TextStats

_MOST_PIECES = 256


def split_part(part: Part, pieces: int) -> tuple[Part, ...]:
    """The pieces of a page, each with its share of the text; reading cuts at the borders of lines.

    Sizes stay those of the whole page: a piece is the band of it that its number says.
    """
    share = TextStats(*(-(-getattr(part.text, each.name) // pieces) for each in fields(TextStats)))
    return tuple(
        replace(part, text=share, piece=piece, pieces=pieces, is_break=part.is_break and not piece)
        for piece in range(pieces)
    )


def fitting_pieces(part: Part, fits: Callable[[Part], bool]) -> tuple[Part, ...]:
    """The part in as few pieces as fit, or alone when it fits whole or no cutting makes it fit.

    Frames, clips and files handed over as such are never cut.
    """
    is_divisible = part.kind == "page" and part.mode != "native" and part.pieces == 1
    if not is_divisible or fits(part):
        return (part,)
    low, high = 1, _MOST_PIECES
    if not fits(split_part(part, high)[0]):
        return (part,)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(split_part(part, middle)[0]):
            high = middle
        else:
            low = middle
    return split_part(part, high)
