"""The values that flow between the steps: `Source → Document → Chunk → Request → Reply → Partial → Record`.

All are frozen and slotted; a step makes a new value, it does not fill one in. Values that cross a file or the
wire as JSON are pydantic models and live in `record.py` and `profile.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from ingest.errors import ConfigError

Json: TypeAlias = Any
"""A JSON value: dict, list, str, int, float, bool or None. The one place where `Any` is allowed."""

JsonObject: TypeAlias = dict[str, Any]

PagePolicy: TypeAlias = Literal["auto", "image", "text", "both"]
PageMode: TypeAlias = Literal["image", "text", "both", "native"]
"""How a part is sent; `native` hands over bytes of the file itself: a PDF as it is, a piece of a video."""
PartKind: TypeAlias = Literal["page", "frame", "clip"]
Medium: TypeAlias = Literal["pages", "video"]
"""What a document is made of, which decides the words of the prompt and how values are cited: by page or by time."""
Detail: TypeAlias = Literal["low", "high", "xhigh"]
EvidenceMode: TypeAlias = Literal["none", "part", "quote"]
Rung: TypeAlias = Literal["json_schema", "tool", "prompt"]
FinishReason: TypeAlias = Literal["stop", "length", "content_filter", "tool_calls", "unknown"]
BBox: TypeAlias = tuple[float, float, float, float]
"""(x0, y0, x1, y1), origin top left; the unit stands in the field that holds it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A recorded failure or doubt. `part_index` (from 0) names the page or frame, None the whole document."""

    stage: str
    code: str
    message: str
    part_index: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A document as a program hands it over: one of a path or URL, bytes, or a file opened for reading bytes.

    `name` names the record; bytes need one, and a file unless it has its own. `metadata` is carried into the record
    and has to be JSON. A file is read once, from where it stands to its end, and is not closed.

    Raises ConfigError when there is not exactly one of the three, or no name.
    """

    uri: str | os.PathLike[str] | None = None
    data: bytes | None = field(default=None, repr=False)
    file: BinaryIO | None = None
    name: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.uri, self.data, self.file)) != 1:
            raise ConfigError("an input is one of uri, data and file: give exactly one")
        own = getattr(self.file, "name", "")
        if not self.name and isinstance(own, str) and self.uri is None:
            object.__setattr__(self, "name", own.replace("\\", "/").rpartition("/")[2])
        if not self.name and self.uri is None:
            raise ConfigError("bytes have no name of their own: give the input a name")


@dataclass(frozen=True, slots=True)
class Source:
    """One file to ingest.

    `name` is the relative path that names its record; `path` is where the bytes are; `media_type` comes from the
    bytes, and is "" when nothing recognises them. `uri` is where they came from. `parent` names the e-mail or archive
    that held the file, `metadata` is what the caller's manifest says of it, and `fingerprint` tells cheaply whether it
    changed since another look (size and time of change, or a store's tag); None when its place gives none.
    """

    name: str
    uri: str
    path: Path
    size_bytes: int
    sha256: str
    media_type: str
    parent: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    fingerprint: str | None = None


