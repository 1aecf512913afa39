"""Comparing words whatever their case, accents, spaces and punctuation."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DROPPED = re.compile(r"[^0-9a-z#%\u0370-\U0010ffff]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAME_PARTS = re.compile(r"[^\W_]+", re.UNICODE)


def fold(text: str) -> str:
    """Lower case without accents; `ß` as `ss`; spaces and punctuation stay."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


@lru_cache(maxsize=65536)
def squash(text: str) -> str:
    """The letters, digits, `#` and `%` of a text in lower case without accents: `Rechnungs-Nr.` is `rechnungsnr`."""
    return _DROPPED.sub("", fold(text))


_ALIKE = str.maketrans({"l": "i", "1": "i", "0": "o", "5": "s", "8": "b", "6": "b", "q": "g"})


def look(squashed: str) -> str:
    """A squashed text with characters that OCR takes for one another made the same."""
    return squashed.translate(_ALIKE) if any(character.isalpha() for character in squashed) else squashed


def name_words(name: str) -> list[str]:
    """The words of a property name: `totalAmount`, `total_amount` and `Total-amount` are [total, amount]."""
    return [fold(word) for part in _NAME_PARTS.findall(name) for word in _CAMEL.sub(" ", part).split()]


def share_of_digits(text: str) -> float:
    """Digits among the letters and digits, 0 when there are none."""
    letters = [character for character in text if character.isalnum()]
    return sum(character.isdigit() for character in letters) / len(letters) if letters else 0.0
