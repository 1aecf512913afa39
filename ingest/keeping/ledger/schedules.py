"""The jobs of the scheduler and what became of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from sqlalchemy import RowMapping, text

from ingest.keeping.ledger.database import Database

Cause: TypeAlias = Literal["due", "catch-up", "by hand"]
"""Why a job ran: its time came; several times had passed unserved; somebody asked."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job: `ingest ARGUMENTS` in a folder, at the times of a cron line in a time zone.

    `covered_until` is the moment up to which its times are served. Somebody runs it while `claimed_until` is not over.
    """

    name: str
    cron: str
    timezone: str
    arguments: tuple[str, ...]
    directory: str
    added_at: datetime
    covered_until: datetime
    claimed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """One run of a job. `due_from` to `due_at` are the first and last of the `due_count` times it serves; None when it
    was asked for by hand. `exit_code` is None while it runs, and stays so when nobody saw its end."""

    id: int
    name: str
    cause: Cause
    due_from: datetime | None
    due_at: datetime | None
    due_count: int
    started_at: datetime
    finished_at: datetime | None
    exit_code: int | None
    log: str


class Schedules:
    """Jobs by name, with the times they ran at. Whoever runs one holds its claim, renewed while it lives."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, cron: str, timezone: str, arguments: Sequence[str], directory: str, now: datetime) -> bool:
        """Keep a new job, due from now on; False when there is one of that name."""
        values = {
            "name": name,
            "cron": cron,
            "timezone": timezone,
            "arguments": json.dumps(list(arguments), ensure_ascii=False),
            "directory": directory,
            "now": _text(now),
        }
        with self._database.transaction() as connection:
            return connection.execute(text(_ADD), values).first() is not None

    def remove(self, name: str) -> bool:
        """Forget a job and its runs; False when there is none of that name."""
        with self._database.transaction() as connection:
            connection.execute(text("DELETE FROM schedule_runs WHERE name = :name"), {"name": name})
            row = connection.execute(text("DELETE FROM schedules WHERE name = :name RETURNING name"), {"name": name})
            return row.first() is not None

    def all(self) -> tuple[Schedule, ...]:
        """Every job, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(text("SELECT * FROM schedules ORDER BY name")).mappings().all()
        return tuple(_schedule(row) for row in rows)

    def get(self, name: str) -> Schedule | None:
        """One job; None when there is none of that name."""
        with self._database.reading() as connection:
            found = connection.execute(text("SELECT * FROM schedules WHERE name = :name"), {"name": name})
            row = found.mappings().first()
        return None if row is None else _schedule(row)

    def claim(self, name: str, owner: str, now: datetime, until: datetime) -> bool:
        """Take the right to run a job until a moment; False while another holds it. Renewing is claiming again."""
        values = {"name": name, "owner": owner, "now": _text(now), "until": _text(until)}
        with self._database.transaction() as connection:
            return connection.execute(text(_CLAIM), values).first() is not None

    def release(self, name: str, owner: str, covered_until: datetime | None = None) -> None:
        """Give the right back, and note up to when the job's times are served now."""
        values = {"name": name, "owner": owner, "covered": None if covered_until is None else _text(covered_until)}
        self._database.write(_RELEASE, values)

    def start_run(self, name: str, cause: Cause, dues: tuple[datetime, ...], started_at: datetime, log: str) -> int:
        """Note that a run begins, for the times it was due at, and give its number."""
        values = {
            "name": name,
            "cause": cause,
            "due_from": _text(dues[0]) if dues else None,
            "due_at": _text(dues[-1]) if dues else None,
            "count": len(dues),
            "started_at": _text(started_at),
            "log": log,
        }
        with self._database.transaction() as connection:
            return int(connection.execute(text(_START), values).scalar_one())

    def finish_run(self, run_id: int, exit_code: int, finished_at: datetime) -> None:
        """Note how a run ended."""
        self._database.write(
            "UPDATE schedule_runs SET exit_code = :code, finished_at = :at WHERE id = :id",
            {"code": exit_code, "at": _text(finished_at), "id": run_id},
        )

    def runs(self, name: str, limit: int = 20) -> tuple[ScheduleRun, ...]:
        """The last runs of a job, newest first."""
        with self._database.reading() as connection:
            found = connection.execute(
                text("SELECT * FROM schedule_runs WHERE name = :name ORDER BY id DESC LIMIT :limit"),
                {"name": name, "limit": limit},
            )
            return tuple(_run(row) for row in found.mappings())


_ADD = (
    "INSERT INTO schedules (name, cron, timezone, arguments, directory, added_at, covered_until)"
    " VALUES (:name, :cron, :timezone, :arguments, :directory, :now, :now)"
    " ON CONFLICT (name) DO NOTHING RETURNING name"
)
_CLAIM = (
    "UPDATE schedules SET claimed_by = :owner, claimed_until = :until WHERE name = :name"
    " AND (claimed_by IS NULL OR claimed_by = :owner OR claimed_until < :now) RETURNING name"
)
_RELEASE = (
    "UPDATE schedules SET claimed_by = NULL, claimed_until = NULL,"
    " covered_until = COALESCE(CAST(:covered AS TEXT), covered_until) WHERE name = :name AND claimed_by = :owner"
)
_START = (
    "INSERT INTO schedule_runs (name, cause, due_from, due_at, due_count, started_at, log)"
    " VALUES (:name, :cause, :due_from, :due_at, :count, :started_at, :log) RETURNING id"
)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _schedule(row: RowMapping) -> Schedule:
    return Schedule(
        name=row["name"],
        cron=row["cron"],
        timezone=row["timezone"],
        arguments=tuple(json.loads(row["arguments"])),
        directory=row["directory"],
        added_at=datetime.fromisoformat(row["added_at"]),
        covered_until=datetime.fromisoformat(row["covered_until"]),
        claimed_until=_moment(row["claimed_until"]),
    )


def _run(row: RowMapping) -> ScheduleRun:
    return ScheduleRun(
        id=row["id"],
        name=row["name"],
        cause=row["cause"],
        due_from=_moment(row["due_from"]),
        due_at=_moment(row["due_at"]),
        due_count=row["due_count"],
        started_at=datetime.fromisoformat(row["started_at"]),
        finished_at=_moment(row["finished_at"]),
        exit_code=row["exit_code"],
        log=row["log"],
    )
