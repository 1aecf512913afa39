"""A model's API that answers the same after a while, with books of its own, in a process of its own.

`with serving(latency_s=0.5) as server:` gives its address; `server.calls()` is what it saw, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import ROOT

INPUT_TOKENS, OUTPUT_TOKENS = 900, 30


@dataclass(frozen=True)
class Call:
    """One request: when it came in seconds, the hash of what it asked, and how many were under way with it."""

    at_s: float
    asked: str
    width: int


@dataclass(frozen=True)
class SlowServer:
    """A server that runs."""

    base_url: str

    def calls(self) -> list[Call]:
        """Every request since it was started."""
        return [Call(*row) for row in httpx.get(f"{self.base_url}/books", timeout=30.0).json()]


@contextmanager
def serving(latency_s: float) -> Iterator[SlowServer]:
    """A server for as long as the context; it ends with this process, too."""
    words = [sys.executable, "-m", "tests.slow_server", str(latency_s)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield SlowServer(f"http://127.0.0.1:{int(server.stdout.readline())}/v1")
    finally:
        server.stdin.close()
        server.wait(10)
        server.stdout.close()


class _Api:
    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._calls: list[tuple[float, str, int]] = []
        self._width = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"].endswith("/books"):
            return await _reply(send, self._calls)
        self._width += 1
        self._calls.append((time.monotonic(), hashlib.sha256(body).hexdigest(), self._width))
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self._width -= 1
        return await _reply(send, _answer())


def _answer() -> dict[str, Any]:
    content = json.dumps({"number": {"value": "A-1", "_page": 1}, "total": {"value": 12.5, "_page": 1}})
    total = INPUT_TOKENS + OUTPUT_TOKENS
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "seed-2-0-pro",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": total},
    }


async def _reply(send: Any, body: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _serve(latency_s: float) -> None:
    import socket

    import uvicorn

    taken = socket.create_server(("127.0.0.1", 0), backlog=1_000)
    server = uvicorn.Server(uvicorn.Config(_Api(latency_s), log_level="error", access_log=False, lifespan="off"))
    print(taken.getsockname()[1], flush=True)
    running = asyncio.ensure_future(server.serve(sockets=[taken]))
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = server.force_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
