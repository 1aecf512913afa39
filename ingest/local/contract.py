"""Request checks of chat completions, and the protocol-neutral value a request becomes.

Every refusal is the API's: HTTP status, code, message and the parameter to blame. What the service ignores
(`temperature`, `top_p`, `seed`, unknown fields) is checked for its type where it has one, and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ingest.local.dialect import check_schema
from ingest.local.fields import Fields
from ingest.local.images import ImagePart, decode_data_url, inspect_image
from ingest.local.numbers import RequestLimits, ServedModel, load_limits
from ingest.local.refusal import Refusal, invalid, missing

_ROLES = {"system", "developer", "user", "assistant", "tool"}
_DETAILS = {"low", "high", "xhigh"}
_EFFORTS = {"low", "medium", "high"}
_RAW_NAMES = ("disable_formatting", "raw", "passthrough", "raw_response")


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text part of a message."""

    text: str


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `tool_text` is the JSON of tool calls it carries, counted as text."""

    role: str
    parts: tuple[Part, ...]
    tool_text: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The form the answer must have: a schema for the text, or for the arguments of the tool `tool_name`."""

    schema: Mapping[str, Any]
    is_strict: bool
    tool_name: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request of any protocol.

    `max_tokens` bounds the visible answer, `image_detail` is the request-wide level of detail, `form_text` what the
    schema and the tools add to the input, `stop` the words that end a plain answer, `is_raw` whether the gateway's
    rewriting of answers is off.
    """

    model: ServedModel
    messages: tuple[Message, ...]
    max_tokens: int
    form: Form | None = None
    form_text: tuple[Any, ...] = ()
    image_detail: str | None = None
    is_thinking: bool = True
    is_raw: bool = False
    is_streamed: bool = False
    streams_usage: bool = False
    stop: tuple[str, ...] = ()


def read_chat(body: Mapping[str, Any], models: Mapping[str, ServedModel]) -> Ask:
    """A chat-completions body as a checked Ask; raises Refusal (400, or 404 for an unknown model)."""
    fields = Fields(body)
    limits = load_limits()
    model = find_model(fields, models)
    is_thinking = _check_thinking(fields)
    _check_caching(fields)
    form, form_text = _read_form(fields, limits)
    messages = _read_messages(fields, model, limits)
    has_image = any(isinstance(part, ImagePart) for message in messages for part in message.parts)
    _check_ignored(fields, has_image=has_image)
    is_streamed = fields.boolean("stream") or False
    return Ask(
        model=model,
        messages=messages,
        max_tokens=_read_max_tokens(fields, model, limits),
        form=form,
        form_text=form_text,
        image_detail=fields.choice("image_detail", _DETAILS & set(model.numbers.detail)),
        is_thinking=is_thinking,
        is_raw=True in [fields.boolean(name) for name in _RAW_NAMES],
        is_streamed=is_streamed,
        streams_usage=_streams_usage(fields, is_streamed),
        stop=_read_stop(fields, is_thinking),
    )


def find_model(fields: Fields, models: Mapping[str, ServedModel]) -> ServedModel:
    """The model the body names; raises a 404 Refusal for one the engine does not answer to."""
    name = fields.string("model")
    if not name:
        raise missing("model")
    if name not in models:
        known = ", ".join(sorted(models))
        raise Refusal(
            404, "model_not_found", f"The model `{name[:100]}` does not exist; this engine serves {known}.", "model"
        )
    return models[name]


def _read_max_tokens(fields: Fields, model: ServedModel, limits: RequestLimits) -> int:
    high = model.numbers.max_output_tokens
    visible = fields.integer("max_tokens", 1, high)
    whole = fields.integer("max_completion_tokens", 1, high)
    if visible is not None and whole is not None:
        raise invalid("max_completion_tokens", "it cannot be set together with `max_tokens`")
    return visible or whole or limits.default_max_tokens


def _check_thinking(fields: Fields) -> bool:
    """Whether thinking is on: by default it is. Switching it off and naming an effort is a contradiction."""
    enabled = fields.boolean("enable_thinking")
    effort = fields.choice("reasoning_effort", _EFFORTS)
    upstream = fields.mapping("thinking")
    kind = upstream.choice("type", {"enabled", "disabled"}) if upstream else None
    is_off = enabled is False or kind == "disabled"
    if is_off and effort is not None:
        raise invalid("reasoning_effort", f"`{effort}` cannot be combined with thinking switched off")
    return not is_off


def _check_caching(fields: Fields) -> None:
    caching = fields.boolean("enable_caching")
    response_format = fields.values.get("response_format")
    if caching and isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        raise invalid("response_format", "`json_schema` cannot be combined with `enable_caching`")
    if fields.boolean("enable_web_search"):
        raise invalid("enable_web_search", "the local engine searches nothing outside the request")


def _check_ignored(fields: Fields, *, has_image: bool) -> None:
    fields.number("temperature", 0, 2)
    fields.number("top_p", 0, 1)
    fields.number("video_fps", 0.2, 5)
    fields.boolean("parallel_tool_calls")
    fields.integer("n", 1, 1)
    if fields.boolean("logprobs") or fields.has("top_logprobs") or fields.has("logit_bias"):
        raise invalid("logprobs", "token probabilities are not supported by this model")
    for name in ("frequency_penalty", "presence_penalty"):
        if fields.number(name, -2, 2) and has_image:
            raise invalid(name, "penalties are not supported with images")


def _streams_usage(fields: Fields, is_streamed: bool) -> bool:
    options = fields.mapping("stream_options")
    if options is None:
        return False
    if not is_streamed:
        raise invalid("stream_options", "it needs `stream` to be true")
    options.boolean("chunk_include_usage")
    return options.boolean("include_usage") or False


def _read_stop(fields: Fields, is_thinking: bool) -> tuple[str, ...]:
    """Stop words: the gateway takes one comma-separated string, the service up to four strings."""
    value = fields.values.get("stop")
    if value is None or value in ("", []):
        return ()
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > 4 or not all(isinstance(word, str) and word for word in words):
        raise invalid("stop", "one to four words are expected")
    if is_thinking:
        raise invalid("stop", "it is not supported while thinking; send `enable_thinking`: false")
    return tuple(words)


def _read_form(fields: Fields, limits: RequestLimits) -> tuple[Form | None, tuple[Any, ...]]:
    """The form of the answer, and the JSON values that count as input because of it."""
    tools = fields.array("tools")
    forms = [_read_tool(tool, index, limits) for index, tool in enumerate(tools or [])]
    forced = _forced_tool(fields, forms)
    response_format = fields.mapping("response_format")
    counted: tuple[Any, ...] = tuple(tools or ())
    if response_format is None:
        return forced, counted
    kind = response_format.choice("type", {"text", "json_schema", "json_object"})
    if kind is None:
        raise missing("response_format.type")
    if kind == "json_object":
        raise invalid("response_format.type", "`json_object` is not supported by this model")
    if kind == "text":
        return forced, counted
    schema = response_format.mapping("json_schema")
    if schema is None:
        raise missing("response_format.json_schema")
    if not schema.string("name"):
        raise missing("response_format.json_schema.name")
    schema.string("description")
    is_strict = schema.boolean("strict") or False
    if not schema.has("schema"):
        raise missing("response_format.json_schema.schema")
    checked = _check(schema.values["schema"], "response_format.json_schema.schema", is_strict, limits)
    return forced or Form(checked, is_strict), (*counted, schema.values)


def _check(schema: object, param: str, is_strict: bool, limits: RequestLimits) -> Mapping[str, Any]:
    return check_schema(schema, param, is_strict=is_strict, max_depth=limits.max_schema_depth)


def _read_tool(tool: object, index: int, limits: RequestLimits) -> Form:
    path = f"tools[{index}]"
    if not isinstance(tool, dict):
        raise invalid(path, "an object is expected")
    fields = Fields(tool, f"{path}.")
    if fields.choice("type", {"function"}) is None:
        raise missing(f"{path}.type")
    function = fields.mapping("function")
    name = function.string("name") if function else None
    if function is None or not name:
        raise missing(f"{path}.function.name")
    is_strict = function.boolean("strict") or False
    schema = function.values.get("parameters") or {"type": "object", "properties": {}}
    return Form(_check(schema, f"{path}.function.parameters", is_strict, limits), is_strict, name)


def _forced_tool(fields: Fields, forms: list[Form]) -> Form | None:
    """The tool the answer must call. With `auto` the engine answers in words, which ends every tool loop."""
    choice = fields.values.get("tool_choice")
    if choice is None or choice in ("none", "auto"):
        return None
    if choice == "required":
        if not forms:
            raise invalid("tool_choice", "`required` needs at least one tool")
        return forms[0]
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    for form in forms:
        if form.tool_name == name:
            return form
    raise invalid("tool_choice", "none, auto, required or the name of one of the tools is expected")


def _read_messages(fields: Fields, model: ServedModel, limits: RequestLimits) -> tuple[Message, ...]:
    values = fields.array("messages")
    if not values:
        raise missing("messages")
    messages = tuple(_read_message(value, f"messages[{index}]", model, limits) for index, value in enumerate(values))
    if messages[-1].role == "assistant":
        raise invalid("messages", "the last message is the assistant's; this model does not continue a given answer")
    return messages


def _read_message(value: object, path: str, model: ServedModel, limits: RequestLimits) -> Message:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refusal(400, "InvalidArgumentError.UnknownRole", f"The role of {path} is not known.", f"{path}.role")
    content = value.get("content")
    tool_calls = value.get("tool_calls")
    tool_text = "" if not isinstance(tool_calls, list) else _tool_text(tool_calls)
    if content is None:
        if role == "assistant" and tool_text:
            return Message(role, (), tool_text)
        raise missing(f"{path}.content")
    if isinstance(content, str):
        return Message(role, (TextPart(content),), tool_text)
    if not isinstance(content, list) or not content:
        raise invalid(f"{path}.content", "a string or a list of parts is expected")
    parts = tuple(_read_part(part, f"{path}.content[{n}]", role, model, limits) for n, part in enumerate(content))
    return Message(role, parts, tool_text)


def _tool_text(calls: list[Any]) -> str:
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    return " ".join(
        f"{function.get('name')} {function.get('arguments')}" for function in functions if isinstance(function, dict)
    )


def _read_part(value: object, path: str, role: str, model: ServedModel, limits: RequestLimits) -> Part:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    kind = value.get("type")
    if kind == "text":
        text = value.get("text")
        if not isinstance(text, str):
            raise invalid(f"{path}.text", "a string is expected")
        return TextPart(text)
    if kind == "image_url":
        if role != "user":
            raise invalid(path, "images are allowed in user messages only")
        return _read_image(Fields(value, f"{path}."), model, limits)
    if kind in ("video_url", "file"):
        raise invalid(path, f"the local engine does not read `{kind}` parts; send pages or frames as images or text")
    raise invalid(f"{path}.type", "text or image_url is expected")


def _read_image(fields: Fields, model: ServedModel, limits: RequestLimits) -> ImagePart:
    image = fields.mapping("image_url")
    if image is None:
        raise missing(f"{fields.path}image_url")
    if image.has("file_id"):
        raise invalid(f"{image.path}file_id", "files are not kept here; send the image as a data URL")
    detail = image.values.get("detail")
    if detail is not None and detail not in (*model.numbers.detail, "auto"):
        raise Refusal(400, "InvalidArgumentError.InvalidImageDetail", "The image detail is not known.", "detail")
    low, high = _read_pixel_limit(image, model)
    data, media_type = decode_data_url(image.values.get("url"), limits)
    width, height = inspect_image(data, media_type, limits)
    return ImagePart(data, media_type, width, height, None if detail == "auto" else detail, low, high)


def _read_pixel_limit(image: Fields, model: ServedModel) -> tuple[int | None, int | None]:
    limit = image.mapping("image_pixel_limit")
    if limit is None:
        return None, None
    numbers = model.numbers
    try:
        low = limit.integer("min_pixels", numbers.min_pixels, numbers.max_pixels)
        high = limit.integer("max_pixels", numbers.min_pixels, numbers.max_pixels)
    except Refusal as error:
        raise Refusal(400, "InvalidArgumentError.InvalidPixelLimit", error.message, error.param) from error
    if low is not None and high is not None and low > high:
        message = "`min_pixels` is larger than `max_pixels`."
        raise Refusal(400, "InvalidArgumentError.InvalidPixelLimit", message, f"{limit.path}min_pixels")
    return low, high
