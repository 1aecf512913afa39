"""The ledger: answers under their request keys, every attempt with what it cost, and what runs learned.

An answer is stored durably before anything else happens to it, so a crash or a rerun never buys it again. An attempt
is noted durably before it is sent, at the most it can cost, and settled once its usage came.
One process writes; SQLite runs in WAL mode with full synchronisation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Literal, Self, TypeAlias, get_args

from sqlalchemy import RowMapping, text

from ingest.errors import Busy, LedgerError
from ingest.keeping.ledger.database import LEDGER_FOLDER, Database, now
from ingest.keeping.ledger.digests import Digests
from ingest.keeping.ledger.documents import Documents
from ingest.keeping.ledger.schedules import Schedules
from ingest.types import Bill, Json, Observation, PageWords, Reply, Rung, Usage, Word

__all__ = ["LEDGER_FOLDER", "Booking", "Ending", "Ledger", "Posting", "Start"]

Booking: TypeAlias = Literal["open", "usage", "worst", "free", "unknown"]
"""How a try stands on the books: sent and not yet settled; by the server's usage; at its worst case, since it died
without usage; not at all, since it surely was not served; not known, from before worst cases were kept."""
_MOST_TOKENS = 2**53
_NO_USAGE = Usage()
_LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Start:
    """A try that is about to be sent. `worst_usd` is the most it can cost, None without a price.

    `number` counts the tries of one call from 1; `is_repeat` marks a request that stands in for an answer nobody could
    use.
    """

    key: str
    document: str
    recipe: str
    number: int
    is_repeat: bool
    worst_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a try ended. `outcome` is "answered", "cancelled" or the code of the error.

    `bill` stands for booking `usage`, and is None without a price; `booked_usd` is what counts as spent.
    """

    outcome: str
    message: str
    elapsed_s: float
    booking: Booking
    usage: Usage = _NO_USAGE
    bill: Bill | None = None
    booked_usd: Decimal | None = None
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Posting:
    """One try as it stands on the books. `booked_usd` of an open one is its worst case; None without a price."""

    run_id: int
    key: str
    document: str
    recipe: str
    number: int
    is_repeat: bool
    is_cut_off: bool
    outcome: str
    booking: Booking
    usage: Usage
    bill: Bill | None
    booked_usd: Decimal | None
    worst_usd: Decimal | None


