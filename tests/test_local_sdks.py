"""The vendors' own SDKs as clients of the local engine: their type models are the strictest readers of our bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from ingest.local.server import create_app
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

T = TypeVar("T")
INVOICE = page_in_document("Invoice 7\nTotal: 12.50 EUR")
MODEL = "seed-2-0-pro"
KEY = "sesame"


class Total(BaseModel):
    """What the parsing helpers of the SDKs are asked for."""

    total: float | None
    currency: str | None


@pytest.fixture(scope="module")
def app() -> Any:
    """An engine with a key, whose usage has the field OpenAI's newest types require."""
    return create_app(models=[MODEL], api_keys=[KEY], counts_cache_writes=True)


def with_openai(app: Any, work: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T:
    """What `work` returns, given the SDK's client on the app in this process."""

    async def run() -> T:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            return await work(
                openai.AsyncOpenAI(api_key=KEY, base_url="http://local.invalid/v1", http_client=http, max_retries=0)
            )

    return asyncio.run(run())


def with_anthropic(app: Any, work: Callable[[anthropic.AsyncAnthropic], Awaitable[T]]) -> T:
    """What `work` returns, given the SDK's client on the app in this process."""

    async def run() -> T:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            return await work(
                anthropic.AsyncAnthropic(api_key=KEY, base_url="http://local.invalid", http_client=http, max_retries=0)
            )

    return asyncio.run(run())


async def drained(stream: Any) -> list[Any]:
    """Every event of a stream."""
    return [event async for event in stream]


# Chat completions


def test_openai_chat_plain_and_streamed(app: Any) -> None:
    """The commonest client of all must read the same answer whole and in pieces."""
    body = request("Total: 5 EUR", model=MODEL)
    answer = with_openai(app, lambda client: client.chat.completions.create(**body))
    assert answer.choices[0].message.content == "Total: 5 EUR"
    assert answer.usage is not None
    options = {"stream": True, "stream_options": {"include_usage": True}}

    async def stream(client: openai.AsyncOpenAI) -> list[Any]:
        return await drained(await client.chat.completions.create(**body, **options))

    events = with_openai(app, stream)
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == "Total: 5 EUR"
    assert events[-1].usage == answer.usage


def test_openai_chat_parses_into_a_class(app: Any) -> None:
    """The SDK's strict schema of a class passes our dialect, and the answer fits the class."""
    body = request(INVOICE, model=MODEL)
    parsed = with_openai(app, lambda client: client.chat.completions.parse(**body, response_format=Total))
    assert parsed.choices[0].message.parsed == Total(total=12.5, currency="EUR")

    async def stream(client: openai.AsyncOpenAI) -> Any:
        async with client.chat.completions.stream(**body, response_format=Total) as events:
            await drained(events)
            return await events.get_final_completion()

    assert with_openai(app, stream).choices[0].message.parsed == Total(total=12.5, currency="EUR")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "save"}}])
def test_openai_chat_calls_a_tool(app: Any, choice: Any, is_streamed: bool) -> None:
    """Forced or free, whole or streamed, the call arrives with its arguments."""
    tool = {"type": "function", "function": {"name": "save", "parameters": TOTAL}}
    body = request(INVOICE, model=MODEL, tools=[tool], tool_choice=choice)

    async def ask(client: openai.AsyncOpenAI) -> Any:
        if not is_streamed:
            return await client.chat.completions.create(**body)
        async with client.chat.completions.stream(**body) as events:
            await drained(events)
            return await events.get_final_completion()

    (answer,) = with_openai(app, ask).choices
    assert answer.finish_reason == "tool_calls"
    assert json.loads(answer.message.tool_calls[0].function.arguments) == {"total": 12.5, "currency": "EUR"}


