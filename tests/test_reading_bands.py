"""Pages sent in pieces: together they hold every word and every row of pixels, in order."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pymupdf
import pytest
from PIL import Image as PillowImage

from ingest import types
from ingest.config import ReadingSettings
from ingest.planning.pieces import split_part
from ingest.reading import Extractor, extractor_for
from ingest.reading.bands import cut_height, cut_page
from ingest.types import Document, Rendering, Source, Word

RENDERING = Rendering(2_257_920, 1_000_000, 15, 150.0, 80)
SETTINGS = ReadingSettings()


def _opened(path: Path, media_type: str) -> tuple[Extractor, Document]:
    extractor = extractor_for(media_type)
    source = Source(path.name, path.as_uri(), path, path.stat().st_size, "0" * 64, media_type)
    return extractor, extractor.open(source, SETTINGS)


@pytest.fixture
def plan_of_a_plant(tmp_path: Path) -> Path:
    """A large page of 400 lines, turned by a quarter as plans often are."""
    with pymupdf.open() as document:
        page = document.new_page(width=2_400, height=3_200)
        for line in range(400):
            page.insert_text(
                (40, 12 + 7.9 * line), f"valve V-{line:04d} flange DN{line % 7 * 25 + 15} row{line}", fontsize=6
            )
        page.draw_rect(pymupdf.Rect(0, 1_600, 2_400, 3_200), color=None, fill=(0.9, 0.2, 0.2), overlay=False)
        document.save(tmp_path / "plan.pdf")
    return tmp_path / "plan.pdf"


@pytest.mark.parametrize("pieces", [2, 3, 7])
def test_the_pieces_of_a_page_hold_all_its_words_once(plan_of_a_plant: Path, pieces: int) -> None:
    """A page too long for one request must lose no line, and send none twice."""
    extractor, document = _opened(plan_of_a_plant, "application/pdf")
    part = replace(document.parts[0], mode="both")
    loaded = list(extractor.load(document, split_part(part, pieces), RENDERING, SETTINGS))
    texts = [content.text for item in loaded for content in item.contents if isinstance(content, types.Text)]
    assert len(texts) == pieces
    assert [line.split()[1] for text in texts for line in text.splitlines() if line.strip()] == [
        f"V-{line:04d}" for line in range(400)
    ]
    sizes = [len(text) for text in texts]
    assert max(sizes) - min(sizes) < 0.2 * max(sizes)
    assert all(len(item.words) == len(loaded[0].words) for item in loaded)


def test_the_image_of_a_piece_is_the_band_that_its_words_stand_in(plan_of_a_plant: Path) -> None:
    """Text and image of a piece must show the same part of the page; the image may be finer than of the whole."""
    extractor, document = _opened(plan_of_a_plant, "application/pdf")
    part = replace(document.parts[0], mode="both")
    whole = next(iter(extractor.load(document, [part], RENDERING, SETTINGS)))
    top, bottom = extractor.load(document, split_part(part, 2), RENDERING, SETTINGS)
    images = [_image(item) for item in (whole, top, bottom)]
    assert images[0].height / images[0].width == pytest.approx(3_200 / 2_400, rel=0.01)
    for image in images[1:]:
        assert image.height / image.width == pytest.approx(0.53 * 3_200 / 2_400, rel=0.03)
        assert image.width * image.height <= RENDERING.max_pixels
        assert image.width > images[0].width
    assert images[1].getpixel((images[1].width - 5, 5)) == (255, 255, 255)
    red, green, _ = images[2].getpixel((images[2].width - 5, images[2].height - 5))
    assert red > green + 100


def _image(item: types.Loaded) -> PillowImage.Image:
    (image,) = (content for content in item.contents if isinstance(content, types.Image))
    return PillowImage.open(io.BytesIO(image.data)).convert("RGB")


def test_the_tiles_of_an_image_cover_it(tmp_path: Path) -> None:
    """A photo cut in bands keeps the orientation that the camera noted, and every row of it."""
    picture = PillowImage.new("RGB", (300, 900), "white")
    picture.paste((0, 0, 255), (0, 600, 300, 900))
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "photo.jpg", exif=exif)
    extractor, document = _opened(tmp_path / "photo.jpg", "image/jpeg")
    assert (document.parts[0].width_px, document.parts[0].height_px) == (900, 300)
    tiles = [_image(item) for item in extractor.load(document, split_part(document.parts[0], 3), RENDERING, SETTINGS)]
    assert [tile.width for tile in tiles] == [900, 900, 900]
    assert [tile.height for tile in tiles] == [109, 118, 109]
    assert all(tile.getpixel((100, 50))[2] > 200 and tile.getpixel((100, 50))[0] < 60 for tile in tiles)


def test_bands_of_equal_height_tile_the_page() -> None:
    """No row of pixels between two bands may be in neither."""
    for height, pieces in ((1_000, 3), (17, 5), (5, 5)):
        bands = [cut_height(height, piece, pieces) for piece in range(pieces)]
        assert (bands[0][0], bands[-1][1]) == (0, height)
        assert all(after[0] <= before[1] for before, after in pairwise(bands))
        assert all(top < bottom for top, bottom in bands)


def test_a_single_endless_line_is_cut_between_words() -> None:
    """Where there is no border of lines, the words still come once each, and in order."""
    words = [Word(f"w{at}", (10.0 * at, 5.0, 10.0 * at + 8, 15.0)) for at in range(90)]
    bands = cut_page(words, 100.0, 4)
    assert [word.text for band in bands for word in band.words] == [word.text for word in words]
    assert max(len(band.words) for band in bands) <= 25
    assert len(cut_page((), 100.0, 3)) == 3
