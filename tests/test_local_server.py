"""The local engine's API contract: what it accepts, refuses, reads and answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.errors import ConfigError, OutputError, Unreadable
from ingest.local import answering, reader
from ingest.local.faults import KINDS, Faults, Limiter
from ingest.local.refusal import Refusal
from ingest.local.server import create_app, serve
from ingest.local.tags import find_schema

CHAT = "/v1/chat/completions"
TOTAL = {
    "type": "object",
    "properties": {"total": {"type": ["number", "null"]}, "currency": {"type": ["string", "null"]}},
    "required": ["total", "currency"],
    "additionalProperties": False,
}


def call(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to the app in this process."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://local.invalid") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def post(app: Any, body: Mapping[str, Any], **options: Any) -> httpx.Response:
    """One chat completion."""
    return call(app, "POST", CHAT, json=body, **options)


def request(*texts: Any, **more: Any) -> dict[str, Any]:
    """A chat request whose user message has these parts; a string is a text part."""
    parts = [{"type": "text", "text": text} if isinstance(text, str) else text for text in texts]
    return {"model": "local-ocr-rules", "messages": [{"role": "user", "content": parts}], "max_tokens": 1000} | more


def schema_format(schema: Mapping[str, Any] = TOTAL, strict: bool = True) -> dict[str, Any]:
    """A response_format for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "record", "schema": schema, "strict": strict}}


def image_bytes(text: str = "", size: tuple[int, int] = (900, 300), kind: str = "PNG") -> bytes:
    """An image with printed text."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((40, 40), text, fill="black", font=ImageFont.load_default(44))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def image_part(data: bytes, media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    """An image content part with a data URL."""
    url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url} | more}


def page(number: int, text: str, mark: str = "") -> str:
    """A text page in the tags of the prompt format."""
    return f'<page number="{number}"{mark}>\n{text}\n</page>'


def content(response: httpx.Response) -> Any:
    """The answer's JSON."""
    assert response.status_code == 200, response.text
    return json.loads(response.json()["choices"][0]["message"]["content"])


@dataclass
class Seen:
    """What the filler was handed."""

    pages: Sequence[Any] = ()
    instructions: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EchoedWords:
    """Stands for the filler's result: the words of every page."""

    data: dict[str, str]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Replaces the filler by one that notes what it gets and answers the words it read."""
    seen = Seen()

    def fill(schema: Mapping[str, Any], pages: Sequence[Any], instructions: str) -> EchoedWords:
        seen.pages, seen.instructions, seen.schema = pages, instructions, schema
        return EchoedWords({"words": " ".join(page.text for page in pages)})

    monkeypatch.setattr(answering, "fill", fill)
    return seen


@pytest.fixture
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the number of every page whose image is read, without reading it."""
    numbers: list[int] = []

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        numbers.append(number)
        return reader.read_text(number, "", is_context)

    monkeypatch.setattr(reader, "read_image", read_image)
    return numbers


@pytest.fixture(scope="module")
def app() -> Any:
    """The engine as it is by default."""
    return create_app()


# What it reads


def test_changing_one_amount_changes_that_value_alone(app: Any) -> None:
    """Answers come from the words sent, so an edited document must give an edited answer and nothing else."""
    text = "Invoice INV-7\nCurrency: EUR\nTotal: {}"
    answers = [
        content(post(app, request(page_in_document(text.format(amount)), response_format=schema_format())))
        for amount in ("125.40", "98.15")
    ]
    assert [answer["total"] for answer in answers] == [125.40, 98.15]
    assert answers[0]["currency"] == answers[1]["currency"] == "EUR"


def page_in_document(text: str) -> str:
    """A document of one text page."""
    return f'<document pages="1">\n{page(1, text)}\n</document>'


def test_image_page_is_read_by_ocr_and_words_come_with_boxes(app: Any) -> None:
    """A scan has no words of its own; they and their places must come back for grounding."""
    parts = ['<document pages="1">', '<page number="4">', image_part(image_bytes("Total 125.40 EUR")), "</page>"]
    response = post(app, request(*parts, "</document>", response_format=schema_format()))
    assert content(response)["total"] == 125.40
    (entry,) = response.json()["x_page_words"]
    words = {text: box for *box, text in entry["words"]}
    assert entry["page"] == 4
    x0, y0, x1, y1 = words["125.40"]
    assert 0 < x0 < x1 < 1
    assert 0 < y0 < y1 < 0.5


