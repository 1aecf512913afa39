"""Jobs of many small requests against the local engine at full price, with both sides' books in hand."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from ingest import engine
from ingest.asking.client import Client
from ingest.config import Config, Endpoint
from ingest.engine import session
from ingest.keeping.ledger import Ledger, Posting
from ingest.local.server import create_app
from ingest.profile import RateLimits, load_profile
from ingest.recipes import build_config, recipe_from_schema
from ingest.record import Record, RunSummary
from ingest.types import Document, Image, Loaded, Part, Rendering, Source, Text, TextStats, Word

MODEL = "seed-2-0-pro"
PROTOCOLS = ("chat", "responses", "messages")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": ["string", "null"], "description": "Number of the invoice"},
        "total": {"type": ["number", "null"], "description": "Grand total"},
    },
    "required": ["invoice_number", "total"],
    "additionalProperties": False,
}
PAGE_BREAK = "\f"
_WORDS = "Rechnung delivery amount net gross 請求書 quantity Straße total item 12.50 1,204.00 № ½ discount".split()


class TextWorkers:
    """Reading without processes: pages of a text file parted by form feeds; `IMAGE` on a page makes it an image."""

    def __init__(self, settings: object) -> None:
        self._picture = _picture()

    async def __aenter__(self) -> TextWorkers:
        """Ready."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Done."""

    async def open(self, source: Source, *_: object) -> Document:
        """One part per page."""
        pages = source.path.read_text(encoding="utf-8").split(PAGE_BREAK)
        parts = [
            Part(index, "page", "image", 600.0, 800.0, *self._picture[1])
            if page.startswith("IMAGE")
            else Part(index, "page", "text", 600.0, 800.0, text=TextStats.of(page))
            for index, page in enumerate(pages)
        ]
        return Document(source, tuple(parts))

    async def load(self, document: Document, parts: tuple[Part, ...], rendering: Rendering) -> tuple[Loaded, ...]:
        """The text of each page, or a small picture."""
        pages = document.source.path.read_text(encoding="utf-8").split(PAGE_BREAK)
        return tuple(self._load(part, pages[part.index]) for part in parts)

    def _load(self, part: Part, page: str) -> Loaded:
        if part.mode == "image":
            return Loaded(part, (Image(self._picture[0], "image/png", *self._picture[1]),))
        words = tuple(Word(word, (0.0, 0.0, 1.0, 1.0)) for word in page.split())
        return Loaded(part, (Text(page),), words)


def _picture() -> tuple[bytes, tuple[int, int]]:
    from tests.local_calls import image_bytes

    return image_bytes("Total 12.50", (240, 80)), (240, 80)


def write_pages(path: Path, seed: int, pages: int, images: int = 0, words: int = 60) -> Path:
    """A document whose pages hold random words of several scripts; the last `images` pages are pictures."""
    dice = random.Random(seed)
    texts = []
    for number in range(1, pages + 1):
        lines = [f"Invoice number {seed}-{number}"] if number == 1 else []
        lines += [" ".join(dice.choices(_WORDS, k=8)) for _ in range(words // 8)]
        lines.append(f"Grand total {dice.randint(1, 99_999) / 100:.2f}")
        texts.append("IMAGE" if number > pages - images else "\n".join(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE_BREAK.join(texts), encoding="utf-8")
    return path


def paid_config(
    output: Path, *, protocol: str = "chat", concurrency: int = 16, limit: object = None, **settings: Any
) -> Config:
    """Settings for the model at its full price, without limits per minute; a request holds one page."""
    profile = load_profile(MODEL).model_copy(update={"rate_limits": RateLimits(concurrency=concurrency)})
    endpoint = Endpoint(base_url="http://engine.invalid/v1", protocol=protocol)  # type: ignore[arg-type]
    overrides: dict[str, dict[str, object]] = {
        "asking": {"max_tokens": 1_000, "max_attempts": 4},
        "planning": {"target_tokens": 1_000},
        "budget": {} if limit is None else {"max_cost_usd": str(limit)},
    }
    for name, values in settings.items():
        overrides[name] = {**overrides.get(name, {}), **values}
    return build_config(recipe_from_schema(SCHEMA), profile, endpoint, output=output, jobs=8, overrides=overrides)


@dataclass
class Service:
    """The local engine in the place of the service, and what it billed."""

    app: Any

    @property
    def billed_usd(self) -> Decimal:
        """Everything billed so far."""
        return Decimal(self.app.state.accounting.cost_usd)

    @property
    def entries(self) -> list[Any]:
        """Every request it got."""
        return list(self.app.state.accounting.entries)


def start_service(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Service:
    """Put an engine with these options where calls go; retries do not wait, and files are read in this process."""
    stamina.set_testing(True, attempts=4)
    app = create_app(models=[MODEL], **options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    monkeypatch.setattr(session, "Client", partial(Client, transport=transport))
    monkeypatch.setattr(session, "Workers", TextWorkers)
    return Service(app)


@dataclass
class Job:
    """A folder of documents that is run again and again into one output folder."""

    folder: Path
    output: Path
    records: list[Record[Any]] = field(default_factory=list)

    def run(self, config: Config) -> RunSummary:
        """One run to its end."""
        summaries: list[RunSummary] = []

        async def drain() -> list[Record[Any]]:
            async with aclosing(engine.run([self.folder], config, None, summaries.append)) as records:
                return [record async for record in records]

        self.records = asyncio.run(drain())
        return summaries[0]

    @property
    def postings(self) -> tuple[Posting, ...]:
        """Every try of all its runs."""
        with Ledger(self.output) as ledger:
            return ledger.attempts.postings()

    def bought_twice(self) -> list[str]:
        """Request keys whose answer was paid for more than once."""
        answered = Counter(posting.key for posting in self.postings if posting.outcome == "answered")
        return [key for key, number in answered.items() if number > 1]


def with_limit(config: Config, limit: Decimal) -> Config:
    """The settings with another limit for the run."""
    return config.model_copy(update={"budget": config.budget.model_copy(update={"max_cost_usd": limit})})
