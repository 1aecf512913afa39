"""What digests told, and to whom it was delivered."""

from __future__ import annotations

from ingest.keeping.ledger.database import Database


class Digests:
    """Digests made, the versions each covers, and their deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database
