"""What the pipeline itself costs per document: ten thousand small documents, a model that answers at once.

    python bench/overhead.py                      # exit code 1 when a goal is missed
    python bench/overhead.py --documents 1000 --profile

The documents are text files of a few lines, read by the usual workers; calls go through the usual client, protocol and
limits to an app in this process that answers the same right away. Told are the time inside the ledger and the record
files (with waiting for the disk, and without), the time of all, transactions and forced writes per document, and the
memory of the process as the run goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import functools
import importlib
import inspect
import json
import os
import pkgutil
import pstats
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, event

import ingest
from ingest import engine
from ingest.asking.client import Client
from ingest.config import Config
from ingest.engine import session
from ingest.keeping.sinks.files import FilesSink
from ingest.record import RunSummary

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "total": {"type": ["number", "null"]}},
    "required": ["number", "total"],
    "additionalProperties": False,
}
GOAL_MS = 10.0
GOAL_GROWTH_KB = 3.0
"""Per document after the first thousand: the summary's row of each is kept."""


class Watch:
    """Time inside the ledger and the record files, counted once where calls stand in one another."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.busy_s: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._inside = threading.local()

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Time the calls of a method."""
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **options: Any) -> Any:
            if getattr(self._inside, "is_on", False):
                return method(*args, **options)
            self._inside.is_on = True
            started, busy_since = time.perf_counter(), time.thread_time()
            try:
                return method(*args, **options)
            finally:
                self._inside.is_on = False
                self.seconds[label] += time.perf_counter() - started
                self.busy_s[label] += time.thread_time() - busy_since
                self.calls[label] += 1

        setattr(owner, name, timed)

    def watch_keeping(self) -> None:
        """Time every public method of the ledger's parts and of the record files, and count what reaches the disk."""
        package = importlib.import_module("ingest.keeping.ledger")
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            classes = [item for item in vars(module).values() if inspect.isclass(item)]
            for owner in classes:
                if owner.__module__ != module.__name__ or found.name == "database":
                    continue
                for name, method in vars(owner).items():
                    is_plain = inspect.isfunction(method) and not inspect.iscoroutinefunction(method)
                    if is_plain and not name.startswith("_") and not inspect.isgeneratorfunction(method):
                        self.wrap(owner, name, f"ledger.{found.name}.{name}")
        for name in ("write", "finish"):
            self.wrap(FilesSink, name, f"files.{name}")
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            self.calls["fsync of record files"] += 1
            fsync(descriptor)

        os.fsync = counted  # type: ignore[assignment]
        event.listen(Engine, "commit", lambda _: self.calls.update(["transactions"]))


async def answer_at_once(scope: Any, receive: Any, send: Any) -> None:
    """The model's API: the same answer to every call."""
    while (await receive()).get("more_body"):
        pass
    content = json.dumps({"number": {"value": "A-1", "_page": 1}, "total": {"value": 12.5, "_page": 1}})
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "seed-2-0-pro",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930},
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def make_documents(folder: Path, number: int) -> None:
    """Text files of a few lines, a hundred to a folder."""
    for index in range(number):
        path = folder / f"{index // 100:04d}" / f"{index:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Invoice number A-1\nDelivery {index}\nTotal 12.50\n", encoding="utf-8")


def make_config(output: Path) -> Config:
    """The model at its full price, without limits per minute."""
    profile = output.parent / "profile.toml"
    rates = "requests_per_minute = 1_000_000_000\ntokens_per_minute = 1_000_000_000_000\n"
    rates += "ramp_tokens_per_minute = 1_000_000_000_000\nconcurrency = 16\n"
    profile.write_text(f'extends = "seed-2-0-pro"\nname = "overhead"\n[rate_limits]\n{rates}', encoding="utf-8")
    return ingest.configure(
        schema=SCHEMA,
        profile=str(profile),
        base_url="http://127.0.0.1:9/v1",
        output=output,
        settings={"asking": {"stream": False, "max_tokens": 1_000}},
    )


def resident_mb() -> float:
    """Memory of this process that is in use, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(folder: Path, output: Path, on_count: Callable[[int], None]) -> RunSummary:
    """One run to its end, counting records."""
    summaries: list[RunSummary] = []

    async def drain() -> None:
        async with aclosing(engine.run([folder], make_config(output), None, summaries.append)) as records:
            count = 0
            async for _ in records:
                count += 1
                on_count(count)

    asyncio.run(drain())
    return summaries[0]


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    parser.add_argument("--profile", action="store_true", help="print where this process spends its time")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        return measure(root, options.documents, options.profile)
    finally:
        shutil.rmtree(root)


def measure(root: Path, number: int, has_profile: bool) -> int:
    """Two runs: one that asks for all, and one that finds all in the ledger."""
    make_documents(root / "in", number)
    transport = httpx.ASGITransport(app=answer_at_once)
    session.Client = functools.partial(Client, transport=transport)  # type: ignore[misc, assignment]
    watch = Watch()
    watch.watch_keeping()
    marks = {mark for mark in (100, 1_000, 5_000, 10_000, number) if mark <= number}
    worst = growth_kb = 0.0
    for title in ("first run", "second run, all from the ledger"):
        for counter in (watch.seconds, watch.busy_s, watch.calls):
            counter.clear()
        memory: dict[int, float] = {}
        profiler = cProfile.Profile() if has_profile else None

        def note(count: int, memory: dict[int, float] = memory) -> None:
            if count in marks:
                memory[count] = resident_mb()

        started, busy_since = time.perf_counter(), time.process_time()
        if profiler is not None:
            profiler.enable()
        summary = run(root / "in", root / "out", note)
        if profiler is not None:
            profiler.disable()
        elapsed_s, busy_s = time.perf_counter() - started, time.process_time() - busy_since
        assert summary.complete == number, f"{summary.complete} of {number} are complete"
        keeping_ms = 1e3 * sum(watch.seconds.values()) / number
        worst = max(worst, keeping_ms)
        print(f"\n{title}: {number} documents in {elapsed_s:.1f} s, {1e3 * elapsed_s / number:.2f} ms each,")
        print(f"  of which this process computed {1e3 * busy_s / number:.2f} ms, without the workers")
        keeping_busy_ms = 1e3 * sum(watch.busy_s.values()) / number
        print(f"  ledger and record files: {keeping_ms:.2f} ms a document, {keeping_busy_ms:.2f} ms of them computing")
        for label, seconds in watch.seconds.most_common(12):
            busy_ms, calls = 1e3 * watch.busy_s[label] / number, watch.calls[label] / number
            print(f"    {1e3 * seconds / number:7.3f} ms ({busy_ms:6.3f} computing) {calls:6.2f} calls  {label}")
        for label in ("transactions", "fsync of record files"):
            print(f"    {watch.calls[label] / number:7.2f} {label} a document")
        print("  memory, MB: " + ", ".join(f"{mb:.0f} after {count}" for count, mb in sorted(memory.items())), end="")
        print(f", {resident_mb():.0f} at the end")
        if number > 1_000:
            growth_kb = max(growth_kb, 1e3 * (memory[number] - memory[1_000]) / (number - 1_000))
        if profiler is not None:
            pstats.Stats(profiler, stream=sys.stdout).sort_stats("cumulative").print_stats(60)
    return 0 if worst <= GOAL_MS and growth_kb <= GOAL_GROWTH_KB else 1


if __name__ == "__main__":
    sys.exit(main())
