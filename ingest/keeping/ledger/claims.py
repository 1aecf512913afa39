"""Who is asking which chunk at present: of several runs on one ledger, on one machine or many, one asks for each.

A run is an *owner* while it lives. It holds a lock file of its own, so that on the same machine a dead one is known by
its free lock at once; elsewhere by the time at which it was last seen. What a dead owner claimed is free. One that was
stopped (SIGSTOP, Ctrl-Z) holds its lock: it counts as dead when it was watched being silent for its whole timeout.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection

from ingest.keeping.ledger.database import Database, now, sql

# Any number will do that nobody else locks by: "claims" in ASCII.
_BURYING = 0x636C61696D73
_LOCK_KEPT_S = 24 * 3600.0
"""Age at which a lock file that nobody holds is litter, whichever ledger it was for."""


class Claims:
    """The claims of one run, once it is an owner; they are kept in memory where nobody else can open the ledger.

    Raises LedgerError as the database does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner: _Owner | None = None
        self._held: set[str] = set()
        # By owner: when it was last seen, and since when, by this process's own clock, that has not changed.
        self._silent: dict[str, tuple[str, float]] = {}

    def enter(self, run_id: int, timeout_s: float) -> str | None:
        """Become an owner, who has to `beat` more often than every `timeout_s` seconds, and give its name.

        What dead owners of this machine left is cleared away. None when nobody else can open the ledger.
        """
        if not self._database.is_shareable:
            return None
        owner = _Owner(run_id, timeout_s)
        try:
            with self._database.quick_transaction() as connection:
                self._bury(connection, owner.host)
            self._owner = owner
            self.beat()
        except BaseException:
            self._owner = None
            owner.close()
            raise
        return owner.id

    def leave(self) -> None:
        """Let go of everything."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        try:
            with self._database.quick_transaction() as connection:
                self._remove(connection, owner.id)
        except BaseException:
            owner.let_go()  # by its free lock the others see at once that this owner is gone
            raise
        owner.close()

    def beat(self) -> None:
        """Tell the others that this owner lives."""
        if self._owner is None:
            return
        values = {**self._owner.values, "seen": self._database.clock().isoformat(timespec="milliseconds")}
        with self._database.quick_transaction() as connection:
            connection.execute(sql(_BEAT), values)

    def take(self, key: str) -> bool:
        """Whether what stands under a request key is this owner's to ask for; no when a living one is asking."""
        if self._owner is None or key in self._held:
            return True
        values = {"key": key, "owner": self._owner.id, "at": now()}
        with self._database.quick_transaction() as connection:
            is_taken = connection.execute(sql(_TAKE), values).first() is not None
            if not is_taken and self._is_freed(connection, key):
                is_taken = connection.execute(sql(_TAKE), values).first() is not None
        if is_taken:
            self._held.add(key)
        return is_taken

    def note_let_go(self, key: str) -> None:
        """The claim on a key went with its answer, in one transaction."""
        self._held.discard(key)

    def release(self, key: str) -> None:
        """Let go of a key, if it is still held: the asking failed."""
        if self._owner is None or key not in self._held:
            return
        self._held.discard(key)
        with self._database.quick_transaction() as connection:
            let_go(connection, key, self._owner.id)

    def live_runs(self) -> frozenset[int]:
        """The runs that are under way, as far as is known from here."""
        with self._database.reading() as connection:
            rows = connection.execute(sql("SELECT * FROM owners")).mappings().all()
        if not rows:
            return frozenset()
        host, clock = _host(), self._database.clock()
        return frozenset(row["run_id"] for row in rows if not self._is_dead(row, host, clock))

    def _is_freed(self, connection: Connection, key: str) -> bool:
        """Whether the owner of a key is gone, or dead and now cleared away."""
        found = connection.execute(sql(_OWNER_OF), {"key": key}).mappings().first()
        if found is None:
            return True
        if found["id"] is not None and not self._is_dead(found, _host(), self._database.clock()):
            return False
        self._remove(connection, found["owner"])
        return True

    def _is_dead(self, row: Any, host: str, clock: datetime) -> bool:
        """Whether an owner is known to be dead: by its lock where that can be looked at, else by its silence."""
        if self._owner is not None and row["id"] == self._owner.id:
            return False
        if row["host"] == host and (is_free := _is_free(row["lock_path"])) is not None:
            return is_free or self._is_stopped(row)
        return clock - datetime.fromisoformat(row["seen_at"]) > timedelta(seconds=row["timeout_s"])

    def _is_stopped(self, row: Any) -> bool:
        """Whether an owner was silent for its timeout while this process looked on, and was not asleep itself."""
        seen_at, since_s = self._silent.get(row["id"], ("", 0.0))
        if seen_at != row["seen_at"]:
            self._silent[row["id"]] = row["seen_at"], time.monotonic()
            return False
        return time.monotonic() - since_s > float(row["timeout_s"])

    def _bury(self, connection: Connection, host: str) -> None:
        """Clear away what dead owners of this machine left, their lock files included."""
        rows = connection.execute(sql("SELECT * FROM owners WHERE host = :host"), {"host": host}).mappings().all()
        for row in rows:
            if _is_free(row["lock_path"]):
                self._remove(connection, row["id"])
                with contextlib.suppress(OSError):
                    Path(row["lock_path"]).unlink()

    def _remove(self, connection: Connection, owner: str) -> None:
        if self._database.is_postgresql:
            # Two who delete the same rows in different orders would wait for each other for ever.
            connection.execute(sql("SELECT pg_advisory_xact_lock(:number)"), {"number": _BURYING})
        connection.execute(sql("DELETE FROM claims WHERE owner = :owner"), {"owner": owner})
        connection.execute(sql("DELETE FROM owners WHERE id = :owner"), {"owner": owner})


