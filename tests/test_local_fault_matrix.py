"""Every fault on every protocol, streamed and not: each does what it says and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pytest

from ingest.local import faults
from ingest.local.server import create_app
from tests.conftest import ROOT
from tests.local_calls import (
    CHAT,
    MESSAGES,
    RESPONSES,
    TOTAL,
    ServedEngine,
    call,
    events_of,
    message_request,
    page_in_document,
    request,
    response_request,
    schema_format,
)

MODEL = "seed-2-0-pro"
PATHS = (CHAT, RESPONSES, MESSAGES)
INVOICE = page_in_document("Invoice 7\nTotal: 12.50 EUR")
ANSWER = '{"total": 12.5, "currency": "EUR"}'


def body_for(path: str, *, is_streamed: bool = False) -> dict[str, Any]:
    """A schema request without thinking, on any protocol."""
    off = {"enable_thinking": False, "stream": is_streamed}
    if path == CHAT:
        return request(INVOICE, model=MODEL, response_format=schema_format(), **off)
    if path == RESPONSES:
        form = {"type": "json_schema", "name": "record", "schema": TOTAL, "strict": True}
        return response_request(INVOICE, text={"format": form}, **off)
    return message_request(INVOICE, output_config={"format": {"type": "json_schema", "schema": TOTAL}}, **off)


@dataclass
class Read:
    """An answer as a lenient reader takes it: its text, why it ended, whether the stream was closed as it should."""

    text: str = ""
    finish: str | None = None
    is_closed: bool = False


def read_body(path: str, body: dict[str, Any]) -> Read:
    """A whole body."""
    if path == CHAT:
        (choice,) = body["choices"]
        message = choice["message"]
        return Read(message.get("refusal") or message["content"], choice["finish_reason"], True)
    if path == RESPONSES:
        part = body["output"][-1]["content"][0]
        reason = (body["incomplete_details"] or {}).get("reason") or body["status"]
        return Read(part.get("text", part.get("refusal")), reason, True)
    return Read(body["content"][-1]["text"], body["stop_reason"], True)


def read_events(path: str, events: list[Any]) -> Read:
    """A stream."""
    read = Read()
    for event in events:
        if event == "[DONE]":
            read.is_closed = True
        elif path == CHAT and "choices" in event:
            for choice in event["choices"]:
                read.text += choice["delta"].get("content") or choice["delta"].get("refusal") or ""
                read.finish = choice["finish_reason"] or read.finish
        elif path == RESPONSES and event["type"] in ("response.output_text.delta", "response.refusal.delta"):
            read.text += event["delta"]
        elif path == RESPONSES and event["type"] in ("response.completed", "response.incomplete"):
            read.is_closed = True
            read.finish = read_body(path, event["response"]).finish
        elif path == MESSAGES and event["type"] == "content_block_delta":
            read.text += event["delta"]["text"]
        elif path == MESSAGES and event["type"] == "message_delta":
            read.finish = event["delta"]["stop_reason"]
        elif path == MESSAGES and event["type"] == "message_stop":
            read.is_closed = True
    return read


def ask(fault: Any, path: str, is_streamed: bool, **options: Any) -> tuple[Any, httpx.Response]:
    """The app with this fault on its first request, and the answer to it."""
    app = create_app(models=[MODEL], faults=[fault], **options)
    return app, call(app, "POST", path, json=body_for(path, is_streamed=is_streamed))


def read(path: str, response: httpx.Response, is_streamed: bool) -> Read:
    """The answer, whichever way it came."""
    assert response.status_code == 200, response.text
    return read_events(path, events_of(response)) if is_streamed else read_body(path, response.json())


EVERY_WAY = pytest.mark.parametrize(
    ("path", "is_streamed"), [(path, is_streamed) for path in PATHS for is_streamed in (False, True)]
)

REFUSED_BEFORE = {
    "rate_limited": (429, "rate_limit_exceeded"),
    "endpoint_rpm": (429, "RateLimitExceeded.EndpointRPMExceeded"),
    "endpoint_tpm": (429, "RateLimitExceeded.EndpointTPMExceeded"),
    "model_rpm": (429, "ModelAccountRpmRateLimitExceeded"),
    "model_tpm": (429, "ModelAccountTpmRateLimitExceeded"),
    "model_ipm": (429, "ModelAccountIpmRateLimitExceeded"),
    "account_rpm": (429, "APIAccountRpmRateLimitExceeded"),
    "account_rate": (429, "AccountRateLimitExceeded"),
    "in_flight": (429, "InflightBatchsizeExceeded"),
    "overloaded": (429, "ServerOverloaded"),
    "quota": (429, "QuotaExceeded"),
    "set_limit": (429, "SetLimitExceeded"),
    "bad_key": (401, "invalid_api_key"),
    "no_credits": (402, "insufficient_credits"),
    "overdue": (403, "AccountOverdueError"),
    "denied": (403, "AccessDenied"),
    "no_model": (404, "model_not_found"),
    "request_timeout": (408, "request_timeout"),
    "unavailable": (503, "model_unavailable"),
    "overloaded_529": (529, "overloaded_error"),
}
REFUSED_AFTER = {
    "internal_error": (500, "InternalServiceError"),
    "server_error": (502, "upstream_error"),
    "gateway_timeout": (504, "upstream_error"),
    "refused_input": (400, "InputTextSensitiveContentDetected"),
    "refused_image": (400, "InputImageSensitiveContentDetected"),
    "refused_output": (400, "OutputTextSensitiveContentDetected"),
}
MESSAGE_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@EVERY_WAY
@pytest.mark.parametrize(("kind", "expected"), [*REFUSED_BEFORE.items(), *REFUSED_AFTER.items()])
def test_refusals(kind: str, expected: tuple[int, str], path: str, is_streamed: bool) -> None:
    """A client classifies by status, code and message; what came before any work is free, the rest is billed."""
    app, response = ask(kind, path, is_streamed)
    status, code = expected
    error = response.json()["error"]
    assert response.status_code == status
    assert "retry-after" not in response.headers
    if path == MESSAGES:
        assert response.json()["type"] == "error"
        assert error["type"] == MESSAGE_TYPES[status]
    else:
        assert error["code"] == code
    assert error["message"]
    (entry,) = app.state.accounting.entries
    assert (entry.status, entry.code, entry.fault) == (status, code, kind)
    assert (entry.cost_usd > 0) is (kind in REFUSED_AFTER)
    assert entry.output_tokens == 0
    assert entry.request_id == response.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
def test_retry_after_as_seconds_and_as_a_date(path: str) -> None:
    """Both forms are allowed by HTTP, and either may appear one day on any throttled answer."""
    fault = {"kind": "overloaded", "retry_after_s": 7}
    assert ask(fault, path, False)[1].headers["retry-after"] == "7"
    dated = ask(fault | {"retry_after_form": "date"}, path, True)[1].headers["retry-after"]
    assert time.strptime(dated, "%a, %d %b %Y %H:%M:%S GMT")


CUT = {
    "truncated": ("length", "max_output_tokens", "max_tokens"),
    "silent_cut": ("stop", "completed", "end_turn"),
    "content_filter": ("content_filter", "content_filter", "refusal"),
}


@EVERY_WAY
@pytest.mark.parametrize(("kind", "finishes"), CUT.items())
def test_cut_answers(kind: str, finishes: tuple[str, ...], path: str, is_streamed: bool) -> None:
    """Half an answer, with or without a word of warning, and closed as if nothing had happened."""
    app, response = ask(kind, path, is_streamed)
    got = read(path, response, is_streamed)
    assert got.text == ANSWER[: len(ANSWER) // 2]
    assert got.finish == finishes[PATHS.index(path)]
    assert got.is_closed
    assert app.state.accounting.entries[-1].output_tokens > 0


@EVERY_WAY
def test_missing_finish(path: str, is_streamed: bool) -> None:
    """An answer that does not say how it ended did not end."""
    got = read(path, ask("no_finish", path, is_streamed)[1], is_streamed)
    assert got.text == ANSWER[: len(ANSWER) // 2]
    assert got.finish in (None, "in_progress")


CHANGED = {
    "prose": f"Here is the record:\n\n{ANSWER}\n\nLet me know if you need more.",
    "fences": f"```json\n{ANSWER}\n```",
    "wrong_types": '{"total": [12.5], "currency": ["EUR"]}',
    "refusal": "I cannot help with that request.",
    "empty": "",
}


@EVERY_WAY
@pytest.mark.parametrize(("kind", "text"), CHANGED.items())
def test_changed_answers(kind: str, text: str, path: str, is_streamed: bool) -> None:
    """Complete answers that are not what was asked for."""
    response = ask(kind, path, is_streamed)[1]
    got = read(path, response, is_streamed)
    assert got.text == text
    assert got.is_closed
    assert (got.finish == "refusal") is (kind == "refusal" and path == MESSAGES)
    assert ('"refusal"' in response.text) is (kind == "refusal")


@EVERY_WAY
def test_malformed_json(path: str, is_streamed: bool) -> None:
    """Finished, and yet no JSON."""
    got = read(path, ask("malformed", path, is_streamed)[1], is_streamed)
    assert got.is_closed
    assert len(got.text) > len(ANSWER) // 2
    with pytest.raises(json.JSONDecodeError):
        json.loads(got.text)


@EVERY_WAY
@pytest.mark.parametrize("kind", ["prose", "malformed", "wrong_types", "truncated"])
def test_spoilt_arguments_of_a_tool(kind: str, path: str, is_streamed: bool) -> None:
    """Arguments may begin with a space, break, or end too soon, like any text."""
    function = {"name": "save", "parameters": TOTAL}
    more: dict[str, Any] = {
        CHAT: {"tools": [{"type": "function", "function": function}], "tool_choice": "required"},
        RESPONSES: {"tools": [{"type": "function", **function}], "tool_choice": "required"},
        MESSAGES: {"tools": [{"name": "save", "input_schema": TOTAL}], "tool_choice": {"type": "any"}},
    }[path]
    app = create_app(models=[MODEL], faults=[kind])
    response = call(app, "POST", path, json=body_for(path, is_streamed=is_streamed) | more)
    assert response.status_code == 200
    assert "save" in response.text
    marks = {"prose": " {", "wrong_types": "[12.5]"}
    if kind in marks and not (path == MESSAGES and not is_streamed):
        assert marks[kind] in response.text


BROKEN = ["reset", "dropped", "stalled"]


@EVERY_WAY
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_connections_raise_and_are_billed(kind: str, path: str, is_streamed: bool) -> None:
    """A call that breaks was computed all the same, and is paid for."""
    app = create_app(models=[MODEL], faults={"script": [kind], "stall_s": 0.01})
    with pytest.raises(ConnectionResetError):
        call(app, "POST", path, json=body_for(path, is_streamed=is_streamed))
    (entry,) = app.state.accounting.entries
    assert (entry.fault, entry.was_delivered) == (kind, False)
    assert entry.cost_usd > 0


@EVERY_WAY
@pytest.mark.parametrize("kind", ["unfinished", "no_close"])
def test_streams_without_their_end(kind: str, path: str, is_streamed: bool) -> None:
    """A stream without its closing event is a failure, even when every word of the answer came."""
    if not is_streamed:
        with pytest.raises(ConnectionResetError):
            ask(kind, path, is_streamed)
        return
    app, response = ask(kind, path, is_streamed)
    got = read(path, response, is_streamed)
    assert not got.is_closed
    assert got.text == ANSWER or kind == "unfinished"
    assert app.state.accounting.entries[-1].was_delivered is False


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["stream_error", "stream_failed"])
def test_errors_inside_a_stream(kind: str, path: str) -> None:
    """Status 200, some events, then an error object; not streamed it is a 502."""
    app, response = ask(kind, path, True)
    events = events_of(response)
    assert response.status_code == 200
    (entry,) = app.state.accounting.entries
    assert (entry.code, entry.was_delivered) == ("upstream_error", False)
    assert entry.output_tokens > 0
    assert not read_events(path, events).is_closed
    last = events[-1]
    if path == RESPONSES and kind == "stream_failed":
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        last = last["response"]["error"]
    error = last if path == RESPONSES else last["error"]
    assert "upstream" in error["message"]
    if path == RESPONSES:
        numbers = [event["sequence_number"] for event in events]
        assert numbers == list(range(len(events)))
    assert ask(kind, path, False)[1].status_code == 502


@EVERY_WAY
def test_bodies_that_are_no_answer(path: str, is_streamed: bool) -> None:
    """A proxy's page, or nothing at all, with status 200."""
    assert ask("garbage", path, is_streamed)[1].text.startswith("<html>")
    empty = ask("empty_body", path, is_streamed)[1]
    assert (empty.status_code, empty.content) == (200, b"")


