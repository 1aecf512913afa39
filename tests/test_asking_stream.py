"""Streamed answers: the event stream itself, each protocol's events, and what a broken stream must never become."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.asking.client import Attempt, Client
from ingest.asking.sse import SseDecoder, SseEvent
from ingest.asking.wire import WIRES, Wire, load_wire
from ingest.config import AskingSettings
from ingest.errors import (
    AuthRejected,
    CallTimeout,
    ContentRefused,
    ContextExceeded,
    DeadlinePassed,
    Disconnected,
    IngestError,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
)
from ingest.types import HttpReply, Reply, Usage
from tests import fakes, wire_samples

TEXT = json.dumps({"name": 'Grüße, 世界 🧾 "x" \\ \u2028', "lines": [1, 2, 3]}, ensure_ascii=False)
USAGE = Usage(100, 20, 5, 30)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture(params=sorted(WIRES))
def protocol(request: pytest.FixtureRequest) -> str:
    """Each protocol of the table."""
    name: str = request.param
    return name


# --- the event stream ---


def decode_in(blocks: list[bytes]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for block in blocks for event in decoder.feed(block)]


EVENTS = (
    b"\xef\xbb\xbf: a comment\n\n"
    b"event: one\ndata: Gr\xc3\xbc\xc3\x9fe\n\n"
    b"data:no blank\r\ndata: two lines\r\n\r\n"
    b"id: 7\nretry: 10\n:\n\n"
    b"event: empty\n\n"
    b"data\n\n"
    b"unknown: x\ndata: \xe2\x80\xa8 not a line end \xc2\x85\r\r"
    b"event: cut\ndata: never dispatched\n"
)
EXPECTED = [
    SseEvent("one", "Grüße"),
    SseEvent("", "no blank\ntwo lines"),
    SseEvent("", ""),
    SseEvent("", "\u2028 not a line end \x85"),
]


@given(cuts=st.lists(st.integers(0, len(EVENTS)), max_size=12).map(sorted))
@settings(max_examples=150, deadline=None)
def test_events_are_the_same_however_the_bytes_come(cuts: list[int]) -> None:
    """Networks cut inside characters, escapes and line ends; nothing of an answer may depend on where."""
    edges = [0, *cuts, len(EVENTS)]
    assert decode_in([EVENTS[a:b] for a, b in pairwise(edges)]) == EXPECTED


def test_bytes_that_are_no_text_are_a_broken_stream() -> None:
    """A library that replaces them by question marks hands over a damaged answer as a whole one."""
    with pytest.raises(Disconnected, match="UTF-8"):
        decode_in([b"data: \xff\xfe\n\n"])


def test_an_event_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile server must not fill the memory, in one line or in many."""
    monkeypatch.setattr("ingest.asking.sse._MAX_EVENT_CHARS", 1000)
    for block in (b"x" * 100, b"data: " + b"x" * 90 + b"\n"):
        with pytest.raises(Disconnected, match="1000"):
            decode_in([block] * 20)


# --- each protocol's events, without a socket ---


def read(wire: Wire, stream: list[wire_samples.Event]) -> Reply:
    answer = wire.Stream()
    for name, data in stream:
        answer.feed(SseEvent(name, data if isinstance(data, str) else json.dumps(data)))
    return wire.decode(HttpReply(200, {}, answer.finish()))


@pytest.mark.parametrize("tool", [False, True])
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_a_stream_gives_the_answer_that_comes_whole(protocol: str, tool: bool, reason: str) -> None:
    """Streaming is a way of transport: text, reason, usage, ids and model must not depend on it."""
    wire = load_wire(protocol)
    text = TEXT if reason == "stop" else TEXT[:30]
    whole = wire.decode(HttpReply(200, {}, wire_samples.body(protocol, text, tool=tool, reason=reason)))
    streamed = read(wire, wire_samples.events(protocol, text, tool=tool, reason=reason))
    if whole.text != streamed.text:
        assert json.loads(whole.text) == json.loads(streamed.text)
    assert streamed.usage == whole.usage == USAGE
    assert streamed.finish_reason == whole.finish_reason
    assert whole.finish_reason in ({"stop": ("stop", "tool_calls")}.get(reason, (reason,)))
    assert (streamed.model, streamed.request_id) == (whole.model, whole.request_id) == ("upstream-id", "id-1")
    assert (json.loads(streamed.text) if reason == "stop" else streamed.text) == (
        json.loads(TEXT) if reason == "stop" else text
    )


