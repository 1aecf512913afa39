"""Terms of payment, the day a payment is due and the way it was made, where no label says so plainly."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from ingest.local.filler.candidates import Candidate
from ingest.local.filler.dates import find_dates
from ingest.local.filler.found import Found, from_candidate
from ingest.local.filler.numbers import CODES, SYMBOLS, find_numbers
from ingest.local.filler.schema import MISSING, Node, fit

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_MIN_CHARS, _MAX_CHARS = 8, 200
# Characters after a word such as `until` within which its date stands.
_DATE_WINDOW = 40


@lru_cache(maxsize=8)
def _pattern(name: str) -> re.Pattern[str]:
    """A list of the vocabulary of payment as one expression of whole words."""
    text = resources.files("ingest.local.filler.vocabulary").joinpath("phrases.toml").read_text(encoding="utf-8")
    return re.compile(rf"\b(?:{'|'.join(tomllib.loads(text)['payment'][name])})\b", re.IGNORECASE)


def due_date(best: Candidate | None, facts: Facts) -> Found | None:
    """The labelled date, else the one in a sentence that asks to pay until then."""
    if best:
        return from_candidate(best)
    for row in facts.view.rows:
        match = _pattern("until").search(row.text)
        if not match or not _pattern("paying").search(row.text) or row.index in facts.table_rows:
            continue
        dates = find_dates(row.text[match.end() : match.end() + _DATE_WINDOW])
        if dates:
            return Found(dates[0].resolve(facts.view.month_first).isoformat(), row, match[0], 0.6)
    return None


def payment_method(best: Candidate | None, facts: Facts) -> Found | None:
    """The labelled way of paying, else the words beside the amount handed over."""
    if best:
        return from_candidate(best)
    paid = facts.totals.get("paid")
    if paid is None:
        return None
    words = next((s.text for s in facts.view.rows[paid.label_row].segments if s.x0 == paid.x0), paid.label)
    numbers = find_numbers(words, facts.view.decimal)
    text = (words[: numbers[0].start] if numbers else words).strip(" :")
    parts = text.split()
    if len(parts) > 1 and parts[-1].strip("()") in CODES | SYMBOLS.keys():
        text = " ".join(parts[:-1])
    return Found(text, paid.row, paid.label, 0.7)


def as_option(found: Found | None, node: Node) -> Found | None:
    """The finding as the option of an enumeration that means the same way of paying: `Bar gegeben` as `cash`."""
    options = node.get("enum")
    if found is None or not isinstance(options, list) or fit(found.data, node) is not MISSING:
        return found
    text = str(found.data)
    for means in ("card", "cash", "transfer"):
        if _pattern(means).search(text):
            same = [o for o in options if isinstance(o, str) and _pattern(means).search(o.replace("_", " "))]
            return replace(found, data=same[0], printed=found.quote) if len(same) == 1 else None
    return None


def payment_terms(best: Candidate | None, facts: Facts) -> Found | None:
    """The line that says within how many days, or on what terms, to pay; else what stands beside the label."""
    for row in facts.view.rows:
        for segment in row.segments:
            if facts.is_in_table(row.index, segment.x0) or not (
                _pattern("days").search(segment.text) and _pattern("paying").search(segment.text)
            ):
                continue
            if _MIN_CHARS <= len(segment.text) <= _MAX_CHARS:
                return Found(segment.text.strip(), row, None, 0.8)
    if best and _pattern("days").search(str(best.data)):
        return from_candidate(best)
    return from_candidate(best) if best and best.place != "below" and not best.is_weak else None