def test_page_with_words_is_never_read_from_its_image(app: Any, seen: Seen, no_ocr: list[int]) -> None:
    """Born-digital pages carry exact words; OCR would be slower and less true."""
    picture = image_part(image_bytes("other words"))
    parts = [
        '<document pages="3">',
        page(1, "first"),
        '<page number="2">\nsecond',
        picture,
        "</page>",
        '<page number="3">',
        picture,
        "</page>",
        "</document>\nAnswer.",
    ]
    response = post(app, request(*parts, response_format=schema_format()))
    assert content(response) == {"words": "first second "}
    assert no_ocr == [3]
    assert [entry["page"] for entry in response.json()["x_page_words"]] == [3]


def test_tags_give_page_numbers_context_and_instructions(app: Any, seen: Seen) -> None:
    """Values may be taken from owned pages only, so numbers and the context mark must arrive as sent."""
    parts = [
        "Read the totals.",
        '<document pages="2">',
        page(7, "a", ' context="yes"'),
        page(8, "b"),
        "</document>\nGo.",
    ]
    body = request(*parts, response_format=schema_format())
    body["messages"].insert(0, {"role": "system", "content": "You extract."})
    post(app, body)
    assert [(p.number, p.is_context, p.text) for p in seen.pages] == [(7, True, "a"), (8, False, "b")]
    assert seen.instructions == "Read the totals."


def test_without_tags_every_part_is_a_page(app: Any, seen: Seen, no_ocr: list[int]) -> None:
    """Other clients know nothing of our tags and must be answered from what they send."""
    body = request("one", image_part(image_bytes()), "three", response_format=schema_format())
    body["messages"].insert(0, {"role": "system", "content": "Hints"})
    post(app, body)
    assert [(p.number, p.text) for p in seen.pages] == [(1, "one"), (2, ""), (3, "three")]
    assert no_ocr == [2]
    assert seen.instructions == "Hints"


def test_plain_chat_answers_the_words_read(app: Any) -> None:
    """A request without any schema still gets something real: the document's words."""
    response = post(app, request("Delivery note 5512", image_part(image_bytes("Pallets 17"))))
    assert response.json()["choices"][0]["message"]["content"] == "Delivery note 5512\n\nPallets 17"


def test_forced_tool_gets_the_filled_arguments(app: Any) -> None:
    """The second rung of the ladder asks by a forced function."""
    tools = [{"type": "function", "function": {"name": "save", "parameters": TOTAL}}]
    choice = {"type": "function", "function": {"name": "save"}}
    response = post(app, request(page_in_document("Total: 12.50 USD"), tools=tools, tool_choice=choice)).json()
    (answer,) = response["choices"]
    (tool_call,) = answer["message"]["tool_calls"]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["content"] is None
    assert tool_call["function"]["name"] == "save"
    assert json.loads(tool_call["function"]["arguments"])["total"] == 12.5


@pytest.mark.parametrize("place", ["system", "instructions", "closing"])
def test_schema_written_in_the_prompt_is_filled(app: Any, place: str) -> None:
    """The last rung has no API support: the schema stands in the words of the prompt."""
    written = f"Answer with JSON for this schema:\n{json.dumps(TOTAL, indent=1)}\nNothing else. Example: {{}}"
    texts = [page_in_document("Total: 12.50 USD")]
    body = request(*{"instructions": [written, *texts], "closing": [*texts, written]}.get(place, texts))
    if place == "system":
        body["messages"].insert(0, {"role": "system", "content": written})
    assert content(post(app, body))["total"] == 12.5


def test_find_schema_takes_the_largest_and_leaves_the_rest() -> None:
    """Prompts hold examples and braces in prose beside the schema."""
    text = f'{{not json}} {{"type": "object"}} before {json.dumps(TOTAL)} after {{"a": 1}}'
    assert find_schema(text) == (TOTAL, '{not json} {"type": "object"} before  after {"a": 1}')
    assert find_schema("no braces") == (None, "no braces")


def test_schema_from_wire_is_not_looked_for_in_prose(app: Any, seen: Seen) -> None:
    """A document that prints a schema must not replace the schema that was asked for."""
    printed = json.dumps({"type": "object", "properties": {"other": {"type": "string"}}})
    post(app, request(f"About {printed}", response_format=schema_format()))
    assert seen.schema == TOTAL
    assert "other" in seen.pages[0].text


