"""What a failed response means: HTTP status, then code, then message text, as one of the error classes.

Gateways may or may not keep the codes of the service behind them, so no single one of the three is trusted alone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingest.errors import (
    AuthRejected,
    CallTimeout,
    ContentRefused,
    ContextExceeded,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
)
from ingest.types import HttpReply, Json

_MAX_MESSAGE_CHARS = 300

_TOO_LONG = re.compile(
    r"exceed max message tokens|maximum context|context.length|context.window|OutofContext|prompt is too long"
    r"|input is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"SensitiveContentDetected|content_filter|content_policy|sensitive (?:content|information|words?|text|image)",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"QuotaExceeded|SetLimitExceeded|insufficient_(?:quota|credits|balance)|AccountOverdue|ServiceOverdue"
    r"|billing_hard_limit",
    re.IGNORECASE,
)
_OVERLOADED = re.compile(r"ServerOverloaded|overloaded|model_unavailable|ClosedEndpoint|no capacity", re.IGNORECASE)
_NO_MODEL = re.compile(r"model_not_found|InvalidEndpointOrModel|ModelNotOpen|model.{0,80}not (?:exist|found)", re.I)
_SECRETS = re.compile(r"(?i)\b(bearer\s+\S+|(?:sk|ak|key|token)[-_][\w-]{6,}\S*)")


@dataclass(frozen=True, slots=True)
class _Complaint:
    """What an error body says."""

    code: str
    message: str

    @property
    def words(self) -> str:
        return f"{self.code} {self.message}"


def check(reply: HttpReply) -> None:
    """Raise the error a response stands for; return for one that carries an answer."""
    has_error = isinstance(reply.body, dict) and bool(reply.body.get("error"))
    if reply.status >= 300 or has_error:
        raise failure_of(reply)


def failure_of(reply: HttpReply) -> ModelError:
    """The error class of a failed response, with the server's own words shortened and without keys."""
    complaint = _complaint(reply.body)
    kind = _kind(reply.status, complaint)
    said = f"{complaint.code}: {complaint.message}".strip(": ") or "no reason given"
    advice = _REDIRECTED if 300 <= reply.status < 400 else _ADVICE[kind]
    message = f"{advice} (HTTP {reply.status}, {shorten(said)})"
    return kind(message, None, reply.status, retry_after_s(reply.headers.get("retry-after")))


def shorten(text: str) -> str:
    """Text of a server in one line, at most 300 characters, with anything that looks like a key masked."""
    line = _SECRETS.sub("…", " ".join(text.split()))
    return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[: _MAX_MESSAGE_CHARS - 1]}…"


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as a date; None without a usable one."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


_REDIRECTED = "the endpoint has moved and redirects are not followed: give its present address as --base-url"
_ADVICE: dict[type[ModelError], str] = {
    AuthRejected: "the endpoint refused the key or the model: check the API key, the model id and --base-url",
    QuotaExhausted: "the account has no credit left or has passed its spending cap",
    RateLimited: "too many requests or tokens per minute",
    Overloaded: "the service has no capacity now",
    CallTimeout: "the server gave up waiting",
    ServerFailed: "the server failed",
    ContextExceeded: "the request is longer than the model takes",
    ContentRefused: "a content filter refused the request",
    RequestRejected: "the server refused the request",
}


def _complaint(body: Json) -> _Complaint:
    """Code and message of an error body in any of its known envelopes."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, str):
        return _Complaint("", error)
    if not isinstance(error, dict):
        return _Complaint("", "")
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    parameter = error.get("param")
    said = str(message) if not parameter or str(parameter) in str(message) else f"{message} [{parameter}]"
    return _Complaint(str(code), said)


def _kind(status: int, complaint: _Complaint) -> type[ModelError]:
    words = complaint.words
    if status == 402 or _QUOTA.search(words):
        return QuotaExhausted
    if status in (401, 403):
        return AuthRejected
    if status == 429:
        return Overloaded if _OVERLOADED.search(words) else RateLimited
    # A gateway may wrap these into a status of its own; trying again would not help.
    if status == 413 or _TOO_LONG.search(words):
        return ContextExceeded
    if _REFUSED.search(words):
        return ContentRefused
    if status in (408, 504):
        return CallTimeout
    if status in (503, 529) or _OVERLOADED.search(words):
        return Overloaded
    if status in (409, 425) or status >= 500:
        return ServerFailed
    return _kind_of_refusal(status, complaint)


def _kind_of_refusal(status: int, complaint: _Complaint) -> type[ModelError]:
    code = complaint.code
    if status == 404 and _NO_MODEL.search(complaint.words):
        return AuthRejected
    if status < 300:
        # An error object inside a success has no status to go by.
        return _kind(_STATUS_BY_CODE.get(code, 500), complaint)
    return RequestRejected


_STATUS_BY_CODE = {
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "AuthenticationError": 401,
    "insufficient_credits": 402,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "model_unavailable": 503,
    "upstream_error": 502,
    "InvalidParameter": 400,
    "MissingParameter": 400,
    "invalid_request_error": 400,
}
