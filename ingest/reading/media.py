"""The media type of a file, from its bytes. A name only decides among kinds of text."""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from pathlib import PurePosixPath

import filetype

HEAD_BYTES = 65_536
"""How much of the beginning of a file `sniff` wants; zip containers are read from their directory."""

_OPENXML = "application/vnd.openxmlformats-officedocument."
ENCRYPTED_OFFICE = "application/x-encrypted-office"

VIDEO_TYPES = (
    "video/mp4",
    "video/quicktime",
    "video/3gpp",
    "video/x-matroska",
    "video/webm",
    "video/x-msvideo",
    "video/mp2t",
    "video/mpeg",
    "video/x-ms-wmv",
    "video/x-flv",
    "video/mxf",
    "video/x-ivf",
    "video/x-y4m",
    "video/x-rm",
    "application/ogg",
)
"""Files that may hold pictures in motion. What they really hold, the container decides."""

# Signatures that no text can begin with, or that text must not be mistaken for.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "video/mxf"),
    (b"DKIF", "video/x-ivf"),
    (b"YUV4MPEG2 ", "video/x-y4m"),
    (b".RMF", "video/x-rm"),
    (b"\x00\x00\x00\x01\x67", "video/h264"),
    (b"\x00\x00\x00\x01\x09", "video/h264"),
    (b"OggS", "application/ogg"),
    (b"{\\rtf", "application/rtf"),
    (b"%!PS", "application/postscript"),
)

# Brands of ISO base media files that are pictures (ISO/IEC 23008-12 and AVIF); all others are video or audio.
_PICTURE_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"avif": "image/avif",
    b"avis": "image/avif",
}
_FTYP_BRANDS = {
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3g2a", b"3g2b"), "video/3gpp"),
}

_ZIP_MEMBERS: tuple[tuple[str, str], ...] = (
    ("word/document", f"{_OPENXML}wordprocessingml.document"),
    ("ppt/presentation", f"{_OPENXML}presentationml.presentation"),
    ("xl/workbook", f"{_OPENXML}spreadsheetml.sheet"),
    ("FixedDocSeq.fdseq", "application/vnd.ms-xpsdocument"),
    ("FixedDocumentSequence.fdseq", "application/vnd.ms-xpsdocument"),
    ("Documents/1/FixedDoc", "application/vnd.ms-xpsdocument"),
    ("META-INF/container.xml", "application/epub+zip"),
)

# Streams of compound (OLE) files, as UTF-16 in the directory.
_OLE_STREAMS: tuple[tuple[str, str], ...] = (
    ("EncryptedPackage", ENCRYPTED_OFFICE),
    ("__properties_version1.0", "application/vnd.ms-outlook"),
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
)

_TEXT_SUFFIXES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/json",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".eml": "message/rfc822",
}

