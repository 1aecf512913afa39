"""Videos: packets are listed, candidates decoded, repeats dropped, and what is left is sent as frames at their times.

FFmpeg reads them, through PyAV, which is imported in this folder only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from av.video.frame import VideoFrame
from PIL import Image as PillowImage

from ingest.config import ReadingSettings
from ingest.errors import TooLarge, Unreadable
from ingest.reading import DEFAULT_RENDERING, Probed, Scan, Span, Spool
from ingest.reading.imaging import Fit
from ingest.reading.media import VIDEO_TYPES
from ingest.reading.sampling import MIN_FPS, Candidate, Timeline, auto_fps, choose, split
from ingest.reading.video import clips
from ingest.reading.video.decoding import Decoder, decode_earlier
from ingest.reading.video.likeness import Difference, compare, look_at, save_look
from ingest.reading.video.loading import Loader, encode, frame_path
from ingest.reading.video.pixels import Painter
from ingest.reading.video.settling import Facts, look_path, settle
from ingest.reading.video.stream import DAMAGE, Contents, open_container, pick_stream, reason, survey
from ingest.reading.video.subtitles import read_sidecar
from ingest.types import Document, Loaded, Part, Problem, Rendering, Source


class VideoExtractor:
    """Reads videos with FFmpeg. Remembers what it listed of the last file, which is mostly asked for again."""

    media_types = VIDEO_TYPES

    def __init__(self) -> None:
        self._last: tuple[tuple[str, int | None, bool], Contents] | None = None
        self._open: tuple[tuple[str, str, int | None], Decoder] | None = None

    def open(self, source: Source, settings: ReadingSettings, rendering: Rendering = DEFAULT_RENDERING) -> Document:
        """All steps of opening in one go."""
        with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
            spool = Spool(Path(folder), keeps_frames=False)
            found = self.scan(source, rendering, settings, spool)
            if not found.spans:
                return found.document
            looks = (self.look(found.document, span, rendering, settings, spool) for span in found.spans)
            kept = [each for results in looks for each in results if each.is_kept]
            self._close()
            return self.settle(found.document, kept, rendering, settings, spool)

    def load(
        self, document: Document, parts: Sequence[Part], rendering: Rendering, settings: ReadingSettings
    ) -> Iterator[Loaded]:
        """The frames, sheets or clips of `parts`, decoded from the file."""
        return self.fetch(document, parts, rendering, settings, None)

    def scan(self, source: Source, rendering: Rendering, settings: ReadingSettings, spool: Spool) -> Scan:
        """Candidates in spans for frames, the parts themselves for clips."""
        contents = self._contents(source, settings)
        timeline = contents.timeline
        problems = (Problem("reading", Unreadable.code, contents.doubt),) if contents.doubt else ()
        document = Document(source, (), problems=problems)
        if settings.video == "native":
            return Scan(replace(document, parts=clips.plan(timeline, contents.codec, rendering)))
        per_request = rendering.frames_per_request * settings.contact_sheet
        fps = settings.fps if settings.fps != "auto" else auto_fps(timeline, per_request, settings.max_frames)
        _check_count(source, timeline, fps, settings)
        Facts(timeline.duration_s, contents.declared_s, contents.is_cut_off, contents.cues).save(spool)
        base, spans, index = timeline.time_base, [], 0
        for members in split(timeline, choose(timeline, fps)):
            spans.append(Span(members, index, timeline.stamps[0], base.numerator, base.denominator))
            index += len(members)
        return Scan(document, tuple(spans))

    def look(
        self, document: Document, span: Span, rendering: Rendering, settings: ReadingSettings, spool: Spool
    ) -> Iterator[Probed]:
        """Decode the candidates of a span, and tell which of them show something new."""
        source = document.source
        with self._decoder(source, settings) as decoder:
            aspect = decoder.stream.sample_aspect_ratio
            painter = Painter(aspect, rendering, settings.max_pixels, settings.contact_sheet)
            viewer = _Viewer(source, painter, rendering, settings, spool)
            for (candidate, frame), part in zip(decoder.frames(span.candidates), span.parts, strict=True):
                if frame is not None and frame.is_corrupt and decoder.began_at_keyframe:
                    frame = decode_earlier(source, settings, self._contents(source, settings).timeline, candidate)
                probed = viewer.view(candidate, frame, part)
                if probed.is_kept and decoder.has_lost and decoder.began_at_keyframe:
                    # Those behind it heal, as most of the picture is drawn anew: one is named for all.
                    decoder.has_lost = False
                    probed = viewer.leave_out(probed)
                yield probed
            viewer.finish()

    def settle(
        self,
        document: Document,
        probed: Sequence[Probed],
        rendering: Rendering,
        settings: ReadingSettings,
        spool: Spool,
    ) -> Document:
        """The parts, and the doubts about frames that stay."""
        self._close()
        facts = Facts.read(spool)
        if facts is None:
            raise Unreadable(f"{document.source.name}: its temporary files have vanished; run again")
        parts = settle(document.source.name, probed, facts, rendering, settings.contact_sheet, spool)
        doubts = tuple(problem for each in probed for problem in each.problems)
        return replace(document, parts=parts, problems=document.problems + doubts)

    def fetch(
        self,
        document: Document,
        parts: Sequence[Part],
        rendering: Rendering,
        settings: ReadingSettings,
        spool: Spool | None,
    ) -> Iterator[Loaded]:
        """The content of `parts`; frames that the spool holds are not decoded again."""
        source = document.source
        loader = Loader(source, rendering, settings, spool, lambda: self._contents(source, settings))
        return loader.load(parts)

    @contextmanager
    def _decoder(self, source: Source, settings: ReadingSettings) -> Iterator[Decoder]:
        """The file opened and its stream ready to be decoded, kept for the next span: a long video has many, and its
        index takes long to read. After an error, or a stop half way, it is closed."""
        key = (source.sha256, str(source.path), settings.video_stream)
        kept, self._open = self._open, None
        if kept is not None and kept[0] != key:
            kept[1].container.close()
            kept = None
        decoder = kept[1] if kept is not None else self._opened_decoder(source, settings)
        try:
            yield decoder
        except BaseException:
            decoder.container.close()
            raise
        self._open = key, decoder

    def _opened_decoder(self, source: Source, settings: ReadingSettings) -> Decoder:
        container = open_container(source)
        try:
            return Decoder(container, pick_stream(container, source, settings))
        except BaseException:
            container.close()
            raise

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].container.close()
            self._open = None

    def _contents(self, source: Source, settings: ReadingSettings) -> Contents:
        key = (source.sha256, settings.video_stream, settings.subtitles)
        if self._last is None or self._last[0] != key:
            sidecar = read_sidecar(source.path) if settings.subtitles else None
            contents = survey(source, settings, with_subtitles=settings.subtitles and sidecar is None)
            self._last = key, contents if sidecar is None else replace(contents, cues=sidecar)
        return self._last[1]


EXTRACTOR = VideoExtractor()


class _Viewer:
    """Looks at the candidates of one span in order."""

    def __init__(
        self, source: Source, painter: Painter, rendering: Rendering, settings: ReadingSettings, spool: Spool
    ) -> None:
        self._source, self._painter, self._rendering, self._spool = source, painter, rendering, spool
        self._is_sheet = settings.contact_sheet > 1
        self._room_bytes = settings.max_output_bytes
        self._kept: tuple[int, PillowImage.Image] | None = None
        self._seen: PillowImage.Image | None = None
        self._stood_still = False

    def view(self, candidate: Candidate, frame: VideoFrame | None, part: Part) -> Probed:
        """What a candidate becomes. One that was only a guess and cannot be decoded is dropped without a word."""
        time_s = part.moments[0].timestamp_s
        if frame is None:
            problem = self._problem(time_s, "cannot be decoded, or in part only: the file is damaged there", part.index)
            return Probed(replace(part, error=problem), is_kept=candidate.kind == "even")
        try:
            picture, fit = self._painter.paint(frame), self._painter.fit(frame)
        except TooLarge as error:
            problem = Problem("reading", error.code, f"{self._source.name}: {error.message}", part.index)
            return Probed(replace(part, error=problem), is_kept=candidate.kind == "even")
        except DAMAGE as error:
            problem = self._problem(time_s, f"cannot be shown ({reason(error)})", part.index)
            return Probed(replace(part, error=problem), is_kept=candidate.kind == "even")
        look = look_at(picture)
        is_kept, is_cut = self._judge(candidate, look)
        self._seen = look
        if not is_kept:
            return Probed(part, is_kept=False)
        if self._kept is None:
            save_look(look, look_path(self._spool, candidate.stamp))
        self._kept = candidate.stamp, look
        part = replace(part, width_px=fit.canvas_width_px, height_px=fit.canvas_height_px)
        return Probed(part, is_cut=is_cut, stored_bytes=self._store(candidate.stamp, picture, fit))

    def leave_out(self, probed: Probed) -> Probed:
        """A kept frame that shows traces of a lost one, as one that cannot be read."""
        if probed.part.error is not None:
            return probed
        told = "leans on one that cannot be decoded, and is left out: the file is damaged there"
        problem = self._problem(probed.part.moments[0].timestamp_s, told, probed.part.index)
        return replace(probed, part=replace(probed.part, error=problem))

    def finish(self) -> None:
        """Leave the last frame kept to be compared with the first of the next span."""
        if self._kept is not None:
            save_look(self._kept[1], look_path(self._spool, self._kept[0]))

    def _judge(self, candidate: Candidate, look: PillowImage.Image) -> tuple[bool, bool]:
        """Whether a frame is kept, and whether another scene begins with it."""
        if self._kept is None or self._seen is None:
            return True, False
        change = compare(self._kept[1], look)
        since = change if self._seen is self._kept[1] else compare(self._seen, look)
        is_cut = since.is_cut(self._stood_still)
        self._stood_still = since.is_repeat
        return _is_new(candidate, change, is_cut), is_cut

    def _store(self, stamp: int, picture: PillowImage.Image, fit: Fit) -> int:
        if not self._spool.keeps_frames or self._room_bytes <= 0:
            return 0
        image = encode(picture, fit, self._rendering, self._is_sheet)
        self._room_bytes -= len(image.data)
        frame_path(self._spool, stamp).write_bytes(image.data)
        return len(image.data)

    def _problem(self, time_s: float, what: str, index: int) -> Problem:
        return Problem("reading", Unreadable.code, f"{self._source.name}: the frame at {time_s:.2f} s {what}", index)


def _is_new(candidate: Candidate, change: Difference, is_cut: bool) -> bool:
    return not change.is_repeat and (candidate.kind != "scout" or is_cut)


def _check_count(source: Source, timeline: Timeline, fps: float, settings: ReadingSettings) -> None:
    count = round(timeline.duration_s * fps)
    if count > settings.max_frames:
        way_out = "give a lower --fps, or raise max_frames" if fps > MIN_FPS else "raise max_frames"
        raise TooLarge(
            f"{source.name} has {timeline.duration_s:,.0f} s, {count:,} frames at {fps:g} a second, more than the"
            f" limit of {settings.max_frames:,}: {way_out}"
        )
