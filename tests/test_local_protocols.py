"""What the responses and messages endpoints accept, refuse and repeat: their own fields, beside the shared ones."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.local import reader
from ingest.local.server import create_app
from tests.local_calls import (
    CHAT,
    MESSAGES,
    RESPONSES,
    TOTAL,
    call,
    events_of,
    image_bytes,
    image_part,
    message_request,
    page_in_document,
    request,
    response_request,
    schema_format,
)
from tests.test_local_contract import JSON_VALUES

MODEL = "seed-2-0-pro"
FORMAT = {"type": "json_schema", "name": "record", "schema": TOTAL, "strict": True}
INVOICE = page_in_document("Invoice 7\nTotal: 12.50 EUR")


@pytest.fixture(scope="module")
def app() -> Any:
    """The engine with a paid model."""
    return create_app(models=[MODEL])


def refusal(app: Any, path: str, body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    """The error of a refused request."""
    response = call(app, "POST", path, json=body)
    assert response.status_code == status, response.text
    return dict(response.json()["error"])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 65_537}, "max_output_tokens"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "odd"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "text_url"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": TOTAL}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "r"}}}, "text.format.schema"),
        ({"text": {"format": FORMAT | {"schema": {"type": "string", "pattern": "a"}}}}, "text.format.schema"),
        ({"text": {"format": FORMAT}, "enable_caching": True}, "text.format"),
        ({"text": {"format": FORMAT}, "caching": {"type": "enabled"}}, "text.format"),
        ({"instructions": "x", "caching": {"type": "enabled"}}, "instructions"),
        ({"stream": True, "caching": {"type": "enabled"}}, "stream"),
        ({"reasoning": {"effort": "low"}, "thinking": {"type": "disabled"}}, "reasoning.effort"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning_effort": "low", "enable_thinking": False}, "reasoning_effort"),
        ({"thinking": {}}, "thinking.type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "function", "name": "absent"}}, "tool_choice"),
        ({"max_tokens": 100}, "max_tokens"),
        ({"response_format": schema_format()}, "response_format"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_responses_refuse_what_upstream_refuses(app: Any, more: dict[str, Any], param: str) -> None:
    """Upstream names the field to blame, and rejects fields it does not know."""
    assert refusal(app, RESPONSES, response_request("x", **more))["param"] == param


def test_unknown_fields_are_a_switch() -> None:
    """Whether the gateway passes the upstream's strictness on is not known."""
    lenient = create_app(models=[MODEL], refuses_unknown_fields=False)
    assert call(lenient, "POST", RESPONSES, json=response_request("x", surprise=1)).status_code == 200
    assert call(lenient, "POST", CHAT, json=request("x", surprise=1)).status_code == 200


def test_responses_accept_every_documented_field(app: Any) -> None:
    """The gateway's own fields go with this endpoint too."""
    body = response_request(
        "x",
        instructions="Be brief.",
        store=False,
        temperature=0.1,
        top_p=1,
        enable_thinking=True,
        reasoning_effort="low",
        image_detail="low",
        video_fps=1,
        enable_caching=False,
        disable_formatting=True,
        parallel_tool_calls=False,
        text={"format": {"type": "text"}},
    )
    answer = call(app, "POST", RESPONSES, json=body).json()
    assert (answer["temperature"], answer["top_p"]) == (1, 0.95)
    assert answer["instructions"] == "Be brief."
    assert answer["store"] is False


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 65_537}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role of messages[0]"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "no video"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "source"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "odd"}}]}]}, "source.type"),
        ({"thinking": {"type": "enabled"}}, "budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "less than"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, "reasoning_effort"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": FORMAT | {"schema": {"type": "string", "format": "date"}}}}, "keyword `format`"),
        ({"tools": [{"name": "a"}]}, "input_schema"),
        ({"tools": [{"input_schema": TOTAL}]}, "tools[0].name"),
        ({"tool_choice": {"type": "any"}}, "tool"),
        ({"tool_choice": {"type": "tool", "name": "b"}}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"system": 5}, "system"),
        ({"stop_sequences": ["a"]}, "stop_sequences"),
    ],
)
def test_messages_refuse_what_cannot_be_translated(app: Any, more: dict[str, Any], param: str) -> None:
    """The envelope has no field for the parameter, so the message must name it."""
    error = refusal(app, MESSAGES, message_request("x", **more))
    assert set(error) == {"type", "message"}
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


