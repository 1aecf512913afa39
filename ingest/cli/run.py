"""`ingest run`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import click

from ingest.cli.app import INTERRUPTED, TERMINATED, Stopped
from ingest.cli.events import EventLines
from ingest.cli.flags import Command, Option, option
from ingest.cli.jobs import find_job
from ingest.cli.options import config_of, config_options
from ingest.cli.output import complain, is_color, say, to_text
from ingest.config import Config
from ingest.errors import ConfigError
from ingest.record import RunSummary
from ingest.types import Observer

Job: TypeAlias = Callable[[Sequence[str], Config, Observer], RunSummary]


@click.command(cls=Command)
@click.argument("paths", nargs=-1, metavar="PATH...")
@config_options
@click.option(
    "--events", is_flag=True, cls=Option, heading="Output", help="What happens as JSON lines on stdout (docs/etl.md)."
)
@option("--watch", "Running", "Go on: read files as they arrive in PATH and are complete, until stopped.", is_flag=True)
@option(
    "--settle",
    "Running",
    "With --watch: how long a file stands still before it counts as complete. Default: 5",
    type=click.FloatRange(min=0.0, min_open=True),
    default=5.0,
    metavar="SECONDS",
)
@click.pass_context
def run(ctx: click.Context, /, paths: tuple[str, ...], **options: object) -> int:
    """Read documents, ask the model, and write one validated record per document.

    PATH is a file, a folder, a glob or a URL; - takes a list of them from standard input. Records go to
    OUT/<name>.json, all of them to OUT/records.jsonl, and this summary to OUT/run.json. Answers are kept in OUT/.ingest
    and never bought twice: run the same command again to go on after any stop. Every option can also be set as
    INGEST_<OPTION> in the environment.

    The API key is read from the variable that the profile names (EMPIRIOLABS_API_KEY), or from INGEST_API_KEY.
    """
    paths, config = with_list(paths, config_of(ctx, needs_key=True))
    is_taken = any(target.get_secret_value() == "-" for target in config.keeping.to)
    if options["events"] and (options["as_json"] or is_taken):
        raise ConfigError(f"--events and {'--to -' if is_taken else '--json'} both want stdout: give one of them")
    job: Job = partial(find_job("watch"), settle_s=options["settle"]) if options["watch"] else find_job("folder")
    from ingest.showing.progress import Progress

    progress = Progress(quiet=bool(options["quiet"]))
    lines = EventLines(config, progress) if options["events"] else None
    with nullcontext() if lines is None else lines.failures(), stoppable(config), progress:
        summary = job(paths, config, lines or progress)
    exit_code = 0 if summary.complete == len(summary.documents) else 1
    if lines is not None:
        lines.finished(summary, exit_code)
    else:
        _show(summary, complain if is_taken else say, options)
    return exit_code


def _show(summary: RunSummary, write: Callable[[str], None], options: Mapping[str, object]) -> None:
    """Write the summary as JSON or as a table: to stderr where records go to stdout."""
    from ingest.showing.report import Look, summary_table

    if options["as_json"]:
        write(to_text(summary.model_dump(mode="json")))
        return
    color = is_color(sys.stdout if write is say else sys.stderr)
    write(summary_table(summary, Look(color=color, verbose=bool(options["verbose"]))))


def with_list(paths: tuple[str, ...], config: Config) -> tuple[tuple[str, ...], Config]:
    """The paths without `-`, which stands for a list of them on standard input. Raises UsageError without any."""
    if not paths and not config.finding.manifest:
        raise click.UsageError("Missing argument 'PATH...': name files, folders, patterns or URLs, or give --manifest")
    if "-" not in paths:
        return paths, config
    finding = config.finding.model_copy(update={"manifest": (*config.finding.manifest, "-")})
    return tuple(path for path in paths if path != "-"), config.model_copy(update={"finding": finding})


@contextmanager
def stoppable(config: Config) -> Iterator[None]:
    """Around a run: what stops it from outside becomes one line and an exit code."""
    try:
        with _terminable():
            yield
    except _Terminated:
        raise Stopped(_kept("Terminated", config.output), TERMINATED) from None
    except KeyboardInterrupt:
        raise Stopped(_kept("Interrupted", config.output), INTERRUPTED) from None


class _Terminated(KeyboardInterrupt):
    """SIGTERM came: a scheduler wants us gone, and the work ends as with Ctrl-C."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the run, so that worker processes end and the ledger closes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _kept(how: str, output: Path | None) -> str:
    return f"{how}. Answers received so far are kept in {output}; run the same command again to go on."
