"""What runs learned: how a model counts tokens, how documents were cut, how an endpoint takes a schema."""

from __future__ import annotations

import json
from typing import get_args

from sqlalchemy import Connection

from ingest.keeping.ledger.attempts import MOST_TOKENS
from ingest.keeping.ledger.database import Database, now, sql
from ingest.types import Json, Observation, Rung


class Learned:
    """Observations for calibration, partitions by document, and rungs by endpoint and model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def observations(self, model: str, endpoint: str, limit: int = 1_000) -> tuple[Observation, ...]:
        """The latest observations of a model behind an endpoint, oldest first."""
        with self._database.reading() as connection:
            values = {"model": model, "endpoint": endpoint, "limit": limit}
            rows = connection.execute(sql(_OBSERVATIONS), values).all()
        return tuple(
            Observation(tuple((str(kind), int(count)) for kind, count in json.loads(counts)), owned, sent, received)
            for counts, owned, sent, received in reversed(rows)
        )

    def partition(self, key: str) -> tuple[Json, int] | None:
        """How a document, or a chunk that had to be split, is cut, and the run that cut it so; None when none did."""
        with self._database.reading() as connection:
            row = connection.execute(sql("SELECT chunks, run_id FROM partitions WHERE key = :key"), {"key": key})
            found = row.first()
        return None if found is None else (json.loads(found[0]), int(found[1]))

    def store_partition(self, key: str, chunks: Json, run_id: int = 0, before: Json = None) -> bool:
        """Keep how a document or a chunk is cut, so that it is asked for in the same pieces ever after.

        `before` is what `partition` gave, None when it gave none. When another run changed it since, nothing is kept
        and this gives False. It is on disk with the first answer to it.
        """
        values = {"key": key, "at": now(), "chunks": _written(chunks), "run": run_id, "before": _written(before)}
        statement = _STORE_PARTITION + (" DO NOTHING RETURNING key" if before is None else _REPLACE_PARTITION)
        with self._database.quick_transaction() as connection:
            return connection.execute(sql(statement), values).first() is not None

    def rung(self, endpoint: str, model: str) -> Rung | None:
        """The rung of the ladder that worked last for a model behind an endpoint."""
        statement = "SELECT rung FROM rungs WHERE endpoint = :endpoint AND model = :model"
        with self._database.reading() as connection:
            row = connection.execute(sql(statement), {"endpoint": endpoint, "model": model}).first()
        found = None if row is None else row[0]
        return next((rung for rung in get_args(Rung) if rung == found), None)

    def store_rung(self, endpoint: str, model: str, rung: Rung) -> None:
        """Remember the rung that works for a model behind an endpoint."""
        self._database.write(
            "INSERT INTO rungs (endpoint, model, at, rung) VALUES (:endpoint, :model, :at, :rung)"
            " ON CONFLICT (endpoint, model) DO UPDATE SET rung = excluded.rung, at = excluded.at",
            {"endpoint": endpoint, "model": model, "at": now(), "rung": rung},
        )


_OBSERVATIONS = (
    "SELECT counts, owned_tokens, input_tokens, output_tokens FROM observations"
    " WHERE model = :model AND endpoint = :endpoint ORDER BY id DESC LIMIT :limit"
)
_OBSERVE = (
    "INSERT INTO observations (at, model, endpoint, counts, owned_tokens, input_tokens, output_tokens)"
    " VALUES (:at, :model, :endpoint, :counts, :owned, :input, :output)"
)
# RETURNING tells whether a row was written, on every database.
_STORE_PARTITION = (
    "INSERT INTO partitions (key, at, chunks, run_id) VALUES (:key, :at, :chunks, :run) ON CONFLICT (key)"
)
_REPLACE_PARTITION = (
    " DO UPDATE SET chunks = excluded.chunks, at = excluded.at, run_id = excluded.run_id"
    " WHERE partitions.chunks = :before RETURNING key"
)


def observe(connection: Connection, model: str, endpoint: str, observation: Observation) -> None:
    """Keep an observation, within a transaction."""
    values = {
        "at": now(),
        "model": model,
        "endpoint": endpoint,
        "counts": _written([list(pair) for pair in observation.counts]),
        "owned": observation.owned_tokens,
        "input": min(observation.input_tokens, MOST_TOKENS),
        "output": min(observation.output_tokens, MOST_TOKENS),
    }
    connection.execute(sql(_OBSERVE), values)


def _written(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
