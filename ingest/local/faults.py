"""Faults on demand: the ways a real endpoint fails, chosen so that a run can be repeated.

A fault is drawn from the seed, the request's body and how often that body has come before. So the same job meets the
same faults whatever the order its requests arrive in, and trying again can succeed. Or a script names the fault of each
request by its number. `KINDS` tells every kind; `fault_files` reads them from a file.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal

from ingest.errors import ConfigError
from ingest.local.refusal import Refusal

if TYPE_CHECKING:
    from ingest.local.answering import Answer

# Answered before any work: nothing is billed. Status, code and message as documented upstream or by the gateway.
_BEFORE = {
    "rate_limited": (429, "rate_limit_exceeded", "Requests per minute are exceeded."),
    "endpoint_rpm": (429, "RateLimitExceeded.EndpointRPMExceeded", "The endpoint's requests per minute are exceeded."),
    "endpoint_tpm": (429, "RateLimitExceeded.EndpointTPMExceeded", "The endpoint's tokens per minute are exceeded."),
    "model_rpm": (429, "ModelAccountRpmRateLimitExceeded", "The model's requests per minute are exceeded."),
    "model_tpm": (429, "ModelAccountTpmRateLimitExceeded", "The model's tokens per minute are exceeded."),
    "model_ipm": (429, "ModelAccountIpmRateLimitExceeded", "The model's images per minute are exceeded."),
    "account_rpm": (429, "APIAccountRpmRateLimitExceeded", "The account's requests per minute are exceeded."),
    "account_rate": (429, "AccountRateLimitExceeded", "The account's rate limit is exceeded."),
    "in_flight": (429, "InflightBatchsizeExceeded", "Too many requests are in flight."),
    "overloaded": (429, "ServerOverloaded", "The service is overloaded, try again later."),
    "quota": (429, "QuotaExceeded", "The account has exceeded its quota."),
    "set_limit": (429, "SetLimitExceeded", "The account has reached the spending limit set for it; its quota is used."),
    "bad_key": (401, "invalid_api_key", "The key is not valid."),
    "no_credits": (402, "insufficient_credits", "The account has insufficient credits."),
    "overdue": (403, "AccountOverdueError", "The account has an overdue balance."),
    "denied": (403, "AccessDenied", "The account has no access to this model."),
    "no_model": (404, "model_not_found", "The model does not exist."),
    "request_timeout": (408, "request_timeout", "The request took too long to arrive."),
    "unavailable": (503, "model_unavailable", "The model is unavailable for the moment."),
    "overloaded_529": (529, "overloaded_error", "The service is overloaded."),
}
# Answered once the input was taken in, which is billed.
_AFTER = {
    "internal_error": (500, "InternalServiceError", "The service failed unexpectedly."),
    "server_error": (502, "upstream_error", "The upstream service failed."),
    "gateway_timeout": (504, "upstream_error", "The upstream service did not answer in time."),
    "refused_input": (400, "InputTextSensitiveContentDetected", "The input text may contain sensitive content."),
    "refused_image": (400, "InputImageSensitiveContentDetected", "An input image may contain sensitive content."),
    "refused_output": (400, "OutputTextSensitiveContentDetected", "The output may contain sensitive content."),
    "stream_error": (502, "upstream_error", "The upstream service failed."),
    "stream_failed": (502, "upstream_error", "The upstream service failed."),
}
# Errors that come inside a stream; a request that is not streamed gets them as an answer of their own.
IN_STREAM = frozenset({"stream_error", "stream_failed"})

# What goes out is not a whole answer, though the connection holds.
_HOLLOW = frozenset({"garbage", "empty_body", "unfinished", "no_close", "malformed_event", *IN_STREAM})

# The answer itself is not as it should be.
_ANSWERS = {
    "truncated": "the answer ends in its middle, finish reason length",
    "silent_cut": "the answer ends in its middle, finish reason stop",
    "no_finish": "the answer ends in its middle, without a finish reason",
    "content_filter": "the content filter stops the answer in its middle",
    "malformed": "the answer is broken JSON, finish reason stop",
    "wrong_types": "every value of the answer has a wrong type",
    "prose": "words stand around the JSON; arguments of a tool begin with a space",
    "fences": "code fences stand around the JSON; arguments of a tool begin with a space",
    "refusal": "the model refuses in words",
    "empty": "the answer is empty, finish reason stop",
}
# The answer does not arrive as it should.
_DELIVERIES = {
    "garbage": "the body is not JSON, status 200",
    "empty_body": "the body is empty, status 200",
    "reset": "the connection is reset before anything is sent",
    "dropped": "the connection is reset in the middle of the body or the stream",
    "slow": "nothing comes for `wait_s`",
    "slow_first": "the stream opens, its first piece comes after `wait_s`",
    "stalled": "the stream stops in its middle for `wait_s`, then the connection is reset",
    "unfinished": "the stream ends in its middle without an error; a plain body is dropped",
    "no_close": "the stream lacks only its closing event; a plain body is dropped",
    "malformed_event": "one event of the stream, or the body, is broken JSON",
    "split_bytes": "bytes come one to five at a time, through characters and escapes",
    "pings": "comments, pings and `retry:` fields stand between the events; a plain body begins with blank lines",
    "crlf": "lines of the stream end with CR LF",
    "duplicate_event": "one piece of the stream comes twice",
    "duplicate_close": "the closing event comes twice",
}
KINDS = frozenset({*_BEFORE, *_AFTER, *_ANSWERS, *_DELIVERIES})
_DEFAULT_KINDS = (
    "rate_limited",
    "overloaded",
    "unavailable",
    "server_error",
    "content_filter",
    "truncated",
    "malformed",
    "garbage",
    "dropped",
    "slow",
)
_WAITS_S = {"slow": 0.5, "slow_first": 0.5, "stalled": 900.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request; an empty `kind` is nothing.

    Where a Retry-After is sent its value is `retry_after_s`, as seconds or as a date. `at` says where in the answer or
    the stream it happens, as a fraction. `wait_s` is the time of a slow or stalled one.
    """

    kind: str = ""
    retry_after_s: float | None = None
    retry_after_form: Literal["seconds", "date"] = "seconds"
    at: float = 0.5
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        if self.kind and self.kind not in KINDS:
            raise ConfigError(f"unknown fault {self.kind}; choose from {', '.join(sorted(KINDS))}")
        if self.retry_after_form not in ("seconds", "date") or not 0 <= self.at <= 1 or self.wait_s < 0:
            raise ConfigError(f"fault {self.kind}: retry_after_form is seconds or date, at 0 to 1, wait_s at least 0")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | None, waits_s: Mapping[str, float] = _WAITS_S) -> Fault:
        """A fault from its kind, or from a mapping with `kind` and any of the other fields. Raises ConfigError."""
        given = dict(value) if isinstance(value, Mapping) else {"kind": value or ""}
        kind = given.get("kind", "")
        try:
            return cls(**{"wait_s": waits_s.get(kind, 0.0), **given})
        except TypeError as error:
            raise ConfigError(f"fault {given}: {error}") from error

    @property
    def is_hollow(self) -> bool:
        """Whether what it lets through is no whole answer."""
        return self.kind in _HOLLOW

    def retry_after(self) -> str | None:
        """The value of the Retry-After header."""
        if self.retry_after_s is None:
            return None
        if self.retry_after_form == "date":
            return format_datetime(datetime.now(UTC) + timedelta(seconds=self.retry_after_s), usegmt=True)
        return f"{self.retry_after_s:g}"

    def cut(self, length: int) -> int:
        """Where in something of this length it happens."""
        return int(length * self.at)


