"""`ingest schedule`: jobs at their times."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ingest.cli.jobs import find_job
from ingest.cli.options import log_options, start_logging
from ingest.cli.output import complain, say, say_json
from ingest.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.schedules import Schedule, ScheduleRun

_F = TypeVar("_F", bound=Callable[..., Any])


def _state_folder() -> Path:
    """Where jobs are kept when nobody says: the user's state folder (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".local/state") / "ingest"


def _place_options(function: _F) -> _F:
    """Where the jobs are kept."""
    function = click.option(
        "--ledger",
        "url",
        envvar="INGEST_LEDGER",
        metavar="URL",
        help="Keep the jobs in this database, so that daemons on several machines share them.",
    )(function)
    return click.option(
        "--state",
        "folder",
        envvar="INGEST_STATE",
        type=click.Path(file_okay=False, path_type=Path),
        default=_state_folder,
        show_default="~/.local/state/ingest",
        help="Folder of the jobs, their logs and locks.",
    )(function)


@click.group()
def schedule() -> None:
    """Run ingest at set times: jobs are kept in a ledger, and `ingest schedule run` serves them.

    \b
    ingest schedule add morning --cron "0 7 * * 1-5" --tz Europe/Berlin -- \\
        digest inbox/ --recipe invoices -o digests --to env:TEAM_CHANNEL
    ingest schedule run
    """


@schedule.command()
@click.argument("name")
@click.option("--cron", "line", required=True, metavar="LINE", help="Five fields, as cron has them.")
@click.option("--tz", "timezone", default="UTC", show_default=True, metavar="ZONE", help="Whose time it is.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current one",
    help="Folder the job runs in; paths in it are relative to that.",
)
@click.argument("arguments", nargs=-1, required=True, metavar="-- COMMAND...")
@_place_options
def add(
    name: str, line: str, timezone: str, directory: Path, arguments: tuple[str, ...], folder: Path, url: str | None
) -> None:
    """Add a job: NAME, its times, and after -- an ingest command with its options.

    No passwords or keys are kept: they come from the environment of the daemon, and addresses of a digest as env:NAME
    or @FILE.
    """
    _check_command(arguments)
    with _ledger(folder, url) as ledger:
        cron = find_job("schedule").add(ledger, name, line, timezone, arguments, directory, datetime.now(UTC))
    say(f"{name}: next at {_local(cron.next(datetime.now(UTC)), timezone)}")


@schedule.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_place_options
def list_(as_json: bool, folder: Path, url: str | None) -> int:
    """List the jobs with their next and last run. The exit code is 1 when the last run of one failed."""
    with _ledger(folder, url) as ledger:
        found = [(job, next(iter(ledger.schedules.runs(job.name, 1)), None)) for job in ledger.schedules.all()]
    if as_json:
        say_json([_to_json(job, last) for job, last in found])
    elif not found:
        say("No jobs. ingest schedule add --help shows how to add one.")
    for job, last in found if not as_json else ():
        say(f"{job.name}: {job.cron} {job.timezone}, next at {_local(_next(job), job.timezone)}")
        say(f"  ingest {shlex.join(job.arguments)}    in {job.directory}")
        say(f"  {_ending(job, last)}")
    return 1 if any(last is not None and last.exit_code for _, last in found) else 0


@schedule.command()
@click.argument("name")
@_place_options
def remove(name: str, folder: Path, url: str | None) -> None:
    """Remove a job. A run that is under way goes on to its end."""
    with _ledger(folder, url) as ledger:
        if not ledger.schedules.remove(name):
            raise _no_job(name)
    say(f"{name} is removed")


@schedule.command("next")
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 1_000), default=5, show_default=True, help="How many.")
@_place_options
def next_(name: str, count: int, folder: Path, url: str | None) -> None:
    """Show the next times of a job, in its time zone and in UTC."""
    with _ledger(folder, url) as ledger:
        job = _job(ledger, name)
    for due in islice(_cron(job).after(datetime.now(UTC)), count):
        say(f"{_local(due, job.timezone)}    {due:%Y-%m-%dT%H:%M:%SZ}")


@schedule.command("run-now")
@click.argument("name")
@_place_options
def run_now(name: str, folder: Path, url: str | None) -> int:
    """Run a job at once, and end with its exit code. Its times stay as they are."""
    with _ledger(folder, url) as ledger:
        code: int = find_job("schedule").run_by_hand(ledger, folder, name)
        last = ledger.schedules.runs(name, 1)[0]
    complain(f"{name} ended with exit code {code}; its output is in {last.log}")
    return code


