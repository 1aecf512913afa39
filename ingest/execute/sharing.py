"""Limits of one run for workers in many processes: one object holds them, and each worker has stand-ins for it.

What a worker holds is known by its name: when it dies, or is silent for too long, its places are free again, and money
that was set aside for its calls counts as spent, since the calls may well be billed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any, Protocol, TypeVar

from ingest.asking.limits import CallLimits, CallSlot, Limits
from ingest.config import BudgetSettings
from ingest.errors import BudgetReached, IngestError
from ingest.planning.budget import Budget, Hold, Purse
from ingest.profile import RateLimits

LEASE_S = 60.0
"""Silence after which a worker counts as dead where nobody tells of its end."""

_BEATS_PER_LEASE = 4

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shared:
    """The limits of a run, as those see them who ask."""

    limits: CallLimits
    budget: Purse


class Line(Protocol):
    """The way from a worker to the `Holder`."""

    def ask(self, method: str, *arguments: object) -> Awaitable[Any]:
        """What a method of the holder gives. Raises IngestError when the holder is gone."""

    def tell(self, method: str, *arguments: object) -> None:
        """Call a method of the holder, and do not wait. Calls arrive in the order in which they were made."""


@dataclass(slots=True)
class _Worker:
    """What one worker holds, by the numbers it gave, and when it was last heard of."""

    seen_s: float
    slots: dict[int, tuple[AbstractAsyncContextManager[CallSlot], CallSlot]] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)

    def withdraws(self, number: int) -> bool:
        """Whether a wish was still open, and is not wanted any more: it may just have come true."""
        wish = self.waiting.get(number)
        if wish is None:
            return False
        self.withdrawn.add(number)
        wish.cancel()
        return True

    async def waited(self, number: int, wish: Coroutine[Any, Any, _T]) -> tuple[_T | None, bool]:
        """What a wish gives in the end, if anything, and whether it is wanted."""
        waiting = self.waiting[number] = asyncio.ensure_future(wish)
        given: _T | None = None
        try:
            given = await waiting
        except asyncio.CancelledError:
            self.withdrawn.add(number)
        finally:
            del self.waiting[number]
            is_wanted = number not in self.withdrawn
            self.withdrawn.discard(number)
        return given, is_wanted


class Holder:
    """The `Limits` and the `Budget` of a run, for one event loop, asked by workers elsewhere. It raises nothing."""

    def __init__(self, rates: RateLimits, width: int, budget: BudgetSettings, lease_s: float = LEASE_S) -> None:
        self._limits = Limits(rates, width)
        self._budget = Budget(budget.max_cost_usd, budget.max_cost_per_document_usd)
        self._lease_s = lease_s
        self._workers: dict[str, _Worker] = {}
        self._dead: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    async def enter(self, worker: str, number: int, tokens: int, whole_tokens: int) -> bool:
        """Wait until a call may be made; False when the worker has let go of it, or counts as dead."""
        if (its := self._known(worker)) is None:
            return False
        slot = self._limits.slot(tokens, whole_tokens)
        entered, is_wanted = await its.waited(number, slot.__aenter__())
        if entered is None:
            return False
        if not is_wanted:
            await slot.__aexit__(None, None, None)
            return False
        its.slots[number] = slot, entered
        return True

    async def leave(self, worker: str, number: int, notes: tuple[tuple[str, tuple[Any, ...]], ...] = ()) -> None:
        """A call ended, or is not wanted any more; `notes` are what its slot has to be told."""
        its = self._known(worker)
        if its is None or its.withdraws(number) or number not in its.slots:
            return
        slot, entered = its.slots.pop(number)
        for name, arguments in notes:
            getattr(entered, name)(*arguments)
        await slot.__aexit__(None, None, None)

    async def hold(
        self, worker: str, number: int, document: str, worst_usd: Decimal | None
    ) -> tuple[Hold, tuple[Decimal, Decimal]] | BudgetReached | None:
        """Set money aside for a try; gives what was spent so far, too. None when it is not wanted any more."""
        if (its := self._known(worker)) is None:
            return None
        try:
            held, is_wanted = await its.waited(number, self._budget.hold(document, worst_usd))
        except BudgetReached as error:
            return error
        if held is None:
            return None
        if not is_wanted:
            self._budget.settle(held, Decimal(0))
            return None
        its.holds[number] = held
        return held, self._budget.spent_on(document)

    async def settle(self, worker: str, number: int, booked_usd: Decimal | None) -> None:
        """Book what a try cost, or withdraw the wish for money that has not come."""
        its = self._known(worker)
        if its is None or its.withdraws(number) or number not in its.holds:
            return
        self._budget.settle(its.holds.pop(number), booked_usd)

    async def beat(self, worker: str) -> None:
        """A worker lives."""
        self._known(worker)

    async def bury(self, worker: str) -> None:
        """A worker is dead, and never comes back."""
        self._dead.add(worker)
        its = self._workers.pop(worker, None)
        if its is not None:
            for number in list(its.waiting):
                its.withdraws(number)
            await self._free(its)

    def _known(self, worker: str) -> _Worker | None:
        if worker in self._dead:
            return None
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        now_s = asyncio.get_running_loop().time()
        its = self._workers.setdefault(worker, _Worker(now_s))
        its.seen_s = now_s
        return its

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _BEATS_PER_LEASE)
            late_s = asyncio.get_running_loop().time() - self._lease_s
            for worker, its in [(name, its) for name, its in self._workers.items() if its.seen_s < late_s]:
                await self._free(its)
                # It may live after all. What it waits for is given to it, and taken back when it stays silent.
                if not its.waiting:
                    del self._workers[worker]

    async def _free(self, its: _Worker) -> None:
        slots, its.slots = its.slots, {}
        holds, its.holds = its.holds, {}
        for slot, _ in slots.values():
            await slot.__aexit__(None, None, None)
        for hold in holds.values():
            self._budget.settle(hold, hold.amount_usd)


@asynccontextmanager
async def stand_ins(line: Line, worker: str, budget: BudgetSettings, lease_s: float = LEASE_S) -> AsyncIterator[Shared]:
    """What a worker asks in the place of limits and budget. Without a limit on money nobody is asked for any."""
    beating = asyncio.create_task(_beat(line, worker, lease_s / _BEATS_PER_LEASE))
    try:
        yield Shared(FarLimits(line, worker), FarBudget(line, worker, budget) if budget.is_limited else Budget())
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


async def _beat(line: Line, worker: str, pause_s: float) -> None:
    while True:
        line.tell("beat", worker)
        await asyncio.sleep(pause_s)


class FarLimits:
    """Stands for the `Limits` of the holder. Raises IngestError when the holder is gone."""

    def __init__(self, line: Line, worker: str) -> None:
        self._line = line
        self._worker = worker
        self._numbers = count(1)

    @asynccontextmanager
    async def slot(self, tokens: int, whole_tokens: int = 0) -> AsyncIterator[FarSlot]:
        """Wait until a call may be made; hold its place."""
        number, slot = next(self._numbers), FarSlot()
        try:
            if not await self._line.ask("enter", self._worker, number, tokens, whole_tokens):
                raise _given_up()
            yield slot
        finally:
            self._line.tell("leave", self._worker, number, tuple(slot.notes))


class FarSlot:
    """Leave to make one call; what it is told goes to the holder when the call ends."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, tuple[Any, ...]]] = []

    def was_pressed(self) -> None:
        """The service had no capacity for this call."""
        self.notes.append(("was_pressed", ()))

    def was_throttled(self, is_about_tokens: bool = False, is_about_width: bool = False) -> None:
        """The service counts more requests in its minute than we do, more tokens, or too many calls at once."""
        self.notes.append(("was_throttled", (is_about_tokens, is_about_width)))

    def went_well(self, tokens: int) -> None:
        """The service answered; `tokens` is what it counted."""
        self.notes.append(("went_well", (tokens,)))