def test_a_tool_loop_ends_in_words_on_every_protocol(app: Any) -> None:
    """With free choice a call answered by its result must not be made again for ever."""
    function = {"name": "save", "parameters": TOTAL}
    tools = [{"type": "function", "function": function}]
    body = request(INVOICE, model=MODEL, tools=tools)
    first = with_openai(app, lambda client: client.chat.completions.create(**body)).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "saved"}
    body["messages"] += [first.model_dump(exclude_none=True), result]
    last = with_openai(app, lambda client: client.chat.completions.create(**body)).choices[0]
    assert (last.finish_reason, last.message.tool_calls) == ("stop", None)

    asked = response_request(INVOICE, tools=[{"type": "function", **function}])
    made = with_openai(app, lambda client: client.responses.create(**asked)).output[-1]
    result = {"type": "function_call_output", "call_id": made.call_id, "output": "saved"}
    asked["input"] += [made.model_dump(exclude_none=True), result]
    assert with_openai(app, lambda client: client.responses.create(**asked)).output[-1].type == "message"

    told = message_request(INVOICE, tools=[{"name": "save", "input_schema": TOTAL}])
    block = with_anthropic(app, lambda client: client.messages.create(**told)).content[-1]
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "saved"}
    told["messages"] += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    assert with_anthropic(app, lambda client: client.messages.create(**told)).stop_reason == "end_turn"


def test_a_free_tool_with_nothing_to_say_is_not_called(app: Any) -> None:
    """A model does not call a tool it has no values for."""
    tool = {"type": "function", "function": {"name": "save", "parameters": TOTAL}}
    body = request("Good morning", model=MODEL, tools=[tool], tool_choice="auto")
    (answer,) = with_openai(app, lambda client: client.chat.completions.create(**body)).choices
    assert (answer.finish_reason, answer.message.content) == ("stop", "Good morning")


# Responses


def test_openai_responses_plain_and_streamed(app: Any) -> None:
    """Reasoning comes as an item of its own before the message, and streamed text is the whole text."""
    body = response_request("Total: 5 EUR")
    answer = with_openai(app, lambda client: client.responses.create(**body))
    assert answer.output_text == "Total: 5 EUR"
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage.output_tokens_details.reasoning_tokens > 0

    async def stream(client: openai.AsyncOpenAI) -> list[Any]:
        return await drained(await client.responses.create(**body, stream=True))

    events = with_openai(app, stream)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Total: 5 EUR"
    assert events[-1].response.usage == answer.usage


def test_openai_responses_parses_into_a_class(app: Any) -> None:
    """The flat form of the schema in `text.format`."""
    body = response_request(INVOICE)
    parsed = with_openai(app, lambda client: client.responses.parse(**body, text_format=Total))
    assert parsed.output_parsed == Total(total=12.5, currency="EUR")

    async def stream(client: openai.AsyncOpenAI) -> Any:
        async with client.responses.stream(**body, text_format=Total) as events:
            await drained(events)
            return await events.get_final_response()

    assert with_openai(app, stream).output_parsed == Total(total=12.5, currency="EUR")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "name": "save"}])
def test_openai_responses_calls_a_tool(app: Any, choice: Any, is_streamed: bool) -> None:
    """A call is an output item; its arguments stream as their own events."""
    body = response_request(
        INVOICE, tools=[{"type": "function", "name": "save", "parameters": TOTAL}], tool_choice=choice
    )

    async def ask(client: openai.AsyncOpenAI) -> Any:
        if not is_streamed:
            return await client.responses.create(**body)
        async with client.responses.stream(**body) as events:
            await drained(events)
            return await events.get_final_response()

    made = with_openai(app, ask).output[-1]
    assert (made.type, made.name) == ("function_call", "save")
    assert json.loads(made.arguments) == {"total": 12.5, "currency": "EUR"}


# Messages


