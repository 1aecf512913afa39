"""The books of a run: from tries in the ledger to where the money went. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from ingest.keeping.ledger import Posting
from ingest.record import CostRow, KindCosts, Spending
from ingest.types import Bill, Usage

_UNCONFIRMED = ("open", "worst")
_NOTHING = Decimal(0)


class _Sum:
    """Calls, tokens and money of some tries; the money is None as soon as one of unknown price may have cost some."""

    __slots__ = ("calls", "total_usd", "usage")

    def __init__(self) -> None:
        self.calls, self.usage = 0, Usage()
        self.total_usd: Decimal | None = _NOTHING

    def add(self, posting: Posting) -> None:
        self.calls += 1
        self.usage += posting.usage
        if posting.booked_usd is None and posting.booking in ("open", "worst", "usage"):
            self.total_usd = None
        elif self.total_usd is not None:
            self.total_usd += posting.booked_usd or _NOTHING

    def row(self, name: str) -> CostRow:
        return CostRow(
            name=name,
            calls=self.calls,
            input_tokens=self.usage.input_tokens,
            cached_tokens=self.usage.cached_tokens,
            output_tokens=self.usage.output_tokens,
            reasoning_tokens=self.usage.reasoning_tokens,
            cost_usd=self.total_usd,
        )


class _Rows:
    """Sums by name, in order of first appearance; tries without the name are left out."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, name: str, posting: Posting) -> None:
        if name:
            self._sums.setdefault(name, _Sum()).add(posting)

    def rows(self) -> tuple[CostRow, ...]:
        return tuple(each.row(name) for name, each in self._sums.items())


def spending_of(postings: Iterable[Posting]) -> Spending:
    """Where the money of these tries went, in one pass. Tries that surely never reached the server are left out."""
    sent, confirmed, lost, unsettled, repeats, cut_off = (_Sum() for _ in range(6))
    documents, recipes, tiers = _Rows(), _Rows(), _Rows()
    kinds = [_NOTHING] * 4
    for posting in postings:
        if posting.outcome == "not_sent":
            continue
        is_confirmed = posting.booking == "usage"
        for total, is_in in (
            (sent, True),
            (confirmed, is_confirmed),
            (lost, posting.booking in _UNCONFIRMED),
            (unsettled, posting.booking == "open"),
            (repeats, posting.number > 1 or posting.is_repeat),
            (cut_off, posting.is_cut_off),
        ):
            if is_in:
                total.add(posting)
        documents.add(posting.document, posting)
        recipes.add(posting.recipe, posting)
        if is_confirmed and posting.bill is not None:
            tiers.add(str(posting.bill.tier), posting)
            kinds = [before + amount for before, amount in zip(kinds, _amounts(posting.bill), strict=True)]
    return Spending(
        calls=sent.calls,
        total_usd=sent.total_usd,
        confirmed_usd=confirmed.total_usd,
        unconfirmed_calls=lost.calls,
        unconfirmed_usd=lost.total_usd,
        unsettled_calls=unsettled.calls,
        unsettled_usd=unsettled.total_usd,
        retries=repeats.calls,
        retries_usd=repeats.total_usd,
        cut_off=cut_off.calls,
        cut_off_usd=cut_off.total_usd,
        by_kind=KindCosts(input_usd=kinds[0], cached_usd=kinds[1], output_usd=kinds[2], reasoning_usd=kinds[3]),
        by_document=documents.rows(),
        by_recipe=recipes.rows(),
        by_tier=tiers.rows(),
    )


def _amounts(bill: Bill) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    return bill.input_usd, bill.cached_usd, bill.output_usd, bill.reasoning_usd
