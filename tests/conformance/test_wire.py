"""What every wire protocol must do, on plain dicts: the request's parts survive encoding, the answer's decoding."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest

from ingest.asking.wire import WIRES, Wire, ladder, load_wire, wire_names
from ingest.errors import (
    AuthRejected,
    CallTimeout,
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
from ingest.types import File, HttpReply, Text, Usage, Video, Word
from tests import fakes, sdk_types, wire_samples


@pytest.fixture(params=sorted(WIRES))
def protocol(request: pytest.FixtureRequest) -> str:
    """Each protocol's name."""
    name: str = request.param
    return name


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
    assert "Extract." in text
    assert text.index("opening") < text.index(image) < text.index("closing")
    assert "image/jpeg" in text
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


def test_caching_is_sent_where_no_schema_is(wire: Wire) -> None:
    """On the prompt rung nothing speaks against it."""
    request = fakes.make_request(rung="prompt", parameters={"max_tokens": 10, "enable_caching": True})
    assert wire.encode(request, fakes.make_profile()).body["enable_caching"] is True


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("rung", ["json_schema", "tool", "prompt"])
@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 10, "enable_thinking": False},
        {"max_tokens": 65_536, "enable_thinking": True, "reasoning_effort": "low", "stop": ["END", "two words"]},
        {"max_tokens": 10, "enable_web_search": True, "image_detail": "low"},
    ],
)
def test_the_sdks_type_models_take_every_request(protocol: str, rung: Any, is_streamed: bool, given: Any) -> None:
    """The SDKs are others' reading of the protocols; beside their fields we send only what the gateway documents."""
    pytest.importorskip("openai")
    pytest.importorskip("anthropic")
    contents = (*fakes.make_request(image=True).contents, File(b"%PDF-1.7", "application/pdf", "document.pdf", 2))
    request = fakes.make_request(contents=contents, rung=rung, parameters=given)
    body = load_wire(protocol).encode(request, fakes.make_profile(), is_streamed).body
    assert sdk_types.check_body(protocol, body) <= sdk_types.GATEWAY_FIELDS
    assert bool(body.get("stream")) == is_streamed


def test_documents_go_as_parts_of_their_own(protocol: str) -> None:
    """A PDF handed over whole keeps its bytes and its type on every protocol."""
    file = File(b"%PDF-1.7", "application/pdf", "document.pdf", 2)
    body = load_wire(protocol).encode(fakes.make_request(contents=(Text("a"), file)), fakes.make_profile()).body
    text = json.dumps(body)
    assert base64.b64encode(file.data).decode() in text
    assert "application/pdf" in text
    assert "document.pdf" in text


def test_videos_go_where_the_protocol_has_a_part_for_them(protocol: str) -> None:
    """The rate is said on the part and, for the gateway, once more at the top; without a part the way out is named."""
    request = fakes.make_request(contents=(Video(b"mp4", "video/mp4", 12.0, 0.5),))
    if protocol == "messages":
        with pytest.raises(ConfigError, match=r"no video part.*--video frames"):
            load_wire(protocol).encode(request, fakes.make_profile())
        return
    body = load_wire(protocol).encode(request, fakes.make_profile()).body
    assert f"data:video/mp4;base64,{base64.b64encode(b'mp4').decode()}" in json.dumps(body)
    assert json.dumps(body).count('fps": 0.5') == 2
    rated = replace(request, parameters={"max_tokens": 10, "video_fps": 2.0})
    assert json.dumps(load_wire(protocol).encode(rated, fakes.make_profile()).body).count('fps": 2.0') == 2


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_penalties_go_only_where_the_protocol_has_them(protocol: str, name: str) -> None:
    """A parameter that is silently dropped is worse than one that is refused."""
    request = fakes.make_request(parameters={"max_tokens": 10, name: 0.5})
    if protocol == "chat":
        assert load_wire(protocol).encode(request, fakes.make_profile()).body[name] == 0.5
    else:
        with pytest.raises(ConfigError, match=rf"{protocol} protocol has no {name}.*--protocol chat"):
            load_wire(protocol).encode(request, fakes.make_profile())
    neutral = fakes.make_request(parameters={"max_tokens": 10, name: 0.0})
    assert name not in load_wire(protocol).encode(neutral, fakes.make_profile()).body


def test_stops_go_in_the_form_the_endpoint_takes(protocol: str) -> None:
    """The gateway wants one string with commas, others a list; a comma inside a word would make two of it."""
    wire = load_wire(protocol)
    request = fakes.make_request(parameters={"max_tokens": 10, "stop": ["END", "STOP"]})
    body = wire.encode(request, fakes.make_profile()).body
    plain = fakes.make_profile(quirks=Quirks())
    if protocol == "messages":
        assert body["stop_sequences"] == ["END", "STOP"]
        assert "stop" not in body
    else:
        assert body["stop"] == "END,STOP"
    if protocol == "chat":
        assert wire.encode(request, plain).body["stop"] == ["END", "STOP"]
    if protocol == "responses":
        with pytest.raises(ConfigError, match="--protocol chat"):
            wire.encode(request, plain)
    with pytest.raises(ConfigError, match="comma"):
        wire.encode(fakes.make_request(parameters={"stop": ["a,b"]}), fakes.make_profile())


