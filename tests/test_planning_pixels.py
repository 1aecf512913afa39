"""A plan makes no pixel: probing ten thousand pages must not cost what rendering them costs."""

from __future__ import annotations

from pathlib import Path

import pymupdf
import pytest
from PIL import Image as PillowImage

from ingest.config import ReadingSettings
from ingest.reading import extractor_for
from ingest.reading.discover import describe, discover
from tests.planned import planner


@pytest.mark.parametrize("folder", ["invoices", "contracts", "papers", "scans", "receipts"])
def test_a_plan_renders_nothing(fixtures_folder: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering and decoding are forbidden here, and every document is still planned."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pixel was made")

    monkeypatch.setattr(pymupdf.Page, "get_pixmap", refuse)
    monkeypatch.setattr(PillowImage.Image, "resize", refuse)
    monkeypatch.setattr(PillowImage.Image, "convert", refuse)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    settings = ReadingSettings()
    found = list(discover([fixtures_folder / "documents" / folder]))
    assert found
    for item in found:
        source = describe(item, settings)
        document = extractor_for(source.media_type).open(source, settings)
        assert all(part.error is None for part in document.parts)
        assert planner().plan(document).chunks
