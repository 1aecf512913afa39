"""One call through all that can happen to it, without a network and without waiting."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
import stamina

from ingest.asking.client import Attempt, Client, _wait_s
from ingest.config import AskingSettings
from ingest.errors import (
    AuthRejected,
    CallTimeout,
    ConfigError,
    ContentRefused,
    ContextExceeded,
    Disconnected,
    IngestError,
    Malformed,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
)
from ingest.types import Reply, Request
from tests import fakes


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=6):
        yield


def ask(model: fakes.FakeModel, request: Request | None = None, **settings: Any) -> tuple[Reply, list[Attempt]]:
    """One call, and the tries it took."""
    attempts: list[Attempt] = []

    async def call() -> Reply:
        client = make_client(model, attempts, **settings)
        async with client:
            return await client.ask(request or fakes.make_request(), reserve_tokens=100)

    return asyncio.run(call()), attempts


def make_client(model: fakes.FakeModel, attempts: list[Attempt], **settings: Any) -> Client:
    return Client(
        fakes.make_endpoint(),
        fakes.make_profile(),
        AskingSettings(**settings),
        on_attempt=attempts.append,
        transport=model.transport,
    )


def fail(model: fakes.FakeModel, **settings: Any) -> tuple[IngestError, list[Attempt]]:
    """A call that fails, and the tries it took."""
    attempts: list[Attempt] = []

    async def call() -> None:
        async with make_client(model, attempts, **settings) as client:
            await client.ask(fakes.make_request())

    with pytest.raises(IngestError) as caught:
        asyncio.run(call())
    return caught.value, attempts


def test_a_call_carries_the_key_and_returns_the_answer() -> None:
    """The plain case: right address, bearer key, JSON body, usage told to the ledger."""
    model = fakes.answering('{"a": 1}')
    reply, attempts = ask(model)
    assert reply.text == '{"a": 1}'
    assert model.urls == ["https://models.invalid/v1/chat/completions"]
    assert model.headers[0]["authorization"] == f"Bearer {fakes.KEY}"
    (attempt,) = attempts
    assert (attempt.outcome, attempt.number, attempt.usage.input_tokens) == ("answered", 1, 100)
    assert attempt.key == "k" * 64


@pytest.mark.parametrize(
    "model",
    [
        fakes.rate_limited(2),
        fakes.overloaded(2),
        fakes.failing(500, fakes.error_body("InternalServiceError"), 2),
        fakes.failing(502, b"<html>bad gateway</html>", 2),
        fakes.failing(200, b"not json at all", 2),
        fakes.failing(200, {"choices": []}, 2),
        fakes.failing(200, fakes.error_body("upstream_error", "gone"), 2),
        fakes.breaking(httpx.ConnectError, 2),
        fakes.breaking(httpx.RemoteProtocolError, 2),
        fakes.breaking(httpx.ReadTimeout, 2),
    ],
)
def test_what_may_pass_is_tried_again(model: fakes.FakeModel) -> None:
    """Throttling and outages are everyday; a night's run must come through them, and each try is in the books."""
    reply, attempts = ask(model)
    assert reply.text == "{}"
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert attempts[-1].outcome == "answered"
    assert len({attempt.outcome for attempt in attempts[:2]}) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, fakes.error_body("invalid_api_key"), AuthRejected),
        (403, fakes.error_body("AccessDenied"), AuthRejected),
        (403, fakes.error_body("AccountOverdueError"), QuotaExhausted),
        (402, fakes.error_body("insufficient_credits"), QuotaExhausted),
        (429, fakes.error_body("QuotaExceeded"), QuotaExhausted),
        (404, fakes.error_body("model_not_found", "The model `x` does not exist"), AuthRejected),
        (404, b"<html>nothing here</html>", AuthRejected),
        (400, fakes.error_body("InvalidParameter", "bad image"), RequestRejected),
        (301, b"", RequestRejected),
        (413, b"too large", ContextExceeded),
        (
            400,
            fakes.error_body("InvalidParameter", "Total tokens of image and text exceed max message tokens."),
            ContextExceeded,
        ),
        (502, fakes.error_body("upstream_error", "This model's maximum context length is 1"), ContextExceeded),
        (400, fakes.error_body("InputImageSensitiveContentDetected"), ContentRefused),
        (400, fakes.error_body("InvalidParameter", "the name is case sensitive"), RequestRejected),
    ],
)
def test_what_cannot_pass_is_not_tried_again(status: int, body: Any, expected: type[IngestError]) -> None:
    """Each further try of a hopeless call counts against the limits, and may cost money."""
    model = fakes.failing(status, body)
    error, attempts = fail(model)
    assert type(error) is expected
    assert model.calls == 1
    assert attempts[0].outcome == expected.code
    assert f"HTTP {status}" in error.message


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (fakes.rate_limited(), RateLimited),
        (fakes.overloaded(), Overloaded),
        (fakes.failing(503, fakes.error_body("model_unavailable")), Overloaded),
        (fakes.failing(500, fakes.error_body("InternalServiceError")), ServerFailed),
        (fakes.failing(504, b""), CallTimeout),
        (fakes.breaking(httpx.ConnectError), Disconnected),
        (fakes.breaking(httpx.PoolTimeout), CallTimeout),
    ],
)
def test_trying_ends(model: fakes.FakeModel, expected: type[IngestError]) -> None:
    """After six tries the chunk has failed, and says of what."""
    error, attempts = fail(model)
    assert type(error) is expected
    assert model.calls == len(attempts) == 6


