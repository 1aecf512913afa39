"""Chat completions: the body of a request to an Ask, an Answer to a body or to the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.local.accounting import Usage
from ingest.local.answering import Answer
from ingest.local.contract import Ask, Form, Message, Part, Terms, TextPart
from ingest.local.fields import Fields
from ingest.local.numbers import ServedModel
from ingest.local.protocols import media, parameters
from ingest.local.protocols.forms import (
    choose_form,
    choose_tool,
    read_format_kind,
    read_named_schema,
    read_tool,
    refuse_lacking_tools,
)
from ingest.local.refusal import Refusal, invalid, missing
from ingest.local.shaping import ENGINE, PIECE_CHARACTERS, Event, page_words, pieces

_ROLES = {"system", "developer", "user", "assistant", "tool"}
_FINISHES = {"stop_sequence": "stop", "refusal": "stop"}


def read_request(body: Mapping[str, Any], terms: Terms) -> Ask:
    """A chat-completions body as a checked Ask; raises Refusal (400, or 404 for an unknown model)."""
    fields = Fields(body)
    model = parameters.find_model(fields, terms)
    is_thinking = parameters.check_thinking(fields)
    messages = _read_messages(fields, model, terms)
    form, form_text = _read_form(fields, messages, terms)
    parameters.check_ignored(fields, messages)
    is_streamed = fields.boolean("stream") or False
    visible, whole = _read_max_tokens(fields, model)
    return Ask(
        model=model,
        messages=messages,
        max_tokens=visible or whole or terms.limits.default_max_tokens,
        max_total_tokens=whole,
        form=form,
        form_text=form_text,
        image_detail=parameters.read_image_detail(fields, model),
        video_fps=parameters.read_video_fps(fields, model),
        is_thinking=is_thinking,
        is_raw=parameters.is_raw(fields),
        is_streamed=is_streamed,
        streams_usage=_streams_usage(fields, is_streamed),
        stop=parameters.read_stop(fields, "stop", terms, is_thinking=is_thinking),
    )


def _read_max_tokens(fields: Fields, model: ServedModel) -> tuple[int | None, int | None]:
    """The limit of the visible answer, and the limit that counts reasoning too."""
    high = model.numbers.max_output_tokens
    visible = fields.integer("max_tokens", 1, high)
    whole = fields.integer("max_completion_tokens", 1, high)
    if visible is not None and whole is not None:
        raise invalid("max_completion_tokens", "it cannot be set together with `max_tokens`")
    return visible, whole


def _streams_usage(fields: Fields, is_streamed: bool) -> bool:
    options = fields.mapping("stream_options")
    if options is None:
        return False
    if not is_streamed:
        raise invalid("stream_options", "it needs `stream` to be true")
    options.boolean("chunk_include_usage")
    return options.boolean("include_usage") or False


def _read_form(fields: Fields, messages: tuple[Message, ...], terms: Terms) -> tuple[Form | None, tuple[Any, ...]]:
    """The form of the answer, and the JSON values that count as input because of it."""
    tools = fields.array("tools") or []
    refuse_lacking_tools(tools, terms)
    forms = [_read_tool(tool, index, terms) for index, tool in enumerate(tools)]
    tool = _chosen_tool(fields, forms, messages)
    response_format = fields.mapping("response_format")
    has_schema = response_format is not None and read_format_kind(response_format, terms)
    parameters.check_caching(fields, has_schema=has_schema, schema_param="response_format")
    if response_format is None or not has_schema:
        return tool, tuple(tools)
    schema = response_format.mapping("json_schema")
    if schema is None:
        raise missing("response_format.json_schema")
    return choose_form(read_named_schema(schema, terms), tool), (*tools, schema.values)


def _read_tool(tool: object, index: int, terms: Terms) -> Form:
    path = f"tools[{index}]"
    if not isinstance(tool, dict):
        raise invalid(path, "an object is expected")
    fields = Fields(tool, f"{path}.")
    if fields.choice("type", {"function"}) is None:
        raise missing(f"{path}.type")
    function = fields.mapping("function")
    if function is None:
        raise missing(f"{path}.function")
    return read_tool(function, "parameters", terms)


def _chosen_tool(fields: Fields, forms: list[Form], messages: tuple[Message, ...]) -> Form | None:
    choice = fields.values.get("tool_choice")
    if choice is None:
        choice = "auto"
    if isinstance(choice, str):
        return choose_tool(choice, None, forms, messages)
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    return choose_tool("named", name, forms, messages)


def _read_messages(fields: Fields, model: ServedModel, terms: Terms) -> tuple[Message, ...]:
    values = fields.array("messages")
    if not values:
        raise missing("messages")
    messages = tuple(_read_message(value, f"messages[{index}]", model, terms) for index, value in enumerate(values))
    parameters.check_last_message(messages, "messages")
    return messages


def _read_message(value: object, path: str, model: ServedModel, terms: Terms) -> Message:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, "InvalidArgumentError.UnknownRole", f"The role of {path} is not known.", f"{path}.role")
    content = value.get("content")
    tool_calls = value.get("tool_calls")
    tool_text = "" if not isinstance(tool_calls, list) else _tool_text(tool_calls)
    if content is None:
        if role == "assistant" and tool_text:
            return Message(role, (), tool_text)
        raise missing(f"{path}.content")
    if isinstance(content, str):
        return Message(role, (TextPart(content),), tool_text)
    if not isinstance(content, list) or not content:
        raise invalid(f"{path}.content", "a string or a list of parts is expected")
    parts = tuple(_read_part(part, f"{path}.content[{n}]", role, model, terms) for n, part in enumerate(content))
    return Message(role, parts, tool_text)


def _tool_text(calls: list[Any]) -> str:
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    return " ".join(
        f"{function.get('name')} {function.get('arguments')}" for function in functions if isinstance(function, dict)
    )


def _read_part(value: object, path: str, role: str, model: ServedModel, terms: Terms) -> Part:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    kind = value.get("type")
    if kind == "text":
        return media.read_text(Fields(value, f"{path}."))
    if kind not in ("image_url", "video_url", "file"):
        raise invalid(f"{path}.type", "text, image_url, video_url or file is expected")
    if role != "user":
        raise invalid(path, "images, videos and files are allowed in user messages only")
    part = Fields(value, f"{path}.").mapping(kind)
    if part is None:
        raise missing(f"{path}.{kind}")
    if kind == "image_url":
        return media.read_image(part, part.values.get("url"), model, terms)
    if kind == "video_url":
        return media.read_video(part, part.values.get("url"), model, terms)
    return media.read_file(part, terms)


def shape_usage(usage: Usage) -> dict[str, Any]:
    """Usage as chat completions name it."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def shape_body(ask: Ask, answer: Answer, request_id: str) -> dict[str, Any]:
    """A whole chat completion. `system_fingerprint` names the engine whatever model id was asked for."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.finish_reason == "refusal":
        message |= {"content": None, "refusal": answer.text}
    elif answer.tool_name is not None:
        message |= {"content": None, "tool_calls": [_tool_call(answer, request_id)]}
    choice = {"index": 0, **_finish(answer), "logprobs": None, "message": message}
    body = _envelope("chat.completion", ask, request_id) | {"choices": [choice], "usage": shape_usage(answer.usage)}
    return body | page_words(answer)


def shape_stream(ask: Ask, answer: Answer, request_id: str, piece_size: int = PIECE_CHARACTERS) -> Iterator[Event]:
    """The events of a streamed chat completion, `[DONE]` included. The word boxes stand in the last choice's event."""
    envelope = _envelope("chat.completion.chunk", ask, request_id) | {"usage": None}

    def event(delta: dict[str, Any], finish: Mapping[str, Any] | None = None, **extra: Any) -> Event:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **(finish or {})}
        return Event(envelope | {"choices": [choice]} | extra, is_delta=finish is None and "role" not in delta)

    yield event({"role": "assistant", "content": ""})
    for piece in pieces(answer.reasoning, piece_size):
        yield event({"reasoning_content": piece})
    if answer.tool_name is not None and answer.finish_reason != "refusal":
        call = _tool_call(answer, request_id)
        head = {"index": 0, **call, "function": {"name": answer.tool_name, "arguments": ""}}
        yield event({"tool_calls": [head]})
        for piece in pieces(answer.text, piece_size):
            yield event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        name = "refusal" if answer.finish_reason == "refusal" else "content"
        for piece in pieces(answer.text, piece_size):
            yield event({name: piece})
    yield event({}, _finish(answer), **page_words(answer))
    if ask.streams_usage:
        yield Event(envelope | {"choices": [], "usage": shape_usage(answer.usage)})
    yield Event("[DONE]", is_closing=True)


def shape_error(refusal_body: Mapping[str, Any], number: int) -> Event:
    """An error inside a stream, as its event of that number."""
    return Event(refusal_body)


def _finish(answer: Answer) -> dict[str, Any]:
    """The end of a choice; an answer without a finish reason ends without one."""
    reason = _FINISHES.get(answer.finish_reason, answer.finish_reason)
    found = {"finish_reason": reason or None}
    return found | {"moderation_hit_type": "severe_violation"} if reason == "content_filter" else found


def _envelope(kind: str, ask: Ask, request_id: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": ask.model.id,
        "system_fingerprint": ENGINE,
        "service_tier": "default",
    }


def _tool_call(answer: Answer, request_id: str) -> dict[str, Any]:
    function = {"name": answer.tool_name, "arguments": answer.text}
    return {"id": f"call_{request_id}", "type": "function", "function": function}