class Faults:
    """Which fault a request meets: from a script by the request's number, else by chance with a rate per kind."""

    def __init__(
        self,
        seed: int = 0,
        rates: Sequence[tuple[Fault, float]] = (),
        script: Sequence[tuple[int, int | None, Fault]] = (),
    ) -> None:
        """`script` has rows of first number, last number (None for no end) and fault; the first row that fits counts.

        Raises ConfigError for rates that are negative or together above 1.
        """
        self._seed = seed
        self._rates = sorted(rates, key=lambda row: row[0].kind)
        self._script = tuple(script)
        self._arrivals: Counter[str] = Counter()
        self._number = 0
        self._lock = threading.Lock()
        if any(rate < 0 for _, rate in self._rates) or sum(rate for _, rate in self._rates) > 1 + 1e-9:
            raise ConfigError("the rates of faults must be 0 or more and together at most 1")

    @classmethod
    def of(
        cls, wanted: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any] | None] | None, seed: int | None = None
    ) -> Faults:
        """Faults from an option.

        `"SEED:RATE"` draws the usual kinds, `"SEED:RATE:KIND,KIND"` the named ones, each equally often; a mapping gives
        each kind its own rate, or has the form of a fault file; a sequence is a script from request 1 on, None meaning
        no fault. `seed` comes before one in `wanted`. Raises ConfigError.
        """
        if wanted is None:
            return cls()
        if isinstance(wanted, str):
            return cls._parse(wanted, seed)
        if isinstance(wanted, Mapping):
            return cls._from_mapping(wanted, seed)
        return cls(seed or 0, script=[(n, n, Fault.of(value)) for n, value in enumerate(wanted, 1)])

    @classmethod
    def _parse(cls, text: str, seed: int | None) -> Faults:
        given, _, rest = text.partition(":")
        rate, _, names = rest.partition(":")
        kinds = [name.strip() for name in names.split(",") if name.strip()] or list(_DEFAULT_KINDS)
        try:
            share = float(rate) / len(kinds)
            return cls(int(given) if seed is None else seed, [(Fault.of(kind), share) for kind in kinds])
        except ValueError as error:
            raise ConfigError(f"faults {text!r} are not SEED:RATE or SEED:RATE:KIND,KIND, such as 7:0.2") from error

    @classmethod
    def _from_mapping(cls, wanted: Mapping[str, Any], seed: int | None) -> Faults:
        waits_s = dict(_WAITS_S)
        for name, kinds in (("slow_s", ("slow", "slow_first")), ("stall_s", ("stalled",))):
            if name in wanted:
                waits_s |= dict.fromkeys(kinds, float(wanted[name]))
        settings = {"seed", "slow_s", "stall_s", "rates", "script"}
        rates = wanted.get("rates", {key: value for key, value in wanted.items() if key not in settings})
        if "rates" in wanted and set(wanted) - settings:
            raise ConfigError(f"faults: unknown keys {', '.join(sorted(set(wanted) - settings))}")
        script = wanted.get("script", {})
        if not isinstance(script, Mapping):
            script = {str(number): value for number, value in enumerate(script, 1)}
        return cls(
            int(wanted.get("seed", 0)) if seed is None else seed,
            [_read_rate(kind, value, waits_s) for kind, value in rates.items()],
            [(*_read_numbers(key), Fault.of(value, waits_s)) for key, value in script.items()],
        )

    def choose(self, body_sha256: str) -> Fault:
        """The fault of the next arrival of the body with this hash."""
        if not self._rates and not self._script:
            return Fault()
        with self._lock:
            self._number += 1
            for first, last, fault in self._script:
                if first <= self._number and (last is None or self._number <= last):
                    return fault
            self._arrivals[body_sha256] += 1
            ticket = f"{self._seed}:{self._arrivals[body_sha256]}:{body_sha256}"
        draw = int.from_bytes(hashlib.sha256(ticket.encode()).digest()[:8]) / 2**64
        for fault, rate in self._rates:
            if draw < rate:
                return fault
            draw -= rate
        return Fault()


