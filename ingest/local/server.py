"""The local engine as an ASGI app: chat completions, model cards, and the contract of the service it stands in for.

`create_app` makes it for use in this process (httpx's ASGITransport: no socket, no key); `serve` puts it on a port.
A protocol is a row of `PROTOCOLS`: how its body is read to an Ask, and how an Answer is shaped back.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ingest.errors import ConfigError, OutputError
from ingest.local import faults as fault_kinds
from ingest.local.accounting import Accounting, Entry, PrefixCache, Tokenizer, Usage, billed, count_input
from ingest.local.answering import Answer, Answerer, AnswerStyle
from ingest.local.contract import Ask, read_chat
from ingest.local.faults import Faults, Limiter
from ingest.local.fields import parse_body
from ingest.local.numbers import ServedModel, load_limits, load_models
from ingest.local.refusal import Envelope, Refusal
from ingest.local.shaping import chat_body, chat_stream, model_card, sse

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise ConfigError("the local engine needs starlette; run: pip install 'ingest[local]'") from error

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One wire dialect: its path, its body to an Ask, an Answer to its body and to its stream."""

    path: str
    read: Callable[[Mapping[str, Any], Mapping[str, ServedModel]], Ask]
    shape: Callable[[Ask, Answer, str], dict[str, Any]]
    stream: Callable[[Ask, Answer, str], Iterator[bytes]]


PROTOCOLS = (Protocol("/v1/chat/completions", read_chat, chat_body, chat_stream),)


def create_app(
    *,
    models: Sequence[str] = (),
    profile: str | None = None,
    api_keys: Collection[str] = (),
    envelope: Envelope = "gateway",
    faults: str | Mapping[str, float] | Sequence[str | None] | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    sends_retry_after: bool = False,
    ignores_schema: bool = False,
    wraps_json: bool = False,
    caches_prefixes: bool = False,
    ledger_path: Path | None = None,
    serves_ledger: bool = False,
) -> Starlette:
    """The local engine as an app. Its request ledger is `app.state.accounting`.

    `models` are further ids it answers to, at full prices (its own id `local-ocr-rules` is free); `profile` the
    generation it imitates; with `api_keys` every endpoint but `/healthz` asks for one of them; `envelope` the form of
    errors; `faults` as in `Faults.of`; the limits per minute answer 429, with a Retry-After only when asked to;
    `ignores_schema`, `wraps_json` and `caches_prefixes` switch on habits of real services; `ledger_path` gets a JSON
    line per request, and `serves_ledger` shows the ledger at `/v1/local/ledger`.

    Raises ConfigError for a wrong option or a missing package, OutputError when the ledger cannot be written.
    """
    accounting = Accounting(ledger_path)
    engine = _Engine(
        models=load_models(tuple(models), profile),
        api_keys=tuple(api_keys),
        envelope=envelope,
        faults=Faults.of(faults),
        limiter=Limiter(requests_per_minute, tokens_per_minute),
        sends_retry_after=sends_retry_after,
        answerer=Answerer(tokenizer := Tokenizer(), AnswerStyle(ignores_schema, wraps_json)),
        tokenizer=tokenizer,
        prefixes=PrefixCache() if caches_prefixes else None,
        accounting=accounting,
    )
    routes = [Route(protocol.path, engine.endpoint(protocol), methods=["POST"]) for protocol in PROTOCOLS]
    routes += [
        Route("/v1/models", engine.guarded(engine.list_models)),
        Route("/v1/models/{model_id:path}", engine.guarded(engine.show_model)),
        Route("/healthz", _healthz),
    ]
    if serves_ledger:
        routes.append(Route("/v1/local/ledger", engine.guarded(engine.show_ledger)))
    app = Starlette(routes=routes, exception_handlers={HTTPException: engine.no_route}, lifespan=engine.lifespan)
    app.state.accounting = accounting
    app.state.has_keys = bool(api_keys)
    return app


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


@dataclass(slots=True)
class _Call:
    """What becomes known of a request while it is served."""

    endpoint: str
    number: int
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_s: float = field(default_factory=time.monotonic)
    at_unix_s: float = field(default_factory=time.time)
    body_sha256: str = ""
    model: ServedModel | None = None
    status: int = 499
    code: str = "cancelled"
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    answer: Answer | None = None
    fault: str = ""