# The shape of answers


def test_chat_body_has_the_documented_shape(app: Any) -> None:
    """Clients parse these keys; the engine's name must show whatever model id was asked for."""
    body = post(create_app(models=["seed-2-0-pro"]), request("Total: 3 EUR", model="seed-2-0-pro")).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "seed-2-0-pro"
    assert body["system_fingerprint"] == "local-ocr-rules"
    assert body["service_tier"] == "default"
    assert body["choices"][0]["index"] == 0
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert "x_page_words" not in body


def test_thinking_is_told_and_counted_unless_switched_off(app: Any) -> None:
    """Thinking is on by default and billed as output beyond max_tokens."""
    on = post(app, request("Total: 3 EUR", max_tokens=2)).json()
    off = post(app, request("Total: 3 EUR", max_tokens=2, enable_thinking=False)).json()
    reasoning_tokens = on["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert "1 pages, 0 of them by OCR" in on["choices"][0]["message"]["reasoning_content"]
    assert on["usage"]["completion_tokens"] == 2 + reasoning_tokens > 2
    assert "reasoning_content" not in off["choices"][0]["message"]
    assert off["usage"]["completion_tokens"] == 2


def test_max_tokens_cuts_the_json(app: Any, seen: Seen) -> None:
    """A cut answer is the commonest failure of long tables: finish_reason length and broken JSON."""
    body = request("many words " * 50, response_format=schema_format(), max_tokens=20, enable_thinking=False)
    response = post(app, body).json()
    assert response["choices"][0]["finish_reason"] == "length"
    assert response["usage"]["completion_tokens"] == 20
    with pytest.raises(json.JSONDecodeError):
        json.loads(response["choices"][0]["message"]["content"])


def test_cut_never_splits_a_character(app: Any) -> None:
    """Half a character cannot be sent as JSON; the answer ends before it."""
    text = "🧾" * 9
    for limit in range(1, 12):
        body = request(text, max_tokens=limit, enable_thinking=False)
        answer = post(app, body).json()["choices"][0]["message"]["content"]
        assert text.startswith(answer)


def test_stop_words_end_a_plain_answer(app: Any) -> None:
    """The gateway takes one comma-separated string."""
    response = post(app, request("alpha beta gamma delta", stop="delta,gamma", enable_thinking=False)).json()
    assert response["choices"][0]["message"]["content"] == "alpha beta "


def read_stream(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream that must end with its closing event."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_stream_brings_the_same_answer_and_usage(app: Any) -> None:
    """Long jobs are streamed; nothing may differ from the whole body."""
    body = request("Grüße " * 300, image_part(image_bytes("Total 9.75")))
    whole = post(app, body).json()
    response = post(app, body | {"stream": True, "stream_options": {"include_usage": True}})
    events = read_stream(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-1] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert [event["x_page_words"] for event in events if "x_page_words" in event] == [whole["x_page_words"]]


def test_stream_brings_tool_arguments_in_pieces(app: Any, seen: Seen) -> None:
    """The tool rung is streamed too; pieces of arguments must join to the whole."""
    tools = [{"type": "function", "function": {"name": "save", "parameters": TOTAL}}]
    body = request("word " * 200, tools=tools, tool_choice="required", stream=True)
    calls = [call for e in read_stream(post(app, body)) for call in e["choices"][0]["delta"].get("tool_calls", [])]
    assert len(calls) > 3
    assert calls[0]["function"]["name"] == "save"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"words": ("word " * 200).strip()}


def test_fences_and_ignored_schema_on_demand(seen: Seen) -> None:
    """Real services wrap JSON unless told not to, and some accept a schema and ignore it: clients must cope."""
    wrapping = create_app(wraps_json=True)
    body = request("x", response_format=schema_format())
    wrapped = post(wrapping, body).json()["choices"][0]["message"]["content"]
    assert wrapped == '```json\n{"words": "x"}\n```'
    assert content(post(wrapping, body | {"disable_formatting": True})) == {"words": "x"}
    ignoring = create_app(ignores_schema=True)
    assert post(ignoring, body).json()["choices"][0]["message"]["content"] == "x"


# What it refuses


def refused(app: Any, body: Mapping[str, Any], status: int = 400) -> dict[str, Any]:
    """The error of a refused request, in the OpenAI envelope."""
    response = post(app, body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return dict(error)


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 65_537),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_tokens", "100"),
        ("max_tokens", 10**4000),
        ("max_completion_tokens", 5),
        ("image_detail", "auto"),
        ("enable_thinking", "no"),
        ("reasoning_effort", "extreme"),
        ("temperature", 2.5),
        ("top_p", -0.1),
        ("video_fps", 0.1),
        ("video_fps", 6),
        ("n", 2),
        ("logprobs", True),
        ("frequency_penalty", 3),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", "word"),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("enable_web_search", True),
        ("thinking", {"type": "auto"}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "none"}}),
        ("tools", [{"type": "function"}]),
        ("tools", [7]),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "xml"}),
        ("response_format", {}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": TOTAL}}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a"}}),
        ("messages", []),
        ("messages", "text"),
        ("messages", [7]),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": 5}]}]),
        ("messages", [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]),
        ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]),
    ],
)
def test_wrong_values_are_refused(app: Any, field_name: str, value: Any) -> None:
    """A mistake that passes here would be paid for at the real endpoint; the error names the field."""
    error = refused(app, request("x", **{field_name: value}))
    assert error["type"] == "invalid_request_error"
    root = "logprobs" if field_name == "logprobs" else field_name
    assert error["param"].startswith(root)


