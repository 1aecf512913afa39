"""Requests and tokens per minute, and the width of the stream of calls."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator

import httpx
import pytest
import stamina

from ingest.asking.client import Client
from ingest.asking.limits import Gate, Limits
from ingest.config import AskingSettings
from ingest.local.limiter import Limiter
from ingest.local.refusal import Refusal
from ingest.profile import RateLimits
from ingest.types import Text
from tests import fakes, virtual_time


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


# --- minutes ---


def grants(rates: RateLimits, tokens: list[int], used: float = 1.0, latency_s: float = 0.0) -> list[tuple[float, int]]:
    """When each call was let through, on a clock that jumps, and how many tokens it really used."""
    times: list[tuple[float, int]] = []

    async def run() -> None:
        limits = Limits(rates)

        async def call(reserved: int) -> None:
            async with limits.slot(reserved) as slot:
                times.append((asyncio.get_running_loop().time(), int(reserved * used)))
                await asyncio.sleep(latency_s)
                slot.went_well(int(reserved * used))

        await asyncio.gather(*(call(reserved) for reserved in tokens))

    virtual_time.run(run())
    return times


def busiest_minute(times: list[tuple[float, int]]) -> tuple[int, int]:
    """Most calls and most tokens in any minute, wherever it begins."""
    counts = [[other for other in times if 0 <= other[0] - start < 60] for start, _ in times]
    return max(len(count) for count in counts), max(sum(tokens for _, tokens in count) for count in counts)


def test_no_minute_holds_more_requests_than_allowed() -> None:
    """The server's minute begins where it likes: no minute at all may hold more."""
    times = grants(RateLimits(requests_per_minute=50, concurrency=100), [0] * 400)
    assert busiest_minute(times)[0] == 50
    # A fifth at once, the rest spread; 50 in each minute of 61 s.
    assert [start for start, _ in times[:10]] == [0.0] * 10
    assert times[-1][0] <= 8 * 61
    steady = [start for start, _ in times[100:]]
    assert len(steady) / (steady[-1] - steady[0]) * 60 >= 48


def test_no_minute_holds_more_tokens_than_allowed() -> None:
    """Tokens count as input and reserved output, call by call."""
    sizes = [20_000 + 977 * number % 110_000 for number in range(200)]
    times = grants(RateLimits(tokens_per_minute=2_000_000, concurrency=100), sizes)
    assert busiest_minute(times)[1] <= 2_000_000
    assert times[-1][0] <= sum(sizes) / 2_000_000 * 61 * 1.08 + 61


def test_calls_are_let_through_in_the_order_they_came() -> None:
    """A large call behind which small ones slip through would never be made."""
    sizes = [60_000, 90_000, 1_000, 1_000]
    assert [tokens for _, tokens in grants(RateLimits(tokens_per_minute=100_000, concurrency=9), sizes)] == sizes


def test_a_request_beyond_the_limit_is_still_sent() -> None:
    """One page may be larger than an account's minute; it takes a whole one rather than wait for ever."""
    times = grants(RateLimits(tokens_per_minute=100_000, concurrency=4), [250_000, 10, 250_000])
    assert [start for start, _ in times] == pytest.approx([0, 60.3, 120.6], abs=0.1)


def test_what_was_reserved_and_not_used_is_given_to_others() -> None:
    """Answers rarely come near their limit: counting it in full would leave most of the account unused."""
    rates = RateLimits(tokens_per_minute=2_000_000, concurrency=100)
    times = grants(rates, [100_000] * 400, used=0.5, latency_s=2.0)
    per_minute = [sum(tokens for start, tokens in times if 60 * n <= start < 60 * n + 60) for n in range(2, 9)]
    assert min(per_minute) >= 0.9 * 2_000_000
    assert busiest_minute(times)[1] <= 1.02 * 2_000_000


