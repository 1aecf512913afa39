"""What the rules for running text know about one document, each worked out when first asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

from ingest.local.filler.agreement import Agreement
from ingest.local.filler.agreement_parties import ContractParty
from ingest.local.filler.documents import Overview
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.grids import Grid, read_grids
from ingest.local.filler.headings import Headings
from ingest.local.filler.papers import Paper
from ingest.local.filler.people import read_authors
from ingest.local.filler.running import Running
from ingest.local.filler.signatures import is_role, read_signatures
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.view import View

# A document with this many sentences of this length is prose.
_SENTENCE_CHARS, _PROSE_SENTENCES, _LONG_PROSE_SENTENCES = 60, 8, 60
# Words of a property's name that say only what kind of document it belongs to.
_KIND_WORDS = frozenset("contract agreement nda document doc paper article publication file the full main".split())


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics by the squashed names schemas use, per group of documents; details of records by kind and name."""

    by_name: Mapping[str, Mapping[str, str]]
    details: Mapping[str, Mapping[str, str]]


@lru_cache(maxsize=1)
def topics() -> Topics:
    """The topics of vocabulary/prose.toml."""
    text = resources.files("ingest.local.filler.vocabulary").joinpath("prose.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    details = {
        kind: {squash(name): detail for detail, names in entries.items() for name in names}
        for kind, entries in table.pop("details").items()
    }
    by_name = {
        group: {squash(name): topic for topic, names in entries.items() for name in [topic.replace("_", " "), *names]}
        for group, entries in table.items()
    }
    return Topics(by_name, details)


def topics_of(name: str, title: str = "") -> dict[str, str]:
    """The topic a property may mean, by group of documents."""
    words = name_words(name)
    tries = ["".join(words), squash(title), "".join(word for word in words if word not in _KIND_WORDS)]
    found: dict[str, str] = {}
    for group, names in topics().by_name.items():
        topic = next((names[form] for form in map(squash, tries) if form in names), None)
        if topic:
            found[group] = topic
    return found


class ProseFacts:
    """One document's running text and what it is: an agreement, a paper, or any document."""

    def __init__(self, view: View) -> None:
        self.view = view

    @cached_property
    def running(self) -> Running:
        """The running text."""
        return Running(self.view)

    @cached_property
    def headings(self) -> Headings:
        """Title and sections."""
        return Headings(self.running)

    @cached_property
    def agreement(self) -> Agreement:
        """The document read as an agreement."""
        return Agreement(self.running)

    @cached_property
    def paper(self) -> Paper:
        """The document read as a scholarly text."""
        return Paper(self.running, self.headings)

    @cached_property
    def overview(self) -> Overview:
        """The document read as any document."""
        return Overview(self.running, self.headings)

    @cached_property
    def authors(self) -> list[dict[str, Found]]:
        """The authors of a paper; none where the first page is not there."""
        title = self.headings.title
        return read_authors(self.running.paragraphs, title[1]) if title and self.paper.is_one else []

    @cached_property
    def grids(self) -> list[Grid]:
        """All tables as printed."""
        return read_grids(self.running)

    @cached_property
    def signatures(self) -> list[dict[str, Found]]:
        """The signature blocks of an agreement."""
        return read_signatures(self.view, self.agreement.parties) if self.agreement.is_one else []

    @cached_property
    def parties(self) -> list[ContractParty]:
        """The parties of the opening, and a person who signs in a part of his own but is not named there."""
        parties = list(self.agreement.parties)
        if not 0 < len(parties) < 2:
            return parties
        for record in self.signatures:
            party, name = record.get("party"), record["name"]
            if (
                party
                and name.row
                and is_role(str(party.data))
                and not any(p.role and squash(p.role) == squash(str(party.data)) for p in parties)
            ):
                parties.append(ContractParty(str(name.data), str(party.data).capitalize(), None, None, name.row))
        return parties

    @cached_property
    def _long_sentences(self) -> int:
        return sum(len(sentence.text) > _SENTENCE_CHARS for sentence in self.running.sentences[:1000])

    @property
    def is_prose(self) -> bool:
        """Whether the document is mostly sentences."""
        return self._long_sentences >= _PROSE_SENTENCES

    @property
    def is_long_prose(self) -> bool:
        """Whether there are more sentences than a paper of sale carries."""
        return self._long_sentences >= _LONG_PROSE_SENTENCES

    @cached_property
    def kind(self) -> str | None:
        """`agreement`, `paper` or None."""
        if self.paper.is_one:
            return "paper"
        return "agreement" if self.agreement.is_one else None


def field_topics(asked: Field) -> dict[str, str]:
    """The topics a field may mean; none for details of a party."""
    found = topics_of(asked.name)
    if not found and asked.own_labels:
        found = topics_of("", asked.own_labels[-1])
    return found
