"""A digest's statements made by rules, where no model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.digest.model import DocumentChange, Fact, Statement
from pipelines.digest.wording import difference, fact_text, pointer_text

_MOST_STATEMENTS = 12
_MOST_FACTS = 3
CHANGED, NEW = "What changed", "What is new"


def statements(documents: Sequence[DocumentChange]) -> tuple[Statement, ...]:
    """The numbers that changed most, by their share, then what new documents say first."""
    changes = [(document, fact) for document in documents if document.kind != "added" for fact in document.facts]
    changes.sort(key=lambda pair: _share(pair[1]), reverse=True)
    changed = (_of_change(document, fact) for document, fact in changes[:_MOST_STATEMENTS])
    room = _MOST_STATEMENTS - min(len(changes), _MOST_STATEMENTS)
    return (*changed, *list(_of_new(documents))[:room])


def _of_change(document: DocumentChange, fact: Fact) -> Statement:
    said = f"new: {fact_text(fact)}" if fact.kind == "added" else fact_text(fact)
    return Statement(section=CHANGED, text=f"{document.name}: {pointer_text(fact.pointer)} {said}", facts=(fact.id,))


def _of_new(documents: Sequence[DocumentChange]) -> Iterator[Statement]:
    for document in documents:
        facts = [fact for fact in document.facts if not isinstance(fact.new, dict | list)][:_MOST_FACTS]
        if document.kind == "added" and facts:
            said = "; ".join(f"{pointer_text(fact.pointer)}: {fact_text(fact)}" for fact in facts)
            names = tuple(fact.id for fact in facts)
            yield Statement(section=NEW, text=f"{document.name} is new. {said}", facts=names)


def _share(fact: Fact) -> float:
    """How much a number changed, as a share of the old one; what is no number comes last."""
    if not difference(fact):
        return 0.0
    return float(abs(fact.new - fact.old) / max(abs(fact.old), abs(fact.new)))
