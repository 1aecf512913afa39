"""PDFs handed over as they are: within the limits the file itself, once; beyond them pages, and the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.asking import prompt
from ingest.asking.schema import derive
from ingest.config import ReadingSettings
from ingest.errors import ConfigError
from ingest.reading import DEFAULT_RENDERING
from ingest.reading.paged import PagedExtractor
from ingest.recipes import build_config
from ingest.types import Chunk, File, Source, Text
from tests import fakes
from tests.conftest import ROOT

PDF = ROOT / "fixtures" / "documents" / "invoices" / "es-three-pages-split-row.pdf"
SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}


def source_of(path: Path, media_type: str = "application/pdf") -> Source:
    content = path.read_bytes()
    return Source(path.name, path.as_uri(), path, len(content), hashlib.sha256(content).hexdigest(), media_type)


def test_a_file_within_the_limits_goes_whole_and_once() -> None:
    """The first part brings the bytes and the others nothing; words are there for grounding, sizes for boxes."""
    extractor, settings = PagedExtractor(), ReadingSettings(documents="native")
    document = extractor.open(source_of(PDF), settings)
    assert [part.mode for part in document.parts] == ["native"] * 3
    assert not document.problems
    assert all(part.width_pt > 0 and part.text.chars > 0 for part in document.parts)
    loaded = list(extractor.load(document, document.parts, DEFAULT_RENDERING, settings))
    (file,) = loaded[0].contents
    assert isinstance(file, File)
    assert (file.data, file.media_type, file.pages) == (PDF.read_bytes(), "application/pdf", 3)
    assert PDF.stem not in file.name
    assert [item.contents for item in loaded[1:]] == [(), ()]
    assert all(item.words for item in loaded)
    extractor.close()


def test_half_of_a_file_brings_the_file_again() -> None:
    """A chunk that is asked again in halves needs the bytes in both, and each half is told its own pages."""
    extractor, settings = PagedExtractor(), ReadingSettings(documents="native")
    document = extractor.open(source_of(PDF), settings)
    half = Chunk(0, document.parts[1:])
    loaded = list(extractor.load(document, half.parts, DEFAULT_RENDERING, settings))
    frame = prompt.Frame("system", "opening", "closing")
    contents = prompt.contents(frame, document, half, loaded)
    assert [type(content) for content in contents] == [Text, Text, File, Text]
    assert isinstance(contents[-1], Text)
    assert "only from its pages 2 to 3" in contents[-1].text
    whole = Chunk(0, document.parts)
    loaded = list(extractor.load(document, whole.parts, DEFAULT_RENDERING, settings))
    contents = prompt.contents(frame, document, whole, loaded)
    assert [type(content) for content in contents] == [Text, Text, File, Text]
    assert isinstance(contents[-1], Text)
    assert "only from" not in contents[-1].text
    assert derive(SCHEMA, "part", "x").schema  # cites stay by page number
    extractor.close()


@pytest.mark.parametrize(
    ("changes", "reason"), [({"native_max_pages": 2}, "3 pages"), ({"native_max_bytes": 100}, "bytes")]
)
def test_a_file_beyond_the_limits_goes_as_pages_and_says_why(changes: dict[str, Any], reason: str) -> None:
    """The service would refuse it after the upload; a silent change of way would surprise whoever pays."""
    extractor = PagedExtractor()
    document = extractor.open(source_of(PDF), ReadingSettings(documents="native", **changes))
    assert not [part for part in document.parts if part.mode == "native"]
    (problem,) = document.problems
    assert problem.code == "not_native"
    assert reason in problem.message
    extractor.close()


def test_other_kinds_of_file_go_as_pages(tmp_path: Path) -> None:
    """Only PDF can be handed over: text is laid out as ever, and that is no problem."""
    path = tmp_path / "a.txt"
    path.write_text("a page of text\n" * 9)
    extractor = PagedExtractor()
    document = extractor.open(source_of(path, "text/plain"), ReadingSettings(documents="native"))
    assert [part.mode for part in document.parts] == ["text"]
    assert not document.problems
    extractor.close()


def test_limits_are_those_of_the_model_and_of_a_request() -> None:
    """90 pages fill the cheap tier, base64 makes four bytes of three, and the body of a request has a limit."""
    config = ingest.configure(schema=SCHEMA, api_key=fakes.KEY, settings={"reading": {"documents": "native"}})
    assert config.reading.native_max_pages == config.profile.files.max_pages == 90  # type: ignore[union-attr]
    assert config.reading.native_max_bytes * 4 / 3 < config.profile.max_request_bytes
    small = fakes.make_profile(max_request_bytes=4_000_000, files={"max_pages": 7})
    over = {"reading": {"documents": "native"}}
    reading = build_config(config.recipe, small, config.endpoint, overrides=over).reading
    assert (reading.native_max_pages, reading.native_max_bytes) == (7, 2_625_000)
    none = fakes.make_profile(files=None)
    with pytest.raises(ConfigError, match=r"takes no documents.*--documents pages"):
        build_config(config.recipe, none, config.endpoint, overrides=over)


def test_native_video_is_refused_where_the_protocol_has_no_part_for_it() -> None:
    """Said before the first file is opened, with the way out."""
    with pytest.raises(ConfigError, match=r"messages protocol takes no video.*--video frames"):
        ingest.configure(
            schema=SCHEMA, api_key=fakes.KEY, protocol="messages", settings={"reading": {"video": "native"}}
        )
