"""Requests per minute, tokens per minute, and how many calls are under way at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiolimiter import AsyncLimiter

from ingest.profile import RateLimits

# A bucket that holds this share of a minute's limit and refills with the rest never lets more than the limit
# through in any minute, wherever the server's own minute begins.
_BURST_SHARE = 0.2
_DECREASE = 0.5


class Gate:
    """A semaphore whose width halves when the service is pressed, and grows back slowly.

    Calls that were under way together and fail together count as one sign of pressure.
    """

    def __init__(self, width: int) -> None:
        self._most = max(width, 1)
        self._width = float(self._most)
        self._active = 0
        self._epoch = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def width(self) -> int:
        """Calls that may be under way now."""
        return int(self._width)

    async def enter(self) -> int:
        """Wait for a place. Returns a token for `press`."""
        if self._waiters or self._active >= self.width:
            place = asyncio.get_running_loop().create_future()
            self._waiters.append(place)
            try:
                await place
            except asyncio.CancelledError:
                # A place already given to a call that no longer wants it goes to the next.
                if place.done() and not place.cancelled():
                    self.leave()
                raise
        else:
            self._active += 1
        return self._epoch

    def leave(self) -> None:
        """Give a place back."""
        self._active -= 1
        self._wake()

    def press(self, token: int) -> None:
        """The service was too busy for the call that holds `token`."""
        if token == self._epoch:
            self._width = max(1.0, self._width * _DECREASE)
            self._epoch += 1

    def ease(self) -> None:
        """A call went well."""
        self._width = min(float(self._most), self._width + 1.0 / self._width)
        self._wake()

    def _wake(self) -> None:
        """Hand free places to those who wait, first come first served."""
        while self._waiters and self._active < self.width:
            place = self._waiters.popleft()
            if not place.done():
                self._active += 1
                place.set_result(None)


class Slot:
    """Leave to make one call; tells the limits how it went."""

    def __init__(self, gate: Gate, token: int) -> None:
        self._gate = gate
        self._token = token

    def was_pressed(self) -> None:
        """The service answered that it is too busy."""
        self._gate.press(self._token)

    def went_well(self) -> None:
        """The service answered."""
        self._gate.ease()


class Limits:
    """The limits of one account, shared by all calls of a client. Belongs to one event loop."""

    def __init__(self, rates: RateLimits) -> None:
        self._gate = Gate(rates.concurrency)
        self._requests = _bucket(rates.requests_per_minute)
        self._tokens = _bucket(rates.tokens_per_minute)

    @property
    def width(self) -> int:
        """Calls that may be under way now."""
        return self._gate.width

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[Slot]:
        """Wait until a call of `tokens` (estimated input and reserved output) may be made; hold its place."""
        token = await self._gate.enter()
        try:
            if self._requests is not None:
                await self._requests.acquire()
            if self._tokens is not None:
                # A request beyond the bucket takes all of it, else it could never be sent.
                await self._tokens.acquire(min(float(max(tokens, 0)), self._tokens.max_rate))
            yield Slot(self._gate, token)
        finally:
            self._gate.leave()


def _bucket(per_minute: int | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    burst = max(1.0, per_minute * _BURST_SHARE)
    refill_per_minute = max(per_minute - burst, per_minute * 0.5)
    return AsyncLimiter(burst, 60.0 * burst / refill_per_minute)
