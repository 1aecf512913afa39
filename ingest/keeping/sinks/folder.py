"""Records as a folder of JSON files, as in the output folder, at another place too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingest.config import Recipe
from ingest.errors import ConfigError
from ingest.keeping.sinks.files import FilesSink
from ingest.keeping.sinks.target import Target
from ingest.record import Record, RunSummary


class JsonFolder:
    """A `Sink` over the files of an output folder. Raises ConfigError for an option, or for a place on a store."""

    def __init__(self, target: Target, recipe: Recipe) -> None:
        target.take_no_options()
        if "://" in target.url:
            raise ConfigError(f"--to json:{target.label}: a folder of JSON files is on this machine; use a .jsonl file")
        self._files = FilesSink(Path(target.url))

    def write(self, record: Record[Any]) -> None:
        """Write the record's file."""
        self._files.write(record)

    def finish(self, summary: RunSummary) -> None:
        """Put `records.jsonl` and `run.json` in their places."""
        self._files.finish(summary)

    def abort(self) -> None:
        """Leave the records that were written, and the `records.jsonl` of the run before."""
        self._files.__exit__()