def test_every_protocol_sends_what_the_gateway_needs(protocol: str) -> None:
    """Answers unchanged, thinking off unless asked, a system message in place of the gateway's, an explicit limit."""
    body = load_wire(protocol).encode(fakes.make_request(image=True), fakes.make_profile()).body
    assert body["disable_formatting"] is True
    assert body["enable_thinking"] is False
    assert body["image_detail"] == "high"
    system = {"chat": "messages", "responses": "input"}.get(protocol)
    assert (body[system][0]["role"] if system else body["system"]) in ("system", "Extract.")
    assert body.get("max_tokens", body.get("max_output_tokens")) == 1000
    assert not {"temperature", "top_p", "stop", "enable_caching", "enable_web_search", "n", "seed"} & body.keys()
    without = load_wire(protocol).encode(fakes.make_request(image=True), fakes.make_profile(quirks=Quirks())).body
    assert not sdk_types.GATEWAY_FIELDS & without.keys()


@pytest.mark.parametrize("tool", [False, True])
def test_every_protocol_gives_the_same_reply(protocol: str, tool: bool) -> None:
    """Text, reason, tokens, model and id are one thing to all that follows, whatever the dialect."""
    body = wire_samples.body(protocol, '{"a": 1}', tool=tool)
    got = load_wire(protocol).decode(reply(body))
    assert json.loads(got.text) == {"a": 1}
    assert got.usage == Usage(100, 20, 5, 30)
    assert got.finish_reason == ("tool_calls" if tool else "stop")
    assert (got.model, got.request_id) == ("upstream-id", "id-1")
    assert load_wire(protocol).usage(body) == got.usage
    assert load_wire(protocol).decode(reply(body, x_request_id="req-7")).request_id == "req-7"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_every_protocol_tells_why_an_answer_is_short(protocol: str, reason: str) -> None:
    """A cut-off or filtered answer must never pass for a whole one."""
    got = load_wire(protocol).decode(reply(wire_samples.body(protocol, '{"a": ', reason=reason)))
    assert got.finish_reason == reason


def test_every_protocol_brings_the_words_of_the_local_engine(protocol: str) -> None:
    """They are what scanned pages are grounded in, streamed or not."""
    pages = {"x_page_words": [{"page": 3, "words": [[0.1, 0.2, 0.3, 0.25, "Total"]]}]}
    (page,) = load_wire(protocol).decode(reply(wire_samples.body(protocol, "{}") | pages)).page_words
    assert page.words == (Word("Total", (0.1, 0.2, 0.3, 0.25)),)


def test_an_answer_without_an_answer_is_a_failure_on_every_protocol(protocol: str) -> None:
    """An empty success must not become an empty record."""
    bodies: dict[str, list[Any]] = {
        "chat": [{"choices": [{"message": None}]}],
        "responses": [
            {"status": "completed", "output": None},
            {"status": "completed", "output": []},
            {"status": "in_progress", "output": [{"type": "message"}]},
            {"status": "failed", "output": [], "error": None},
        ],
        "messages": [{"content": None}, {"content": [], "stop_reason": "end_turn"}],
    }
    for body in bodies[protocol]:
        with pytest.raises(ServerFailed):
            load_wire(protocol).decode(reply(body))


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", RequestRejected),
        (401, "authentication_error", AuthRejected),
        (402, "billing_error", QuotaExhausted),
        (403, "permission_error", AuthRejected),
        (413, "request_too_large", ContextExceeded),
        (429, "rate_limit_error", RateLimited),
        (500, "api_error", ServerFailed),
        (504, "timeout_error", CallTimeout),
        (529, "overloaded_error", Overloaded),
    ],
)
def test_errors_in_the_envelope_of_messages(status: int, kind: str, expected: type[ModelError]) -> None:
    """Its errors have a type where the others have a code."""
    with pytest.raises(ModelError) as caught:
        load_wire("messages").decode(reply(wire_samples.error_body("messages", kind), status))
    assert type(caught.value) is expected


def test_cached_tokens_of_messages_count_as_input() -> None:
    """They stand beside the input there, and the price step is set by both."""
    counts = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 2}
    body = wire_samples.body("messages", "{}") | {"usage": counts}
    assert load_wire("messages").decode(reply(body)).usage == Usage(18, 2, 0, 5)


def test_rungs_follow_profile_and_protocol() -> None:
    """The gateway documents only tools for messages: asking for a schema there first would waste a call."""
    profile = fakes.make_profile()
    assert ladder(profile, "chat") == ladder(profile, "responses") == ("json_schema", "tool", "prompt")
    assert ladder(profile, "messages") == ("tool", "prompt")
    assert ladder(fakes.make_profile(ladder=["json_schema"]), "messages") == ("json_schema",)


def test_a_protocol_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's own gateway should need a package, not a fork."""
    point = metadata.EntryPoint("mine", "ingest.asking.wire.chat_completions", "ingest.wire")
    broken = metadata.EntryPoint("broken", "no_such_module_at_all", "ingest.wire")

    def entry_points(**chosen: str) -> list[metadata.EntryPoint]:
        points = [point, broken] if chosen["group"] == "ingest.wire" else []
        return [found for found in points if chosen.get("name", found.name) == found.name]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert load_wire("mine").encode(fakes.make_request(), fakes.make_profile()).path == "chat/completions"
    assert "mine" in wire_names()
    with pytest.raises(ConfigError, match=r"broken protocol .*cannot be loaded"):
        load_wire("broken")


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