def test_anthropic_messages_plain_and_streamed(app: Any) -> None:
    """Thinking is a block before the text; streamed blocks join to the whole message."""
    body = message_request("Total: 5 EUR")
    answer = with_anthropic(app, lambda client: client.messages.create(**body))
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[1].text == "Total: 5 EUR"
    assert answer.stop_reason == "end_turn"

    async def stream(client: anthropic.AsyncAnthropic) -> Any:
        async with client.messages.stream(**body) as events:
            assert "".join([text async for text in events.text_stream]) == "Total: 5 EUR"
            return await events.get_final_message()

    whole = with_anthropic(app, stream)
    assert [block.to_dict() for block in whole.content] == [block.to_dict() for block in answer.content]
    assert whole.usage.output_tokens == answer.usage.output_tokens


def test_anthropic_messages_parses_into_a_class(app: Any) -> None:
    """`output_config.format` carries the schema."""
    body = message_request(INVOICE)
    parsed = with_anthropic(app, lambda client: client.messages.parse(**body, output_format=Total))
    assert parsed.parsed_output == Total(total=12.5, currency="EUR")


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "save"}])
def test_anthropic_messages_calls_a_tool(app: Any, choice: Any, is_streamed: bool) -> None:
    """The gateway documents only tools for structured output on this endpoint."""
    tools = [{"name": "save", "description": "Saves it.", "input_schema": TOTAL}]
    body = message_request(INVOICE, tools=tools, tool_choice=choice)

    async def ask(client: anthropic.AsyncAnthropic) -> Any:
        if not is_streamed:
            return await client.messages.create(**body)
        async with client.messages.stream(**body) as events:
            await drained(events)
            return await events.get_final_message()

    answer = with_anthropic(app, ask)
    assert answer.stop_reason == "tool_use"
    assert answer.content[-1].input == {"total": 12.5, "currency": "EUR"}


# Errors


