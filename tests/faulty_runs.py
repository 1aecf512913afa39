"""Runs over the project's own documents against a local engine that fails as a seed says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import ingest
from ingest.asking.client import AsgiApp
from ingest.engine import embedded, session
from ingest.errors import IngestError
from ingest.local.faults import KINDS
from ingest.local.server import create_app
from ingest.reading.workers import Workers
from ingest.types import Document, Loaded, Part, Rendering, Source

# The account's troubles end a run with an error of their own; what takes real time is tested with the client.
FATAL = frozenset({"bad_key", "no_credits", "overdue", "denied", "no_model", "quota", "set_limit"})
SLOW = frozenset({"slow", "slow_first", "stalled"})
FAULTS = tuple(sorted(KINDS - FATAL - SLOW))


class RememberingWorkers(Workers):
    """Workers that read each file once for all runs: what is read is not what these runs are about."""

    opened: ClassVar[dict[str, Document]] = {}
    loaded: ClassVar[dict[tuple[str, str], Loaded]] = {}

    async def open(self, source: Source, rendering: Rendering | None = None, will_load: bool = True) -> Document:
        """The document, from the first run's reading."""
        key = f"{source.sha256}:{self._settings.contact_sheet}"
        if key not in self.opened:
            self.opened[key] = await super().open(source, rendering, will_load)
        return self.opened[key]

    async def load(self, document: Document, parts: Sequence[Part], rendering: Rendering) -> tuple[Loaded, ...]:
        """The parts, from the first run's reading."""
        sha256 = document.source.sha256
        missing = [part for part in parts if (sha256, part.key) not in self.loaded]
        if missing:
            for item in await super().load(document, missing, rendering):
                self.loaded[sha256, item.part.key] = item
        return tuple(self.loaded[sha256, part.key] for part in parts)


def prepare(monkeypatch: pytest.MonkeyPatch, seed: int, rate: float, kinds: Sequence[str] = FAULTS) -> None:
    """Have the embedded engine fail by this seed, and nothing be read twice."""

    class Faulty(embedded.EmbeddedEngine):
        async def _make(self) -> AsgiApp:
            app = create_app(faults=f"{seed}:{rate}:{','.join(kinds)}" if rate else None)
            await self._stack.enter_async_context(app.router.lifespan_context(app))
            return app

    monkeypatch.setattr(session, "EmbeddedEngine", Faulty)
    monkeypatch.setattr(session, "Workers", RememberingWorkers)


def run_once(paths: Sequence[Path], recipe: str = "invoices", **settings: Any) -> list[dict[str, Any]] | IngestError:
    """The records of one run, or the error that ended it."""
    config = ingest.configure(recipe=recipe, local=True, settings={"reading": {"pages": "text"}, **settings})
    try:
        return [record.to_dict() for record in ingest.run(list(paths), config=config)]
    except IngestError as error:
        return error
