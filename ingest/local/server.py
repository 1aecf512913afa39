"""The local engine as an ASGI app: the model's API on three endpoints, and the contract of the service it stands for.

`create_app` makes it for use in this process (httpx's ASGITransport: no socket, no key); `serving.serve` puts it on a
port. A protocol is a row of `protocols.PROTOCOLS`: how its body is read to an Ask, and how an Answer is shaped back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ingest.errors import ConfigError, OutputError
from ingest.local import faults as fault_kinds
from ingest.local.access import check_host, check_key
from ingest.local.accounting import Accounting, Entry, PrefixCache, Tokenizer, Usage, billed, count_input
from ingest.local.answering import Answer, Answerer, AnswerStyle
from ingest.local.cards import model_card
from ingest.local.contract import Ask, Terms
from ingest.local.eyes import EYES
from ingest.local.faults import Fault, Faults
from ingest.local.fields import parse_body
from ingest.local.limiter import Limiter, Places
from ingest.local.numbers import ServedModel, load_limits, load_models
from ingest.local.protocols import MESSAGES_PATH, PROTOCOLS, Protocol
from ingest.local.protocols.responses import shape_failure
from ingest.local.refusal import Envelope, Refusal
from ingest.local.shaping import PIECE_CHARACTERS, Event

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from ingest.local.delivery import EVENT_STREAM, Delivery, Pace, route_body, route_stream
except ImportError as error:
    raise ConfigError("the local engine needs starlette; run: pip install 'ingest[local]'") from error

_LOG = logging.getLogger(__name__)
_RESPONSES_PATH = "/v1/responses"
# Pieces of an answer whose bytes are split: short, so that its own escapes are split too.
_SPLIT_CHARACTERS = 7
_MAX_CLIENT_ID_CHARACTERS = 100
# Bodies up to this size are read and counted without a change of thread.
_SMALL_BODY_BYTES = 16_384
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def create_app(
    *,
    models: Sequence[str] = (),
    profile: str | None = None,
    api_keys: Collection[str] = (),
    envelope: Envelope = "gateway",
    faults: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any] | None] | None = None,
    fault_seed: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    minute_s: float = 60.0,
    max_concurrency: int | None = None,
    sends_retry_after: bool = False,
    latency_s: float = 0.0,
    tokens_per_s: float | None = None,
    skew: Mapping[str, float] | None = None,
    lacks: Collection[str] = (),
    ignores_schema: bool = False,
    wraps_json: bool = False,
    caches_prefixes: bool = False,
    counts_video: bool = False,
    refuses_unknown_fields: bool = True,
    counts_cache_writes: bool = False,
    sends_done: bool = False,
    ledger_path: Path | None = None,
    serves_ledger: bool = False,
) -> Starlette:
    """The local engine as an app. Its request ledger is `app.state.accounting`.

    `models` are further ids it answers to, at full prices (its own id `local-ocr-rules` is free); `profile` the
    generation it imitates; with `api_keys` every endpoint but `/healthz` asks for one of them; `envelope` the form of
    errors, "gateway" or "ark" (messages keep their own); `faults` as in `Faults.of`, drawn with `fault_seed`.

    The limits per minute (of `minute_s`) answer 429, with a Retry-After only when asked to; beyond `max_concurrency`
    requests at once the answer is ServerOverloaded. `latency_s` passes before an answer, which then comes at
    `tokens_per_s`. `skew` multiplies token counts by kind of content (see `Tokenizer`).

    Habits of real services: `lacks` names what is refused ("json_schema", "tools"); `ignores_schema`, `wraps_json` and
    `caches_prefixes`; `counts_video` takes video parts, which are counted but not seen; `refuses_unknown_fields` and
    `sends_done` (a `[DONE]` behind the last event) are the upstream's on the responses endpoint, `counts_cache_writes`
    (a field of usage) is OpenAI's there. `ledger_path` gets a JSON line per request, and `serves_ledger` shows the
    ledger at `/v1/local/ledger`.

    Raises ConfigError for a wrong option or a missing package, OutputError when the ledger cannot be written.
    """
    if not set(lacks) <= {"json_schema", "tools"}:
        raise ConfigError(f"lacks may name json_schema and tools, not {', '.join(sorted(lacks))}")
    engine = _Engine(
        terms=Terms(
            models=load_models(tuple(models), profile),
            limits=load_limits(),
            lacks=frozenset(lacks),
            counts_video=counts_video,
            refuses_unknown_fields=refuses_unknown_fields,
            counts_cache_writes=counts_cache_writes,
        ),
        api_keys=tuple(api_keys),
        envelope=envelope,
        faults=Faults.of(faults, fault_seed),
        limiter=Limiter(requests_per_minute, tokens_per_minute, minute_s=minute_s),
        places=Places(max_concurrency),
        sends_retry_after=sends_retry_after,
        sends_done=sends_done,
        pace=Pace(latency_s, tokens_per_s),
        answerer=Answerer(tokenizer := Tokenizer(skew=skew), AnswerStyle(ignores_schema, wraps_json)),
        tokenizer=tokenizer,
        prefixes=PrefixCache() if caches_prefixes else None,
        accounting=Accounting(ledger_path),
    )
    app = Starlette(
        routes=list(_routes(engine, serves_ledger=serves_ledger)),
        exception_handlers={HTTPException: engine.no_route},
        lifespan=engine.lifespan,
    )
    app.state.accounting = engine.accounting
    app.state.has_keys = bool(api_keys)
    # Set by the server that puts the app on a port; in-process nobody else can call.
    app.state.is_on_loopback = False
    return app


def _routes(engine: _Engine, *, serves_ledger: bool) -> Iterator[Route]:
    for protocol in PROTOCOLS:
        yield Route(protocol.path, engine.endpoint(protocol), methods=["POST"])
    yield Route("/v1/models", engine.guarded(engine.list_models))
    yield Route("/v1/models/{model_id:path}", engine.guarded(engine.show_model))
    yield Route("/healthz", _healthz)
    if serves_ledger:
        yield Route("/v1/local/ledger", engine.guarded(engine.show_ledger))


async def _healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


@dataclass(slots=True)
class _Call:
    """What becomes known of a request while it is served."""

    endpoint: str
    number: int
    client_request_id: str
    request_id: str
    started_s: float = field(default_factory=time.monotonic)
    at_unix_s: float = field(default_factory=time.time)
    body_sha256: str = ""
    model: ServedModel | None = None
    is_streamed: bool = False
    status: int = 499
    code: str = "cancelled"
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    input_by_kind: Mapping[str, int] = field(default_factory=dict)
    answer: Answer | None = None
    fault: Fault = field(default_factory=Fault)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every answer: the request's ids."""
        ids = {"x-request-id": self.request_id}
        return ids | {"x-client-request-id": self.client_request_id} if self.client_request_id else ids


