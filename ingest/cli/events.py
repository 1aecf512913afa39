"""The events of a run as JSON lines on stdout, for programs that watch it. docs/etl.md describes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from ingest.cli import CRASHED
from ingest.cli.output import say
from ingest.config import Config
from ingest.errors import IngestError
from ingest.record import RunSummary
from ingest.types import Event, JsonObject, Observer

VERSION = 1
"""Stands in every line. Fields may be added; it changes when one is taken away or means something else."""


class EventLines:
    """Prints a line for each event of a run, and passes the event on to `watcher`."""

    def __init__(self, config: Config, watcher: Observer) -> None:
        self._config = config
        self._watcher = watcher

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        self._watcher(event)
        # The engine's end of the run comes before its summary is written: `finished` tells it.
        if event.kind != "run_finished":
            self._say(event.kind, self._fields(event))

    def finished(self, summary: RunSummary, exit_code: int) -> None:
        """Tell the end of the run."""
        self._say("run_finished", {"exit_code": exit_code, "summary": summary.model_dump(mode="json")})

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Around the run: tells what ended it early, and lets it go on its way."""
        try:
            yield
        except IngestError as error:
            self._say_failure(error.code, error.message, error.exit_code)
            raise
        except click.ClickException as error:
            self._say_failure("stopped", error.message, error.exit_code)
            raise
        except Exception as error:
            self._say_failure("defect", type(error).__name__, CRASHED)
            raise

    def _say_failure(self, code: str, message: str, exit_code: int) -> None:
        self._say("run_failed", {"exit_code": exit_code, "code": code, "message": message})

    def _fields(self, event: Event) -> JsonObject:
        config = self._config
        match event.kind:
            case "run_started":
                output = None if config.output is None else str(config.output)
                head = {"recipe": config.recipe.name, "model": config.profile.model, "output": output}
                return {"documents": event.documents or None, **head}
            case "run_planned":
                prices = {"expected_usd": event.expected_usd, "ceiling_usd": event.ceiling_usd}
                shown = {name: None if amount is None else f"{amount:f}" for name, amount in prices.items()}
                return {"documents": event.documents, "requests": event.requests, **shown}
            case "document_planned":
                return {"document": event.name, "parts": event.parts, "chunks": event.chunks}
            case "request_finished":
                return {"document": event.name, "from_ledger": event.from_ledger}
            case "document_finished":
                ended = {"status": event.status, "problem": event.message or None}
                return {"document": event.name, **ended, "record": self._record(event.name)}
            case _:
                return {"document": event.name}

    def _record(self, name: str) -> str | None:
        from ingest.keeping.sinks.files import record_path

        return None if self._config.output is None else str(record_path(self._config.output, name))

    def _say(self, kind: str, fields: JsonObject) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        say(json.dumps({"version": VERSION, "event": kind, "at": at, **fields}, ensure_ascii=False))
