"""The messages protocol: `POST messages`."""

from __future__ import annotations

import json
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

# The gateway documents tools alone on this protocol; `output_config` is spoken for endpoints known to take it.
RUNGS: tuple[Rung, ...] = ("tool", "prompt")
# Both headers are Anthropic's own; the gateway takes either form of the key on every endpoint.
KEY_HEADER = "x-api-key"
HEADERS = {"anthropic-version": "2023-06-01"}
# A tool's input is an object here: of a cut one that is not streamed a server may make a whole one, and nothing shows.
HIDES_CUTS = True

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def encode(request: Request, profile: Profile, is_streamed: bool = False) -> HttpCall:
    """The call that carries `request`.

    Raises ConfigError for settings that exclude one another, for parameters this protocol has no field for, and for
    a video, which it has no part for.
    """
    common.check(request)
    common.refuse(request, "messages", ("frequency_penalty", "presence_penalty"))
    body: JsonObject = {
        "model": request.model,
        "max_tokens": common.max_tokens(request, profile),
        "system": request.system,
        "messages": [{"role": "user", "content": [_part(content) for content in request.contents]}],
    }
    body |= _form(request)
    stop = request.parameters.get("stop")
    if stop:
        if profile.quirks.stop_string:
            # The gateway translates this list into its own comma-separated string.
            common.comma_stop(stop)
        body["stop_sequences"] = list(stop)
    if profile.quirks.thinking and not request.parameters.get("enable_thinking"):
        body["thinking"] = {"type": "disabled"}
    body |= common.gateway_fields(request, profile)
    if is_streamed:
        body["stream"] = True
    return HttpCall("messages", body)


def _part(content: Content) -> JsonObject:
    if isinstance(content, Text):
        return {"type": "text", "text": content.text}
    if isinstance(content, Video):
        raise ConfigError(
            "the messages protocol has no video part: use --protocol chat or responses, or send frames (--video frames)"
        )
    source = {"type": "base64", "media_type": content.media_type.lower(), "data": common.to_base64(content)}
    if isinstance(content, Image):
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": content.name}


def _form(request: Request) -> JsonObject:
    """How the schema is handed over."""
    if request.rung == "json_schema":
        return {"output_config": {"format": {"type": "json_schema", "schema": request.schema}}}
    if request.rung == "tool":
        tool = {
            "name": request.schema_name,
            "description": common.TOOL_DESCRIPTION,
            "input_schema": request.schema,
        }
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": request.schema_name}}
    return {}


def decode(reply: HttpReply) -> Reply:
    """The answer in a response.

    Raises the fitting ModelError for an error status or an error object, ServerFailed for a body without an answer.
    """
    failures.check(reply)
    body = common.as_object(reply.body)
    reason = _FINISH.get(str(body.get("stop_reason")), "unknown")
    blocks = list(common.objects(body.get("content")))
    if not isinstance(body.get("content"), list) or (not blocks and reason not in ("length", "content_filter")):
        raise ServerFailed("the server sent a response without an answer in it", None, reply.status)
    request_id = reply.headers.get("x-request-id") or reply.headers.get("request-id") or body.get("id")
    return Reply(
        text=_text(blocks, reason),
        finish_reason=reason,
        usage=usage(body),
        model=str(body.get("model") or ""),
        request_id=str(request_id) if request_id else None,
        page_words=tuple(common.page_words(body.get("x_page_words"))),
    )


def _text(blocks: list[JsonObject], reason: FinishReason) -> str:
    """The tool's input when a tool was used, else the text."""
    for block in blocks:
        if block.get("type") == "tool_use" and block.get("input") is not None:
            text = common.as_json_text(block["input"])
            return _reopened(text) if reason == "length" and not isinstance(block["input"], str) else text
    return "".join(common.as_text(block.get("text")) for block in blocks if block.get("type") == "text")


def _reopened(text: str) -> str:
    """Arguments that were cut off and that the server closed to make an object of them, open at their end again.

    Their last entry looks whole and is not; as text that stops in the middle nobody takes it for that.
    """
    return text.rstrip("}]").removesuffix('"')


