"""The client against the local server over a socket: every protocol, rung and parameter, and every fault it can play.

The two share no code: what they agree on is the protocols themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import stamina

from ingest.asking import parse
from ingest.asking.client import Attempt, Client
from ingest.asking.schema import derive
from ingest.asking.wire import WIRES
from ingest.config import AskingSettings
from ingest.errors import (
    AuthRejected,
    ContentRefused,
    IngestError,
    Malformed,
    OffSchema,
    QuotaExhausted,
    ReplyError,
    Truncated,
)
from ingest.types import Image, Reply, Request, Text
from tests import fakes

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

DOCUMENT = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "invoice_number": {"type": "string"}},
    "required": ["title", "invoice_number"],
}
CHUNK_SCHEMA = derive(DOCUMENT, "none", "invoice")
PAGE = '<page number="1">\nInvoice 🧾 Grüße "q"\nInvoice number: A-77\n</page>'
EXPECTED = {"title": 'Invoice 🧾 Grüße "q"', "invoice_number": "A-77"}


class Served:
    """A server whose app is put in for each test."""

    app: Any = None
    url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        # Faults that break a connection are exceptions to the server.
        with contextlib.suppress(ConnectionResetError):
            await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A real socket, once for all tests of this file."""
    import uvicorn

    served = Served()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        served.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = uvicorn.Server(uvicorn.Config(served, log_level="critical"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield served
        server.should_exit = True
        thread.join(10)
    logging.getLogger("uvicorn").handlers.clear()


def make_request(rung: Any, **changes: Any) -> Request:
    schema = f"\n\nThe answer is JSON that fits this JSON Schema:\n{CHUNK_SCHEMA.text}" if rung == "prompt" else ""
    contents = (Text(f"Extract.{schema}"), Text('<document pages="1">'), Text(PAGE), Text("</document>\nGo."))
    return fakes.make_request(
        **{"schema": CHUNK_SCHEMA.schema, "contents": contents, "rung": rung, "schema_name": "invoice"} | changes
    )


def ask(
    served: Served, protocol: str, request: Request, app: dict[str, Any] | None = None, **settings: Any
) -> tuple[Reply | IngestError, list[Attempt]]:
    """One call to a new local server."""
    from ingest.local.server import create_app

    served.app = create_app(models=["seed-2-0-pro"], **(app or {}))
    attempts: list[Attempt] = []

    async def call() -> Reply | IngestError:
        endpoint = fakes.make_endpoint(base_url=served.url, protocol=protocol)
        asking = AskingSettings(**{"timeout_s": 20} | settings)
        async with Client(endpoint, fakes.make_profile(), asking, on_attempt=attempts.append) as client:
            try:
                return await client.ask(request)
            except IngestError as error:
                return error

    with stamina.set_testing(True, attempts=3):
        return asyncio.run(call()), attempts


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("rung", ["json_schema", "tool", "prompt"])
@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_every_protocol_and_rung_gives_the_same_data(protocol: str, rung: str, stream: bool, served: Served) -> None:
    """A change of gateway, rung or transport must not change a record."""
    reply, attempts = ask(served, protocol, make_request(rung), stream=stream)
    assert isinstance(reply, Reply), reply
    assert parse.parse(reply, CHUNK_SCHEMA).value == EXPECTED
    assert attempts[0].usage == reply.usage
    assert reply.usage.input_tokens > 100
    assert reply.usage.output_tokens > 5


@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_parameters_are_taken_by_the_server(protocol: str, served: Served) -> None:
    """A strict server refuses what it does not know: each parameter stands where its protocol wants it."""
    given = [
        {"max_tokens": 500, "enable_thinking": True, "reasoning_effort": "low"},
        {"max_tokens": 500, "enable_thinking": False, "stop": ["never", "here"]},
    ]
    if protocol == "chat":
        given.append({"max_tokens": 500, "frequency_penalty": 0.5, "presence_penalty": -0.5})
    for parameters in given:
        reply, _ = ask(served, protocol, make_request("tool", parameters=parameters))
        assert isinstance(reply, Reply), reply
        assert (reply.usage.reasoning_tokens > 0) == bool(parameters.get("enable_thinking")) or protocol == "messages"
    cut, _ = ask(served, protocol, make_request("tool", parameters={"max_tokens": 5}))
    assert isinstance(cut, Reply)
    assert cut.finish_reason == "length"


@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_image_detail_reaches_the_server(protocol: str, served: Served) -> None:
    """The price of an image hangs on it: what the server counts shows what it understood."""
    import io

    from PIL import Image as PillowImage

    buffer = io.BytesIO()
    PillowImage.new("RGB", (420, 420), "white").save(buffer, "JPEG")
    image = Image(buffer.getvalue(), "image/jpeg", 420, 420)
    counts = []
    for detail in ("low", "high"):
        contents = (*make_request("tool").contents[:2], image, *make_request("tool").contents[2:])
        request = make_request("tool", contents=contents, parameters={"max_tokens": 500, "image_detail": detail})
        reply, _ = ask(served, protocol, request)
        assert isinstance(reply, Reply), reply
        counts.append(reply.usage.input_tokens)
    assert counts[1] - counts[0] == 1280 - 100


THROTTLED = (
    "rate_limited endpoint_rpm endpoint_tpm model_rpm model_tpm model_ipm account_rpm account_rate in_flight".split()
)
RETRIED = {
    **dict.fromkeys(THROTTLED, "rate_limited"),
    **dict.fromkeys(("overloaded", "unavailable", "overloaded_529"), "overloaded"),
    **dict.fromkeys(("internal_error", "server_error", "stream_error", "stream_failed"), "server_failed"),
    **dict.fromkeys(("request_timeout", "gateway_timeout"), "call_timeout"),
}
"""Kind of fault to the outcome of its try; the next one is answered."""

TERMINAL: dict[str, type[IngestError]] = {
    **dict.fromkeys(("quota", "set_limit", "no_credits", "overdue"), QuotaExhausted),
    **dict.fromkeys(("bad_key", "denied", "no_model"), AuthRejected),
    **dict.fromkeys(("refused_input", "refused_image", "refused_output"), ContentRefused),
}
BROKEN = "garbage empty_body reset dropped stalled unfinished no_close malformed_event".split()
HARMLESS = "slow slow_first split_bytes pings crlf duplicate_close prose fences".split()
ANSWERS: dict[str, tuple[type[Exception], ...]] = {
    "truncated": (Truncated,),
    "silent_cut": (Truncated,),
    "content_filter": (ContentRefused,),
    "refusal": (ContentRefused,),
    "malformed": (ReplyError,),
    "wrong_types": (OffSchema,),
    "empty": (Malformed, OffSchema),
}
"""What is wrong with an answer that came: never tried again as the same call, never taken for data."""


@pytest.mark.parametrize("protocol", sorted(WIRES))
@pytest.mark.parametrize(
    ("kind", "stream"), [*((kind, True) for kind in sorted(RETRIED)), ("model_tpm", False), ("server_error", False)]
)
def test_what_passes_is_tried_again(kind: str, protocol: str, stream: bool, served: Served) -> None:
    """Each kind of throttling and outage, on each protocol, is its class and one more try."""
    reply, attempts = ask(served, protocol, make_request("tool"), {"faults": [kind, None]}, stream=stream)
    assert isinstance(reply, Reply), reply
    assert parse.parse(reply, CHUNK_SCHEMA).value == EXPECTED
    assert [attempt.outcome for attempt in attempts] == [RETRIED[kind], "answered"]


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_a_named_time_is_kept(protocol: str, form: str, served: Served) -> None:
    """Each protocol carries Retry-After the same way."""
    fault = {"kind": "rate_limited", "retry_after_s": 86_400, "retry_after_form": form}
    error, attempts = ask(served, protocol, make_request("tool"), {"faults": [fault, None]})
    assert isinstance(error, IngestError)
    assert getattr(error, "retry_after_s", None) == pytest.approx(86_400, abs=5)
    assert len(attempts) == 1


@pytest.mark.parametrize("protocol", sorted(WIRES))
@pytest.mark.parametrize("kind", sorted(TERMINAL))
def test_what_cannot_pass_ends_the_call(kind: str, protocol: str, served: Served) -> None:
    """Key, account, quota: the run stops with the advice; refused content is not sent again as it is."""
    error, attempts = ask(served, protocol, make_request("tool"), {"faults": [kind, None]})
    assert type(error) is TERMINAL[kind], error
    assert len(attempts) == 1
    advice = {
        AuthRejected: "check the API key",
        QuotaExhausted: "add credit or raise the cap",
        ContentRefused: "filter",
    }
    assert advice[TERMINAL[kind]] in str(error)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("protocol", sorted(WIRES))
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_on_its_way_is_never_an_answer(kind: str, protocol: str, stream: bool, served: Served) -> None:
    """A stream without its end, a body that is none, a connection that dies: another try, or a failure."""
    fault = {"kind": kind, "wait_s": 1.0} if kind == "stalled" else kind
    limits = {"stall_timeout_s": 0.2} if kind == "stalled" and stream else {}
    reply, attempts = ask(served, protocol, make_request("tool"), {"faults": [fault, None]}, stream=stream, **limits)
    assert isinstance(reply, Reply), reply
    assert parse.parse(reply, CHUNK_SCHEMA).value == EXPECTED
    # A server that is cut off while it answers may drop the next call on the same connection too.
    assert attempts[-1].outcome == "answered"
    assert {attempt.outcome for attempt in attempts[:-1]} <= {"disconnected", "server_failed", "call_timeout"}
    assert len(attempts) in (2, 3) or (kind == "stalled" and not stream)


@pytest.mark.parametrize("protocol", sorted(WIRES))
@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_only_odd_is_read(kind: str, protocol: str, served: Served) -> None:
    """Pings, odd line ends, bytes one by one, fences and prose: the answer is there, and one try is enough."""
    reply, attempts = ask(served, protocol, make_request("tool"), {"faults": [kind, None]}, stall_timeout_s=10)
    assert isinstance(reply, Reply), reply
    assert parse.parse(reply, CHUNK_SCHEMA).value == EXPECTED
    assert len(attempts) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("protocol", sorted(WIRES))
@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_an_answer_that_is_wrong_is_not_taken(kind: str, protocol: str, stream: bool, served: Served) -> None:
    """It was paid for, and cannot be used: the engine decides on a split or one more ask."""
    reply, attempts = ask(served, protocol, make_request("tool"), {"faults": [kind, None]}, stream=stream)
    assert isinstance(reply, Reply), reply
    assert [attempt.outcome for attempt in attempts] == ["answered"]
    if kind != "malformed":
        with pytest.raises(ANSWERS[kind]):
            parse.parse(reply, CHUNK_SCHEMA)
        return
    try:
        parsed = parse.parse(reply, CHUNK_SCHEMA)
    except ReplyError:
        return
    # Repaired: said so, and nothing was invented.
    assert [problem.code for problem in parsed.problems] == ["repaired"]
    assert parsed.value == EXPECTED
