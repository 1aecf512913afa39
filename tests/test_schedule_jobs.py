"""Jobs: run when due, once for all that was missed, by one at a time, with nothing secret kept."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.errors import ConfigError, LedgerError
from ingest.keeping.ledger import Ledger
from ingest.keeping.ledger.schedules import Schedule

pytest.importorskip("cronsim", reason="needs the extra digest")
from pipelines.schedule import jobs
from pipelines.schedule.jobs import Desk

START = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
COMMAND = ("run", "inbox", "--recipe", "invoices")


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Commands:
    """Stands where processes stand: counts what is run, and ends as it is told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.code = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, schedule: Schedule, log: Path, lock: int, renew: Callable[[], object]) -> int:
        self.ran.append(schedule.name)
        self.meanwhile()
        return self.code


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, commands: Commands) -> Iterator[Desk]:
    """A desk over a file, or over PostgreSQL where a test asks for it."""
    url = request.getfixturevalue("postgres").database() if getattr(request, "param", "") == "postgres" else None
    ledger = Ledger(tmp_path, url=url)
    jobs.add(ledger, "morning", "0 7 * * *", "Europe/Berlin", COMMAND, tmp_path, START)
    yield Desk(ledger, tmp_path, commands, clock)
    ledger.close()


def another(desk: Desk, **changes: object) -> Desk:
    """A second daemon on the same ledger, on another machine (its own folder)."""
    folder = desk.folder / "elsewhere"
    return Desk(desk.ledger, folder, desk.execute, desk.clock, **changes)  # type: ignore[arg-type]


def test_a_job_runs_when_its_time_comes_and_only_then(desk: Desk, clock: Clock, commands: Commands) -> None:
    """Adding a job must not run it, and a served time must not be served again."""
    assert jobs.run_due(desk, "morning") is None
    clock.now += DAY
    assert jobs.run_due(desk, "morning") == 0
    assert jobs.run_due(desk, "morning") is None
    assert commands.ran == ["morning"]
    (run,) = desk.ledger.schedules.runs("morning")
    assert (run.cause, run.due_count, run.exit_code, run.finished_at) == ("due", 1, 0, clock.now)
    assert run.due_at == datetime(2026, 3, 3, 6, tzinfo=UTC)


@pytest.mark.parametrize("desk", ["file", "postgres"], indirect=True)
def test_missed_times_become_one_run_that_covers_them(desk: Desk, clock: Clock, commands: Commands) -> None:
    """After three days off there must be one digest, not three and not none."""
    clock.now += 3 * DAY
    assert jobs.run_due(desk, "morning") == 0
    assert jobs.run_due(desk, "morning") is None
    (run,) = desk.ledger.schedules.runs("morning")
    assert (run.cause, run.due_count) == ("catch-up", 3)
    assert run.due_from == datetime(2026, 3, 3, 6, tzinfo=UTC)
    assert run.due_at == datetime(2026, 3, 5, 6, tzinfo=UTC)


def test_a_job_that_fails_is_noted_and_runs_at_its_next_time(desk: Desk, clock: Clock, commands: Commands) -> None:
    """A broken job must be seen, and must not be run again every few seconds."""
    commands.code = 4
    clock.now += DAY
    assert jobs.run_due(desk, "morning") == 4
    assert jobs.run_due(desk, "morning") is None
    assert desk.ledger.schedules.runs("morning")[0].exit_code == 4
    clock.now += DAY
    assert jobs.run_due(desk, "morning") == 4


def test_a_job_stopped_with_the_daemon_is_due_again(
    tmp_path: Path, desk: Desk, clock: Clock, commands: Commands
) -> None:
    """Restarting the daemon at seven must not cost the digest of the day."""
    stopping = another(desk, is_stopping=lambda: True)
    clock.now += DAY
    commands.code = 143
    assert jobs.run_due(stopping, "morning") == 143
    commands.code = 0
    assert jobs.run_due(desk, "morning") == 0


def test_a_job_whose_daemon_was_killed_is_taken_over_when_its_claim_ends(
    desk: Desk, clock: Clock, commands: Commands
) -> None:
    """A dead machine must not hold a job for ever, and a slow one must not lose it."""
    clock.now += DAY
    assert desk.ledger.schedules.claim("morning", "dead", clock.now, clock.now + timedelta(seconds=jobs.LEASE_S))
    assert jobs.run_due(desk, "morning") is None
    with pytest.raises(LedgerError, match="being run"):
        jobs.run_now(desk, "morning")
    clock.now += timedelta(seconds=jobs.LEASE_S + 1)
    assert jobs.run_due(desk, "morning") == 0
    assert commands.ran == ["morning"]


