"""How an answer goes over the wire: at which pace, in which pieces, and with which faults on the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.local.faults import IN_STREAM, Fault, garbage
from ingest.local.serving import RESET
from ingest.local.shaping import Event

EVENT_STREAM = "text/event-stream"
_BROKEN = ("dropped", "unfinished", "no_close")
_SPLIT_SEED = 5
_LARGEST_SPLIT_BYTES = 5
# Written with \u escapes, so that these can be split too.
_ascii = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the service answers: seconds before the first piece, then tokens in a second (None: at once)."""

    latency_s: float = 0.0
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to send after a wait."""

    data: bytes
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Route:
    """Everything a response sends: `steps` in order, after `wait_s` before its first byte.

    `is_reset` breaks the connection at the end, and `is_unopened` before anything is sent.
    """

    steps: Sequence[Step]
    wait_s: float = 0.0
    is_reset: bool = False
    is_unopened: bool = False


def route_body(body: bytes, fault: Fault, pace: Pace, output_tokens: int, request_id: str) -> Route:
    """A plain body on its way."""
    wait_s = pace.latency_s + (output_tokens / pace.tokens_per_s if pace.tokens_per_s else 0.0)
    half = body[: fault.cut(len(body))]
    kind = fault.kind
    if kind == "reset":
        return Route((), wait_s, is_reset=True, is_unopened=True)
    if kind == "stalled":
        return Route((Step(half), Step(b"", fault.wait_s)), wait_s, is_reset=True)
    if kind in _BROKEN:
        return Route((Step(half),), wait_s, is_reset=True)
    if kind in ("slow", "slow_first"):
        return Route((Step(body),), wait_s + fault.wait_s)
    if kind == "garbage":
        body = garbage(request_id)
    elif kind == "empty_body":
        body = b""
    elif kind == "malformed_event":
        body = body[:-1]
    elif kind == "pings":
        body = b"\n\n" + body
    elif kind == "split_bytes":
        return Route([Step(piece) for piece in _split(body)], wait_s)
    return Route((Step(body),), wait_s)


def route_stream(
    events: Sequence[Event], fault: Fault, pace: Pace, output_tokens: int, failure: Event | None = None
) -> Route:
    """A stream on its way; `failure` is the event that ends one which fails midway."""
    kind = fault.kind
    if kind == "reset":
        return Route((), pace.latency_s, is_reset=True, is_unopened=True)
    if kind in ("garbage", "empty_body"):
        return Route((Step(garbage("") if kind == "garbage" else b""),), pace.latency_s)
    cut = fault.cut(len(events))
    if kind in (*IN_STREAM, "unfinished", "stalled", "dropped"):
        events = [*events[:cut], *([failure] if failure is not None else [])]
    elif kind == "no_close":
        events = [event for event in events if not event.is_closing]
    elif kind in ("duplicate_event", "duplicate_close"):
        events = _repeat(events, fault)
    steps = list(_paced(events, fault, pace, output_tokens))
    if kind == "stalled":
        steps.append(Step(b"", fault.wait_s))
    if kind == "dropped" and steps:
        # The break comes inside an event, not between two.
        steps[-1] = replace(steps[-1], data=steps[-1].data[: len(steps[-1].data) // 2])
    wait_s = pace.latency_s + (fault.wait_s if kind == "slow" else 0.0)
    return Route(steps, wait_s, is_reset=kind in ("stalled", "dropped"))


def _repeat(events: Sequence[Event], fault: Fault) -> list[Event]:
    """The events with one of them twice: a piece of the answer, or the closing one."""
    is_wanted = [event.is_closing if fault.kind == "duplicate_close" else event.is_delta for event in events]
    places = [index for index, wanted in enumerate(is_wanted) if wanted]
    if not places:
        return list(events)
    at = places[min(fault.cut(len(places)), len(places) - 1)]
    return [*events[: at + 1], events[at], *events[at + 1 :]]


def _paced(events: Sequence[Event], fault: Fault, pace: Pace, output_tokens: int) -> Iterator[Step]:
    """Encoded events, each piece of the answer after its share of the time."""
    deltas = sum(event.is_delta for event in events)
    share_s = output_tokens / pace.tokens_per_s / max(deltas, 1) if pace.tokens_per_s else 0.0
    first_s = fault.wait_s if fault.kind == "slow_first" else 0.0
    broken_at = fault.cut(len(events)) if fault.kind == "malformed_event" else -1
    for number, event in enumerate(events):
        wait_s = share_s if event.is_delta else 0.0
        if event.is_delta:
            wait_s, first_s = wait_s + first_s, 0.0
        data = event.encode()
        if number == broken_at:
            data = data[: len(data) // 2] + b"\n\n"
        yield from _dressed(event, data, fault.kind, number, wait_s)


def _dressed(event: Event, data: bytes, kind: str, number: int, wait_s: float) -> Iterator[Step]:
    """One event in the dress a fault gives it: in splinters, behind pings, with other line ends."""
    if kind == "split_bytes":
        if number % 2 and not isinstance(event.data, str):
            data = replace(event, data=_ascii(event.data)).encode()
        yield from (Step(piece, wait_s if first else 0.0) for first, piece in _flagged(_split(data)))
        return
    if kind == "pings":
        yield Step(b": ping\n\n")
        yield Step(b'event: ping\ndata: {"type":"ping"}\n\n' if number % 2 and event.name else b"retry: 3000\n\n")
    yield Step(data.replace(b"\n", b"\r\n") if kind == "crlf" else data, wait_s)


def _flagged(pieces: Iterator[bytes]) -> Iterator[tuple[bool, bytes]]:
    for number, piece in enumerate(pieces):
        yield number == 0, piece


def _split(data: bytes) -> Iterator[bytes]:
    """The bytes in pieces of one to five, the same each time."""
    sizes = random.Random(_SPLIT_SEED)
    places = [0]
    while places[-1] < len(data):
        places.append(places[-1] + sizes.randint(1, _LARGEST_SPLIT_BYTES))
    yield from (data[start:end] for start, end in pairwise(places))


class Delivery(Response):
    """A response that follows a route. `on_end` is called once with whether all of it went out as it should.

    A broken connection is a ConnectionResetError from the app, raised to the caller in this process; a server gives a
    function to reset the socket in the scope, under `serving.RESET`. Sending stops when the client is gone.
    """

    def __init__(self, route: Route, media_type: str, headers: dict[str, str], on_end: Callable[[bool], None]) -> None:
        super().__init__(media_type=media_type, headers=headers)
        self._route = route
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response."""
        was_delivered = False
        waits = self._route.wait_s or any(step.wait_s for step in self._route.steps)
        try:
            if waits:
                was_delivered = await _unless_gone(self._send(send), receive)
            else:
                await self._send(send)
                was_delivered = True
        except ConnectionResetError:
            if RESET in scope:
                scope[RESET]()
            raise
        finally:
            self._on_end(was_delivered)

    async def _send(self, send: Send) -> None:
        route = self._route
        if route.wait_s:
            await asyncio.sleep(route.wait_s)
        if route.is_unopened:
            raise ConnectionResetError("the connection was reset (injected fault)")
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        if self.media_type != EVENT_STREAM and not route.is_reset:
            headers.append((b"content-length", str(sum(len(step.data) for step in route.steps)).encode()))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        last = len(route.steps) - 1
        for number, step in enumerate(route.steps):
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            is_last = number == last and not route.is_reset
            await send({"type": "http.response.body", "body": step.data, "more_body": not is_last})
        if route.is_reset:
            # Bytes under way go out before the break.
            await asyncio.sleep(0)
            raise ConnectionResetError("the connection was reset (injected fault)")
        if last < 0:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _unless_gone(sending: Coroutine[None, None, None], receive: Receive) -> bool:
    """Sends until done or until the client is gone; whether it was done."""
    task = asyncio.ensure_future(sending)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
