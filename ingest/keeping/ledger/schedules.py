"""The jobs of the scheduler and what became of them."""

from __future__ import annotations

from ingest.keeping.ledger.database import Database


class Schedules:
    """Jobs by name, with the times they ran at."""

    def __init__(self, database: Database) -> None:
        self._database = database