@schedule.command("run")
@_place_options
@log_options
@click.pass_context
def run(ctx: click.Context, /, folder: Path, url: str | None, **_: object) -> None:
    """Serve the jobs as their times come, until SIGTERM or Ctrl-C.

    Each runs as a process of its own, one at a time per job, however many daemons share the ledger. Times that were
    missed are served by one run. A job that is stopped with the daemon is run again when it starts.
    """
    start_logging(ctx)
    with _ledger(folder, url) as ledger:
        count = len(ledger.schedules.all())
        find_job("schedule").serve(ledger, folder, lambda: complain(f"Serving jobs from {folder}: {count} at present."))
    complain("Stopped.")


@schedule.command()
@click.argument("name")
@click.option("--systemd", "kind", flag_value="systemd", help="A service and a timer.")
@click.option("--cron", "kind", flag_value="cron", help="A line for crontab.")
@click.option("--kubernetes", "kind", flag_value="kubernetes", help="A CronJob.")
@click.option("--airflow", "kind", flag_value="airflow", help="A DAG file.")
@click.option("--image", default="ingest:latest", show_default=True, help="Container image, for Kubernetes.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write the files into a folder.")
@_place_options
def export(name: str, kind: str | None, image: str, output: Path | None, folder: Path, url: str | None) -> None:
    """Write a job for another scheduler, on stdout or into a folder."""
    if kind is None:
        raise ConfigError("say for whom: --systemd, --cron, --kubernetes or --airflow")
    with _ledger(folder, url) as ledger:
        job = _job(ledger, name)
    files: dict[str, str] = find_job("schedule").export(job, kind, image)
    for file, text in files.items():
        if output is None:
            say(f"# {file}\n{text}" if len(files) > 1 else text)
        else:
            _write(output / file, text)
            say(str(output / file))


@contextmanager
def _ledger(folder: Path, url: str | None) -> Iterator[Ledger]:
    from ingest.keeping.ledger import Ledger

    with Ledger(folder, url=url) as ledger:
        yield ledger


def _check_command(arguments: Sequence[str]) -> None:
    """Raise ConfigError for a command that would end at once with a usage error, at seven in the morning."""
    from ingest.cli.app import App, app

    command = app.get_command(click.Context(app), arguments[0]) if isinstance(app, App) else None
    if command is None:
        return
    try:
        command.make_context(arguments[0], list(arguments[1:]))
    except click.ClickException as error:
        raise ConfigError(f"ingest {shlex.join(arguments)} cannot be run: {error.format_message()}") from error
    except click.exceptions.Exit as error:
        raise ConfigError(f"ingest {shlex.join(arguments)} only shows something and ends") from error


def _job(ledger: Ledger, name: str) -> Schedule:
    found = ledger.schedules.get(name)
    if found is None:
        raise _no_job(name)
    return found


def _no_job(name: str) -> ConfigError:
    return ConfigError(f"there is no job {name!r}: ingest schedule list shows them")


def _cron(job: Schedule) -> Any:
    return find_job("schedule").parse(job.cron, job.timezone)


def _next(job: Schedule) -> datetime:
    found: datetime = _cron(job).next(datetime.now(UTC))
    return found


def _ending(job: Schedule, last: ScheduleRun | None) -> str:
    if last is None:
        return "never run"
    when = f"{_local(last.started_at, job.timezone)} ({last.cause})"
    if last.exit_code is not None:
        return f"last run {when}: exit code {last.exit_code}, output in {last.log}"
    is_held = job.claimed_until is not None and job.claimed_until > datetime.now(UTC)
    return f"running since {when}" if is_held else f"last run {when}: killed, output in {last.log}"


def _to_json(job: Schedule, last: ScheduleRun | None) -> dict[str, Any]:
    run = None
    if last is not None:
        run = {
            "cause": last.cause,
            "due_from": _iso(last.due_from),
            "due_at": _iso(last.due_at),
            "due_count": last.due_count,
            "started_at": _iso(last.started_at),
            "finished_at": _iso(last.finished_at),
            "exit_code": last.exit_code,
            "log": last.log,
        }
    return {
        "name": job.name,
        "cron": job.cron,
        "timezone": job.timezone,
        "arguments": list(job.arguments),
        "directory": job.directory,
        "added_at": _iso(job.added_at),
        "next": _iso(_next(job)),
        "last_run": run,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _local(moment: datetime, timezone: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{moment.astimezone(ZoneInfo(timezone)):%a %Y-%m-%d %H:%M %Z}"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
