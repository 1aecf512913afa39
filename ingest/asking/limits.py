"""Requests per minute, tokens per minute, and how many calls are under way at once."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ingest.profile import RateLimits

_DECREASE = 0.5
# The server's minute begins where it likes, and requests reach it a little later or sooner than they were let go:
# what is counted for a second longer than a minute fits into any minute of the server's. Of large calls few fill a
# minute of tokens, and a second more would cost one of them: 0.3 s there.
_MARGIN = 1.0 / 60.0
_TOKEN_MARGIN = 1.0 / 200.0
# The service counts output when it comes, a little later than we do: so much of the limit stays free for that.
_TOKEN_SLACK = 1.0 / 200.0
# What a minute begins with may go at once up to this share of the limit; the rest is spread over the minute, a little
# faster than the log of grants lets it through. A burst would stand whole at the edge of the server's minute, where a
# hair's breadth decides on all of it.
_BURST = 0.2
_PACE = 1.08
_CATCH_UP = 0.1
# Beyond the profile's ramp the service answers growth of more than a fifth in three minutes with overload.
_RAMP_MINUTES = 3
_RAMP_GROWTH = 1.2
# Throttled all the same, the client's minute grows by this much at a time, at most to so many of the server's; with
# each answer it shrinks a little again, since one call in some hundreds may well be throttled by chance.
_WIDER = 0.015
_WIDEST = 1.12
_NARROWER = 0.00003
# A service that goes on throttling for tokens, time and again within minutes, counts more of a reservation than calls
# use: so much more is counted.
_MORE = 1.3
_JUST_LEFT = 1.05
_WELL_BELOW = 0.97
_PATIENCE = 2
_GOES_ON_MINUTES = 3.0
# Weight of the newest call in the running share of reservations that calls really use, at least; and how many
# standard deviations of what the calls under way may use together are put on top. A fixed part on top would cost a
# whole large call of the few that fill a minute.
_NEWEST = 0.05
_SURE = 2.0
# Now and then a call is throttled by chance. More than so many of the newest twenty is pressure.
_NEWEST_THROTTLED = 0.05
_THROTTLED_SHARE = 0.12


class CallSlot(Protocol):
    """Leave to make one call; told how it went."""

    def was_pressed(self) -> None:
        """The service had no capacity for this call."""

    def was_throttled(self, is_about_tokens: bool = False, is_about_width: bool = False) -> None:
        """The service counts more requests in its minute than we do, more tokens, or too many calls at once."""

    def went_well(self, tokens: int) -> None:
        """The service answered; `tokens` is what it counted, input and output, 0 when it did not say."""


class CallLimits(Protocol):
    """What a client asks for leave before each try: `Limits` here, or what stands for those of another process."""

    def slot(self, tokens: int, whole_tokens: int = 0) -> AbstractAsyncContextManager[CallSlot]:
        """Wait until a call may be made; hold its place (see `Limits.slot`)."""


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

    @property
    def active(self) -> int:
        """Calls that hold a place."""
        return self._active

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


@dataclass(slots=True)
class _Grant:
    """Something let through: when, how many tokens it counts as, and whether it is still within the minute.

    `whole` is what it counts as for a service that takes an output limit for output.
    """

    at_s: float
    tokens: float
    whole: float = 0.0
    is_counted: bool = True


class Window:
    """What was let through in the last minute, one by one: never more than the limit in any minute.

    A bucket that refills steadily either wastes a share of the limit or passes it where the server's minutes begin;
    the log of grants does neither. `minute_s` is the length of a minute, shorter in trials.
    """

    def __init__(self, limit: float | None, minute_s: float, ramp: float | None = None, is_paced: bool = False) -> None:
        """`ramp` is how much a minute may hold more than the one before it; None: as much as the limit.

        With `is_paced` grants are spread over the minute: for many small ones, of which a few large fill it badly.
        """
        self._limit = limit
        self._minute_s = minute_s
        self._least_length_s = self._length_s = minute_s * (1.0 + (_MARGIN if is_paced else _TOKEN_MARGIN))
        self._ramp = None if ramp is None or (limit is not None and limit <= ramp) else ramp
        self._grants: deque[_Grant] = deque()
        self._sum = 0.0
        self._is_paced = is_paced
        self._past: deque[_Grant] = deque()
        self._next_s = float("-inf")

    def wait_s(self, now_s: float, tokens: float) -> float:
        """Seconds until `tokens` may be let through; 0 when they may now.

        More than the limit itself waits for an empty minute, else it could never be sent.
        """
        self._forget(now_s)
        limit = self._allowed(now_s)
        if limit is None:
            return 0.0
        excess = self._sum + min(tokens, limit) - limit
        if not self._is_paced and limit == self._limit:
            excess = min(excess + _TOKEN_SLACK * limit, self._sum)
        # Tokens are whole: less than one is a rounding error.
        if excess <= 0.5:
            held_s = self._next_s - now_s
            # Shorter than a clock can tell is now.
            return held_s if self._is_paced and self._sum > _BURST * limit and held_s > 1e-6 else 0.0
        for grant in self._grants:
            excess -= grant.tokens
            if excess <= 0.5:
                return max(grant.at_s + self._length_s - now_s, self._minute_s * 1e-4)
        return self._length_s

    def grant(self, now_s: float, tokens: float, whole: float = 0.0) -> _Grant:
        """Let `tokens` through now."""
        grant = _Grant(now_s, tokens, whole)
        limit = self._allowed(now_s)
        if limit is not None:
            self._grants.append(grant)
            self._sum += tokens
            earliest_s = max(self._next_s, now_s - _CATCH_UP * self._minute_s)
            self._next_s = earliest_s + self._minute_s * min(tokens / (limit * _PACE), 1.0)
        return grant

    def counts_whole(self, now_s: float) -> bool:
        """Whether a call that is throttled now shows that the service takes output limits for output.

        What we count is well below the limit, even with what has just left the minute, and only whole reservations
        reach it.
        """
        if self._limit is None:
            return False
        since_s = now_s - self._length_s * _JUST_LEFT
        recent = [*self._grants, *(grant for grant in self._past if grant.at_s > since_s)]
        counted, whole = sum(grant.tokens for grant in recent), sum(max(grant.whole, grant.tokens) for grant in recent)
        return counted < self._limit * _WELL_BELOW and whole > self._limit

    def count_whole(self) -> None:
        """Count what was let through as the service does that takes output limits for output."""
        for grant in self._grants:
            self.amend(grant, max(grant.tokens, grant.whole))

    def widen(self) -> None:
        """The server's minute holds more than ours did: ways to it differ in length."""
        self._length_s = min(self._length_s + _WIDER * self._minute_s, _WIDEST * self._minute_s)

    def narrow(self) -> None:
        """A call was answered: the service may bear a little more again."""
        self._length_s = max(self._length_s - _NARROWER * self._minute_s, self._least_length_s)

    def amend(self, grant: _Grant, tokens: float) -> None:
        """Count a grant as `tokens` from now on."""
        if grant.is_counted:
            self._sum += tokens - grant.tokens
        grant.tokens = tokens

    def _forget(self, now_s: float) -> None:
        while self._grants and self._grants[0].at_s + self._length_s <= now_s:
            grant = self._grants.popleft()
            self._sum -= grant.tokens
            grant.is_counted = False
            self._past.append(grant)
        horizon_s = now_s - self._minute_s * (_WIDEST if self._ramp is None else _RAMP_MINUTES + 1)
        while self._past and self._past[0].at_s < horizon_s:
            self._past.popleft()

    def _allowed(self, now_s: float) -> float | None:
        """The limit of this minute: the account's, or less while the ramp is steep."""
        if self._ramp is None:
            return self._limit
        minutes = [0.0] * _RAMP_MINUTES
        for grant in self._past:
            # A whole minute ago, however the division is rounded.
            ago = int((now_s - grant.at_s) / self._length_s + 1e-6) - 1
            if 0 <= ago < _RAMP_MINUTES:
                minutes[ago] += grant.tokens
        allowed = max(self._ramp, min(minutes[0] + self._ramp, max(minutes) * _RAMP_GROWTH))
        return allowed if self._limit is None else min(self._limit, allowed)


