"""What was sent to whom: each thing at most once to each target, whatever is killed in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from sqlalchemy import Connection, text

from ingest.keeping.ledger.database import Database, now

DeliveryState: TypeAlias = Literal["sending", "sent", "failed", "unknown"]
"""Sent and confirmed; refused, or not sent yet; neither known. `sending` is noted before a try: when it stays, the
process was killed between sending and hearing, and nobody knows whether it arrived."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one thing stands with one target.

    `key` names what is delivered, `target` is a hash of the whole address, `label` the address with its secrets
    masked. `tries` counts from 1, and is 0 while nothing was sent; `reason` says why the last try failed.
    """

    key: str
    target: str
    label: str
    state: DeliveryState
    tries: int
    at: str
    reason: str | None

    @property
    def is_sent(self) -> bool:
        """Whether the target confirmed."""
        return self.state == "sent"

    def as_seen_later(self) -> Delivery:
        """The same once nobody is sending any more: what is still `sending` was killed, and is not known."""
        if self.state != "sending":
            return self
        return replace(self, state="unknown", reason="stopped while sending; it may have arrived")


class Deliveries:
    """Deliveries by key and target. Addresses themselves are never kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_awaited(self, key: str) -> bool:
        """Whether some target is still to get a thing."""
        with self._database.reading() as connection:
            found = connection.execute(text(_AWAITED), {"key": key})
            return found.first() is not None

    def begin(self, key: str, target: str, label: str, is_forced: bool = False) -> bool:
        """Note, before a try, that it is made; False when it must not be.

        It must not when the target confirmed, or when an earlier try was killed before its end was known;
        `is_forced` allows the latter. It is on disk when this returns, and of several processes one gets True.
        """
        values = {"key": key, "target": target, "label": label, "at": now(), "forced": int(is_forced)}
        with self._database.transaction() as connection:
            return connection.execute(text(_BEGIN), values).first() is not None

    def settle(self, key: str, target: str, state: DeliveryState, reason: str | None = None) -> None:
        """Note how a try ended."""
        self._database.write(
            "UPDATE deliveries SET state = :state, reason = :reason, at = :at WHERE key = :key AND target = :target",
            {"key": key, "target": target, "state": state, "reason": reason, "at": now()},
        )

    def get(self, key: str, target: str) -> Delivery | None:
        """How a thing stands with a target; None when it was never tried."""
        with self._database.reading() as connection:
            found = connection.execute(
                text("SELECT * FROM deliveries WHERE key = :key AND target = :target"), {"key": key, "target": target}
            )
            row = found.mappings().first()
        return None if row is None else Delivery(**{name: row[name] for name in Delivery.__slots__})

    def unconfirmed(self) -> tuple[Delivery, ...]:
        """Every delivery that its target has not confirmed, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(text("SELECT * FROM deliveries WHERE state <> 'sent' ORDER BY at, key, target"))
            return tuple(Delivery(**{name: row[name] for name in Delivery.__slots__}) for row in rows.mappings())


def expect(connection: Connection, key: str, targets: Iterable[tuple[str, str]]) -> None:
    """Note, in the transaction that stores a thing, who is to get it: hash and label of each target."""
    for target, label in targets:
        connection.execute(text(_EXPECT), {"key": key, "target": target, "label": label, "at": now()})


_EXPECT = (
    "INSERT INTO deliveries (key, target, label, state, tries, at, reason)"
    " VALUES (:key, :target, :label, 'failed', 0, :at, 'not sent yet') ON CONFLICT (key, target) DO NOTHING"
)
_AWAITED = "SELECT key FROM deliveries WHERE key = :key AND state = 'failed' LIMIT 1"
_BEGIN = (
    "INSERT INTO deliveries (key, target, label, state, tries, at) VALUES (:key, :target, :label, 'sending', 1, :at)"
    " ON CONFLICT (key, target) DO UPDATE SET state = 'sending', tries = deliveries.tries + 1, at = excluded.at,"
    " label = excluded.label, reason = NULL"
    " WHERE deliveries.state = 'failed' OR (:forced = 1 AND deliveries.state <> 'sent') RETURNING tries"
)