@EVERY_WAY
def test_malformed_event(path: str, is_streamed: bool) -> None:
    """One event, or the body, cannot be parsed."""
    response = ask("malformed_event", path, is_streamed)[1]
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        events_of(response) if is_streamed else response.json()


@EVERY_WAY
@pytest.mark.parametrize("kind", ["split_bytes", "pings", "crlf", "slow", "slow_first", "duplicate_close"])
def test_odd_but_right_answers(kind: str, path: str, is_streamed: bool) -> None:
    """Legal on the wire, and read in full by a careful client."""
    app = create_app(models=[MODEL], faults={"script": [kind], "slow_s": 0.01})
    response = call(app, "POST", path, json=body_for(path, is_streamed=is_streamed))
    got = read(path, response, is_streamed)
    assert (got.text, got.is_closed) == (ANSWER, True)
    if is_streamed and kind == "pings":
        assert ": ping" in response.text
    if is_streamed and kind == "crlf":
        assert b"\r\n\r\n" in response.content


@pytest.mark.parametrize("path", PATHS)
def test_duplicate_event(path: str) -> None:
    """A piece that comes twice: only responses number their events."""
    events = events_of(ask("duplicate_event", path, True)[1])
    assert any(one == two for one, two in pairwise(events))
    assert read_events(path, events).text == ANSWER * 2


