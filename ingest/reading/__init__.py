"""Files to parts, parts to content.

`EXTRACTORS` is the table of what can be read: media type to `"module:attribute"`, imported on first use, so that nobody
pays for a library he does not need. Other packages add extractors under the entry point group `ingest.extractors`; an
entry is named by its media type.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from ingest.config import ReadingSettings
from ingest.errors import Encrypted, UnsupportedMedia
from ingest.reading.media import ENCRYPTED_OFFICE, VIDEO_TYPES
from ingest.reading.sampling import Candidate
from ingest.types import Document, Loaded, Moment, Part, Problem, Rendering, Source

_PAGED = "ingest.reading.paged:EXTRACTOR"
_IMAGE = "ingest.reading.image:EXTRACTOR"
_OPENXML = "application/vnd.openxmlformats-officedocument."

EXTRACTORS: dict[str, str] = {
    "application/pdf": _PAGED,
    "application/vnd.ms-xpsdocument": _PAGED,
    "application/epub+zip": _PAGED,
    f"{_OPENXML}wordprocessingml.document": _PAGED,
    f"{_OPENXML}presentationml.presentation": _PAGED,
    f"{_OPENXML}spreadsheetml.sheet": _PAGED,
    "text/html": _PAGED,
    "image/svg+xml": _PAGED,
    "text/plain": _PAGED,
    "text/markdown": _PAGED,
    "text/csv": _PAGED,
    "application/json": _PAGED,
    "application/xml": _PAGED,
    "message/rfc822": _PAGED,
    "application/vnd.ms-outlook": _PAGED,
    "image/jpeg": _IMAGE,
    "image/png": _IMAGE,
    "image/webp": _IMAGE,
    "image/gif": _IMAGE,
    "image/bmp": _IMAGE,
    "image/tiff": _IMAGE,
    "image/jp2": _IMAGE,
    "image/avif": _IMAGE,
    "image/heic": _IMAGE,
    **dict.fromkeys(VIDEO_TYPES, "ingest.reading.video:EXTRACTOR"),
}

DEFAULT_RENDERING = Rendering(
    max_pixels=2_257_920, max_bytes=700_000, min_side_px=15, max_aspect_ratio=150.0, jpeg_quality=80
)
"""What videos are opened by when nobody says how their frames will be sent: the figures of the default profile."""

_TO_PDF = "save it as PDF or DOCX (LibreOffice: soffice --headless --convert-to pdf FILE)"

# What people hand us that no extractor reads, and the way out.
_WAYS_OUT: dict[str, str] = {
    "application/vnd.oasis.opendocument": _TO_PDF,
    "application/rtf": _TO_PDF,
    "application/msword": _TO_PDF,
    "application/vnd.ms-excel": "save it as PDF or XLSX (LibreOffice: soffice --headless --convert-to xlsx FILE)",
    "application/vnd.ms-powerpoint": "save it as PDF or PPTX (LibreOffice: soffice --headless --convert-to pptx FILE)",
    "application/zip": "unpack it and give the folder",
    "video/": "convert it to MP4 (ffmpeg -i FILE out.mp4)",
    "audio/": "sound has no pages and no picture to read",
    "": "its bytes are of no kind known here; convert it to PDF or an image",
}


@runtime_checkable
class Extractor(Protocol):
    """How one family of files becomes parts and content. Open to outside packages; nothing to inherit.

    Calls run in a worker process. Both raise `SourceError`s; anything else they raise is reported as `Unreadable`.
    """

    media_types: tuple[str, ...]

    def open(self, source: Source, settings: ReadingSettings) -> Document:
        """Descriptors of all parts in reading order, cheaply: no pixel is made. The same file gives the same value.

        A part that cannot be read carries its `error`; the file is refused only when no part can be had.
        """
        ...

    def load(
        self, document: Document, parts: Sequence[Part], rendering: Rendering, settings: ReadingSettings
    ) -> Iterable[Loaded]:
        """The content of `parts`, one result for each in the order given.

        A part that fails gives a `Loaded` with `error`, and the others go on. An iterator is welcome: each result is
        handed on as it comes, and time is counted for each.
        """
        ...


@dataclass(frozen=True, slots=True)
class Probed:
    """A part's descriptor and the doubts found while probing it.

    The rest is for candidates of a `SampledExtractor`: `is_kept` unless the frame repeats one before it, `is_cut` when
    another scene begins with it, `stored_bytes` what was written to the spool.
    """

    part: Part
    problems: tuple[Problem, ...] = ()
    is_kept: bool = True
    is_cut: bool = False
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder for one document between opening and sending, so that no frame is decoded twice.

    Finding the frames worth sending needs their pixels, and sending them needs the same pixels a moment later. With
    `keeps_frames` they are put here as JPEG in their final size; without it (when nothing will be sent, or the disk
    space for it is used up) they are decoded again. It also holds what is compared between spans, and subtitles.
    """

    folder: Path
    keeps_frames: bool


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a video that one worker decodes on its own.

    `first_index` numbers its first candidate among all. Parts are made of candidates when they are needed: a long video
    has many more candidates than parts. `origin` is the stamp of second 0, in units of `time_base_num / time_base_den`.
    """

    candidates: tuple[Candidate, ...]
    first_index: int
    origin: int
    time_base_num: int
    time_base_den: int

    @property
    def parts(self) -> tuple[Part, ...]:
        """The part that each candidate would become."""
        return tuple(self._part(self.first_index + at, each.stamp) for at, each in enumerate(self.candidates))

    def _part(self, index: int, stamp: int) -> Part:
        time_s = float(Fraction((stamp - self.origin) * self.time_base_num, self.time_base_den))
        moment = Moment(stamp, self.time_base_num, self.time_base_den, time_s, time_s, time_s)
        return Part(index, "frame", "image", moments=(moment,))

    def rest(self, count: int) -> Span:
        """The last `count` candidates."""
        done = len(self.candidates) - count
        return replace(self, candidates=self.candidates[done:], first_index=self.first_index + done)


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of a video before anything is decoded.

    `document` has its parts already when there are no `spans` to look at; else they come from looking and settling.
    """

    document: Document
    spans: tuple[Span, ...] = ()


