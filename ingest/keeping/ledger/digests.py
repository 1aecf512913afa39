"""What digests told: each as it was written, and the versions of records it tells of, so that none is told twice."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError

from ingest.errors import Busy
from ingest.keeping.ledger.database import Database, now
from ingest.keeping.ledger.deliveries import expect
from ingest.keeping.ledger.documents import VersionStatus

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Untold:
    """A version of a record that no digest of a name tells of yet."""

    id: int
    name: str
    at: str
    status: VersionStatus


@dataclass(frozen=True, slots=True)
class Told:
    """The last version of a document that a digest tells of, and the last one of them that held data."""

    id: int
    with_data_id: int | None


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest as it was made. `body` is JSON, `markdown` and `html` are its pages.

    The window is half-open, UTC, ISO 8601; it has no start when nothing was told before. `slot` names the window: a
    name has one digest for each. `is_finished` once its files are written and its deliveries are made.
    """

    id: int
    name: str
    recipe: str
    slot: str
    at: str
    window_start: str | None
    window_end: str
    body: str
    markdown: str
    html: str
    is_finished: bool


class Digests:
    """Digests made and the versions each tells of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def untold(self, name: str, recipe: str) -> tuple[Untold, ...]:
        """The versions of a recipe's records that no digest of this name tells of, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(text(_UNTOLD), {"name": name, "recipe": recipe}).mappings().all()
        return tuple(Untold(row["id"], row["name"], row["at"], row["status"]) for row in rows)

    def told(self, name: str, recipe: str) -> dict[str, Told]:
        """By document: the last version that digests of this name tell of."""
        with self._database.reading() as connection:
            rows = connection.execute(text(_TOLD), {"name": name, "recipe": recipe}).mappings().all()
        return {row["name"]: Told(row["id"], row["with_data_id"]) for row in rows}

    def store(
        self,
        version_ids: Iterable[int],
        *,
        name: str,
        recipe: str,
        slot: str,
        window_start: str | None,
        window_end: str,
        body: str,
        markdown: str,
        html: str,
        delivery: str = "",
        targets: Iterable[tuple[str, str]] = (),
    ) -> Digest:
        """Keep a digest together with the versions it tells of and who is to get it, all or nothing, and give it.

        `targets` are hash and label of each address, `delivery` is the key of what is sent to them.

        Raises Busy when another process told of one of the versions, or made the digest of this slot, in the
        meantime: then nothing is kept.
        """
        values = {
            "name": name,
            "recipe": recipe,
            "slot": slot,
            "at": now(),
            "start": window_start,
            "end": window_end,
            "body": zlib.compress(body.encode()),
            "markdown": zlib.compress(markdown.encode()),
            "html": zlib.compress(html.encode()),
        }
        with self._database.transaction() as connection:
            try:
                row = connection.execute(text(_STORE), values).mappings().one()
                rows = [{"name": name, "version": number, "digest": row["id"]} for number in version_ids]
                for first in range(0, len(rows), _ROWS_AT_ONCE):
                    connection.execute(text(_COVER), rows[first : first + _ROWS_AT_ONCE])
                expect(connection, delivery, targets)
            except IntegrityError as error:
                raise Busy(
                    f"another process made the digest {name} meanwhile: run again, what it told is kept"
                ) from error
        return _digest(row)

    def last(self, name: str) -> Digest | None:
        """The digest of this name made last."""
        return self._one("SELECT * FROM digests WHERE name = :name ORDER BY id DESC LIMIT 1", name=name)

    def in_slot(self, name: str, slot: str) -> Digest | None:
        """The digest of a window, by the window's name."""
        return self._one("SELECT * FROM digests WHERE name = :name AND slot = :slot", name=name, slot=slot)

    def unfinished(self, name: str, limit: int = 10) -> tuple[Digest, ...]:
        """The latest digests whose files or deliveries are not known to be done, oldest first."""
        statement = "SELECT * FROM digests WHERE name = :name AND finished_at IS NULL ORDER BY id DESC LIMIT :limit"
        with self._database.reading() as connection:
            rows = connection.execute(text(statement), {"name": name, "limit": limit}).mappings().all()
        return tuple(_digest(row) for row in reversed(rows))

    def finish(self, digest_id: int) -> None:
        """Note that a digest's files are written and its deliveries made."""
        self._database.write(
            "UPDATE digests SET finished_at = :at WHERE id = :id AND finished_at IS NULL",
            {"id": digest_id, "at": now()},
        )

    def _one(self, statement: str, **values: str) -> Digest | None:
        with self._database.reading() as connection:
            row = connection.execute(text(statement), values).mappings().first()
        return None if row is None else _digest(row)


_UNTOLD = (
    "SELECT v.id, v.name, v.at, v.status FROM versions v"
    " LEFT JOIN digest_versions d ON d.name = :name AND d.version_id = v.id"
    " WHERE v.recipe = :recipe AND d.version_id IS NULL ORDER BY v.id"
)
_TOLD = (
    "SELECT v.name AS name, MAX(v.id) AS id,"
    " MAX(CASE WHEN v.status IN ('complete', 'partial') THEN v.id END) AS with_data_id"
    " FROM digest_versions d JOIN versions v ON v.id = d.version_id"
    " WHERE d.name = :name AND v.recipe = :recipe GROUP BY v.name"
)
_STORE = (
    "INSERT INTO digests (name, recipe, slot, at, window_start, window_end, body, markdown, html)"
    " VALUES (:name, :recipe, :slot, :at, :start, :end, :body, :markdown, :html) RETURNING *"
)
_COVER = "INSERT INTO digest_versions (name, version_id, digest_id) VALUES (:name, :version, :digest)"


def _digest(row: RowMapping) -> Digest:
    return Digest(
        id=row["id"],
        name=row["name"],
        recipe=row["recipe"],
        slot=row["slot"],
        at=row["at"],
        window_start=row["window_start"],
        window_end=row["window_end"],
        body=_text(row["body"]),
        markdown=_text(row["markdown"]),
        html=_text(row["html"]),
        is_finished=row["finished_at"] is not None,
    )


def _text(stored: bytes) -> str:
    return zlib.decompress(bytes(stored)).decode()
