"""What became of each document, and every version of its record: the history that digests and status stand on."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, RowMapping

from ingest.keeping.ledger.database import Database, now, sql
from ingest.record import Record, Status

VersionStatus: TypeAlias = Status | Literal["removed"]
"""A record's own status, or "removed": the document is no longer where it was."""

_ROWS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class DocumentState:
    """A document as the last run left it. `fingerprint` tells cheaply whether the file changed since (size, time of
    change, or a store's own tag); None when its place gives none."""

    name: str
    recipe: str
    at: str
    run_id: int
    status: VersionStatus
    problem: str | None
    uri: str
    sha256: str
    fingerprint: str | None
    version_id: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document's record. `record` is None for a document that was removed."""

    id: int
    name: str
    recipe: str
    at: str
    run_id: int
    status: VersionStatus
    sha256: str
    record: Record[dict[str, Any]] | None


class Documents:
    """The state of every document, and the versions of its records, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, run_id: int, record: Record[Any], fingerprint: str | None = None) -> bool:
        """Keep what became of a document; a record that differs from the last is a new version.

        Gives whether it is one. Storing the same again only moves the document's time. It is on disk with the next
        answer, or with the end of the run.
        """
        document, recipe = record.document, record.recipe.name
        body = json.dumps(record.to_dict(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        values = {
            "name": document.name,
            "recipe": recipe,
            "at": now(),
            "run": run_id,
            "status": record.status,
            "problem": record.problems[0].message if record.problems else None,
            "uri": document.uri,
            "sha256": document.sha256,
            "fingerprint": fingerprint,
            "record_sha256": hashlib.sha256(body).hexdigest(),
        }
        with self._database.quick_transaction() as connection:
            # The state first: it makes another run that stores the same document wait for the end of this transaction.
            connection.execute(sql(_STATE), values)
            last = connection.execute(sql(_LAST), values).mappings().first()
            is_new = last is None or last["record_sha256"] != values["record_sha256"]
            version_id = _add(connection, values, zlib.compress(body)) if is_new else last["id"] if last else 0
            connection.execute(sql(_POINT), {**values, "version": version_id})
        return is_new

    def remove(self, run_id: int, recipe: str, names: Sequence[str]) -> None:
        """Note that documents are no longer where they were."""
        for name in names:
            values = {"name": name, "recipe": recipe, "at": now(), "run": run_id, "status": "removed", "sha256": ""}
            with self._database.transaction() as connection:
                if connection.execute(sql(_REMOVE), values).first() is None:
                    continue
                last = connection.execute(sql(_LAST), values).mappings().first()
                values |= {"sha256": last["sha256"] if last else "", "record_sha256": ""}
                version_id = _add(connection, values, None)
                connection.execute(sql(_POINT), {**values, "version": version_id})

    def states(self, recipe: str | None = None) -> Iterator[DocumentState]:
        """Every document as the last run left it, by recipe and name."""
        after = ("", "")
        while True:
            with self._database.reading() as connection:
                found = connection.execute(
                    sql(_STATES),
                    {"recipe": recipe, "after_recipe": after[0], "after_name": after[1], "limit": _ROWS_AT_ONCE},
                )
                rows = found.mappings().all()
            yield from (_state(row) for row in rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = (rows[-1]["recipe"], rows[-1]["name"])

    def state(self, recipe: str, name: str) -> DocumentState | None:
        """One document as the last run left it; None when it was never seen."""
        with self._database.reading() as connection:
            found = connection.execute(
                sql("SELECT * FROM documents WHERE recipe = :recipe AND name = :name"),
                {"recipe": recipe, "name": name},
            )
            row = found.mappings().first()
        return None if row is None else _state(row)

    def versions(self, recipe: str, after_id: int = 0) -> Iterator[Version]:
        """The versions of all records of a recipe beyond a number, oldest first."""
        while True:
            with self._database.reading() as connection:
                found = connection.execute(
                    sql("SELECT * FROM versions WHERE recipe = :recipe AND id > :after ORDER BY id LIMIT :limit"),
                    {"recipe": recipe, "after": after_id, "limit": _ROWS_AT_ONCE},
                )
                rows = found.mappings().all()
            yield from (_version(row) for row in rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            after_id = rows[-1]["id"]

    def version(self, version_id: int) -> Version | None:
        """One version by its number."""
        with self._database.reading() as connection:
            row = connection.execute(sql("SELECT * FROM versions WHERE id = :id"), {"id": version_id}).mappings()
            found = row.first()
        return None if found is None else _version(found)

    def before(self, version: Version) -> Version | None:
        """The version that one took the place of; None when it is the document's first."""
        statement = (
            "SELECT * FROM versions WHERE recipe = :recipe AND name = :name AND id < :id ORDER BY id DESC LIMIT 1"
        )
        values = {"recipe": version.recipe, "name": version.name, "id": version.id}
        with self._database.reading() as connection:
            row = connection.execute(sql(statement), values).mappings().first()
        return None if row is None else _version(row)


_LAST = (
    "SELECT id, status, sha256, record_sha256 FROM versions WHERE recipe = :recipe AND name = :name"
    " ORDER BY id DESC LIMIT 1"
)
_ADD = (
    "INSERT INTO versions (name, recipe, at, run_id, status, sha256, record_sha256, body)"
    " VALUES (:name, :recipe, :at, :run, :status, :sha256, :record_sha256, :body) RETURNING id"
)
_STATE = (
    "INSERT INTO documents (name, recipe, at, run_id, status, problem, uri, sha256, fingerprint, version_id)"
    " VALUES (:name, :recipe, :at, :run, :status, :problem, :uri, :sha256, :fingerprint, 0)"
    " ON CONFLICT (recipe, name) DO UPDATE SET at = excluded.at, run_id = excluded.run_id,"
    " status = excluded.status, problem = excluded.problem, uri = excluded.uri, sha256 = excluded.sha256,"
    " fingerprint = excluded.fingerprint"
)
_POINT = "UPDATE documents SET version_id = :version WHERE recipe = :recipe AND name = :name"
_REMOVE = (
    "UPDATE documents SET status = 'removed', problem = NULL, at = :at, run_id = :run"
    " WHERE recipe = :recipe AND name = :name AND status <> 'removed' RETURNING name"
)
_STATES = (
    "SELECT * FROM documents WHERE (CAST(:recipe AS TEXT) IS NULL OR recipe = :recipe)"
    " AND (recipe > :after_recipe OR (recipe = :after_recipe AND name > :after_name))"
    " ORDER BY recipe, name LIMIT :limit"
)


def _add(connection: Connection, values: dict[str, Any], body: bytes | None) -> int:
    return int(connection.execute(sql(_ADD), {**values, "body": body}).scalar_one())


def _state(row: RowMapping) -> DocumentState:
    return DocumentState(**{name: row[name] for name in DocumentState.__slots__})


def _version(row: RowMapping) -> Version:
    body = row["body"]
    record = None if body is None else Record[dict[str, Any]].model_validate_json(zlib.decompress(bytes(body)))
    rest = {name: row[name] for name in Version.__slots__ if name != "record"}
    return Version(**rest, record=record)
