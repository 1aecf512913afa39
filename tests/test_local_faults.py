"""Faults on demand and limits per minute: each must look like the real thing and be repeatable."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.errors import ConfigError
from ingest.local.fault_files import load_faults
from ingest.local.faults import KINDS, Fault, Faults
from ingest.local.limiter import Limiter
from ingest.local.refusal import Refusal
from ingest.local.server import create_app
from tests.local_calls import CHAT, Seen, content, echo_words, post, request, schema_format


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
    assert 15 < sum(bool(fault.kind) for fault in drawn.values()) < 45
    assert drawn != {body: Faults.of("8:0.5").choose(body) for body in bodies}
    again = [first.choose(body) for body in bodies]
    assert any(not fault.kind for body, fault in zip(bodies, again, strict=True) if drawn[body].kind)


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


def test_script_names_faults_by_the_number_of_the_request(seen: Seen, tmp_path: Path) -> None:
    """A story of failures is written down once and told the same each time."""
    path = tmp_path / "faults.toml"
    path.write_text(
        "seed = 3\n[rates]\noverloaded = { rate = 1.0, retry_after_s = 3 }\n"
        '[script]\n1 = "unavailable"\n"2-3" = { kind = "truncated", at = 0.25 }\n4 = ""\n'
    )
    app = create_app(faults=load_faults(path))
    body = request("some words here", response_format=schema_format())
    answers = [post(app, body) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [503, 200, 200, 200, 429]
    whole = '{"words": "some words here"}'
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers[1:4]]
    assert texts == [whole[:7], whole[:7], whole]
    assert answers[-1].headers["retry-after"] == "3"


def test_fault_files_may_be_json_and_are_checked(tmp_path: Path) -> None:
    """A slip in a file must not silently test nothing."""
    good = tmp_path / "faults.json"
    good.write_text('{"script": ["dropped", {"kind": "rate_limited", "retry_after_s": 1}]}')
    assert Faults.of(load_faults(good)).choose("x") == Fault.of("dropped")
    bad = {
        "a.toml": "rates = ",
        "b.json": "[]",
        "c.toml": "[rate]\nslow = 1",
        "d.toml": "[rates]\nslow = 'x'",
        "e.toml": "[script]\nx = 'slow'",
        "f.toml": "[script]\n1 = { kind = 'slow', at = 2 }",
        "g.toml": "[script]\n1 = { kind = 'slow', often = 2 }",
        "h.toml": "[rates]\nslow = 0.9\nreset = 0.9",
        "i.toml": "[script]\n1 = { kind = 'rate_limited', retry_after_form = 'words' }",
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError):
            Faults.of(load_faults(tmp_path / name))
    with pytest.raises(ConfigError):
        load_faults(tmp_path / "absent.toml")


def test_seed_of_the_call_comes_before_that_of_the_file() -> None:
    """`ingest serve --seed` tries another run of the same file."""
    wanted = {"seed": 1, "rates": {"overloaded": 0.5}}
    bodies = [f"body {number}" for number in range(60)]
    drawn = [[Faults.of(wanted, seed).choose(body) for body in bodies] for seed in (None, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_minutes_may_be_short_and_places_few(seen: Seen) -> None:
    """Limits of a long job are tested in a scaled minute; too many at once is an overload."""
    app = create_app(requests_per_minute=1, minute_s=0.2)
    assert [post(app, request("x")).status_code for _ in range(2)] == [200, 429]
    time.sleep(0.25)
    assert post(app, request("x")).status_code == 200
    crowded = create_app(max_concurrency=2, latency_s=0.05)

    async def ask_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(crowded), base_url="http://x") as client:
            return await asyncio.gather(*(client.post(CHAT, json=request("x")) for _ in range(4)))

    for _ in range(2):
        answers = asyncio.run(ask_at_once())
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
        assert {a.json()["error"]["code"] for a in answers if a.status_code == 429} == {"ServerOverloaded"}


def test_latency_and_speed_take_their_time(seen: Seen) -> None:
    """Concurrency is worth testing only against a server that needs time."""
    body = request("word " * 30, enable_thinking=False)
    for is_streamed in (False, True):
        app = create_app(latency_s=0.05, tokens_per_s=300)
        start = time.perf_counter()
        assert post(app, body | {"stream": is_streamed}).status_code == 200
        output_tokens = app.state.accounting.entries[-1].output_tokens
        assert time.perf_counter() - start >= 0.05 + output_tokens / 300 - 0.01
