"""The local engine's eyes: laid-out text as it is, images by OCR on this machine."""

from __future__ import annotations

import io
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.errors import Unreadable
from ingest.local import ocr
from ingest.local.eyes import EYES
from ingest.local.filler import fill
from ingest.local.page import Page
from ingest.local.reader import page_words, read_image, read_text

LINES = (
    (60, "Harbour Tools Ltd"),
    (120, "14 Mill Lane, Leeds LS9 6XD"),
    (220, "Invoice no: INV-2041"),
    (280, "Date: 16/09/2024"),
    (420, "Subtotal"),
    (480, "Total due"),
)
AMOUNTS = ((420, "120.00"), (480, "144.00"))


def drawn() -> Image.Image:
    image = Image.new("RGB", (1000, 640), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=30)
    for y, text in LINES:
        pen.text((60, y), text, fill="black", font=font)
    for y, text in AMOUNTS:
        pen.text((800, y), text, fill="black", font=font)
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def words_of(page: Page) -> set[str]:
    return {token.text for token in page.tokens()}


@pytest.fixture(scope="module")
def upright() -> Page:
    return read_image(3, encoded(drawn()), is_context=True)


def test_text_is_cut_at_two_spaces() -> None:
    """Two spaces part cells and columns, one parts words; blank lines are white space on the page."""
    page = read_text(2, "Rechnung  Nr. 17\n\n  Summe     12,00")
    assert (page.number, page.origin, page.is_context) == (2, "text", False)
    assert [[segment.text for segment in line.segments] for line in page.lines] == [
        ["Rechnung", "Nr. 17"],
        ["Summe", "12,00"],
    ]
    summe = page.lines[1].segments[0]
    assert (summe.x0, summe.x1, summe.y0) == (2, 7, 2)


def test_widely_set_words_are_not_taken_for_columns() -> None:
    """Some writers set two spaces between all words; only wider gaps part cells then."""
    page = read_text(1, "Liefer-  und  Leistungsdatum  :  29.10.2018\nRechnung  gemäß  Taxifahrt     vom  29.10.2018")
    assert [len(line.segments) for line in page.lines] == [1, 2]


def test_image_is_read_with_lines_and_segments(upright: Page) -> None:
    """A scan must lead to the same lines and cells as text does."""
    assert (upright.number, upright.origin, upright.is_context) == (3, "ocr", True)
    rows = [[segment.text for segment in line.segments] for line in upright.lines]
    assert ["Total due", "144.00"] in rows
    assert any("INV-2041" in row[0] for row in rows)
    assert upright.rotation_deg == 0


def test_word_boxes_are_fractions_of_the_image(upright: Page) -> None:
    """The caller draws and checks evidence by these boxes, whatever the size of the image."""
    x0, y0, x1, y1, _ = next(word for word in page_words(upright) if word[4] == "144.00")
    assert abs(x0 - 0.8) < 0.02
    assert 480 / 640 - 0.02 < y0 < y1 < 520 / 640 + 0.02
    assert x1 < 0.95


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_images_are_set_upright_and_their_boxes_turned_back(turn: int, upright: Page) -> None:
    """Phones and scanners deliver pages on their side or head; boxes must still lie on the image as sent."""
    image = drawn().rotate(turn, expand=True)
    page = read_image(1, encoded(image))
    assert page.rotation_deg == turn
    assert {"Harbour", "INV-2041", "144.00"} <= words_of(page)
    x0, y0, x1, y1, _ = next(word for word in page_words(page) if word[4] == "144.00")
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    expected = {90: (0.775, 1 - 0.84), 180: (1 - 0.84, 1 - 0.775), 270: (1 - 0.775, 0.84)}[turn]
    assert middle == pytest.approx(expected, abs=0.03)


def test_skewed_scan_keeps_its_rows() -> None:
    """On a scan that lies askew, a label and its amount at the far edge still share a line."""
    page = read_image(1, encoded(drawn().rotate(-3, expand=True, fillcolor="white")))
    rows = [[segment.text for segment in line.segments] for line in page.lines]
    assert ["Subtotal", "120.00"] in rows
    assert abs(page.skew_rad) > 0.03


def test_filler_reads_images(upright: Page) -> None:
    """Rules work on pixels as on character cells."""
    schema = {
        "type": "object",
        "properties": {"invoice_number": {"type": "string"}, "invoice_date": {"type": "string"}},
    }
    page = read_image(1, encoded(drawn()))
    assert fill(schema, [page]).data == {"invoice_number": "INV-2041", "invoice_date": "2024-09-16"}


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (6000, 4000), "white"), Image.new("L", (3000, 2), 255), Image.new("RGBA", (5, 5), (0, 0, 0, 0))],
    ids=["large", "thin", "tiny"],
)
def test_images_without_text_give_empty_pages(image: Image.Image) -> None:
    """A blank page is a page, and odd sizes must not exhaust the memory."""
    page = read_image(1, encoded(image))
    assert page.lines == ()
    assert page_words(page) == []


@pytest.mark.parametrize(
    "data", [b"", b"no image at all", encoded(drawn(), "JPEG")[:3000]], ids=["empty", "garbage", "cut off"]
)
def test_damaged_images_are_refused(data: bytes) -> None:
    """A damaged image is told from a blank one, in words a person understands."""
    with pytest.raises(Unreadable, match="cannot be decoded"):
        read_image(1, data)


def test_reading_opens_no_socket_and_is_cached(monkeypatch: pytest.MonkeyPatch, upright: Page) -> None:
    """The engine works without a network, and sending a page again costs no second reading."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    fresh = drawn()
    fresh.putpixel((0, 0), (250, 250, 250))
    monkeypatch.setattr(socket, "socket", refuse)
    assert "INV-2041" in words_of(ocr.read_image(encoded(fresh)))
    monkeypatch.undo()
    assert "INV-2041" in words_of(read_image(1, encoded(fresh)))
    monkeypatch.setattr(EYES, "read", refuse)
    again = read_image(9, encoded(fresh))
    assert (again.number, again.is_context) == (9, False)
    assert again.lines[0].text == upright.lines[0].text


def test_threads_may_read_at_once() -> None:
    """The server answers several calls at a time with one engine."""
    images = []
    for shade in range(3):
        image = drawn()
        image.putpixel((1, 1), (shade, shade, shade))
        images.append(encoded(image))
    with ThreadPoolExecutor(3) as pool:
        pages = list(pool.map(lambda data: read_image(1, data), images))
    assert all("INV-2041" in words_of(page) for page in pages)


@pytest.mark.corpus
def test_real_receipts(corpus: Path) -> None:
    """Real scans: the date of every one and the total of most must come out, or the rules have lost their footing."""
    schema = json.loads(
        (Path(__file__).resolve().parent.parent / "pipelines/recipes/receipts/schema.json").read_text(encoding="utf-8")
    )
    right = 0
    names = ("sroie-001", "sroie-003", "sroie-020", "sroie-161")
    for name in names:
        truth = json.loads((corpus / "receipts" / f"{name}.truth.json").read_text(encoding="utf-8"))["truth"]
        data = fill(schema, [read_image(1, (corpus / "receipts" / f"{name}.jpg").read_bytes())]).data
        right += data["total"] == float(truth["total"].strip("RM$"))
        assert data["date"] is not None
    assert right >= len(names) - 1
