"""Finished answers in the shape of chat completions: one body, or the events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from ingest.local.accounting import Usage
from ingest.local.answering import Answer
from ingest.local.contract import Ask
from ingest.local.numbers import ServedModel

ENGINE = "local-ocr-rules"
_PIECE_CHARACTERS = 120
# Places kept of a word box, a ten-thousandth of the page: finer than OCR is.
_BOX_DIGITS = 4


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Usage as chat completions name it."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_body(ask: Ask, answer: Answer, request_id: str) -> dict[str, Any]:
    """A whole chat completion. `system_fingerprint` names the engine whatever model id was asked for."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_name is not None:
        message |= {"content": None, "tool_calls": [_tool_call(answer, request_id)]}
    choice = {"index": 0, "finish_reason": answer.finish_reason, "logprobs": None, "message": message}
    body = _envelope("chat.completion", ask, request_id) | {"choices": [choice], "usage": chat_usage(answer.usage)}
    return body | _page_words(answer)


def chat_stream(ask: Ask, answer: Answer, request_id: str) -> Iterator[bytes]:
    """The events of a streamed chat completion, `[DONE]` included. The word boxes stand in the last choice's event."""
    envelope = _envelope("chat.completion.chunk", ask, request_id) | ({"usage": None} if ask.streams_usage else {})

    def event(delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(envelope | {"choices": [choice]} | extra)

    yield event({"role": "assistant", "content": ""})
    for piece in _pieces(answer.reasoning):
        yield event({"reasoning_content": piece})
    if answer.tool_name is not None:
        call = _tool_call(answer, request_id)
        head = {"index": 0, **call, "function": {"name": answer.tool_name, "arguments": ""}}
        yield event({"tool_calls": [head]})
        for piece in _pieces(answer.text):
            yield event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for piece in _pieces(answer.text):
            yield event({"content": piece})
    yield event({}, answer.finish_reason, **_page_words(answer))
    if ask.streams_usage:
        yield sse(envelope | {"choices": [], "usage": chat_usage(answer.usage)})
    yield b"data: [DONE]\n\n"


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def model_card(model: ServedModel) -> dict[str, Any]:
    """A model as `GET /v1/models/{id}` describes it."""
    numbers = model.numbers
    rows = []
    low = 0
    for tier in numbers.tiers:
        prices = (tier.input_usd_per_million, tier.output_usd_per_million)
        rows.append(
            {
                "min_input_tokens": low,
                "max_input_tokens": min(tier.below_input_tokens - 1, numbers.window_tokens),
                "input_usd_per_million": "0" if model.is_free else str(prices[0]),
                "output_usd_per_million": "0" if model.is_free else str(prices[1]),
            }
        )
        low = tier.below_input_tokens
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "ingest-local",
        "engine": ENGINE,
        "context_window": numbers.window_tokens,
        "max_input_tokens": numbers.max_input_tokens,
        "max_output_tokens": numbers.max_output_tokens,
        "pricing_rows": rows,
        "supported_parameters": _SUPPORTED_PARAMETERS,
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
        "capabilities": {
            "structured_output": True,
            "tools": True,
            "thinking": True,
            "streaming": True,
            "image_detail": sorted(numbers.detail),
            "video": False,
        },
    }


_SUPPORTED_PARAMETERS = [
    "disable_formatting",
    "enable_caching",
    "enable_thinking",
    "image_detail",
    "max_tokens",
    "reasoning_effort",
    "response_format",
    "stop",
    "stream",
    "stream_options",
    "tool_choice",
    "tools",
]


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


def _page_words(answer: Answer) -> dict[str, Any]:
    if not answer.page_words:
        return {}
    pages = [
        {"page": number, "words": [[*(round(edge, _BOX_DIGITS) for edge in word[:4]), word[4]] for word in words]}
        for number, words in answer.page_words
    ]
    return {"x_page_words": pages}


def _pieces(text: str) -> Iterator[str]:
    yield from (text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS))