@dataclass(frozen=True, slots=True)
class FarHold(Hold):
    """Money set aside by the holder."""

    number: int


class FarBudget:
    """Stands for the `Budget` of the holder; what was spent is known as of the last word from there."""

    def __init__(self, line: Line, worker: str, settings: BudgetSettings) -> None:
        self._line = line
        self._worker = worker
        self._numbers = count(-1, -1)
        self._known = Budget(settings.max_cost_usd, settings.max_cost_per_document_usd)

    async def hold(self, document: str, worst_usd: Decimal | None) -> Hold:
        """Set aside the most that a try can cost. Raises BudgetReached, and IngestError when the holder is gone."""
        number = next(self._numbers)
        try:
            told = await self._line.ask("hold", self._worker, number, document, worst_usd)
        except BaseException:
            self._line.tell("settle", self._worker, number, Decimal(0))
            raise
        if told is None:
            raise _given_up()
        if isinstance(told, BudgetReached):
            raise told
        held, spent_usd = told
        self._known.learn(document, spent_usd)
        return FarHold(held.document, held.amount_usd, number)

    def settle(self, hold: Hold, booked_usd: Decimal | None) -> None:
        """Book what a try cost of what was set aside."""
        assert isinstance(hold, FarHold)
        self._line.tell("settle", self._worker, hold.number, booked_usd)

    def check(self, document: str, least_usd: Decimal) -> None:
        """Raise BudgetReached when a call that costs at least so much can never be sent, as far as is known here."""
        self._known.check(document, least_usd)


def _given_up() -> IngestError:
    return IngestError("this worker was given up while it was asking: its documents are done by another")
