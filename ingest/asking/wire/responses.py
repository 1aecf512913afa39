"""The responses protocol: `POST responses`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.asking.sse import SseEvent
from ingest.asking.wire import common, failures
from ingest.errors import ConfigError, Disconnected, ServerFailed
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

_CLOSING = ("response.completed", "response.incomplete", "response.failed")


def encode(request: Request, profile: Profile, is_streamed: bool = False) -> HttpCall:
    """The call that carries `request`.

    Nothing is stored on the server (`store`), which it would otherwise do. Raises ConfigError for settings that
    exclude one another, and for parameters this protocol has no field for.
    """
    common.check(request)
    common.refuse(request, "responses", ("frequency_penalty", "presence_penalty"))
    contents = [_part(content, request, profile) for content in request.contents]
    body: JsonObject = {
        "model": request.model,
        # A message of the system role replaces the gateway's own; `instructions` is not said to.
        "input": [
            {"type": "message", "role": "system", "content": request.system},
            {"type": "message", "role": "user", "content": contents},
        ],
        "store": False,
    }
    body |= _form(request)
    body["max_output_tokens"] = common.max_tokens(request, profile)
    effort = request.parameters.get("reasoning_effort")
    if effort:
        body["reasoning"] = {"effort": effort}
    stop = request.parameters.get("stop")
    if stop and not profile.quirks.stop_string:
        raise ConfigError("the responses protocol has no stop: leave it out, or use --protocol chat")
    if stop:
        body["stop"] = common.comma_stop(stop)
    body |= common.gateway_fields(request, profile)
    if is_streamed:
        body["stream"] = True
    return HttpCall("responses", body)


def _part(content: Content, request: Request, profile: Profile) -> JsonObject:
    if isinstance(content, Text):
        return {"type": "input_text", "text": content.text}
    url = common.data_url(content)
    if isinstance(content, Image):
        return {"type": "input_image", "image_url": url, "detail": common.detail_of(request, profile)}
    if isinstance(content, Video):
        return {"type": "input_video", "video_url": url, "fps": common.fps_of(request, content)}
    return {"type": "input_file", "file_data": url, "filename": content.name}


def _form(request: Request) -> JsonObject:
    """How the schema is handed over: flat, without the inner object that chat completions have."""
    if request.rung == "json_schema":
        named = {"type": "json_schema", "name": request.schema_name, "schema": request.schema, "strict": True}
        return {"text": {"format": named}}
    if request.rung == "tool":
        tool = {
            "type": "function",
            "name": request.schema_name,
            "description": common.TOOL_DESCRIPTION,
            "parameters": request.schema,
            "strict": True,
        }
        return {"tools": [tool], "tool_choice": {"type": "function", "name": request.schema_name}}
    return {}


def decode(reply: HttpReply) -> Reply:
    """The answer in a response.

    Raises the fitting ModelError for an error status, an error object or a failed response, ServerFailed for a body
    without an answer.
    """
    failures.check(reply)
    body = common.as_object(reply.body)
    status = body.get("status")
    items = list(common.objects(body.get("output")))
    if not isinstance(body.get("output"), list) or status in ("failed", "cancelled", "in_progress", "queued"):
        raise ServerFailed("the server sent a response without an answer in it", None, reply.status)
    reason = _finish_reason(body, items)
    if not items and reason not in ("length", "content_filter"):
        raise ServerFailed("the server sent a response without an answer in it", None, reply.status)
    request_id = reply.headers.get("x-request-id") or body.get("id")
    return Reply(
        text=_text(items),
        finish_reason=reason,
        usage=usage(body),
        model=str(body.get("model") or ""),
        request_id=str(request_id) if request_id else None,
        page_words=tuple(common.page_words(body.get("x_page_words"))),
    )


def _text(items: list[JsonObject]) -> str:
    """The tool's arguments when a tool was called, else the text of the messages."""
    for item in items:
        if item.get("type") == "function_call" and item.get("arguments"):
            return common.as_json_text(item["arguments"])
    messages = [item for item in items if item.get("type") == "message"]
    return "".join(
        common.as_text(part.get("text"))
        for message in messages
        for part in common.objects(message.get("content"))
        if part.get("type") in ("output_text", "text")
    )


