"""Answers as each protocol writes them, whole and as a stream of events, made from the protocols' own documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]
Event = tuple[str, Body | str]

USAGE = {"input": 100, "output": 20, "reasoning": 5, "cached": 30}
"""Tokens every sample names; `input` includes the cached ones, `output` the reasoning."""


def body(protocol: str, text: str, *, tool: bool = False, reason: str = "stop") -> Body:
    """A whole answer. `reason` is stop, length or content_filter."""
    return {"chat": _chat, "responses": _responses, "messages": _messages}[protocol](text, tool, reason)


def events(protocol: str, text: str, *, tool: bool = False, reason: str = "stop", pieces: int = 7) -> list[Event]:
    """The same answer as events, the text in at most `pieces` pieces."""
    size = max(1, -(-len(text) // pieces))
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    make = {"chat": _chat_events, "responses": _responses_events, "messages": _messages_events}[protocol]
    return list(make(body(protocol, text, tool=tool, reason=reason), cut, tool))


def closing(protocol: str) -> int:
    """How many events at the end of a stream are needed to know that it is whole."""
    return {"chat": 1, "responses": 1, "messages": 1}[protocol]


def error_event(protocol: str, code: str, message: str = "no") -> Event:
    """An error inside a stream that began well."""
    error = {"code": code, "message": message}
    if protocol == "messages":
        return "error", {"type": "error", "error": {"type": code, "message": message}}
    if protocol == "responses":
        return "error", {"type": "error", "sequence_number": 9, "param": None} | error
    return "", {"error": error}


def error_body(protocol: str, code: str, message: str = "no") -> Body:
    """The body of a failed call."""
    if protocol == "messages":
        return {"type": "error", "error": {"type": code, "message": message}, "request_id": "req-1"}
    return {"error": {"code": code, "message": message, "type": "", "param": None}}


def to_bytes(stream: list[Event], newline: str = "\n") -> bytes:
    """Events as they stand on the wire."""
    blocks = []
    for name, data in stream:
        lines = [f"event: {name}"] if name else []
        lines.append(f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}")
        blocks.append(newline.join([*lines, "", ""]))
    return "".join(blocks).encode()


# --- chat completions ---


def _chat(text: str, tool: bool, reason: str) -> Body:
    message: Body = {"role": "assistant", "content": text, "reasoning_content": "Let me see {"}
    if tool:
        call = {"id": "call_1", "type": "function", "function": {"name": "invoice", "arguments": text}}
        message |= {"content": None, "tool_calls": [call]}
    finish = "tool_calls" if tool and reason == "stop" else reason
    return {
        "id": "id-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "upstream-id",
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": None, "message": message}],
        "usage": _chat_usage(),
        "service_tier": "default",
    }


def _chat_usage() -> Body:
    return {
        "prompt_tokens": USAGE["input"],
        "completion_tokens": USAGE["output"],
        "total_tokens": USAGE["input"] + USAGE["output"],
        "prompt_tokens_details": {"cached_tokens": USAGE["cached"]},
        "completion_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
    }


def _chat_events(whole: Body, cut: list[str], tool: bool) -> Iterator[Event]:
    def chunk(choices: list[Body], **more: Any) -> Event:
        head = {"id": "id-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream-id", "usage": None}
        return "", head | {"choices": choices} | more

    def delta(finish: str | None = None, **fields: Any) -> Event:
        return chunk([{"index": 0, "delta": fields, "finish_reason": finish, "logprobs": None}])

    yield delta(role="assistant", content="")
    yield delta(reasoning_content="Let me ")
    yield delta(reasoning_content="see {")
    if tool:
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "invoice", "arguments": ""}}
        yield delta(tool_calls=[head])
        for piece in cut:
            yield delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
    else:
        for piece in cut:
            yield delta(content=piece)
    yield delta(whole["choices"][0]["finish_reason"])
    yield chunk([], usage=whole["usage"])
    yield "", "[DONE]"


# --- responses ---


def _responses(text: str, tool: bool, reason: str) -> Body:
    status = "completed" if reason == "stop" else "incomplete"
    thought = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me see {"}]}
    return {
        "id": "id-1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": "upstream-id",
        "output": [thought, _responses_item(text, tool, status)],
        "usage": {
            "input_tokens": USAGE["input"],
            "input_tokens_details": {"cached_tokens": USAGE["cached"]},
            "output_tokens": USAGE["output"],
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
            "total_tokens": USAGE["input"] + USAGE["output"],
        },
        "error": None,
        "incomplete_details": {
            "stop": None,
            "length": {"reason": "max_output_tokens"},
            "content_filter": {"reason": "content_filter"},
        }[reason],
    }


def _responses_item(text: str, tool: bool, status: str) -> Body:
    if tool:
        return {
            "id": "fc_1",
            "type": "function_call",
            "status": status,
            "call_id": "call_1",
            "name": "invoice",
            "arguments": text,
        }
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}


def _responses_events(whole: Body, cut: list[str], tool: bool) -> Iterator[Event]:
    def told(kind: str, **fields: Any) -> Event:
        return kind, {"type": kind} | fields

    started = whole | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield told("response.created", response=started)
    yield told("response.in_progress", response=started)
    thought, item = whole["output"]
    yield told("response.output_item.added", output_index=0, item=thought | {"summary": []})
    yield told("response.reasoning_summary_part.added", output_index=0, summary_index=0, part={"type": "summary_text"})
    yield told("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Let me see {")
    yield told("response.reasoning_summary_text.done", output_index=0, summary_index=0, text="Let me see {")
    yield told("response.output_item.done", output_index=0, item=thought)
    empty = item | {"status": "in_progress"} | ({"arguments": ""} if tool else {"content": []})
    yield told("response.output_item.added", output_index=1, item=empty)
    kind = "response.function_call_arguments" if tool else "response.output_text"
    for piece in cut:
        yield told(f"{kind}.delta", output_index=1, content_index=0, delta=piece)
    yield told(f"{kind}.done", output_index=1, content_index=0)
    yield told("response.output_item.done", output_index=1, item=item)
    yield told(f"response.{whole['status']}", response=whole)


# --- messages ---


def _messages(text: str, tool: bool, reason: str) -> Body:
    block: Body = {"type": "text", "text": text}
    if tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": "invoice", "input": _json_or_text(text)}
    stop = {"stop": "tool_use" if tool else "end_turn", "length": "max_tokens", "content_filter": "refusal"}[reason]
    return {
        "id": "id-1",
        "type": "message",
        "role": "assistant",
        "model": "upstream-id",
        "content": [{"type": "thinking", "thinking": "Let me see {", "signature": "s"}, block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": USAGE["input"] - USAGE["cached"],
            "cache_read_input_tokens": USAGE["cached"],
            "cache_creation_input_tokens": 0,
            "output_tokens": USAGE["output"],
            "output_tokens_details": {"reasoning_tokens": USAGE["reasoning"]},
        },
    }


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _messages_events(whole: Body, cut: list[str], tool: bool) -> Iterator[Event]:
    def told(kind: str, **fields: Any) -> Event:
        return kind, {"type": kind} | fields

    first = {"input_tokens": whole["usage"]["input_tokens"], "output_tokens": 1}
    yield told("message_start", message=whole | {"content": [], "stop_reason": None, "usage": first})
    yield told("ping")
    thought, block = whole["content"]
    yield told("content_block_start", index=0, content_block=thought | {"thinking": ""})
    yield told("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Let me see {"})
    yield told("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "s"})
    yield told("content_block_stop", index=0)
    empty = block | ({"input": {}} if tool else {"text": ""})
    yield told("content_block_start", index=1, content_block=empty)
    for piece in cut:
        delta = {"type": "input_json_delta", "partial_json": piece} if tool else {"type": "text_delta", "text": piece}
        yield told("content_block_delta", index=1, delta=delta)
        yield told("ping")
    yield told("content_block_stop", index=1)
    counts = {name: value for name, value in whole["usage"].items() if name != "input_tokens"}
    yield told("message_delta", delta={"stop_reason": whole["stop_reason"], "stop_sequence": None}, usage=counts)
    yield told("message_stop")
