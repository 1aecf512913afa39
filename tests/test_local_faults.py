"""Faults on demand and limits per minute: each must look like the real thing and be repeatable."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ingest.errors import ConfigError
from ingest.local.faults import KINDS, Faults, Limiter
from ingest.local.refusal import Refusal
from ingest.local.server import create_app
from tests.local_calls import Seen, content, echo_words, post, request, schema_format


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the filler was handed; it answers with the words it read."""
    return echo_words(monkeypatch)


def test_faults_repeat_with_the_seed_and_pass_on_retry() -> None:
    """A failing run must be repeatable, and retrying must be able to succeed."""
    bodies = [f"body {number}" for number in range(60)]
    first, second = Faults.of("7:0.5"), Faults.of("7:0.5")
    drawn = {body: first.choose(body) for body in bodies}
    assert drawn == {body: second.choose(body) for body in reversed(bodies)}
    assert 15 < sum(bool(fault) for fault in drawn.values()) < 45
    assert drawn != {body: Faults.of("8:0.5").choose(body) for body in bodies}
    again = [first.choose(body) for body in bodies]
    assert any(not fault for body, fault in zip(bodies, again, strict=True) if drawn[body])


@pytest.mark.parametrize("wanted", ["x:0.1", "7", "7:2", "7:0.1:nonsense", {"nonsense": 0.1}, ["nonsense"]])
def test_wrong_faults_are_a_configuration_error(wanted: Any) -> None:
    """A misspelt fault must not silently test nothing."""
    with pytest.raises(ConfigError):
        create_app(faults=wanted)


def test_each_fault_looks_like_the_real_thing(seen: Seen) -> None:
    """The client classifies by status, code and body; each fault must show the one it stands for."""
    script = ["rate_limited", "overloaded", "unavailable", "server_error", "refused_input", "stream_error"]
    app = create_app(faults=[*script, "truncated", "content_filter", "malformed", "garbage", None])
    body = request("some words here", response_format=schema_format())
    errors = [post(app, body) for _ in script]
    assert [(r.status_code, r.json()["error"]["code"]) for r in errors] == [
        (429, "rate_limit_exceeded"),
        (429, "ServerOverloaded"),
        (503, "model_unavailable"),
        (502, "upstream_error"),
        (400, "InputTextSensitiveContentDetected"),
        (502, "upstream_error"),
    ]
    assert all("retry-after" not in response.headers for response in errors)
    for reason in ("length", "content_filter", "stop"):
        choice = post(app, body).json()["choices"][0]
        assert choice["finish_reason"] == reason
        with pytest.raises(json.JSONDecodeError):
            json.loads(choice["message"]["content"])
    garbage = post(app, body)
    assert garbage.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        garbage.json()
    assert content(post(app, body)) == {"words": "some words here"}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_dropped_connection_raises_in_process_and_is_billed(is_streamed: bool) -> None:
    """A dropped call was computed and is paid for, so the ledger must know it."""
    app = create_app(models=["seed-2-0-pro"], faults=["dropped"])
    with pytest.raises(ConnectionResetError):
        post(app, request("x", model="seed-2-0-pro", stream=is_streamed))
    (entry,) = app.state.accounting.entries
    assert entry.fault == "dropped"
    assert entry.cost_usd > 0


def test_stream_faults_leave_the_stream_unfinished(seen: Seen) -> None:
    """A stream that ends without its closing event is a failure even though its status was 200."""
    app = create_app(faults=["stream_error", "unfinished"])
    body = request("words " * 200, stream=True)
    failed, unfinished = post(app, body), post(app, body)
    assert json.loads(failed.text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "upstream_error"
    assert "[DONE]" not in failed.text + unfinished.text
    assert failed.status_code == unfinished.status_code == 200


def test_slow_and_stalled_answers(seen: Seen) -> None:
    """Timeouts can only be tested against a server that takes its time."""
    app = create_app(faults={"slow": 1.0, "slow_s": 0.2})
    start = time.perf_counter()
    assert post(app, request("x")).status_code == 200
    assert time.perf_counter() - start >= 0.2
    stalled = create_app(faults={"stalled": 1.0, "stall_s": 0.01})
    with pytest.raises(ConnectionResetError):
        post(stalled, request("x"))
    assert {"slow", "stalled"} <= KINDS


def test_limits_per_minute_answer_429() -> None:
    """The gateway's limits bind long before the model's; failed calls count towards requests."""
    app = create_app(requests_per_minute=2, sends_retry_after=True)
    statuses = [post(app, request("x", max_tokens=limit)) for limit in (0, 1, 1)]
    assert [response.status_code for response in statuses] == [400, 200, 429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 61
    tokens = create_app(tokens_per_minute=400, models=["seed-2-0-pro"])
    answers = [post(tokens, request("word", model="seed-2-0-pro")) for _ in range(3)]
    assert [response.status_code for response in answers] == [200, 200, 429]
    assert "retry-after" not in answers[-1].headers
    assert tokens.state.accounting.entries[-1].cost_usd == 0


def test_limiter_window_slides() -> None:
    """Requests of the minute before must not count for ever."""
    now = [0.0]
    limiter = Limiter(requests_per_minute=1, tokens_per_minute=10, clock=lambda: now[0])
    limiter.admit()
    limiter.spend(10, is_input=True)
    now[0] = 59.9
    with pytest.raises(Refusal):
        limiter.admit()
    with pytest.raises(Refusal):
        limiter.spend(1, is_input=True)
    now[0] = 119.91
    limiter.admit()
    limiter.spend(10, is_input=True)


def test_ark_envelope_on_demand() -> None:
    """Upstream bodies differ from the gateway's; clients must classify both."""
    ark = create_app(envelope="ark", faults=[None, "overloaded", "unavailable", "server_error"])
    error = post(ark, request("x", max_tokens=0)).json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("InvalidParameter", "BadRequest", "max_tokens")
    assert "Request id: " in error["message"]
    for status, code in ((429, "ServerOverloaded"), (429, "ServerOverloaded"), (500, "InternalServiceError")):
        response = post(ark, request("x"))
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
