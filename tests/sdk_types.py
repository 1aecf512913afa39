"""Request bodies against the type models of the `openai` and `anthropic` SDKs, an opinion that is not ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter

GATEWAY_FIELDS = {
    "enable_thinking",
    "reasoning_effort",
    "image_detail",
    "video_fps",
    "enable_web_search",
    "enable_caching",
    "disable_formatting",
    "stop",
}
"""What the gateway documents beside the protocols' own fields; with an SDK they go in `extra_body`."""


def _models(protocol: str) -> tuple[Any, ...]:
    if protocol == "chat":
        from openai.types.chat import completion_create_params as chat

        return chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming
    if protocol == "responses":
        from openai.types.responses import response_create_params as responses

        return responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming
    from anthropic.types import message_create_params as messages

    return messages.MessageCreateParamsNonStreaming, messages.MessageCreateParamsStreaming


@cache
def _adapter(protocol: str, is_streamed: bool) -> TypeAdapter[Any]:
    # Kept: values are checked as they are read, and an adapter let go of takes its definitions with it.
    return TypeAdapter(_models(protocol)[is_streamed])


def check_body(protocol: str, body: Mapping[str, Any]) -> set[str]:
    """Validate a body and return its top-level fields that the SDK does not know. Raises ValidationError."""
    model = _models(protocol)[bool(body.get("stream"))]
    _walk(_adapter(protocol, bool(body.get("stream"))).validate_python(body))
    return set(body) - set(get_type_hints(model))


def _walk(value: Any) -> None:
    """Pydantic checks an `Iterable` only as it is read: read all of it."""
    if isinstance(value, Mapping):
        for child in value.values():
            _walk(child)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for child in value:
            _walk(child)
