"""Whose turn it is to ask: the answer that is there already, or the right to be the only one who asks for it.

Two documents with the same bytes ask once within a run; two runs on one ledger, on one machine or many, ask once
between them (see `ingest.keeping.ledger.claims`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from ingest.config import KeepingSettings
from ingest.engine.in_flight import Place, Rooms
from ingest.errors import LedgerError
from ingest.keeping.ledger import Ledger
from ingest.types import Reply

_LOG = logging.getLogger(__name__)

_BEATS_PER_TIMEOUT = 3
# Between looks whether another run's answer has come.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_LATER_THAN_ALL = 2**62


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done about a request: nothing when there is a `reply`, else it is asked from a `place`."""

    reply: Reply | None
    place: Place | None


class Turns:
    """The answers that count in this run, and the turns of those that ask.

    `run_id` is None while planning: then every answer is an earlier run's, and nobody asks.
    """

    def __init__(self, ledger: Ledger, settings: KeepingSettings, rooms: Rooms, run_id: int | None = None) -> None:
        self._ledger = ledger
        self._settings = settings
        self._rooms = rooms
        self._this_run = _LATER_THAN_ALL if run_id is None else run_id
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._has_told = False

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[str | None]:
        """Around a run: others see what it asks for. Gives its name among the owners of claims, if it needs one."""
        timeout_s = self._settings.claim_timeout_s
        owner = self._ledger.claims.enter(self._this_run, timeout_s)
        beating = asyncio.create_task(self._beat(timeout_s / _BEATS_PER_TIMEOUT)) if owner is not None else None
        try:
            yield owner
        finally:
            if beating is not None:
                beating.cancel()
                with suppress(asyncio.CancelledError):
                    await beating

    async def _beat(self, pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                self._ledger.claims.beat()
            except LedgerError as error:
                # Whoever writes an answer next is told; a short loss heals by itself.
                _LOG.warning("the ledger cannot be told that this run lives: %s", error.message)

    def has(self, key: str) -> bool:
        """Whether there is an answer that counts."""
        return self._ledger.answers.has(key, self._since(is_aside=False))

    def recall(self, key: str, *, is_aside: bool = False) -> Reply | None:
        """The answer that counts. With `is_aside` only one of this run does: the earlier one was of no use."""
        return self._ledger.answers.get(key, self._since(is_aside=is_aside))

    def is_earlier(self, key: str) -> bool:
        """Whether the answer under a key is there since an earlier run."""
        answers = self._ledger.answers
        return answers.has(key) and not answers.has(key, self._this_run)

    @asynccontextmanager
    async def take(
        self,
        key: str,
        in_time: Callable[[], AbstractAsyncContextManager[None]],
        size_bytes: int = 0,
        *,
        is_aside: bool = False,
    ) -> AsyncIterator[Turn]:
        """The turn of a request: waits for those who ask for the same, and for room in memory, as long as `in_time`.

        The claim is let go with the answer, or when the asking fails.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            wait_s = _FIRST_WAIT_S
            while (reply := self.recall(key, is_aside=is_aside)) is None:
                async with self._rooms.take(size_bytes) as place:
                    if self._ledger.claims.take(key):
                        try:
                            # Another run may have let go after it answered, between our look and our claim.
                            yield Turn(self.recall(key, is_aside=is_aside), place)
                        finally:
                            self._ledger.claims.release(key)
                        return
                async with in_time():
                    await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)
                if wait_s == _LONGEST_WAIT_S and not self._has_told:
                    self._has_told = True
                    _LOG.warning("another run is asking for the same: this one waits for its answers")
            yield Turn(reply, None)

    def _since(self, *, is_aside: bool) -> int:
        return self._this_run if is_aside or self._settings.fresh else 0