def test_a_call_that_hangs_is_given_up() -> None:
    """The deadline is on the whole call: a server that trickles bytes must not hold a run."""
    with stamina.set_testing(True, attempts=1):
        error, attempts = fail(fakes.hanging(), timeout_s=0.05)
    assert isinstance(error, CallTimeout)
    assert "0.05 s" in error.message
    assert attempts[0].is_sent


def test_a_try_that_was_never_sent_says_so() -> None:
    """What surely did not reach the server cannot be billed."""
    with stamina.set_testing(True, attempts=1):
        assert not fail(fakes.breaking(httpx.ConnectError))[1][0].is_sent
        assert fail(fakes.breaking(httpx.ReadError))[1][0].is_sent


def test_an_answer_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken or hostile server must not fill the memory."""
    monkeypatch.setattr("ingest.asking.client._MAX_RESPONSE_BYTES", 1000)
    error, _ = fail(fakes.answering("x" * 2000))
    assert isinstance(error, Malformed)


def test_a_cancelled_call_is_in_the_books() -> None:
    """A call dropped midway is computed and billed all the same."""
    attempts: list[Attempt] = []

    async def cancel() -> None:
        async with make_client(fakes.hanging(), attempts) as client:
            task = asyncio.create_task(client.ask(fakes.make_request()))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert [attempt.outcome for attempt in attempts] == ["cancelled"]


def test_waiting_calls_are_not_sent_once_the_key_is_refused() -> None:
    """A wrong key refused a hundred times looks like an attack."""
    model = fakes.failing(401, fakes.error_body("invalid_api_key"))

    async def many() -> list[Any]:
        async with make_client(model, []) as client:
            calls = (client.ask(fakes.make_request()) for _ in range(50))
            return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(many())
    assert all(isinstance(result, AuthRejected) for result in results)
    assert model.calls <= 4


# --- waiting ---


def test_back_off_grows_and_is_spread() -> None:
    """Tries that come back together are throttled together."""
    for number, longest in ((1, 1.0), (2, 2.0), (4, 8.0), (9, 60.0)):
        waits = [_wait_s(ServerFailed("x"), number) for _ in range(200)]
        assert all(0 <= wait <= longest for wait in waits)
        assert max(waits) > 0.8 * longest
        assert min(waits) < 0.2 * longest


def test_an_overloaded_service_is_given_longer() -> None:
    """Overload does not pass in a second; pressing on prolongs it."""
    assert min(float(_wait_s(Overloaded("x"), 1)) for _ in range(100)) >= 2.5
    assert max(float(_wait_s(Overloaded("x"), 6)) for _ in range(100)) <= 60


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(form: str) -> None:
    """Where a server names a time, coming back earlier only costs a try."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=31), usegmt=True)
    with stamina.set_testing(True, attempts=1):
        error, _ = fail(fakes.rate_limited(retry_after="30" if form == "seconds" else when))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == pytest.approx(30, abs=2)
    assert 28 <= _wait_s(error, 1) <= 33


