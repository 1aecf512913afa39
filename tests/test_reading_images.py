"""Pictures: upright, on white, within every bound, and damage told."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ingest.config import ReadingSettings
from ingest.errors import TooLarge, Unreadable
from ingest.reading.image import EXTRACTOR
from ingest.reading.imaging import fit_image, fit_page, flatten, is_gray, to_content
from ingest.types import Image as ImagePart
from ingest.types import Loaded, Rendering
from tests.reading_samples import RENDERING, SETTINGS, describe_file, make_frames, make_image


def _load(path: Path, data: bytes, rendering: Rendering = RENDERING) -> list[Loaded]:
    document = EXTRACTOR.open(describe_file(path, data), SETTINGS)
    return list(EXTRACTOR.load(document, document.parts, rendering, SETTINGS))


def _pixels(loaded: Loaded) -> Image.Image:
    content = loaded.contents[0]
    assert isinstance(content, ImagePart)
    image = Image.open(io.BytesIO(content.data))
    assert image.size == (content.width_px, content.height_px)
    return image.convert("RGB")


@pytest.mark.parametrize("size", [(595, 842), (18_000, 36_000), (3, 3), (842, 595), (10_000, 20), (0.5, 4000)])
@pytest.mark.parametrize("max_pixels", [250_000, 2_257_920])
def test_pages_of_any_size_fit_the_budget(size: tuple[float, float], max_pixels: int) -> None:
    """A poster must not take gigabytes, and a stamp must not fall below what the model accepts."""
    rendering = replace(RENDERING, max_pixels=max_pixels)
    fit = fit_page(*size, rendering)
    assert fit.canvas_width_px * fit.canvas_height_px <= max_pixels
    assert min(fit.canvas_width_px, fit.canvas_height_px) >= rendering.min_side_px
    longer, shorter = max(fit.canvas_width_px, fit.canvas_height_px), min(fit.canvas_width_px, fit.canvas_height_px)
    assert longer / shorter <= rendering.max_aspect_ratio * 1.05


def test_an_ordinary_page_uses_the_budget_to_the_last_row() -> None:
    """Pixels that are paid for and not sent are legibility given away."""
    fit = fit_page(595, 842, replace(RENDERING, max_pixels=2_257_920))
    assert fit.width_px * fit.height_px > 0.998 * 2_257_920
    assert fit.width_px / fit.height_px == pytest.approx(595 / 842, rel=1e-3)


def test_small_pictures_are_not_blown_up() -> None:
    """Invented pixels cost tokens and tell nothing; only the shortest side has a lower bound."""
    assert fit_image(300, 200, RENDERING).width_px == 300
    tiny = fit_image(7, 70, RENDERING)
    assert (tiny.width_px, tiny.height_px) == (14, 140)


def test_a_strip_is_padded_with_white_to_the_allowed_ratio(tmp_path: Path) -> None:
    """The API refuses extreme strips, such as till rolls and signatures."""
    rendering = replace(RENDERING, max_aspect_ratio=10)
    [loaded] = _load(tmp_path / "a.png", make_image("PNG", size=(2000, 20)), rendering)
    pixels = _pixels(loaded)
    assert pixels.size == (2000, 200)
    assert pixels.getpixel((5, 100)) < (60, 60, 60)
    assert pixels.getpixel((5, 10)) > (240, 240, 240)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_pictures_stand_upright_as_the_camera_noted(tmp_path: Path, kind: str, orientation: int) -> None:
    """A receipt photographed sideways must not be read sideways."""
    upright = Image.open(io.BytesIO(make_image("PNG", size=(80, 40))))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that each orientation asks to undo
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, kind, exif=exif)
    [loaded] = _load(tmp_path / "a", file.getvalue())
    assert (loaded.part.width_px, loaded.part.height_px) == (80, 40)
    pixels = _pixels(loaded)
    assert pixels.size == (80, 40)
    assert pixels.getpixel((5, 20)) < (60, 60, 60)
    assert pixels.getpixel((60, 20)) > (200, 200, 200)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("TIFF", "CMYK"),
        ("JPEG", "CMYK"),
        ("TIFF", "I;16"),
        ("TIFF", "LAB"),
        ("TIFF", "F"),
        ("TIFF", "I"),
    ],
)
def test_every_way_to_store_pixels_comes_out_dark_on_light(tmp_path: Path, kind: str, mode: str) -> None:
    """Scanners, fax machines and print shops use them all."""
    gray = Image.open(io.BytesIO(make_image("PNG", "L", (80, 40))))
    if mode == "I;16":
        stored = gray.convert("I").point(lambda value: value * 257).convert("I;16")
    elif mode == "LAB":
        stored = Image.merge("LAB", (gray, *(Image.new("L", gray.size, 128),) * 2))
    else:
        stored = gray.convert(mode)
    file = io.BytesIO()
    stored.save(file, kind)
    [loaded] = _load(tmp_path / "a", file.getvalue())
    pixels = _pixels(loaded)
    assert max(pixels.getpixel((5, 20))) < 60
    assert min(pixels.getpixel((60, 20))) > 200


def test_what_is_transparent_becomes_white() -> None:
    """Logos and screenshots on nothing would turn black in JPEG."""
    for mode in ("RGBA", "LA"):
        clear = Image.new(mode, (4, 4), (0,) * len(mode))
        assert flatten(clear).convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert flatten(palette).getpixel((1, 1)) == (255, 255, 255)


def test_gray_pages_are_sent_gray_and_faint_colour_is_kept() -> None:
    """Gray saves bytes; a coloured stamp must survive."""
    page = Image.new("RGB", (100, 100), (200, 203, 198))
    assert is_gray(page)
    page.paste((200, 170, 170), (40, 40, 60, 60))
    assert not is_gray(page)


def test_bytes_stay_within_the_limit() -> None:
    """A request with one image too large is refused as a whole."""
    noise = Image.effect_noise((600, 600), 100).convert("RGB")
    content = to_content(noise, fit_image(600, 600, RENDERING), replace(RENDERING, max_bytes=20_000))
    assert len(content.data) <= 20_000
    assert Image.open(io.BytesIO(content.data)).size == (content.width_px, content.height_px)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_every_frame_is_a_page_of_its_own(tmp_path: Path, kind: str) -> None:
    """Fax servers send one TIFF of many pages; taking the first only would lose the rest silently."""
    loaded = _load(tmp_path / "a", make_frames(kind, 3))
    assert len(loaded) == 3
    reds = [_pixels(each).getpixel((20, 15))[0] for each in loaded]
    assert reds[0] < 40 < reds[1] < 120 < reds[2]


def test_density_becomes_points(tmp_path: Path) -> None:
    """A box in the record is in points of the paper; without a density a pixel counts as a point."""
    with_dpi = EXTRACTOR.open(describe_file(tmp_path / "a.png", make_image("PNG", dpi=(300, 300))), SETTINGS).parts[0]
    assert with_dpi.width_pt == pytest.approx(60 * 72 / 300, rel=1e-2)
    without = EXTRACTOR.open(describe_file(tmp_path / "b.png", make_image("PNG")), SETTINGS).parts[0]
    assert (without.width_pt, without.height_pt) == (60, 40)


def test_a_decompression_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    """Forty bytes can claim gigabytes."""
    bomb = (
        b"GIF89a\xff\xff\xff\xff\x80\x00\x00"
        + bytes(6)
        + b"\x2c\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02\x4c\x01\x00\x3b"
    )
    with pytest.raises(TooLarge, match="max_pixels"):
        EXTRACTOR.open(describe_file(tmp_path / "bomb.gif", bomb), SETTINGS)
    source = describe_file(tmp_path / "a.png", make_image("PNG"))
    with pytest.raises(TooLarge, match="max_pixels"):
        EXTRACTOR.open(source, ReadingSettings(max_pixels=100))
    with pytest.raises(TooLarge, match="max_pages"):
        EXTRACTOR.open(describe_file(tmp_path / "a.gif", make_frames("GIF", 3)), ReadingSettings(max_pages=2))


def test_a_picture_cut_off_in_the_middle_fails_by_itself(tmp_path: Path) -> None:
    """Half a receipt must not pass as a whole one."""
    data = make_image("JPEG", size=(400, 400), quality=95)
    [loaded] = _load(tmp_path / "cut.jpg", data[: len(data) // 2])
    assert loaded.contents == ()
    assert loaded.error is not None
    assert loaded.error.part_index == 0
    assert "cut.jpg" in loaded.error.message


def test_a_broken_header_is_unreadable(tmp_path: Path) -> None:
    """A file that only begins like a picture has a clean reason."""
    with pytest.raises(Unreadable, match="damaged"):
        EXTRACTOR.open(describe_file(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n" + bytes(40)), SETTINGS)


def test_broken_metadata_do_not_matter(tmp_path: Path) -> None:
    """Cameras write bad EXIF; warnings about it must not reach anybody."""
    data = make_image("JPEG")
    garbage = b"\xff\xe1\x00\x20Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\x7f" + b"\x41" * 14
    [loaded] = _load(tmp_path / "a.jpg", data[:2] + garbage + data[2:])
    assert loaded.error is None


def test_a_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    """A 50-megapixel photo becomes two megapixels without holding fifty."""
    rendering = replace(RENDERING, max_pixels=10_000)
    [loaded] = _load(tmp_path / "a.jpg", make_image("JPEG", size=(3000, 2000)), rendering)
    pixels = _pixels(loaded)
    assert pixels.width * pixels.height <= 10_000
    assert pixels.getpixel((5, 20)) < (60, 60, 60)
