"""Time and memory of one long document, driver and workers together.

`python bench/long.py FILE [--pages text|auto|image]` runs the main job on the file as a user would, samples the
resident memory of the whole process tree from /proc (Linux), and prints pages, seconds and the peak. It fails when
a page is missing from the record's coverage.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run, measure, print one line for the first run and one for the rerun."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--pages", default="text")
    parser.add_argument("--recipe", default="generic")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ingest", "run", str(options.file), "--recipe", options.recipe]
        command += ["--local", "--pages", options.pages, "-o", folder, "--quiet"]
        for label in ("first run", "rerun"):
            seconds, peak_bytes, code = measure(command)
            record = json.loads((Path(folder) / f"{options.file.name}.json").read_text(encoding="utf-8"))
            summary = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
            coverage = record["coverage"]
            print(
                f"{label}: exit {code}, {coverage['answered']} of {coverage['total']} pages answered,"
                f" {summary['requests_sent']} requests sent, {seconds:.1f} s, peak {peak_bytes / 1e6:.0f} MB"
            )
            if len(coverage["parts"]) != coverage["total"]:
                return 1
    return 0


def measure(command: list[str]) -> tuple[float, int, int]:
    """Seconds, peak resident bytes of the process and its descendants, exit code."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(resident_bytes(pid) for pid in family(process.pid)))
            time.sleep(0.1)
    return time.monotonic() - started, peak, process.returncode


def family(root: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    members, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in members} - members
        members |= more
        grew = bool(more)
    return list(members)


def resident_bytes(pid: int) -> int:
    """Memory that belongs to this process: its own pages and its share of the common ones (Pss)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main())