@pytest.mark.parametrize("desk", ["file", "postgres"], indirect=True)
def test_two_daemons_run_a_job_once(desk: Desk, clock: Clock, commands: Commands) -> None:
    """Two machines for safety must not mean two digests."""
    clock.now += DAY
    both = threading.Barrier(2)
    codes: list[int | None] = []

    def run(place: Desk) -> None:
        both.wait(10)
        codes.append(jobs.run_due(place, "morning"))

    threads = [threading.Thread(target=run, args=(place,)) for place in (desk, another(desk))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert commands.ran == ["morning"]
    assert sorted(codes, key=str) == [0, None]


def test_a_command_that_outlived_its_daemon_keeps_the_job(desk: Desk, clock: Clock, commands: Commands) -> None:
    """A daemon killed and started again must not run the job beside its orphan."""
    clock.now += DAY
    with (desk.folder / "morning.lock").open("w") as orphan:
        fcntl.flock(orphan, fcntl.LOCK_EX)
        assert jobs.run_due(desk, "morning") is None
    assert jobs.run_due(desk, "morning") == 0


def test_running_by_hand_leaves_the_times_as_they_are(desk: Desk, clock: Clock, commands: Commands) -> None:
    """Trying a job out at noon must not swallow the run of the next morning."""
    assert jobs.run_now(desk, "morning") == 0
    clock.now += DAY
    assert jobs.run_due(desk, "morning") == 0
    assert [run.cause for run in desk.ledger.schedules.runs("morning")] == ["due", "by hand"]
    with pytest.raises(ConfigError, match="no job 'evening'"):
        jobs.run_now(desk, "evening")


def test_a_job_removed_while_it_runs_ends_quietly(desk: Desk, clock: Clock, commands: Commands) -> None:
    """Removing a job must not crash the daemon that is running it."""
    clock.now += DAY
    commands.meanwhile = lambda: desk.ledger.schedules.remove("morning")
    assert jobs.run_due(desk, "morning") == 0
    assert jobs.run_due(desk, "morning") is None
    assert desk.ledger.schedules.all() == ()


def test_logs_are_private_and_do_not_pile_up(desk: Desk, clock: Clock) -> None:
    """Logs hold file names; a job of every minute writes half a million a year."""
    for _ in range(jobs._LOGS_KEPT + 3):
        jobs.run_now(desk, "morning")
        clock.now += timedelta(seconds=1)
    logs = list((desk.folder / "logs").iterdir())
    assert len(logs) == jobs._LOGS_KEPT
    assert {log.stat().st_mode & 0o777 for log in logs} == {0o600}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("digest", "inbox", "--to", "slack://T/B/hunter2"), "env:NAME"),
        (("digest", "inbox", "--to=slack://T/B/hunter2"), "env:NAME"),
        (("digest", "inbox", "--to"), "env:NAME"),
        (("run", "inbox", "--to", "postgresql://me:hunter2@host/db"), "password"),
        (("run", "inbox", "--ledger=postgresql://me:hunter2@host/db"), "password"),
        (("run", "inbox", "--to", "https://store/x?api_key=hunter2"), "key"),
        (("run", "inbox", "--password", "hunter2"), "INGEST_PASSWORD"),
        (("run", "inbox", "--password=hunter2"), "INGEST_PASSWORD"),
        (("serve",), "one of"),
        (("schedule", "run"), "one of"),
        ((), "one of"),
    ],
)
def test_a_job_that_holds_a_secret_is_not_kept(tmp_path: Path, arguments: tuple[str, ...], hint: str) -> None:
    """A ledger is copied, shared and backed up: no password may get there."""
    with Ledger(tmp_path) as ledger:
        with pytest.raises(ConfigError, match=hint) as caught:
            jobs.add(ledger, "morning", "0 7 * * *", "UTC", arguments, tmp_path, START)
        assert "hunter2" not in str(caught.value)
        assert ledger.schedules.all() == ()


def test_addresses_by_reference_and_plain_arguments_are_kept_as_they_are(tmp_path: Path) -> None:
    """What a job is told must reach it to the letter."""
    arguments = ("digest", "in box/*.pdf", "--to", "env:TEAM", "--to=@/run/secrets/x", "-i", 'say "hé" \\ 100%\nplease')
    with Ledger(tmp_path) as ledger:
        jobs.add(ledger, "a.b-c_1", "0  7 * *  1-5", "Europe/Berlin", arguments, tmp_path, START)
        (kept,) = ledger.schedules.all()
    assert (kept.arguments, kept.cron, kept.added_at) == (arguments, "0 7 * * 1-5", START)


@pytest.mark.parametrize("name", ["", "../x", "a b", "a\nb", "-x", "é", "x" * 60])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    """Names become file names and unit names."""
    with Ledger(tmp_path) as ledger, pytest.raises(ConfigError, match="no name"):
        jobs.add(ledger, name, "0 7 * * *", "UTC", COMMAND, tmp_path, START)


def test_a_name_is_taken_once(desk: Desk) -> None:
    """Adding twice must not replace a job that runs."""
    with pytest.raises(ConfigError, match="already"):
        jobs.add(desk.ledger, "morning", "0 8 * * *", "UTC", COMMAND, desk.folder, START)
