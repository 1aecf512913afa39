"""Messages: the body of a request to an Ask, an Answer to a body or to the events of a stream."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.local.accounting import Usage
from ingest.local.answering import Answer
from ingest.local.contract import Ask, Form, Message, Part, Terms, TextPart
from ingest.local.fields import Fields
from ingest.local.protocols import media, parameters
from ingest.local.protocols.forms import check_form, choose_form, choose_tool, read_tool, refuse_lacking_tools
from ingest.local.refusal import Refusal, invalid, missing
from ingest.local.shaping import ENGINE, PIECE_CHARACTERS, Event, page_words, pieces

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "stop_sequence": "stop_sequence",
}
_GIVEN_BACK = ("thinking", "redacted_thinking")
_EFFORTS = {"low", "medium", "high", "xhigh", "max"}


def read_request(body: Mapping[str, Any], terms: Terms) -> Ask:
    """A messages body as a checked Ask; raises Refusal (400, or 404 for an unknown model)."""
    fields = Fields(body)
    model = parameters.find_model(fields, terms)
    max_tokens = fields.integer("max_tokens", 1, model.numbers.max_output_tokens)
    if max_tokens is None:
        raise missing("max_tokens")
    output = fields.mapping("output_config")
    effort = output.choice("effort", _EFFORTS) if output else None
    is_thinking = parameters.check_thinking(
        fields, effort=effort, effort_param="output_config.effort", kinds=("adaptive",)
    )
    _check_budget(fields, max_tokens, terms)
    messages = _read_messages(fields, terms)
    form, form_text = _read_form(fields, output, messages, terms)
    parameters.check_ignored(fields, messages)
    stop = parameters.read_stop(fields, "stop_sequences", terms, is_thinking=is_thinking)
    return Ask(
        model=model,
        messages=messages,
        max_tokens=max_tokens,
        form=form,
        form_text=form_text,
        image_detail=parameters.read_image_detail(fields, model),
        video_fps=parameters.read_video_fps(fields, model),
        is_thinking=is_thinking,
        is_raw=parameters.is_raw(fields),
        is_streamed=fields.boolean("stream") or False,
        streams_usage=True,
        stop=stop or parameters.read_stop(fields, "stop", terms, is_thinking=is_thinking),
    )


def _check_budget(fields: Fields, max_tokens: int, terms: Terms) -> None:
    """`budget_tokens` is passed on only for models that list it; this one does not, so its form alone is checked."""
    thinking = fields.mapping("thinking")
    if thinking is None or thinking.values.get("type") != "enabled":
        return
    budget = thinking.integer("budget_tokens", terms.limits.min_thinking_budget, 10**9)
    if budget is None:
        raise missing("thinking.budget_tokens")
    if budget >= max_tokens:
        raise invalid("thinking.budget_tokens", "it must be less than `max_tokens`")


def _read_form(
    fields: Fields, output: Fields | None, messages: tuple[Message, ...], terms: Terms
) -> tuple[Form | None, tuple[Any, ...]]:
    """The form of the answer, and the JSON values that count as input because of it."""
    tools = fields.array("tools") or []
    refuse_lacking_tools(tools, terms)
    forms = [_read_tool(tool, index, terms) for index, tool in enumerate(tools)]
    tool = _chosen_tool(fields, forms, messages)
    wanted = output.mapping("format") if output else None
    parameters.check_caching(fields, has_schema=wanted is not None, schema_param="output_config.format")
    if wanted is None:
        return tool, tuple(tools)
    if wanted.choice("type", {"json_schema"}) is None:
        raise missing(f"{wanted.path}type")
    if "json_schema" in terms.lacks:
        raise invalid(f"{wanted.path}type", "`json_schema` is not supported by this model")
    if not wanted.has("schema"):
        raise missing(f"{wanted.path}schema")
    schema = check_form(wanted.values["schema"], f"{wanted.path}schema", True, terms)
    return choose_form(Form(schema, is_strict=True), tool), (*tools, schema)


def _read_tool(tool: object, index: int, terms: Terms) -> Form:
    path = f"tools[{index}]"
    if not isinstance(tool, dict):
        raise invalid(path, "an object is expected")
    fields = Fields(tool, f"{path}.")
    fields.choice("type", {"custom"})
    if not fields.has("input_schema"):
        raise missing(f"{path}.input_schema")
    return read_tool(fields, "input_schema", terms)


def _chosen_tool(fields: Fields, forms: list[Form], messages: tuple[Message, ...]) -> Form | None:
    choice = fields.mapping("tool_choice")
    kind = choice.choice("type", {"auto", "any", "tool", "none"}) if choice else "auto"
    if kind is None:
        raise missing("tool_choice.type")
    name = choice.values.get("name") if choice else None
    return choose_tool({"any": "required", "tool": "named"}.get(kind, kind), name, forms, messages)


def _read_messages(fields: Fields, terms: Terms) -> tuple[Message, ...]:
    values = fields.array("messages")
    if not values:
        raise missing("messages")
    found: list[Message] = []
    system = fields.values.get("system")
    if isinstance(system, str) and system:
        found.append(Message("system", (TextPart(system),)))
    elif isinstance(system, list) and system:
        found.append(Message("system", _read_blocks(system, "system", "system", terms)))
    elif system not in (None, "", []):
        raise invalid("system", "a string or a list of text blocks is expected")
    for index, value in enumerate(values):
        found.extend(_read_message(value, f"messages[{index}]", terms))
    messages = tuple(found)
    parameters.check_last_message(messages, "messages")
    return messages


def _read_message(value: object, path: str, terms: Terms) -> Iterator[Message]:
    """The message; results of tools in it become messages of their own, after it."""
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    role = value.get("role")
    if role not in ("user", "assistant"):
        raise Refusal(400, "InvalidArgumentError.UnknownRole", f"The role of {path} is not known.", f"{path}.role")
    content = value.get("content")
    if isinstance(content, str) and content:
        yield Message(role, (TextPart(content),))
        return
    if content in (None, ""):
        raise missing(f"{path}.content")
    if not isinstance(content, list) or not content:
        raise invalid(f"{path}.content", "a string or a list of blocks is expected")
    blocks = [block for block in content if not _is_kind(block, "tool_use", "tool_result", *_GIVEN_BACK)]
    calls = [block for block in content if _is_kind(block, "tool_use")]
    told = " ".join(f"{call.get('name')} {json.dumps(call.get('input'))}" for call in calls)
    if blocks or calls or role == "assistant":
        parts = _read_blocks(blocks, f"{path}.content", role, terms)
        yield Message(role, parts, told)
    for index, block in enumerate(content):
        if _is_kind(block, "tool_result"):
            yield Message("tool", _read_result(block, f"{path}.content[{index}].content", terms))


def _is_kind(block: object, *kinds: str) -> bool:
    return isinstance(block, dict) and block.get("type") in kinds


def _read_result(block: Mapping[str, Any], path: str, terms: Terms) -> tuple[Part, ...]:
    content = block.get("content")
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise invalid(path, "a string or a list of blocks is expected")
    return _read_blocks(content, path, "user", terms)


def _read_blocks(blocks: list[Any], path: str, role: str, terms: Terms) -> tuple[Part, ...]:
    return tuple(_read_block(block, f"{path}[{n}]", role, terms) for n, block in enumerate(blocks))


def _read_block(value: object, path: str, role: str, terms: Terms) -> Part:
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    block = Fields(value, f"{path}.")
    kind = value.get("type")
    if kind == "text":
        return media.read_text(block)
    if kind in ("video", "video_url", "input_video"):
        raise invalid(f"{path}.type", "the messages endpoint takes no video")
    if kind not in ("image", "document"):
        raise invalid(f"{path}.type", "text, image or document is expected")
    if role != "user":
        raise invalid(path, "images and documents are allowed in user messages only")
    source = block.mapping("source")
    if source is None:
        raise missing(f"{path}.source")
    if kind == "image":
        return media.read_image_source(source, terms)
    return media.read_document_source(source, block.string("title") or "document.pdf", terms)


def shape_usage(usage: Usage) -> dict[str, Any]:
    """Usage as messages name it: cached tokens stand beside the input, not within it."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
    }


