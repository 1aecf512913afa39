"""Videos and documents as parts of a request: limits, media types, and tokens against the published tables."""

from __future__ import annotations

import base64
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy
import pymupdf
import pytest

from ingest.local import reader
from ingest.local.clips import VideoPart, count_video, inspect_video, sampled_frames
from ingest.local.numbers import load_limits, load_numbers
from ingest.local.refusal import Refusal
from ingest.local.server import create_app
from tests.local_calls import (
    CHAT,
    MESSAGES,
    RESPONSES,
    call,
    content,
    image_bytes,
    message_request,
    post,
    refused,
    request,
    response_request,
    schema_format,
)

SEED = load_numbers("seed-2.0").video
MODEL = "seed-2-0-pro"


@cache
def video_bytes(container: str = "mp4", seconds: int = 5, rate: int = 4) -> bytes:
    """A small grey video."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 32
        for shade in range(seconds * rate):
            picture = numpy.full((32, 32, 3), shade, dtype=numpy.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    return buffer.getvalue()


def data_url(data: bytes, media_type: str) -> str:
    """Bytes as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def video_part(data: bytes, media_type: str = "video/mp4", **more: Any) -> dict[str, Any]:
    """A video part of chat."""
    return {"type": "video_url", "video_url": {"url": data_url(data, media_type)} | more}


@cache
def pdf_bytes(*texts: str, height_pt: float = 842) -> bytes:
    """A PDF whose pages are images of these texts, A4 when nothing is said."""
    document = pymupdf.open()
    for text in texts:
        document.new_page(width=595, height=height_pt).insert_image((50, 10, 500, 160), stream=image_bytes(text))
    return bytes(document.tobytes())


def file_part(data: bytes, media_type: str = "application/pdf", **more: Any) -> dict[str, Any]:
    """A file part of chat."""
    return {"type": "file", "file": {"file_data": data_url(data, media_type), "filename": "a.pdf"} | more}


# Video


@pytest.mark.parametrize(
    ("duration_s", "fps", "frames"),
    [(5, 1, 16), (5, 0.5, 16), (100, 1, 101), (50, 2, 101), (60, 0.5, 31), (2000, 1, 1280), (256, 5, 1280)],
)
def test_frames_of_a_video(duration_s: float, fps: float, frames: int) -> None:
    """One frame every 1/fps seconds, both ends included, never fewer than 16 or more than 1280."""
    assert sampled_frames(duration_s, 0, fps, SEED) == frames


def test_a_file_with_few_frames_gives_them_all() -> None:
    """Sixteen cannot be taken from ten."""
    assert sampled_frames(5, 10, 1, SEED) == 10
    assert sampled_frames(5, 150, 1, SEED) == 16


@pytest.mark.parametrize(
    ("profile", "frames", "per_frame"),
    [
        ("seed-2.0", 16, 384),
        ("seed-2.0", 213, 384),
        ("seed-2.0", 214, 382),  # 81,920 / 214 = 382.8
        ("seed-2.0", 400, 204),
        ("seed-2.0", 1280, 64),
        ("seed-1.8", 213, 384),
        ("seed-1.8", 214, 320),
        ("seed-1.8", 1280, 64),
        ("seed-1.6", 100, 640),
        ("seed-1.6", 640, 128),
    ],
)
def test_tokens_of_a_video_follow_the_published_table(profile: str, frames: int, per_frame: int) -> None:
    """Frames share 81,920 tokens within their bounds; the timestamps come on top."""
    rule = load_numbers(profile).video
    video = VideoPart(b"", "video/mp4", frames - 1, 0)
    assert count_video(video, 1, rule) == frames * (per_frame + 12)


def test_the_probed_video_is_counted_as_it_was_billed() -> None:
    """A 5 s clip at 1 fps was billed 6,435 tokens, text and overhead included."""
    assert count_video(VideoPart(b"", "video/mp4", 5, 150), 1, SEED) == pytest.approx(6435 - 100, abs=5)


@pytest.mark.parametrize(
    ("container", "media_type"),
    [("mp4", "video/mp4"), ("mov", "video/mov"), ("mov", "video/quicktime"), ("avi", "video/avi")],
)
def test_containers_tell_their_duration(container: str, media_type: str) -> None:
    """The three documented containers, counted by their own headers."""
    app = create_app(models=[MODEL], counts_video=True)
    answer = post(app, request(video_part(video_bytes(container), media_type), model=MODEL, video_fps=4))
    assert answer.status_code == 200, answer.text
    entry = app.state.accounting.entries[-1]
    # 5 s at 4 fps are 21 frames; the container's end may lie one frame earlier.
    assert entry.input_by_kind["video"] in (20 * 396, 21 * 396)


def test_request_wide_fps_comes_before_the_parts() -> None:
    """The gateway offers one rate for the request."""
    app = create_app(models=[MODEL], counts_video=True)
    part = video_part(video_bytes(seconds=40, rate=1), fps=0.5)
    for more, frames in (({}, 21), ({"video_fps": 1}, 41)):
        post(app, request(part, model=MODEL, **more))
        assert app.state.accounting.entries[-1].input_by_kind["video"] in (frames * 396, (frames - 1) * 396)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (video_part(video_bytes(), "video/quicktime"), "its bytes are video/mp4"),
        (video_part(video_bytes("avi"), "video/mp4"), "its bytes are video/avi"),
        (video_part(b"no video at all"), "not an MP4, MOV or AVI"),
        (video_part(video_bytes()[:60]), "cannot be opened"),
        (video_part(video_bytes(), fps=0.1), "outside"),
        (video_part(video_bytes(), fps=6), "outside"),
        ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, "fetches nothing"),
        ({"type": "video_url", "video_url": {"file_id": "f"}}, "not kept here"),
        ({"type": "video_url"}, "missing"),
    ],
)
def test_videos_outside_the_limits_are_refused(part: dict[str, Any], reason: str) -> None:
    """Each would be a 400 after upload at the real endpoint."""
    assert reason in refused(create_app(counts_video=True), request(part))["message"]


