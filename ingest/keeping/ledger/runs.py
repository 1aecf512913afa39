"""The runs: when each began and ended, with what recipe, model and endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.keeping.ledger.database import Database, now, sql


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `finished_at` is None while it is under way, and for ever when it was interrupted."""

    id: int
    started_at: str
    finished_at: str | None
    recipe: str
    model: str
    endpoint: str


class Runs:
    """Runs by number; a later one has a higher number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, recipe: str, model: str, endpoint: str) -> int:
        """Note a new run and give its number."""
        statement = (
            "INSERT INTO runs (started_at, recipe, model, endpoint) VALUES (:at, :recipe, :model, :endpoint)"
            " RETURNING id"
        )
        values = {"at": now(), "recipe": recipe, "model": model, "endpoint": endpoint}
        with self._database.transaction() as connection:
            return int(connection.execute(sql(statement), values).scalar_one())

    def finish(self, run_id: int) -> None:
        """Note that a run came to its end."""
        self._database.write("UPDATE runs SET finished_at = :at WHERE id = :id", {"at": now(), "id": run_id})

    def all(self) -> tuple[Run, ...]:
        """Every run, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sql("SELECT * FROM runs ORDER BY id")).mappings().all()
        return tuple(Run(**{name: row[name] for name in Run.__slots__}) for row in rows)
