"""The books of a run: from tries in the ledger to where the money went. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from ingest.keeping.ledger import Posting
from ingest.record import CostRow, KindCosts, Spending
from ingest.types import Usage

_UNCONFIRMED = ("open", "worst")


def spending_of(postings: Sequence[Posting]) -> Spending:
    """Where the money of these tries went. Tries that surely never reached the server are left out."""
    sent = [posting for posting in postings if posting.outcome != "not_sent"]
    confirmed = [posting for posting in sent if posting.booking == "usage"]
    lost = [posting for posting in sent if posting.booking in _UNCONFIRMED]
    unsettled = [posting for posting in sent if posting.booking == "open"]
    repeats = [posting for posting in sent if posting.number > 1 or posting.is_repeat]
    cut_off = [posting for posting in sent if posting.is_cut_off]
    return Spending(
        calls=len(sent),
        total_usd=_total(sent),
        confirmed_usd=_total(confirmed),
        unconfirmed_calls=len(lost),
        unconfirmed_usd=_total(lost),
        unsettled_calls=len(unsettled),
        unsettled_usd=_total(unsettled),
        retries=len(repeats),
        retries_usd=_total(repeats),
        cut_off=len(cut_off),
        cut_off_usd=_total(cut_off),
        by_kind=_by_kind(confirmed),
        by_document=_rows(sent, lambda posting: posting.document),
        by_recipe=_rows(sent, lambda posting: posting.recipe),
        by_tier=_rows(confirmed, lambda posting: str(posting.bill.tier) if posting.bill else ""),
    )


def _by_kind(postings: Iterable[Posting]) -> KindCosts:
    bills = [posting.bill for posting in postings if posting.bill is not None]
    zero = Decimal(0)
    return KindCosts(
        input_usd=sum((bill.input_usd for bill in bills), zero),
        cached_usd=sum((bill.cached_usd for bill in bills), zero),
        output_usd=sum((bill.output_usd for bill in bills), zero),
        reasoning_usd=sum((bill.reasoning_usd for bill in bills), zero),
    )


def _rows(postings: Iterable[Posting], name_of: Callable[[Posting], str]) -> tuple[CostRow, ...]:
    """One row for each name, in order of first appearance; tries without the name are left out."""
    groups: dict[str, list[Posting]] = {}
    for posting in postings:
        groups.setdefault(name_of(posting), []).append(posting)
    return tuple(_row(name, group) for name, group in groups.items() if name)


def _row(name: str, postings: Sequence[Posting]) -> CostRow:
    usage = sum((posting.usage for posting in postings), Usage())
    return CostRow(
        name=name,
        calls=len(postings),
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=_total(postings),
    )


def _total(postings: Iterable[Posting]) -> Decimal | None:
    """Sum of what is booked; None as soon as one try of an unknown price may have cost something."""
    total = Decimal(0)
    for posting in postings:
        if posting.booked_usd is not None:
            total += posting.booked_usd
        elif posting.booking in ("open", "worst", "usage"):
            return None
    return total
