"""Records as JSON lines, one file on this machine or a store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from ingest.config import Recipe
from ingest.errors import OutputError
from ingest.keeping.sinks.latest import Latest
from ingest.keeping.sinks.places import Place
from ingest.keeping.sinks.rows import json_text, record_id
from ingest.keeping.sinks.target import Target
from ingest.record import Record, RunSummary


class JsonLines:
    """A `Sink` that collects lines beside and puts them in place at the end, after the old lines of other records.

    Raises ConfigError for an option, OutputError when the file holds something else than records.
    """

    def __init__(self, target: Target, recipe: Recipe) -> None:
        target.take_no_options()
        self._label = target.label
        self._place = Place(target.url)
        for line in self._old_lines():
            self._key_of(line)
            break
        # Without a name: nothing is left of it when the process is killed.
        self._lines = tempfile.TemporaryFile(prefix="ingest-sink-")  # noqa: SIM115  # closed in `abort`
        self._latest = Latest()

    def write(self, record: Record[Any]) -> None:
        """Collect a record's line."""
        self._latest.add(record_id(record.document.name, record.recipe.name))
        self._lines.write(json_text(record.to_dict()).encode() + b"\n")

    def finish(self, summary: RunSummary) -> None:
        """Write old and new lines as one file, and put it in place."""
        self._lines.seek(0)
        with self._place.replacing() as whole, whole.open("wb") as out:
            for line in self._old_lines():
                if self._key_of(line) not in self._latest:
                    out.write(line.rstrip(b"\r\n") + b"\n")
            for number, line in enumerate(self._lines):
                if number not in self._latest.replaced:
                    out.write(line)
        self.abort()

    def abort(self) -> None:
        """Drop what was collected."""
        self._lines.close()

    def _old_lines(self) -> Iterator[bytes]:
        if self._place.exists():
            with self._place.reading() as old:
                yield from (line for line in old if line.strip())

    def _key_of(self, line: bytes) -> str:
        try:
            record = from_json(line)
            return record_id(record["document"]["name"], record["recipe"]["name"])
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{self._label} holds other lines than records, and was left as it is: choose another file"
            ) from error
