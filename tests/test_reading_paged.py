"""Pages: how each is sent, what stands on it and where, and what happens to broken ones."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import pymupdf
import pytest
from PIL import Image
from pydantic import SecretStr

from ingest.config import ReadingSettings
from ingest.errors import Encrypted, TooLarge, Unreadable
from ingest.reading.paged import EXTRACTOR
from ingest.types import Document, Loaded, Text
from ingest.types import Image as ImagePart
from tests.reading_samples import RENDERING, SETTINGS, describe_file, make_image, make_pdf

_PROSE = "\n".join(f"Line {number} of an ordinary page of words that says nothing much." for number in range(30))


def _open(path: Path, data: bytes, settings: ReadingSettings = SETTINGS) -> Document:
    return EXTRACTOR.open(describe_file(path, data), settings)


def _load(document: Document, settings: ReadingSettings = SETTINGS) -> list[Loaded]:
    return list(EXTRACTOR.load(document, document.parts, RENDERING, settings))


def _text(loaded: Loaded) -> str:
    return "\n".join(content.text for content in loaded.contents if isinstance(content, Text))


def _scan(page: pymupdf.Page) -> None:
    page.insert_image(page.rect, stream=make_image("PNG", "L", (600, 850)), overlay=False)


def _table(page: pymupdf.Page) -> None:
    for step in range(5):
        page.draw_line((72, 300 + 20 * step), (500, 300 + 20 * step))
        page.draw_line((72 + 107 * step, 300), (72 + 107 * step, 380))


def _chart(page: pymupdf.Page) -> None:
    for step in range(60):
        page.draw_bezier((100, 400), (150, 300 + step), (200, 500 - step), (300, 400 + step))


def _logo(page: pymupdf.Page) -> None:
    page.insert_image(pymupdf.Rect(450, 40, 540, 70), stream=make_image("PNG"))


def _photo(page: pymupdf.Page) -> None:
    page.insert_image(pymupdf.Rect(100, 500, 400, 700), stream=make_image("PNG"))


@pytest.mark.parametrize(
    ("text", "draw", "mode"),
    [
        (_PROSE, None, "text"),
        (_PROSE, _logo, "text"),
        (_PROSE, _photo, "both"),
        (_PROSE, _table, "both"),
        (_PROSE, _chart, "both"),
        ("", _scan, "image"),
        ("Page 1 of 3", _scan, "image"),
        (_PROSE, _scan, "both"),
        ("", _chart, "image"),
        ("", None, "text"),
    ],
)
def test_each_page_is_sent_as_it_is_best_read(tmp_path: Path, text: str, draw: object, mode: str) -> None:
    """An image costs several times its text, and a text layer that lies costs the record."""
    with pymupdf.open() as pdf:
        page = pdf.new_page(width=595, height=842)
        page.insert_text((72, 72), text, fontsize=10)
        if callable(draw):
            draw(page)
        document = _open(tmp_path / "a.pdf", pdf.tobytes())
    assert document.parts[0].mode == mode
    assert (document.parts[0].text.chars == 0) == (mode == "image" or not text)


def test_an_invisible_text_layer_is_read(tmp_path: Path) -> None:
    """OCR programs write their text invisibly over the scan: it must help, with the scan beside it."""
    with pymupdf.open() as pdf:
        page = pdf.new_page(width=595, height=842)
        page.insert_text((72, 72), _PROSE, fontsize=10, render_mode=3)
        hidden = pdf.tobytes()
        _scan(page)
        over_scan = pdf.tobytes()
    assert _open(tmp_path / "a.pdf", hidden).parts[0].mode == "text"
    document = _open(tmp_path / "b.pdf", over_scan)
    assert document.parts[0].mode == "both"
    [loaded] = _load(document)
    assert "Line 29 of an ordinary page" in _text(loaded)
    assert len(loaded.words) > 300


@pytest.mark.parametrize(("policy", "modes"), [("image", "ii"), ("text", "tt"), ("both", "bi"), ("auto", "ti")])
def test_a_recipe_may_fix_how_pages_are_sent(tmp_path: Path, policy: str, modes: str) -> None:
    """Whoever knows his documents knows better than a rule."""
    with pymupdf.open() as pdf:
        pdf.new_page().insert_text((72, 72), _PROSE)
        _scan(pdf.new_page())
        data = pdf.tobytes()
    document = _open(tmp_path / "a.pdf", data, ReadingSettings(pages=policy))
    assert "".join(part.mode[0] for part in document.parts) == modes
    assert [problem.code for problem in document.problems] == (["no_text_layer"] if policy == "text" else [])
    if policy == "text":
        assert document.problems[0].part_index == 1


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_words_stand_where_the_rendered_page_shows_them(tmp_path: Path, rotation: int) -> None:
    """A box in the record is drawn over the page by the reviewer: rotation and crop box must agree."""
    with pymupdf.open() as pdf:
        page = pdf.new_page(width=600, height=800)
        page.insert_text((200, 300), "MARK", fontsize=40)
        page.set_cropbox(pymupdf.Rect(100, 150, 500, 700))
        page.set_rotation(rotation)
        document = _open(tmp_path / "a.pdf", pdf.tobytes(), ReadingSettings(pages="both"))
    part = document.parts[0]
    assert (part.width_pt, part.height_pt) == ((400, 550) if rotation in (0, 180) else (550, 400))
    assert part.rotation == rotation
    [loaded] = _load(document)
    [word] = loaded.words
    image = next(content for content in loaded.contents if isinstance(content, ImagePart))
    pixels = Image.open(io.BytesIO(image.data)).convert("L")
    across, down = image.width_px / part.width_pt, image.height_px / part.height_pt
    box = (word.bbox[0] * across, word.bbox[1] * down, word.bbox[2] * across, word.bbox[3] * down)
    assert pixels.crop(tuple(round(side) for side in box)).getextrema()[0] < 100
    pixels.paste(255, tuple(round(side) + grow for side, grow in zip(box, (-3, -3, 3, 3), strict=True)))
    assert pixels.getextrema()[0] > 200


def test_form_values_and_comments_are_part_of_the_text(tmp_path: Path) -> None:
    """A filled form without its values is an empty form."""
    with pymupdf.open() as pdf:
        page = pdf.new_page()
        page.insert_text((72, 90), "Name:")
        widget = pymupdf.Widget()
        widget.field_name, widget.field_type, widget.rect = (
            "n",
            pymupdf.PDF_WIDGET_TYPE_TEXT,
            pymupdf.Rect(120, 75, 300, 95),
        )
        widget.field_value = "Ada Lovelace"
        page.add_widget(widget)
        page.add_freetext_annot(pymupdf.Rect(72, 150, 300, 170), "approved by QA")
        document = _open(tmp_path / "a.pdf", pdf.tobytes())
    text = " ".join(_text(_load(document)[0]).split())
    assert "Name: Ada Lovelace" in text
    assert "approved by QA" in text


def test_outline_and_title_become_sections_and_title(tmp_path: Path) -> None:
    """Chunks are cut at chapters."""
    with pymupdf.open() as pdf:
        for number in range(4):
            pdf.new_page().insert_text((72, 72), f"page {number}")
        pdf.set_toc([[1, "Intro", 1], [1, "Terms\nand more", 3], [2, "Price", 3]])
        pdf.set_metadata({"title": "  A\tcontract "})
        document = _open(tmp_path / "a.pdf", pdf.tobytes())
    assert [part.section for part in document.parts] == ["Intro", None, "Terms and more", None]
    assert document.title == "A contract"


@pytest.mark.parametrize(
    "method",
    [pymupdf.PDF_ENCRYPT_RC4_40, pymupdf.PDF_ENCRYPT_RC4_128, pymupdf.PDF_ENCRYPT_AES_128, pymupdf.PDF_ENCRYPT_AES_256],
)
@pytest.mark.parametrize("password", ["kanban", "æøå", "pass word"])
def test_passwords_are_tried_in_order(tmp_path: Path, method: int, password: str) -> None:
    """A folder of bank statements has a handful of passwords."""
    data = make_pdf("secret", encryption=method, user_pw=password, owner_pw="owner-" + password)
    source = describe_file(tmp_path / "a.pdf", data)
    with pytest.raises(Encrypted, match=r"a\.pdf is encrypted.*--password"):
        EXTRACTOR.open(source, SETTINGS)
    with pytest.raises(Encrypted, match="none of the 2 passwords"):
        EXTRACTOR.open(source, ReadingSettings(passwords=(SecretStr("no"), SecretStr("x"))))
    settings = ReadingSettings(passwords=(SecretStr("no"), SecretStr(password)))
    assert _text(_load(EXTRACTOR.open(source, settings), settings)[0]) == "secret"


def test_an_owner_password_does_not_lock_reading(tmp_path: Path) -> None:
    """It restricts editing and printing only."""
    data = make_pdf("open", encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="o", user_pw="", permissions=0)
    assert _text(_load(_open(tmp_path / "a.pdf", data))[0]) == "open"


def test_a_document_without_pages_says_so(tmp_path: Path) -> None:
    """Zero pages must not be a complete record about nothing."""
    empty = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    empty += b"trailer<</Root 1 0 R>>"
    with pytest.raises(Unreadable, match=r"a\.pdf has no pages"):
        _open(tmp_path / "a.pdf", empty)
    with pytest.raises(Unreadable, match="cannot be opened"):
        _open(tmp_path / "b.pdf", b"%PDF-1.4\n")


def test_one_broken_page_leaves_the_others(tmp_path: Path) -> None:
    """The record goes on, partial, and names the page."""
    looped = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R 2 0 R]/Count 2>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R"
        b"/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n"
        b"4 0 obj<</Length 36>>stream\nBT /F 12 Tf 50 100 Td (hello) Tj ET \nendstream endobj\ntrailer<</Root 1 0 R>>"
    )
    document = _open(tmp_path / "a.pdf", looped)
    assert [part.error is None for part in document.parts] == [True, False]
    error = document.parts[1].error
    assert error is not None
    assert (error.code, error.part_index) == ("unreadable", 1)
    assert "a.pdf: page 2" in error.message
    assert _text(_load(document)[0]) == "hello"


def test_too_many_pages_are_refused(tmp_path: Path) -> None:
    """A silent cut would be a record with a hole."""
    with pytest.raises(TooLarge, match="max_pages"):
        _open(tmp_path / "a.pdf", make_pdf("a", "b", "c"), ReadingSettings(max_pages=2))


def test_nothing_is_printed_about_damage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MuPDF speaks to the terminal; only the record may tell."""
    data = make_pdf(_PROSE, "b").replace(b"endobj", b"endobx", 4).replace(b"startxref", b"startxxxx")
    with contextlib.suppress(Unreadable):
        _load(_open(tmp_path / "a.pdf", data))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Größe: 12 €, 日本語"),
        ("utf-16", "Größe: 12 €, 日本語"),
        ("cp1252", "Die Größe beträgt 12 €, sagte Müller über die schöne Straße. " * 8),
        ("shift_jis", "請求書の合計金額は次のとおりです。お支払い期限は月末です。" * 8),
        ("gb18030", "增值税发票的合计金额如下，请在月底之前付款，谢谢合作。" * 8),
    ],
)
def test_text_files_read_in_the_encoding_they_were_written_in(tmp_path: Path, encoding: str, text: str) -> None:
    """Exports from old programs are rarely UTF-8."""
    [loaded, *_] = _load(_open(tmp_path / "a.txt", text.encode(encoding)))
    assert text.split()[0][:20] in _text(loaded).replace("\n", "")


