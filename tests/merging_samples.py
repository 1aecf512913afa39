"""Words of real and made documents, read as the engine reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ingest.config import ReadingSettings
from ingest.merging.pages import PageText
from ingest.reading import extractor_for
from ingest.reading.discover import Found, describe
from ingest.types import Rendering

_RENDERING = Rendering(max_pixels=400_000, max_bytes=2_000_000, min_side_px=14, max_aspect_ratio=150, jpeg_quality=80)
_SETTINGS = ReadingSettings()


def page_texts(path: Path) -> dict[int, PageText]:
    """The words of each page of a file by page number."""
    source = describe(Found(path.name, path), _SETTINGS)
    extractor = extractor_for(source.media_type)
    document = extractor.open(source, _SETTINGS)
    parts = [replace(part, mode="text") for part in document.parts]
    loaded = extractor.load(document, parts, _RENDERING, _SETTINGS)
    return {item.part.number: PageText(item.part.number, item.words) for item in loaded}
