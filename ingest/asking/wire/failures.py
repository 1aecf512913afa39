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
# Some envelopes have one code for every 429, and leave it to the message to tell a cap from a moment's limit.
_QUOTA = re.compile(
    r"QuotaExceeded|SetLimitExceeded|insufficient.(?:quota|credit|balance|funds)|AccountOverdue|ServiceOverdue"
    r"|billing_(?:hard_limit|error)|spending (?:limit|cap)|overdue|exceeded (?:its|your)(?: current)? quota"
    r"|quota is used|credit balance is too low",
    re.IGNORECASE,
)
_OVERLOADED = re.compile(r"ServerOverloaded|overloaded|model_unavailable|ClosedEndpoint|no capacity", re.IGNORECASE)
_NO_MODEL = re.compile(r"model_not_found|InvalidEndpointOrModel|ModelNotOpen|model.{0,80}not (?:exist|found)", re.I)
# The service fetches addresses given in place of bytes; ours hold the bytes, so this is a fault of its own.
DOWNLOAD = re.compile(r"downloading url|download(?:ing)? the (?:image|url|file)", re.IGNORECASE)
_RATE = re.compile(
    r"rate.?limit|too_many_requests|InflightBatchsize|(?:Rpm|Tpm|Ipm)(?:RateLimit)?Exceeded", re.IGNORECASE
)
_KEY = re.compile(
    r"(?:missing|invalid)_api_key|authentication|InvalidAccountStatus|AccessDenied|permission_error|ServiceNotOpen",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"(?:Invalid|Missing)Parameter|InvalidArgument|InvalidImageURL|invalid_request|invalid_prompt|invalid_image"
    r"|not_found_error",
    re.IGNORECASE,
)
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
    advice = _ADVICE[kind]
    if 300 <= reply.status < 400:
        advice = _REDIRECTED
    elif reply.status == 404 and not _NO_MODEL.search(complaint.words):
        advice = _NOT_THERE
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
_NOT_THERE = "nothing answers at this address: check --base-url and --protocol"
_ADVICE: dict[type[ModelError], str] = {
    AuthRejected: "the endpoint refused the key or the model: check the API key, the model id and --base-url",
    QuotaExhausted: (
        "the account has no credit left or has passed its spending cap: add credit or raise the cap, then run the same"
        " command again; answers received so far are kept"
    ),
    RateLimited: "a limit of the account was passed",
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
    if str(code).isdigit():
        # Some gateways repeat the status as the code.
        code = error.get("type") or code
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
    if status in (409, 425) or status >= 500 or DOWNLOAD.search(words):
        return ServerFailed
    # No such model, no such endpoint, or nothing at this address at all: every other call would hear the same.
    if status == 404:
        return AuthRejected
    # An error object inside a success, or at the end of a stream, has no status to go by.
    return _kind_by_code(complaint) if status < 300 else RequestRejected


def _kind_by_code(complaint: _Complaint) -> type[ModelError]:
    """The class of an error without a status of its own: its code says more than its message."""
    for text in (complaint.code, complaint.message):
        if _NO_MODEL.search(text) or _KEY.search(text):
            return AuthRejected
        if _RATE.search(text):
            return RateLimited
        if _REQUEST.search(text):
            return RequestRejected
    return CallTimeout if "timeout" in complaint.code else ServerFailed