def test_messages_read_system_documents_and_images(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the protocol become the same parts as anywhere else."""
    words = "Total 9.75 USD"
    monkeypatch.setattr(reader, "read_image", lambda number, data, is_context=False: reader.read_text(number, words))
    data = base64.b64encode(image_bytes("Total 9.75 USD")).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Pallets 17"}}
    answer = call(app, "POST", MESSAGES, json=message_request(text, image, system=[{"type": "text", "text": "Read."}]))
    body = answer.json()
    assert body["content"][-1]["text"] == "Pallets 17\n\nTotal 9.75 USD"
    chat = call(app, "POST", CHAT, json=request("Pallets 17", image_part(image_bytes("Total 9.75 USD")), model=MODEL))
    told = call(app, "POST", MESSAGES, json=message_request(text, image)).json()
    assert told["usage"]["input_tokens"] == chat.json()["usage"]["prompt_tokens"]
    wrong = image | {"source": image["source"] | {"media_type": "image/jpeg"}}
    assert "its bytes are image/png" in refusal(app, MESSAGES, message_request(wrong))["message"]


def test_responses_read_instructions_and_images(app: Any) -> None:
    """`image_url` is a plain string here; instructions are the system message."""
    url = "data:image/png;base64," + base64.b64encode(image_bytes("Total 9.75 USD")).decode()
    body = response_request("Pallets 17", {"type": "input_image", "image_url": url, "detail": "high"})
    answer = call(app, "POST", RESPONSES, json=body).json()
    assert answer["output"][-1]["content"][0]["text"] == "Pallets 17\n\nTotal 9.75 USD"
    assert answer["x_page_words"][0]["page"] == 2
    with_system = call(app, "POST", RESPONSES, json=body | {"instructions": "You are a helpful assistant."}).json()
    assert with_system["usage"]["input_tokens"] == answer["usage"]["input_tokens"]


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_the_same_request_costs_the_same_everywhere(app: Any, path: str) -> None:
    """One protocol must not be cheaper than another by a slip of counting."""
    body = {
        CHAT: request(INVOICE, model=MODEL),
        RESPONSES: response_request(INVOICE),
        MESSAGES: message_request(INVOICE),
    }
    call(app, "POST", CHAT, json=body[CHAT])
    call(app, "POST", path, json=body[path])
    first, second = list(app.state.accounting.entries)[-2:]
    assert (first.input_tokens, first.output_tokens) == (second.input_tokens, second.output_tokens)
    assert first.input_by_kind == second.input_by_kind


def test_max_output_tokens_counts_reasoning_too(app: Any) -> None:
    """Upstream's limit on this endpoint holds the whole output; a small one leaves no room for the answer."""
    words = "word " * 100
    for limit in (5, 40):
        answer = call(app, "POST", RESPONSES, json=response_request(words, max_output_tokens=limit)).json()
        assert answer["status"] == "incomplete"
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert answer["usage"]["output_tokens"] == limit
    whole = call(app, "POST", CHAT, json=request(words, max_tokens=None, max_completion_tokens=40)).json()
    assert whole["usage"]["completion_tokens"] == 40


def test_stop_sequences_end_a_message_and_say_which(app: Any) -> None:
    """`stop_reason` and `stop_sequence` tell the word."""
    body = message_request("alpha beta gamma", stop_sequences=["gamma", "beta"], thinking={"type": "disabled"})
    answer = call(app, "POST", MESSAGES, json=body).json()
    assert answer["content"][0]["text"] == "alpha "
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "beta")


