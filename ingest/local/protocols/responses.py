"""Responses: the body of a request to an Ask, an Answer to a body or to the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.local.accounting import Usage
from ingest.local.answering import Answer
from ingest.local.contract import Ask, Form, Message, Part, Terms, TextPart
from ingest.local.fields import Fields
from ingest.local.numbers import ServedModel, load_table
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

_ROLES = {"system", "developer", "user", "assistant"}
_EFFORTS = {"minimal", "low", "medium", "high"}
_TEXTS = ("input_text", "output_text", "text")
_KNOWN = parameters.GATEWAY_FIELDS | {
    "model",
    "input",
    "instructions",
    "stream",
    "stream_options",
    "store",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "thinking",
    "reasoning",
    "caching",
    "text",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "include",
    "expire_at",
    "context_management",
}


def read_request(body: Mapping[str, Any], terms: Terms) -> Ask:
    """A responses body as a checked Ask; raises Refusal (400, or 404 for an unknown model)."""
    fields = Fields(body)
    model = parameters.find_model(fields, terms)
    parameters.refuse_unknown(fields, _KNOWN, terms)
    reasoning = fields.mapping("reasoning")
    effort = reasoning.choice("effort", _EFFORTS) if reasoning else None
    is_thinking = parameters.check_thinking(fields, effort=effort, effort_param="reasoning.effort")
    messages = _read_input(fields, model, terms)
    schema, told = _read_format(fields, terms)
    tools, forms = _read_tools(fields, terms)
    is_streamed = fields.boolean("stream") or False
    _check_keeping(fields, has_schema=schema is not None, is_streamed=is_streamed)
    parameters.check_ignored(fields, messages)
    choice, tool = _chosen_tool(fields, forms, messages)
    whole = fields.integer("max_output_tokens", 1, model.numbers.max_output_tokens)
    limit = whole or terms.limits.default_max_output_tokens
    return Ask(
        model=model,
        messages=messages,
        max_tokens=limit,
        max_total_tokens=limit,
        form=choose_form(schema, tool),
        form_text=(*tools, *told),
        image_detail=parameters.read_image_detail(fields, model),
        video_fps=parameters.read_video_fps(fields, model),
        is_thinking=is_thinking,
        is_raw=parameters.is_raw(fields),
        is_streamed=is_streamed,
        streams_usage=True,
        stop=parameters.read_stop(fields, "stop", terms, is_thinking=is_thinking),
        counts_cache_writes=terms.counts_cache_writes,
        echo=_echo(fields, tools, choice, whole),
    )


def _echo(fields: Fields, tools: tuple[Any, ...], choice: Any, max_output_tokens: int | None) -> dict[str, Any]:
    """What a response repeats of its request."""
    fixed = load_table("sampling")
    return {
        "instructions": fields.string("instructions"),
        "max_output_tokens": max_output_tokens,
        "metadata": None,
        "parallel_tool_calls": fields.boolean("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "store": fields.boolean("store") is not False,
        "temperature": fixed["temperature"],
        "text": fields.values.get("text") or {"format": {"type": "text"}},
        "tool_choice": choice,
        "tools": [{"parameters": None, "strict": None, **tool} for tool in tools],
        "top_p": fixed["top_p"],
    }


def _check_keeping(fields: Fields, *, has_schema: bool, is_streamed: bool) -> None:
    """Caching and stored answers: what excludes what upstream, and what is not kept here."""
    parameters.check_caching(fields, has_schema=has_schema, schema_param="text.format")
    fields.boolean("store")
    if fields.has("previous_response_id"):
        raise invalid("previous_response_id", "answers are not kept here; send the whole conversation")
    caching = fields.mapping("caching")
    if caching is None or caching.choice("type", {"enabled", "disabled"}) != "enabled":
        return
    for is_there, param in ((has_schema, "text.format"), (fields.has("instructions"), "instructions")):
        if is_there:
            raise invalid(param, "it cannot be combined with `caching`")
    if is_streamed:
        raise invalid("stream", "it cannot be combined with `caching`")


def _read_format(fields: Fields, terms: Terms) -> tuple[Form | None, tuple[Any, ...]]:
    text = fields.mapping("text")
    wanted = text.mapping("format") if text else None
    if wanted is None or not read_format_kind(wanted, terms):
        return None, ()
    told = {key: value for key, value in wanted.values.items() if key != "type"}
    return read_named_schema(wanted, terms), (told,)


def _read_tools(fields: Fields, terms: Terms) -> tuple[tuple[Any, ...], list[Form]]:
    tools = fields.array("tools") or []
    refuse_lacking_tools(tools, terms)
    forms = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise invalid(path, "an object is expected")
        one = Fields(tool, f"{path}.")
        if one.choice("type", {"function"}) is None:
            raise missing(f"{path}.type")
        forms.append(read_tool(one, "parameters", terms))
    return tuple(tools), forms


def _chosen_tool(fields: Fields, forms: list[Form], messages: tuple[Message, ...]) -> tuple[Any, Form | None]:
    """The choice as the response repeats it, and the tool."""
    choice = fields.values.get("tool_choice")
    if choice is None:
        choice = "auto"
    if isinstance(choice, str):
        return choice, choose_tool(choice, None, forms, messages)
    name = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "function" else None
    return choice, choose_tool("named", name, forms, messages)


def _read_input(fields: Fields, model: ServedModel, terms: Terms) -> tuple[Message, ...]:
    value = fields.values.get("input")
    if value in (None, "", []):
        raise missing("input")
    instructions = fields.string("instructions")
    head = (Message("system", (TextPart(instructions),)),) if instructions else ()
    if isinstance(value, str):
        return (*head, Message("user", (TextPart(value),)))
    if not isinstance(value, list):
        raise invalid("input", "a string or a list of items is expected")
    items = (_read_item(item, f"input[{index}]", model, terms) for index, item in enumerate(value))
    messages = tuple(item for item in items if item is not None)
    if not messages:
        raise invalid("input", "at least one message is expected")
    parameters.check_last_message(messages, "input")
    return (*head, *messages)


def _read_item(value: object, path: str, model: ServedModel, terms: Terms) -> Message | None:
    """A message, a tool call or its result; reasoning given back is taken in silence."""
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    kind = value.get("type", "message")
    if kind == "reasoning":
        return None
    if kind == "function_call":
        return Message("assistant", (), f"{value.get('name')} {value.get('arguments')}")
    if kind == "function_call_output":
        output = value.get("output")
        if isinstance(output, str):
            return Message("tool", (TextPart(output),))
        return Message("tool", _read_parts(output, f"{path}.output", "tool", model, terms))
    if kind != "message":
        raise invalid(f"{path}.type", "message, function_call, function_call_output or reasoning is expected")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, "InvalidArgumentError.UnknownRole", f"The role of {path} is not known.", f"{path}.role")
    content = value.get("content")
    if content is None:
        raise missing(f"{path}.content")
    if isinstance(content, str):
        return Message(role, (TextPart(content),))
    return Message(role, _read_parts(content, f"{path}.content", role, model, terms))


def _read_parts(content: object, path: str, role: str, model: ServedModel, terms: Terms) -> tuple[Part, ...]:
    if not isinstance(content, list) or not content:
        raise invalid(path, "a string or a list of parts is expected")
    return tuple(_read_part(part, f"{path}[{n}]", role, model, terms) for n, part in enumerate(content))


def _read_part(value: object, path: str, role: str, model: ServedModel, terms: Terms) -> Part:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    part = Fields(value, f"{path}.")
    kind = value.get("type")
    if kind in _TEXTS:
        return media.read_text(part)
    if kind == "refusal":
        return TextPart(str(value.get("refusal", "")))
    if kind not in ("input_image", "input_video", "input_file"):
        raise invalid(f"{path}.type", "input_text, input_image, input_video or input_file is expected")
    if role != "user":
        raise invalid(path, "images, videos and files are allowed in user messages only")
    if kind == "input_image":
        media.refuse_file_id(part)
        return media.read_image(part, part.string("image_url"), model, terms)
    if kind == "input_video":
        return media.read_video(part, part.values.get("video_url"), model, terms)
    return media.read_file(part, terms)


def shape_usage(usage: Usage, *, counts_cache_writes: bool = False) -> dict[str, Any]:
    """Usage as responses name it."""
    cached = {"cached_tokens": usage.cached_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": cached | ({"cache_write_tokens": 0} if counts_cache_writes else {}),
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def shape_body(ask: Ask, answer: Answer, request_id: str) -> dict[str, Any]:
    """A whole response."""
    usage = shape_usage(answer.usage, counts_cache_writes=ask.counts_cache_writes)
    body = _envelope(ask, request_id) | {"output": _output(answer, request_id), "usage": usage}
    return body | _end(answer) | page_words(answer)


def shape_stream(ask: Ask, answer: Answer, request_id: str, piece_size: int = PIECE_CHARACTERS) -> Iterator[Event]:
    """The events of a streamed response, numbered from 0, without the upstream's `[DONE]`."""
    whole = shape_body(ask, answer, request_id)
    begun = _envelope(ask, request_id)
    for number, (name, fields) in enumerate(_events(whole, begun, piece_size)):
        data = {"type": f"response.{name}", **fields, "sequence_number": number}
        yield Event(
            data,
            name=f"response.{name}",
            is_delta=name.endswith(".delta"),
            is_closing=name in ("completed", "incomplete", "failed"),
        )


