"""A long list of documents: when the first record comes, and what memory is held as the job goes on.

    python bench/manifest.py                      # exit code 1 when a goal is missed

The list is a CSV of 50,000 rows with metadata; the job is stopped after 2,000 records, as more show nothing new. The
model is an app in this process that answers at once, as in `overhead.py`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import httpx
from overhead import answer_at_once, make_config, make_documents, resident_mb

import ingest
from ingest.asking.client import Client
from ingest.engine import session

GOAL_FIRST_S = 10.0
GOAL_GROWTH_MB = 20.0
"""Of memory, from the hundredth record to the last."""


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listed", type=int, default=50_000)
    parser.add_argument("--documents", type=int, default=2_000, help="records after which the job is stopped")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    try:
        return measure(root, options.listed, options.documents)
    finally:
        shutil.rmtree(root)


def write_list(root: Path, listed: int, documents: int) -> Path:
    """Documents, and a list that names each many times, under another name and for another customer."""
    make_documents(root / "in", documents)
    files = sorted((root / "in").rglob("*.txt"))
    path = root / "list.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "name", "customer"])
        for number in range(listed):
            rows.writerow([files[number % len(files)], f"{number // 100:04d}/{number:06d}.txt", number])
    return path


def measure(root: Path, listed: int, documents: int) -> int:
    """One job over the list, stopped in the middle."""
    transport = httpx.ASGITransport(app=answer_at_once)
    session.Client = functools.partial(Client, transport=transport)  # type: ignore[misc, assignment]
    config = make_config(root / "out")
    finding = config.finding.model_copy(update={"manifest": (str(write_list(root, listed, documents)),)})
    memory: dict[int, float] = {0: resident_mb()}
    started, first_s = time.monotonic(), 0.0
    with ingest.Ingestor(config.model_copy(update={"finding": finding})) as ingestor:
        for count, record in enumerate(islice(ingestor.run([]), documents), 1):
            assert record.status == "complete", record.problems
            first_s = first_s or time.monotonic() - started
            if count in (1, 100, documents) or count % 500 == 0:
                memory[count] = resident_mb()
    total_s = time.monotonic() - started
    growth_mb = memory[documents] - memory[min(100, documents)]
    print(f"{listed:,} listed, {documents:,} done in {total_s:.0f} s; first record after {first_s:.1f} s")
    print(", ".join(f"{count:,}: {megabytes:.0f} MB" for count, megabytes in memory.items()))
    is_met = first_s <= GOAL_FIRST_S and growth_mb <= GOAL_GROWTH_MB
    print(f"memory grew by {growth_mb:.1f} MB: {'goals met' if is_met else 'a goal is missed'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