@pytest.mark.parametrize(
    "more",
    [
        {"enable_thinking": False, "reasoning_effort": "low"},
        {"thinking": {"type": "disabled"}, "reasoning_effort": "high"},
        {"enable_caching": True, "response_format": schema_format()},
    ],
)
def test_contradictions_are_refused(app: Any, more: dict[str, Any]) -> None:
    """Each setting is fine alone; together the service answers 400."""
    assert refused(app, request("x", **more))["code"] == "InvalidParameter"


def test_documented_settings_are_accepted(app: Any) -> None:
    """Every parameter the gateway lists must pass with a value in range, and null means absent."""
    more = {
        "temperature": 1,
        "top_p": 0.95,
        "image_detail": "xhigh",
        "video_fps": 0.5,
        "enable_thinking": True,
        "reasoning_effort": "medium",
        "enable_caching": True,
        "enable_web_search": False,
        "disable_formatting": True,
        "stream": None,
        "stop": None,
        "seed": 4,
        "user": "x",
        "response_format": {"type": "text"},
    }
    assert post(app, request("x", **more)).status_code == 200


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("pattern", "a+"),
        ("format", "date"),
        ("minimum", 0),
        ("maxLength", 5),
        ("minItems", 1),
        ("not", {}),
        ("x-merge", "first"),
        ("type", "text"),
        ("enum", []),
        ("$ref", "https://example.com/schema"),
        ("$ref", "#/$defs/absent"),
        ("anyOf", {}),
        ("items", 5),
    ],
)
def test_strict_schema_refuses_what_the_dialect_lacks(app: Any, keyword: str, value: Any) -> None:
    """The service fails a strict schema for one unsupported keyword, wherever it stands; the message says where."""
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"items": {keyword: value}}]}}}
    error = refused(app, request("x", response_format=schema_format(schema)))
    assert error["param"] == "response_format.json_schema.schema"
    assert "#/properties/a/anyOf/1/items" in error["message"]


def test_loose_schema_refuses_only_what_cannot_be_followed(app: Any, seen: Seen) -> None:
    """Without strict the service checks nothing but references."""
    loose = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x", "format": "date"}}}
    assert post(app, request("x", response_format=schema_format(loose, strict=False))).status_code == 200
    remote = {"$ref": "http://example.com/s"}
    refused(app, request("x", response_format=schema_format(remote, strict=False)))
    circle = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert "back to itself" in refused(app, request("x", response_format=schema_format(circle)))["message"]


def test_supported_dialect_is_accepted(app: Any, seen: Seen) -> None:
    """What the documentation lists must pass in strict mode, recursion and annotations included."""
    schema = {
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"const": 1}]}}}
        },
        "type": "object",
        "title": "T",
        "description": "D",
        "properties": {
            "node": {"$ref": "#/$defs/node"},
            "kind": {"type": "string", "enum": ["a"], "default": "a"},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "unevaluatedItems": False},
            "either": {"oneOf": [{"type": "null"}, {"allOf": [{"type": "boolean"}]}]},
            "format": {"type": ["string", "null"]},
        },
        "required": ["node", "kind"],
        "additionalProperties": False,
    }
    assert post(app, request("x", response_format=schema_format(schema))).status_code == 200


