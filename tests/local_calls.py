"""Requests to the local engine in this process, and what its answers hold."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.local import answering
from ingest.local.server import create_app
from ingest.local.serving import serve

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
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


def page_in_document(text: str) -> str:
    """A document of one text page."""
    return f'<document pages="1">\n{page(1, text)}\n</document>'


def refused(app: Any, body: Mapping[str, Any], status: int = 400) -> dict[str, Any]:
    """The error of a refused request, in the OpenAI envelope."""
    response = post(app, body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return dict(error)


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


def echo_words(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Replaces the filler by one that notes what it gets and answers the words it read."""
    seen = Seen()

    def fill(
        schema: Mapping[str, Any], pages: Sequence[Any], instructions: str, end_s: float | None = None
    ) -> EchoedWords:
        seen.pages, seen.instructions, seen.schema = pages, instructions, schema
        return EchoedWords({"words": " ".join(page.text for page in pages)})

    monkeypatch.setattr(answering, "fill", fill)
    return seen


def response_request(*texts: Any, **more: Any) -> dict[str, Any]:
    """A responses request whose user message has these parts; a string is a text part."""
    parts = [{"type": "input_text", "text": text} if isinstance(text, str) else text for text in texts]
    body = {"model": "seed-2-0-pro", "input": [{"role": "user", "content": parts}], "max_output_tokens": 1000}
    return body | more


def message_request(*texts: Any, **more: Any) -> dict[str, Any]:
    """A messages request whose user message has these blocks; a string is a text block."""
    blocks = [{"type": "text", "text": text} if isinstance(text, str) else text for text in texts]
    return {"model": "seed-2-0-pro", "messages": [{"role": "user", "content": blocks}], "max_tokens": 1000} | more


def events_of(response: httpx.Response) -> list[Any]:
    """The data of every event of a stream: JSON, or the bare word."""
    blocks = response.text.replace("\r\n", "\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    datas = [line.removeprefix("data: ") for line in lines]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


class ServedEngine:
    """The engine on a free port of this machine, in a thread, while the context lasts; gives its base URL."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._urls: queue.Queue[str] = queue.Queue()
        self._servers: list[Any] = []

    def __enter__(self) -> str:
        import uvicorn

        run = uvicorn.Server.run
        servers = self._servers

        def noted(server: Any, sockets: Any = None) -> None:
            servers.append(server)
            run(server, sockets)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uvicorn.Server, "run", noted)
            app = create_app(**self._options)
            self.app = app
            self._thread = threading.Thread(target=serve, kwargs={"port": 0, "app": app, "announce": self._urls.put})
            self._thread.start()
            url = self._urls.get(timeout=30)
            while not (self._servers and self._servers[0].started):
                time.sleep(0.01)
        return url

    def __exit__(self, *_: object) -> None:
        self._servers[0].should_exit = True
        self._thread.join(30)
