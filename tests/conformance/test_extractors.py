"""What every extractor promises, checked over the whole table."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ingest.errors import Encrypted, SourceError, UnsupportedMedia
from ingest.reading import EXTRACTORS, Extractor, PagewiseExtractor, extractor_for
from ingest.types import Document, Source
from tests.reading_samples import RENDERING, SAMPLES, SETTINGS, describe_file, make_heic
from tests.video_samples import VIDEO_SAMPLES, make_sample

_TEXT = ("text/", "application/json", "application/xml")


# Nothing here writes Ogg video, or the messages of Outlook.
_WRITABLE = [kind for kind in sorted(EXTRACTORS) if kind not in ("application/ogg", "application/vnd.ms-outlook")]

# Those that can probe single pages of a file; the others open it whole.
_PAGEWISE = [kind for kind in _WRITABLE if isinstance(extractor_for(kind), PagewiseExtractor)]


@pytest.fixture(params=_WRITABLE)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A small file of each media type in the table."""
    if request.param == "image/heic":
        return describe_file(tmp_path / "a.heic", make_heic())
    if request.param in VIDEO_SAMPLES:
        name, data = make_sample(request.param)
    else:
        name, make = SAMPLES[request.param]
        data = make()
    described = describe_file(tmp_path / name, data)
    assert described.media_type == request.param
    return described


def _open(source: Source) -> tuple[Extractor, Document]:
    extractor = extractor_for(source.media_type, source.name)
    return extractor, extractor.open(source, SETTINGS)


def _outcome(path: Path) -> str | None:
    """The message of a refused file; None for one whose parts all came, marked where they are bad."""
    try:
        extractor, document = _open(describe_file(path))
        loaded = tuple(extractor.load(document, document.parts, RENDERING, SETTINGS))
    except SourceError as error:
        return error.message
    assert len(loaded) == len(document.parts)
    for each in loaded:
        assert (each.error is None) == bool(each.contents)
    return None


def test_parts_come_in_order_with_sizes_in_points_or_pixels(source: Source) -> None:
    """Planning prices a document from these numbers alone."""
    _, document = _open(source)
    assert [part.index for part in document.parts] == list(range(len(document.parts)))
    assert document.parts
    for part in document.parts:
        assert part.error is None
        is_frame = part.kind == "frame"
        assert is_frame == (source.media_type in VIDEO_SAMPLES) == bool(part.moments)
        assert is_frame or min(part.width_pt, part.height_pt) > 0
        if is_frame or (source.media_type.startswith("image/") and source.media_type != "image/svg+xml"):
            assert part.width_px > 0
            assert part.height_px > 0
            assert part.mode == "image"


def test_opening_and_loading_again_gives_the_same(source: Source) -> None:
    """Request keys are computed from descriptors: a rerun must find its answers, byte for byte."""
    extractor, document = _open(source)
    again = extractor.open(source, SETTINGS)
    assert again == document
    first = tuple(extractor.load(document, document.parts, RENDERING, SETTINGS))
    second = tuple(extractor.load(again, again.parts, RENDERING, SETTINGS))
    assert first == second


def test_values_survive_pickling(source: Source) -> None:
    """Documents and contents cross from worker processes."""
    extractor, document = _open(source)
    loaded = tuple(extractor.load(document, document.parts, RENDERING, SETTINGS))
    assert pickle.loads(pickle.dumps(document)) == document
    assert pickle.loads(pickle.dumps(loaded)) == loaded


def test_parts_load_alone_and_in_any_order(source: Source) -> None:
    """A chunk carries any parts; one result comes for each, in the order asked for."""
    extractor, document = _open(source)
    backwards = document.parts[::-1]
    loaded = tuple(extractor.load(document, backwards, RENDERING, SETTINGS))
    assert [each.part for each in loaded] == list(backwards)
    alone = tuple(extractor.load(document, document.parts[-1:], RENDERING, SETTINGS))
    assert alone == loaded[:1]