def test_a_wait_beyond_reason_is_not_waited_for() -> None:
    """A server closed until tomorrow should fail the call today."""
    model = fakes.rate_limited(retry_after="86400")
    error, _ = fail(model)
    assert isinstance(error, RateLimited)
    assert model.calls == 1


@pytest.mark.parametrize("value", ["soon", "nan", "", "-5"])
def test_an_unreadable_retry_after_is_no_harm(value: str) -> None:
    """Headers come from strangers."""
    assert ask(fakes.rate_limited(1, retry_after=value))[0].text == "{}"


# --- secrets ---


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_key_is_in_no_message(
    status: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Servers repeat keys in their errors; ours end up in records, logs and bug reports."""
    caplog.set_level(logging.DEBUG)
    body = fakes.error_body("invalid_api_key", f"Incorrect API key provided: {fakes.KEY}. Bearer {fakes.KEY}")
    error, attempts = fail(fakes.failing(status, body))
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(attempts) + caplog.text
    text += pickle.dumps(error).decode("latin-1") + "".join(capsys.readouterr())
    assert fakes.KEY not in text
    assert "Incorrect API key provided" in error.message


def test_the_key_is_not_in_the_clients_looks() -> None:
    """A client printed in a notebook must not show what it holds."""
    client = Client(fakes.make_endpoint(), fakes.make_profile(), AskingSettings())
    assert fakes.KEY not in repr(client) + str(vars(client)["_http"].headers)
    asyncio.run(client.close())


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    """A key pasted with its neighbours fails here, not deep inside a header encoder that prints it."""
    with pytest.raises(ConfigError) as caught:
        Client(fakes.make_endpoint(key), fakes.make_profile(), AskingSettings())
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["models.invalid/v1", "ftp://models.invalid", "https://", "http://[::1"])
def test_a_base_url_that_cannot_be_called_is_refused(url: str) -> None:
    """A slip in the address should not look like an outage."""
    with pytest.raises(ConfigError, match=r"URL"):
        Client(fakes.make_endpoint(base_url=url), fakes.make_profile(), AskingSettings())


def test_a_protocol_nobody_speaks_is_refused_with_those_that_are() -> None:
    """A slip in the name should show the right ones."""
    with pytest.raises(ConfigError, match=r"'respones'.*chat, messages, responses"):
        Client(fakes.make_endpoint(protocol="respones"), fakes.make_profile(), AskingSettings())


# --- in-process ---


def test_an_app_answers_without_a_socket() -> None:
    """The local engine stands behind the same client as the network."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == "/v1/chat/completions"
        await receive()
        body = json.dumps(fakes.completion('{"from": "app"}')).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def call() -> Reply:
        endpoint = fakes.make_endpoint(key=None, base_url="http://local.invalid/v1", local=True)
        async with Client(endpoint, fakes.make_profile(), AskingSettings(), app=app) as client:
            return await client.ask(fakes.make_request())

    assert asyncio.run(call()).text == '{"from": "app"}'


def test_an_app_that_crashes_is_a_failed_call() -> None:
    """A fault of the local engine is one chunk's failure, not the end of the run."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("boom")

    async def call() -> None:
        async with Client(fakes.make_endpoint(key=None), fakes.make_profile(), AskingSettings(), app=app) as client:
            await client.ask(fakes.make_request())

    with stamina.set_testing(True, attempts=1), pytest.raises(ServerFailed):
        asyncio.run(call())
