"""Speed of probing and planning, in pages per second.

`python bench/planning.py FOLDER...` opens every document below the folders with two worker processes, as `ingest plan`
does, and plans its chunks. It prints seconds of the clock, and pages per second of processor time times two: what two
free cores do, whatever else the machine is at. Then it plans 10,000 parts made up in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ingest.config import ReadingSettings
from ingest.errors import SourceError
from ingest.planning.chunks import Planner, request_limits
from ingest.profile import load_profile
from ingest.reading.discover import describe, discover
from ingest.reading.workers import Workers
from ingest.types import Document, Estimate, Part, Source, TextStats

# System message, instructions and schema of a recipe of average length.
_PREAMBLE = Estimate(2_500, 3_200)
_LEAST_PAGES = 600


@dataclass
class Spent:
    """What planning some folders took, in seconds of the clock."""

    documents: int = 0
    pages: int = 0
    unreadable: int = 0
    describe_s: float = 0.0
    open_s: float = 0.0
    plan_s: float = 0.0
    processor_s: float = 0.0
    rounds: int = 1

    @property
    def total_s(self) -> float:
        """All steps together."""
        return self.describe_s + self.open_s + self.plan_s


def processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def planner() -> Planner:
    """The planner of the default profile."""
    profile = load_profile("seed-2-0-pro")
    return Planner(profile, "high", request_limits(profile, _PREAMBLE, None, profile.default_output_tokens))


async def plan_folder(folder: Path, only: str, jobs: int) -> Spent:
    """Probe and plan the files below a folder, so many at a time. The workers are warm before the clock starts."""
    spent, settings, plans = Spent(), ReadingSettings(workers=2), planner()
    found = [item for item in discover([folder]) if item.path.suffix.lower() in only.split(",")]
    before_s = processor_s()
    async with Workers(settings) as workers:
        await warm_up(workers, settings, found[:4])
    start_up_s, before_s = processor_s() - before_s, processor_s()
    async with Workers(settings) as workers:
        await warm_up(workers, settings, found[:4])
        started = time.perf_counter()
        sources = [describe(item, settings) for item in found]
        spent.describe_s = time.perf_counter() - started
        turns = asyncio.Semaphore(jobs)

        async def open_one(source: Source) -> Document | None:
            async with turns:
                try:
                    return await workers.open(source)
                except SourceError:
                    return None

        started = time.perf_counter()
        documents = await asyncio.gather(*(open_one(source) for source in sources))
        spent.open_s = time.perf_counter() - started
        # Few pages are read several times over, so that the processes' start does not count.
        pages = sum(len(document.parts) for document in documents if document is not None)
        spent.rounds = 1 + _LEAST_PAGES // max(pages, 1)
        for _ in range(spent.rounds - 1):
            await asyncio.gather(*(open_one(source) for source in sources))
    started = time.perf_counter()
    for document in documents:
        if document is None:
            spent.unreadable += 1
            continue
        spent.documents += 1
        spent.pages += len(document.parts)
        plans.plan(document)
    spent.plan_s = time.perf_counter() - started
    spent.processor_s = max(processor_s() - before_s - start_up_s, 1e-3) / spent.rounds
    return spent


async def warm_up(workers: Workers, settings: ReadingSettings, found: list) -> None:  # type: ignore[type-arg]
    """Start both workers and have them import what they need."""

    async def try_one(item) -> None:  # type: ignore[no-untyped-def]
        try:
            await workers.open(describe(item, settings))
        except SourceError:
            return

    await asyncio.gather(*(try_one(item) for item in found))


def made_up(parts: int) -> Document:
    """A document of parts of three kinds that is in no file."""
    text = TextStats.of("Total amount due 1,234.56 by 31 March\n" * 60)
    modes = ("text", "image", "both")
    source = Source("made-up.pdf", "file:///made-up.pdf", Path("/made-up.pdf"), 1, "0" * 64, "application/pdf")
    return Document(source, tuple(Part(index, "page", modes[index % 3], text=text) for index in range(parts)))  # type: ignore[arg-type]


def main() -> int:
    """Measure, print one line for each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--only", default=".pdf", help="endings, separated by commas")
    parser.add_argument("--jobs", type=int, default=4)
    options = parser.parse_args()
    for folder in options.folders:
        spent = asyncio.run(plan_folder(folder, options.only, options.jobs))
        print(
            f"{folder.name}: {spent.documents} documents ({spent.unreadable} unreadable), {spent.pages} pages,"
            f" {spent.total_s:.2f} s, {2 * spent.pages / spent.processor_s:.0f} pages/s on two free cores"
            f" (hashing {spent.describe_s:.2f} s, probing {spent.open_s:.2f} s, planning {spent.plan_s:.3f} s)"
        )
    document = made_up(10_000)
    started = time.perf_counter()
    chunks = planner().plan(document).chunks
    print(f"10,000 parts in memory: {len(chunks)} chunks in {time.perf_counter() - started:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
