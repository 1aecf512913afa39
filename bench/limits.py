"""How much of an account's limits a job of many calls uses, on a real clock: the client's limits against the referee's.

    python bench/limits.py --minute 6

The local engine's limiter counts any minute of the given length; calls take 20 to 60 s of a minute's 60. Jobs run side
by side. Prints shares of the limits in steady state, and of calls that were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, field

from ingest.asking.limits import Limits
from ingest.local.limiter import Limiter
from ingest.local.refusal import Refusal
from ingest.profile import RateLimits

REQUESTS, TOKENS = 50, 2_000_000


@dataclass
class Job:
    """One job of equal calls and what became of it."""

    size: int
    minute_s: float
    calls: int = 0
    refused: int = 0
    spent: list[tuple[float, int]] = field(default_factory=list)

    async def run(self, number: int) -> None:
        """All calls of the job."""
        limiter = Limiter(REQUESTS, TOKENS, minute_s=self.minute_s)
        rates = RateLimits(requests_per_minute=REQUESTS, tokens_per_minute=TOKENS, concurrency=50)
        limits, dice = Limits(rates, minute_s=self.minute_s), random.Random(7)
        await asyncio.gather(*(self._call(limiter, limits, dice) for _ in range(number)))

    async def _call(self, limiter: Limiter, limits: Limits, dice: random.Random) -> None:
        output, longest = dice.randint(200, 4_000), 4.0
        while True:
            async with limits.slot(int(self.size * 1.06) + 6_000, self.size + 32_768) as slot:
                self.calls += 1
                try:
                    limiter.admit()
                    limiter.spend(self.size, is_input=True)
                except Refusal as refusal:
                    self.refused += 1
                    slot.was_throttled("tokens" in refusal.message)
                else:
                    self.spent.append((time.monotonic(), self.size))
                    await asyncio.sleep(dice.uniform(20.0, 60.0) * self.minute_s / 60.0)
                    limiter.spend(output, is_input=False)
                    self.spent.append((time.monotonic(), output))
                    slot.went_well(self.size + output)
                    return
            await asyncio.sleep(dice.uniform(0.0, longest) * self.minute_s / 60.0)
            longest = min(longest * 2.0, 60.0)

    def told(self) -> str:
        """Shares of the limits from the third minute to the last whole one, as a row of a table."""
        began_s = self.spent[0][0] + 2 * self.minute_s
        ended_s = max(at for at, tokens in self.spent if tokens >= self.size)
        minutes = max((ended_s - began_s) // self.minute_s, 1.0)
        steady = [tokens for at, tokens in self.spent if began_s <= at < began_s + minutes * self.minute_s]
        requests = sum(tokens >= self.size for tokens in steady) / minutes / REQUESTS
        tokens = sum(steady) / minutes / TOKENS
        return f"| {self.size:,} | {requests:.1%} | {tokens:.1%} | {self.refused / self.calls:.2%} | {minutes:.0f} |"


async def main() -> None:
    """Run the jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minute", type=float, default=6.0, help="length of a minute in seconds")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 60_000, 110_000])
    options = parser.parse_args()
    jobs = [Job(size, options.minute) for size in options.sizes]
    await asyncio.gather(*(job.run(options.calls) for job in jobs))
    print("| input tokens of a call | of the requests | of the tokens | refused | minutes |")
    print("|---|---|---|---|---|")
    print("\n".join(job.told() for job in jobs))


if __name__ == "__main__":
    asyncio.run(main())