_REPEATS = re.compile(r"(\S)\1{3,}")
_SPACES = re.compile(r"\s+")
_LINES = re.compile(r"(?<![!-/:-@\[-`{-~])\n+")
_GAPS = re.compile(r" {2,}")
_NUMBER_GAPS = re.compile(r" (?=[0-9])")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z\u00c0-\u024f\u1e00-\u1eff]+")
_CLUSTERS = re.compile(r"[bcdfghjklmnpqrstvwxz]{4,}", re.IGNORECASE | re.ASCII)
_NUMBERS = re.compile(r"[0-9]{1,3}")
_MARKS = re.compile(r"[!-/:-@\[-`{-~]+")
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_ACCENTED = re.compile(r"[\u00c0-\u024f\u1e00-\u1eff]")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_ALPHABETS = re.compile(r"[\u0370-\u03ff\u0530-\u10ff\u1200-\u1dff\u1f00-\u1fff\ufb1d-\ufdff\ufe70-\ufeff]")
_CJK = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class TextStats:
    """What stands in a text, by classes that byte-pair tokenizers treat alike: all the token estimator needs of it.

    `words` are runs of Latin letters, cut where small letters turn to capitals, of which `long_letters` are the letters
    beyond the eleventh, `capitals` the letters of words all in capitals, `accented` those with marks and `clusters` the
    runs of four consonants. `numbers` are groups of up to three digits, `marks` runs of ASCII punctuation. `repeats`
    are runs of one character four times or more, counted as one elsewhere. `gaps` are runs of two spaces or more,
    `number_gaps` spaces before a digit, `lines` runs of line ends that do not follow
    punctuation. `cjk`, `cyrillic`, `alphabets` (all further scripts) and `other` (signs) are characters. `chars` are
    all characters but white space, `spaces` runs of that.
    """

    chars: int = 0
    spaces: int = 0
    words: int = 0
    long_letters: int = 0
    capitals: int = 0
    accented: int = 0
    clusters: int = 0
    numbers: int = 0
    marks: int = 0
    repeats: int = 0
    gaps: int = 0
    number_gaps: int = 0
    lines: int = 0
    cjk: int = 0
    cyrillic: int = 0
    alphabets: int = 0
    other: int = 0

    @classmethod
    def of(cls, text: str) -> TextStats:
        """Count what stands in `text`."""
        white = _SPACES.findall(text)
        chars = len(text) - sum(map(len, white))
        text, repeats = _REPEATS.subn(r"\1", text)
        words = _WORDS.findall(text)
        accented = cjk = cyrillic = alphabets = other = 0
        if not text.isascii():
            foreign = "".join(_FOREIGN.findall(text))
            accented, cjk = len(_ACCENTED.findall(foreign)), len(_CJK.findall(foreign))
            cyrillic, alphabets = len(_CYRILLIC.findall(foreign)), len(_ALPHABETS.findall(foreign))
            other = len(foreign) - accented - cjk - cyrillic - alphabets
        return cls(
            chars=chars,
            spaces=len(white),
            words=len(words),
            long_letters=sum(len(word) - 11 for word in words if len(word) > 11),
            capitals=sum(len(word) for word in words if len(word) > 1 and word.isupper()),
            accented=accented,
            clusters=len(_CLUSTERS.findall(text)),
            numbers=len(_NUMBERS.findall(text)),
            marks=len(_MARKS.findall(text)),
            repeats=repeats,
            gaps=len(_GAPS.findall(text)),
            number_gaps=len(_NUMBER_GAPS.findall(text)),
            lines=len(_LINES.findall(text)),
            cjk=cjk,
            cyrillic=cyrillic,
            alphabets=alphabets,
            other=other,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of a video and the interval it stands for.

    `pts * time_base_num / time_base_den` is the exact stamp of the frame in its stream; `timestamp_s` is the same in
    seconds from the start of the video. The intervals `[start_s, end_s)` of a document's moments, in order, tile the
    video without gap or overlap.
    """

    pts: int
    time_base_num: int
    time_base_den: int
    timestamp_s: float
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """Descriptor of one page, frame or clip: everything planning needs, no pixels.

    `index` counts from 0 within the document. Pages carry their size in points after rotation (`width_pt`,
    `height_pt`); raster pages and frames their size in pixels as they are sent. `text` describes the text that will be
    sent (layout text of a page, subtitles of a frame's interval), zeros when the mode is image. `section` is the
    heading of the outline that starts on this page. `moments` are the frames of a part of a video: one for a frame,
    several for a contact sheet or a clip. `is_break` marks a part before which a chunk may well begin: a heading, a
    scene cut, a pause of the speaker. A part too big for one request is sent as `pieces`, of which this is the one
    numbered `piece` from 0: blocks of its text, tiles of its image. `text_key` identifies text that may come from
    another file than the source, subtitles beside a video, so that a change of it is another question. `error` is set
    when the part cannot be read: it is never sent, and the record says why. `unsent` is the text layer of a page sent
    as an image alone, as it would be sent as text: empty of a blank page, None where the page has none; only prices of
    other settings need it.
    """

    index: int
    kind: PartKind
    mode: PageMode
    width_pt: float = 0.0
    height_pt: float = 0.0
    width_px: int = 0
    height_px: int = 0
    rotation: int = 0
    text: TextStats = TextStats()
    section: str | None = None
    moments: tuple[Moment, ...] = ()
    is_break: bool = False
    piece: int = 0
    pieces: int = 1
    text_key: str = ""
    error: Problem | None = None
    unsent: TextStats | None = None

    @property
    def number(self) -> int:
        """The number shown to people and to the model, from 1."""
        return self.index + 1

    @property
    def key(self) -> str:
        """Identity within the source: enters the request key."""
        stamps = "".join(f":{moment.pts}" for moment in self.moments)
        piece = f"/{self.piece}:{self.pieces}" if self.pieces > 1 else ""
        text = f"+{self.text_key}" if self.text_key else ""
        return f"{self.kind}:{self.index}:{self.mode}{stamps}{piece}{text}"


@dataclass(frozen=True, slots=True)
class Document:
    """A probed source: its parts in reading order, and what was found wrong while probing.

    `notes` are what was put right and cost nothing, such as a damaged table of contents.
    """

    source: Source
    parts: tuple[Part, ...]
    title: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def medium(self) -> Medium:
        """Pages or video."""
        return "video" if any(part.moments for part in self.parts) else "pages"


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a page, image or frame becomes pixels. Computed from the profile and the settings; enters the request key.

    Images are scaled to at most `max_pixels` keeping the aspect ratio, never above; their encoded size stays at or
    below `max_bytes`, their sides at or above `min_side_px`, their aspect ratio within `max_aspect_ratio` (padding with
    white). Frames of a video are scaled to at most `frame_max_pixels`, never above their own size; `frames_per_request`
    is how many of them one request holds in the cheap tier, which sets the rate of `--fps auto`; an image of fewer
    pixels than `frame_free_pixels` costs no less. Clips of a video that is sent as such stay below `clip_max_bytes`,
    before base64 makes them a third larger, and `clip_max_s`; the model samples them at `clip_fps`.
    """

    max_pixels: int
    max_bytes: int
    min_side_px: int
    max_aspect_ratio: float
    jpeg_quality: int
    frame_max_pixels: int = 2_257_920
    frames_per_request: int = 90
    frame_free_pixels: int = 0
    clip_max_bytes: int = 36_000_000
    clip_max_s: float = 300.0
    clip_fps: float = 1.0

    @property
    def key(self) -> str:
        """Identity of the settings."""
        return (
            f"{self.max_pixels}:{self.max_bytes}:{self.min_side_px}:{self.max_aspect_ratio:g}:{self.jpeg_quality}"
            f":{self.frame_max_pixels}"
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A text content part: the text of a page, laid out as on the page."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image content part: encoded bytes ready to be sent."""

    data: bytes
    media_type: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Video:
    """A video content part: a whole file of its own, and the rate at which the model is to sample it."""

    data: bytes
    media_type: str
    duration_s: float
    fps: float


@dataclass(frozen=True, slots=True)
class File:
    """A document content part: the bytes of a file the model reads itself. `name` is made by us, never the user's."""

    data: bytes
    media_type: str
    name: str
    pages: int


Content: TypeAlias = Text | Image | Video | File


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a page and where it stands. `bbox` in points of the page as displayed (rotation applied)."""

    text: str
    bbox: BBox


@dataclass(frozen=True, slots=True)
class Loaded:
    """The content of one part, ready to send, and the words of its text layer (empty without one).

    `error` is set, and `contents` empty, when the part could be probed but not loaded.
    """

    part: Part
    contents: tuple[Content, ...]
    words: tuple[Word, ...] = ()
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Input tokens of something: the expected value, and one that is not passed."""

    expected: int
    safe: int

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.expected + other.expected, self.safe + other.safe)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Parts sent together. A part is owned by exactly one chunk; neighbours may carry it as context.

    `estimate` is the input tokens of its parts, `answer` the output tokens to expect.
    """

    index: int
    owned: tuple[Part, ...]
    context: tuple[Part, ...] = ()
    estimate: Estimate = Estimate(0, 0)
    answer: Estimate = Estimate(0, 0)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts carried, in reading order."""
        return tuple(sorted((*self.owned, *self.context), key=lambda part: (part.index, part.piece)))


@dataclass(frozen=True, slots=True)
class Observation:
    """What one answered request teaches about token counts.

    `counts` are the expected input tokens by content kind (text, image, frame, video, file, fixed) before any
    calibration, `owned_tokens` those of the owned parts alone; `input_tokens` and `output_tokens` (without reasoning)
    are what the server counted.
    """

    counts: tuple[tuple[str, int], ...]
    owned_tokens: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the model, before any protocol: `wire/` turns it into an HTTP call.

    `contents` are the content parts of the one user message, in order. `schema` is the chunk schema. `parameters`
    holds the model's own settings by gateway name (`max_tokens`, `enable_thinking`, `image_detail` …), already
    range-checked.
    """

    key: str
    model: str
    system: str
    contents: tuple[Content, ...]
    schema: JsonObject
    schema_name: str
    rung: Rung
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request as one protocol writes it: path below the base URL and JSON body. Secrets are the client's."""

    path: str
    body: JsonObject


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A response as it came: status, lower-case headers, and the JSON body (None when it is not JSON)."""

    status: int
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the server counted them. `output_tokens` includes `reasoning_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """What one call cost by kind of token, in US dollars. `tier` is the greatest input of the price tier that bills it.

    `input_usd` is for input that was not cached, `output_usd` for the visible answer.
    """

    tier: int
    input_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal
    reasoning_usd: Decimal

    @property
    def total_usd(self) -> Decimal:
        """The whole of it."""
        return self.input_usd + self.cached_usd + self.output_usd + self.reasoning_usd


@dataclass(frozen=True, slots=True)
class PageWords:
    """Words the model's side read from a part's image (local engine); boxes are fractions of the image, 0 to 1.

    A frame comes with its `time_s` and no number; the engine turns the time into the part's number. Of a page sent in
    `pieces` it is the image of the one numbered `piece` from 0, which the engine tells by the order.
    """

    part_number: int | None
    words: tuple[Word, ...]
    time_s: float | None = None
    piece: int = 0
    pieces: int = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, whatever the protocol. `text` is the JSON text (or the tool's arguments)."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    request_id: str | None = None
    page_words: tuple[PageWords, ...] = ()


@dataclass(frozen=True, slots=True)
class Cite:
    """Where the model says a value stands: the part's number (from 1) and, when asked for, the words quoted.

    Values of a video are cited by `time_s`, seconds from its start, which the engine turns into a part's number.
    """

    part_number: int | None
    quote: str | None = None
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """One chunk's data in the user's own shape, with the model's cites by JSON Pointer.

    `data` may lack required values: every leaf is nullable in a chunk. A pointer in `cites` names a leaf, or an
    array item whose leaves share the cite.
    """

    chunk: Chunk
    data: Json
    cites: dict[str, Cite]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person watching would like to know; fields beside `kind` are filled where they apply."""

    kind: Literal[
        "run_started",
        "run_planned",
        "document_started",
        "document_planned",
        "request_started",
        "request_finished",
        "document_finished",
        "run_finished",
    ]
    name: str = ""
    documents: int = 0
    parts: int = 0
    chunks: int = 0
    requests: int = 0
    from_ledger: bool = False
    expected_usd: Decimal | None = None
    ceiling_usd: Decimal | None = None
    status: str = ""
    message: str = ""


Observer: TypeAlias = Callable[[Event], None]
