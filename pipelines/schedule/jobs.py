"""A job's life: added with nothing secret in it, run when it is due, by one at a time, once for all that was missed."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import ingest
from pipelines.schedule.cron import Cron, parse

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.schedules import Cause, Schedule

LEASE_S = 60.0
"""A claim holds so long without a sign of life; then another daemon may run the job."""
_LOGS_KEPT = 30
_COMMANDS = ("run", "digest", "plan", "eval", "status")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,50}")
_SECRETS = (
    re.compile(r"://[^/\s@]*:[^/\s@]+@"),
    re.compile(r"[?&][^=&\s]*(password|passwd|token|secret|key|signature)[^=&\s]*=[^&\s]", re.I),
)

Execute: TypeAlias = "Callable[[Schedule, Path, int, Callable[[], object]], int]"
"""Runs a job's command to its end and gives the exit code: job, log file, a file descriptor whose lock the command
inherits, and what to call now and then so that the claim lives on."""


def now_utc() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where jobs are run from: the ledger they stand in, the folder of their logs and locks, and how they are run."""

    ledger: Ledger
    folder: Path
    execute: Execute
    clock: Callable[[], datetime] = now_utc
    is_stopping: Callable[[], bool] = lambda: False
    owner: str = field(default_factory=_owner)


def add(
    ledger: Ledger, name: str, line: str, timezone: str, arguments: Sequence[str], directory: Path, now: datetime
) -> Cron:
    """Keep a new job: `ingest ARGUMENTS` in a folder, at the times of a cron line.

    Raises ConfigError when the name is taken or none, the line or zone cannot be read, the command is none that can be
    scheduled, or an argument holds a secret.
    """
    if not _NAME.fullmatch(name):
        raise ingest.ConfigError(f"{name!r} is no name for a job: use up to 51 letters, digits, '-', '_' and '.'")
    if not arguments or arguments[0] not in _COMMANDS:
        raise ingest.ConfigError(f"after -- comes one of {', '.join(_COMMANDS)} with its arguments")
    _refuse_secrets(arguments)
    cron = parse(line, timezone)
    if not ledger.schedules.add(name, cron.line, cron.timezone, arguments, str(directory.resolve()), now):
        raise ingest.ConfigError(f"there is a job {name!r} already: choose another name, or remove that one")
    return cron


def _refuse_secrets(arguments: Sequence[str]) -> None:
    how = "set INGEST_<OPTION> in the environment of the daemon, or for --to write env:NAME or @FILE"
    for number, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--password":
            raise ingest.ConfigError("--password would be kept in plain sight: set INGEST_PASSWORD in the environment")
        if any(pattern.search(argument) for pattern in _SECRETS):
            raise ingest.ConfigError(
                f"argument {number} of the job holds a password or a key, which is not kept: {how}"
            )
        if option == "--to" and arguments[0] == "digest":
            target = value if equals else "".join(arguments[number + 1 : number + 2])
            if not target.startswith(("env:", "@")):
                raise ingest.ConfigError(
                    "--to of a scheduled digest takes no address, since most hold a secret: write env:NAME or @FILE"
                )


def run_due(desk: Desk, name: str) -> int | None:
    """Run a job once for all its times that have come and are not served; its exit code.

    None when nothing is due, when the job was removed, or when it is being run already, here or by another daemon.
    """
    return _run(desk, name, is_by_hand=False)


def run_now(desk: Desk, name: str) -> int:
    """Run a job at once, whatever its times, which stay as they are.

    Raises ConfigError when there is no such job, Busy when it is being run.
    """
    if desk.ledger.schedules.get(name) is None:
        raise ingest.ConfigError(f"there is no job {name!r}: ingest schedule list shows them")
    code = _run(desk, name, is_by_hand=True)
    if code is None:
        raise ingest.LedgerError(f"the job {name!r} is being run: wait for it, ingest schedule list shows it")
    return code


def dues(schedule: Schedule, now: datetime) -> tuple[datetime, ...]:
    """The times of a job that have come and are not served."""
    return Cron(schedule.cron, schedule.timezone).between(schedule.covered_until, now)