def test_split_bytes_run_through_characters_and_escapes() -> None:
    """Readers that decode each network read on its own fall over here."""
    app = create_app(models=[MODEL], faults=["split_bytes"])
    blocks: list[bytes] = []

    async def run() -> None:
        body = json.dumps(request("Grüße „🧾“ \\\n." * 4, model=MODEL, stream=True)).encode()
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            blocks.append(message.get("body", b""))

        await app(scope | {"raw_path": CHAT.encode(), "http_version": "1.1"}, receive, send)

    asyncio.run(run())
    assert max(map(len, blocks)) <= 5
    whole = b"".join(blocks)
    assert b"\\u" in whole
    assert "ü".encode() in whole
    halves = [block for block in blocks if block and not _decodes(block)]
    assert halves
    events = events_of(httpx.Response(200, content=whole))
    assert read_events(CHAT, events).text == ("Grüße „🧾“ \\\n." * 4)


def _decodes(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_faults_over_a_socket() -> None:
    """On the wire a reset is a reset: before the head, inside the body, inside a stream, and after a stall."""
    script = ["reset", "dropped", "dropped", {"kind": "stalled", "wait_s": 0.05}, "unfinished", None]
    with ServedEngine(models=[MODEL], faults=script) as url, httpx.Client(timeout=20, trust_env=False) as client:

        def ask_served(is_streamed: bool) -> httpx.Response:
            return client.post(url.removesuffix("/v1") + CHAT, json=body_for(CHAT, is_streamed=is_streamed))

        with pytest.raises(httpx.TransportError):
            ask_served(False)
        for is_streamed in (False, True, True):
            with pytest.raises(httpx.TransportError):
                ask_served(is_streamed)
        assert not read_events(CHAT, events_of(ask_served(True))).is_closed
        assert read_events(CHAT, events_of(ask_served(True))).text == ANSWER


def test_a_client_that_leaves_is_noticed_and_billed() -> None:
    """An aborted stream was computed; the ledger says that it never arrived."""
    served = ServedEngine(models=[MODEL], latency_s=0.05, tokens_per_s=4)
    with served as url:
        body = body_for(CHAT, is_streamed=True)
        with (
            httpx.Client(trust_env=False) as client,
            client.stream("POST", f"{url}/chat/completions", json=body) as one,
        ):
            next(one.iter_lines())
        deadline = time.monotonic() + 20
        while not served.app.state.accounting.entries and time.monotonic() < deadline:
            time.sleep(0.02)
    (entry,) = served.app.state.accounting.entries
    assert entry.was_delivered is False
    assert entry.cost_usd > 0


def test_every_kind_is_in_this_matrix() -> None:
    """A fault nobody tests may do nothing."""
    delivered = {"garbage", "empty_body", "malformed_event", "split_bytes", "pings", "crlf", "slow", "slow_first"}
    delivered |= {"duplicate_event", "duplicate_close", "unfinished", "no_close", "stream_error", "stream_failed"}
    seen = {*REFUSED_BEFORE, *REFUSED_AFTER, *CUT, *CHANGED, *BROKEN, *delivered, "no_finish", "malformed"}
    assert seen == faults.KINDS


def test_every_kind_is_told_in_the_docs() -> None:
    """A kind nobody can find is a kind nobody uses, and a word in the table that is no kind is an error when tried."""
    text = (ROOT / "docs" / "local-engine.md").read_text("utf-8")
    table = text.split("| Kinds |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == faults.KINDS