class Ledger:
    """Answers and attempts of all runs into one output folder, or into one database that several share.

    `folder` is the output folder, `url` the address of a database that takes the place of the file in it; with neither
    everything is kept in memory for one run. One run at a time writes into a folder: `is_shared` is for those who only
    look. `documents` holds what became of each document and every version of its record, `digests` what was told about
    them, `schedules` the jobs of the scheduler.

    Raises NewerVersion when a newer program wrote the ledger, Busy when another process holds it, LedgerError when it
    cannot be opened, ConfigError when the address is none.
    """

    def __init__(self, folder: Path | None, is_shared: bool = False, url: str | None = None) -> None:
        self._database = Database(folder, url)
        self._lock: IO[str] | None = None
        self.documents = Documents(self._database)
        self.digests = Digests(self._database)
        self.schedules = Schedules(self._database)
        if folder is not None and url is None and not is_shared:
            try:
                self._lock = _take_lock(folder)
            except LedgerError:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._database.close()
        if self._lock is not None:
            self._lock.close()

    def start_run(self, recipe: str, model: str, endpoint: str) -> int:
        """Note a new run and give its number."""
        with self._database.transaction() as connection:
            row = connection.execute(
                text(
                    "INSERT INTO runs (started_at, recipe, model, endpoint) VALUES (:at, :recipe, :model, :endpoint)"
                    " RETURNING id"
                ),
                {"at": now(), "recipe": recipe, "model": model, "endpoint": endpoint},
            )
            return int(row.scalar_one())

    def finish_run(self, run_id: int) -> None:
        """Note that a run came to its end."""
        with self._database.transaction() as connection:
            connection.execute(text("UPDATE runs SET finished_at = :at WHERE id = :id"), {"at": now(), "id": run_id})

    def answer(self, key: str) -> Reply | None:
        """The answer stored under a request key, None when it was never received."""
        with self._database.transaction() as connection:
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
        with self._database.transaction() as connection:
            return connection.execute(text("SELECT 1 FROM answers WHERE key = :key"), {"key": key}).first() is not None

    def store_answer(
        self,
        key: str,
        reply: Reply,
        *,
        attempt_id: int | None = None,
        ending: Ending | None = None,
        learned: tuple[str, str, Observation] | None = None,
    ) -> None:
        """Keep an answer; it is on disk when this returns. A second answer under one key changes nothing.

        In the same transaction the attempt that brought it is settled (`attempt_id`, `ending`), and what it taught is
        kept (`learned`: model, endpoint, observation).
        """
        values = {
            "key": key,
            "at": now(),
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
        with self._database.transaction() as connection:
            connection.execute(text(_STORE_ANSWER), values)
            if attempt_id is not None and ending is not None:
                connection.execute(text(_SETTLE), _ending_values(attempt_id, ending))
            if learned is not None:
                connection.execute(text(_OBSERVE), _learned_values(*learned))

    def start_attempt(self, run_id: int, start: Start) -> int:
        """Note a try before it is sent, with the most it can cost, and give its number.

        It is on disk when this returns: after a crash the worst case stays on the books.
        """
        values = {
            "run": run_id,
            "key": start.key,
            "at": now(),
            "document": start.document,
            "recipe": start.recipe,
            "number": start.number,
            "is_repeat": int(start.is_repeat),
            "worst": _money_text(start.worst_usd),
        }
        with self._database.transaction() as connection:
            return int(connection.execute(text(_START), values).scalar_one())

    def settle_attempt(self, attempt_id: int, ending: Ending) -> None:
        """Note how a try ended and what is booked for it."""
        self._database.write(_SETTLE, _ending_values(attempt_id, ending))

    def postings(self, run_id: int | None = None) -> tuple[Posting, ...]:
        """Every try of a run, or of all runs, as it stands on the books, oldest first."""
        statement = "SELECT * FROM attempts WHERE :run IS NULL OR run_id = :run ORDER BY id"
        with self._database.transaction() as connection:
            rows = connection.execute(text(statement), {"run": run_id}).mappings().all()
        return tuple(_posting(row) for row in rows)

    def open_attempts(self, before_run: int) -> tuple[Posting, ...]:
        """Tries that runs before this one sent and never settled, since they were killed: they may have been billed."""
        statement = "SELECT * FROM attempts WHERE booking = 'open' AND run_id < :run ORDER BY id"
        with self._database.transaction() as connection:
            rows = connection.execute(text(statement), {"run": before_run}).mappings().all()
        return tuple(_posting(row) for row in rows)

    def observations(self, model: str, endpoint: str, limit: int = 1_000) -> tuple[Observation, ...]:
        """The latest observations of a model behind an endpoint, oldest first."""
        statement = (
            "SELECT counts, owned_tokens, input_tokens, output_tokens FROM observations"
            " WHERE model = :model AND endpoint = :endpoint ORDER BY id DESC LIMIT :limit"
        )
        with self._database.transaction() as connection:
            rows = connection.execute(text(statement), {"model": model, "endpoint": endpoint, "limit": limit}).all()
        return tuple(
            Observation(tuple((str(kind), int(count)) for kind, count in json.loads(counts)), owned, sent, received)
            for counts, owned, sent, received in reversed(rows)
        )

    def partition(self, key: str) -> Json | None:
        """How a document, or a chunk that had to be split, was cut when it was first asked; None when it never was."""
        with self._database.transaction() as connection:
            row = connection.execute(text("SELECT chunks FROM partitions WHERE key = :key"), {"key": key}).first()
        return None if row is None else json.loads(row[0])

    def store_partition(self, key: str, chunks: Json) -> None:
        """Keep how a document or a chunk is cut, so that it is asked for in the same pieces ever after."""
        self._database.write(
            "INSERT INTO partitions (key, at, chunks) VALUES (:key, :at, :chunks)"
            " ON CONFLICT (key) DO UPDATE SET chunks = excluded.chunks, at = excluded.at",
            {"key": key, "at": now(), "chunks": json.dumps(chunks, separators=(",", ":"))},
        )

    def rung(self, endpoint: str, model: str) -> Rung | None:
        """The rung of the ladder that worked last for a model behind an endpoint."""
        statement = "SELECT rung FROM rungs WHERE endpoint = :endpoint AND model = :model"
        with self._database.transaction() as connection:
            row = connection.execute(text(statement), {"endpoint": endpoint, "model": model}).first()
        found = None if row is None else row[0]
        return next((rung for rung in get_args(Rung) if rung == found), None)

    def store_rung(self, endpoint: str, model: str, rung: Rung) -> None:
        """Remember the rung that works for a model behind an endpoint."""
        self._database.write(
            "INSERT INTO rungs (endpoint, model, at, rung) VALUES (:endpoint, :model, :at, :rung)"
            " ON CONFLICT (endpoint, model) DO UPDATE SET rung = excluded.rung, at = excluded.at",
            {"endpoint": endpoint, "model": model, "at": now(), "rung": rung},
        )


_STORE_ANSWER = (
    "INSERT INTO answers (key, created_at, model, text, finish_reason, request_id, input_tokens, output_tokens,"
    " reasoning_tokens, cached_tokens, page_words) VALUES (:key, :at, :model, :text, :finish_reason,"
    " :request_id, :input, :output, :reasoning, :cached, :page_words) ON CONFLICT (key) DO NOTHING"
)
_START = (
    "INSERT INTO attempts (run_id, key, at, elapsed_s, outcome, message, input_tokens, output_tokens, booking,"
    " document, recipe, number, is_repeat, worst_usd) VALUES (:run, :key, :at, 0, 'sent', '', 0, 0, 'open',"
    " :document, :recipe, :number, :is_repeat, :worst) RETURNING id"
)
_SETTLE = (
    "UPDATE attempts SET elapsed_s = :elapsed, outcome = :outcome, message = :message, booking = :booking,"
    " input_tokens = :input, output_tokens = :output, cached_tokens = :cached, reasoning_tokens = :reasoning,"
    " tier = :tier, input_usd = :input_usd, cached_usd = :cached_usd, output_usd = :output_usd,"
    " reasoning_usd = :reasoning_usd, cost_usd = :booked, is_cut_off = :is_cut_off WHERE id = :id"
)


_OBSERVE = (
    "INSERT INTO observations (at, model, endpoint, counts, owned_tokens, input_tokens, output_tokens)"
    " VALUES (:at, :model, :endpoint, :counts, :owned, :input, :output)"
)


def _learned_values(model: str, endpoint: str, observation: Observation) -> dict[str, object]:
    return {
        "at": now(),
        "model": model,
        "endpoint": endpoint,
        "counts": json.dumps([list(pair) for pair in observation.counts], separators=(",", ":")),
        "owned": observation.owned_tokens,
        "input": min(observation.input_tokens, _MOST_TOKENS),
        "output": min(observation.output_tokens, _MOST_TOKENS),
    }


def _ending_values(attempt_id: int, ending: Ending) -> dict[str, object]:
    usage, bill = ending.usage, ending.bill
    return {
        "id": attempt_id,
        "elapsed": ending.elapsed_s,
        "outcome": ending.outcome,
        "message": ending.message,
        "booking": ending.booking,
        "input": min(usage.input_tokens, _MOST_TOKENS),
        "output": min(usage.output_tokens, _MOST_TOKENS),
        "cached": min(usage.cached_tokens, _MOST_TOKENS),
        "reasoning": min(usage.reasoning_tokens, _MOST_TOKENS),
        "tier": bill.tier if bill else 0,
        "input_usd": _money_text(bill.input_usd if bill else None),
        "cached_usd": _money_text(bill.cached_usd if bill else None),
        "output_usd": _money_text(bill.output_usd if bill else None),
        "reasoning_usd": _money_text(bill.reasoning_usd if bill else None),
        "booked": _money_text(ending.booked_usd),
        "is_cut_off": int(ending.is_cut_off),
    }


def _posting(row: RowMapping) -> Posting:
    booking: Booking = row["booking"]
    kinds = [_money(row[f"{kind}_usd"]) for kind in ("input", "cached", "output", "reasoning")]
    bill = None
    if all(amount is not None for amount in kinds):
        bill = Bill(row["tier"], *(amount or Decimal(0) for amount in kinds))
    worst_usd = _money(row["worst_usd"])
    return Posting(
        run_id=row["run_id"],
        key=row["key"],
        document=row["document"],
        recipe=row["recipe"],
        number=row["number"],
        is_repeat=bool(row["is_repeat"]),
        is_cut_off=bool(row["is_cut_off"]),
        outcome=row["outcome"],
        booking=booking,
        usage=Usage(row["input_tokens"], row["output_tokens"], row["reasoning_tokens"], row["cached_tokens"]),
        bill=bill,
        booked_usd=worst_usd if booking == "open" else _money(row["cost_usd"]),
        worst_usd=worst_usd,
    )


def _money_text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _money(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


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


def _page_words_to_json(pages: tuple[PageWords, ...]) -> str:
    rows = [
        [page.part_number, [[*(round(edge, 5) for edge in word.bbox), word.text] for word in page.words], page.time_s]
        for page in pages
    ]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def _page_words_from_json(value: str) -> tuple[PageWords, ...]:
    return tuple(
        PageWords(number, tuple(Word(row[4], (row[0], row[1], row[2], row[3])) for row in words), *time_s)
        for number, words, *time_s in json.loads(value)
    )
