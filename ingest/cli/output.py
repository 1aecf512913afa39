"""The two streams: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TextIO

import click

from ingest.types import Json


def say(text: str) -> None:
    """Print a result. A reader that went away (`| head`) ends the output quietly and not the command."""
    _use_replacement(sys.stdout)
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whatever is still printed, and the flush at exit, goes nowhere.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # lives until the process ends


def say_json(value: Json) -> None:
    """Print a result as JSON."""
    say(to_text(value))


def to_text(value: Json) -> str:
    """A result as JSON for people and programs."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def complain(text: str) -> None:
    """Print a line on stderr."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def is_color(stream: TextIO | None = None) -> bool:
    """Whether reports on stdout are coloured."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM", "dumb") != "dumb" and "NO_COLOR" not in os.environ


def _use_replacement(stream: TextIO) -> None:
    """A stream that cannot hold a character shows a question mark instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", None) == "strict":
        reconfigure(errors="replace")