def test_a_server_that_counts_reservations_is_believed() -> None:
    """Throttled for tokens in spite of our count: reservations then count more, in the end whole."""
    windows: dict[int, float] = {}
    refused: list[float] = []

    async def run() -> None:
        limits = Limits(RateLimits(tokens_per_minute=1_000_000, concurrency=40))

        async def call() -> None:
            while True:
                async with limits.slot(50_000) as slot:
                    minute = int(asyncio.get_running_loop().time() // 60)
                    if windows.get(minute, 0) + 50_000 > 1_000_000:
                        refused.append(asyncio.get_running_loop().time())
                        slot.was_throttled(is_about_tokens=True)
                    else:
                        windows[minute] = windows.get(minute, 0) + 50_000
                        await asyncio.sleep(3)
                        slot.went_well(25_000)
                        return
                await asyncio.sleep(20)

        await asyncio.gather(*(call() for _ in range(400)))

    virtual_time.run(run())
    last = max(windows)
    assert not [when for when in refused if when > 60 * last / 2]
    assert sum(windows[minute] for minute in range(last // 2, last)) / (last - last // 2) > 880_000


def test_a_server_with_a_longer_minute_is_believed() -> None:
    """Ways to the server differ in length; throttled for it, the client's minute grows until it is not."""
    times: list[float] = []
    refused: list[float] = []

    async def run() -> None:
        limits = Limits(RateLimits(requests_per_minute=50, concurrency=40))

        async def call() -> None:
            while True:
                async with limits.slot(0) as slot:
                    now_s = asyncio.get_running_loop().time()
                    if len([when for when in times if now_s - when < 63]) >= 50:
                        refused.append(now_s)
                        slot.was_throttled(is_about_tokens=False)
                    else:
                        times.append(now_s)
                        await asyncio.sleep(1)
                        return
                await asyncio.sleep(5)

        await asyncio.gather(*(call() for _ in range(400)))

    virtual_time.run(run())
    assert refused
    assert not [when for when in refused if when > times[-1] / 2]


def test_a_ramp_is_not_steeper_than_the_service_bears() -> None:
    """Beyond 3M tokens above the minute before, or a fifth in three minutes, the service answers with overload."""
    rates = RateLimits(tokens_per_minute=30_000_000, ramp_tokens_per_minute=3_000_000, concurrency=1_000)
    times = grants(rates, [100_000] * 300)
    minutes = [sum(tokens for start, tokens in times if -0.5 <= start - 60.3 * n < 59.8) for n in range(6)]
    assert minutes[0] == 3_000_000
    for number, tokens in enumerate(minutes[1:], 1):
        before = minutes[max(0, number - 3) : number]
        assert tokens <= max(3_000_000, min(minutes[number - 1] + 3_000_000, 1.2 * max(before)))
    assert max(minutes) > 3_500_000


class Account:
    """A server that counts requests and tokens in minutes of its own, and answers 429 beyond its limits.

    It is independent of the client's limits: fixed windows from `offset_s`, tokens counted when a call comes (input
    and the output that will be used), latencies of its own.
    """

    def __init__(self, rpm: int, tpm: int, offset_s: float, latency_s: tuple[float, float]) -> None:
        self._rpm, self._tpm, self._offset_s, self._latency_s = rpm, tpm, offset_s, latency_s
        self._random = random.Random(7)
        self.windows: dict[int, list[int]] = {}
        self.refused = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self._random.uniform(0.02, 0.4))
        counts = self.windows.setdefault(int((asyncio.get_running_loop().time() + self._offset_s) // 60), [0, 0])
        size = int(json.loads(request.content)["messages"][1]["content"][0]["text"])
        output = self._random.randint(200, 4_000)
        if counts[0] + 1 > self._rpm or counts[1] + size + output > self._tpm:
            self.refused += 1
            counts[0] += 1
            return httpx.Response(429, json=fakes.error_body("rate_limit_exceeded", "too many"))
        counts[0] += 1
        counts[1] += size + output
        await asyncio.sleep(self._random.uniform(*self._latency_s))
        usage = {"prompt_tokens": size, "completion_tokens": output, "total_tokens": size + output}
        return httpx.Response(200, json=fakes.completion("{}", usage=usage))


@pytest.mark.parametrize("offset_s", [0.0, 23.0])
@pytest.mark.parametrize("size", [5_000, 110_000])
def test_a_job_of_400_requests_fills_the_account_and_is_not_throttled(size: int, offset_s: float) -> None:
    """50 requests and 2M tokens per minute: at least 95 % of what binds in steady state, under 1 % of calls refused."""
    account = Account(50, 2_000_000, offset_s, (4.0, 18.0))
    profile = fakes.make_profile(
        rate_limits={"requests_per_minute": 50, "tokens_per_minute": 2_000_000, "concurrency": 40}
    )

    async def run() -> None:
        transport = httpx.MockTransport(account.answer)
        async with Client(fakes.make_endpoint(), profile, AskingSettings(), transport=transport) as client:

            async def call() -> None:
                request = fakes.make_request(contents=(Text(str(size)),))
                # The safe estimate of the input, and an output limit that few answers come near.
                await client.ask(request, reserve_tokens=int(size * 1.06) + 32_768)

            await asyncio.gather(*(call() for _ in range(400)))

    virtual_time.run(run())
    steady = [counts for _, counts in sorted(account.windows.items())][2:-1]
    assert len(steady) >= 4
    is_by_tokens = size > 40_000
    share = sum(counts[is_by_tokens] for counts in steady) / len(steady) / (2_000_000 if is_by_tokens else 50)
    assert share >= 0.95
    assert account.refused < 4


class Referee:
    """The local engine's limiter on the clock of the loop: any minute counts, output when it comes.

    With `counts_limits` it takes the output limit for output, when the call comes.
    """

    def __init__(self, counts_limits: bool = False) -> None:
        self._dice = random.Random(7)
        self._counts_limits = counts_limits
        self.spent: list[tuple[float, int]] = []
        self.refused = self.calls = 0

    async def job(self, sizes: list[int], most_output: int = 32_768) -> None:
        """All calls of a job, tried again as the client would."""
        limiter = Limiter(50, 2_000_000, clock=asyncio.get_running_loop().time)
        limits = Limits(RateLimits(requests_per_minute=50, tokens_per_minute=2_000_000, concurrency=50))
        await asyncio.gather(*(self._call(limiter, limits, size, most_output) for size in sizes))

    async def _call(self, limiter: Limiter, limits: Limits, size: int, most_output: int) -> None:
        clock, output = asyncio.get_running_loop().time, self._dice.randint(200, 4_000)
        counted = size + most_output if self._counts_limits else size
        for number in range(1, 7):
            async with limits.slot(int(size * 1.06) + 6_000, size + most_output) as slot:
                self.calls += 1
                await asyncio.sleep(self._dice.uniform(0.02, 0.4))
                try:
                    limiter.admit()
                    limiter.spend(counted, is_input=True)
                except Refusal as refusal:
                    self.refused += 1
                    slot.was_throttled("tokens" in refusal.message)
                else:
                    self.spent.append((clock(), counted))
                    await asyncio.sleep(self._dice.uniform(20.0, 60.0))
                    if not self._counts_limits:
                        limiter.spend(output, is_input=False)
                        self.spent.append((clock(), output))
                    slot.went_well(size + output)
                    return
            await asyncio.sleep(self._dice.uniform(0.0, 4.0 * 2**number))
        raise AssertionError("a call was throttled six times")

    def shares(self, size: int) -> tuple[float, float]:
        """Shares used of the limits on requests and tokens, from the third minute to the last whole one."""
        first_s, last_s = 120.0, max(at for at, tokens in self.spent if tokens >= size)
        minutes = (last_s - first_s) // 60
        steady = [tokens for at, tokens in self.spent if first_s <= at < first_s + 60 * minutes]
        return sum(tokens >= size for tokens in steady) / minutes / 50, sum(steady) / minutes / 2_000_000


@pytest.mark.parametrize(
    ("size", "share"), [(5_000, 0.95), (40_000, 0.95), (60_000, 0.95), (110_000, 0.95), (120_000, 0.95)]
)
def test_the_local_engines_account_is_filled(size: int, share: float) -> None:
    """At least 95 % of the binding limit and under 1 % of calls refused, with calls of 20 to 60 s.

    Seventeen calls of 112,000 tokens fit a minute of 2 million, which is 95.3 %: not one place may be lost.
    """
    referee = Referee()
    virtual_time.run(referee.job([size] * 400))
    assert max(referee.shares(size)) >= share
    assert referee.refused / referee.calls < 0.01


def test_calls_of_all_sizes_fill_the_account() -> None:
    """A real folder mixes them; what small ones use says little of what large ones will."""
    dice, referee = random.Random(3), Referee()
    virtual_time.run(referee.job([dice.randint(5_000, 120_000) for _ in range(400)]))
    assert referee.shares(5_000)[1] >= 0.95
    assert referee.refused / referee.calls < 0.01


@pytest.mark.parametrize("size", [40_000, 60_000])
def test_one_refusal_tells_that_output_limits_are_counted(size: int) -> None:
    """Some services count input and the whole output limit: seen at the first refusal, not learnt from many."""
    referee = Referee(counts_limits=True)
    virtual_time.run(referee.job([size] * 400))
    assert referee.shares(size)[1] >= 0.95
    assert referee.refused <= 3


def test_a_call_throttled_by_chance_does_not_narrow_the_stream() -> None:
    """One in a hundred is throttled in the best of jobs; half the calls at once would leave the account unused."""

    async def widths() -> list[int]:
        limits = Limits(RateLimits(concurrency=40))
        found = []
        for is_about_width in (False, False, False, True):
            async with limits.slot(0) as slot:
                slot.was_throttled(False, is_about_width)
            found.append(limits.width)
        return found

    assert virtual_time.run(widths()) == [40, 40, 20, 10]