class Slot:
    """Leave to make one call; tells the limits how it went."""

    def __init__(self, limits: Limits, token: int, reserved: int, grant: _Grant) -> None:
        self._limits = limits
        self._token = token
        self._reserved = reserved
        self._grant = grant

    def was_pressed(self) -> None:
        """The service had no capacity for this call."""
        self._limits.gate.press(self._token)
        self._limits.release(self._grant)

    def was_throttled(self, is_about_tokens: bool = False, is_about_width: bool = False) -> None:
        """The service counts more requests in its minute than we do, more tokens, or too many calls at once."""
        if is_about_width or self._limits.is_throttled_often():
            self._limits.gate.press(self._token)
        if not is_about_width:
            self._limits.tighten(is_about_tokens)
        self._limits.release(self._grant)

    def went_well(self, tokens: int) -> None:
        """The service answered; `tokens` is what it counted, input and output, 0 when it did not say."""
        self._limits.gate.ease()
        self._limits.relax()
        if tokens > 0:
            self._limits.settle(self._grant, self._reserved, tokens)


class Limits:
    """The limits of one account, shared by all calls of a client. Belongs to one event loop.

    A call reserves its estimated input and its output limit, scaled by the share of such reservations that calls have
    used so far, since few answers come near their limit; afterwards its real usage is what counts. A service that
    throttles all the same counts more than that, reservations whole perhaps, and step by step so do we.
    """

    def __init__(self, rates: RateLimits, width: int | None = None, minute_s: float = 60.0) -> None:
        """`width` is the most calls under way at once, the profile's when None."""
        self.gate = Gate(width or rates.concurrency)
        self._requests = Window(rates.requests_per_minute, minute_s, is_paced=True)
        self._tokens = Window(rates.tokens_per_minute, minute_s, rates.ramp_tokens_per_minute)
        self._turn = asyncio.Lock()
        self._used = self._reserved = 0.0
        self._variance, self._settled = 0.0, 0
        self._throttled_share = 0.0
        self._least_share = 0.0
        self._minute_s = minute_s
        self._tightened_s = float("-inf")
        self._token_throttles = 0

    @property
    def width(self) -> int:
        """Calls that may be under way now."""
        return self.gate.width

    @asynccontextmanager
    async def slot(self, tokens: int, whole_tokens: int = 0) -> AsyncIterator[Slot]:
        """Wait until a call may be made; hold its place.

        `tokens` is the input and output to expect of it, `whole_tokens` the input and its whole output limit.
        """
        token = await self.gate.enter()
        try:
            yield Slot(self, token, tokens, await self._grant(tokens, max(tokens, whole_tokens)))
        finally:
            self.gate.leave()

    async def _grant(self, tokens: int, whole_tokens: int) -> _Grant:
        """First come, first served: a large call is not kept waiting by small ones behind it."""
        clock = asyncio.get_running_loop().time
        async with self._turn:
            while True:
                charge = self._charge(max(tokens, 0), whole_tokens)
                now_s = clock()
                wait_s = max(self._requests.wait_s(now_s, 1.0), self._tokens.wait_s(now_s, charge))
                if wait_s <= 0.0:
                    break
                await asyncio.sleep(wait_s)
            self._requests.grant(now_s, 1.0)
            return self._tokens.grant(now_s, charge, whole_tokens)

    @property
    def _share(self) -> float:
        """The share of reservations that calls used so far; large ones weigh as much as they are large."""
        return self._used / self._reserved if self._reserved else 1.0

    def _charge(self, reserved: int, whole: int) -> float:
        """What a reservation counts as: what such calls used so far, and how far those under way may be off."""
        off = _SURE * math.sqrt(self._variance / max(self.gate.active, 1)) if reserved else 0.0
        return max(reserved * self._share + off, whole * self._least_share)

    def settle(self, grant: _Grant, reserved: int, used: int) -> None:
        """What a call really used takes the place of what was reserved for it, and teaches what to reserve."""
        if reserved > 0:
            self._settled += 1
            weight = max(_NEWEST, 1.0 / self._settled)
            self._used += (used - self._used) * weight
            self._reserved += (reserved - self._reserved) * weight
            off = used - reserved * self._share
            self._variance += (off * off - self._variance) * weight
        self._tokens.amend(grant, max(float(used), grant.whole * self._least_share))

    def relax(self) -> None:
        """A call was answered."""
        self._throttled_share *= 1.0 - _NEWEST_THROTTLED
        self._tokens.narrow()
        self._requests.narrow()

    def is_throttled_often(self) -> bool:
        """Take note of a throttled call; whether it was one of many."""
        self._throttled_share += (1.0 - self._throttled_share) * _NEWEST_THROTTLED
        return self._throttled_share > _THROTTLED_SHARE

    def release(self, grant: _Grant) -> None:
        """A call that was turned away used no tokens; it counts as a request all the same."""
        self._tokens.amend(grant, 0.0)

    def tighten(self, is_about_tokens: bool) -> None:
        """Count more strictly; once a minute, since calls are throttled in bunches."""
        now_s = asyncio.get_running_loop().time()
        since_s = now_s - self._tightened_s
        if is_about_tokens and self._least_share < 1.0 and self._tokens.counts_whole(now_s):
            self._least_share = 1.0
            self._tightened_s = now_s
            self._tokens.count_whole()
            return
        if since_s < self._minute_s:
            return
        self._tightened_s = now_s
        (self._tokens if is_about_tokens else self._requests).widen()
        goes_on = is_about_tokens and since_s < _GOES_ON_MINUTES * self._minute_s
        self._token_throttles = self._token_throttles + 1 if goes_on else int(is_about_tokens)
        if self._token_throttles >= _PATIENCE:
            self._least_share = min(max(self._least_share * _MORE, self._share), 1.0)
