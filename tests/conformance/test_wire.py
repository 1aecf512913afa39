"""What every wire protocol must do, on plain dicts: the request's parts survive encoding, the answer's decoding."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ingest.asking.wire import WIRES, Wire, load_wire
from ingest.errors import (
    AuthRejected,
    ConfigError,
    ContentRefused,
    ContextExceeded,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
)
from ingest.profile import Quirks
from ingest.types import HttpReply, Usage, Word
from tests import fakes


@pytest.fixture(params=sorted(WIRES))
def wire(request: pytest.FixtureRequest) -> Wire:
    """Each protocol of the table."""
    return load_wire(request.param)


def reply(body: Any, status: int = 200, **headers: str) -> HttpReply:
    """A response as the client hands it over."""
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# --- for all protocols ---


@pytest.mark.parametrize("rung", ["json_schema", "tool", "prompt"])
def test_a_call_is_json_and_holds_the_request(wire: Wire, rung: Any) -> None:
    """Nothing of a request may be lost on any rung, and the order of its contents is the order of the document."""
    request = fakes.make_request(image=True, rung=rung)
    call = wire.encode(request, fakes.make_profile())
    text = json.dumps(call.body)
    image = base64.b64encode(b"\xff\xd8\xff").decode()
    assert text.index("Extract.") < text.index("opening") < text.index(f"data:image/jpeg;base64,{image}")
    assert text.index(image) < text.index("closing")
    assert call.body["model"] == "seed-2-0-pro"
    assert not call.path.startswith("/")
    assert ('"additionalProperties"' in text) == (rung != "prompt")


def test_encoding_is_repeatable_and_leaves_the_request_alone(wire: Wire) -> None:
    """A retry sends the same bytes; a cached prefix stays a prefix."""
    request = fakes.make_request(image=True)
    before = json.dumps(request.parameters)
    profile = fakes.make_profile()
    assert json.dumps(wire.encode(request, profile).body) == json.dumps(wire.encode(request, profile).body)
    assert json.dumps(request.parameters) == before


def test_caching_with_a_schema_is_refused_with_the_reason(wire: Wire) -> None:
    """The service refuses the combination; the user should not learn that from a 400."""
    request = fakes.make_request(parameters={"max_tokens": 10, "enable_caching": True})
    with pytest.raises(ConfigError, match="enable_caching"):
        wire.encode(request, fakes.make_profile())


def test_effort_without_thinking_is_refused(wire: Wire) -> None:
    """The service answers it with a 400 after the whole body was uploaded."""
    request = fakes.make_request(parameters={"max_tokens": 10, "enable_thinking": False, "reasoning_effort": "low"})
    with pytest.raises(ConfigError, match="reasoning_effort"):
        wire.encode(request, fakes.make_profile())


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (401, "invalid_api_key", "", AuthRejected),
        (401, "AuthenticationError", "", AuthRejected),
        (402, "insufficient_credits", "", QuotaExhausted),
        (403, "OperationDenied.ServiceOverdue", "", QuotaExhausted),
        (404, "InvalidEndpointOrModel.NotFound", "", AuthRejected),
        (429, "rate_limit_exceeded", "", RateLimited),
        (429, "ModelAccountTpmRateLimitExceeded", "", RateLimited),
        (429, "ServerOverloaded", "", Overloaded),
        (429, "SetLimitExceeded", "", QuotaExhausted),
        (400, "OutofContextError", "", ContextExceeded),
        (400, "OutputTextSensitiveContentDetected", "", ContentRefused),
        (400, "InvalidArgumentError.InvalidPixelLimit", "", RequestRejected),
        (500, "InternalServiceError", "", ServerFailed),
        (502, "upstream_error", "", ServerFailed),
        (400, "model_unavailable", "", Overloaded),
        (200, "upstream_error", "", ServerFailed),
        (200, "rate_limit_exceeded", "", RateLimited),
        (200, "insufficient_credits", "", QuotaExhausted),
        (200, "", "something broke", ServerFailed),
        (200, "InvalidParameter", "no such thing", RequestRejected),
    ],
)
def test_errors_are_classified(wire: Wire, status: int, code: str, message: str, expected: type[ModelError]) -> None:
    """Retry, split, stop: everything later hangs on the class."""
    with pytest.raises(ModelError) as caught:
        wire.decode(reply({"error": {"code": code, "message": message}}, status))
    assert type(caught.value) is expected


@pytest.mark.parametrize("body", [None, [], "text", {"error": "words alone"}, {"detail": "words"}, {"error": {}}, {}])
def test_odd_error_bodies_are_errors_all_the_same(wire: Wire, body: Any) -> None:
    """Proxies between answer with pages of their own."""
    with pytest.raises(ServerFailed):
        wire.decode(reply(body, 500))


@pytest.mark.parametrize("body", [None, [], "text", {}, {"choices": None}, {"choices": [{}]}, {"choices": [None]}])
def test_a_success_without_an_answer_is_a_failure_of_the_server(wire: Wire, body: Any) -> None:
    """An empty success must not become an empty record."""
    with pytest.raises(ServerFailed):
        wire.decode(reply(body))


def test_a_long_server_message_is_shortened(wire: Wire) -> None:
    """Messages end up in records; a server that echoes the request would put whole pages there."""
    with pytest.raises(RequestRejected) as caught:
        wire.decode(reply(fakes.error_body("InvalidParameter", "response_format " + "x" * 5000), 400))
    assert len(caught.value.message) < 500
    assert "response_format" in caught.value.message


# --- chat completions ---


@pytest.fixture
def chat() -> Wire:
    """The chat completions protocol."""
    return load_wire("chat")


def test_chat_hands_the_schema_over_by_rung(chat: Wire) -> None:
    """Strict schema, forced tool, nothing: the three rungs of the ladder."""
    profile = fakes.make_profile()
    schema = fakes.make_request().schema
    strict = chat.encode(fakes.make_request(), profile).body
    assert strict["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "invoice", "schema": schema, "strict": True},
    }
    tool = chat.encode(fakes.make_request(rung="tool"), profile).body
    assert tool["tool_choice"] == {"type": "function", "function": {"name": "invoice"}}
    assert tool["tools"][0]["function"]["parameters"] == schema
    assert "response_format" not in tool
    prompt = chat.encode(fakes.make_request(rung="prompt"), profile).body
    assert not {"response_format", "tools", "tool_choice"} & prompt.keys()


def test_chat_sends_what_the_gateway_needs(chat: Wire) -> None:
    """A system message of ours, no rewriting of answers, an explicit limit, and one detail said in both places."""
    body = chat.encode(fakes.make_request(image=True), fakes.make_profile()).body
    assert body["messages"][0] == {"role": "system", "content": "Extract."}
    assert body["disable_formatting"] is True
    assert body["max_tokens"] == 1000
    assert body["enable_thinking"] is False
    assert body["image_detail"] == "high"
    assert body["messages"][1]["content"][1]["image_url"]["detail"] == "high"
    assert not {"temperature", "top_p", "stop", "enable_caching", "n", "seed"} & body.keys()


def test_chat_sends_nothing_an_endpoint_does_not_know(chat: Wire) -> None:
    """Strict servers refuse unknown parameters: quirks belong to the endpoints that have them."""
    body = chat.encode(fakes.make_request(image=True), fakes.make_profile(quirks=Quirks())).body
    assert body.keys() == {"model", "messages", "max_tokens", "response_format"}


def test_chat_always_sends_a_limit(chat: Wire) -> None:
    """The server's own default cuts off every larger table."""
    profile = fakes.make_profile()
    body = chat.encode(fakes.make_request(parameters={}), profile).body
    assert body["max_tokens"] == profile.default_output_tokens


