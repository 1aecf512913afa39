"""The protocol-neutral values a request becomes, and the terms it is read under.

A protocol (`ingest.local.protocols`) checks its own body and makes an `Ask` of it; everything after that, counting,
reading, answering and billing, is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.local.clips import VideoPart
from ingest.local.files import FilePart
from ingest.local.images import ImagePart
from ingest.local.numbers import RequestLimits, ServedModel


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text part of a message."""

    text: str


Part = TextPart | ImagePart | VideoPart | FilePart


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `tool_text` is the JSON of tool calls it carries, counted as text."""

    role: str
    parts: tuple[Part, ...]
    tool_text: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The form the answer must have: a schema for the text, or for the arguments of the tool `tool_name`.

    `is_optional` tools are called only when the words sent give them something to say (`tool_choice` auto).
    """

    schema: Mapping[str, Any]
    is_strict: bool
    tool_name: str | None = None
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request of any protocol.

    `max_tokens` bounds the visible answer, `max_total_tokens` the answer and its reasoning together; `image_detail` and
    `video_fps` are the request-wide levels, `form_text` what the schema and the tools add to the input, `stop` the
    words that end a plain answer, `is_raw` whether the gateway's rewriting of answers is off, `counts_cache_writes`
    whether usage has that field, `echo` what the body of the answer repeats of the request.
    """

    model: ServedModel
    messages: tuple[Message, ...]
    max_tokens: int
    max_total_tokens: int | None = None
    form: Form | None = None
    form_text: tuple[Any, ...] = ()
    image_detail: str | None = None
    video_fps: float | None = None
    is_thinking: bool = True
    is_raw: bool = False
    is_streamed: bool = False
    streams_usage: bool = False
    stop: tuple[str, ...] = ()
    counts_cache_writes: bool = False
    echo: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request is read under: the models answered to, the limits, and the habits of the imitated service.

    `lacks` names what the service refuses: "json_schema" (structured output), "tools"; `counts_video` lets video parts
    in (they are counted, not seen); `refuses_unknown_fields` is the upstream's habit on the responses endpoint,
    `counts_cache_writes` OpenAI's (a field of usage that the upstream leaves out).
    """

    models: Mapping[str, ServedModel]
    limits: RequestLimits
    lacks: frozenset[str] = frozenset()
    counts_video: bool = False
    refuses_unknown_fields: bool = True
    counts_cache_writes: bool = False
