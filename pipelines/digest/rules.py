"""A digest's statements made by rules, where no model is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pipelines.digest.model import DocumentChange, Fact, Statement
from pipelines.digest.wording import difference, fact_text, is_item, pointer_text

_MOST_STATEMENTS = 12
_MOST_FACTS = 4
_CAME = ("added", "recovered")
CHANGED, NEW = "What changed", "What is new"


def statements(documents: Sequence[DocumentChange], watched: Collection[str] = ()) -> tuple[Statement, ...]:
    """One statement a document: what changed most, by share of its number, then what came.

    `watched` are pointers told first, such as those the recipe's alerts stand on.
    """
    told = [one for one in documents if one.facts]
    came = [one for one in told if one.kind in _CAME]
    changed = sorted((one for one in told if one.kind not in _CAME), key=_most_changed, reverse=True)
    first = [*changed, *came][:_MOST_STATEMENTS]
    return tuple(_of_new(one, watched) if one.kind in _CAME else _of_change(one, watched) for one in first)


def _of_change(document: DocumentChange, watched: Collection[str]) -> Statement:
    facts = sorted(
        document.facts, key=lambda fact: (fact.pointer in watched, _share(fact), not is_item(fact)), reverse=True
    )
    return _statement(CHANGED, f"{document.name}:", document, facts)


def _of_new(document: DocumentChange, watched: Collection[str]) -> Statement:
    facts = sorted(document.facts, key=lambda fact: (fact.pointer not in watched, is_item(fact)))
    came = "is readable again" if document.kind == "recovered" else "is new"
    return _statement(NEW, f"{document.name} {came}.", document, facts)


def _statement(section: str, begin: str, document: DocumentChange, facts: Sequence[Fact]) -> Statement:
    told = facts[:_MOST_FACTS]
    said = "; ".join(_said(told, document))
    more = len(facts) - len(told)
    rest = f"; {more:,} more value{'' if more == 1 else 's'}" if more else ""
    return Statement(section=section, text=f"{begin} {said}{rest}", facts=tuple(fact.id for fact in told))


def _said(facts: Iterable[Fact], document: DocumentChange) -> Iterable[str]:
    for fact in facts:
        is_put_in = fact.kind == "added" and document.kind not in _CAME
        colon = "" if fact.kind == "changed" else ":"
        yield f"{pointer_text(fact.pointer)}{colon} {fact_text(fact)}{' (new)' if is_put_in else ''}"


def _most_changed(document: DocumentChange) -> float:
    return max(_share(fact) for fact in document.facts)


def _share(fact: Fact) -> float:
    """How much a number changed, as a share of the larger one; what is no number comes last."""
    if not difference(fact):
        return 0.0
    return float(abs(fact.new - fact.old) / max(abs(fact.old), abs(fact.new)))
