"""One value for one field: by concept, by party, by the property's own words, by what the whole document shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.local.filler import goods, payment, prose
from ingest.local.filler.candidates import Candidate, candidates_for
from ingest.local.filler.codes import find_iban
from ingest.local.filler.dates import find_dates, find_times
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found, from_candidate
from ingest.local.filler.own_words import find_by_own_words
from ingest.local.filler.schema import Node
from ingest.local.filler.text import name_words
from ingest.local.filler.values import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.local.filler.facts import Facts

_MIN_SCORE = 0.45
# A document has a number more surely than any other value, so a poorer label will do.
_MIN_NUMBER_SCORE = 0.4
_RECEIPT_WORDS = frozenset({"receipt", "quittung", "kassenbon", "bon", "recu", "recibo", "ticket"})
# Rows from the top in which a word of an enumeration tells what the document is.
_HEAD_ROWS = 15
_TOTALS = frozenset(
    {
        "net_total",
        "tax_total",
        "gross_total",
        "amount_due",
        "prepaid",
        "discount_total",
        "charge_total",
        "rounding",
        "paid",
        "change",
    }
)
_DETAILS = frozenset({"tax_id", "email", "phone", "website", "fax"})


def find(asked: Field, node: Node, facts: Facts) -> Found | None:
    """The value of a field, or None where the document does not say."""
    if prose.answers(asked, facts):
        return prose.find(asked, node, facts)
    if asked.role and asked.attribute:
        return facts.parties.get(asked.role, asked.attribute)
    if asked.concept in _TOTALS:
        candidate = facts.totals.get(asked.concept)
        return from_candidate(candidate) if candidate else None
    if asked.concept in _DETAILS:
        return facts.parties.get("seller", asked.concept)
    if asked.concept == "payment_method":
        return payment.as_option(payment.payment_method(_best(asked, facts), facts), node)
    if asked.concept == "document_type" and (node.get("enum") or "category" not in name_words(asked.name)):
        kind = prose.document_type(facts, node)
        if kind:
            return kind
    special = _SPECIAL.get(asked.concept or "")
    if special:
        return special(asked, facts)
    if asked.concept:
        found = _by_concept(asked, facts)
        if found:
            return found
    found = prose.find(asked, node, facts) or find_by_own_words(asked, node, facts.view)
    return found or _by_options(node, facts)


def _by_options(node: Node, facts: Facts) -> Found | None:
    """The option of an enumeration whose words the document prints first, in its head."""
    options = [o for o in node.get("enum", ()) if isinstance(o, str)] if isinstance(node.get("enum"), list) else []
    for row in facts.view.rows[:_HEAD_ROWS] if len(options) > 1 else ():
        words = f" {' '.join(name_words(row.text))} "
        for option in sorted(options, key=len, reverse=True):
            if len(option) > 2 and f" {' '.join(name_words(option))} " in words:
                return Found(option, row, None, 0.4)
    return None


def _best(asked: Field, facts: Facts, least: float = _MIN_SCORE) -> Candidate | None:
    assert asked.concept is not None
    usable = [
        candidate
        for candidate in candidates_for(asked.concept, asked.kind, facts.view)
        if not facts.is_in_table(candidate.label_row, candidate.x0)
        and not (candidate.is_weak and (candidate.label_row, round(candidate.x0)) in facts.parties.places)
    ]
    return usable[0] if usable and usable[0].score >= least else None


def _by_concept(asked: Field, facts: Facts) -> Found | None:
    best = _best(asked, facts)
    return from_candidate(best) if best else None


def _document_number(asked: Field, facts: Facts) -> Found | None:
    """The document's number; where the property speaks of a receipt, one labelled so goes first."""
    best = _best(asked, facts, _MIN_NUMBER_SCORE)
    if best and _RECEIPT_WORDS & set(name_words(asked.name)):
        for candidate in candidates_for("invoice_number", "id", facts.view):
            if _RECEIPT_WORDS & set(name_words(candidate.label)) and candidate.score >= best.score - 0.1:
                return from_candidate(candidate)
    return from_candidate(best) if best else None


def _issue_date(asked: Field, facts: Facts) -> Found | None:
    """The labelled date of issue, else the first date near the top that no other label claims."""
    best = _best(asked, facts)
    if best:
        return from_candidate(best)
    claimed = {
        candidate.row.index
        for concept in ("due_date", "delivery_date", "order_date", "period_start", "period_end")
        for candidate in candidates_for(concept, "date", facts.view)
    }
    for row in facts.view.rows:
        if row.index in claimed or row.index in facts.table_rows:
            continue
        value = read("date", row.text, facts.view)
        if value:
            return Found(value.data, row, None, 0.5)
    return None


def _time(asked: Field, facts: Facts) -> Found | None:
    """The time of day beside the document's date, else the first labelled or bare one."""
    for row in facts.view.rows:
        if find_dates(row.text):
            value = read("time", row.text, facts.view)
            if value:
                return Found(value.data, row, None, 0.8)
    best = _best(asked, facts)
    if best:
        return from_candidate(best)
    for row in facts.view.rows:
        if find_times(row.text) and row.index not in facts.table_rows:
            value = read("time", row.text, facts.view)
            if value:
                return Found(value.data, row, None, 0.4)
    return None


def _currency(asked: Field, facts: Facts) -> Found | None:
    best = _best(asked, facts)
    if best:
        return from_candidate(best)
    code = facts.view.currency
    return Found(code, None, None, 0.8) if code else None


def _period(asked: Field, facts: Facts) -> Found | None:
    """The first or last day of a period: labelled alone, else from a range of two dates beside a period's label."""
    best = _best(asked, facts)
    if best and best.place != "below":
        return from_candidate(best)
    position = 0 if asked.concept == "period_start" else 1
    for candidate in candidates_for("period", "text", facts.view):
        dates = find_dates(candidate.value.printed)
        if len(dates) == 2:
            data = dates[position].resolve(facts.view.month_first).isoformat()
            return Found(data, candidate.row, candidate.label, 0.8, candidate.quote)
    return from_candidate(best) if best else None


def _contract(asked: Field, facts: Facts) -> Found | None:
    """The number of the contract, else of the order it stands for."""
    for concept in ("tv_contract", "contract_number", "order_number"):
        best = _best(replace(asked, concept=concept), facts)
        if best:
            return from_candidate(best)
    return None


def _iban(asked: Field, facts: Facts) -> Found | None:
    best = _best(asked, facts)
    if best:
        return from_candidate(best)
    for row in facts.view.rows:
        found = find_iban(row.text)
        if found:
            return Found(found, row, None, 0.85)
    return None


_SPECIAL: dict[str, Callable[[Field, Facts], Found | None]] = {
    "invoice_number": _document_number,
    "issue_date": _issue_date,
    "due_date": lambda asked, facts: payment.due_date(_best(asked, facts), facts),
    "time": _time,
    "currency": _currency,
    "iban": _iban,
    "payment_terms": lambda asked, facts: payment.payment_terms(_best(asked, facts), facts),
    "period_start": _period,
    "period_end": _period,
    "tv_contract": _contract,
    "tax_rate": lambda asked, facts: _by_concept(asked, facts) or goods.tax_rate(facts),
    "item_count": lambda asked, facts: goods.item_count(facts),
}
