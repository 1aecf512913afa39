"""What 1,000 pages cost: five kinds of documents, four ways to send pages, beside one request for each page.

`python bench/price.py` plans the project's fixtures and, where it is found, the corpus of real documents (INGEST_CORPUS
or ../shared/corpus) at the prices of the default profile. Nothing is sent. Both columns have the same prices, the same
instructions and schema, and the same answers: the values of a page take the output tokens that the profile expects of
it in mode auto, whichever way it is sent, and each answer has its fixed part once.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from ingest.config import Config, Endpoint, ReadingSettings
from ingest.engine.blueprint import Blueprint, solid
from ingest.errors import SourceError
from ingest.planning.calibration import NO_REPLIES
from ingest.planning.chunks import Planner
from ingest.planning.pricing import price_usd
from ingest.profile import load_profile
from ingest.reading.discover import describe, discover
from ingest.reading.workers import Workers
from ingest.recipes import load_recipe
from ingest.types import Chunk, Document, PagePolicy

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures" / "documents"
CORPUS = Path(os.environ.get("INGEST_CORPUS", ROOT.parent / "shared" / "corpus"))
MODES: tuple[PagePolicy, ...] = ("auto", "image", "text", "both")


@dataclass(frozen=True)
class Kind:
    """Documents of one kind and the recipe they are read with; folders that are absent are left out."""

    name: str
    recipe: str
    folders: tuple[Path, ...]


KINDS = (
    Kind("invoices", "invoices", (FIXTURES / "invoices", CORPUS / "invoices", CORPUS / "adbuys")),
    Kind("contracts", "contracts", (FIXTURES / "contracts", CORPUS / "contracts")),
    Kind("scans", "receipts", (FIXTURES / "scans", FIXTURES / "receipts", CORPUS / "receipts")),
    Kind("slides and office", "generic", (FIXTURES / "generic", CORPUS / "office")),
    Kind("filings and reports", "generic", (FIXTURES / "papers", CORPUS / "extract-bench", CORPUS / "pdf-long")),
)


@dataclass
class Bill:
    """Pages sent, requests, and dollars."""

    pages: int = 0
    requests: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def per_1000_usd(self) -> Decimal:
        """Dollars for 1,000 pages."""
        return 1_000 * self.cost_usd / self.pages if self.pages else Decimal(0)


async def read(workers: Workers, settings: ReadingSettings, folders: Sequence[Path]) -> list[Document]:
    """Every document below the folders that can be read."""

    async def read_one(item) -> Document | None:  # type: ignore[no-untyped-def]
        try:
            return await workers.open(describe(item, settings))
        except SourceError:
            return None

    found = discover([folder for folder in folders if folder.is_dir()])
    opened = await asyncio.gather(*(read_one(item) for item in found))
    return [document for document in opened if document is not None]


def bill(planner: Planner, documents: Sequence[Document], answers: dict[tuple[str, int], int]) -> Bill:
    """What a plan of these documents costs; `answers` are the output tokens for the values of each page."""
    total = Bill()
    for document in documents:
        for chunk in planner.plan(solid(document)).chunks:
            output_tokens = planner.profile.answers.base_tokens + _values(chunk, document, answers)
            total.pages += len(chunk.owned)
            total.requests += 1
            total.cost_usd += price_usd(planner.profile, planner.estimate(chunk).expected, output_tokens)
    return total


def _values(chunk: Chunk, document: Document, answers: dict[tuple[str, int], int]) -> int:
    return sum(answers[document.source.sha256, part.index] for part in chunk.owned)


async def measure(kind: Kind) -> list[str]:
    """The table's rows for one kind."""
    profile = load_profile("seed-2-0-pro")
    config = Config(
        recipe=load_recipe(kind.recipe), profile=profile, endpoint=Endpoint(base_url="http://nowhere.invalid/v1")
    )
    blueprint = Blueprint(config)
    rows: list[str] = []
    answers: dict[tuple[str, int], int] = {}
    for mode in MODES:
        settings = ReadingSettings(pages=mode)
        async with Workers(settings) as workers:
            documents = await read(workers, settings, kind.folders)
        planner = blueprint.planner(documents[0], NO_REPLIES)
        alone = replace(planner, limits=replace(planner.limits, target_tokens=1))
        for document in documents:
            for chunk in alone.plan(document).chunks:
                share = round(profile.answers.per_input_token * planner.counts(chunk).total)
                share -= round(profile.answers.per_input_token * planner.limits.preamble.total)
                answers.setdefault((document.source.sha256, chunk.owned[0].index), share)
        ours, each = bill(planner, documents, answers), bill(alone, documents, answers)
        pages = sum(len(document.parts) for document in documents)
        if ours.pages < pages / 2:
            rows.append(f"| {kind.name} | {mode} | {pages} | - | - | - | most pages have no text |")
            continue
        times = each.cost_usd / ours.cost_usd
        rows.append(
            f"| {kind.name} | {mode} | {ours.pages} | {ours.requests} | {ours.per_1000_usd:.2f} |"
            f" {each.per_1000_usd:.2f} | {times:.2f} |"
        )
    return rows


def main() -> int:
    """Print the table."""
    print("| documents | pages as | pages | requests | $ per 1,000 pages | one request per page | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        for row in asyncio.run(measure(kind)):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