@dataclass(slots=True)
class _Engine:
    """The parts of one app, and its endpoints."""

    models: Mapping[str, ServedModel]
    api_keys: tuple[str, ...]
    envelope: Envelope
    faults: Faults
    limiter: Limiter
    sends_retry_after: bool
    answerer: Answerer
    tokenizer: Tokenizer
    prefixes: PrefixCache | None
    accounting: Accounting

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Lets the threads go when a server stops; an app used in-process never gets here and needs nothing."""
        yield
        self.answerer.close()

    def guarded(self, endpoint: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        """A GET endpoint behind the key check, with refusals shaped."""

        async def handle(request: Request) -> Response:
            request_id = uuid.uuid4().hex
            try:
                self._check_key(request)
                return endpoint(request)
            except Refusal as refusal:
                return self._shape_refusal(refusal, request_id)

        return handle

    def endpoint(self, protocol: Protocol) -> Callable[[Request], Awaitable[Response]]:
        """The POST endpoint of a protocol."""
        return partial(self._serve, protocol)

    def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [model_card(model) for model in self.models.values()]})

    def show_model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        model_id = request.path_params["model_id"]
        if model_id not in self.models:
            raise Refusal(404, "model_not_found", f"The model `{model_id[:100]}` does not exist.", "model")
        return JSONResponse(model_card(self.models[model_id]))

    def show_ledger(self, request: Request) -> Response:
        """GET /v1/local/ledger."""
        return JSONResponse(self.accounting.to_json())

    async def no_route(self, request: Request, error: Exception) -> Response:
        """Unknown paths and methods, in the envelope of every other error."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = "method_not_allowed" if status == 405 else "not_found"
        refusal = Refusal(status, code, f"{request.method} {request.url.path[:200]} is not served here.")
        return self._shape_refusal(refusal, uuid.uuid4().hex)

    async def _serve(self, protocol: Protocol, request: Request) -> Response:
        call = _Call(protocol.path, self.accounting.next_number())
        try:
            response = await self._answer(protocol, request, call)
        except Refusal as refusal:
            response = self._shape_refusal(refusal, call.request_id)
            call.status, call.code = response.status_code, refusal.code
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            # The last line of defence: whatever went wrong inside, the caller gets a body it can classify.
            _LOG.exception("the local engine failed on request %s", call.request_id)
            failure = Refusal(500, "InternalServiceError", "The local engine failed on this request; its log says why.")
            response = self._shape_refusal(failure, call.request_id)
            call.status, call.code = response.status_code, failure.code
        finally:
            self._book(call)
        response.headers["x-request-id"] = call.request_id
        return response

    async def _answer(self, protocol: Protocol, request: Request, call: _Call) -> Response:
        self._check_key(request)
        body = await _read_body(request)
        self.limiter.admit()
        call.body_sha256 = await self.answerer.work(lambda: hashlib.sha256(body).hexdigest())
        call.fault = self.faults.choose(call.body_sha256)
        fault_kinds.refuse_before(call.fault)
        ask, cached_tokens = await self.answerer.work(self._prepare, protocol, body, call)
        self._spend_input(call)
        fault_kinds.refuse_after(call.fault, is_streamed=ask.is_streamed)
        answer = await self.answerer.answer(ask, call.usage.input_tokens, cached_tokens)
        answer = fault_kinds.spoil(answer, call.fault)
        self.limiter.spend(answer.usage.output_tokens, is_input=False)
        call.answer, call.usage = answer, answer.usage
        call.status, call.code = 200, answer.finish_reason
        if call.fault in (fault_kinds.SLOW, fault_kinds.STALLED):
            await asyncio.sleep(self.faults.slow_s if call.fault == fault_kinds.SLOW else self.faults.stall_s)
        return self._shape(protocol, ask, answer, call)

    def _spend_input(self, call: _Call) -> None:
        try:
            self.limiter.spend(call.usage.input_tokens, is_input=True)
        except Refusal:
            call.usage = Usage(0, 0)  # refused before any work, so nothing is billed
            raise

    def _prepare(self, protocol: Protocol, body: bytes, call: _Call) -> tuple[Ask, int]:
        ask = protocol.read(parse_body(body), self.models)
        call.model = ask.model
        input_tokens = count_input(ask, self.tokenizer)
        call.usage = Usage(input_tokens, 0)
        return ask, self.prefixes.cached_tokens(ask, self.tokenizer) if self.prefixes else 0

    def _shape(self, protocol: Protocol, ask: Ask, answer: Answer, call: _Call) -> Response:
        if call.fault == fault_kinds.GARBAGE:
            return Response(fault_kinds.garbage(call.request_id), media_type="text/html")
        is_broken = call.fault in (fault_kinds.DROPPED, fault_kinds.STALLED)
        if ask.is_streamed:
            events = list(protocol.stream(ask, answer, call.request_id))
            if call.fault == fault_kinds.STREAM_ERROR:
                error = sse(fault_kinds.stream_error().shaped(self.envelope, call.request_id)[1])
                events = [*events[: len(events) // 2], error]
            elif call.fault == fault_kinds.UNFINISHED:
                events = events[: len(events) // 2]
            if is_broken:
                return _BrokenResponse(b"".join(events[: len(events) // 2]), media_type="text/event-stream")
            return StreamingResponse(_each(events), media_type="text/event-stream")
        response = JSONResponse(protocol.shape(ask, answer, call.request_id))
        if is_broken or call.fault == fault_kinds.UNFINISHED:
            return _BrokenResponse(response.body[: len(response.body) // 2], media_type="application/json")
        return response

    def _shape_refusal(self, refusal: Refusal, request_id: str) -> Response:
        status, body = refusal.shaped(self.envelope, request_id)
        headers = {"x-request-id": request_id}
        if status == 429 and self.sends_retry_after:
            headers["retry-after"] = str(max(int(self.limiter.wait_s() + 1), 1))
        return JSONResponse(body, status_code=status, headers=headers)

    def _check_key(self, request: Request) -> None:
        if not self.api_keys:
            return
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        if not key:
            raise Refusal(401, "missing_api_key", "Send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`.")
        if not any(hmac.compare_digest(key.encode(), known.encode()) for known in self.api_keys):
            raise Refusal(401, "invalid_api_key", "The key is not valid.")

    def _book(self, call: _Call) -> None:
        model = call.model or next(iter(self.models.values()))
        cost_usd, list_cost_usd = billed(call.usage, model)
        answer = call.answer
        entry = Entry(
            number=call.number,
            at_unix_s=round(call.at_unix_s, 3),
            endpoint=call.endpoint,
            model=call.model.id if call.model else "",
            status=call.status,
            code=call.code,
            input_tokens=call.usage.input_tokens,
            output_tokens=call.usage.output_tokens,
            cached_tokens=call.usage.cached_tokens,
            reasoning_tokens=call.usage.reasoning_tokens,
            cost_usd=cost_usd,
            list_cost_usd=list_cost_usd,
            pages_read=answer.pages_read if answer else 0,
            pages_by_ocr=answer.pages_by_ocr if answer else 0,
            request_sha256=call.body_sha256,
            fault=call.fault,
            duration_s=round(time.monotonic() - call.started_s, 4),
        )
        try:
            self.accounting.record(entry)
        except OutputError as error:
            _LOG.error("%s", error)


async def _read_body(request: Request) -> bytes:
    """The whole body; stops reading once it passes the limit."""
    limit = load_limits().max_body_bytes
    too_large = Refusal(400, "InvalidParameter", f"The request body is larger than {limit} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def _each(events: Sequence[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event
        await asyncio.sleep(0)


class _BrokenResponse(Response):
    """A response whose connection breaks in its middle: a server closes the socket, in-process the call raises."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        raise ConnectionResetError("the connection was dropped (injected fault)")


def serve(
    host: str = "127.0.0.1",
    port: int = 8700,
    *,
    app: Starlette | None = None,
    token: str | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serves the engine until it is interrupted.

    Without an `app` one is made that asks for `token`, when that is given. Any host but a loopback one needs keys.
    `announce` gets the base URL once the port is open (port 0 takes a free one). Raises ConfigError.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError("ingest serve needs uvicorn; run: pip install 'ingest[local]'") from error
    engine = app if app is not None else create_app(api_keys=(token,) if token else ())
    if not engine.state.has_keys and not _is_loopback(host):
        raise ConfigError(f"{host} can be reached from other machines; give a token, or serve on 127.0.0.1")
    listener = _listen(host, port)
    config = uvicorn.Config(
        _quietly_dropped(engine), log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=5
    )
    if announce is not None:
        name = f"[{host}]" if ":" in host else host
        announce(f"http://{name}:{listener.getsockname()[1]}/v1")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot serve on {host}:{port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"cannot serve on {host}:{port}: {error}; choose another port") from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _quietly_dropped(app: Starlette) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The app with injected connection drops ending its call early instead of filling the log with a traceback."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ConnectionResetError:
            return

    return call