def _read_rate(kind: str, value: Any, waits_s: Mapping[str, float]) -> tuple[Fault, float]:
    """A kind with its rate: a number, or a mapping with `rate` and the fields of a fault."""
    try:
        if isinstance(value, Mapping):
            given = dict(value)
            return Fault.of({"kind": kind, **{k: v for k, v in given.items() if k != "rate"}}, waits_s), given["rate"]
        return Fault.of(kind, waits_s), float(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"fault {kind} needs a rate such as 0.05, not {value!r}") from error


def _read_numbers(key: str) -> tuple[int, int | None]:
    """`3`, `5-9` or `7-` as first and last number."""
    first, dash, last = str(key).partition("-")
    try:
        return int(first), int(last) if last else None if dash else int(first)
    except ValueError as error:
        raise ConfigError(f"script of faults: {key!r} is not a request number such as 3, 5-9 or 7-") from error


def refuse_before(fault: Fault) -> None:
    """Raises the Refusal of a fault that comes before any work."""
    if fault.kind in _BEFORE:
        raise _refusal(fault, *_BEFORE[fault.kind])


def refuse_after(fault: Fault, *, is_streamed: bool) -> None:
    """Raises the Refusal of a fault that comes once the input was taken in."""
    if fault.kind in _AFTER and not (fault.kind in IN_STREAM and is_streamed):
        raise _refusal(fault, *_AFTER[fault.kind])


