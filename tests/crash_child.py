"""The command line in a process that can kill itself, group and all, at a chosen call: `CRASH_AT=replace:3`.

Points are counted from 1: `fsync` (of files and folders), `torn` (a file is cut to half before it is forced to disk),
`replace`, `statement` and `commit` (of the ledger). With `CRASH_COUNTS=FILE` nothing is killed, and the file gets how
often each point was passed.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

_counts: Counter[str] = Counter()
_point, _, _number = os.environ.get("CRASH_AT", "").partition(":")


def _pass(point: str, before: Callable[[], None] = lambda: None) -> None:
    _counts[point] += 1
    if point == _point and _counts[point] == int(_number):
        before()
        os.killpg(0, signal.SIGKILL)


def install() -> None:
    """Count calls, and kill at the chosen one."""
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            _pass("torn", lambda: os.ftruncate(descriptor, status.st_size // 2))
        _pass("fsync")
        fsync(descriptor)

    def watched_replace(*args: Any, **options: Any) -> None:
        _pass("replace")
        replace(*args, **options)

    os.fsync, os.replace = watched_fsync, watched_replace  # type: ignore[assignment]
    event.listen(Engine, "after_cursor_execute", lambda *_: _pass("statement"))
    event.listen(Engine, "commit", lambda *_: _pass("commit"))


def main() -> None:
    """Run the command that the arguments give."""
    install()
    from ingest.cli import main as run

    try:
        run()
    finally:
        if path := os.environ.get("CRASH_COUNTS"):
            with open(path, "w", encoding="utf-8") as file:
                json.dump(_counts, file)


if __name__ == "__main__":
    main()
