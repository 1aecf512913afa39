"""The embedded local engine, mounted in-process: no socket, no key."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self

from ingest.asking.client import AsgiApp, AsgiScope, Receive, Send


class EmbeddedEngine:
    """An ASGI app that becomes the local engine when the first request comes: most reruns send none.

    Use as an async context manager; leaving it lets the engine's threads go.
    """

    def __init__(self) -> None:
        self._making: asyncio.Task[AsgiApp] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._making is not None:
            await asyncio.wait([self._making])
        await self._stack.aclose()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        app = await asyncio.shield(self._making)
        await app(scope, receive, send)

    async def _make(self) -> AsgiApp:
        from ingest.local.server import create_app

        app = await asyncio.to_thread(create_app)
        await self._stack.enter_async_context(app.router.lifespan_context(app))
        return app
