"""Small files of every kind, made on the spot, and the settings that the reading tests share."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pymupdf
from PIL import Image

from ingest.config import ReadingSettings
from ingest.reading.discover import Found, describe
from ingest.types import Rendering, Source

RENDERING = Rendering(max_pixels=400_000, max_bytes=2_000_000, min_side_px=14, max_aspect_ratio=150, jpeg_quality=80)
SETTINGS = ReadingSettings()
_OPENXML = "application/vnd.openxmlformats-officedocument."


def describe_file(path: Path, data: bytes | None = None) -> Source:
    """Write a file when data are given, and describe it."""
    if data is not None:
        path.write_bytes(data)
    return describe(Found(path.name, path), SETTINGS)


def make_pdf(*texts: str, draw: Callable[[pymupdf.Page], None] | None = None, **options: object) -> bytes:
    """A PDF with one page for each text."""
    with pymupdf.open() as document:
        for text in texts:
            page = document.new_page(width=595, height=842)
            page.insert_text((72, 72), text, fontsize=11)
            if draw is not None:
                draw(page)
        data: bytes = document.tobytes(**options)
    return data


def make_image(kind: str, mode: str = "RGB", size: tuple[int, int] = (60, 40), **options: object) -> bytes:
    """A picture with a dark bar on its left."""
    picture = Image.new(mode, size, "white" if mode != "I;16" else 65_535)
    picture.paste(0 if mode in ("L", "1", "I;16") else "black", (0, 0, size[0] // 4, size[1]))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def make_frames(kind: str, count: int = 3) -> bytes:
    """An animation, or a file of several pages, whose frames differ."""
    frames = [Image.new("RGB", (40, 30), (80 * index, 20, 200)) for index in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def make_zip(members: dict[str, str | bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def make_relations(**targets: tuple[str, str]) -> str:
    """A relationships part: id to (kind, target)."""
    lines = "".join(f'<Relationship Id="{id}" Type="x/{kind}" Target="{to}"/>' for id, (kind, to) in targets.items())
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{lines}</Relationships>'
    )


_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_REL = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_DRAW = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'


def make_docx(body: str) -> bytes:
    """A Word document with this body."""
    return make_zip(
        {
            "_rels/.rels": make_relations(r1=("officeDocument", "word/document.xml")),
            "word/document.xml": f"<w:document {_WORD} {_REL}><w:body>{body}</w:body></w:document>",
        }
    )


def word_paragraph(text: str, properties: str = "") -> str:
    """A paragraph of Word."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def make_pptx(*slides: str) -> bytes:
    """A presentation with one title on each slide."""
    space = f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" {_REL} {_DRAW}'
    ids = "".join(f'<p:sldId id="{index}" r:id="r{index}"/>' for index in range(len(slides)))
    members: dict[str, str | bytes] = {
        "_rels/.rels": make_relations(r1=("officeDocument", "ppt/presentation.xml")),
        "ppt/presentation.xml": f"<p:presentation {space}><p:sldIdLst>{ids}</p:sldIdLst>"
        '<p:sldSz cx="9144000" cy="6858000"/></p:presentation>',
        "ppt/_rels/presentation.xml.rels": make_relations(
            **{f"r{index}": ("slide", f"slides/slide{index}.xml") for index in range(len(slides))}
        ),
    }
    for index, text in enumerate(slides):
        members[f"ppt/slides/slide{index}.xml"] = (
            f'<p:sld {space}><p:cSld><p:spTree><p:sp><p:nvSpPr><p:nvPr><p:ph type="title"/></p:nvPr></p:nvSpPr>'
            f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>"
        )
    return make_zip(members)


