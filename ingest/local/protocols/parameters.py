"""Request parameters that mean the same on every endpoint: the gateway's own fields, and the ones it ignores.

Every refusal is the API's: HTTP status, code, message and the parameter to blame. What the service ignores
(`temperature`, `top_p`, `seed`) is checked for its type and range, and ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ingest.local.contract import Message, Terms
from ingest.local.fields import Fields
from ingest.local.images import ImagePart
from ingest.local.numbers import ServedModel
from ingest.local.refusal import Refusal, invalid, missing

_DETAILS = {"low", "high", "xhigh"}
_EFFORTS = {"low", "medium", "high"}
_RAW_NAMES = ("disable_formatting", "raw", "passthrough", "raw_response")

# Fields the gateway adds to every endpoint.
GATEWAY_FIELDS = frozenset(
    {
        "enable_thinking",
        "reasoning_effort",
        "image_detail",
        "video_fps",
        "enable_caching",
        "enable_web_search",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        *_RAW_NAMES,
    }
)


def find_model(fields: Fields, terms: Terms) -> ServedModel:
    """The model the body names; raises a 404 Refusal for one the engine does not answer to."""
    name = fields.string("model")
    if not name:
        raise missing("model")
    if name not in terms.models:
        known = ", ".join(sorted(terms.models))
        raise Refusal(
            404, "model_not_found", f"The model `{name[:100]}` does not exist; this engine serves {known}.", "model"
        )
    return terms.models[name]


def check_thinking(
    fields: Fields, *, effort: str | None = None, effort_param: str = "reasoning_effort", kinds: Collection[str] = ()
) -> bool:
    """Whether thinking is on: by default it is. Switching it off and naming an effort is a contradiction.

    `effort` is one the protocol has its own field for (`effort_param`), `kinds` the words of `thinking.type` beside
    enabled and disabled. The effort "minimal" switches thinking off, as upstream does.
    """
    enabled = fields.boolean("enable_thinking")
    told = fields.choice("reasoning_effort", _EFFORTS)
    effort_param = effort_param if told is None else "reasoning_effort"
    effort = told or effort
    upstream = fields.mapping("thinking")
    kind = upstream.choice("type", {"enabled", "disabled", *kinds}) if upstream else None
    if upstream is not None and kind is None:
        raise missing("thinking.type")
    is_off = enabled is False or kind == "disabled"
    if is_off and effort in _EFFORTS:
        raise invalid(effort_param, f"`{effort}` cannot be combined with thinking switched off")
    return not is_off and effort != "minimal"


def check_caching(fields: Fields, *, has_schema: bool, schema_param: str) -> None:
    """Caching and a schema exclude each other; web search is not offered here."""
    if fields.boolean("enable_caching") and has_schema:
        raise invalid(schema_param, "`json_schema` cannot be combined with `enable_caching`")
    if fields.boolean("enable_web_search"):
        raise invalid("enable_web_search", "the local engine searches nothing outside the request")


def check_ignored(fields: Fields, messages: tuple[Message, ...]) -> None:
    """Checks the type of what the service ignores, and refuses what it does not support."""
    fields.number("temperature", 0, 2)
    fields.number("top_p", 0, 1)
    fields.boolean("parallel_tool_calls")
    fields.integer("n", 1, 1)
    if fields.boolean("logprobs") or fields.has("top_logprobs") or fields.has("logit_bias"):
        raise invalid("logprobs", "token probabilities are not supported by this model")
    has_image = any(isinstance(part, ImagePart) for message in messages for part in message.parts)
    for name in ("frequency_penalty", "presence_penalty"):
        if fields.number(name, -2, 2) and has_image:
            raise invalid(name, "penalties are not supported with images")


def read_image_detail(fields: Fields, model: ServedModel) -> str | None:
    """The request-wide level of detail."""
    return fields.choice("image_detail", _DETAILS & set(model.numbers.detail))


def read_video_fps(fields: Fields, model: ServedModel) -> float | None:
    """The request-wide rate at which video is sampled."""
    rule = model.numbers.video
    return fields.number("video_fps", rule.min_fps, rule.max_fps)


def is_raw(fields: Fields) -> bool:
    """Whether the gateway's rewriting of answers is switched off."""
    return True in [fields.boolean(name) for name in _RAW_NAMES]


def read_stop(fields: Fields, name: str, terms: Terms, *, is_thinking: bool) -> tuple[str, ...]:
    """Stop words: the gateway takes one comma-separated string, the service up to four strings."""
    value = fields.values.get(name)
    if value is None or value in ("", []):
        return ()
    words: Any = value.split(",") if isinstance(value, str) else value
    most = terms.limits.max_stop_words
    if not isinstance(words, list) or len(words) > most or not all(isinstance(word, str) and word for word in words):
        raise invalid(name, f"one to {most} words are expected")
    if is_thinking:
        raise invalid(name, "it is not supported while thinking; send `enable_thinking`: false")
    return tuple(words)


def check_last_message(messages: tuple[Message, ...], param: str) -> None:
    """An assistant's last message asks to be continued, which this model does not do."""
    if messages[-1].role == "assistant":
        raise invalid(param, "the last message is the assistant's; this model does not continue a given answer")


def refuse_unknown(fields: Fields, known: frozenset[str], terms: Terms) -> None:
    """Raises a 400 Refusal for a field the endpoint does not know, where the service has that habit."""
    if not terms.refuses_unknown_fields:
        return
    for name in fields.values:
        if name not in known:
            raise Refusal(400, "InvalidParameter", f"json: unknown field `{name[:100]}`.", name[:100])
