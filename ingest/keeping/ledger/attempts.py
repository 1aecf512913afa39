"""The books: every try of every call, noted before it is sent at the most it can cost, and settled after."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from sqlalchemy import Connection, RowMapping

from ingest.keeping.ledger.database import Database, now, sql
from ingest.types import Bill, Usage

Booking: TypeAlias = Literal["open", "usage", "worst", "free", "unknown"]
"""How a try stands on the books: sent and not yet settled; by the server's usage; at its worst case, since it died
without usage; not at all, since it surely was not served; not known, from before worst cases were kept."""

MOST_TOKENS = 2**53
"""Counts beyond it are a server's nonsense, and fit no column."""

_NO_USAGE = Usage()
_ROWS_AT_ONCE = 500


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


class Attempts:
    """Tries of calls, and what each cost. They stay when an answer is asked for again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, run_id: int, start: Start) -> int:
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
            return int(connection.execute(sql(_START), values).scalar_one())

    def settle(self, attempt_id: int, ending: Ending) -> None:
        """Note how a try ended and what is booked for it."""
        with self._database.transaction() as connection:
            settle(connection, attempt_id, ending)

    def postings(self, run_id: int | None = None) -> tuple[Posting, ...]:
        """Every try of a run, or of all runs, as it stands on the books, oldest first."""
        if run_id is None:
            return self._postings("SELECT * FROM attempts ORDER BY id")
        return self._postings("SELECT * FROM attempts WHERE run_id = :run ORDER BY id", run_id)

    def each(self, run_id: int) -> Iterator[Posting]:
        """The tries of a run as `postings` gives them, a few hundred in memory at a time."""
        statement = sql("SELECT * FROM attempts WHERE run_id = :run AND id > :after ORDER BY id LIMIT :limit")
        after = 0
        while True:
            values = {"run": run_id, "after": after, "limit": _ROWS_AT_ONCE}
            with self._database.reading() as connection:
                rows = connection.execute(statement, values).mappings().all()
            yield from map(_posting, rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            after = rows[-1]["id"]

    def left_open(self, before_run: int, live_runs: Collection[int] = ()) -> tuple[Posting, ...]:
        """Tries that runs before this one sent and never settled, since they were killed: they may have been billed.

        `live_runs` are still at work, and may settle theirs.
        """
        statement = "SELECT * FROM attempts WHERE booking = 'open' AND run_id < :run ORDER BY id"
        found = self._postings(statement, before_run)
        return tuple(posting for posting in found if posting.run_id not in live_runs)

    def _postings(self, statement: str, run_id: int | None = None) -> tuple[Posting, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(sql(statement), {"run": run_id} if run_id is not None else {}).mappings().all()
        return tuple(_posting(row) for row in rows)


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


def settle(connection: Connection, attempt_id: int, ending: Ending) -> None:
    """Note how a try ended, within a transaction."""
    usage, bill = ending.usage, ending.bill
    values = {
        "id": attempt_id,
        "elapsed": ending.elapsed_s,
        "outcome": ending.outcome,
        "message": ending.message,
        "booking": ending.booking,
        "input": min(usage.input_tokens, MOST_TOKENS),
        "output": min(usage.output_tokens, MOST_TOKENS),
        "cached": min(usage.cached_tokens, MOST_TOKENS),
        "reasoning": min(usage.reasoning_tokens, MOST_TOKENS),
        "tier": bill.tier if bill else 0,
        "input_usd": _money_text(bill.input_usd if bill else None),
        "cached_usd": _money_text(bill.cached_usd if bill else None),
        "output_usd": _money_text(bill.output_usd if bill else None),
        "reasoning_usd": _money_text(bill.reasoning_usd if bill else None),
        "booked": _money_text(ending.booked_usd),
        "is_cut_off": int(ending.is_cut_off),
    }
    connection.execute(sql(_SETTLE), values)


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