def usage(body: Json) -> Usage:
    """The tokens a body names; zeros when it names none.

    Cached tokens stand beside `input_tokens` in this protocol; they count for the price step, so they are added.
    """
    counts = common.as_object(common.as_object(body).get("usage"))
    cached = common.count(counts.get("cache_read_input_tokens"))
    details = common.as_object(counts.get("output_tokens_details"))
    return Usage(
        input_tokens=common.count(counts.get("input_tokens"))
        + cached
        + common.count(counts.get("cache_creation_input_tokens")),
        output_tokens=common.count(counts.get("output_tokens")),
        reasoning_tokens=common.count(details.get("reasoning_tokens") or details.get("thinking_tokens")),
        cached_tokens=cached,
    )


@dataclass(slots=True)
class Stream:
    """A streamed answer, put together again. It is whole with message_stop, or with an error."""

    is_closed: bool = False
    _message: JsonObject = field(default_factory=dict)
    _blocks: dict[int, JsonObject] = field(default_factory=dict)
    _pieces: dict[int, list[str]] = field(default_factory=dict)
    _error: JsonObject | None = None

    def feed(self, event: SseEvent) -> None:
        """Take one event. Raises Disconnected for one that is damaged, and for an end before a stop reason."""
        if self.is_closed or event.data.strip() == "[DONE]":
            return
        told = common.read_event(event.data)
        kind = str(told.get("type") or event.name)
        if kind == "error" or told.get("error"):
            self._error, self.is_closed = told if told.get("error") else {"error": told}, True
            return
        if "x_page_words" in told:
            self._message["x_page_words"] = told["x_page_words"]
        if kind == "message_start":
            self._message |= common.as_object(told.get("message"))
        elif kind == "content_block_start":
            self._blocks[_index(told)] = common.as_object(told.get("content_block"))
        elif kind == "content_block_delta":
            self._take(_index(told), common.as_object(told.get("delta")))
        elif kind == "message_delta":
            self._update(told)
        elif kind == "message_stop":
            if not self._message.get("stop_reason"):
                raise Disconnected("the stream ended before the answer did: it names no stop reason")
            self.is_closed = True

    def _take(self, index: int, delta: JsonObject) -> None:
        for kind, name in (("text_delta", "text"), ("input_json_delta", "partial_json")):
            if delta.get("type") == kind:
                self._pieces.setdefault(index, []).append(common.as_text(delta.get(name)))

    def _update(self, told: JsonObject) -> None:
        """The end of the message: counts named here replace those of its start."""
        changed = {name: value for name, value in common.as_object(told.get("delta")).items() if value is not None}
        counts = {name: value for name, value in common.as_object(told.get("usage")).items() if value is not None}
        self._message |= changed
        self._message["usage"] = common.as_object(self._message.get("usage")) | counts

    @property
    def usage(self) -> Usage:
        """Tokens named so far; zeros before the server named any."""
        return usage(self._message)

    def finish(self) -> JsonObject:
        """The body as it would have come in one piece. Raises Disconnected when the stream was not closed."""
        if self._error is not None:
            return self._error
        if not self.is_closed:
            raise Disconnected("the stream ended before the answer did: its closing event is missing")
        indexes = sorted(self._blocks.keys() | self._pieces.keys())
        return self._message | {"content": [self._block(index) for index in indexes]}

    def _block(self, index: int) -> JsonObject:
        block = self._blocks.get(index, {"type": "text"})
        if index not in self._pieces:
            return block
        text = common.join(self._pieces[index])
        if block.get("type") != "tool_use":
            return block | {"text": text}
        try:
            return block | {"input": json.loads(text)}
        except (ValueError, RecursionError):
            # Cut off: what is there of it is kept as it came.
            return block | {"input": text}


def _index(told: JsonObject) -> int:
    index = told.get("index")
    return index if isinstance(index, int) else 0