def truncated(data: bytes) -> bytes:
    """The first half of a file."""
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}, "fetches nothing"),
        ({"type": "image_url", "image_url": {"url": "HTTPS://example.com/a.png"}}, "fetches nothing"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "neither http"),
        ({"type": "image_url", "image_url": {"url": ""}}, "empty"),
        ({"type": "image_url", "image_url": {"url": 5}}, "empty"),
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}, "object is expected"),
        ({"type": "image_url"}, "missing"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@@"}}, "base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "cannot be decoded"),
        (image_part(b"no image at all"), "cannot be decoded"),
        (image_part(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "image/eps"), "cannot be decoded"),
        (image_part(image_bytes("x"), "image/jpeg"), "its bytes are image/png"),
        (image_part(image_bytes("x", kind="JPEG"), "image/jpg"), "its bytes are image/jpeg"),
        (image_part(truncated(image_bytes("Total 5"))), "damaged"),
        (image_part(truncated(image_bytes("Total 5", kind="JPEG")), "image/jpeg"), "damaged"),
        (image_part(image_bytes(size=(14, 400))), "at least 15"),
        (image_part(image_bytes(size=(15, 2251))), "150 to 1"),
        (image_part(image_bytes(size=(6001, 6000))), "36000000"),
        (image_part(image_bytes(), detail="ultra"), "detail"),
        (image_part(image_bytes(), image_pixel_limit={"min_pixels": 5000, "max_pixels": 4000}), "larger than"),
        (image_part(image_bytes(), image_pixel_limit={"min_pixels": 1}), "outside"),
        (image_part(image_bytes(), file_id="f"), "data URL"),
    ],
)
def test_images_outside_the_limits_are_refused(app: Any, part: dict[str, Any], reason: str) -> None:
    """Each would be a 400 after upload at the real endpoint, and none may be fetched or crash here."""
    assert reason in refused(app, request(part))["message"]


def test_image_of_ten_megabytes_is_refused(app: Any) -> None:
    """The size of one image is limited to less than 10 MB."""
    data = image_bytes("x") + b"\0" * 10_000_000
    assert "larger than" in refused(app, request(image_part(data)))["message"]


def test_image_the_reader_cannot_read_is_a_400(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be read is told as the request's fault, never as a crash."""

    def fail(number: int, data: bytes, is_context: bool = False) -> Any:
        raise Unreadable("the pixels make no sense")

    monkeypatch.setattr(reader, "read_image", fail)
    error = refused(app, request(image_part(image_bytes("x"))))
    assert error["param"] == "image_url"
    assert "page 1" in error["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe{}",
        b'{"model": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": null}',
        b'{"model": ["local-ocr-rules"]}',
    ],
)
def test_hostile_bodies_are_a_400(app: Any, raw: bytes) -> None:
    """Nothing a client sends may stop the engine or show its inside."""
    response = call(app, "POST", CHAT, content=raw)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_deep_schema_and_half_surrogates_are_survived(app: Any, seen: Seen) -> None:
    """Recursion over a schema and encoding of broken text are where servers fall over."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(70):
        schema = {"type": "array", "items": schema}
    assert "deeper" in refused(app, request("x", response_format=schema_format(schema)))["message"]
    raw = json.dumps(request("total \ud800 end \U0001f9fe")).encode()
    response = call(app, "POST", CHAT, content=raw)
    assert response.json()["choices"][0]["message"]["content"] == "total \ufffd end \U0001f9fe"


def test_body_over_64_mb_is_refused_without_reading_it_all(app: Any) -> None:
    """Memory stays bounded whatever is sent, with or without a declared length."""
    sent = 0

    async def blocks() -> Any:
        nonlocal sent
        for _ in range(200):
            sent += 1_000_000
            yield b" " * 1_000_000

    assert call(app, "POST", CHAT, content=blocks()).status_code == 400
    assert sent < 70_000_000
    assert call(app, "POST", CHAT, content=b"{}", headers={"content-length": "64000001"}).status_code == 400


def test_unknown_model_and_path(app: Any) -> None:
    """A typo in the model id or the base URL must be told apart from a failure."""
    assert refused(app, request("x", model="seed-2-0-pro"), 404)["code"] == "model_not_found"
    assert call(app, "GET", "/v1/models/nope").status_code == 404
    assert call(app, "POST", "/v2/chat", json={}).json()["error"]["code"] == "not_found"
    assert call(app, "GET", CHAT).status_code == 405


def test_keys_are_asked_for_on_every_endpoint() -> None:
    """A served engine may hold private documents' words in flight; both documented headers carry the key."""
    guarded = create_app(api_keys=["sesame"], serves_ledger=True)
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/local/ledger")):
        assert call(guarded, method, path).json()["error"]["code"] == "missing_api_key"
        wrong = call(guarded, method, path, headers={"authorization": "Bearer sésame".encode()})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert post(guarded, request("x"), headers={"Authorization": "Bearer sesame"}).status_code == 200
    assert post(guarded, request("x"), headers={"x-api-key": "sesame"}).status_code == 200
    assert call(guarded, "GET", "/healthz").json() == {"status": "ok"}


