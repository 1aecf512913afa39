"""The only place that talks to a server: one call with its limits, its deadline and its retries."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import httpx
import jiter
import stamina

from ingest.asking.limits import Limits
from ingest.asking.wire import load_wire
from ingest.asking.wire.failures import shorten
from ingest.config import AskingSettings, Endpoint
from ingest.errors import (
    AuthRejected,
    CallTimeout,
    ConfigError,
    Disconnected,
    IngestError,
    Malformed,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from ingest.profile import Profile
from ingest.types import HttpCall, HttpReply, Json, Reply, Request, Usage

# The service names no waiting time, so back-off is exponential with full jitter, from 1 s to 60 s; an overloaded
# service is given longer.
_WAIT_FIRST_S = 1.0
_WAIT_LONGEST_S = 60.0
_OVERLOAD_FACTOR = 5.0
# A server that asks for more than this has stopped serving for today: the caller should know at once.
_LONGEST_RETRY_AFTER_S = 900.0
_CONNECT_TIMEOUT_S = 30.0
# The longest answer is 65,536 tokens, some 300 kB; the local engine adds the words of its pages.
_MAX_RESPONSE_BYTES = 64_000_000

AsgiScope: TypeAlias = MutableMapping[str, Any]
AsgiMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

# Without this, Python prints stamina's warnings about each retry on stderr when the program logs nothing.
logging.getLogger("stamina").addHandler(logging.NullHandler())
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one call, as it ended.

    `outcome` is "answered", "cancelled", or the code of the error; `number` counts from 1 within the call. `is_sent` is
    false when the request surely never reached the server; a try that was sent and not answered may still be billed.
    """

    key: str
    number: int
    outcome: str
    message: str
    usage: Usage
    elapsed_s: float
    is_sent: bool


OnAttempt: TypeAlias = Callable[[Attempt], None]