def shape_body(ask: Ask, answer: Answer, request_id: str) -> dict[str, Any]:
    """A whole message."""
    body = _envelope(ask, request_id) | {"content": _content(answer, request_id)}
    return body | _end(answer) | {"usage": shape_usage(answer.usage)} | page_words(answer)


def shape_stream(ask: Ask, answer: Answer, request_id: str, piece_size: int = PIECE_CHARACTERS) -> Iterator[Event]:
    """The events of a streamed message. The word boxes stand in the `message_delta` event."""
    usage = shape_usage(answer.usage)
    begun = _envelope(ask, request_id) | {"usage": usage | {"output_tokens": 0}}
    yield _event("message_start", message=begun)
    yield _event("ping")
    for index, block in enumerate(_content(answer, request_id)):
        yield from _block_events(block, answer, index, piece_size)
    yield _event("message_delta", delta=_end(answer), usage=usage, **page_words(answer))
    yield _event("message_stop", is_closing=True)


def shape_error(refusal_body: Mapping[str, Any], number: int) -> Event:
    """An error inside a stream, as its event of that number."""
    return Event(refusal_body, name="error")


def _block_events(block: dict[str, Any], answer: Answer, index: int, piece_size: int) -> Iterator[Event]:
    kind = block["type"]
    key, delta, text = {
        "thinking": ("thinking", "thinking_delta", answer.reasoning),
        "text": ("text", "text_delta", answer.text),
        "tool_use": ("partial_json", "input_json_delta", answer.text),
    }[kind]
    empty: dict[str, Any] = {"input": {}} if kind == "tool_use" else {key: ""}
    if kind == "thinking":
        empty["signature"] = ""
    yield _event("content_block_start", index=index, content_block=block | empty)
    for piece in pieces(text, piece_size):
        yield _event("content_block_delta", is_delta=True, index=index, delta={"type": delta, key: piece})
    if kind == "thinking":
        signed = {"type": "signature_delta", "signature": block["signature"]}
        yield _event("content_block_delta", index=index, delta=signed)
    yield _event("content_block_stop", index=index)


