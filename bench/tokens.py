"""How well input tokens are predicted on real pages, against the local engine's own counter, skewed by kind.

`python bench/tokens.py` reads the documents of each collection of the corpus (INGEST_CORPUS or ../shared/corpus), asks
in memory for 150 of them drawn at random, one after the other, and lets each counted total correct the next estimate,
as a run does. It prints the error of the first estimates, made by the profile alone, and of those after 20 replies, and
how many requests passed their safe estimate and the price step. Nothing is sent.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.config import Config, Endpoint, ReadingSettings
from ingest.engine.blueprint import Blueprint, Brief
from ingest.errors import SourceError
from ingest.local.accounting import Tokenizer
from ingest.local.numbers import load_numbers
from ingest.planning.calibration import Calibration
from ingest.planning.chunks import Planner
from ingest.profile import load_profile
from ingest.reading import extractor_for
from ingest.reading.discover import describe, discover
from ingest.recipes import load_recipe
from ingest.types import Chunk, Document, Observation, Text, Usage

CORPUS = Path(os.environ.get("INGEST_CORPUS", Path(__file__).resolve().parents[2] / "shared" / "corpus"))
COLLECTIONS = {
    "invoices": "invoices",
    "adbuys": "invoices",
    "contracts": "contracts",
    "tables": "generic",
    "office": "generic",
    "pdf": "generic",
    "extract-bench": "generic",
}
SKEWS = ((1.0, 1.0), (1.2, 0.8), (0.8, 1.2), (1.2, 1.2), (0.8, 0.8))
MAX_PAGES, DRAWN, WARM = 60, 150, 20


@dataclass(frozen=True)
class Paper:
    """A document, and the tokens of each page's text and tags."""

    document: Document
    text_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """What happened to the requests of one series."""

    first: float
    late: float
    over_safe: int
    over_step: int
    requests: int


def read(folder: Path) -> list[Paper]:
    """Every document of a collection, its first pages, nothing rendered."""
    settings, tokenizer, papers = ReadingSettings(), Tokenizer(), list[Paper]()
    for item in discover([folder]):
        try:
            source = describe(item, settings)
            extractor = extractor_for(source.media_type)
            document = extractor.open(source, settings)
        except SourceError:
            continue
        parts = [part for part in document.parts[:MAX_PAGES] if part.error is None]
        parts = [replace(part, index=index) for index, part in enumerate(parts)] if len(parts) == MAX_PAGES else parts
        document = replace(document, parts=tuple(parts))
        tokens = []
        for part in parts:
            found = (
                [] if part.mode == "image" else extractor.load(document, [replace(part, mode="text")], None, settings)
            )  # type: ignore[arg-type]
            text = "".join(each.text for item in found for each in item.contents if isinstance(each, Text))
            tokens.append(tokenizer.count(f'<page number="{part.number}">\n{text}\n') + tokenizer.count("</page>"))
        if parts:
            papers.append(Paper(document, tuple(tokens)))
    return papers


def count(paper: Paper, chunk: Chunk, preamble_tokens: int, text: float, image: float) -> int:
    """What the server counts for a chunk: text and images, each times its skew, and the overhead."""
    numbers = load_numbers("seed-2.0")
    places = {part.index: place for place, part in enumerate(paper.document.parts)}
    images = sum(part.mode in ("image", "both") for part in chunk.parts)
    words = preamble_tokens + sum(paper.text_tokens[places[part.index]] for part in chunk.parts)
    contents = 4 + len(chunk.parts) + 2 * images
    overhead = numbers.tokens_per_request + 2 * numbers.tokens_per_message + numbers.tokens_per_part * contents
    return round(text * words) + round(image * numbers.detail["high"].max_tokens * images) + overhead


def serve(papers: Sequence[Paper], planner: Planner, preamble_tokens: int, text: float, image: float) -> Served:
    """Ask for documents drawn at random, each chunk replanned with what was learned before it."""
    dice, observations = random.Random(7), list[Observation]()
    errors, over_safe, over_step = [], 0, 0
    for _ in range(DRAWN):
        paper = dice.choice(papers)
        for planned in replace(planner, calibration=Calibration.of(observations)).plan(paper.document).chunks[:4]:
            present = replace(planner, calibration=Calibration.of(observations))
            for chunk in present.replan(paper.document, planned):
                estimate, counted = present.estimate(chunk), count(paper, chunk, preamble_tokens, text, image)
                errors.append(abs(estimate.expected / counted - 1))
                over_safe += len(observations) >= WARM and counted > estimate.safe
                over_step += len(observations) >= WARM and counted > planner.profile.tiers[0].max_input_tokens
                observations.append(present.observe(chunk, Usage(counted, 900)))
    return Served(_p95(errors[:WARM]), _p95(errors[WARM:]), over_safe, over_step, len(errors))


def _p95(errors: Sequence[float]) -> float:
    return sorted(errors)[int(0.95 * (len(errors) - 1))]


def briefed(recipe: str) -> tuple[Blueprint, int]:
    """The requests of a recipe, and what the server's counter makes of their preamble."""
    profile = load_profile("seed-2-0-pro")
    endpoint = Endpoint(base_url="http://nowhere.invalid/v1")
    blueprint = Blueprint(Config(recipe=load_recipe(recipe), profile=profile, endpoint=endpoint))
    brief: Brief = blueprint._briefs["pages"]
    frame, tokenizer = brief.frames[profile.ladder[0]], Tokenizer()
    texts = (frame.system, frame.opening, frame.closing, json.dumps(brief.chunk_schema.schema, ensure_ascii=False))
    return blueprint, sum(tokenizer.count(text) for text in texts)


def main() -> int:
    """Print one row for each collection and skew."""
    print("| documents | text × | images × | p95, first 20 | p95, later | over safe | over the step | requests |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    everything: list[Paper] = []
    for name, recipe in {**COLLECTIONS, "all of them": "generic"}.items():
        papers = read(CORPUS / name) if name in COLLECTIONS else everything
        everything += papers if name in COLLECTIONS else []
        blueprint, preamble_tokens = briefed(recipe)
        planner = blueprint.planner(papers[0].document, Calibration.of(()))
        for text, image in SKEWS:
            row = serve(papers, planner, preamble_tokens, text, image)
            print(
                f"| {name} | {text} | {image} | {row.first:.1%} | {row.late:.1%} | {row.over_safe} | {row.over_step} |"
                f" {row.requests} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
