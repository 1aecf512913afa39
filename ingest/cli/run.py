"""`ingest run`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import click

from ingest.cli.app import INTERRUPTED, TERMINATED, Stopped
from ingest.cli.flags import Command
from ingest.cli.jobs import find_job
from ingest.cli.options import config_of, config_options
from ingest.cli.output import is_color, say, say_json
from ingest.config import Config
from ingest.record import RunSummary
from ingest.types import Observer

Job: TypeAlias = Callable[[Sequence[str], Config, Observer], RunSummary]


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@config_options
@click.pass_context
def run(ctx: click.Context, /, paths: tuple[str, ...], **options: object) -> int:
    """Read documents, ask the model, and write one validated record per document.

    PATH is a file, a folder or a glob. Records go to OUT/<name>.json, all of them to OUT/records.jsonl, and this
    summary to OUT/run.json. Answers are kept in OUT/.ingest and never bought twice: run the same command again to
    go on after any stop. Every option can also be set as INGEST_<OPTION> in the environment.

    The API key is read from the variable that the profile names (EMPIRIOLABS_API_KEY), or from INGEST_API_KEY.
    """
    config = config_of(ctx, needs_key=True)
    job: Job = find_job("folder")
    from ingest.showing.progress import Progress
    from ingest.showing.report import Look, summary_table

    try:
        with _terminable(), Progress(quiet=bool(options["quiet"])) as progress:
            summary = job(paths, config, progress)
    except _Terminated:
        raise Stopped(_kept("Terminated", config.output), TERMINATED) from None
    except KeyboardInterrupt:
        raise Stopped(_kept("Interrupted", config.output), INTERRUPTED) from None
    if options["as_json"]:
        say_json(summary.model_dump(mode="json"))
    else:
        say(summary_table(summary, Look(color=is_color(), verbose=bool(options["verbose"]))))
    return 0 if summary.complete == len(summary.documents) else 1


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