def test_content_matches_the_mode_and_the_budget(source: Source) -> None:
    """Nothing above the pixel budget is sent, and a text page is sent as the text that was counted."""
    extractor, document = _open(source)
    for loaded in extractor.load(document, document.parts, RENDERING, SETTINGS):
        assert loaded.error is None
        kinds = [type(content).__name__ for content in loaded.contents]
        assert kinds == {"image": ["Image"], "text": ["Text"], "both": ["Text", "Image"]}[loaded.part.mode]
        for content in loaded.contents:
            if hasattr(content, "data"):
                assert content.width_px * content.height_px <= RENDERING.max_pixels
                assert len(content.data) <= RENDERING.max_bytes
                assert content.data.startswith(b"\xff\xd8")
            else:
                assert type(loaded.part.text).of(content.text) == loaded.part.text


def test_opening_makes_no_pixels(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` over ten thousand pages must not render one."""
    import pymupdf
    from PIL import Image, ImageFile

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pixel was made")

    monkeypatch.setattr(pymupdf.Page, "get_pixmap", refuse)
    monkeypatch.setattr(Image.Image, "resize", refuse)
    if source.media_type not in ("image/gif", "image/webp", "image/png", "image/avif", "image/heic"):
        monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    _open(source)


def test_a_cut_off_file_is_a_clean_error_or_has_marked_parts(source: Source, tmp_path: Path) -> None:
    """A damaged file must be one bad record with a reason, never a traceback."""
    data = source.path.read_bytes()
    for size in (len(data) // 3, len(data) * 3 // 4, len(data) - 3):
        path = tmp_path / f"cut-{source.path.name}"
        path.write_bytes(data[:size])
        message = _outcome(path)
        assert message is None or path.name in message


def test_noise_after_a_valid_beginning_is_survived(source: Source, tmp_path: Path) -> None:
    """Uploads get garbled in the middle, too."""
    data = bytearray(source.path.read_bytes())
    for at in range(len(data) // 3, len(data) // 2, 3):
        data[at] = data[at] ^ 0x55
    path = tmp_path / f"garbled-{source.path.name}"
    path.write_bytes(data)
    message = _outcome(path)
    assert message is None or path.name in message


def test_extractors_name_what_they_read_and_fit_the_protocol() -> None:
    """The table and the classes must not drift apart."""
    for media_type in EXTRACTORS:
        extractor = extractor_for(media_type)
        assert isinstance(extractor, Extractor)
        assert media_type in extractor.media_types


@pytest.mark.parametrize("source", _PAGEWISE, indirect=True)
def test_pagewise_probing_equals_opening(source: Source) -> None:
    """Documents are probed page by page in several workers; the result must not depend on it."""
    extractor, document = _open(source)
    assert isinstance(extractor, PagewiseExtractor)
    survey = extractor.survey(source, SETTINGS)
    indices = list(range(len(survey.parts)))[::-1]
    probed = tuple(extractor.probe(survey, indices, SETTINGS))
    assert tuple(each.part for each in probed) == document.parts[::-1]


def test_an_unknown_media_type_names_file_and_way_out() -> None:
    """The reader of the message must know what to do next."""
    with pytest.raises(UnsupportedMedia, match=r"talk\.h264 is video/h264.*MP4"):
        extractor_for("video/h264", "talk.h264")
    with pytest.raises(UnsupportedMedia, match=r"talk\.mp3 is audio/mpeg.*no picture"):
        extractor_for("audio/mpeg", "talk.mp3")
    with pytest.raises(UnsupportedMedia, match=r"letter\.odt.*LibreOffice"):
        extractor_for("application/vnd.oasis.opendocument.text", "letter.odt")
    with pytest.raises(UnsupportedMedia, match=r"blob.*unknown kind"):
        extractor_for("", "blob")
    with pytest.raises(Encrypted, match=r"pay\.xlsx.*without a password"):
        extractor_for("application/x-encrypted-office", "pay.xlsx")
