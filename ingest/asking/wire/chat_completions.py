"""The chat completions protocol: `POST chat/completions`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from ingest.asking.wire.failures import check
from ingest.errors import ConfigError, ServerFailed
from ingest.profile import Profile
from ingest.types import (
    Content,
    FinishReason,
    HttpCall,
    HttpReply,
    Image,
    Json,
    JsonObject,
    PageWords,
    Reply,
    Request,
    Text,
    Usage,
    Video,
    Word,
)

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
# Parameters this module places itself, or leaves out, according to the profile's quirks.
_PLACED = frozenset({"max_tokens", "enable_thinking", "reasoning_effort", "image_detail", "enable_caching"})


def encode(request: Request, profile: Profile) -> HttpCall:
    """The call that carries `request`.

    Raises ConfigError for caching together with a schema, and for a reasoning effort with thinking off.
    """
    detail = str(request.parameters.get("image_detail") or profile.default_detail)
    body: JsonObject = {
        "model": request.model,
        "messages": [
            {"role": "system", "content": request.system},
            {"role": "user", "content": [_part(content, detail) for content in request.contents]},
        ],
    }
    body |= _form(request)
    body |= _parameters(request, profile, detail)
    return HttpCall("chat/completions", body)


def _part(content: Content, detail: str) -> JsonObject:
    if isinstance(content, Text):
        return {"type": "text", "text": content.text}
    url = f"data:{content.media_type.lower()};base64,{base64.b64encode(content.data).decode('ascii')}"
    if isinstance(content, Image):
        return {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    if isinstance(content, Video):
        return {"type": "video_url", "video_url": {"url": url, "fps": content.fps}}
    return {"type": "file", "file": {"file_data": url, "filename": content.name}}


def _form(request: Request) -> JsonObject:
    """How the schema is handed over."""
    if request.rung == "json_schema":
        named = {"name": request.schema_name, "schema": request.schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if request.rung == "tool":
        function = {
            "name": request.schema_name,
            "description": "Hands over the data extracted from the document.",
            "parameters": request.schema,
            "strict": True,
        }
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": request.schema_name}},
        }
    return {}


def _parameters(request: Request, profile: Profile, detail: str) -> JsonObject:
    given, quirks = request.parameters, profile.quirks
    if given.get("enable_caching") and request.schema:
        raise ConfigError(
            "enable_caching cannot be used with a schema: the service refuses the combination; leave it out"
        )
    sent: JsonObject = {name: value for name, value in given.items() if name not in _PLACED and value is not None}
    sent["max_tokens"] = given.get("max_tokens") or profile.default_output_tokens
    if quirks.thinking:
        sent |= _thinking(given)
    # Whether the top-level value or the part's own wins is not documented: both are sent, and equal.
    if quirks.image_detail and any(isinstance(content, Image) for content in request.contents):
        sent["image_detail"] = detail
    if quirks.disable_formatting:
        sent["disable_formatting"] = True
    return sent


def _thinking(given: JsonObject) -> JsonObject:
    is_on, effort = bool(given.get("enable_thinking", False)), given.get("reasoning_effort")
    if effort and not is_on:
        raise ConfigError(f"reasoning_effort {effort} needs enable_thinking: the service refuses one without the other")
    return {"enable_thinking": is_on, "reasoning_effort": effort} if effort else {"enable_thinking": is_on}


def decode(reply: HttpReply) -> Reply:
    """The answer in a response.

    Raises the fitting ModelError for an error status or an error object, ServerFailed for a body without an answer.
    """
    check(reply)
    body = reply.body if isinstance(reply.body, dict) else {}
    choice = _first(body.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ServerFailed("the server sent a response without an answer in it", None, reply.status)
    request_id = reply.headers.get("x-request-id") or body.get("id")
    return Reply(
        text=_text(message),
        finish_reason=_finish_reason(choice, message),
        usage=_usage(body.get("usage")),
        model=str(body.get("model") or ""),
        request_id=str(request_id) if request_id else None,
        page_words=tuple(_page_words(body.get("x_page_words"))),
    )


def _first(items: Json) -> JsonObject:
    return items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}


def _text(message: JsonObject) -> str:
    """The tool's arguments when a tool was called, else the text."""
    function = _first(message.get("tool_calls")).get("function") or message.get("function_call")
    if isinstance(function, dict) and function.get("arguments"):
        arguments = function["arguments"]
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _finish_reason(choice: JsonObject, message: JsonObject) -> FinishReason:
    if choice.get("moderation_hit_type") or message.get("refusal"):
        return "content_filter"
    return _FINISH.get(str(choice.get("finish_reason")), "unknown")


def _usage(usage: Json) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
    )


def _detail(usage: JsonObject, group: str, name: str) -> int:
    details = usage.get(group)
    return _count(details.get(name)) if isinstance(details, dict) else 0


def _count(value: Json) -> int:
    """Tokens a server names; what no server can have counted is none."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e12 else 0


def _page_words(pages: Json) -> Iterable[PageWords]:
    """Words the local engine read from images; entries of another form are passed over."""
    for page in pages if isinstance(pages, list) else ():
        if isinstance(page, dict) and isinstance(page.get("page"), int) and isinstance(page.get("words"), list):
            yield PageWords(page["page"], tuple(word for entry in page["words"] for word in _word(entry)))


def _word(entry: Json) -> Iterable[Word]:
    if not isinstance(entry, list) or len(entry) != 5:
        return
    *box, text = entry
    if isinstance(text, str) and all(isinstance(side, int | float) for side in box):
        x0, y0, x1, y1 = (float(side) for side in box)
        yield Word(text, (x0, y0, x1, y1))