def stream_error(fault: Fault) -> Refusal:
    """The error object that stands inside a stream that fails midway."""
    return _refusal(fault, *_AFTER[fault.kind])


def _refusal(fault: Fault, status: int, code: str, message: str) -> Refusal:
    return Refusal(status, code, f"{message[:-1]} (injected fault).", retry_after=fault.retry_after())


def spoil(answer: Answer, fault: Fault) -> Answer:
    """The answer as a fault of the answer leaves it; as it is for any other fault."""
    text = answer.text
    if fault.kind in ("truncated", "content_filter", "silent_cut", "no_finish"):
        reason = {"truncated": "length", "content_filter": "content_filter", "no_finish": ""}
        return replace(answer, text=text[: fault.cut(len(text))], finish_reason=reason.get(fault.kind, _ended(answer)))
    if fault.kind == "malformed":
        return replace(answer, text=_break(text, fault), finish_reason=_ended(answer))
    if fault.kind == "wrong_types":
        return replace(answer, text=_retype(text))
    if fault.kind in ("prose", "fences"):
        if answer.tool_name is not None:
            return replace(answer, text=f" {text}")
        around = {"prose": f"Here is the record:\n\n{text}\n\nLet me know if you need more.", "fences": _fenced(text)}
        return replace(answer, text=around[fault.kind])
    if fault.kind == "refusal":
        return replace(answer, text="I cannot help with that request.", finish_reason="refusal")
    if fault.kind == "empty":
        return replace(answer, text="", finish_reason=_ended(answer))
    return answer


def _ended(answer: Answer) -> str:
    return "tool_calls" if answer.tool_name is not None else "stop"


def _fenced(text: str) -> str:
    return f"```json\n{text}\n```"


def _break(text: str, fault: Fault) -> str:
    """The text without the first quote, brace or colon behind the chosen place, and without its last character."""
    for at in range(fault.cut(len(text)), len(text)):
        if text[at] in '":{}[]':
            return text[:at] + text[at + 1 : -1]
    return text[:-1]


def _retype(text: str) -> str:
    """JSON with every value but null in a list of its own; other text as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_listed(value, is_root=True), ensure_ascii=False)


def _listed(value: Any, *, is_root: bool = False) -> Any:
    if isinstance(value, dict):
        inner = {key: _listed(item) for key, item in value.items()}
        return inner if is_root else [inner]
    if value is None:
        return None
    return {"value": value} if isinstance(value, list) else [value]


def garbage(request_id: str) -> bytes:
    """A body that is not JSON, as a proxy in between sends it."""
    return f"<html><head><title>Bad Gateway</title></head><body>upstream {request_id}</body></html>".encode()
