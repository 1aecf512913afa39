"""Where records go besides the output folder, by URL: `--to out.parquet --to sqlite:///out.db --to -`.

`KINDS` is the table of what can be written to: kind to `"module:attribute"` of what opens it, imported on first use. A
new sink is one line here, and a suffix in `SUFFIXES` when files of it are known by theirs. Every sink is safe to write
twice: a record replaces the one of the same document and recipe, and what an earlier run wrote of others stays.
"""

from __future__ import annotations

from typing import Any, Protocol

from ingest.record import Record, RunSummary

KINDS = {
    "-": "ingest.keeping.sinks.stdout:Stdout",
    "json": "ingest.keeping.sinks.folder:JsonFolder",
    "jsonl": "ingest.keeping.sinks.lines:JsonLines",
    "parquet": "ingest.keeping.sinks.parquet:Parquet",
    "postgresql": "ingest.keeping.sinks.sql:Sql",
    "sqlite": "ingest.keeping.sinks.sql:Sql",
}
"""Called with a `Target` and a `Recipe`, each gives a `Sink`, or raises ConfigError or OutputError."""

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
"""Kinds of files, on this machine or a store, by how their names end."""


class Sink(Protocol):
    """Takes the records of one run. Called from one thread, one call at a time; may block.

    Any exception it raises becomes an OutputError that names the sink.
    """

    def write(self, record: Record[Any]) -> None:
        """Take one record; a record of the same document and recipe that came before is replaced by it."""

    def finish(self, summary: RunSummary) -> None:
        """All records came: make them what a reader sees, whole or not at all."""

    def abort(self) -> None:
        """The run ended early, or failed: leave whole what was there, and let go of everything. Also after `finish`."""