_Named = tuple[str, dict[str, Any]]


def _events(whole: Mapping[str, Any], begun: Mapping[str, Any], piece_size: int) -> Iterator[_Named]:
    yield "created", {"response": begun}
    yield "in_progress", {"response": begun}
    for index, item in enumerate(whole["output"]):
        shape = {"reasoning": _reasoning_events, "message": _message_events, "function_call": _call_events}
        yield from shape[item["type"]](item, index, piece_size)
    if whole["status"] in ("completed", "incomplete"):
        yield whole["status"], {"response": whole}


def _reasoning_events(item: dict[str, Any], index: int, piece_size: int) -> Iterator[_Named]:
    place = {"item_id": item["id"], "output_index": index, "summary_index": 0}
    text = item["summary"][0]["text"]
    yield "output_item.added", {"output_index": index, "item": item | {"summary": [], "status": "in_progress"}}
    yield "reasoning_summary_part.added", place | {"part": {"type": "summary_text", "text": ""}}
    for piece in pieces(text, piece_size):
        yield "reasoning_summary_text.delta", place | {"delta": piece}
    yield "reasoning_summary_text.done", place | {"text": text}
    yield "reasoning_summary_part.done", place | {"part": item["summary"][0]}
    yield "output_item.done", {"output_index": index, "item": item}


