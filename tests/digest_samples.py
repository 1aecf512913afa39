"""Records put into a ledger by hand, so that tests of digests choose what is new without reading documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.keeping.ledger import Ledger
from ingest.record import (
    DocumentInfo,
    Evidence,
    ModelInfo,
    ProblemInfo,
    RecipeInfo,
    Record,
    RunSummary,
    Status,
    Totals,
    UsageInfo,
)
from ingest.record import DocumentRow as Row
from pipelines.digest import DigestSettings, Made, run

RECIPE = "invoices"


def record(
    name: str,
    data: dict[str, Any] | None,
    *,
    status: Status = "complete",
    content: str | None = None,
    problem: str = "",
    folder: Path = Path("/inbox"),
    evidence: dict[str, Evidence] | None = None,
) -> Record[dict[str, Any]]:
    """A record as a run would make it; the source's bytes are `content`, else they differ with the data."""
    sha256 = hashlib.sha256((content if content is not None else repr(data)).encode()).hexdigest()
    found = evidence or {
        f"/{key}": Evidence(page=1, quote=str(value), grade="exact") for key, value in (data or {}).items()
    }
    return Record(
        document=DocumentInfo(
            name=name, uri=(folder / name).as_uri(), sha256=sha256, media_type="application/pdf", size_bytes=1
        ),
        data=data,
        status=status,
        provenance={pointer: (place,) for pointer, place in found.items()},
        problems=(ProblemInfo(stage="read", code="unreadable", message=problem),) if problem else (),
        usage=UsageInfo(),
        model=ModelInfo(model="m", profile="p", protocol="chat", endpoint="local"),
        recipe=RecipeInfo(name=RECIPE, schema_sha256="", instructions_sha256=""),
    )


class Desk:
    """A folder of records in which the reading of documents is played: `today` is what the next run finds."""

    def __init__(self, output: Path, **configured: Any) -> None:
        self.config = ingest.configure(recipe=RECIPE, output=output, **({"local": True} | configured))
        self.today: list[Record[dict[str, Any]]] = []
        self.removed: list[str] = []
        self.runs = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Desk:
        """Have jobs read what this desk holds."""
        monkeypatch.setattr(ingest, "run_to_folder", self.run_to_folder)
        return self

    def made(self, settings: DigestSettings | None = None, **more: Any) -> Made:
        """A call of the job; its path is none where documents of the desk lie, so that none counts as gone."""
        return run(["/elsewhere"], self.config, settings, **more)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger of the folder."""
        url = self.config.keeping.ledger
        with Ledger(self.config.output, url=url.get_secret_value() if url else None) as ledger:
            yield ledger

    def run_to_folder(self, paths: Sequence[Any], config: Any = None, observer: Any = None) -> RunSummary:
        """Stands in for `ingest.run_to_folder`: stores `today`, and notes what is in `removed`."""
        self.runs += 1
        with self.ledger() as ledger:
            run_id = ledger.runs.start(RECIPE, "m", "local")
            for one in self.today:
                ledger.documents.store(run_id, one)
            ledger.documents.remove(run_id, RECIPE, self.removed)
        found, self.today, self.removed = self.today, [], []
        first = found[0] if found else record("x", None)
        rows = tuple(Row(name=one.document.name, status=one.status) for one in found)
        complete = sum(one.status == "complete" for one in found)
        return RunSummary(documents=rows, totals=Totals(), complete=complete, model=first.model, recipe=first.recipe)
