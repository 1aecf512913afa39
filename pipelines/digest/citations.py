"""The model's statements checked against the facts they cite: what no fact holds is not let through.

A statement passes when it cites at least one fact, every fact it cites exists, and every number, date, code and name in
it stands in one of those facts, in the name of their documents, or is how many of them there are.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from ingest.values import find_dates, fold, read_number
from pipelines.digest.model import DocumentChange, Dropped, Fact, Statement
from pipelines.digest.wording import fact_text, pointer_text

_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{2,})[\"”“»]")
# A run of signs with a digit in it: a number, or a code such as INV-2026/17.
_CODE = re.compile(r"[^\s,;:()\[\]\"“”„«»!?]*\d[^\s;:()\[\]\"“”„«»!?]*")
_WORD = re.compile(r"[^\W\d_][\w'’&.-]*")
_SENTENCE_END = re.compile(r"[.!?:]\s*$")
_NOUNS_ARE_CAPITAL = ("german", "deutsch", "de", "luxembourgish", "lb")
_COMMON = frozenset(
    "i a the an this that these those it its we they he she there and or but of in on at for from to by with as is are"
    " was were no not new all each both one two three four five six seven eight nine ten eleven twelve january february"
    " march april may june july august september october november december monday tuesday wednesday thursday friday"
    " saturday sunday pdf vat iban id usd eur gbp chf jpy utc q1 q2 q3 q4".split()
)
"""Words that may stand with a capital letter without being a name."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one fact holds: its text (folded), its words by their first letter, numbers and dates, and its document."""

    document: str
    text: str
    capital: frozenset[str]
    small: frozenset[str]
    numbers: frozenset[Decimal]
    dates: frozenset[datetime.date]


def sources(documents: Iterable[DocumentChange]) -> dict[str, Source]:
    """Every fact by its name, ready to be compared with."""
    return {fact.id: _source(document, fact) for document in documents for fact in document.facts}


def check(
    statements: Iterable[Statement], facts: Mapping[str, Source], language: str = ""
) -> tuple[tuple[Statement, ...], Dropped]:
    """The statements that hold, and how many do not, by reason."""
    kept: list[Statement] = []
    counts = {"uncited": 0, "unknown": 0, "unsupported": 0}
    known = {word for source in facts.values() for word in source.capital}
    known -= {word for source in facts.values() for word in source.small}
    has_capital_nouns = language.strip().casefold().split("-")[0] in _NOUNS_ARE_CAPITAL
    for statement in statements:
        if not statement.facts or not statement.text.strip():
            counts["uncited"] += 1
        elif any(name not in facts for name in statement.facts):
            counts["unknown"] += 1
        elif not _is_supported(statement.text, [facts[name] for name in statement.facts], known, has_capital_nouns):
            counts["unsupported"] += 1
        elif not any(_is_same(statement, other) for other in kept):
            kept.append(statement)
    return tuple(kept), Dropped(**counts)


def _is_same(one: Statement, other: Statement) -> bool:
    return fold(one.text) == fold(other.text) and set(one.facts) == set(other.facts)


def _source(document: DocumentChange, fact: Fact) -> Source:
    text = f"{document.name} {document.was or ''} {pointer_text(fact.pointer)} {fact_text(fact)}"
    whole = fold(f"{text} {fact.old} {fact.new}")
    dates = {reading for found in find_dates(whole) for reading in found.readings}
    numbers = {reading for code in _CODE.findall(whole) for reading in _numbers(code)}
    words = [match[0] for match in _WORD.finditer(fact_text(fact))]
    small = (word for word in [*_WORD.findall(pointer_text(fact.pointer)), *words] if not word[0].isupper())
    return Source(
        document=document.name,
        text=whole,
        capital=frozenset(_bare(word) for word in words if word[0].isupper()),
        small=frozenset(_bare(word) for word in (*small, *pointer_text(fact.pointer).split())),
        numbers=frozenset(numbers),
        dates=frozenset(dates),
    )


def _is_supported(text: str, cited: list[Source], known: set[str], has_capital_nouns: bool) -> bool:
    """Whether all that can be checked in a statement stands in what it cites."""
    whole = " ".join(source.text for source in cited)
    rest = text
    for quoted in _QUOTED.findall(text):
        if fold(quoted) not in whole:
            return False
    dates = {date for source in cited for date in source.dates}
    lowered = "".join(sign.casefold() if len(sign.casefold()) == 1 else sign for sign in rest)
    for found in reversed(list(find_dates(lowered))):
        # A date is compared as such, whatever way it is written; its digits are then no numbers.
        if not dates & set(found.readings):
            return False
        rest = f"{rest[: found.start]} {rest[found.end :]}"
    numbers = {number for source in cited for number in source.numbers}
    counts = {Decimal(len(cited)), Decimal(len({source.document for source in cited}))}
    if not all(_stands(code, whole, numbers | counts) for code in _CODE.findall(rest)):
        return False
    words = {_bare(word) for word in _WORD.findall(whole)}
    return all(word in words for word in _names(rest, known, has_capital_nouns))


def _stands(code: str, whole: str, numbers: set[Decimal]) -> bool:
    readings = _numbers(code)
    if readings:
        return bool(numbers & set(readings))
    return fold(code).strip(".,'’-–%") in whole


def _numbers(code: str) -> tuple[Decimal, ...]:
    """What a piece of text says as a number, without regard to its sign; empty when it is none."""
    core = code.strip(".,'’–%€$£+→").lstrip("-")
    return tuple(abs(reading) for reading in read_number(core))


def _names(text: str, known: set[str], has_capital_nouns: bool) -> Iterable[str]:
    """The words of a text that name something, folded: with a capital letter inside a sentence, or known from facts."""
    for match in _WORD.finditer(text):
        word, folded = match[0], _bare(match[0])
        if not word[:1].isupper() or folded in _COMMON:
            continue
        is_first = not text[: match.start()].strip() or bool(_SENTENCE_END.search(text[: match.start()]))
        if (is_first or has_capital_nouns) and folded not in known:
            continue
        yield folded


def _bare(word: str) -> str:
    """A word folded, without what stands behind it: a full stop, an apostrophe and its s."""
    return fold(word).rstrip(".'’-").removesuffix("'s").removesuffix("’s")
