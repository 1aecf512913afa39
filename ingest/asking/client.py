"""The only place that talks to a server: one call with its limits, its deadline and its retries."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import httpx
import jiter
import stamina
from pydantic import SecretStr

from ingest import tracing
from ingest.asking.limits import CallLimits, CallSlot, Limits
from ingest.asking.sse import SseDecoder
from ingest.asking.wire import load_wire
from ingest.asking.wire.failures import DOWNLOAD, failure_of, shorten
from ingest.config import AskingSettings, Endpoint
from ingest.errors import (
    AuthRejected,
    CallTimeout,
    ConfigError,
    DeadlinePassed,
    Disconnected,
    IngestError,
    Malformed,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
)
from ingest.profile import Profile
from ingest.types import HttpReply, Json, JsonObject, Reply, Request, Usage

# The service names no waiting time, so back-off is exponential with full jitter, from 1 s to 60 s. Being throttled
# passes with the server's minute, so six tries must outlast one; an overloaded service is given longer still.
_WAIT_FIRST_S = 1.0
_WAIT_LONGEST_S = 60.0
_THROTTLED_FACTOR = 4.0
_OVERLOAD_FACTOR = 5.0
# A server that asks for more than this has stopped serving for today: the caller should know at once.
_LONGEST_RETRY_AFTER_S = 900.0
_CONNECT_TIMEOUT_S = 30.0
# The longest answer is 65,536 tokens, some 300 kB, and a stream wraps every few letters in 300 bytes; the local
# engine adds the words of its pages.
_MAX_RESPONSE_BYTES = 64_000_000
# After its closing event a stream has nothing to say; a connection that then ends at once can be used again.
_DRAIN_S = 0.5
_CARD_TIMEOUT_S = 10.0
_TOKEN_LIMIT = re.compile(r"tpm|tokens?.per|(?:more than|too many) \d* ?tokens", re.IGNORECASE)
_WIDTH_LIMIT = re.compile(r"in.?flight|concurren|at once", re.IGNORECASE)

AsgiScope: TypeAlias = MutableMapping[str, Any]
AsgiMessage: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Send: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

# Without this, Python prints stamina's warnings about each retry on stderr when the program logs nothing.
logging.getLogger("stamina").addHandler(logging.NullHandler())
_LOG = tracing.logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one call, as it ended.

    `outcome` is "answered", "cancelled", or the code of the error; `number` counts from 1 within the call. `is_sent` is
    false when the request surely never reached the server; a try that was sent and not answered may still be billed.
    `http_status` is that of a response that was an error.
    """

    key: str
    number: int
    outcome: str
    message: str
    usage: Usage
    elapsed_s: float
    is_sent: bool
    http_status: int | None = None