def test_html_in_a_declared_encoding_keeps_its_letters(tmp_path: Path) -> None:
    """Saved web pages and mails state their charset."""
    html = '<html><head><meta charset="windows-1250"></head><body><p>Zażółć gęślą jaźń</p></body></html>'
    [loaded] = _load(_open(tmp_path / "a.html", html.encode("cp1250")))
    assert "Zażółć gęślą jaźń" in _text(loaded)


def test_columns_of_a_text_file_keep_their_places(tmp_path: Path) -> None:
    """Print-outs of old programs are tables drawn with spaces and tabs."""
    text = "Item            Price\nPears            1.20\nApples\t\t13.00\n"
    lines = _text(_load(_open(tmp_path / "a.txt", text.encode()))[0]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_a_hostile_html_cannot_read_other_files(tmp_path: Path) -> None:
    """A document must not pull its neighbours into the request."""
    (tmp_path / "secret.png").write_bytes(make_image("PNG", size=(300, 300)))
    html = b'<html><body><p>x</p><img src="secret.png"/><img src="file:///etc/passwd"/></body></html>'
    document = _open(tmp_path / "a.html", html, ReadingSettings(pages="image"))
    [loaded] = _load(document)
    image = next(content for content in loaded.contents if isinstance(content, ImagePart))
    dark = Image.open(io.BytesIO(image.data)).convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert dark is None or (dark[2] - dark[0]) * (dark[3] - dark[1]) < 0.01 * image.width_px * image.height_px


def test_a_page_that_the_first_engine_cannot_read_is_tried_with_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines fail on different files."""
    from ingest.reading import paged

    source = describe_file(
        tmp_path / "a.pdf", make_pdf("x", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")
    )
    settings = ReadingSettings(passwords=(SecretStr("u"),))
    whole = EXTRACTOR.open(source, settings)

    def fail(*_: object) -> None:
        raise RuntimeError("code=2: broken page")

    monkeypatch.setattr(paged, "_read", fail)
    document = EXTRACTOR.open(source, settings)
    assert (document.parts[0].error, document.parts[0].mode) == (None, "image")
    assert (document.parts[0].width_pt, document.parts[0].height_pt) == (
        whole.parts[0].width_pt,
        whole.parts[0].height_pt,
    )
    [loaded] = _load(document, settings)
    [content] = loaded.contents
    assert isinstance(content, ImagePart)
    assert content.width_px * content.height_px <= RENDERING.max_pixels
    assert Image.open(io.BytesIO(content.data)).convert("L").getextrema()[0] < 100

    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    error = EXTRACTOR.open(source, settings).parts[0].error
    assert error is not None
    assert "page 1 is damaged: broken page" in error.message
