"""Requests and tokens per minute, and the width of the stream of calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import stamina

from ingest.asking.client import Client
from ingest.asking.limits import Gate, Limits
from ingest.config import AskingSettings
from ingest.profile import RateLimits
from tests import fakes


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=6):
        yield


def test_no_more_calls_at_once_than_allowed() -> None:
    """The account's concurrency is shared by all documents in flight."""
    model = fakes.slow()

    async def many() -> None:
        async with Client(
            fakes.make_endpoint(), fakes.make_profile(), AskingSettings(), transport=model.transport
        ) as client:
            await asyncio.gather(*(client.ask(fakes.make_request()) for _ in range(20)))

    asyncio.run(many())
    assert model.most_at_once == 4
    assert model.calls == 20


def test_pressure_halves_the_width_once_and_ease_brings_it_back() -> None:
    """Eight calls throttled together are one sign, else the first burst would throttle a run to a single file."""

    async def press() -> list[int]:
        gate = Gate(8)
        tokens = [await gate.enter() for _ in range(8)]
        widths = []
        for token in tokens:
            gate.press(token)
        widths.append(gate.width)
        gate.press(await _after_leaving(gate, 8))
        widths.append(gate.width)
        for _ in range(100):
            gate.ease()
        return [*widths, gate.width]

    assert asyncio.run(press()) == [4, 2, 8]


async def _after_leaving(gate: Gate, count: int) -> int:
    for _ in range(count):
        gate.leave()
    return await gate.enter()


def test_a_narrowed_gate_keeps_the_rest_waiting() -> None:
    """After pressure fewer calls are under way, and none is forgotten."""

    async def run() -> tuple[int, int]:
        gate = Gate(4)
        token = await gate.enter()
        gate.press(token)
        gate.leave()
        now = most = 0

        async def call() -> None:
            nonlocal now, most
            await gate.enter()
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            gate.leave()

        await asyncio.gather(*(call() for _ in range(30)))
        return most, now

    assert asyncio.run(run()) == (2, 0)


def test_a_cancelled_waiter_passes_its_place_on() -> None:
    """A document given up while waiting must not take a place with it."""

    async def run() -> None:
        gate = Gate(1)
        await gate.enter()
        first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        gate.leave()
        first.cancel()
        await asyncio.wait_for(second, 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    "rates",
    [RateLimits(requests_per_minute=6000, concurrency=100), RateLimits(tokens_per_minute=60_000, concurrency=100)],
)
def test_a_minute_never_sees_more_than_the_limit(rates: RateLimits) -> None:
    """A fifth may go at once; what comes after is spread over the minute."""
    share = 1 if rates.requests_per_minute else 10

    async def run() -> float:
        limits = Limits(rates)
        started = time.monotonic()

        async def call() -> None:
            async with limits.slot(share):
                pass

        await asyncio.gather(*(call() for _ in range(1_216)))
        return time.monotonic() - started

    # 1,200 at once, then 80 per second.
    assert asyncio.run(run()) >= 0.15


def test_a_request_beyond_the_bucket_is_still_sent() -> None:
    """One page may be larger than the burst; it takes the whole bucket rather than wait for ever."""

    async def run() -> None:
        limits = Limits(RateLimits(tokens_per_minute=100_000, concurrency=1))
        async with limits.slot(90_000):
            pass

    asyncio.run(asyncio.wait_for(run(), 1))