@runtime_checkable
class PagewiseExtractor(Extractor, Protocol):
    """An extractor that can probe some pages of a file alone.

    Long documents are then shared among workers, and a page that hangs or kills its worker is known and left out.
    """

    def survey(self, source: Source, settings: ReadingSettings) -> Document:
        """The document with as many parts as it has pages, and nothing known of them but their index."""
        ...

    def probe(self, document: Document, indices: Sequence[int], settings: ReadingSettings) -> Iterable[Probed]:
        """The descriptors of the pages at `indices`, one result for each in the order given."""
        ...


@runtime_checkable
class SampledExtractor(Extractor, Protocol):
    """An extractor that picks its parts from very many frames: videos.

    Opening has three steps, so that long files are shared among workers, and no step holds the whole file: `scan` lists
    candidates without decoding; `look` decodes the candidates of one span and tells which repeat those before them;
    `settle` does the same across the borders of spans, and makes the parts. Spans depend on the file alone, never on
    the number of workers, so that every machine finds the same parts. Unlike pages, parts depend on the rendering: how
    many frames a request holds sets the rate, and their size what can be told apart.
    """

    def scan(self, source: Source, rendering: Rendering, settings: ReadingSettings, spool: Spool) -> Scan:
        """The candidates of a file in spans, or its parts if they can be told without decoding."""
        ...

    def look(
        self, document: Document, span: Span, rendering: Rendering, settings: ReadingSettings, spool: Spool
    ) -> Iterable[Probed]:
        """One result for each candidate of the span, in order."""
        ...

    def settle(
        self,
        document: Document,
        probed: Sequence[Probed],
        rendering: Rendering,
        settings: ReadingSettings,
        spool: Spool,
    ) -> Document:
        """The document, from what was kept of all spans in order: parts with the intervals they stand for."""
        ...

    def fetch(
        self,
        document: Document,
        parts: Sequence[Part],
        rendering: Rendering,
        settings: ReadingSettings,
        spool: Spool | None,
    ) -> Iterable[Loaded]:
        """As `load`, with what the spool holds taken from there."""
        ...


def can_extract(media_type: str) -> bool:
    """Whether an extractor knows files of this kind: archives hold documents and are none."""
    return media_type in EXTRACTORS or media_type in _outside_extractors()


def extractor_for(media_type: str, name: str = "the file") -> Extractor:
    """The extractor of a media type. `name` is the file's name for the message.

    Raises UnsupportedMedia when there is none, or when it needs a package that is not installed; Encrypted for Office
    files with a password, which nothing here opens.
    """
    if media_type == ENCRYPTED_OFFICE:
        raise Encrypted(
            f"{name} is an encrypted Office file: save it without a password (--password opens PDF files only)"
        )
    address = EXTRACTORS.get(media_type) or _outside_extractors().get(media_type)
    if address is None:
        kind = media_type or "of unknown kind"
        raise UnsupportedMedia(f"{name} is {kind}, which cannot be read: {_way_out(media_type)}")
    module, _, attribute = address.partition(":")
    extractor = getattr(importlib.import_module(module), attribute)
    if isinstance(extractor, type):
        extractor = extractor()
    if not isinstance(extractor, Extractor):
        raise UnsupportedMedia(
            f"{name} is {media_type}: {address} is not an extractor; update the package it comes from"
        )
    return extractor


def _way_out(media_type: str) -> str:
    for prefix, way_out in _WAYS_OUT.items():
        if prefix and media_type.startswith(prefix):
            return way_out
    return _WAYS_OUT[""] if not media_type else "convert it to PDF or an image"


@cache
def _outside_extractors() -> dict[str, str]:
    return {entry.name: entry.value for entry in entry_points(group="ingest.extractors")}
