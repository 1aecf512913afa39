"""Records for sinks to take, and sinks driven as a run drives them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pydantic import SecretStr

from ingest.config import Recipe
from ingest.keeping.sinks.fan import Sinks
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
from ingest.types import JsonObject

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "title": {"type": ["string", "null"]},
        "day": {"type": ["string", "null"], "format": "date"},
        "total": {"type": ["number", "null"], "multipleOf": 0.01},
        "seller": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "label": {"type": ["string", "null"]},
                    "amount": {"type": ["number", "null"]},
                    "marks": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}

_MODEL = ModelInfo(model="m", profile="p", protocol="chat", endpoint="local")


def recipe(schema: JsonObject | None = None, name: str = "bills") -> Recipe:
    """A recipe of the sample schema, or another."""
    return Recipe(name=name, document_schema=SCHEMA if schema is None else schema)


def data(title: str, *amounts: float) -> JsonObject:
    """Data that fits the sample schema: a line for each amount."""
    lines = [{"label": f"{title} {at}", "amount": each, "marks": ["x", title]} for at, each in enumerate(amounts)]
    return {
        "title": title,
        "day": "2024-02-29",
        "total": round(sum(amounts), 2),
        "seller": {"name": "Größe & Söhne 株式会社"},
        "lines": lines,
        "tags": ["a", title],
    }


def record(name: str, value: JsonObject | None, status: Status | None = None, of: Recipe | None = None) -> Record[Any]:
    """A document's record; a failed one without data."""
    problems = () if value is not None else (ProblemInfo(stage="read", code="unreadable", message="it is damaged"),)
    return Record(
        document=DocumentInfo(name=name, uri=f"file:///in/{name}", sha256="ab" * 32, media_type="application/pdf",
                              size_bytes=9, pages=2, metadata={"desk": "Süd"}),
        data=value,
        status=status or ("failed" if value is None else "complete"),
        provenance={} if value is None else {"/title": (Evidence(page=1, bbox=(1, 2, 3, 4), grade="exact"),)},
        problems=problems,
        usage=UsageInfo(requests=1, cost_usd=Decimal("0.00012345")),
        model=_MODEL,
        recipe=RecipeInfo(name=(of or recipe()).name, schema_sha256="", instructions_sha256=""),
    )  # fmt: skip


def summary(of: Recipe | None = None) -> RunSummary:
    """A summary of a run; sinks but the folder of files have no use for it."""
    info = RecipeInfo(name=(of or recipe()).name, schema_sha256="", instructions_sha256="")
    return RunSummary(documents=(), totals=Totals(), model=_MODEL, recipe=info)


def write(to: str | Sequence[str], records: Sequence[Record[Any]], of: Recipe | None = None) -> None:
    """One whole run into one target or several."""
    asyncio.run(_write([to] if isinstance(to, str) else to, records, of or recipe(), is_whole=True))


class Interrupted(Exception):
    """What ends an interrupted run."""


def write_some(to: str, records: Sequence[Record[Any]], of: Recipe | None = None) -> None:
    """A run that ends before it is finished."""
    try:
        asyncio.run(_write([to], records, of or recipe(), is_whole=False))
    except Interrupted:
        return
    raise AssertionError("the run was not interrupted")


async def _write(to: Sequence[str], records: Sequence[Record[Any]], of: Recipe, *, is_whole: bool) -> None:
    async with Sinks([SecretStr(each) for each in to], of) as sinks:
        for each in records:
            await sinks.write(each)
        if not is_whole:
            raise Interrupted
        await sinks.finish(summary(of))
