"""What the local engine refuses: each would be refused, or paid for in vain, at the real endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import Unreadable
from ingest.local import reader
from ingest.local.server import create_app
from tests.local_calls import (
    CHAT,
    TOTAL,
    Seen,
    call,
    echo_words,
    image_bytes,
    image_part,
    post,
    refused,
    request,
    schema_format,
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the filler was handed; it answers with the words it read."""
    return echo_words(monkeypatch)


@pytest.fixture(scope="module")
def app() -> Any:
    """The engine as it is by default."""
    return create_app()


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
        ("type", ["string", {}]),
        ("required", ["absent"]),
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


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["object", "user", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "items", "properties", "role", "content", "$ref"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["messages", "tools", "tool_choice", "response_format", "stop", "schema"]), value=JSON_VALUES
)
def test_no_value_of_any_field_breaks_the_engine(app: Any, name: str, value: Any) -> None:
    """Whatever JSON stands in a field, the answer is one of the API's own, never a crash."""
    more = {"response_format": schema_format(value, strict=False)} if name == "schema" else {name: value}
    response = call(app, "POST", CHAT, content=json.dumps(request("Total: 5 EUR", **more)).encode())
    assert response.status_code in (200, 400)


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