def _event(name: str, *, is_delta: bool = False, is_closing: bool = False, **fields: Any) -> Event:
    return Event({"type": name, **fields}, name=name, is_delta=is_delta, is_closing=is_closing)


def _envelope(ask: Ask, request_id: str) -> dict[str, Any]:
    """A message that has just begun."""
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": ask.model.id,
        "system_fingerprint": ENGINE,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _end(answer: Answer) -> dict[str, Any]:
    return {"stop_reason": _STOPS.get(answer.finish_reason), "stop_sequence": answer.stop_word}


def _content(answer: Answer, request_id: str) -> list[dict[str, Any]]:
    """Content blocks: the thinking if there is any, then the text or the tool call."""
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        signature = base64.b64encode(hashlib.sha256(answer.reasoning.encode()).digest()).decode()
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": signature})
    if answer.tool_name is not None and answer.finish_reason != "refusal":
        tool = {"type": "tool_use", "id": f"toolu_{request_id}", "name": answer.tool_name}
        content.append(tool | {"input": _parse_arguments(answer.text)})
    else:
        content.append({"type": "text", "text": answer.text})
    return content


def _parse_arguments(text: str) -> dict[str, Any]:
    """Arguments as the object the protocol wants; what a cut or broken answer leaves of them cannot be sent as one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
