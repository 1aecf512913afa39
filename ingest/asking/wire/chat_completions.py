"""The chat completions protocol: `POST chat/completions`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.asking.sse import SseEvent
from ingest.asking.wire import common, failures
from ingest.errors import Disconnected, ServerFailed
from ingest.profile import Profile
from ingest.types import (
    Content,
    FinishReason,
    HttpCall,
    HttpReply,
    Image,
    Json,
    JsonObject,
    Reply,
    Request,
    Rung,
    Text,
    Usage,
    Video,
)

RUNGS: tuple[Rung, ...] = ("json_schema", "tool", "prompt")
KEY_HEADER = "authorization"
HEADERS: dict[str, str] = {}

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


def encode(request: Request, profile: Profile, is_streamed: bool = False) -> HttpCall:
    """The call that carries `request`.

    Raises ConfigError for caching together with a schema, for a reasoning effort with thinking off, and for a stop
    word the gateway cannot be told.
    """
    common.check(request)
    body: JsonObject = {
        "model": request.model,
        "messages": [
            {"role": "system", "content": request.system},
            {"role": "user", "content": [_part(content, request, profile) for content in request.contents]},
        ],
    }
    body |= _form(request)
    body["max_tokens"] = common.max_tokens(request, profile)
    for name in ("frequency_penalty", "presence_penalty"):
        if request.parameters.get(name):
            body[name] = request.parameters[name]
    stop = request.parameters.get("stop")
    if stop:
        body["stop"] = common.comma_stop(stop) if profile.quirks.stop_string else list(stop)
    body |= common.gateway_fields(request, profile)
    if is_streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return HttpCall("chat/completions", body)


def _part(content: Content, request: Request, profile: Profile) -> JsonObject:
    if isinstance(content, Text):
        return {"type": "text", "text": content.text}
    url = common.data_url(content)
    if isinstance(content, Image):
        return {"type": "image_url", "image_url": {"url": url, "detail": common.detail_of(request, profile)}}
    if isinstance(content, Video):
        return {"type": "video_url", "video_url": {"url": url, "fps": common.fps_of(request, content)}}
    return {"type": "file", "file": {"file_data": url, "filename": content.name}}


def _form(request: Request) -> JsonObject:
    """How the schema is handed over."""
    if request.rung == "json_schema":
        named = {"name": request.schema_name, "schema": request.schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if request.rung == "tool":
        function = {
            "name": request.schema_name,
            "description": common.TOOL_DESCRIPTION,
            "parameters": request.schema,
            "strict": True,
        }
        return {
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": request.schema_name}},
        }
    return {}


def decode(reply: HttpReply) -> Reply:
    """The answer in a response.

    Raises the fitting ModelError for an error status or an error object, ServerFailed for a body without an answer.
    """
    failures.check(reply)
    body = common.as_object(reply.body)
    choice = common.first(body.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ServerFailed("the server sent a response without an answer in it", None, reply.status)
    request_id = reply.headers.get("x-request-id") or body.get("id")
    return Reply(
        text=_text(message),
        finish_reason=_finish_reason(choice, message),
        usage=usage(body),
        model=str(body.get("model") or ""),
        request_id=str(request_id) if request_id else None,
        page_words=tuple(common.page_words(body.get("x_page_words"))),
    )


def _text(message: JsonObject) -> str:
    """The tool's arguments when a tool was called, else the text."""
    function = common.first(message.get("tool_calls")).get("function") or message.get("function_call")
    if isinstance(function, dict) and function.get("arguments"):
        return common.as_json_text(function["arguments"])
    content = message.get("content")
    if isinstance(content, list):
        return "".join(common.as_text(part.get("text")) for part in common.objects(content))
    return common.as_text(content)


def _finish_reason(choice: JsonObject, message: JsonObject) -> FinishReason:
    if choice.get("moderation_hit_type") or message.get("refusal"):
        return "content_filter"
    return _FINISH.get(str(choice.get("finish_reason")), "unknown")


def usage(body: Json) -> Usage:
    """The tokens a body names; zeros when it names none."""
    counts = common.as_object(common.as_object(body).get("usage"))
    return Usage(
        input_tokens=common.count(counts.get("prompt_tokens")),
        output_tokens=common.count(counts.get("completion_tokens")),
        reasoning_tokens=common.count(
            common.as_object(counts.get("completion_tokens_details")).get("reasoning_tokens")
        ),
        cached_tokens=common.count(common.as_object(counts.get("prompt_tokens_details")).get("cached_tokens")),
    )


@dataclass(slots=True)
class Stream:
    """A streamed answer, put together again. It is whole with `[DONE]` after a finish reason, or with an error."""

    is_closed: bool = False
    _head: JsonObject = field(default_factory=dict)
    _choice: JsonObject = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _calls: dict[int, list[str]] = field(default_factory=dict)
    _error: JsonObject | None = None

    def feed(self, event: SseEvent) -> None:
        """Take one event. Raises Disconnected for one that is damaged, and for `[DONE]` before a finish reason."""
        if self.is_closed:
            return
        if event.data.strip() == "[DONE]":
            if not self._choice.get("finish_reason"):
                raise Disconnected("the stream ended before the answer did: it names no finish reason")
            self.is_closed = True
            return
        chunk = common.read_event(event.data)
        if chunk.get("error") or event.name == "error":
            self._error, self.is_closed = chunk if chunk.get("error") else {"error": chunk}, True
            return
        self._head |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in common.objects(chunk.get("choices")):
            if not choice.get("index"):
                self._take(choice)

    def _take(self, choice: JsonObject) -> None:
        self._choice |= {name: value for name, value in choice.items() if name != "delta" and value is not None}
        delta = common.as_object(choice.get("delta"))
        self._texts.append(common.as_text(delta.get("content")))
        self._refusals.append(common.as_text(delta.get("refusal")))
        for position, call in enumerate(common.objects(delta.get("tool_calls"))):
            index = call.get("index")
            pieces = self._calls.setdefault(index if isinstance(index, int) else position, [])
            pieces.append(common.as_text(common.as_object(call.get("function")).get("arguments")))

    @property
    def usage(self) -> Usage:
        """Tokens named so far; zeros before the server named any."""
        return usage(self._head)

    def finish(self) -> JsonObject:
        """The body as it would have come in one piece. Raises Disconnected when the stream was not closed."""
        if self._error is not None:
            return self._error
        if not self.is_closed:
            raise Disconnected("the stream ended before the answer did: its closing event is missing")
        message: JsonObject = {"role": "assistant", "content": common.join(self._texts)}
        if any(self._refusals):
            message["refusal"] = common.join(self._refusals)
        if self._calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"arguments": common.join(pieces)}}
                for _, pieces in sorted(self._calls.items())
            ]
        return self._head | {"choices": [self._choice | {"message": message}]}
