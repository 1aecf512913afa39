"""The concepts the rules know: how schemas name them and how documents in several languages print them.

The words stand in the TOML files of this folder. `header.toml` and `money.toml` hold what a document says once,
`columns.toml` the columns of its tables.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ingest.local.filler.text import look, name_words, squash

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing documents say and schemas ask for. `kind` names the form of its values (see `values.read`).

    `bags` are the words of each name, whatever their order (see `content_words`).
    """

    name: str
    kind: str
    names: frozenset[str]
    labels: frozenset[str]
    weak: frozenset[str]
    bags: frozenset[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Meaning:
    """One concept a printed label may stand for, and whether it does so only for lack of a better one."""

    concept: str
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Concepts by name, and what words may mean: squashed labels, property names, labels as OCR reads them.

    The keys of `by_look` are labels as `text.look` gives them; `longest` is the length of the longest label.
    """

    concepts: Mapping[str, Concept]
    by_label: Mapping[str, tuple[Meaning, ...]]
    by_name: Mapping[str, tuple[Meaning, ...]]
    by_look: Mapping[str, tuple[Meaning, ...]]
    longest: int


@lru_cache(maxsize=1)
def header() -> Vocabulary:
    """Concepts a document states once: numbers, dates, totals, terms."""
    return _load("header.toml", "money.toml")


@lru_cache(maxsize=1)
def columns() -> Vocabulary:
    """Concepts of table columns."""
    return _load("columns.toml")


def _load(*files: str) -> Vocabulary:
    concepts: dict[str, Concept] = {}
    for file in files:
        table = tomllib.loads(resources.files(__package__).joinpath(file).read_text(encoding="utf-8"))
        words = table.pop("words", {})
        for name, entry in table.items():
            concepts[name] = _to_concept(name, entry, words)
    by_label: dict[str, list[Meaning]] = {}
    by_name: dict[str, list[Meaning]] = {}
    for concept in concepts.values():
        for label in concept.labels:
            by_label.setdefault(label, []).append(Meaning(concept.name, False))
        for label in concept.weak - concept.labels:
            by_label.setdefault(label, []).append(Meaning(concept.name, True))
        for name in concept.names:
            by_name.setdefault(name, []).append(Meaning(concept.name, False))
    for concept in concepts.values():
        for label in (*sorted(concept.labels), *sorted(concept.weak)):
            if len(label) > 3 and label not in by_name:
                by_name[label] = [Meaning(concept.name, True)]
    return Vocabulary(
        concepts,
        {label: tuple(meanings) for label, meanings in by_label.items()},
        {name: tuple(meanings) for name, meanings in by_name.items()},
        _by_look(by_label),
        max(len(label) for label in by_label),
    )


def _by_look(by_label: Mapping[str, list[Meaning]]) -> dict[str, tuple[Meaning, ...]]:
    """The labels by their look; where two labels look alike, the one that is its own look wins."""
    looks: dict[str, tuple[Meaning, ...]] = {}
    for label, meanings in sorted(by_label.items(), key=lambda item: look(item[0]) != item[0]):
        if len(label) > 2 or look(label) == label:
            looks.setdefault(look(label), tuple(meanings))
    return looks


def _to_concept(name: str, entry: Mapping[str, Any], words: Mapping[str, list[str]]) -> Concept:
    return Concept(
        name,
        str(entry["kind"]),
        frozenset(form for text in entry["names"] for form in _forms(text, words)),
        frozenset(form for text in entry["labels"] for form in _forms(text, words)),
        frozenset(form for text in entry.get("weak", ()) for form in _forms(text, words)),
        frozenset(bag for text in entry["names"] if (bag := content_words(text))),
    )


# Words that carry no meaning of their own in the name or description of a property.
FILLERS = frozenset(
    "the of a an de la le du der die das des del number no nr id value code details info information full "
    "printed".split()
)
_SILENT = frozenset(
    "the of a an in on for to by at as is are was were be been being this that which when where it its one each per "
    "with and printed stated given shown full if any charged document unique s de la les le du der die das des del el "
    "en".split()
)
_ALIKE_WORDS = dict.fromkeys("vat gst mwst ust tva iva btw mehrwertsteuer umsatzsteuer taxe".split(), "tax")
_ALIKE_WORDS |= {"inclusive": "including", "incl": "including", "excl": "excluding", "exclusive": "excluding"}
_ALIKE_WORDS |= {"nr": "number", "no": "number", "num": "number", "percentage": "percent"}


def content_words(text: str) -> frozenset[str]:
    """The words of a name or description that carry meaning: singular, in one language for taxes, without order."""
    words = [word for word in name_words(text) if word not in _SILENT]
    singular = [word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word for word in words]
    return frozenset(_ALIKE_WORDS.get(word, word) for word in singular)


def _forms(text: str, words: Mapping[str, list[str]]) -> Iterator[str]:
    """Every squashed form of a label, its slots filled with each of their words."""
    slots = _SLOT.findall(text)
    for choice in itertools.product(*(words[slot] for slot in slots)):
        filled = iter(choice)
        form = squash(_SLOT.sub(lambda _: next(filled), text))  # noqa: B023  the lambda is used up at once
        if form:
            yield form
