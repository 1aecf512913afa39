"""Media types come from bytes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ingest.reading.media import ENCRYPTED_OFFICE, sniff
from tests.reading_samples import SAMPLES, make_docx, make_pdf, make_xlsx, make_zip, word_paragraph

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def _sniff(data: bytes, name: str = "file") -> str:
    return sniff(data[:65_536], name, io.BytesIO(data))


@pytest.mark.parametrize("media_type", sorted(SAMPLES))
def test_every_sample_is_recognised_whatever_its_name(media_type: str) -> None:
    """People rename files, and mail programs drop suffixes."""
    _, make = SAMPLES[media_type]
    kinds_of_text = {"text/markdown", "text/csv", "application/json"}
    expected = "text/plain" if media_type in kinds_of_text else media_type
    assert _sniff(make(), "upload.bin") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(99), "video/mp4"),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  " + bytes(99), "video/quicktime"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(99), "image/heic"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00avifmif1" + bytes(99), "image/avif"),
        (b"\x1aE\xdf\xa3\x93B\x82\x88matroska" + bytes(99), "video/x-matroska"),
        (b"\x1aE\xdf\xa3\x93B\x82\x84webm" + bytes(99), "video/webm"),
        (b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(99), "video/x-msvideo"),
        ((b"G" + bytes(187)) * 3, "video/mp2t"),
        (b"{\\rtf1\\ansi Hello}", "application/rtf"),
        (b"From: a@b.c\r\nTo: d@e.f\r\nSubject: x\r\n\r\nBody", "message/rfc822"),
        (_OLE + "EncryptedPackage".encode("utf-16-le"), ENCRYPTED_OFFICE),
        (_OLE + "WordDocument".encode("utf-16-le"), "application/msword"),
        (_OLE + "Workbook".encode("utf-16-le"), "application/vnd.ms-excel"),
        (_OLE + "__properties_version1.0".encode("utf-16-le"), "application/vnd.ms-outlook"),
        (make_zip({"mimetype": "application/vnd.oasis.opendocument.text"}), "application/vnd.oasis.opendocument.text"),
        (make_zip({"readme.txt": "hello"}), "application/zip"),
        (b"MZ\x90\x00\x03" + bytes(200), "application/x-msdownload"),
        (bytes(range(256)) * 4, ""),
    ],
)
def test_other_kinds_are_named_so_that_the_error_can_say_what_it_is(data: bytes, expected: str) -> None:
    """`unknown kind` helps nobody who handed in a video or a zip."""
    assert _sniff(data) == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("BMW invoice 12\n", "a", "text/plain"),
        ("# Title\n", "readme.md", "text/markdown"),
        ("a,b\n1,2\n", "table.csv", "text/csv"),
        ("<p>one</p>", "note", "text/html"),
        ("<!-- c --><!DOCTYPE html><html></html>", "x.txt", "text/html"),
        ('<?xml version="1.0"?><svg xmlns="x"/>', "x", "image/svg+xml"),
        ("<order><id>1</id></order>", "x", "application/xml"),
        ("To do: buy milk\nNote: cheap\n", "todo", "text/plain"),
        ("a file about %PDF-1.7 headers, and more words\n", "x", "text/plain"),
        ("MIME-Version: 1.0\nSubject: hi\n\n<html></html>", "x.html", "message/rfc822"),
    ],
)
def test_kinds_of_text_are_told_apart_by_content_and_then_by_name(text: str, name: str, expected: str) -> None:
    """Text has no magic number, and a wrong guess lays it out wrongly."""
    assert _sniff(text.encode(), name) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "shift_jis", "gb18030"])
def test_text_in_any_encoding_is_text(encoding: str) -> None:
    """Exports from old programs are rarely UTF-8."""
    text = (
        "日本語の請求書 合計\n金額 100\n" if encoding in ("shift_jis", "gb18030") else "Größe: 12 €\n".replace("€", "")
    )
    assert _sniff(text.encode(encoding), "x.txt") == "text/plain"


def test_a_pdf_with_bytes_before_its_header_is_a_pdf() -> None:
    """Mail gateways and printers put lines in front."""
    assert _sniff(b"HTTP/1.1 200 OK\r\n\r\n" + make_pdf("x")) == "application/pdf"


def test_a_cut_off_office_file_is_still_named() -> None:
    """`is damaged` helps more than `is a zip archive`."""
    for data, kind in ((make_docx(word_paragraph("x")), "wordprocessing"), (make_xlsx(""), "spreadsheet")):
        assert kind in _sniff(data[: len(data) * 2 // 3])


@pytest.mark.corpus
def test_the_corpus_is_recognised(corpus: Path) -> None:
    """Real files of each folder carry the type that their folder promises."""
    for folder, prefix in (
        ("video", ("video/", "audio/", "text/", "application/json", "")),
        ("images", ("image/", "text/")),
    ):
        for path in sorted((corpus / folder).iterdir()):
            data = path.read_bytes()
            assert _sniff(data, path.name).startswith(prefix), path.name