_BEAT = (
    "INSERT INTO owners (id, run_id, host, lock_path, timeout_s, seen_at)"
    " VALUES (:id, :run, :host, :lock_path, :timeout, :seen) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
)
_TAKE = "INSERT INTO claims (key, owner, at) VALUES (:key, :owner, :at) ON CONFLICT (key) DO NOTHING RETURNING key"
_OWNER_OF = (
    "SELECT claims.owner AS owner, owners.* FROM claims LEFT JOIN owners ON owners.id = claims.owner WHERE key = :key"
)


def let_go(connection: Connection, key: str, owner: str) -> None:
    """Let go of a claim, within a transaction."""
    connection.execute(sql("DELETE FROM claims WHERE key = :key AND owner = :owner"), {"key": key, "owner": owner})


class _Owner:
    """This process as an owner: a name nobody else has, and a lock that the system lets go when the process ends."""

    def __init__(self, run_id: int, timeout_s: float) -> None:
        self.id = secrets.token_hex(16)
        self.host = _host()
        self._path, self._lock = _locked_file(f"{self.id}.lock")
        self.values = {
            "id": self.id,
            "run": run_id,
            "host": self.host,
            "lock_path": "" if self._path is None else str(self._path),
            "timeout": timeout_s,
        }

    def let_go(self) -> None:
        """Let go of the lock; its file stays."""
        if self._lock is not None:
            self._lock.close()

    def close(self) -> None:
        """Let go of the lock, and remove its file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.let_go()


def _is_free(path: str) -> bool | None:
    """Whether nobody holds a lock file; None where that cannot be told."""
    try:
        import fcntl

        with open(path, "rb") as file:
            try:
                # Shared: others may look at the same time.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
    except (ImportError, OSError):
        return None


def _locked_file(name: str) -> tuple[Path | None, IO[bytes] | None]:
    """A new lock file, held, in a folder that is this user's alone; nothing where there can be none."""
    try:
        import fcntl

        folder = Path(tempfile.gettempdir()) / f"ingest-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return None, None
        _remove_litter(folder)
        file = (folder / name).open("xb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            (folder / name).unlink()
            return None, None
    except (ImportError, OSError):
        return None, None
    return folder / name, file


def _remove_litter(folder: Path) -> None:
    """Remove the old lock files of killed runs whose ledgers nobody opened since."""
    for path in folder.glob("*.lock"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LOCK_KEPT_S and _is_free(str(path)):
                path.unlink()


def _host() -> str:
    """This machine since it was started: by no other name is a lock file looked at."""
    known = [platform.node()]
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with contextlib.suppress(OSError):
            known.append(Path(path).read_text(encoding="ascii", errors="replace").strip())
    return " ".join(known)