@pytest.mark.parametrize("tool", [False, True])
def test_a_stream_cut_anywhere_is_never_an_answer(protocol: str, tool: bool) -> None:
    """A stream without its closing event is a failure, also when all of the text was there."""
    wire = load_wire(protocol)
    stream = wire_samples.events(protocol, TEXT, tool=tool)
    for end in range(len(stream)):
        answer = wire.Stream()
        for name, data in stream[:end]:
            answer.feed(SseEvent(name, data if isinstance(data, str) else json.dumps(data)))
        assert not answer.is_closed
        with pytest.raises(Disconnected):
            answer.finish()


def test_an_event_that_is_not_json_is_a_broken_stream(protocol: str) -> None:
    """Half an event means that more is lost than can be known."""
    for data in ('{"choices": [', "[1]", "NaN", '{"a": NaN}'):
        with pytest.raises(Disconnected):
            load_wire(protocol).Stream().feed(SseEvent("", data))


def test_an_early_done_is_a_broken_stream() -> None:
    """`[DONE]` closes the connection, not the answer: without a finish reason nobody knows if it is whole."""
    for protocol in ("chat", "responses"):
        with pytest.raises(Disconnected):
            load_wire(protocol).Stream().feed(SseEvent("", "[DONE]"))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("ServerOverloaded", "busy", Overloaded),
        ("overloaded_error", "Overloaded", Overloaded),
        ("rate_limit_exceeded", "slow down", RateLimited),
        ("rate_limit_error", "slow down", RateLimited),
        ("RateLimitExceeded.EndpointTPMExceeded", "", RateLimited),
        ("InternalServiceError", "", ServerFailed),
        ("api_error", "", ServerFailed),
        ("server_error", "", ServerFailed),
        ("invalid_api_key", "", AuthRejected),
        ("authentication_error", "", AuthRejected),
        ("insufficient_credits", "", QuotaExhausted),
        ("billing_error", "", QuotaExhausted),
        ("OutofContextError", "", ContextExceeded),
        ("OutputTextSensitiveContentDetected", "", ContentRefused),
        ("invalid_request_error", "no", RequestRejected),
        ("upstream_error", "The service failed to answer", ServerFailed),
    ],
)
def test_an_error_inside_a_stream_is_classified(
    protocol: str, code: str, message: str, expected: type[ModelError]
) -> None:
    """The status was 200 when the stream began: the code alone decides on retry, split and stop."""
    stream = wire_samples.events(protocol, TEXT)[:5]
    with pytest.raises(ModelError) as caught:
        read(load_wire(protocol), [*stream, wire_samples.error_event(protocol, code, message)])
    assert type(caught.value) is expected


def test_a_failed_response_is_an_error() -> None:
    """The responses protocol closes a failure with an event of its own."""
    failed = {"status": "failed", "error": {"code": "server_error", "message": "gone"}, "output": []}
    with pytest.raises(ServerFailed):
        read(load_wire("responses"), [("", {"type": "response.failed", "response": failed})])
    with pytest.raises(ServerFailed):
        read(load_wire("responses"), [("", {"type": "response.failed", "response": {"error": None}})])


def test_a_closing_event_without_output_is_filled_from_the_deltas() -> None:
    """Some gateways leave out of the last event what they have sent already."""
    stream = wire_samples.events("responses", TEXT)
    name, last = stream[-1]
    assert isinstance(last, dict)
    last["response"] = last["response"] | {"output": []}
    assert json.loads(read(load_wire("responses"), [*stream[:-1], (name, last)]).text) == json.loads(TEXT)


def test_a_character_in_two_halves_is_one_again() -> None:
    """Servers that cut by UTF-16 units send half of an emoji in each of two events."""
    stream = wire_samples.events("chat", "ab")
    deltas = ({"choices": [{"index": 0, "delta": {"content": half}}]} for half in ("\ud83e", "\uddfe"))
    halves = [("", json.dumps(delta)) for delta in deltas]
    assert read(load_wire("chat"), [stream[0], *halves, *stream[-3:]]).text == "🧾"


# --- through the client ---

Send = Callable[[bytes], Awaitable[None]]
Script = Callable[[int, Send], Awaitable[None]]