def test_chat_sends_effort_with_thinking(chat: Wire) -> None:
    """Both are settings of a recipe."""
    given = {"max_tokens": 10, "enable_thinking": True, "reasoning_effort": "low"}
    body = chat.encode(fakes.make_request(parameters=given), fakes.make_profile()).body
    assert (body["enable_thinking"], body["reasoning_effort"]) == (True, "low")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("brand_new", "unknown"),
        (None, "unknown"),
    ],
)
def test_chat_finish_reasons(chat: Wire, reason: Any, expected: str) -> None:
    """A cut-off or filtered answer must never pass for a whole one."""
    assert chat.decode(reply(fakes.completion("{}", reason))).finish_reason == expected


def test_chat_moderation_counts_as_filtered(chat: Wire) -> None:
    """The service says so in a field of its own, next to a harmless finish reason."""
    body = fakes.completion("{}")
    body["choices"][0]["moderation_hit_type"] = "violence"
    assert chat.decode(reply(body)).finish_reason == "content_filter"
    assert chat.decode(reply(fakes.completion("", refusal="I cannot"))).finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": '{"a": 1}'}, '{"a": 1}'),
        ({"content": [{"type": "text", "text": '{"a"'}, {"type": "text", "text": ": 1}"}]}, '{"a": 1}'),
        ({"content": None}, ""),
        ({"content": None, "tool_calls": [{"function": {"name": "x", "arguments": ' {"a": 1}'}}]}, ' {"a": 1}'),
        ({"content": "words", "tool_calls": [{"function": {"arguments": {"a": 1}}}]}, '{"a": 1}'),
        ({"content": '{"a": 1}', "tool_calls": []}, '{"a": 1}'),
        ({"content": '{"a": 1}', "reasoning_content": "first {"}, '{"a": 1}'),
    ],
)
def test_chat_finds_the_text(chat: Wire, message: dict[str, Any], text: str) -> None:
    """Answers come as text, as parts, or as the arguments of the tool."""
    assert chat.decode(reply(fakes.completion(None, **message))).text == text


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, 5)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(10, 5, 3, 4),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": None, "prompt_tokens_details": None, "cache_write_tokens": 1},
            Usage(10),
        ),
        ("unknown", Usage()),
    ],
)
def test_chat_usage_is_read_leniently(chat: Wire, usage: Any, expected: Usage) -> None:
    """The bill is made of it, and gateways leave parts of it out."""
    body = fakes.completion("{}")
    body["usage"] = usage
    assert chat.decode(reply(body)).usage == expected


def test_chat_keeps_the_ids(chat: Wire) -> None:
    """Support asks for the request id; the header is the gateway's own."""
    assert chat.decode(reply(fakes.completion(), x_request_id="req-7")).request_id == "req-7"
    answer = chat.decode(reply(fakes.completion()))
    assert (answer.request_id, answer.model) == ("chatcmpl-1", "upstream-id-260328")


def test_chat_reads_the_words_of_the_local_engine(chat: Wire) -> None:
    """They are what scanned pages are grounded in; a malformed entry loses itself alone."""
    words = [[0.1, 0.2, 0.3, 0.25, "Total"], [0, 1], "x", [None, 0, 0, 0, "y"]]
    body = fakes.completion() | {"x_page_words": [{"page": 3, "words": words}, {"page": "4"}, 5]}
    (page,) = chat.decode(reply(body)).page_words
    assert page.part_number == 3
    assert page.words == (Word("Total", (0.1, 0.2, 0.3, 0.25)),)