def make_xlsx(rows: str, formats: str = "", strings: str = "") -> bytes:
    """A workbook of one sheet called Data."""
    space = f'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" {_REL}'
    return make_zip(
        {
            "_rels/.rels": make_relations(r1=("officeDocument", "xl/workbook.xml")),
            "xl/workbook.xml": f"<workbook {space}><sheets>"
            '<sheet name="Data" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": make_relations(
                r1=("worksheet", "worksheets/sheet1.xml"),
                r2=("styles", "styles.xml"),
                r3=("sharedStrings", "sharedStrings.xml"),
            ),
            "xl/worksheets/sheet1.xml": f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>",
            "xl/styles.xml": f"<styleSheet {space}>{formats}</styleSheet>",
            "xl/sharedStrings.xml": f"<sst {space}>{strings}</sst>",
        }
    )


def make_epub() -> bytes:
    """A book of one chapter."""
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="2.0"><metadata/><manifest>'
        '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    text = '<html xmlns="http://www.w3.org/1999/xhtml"><body><p>It was a dark night.</p></body></html>'
    return make_zip(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "c.opf": package, "a.xhtml": text}
    )


def make_xps() -> bytes:
    """An XPS document of one page with one rectangle."""
    space = 'xmlns="http://schemas.microsoft.com/xps/2005/06"'
    fixed = "http://schemas.microsoft.com/xps/2005/06/fixedrepresentation"
    return make_zip(
        {
            "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="r" Type="{fixed}" Target="/FixedDocSeq.fdseq"/></Relationships>',
            "FixedDocSeq.fdseq": f"<FixedDocumentSequence {space}>"
            '<DocumentReference Source="/d.fdoc"/></FixedDocumentSequence>',
            "d.fdoc": f'<FixedDocument {space}><PageContent Source="/p.fpage"/></FixedDocument>',
            "p.fpage": f'<FixedPage {space} Width="400" Height="300">'
            '<Path Data="M 9,9 L 99,9 99,99 Z" Fill="#ff0000"/></FixedPage>',
        }
    )


SAMPLES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "application/pdf": ("a.pdf", lambda: make_pdf("First page", "Second page", "Third page")),
    "application/vnd.ms-xpsdocument": ("a.xps", make_xps),
    "application/epub+zip": ("a.epub", make_epub),
    f"{_OPENXML}wordprocessingml.document": ("a.docx", lambda: make_docx(word_paragraph("Hello"))),
    f"{_OPENXML}presentationml.presentation": ("a.pptx", lambda: make_pptx("One", "Two")),
    f"{_OPENXML}spreadsheetml.sheet": ("a.xlsx", lambda: make_xlsx('<row r="1"><c r="A1"><v>12</v></c></row>')),
    "text/html": ("a.html", lambda: b"<html><body><h1>Title</h1><p>Text</p></body></html>"),
    "image/svg+xml": (
        "a.svg",
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="40" height="40"/></svg>',
    ),
    "text/plain": ("a.txt", lambda: b"Some words\nin two lines\n"),
    "text/markdown": ("a.md", lambda: b"# Title\n\nSome *words*.\n"),
    "text/csv": ("a.csv", lambda: b"name,amount\npear,3\n"),
    "application/json": ("a.json", lambda: b'{"name": "pear"}'),
    "application/xml": ("a.xml", lambda: b'<?xml version="1.0"?><invoice><total>3</total></invoice>'),
    "message/rfc822": ("a.eml", lambda: b"From: a@example.org\nTo: b@example.org\nSubject: Pears\n\nThree pears.\n"),
    "image/jpeg": ("a.jpg", lambda: make_image("JPEG")),
    "image/png": ("a.png", lambda: make_frames("PNG")),
    "image/webp": ("a.webp", lambda: make_frames("WEBP")),
    "image/gif": ("a.gif", lambda: make_frames("GIF")),
    "image/bmp": ("a.bmp", lambda: make_image("BMP")),
    "image/tiff": ("a.tif", lambda: make_frames("TIFF")),
    "image/jp2": ("a.jp2", lambda: make_image("JPEG2000")),
    "image/avif": ("a.avif", lambda: make_image("AVIF")),
}
"""A file of every media type that reads without an extra: name and how to make it."""


def make_heic() -> bytes:
    """A HEIC picture, by the extra that reads them."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "gray")).save(file)
    return file.getvalue()
