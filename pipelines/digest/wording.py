"""Values, places and facts in words: for the model, for statements made by rules, and for both pages."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from pipelines.digest.changes import is_nothing
from pipelines.digest.model import DocumentChange, Fact, Place

_MOST_CHARS = 400
_CENTS = re.compile(r"\d[.,]\d\d$")


def value_text(value: Any) -> str:
    """A value in one line: numbers grouped, an item of a list as `name: value; name: value`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, dict):
        shown = "; ".join(f"{label(name)}: {value_text(item)}" for name, item in value.items() if not is_nothing(item))
        return _cut(shown)
    if isinstance(value, list):
        return _cut(", ".join(value_text(item) for item in value if not is_nothing(item)))
    return _cut(" ".join(str(value).split())) if isinstance(value, str) else json.dumps(value)


def number_text(value: float) -> str:
    """1234.5 as 1,234.50; whole numbers below 10,000 stay as they are, since they may be years."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    exact = Decimal(repr(value))
    exponent = exact.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) else 0
    return f"{value:,.2f}" if places <= 2 and abs(value) < 1e15 else f"{exact:,}"


def fact_text(fact: Fact) -> str:
    """What a fact says, without its name and pointer; a changed number with its difference."""
    if fact.kind == "added":
        return value_text(fact.new)
    if fact.kind == "removed":
        return f"removed, was {value_text(fact.old)}"
    return f"{value_text(fact.old)} → {value_text(fact.new)} {difference(fact)}".rstrip()


def is_item(fact: Fact) -> bool:
    """Whether a fact is a whole item of a list, of which there may be many, and no value of its own."""
    return isinstance(fact.new if fact.old is None else fact.old, dict | list)


def difference(fact: Fact) -> str:
    """`(+300.00, +33.3 %)` for a number that changed, else nothing."""
    old, new = fact.old, fact.new
    if not _is_number(old) or not _is_number(new):
        return ""
    gap = Decimal(str(new)) - Decimal(str(old))
    share = f", {gap / Decimal(str(old)) * 100:+.1f} %" if old else ""
    shown = number_text(float(gap) if isinstance(old, float) or isinstance(new, float) else int(gap))
    return f"({'+' if gap > 0 else ''}{shown}{share})"


def place_text(place: Place) -> str:
    """`page 2`, `1:05 to 1:20`; empty when nothing is known."""
    if place.start_s is not None:
        end = f" to {clock(place.end_s)}" if place.end_s is not None and place.end_s != place.start_s else ""
        return f"{clock(place.start_s)}{end}"
    return f"page {place.page}" if place.page is not None else ""


def quote_text(place: Place, value: Any) -> str:
    """The words of a place in one line; empty where they only repeat the value as it is shown.

    An amount with its cents repeats it in whatever way its thousands are written; other numbers may be misread.
    """
    quote, shown = value_text(place.quote or ""), value_text(value)
    if isinstance(value, dict | list):
        return "" if quote in shown else quote
    is_amount = bool(_CENTS.search(quote)) and bool(_CENTS.search(shown))
    is_same = _digits(quote) == _digits(shown) if is_amount else quote.casefold() == shown.casefold()
    return "" if is_same else quote


def clock(seconds: float) -> str:
    """65 seconds as 1:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def label(name: str) -> str:
    """A field's name for people: `gross_amount` as `gross amount`."""
    return " ".join(name.replace("_", " ").split())


def pointer_text(pointer: str) -> str:
    """`/line_items/3/amount` as `Line items 4 · amount`."""
    words: list[str] = []
    for step in pointer.removeprefix("/").split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if step.isdigit() and words:
            words[-1] += f" {int(step) + 1}"
        else:
            words.append(label(step))
    shown = " · ".join(words)
    return shown[:1].upper() + shown[1:]


def happened(document: DocumentChange) -> str:
    """What became of a document, in a few words."""
    before = f" (was {document.status_before})" if document.status_before not in (None, document.status) else ""
    if document.kind == "added":
        return "new" if document.status == "complete" else f"new, {document.status}"
    if document.kind == "renamed":
        return f"renamed, was {document.was}"
    if document.kind == "changed":
        if document.facts:
            return f"changed{f', {document.status}{before}' if before else ''}"
        return f"replaced, no value changed{before}" if document.is_replaced else f"now {document.status}{before}"
    if document.kind == "recovered":
        return "readable again" if document.status == "complete" else f"readable again, {document.status}"
    return {"removed": "no longer there", "failed": f"failed{before}", "open": "not read yet"}[document.kind]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _digits(text: str) -> str:
    return "".join(sign for sign in text if sign.isalnum() or sign == "-")


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS].rstrip()}…"
