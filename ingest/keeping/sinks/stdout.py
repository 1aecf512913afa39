"""Records as JSON lines on stdout, each as it comes."""

from __future__ import annotations

import os
import sys
from typing import Any

from ingest.config import Recipe
from ingest.errors import OutputError
from ingest.keeping.sinks.rows import json_text
from ingest.keeping.sinks.target import Target
from ingest.record import Record, RunSummary


class Stdout:
    """A `Sink` for pipes. A reader that goes away ends the run: nobody would see what the rest costs."""

    def __init__(self, target: Target, recipe: Recipe) -> None:
        target.take_no_options()

    def write(self, record: Record[Any]) -> None:
        """Print a record's line."""
        line = json_text(record.to_dict()) + "\n"
        binary = getattr(sys.stdout, "buffer", None)
        try:
            if binary is None:
                sys.stdout.write(line)
            else:
                # Records are UTF-8 whatever the terminal speaks.
                binary.write(line.encode())
            sys.stdout.flush()
        except BrokenPipeError:
            # The flush at exit goes nowhere, instead of failing again.
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # lives until the process ends
            raise OutputError("stdout: the reader went away; records so far are kept in the output folder") from None

    def finish(self, summary: RunSummary) -> None:
        """Nothing is left to do: every line is out."""

    def abort(self) -> None:
        """Nothing is left to do."""