def _run(desk: Desk, name: str, is_by_hand: bool) -> int | None:
    schedules = desk.ledger.schedules
    with _locked(desk.folder / f"{name}.lock") as lock:
        now = desk.clock()
        if lock is None or not schedules.claim(name, desk.owner, now, now + timedelta(seconds=LEASE_S)):
            return None
        covered_until: datetime | None = None
        try:
            # Read under the claim: another daemon may have served the times a moment ago.
            schedule = schedules.get(name)
            missed = () if schedule is None or is_by_hand else dues(schedule, now)
            if schedule is None or not (missed or is_by_hand):
                return None
            cause: Cause = "by hand" if is_by_hand else "catch-up" if len(missed) > 1 else "due"
            code = _execute(desk, schedule, cause, missed, now, lock)
            # What we interrupted ourselves is due again; what failed is not tried without end.
            covered_until = now if missed and not (code and desk.is_stopping()) else None
            return code
        finally:
            schedules.release(name, desk.owner, covered_until)


def _execute(
    desk: Desk, schedule: Schedule, cause: Cause, missed: tuple[datetime, ...], now: datetime, lock: int
) -> int:
    log = _new_log(desk.folder / "logs", schedule.name, now)
    run_id = desk.ledger.schedules.start_run(schedule.name, cause, missed, now, str(log))

    def renew() -> None:
        moment = desk.clock()
        desk.ledger.schedules.claim(schedule.name, desk.owner, moment, moment + timedelta(seconds=LEASE_S))

    code = desk.execute(schedule, log, lock, renew)
    desk.ledger.schedules.finish_run(run_id, code, desk.clock())
    return code


class Children:
    """Commands under way, each in a process of its own."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._is_stopping = False

    def execute(self, schedule: Schedule, log: Path, lock: int, renew: Callable[[], object]) -> int:
        """Run `ingest` with the job's arguments to its end; 128 + N when a signal ended it, 2 when it cannot start.

        The process holds the job's lock too, so that a daemon killed and started again does not run it beside itself.
        """
        # -P: a folder of documents may hold a folder called ingest, which is not to be imported.
        command = [sys.executable, "-P", "-m", "ingest", *schedule.arguments]
        with log.open("ab") as output, self._guard:
            if self._is_stopping:
                return 128 + signal.SIGTERM
            try:
                child = subprocess.Popen(  # noqa: S603  # our own program, no shell
                    command,
                    cwd=schedule.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                output.write(f"the job cannot start: {error}\n".encode())
                return 2
            self._running.add(child)
        try:
            return _wait(child, renew)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        finally:
            with self._guard:
                self._running.discard(child)

    def is_stopping(self) -> bool:
        """Whether commands were asked to end."""
        return self._is_stopping

    def stop(self) -> None:
        """Ask all commands to end, and start no more."""
        with self._guard:
            self._is_stopping = True
            for child in self._running:
                child.terminate()

    def kill(self) -> None:
        """End all commands at once, with the processes they started."""
        with self._guard:
            for child in self._running:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)


def _wait(child: subprocess.Popen[bytes], renew: Callable[[], object]) -> int:
    while True:
        try:
            code = child.wait(timeout=LEASE_S / 4)
        except subprocess.TimeoutExpired:
            try:
                renew()
            except ingest.LedgerError:
                # The database is away for a moment; the lock file still keeps others on this machine off.
                continue
        else:
            return code if code >= 0 else 128 - code


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The descriptor of a locked file, None while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield handle
    finally:
        os.close(handle)


def _new_log(folder: Path, name: str, now: datetime) -> Path:
    """A log file for one run, readable by its owner alone; the oldest beyond thirty go."""
    folder.mkdir(parents=True, exist_ok=True)
    old = sorted(path for path in folder.glob("*.log") if path.stem.rpartition("@")[0] == name)
    for path in old[: max(0, len(old) - _LOGS_KEPT + 1)]:
        path.unlink(missing_ok=True)
    path = folder / f"{name}@{now.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.log"
    path.touch(mode=0o600)
    return path
