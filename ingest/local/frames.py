"""What a request shows of a video: frames after their times, with the subtitles of their time.

The form, inside `<document seconds="613.2">` … `</document>`: a line `[12.0 second]`, with ` context="yes"` behind it
on a frame sent for understanding only; perhaps subtitles between `<subtitles>` and `</subtitles>`; then the image. An
image after several times, `[12.0 second] [14.0 second] grid="2x1"`, holds one frame for each, in columns and rows.
Behind the last frame of the video may stand `[613.2 second] end of the video`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ingest.local.contract import Part, TextPart
from ingest.local.images import ImagePart

_OPENING = re.compile(
    r'^[ \t]*<document\b[^<>]{0,100}\bseconds="(?P<seconds>\d{1,9}(?:\.\d{1,6})?)"[^<>]{0,100}>[ \t]*$', re.M
)
_CLOSING = re.compile(r"^[ \t]*</document>", re.MULTILINE)
_STAMP = r"\[(?:\d{1,9}(?:\.\d{1,6})?) second\]"
_HEADING = re.compile(rf'(?P<stamps>{_STAMP}(?: {_STAMP}){{0,99}})(?P<rest>(?: \w+="[^"<>]{{0,40}}")*)')
_END = re.compile(rf"{_STAMP} end of the video")
_SECONDS = re.compile(r"\d+(?:\.\d+)?")
_GRID = re.compile(r'\bgrid="(\d{1,2})x(\d{1,2})"')


@dataclass(frozen=True, slots=True)
class SentFrame:
    """An image of a video as it was sent: one frame, or several in a grid of (columns, rows).

    `times_s` has the time of each frame in seconds from the start of the video, `subtitles` what is said from then on.
    """

    times_s: tuple[float, ...]
    image: bytes | None = None
    subtitles: str = ""
    is_context: bool = False
    grid: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class SentVideo:
    """The frames of a request, the text before and after them, and the end of the video where it is told."""

    frames: tuple[SentFrame, ...]
    before: str
    after: str
    end_s: float | None = None


def read_frames(parts: Sequence[Part]) -> SentVideo | None:
    """The frames in the parts of the user's messages; None when these show no video."""
    reader = _Frames()
    for part in parts:
        if isinstance(part, ImagePart):
            reader.take_image(part.data)
        elif isinstance(part, TextPart):
            reader.take_text(part.text)
    if not reader.was_inside:
        return None
    return SentVideo(tuple(reader.frames), "\n".join(reader.before), "\n".join(reader.after), reader.end_s)


@dataclass(slots=True)
class _Frames:
    """Reads parts in order."""

    frames: list[SentFrame] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    end_s: float | None = None
    is_inside: bool = False
    was_inside: bool = False

    def take_image(self, data: bytes) -> None:
        """The image of the frame whose time stands before it."""
        if self.is_inside and self.frames and self.frames[-1].image is None:
            self.frames[-1] = replace(self.frames[-1], image=data)

    def take_text(self, text: str) -> None:
        """Text outside the document, or times, subtitles and the end of the video inside it."""
        while text:
            tag = (_CLOSING if self.is_inside else _OPENING).search(text)
            piece = text[: tag.start()] if tag else text
            if self.is_inside:
                self._take_lines(piece)
            elif piece.strip():
                (self.after if self.was_inside else self.before).append(piece)
            if tag is None:
                return
            self.is_inside = not self.is_inside
            self.was_inside = True
            text = text[tag.end() :]

    def _take_lines(self, text: str) -> None:
        spoken: list[str] | None = None
        for line in text.splitlines():
            if line.strip() == "<subtitles>":
                spoken = []
            elif line.strip() == "</subtitles>" and spoken is not None:
                self._add_subtitles("\n".join(spoken))
                spoken = None
            elif spoken is not None:
                spoken.append(line)
            else:
                self._take_heading(line.strip())

    def _add_subtitles(self, text: str) -> None:
        if self.frames:
            self.frames[-1] = replace(self.frames[-1], subtitles=text.strip())

    def _take_heading(self, line: str) -> None:
        if _END.fullmatch(line):
            self.end_s = _times(line)[0]
            return
        match = _HEADING.fullmatch(line)
        if match is None:
            return
        times = _times(match["stamps"])
        grid = _GRID.search(match["rest"])
        shape = (max(int(grid[1]), 1), max(int(grid[2]), 1)) if grid else (len(times), 1)
        self.frames.append(SentFrame(times, is_context=' context="yes"' in match["rest"], grid=shape))


def _times(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in _SECONDS.findall(text))