@dataclass(slots=True)
class _Engine:
    """The parts of one app, and its endpoints."""

    terms: Terms
    api_keys: tuple[str, ...]
    envelope: Envelope
    faults: Faults
    limiter: Limiter
    places: Places
    sends_retry_after: bool
    sends_done: bool
    pace: Pace
    answerer: Answerer
    tokenizer: Tokenizer
    prefixes: PrefixCache | None
    accounting: Accounting
    id_prefix: str = field(default_factory=lambda: secrets.token_hex(10))

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Lets the threads and the OCR process go when the app stops."""
        with EYES.in_use():
            yield
            self.answerer.close()

    def guarded(self, endpoint: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        """A GET endpoint behind the key check, with refusals shaped."""

        async def handle(request: Request) -> Response:
            headers = {"x-request-id": uuid.uuid4().hex}
            try:
                self._check_caller(request)
                return endpoint(request)
            except Refusal as refusal:
                return self._shape_refusal(refusal, headers, request.url.path)

        return handle

    def endpoint(self, protocol: Protocol) -> Callable[[Request], Awaitable[Response]]:
        """The POST endpoint of a protocol."""
        return partial(self._serve, protocol)

    def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        cards = [model_card(model, self.terms) for model in self.terms.models.values()]
        return JSONResponse({"object": "list", "data": cards})

    def show_model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        model_id = request.path_params["model_id"]
        if model_id not in self.terms.models:
            raise Refusal(404, "model_not_found", f"The model `{model_id[:100]}` does not exist.", "model")
        return JSONResponse(model_card(self.terms.models[model_id], self.terms))

    def show_ledger(self, request: Request) -> Response:
        """GET /v1/local/ledger."""
        return JSONResponse(self.accounting.to_json())

    async def no_route(self, request: Request, error: Exception) -> Response:
        """Unknown paths and methods, in the envelope of every other error."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = "method_not_allowed" if status == 405 else "not_found"
        refusal = Refusal(status, code, f"{request.method} {request.url.path[:200]} is not served here.")
        return self._shape_refusal(refusal, {"x-request-id": uuid.uuid4().hex}, request.url.path)

    async def _serve(self, protocol: Protocol, request: Request) -> Response:
        client_id = request.headers.get("x-client-request-id", "")[:_MAX_CLIENT_ID_CHARACTERS]
        number = self.accounting.next_number()
        call = _Call(protocol.path, number, client_id if client_id.isascii() else "", self._request_id(number))
        is_booked_later = False
        try:
            response = await self._answer(protocol, request, call)
            is_booked_later = True
        except Refusal as refusal:
            response = self._shape_refusal(refusal, call.headers, protocol.path)
            call.status, call.code = response.status_code, refusal.code
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            # The last line of defence: whatever went wrong inside, the caller gets a body it can classify.
            _LOG.exception("the local engine failed on request %s", call.request_id)
            failure = Refusal(500, "InternalServiceError", "The local engine failed on this request; its log says why.")
            response = self._shape_refusal(failure, call.headers, protocol.path)
            call.status, call.code = response.status_code, failure.code
        finally:
            if not is_booked_later:
                self._book(call, was_delivered=call.status != 499)
        return response

    async def _answer(self, protocol: Protocol, request: Request, call: _Call) -> Response:
        self._check_caller(request)
        body = await _read_body(request)
        self.limiter.admit()
        self.places.take()
        try:
            return await self._answer_in_place(protocol, body, call)
        except BaseException:
            self.places.give_back()
            raise

    async def _answer_in_place(self, protocol: Protocol, body: bytes, call: _Call) -> Response:
        """The answer on its way; the place is given back when it has gone out."""
        if len(body) <= _SMALL_BODY_BYTES:
            call.body_sha256 = hashlib.sha256(body).hexdigest()
        else:
            call.body_sha256 = await self.answerer.work(lambda: hashlib.sha256(body).hexdigest())
        call.fault = self.faults.choose(call.body_sha256)
        fault_kinds.refuse_before(call.fault)
        if len(body) <= _SMALL_BODY_BYTES:
            ask, cached_tokens = self._prepare(protocol, body, call)
        else:
            ask, cached_tokens = await self.answerer.work(self._prepare, protocol, body, call)
        self._spend_input(call)
        fault_kinds.refuse_after(call.fault, is_streamed=ask.is_streamed)
        answer = await self.answerer.answer(ask, call.usage.input_tokens, cached_tokens)
        answer = fault_kinds.spoil(answer, call.fault)
        self.limiter.spend(answer.usage.output_tokens, is_input=False)
        call.answer, call.usage = answer, answer.usage
        call.status, call.code = 200, answer.finish_reason
        if call.fault.kind in fault_kinds.IN_STREAM:
            # The service failed, so what it had not yet made is not billed.
            call.code = fault_kinds.stream_error(call.fault).code
            made = call.fault.cut(answer.usage.output_tokens)
            reasoning = min(answer.usage.reasoning_tokens, made)
            call.usage = replace(answer.usage, output_tokens=made, reasoning_tokens=reasoning)
        return self._deliver(protocol, ask, answer, call)

    def _spend_input(self, call: _Call) -> None:
        try:
            self.limiter.spend(call.usage.input_tokens, is_input=True)
        except Refusal:
            # Refused before any work, so nothing is billed.
            call.usage, call.input_by_kind = Usage(0, 0), {}
            raise

    def _prepare(self, protocol: Protocol, body: bytes, call: _Call) -> tuple[Ask, int]:
        ask = protocol.read(parse_body(body), self.terms)
        call.model, call.is_streamed = ask.model, ask.is_streamed
        call.input_by_kind = count_input(ask, self.tokenizer)
        call.usage = Usage(sum(call.input_by_kind.values()), 0)
        return ask, self.prefixes.cached_tokens(ask, self.tokenizer) if self.prefixes else 0

    def _deliver(self, protocol: Protocol, ask: Ask, answer: Answer, call: _Call) -> Response:
        def end(was_delivered: bool) -> None:
            self.places.give_back()
            self._book(call, was_delivered=was_delivered and not call.fault.is_hollow)

        cost_usd = billed(call.usage, ask.model)[0]
        headers = call.headers | {"x-cost-usd": f"{cost_usd:f}"}
        output_tokens = answer.usage.output_tokens
        if not ask.is_streamed:
            body = _encode(protocol.shape(ask, answer, call.request_id)).encode()
            route = route_body(body, call.fault, self.pace, output_tokens, call.request_id)
            media_type = "text/html" if call.fault.kind == "garbage" else "application/json"
            return Delivery(route, media_type, headers, end)
        size = _SPLIT_CHARACTERS if call.fault.kind == "split_bytes" else PIECE_CHARACTERS
        events = list(protocol.stream(ask, answer, call.request_id, size))
        if self.sends_done and protocol.path == _RESPONSES_PATH:
            events.append(Event("[DONE]", is_closing=True))
        route = route_stream(events, call.fault, self.pace, output_tokens, self._failure(protocol, ask, call, events))
        return Delivery(route, EVENT_STREAM, headers | {"cache-control": "no-cache"}, end)

    def _failure(self, protocol: Protocol, ask: Ask, call: _Call, events: Sequence[Event]) -> Event | None:
        """The event that ends a stream which fails midway."""
        if call.fault.kind not in fault_kinds.IN_STREAM:
            return None
        envelope: Envelope = "messages" if protocol.path == MESSAGES_PATH else self.envelope
        _, body = fault_kinds.stream_error(call.fault).shaped(envelope, call.request_id)
        number = call.fault.cut(len(events))
        if call.fault.kind == "stream_failed" and protocol.path == _RESPONSES_PATH:
            return shape_failure(ask, body, call.request_id, number)
        return protocol.error(body, number)

    def _shape_refusal(self, refusal: Refusal, headers: dict[str, str], path: str) -> Response:
        envelope: Envelope = "messages" if path == MESSAGES_PATH else self.envelope
        status, body = refusal.shaped(envelope, headers["x-request-id"])
        retry_after = refusal.retry_after
        if status == 429 and retry_after is None and self.sends_retry_after:
            retry_after = str(max(int(self.limiter.wait_s() + 1), 1))
        if retry_after is not None:
            headers = headers | {"retry-after": retry_after}
        return JSONResponse(body, status_code=status, headers=headers)

    def _check_caller(self, request: Request) -> None:
        """With keys a caller needs one; without, a server on this machine is for this machine."""
        headers = request.headers
        if self.api_keys:
            check_key(headers.get("authorization", ""), headers.get("x-api-key", ""), self.api_keys)
        elif request.app.state.is_on_loopback:
            check_host(headers.get("host", ""))

    def _request_id(self, number: int) -> str:
        """An id of 32 hexadecimal digits: which server, and which request."""
        return f"{self.id_prefix}{number:012x}"

    def _book(self, call: _Call, *, was_delivered: bool) -> None:
        model = call.model or next(iter(self.terms.models.values()))
        cost_usd, list_cost_usd = billed(call.usage, model)
        answer = call.answer
        entry = Entry(
            number=call.number,
            request_id=call.request_id,
            client_request_id=call.client_request_id,
            at_unix_s=round(call.at_unix_s, 3),
            endpoint=call.endpoint,
            model=call.model.id if call.model else "",
            is_streamed=call.is_streamed,
            status=call.status,
            code=call.code,
            input_tokens=call.usage.input_tokens,
            output_tokens=call.usage.output_tokens,
            cached_tokens=call.usage.cached_tokens,
            reasoning_tokens=call.usage.reasoning_tokens,
            input_by_kind=call.input_by_kind,
            cost_usd=cost_usd,
            list_cost_usd=list_cost_usd,
            pages_read=answer.pages_read if answer else 0,
            pages_by_ocr=answer.pages_by_ocr if answer else 0,
            request_sha256=call.body_sha256,
            fault=call.fault.kind,
            was_delivered=was_delivered,
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
