"""A document is its own bytes: it reads no other file, and reaches no other machine."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import pytest
from PIL import Image

from ingest.config import ReadingSettings
from ingest.errors import IngestError, Unreadable
from ingest.reading.workers import Workers
from ingest.types import Image as Picture
from ingest.types import Loaded, Source, Text
from tests.reading_samples import RENDERING, describe_file, make_docx, make_relations, make_zip, word_paragraph
from tests.video_samples import SHORT, encode_video

_SETTINGS = ReadingSettings(call_timeout_s=20, workers=1, pages="both")
_SECRET = "TOPSECRETWORD"


@dataclass(frozen=True)
class Lures:
    """Files beside the document that nobody may open, and a port that nobody may call."""

    folder: Path
    listener: socket.socket

    @property
    def addresses(self) -> list[str]:
        """All ways to name a picture that is not in the document."""
        port = self.listener.getsockname()[1]
        here = self.folder.as_posix()
        return ["secret.png", f"{here}/secret.png", f"file://{here}/secret.png", f"http://127.0.0.1:{port}/secret.png"]

    def was_called(self) -> bool:
        """Whether anybody connected."""
        try:
            self.listener.accept()[0].close()
        except TimeoutError:
            return False
        return True


@pytest.fixture
def lures(tmp_path: Path) -> Iterator[Lures]:
    """A red picture, a text and a video, and a server."""
    Image.new("RGB", (300, 300), (255, 0, 0)).save(tmp_path / "secret.png")
    (tmp_path / "secret.txt").write_text(_SECRET)
    (tmp_path / "secret.mp4").write_bytes(encode_video(SHORT))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        yield Lures(tmp_path, listener)


def _read(sources: list[Source]) -> list[tuple[Loaded, ...] | IngestError]:
    async def main() -> list[tuple[Loaded, ...] | IngestError]:
        async with Workers(_SETTINGS) as workers:

            async def read(source: Source) -> tuple[Loaded, ...] | IngestError:
                try:
                    document = await workers.open(source)
                    return await workers.load(document, document.parts, RENDERING)
                except IngestError as error:
                    return error

            return [await read(source) for source in sources]

    return asyncio.run(main())


def _shows_secret(outcome: tuple[Loaded, ...] | IngestError) -> bool:
    if isinstance(outcome, IngestError):
        return _SECRET in outcome.message
    contents = [content for loaded in outcome for content in loaded.contents]
    words = [word.text for loaded in outcome for word in loaded.words]
    texts = [content.text for content in contents if isinstance(content, Text)]
    return _SECRET in " ".join((*words, *texts)) or any(_is_red(each) for each in contents if isinstance(each, Picture))


def _is_red(picture: Picture) -> bool:
    image = Image.open(io.BytesIO(picture.data)).convert("RGB").resize((60, 60))
    return any(red > 180 and green < 90 and blue < 90 for _, (red, green, blue) in image.getcolors(3600) or [])


def _svg(inside: str, before: str = "") -> bytes:
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{before}<svg {space} width='200' height='200'>{inside}</svg>".encode()


def _pictures(lures: Lures) -> dict[str, bytes]:
    """Documents that show a picture from elsewhere, in every format that can name one."""
    files: dict[str, bytes] = {}
    for at, address in enumerate(lures.addresses):
        files[f"{at}.svg"] = _svg(f'<image xlink:href="{address}" href="{address}" width="200" height="200"/>')
        style = f"@import url({address}); body {{ background: url({address}) }}"
        inside = f'<img src="{address}"/><iframe src="{address}"></iframe><object data="{address}"></object>'
        files[f"{at}.html"] = f"<html><head><style>{style}</style></head><body>x{inside}</body></html>".encode()
        files[f"{at}.md"] = f"# x\n\n![picture]({address})\n".encode()
        files[f"{at}.epub"] = make_zip(
            {
                "mimetype": "application/epub+zip",
                "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
                '<rootfiles><rootfile full-path="c.opf"/></rootfiles></container>',
                "c.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml"'
                ' media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine></package>',
                "a.xhtml": f'<html><body><p>x</p><img src="{address}"/></body></html>',
            }
        )
        files[f"{at}.docx"] = _docx_with_link(address)
        files[f"{at}.pdf"] = _pdf_with_link(address)
    return files


def _docx_with_link(address: str) -> bytes:
    blip = '<w:p><w:r><w:drawing><a:blip r:link="r9" r:embed="r9"/></w:drawing></w:r></w:p>'
    link = f'<Relationship Id="r9" Type="x/image" Target="{address}" TargetMode="External"/>'
    inner = make_relations(r8=("image", address)).replace("</Relationships>", f"{link}</Relationships>")
    body = word_paragraph("x") + blip + blip.replace("r9", "r8")
    space = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
        ' xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
        ' xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
    )
    return make_zip(
        {
            "_rels/.rels": make_relations(r1=("officeDocument", "word/document.xml")),
            "word/document.xml": f"<w:document {space}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": inner,
        }
    )


def _pdf_with_link(address: str) -> bytes:
    """A page whose picture is an external file stream (ISO 32000-1, 7.3.8.2), and that opens another file."""
    picture = (
        f"<</Type/XObject/Subtype/Image/Width 300/Height 300/ColorSpace/DeviceRGB/BitsPerComponent 8/Length 0"
        f"/F<</Type/Filespec/F({address})/FS/URL>>>>stream\n\nendstream"
    )
    content = "q 200 0 0 200 0 0 cm /I Do Q"
    objects = [
        f"<</Type/Catalog/Pages 2 0 R/OpenAction<</S/Launch/F({address})>>>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        picture,
    ]
    body = "".join(f"{number} 0 obj{text}endobj\n" for number, text in enumerate(objects, 1))
    return f"%PDF-1.7\n{body}trailer<</Root 1 0 R>>\n%%EOF".encode()


def test_pictures_from_elsewhere_are_not_shown(lures: Lures) -> None:
    """Else a document sent in from outside has files of the machine that reads it uploaded to a model."""
    sources = [describe_file(lures.folder / name, data) for name, data in _pictures(lures).items()]
    outcomes = _read(sources)
    assert [source.name for source, outcome in zip(sources, outcomes, strict=True) if _shows_secret(outcome)] == []
    assert not lures.was_called()
    shown = _read([describe_file(lures.folder / "secret.png")])[0]
    assert _shows_secret(shown)  # the eye that looked is not blind


def test_entities_from_elsewhere_are_not_expanded(lures: Lures) -> None:
    """XML can name files to be put in place of a word."""
    port = lures.listener.getsockname()[1]
    files: dict[str, bytes] = {}
    for at, address in enumerate((f"file://{lures.folder}/secret.txt", "secret.txt", f"http://127.0.0.1:{port}/x")):
        kind = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{address}"><!ENTITY % p SYSTEM "{address}"> %p;]>'
        files[f"{at}.svg"] = _svg('<text x="9" y="50">&e;</text>', kind)
        files[f"{at}.xml"] = f'<?xml version="1.0"?>{kind}<x>&e;</x>'.encode()
        files[f"{at}.html"] = f'<?xml version="1.0"?>{kind}<html><body>&e;</body></html>'.encode()
        # Behind a long comment, a document type escapes those who look at the beginning only.
        for pad in ("", f"<!--{'x' * 5000}-->"):
            word = make_docx(word_paragraph("&e;"))
            files[f"{at}-{len(pad)}.docx"] = _with_prefix(word, "word/document.xml", f"{pad}{kind}")
    sources = [describe_file(lures.folder / name, data) for name, data in files.items()]
    outcomes = _read(sources)
    assert [source.name for source, outcome in zip(sources, outcomes, strict=True) if _shows_secret(outcome)] == []
    assert not lures.was_called()


def _with_prefix(archive: bytes, member: str, prefix: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        members: dict[str, str | bytes] = {name: opened.read(name) for name in opened.namelist()}
    members[member] = prefix + bytes(members[member]).decode()  # type: ignore[arg-type]
    return make_zip(members)


def test_lists_of_videos_open_no_other_file(lures: Lures) -> None:
    """FFmpeg plays lists of files and addresses under any name; a list is not a video."""
    port = lures.listener.getsockname()[1]
    lists: dict[str, str] = {}
    for at, address in enumerate((f"{lures.folder}/secret.mp4", "secret.mp4", f"http://127.0.0.1:{port}/a.mp4")):
        lists[f"{at}-hls.mp4"] = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n"
        lists[f"{at}-concat.mp4"] = f"ffconcat version 1.0\nfile '{address}'\n"
        lists[f"{at}-dash.mp4"] = (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
            ' mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"'
            f' bandwidth="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet></Period></MPD>'
        )
        lists[f"{at}-sdp.mp4"] = (
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} TCP/RTP/AVP 96\n"
        )
        lists[f"{at}-ref.mp4"] = f"[Reference]\nRef1={address}\n"
    sources = [describe_file(lures.folder / name, data.encode()) for name, data in lists.items()]
    as_found = _read(sources)
    assert not any(isinstance(outcome, tuple) and _has_frames(outcome) for outcome in as_found)
    as_videos = _read([replace(source, media_type="video/mp4") for source in sources])
    assert all(isinstance(outcome, Unreadable) for outcome in as_videos), as_videos
    assert not lures.was_called()
    assert _has_frames(_read([describe_file(lures.folder / "secret.mp4")])[0])


def _has_frames(outcome: tuple[Loaded, ...] | IngestError) -> bool:
    return isinstance(outcome, tuple) and any(loaded.part.moments for loaded in outcome)


def _with_frames_elsewhere(video: bytes, name: str) -> bytes:
    """An MP4 whose pictures are said to lie in another file beside it (QuickTime data reference of type `alis`)."""
    old = b"\x00\x00\x00\x0curl \x00\x00\x00\x01"
    path = name.encode() + b"\x00" * (len(name) % 2)
    alias = bytes(10) + bytes(28) + bytes(12) + bytes((len(name),)) + name.encode().ljust(63, b"\x00") + bytes(16)
    alias += (1).to_bytes(2) * 2 + bytes(16) + (2).to_bytes(2) + len(name).to_bytes(2) + path + b"\xff\xff\x00\x00"
    new = (len(alias) + 12).to_bytes(4) + b"alis" + bytes(4) + alias
    data = bytearray(video.replace(old, new))
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = data.rindex(box) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4]) + len(new) - len(old)).to_bytes(4)
    at = data.index(b"mdat")
    frames = int.from_bytes(data[at - 4 : at]) - 8
    data[at + 4 : at + 4 + frames] = bytes(frames)
    return bytes(data)


def test_a_video_does_not_take_its_frames_from_another_file(lures: Lures) -> None:
    """QuickTime lets a track lie in a file of another name: it would be shown as if it had been sent in."""
    video = _with_frames_elsewhere((lures.folder / "secret.mp4").read_bytes(), "secret.mp4")
    source = describe_file(lures.folder / "lure.mp4", video)
    (outcome,) = _read([source])
    assert not isinstance(outcome, tuple) or not any(loaded.contents for loaded in outcome)
    with av.open(str(source.path), options={"enable_drefs": "1"}) as opened:
        assert len(list(opened.decode(video=0))) == len(SHORT)  # the lure is one
