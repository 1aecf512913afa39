"""Frames of a video at the local engine: how they are told from the prompt, and read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.asking import prompt, schema
from ingest.config import Recipe
from ingest.errors import Unreadable
from ingest.local import ocr, reader
from ingest.local.contract import Part, TextPart
from ingest.local.frames import SentFrame, read_frames
from ingest.local.images import ImagePart
from ingest.local.server import create_app
from ingest.types import Chunk, Document, Loaded, Moment, Source, Text
from ingest.types import Image as ImageContent
from ingest.types import Part as DocumentPart
from tests.local_calls import content, image_bytes, image_part, post, request, schema_format

IMAGE = ImagePart(b"picture", "image/png", 10, 10)
TITLE = {
    "type": "object",
    "properties": {
        "title": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"_time_s": {"type": "number"}, "value": {"type": ["string", "null"]}},
                    "required": ["_time_s", "value"],
                    "additionalProperties": False,
                },
            ]
        }
    },
    "required": ["title"],
    "additionalProperties": False,
}


def texts(*parts: str | ImagePart) -> list[Part]:
    """The parts of a request."""
    return [TextPart(part) if isinstance(part, str) else part for part in parts]


def test_what_the_prompt_writes_is_what_the_engine_reads() -> None:
    """Both sides know the form from its description alone: this is where they meet."""
    moments = [Moment(n, 1, 1, float(n), float(n), n + 2.0) for n in (0, 2, 4, 6)]
    groups = [(moments[0],), (moments[1],), tuple(moments[2:])]
    parts = tuple(DocumentPart(n, "frame", "image", moments=group) for n, group in enumerate(groups))
    picture = ImageContent(b"picture", "image/png", 10, 10)
    form = {"type": "object", "properties": {"a": {"type": "string"}}}
    source = Source("talk.mp4", "file:///talk.mp4", Path("talk.mp4"), 1, "0" * 64, "video/mp4")
    loaded = [
        Loaded(part, (Text("Hello [1.0 second]\nall"), picture) if part.index == 1 else (picture,)) for part in parts
    ]
    frame = prompt.frame(Recipe(document_schema=form), "part", "prompt", schema.derive(form, medium="video"), "video")
    contents = prompt.contents(frame, Document(source, parts), Chunk(0, parts[1:], parts[:1]), loaded)
    sent = read_frames(texts(*(each.text if isinstance(each, Text) else IMAGE for each in contents)))
    assert sent is not None
    assert sent.frames == (
        SentFrame((0.0,), b"picture", is_context=True),
        SentFrame((2.0,), b"picture", "Hello ‹1.0 second]\nall"),
        SentFrame((4.0, 6.0), b"picture", grid=(2, 1)),
    )
    assert sent.end_s == 8.0
    assert "JSON Schema" in sent.before
    assert sent.after.strip() == frame.closing


def test_pages_are_no_frames() -> None:
    """A document that speaks of seconds is still a document."""
    assert read_frames(texts('<document pages="1">', '<page number="1">\n[2.0 second]\n</page>', "</document>")) is None
    assert read_frames(texts('The form is <document seconds="9"> in a line', IMAGE)) is None


def test_what_is_out_of_place_is_passed_over() -> None:
    """Other clients write prompts too; none may crash the engine or move a frame to another time."""
    sent = read_frames(
        texts(
            '<document seconds="9.0">\n[0.0 second]\n<subtitles>\n'
            "[5.0 second]\n[9.0 second] end of the video\n</subtitles>",
            IMAGE,
            IMAGE,
            '[x second]\n[2.0 second] grid="0x0"\nnonsense',
            "</document>\nbye",
        )
    )
    assert sent is not None
    assert [(frame.times_s, frame.image is None) for frame in sent.frames] == [((0.0,), False), ((2.0,), True)]
    assert sent.frames[0].subtitles.splitlines()[0] == "[5.0 second]"
    assert sent.end_s is None


def picture(*lines: str, noise: int = 0) -> Image.Image:
    """A slide with lines of text; `noise` changes every pixel by as much as compression does."""
    image = Image.new("RGB", (640, 360), (250 - noise, 250 - noise, 250))
    draw = ImageDraw.Draw(image)
    for row, text in enumerate(lines):
        draw.text(
            (40, 30 + 70 * row), text, fill=(20 + noise, 20, 20), font=ImageFont.load_default(44 if row == 0 else 28)
        )
    return image


def encoded(image: Image.Image) -> bytes:
    """As JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call of the OCR engine."""
    calls: list[int] = []
    read = ocr._ENGINE.read

    def spy(pixels: Any) -> Any:
        calls.append(1)
        return read(pixels)

    monkeypatch.setattr(ocr._ENGINE, "read", spy)
    return calls


def test_a_picture_that_only_compression_changed_is_read_once(count_reads: list[int]) -> None:
    """OCR is what takes time; but a digit that changed on a slide must be seen."""
    first = ocr.read_frame(encoded(picture("Harvest of 2023", "Output rose by 12 percent")))
    again = ocr.read_frame(encoded(picture("Harvest of 2023", "Output rose by 12 percent", noise=4)))
    assert again is first
    assert len(count_reads) == 1
    changed = ocr.read_frame(encoded(picture("Harvest of 2023", "Output rose by 13 percent")))
    assert len(count_reads) == 2
    assert "13 percent" in changed.text


def test_a_contact_sheet_is_read_cell_by_cell() -> None:
    """Read as one picture, the lines of two slides would run into one another."""
    sheet = Image.new("RGB", (1288, 388), "white")
    for column, (time, title) in enumerate((("12.0 s", "First slide"), ("14.0 s", "Second slide"))):
        ImageDraw.Draw(sheet).text((4 + 644 * column, 4), time, fill="black", font=ImageFont.load_default(20))
        sheet.paste(picture(title, "Some words"), (4 + 644 * column, 28))
    pages = reader.read_cells(encoded(sheet), (2, 1), 2)
    assert [page.text for page in pages] == ["First slide\nSome words", "Second slide\nSome words"]


def test_an_answer_about_frames_gives_times() -> None:
    """Words come back with the time of their frame, so that values can be found in them."""
    parts = [
        "Read the talk.",
        '<document seconds="20.0">',
        "[3.5 second]",
        image_part(image_bytes("Night Ferries")),
        "[20.0 second] end of the video\n</document>\nAnswer.",
    ]
    response = post(create_app(), request(*parts, response_format=schema_format(TITLE)))
    assert content(response) == {"title": {"_time_s": 3.5, "value": "Night Ferries"}}
    (entry,) = response.json()["x_page_words"]
    assert entry["time_s"] == 3.5
    assert "page" not in entry
    assert [word[4] for word in entry["words"]] == ["Night", "Ferries"]


def test_a_frame_that_cannot_be_decoded_is_refused() -> None:
    """The reader says what is wrong with a picture instead of finding no words on it."""
    with pytest.raises(Unreadable, match="cannot be decoded"):
        reader.read_frame(b"no picture")