def _finish_reason(body: JsonObject, items: list[JsonObject]) -> FinishReason:
    parts = [part for item in items for part in common.objects(item.get("content"))]
    details = common.as_object(body.get("incomplete_details"))
    if any(part.get("type") == "refusal" for part in parts):
        return "content_filter"
    if details.get("reason") == "content_filter" or details.get("content_filter"):
        return "content_filter"
    # The reasons are not enumerated: whatever else left an answer incomplete has cut it off.
    if body.get("status") == "incomplete" or details.get("reason"):
        return "length"
    if body.get("status") != "completed":
        return "unknown"
    return "tool_calls" if any(item.get("type") == "function_call" for item in items) else "stop"


def usage(body: Json) -> Usage:
    """The tokens a body names; zeros when it names none."""
    counts = common.as_object(common.as_object(body).get("usage"))
    return Usage(
        input_tokens=common.count(counts.get("input_tokens")),
        output_tokens=common.count(counts.get("output_tokens")),
        reasoning_tokens=common.count(common.as_object(counts.get("output_tokens_details")).get("reasoning_tokens")),
        cached_tokens=common.count(common.as_object(counts.get("input_tokens_details")).get("cached_tokens")),
    )


@dataclass(slots=True)
class Stream:
    """A streamed answer, put together again. It is whole with response.completed, .incomplete, .failed or an error."""

    is_closed: bool = False
    _body: JsonObject = field(default_factory=dict)
    _extra: JsonObject = field(default_factory=dict)
    _items: dict[int, JsonObject] = field(default_factory=dict)
    _pieces: dict[int, list[str]] = field(default_factory=dict)

    def feed(self, event: SseEvent) -> None:
        """Take one event. Raises Disconnected for one that is damaged, and for `[DONE]` before the closing event."""
        if self.is_closed:
            return
        if event.data.strip() == "[DONE]":
            raise Disconnected("the stream ended before the answer did: its closing event is missing")
        told = common.read_event(event.data)
        kind = str(told.get("type") or event.name)
        if kind == "error" or (told.get("error") and "response" not in told):
            self._body, self.is_closed = told if told.get("error") else {"error": told}, True
            return
        if "x_page_words" in told:
            self._extra["x_page_words"] = told["x_page_words"]
        if isinstance(told.get("response"), dict):
            self._body = told["response"]
        self._take(kind, told)
        if kind in _CLOSING:
            self._close(kind)

    def _take(self, kind: str, told: JsonObject) -> None:
        index = told.get("output_index")
        index = index if isinstance(index, int) else 0
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._items[index] = common.as_object(told.get("item"))
        elif kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            self._pieces.setdefault(index, []).append(common.as_text(told.get("delta")))

    def _close(self, kind: str) -> None:
        """A closing event carries the whole response; where its output is left out, the deltas stand in for it."""
        body = self._extra | self._body
        body["status"] = kind.removeprefix("response.")
        if not body.get("output"):
            body["output"] = [self._item(index) for index in sorted(self._items.keys() | self._pieces.keys())]
        self._body, self.is_closed = body, True

    def _item(self, index: int) -> JsonObject:
        item = self._items.get(index, {"type": "message"})
        if index not in self._pieces:
            return item
        text = common.join(self._pieces[index])
        if item.get("type") == "function_call":
            return item | {"arguments": text}
        return item | {"content": [{"type": "output_text", "text": text}]}

    @property
    def usage(self) -> Usage:
        """Tokens named so far; zeros before the server named any."""
        return usage(self._body)

    def finish(self) -> JsonObject:
        """The body as it would have come in one piece. Raises Disconnected when the stream was not closed."""
        if not self.is_closed:
            raise Disconnected("the stream ended before the answer did: its closing event is missing")
        return self._body
