"""An event loop in a thread of its own: the caller's thread, and a loop that runs there, are never in the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ingest.errors import ConfigError

_T = TypeVar("_T")


class LoopThread:
    """An event loop in a thread of its own. May be used from any thread; `close` cancels what still runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A signal handler may come back here while its thread holds the lock.
        self._guard = threading.RLock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="ingest", daemon=True)
        self._thread.start()

    @property
    def is_mine(self) -> bool:
        """Whether the caller runs in this very thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start `work`. Raises ConfigError once the loop is closed."""
        with self._guard:
            if self._is_closed:
                work.close()
                raise ConfigError("this Ingestor was closed while it was asked: make another one")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`; an interrupted wait cancels it. Raises ConfigError when called from the loop itself."""
        if self.is_mine:
            work.close()
            raise ConfigError("an observer cannot wait for the Ingestor that called it: do this after the call")
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, wait for its end, and end the thread."""
        with self._guard:
            if self._is_closed:
                return
            last = self.submit(_cancel_all())
            self._is_closed = True
        try:
            last.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
