"""Faults on demand, and limits per minute: the ways a real endpoint fails, chosen so that a run can be repeated.

A fault is drawn from the seed, the request's body and how often that body has come before. So the same job meets the
same faults whatever the order its requests arrive in, and trying again can succeed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.errors import ConfigError
from ingest.local.refusal import Refusal

if TYPE_CHECKING:
    from ingest.local.answering import Answer

RATE_LIMITED = "rate_limited"  # 429 before any work
OVERLOADED = "overloaded"  # 429 ServerOverloaded, before any work
UNAVAILABLE = "unavailable"  # 503 model_unavailable, before any work
SERVER_ERROR = "server_error"  # 5xx after the input was taken in and billed
REFUSED_INPUT = "refused_input"  # 400: the content filter refuses the input
CONTENT_FILTER = "content_filter"  # 200: the content filter stops the answer midway
TRUNCATED = "truncated"  # 200: the answer ends in its middle, finish_reason length
MALFORMED = "malformed"  # 200: the answer is broken JSON, finish_reason stop
GARBAGE = "garbage"  # 200: the body is not JSON
DROPPED = "dropped"  # the connection breaks during the answer, which is billed
SLOW = "slow"  # the answer comes late
STALLED = "stalled"  # nothing comes for a long time, then the connection breaks
STREAM_ERROR = "stream_error"  # an error object inside a 200 stream; as server_error when not streamed
UNFINISHED = "unfinished"  # a stream ends without its closing event; as dropped when not streamed

_BEFORE = {
    RATE_LIMITED: (429, "rate_limit_exceeded", "Requests per minute are exceeded (injected fault)."),
    OVERLOADED: (429, "ServerOverloaded", "The service is overloaded, try again later (injected fault)."),
    UNAVAILABLE: (503, "model_unavailable", "The model is unavailable for the moment (injected fault)."),
}
_AFTER = {
    SERVER_ERROR: (502, "upstream_error", "The upstream service failed (injected fault)."),
    STREAM_ERROR: (502, "upstream_error", "The upstream service failed (injected fault)."),
    REFUSED_INPUT: (
        400,
        "InputTextSensitiveContentDetected",
        "The input may contain sensitive content (injected fault).",
    ),
}
_IN_ANSWER = {CONTENT_FILTER, TRUNCATED, MALFORMED}
_ON_THE_WAY = {GARBAGE, DROPPED, SLOW, STALLED, UNFINISHED}
KINDS = frozenset({*_BEFORE, *_AFTER, *_IN_ANSWER, *_ON_THE_WAY})
_DEFAULT_KINDS = (
    RATE_LIMITED,
    OVERLOADED,
    UNAVAILABLE,
    SERVER_ERROR,
    CONTENT_FILTER,
    TRUNCATED,
    MALFORMED,
    GARBAGE,
    DROPPED,
    SLOW,
)


class Faults:
    """Which fault a request meets: by chance with a rate per kind, or from a script in order of arrival."""

    def __init__(
        self, seed: int = 0, rates: Mapping[str, float] | None = None, script: Sequence[str | None] = ()
    ) -> None:
        self.slow_s = 0.5
        self.stall_s = 900.0
        self._seed = seed
        self._rates = dict(sorted((rates or {}).items()))
        self._script = deque(script)
        self._arrivals: Counter[str] = Counter()
        self._lock = threading.Lock()
        unknown = sorted({*self._rates, *(kind for kind in script if kind)} - KINDS)
        if unknown:
            raise ConfigError(f"unknown fault {', '.join(unknown)}; choose from {', '.join(sorted(KINDS))}")
        if any(rate < 0 for rate in self._rates.values()) or sum(self._rates.values()) > 1 + 1e-9:
            raise ConfigError("the rates of faults must be 0 or more and together at most 1")

    @classmethod
    def of(cls, wanted: str | Mapping[str, float] | Sequence[str | None] | None) -> Faults:
        """Faults from an option.

        `"SEED:RATE"` draws the usual kinds, `"SEED:RATE:KIND,KIND"` the named ones, each equally often; a mapping
        gives each kind its own rate (and may hold `seed`, and `slow_s` and `stall_s`, the seconds of those two); a
        sequence is a script, None meaning no fault. Raises ConfigError.
        """
        if wanted is None:
            return cls()
        if isinstance(wanted, str):
            return cls._parse(wanted)
        if isinstance(wanted, Mapping):
            rates = {kind: float(rate) for kind, rate in wanted.items() if kind not in ("seed", "slow_s", "stall_s")}
            faults = cls(int(wanted.get("seed", 0)), rates)
            faults.slow_s = float(wanted.get("slow_s", faults.slow_s))
            faults.stall_s = float(wanted.get("stall_s", faults.stall_s))
            return faults
        return cls(script=wanted)

    @classmethod
    def _parse(cls, text: str) -> Faults:
        seed, _, rest = text.partition(":")
        rate, _, names = rest.partition(":")
        kinds = [name.strip() for name in names.split(",") if name.strip()] or list(_DEFAULT_KINDS)
        try:
            return cls(int(seed), dict.fromkeys(kinds, float(rate) / len(kinds)))
        except ValueError as error:
            raise ConfigError(f"faults {text!r} are not SEED:RATE or SEED:RATE:KIND,KIND, such as 7:0.2") from error

    def choose(self, body_sha256: str) -> str:
        """The fault of the next arrival of the body with this hash, "" for none."""
        if not self._rates and not self._script:
            return ""
        with self._lock:
            if self._script:
                return self._script.popleft() or ""
            self._arrivals[body_sha256] += 1
            ticket = f"{self._seed}:{self._arrivals[body_sha256]}:{body_sha256}"
        draw = int.from_bytes(hashlib.sha256(ticket.encode()).digest()[:8]) / 2**64
        for kind, rate in self._rates.items():
            if draw < rate:
                return kind
            draw -= rate
        return ""


def refuse_before(fault: str) -> None:
    """Raises the Refusal of a fault that comes before any work."""
    if fault in _BEFORE:
        raise Refusal(*_BEFORE[fault])


def refuse_after(fault: str, *, is_streamed: bool) -> None:
    """Raises the Refusal of a fault that comes once the input was taken in."""
    if fault in _AFTER and not (fault == STREAM_ERROR and is_streamed):
        raise Refusal(*_AFTER[fault])


def stream_error() -> Refusal:
    """The error object that stands inside a stream that fails midway."""
    return Refusal(*_AFTER[STREAM_ERROR])


def spoil(answer: Answer, fault: str) -> Answer:
    """The answer as a fault leaves it: halved for a cut or filtered one, its JSON broken for a malformed one."""
    if fault == TRUNCATED:
        return replace(answer, text=answer.text[: len(answer.text) // 2], finish_reason="length")
    if fault == CONTENT_FILTER:
        return replace(answer, text=answer.text[: len(answer.text) // 2], finish_reason="content_filter")
    if fault == MALFORMED:
        return replace(answer, text=answer.text[: max(len(answer.text) * 2 // 3, 1)])
    return answer


class Limiter:
    """Requests and tokens of the last 60 seconds against the allowed number; None allows any."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Counts a request, even one that fails later; raises a 429 Refusal when there are too many."""
        if self._requests_per_minute is None:
            return
        with self._lock:
            now = self._clock()
            while self._requests and now - self._requests[0] >= 60:
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
            while self._tokens and now - self._tokens[0][0] >= 60:
                self._tokens.popleft()
            spent = sum(amount for _, amount in self._tokens)
            if is_input and spent + tokens > self._tokens_per_minute:
                raise Refusal(429, "rate_limit_exceeded", f"More than {self._tokens_per_minute} tokens in a minute.")
            self._tokens.append((now, tokens))

    def wait_s(self) -> float:
        """Seconds until the oldest counted request or tokens leave the window."""
        with self._lock:
            oldest = [self._requests[0]] if self._requests else []
            oldest += [self._tokens[0][0]] if self._tokens else []
            return max(60 - (self._clock() - min(oldest)), 0.0) if oldest else 0.0


def garbage(request_id: str) -> bytes:
    """A body that is not JSON, as a proxy in between sends it."""
    return f"<html><head><title>Bad Gateway</title></head><body>upstream {request_id}</body></html>".encode()