class Blocks(httpx.AsyncByteStream):
    """A response body that comes in pieces, and may break."""

    def __init__(self, blocks: list[bytes], error: Exception | None = None) -> None:
        self._blocks, self._error = blocks, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block
        if self._error is not None:
            raise self._error


def streamed(content: bytes, size: int = 3, error: Exception | None = None) -> httpx.Response:
    """A response that is a stream of events, in blocks of `size` bytes."""
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Blocks(blocks, error))


def ask(protocol: str, model: fakes.FakeModel, **changes: Any) -> tuple[Reply | IngestError, list[Attempt]]:
    attempts: list[Attempt] = []

    async def call() -> Reply | IngestError:
        endpoint = fakes.make_endpoint(protocol=protocol)
        profile, asking = fakes.make_profile(), AskingSettings(**changes)
        async with Client(endpoint, profile, asking, None, attempts.append, model.transport) as client:
            try:
                return await client.ask(fakes.make_request(), reserve_tokens=100)
            except IngestError as error:
                return error

    return asyncio.run(call()), attempts


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_client_reads_a_stream(protocol: str, newline: str, size: int) -> None:
    """The request asks for a stream and the answer is what was written, however it is cut."""
    content = wire_samples.to_bytes(wire_samples.events(protocol, TEXT), newline)
    model = fakes.FakeModel(lambda number: streamed(b": hello\n\n" + content, size))
    reply, attempts = ask(protocol, model)
    assert isinstance(reply, Reply)
    assert json.loads(reply.text) == json.loads(TEXT)
    assert model.bodies[0]["stream"] is True
    assert [(attempt.outcome, attempt.usage) for attempt in attempts] == [("answered", USAGE)]


def test_a_server_that_does_not_stream_is_read_all_the_same(protocol: str) -> None:
    """Some gateways ignore the wish."""
    model = fakes.FakeModel(lambda number: httpx.Response(200, json=wire_samples.body(protocol, TEXT)))
    reply, _ = ask(protocol, model)
    assert isinstance(reply, Reply)
    assert json.loads(reply.text) == json.loads(TEXT)


def test_without_streaming_nothing_of_it_is_sent(protocol: str) -> None:
    """The setting turns it off, fields and all."""
    model = fakes.FakeModel(lambda number: httpx.Response(200, json=wire_samples.body(protocol, TEXT)))
    ask(protocol, model, stream=False)
    assert not {"stream", "stream_options"} & model.bodies[0].keys()


