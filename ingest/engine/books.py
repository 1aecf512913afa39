"""What asking costs: money is set aside and the try noted before it is sent, and both settled after it ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from ingest import tracing
from ingest.asking.client import Attempt
from ingest.config import Config
from ingest.errors import BudgetReached
from ingest.keeping.ledger import Booking, Ending, Ledger, Start
from ingest.planning.budget import Budget, Hold, Purse, WorstCase, bill_of, worst_case
from ingest.types import Observation, Reply, Request

_LOG = logging.getLogger(__name__)

NOT_SENT = "not_sent"
"""Outcome of a try that never reached the server."""

_REFUSED_UNSERVED = frozenset({401, 402, 403, 404, 429})
"""Answers by which a server says that it did not begin: wrong key, no credit, no such model, too many requests. Every
other failure may have been computed, and is booked at its worst case (model-facts §9, §14)."""


@dataclass(slots=True)
class _Asked:
    """A call that is being made: whose it is, the most a try of it can cost, and the try under way."""

    document: str
    worst: WorstCase
    is_repeat: bool
    purpose: str = ""
    hold: Hold | None = None
    attempt_id: int = 0
    ending: Ending | None = None


class Books:
    """The money of one run: limits kept before a try, the ledger written before and after it.

    `before` and `after` are the client's hooks around each try; `asking` stands around a call, `keep` stores its
    answer. `owner` is this run's name among those that claim what they ask for. `budget` is the run's where others
    spend of it, too.
    """

    def __init__(
        self, config: Config, ledger: Ledger, run_id: int, owner: str | None = None, budget: Purse | None = None
    ) -> None:
        limits = config.budget
        self.budget: Purse = budget or Budget(limits.max_cost_usd, limits.max_cost_per_document_usd)
        self._config = config
        self._ledger = ledger
        self._run_id = run_id
        self._owner = owner
        self._asked: dict[str, _Asked] = {}
        self._looks_usd = Decimal(0)

    @contextmanager
    def asking(self, request: Request, document: str, *, is_repeat: bool, purpose: str = "") -> Iterator[None]:
        """Around one call: what it can cost is known inside, and nothing stays set aside after it.

        `is_repeat` marks a call that stands in for an answer nobody could use. A `purpose` other than the extraction
        itself has a line of its own on the books.
        """
        asked = _Asked(document, worst_case(request, self._config.profile), is_repeat, purpose)
        self._asked[request.key] = asked
        try:
            yield
        finally:
            del self._asked[request.key]
            if asked.hold is not None:
                # The call ended without a word about its last try: the worst is assumed, here as on the books.
                self.budget.settle(asked.hold, asked.worst.cost_usd)

    def check_share(self, worst_usd: Decimal | None) -> None:
        """Raise BudgetReached when a second look at this price could pass the share of the limit that looks have."""
        budget = self._config.budget
        if budget.max_cost_usd is None or worst_usd is None:
            return
        share_usd = budget.max_cost_usd * Decimal(str(budget.verify_share))
        if self._looks_usd + worst_usd > share_usd:
            raise BudgetReached(f"second looks may take ${share_usd:.4f} of the limit on money, and this could pass it")

    async def before(self, key: str, number: int) -> None:
        """Set aside what try `number` can cost at most, and note it durably.

        Raises BudgetReached when the limit on money could be passed, LedgerError when the try cannot be noted.
        """
        asked = self._asked[key]
        hold = await self.budget.hold(asked.document, asked.worst.cost_usd)
        recipe = self._config.recipe.name + (f", {asked.purpose}" if asked.purpose else "")
        try:
            asked.attempt_id = self._ledger.attempts.start(
                self._run_id, Start(key, asked.document, recipe, number, asked.is_repeat, asked.worst.cost_usd)
            )
        except BaseException:
            self.budget.settle(hold, Decimal(0))
            raise
        asked.hold = hold

    def after(self, attempt: Attempt) -> None:
        """Settle a try: by its usage when that arrived, else at its worst case unless it surely was not served."""
        asked = self._asked[attempt.key]
        ending = self._ending(asked, attempt)
        booked_usd = None if ending.booked_usd is None else float(ending.booked_usd)
        tracing.current().set({"ingest.cost_usd": booked_usd, "ingest.booking": ending.booking})
        if asked.purpose:
            self._looks_usd += ending.booked_usd or Decimal(0)
        if asked.hold is not None:
            self.budget.settle(asked.hold, ending.booked_usd)
            asked.hold = None
        if attempt.outcome == "answered":
            # Written together with the answer, so that neither is ever kept without the other.
            asked.ending = ending
        else:
            self._ledger.attempts.settle(asked.attempt_id, ending)

    def keep(self, key: str, reply: Reply, observation: Observation | None, answer_key: str | None = None) -> None:
        """Store an answer with the settlement of the try that brought it; all of it is on disk when this returns.

        `answer_key` is the key to store it under where that is not the call's own.
        """
        asked = self._asked[key]
        ending = asked.ending and replace(asked.ending, is_cut_off=reply.finish_reason == "length")
        config = self._config
        learned = None if observation is None else (config.profile.model, config.endpoint.label, observation)
        stored = answer_key or key
        self._ledger.answers.store(
            stored,
            reply,
            run_id=self._run_id,
            replaces=config.keeping.fresh or bool(config.keeping.retry),
            settled=None if ending is None else (asked.attempt_id, ending),
            learned=learned,
            owner=self._owner,
        )
        self._ledger.claims.note_let_go(stored)

    def _ending(self, asked: _Asked, attempt: Attempt) -> Ending:
        booking, bill = _booking_of(attempt), None
        booked_usd: Decimal | None = Decimal(0)
        if booking == "usage":
            bill = bill_of(self._config.profile, attempt.usage)
            booked_usd = None if bill is None else bill.total_usd
            if booked_usd is not None and asked.worst.cost_usd is not None and booked_usd > asked.worst.cost_usd:
                _LOG.warning(
                    "a call was billed more than seemed possible",
                    extra={"key": attempt.key, "billed_usd": str(booked_usd), "bound_usd": str(asked.worst.cost_usd)},
                )
        elif booking == "worst":
            booked_usd = asked.worst.cost_usd
        outcome = attempt.outcome if attempt.is_sent else NOT_SENT
        return Ending(outcome, attempt.message, attempt.elapsed_s, booking, attempt.usage, bill, booked_usd)


def _booking_of(attempt: Attempt) -> Booking:
    """How a try is booked. Usage named before an answer broke off counts for nothing: it may have grown after."""
    if not attempt.is_sent:
        return "free"
    if attempt.outcome == "answered" and attempt.usage.input_tokens > 0:
        return "usage"
    return "free" if attempt.http_status in _REFUSED_UNSERVED else "worst"