def test_cached_tokens_stand_beside_the_input_on_messages() -> None:
    """Whoever reads `input_tokens` alone would see a request shrink."""
    app = create_app(models=[MODEL], caches_prefixes=True)
    body = message_request("one " * 1500)
    first, second = (call(app, "POST", MESSAGES, json=body).json()["usage"] for _ in range(2))
    assert first["cache_read_input_tokens"] == 0 < second["cache_read_input_tokens"]
    assert first["input_tokens"] == second["input_tokens"] + second["cache_read_input_tokens"]


def test_upstreams_done_behind_a_response_is_a_switch(app: Any) -> None:
    """OpenAI ends with `response.completed`; the upstream sends `[DONE]` after it."""
    body = response_request("x", stream=True)
    assert events_of(call(app, "POST", RESPONSES, json=body))[-1]["type"] == "response.completed"
    done = create_app(models=[MODEL], sends_done=True)
    assert events_of(call(done, "POST", RESPONSES, json=body))[-1] == "[DONE]"


def test_responses_events_come_in_the_documented_order(app: Any) -> None:
    """Clients build the answer from the order of events and check their numbers."""
    body = response_request(INVOICE, text={"format": FORMAT}, stream=True)
    events = events_of(call(app, "POST", RESPONSES, json=body))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_messages_events_come_in_the_documented_order(app: Any) -> None:
    """Blocks open, fill and close one after the other; usage comes at the end."""
    events = events_of(call(app, "POST", MESSAGES, json=message_request("x", stream=True)))
    assert [event["type"] for event in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["usage"]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("lacks", "more"),
    [
        ("json_schema", {CHAT: {"response_format": schema_format()}, RESPONSES: {"text": {"format": FORMAT}}}),
        ("json_schema", {MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": TOTAL}}}}),
        ("tools", {CHAT: {"tools": [{"type": "function", "function": {"name": "a"}}]}}),
        ("tools", {RESPONSES: {"tools": [{"type": "function", "name": "a"}]}}),
        ("tools", {MESSAGES: {"tools": [{"name": "a", "input_schema": TOTAL}]}}),
    ],
)
def test_services_that_lack_a_rung_say_so(lacks: str, more: dict[str, Any]) -> None:
    """Sources disagree on what the model supports, so every rung of the ladder must be refusable."""
    app = create_app(models=[MODEL], lacks=[lacks])
    bodies = {CHAT: request("x"), RESPONSES: response_request("x"), MESSAGES: message_request("x")}
    for path, extra in more.items():
        assert "not supported by this model" in refusal(app, path, bodies[path] | extra)["message"]
    with pytest.raises(ConfigError):
        create_app(lacks=["images"])


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_keys_and_unknown_models_in_the_protocols_envelope(path: str) -> None:
    """Both documented headers work on every endpoint."""
    app = create_app(models=[MODEL], api_keys=["sesame"])
    body = response_request("x") if path == RESPONSES else message_request("x")
    for headers in ({"authorization": "Bearer sesame"}, {"x-api-key": "sesame"}):
        assert call(app, "POST", path, json=body, headers=headers).status_code == 200
        missing = call(app, "POST", path, json=body | {"model": "absent"}, headers=headers)
        assert missing.status_code == 404
    denied = call(app, "POST", path, json=body)
    assert denied.status_code == 401
    assert ("request_id" in denied.json()) is (path == MESSAGES)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    path=st.sampled_from([RESPONSES, MESSAGES]),
    name=st.sampled_from(["messages", "input", "tools", "tool_choice", "text", "output_config", "system", "thinking"]),
    value=JSON_VALUES,
)
def test_no_value_of_any_field_breaks_the_engine(app: Any, path: str, name: str, value: Any) -> None:
    """Whatever JSON stands in a field, the answer is one of the API's own, never a crash."""
    body = (response_request if path == RESPONSES else message_request)("Total: 5 EUR") | {name: value}
    response = call(app, "POST", path, content=json.dumps(body).encode())
    assert response.status_code in (200, 400), response.text