ERRORS = [
    ("bad_key", openai.AuthenticationError, anthropic.AuthenticationError),
    ("no_model", openai.NotFoundError, anthropic.NotFoundError),
    ("denied", openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    ("rate_limited", openai.RateLimitError, anthropic.RateLimitError),
    ("overloaded", openai.RateLimitError, anthropic.RateLimitError),
    ("refused_input", openai.BadRequestError, anthropic.BadRequestError),
    ("internal_error", openai.InternalServerError, anthropic.InternalServerError),
    ("unavailable", openai.InternalServerError, anthropic.InternalServerError),
    ("overloaded_529", openai.InternalServerError, anthropic.InternalServerError),
]


@pytest.mark.parametrize(("kind", "from_openai", "from_anthropic"), ERRORS)
def test_errors_are_the_sdks_own_classes(
    kind: str, from_openai: type[Exception], from_anthropic: type[Exception]
) -> None:
    """A status or an envelope out of place would surface as a class no caller handles."""
    app = create_app(models=[MODEL], faults={"script": {"1-": kind}})
    with pytest.raises(from_openai) as chat_error:
        with_openai(app, lambda client: client.chat.completions.create(**request("x", model=MODEL)))
    assert chat_error.value.code
    with pytest.raises(from_openai):
        with_openai(app, lambda client: client.responses.create(**response_request("x")))
    with pytest.raises(from_anthropic) as message_error:
        with_anthropic(app, lambda client: client.messages.create(**message_request("x")))
    body = message_error.value.response.json()
    ErrorResponse.model_validate(body, strict=True)
    assert body["request_id"] == message_error.value.response.headers["x-request-id"]


def test_errors_inside_a_stream_are_raised_by_the_sdks() -> None:
    """A stream that began with 200 can still fail; the error object must be one the SDKs know."""
    app = create_app(models=[MODEL], faults={"script": {"1-": "stream_error"}})

    async def chat(client: openai.AsyncOpenAI) -> None:
        await drained(await client.chat.completions.create(**request("x", model=MODEL), stream=True))

    async def respond(client: openai.AsyncOpenAI) -> list[Any]:
        return await drained(await client.responses.create(**response_request("x"), stream=True))

    async def message(client: anthropic.AsyncAnthropic) -> None:
        await drained(await client.messages.create(**message_request("x"), stream=True))

    with pytest.raises(openai.APIError, match="upstream"):
        with_openai(app, chat)
    last = with_openai(app, respond)[-1]
    assert (last.type, last.code) == ("error", "upstream_error")
    with pytest.raises(anthropic.APIStatusError, match="upstream"):
        with_anthropic(app, message)


# Bodies against the type models, field by field


CASES = [
    {},
    {"thinking": {"type": "disabled"}},
    {"max": 5},
    {"max": 1, "thinking": {"type": "disabled"}},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["plain", "schema", "tool"])
@pytest.mark.parametrize("fault", ["", "content_filter", "refusal", "empty", "prose"])
def test_every_body_and_event_fits_the_type_models(case: dict[str, Any], form: str, fault: str) -> None:
    """Clients in other languages generate their readers from these types; one wrong field breaks them all."""
    app = create_app(models=[MODEL], counts_cache_writes=True, faults={"script": {"1-": fault}})
    more = {key: value for key, value in case.items() if key != "max"}
    limit = case.get("max", 900)
    function = {"name": "save", "parameters": TOTAL}
    bodies = {
        CHAT: request(INVOICE, model=MODEL, max_tokens=limit, **more)
        | {
            "schema": {"response_format": schema_format()},
            "tool": {"tools": [{"type": "function", "function": function}], "tool_choice": "required"},
        }.get(form, {}),
        RESPONSES: response_request(INVOICE, max_output_tokens=limit, **more)
        | {
            "schema": {"text": {"format": {"type": "json_schema", "name": "r", "schema": TOTAL, "strict": True}}},
            "tool": {"tools": [{"type": "function", **function}], "tool_choice": "required"},
        }.get(form, {}),
        MESSAGES: message_request(INVOICE, max_tokens=limit, **more)
        | {
            "schema": {"output_config": {"format": {"type": "json_schema", "schema": TOTAL}}},
            "tool": {"tools": [{"name": "save", "input_schema": TOTAL}], "tool_choice": {"type": "any"}},
        }.get(form, {}),
    }
    types = {
        CHAT: (ChatCompletion, ChatCompletionChunk),
        RESPONSES: (Response, ResponseStreamEvent),
        MESSAGES: (Message, RawMessageStreamEvent),
    }
    for path, body in bodies.items():
        whole, event_type = types[path]
        answer = call(app, "POST", path, json=body)
        assert answer.status_code == 200, answer.text
        TypeAdapter(whole).validate_json(answer.content, strict=True)
        adapter: TypeAdapter[Any] = TypeAdapter(event_type)
        for event in events_of(call(app, "POST", path, json=body | {"stream": True})):
            if event != "[DONE]" and event["type" if path != CHAT else "object"] != "ping":
                adapter.validate_json(json.dumps(event), strict=True)


def test_upstream_usage_lacks_the_newest_field_of_openai() -> None:
    """As upstream, usage of responses has no `cache_write_tokens` by default: strict parsers break on the real one."""
    answer = call(create_app(models=[MODEL]), "POST", RESPONSES, json=response_request("x")).json()
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 0}


def test_sdks_over_a_real_port() -> None:
    """In-process transports hide framing and headers; a socket does not."""
    with ServedEngine(models=[MODEL]) as url:
        client = openai.OpenAI(api_key=KEY, base_url=url, max_retries=0)
        assert client.chat.completions.create(**request("a b", model=MODEL)).choices[0].message.content == "a b"
        with client.responses.stream(**response_request("a b")) as events:
            assert events.get_final_response().output_text == "a b"
        assert [model.id for model in client.models.list()] == ["local-ocr-rules", MODEL]
        claude = anthropic.Anthropic(api_key=KEY, base_url=url.removesuffix("/v1"), max_retries=0)
        with claude.messages.stream(**message_request("a b")) as stream:
            assert stream.get_final_text() == "a b"
        claude.close()
        client.close()
