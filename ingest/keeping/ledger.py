"""The ledger: answers under their request keys, and every attempt with what it cost.

An answer is stored durably before anything else happens to it, so a crash or a rerun never buys it again.
One process writes; SQLite runs in WAL mode with full synchronisation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Self

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from ingest.errors import Busy, LedgerError, NewerVersion
from ingest.keeping.migrations import MIGRATIONS
from ingest.types import PageWords, Reply, Usage, Word

LEDGER_FOLDER = ".ingest"
NOT_SENT = "not_sent"
"""Outcome of an attempt that never reached the server."""
_LOCK_NAME = "lock"
_FILE_NAME = "ledger.sqlite"


class Ledger:
    """Answers and attempts of all runs into one output folder.

    `folder` is the output folder; None keeps everything in memory for one run. One run at a time writes: `is_shared` is
    for those who only look. Raises NewerVersion when a newer
    program wrote the file, Busy when another process holds it, LedgerError when it cannot be opened.
    """

    def __init__(self, folder: Path | None, is_shared: bool = False) -> None:
        self._where = "memory" if folder is None else str(folder / LEDGER_FOLDER / _FILE_NAME)
        self._lock: IO[str] | None = None
        self._engine = _open_engine(folder, self._where)
        if folder is not None and not is_shared:
            self._lock = _take_lock(folder)
        try:
            self._migrate()
        except LedgerError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def start_run(self, recipe: str, model: str, endpoint: str) -> int:
        """Note a new run and give its number."""
        with self._transaction() as connection:
            row = connection.execute(
                text(
                    "INSERT INTO runs (started_at, recipe, model, endpoint) VALUES (:at, :recipe, :model, :endpoint)"
                    " RETURNING id"
                ),
                {"at": _now(), "recipe": recipe, "model": model, "endpoint": endpoint},
            )
            return int(row.scalar_one())

    def finish_run(self, run_id: int) -> None:
        """Note that a run came to its end."""
        with self._transaction() as connection:
            connection.execute(text("UPDATE runs SET finished_at = :at WHERE id = :id"), {"at": _now(), "id": run_id})

    def answer(self, key: str) -> Reply | None:
        """The answer stored under a request key, None when it was never received."""
        with self._transaction() as connection:
            row = connection.execute(text("SELECT * FROM answers WHERE key = :key"), {"key": key}).mappings().first()
        if row is None:
            return None
        return Reply(
            text=row["text"],
            finish_reason=row["finish_reason"],
            usage=Usage(row["input_tokens"], row["output_tokens"], row["reasoning_tokens"], row["cached_tokens"]),
            model=row["model"],
            request_id=row["request_id"],
            page_words=_page_words_from_json(row["page_words"]),
        )

    def has_answer(self, key: str) -> bool:
        """Whether an answer is stored under a request key."""
        with self._transaction() as connection:
            return connection.execute(text("SELECT 1 FROM answers WHERE key = :key"), {"key": key}).first() is not None

    def store_answer(self, key: str, reply: Reply) -> None:
        """Keep an answer; it is on disk when this returns. A second answer under one key changes nothing."""
        values = {
            "key": key,
            "at": _now(),
            "model": reply.model,
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "request_id": reply.request_id,
            "input": reply.usage.input_tokens,
            "output": reply.usage.output_tokens,
            "reasoning": reply.usage.reasoning_tokens,
            "cached": reply.usage.cached_tokens,
            "page_words": _page_words_to_json(reply.page_words),
        }
        self._write(
            "INSERT INTO answers (key, created_at, model, text, finish_reason, request_id, input_tokens, output_tokens,"
            " reasoning_tokens, cached_tokens, page_words) VALUES (:key, :at, :model, :text, :finish_reason,"
            " :request_id, :input, :output, :reasoning, :cached, :page_words) ON CONFLICT (key) DO NOTHING",
            values,
        )

    def record_attempt(
        self, run_id: int, key: str, elapsed_s: float, outcome: str, message: str, usage: Usage, cost: Decimal | None
    ) -> None:
        """Note one call, paid or failed."""
        values = {
            "run": run_id,
            "key": key,
            "at": _now(),
            "elapsed": elapsed_s,
            "outcome": outcome,
            "message": message,
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cost": None if cost is None else str(cost),
        }
        self._write(
            "INSERT INTO attempts (run_id, key, at, elapsed_s, outcome, message, input_tokens, output_tokens, cost_usd)"
            " VALUES (:run, :key, :at, :elapsed, :outcome, :message, :input, :output, :cost)",
            values,
        )

    def run_spending(self, run_id: int) -> tuple[int, Decimal | None]:
        """Calls made by a run and the money they cost; the money is None when a price was not known."""
        with self._transaction() as connection:
            rows = connection.execute(
                text("SELECT cost_usd, outcome FROM attempts WHERE run_id = :run"), {"run": run_id}
            ).all()
        sent = [outcome for _, outcome in rows if outcome != NOT_SENT]
        paid = [cost for cost, outcome in rows if outcome == "answered"]
        if any(cost is None for cost in paid):
            return len(sent), None
        return len(sent), sum((Decimal(cost) for cost in paid), Decimal(0))

    def _write(self, statement: str, values: Mapping[str, object]) -> None:
        with self._transaction() as connection:
            connection.execute(text(statement), values)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction; the database's own exceptions end here."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _translate(error, self._where) from error

    def _migrate(self) -> None:
        with self._transaction() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, at TEXT)"))
            done = int(connection.execute(text("SELECT COALESCE(MAX(number), 0) FROM migrations")).scalar_one())
        if done > len(MIGRATIONS):
            raise NewerVersion(
                f"the ledger {self._where} has version {done}, this program knows {len(MIGRATIONS)}:"
                " update ingest, or choose another output folder"
            )
        for number in range(done + 1, len(MIGRATIONS) + 1):
            with self._transaction() as connection:
                _apply(connection, number)


def _apply(connection: Connection, number: int) -> None:
    """One step and its mark in one transaction."""
    for statement in MIGRATIONS[number - 1]:
        connection.execute(text(statement))
    connection.execute(text("INSERT INTO migrations (number, at) VALUES (:n, :at)"), {"n": number, "at": _now()})


def _open_engine(folder: Path | None, where: str) -> Engine:
    if folder is None:
        return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    try:
        (folder / LEDGER_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot create {folder / LEDGER_FOLDER}: {error.strerror}; choose a writable -o") from error
    engine = create_engine(f"sqlite:///{where}", connect_args={"check_same_thread": False, "timeout": 5})
    event.listen(engine, "connect", _configure_sqlite)
    return engine


def _take_lock(folder: Path) -> IO[str]:
    """The lock on an output folder, let go when the file is closed or the process ends.

    Raises Busy when another run has it.
    """
    import fcntl

    path = folder / LEDGER_FOLDER / _LOCK_NAME
    try:
        lock = path.open("w", encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"cannot write {path}: {error.strerror}; choose a writable -o") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Busy(f"another run is writing into {folder}: wait for it, or choose another output folder") from error
    return lock


def _configure_sqlite(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]  # a raw DBAPI connection has no common type
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _translate(error: DBAPIError, where: str) -> LedgerError:
    reason = str(error.orig)
    if "locked" in reason or "busy" in reason:
        return Busy(f"another process holds the ledger {where}; wait for it or choose another output folder")
    return LedgerError(f"the ledger {where} cannot be used: {reason}")


def _page_words_to_json(pages: tuple[PageWords, ...]) -> str:
    rows = [
        [page.part_number, [[*(round(edge, 5) for edge in word.bbox), word.text] for word in page.words]]
        for page in pages
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def _page_words_from_json(value: str) -> tuple[PageWords, ...]:
    return tuple(
        PageWords(number, tuple(Word(row[4], (row[0], row[1], row[2], row[3])) for row in words))
        for number, words in json.loads(value)
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