OnAttempt: TypeAlias = Callable[[Attempt], None]
BeforeAttempt: TypeAlias = Callable[[str, int], Awaitable[None] | None]
"""Told the request's key and the try's number (from 1) just before a try is sent; raising stops the call."""


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
        before_attempt: BeforeAttempt | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        """A client for `endpoint`. With `app` the calls go to that ASGI app in-process and no socket is opened.

        `before_attempt` is told of every try just before it is sent, once the limits let it through; what it raises
        ends the call unsent, and `on_attempt` is not told. `on_attempt` is told of every try that was sent, after it
        ended, with the usage where the server named one, also of failures. `limits` takes the place of the
        profile's. Raises ConfigError for a base URL, a key or a protocol that cannot be used.
        """
        self._wire = load_wire(endpoint.protocol)
        self._profile = profile
        self._settings = settings
        self._label = endpoint.label
        # The embedded engine has its answer whole before it sends any of it.
        self._is_streamed = settings.stream and not endpoint.local
        self._auth = _Auth(endpoint.api_key, self._wire.KEY_HEADER)
        self._on_attempt = on_attempt or (lambda attempt: None)
        self._before_attempt = before_attempt or (lambda key, number: None)
        width = settings.concurrency or profile.rate_limits.concurrency
        self._limits: CallLimits = limits or Limits(profile.rate_limits, width)
        self._verdict: ModelError | None = None
        self._deadline_s: float | None = None
        if app is not None and transport is None:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        silence_s = min(settings.stall_timeout_s, settings.timeout_s) if self._is_streamed else settings.timeout_s
        self._http = httpx.AsyncClient(
            base_url=_check_url(endpoint.base_url),
            headers={"user-agent": "ingest", "content-type": "application/json"} | dict(self._wire.HEADERS),
            auth=self._auth,
            timeout=httpx.Timeout(silence_s, connect=min(settings.timeout_s, _CONNECT_TIMEOUT_S), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=width),
            http2=_check_http2(settings.http2),
            follow_redirects=False,
            transport=transport,
        )
        self._auth.guard_logs()

    def __repr__(self) -> str:
        return f"Client({self._label!r}, model={self._profile.model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        self._auth.unguard_logs()
        await self._http.aclose()

    async def ask(self, request: Request, reserve_tokens: int = 0, whole_tokens: int = 0) -> Reply:
        """Send `request` and return the answer, trying again what may succeed on another try.

        `reserve_tokens` (estimated input and the output to expect) is what the call takes of the tokens per minute,
        `whole_tokens` (with the output limit for output) what it takes of a service that counts so. Once the endpoint
        has refused the key or the account, calls that wait are not sent any more: they fail the same way.

        Raises the ModelError class that fits the last failure, DeadlinePassed once the run's time is over, Malformed
        for a response beyond all bounds, and ConfigError for settings that exclude one another.
        """
        call = self._prepare(request, (reserve_tokens, whole_tokens))
        if self._deadline_s is None and self._settings.run_timeout_s is not None:
            self._deadline_s = _now_s() + self._settings.run_timeout_s
        number = 0

        def wait_s(error: Exception) -> bool | float:
            seconds = _wait_s(error, number)
            if isinstance(seconds, float) and self._left_s() <= seconds:
                return False
            return seconds

        async for attempt in stamina.retry_context(on=wait_s, attempts=self._settings.max_attempts, timeout=None):
            with attempt:
                number = attempt.num
                return await self._try(number, call)
        raise AssertionError("the last try returns or raises")

    def _prepare(self, request: Request, tokens: tuple[int, int]) -> _Call:
        """The request in bytes. The objects they were made of go: a body of images is large, and may wait long."""
        is_streamed = self._is_streamed or (request.rung == "tool" and getattr(self._wire, "HIDES_CUTS", False))
        call = self._wire.encode(request, self._profile, is_streamed)
        content = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        limit = request.parameters.get("max_tokens")
        return _Call(request.key, call.path, content, tokens, limit if isinstance(limit, int) else None)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Around what prepares a call, or keeps a document from its own: ends it with the run's time.

        Raises DeadlinePassed.
        """
        if self._left_s() <= 0.0:
            raise self._too_late()
        try:
            async with asyncio.timeout_at(self._deadline_s) as waiting:
                yield
        except TimeoutError:
            if not waiting.expired():
                raise
        else:
            return
        raise self._too_late()

    def _left_s(self) -> float:
        """Seconds left to the run, whose time begins with its first call."""
        return float("inf") if self._deadline_s is None else self._deadline_s - _now_s()

    async def _try(self, number: int, call: _Call) -> Reply:
        """One try: waits for its turn, sends, decodes, and tells what became of it."""
        try:
            async with asyncio.timeout(None if self._deadline_s is None else self._left_s()) as waiting:
                async with self._limits.slot(*call.tokens) as slot:
                    # Time in the queue is bounded by the run alone; the exchange has limits of its own.
                    waiting.reschedule(None)
                    return await self._send(slot, number, call)
        except TimeoutError:
            if not waiting.expired():
                raise
        raise self._too_late()

    async def _send(self, slot: CallSlot, number: int, call: _Call) -> Reply:
        if self._verdict is not None:
            raise self._verdict
        if self._left_s() <= 0.0:
            raise self._too_late()
        waiting = self._before_attempt(call.key, number)
        if waiting is not None:
            await waiting
        started, trial = time.monotonic(), _Trial()

        def tell(outcome: str, message: str = "", status: int | None = None) -> None:
            elapsed_s = time.monotonic() - started
            self._on_attempt(Attempt(call.key, number, outcome, message, trial.usage, elapsed_s, trial.is_sent, status))
            self._log(trial, outcome, status, elapsed_s)

        failure: IngestError
        with self._span(number, call):
            try:
                reply = await self._answer(call, trial)
            except IngestError as error:
                failure = self._without_key(error)
            except asyncio.CancelledError:
                tell("cancelled")
                raise
            else:
                slot.went_well(reply.usage.input_tokens + reply.usage.output_tokens)
                tracing.current().set(
                    {"gen_ai.response.model": reply.model, "gen_ai.response.finish_reasons": (reply.finish_reason,)}
                )
                tell("answered")
                return reply
            self._heed(failure, slot)
            tell(failure.code, failure.message, failure.http_status if isinstance(failure, ModelError) else None)
            tracing.current().fail(failure.code)
        raise failure

    def _span(self, number: int, call: _Call) -> AbstractContextManager[tracing.Span]:
        """The step of one try, for log and traces."""
        url = self._http.base_url
        attributes: tracing.Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic" if call.path.endswith("messages") else "openai",
            "gen_ai.request.model": self._profile.model,
            "gen_ai.request.max_tokens": call.max_tokens,
            "gen_ai.request.stream": self._is_streamed,
            "server.address": url.host,
            "server.port": url.port,
            "ingest.request.key": call.key,
            "ingest.request.attempt": number,
        }
        fields = {"key": tracing.short(call.key), "attempt": number}
        return tracing.span(f"chat {self._profile.model}", fields, attributes, is_call=True)

    def _log(self, trial: _Trial, outcome: str, status: int | None, elapsed_s: float) -> None:
        """One line about a try that ended, and what its span tells of it."""
        usage = trial.usage
        tracing.current().set(
            {
                "ingest.status": outcome,
                "http.response.status_code": trial.http_status,
                "gen_ai.response.id": trial.request_id,
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            }
        )
        fields: dict[str, object] = {"request_id": trial.request_id or "none", "outcome": outcome}
        if status is not None:
            fields["http_status"] = status
        fields |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        level = logging.DEBUG if outcome == "answered" else logging.INFO
        _LOG.log(level, "call ended", extra={**fields, "elapsed_s": round(elapsed_s, 3)})

    async def _answer(self, call: _Call, trial: _Trial) -> Reply:
        """One exchange, decoded. Responses stay in this frame: some repeat the key."""
        got = await self._exchange(call, trial)
        trial.usage = self._wire.usage(got.body)
        reply = self._wire.decode(got)
        trial.request_id = self._auth.mask(shorten(reply.request_id or ""))
        return reply

    def _heed(self, failure: IngestError, slot: CallSlot) -> None:
        """What a failure means for the calls that follow."""
        if isinstance(failure, RateLimited):
            slot.was_throttled(bool(_TOKEN_LIMIT.search(failure.message)), bool(_WIDTH_LIMIT.search(failure.message)))
        if isinstance(failure, Overloaded):
            slot.was_pressed()
        if isinstance(failure, AuthRejected | QuotaExhausted):
            self._verdict = failure

    def _too_late(self) -> DeadlinePassed:
        return DeadlinePassed(
            f"the run's {self._settings.run_timeout_s:g} s are over: run the same command again to go on"
        )

    async def _exchange(self, call: _Call, trial: _Trial) -> HttpReply:
        """One exchange. httpx's own exceptions end here, tracebacks and all: their frames hold the headers as sent."""
        timeout_s = min(self._settings.timeout_s, self._left_s())
        failure: ModelError
        try:
            async with asyncio.timeout(timeout_s), self._http.stream("POST", call.path, content=call.content) as got:
                said = got.headers.get("x-request-id") or got.headers.get("request-id") or ""
                trial.request_id = self._auth.mask(shorten(said))
                trial.http_status = got.status_code
                body = await self._read(got, trial)
                return HttpReply(got.status_code, {name.lower(): value for name, value in got.headers.items()}, body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            trial.is_sent = False
            failure = Disconnected(f"no connection to {self._label}: {shorten(str(error)) or 'timed out'}")
        except httpx.TimeoutException as error:
            trial.is_sent = not isinstance(error, httpx.PoolTimeout)
            silence_s = self._http.timeout.read or timeout_s
            failure = CallTimeout(f"{self._label} was silent for {silence_s:g} s")
        except TimeoutError:
            failure = CallTimeout(f"{self._label} did not answer within {timeout_s:g} s")
            if timeout_s < self._settings.timeout_s:
                failure = self._too_late()
        except (httpx.HTTPError, httpx.StreamError) as error:
            words = shorten(str(error)) or type(error).__name__
            failure = Disconnected(f"the connection to {self._label} broke: {words}")
        raise failure

    async def _read(self, response: httpx.Response, trial: _Trial) -> Json:
        """The body as JSON, put together from events where it is a stream; None when it is neither."""
        blocks = self._bounded(response)
        if response.status_code < 300 and "text/event-stream" in response.headers.get("content-type", ""):
            return await self._read_events(blocks, trial)
        return _json_of(b"".join([block async for block in blocks]))

    async def _read_events(self, blocks: AsyncGenerator[bytes], trial: _Trial) -> Json:
        events, answer = SseDecoder(), self._wire.Stream()
        try:
            async for block in blocks:
                for event in events.feed(block):
                    answer.feed(event)
                if answer.is_closed:
                    break
        finally:
            # A stream that is cut has often said what it cost.
            trial.usage = answer.usage
        body = answer.finish()
        with suppress(TimeoutError, httpx.HTTPError, Malformed):
            async with asyncio.timeout(_DRAIN_S):
                async for _ in blocks:
                    pass
        return body

    async def _bounded(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        size_bytes = 0
        async for block in response.aiter_bytes():
            size_bytes += len(block)
            if size_bytes > _MAX_RESPONSE_BYTES:
                raise Malformed(f"{self._label} sent more than {_MAX_RESPONSE_BYTES} bytes for one answer")
            yield block

    def _without_key(self, error: IngestError) -> IngestError:
        """The error, with the key masked where a server repeats it, and without the frames it came through."""
        message = self._auth.mask(error.message)
        if isinstance(error, ModelError):
            return type(error)(message, error.part_index, error.http_status, error.retry_after_s)
        return type(error)(message, error.part_index)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call as it is sent: key, path and body, its tokens (to expect, and at most) and its output limit."""

    key: str
    path: str
    content: bytes
    tokens: tuple[int, int]
    max_tokens: int | None


@dataclass(slots=True)
class _Trial:
    """What is known of a try while it runs."""

    usage: Usage = field(default_factory=Usage)
    is_sent: bool = True
    request_id: str = ""
    http_status: int | None = None


class _Auth(httpx.Auth, logging.Filter):
    """Puts the key on each request and nowhere else: not on the client, not in the log.

    At debug level the libraries below log what they send and receive, headers of HTTP/2 among it, and servers repeat
    keys: while the client lives, their log records pass here.
    """

    _LOGGERS = ("httpx", "httpcore", "hpack", "h2", "h11", "asyncio")

    def __init__(self, key: SecretStr | None, header: str) -> None:
        logging.Filter.__init__(self)
        self._secret = SecretStr("" if key is None else key.get_secret_value().strip())
        self._header = header
        _check_key(self._secret)

    def __repr__(self) -> str:
        return "Auth(…)"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the key to a request."""
        key = self._secret.get_secret_value()
        if key:
            request.headers[self._header] = f"Bearer {key}" if self._header == "authorization" else key
        yield request

    def mask(self, text: str) -> str:
        """The text without the key."""
        key = self._secret.get_secret_value()
        return text.replace(key, "…") if key else text

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a log record through, without the key in it."""
        text = record.getMessage()
        masked = self.mask(text)
        if masked != text:
            record.msg, record.args = masked, ()
        return True

    def guard_logs(self) -> None:
        """Watch the logs of the libraries below."""
        for logger in self._loggers():
            logger.addFilter(self)

    def unguard_logs(self) -> None:
        """Stop watching."""
        for logger in self._loggers():
            logger.removeFilter(self)

    def _loggers(self) -> list[logging.Logger]:
        """Filters of a logger do not apply to those below it, so each is watched by itself."""
        names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in self._LOGGERS]
        return [logging.getLogger(name) for name in {*names, *self._LOGGERS}]


async def fetch_model_card(
    endpoint: Endpoint, model: str, transport: httpx.AsyncBaseTransport | None = None
) -> JsonObject | None:
    """What the endpoint says of a model (`GET models/<id>`); None when it has no such page.

    Raises the ModelError class that fits when it cannot be asked.
    """
    wire = load_wire(endpoint.protocol)
    auth = _Auth(endpoint.api_key, wire.KEY_HEADER)
    auth.guard_logs()
    failure: ModelError
    try:
        async with httpx.AsyncClient(
            base_url=_check_url(endpoint.base_url), auth=auth, timeout=_CARD_TIMEOUT_S, transport=transport
        ) as http:
            got = await http.get(f"models/{model}", headers=dict(wire.HEADERS))
        body = _json_of(got.content)
        if got.status_code < 300:
            return body if isinstance(body, dict) else None
        if got.status_code in (404, 405):
            return None
        failure = failure_of(HttpReply(got.status_code, dict(got.headers), body))
    except httpx.HTTPError as error:
        failure = Disconnected(f"no answer from {endpoint.label}: {shorten(str(error)) or type(error).__name__}")
    finally:
        auth.unguard_logs()
    raise type(failure)(auth.mask(failure.message), None, failure.http_status, failure.retry_after_s)


def _json_of(content: bytes) -> Json:
    """The content as JSON; None when it is not."""
    try:
        return jiter.from_json(content, allow_inf_nan=False)
    except ValueError:
        return None


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _wait_s(error: Exception, number: int) -> bool | float:
    """Seconds to wait after try `number` failed with `error`; False when trying again cannot help."""
    if not isinstance(error, ModelError) or not error.retryable:
        return False
    if number > 1 and DOWNLOAD.search(error.message):
        # Worth one more try, no more: a fault of the service's own that does not pass soon.
        return False
    longest = min(_WAIT_LONGEST_S, _WAIT_FIRST_S * 2.0 ** (number - 1))
    wait = random.uniform(0.0, longest)
    if isinstance(error, RateLimited):
        wait = random.uniform(0.0, min(_WAIT_LONGEST_S, longest * _THROTTLED_FACTOR))
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


def _check_key(key: SecretStr) -> None:
    text = key.get_secret_value()
    is_fit = text.isascii() and text.isprintable() and " " not in text
    # The frames of a traceback may be shown with their values.
    del text
    if not is_fit:
        raise ConfigError("the API key holds characters that cannot be sent: check that it was copied whole and alone")


def _check_http2(is_wanted: bool) -> bool:
    if is_wanted:
        try:
            import h2  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                'HTTP/2 needs the package h2: pip install "ingest[http2]", or leave --http2 out'
            ) from error
    return is_wanted