class Client:
    """Asks one model at one endpoint. Use it within one event loop, and close it (or use it with `async with`)."""

    def __init__(
        self,
        endpoint: Endpoint,
        profile: Profile,
        settings: AskingSettings,
        app: AsgiApp | None = None,
        on_attempt: OnAttempt | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """A client for `endpoint`. With `app` the calls go to that ASGI app in-process and no socket is opened.

        `on_attempt` is told of every try after it ended. Raises ConfigError for a base URL, a key or a protocol that
        cannot be used.
        """
        self._wire = load_wire(endpoint.protocol)
        self._profile = profile
        self._settings = settings
        self._label = endpoint.label
        self._key = endpoint.api_key.get_secret_value().strip() if endpoint.api_key else ""
        self._on_attempt = on_attempt or (lambda attempt: None)
        self._limits = Limits(profile.rate_limits)
        self._verdict: ModelError | None = None
        if app is not None and transport is None:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(
            base_url=_check_url(endpoint.base_url),
            headers={"user-agent": "ingest", "content-type": "application/json"} | _auth(self._key),
            timeout=httpx.Timeout(settings.timeout_s, connect=min(settings.timeout_s, _CONNECT_TIMEOUT_S), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=profile.rate_limits.concurrency),
            follow_redirects=False,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Client({self._label!r}, model={self._profile.model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, request: Request, reserve_tokens: int = 0) -> Reply:
        """Send `request` and return the answer, trying again what may succeed on another try.

        `reserve_tokens` (estimated input and reserved output) is what the call takes of the tokens per minute. Once
        the endpoint has refused the key or the account, calls that wait are not sent any more: they fail the same way.

        Raises the ModelError class that fits the last failure, Malformed for a response beyond all bounds, and
        ConfigError for settings that exclude one another.
        """
        call = self._wire.encode(request, self._profile)
        content = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        number = 0

        def wait_s(error: Exception) -> bool | float:
            return _wait_s(error, number)

        async for attempt in stamina.retry_context(on=wait_s, attempts=self._settings.max_attempts, timeout=None):
            with attempt:
                number = attempt.num
                return await self._try(request.key, number, call, content, reserve_tokens)
        raise AssertionError("the last try returns or raises")

    async def _try(self, key: str, number: int, call: HttpCall, content: bytes, reserve_tokens: int) -> Reply:
        """One try: waits for its turn, sends, decodes, and tells what became of it."""
        async with self._limits.slot(reserve_tokens) as slot:
            if self._verdict is not None:
                raise self._verdict
            started = time.monotonic()

            def tell(outcome: str, message: str = "", usage: Usage | None = None, is_sent: bool = True) -> None:
                elapsed_s = time.monotonic() - started
                self._on_attempt(Attempt(key, number, outcome, message, usage or Usage(), elapsed_s, is_sent))

            try:
                reply = self._wire.decode(await self._post(call.path, content))
            except IngestError as error:
                error = self._without_key(error)
                if isinstance(error, RateLimited | Overloaded):
                    slot.was_pressed()
                if isinstance(error, AuthRejected | QuotaExhausted):
                    self._verdict = error
                tell(error.code, error.message, is_sent=not isinstance(error.__cause__, _NEVER_SENT))
                _LOG.info("call failed", extra={"key": key, "try_number": number, "outcome": error.code})
                raise error
            except asyncio.CancelledError:
                tell("cancelled")
                raise
            slot.went_well()
            tell("answered", usage=reply.usage)
            return reply

    async def _post(self, path: str, content: bytes) -> HttpReply:
        """One exchange. httpx's own exceptions end here."""
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._http.stream("POST", path, content=content) as got,
            ):
                body = await self._read(got)
                return HttpReply(got.status_code, {name.lower(): value for name, value in got.headers.items()}, body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Disconnected(f"no connection to {self._label}: {shorten(str(error)) or 'timed out'}") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise CallTimeout(f"{self._label} did not answer within {self._settings.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            words = shorten(str(error)) or type(error).__name__
            raise Disconnected(f"the connection to {self._label} broke: {words}") from error

    async def _read(self, response: httpx.Response) -> Json:
        """The body as JSON; None when it is not."""
        blocks, size_bytes = [], 0
        async for block in response.aiter_bytes():
            size_bytes += len(block)
            if size_bytes > _MAX_RESPONSE_BYTES:
                raise Malformed(f"{self._label} sent more than {_MAX_RESPONSE_BYTES} bytes for one answer")
            blocks.append(block)
        try:
            return jiter.from_json(b"".join(blocks), allow_inf_nan=False)
        except ValueError:
            return None

    def _without_key(self, error: IngestError) -> IngestError:
        """The error, with the key masked where a server repeats it."""
        if not self._key or self._key not in error.message:
            return error
        message = error.message.replace(self._key, "…")
        if isinstance(error, ModelError):
            masked: IngestError = type(error)(message, error.part_index, error.http_status, error.retry_after_s)
        else:
            masked = type(error)(message, error.part_index)
        masked.__cause__ = error.__cause__
        return masked


_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def _wait_s(error: Exception, number: int) -> bool | float:
    """Seconds to wait after try `number` failed with `error`; False when trying again cannot help."""
    if not isinstance(error, ModelError) or not error.retryable:
        return False
    longest = min(_WAIT_LONGEST_S, _WAIT_FIRST_S * 2.0 ** (number - 1))
    wait = random.uniform(0.0, longest)
    if isinstance(error, Overloaded):
        wait = min(_WAIT_LONGEST_S, longest * _OVERLOAD_FACTOR) * random.uniform(0.5, 1.0)
    if error.retry_after_s is not None:
        if error.retry_after_s > _LONGEST_RETRY_AFTER_S:
            return False
        # Spread over a second, so that calls sent away together do not come back together.
        wait = max(wait, error.retry_after_s + random.uniform(0.0, 1.0))
    return wait


def _check_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{base_url!r} is not the URL of an endpoint: it needs https:// and a host")
    return url


def _auth(key: str) -> dict[str, str]:
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError("the API key holds characters that cannot be sent: check that it was copied whole and alone")
    return {"authorization": f"Bearer {key}"}
