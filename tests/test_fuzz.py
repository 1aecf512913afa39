"""Damaged and invented files of every kind: each ends as a document or as a typed error, in time, and alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.config import ReadingSettings
from ingest.errors import SourceError
from ingest.reading.discover import Found, describe
from ingest.reading.workers import Workers
from ingest.types import Image as Picture
from ingest.types import Loaded, Text
from tests.reading_samples import RENDERING, SAMPLES, make_pdf
from tests.video_samples import SHORT, VIDEO_SAMPLES, encode_video

_SETTINGS = ReadingSettings(
    call_timeout_s=10, workers=1, worker_memory_bytes=1_500_000_000, max_pages=200, max_frames=50, fps=1.0
)
_PARTS_LOADED = 3
_WALL_S = 45.0
"""A file may use up a worker for each of the pages given up in a row, and the time of two pages more."""
_MAX_SEED_BYTES = 300_000
_LARGE_NUMBERS = (b"0", b"-1", b"4294967295", b"2147483648", b"99999999999999999999", b"1e309")
_DAMAGE = re.compile(rb"\d+")

Data = bytearray
Change = Callable[[Data], None]


@dataclass(frozen=True)
class Seed:
    """A file to start from. Members of a zip archive are changed inside, too."""

    name: str
    data: bytes = field(repr=False)

    @property
    def is_zip(self) -> bool:
        """Whether it is an archive."""
        return self.data.startswith(b"PK\x03\x04")


@cache
def _made() -> tuple[Seed, ...]:
    samples = [Seed(name, make()) for name, make in SAMPLES.values()]
    samples.append(Seed("table.pdf", make_pdf("Row 1", draw=lambda page: page.draw_rect((50, 50, 300, 300)))))
    videos = ("video/mp4", "video/x-matroska", "video/x-msvideo", "video/mp2t", "video/x-flv", "video/mpeg")
    for kind in videos:
        name, container, codec = VIDEO_SAMPLES[kind]
        samples.append(Seed(name, encode_video(SHORT, container, codec, rate=2)))
    mail = (
        b"From: a@b.c\r\nTo: d@e.f\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=q\r\n"
    )
    parts = b"\r\n--q\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n--q\r\nContent-Type: application/pdf\r\n"
    rest = b"Content-Disposition: attachment; filename=a.pdf\r\n\r\n%PDF-1.4\r\n--q--\r\n"
    samples.append(Seed("a.eml", mail + parts + rest))
    samples.append(Seed("a.zip", _zipped({"a.txt": b"words", "b/c.pdf": b"%PDF-1.4"})))
    return tuple(samples)


@cache
def _found(folder: Path) -> tuple[Seed, ...]:
    paths = sorted(path for path in folder.rglob("*.*") if path.is_file() and path.suffix not in (".json", ".py"))
    small = [path for path in paths if 0 < path.stat().st_size <= _MAX_SEED_BYTES]
    return tuple(Seed(path.name, path.read_bytes()) for path in small)


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


# What is done to a file. Places and lengths are shares of it, so that they fit whatever is left.
_share = st.floats(0, 1, exclude_max=True)


def _at(data: Data, share: float) -> int:
    return int(share * len(data))


def _set(place: float, value: int) -> Change:
    def change(data: Data) -> None:
        if data:
            data[_at(data, place)] = value

    return change


def _replace(place: float, length: float, by: bytes) -> Change:
    def change(data: Data) -> None:
        start = _at(data, place)
        data[start : start + int(length * 4096)] = by

    return change


def _cut(place: float) -> Change:
    def change(data: Data) -> None:
        del data[_at(data, place) :]

    return change


def _double(place: float, length: float) -> Change:
    def change(data: Data) -> None:
        start = _at(data, place)
        data[start:start] = data[start : start + int(length * 4096)]

    return change


def _number(place: float, by: bytes) -> Change:
    """Another number where one is written out."""

    def change(data: Data) -> None:
        match = _DAMAGE.search(data, _at(data, place))
        if match:
            data[match.start() : match.end()] = by

    return change


_change = st.one_of(
    st.builds(_set, _share, st.integers(0, 255)),
    st.builds(_set, _share, st.sampled_from([0, 1, 127, 128, 255])),
    st.builds(_replace, _share, _share, st.binary(max_size=16)),
    st.builds(_cut, _share),
    st.builds(_double, _share, _share),
    st.builds(_number, _share, st.sampled_from(_LARGE_NUMBERS)),
)
_MAGICS = (
    b"%PDF-1.7\n", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x00\x00\x10\x00WEBP",
    b"II*\x00", b"BM", b"\x00\x00\x00\x18ftypmp42", b"\x1aE\xdf\xa3", b"OggS", b"<svg xmlns='http://www.w3.org/2000/svg'>",
    b"<html>", b"From: a@b\nSubject: c\n\n", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"RIFF\x00\x00\x10\x00AVI ", b"",
)  # fmt: skip


def _mutated(seeds: tuple[Seed, ...]) -> st.SearchStrategy[Seed]:
    def mutate(seed: Seed, changes: list[Change], member: float, is_inside: bool) -> Seed:
        data = bytearray(seed.data)
        if is_inside and seed.is_zip and zipfile.is_zipfile(io.BytesIO(seed.data)):
            with zipfile.ZipFile(io.BytesIO(seed.data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            name = sorted(members)[int(member * len(members))]
            inner = bytearray(members[name])
            for change in changes:
                change(inner)
            return Seed(seed.name, _zipped(members | {name: bytes(inner)}))
        for change in changes:
            change(data)
        return Seed(seed.name, bytes(data))

    changes = st.lists(_change, min_size=1, max_size=8)
    return st.builds(mutate, st.sampled_from(seeds), changes, _share, st.booleans())


def _invented() -> st.SearchStrategy[Seed]:
    text = st.text(max_size=200).map(lambda words: words.encode("utf-8", "surrogatepass"))
    body = st.one_of(st.binary(max_size=400), text)
    name = st.sampled_from(["x", "x.pdf", "x.mp4", "x.csv", "x.eml", "x.json"])
    return st.builds(lambda magic, rest, name: Seed(name, magic + rest), st.sampled_from(_MAGICS), body, name)


class Reader:
    """One worker, kept for all files, and what became of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._workers = Workers(_SETTINGS)
        self.documents = self.errors = 0
        self.unforeseen: dict[str, bytes] = {}

    def check(self, seed: Seed) -> None:
        """Read a file, and check how it ended."""
        started = time.monotonic()
        path = self._folder / seed.name
        path.write_bytes(seed.data)
        try:
            loaded = self._run(self._read(Found(seed.name, path)))
        except SourceError as error:
            self.errors += 1
            self._note(error.message, seed)
        else:
            self.documents += 1
            for each in loaded:
                self._check_part(each, seed)
        finally:
            path.unlink()
        assert time.monotonic() - started < _WALL_S

    async def _read(self, found: Found) -> tuple[Loaded, ...]:
        document = await self._workers.open(describe(found, _SETTINGS), RENDERING)
        assert document.parts
        parts = document.parts[:_PARTS_LOADED]
        loaded = await self._workers.load(document, parts, RENDERING)
        assert [each.part.index for each in loaded] == [part.index for part in parts]
        return loaded

    def _check_part(self, loaded: Loaded, seed: Seed) -> None:
        assert (loaded.error is not None) != bool(loaded.contents)
        if loaded.error is not None:
            self._note(loaded.error.message, seed)
        for content in loaded.contents:
            if isinstance(content, Picture):
                assert content.width_px * content.height_px <= max(RENDERING.max_pixels, RENDERING.frame_max_pixels)
                with Image.open(io.BytesIO(content.data)) as image:
                    assert (image.size, image.format) == ((content.width_px, content.height_px), "JPEG")
            if isinstance(content, Text):
                content.text.encode()

    def _note(self, message: str, seed: Seed) -> None:
        assert seed.name in message
        assert "Traceback" not in message
        if re.search(r"\((?:\w+Error|Exception): ", message) or "crashed" in message:
            self.unforeseen.setdefault(message, seed.data)

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(call)

    def close(self) -> None:
        """End the worker."""
        self._run(self._workers.__aexit__())
        self._loop.close()


