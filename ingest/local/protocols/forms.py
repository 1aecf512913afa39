"""The form an answer must have: a schema, or the arguments of a tool, from the fields of any protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ingest.local.contract import Form, Message, Terms
from ingest.local.dialect import check_schema
from ingest.local.fields import Fields
from ingest.local.refusal import invalid, missing


def check_form(schema: object, param: str, is_strict: bool, terms: Terms) -> Mapping[str, Any]:
    """The schema when the dialect allows it; raises a 400 Refusal."""
    return check_schema(schema, param, is_strict=is_strict, max_depth=terms.limits.max_schema_depth)


def read_format_kind(fields: Fields, terms: Terms) -> bool:
    """Whether a format object asks for a schema; `json_object` is refused, as is what the service lacks."""
    kind = fields.choice("type", {"text", "json_schema", "json_object"})
    param = f"{fields.path}type"
    if kind is None:
        raise missing(param)
    if kind == "json_object" or (kind == "json_schema" and "json_schema" in terms.lacks):
        raise invalid(param, f"`{kind}` is not supported by this model")
    return kind == "json_schema"


def read_named_schema(fields: Fields, terms: Terms) -> Form:
    """The form of an object with `name`, `schema`, `strict` and `description`."""
    if not fields.string("name"):
        raise missing(f"{fields.path}name")
    fields.string("description")
    is_strict = fields.boolean("strict") or False
    if not fields.has("schema"):
        raise missing(f"{fields.path}schema")
    return Form(check_form(fields.values["schema"], f"{fields.path}schema", is_strict, terms), is_strict)


def read_tool(fields: Fields, schema_name: str, terms: Terms) -> Form:
    """A function tool from the object that holds its `name`, its schema under `schema_name`, and `strict`."""
    name = fields.string("name")
    if not name:
        raise missing(f"{fields.path}name")
    fields.string("description")
    is_strict = fields.boolean("strict") or False
    schema = fields.values.get(schema_name) or {"type": "object", "properties": {}}
    return Form(check_form(schema, f"{fields.path}{schema_name}", is_strict, terms), is_strict, name)


def refuse_lacking_tools(tools: Sequence[object], terms: Terms) -> None:
    """Raises a 400 Refusal for tools where the imitated service lacks them."""
    if tools and "tools" in terms.lacks:
        raise invalid("tools", "tools are not supported by this model")


def choose_tool(choice: str, name: object, tools: Sequence[Form], messages: Sequence[Message]) -> Form | None:
    """The tool a request asks to call: `choice` is none, auto, required or named.

    With auto the first tool is called when the words sent give it something to say, and never in answer to a tool's
    result, so every tool loop ends. Raises a 400 Refusal for a choice without its tool.
    """
    if choice == "none":
        return None
    if choice == "auto":
        is_answered = bool(messages) and messages[-1].role == "tool"
        return replace(tools[0], is_optional=True) if tools and not is_answered else None
    if choice == "required":
        if not tools:
            raise invalid("tool_choice", "a tool is required but none is given")
        return tools[0]
    for tool in tools:
        if tool.tool_name == name:
            return tool
    raise invalid("tool_choice", "none, auto, required or the name of one of the tools is expected")


def choose_form(schema: Form | None, tool: Form | None) -> Form | None:
    """A forced tool comes before a schema, a schema before a tool that may be called."""
    if tool is not None and (schema is None or not tool.is_optional):
        return tool
    return schema
