"""Models that misbehave in one named way each, on httpx's own mock transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from ingest.config import Endpoint
from ingest.profile import Profile, load_profile
from ingest.types import Image, Request, Text

KEY = "sk-test-0123456789abcdef"

Handler = Callable[[int], httpx.Response | Awaitable[httpx.Response]]


@dataclass
class FakeModel:
    """Answers call `number` (from 1) with `handler(number)`; keeps what it was sent."""

    handler: Handler
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.bodies)

    @property
    def transport(self) -> httpx.MockTransport:
        """What to give to a client in place of a network."""
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        self.headers.append(request.headers)
        self.urls.append(str(request.url))
        number = len(self.bodies)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            found = self.handler(number)
            return found if isinstance(found, httpx.Response) else await found
        finally:
            self._at_once -= 1


def completion(
    text: str | None = "{}", finish_reason: str = "stop", usage: dict[str, Any] | None = None, **message: Any
) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "upstream-id-260328",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish_reason,
                "logprobs": None,
                "message": {"role": "assistant", "content": text} | message,
            }
        ],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def error_body(code: str, message: str = "no", **more: Any) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"code": code, "message": message} | more}


def answering(text: str = "{}", **more: Any) -> FakeModel:
    """Answers every call."""
    return FakeModel(lambda number: httpx.Response(200, json=completion(text, **more)))


def failing(status: int, body: Any, times: int = 1_000, headers: dict[str, str] | None = None) -> FakeModel:
    """Fails `times` times with an error, then answers."""

    def handler(number: int) -> httpx.Response:
        if number > times:
            return httpx.Response(200, json=completion())
        if isinstance(body, bytes):
            return httpx.Response(status, content=body, headers=headers)
        return httpx.Response(status, json=body, headers=headers)

    return FakeModel(handler)


def rate_limited(times: int = 1_000, retry_after: str | None = None) -> FakeModel:
    """Refuses for too many requests."""
    headers = {"retry-after": retry_after} if retry_after is not None else None
    return failing(429, error_body("rate_limit_exceeded", "slow down"), times, headers)


def overloaded(times: int = 1_000) -> FakeModel:
    """Has no capacity, which this service reports as a 429."""
    return failing(429, error_body("ServerOverloaded", "busy"), times)


def breaking(error: type[httpx.TransportError], times: int = 1_000) -> FakeModel:
    """Breaks the connection."""

    def handler(number: int) -> httpx.Response:
        if number <= times:
            raise error("connection trouble")
        return httpx.Response(200, json=completion())

    return FakeModel(handler)


def hanging() -> FakeModel:
    """Never answers."""

    async def handler(number: int) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits that long")

    def start(number: int) -> Awaitable[httpx.Response]:
        return handler(number)

    return FakeModel(start)


def slow(seconds: float = 0.01) -> FakeModel:
    """Answers after a while, so that calls overlap."""

    async def handler(number: int) -> httpx.Response:
        await asyncio.sleep(seconds)
        return httpx.Response(200, json=completion())

    return FakeModel(handler)


def make_profile(**changes: Any) -> Profile:
    """The default profile, without rate limits unless they are given."""
    limits = {"requests_per_minute": None, "tokens_per_minute": None, "concurrency": 4}
    profile = load_profile("seed-2-0-pro")
    table = profile.model_dump() | {"rate_limits": limits} | changes
    return Profile.model_validate(table)


def make_endpoint(key: str | None = KEY, base_url: str = "https://models.invalid/v1", **more: Any) -> Endpoint:
    """An endpoint that does not exist."""
    return Endpoint.model_validate({"base_url": base_url, "api_key": key} | more)


def make_request(image: bool = False, **changes: Any) -> Request:
    """A small request."""
    picture = (Image(b"\xff\xd8\xff", "image/jpeg", 20, 20),) if image else ()
    values: dict[str, Any] = {
        "key": "k" * 64,
        "model": "seed-2-0-pro",
        "system": "Extract.",
        "contents": (Text("opening"), *picture, Text("closing")),
        "schema": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        "schema_name": "invoice",
        "rung": "json_schema",
        "parameters": {"max_tokens": 1000, "enable_thinking": False, "image_detail": "high"},
    }
    return Request(**(values | changes))