_PDF_OBJECT = re.compile(rb"^\d+ \d+ obj\b", re.MULTILINE)
_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body|table|div|p|title|meta|h[1-6])\b", re.IGNORECASE)
_XML_ROOT = re.compile(r"^(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>)*<([\w.:-]+)", re.DOTALL)
_MAIL_FIELD = re.compile(
    r"^(?:From|To|Subject|Date|Received|Return-Path|Message-ID|MIME-Version|Delivered-To|X-[\w-]+|DKIM-Signature):",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD_LINE = re.compile(r"[!-9;-~]+:[ \t]?|[ \t]+\S")


def sniff(head: bytes, name: str = "", container: io.BufferedIOBase | None = None) -> str:
    """The media type of a file that begins with `head` (at least `HEAD_BYTES`, or all of it).

    `container` is the open file, needed to look into zip containers; `name` breaks ties among kinds of text.
    Returns "" when nothing recognises the bytes.
    """
    # Archives first: the header of a PDF may be that of their first member.
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _sniff_zip(container or io.BytesIO(head))
    if head[257:262] == b"ustar":
        return "application/x-tar"
    if b"%PDF-" in head[:1024]:
        return _pdf_or_text(head, name)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _sniff_ole(head, container)
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return "video/webm" if media_type == "video/x-matroska" and b"webm" in head[:64] else media_type
    if head[4:8] == b"ftyp":
        return _sniff_ftyp(head)
    if head.startswith(b"RIFF") and len(head) >= 12:
        return {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}.get(head[8:12], "")
    if _PDF_OBJECT.search(head[:4096]) and b"endobj" in head:
        return "application/pdf"  # its header is gone, its body is not
    text = decode_head(head)
    if text is not None:
        return _sniff_text(text, name)
    return _sniff_rest(head)


def _pdf_or_text(head: bytes, name: str) -> str:
    """A PDF may have bytes before its header; a text that speaks of `%PDF-` has words there instead."""
    before = head[: head.index(b"%PDF-")]
    text = decode_head(head) if before.strip() else None
    return "application/pdf" if text is None or b" obj" in head or b"\nxref" in head else _sniff_text(text, name)


def _sniff_ftyp(head: bytes) -> str:
    size = min(int.from_bytes(head[:4], "big"), 256)
    brands = [head[8:12]] + [head[at : at + 4] for at in range(16, size - 3, 4)]
    if head[8:12] in _FTYP_BRANDS:
        return _FTYP_BRANDS[head[8:12]]
    pictures = [_PICTURE_BRANDS[brand] for brand in brands if brand in _PICTURE_BRANDS]
    if pictures:
        return "image/avif" if "image/avif" in pictures else pictures[0]
    return "video/mp4"


def _sniff_zip(file: io.BufferedIOBase) -> str:
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                declared = archive.read("mimetype").decode("ascii", "replace").strip()
                if re.fullmatch(r"[\w.+-]+/[\w.+-]+", declared):
                    return declared
    # What zipfile raises on damage, encryption and compression methods it does not know.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return _sniff_broken_zip(file)
    for member, media_type in _ZIP_MEMBERS:
        if any(entry.startswith(member) for entry in names):
            return media_type
    return "application/zip"


def _sniff_broken_zip(file: io.BufferedIOBase) -> str:
    """A cut-off container still shows its first members, so the error can say what it was."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    for member, media_type in (
        *_ZIP_MEMBERS,
        ("word/", _ZIP_MEMBERS[0][1]),
        ("ppt/", _ZIP_MEMBERS[1][1]),
        ("xl/", _ZIP_MEMBERS[2][1]),
    ):
        if member.encode() in head:
            return media_type
    return "application/zip"


def _sniff_ole(head: bytes, file: io.BufferedIOBase | None) -> str:
    data = head
    if file is not None:
        # The directory may stand anywhere in a compound file, but hardly beyond its first megabytes.
        file.seek(0)
        data = file.read(16_000_000)
    for stream, media_type in _OLE_STREAMS:
        if stream.encode("utf-16-le") in data:
            return media_type
    return "application/x-ole-storage"


def decode_head(head: bytes) -> str | None:
    """`head` as text, or None when it is not text. A cut-off last character is forgiven."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return head.decode(encoding, "replace")
    if b"\x00" in head:
        return None
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head[:4096])
    if controls > len(head[:4096]) // 100:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        pass
    # Legacy single- and double-byte encodings: mostly printable, with line ends or spaces.
    high = sum(byte >= 128 for byte in head[:4096])
    spaced = sum(byte in b" \n\r\t" for byte in head[:4096])
    if spaced * 40 < len(head[:4096]) and high * 3 > len(head[:4096]):
        return None
    return head.decode("latin-1")


def _sniff_text(text: str, name: str) -> str:
    stripped = text.lstrip("\ufeff \t\r\n")
    suffix = PurePosixPath(name.lower()).suffix
    if stripped.startswith("{\\rtf"):
        return "application/rtf"
    if stripped.startswith("<"):
        root = _XML_ROOT.match(stripped)
        local = root.group(1).split(":")[-1].lower() if root else ""
        if local == "svg":
            return "image/svg+xml"
        if local == "html" or _HTML.search(stripped[:4096]):
            return "text/html"
        if stripped.startswith("<?xml") or suffix == ".xml" or suffix not in _TEXT_SUFFIXES:
            return "application/xml" if local else "text/plain"
    if _is_mail(stripped):
        return "message/rfc822"
    if suffix == ".eml" and not _MAIL_FIELD.search(stripped[:2000]):
        return "message/rfc822" if len(stripped) < 200 else "text/plain"
    return _TEXT_SUFFIXES.get(suffix, "text/plain")


def _is_mail(text: str) -> bool:
    """A block of header fields at the very beginning, two of which only mail has."""
    head, _, _ = text.replace("\r\n", "\n").partition("\n\n")
    lines = head.split("\n")
    if lines and lines[0].startswith("From "):
        lines = lines[1:]
    fields = all(_FIELD_LINE.match(line) for line in lines[:20])
    return fields and len({match.group(0).lower() for match in _MAIL_FIELD.finditer(head)}) >= 2


def _sniff_rest(head: bytes) -> str:
    if len(head) > 376 and head[0] == 0x47 and head[188] == 0x47 and head[376] == 0x47:
        return "video/mp2t"
    if len(head) > 580 and head[4] == 0x47 and head[196] == 0x47 and head[388] == 0x47:
        return "video/mp2t"  # with a time code of 4 bytes before each packet, as Blu-ray and AVCHD have it
    if head.startswith(b"ID3") and len(head) > 376:
        return "audio/mpeg"
    if head[4:8] in (b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"sidx", b"moof"):
        return "video/quicktime" if head[4:8] in (b"moov", b"mdat", b"wide") else "video/mp4"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return "image/bmp"
    guess = filetype.guess(head[:8192])
    return guess.mime if guess is not None and guess.mime != "image/bmp" else ""
