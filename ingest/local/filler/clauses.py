"""The clauses of an agreement: its sentences with number and heading, and what single sentences say about a topic."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ingest.local.filler.running import Paragraph, Running, is_heading_line
from ingest.local.filler.view import Row

# Longer sentences are cut before they are searched or given as a value.
_MAX_SEARCHED_CHARS = 1600
_NUMBER = re.compile(
    r"^(?P<number>(?:§+\s?\d{1,3}[a-z]?|(?:Article|Artikel|Art\.|Artículo|Articolo|Section|Clause|Cláusula"
    r"|Ziffer|ARTICLE|SECTION|ARTICULO|ARTÍCULO|CLÁUSULA)\s+"
    r"(?:\d{1,2}(?:\.\d{1,2})*|[IVX]{1,5}|premier|1er)|\d{1,2}(?:\.\d{1,2}){1,3}|\d{1,2}(?=[.)])"
    r"|[IVX]{1,5}(?=\.\s)|\([a-z]{1,3}\)|\(\d{1,2}\)|[a-z](?=\)\s)))"
    r"[.):]?\s*[-–—]?\s*(?=\S)"
)
_INLINE_HEADING = re.compile(r"^(?P<heading>[A-ZÀ-Þ][^.:;!?]{2,70})[.:](?:\s|$)")
_QUOTES = "\"'“”„‟«»‘’"


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an agreement with the number and heading of its clause."""

    text: str
    row: Row
    number: str | None
    heading: str | None


@lru_cache(maxsize=1)
def words() -> Mapping[str, Any]:
    """The vocabulary of agreements, lists of regular expressions by section and name."""
    text = resources.files("ingest.local.filler.vocabulary").joinpath("agreements.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=256)
def pattern(*path: str) -> re.Pattern[str]:
    """The list at a place of the vocabulary as one regular expression that ignores case; never matches when absent."""
    node: Any = words()
    for key in path:
        node = node.get(key, {}) if isinstance(node, dict) else {}
    return re.compile("|".join(node) if isinstance(node, list) else r"(?!)", re.IGNORECASE)


@lru_cache(maxsize=1)
def duration_pattern() -> re.Pattern[str]:
    """A length of time: `two (2) years`, `drei Monaten`, with what it is counted from when that follows."""
    duration = words()["duration"]
    number, unit, tail = ("|".join(duration[key]) for key in ("number", "unit", "tail"))
    return re.compile(
        rf"(?<![\w.,/-])(?:{number})[\s-]*(?:\(\s?\d{{1,3}}\s?\)[\s-]*)?(?:{unit})\b['’]?"
        rf"(?P<tail>,?\s+(?:{tail})\b[^,;.()]{{2,90}})?",
        re.IGNORECASE,
    )


def read_statements(running: Running) -> tuple[Statement, ...]:
    """The sentences of an agreement in order; headings name the clauses and are no statements."""
    statements: list[Statement] = []
    number: str | None = None
    parent: str | None = None
    heading: str | None = None
    for paragraph in running.paragraphs:
        if _is_heading(paragraph):
            parent, heading = split_number(paragraph.text)
            number = parent
            continue
        for position, sentence in enumerate(paragraph.sentences):
            own, rest = split_number(sentence.text)
            if own and own.isalpha() and len(own) < 4:
                number = f"{parent or ''}({own})"
            elif own:
                number = parent = own
            inline = _INLINE_HEADING.match(rest)
            opens = own or (
                position == 0 and len(paragraph.sentences) > 1 and len(inline["heading"].split()) <= 4
                if inline
                else False
            )
            if inline and opens and _may_head(inline["heading"]):
                heading = inline["heading"]
                rest = rest[inline.end() :].strip()
            if len(rest) > 3:
                statements.append(Statement(rest[:_MAX_SEARCHED_CHARS], sentence.row, number, heading))
    return tuple(statements)


def split_number(text: str) -> tuple[str | None, str]:
    """The number a clause or heading begins with, and the rest."""
    match = _NUMBER.match(text[:60])
    if not match:
        return None, text.strip()
    return match["number"].strip(" .()") or None, text[match.end() :].strip()


def _is_heading(paragraph: Paragraph) -> bool:
    return len(paragraph.strips) <= 2 and len(paragraph.text) < 110 and is_heading_line(paragraph.strips[0])


def _may_head(text: str) -> bool:
    """Whether the words before a full stop are a heading: few, the longer ones with capitals, no verb of duty."""
    tokens = text.split()
    if len(tokens) > 8 or any(quote in text for quote in "“„«"):
        return False
    long_words = [token for token in tokens if len(token) > 3 and token[0].isalpha()]
    capitals = sum(token[0].isupper() for token in long_words)
    return bool(long_words) and (capitals * 3 >= 2 * len(long_words) or len(tokens) <= 3)


def matching(statements: Sequence[Statement], topic: str) -> Iterator[Statement]:
    """Statements whose words speak of a topic of the vocabulary, in order."""
    wanted, avoided = pattern("topics", topic, "words"), pattern("topics", topic, "avoid")
    beside = pattern("topics", topic, "with") if "with" in words()["topics"].get(topic, {}) else None
    for statement in statements:
        is_about = wanted.search(statement.text) and not avoided.search(statement.text)
        if is_about and (beside is None or beside.search(statement.text)):
            yield statement


def headed(statements: Sequence[Statement], topic: str) -> Iterator[Statement]:
    """Statements below a heading that names a topic, in order."""
    wanted = pattern("topics", topic, "heading")
    for statement in statements:
        if statement.heading and wanted.search(statement.heading):
            yield statement


def shorten(text: str, limit: int) -> str:
    """A text cut at a word before the limit, the cut marked; quotation marks and spaces at its ends left out."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    return text[:limit].rsplit(" ", 1)[0].rstrip(",;: ") + " …"


def strip_quotes(text: str) -> str:
    """A text without the quotation marks, spaces and commas around it."""
    return text.strip(_QUOTES + " ,;:.\u00a0")
