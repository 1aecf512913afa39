"""The second engine for PDF pages sees the same pages as the first."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from ingest.reading import paged, pdfium
from ingest.types import Image as Picture
from ingest.types import Rendering
from tests.reading_samples import SETTINGS, describe_file

pytestmark = pytest.mark.corpus

_RENDERING = Rendering(max_pixels=120_000, max_bytes=2_000_000, min_side_px=14, max_aspect_ratio=150, jpeg_quality=90)


def _small(picture: Picture | None) -> Image.Image:
    assert picture is not None
    return Image.open(io.BytesIO(picture.data)).convert("L").resize((64, 64), Image.Resampling.BOX)


def _difference(first: Image.Image, second: Image.Image) -> float:
    return ImageStat.Stat(ImageChops.difference(first, second)).mean[0]


def test_both_engines_show_the_same_pages(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that only the second can read must be the page that was asked for, upright, whole and in its size."""
    paths = sorted((corpus / "invoices").glob("*.pdf"))[:6] + sorted((corpus / "adbuys").glob("*.pdf"))[:4]
    settings = SETTINGS.model_copy(update={"pages": "image"})
    sources = [describe_file(path) for path in paths]
    first = [paged.EXTRACTOR.open(source, settings) for source in sources]
    shown = [next(iter(paged.EXTRACTOR.load(each, each.parts[-1:], _RENDERING, settings))) for each in first]

    def fail(*_: object) -> None:
        raise RuntimeError("code=2: broken page")

    monkeypatch.setattr(paged, "_read", fail)
    for document, expected in zip(first, shown, strict=True):
        part = document.parts[-1]
        again = paged.EXTRACTOR.open(document.source, settings)
        assert len(again.parts) == len(document.parts)
        rescued = again.parts[-1]
        assert (rescued.error, rescued.mode) == (None, "image")
        assert (rescued.width_pt, rescued.height_pt) == pytest.approx((part.width_pt, part.height_pt), abs=1)
        (loaded,) = paged.EXTRACTOR.load(again, [rescued], _RENDERING, settings)
        (before,), (after,) = expected.contents, loaded.contents
        assert isinstance(before, Picture)
        assert isinstance(after, Picture)
        upright, turned = _small(after), _small(after).transpose(Image.Transpose.ROTATE_180)
        assert _difference(_small(before), upright) < 0.7 * _difference(_small(before), turned), document.source.name


def test_what_the_second_engine_cannot_read_either_fails_alone(corpus: Path) -> None:
    """A page tree that refers to itself has no second page for anybody; the first page is read all the same."""
    source = describe_file(corpus / "hostile" / "pdfjs-Pages-tree-refs.pdf")
    assert pdfium.measure_page(source, 1, ()) is None
    assert pdfium.render_page(source, 1, (), _RENDERING) is None
    document = paged.EXTRACTOR.open(source, SETTINGS)
    assert [part.error is None for part in document.parts] == [True, False]
