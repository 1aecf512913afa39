"""A model played by a script: an ASGI app that reads the prompt's page tags and answers as told.

It stands where the embedded engine stands, so a test drives the whole path: reading, planning, wire, parsing,
ledger, merging.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, dict[str, Any]]
_PAGE = re.compile(r'<page number="(\d+)"( context="yes")?>\n?(.*?)(?:\n</page>|\Z)', re.DOTALL)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": ["string", "null"]},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "amount": {"type": "number"}},
                "required": ["name", "amount"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "rows"],
    "additionalProperties": False,
}
"""Documents of these tests hold a line `TITLE: …` and lines `ROW name amount`."""


@dataclass
class ScriptedModel:
    """Answers SCHEMA truthfully from the page text it is sent; `script` may answer in its place.

    `script(pages, call_number)` gets the owned page numbers and returns (status, body), or None for the truth.
    `calls` holds the owned page numbers of every request.
    """

    script: Callable[[list[int], int], Answer | None] = lambda pages, number: None
    calls: list[list[int]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        assert scope["type"] == "http"
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        status, body = self.answer(json.loads(raw))
        content = json.dumps(body).encode()
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": content})

    def answer(self, body: dict[str, Any]) -> Answer:
        """The answer to one request body."""
        self.bodies.append(body)
        texts = [part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text"]
        pages = [(int(match[1]), match[3]) for text in texts for match in _PAGE.finditer(text) if match[2] is None]
        self.calls.append([number for number, _ in pages])
        told = self.script(self.calls[-1], len(self.calls))
        return told if told is not None else completion(json.dumps(truth(pages)))


def truth(pages: list[tuple[int, str]]) -> dict[str, Any]:
    """What the pages say, in the chunk schema with page evidence."""
    titles = [(number, match[1]) for number, text in pages for match in re.finditer(r"TITLE: *(\S+)", text)]
    rows = [
        {"_page": number, "name": match[1], "amount": float(match[2])}
        for number, text in pages
        for match in re.finditer(r"ROW +(\S+) +(\S+)", text)
    ]
    title = {"_page": titles[0][0], "value": titles[0][1]} if titles else None
    return {"title": title, "rows": rows}


def completion(text: str, finish_reason: str = "stop", input_tokens: int = 100, output_tokens: int = 20) -> Answer:
    """A chat completion."""
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": 0}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return 200, {"id": "x", "object": "chat.completion", "model": "upstream", "choices": [choice], "usage": usage}


def failure(status: int, code: str, message: str = "no") -> Answer:
    """An error body."""
    return status, {"error": {"code": code, "message": message, "type": "error", "param": None}}
