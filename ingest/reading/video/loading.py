"""The content of parts: frames and sheets as JPEG, clips as MP4, with the subtitles of their time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image as PillowImage

from ingest.config import ReadingSettings
from ingest.errors import SourceError, Unreadable
from ingest.reading import Spool
from ingest.reading.grids import grid_of
from ingest.reading.imaging import Fit, to_content
from ingest.reading.sampling import Candidate
from ingest.reading.video import clips
from ingest.reading.video.decoding import Decoder, decode_earlier
from ingest.reading.video.pixels import Painter
from ingest.reading.video.settling import Facts, part_texts
from ingest.reading.video.sheets import draw_sheet
from ingest.reading.video.stream import DAMAGE, Contents, opened, pick_stream, reason
from ingest.types import Content, Image, Loaded, Part, Problem, Rendering, Source, Text, Video

_CELL_QUALITY = 92
"""Cells of a contact sheet are encoded once more when the sheet is."""


def encode(picture: PillowImage.Image, fit: Fit, rendering: Rendering, is_cell: bool) -> Image:
    """A frame as JPEG within the byte limit; cells of a sheet finer."""
    quality = max(_CELL_QUALITY, rendering.jpeg_quality) if is_cell else rendering.jpeg_quality
    # Hardly a video is gray, and looking for colour takes a third as long as encoding.
    return to_content(picture, fit, replace(rendering, jpeg_quality=quality), may_be_gray=False)


def frame_path(spool: Spool, stamp: int) -> Path:
    """Where a kept frame is, in its final size."""
    return spool.folder / f"{stamp}.jpg"


class Loader:
    """Makes the content of parts of one file. `contents` lists its packets when somebody needs them."""

    def __init__(
        self,
        source: Source,
        rendering: Rendering,
        settings: ReadingSettings,
        spool: Spool | None,
        contents: Callable[[], Contents],
    ) -> None:
        self._source, self._rendering, self._settings = source, rendering, settings
        self._spool, self._contents = spool, contents
        self._frames: dict[int, Image | None] = {}

    def load(self, parts: Sequence[Part]) -> Iterator[Loaded]:
        """One result for each part, in the order given."""
        texts = self._texts(parts)
        decoding = self._decode(self._missing(parts))
        for part, text in zip(parts, texts, strict=True):
            try:
                yield Loaded(part, self._content(part, text, decoding))
            except (SourceError, *DAMAGE) as error:
                told = error.message if isinstance(error, SourceError) else reason(error)
                code = error.code if isinstance(error, SourceError) else Unreadable.code
                told = told if told.startswith(self._source.name) else f"{self._source.name}: {told}"
                yield Loaded(part, (), error=Problem("reading", code, told, part.index))

    def _content(self, part: Part, text: str, decoding: Iterator[None]) -> tuple[Content, ...]:
        if part.error is not None:
            raise Unreadable(part.error.message)
        if part.mode == "text":
            return (Text(text),)
        if part.mode == "native":
            content: Content = self._clip(part)
        else:
            while any(not self._has(moment.pts) for moment in part.moments) and next(decoding, self) is None:
                pass
            content = self._picture(part)
        return (Text(text), content) if text and part.mode in ("both", "native") else (content,)

    def _texts(self, parts: Sequence[Part]) -> list[str]:
        """The subtitles of each part; the file is listed for them only when the spool does not have them."""
        if not any(part.text.chars for part in parts):
            return [""] * len(parts)
        facts = Facts.read(self._spool) if self._spool else None
        return part_texts(parts, facts.cues if facts else self._contents().cues)

    def _has(self, stamp: int) -> bool:
        return stamp in self._frames or (self._spool is not None and frame_path(self._spool, stamp).exists())

    def _missing(self, parts: Sequence[Part]) -> list[int]:
        wanted = {
            moment.pts
            for part in parts
            if part.error is None and part.mode in ("image", "both")
            for moment in part.moments
        }
        return sorted(stamp for stamp in wanted if not self._has(stamp))

    def _decode(self, stamps: Sequence[int]) -> Iterator[None]:
        """Decode frames in the order shown, one at each step: whoever needs one steps until it is there."""
        if not stamps:
            return
        timeline = self._contents().timeline
        with opened(self._source) as container:
            stream = pick_stream(container, self._source, self._settings)
            painter = Painter(
                stream.sample_aspect_ratio, self._rendering, self._settings.max_pixels, self._settings.contact_sheet
            )
            candidates = [Candidate(stamp, timeline.anchor(stamp), "even") for stamp in stamps]
            for candidate, frame in Decoder(container, stream).frames(candidates):
                if frame is not None and frame.is_corrupt:
                    frame = decode_earlier(self._source, self._settings, timeline, candidate) or frame
                self._frames[candidate.stamp] = None
                if frame is not None:
                    is_cell = self._settings.contact_sheet > 1
                    image = encode(painter.paint(frame), painter.fit(frame), self._rendering, is_cell)
                    self._frames[candidate.stamp] = image
                yield None

    def _picture(self, part: Part) -> Image:
        images = [self._image(moment.pts, part) for moment in part.moments]
        if len(images) == 1:
            if self._settings.contact_sheet == 1:
                return images[0]
            picture = PillowImage.open(io.BytesIO(images[0].data)).convert("RGB")
            fit = Fit(picture.width, picture.height, picture.width, picture.height)
            return to_content(picture, fit, self._rendering, may_be_gray=False)
        pictures = [PillowImage.open(io.BytesIO(image.data)).convert("RGB") for image in images]
        widest, highest = max(p.width for p in pictures), max(p.height for p in pictures)
        sheet = draw_sheet(pictures, part.moments, grid_of(len(pictures), widest, highest, self._rendering))
        fit = Fit(sheet.width, sheet.height, sheet.width, sheet.height)
        return to_content(sheet, fit, self._rendering, may_be_gray=False)

    def _image(self, stamp: int, part: Part) -> Image:
        image = self._frames.get(stamp)
        if image is not None:
            return image
        if self._spool is not None and stamp not in self._frames:
            data = frame_path(self._spool, stamp).read_bytes()
            return Image(data, "image/jpeg", part.width_px, part.height_px)
        moment = next(moment for moment in part.moments if moment.pts == stamp)
        raise Unreadable(f"{self._source.name}: the frame at {moment.timestamp_s:.2f} s cannot be decoded any more")

    def _clip(self, part: Part) -> Video:
        with opened(self._source) as container:
            stream = pick_stream(container, self._source, self._settings)
            data = clips.cut(container, stream, self._contents().timeline, part, self._rendering)
        duration_s = part.moments[-1].end_s - part.moments[0].start_s
        return Video(data, clips.MEDIA_TYPE, duration_s, self._rendering.clip_fps)