def _message_events(item: dict[str, Any], index: int, piece_size: int) -> Iterator[_Named]:
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = item["content"][0]
    key = "refusal" if part["type"] == "refusal" else "text"
    name = "refusal" if key == "refusal" else "output_text"
    extra: dict[str, Any] = {} if key == "refusal" else {"logprobs": []}
    yield "output_item.added", {"output_index": index, "item": item | {"content": [], "status": "in_progress"}}
    yield "content_part.added", place | {"part": part | {key: ""}}
    for piece in pieces(part[key], piece_size):
        yield f"{name}.delta", place | {"delta": piece} | extra
    yield f"{name}.done", place | {key: part[key]} | extra
    yield "content_part.done", place | {"part": part}
    yield "output_item.done", {"output_index": index, "item": item}


def _call_events(item: dict[str, Any], index: int, piece_size: int) -> Iterator[_Named]:
    place = {"item_id": item["id"], "output_index": index}
    yield "output_item.added", {"output_index": index, "item": item | {"arguments": "", "status": "in_progress"}}
    for piece in pieces(item["arguments"], piece_size):
        yield "function_call_arguments.delta", place | {"delta": piece}
    done = {"name": item["name"], "arguments": item["arguments"]}
    yield "function_call_arguments.done", place | done
    yield "output_item.done", {"output_index": index, "item": item}


def shape_error(refusal_body: Mapping[str, Any], number: int) -> Event:
    """An error inside a stream, as its event of that number."""
    error = refusal_body["error"]
    data = {"type": "error", "code": error["code"], "message": error["message"], "param": error["param"]}
    return Event(data | {"sequence_number": number}, name="error")


def shape_failure(ask: Ask, refusal_body: Mapping[str, Any], request_id: str, number: int) -> Event:
    """The closing event of a response that failed while it was made; `number` is its place in the stream."""
    error = {"code": "server_error", "message": refusal_body["error"]["message"]}
    body = _envelope(ask, request_id) | {"status": "failed", "error": error}
    data = {"type": "response.failed", "response": body, "sequence_number": number}
    return Event(data, name="response.failed", is_closing=True)


def _envelope(ask: Ask, request_id: str) -> dict[str, Any]:
    """A response that has just begun."""
    return {
        "id": f"resp_{request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": ask.model.id,
        "system_fingerprint": ENGINE,
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "service_tier": "default",
        **ask.echo,
    }


def _end(answer: Answer) -> dict[str, Any]:
    """How it ended: completed, or incomplete with the reason. Without a finish reason it never ended."""
    if not answer.finish_reason:
        return {"status": "in_progress"}
    if answer.finish_reason in ("length", "content_filter"):
        reason = "max_output_tokens" if answer.finish_reason == "length" else "content_filter"
        return {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return {"status": "completed"}


def _output(answer: Answer, request_id: str) -> list[dict[str, Any]]:
    """Output items: the reasoning if there is any, then the message or the tool call."""
    status = "incomplete" if _end(answer)["status"] != "completed" else "completed"
    output: list[dict[str, Any]] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        output.append({"id": f"rs_{request_id}", "type": "reasoning", "summary": summary, "status": "completed"})
    if answer.tool_name is not None and answer.finish_reason != "refusal":
        call = {"id": f"fc_{request_id}", "type": "function_call", "call_id": f"call_{request_id}"}
        output.append(call | {"name": answer.tool_name, "arguments": answer.text, "status": status})
        return output
    part: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    if answer.finish_reason == "refusal":
        part = {"type": "refusal", "refusal": answer.text}
    message = {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "status": status}
    output.append(message | {"content": [part]})
    return output