def test_a_video_of_more_than_50_mb_is_refused() -> None:
    """The limit of one video; base64 makes a body of that size pass the limit of bodies already."""
    with pytest.raises(Refusal, match="more than 50000000"):
        inspect_video(b"\0" * 50_000_001, "video/mp4", load_limits())
    part = video_part(b"\0" * 48_000_100)
    assert "larger than 64000000" in refused(create_app(counts_video=True), request(part))["message"]


def test_clips_are_refused_unless_counting_them_is_asked_for() -> None:
    """The engine cannot see a clip, and answers nothing it has not read: by default it says so."""
    part = video_part(video_bytes())
    assert "reads frames, not clips" in refused(create_app(), request(part))["message"]
    app = create_app(counts_video=True)
    answer = content(post(app, request(part, response_format=schema_format())))
    assert answer == {"total": None, "currency": None}
    url = {"type": "input_video", "video_url": data_url(video_bytes(), "video/mp4"), "fps": 1}
    assert call(create_app(models=[MODEL], counts_video=True), "POST", RESPONSES, json=response_request(url)).is_success
    block = {"type": "video", "source": {"type": "base64"}}
    assert call(create_app(models=[MODEL]), "POST", MESSAGES, json=message_request(block)).status_code == 400


# Documents


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_a_pdf_is_read_page_by_page_and_costs_an_image_each(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server turns pages into images: 1280 tokens each at `high`, and no text layer is used."""
    numbers: list[int] = []

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        numbers.append(number)
        return reader.read_text(number, f"page {number}")

    monkeypatch.setattr(reader, "read_image", read_image)
    data = pdf_bytes("one", "two", "three")
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode()}
    bodies = {
        CHAT: request(file_part(data), model=MODEL),
        RESPONSES: response_request(
            {"type": "input_file", "file_data": data_url(data, "application/pdf"), "filename": "a.pdf"}
        ),
        MESSAGES: message_request({"type": "document", "source": source}),
    }
    app = create_app(models=[MODEL])
    answer = call(app, "POST", path, json=bodies[path])
    assert answer.status_code == 200, answer.text
    assert "page 2" in answer.text
    assert numbers == [1, 2, 3]
    assert app.state.accounting.entries[-1].input_by_kind["file"] == 3 * 1280


def test_pages_of_a_pdf_are_read_by_ocr() -> None:
    """Documents sent whole are answered from what is on their pages."""
    parts = ['<document pages="1">', file_part(pdf_bytes("Total 125.40 EUR", height_pt=170)), "</document>"]
    response = post(create_app(), request(*parts, response_format=schema_format()))
    assert content(response)["total"] == 125.40
    assert [entry["page"] for entry in response.json()["x_page_words"]] == [1]


def test_detail_low_makes_pages_of_a_pdf_no_dearer_than_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is an image, so the request-wide level counts for it."""
    monkeypatch.setattr(reader, "read_image", lambda number, data, is_context=False: reader.read_text(number, ""))
    app = create_app(models=[MODEL])
    post(app, request(file_part(pdf_bytes("one")), model=MODEL, image_detail="low"))
    # An A4 page at 150 dpi: 1240 x 1754 pixels over 1764, rounded up.
    assert app.state.accounting.entries[-1].input_by_kind["file"] == 1233


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (file_part(b"no pdf"), "not a PDF"),
        (file_part(b"%PDF-1.7 and nothing else"), "cannot be opened"),
        (file_part(pdf_bytes("x"), "application/zip"), "only application/pdf"),
        ({"type": "file", "file": {"file_data": data_url(pdf_bytes("x"), "application/pdf")}}, "filename"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "file_data"),
        ({"type": "file", "file": {"file_url": "https://example.com/a.pdf"}}, "fetches nothing"),
        ({"type": "file", "file": {"file_id": "f"}}, "not kept here"),
    ],
)
def test_files_outside_the_limits_are_refused(part: dict[str, Any], reason: str) -> None:
    """Only PDF, only inside the request."""
    assert reason in refused(create_app(), request(part))["message"]


def test_a_locked_pdf_is_refused(tmp_path: Path) -> None:
    """No password can be sent along."""
    with pymupdf.open(stream=pdf_bytes("x")) as document:
        locked = document.tobytes(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="a", owner_pw="b")
    assert "locked" in refused(create_app(), request(file_part(bytes(locked))))["message"]


def test_a_pdf_with_too_many_pages_overflows_the_window() -> None:
    """176 pages of 1280 tokens pass 224,000: nothing is rendered before that is known."""
    app = create_app(models=[MODEL])
    document = pymupdf.open()
    for _ in range(176):
        document.new_page(width=100, height=100)
    error = refused(app, request(file_part(bytes(document.tobytes())), model=MODEL))
    assert "exceed max message tokens" in error["message"]


def test_a_pdf_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """PDFium is optional; the refusal says what to install."""
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    error = refused(create_app(), request(file_part(pdf_bytes("x"))))
    assert "pip install 'ingest[pypdfium]'" in error["message"]
