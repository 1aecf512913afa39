"""Documents in flight: started in order, done in any, handed on in order again."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from ingest.engine.listing import Listing
from ingest.execute import Done, Work
from ingest.reading.discover import Found
from ingest.reading.staging import Turn

_T = TypeVar("_T")

_VIDEOS_AT_ONCE = 4
"""Videos in flight for each worker: each keeps frames on disk from its opening until they are sent."""

_WINDOW = 4
"""How many times the documents in flight may be done, or wait, behind one that takes long."""


class _Node(Generic[_T]):
    """A document in the window."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.turn = Turn()
        self.is_video = _is_video(found)
        self.has_given_children = False
        self.task: asyncio.Task[Done[_T]] | None = None

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()


async def in_order(
    listing: Listing, work: Work[_T], jobs: int, favour: Callable[[Turn], None], workers: int = 1
) -> AsyncGenerator[_T]:
    """The results of `work`, in the order of the listing; what comes out of a document follows right behind it.

    At most `jobs` run at once for each of the `workers`, and one more if need be: the first that is not done always
    runs, and never waits for room on disk, so that whatever the others wait for becomes free; `favour` is told its
    turn. The window bounds how far the quick ones may run
    ahead. Raises what `work` raises, when its document's turn comes; leaving cancels what runs.
    """
    jobs *= workers
    width = _WINDOW * jobs
    window: list[_Node[_T]] = []
    changed = asyncio.Event()
    try:
        while True:
            if len(window) < width and not listing.is_at_end:
                window.extend(_Node(found) for found in await listing.some(width - len(window)))
            _take_in_children(window)
            if not window:
                if listing.is_at_end:
                    return
                continue
            favour(window[0].turn)
            _start(window[:width], work, jobs, _VIDEOS_AT_ONCE * workers, changed)
            if window[0].is_running and (listing.is_at_end or len(window) >= width):
                await changed.wait()
            changed.clear()
            _take_in_children(window)
            while window and window[0].task is not None and window[0].task.done() and window[0].has_given_children:
                value = window.pop(0).task.result().value  # type: ignore[union-attr]
                if value is not None:
                    yield value
    finally:
        tasks = [node.task for node in window if node.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _start(window: list[_Node[_T]], work: Work[_T], jobs: int, most_videos: int, changed: asyncio.Event) -> None:
    running = sum(node.is_running for node in window)
    videos = sum(node.is_running and node.is_video for node in window)
    for node in window:
        if node.task is not None:
            continue
        may_start = running < jobs and not (node.is_video and videos >= most_videos)
        if may_start or node is window[0]:
            node.task = asyncio.ensure_future(work(node.found, node.turn))
            node.task.add_done_callback(lambda _: changed.set())
            running += 1
            videos += node.is_video


def _take_in_children(window: list[_Node[_T]]) -> None:
    """Put what came out of documents right behind them."""
    for at in range(len(window) - 1, -1, -1):
        node = window[at]
        if node.task is None or not node.task.done() or node.has_given_children:
            continue
        node.has_given_children = True
        if not node.task.cancelled() and node.task.exception() is None:
            window[at + 1 : at + 1] = [_Node(child) for child in node.task.result().children]


def _is_video(found: Found) -> bool:
    """Whether a file is a video by its name, which is enough to share out the disk."""
    media_type, _ = mimetypes.guess_type(found.name)
    return (media_type or "").startswith("video/")
