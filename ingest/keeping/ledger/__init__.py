"""The ledger: answers under their request keys, every attempt with what it cost, and what became of each document.

An answer is stored durably before anything else happens to it, so a crash or a rerun never buys it again. An attempt
is noted durably before it is sent, at the most it can cost, and settled once its usage came. Any number of processes
may work on one ledger: in a SQLite file (WAL mode, full synchronisation), or in PostgreSQL from several machines.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Self

from ingest.errors import LedgerError
from ingest.keeping.ledger.answers import Answers
from ingest.keeping.ledger.attempts import Attempts, Booking, Ending, Posting, Start
from ingest.keeping.ledger.claims import Claims
from ingest.keeping.ledger.database import LEDGER_FOLDER, Database
from ingest.keeping.ledger.deliveries import Deliveries
from ingest.keeping.ledger.digests import Digests
from ingest.keeping.ledger.documents import Documents
from ingest.keeping.ledger.learned import Learned
from ingest.keeping.ledger.runs import Run, Runs
from ingest.keeping.ledger.schedules import Schedules

__all__ = ["LEDGER_FOLDER", "Booking", "Ending", "Ledger", "Posting", "Run", "Start"]


class Ledger:
    """Everything that is kept of all runs into one output folder, or into one database that several share.

    `folder` is the output folder, `url` the address of a database that takes the place of the file in it; with neither
    everything is kept in memory for one run.

    `runs` are the runs, `answers` what the model said, `attempts` the books, `claims` who asks for what at present,
    `learned` calibration, partitions and rungs. `documents` holds what became of each document and every version of its
    record, `digests` what was told about them, `schedules` the jobs of the scheduler, `deliveries` what was sent.

    Raises NewerVersion when a newer program wrote the ledger, Busy when another process keeps it locked, LedgerError
    when it cannot be opened, ConfigError when the address is none.
    """

    def __init__(self, folder: Path | None, url: str | None = None) -> None:
        self._database = Database(folder, url)
        self.runs = Runs(self._database)
        self.answers = Answers(self._database)
        self.attempts = Attempts(self._database)
        self.claims = Claims(self._database)
        self.learned = Learned(self._database)
        self.documents = Documents(self._database)
        self.digests = Digests(self._database)
        self.schedules = Schedules(self._database)
        self.deliveries = Deliveries(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def where(self) -> str:
        """The file or the address, without its password."""
        return self._database.where

    def close(self) -> None:
        """Let go of what is claimed, and of the file or the connections."""
        with suppress(LedgerError):  # the others will see that this run is dead
            self.claims.leave()
        self._database.close()
