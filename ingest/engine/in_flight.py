"""Requests whose content is in memory: how many at once, and how many bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ingest.types import Loaded, Text

# Bytes of request bodies that are held at once. The images they were made of are held beside them: three quarters more.
_MOST_BYTES = 500_000_000


class Place:
    """Room for one request; planned at first, and what it really takes once its content is loaded."""

    def __init__(self, rooms: Rooms, size_bytes: int) -> None:
        self._rooms = rooms
        self.size_bytes = size_bytes

    def holds(self, loaded: Sequence[Loaded]) -> None:
        """The content is there: images are squeezed to less than is planned for them, mostly to far less."""
        contents = (content for item in loaded for content in item.contents)
        actual = sum(len(each.text) if isinstance(each, Text) else len(each.data) * 4 // 3 for each in contents)
        self._rooms.resize(self, min(actual, self.size_bytes))


class Rooms:
    """Room for so many requests at once and so many bytes of them, given in the order it was asked for."""

    def __init__(self, most: int, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._count = 0
        self._bytes = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, size_bytes: int = 0) -> AsyncIterator[Place]:
        """Wait for room for a request of this size. One that is larger than all room waits until there is no other."""
        if self._waiters or not self._fits(size_bytes):
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append((size_bytes, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(size_bytes)
                raise
        else:
            self._enter(size_bytes)
        place = Place(self, size_bytes)
        try:
            yield place
        finally:
            self._leave(place.size_bytes)

    def resize(self, place: Place, size_bytes: int) -> None:
        """Count a place as so many bytes from now on."""
        self._bytes += size_bytes - place.size_bytes
        place.size_bytes = size_bytes
        self._wake()

    def _fits(self, size_bytes: int) -> bool:
        return self._count == 0 or (self._count < self._most and self._bytes + size_bytes <= self._most_bytes)

    def _enter(self, size_bytes: int) -> None:
        self._count += 1
        self._bytes += size_bytes

    def _leave(self, size_bytes: int) -> None:
        self._count -= 1
        self._bytes -= size_bytes
        self._wake()

    def _wake(self) -> None:
        while self._waiters and (self._waiters[0][1].done() or self._fits(self._waiters[0][0])):
            size_bytes, turn = self._waiters.popleft()
            if not turn.done():
                self._enter(size_bytes)
                turn.set_result(None)