@contextmanager
def _reader() -> Iterator[Reader]:
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        try:
            yield reader
        finally:
            reader.close()


def _fuzz(count: int, seeds: tuple[Seed, ...]) -> Reader:
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(_mutated(seeds), _mutated(seeds), _mutated(seeds), _invented()))
    def try_one(seed: Seed) -> None:
        reader.check(seed)

    with _reader() as reader:
        try_one()
        return reader


def test_two_hundred_damaged_files(fixtures_folder: Path) -> None:
    """Each of them could be in tonight's folder."""
    reader = _fuzz(200, _made())
    assert reader.documents > 20
    assert reader.errors > 20


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_five_thousand_damaged_files(fixtures_folder: Path, request: pytest.FixtureRequest) -> None:
    """Rare damage needs many tries."""
    seeds = _made() + _found(fixtures_folder)
    with contextlib.suppress(pytest.skip.Exception):  # the project's own files do
        seeds += _found(request.getfixturevalue("corpus"))
    reader = _fuzz(5_000, seeds)
    print(f"{reader.documents} documents, {reader.errors} errors, unforeseen: {list(reader.unforeseen)}")
    assert reader.documents > 500
    assert reader.errors > 500


def _bomb(name: str, member: str, head: bytes, block: bytes, tail: bytes, size_bytes: int) -> Seed:
    """An archive of a few hundred kilobytes, one member of which unpacks to `size_bytes`."""
    file = io.BytesIO()
    seed = next(seed for seed in _made() if seed.name == name)
    with (
        zipfile.ZipFile(io.BytesIO(seed.data)) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, True, 1) as bomb,
    ):
        for other in source.namelist():
            if other != member:
                bomb.writestr(other, source.read(other))
        with bomb.open(member, "w", force_zip64=True) as out:
            out.write(head)
            chunk = block * (1_000_000 // len(block))
            for _ in range(size_bytes // len(chunk)):
                out.write(chunk)
            out.write(tail)
    return Seed(name, file.getvalue())


_BOMBS = pytest.mark.parametrize(
    ("name", "member", "head", "block", "tail"),
    [
        pytest.param(
            *("a.docx", "word/document.xml", b"<document><body>", b"<p><r><t>x</t></r></p>", b"</body></document>"),
            id="docx",
        ),
        # Made and refused as the first, by the same code.
        pytest.param(
            *("a.xlsx", "xl/sharedStrings.xml", b"<sst>", b"<si><t>x</t></si>", b"</sst>"),
            id="xlsx",
            marks=pytest.mark.long,
        ),
        pytest.param(
            *("a.pptx", "ppt/slides/slide0.xml", b"<sld>", b" " * 100, b"</sld>"),
            id="pptx",
            marks=pytest.mark.long,
        ),
        pytest.param(*("a.epub", "a.xhtml", b"<html><body>", b"<p>x</p>", b"</body></html>"), id="epub"),
    ],
)


@_BOMBS
def test_archives_that_unpack_to_very_much_are_refused(
    name: str, member: str, head: bytes, block: bytes, tail: bytes
) -> None:
    """A small attachment must not take the memory of the machine."""
    bomb = _bomb(name, member, head, block, tail, 500_000_000)
    assert len(bomb.data) < 8_000_000
    with _reader() as reader:
        reader.check(bomb)
    assert (reader.documents, reader.errors) == (0, 1)


@pytest.mark.long
@_BOMBS
def test_archives_that_unpack_to_what_is_just_allowed_end_in_time(
    name: str, member: str, head: bytes, block: bytes, tail: bytes
) -> None:
    """Where sizes are allowed, the worker's limits of time and memory hold."""
    with _reader() as reader:
        reader.check(_bomb(name, member, head, block, tail, 300_000_000))
    assert reader.documents + reader.errors == 1