def test_ark_envelope_on_demand() -> None:
    """Upstream bodies differ from the gateway's; clients must classify both."""
    ark = create_app(envelope="ark", faults=[None, "overloaded", "unavailable", "server_error"])
    error = post(ark, request("x", max_tokens=0)).json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("InvalidParameter", "BadRequest", "max_tokens")
    assert "Request id: " in error["message"]
    for status, code in ((429, "ServerOverloaded"), (429, "ServerOverloaded"), (500, "InternalServiceError")):
        response = post(ark, request("x"))
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_model_card_tells_prices_and_limits() -> None:
    """Clients compare the card with their own constants at start and warn when they drift."""
    app = create_app(models=["seed-2-0-pro"])
    card = call(app, "GET", "/v1/models/seed-2-0-pro").json()
    assert [row["max_input_tokens"] for row in card["pricing_rows"]] == [127_999, 256_000]
    assert card["pricing_rows"][1]["output_usd_per_million"] == "7.58"
    assert {"max_tokens", "image_detail", "response_format"} <= set(card["supported_parameters"])
    assert card["input_modalities"] == ["text", "image"]
    listed = call(app, "GET", "/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {"local-ocr-rules", "seed-2-0-pro"}
    assert call(app, "GET", "/v1/models/local-ocr-rules").json()["pricing_rows"][0]["input_usd_per_million"] == "0"


# Faults, limits, cancellation


def test_faults_repeat_with_the_seed_and_pass_on_retry() -> None:
    """A failing run must be repeatable, and retrying must be able to succeed."""
    bodies = [f"body {number}".encode() for number in range(60)]
    first, second = Faults.of("7:0.5"), Faults.of("7:0.5")
    drawn = {body: first.choose(body) for body in bodies}
    assert drawn == {body: second.choose(body) for body in reversed(bodies)}
    assert 15 < sum(bool(fault) for fault in drawn.values()) < 45
    assert drawn != {body: Faults.of("8:0.5").choose(body) for body in bodies}
    again = [first.choose(body) for body in bodies]
    assert any(not fault for body, fault in zip(bodies, again, strict=True) if drawn[body])


@pytest.mark.parametrize("wanted", ["x:0.1", "7", "7:2", "7:0.1:nonsense", {"nonsense": 0.1}, ["nonsense"]])
def test_wrong_faults_are_a_configuration_error(wanted: Any) -> None:
    """A misspelt fault must not silently test nothing."""
    with pytest.raises(ConfigError):
        create_app(faults=wanted)


def test_each_fault_looks_like_the_real_thing(seen: Seen) -> None:
    """The client classifies by status, code and body; each fault must show the one it stands for."""
    script = ["rate_limited", "overloaded", "unavailable", "server_error", "refused_input", "stream_error"]
    app = create_app(faults=[*script, "truncated", "content_filter", "malformed", "garbage", None])
    body = request("some words here", response_format=schema_format())
    errors = [post(app, body) for _ in script]
    assert [(r.status_code, r.json()["error"]["code"]) for r in errors] == [
        (429, "rate_limit_exceeded"),
        (429, "ServerOverloaded"),
        (503, "model_unavailable"),
        (502, "upstream_error"),
        (400, "InputTextSensitiveContentDetected"),
        (502, "upstream_error"),
    ]
    assert all("retry-after" not in response.headers for response in errors)
    for reason in ("length", "content_filter", "stop"):
        choice = post(app, body).json()["choices"][0]
        assert choice["finish_reason"] == reason
        with pytest.raises(json.JSONDecodeError):
            json.loads(choice["message"]["content"])
    garbage = post(app, body)
    assert garbage.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        garbage.json()
    assert content(post(app, body)) == {"words": "some words here"}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_dropped_connection_raises_in_process_and_is_billed(is_streamed: bool) -> None:
    """A dropped call was computed and is paid for, so the ledger must know it."""
    app = create_app(models=["seed-2-0-pro"], faults=["dropped"])
    with pytest.raises(ConnectionResetError):
        post(app, request("x", model="seed-2-0-pro", stream=is_streamed))
    (entry,) = app.state.accounting.entries
    assert entry.fault == "dropped"
    assert entry.cost_usd > 0


def test_stream_faults_leave_the_stream_unfinished(seen: Seen) -> None:
    """A stream that ends without its closing event is a failure even though its status was 200."""
    app = create_app(faults=["stream_error", "unfinished"])
    body = request("words " * 200, stream=True)
    failed, unfinished = post(app, body), post(app, body)
    assert json.loads(failed.text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "upstream_error"
    assert "[DONE]" not in failed.text + unfinished.text
    assert failed.status_code == unfinished.status_code == 200


def test_slow_and_stalled_answers(seen: Seen) -> None:
    """Timeouts can only be tested against a server that takes its time."""
    app = create_app(faults={"slow": 1.0, "slow_s": 0.2})
    start = time.perf_counter()
    assert post(app, request("x")).status_code == 200
    assert time.perf_counter() - start >= 0.2
    stalled = create_app(faults={"stalled": 1.0, "stall_s": 0.01})
    with pytest.raises(ConnectionResetError):
        post(stalled, request("x"))
    assert {"slow", "stalled"} <= KINDS


def test_limits_per_minute_answer_429() -> None:
    """The gateway's limits bind long before the model's; failed calls count towards requests."""
    app = create_app(requests_per_minute=2, sends_retry_after=True)
    statuses = [post(app, request("x", max_tokens=limit)) for limit in (0, 1, 1)]
    assert [response.status_code for response in statuses] == [400, 200, 429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 61
    tokens = create_app(tokens_per_minute=400, models=["seed-2-0-pro"])
    answers = [post(tokens, request("word", model="seed-2-0-pro")) for _ in range(3)]
    assert [response.status_code for response in answers] == [200, 200, 429]
    assert "retry-after" not in answers[-1].headers
    assert tokens.state.accounting.entries[-1].cost_usd == 0


def test_limiter_window_slides() -> None:
    """Requests of the minute before must not count for ever."""
    now = [0.0]
    limiter = Limiter(requests_per_minute=1, tokens_per_minute=10, clock=lambda: now[0])
    limiter.admit()
    limiter.spend(10, is_input=True)
    now[0] = 59.9
    with pytest.raises(Refusal):
        limiter.admit()
    with pytest.raises(Refusal):
        limiter.spend(1, is_input=True)
    now[0] = 119.91
    limiter.admit()
    limiter.spend(10, is_input=True)


def test_slow_reading_does_not_block_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page takes seconds of OCR; text requests and the event loop must go on meanwhile."""
    release = threading.Event()

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        assert release.wait(30)
        return reader.read_text(number, "late")

    monkeypatch.setattr(reader, "read_image", read_image)
    app = create_app()

    async def scenario() -> tuple[int, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            slow = asyncio.create_task(client.post(CHAT, json=request(image_part(image_bytes("x")))))
            quick = await client.post(CHAT, json=request("quick"))
            assert not slow.done()
            release.set()
            return quick.status_code, (await slow).status_code

    assert asyncio.run(scenario()) == (200, 200)


def test_cancelled_call_leaves_a_working_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gives up in the middle of a page; the rest of its pages are not read and others are still served."""
    started, release = threading.Event(), threading.Event()
    read: list[int] = []

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        read.append(number)
        started.set()
        assert release.wait(30)
        return reader.read_text(number, "late")

    monkeypatch.setattr(reader, "read_image", read_image)
    app = create_app()

    async def scenario() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            parts = [image_part(image_bytes(word)) for word in "abc"]
            task = asyncio.create_task(client.post(CHAT, json=request(*parts)))
            assert await asyncio.to_thread(started.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            release.set()
            return (await client.post(CHAT, json=request(parts[0]))).status_code

    assert asyncio.run(scenario()) == 200
    assert read == [1, 1]
    assert [entry.code for entry in app.state.accounting.entries] == ["cancelled", "stop"]


def test_failure_inside_is_a_500_without_traceback(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of the engine must reach the client as an error it can classify."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(answering, "fill", fail)
    response = post(app, request("x", response_format=schema_format()))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "InternalServiceError"
    assert "secret" not in response.text


# Running it


OFFLINE = """
import asyncio, socket, sys, httpx
from ingest.local.server import create_app
from tests.test_local_server import CHAT, image_bytes, image_part, request

async def main():
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")
    socket.socket.connect = refuse
    socket.create_connection = refuse
    socket.getaddrinfo = refuse
    class NoSocket(socket.socket):
        def __init__(self, *args, **kwargs):
            refuse()
    socket.socket = NoSocket
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://x") as client:
        response = await client.post(CHAT, json=request(image_part(image_bytes("Total 125.40"))))
    print(response.json()["choices"][0]["message"]["content"])

asyncio.run(main())
"""


def test_reading_an_image_opens_no_socket() -> None:
    """Offline means offline: the OCR models lie inside the wheel, and nothing is downloaded on first use."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Total 125.40"


@pytest.mark.parametrize("package", ["starlette", "bpe_openai", "uvicorn"])
def test_missing_extra_is_named(package: str) -> None:
    """Without the optional packages the error must say what to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from ingest.errors import ConfigError\n"
        "try:\n    from ingest.local.server import create_app, serve\n    create_app(); serve(port=0)\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert "pip install 'ingest[local]'" in done.stdout, done.stderr


def test_serve_refuses_strangers_and_busy_ports() -> None:
    """Other machines may only reach an engine that asks for a key; a taken port is told plainly."""
    with pytest.raises(ConfigError, match="give a token"):
        serve("0.0.0.0", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            serve("127.0.0.1", taken.getsockname()[1])


SERVED = """
import sys
from ingest.local.server import create_app, serve
serve(port=0, app=create_app(faults=["dropped"]), announce=lambda url: print(url, flush=True))
"""


def test_served_engine_answers_over_a_socket_and_drops_connections() -> None:
    """`ingest serve` is for clients of any language; a dropped connection must look like one on the wire."""
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("chat/completions", json=request("Total 5"))
            answer = client.post("chat/completions", json=request("Total 5")).json()
        assert answer["choices"][0]["message"]["content"] == "Total 5"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors


def test_ledger_is_shown_only_when_enabled(tmp_path: Path) -> None:
    """The ledger tells what was asked and when; it is the owner's choice to show it."""
    assert call(create_app(), "GET", "/v1/local/ledger").status_code == 404
    app = create_app(serves_ledger=True, ledger_path=tmp_path / "deep" / "ledger.jsonl")
    post(app, request("x"))
    shown = call(app, "GET", "/v1/local/ledger").json()
    assert shown["totals"]["requests"] == 1
    assert [json.loads(line) for line in (tmp_path / "deep" / "ledger.jsonl").open()] == shown["data"]
    with pytest.raises(OutputError):
        create_app(ledger_path=tmp_path)


def test_openai_sdk_talks_to_it() -> None:
    """The vendor's own client is the strictest reader of our bodies."""
    openai = pytest.importorskip("openai")
    http = pytest.importorskip("httpx2")
    app = create_app(api_keys=["sesame"])

    async def scenario(make: Callable[[Any], Any]) -> Any:
        transport = http.ASGITransport(app=app)
        async with http.AsyncClient(transport=transport) as client:
            return await make(openai.AsyncOpenAI(api_key="sesame", base_url="http://x/v1", http_client=client))

    async def ask(client: Any) -> Any:
        return await client.chat.completions.create(**request("Total: 12.50 EUR", response_format=schema_format()))

    async def stream(client: Any) -> list[Any]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return [event async for event in await client.chat.completions.create(**request("Total: 5 EUR"), **options)]

    answer = asyncio.run(scenario(ask))
    assert json.loads(answer.choices[0].message.content)["total"] == 12.5
    assert answer.usage.prompt_tokens > 0
    events = asyncio.run(scenario(stream))
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "Total: 5 EUR"
    assert events[-1].usage.completion_tokens > 0
    with pytest.raises(openai.NotFoundError):
        asyncio.run(scenario(lambda client: client.models.retrieve("nope")))
