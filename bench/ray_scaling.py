"""What a second worker of a Ray cluster brings, and what asking for leave across processes costs.

    python bench/ray_scaling.py                   # exit code 1 when a goal is missed

A cluster of two nodes on this machine, and a model in a process of its own that takes a second for every answer. Told
are documents per second with one worker and with two (from the first call to the last, by the server's books), and how
long a call waits for leave from the process that holds the limits, beside what it waits in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ingest.asking.limits import CallLimits, Limits  # noqa: E402
from ingest.profile import RateLimits  # noqa: E402
from tests.ray_cluster import ENVIRONMENT, RayCluster, cluster  # noqa: E402
from tests.slow_server import SlowServer, serving  # noqa: E402

LATENCY_S = 1.0
GOAL = 1.6
WIDTH = 64
SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "total": {"type": ["number", "null"]}},
    "required": ["number", "total"],
    "additionalProperties": False,
}
PROFILE = """
extends = "seed-2-0-pro"
name = "scaling"
[rate_limits]
requests_per_minute = 1_000_000
tokens_per_minute = 1_000_000_000
ramp_tokens_per_minute = 1_000_000_000
concurrency = 64
"""


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=80)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    root = Path(tempfile.mkdtemp())
    try:
        with cluster(nodes=2, cpus=1) as ray, serving(LATENCY_S) as server:
            spans = [span_s(root / str(workers), ray, server, options.documents, workers) for workers in (1, 2)]
            ratio = spans[0] / spans[1]
            for workers, span in enumerate(spans, 1):
                print(f"{workers} worker{'s' * (workers > 1)}: {options.documents / span:.2f} documents a second")
            print(f"two are {ratio:.2f} times one, goal {GOAL}")
            asyncio.run(ask_for_leave(ray, 2_000))
    finally:
        shutil.rmtree(root)
    return 0 if ratio >= GOAL else 1


def span_s(root: Path, ray: RayCluster, server: SlowServer, documents: int, workers: int) -> float:
    """Seconds from the first call of a run to its last; four documents are in flight in each worker."""
    (root / "in").mkdir(parents=True)
    for number in range(documents):
        (root / "in" / f"{number:04d}.txt").write_text(f"Invoice number A-1\nDelivery {number}\nTotal 12.50\n")
    (root / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (root / "profile.toml").write_text(PROFILE, encoding="utf-8")
    before = len(server.calls())
    words = [sys.executable, "-m", "ingest", "run", str(root / "in"), "-s", str(root / "schema.json"), "-q", "--json"]
    words += ["--profile", str(root / "profile.toml"), "--base-url", server.base_url, "-o", str(root / "out")]
    words += ["--executor", "ray", "--address", ray.address, "--ray-workers", str(workers), "-j", "4"]
    words += ["--workers", "1", "--no-stream", "--max-tokens", "1000"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    times = [call.at_s for call in server.calls()[before:]]
    return max(times) - min(times)


async def ask_for_leave(cluster: RayCluster, number: int) -> None:
    """Time slots of limits that let everything through, in this process and across processes."""
    import ray

    from ingest.config import BudgetSettings
    from ingest.execute.ray import HolderLine
    from ingest.execute.sharing import Holder, stand_ins

    rates = RateLimits()
    await timed("in one process", Limits(rates, WIDTH), number)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        holder = ray.remote(Holder).options(num_cpus=0).remote(rates, WIDTH, BudgetSettings())
        async with stand_ins(HolderLine(holder), "bench", BudgetSettings()) as shared:
            async with shared.limits.slot(1):
                pass
            await timed("of another process", shared.limits, number)
    finally:
        ray.shutdown()


async def timed(whose: str, limits: CallLimits, number: int) -> None:
    """How long one call waits alone, and how many a second are let through, many at once."""

    async def take() -> None:
        async with limits.slot(1_000) as slot:
            slot.went_well(900)

    started = time.perf_counter()
    for _ in range(number // 10):
        await take()
    alone_ms = 1e3 * (time.perf_counter() - started) / (number // 10)
    started = time.perf_counter()

    async def several(count: int) -> None:
        for _ in range(count):
            await take()

    await asyncio.gather(*(several(number // WIDTH) for _ in range(WIDTH)))
    rate = (number // WIDTH) * WIDTH / (time.perf_counter() - started)
    print(f"leave {whose}: {alone_ms:.2f} ms alone, {rate:,.0f} calls a second with {WIDTH} at once")


if __name__ == "__main__":
    sys.exit(main())