@pytest.mark.parametrize("cut", ["closing", "middle", "reset", "garbled", "html"])
def test_a_broken_stream_is_tried_again_and_its_usage_kept(protocol: str, cut: str) -> None:
    """What was cut may be billed: the books need the usage it named, the record needs another try."""
    stream = wire_samples.events(protocol, TEXT)
    content = wire_samples.to_bytes(stream)
    broken = {
        "closing": lambda: streamed(wire_samples.to_bytes(stream[:-1])),
        "middle": lambda: streamed(content[: len(content) // 2]),
        "reset": lambda: streamed(content[:-20], error=httpx.ReadError("reset")),
        "garbled": lambda: streamed(content[:-40] + b"\xff\xff\n\n"),
        "html": lambda: streamed(b"data: <html>\n\n"),
    }[cut]
    model = fakes.FakeModel(lambda number: broken() if number < 3 else streamed(content))
    reply, attempts = ask(protocol, model)
    assert isinstance(reply, Reply)
    assert [attempt.outcome for attempt in attempts] == ["disconnected", "disconnected", "answered"]
    assert all(attempt.is_sent for attempt in attempts)
    if cut == "closing" and protocol != "responses":
        assert attempts[0].usage == USAGE


def test_an_error_in_a_stream_ends_the_try_with_its_class(protocol: str) -> None:
    """A key that is revoked in the middle must stop the run, an overload must be waited for."""
    head = wire_samples.events(protocol, TEXT)[:4]

    def broken(code: str) -> fakes.FakeModel:
        content = wire_samples.to_bytes([*head, wire_samples.error_event(protocol, code)])
        return fakes.FakeModel(lambda number: streamed(content))

    error, attempts = ask(protocol, broken("invalid_api_key"))
    assert isinstance(error, AuthRejected)
    assert len(attempts) == 1
    error, attempts = ask(protocol, broken("ServerOverloaded"))
    assert isinstance(error, Overloaded)
    assert len(attempts) == 3


def test_a_stream_left_open_after_its_end_costs_no_time(protocol: str) -> None:
    """The answer is whole with the closing event; a server that then forgets to hang up must not hold the run."""
    content = wire_samples.to_bytes(wire_samples.events(protocol, TEXT))

    class Open(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield content
            await asyncio.sleep(3600)

    started = time.monotonic()
    response = {"headers": {"content-type": "text/event-stream"}}
    reply, _ = ask(protocol, fakes.FakeModel(lambda number: httpx.Response(200, stream=Open(), **response)))
    assert isinstance(reply, Reply)
    assert time.monotonic() - started < 60


def serve(script: Script, **changes: Any) -> tuple[Reply | IngestError, list[Attempt], float]:
    """One call to a server on a real socket: `script` writes what it answers to each connection."""
    attempts: list[Attempt] = []
    served = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        served += 1

        async def send(block: bytes) -> None:
            writer.write(block)
            await writer.drain()

        try:
            await script(served, send)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def call() -> Reply | IngestError:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        endpoint = fakes.make_endpoint(base_url=f"http://127.0.0.1:{port}/v1")
        asking = AskingSettings(**changes)
        try:
            async with Client(endpoint, fakes.make_profile(), asking, None, attempts.append) as client:
                return await client.ask(fakes.make_request())
        except IngestError as error:
            return error
        finally:
            server.close()

    started = time.monotonic()
    return asyncio.run(call()), attempts, time.monotonic() - started


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


async def _stalls(number: int, send: Send) -> None:
    await send(HEAD + wire_samples.to_bytes(wire_samples.events("chat", TEXT)[:4]))
    await asyncio.sleep(3600)


async def _says_nothing(number: int, send: Send) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("script", [_stalls, _says_nothing])
def test_a_silent_stream_is_given_up_long_before_the_deadline(script: Script) -> None:
    """A dead connection looks like a slow model; waiting ten minutes for each would cost a night."""
    with stamina.set_testing(True, attempts=1):
        error, attempts, elapsed_s = serve(script, stall_timeout_s=0.2)
    assert isinstance(error, CallTimeout)
    assert "silent for 0.2 s" in error.message
    assert attempts[0].is_sent
    assert elapsed_s < 60


async def _thinks_aloud(number: int, send: Send) -> None:
    await send(HEAD)
    for _ in range(8):
        await asyncio.sleep(0.1)
        await send(b": ping\n\n")
    await send(wire_samples.to_bytes(wire_samples.events("chat", TEXT)))


def test_a_slow_stream_that_lives_is_waited_for() -> None:
    """A model that thinks for minutes sends pings meanwhile: silence is what counts, not slowness."""
    reply, _, _ = serve(_thinks_aloud, stall_timeout_s=0.5)
    assert isinstance(reply, Reply)


async def _only_pings(number: int, send: Send) -> None:
    await send(HEAD)
    while True:
        await asyncio.sleep(0.05)
        await send(b": ping\n\n")


def test_pings_alone_do_not_outlast_the_deadline() -> None:
    """The time of one call bounds a server that only pretends to live."""
    with stamina.set_testing(True, attempts=1):
        error, _, _ = serve(_only_pings, stall_timeout_s=1, timeout_s=0.3)
    assert isinstance(error, CallTimeout)
    assert "within 0.3 s" in error.message


def test_a_run_that_is_over_fails_its_calls_and_sends_no_more() -> None:
    """`run_timeout_s` bounds calls under way, calls that wait, and tries to come; the next run goes on."""
    error, attempts, _ = serve(_only_pings, run_timeout_s=0.3)
    assert isinstance(error, DeadlinePassed)
    assert not error.retryable
    assert "run the same command again" in error.message
    assert len(attempts) == 1

    async def late() -> list[Any]:
        model = fakes.answering()
        async with Client(
            fakes.make_endpoint(), fakes.make_profile(), AskingSettings(run_timeout_s=0.05), transport=model.transport
        ) as client:
            await client.ask(fakes.make_request())
            await asyncio.sleep(0.06)
            return [*await asyncio.gather(client.ask(fakes.make_request()), return_exceptions=True), model.calls]

    error, calls = asyncio.run(late())
    assert isinstance(error, DeadlinePassed)
    assert calls == 1
