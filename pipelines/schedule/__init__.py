"""Jobs at their times: kept in the ledger, run by a daemon of ours or exported to another scheduler.

`jobs` says what a job is and runs it, `cron` when it is due, `daemon` waits, `export` writes it for others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ingest
from pipelines.schedule.cron import Cron, parse
from pipelines.schedule.export import KINDS, export
from pipelines.schedule.jobs import Children, Desk, add, run_now

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger

__all__ = ["KINDS", "Cron", "add", "export", "parse", "run_by_hand", "serve"]


def serve(ledger: Ledger, folder: Path, on_start: Callable[[], object] = lambda: None) -> None:
    """Run jobs of the ledger as their times come, until SIGTERM or SIGINT; logs and locks go to the folder.

    Raises ConfigError when APScheduler is not installed.
    """
    try:
        from pipelines.schedule import daemon
    except ImportError as error:
        raise ingest.ConfigError("the daemon needs APScheduler: pip install 'ingest[digest]'") from error
    daemon.serve(ledger, folder, on_start)


def run_by_hand(ledger: Ledger, folder: Path, name: str) -> int:
    """Run a job at once and give its exit code. Raises ConfigError when there is none, LedgerError when it is run."""
    return run_now(Desk(ledger, folder, Children().execute), name)
