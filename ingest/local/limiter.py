"""Limits per minute, and on the number of requests at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ingest.local.refusal import Refusal


class Limiter:
    """Requests and tokens of the last minute against the allowed number; None allows any.

    `minute_s` is the length of that minute, shorter in tests of long jobs. Failed requests count too.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        minute_s: float = 60.0,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._minute_s = minute_s
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._spent = 0
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Counts a request, even one that fails later; raises a 429 Refusal when there are too many."""
        if self._requests_per_minute is None:
            return
        with self._lock:
            now = self._clock()
            while self._requests and now - self._requests[0] >= self._minute_s:
                self._requests.popleft()
            self._requests.append(now)
            if len(self._requests) > self._requests_per_minute:
                raise Refusal(
                    429, "rate_limit_exceeded", f"More than {self._requests_per_minute} requests in a minute."
                )

    def spend(self, tokens: int, *, is_input: bool) -> None:
        """Counts tokens; raises a 429 Refusal when input would pass the limit. Output is counted as it is."""
        if self._tokens_per_minute is None:
            return
        with self._lock:
            now = self._clock()
            while self._tokens and now - self._tokens[0][0] >= self._minute_s:
                self._spent -= self._tokens.popleft()[1]
            if is_input and self._spent + tokens > self._tokens_per_minute:
                raise Refusal(429, "rate_limit_exceeded", f"More than {self._tokens_per_minute} tokens in a minute.")
            self._tokens.append((now, tokens))
            self._spent += tokens

    def wait_s(self) -> float:
        """Seconds until the oldest counted request or tokens leave the window."""
        with self._lock:
            oldest = [self._requests[0]] if self._requests else []
            oldest += [self._tokens[0][0]] if self._tokens else []
            return max(self._minute_s - (self._clock() - min(oldest)), 0.0) if oldest else 0.0


class Places:
    """Requests at once; None allows any. Beyond it the service answers that it is overloaded."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._taken = 0

    def take(self) -> None:
        """Takes a place until `give_back`; raises a 429 Refusal when there is none."""
        if self._most is not None and self._taken >= self._most:
            raise Refusal(429, "ServerOverloaded", f"More than {self._most} requests at once; try again later.")
        self._taken += 1

    def give_back(self) -> None:
        """Gives the place back."""
        self._taken -= 1
