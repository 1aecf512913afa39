"""The daemon: APScheduler wakes it when a job is due; which times are served stands in the ledger, not in memory."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

import ingest
from pipelines.schedule.cron import Cron
from pipelines.schedule.jobs import Children, Desk, dues, run_due

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.schedules import Schedule

_SYNC_S = 5.0
_GRACE_S = 30.0
_JOBS_AT_ONCE = 8

_log = logging.getLogger("ingest.schedule")
# It warns whenever a job's time comes while the job still runs, which is served afterwards.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class _Times(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """APScheduler's own cron trigger counts weekdays from Monday and skips times that the clocks skip."""

    def __init__(self, schedule: Schedule) -> None:
        self._cron = Cron(schedule.cron, schedule.timezone)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next time after now; what was missed before is served together, when the job is next looked at."""
        return self._cron.next(now)


class Daemon:
    """Runs jobs of a ledger as their times come, and follows what is added and removed meanwhile."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._children = Children()
        self._desk = Desk(ledger, folder, self._children.execute, is_stopping=self._children.is_stopping)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(_JOBS_AT_ONCE)},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )
        self._known: dict[str, Schedule] = {}
        self._running: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> None:
        """Serve jobs until `stop` is called; then the commands under way are asked to end, and waited for."""
        self._scheduler.start()
        try:
            while not self._stop.is_set():
                self._sync()
                self._stop.wait(_SYNC_S)
        finally:
            self._children.stop()
            killer = threading.Timer(_GRACE_S, self._children.kill)
            killer.daemon = True
            killer.start()
            self._scheduler.shutdown(wait=True)
            killer.cancel()

    def stop(self) -> None:
        """End soon: what is under way is interrupted, and is due again when the daemon next starts."""
        if self._stop.is_set():
            self._children.kill()
        self._stop.set()

    def _sync(self) -> None:
        """Follow the ledger, and start what is overdue: missed while nobody ran, or let go by another daemon."""
        try:
            found = {schedule.name: schedule for schedule in self._desk.ledger.schedules.all()}
        except ingest.LedgerError as error:
            _log.warning("the jobs cannot be read, trying again: %s", error)
            return
        for name in self._known.keys() - found.keys():
            self._remove(name)
        for name, schedule in found.items():
            if name not in self._known or _times(self._known[name]) != _times(schedule):
                self._scheduler.add_job(self._fire, _Times(schedule), (name,), id=name, replace_existing=True)
            self._known[name] = schedule
            if name not in self._running and dues(schedule, self._desk.clock()):
                self._scheduler.modify_job(name, next_run_time=self._desk.clock())

    def _remove(self, name: str) -> None:
        del self._known[name]
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:
            return

    def _fire(self, name: str) -> None:
        self._running.add(name)
        try:
            code = run_due(self._desk, name)
        except ingest.IngestError as error:
            _log.error("job %s was not run: %s", name, error)
        else:
            if code is not None:
                level = logging.INFO if code == 0 else logging.WARNING
                _log.log(level, "job %s ended with exit code %d", name, code)
        finally:
            self._running.discard(name)


def serve(ledger: Ledger, folder: Path, on_start: Callable[[], object]) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second one kills what is under way."""
    daemon = Daemon(ledger, folder)

    def stop(number: int, frame: FrameType | None) -> None:
        daemon.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    on_start()
    try:
        daemon.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _times(schedule: Schedule) -> tuple[str, str]:
    return schedule.cron, schedule.timezone
