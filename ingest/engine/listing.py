"""What is to be ingested, listed a little ahead of the work: any number of documents, and memory for a few."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator

from ingest.reading.discover import Found

_MOST_AHEAD = 2_000
"""Documents that are listed before the first is opened, to tell how many there are: some 2 MB."""
_AHEAD_S = 2.0
_PULLED_AT_ONCE = 64
_PULL_S = 0.2
"""How long listing may keep results waiting: folders of some stores answer slowly."""


class Listing:
    """Documents found one after the other, by a generator that runs in a thread.

    `count` is how many there are if the listing came to its end in `look_ahead`, else None. Close it when done.
    """

    def __init__(self, discover: Callable[[], Iterator[Found]]) -> None:
        self._discover = discover
        self._found: Iterator[Found] | None = None
        self._ahead: deque[Found] = deque()
        self._is_exhausted = False
        self._pulling: asyncio.Future[list[Found]] | None = None
        self.count: int | None = None

    @property
    def is_at_end(self) -> bool:
        """Whether every document was handed on."""
        return self._is_exhausted and not self._ahead

    @property
    def ahead(self) -> tuple[Found, ...]:
        """Those that are listed and not handed on."""
        return tuple(self._ahead)

    async def look_ahead(self) -> None:
        """List the first ones. Raises ConfigError when one of the things named does not exist."""
        deadline = time.monotonic() + _AHEAD_S
        while not self._is_exhausted and len(self._ahead) < _MOST_AHEAD and time.monotonic() < deadline:
            self._ahead.extend(await self._pull(_PULLED_AT_ONCE))
        if self._is_exhausted:
            self.count = len(self._ahead)

    async def some(self, most: int) -> list[Found]:
        """The next ones, at most so many: what is at hand, else what a moment of listing gives."""
        if not self._ahead and not self._is_exhausted:
            self._ahead.extend(await self._pull(most))
        return [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]

    async def close(self) -> None:
        """Let go of the lists that are being read."""
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
        close = getattr(self._found, "close", None)
        if close is not None:
            await asyncio.to_thread(close)

    async def _pull(self, most: int) -> list[Found]:
        self._pulling = asyncio.ensure_future(asyncio.to_thread(self._list, most))
        # A thread cannot be cancelled: `close` waits for it.
        return await asyncio.shield(self._pulling)

    def _list(self, most: int) -> list[Found]:
        if self._found is None:
            self._found = self._discover()
        found: list[Found] = []
        deadline = time.monotonic() + _PULL_S
        while len(found) < most and time.monotonic() < deadline:
            each = next(self._found, None)
            if each is None:
                self._is_exhausted = True
                break
            found.append(each)
        return found
