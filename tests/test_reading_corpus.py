"""Real files, among them the worst known, end as the corpus says they must."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ingest.config import ReadingSettings
from ingest.errors import IngestError
from ingest.reading.discover import Found, describe
from ingest.reading.workers import Workers
from ingest.types import Document, Loaded, Rendering

pytestmark = pytest.mark.corpus

_RENDERING = Rendering(max_pixels=250_000, max_bytes=2_000_000, min_side_px=14, max_aspect_ratio=150, jpeg_quality=80)
_SETTINGS = ReadingSettings(call_timeout_s=30, worker_memory_bytes=2_000_000_000)
_PAGES_LOADED = 3

_Outcome = tuple[Document, tuple[Loaded, ...]] | IngestError


def _items(corpus: Path, *folders: str) -> list[dict[str, Any]]:
    items = json.loads((corpus / "catalog.json").read_text())["items"]
    return [item for item in items if item["file"].split("/")[0] in folders]


def _read_all(corpus: Path, items: list[dict[str, Any]], settings: ReadingSettings = _SETTINGS) -> list[_Outcome]:
    """All files at once through two workers: none may disturb its neighbours."""

    async def main() -> list[_Outcome]:
        async with Workers(settings) as workers:

            async def read(name: str) -> _Outcome:
                try:
                    document = await workers.open(describe(Found(name, corpus / name), settings))
                    return document, await workers.load(document, document.parts[:_PAGES_LOADED], _RENDERING)
                except IngestError as error:
                    return error

            return await asyncio.gather(*(read(item["file"]) for item in items))

    return asyncio.run(main())


def _summary(outcome: _Outcome) -> str:
    if isinstance(outcome, IngestError):
        return f"error {outcome.code}: {outcome.message}"
    document, loaded = outcome
    errors = [*(part.error for part in document.parts), *(each.error for each in loaded)]
    return "partial" if any(errors) else "ok"


def _agrees(item: dict[str, Any], outcome: _Outcome) -> bool:
    expected, summary = item["expected"], _summary(outcome)
    if expected.startswith("bounded"):
        return True
    allowed = [
        word for word in ("ok_partial", "partial", "clean_error", "ok") if word in expected.replace("ok_partial", "")
    ]
    if "partial" in expected:
        allowed.append("partial")
    if "no pages" in expected:
        return summary.startswith("error") and "no pages" in summary
    if "password required" in expected:
        return summary.startswith("error encrypted") and "--password" in summary
    if summary == "ok":
        measured = item.get("measured") or {}
        count = measured.get("frames") or measured.get("pages")
        return "ok" in allowed and (
            not count or (not isinstance(outcome, IngestError) and len(outcome[0].parts) == count)
        )
    if summary.startswith("error"):
        return "clean_error" in allowed or "unsupported-format" in expected
    return summary in allowed


@pytest.mark.parametrize(
    ("folders", "exceptions"),
    [
        (("hostile",), 0),
        (("encrypted", "images"), 0),
        # One malformed presentation is read whole here, where its catalogue entry expects trouble.
        (("office",), 1),
        (("pdf", "invoices", "tables", "contracts"), 0),
    ],
)
def test_every_file_ends_as_the_catalogue_expects(corpus: Path, folders: tuple[str, ...], exceptions: int) -> None:
    """Page counts agree, errors are typed and worded, and nothing hangs."""
    items = _items(corpus, *folders)
    outcomes = _read_all(corpus, items)
    wrong = [
        f"{item['file']}: expected {item['expected']}, got {_summary(outcome)}"
        for item, outcome in zip(items, outcomes, strict=True)
        if not _agrees(item, outcome)
    ]
    assert len(wrong) <= exceptions, "\n".join(wrong)


def test_files_open_with_their_passwords(corpus: Path) -> None:
    """Non-ASCII passwords included."""
    items = [item for item in _items(corpus, "encrypted") if item.get("password")]
    settings = _SETTINGS.model_copy(update={"passwords": tuple(SecretStr(item["password"]) for item in items)})
    outcomes = _read_all(corpus, items, settings)
    assert {item["file"]: _summary(outcome) for item, outcome in zip(items, outcomes, strict=True)} == {
        item["file"]: "ok" for item in items
    }
