"""OCR: images to pages. Runs in the process that `eyes.py` starts; it alone decodes pixels for reading.

The OCR models lie inside the `rapidocr` wheel; nothing is downloaded and no connection is opened.
"""

from __future__ import annotations

import io
import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ingest.errors import Unreadable
from ingest.local.page import Line, Page, Segment, Token, median, turn

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Pixels = NDArray[numpy.uint8]

_Word = tuple[str, list[tuple[float, float]]]
_Boxed = tuple[Token, int]  # a word and the number of the line the engine found it in

_CACHED_FRAMES = 64
# Share of a cell of a contact sheet in which its time stands, and the forms OCR gives to `12.0 s`.
_STRIP_SHARE = 0.2
_STAMP = re.compile(r"\d+(?:[.,: ]+\d+)*\s*[sS5]?")
# Letters of a frame are still some pixels high at this size, so that a changed one shows.
_THUMBNAIL_PX = 640
# Most by which a grey value (0 to 255) of the same picture differs after compression, as measured with H.264 and JPEG.
_SAME_GREY = 24
# The detector sees at most this many pixels along the longer side; more costs time and finds nothing in print.
_MAX_SIDE_PX = 2000
_MAX_PIXELS = 200_000_000
_MAX_ASPECT = 8
_LEAST_CONTRAST = 20
# A page whose letters are recognised with less confidence than this may be turned.
_POOR_CONFIDENCE = 0.88
_MIN_SKEW_RAD = 0.002
_MAX_SKEW_RAD = 0.35
# White space that parts segments, in heights of the line; wider where the engine itself saw one line of text.
_SEGMENT_GAP_HEIGHTS = 0.75
_SEGMENT_GAP_WITHIN = 1.6
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]")
_LABEL_GLUED = re.compile(r"^([^\W\d_][\w.()/#&-]*[:])(?!//)([^\s:].*)$")
_MARK_GLUED = re.compile(r"^(-?(?:RM|[$€£])?\d[\d.,]*[.,]\d{2})([A-Z]{1,2})$")
_TOWN_GLUED = re.compile(r"^(\d{5})([A-Z][A-Za-z]+[,.]?)$")
# The letter O where only a zero can stand: after a currency or a sign, before two decimals.
_ZERO_AS_LETTER = re.compile(r"^(-?(?:RM|[$€£])?)[oO]([.,]\d{2}(?!\d))")
# Full-width forms of ASCII, which the engine prints near CJK text.
_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SPACED_LETTERS = 4
_SPACED_GAP_HEIGHTS = 0.9


def read_image(data: bytes) -> Page:
    """A page read from an encoded image, with number 0. Raises Unreadable when the bytes cannot be decoded."""
    return _recognise_upright(_decode(data))


def read_frame(data: bytes) -> Page:
    """A frame of a video, with number 0; one that looks the same as an earlier one is that one. Raises Unreadable."""
    return _FRAMES.get(_decode(data))


def read_cells(data: bytes, columns: int, rows: int, count: int) -> Iterator[Page]:
    """The first `count` cells of a contact sheet, without the times drawn above them. Raises Unreadable."""
    pixels = _decode(data)
    height, width = pixels.shape[:2]
    for cell in range(min(count, columns * rows)):
        row, column = divmod(cell, columns)
        top, bottom = height * row // rows, height * (row + 1) // rows
        left, right = width * column // columns, width * (column + 1) // columns
        page = _FRAMES.get(pixels[top:bottom, left:right])
        yield replace(page, lines=tuple(line for line in page.lines if not _is_stamp(line, page)))


def _is_stamp(line: Line, page: Page) -> bool:
    """Whether a line in the strip above a frame is a time."""
    return line.y1 < _STRIP_SHARE * page.height and bool(_STAMP.fullmatch(line.text.strip()))


class _FrameCache:
    """Frames read by OCR with a small picture of each: compression makes the same picture anew at every keyframe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._frames: deque[tuple[Pixels, Page]] = deque(maxlen=size)

    def get(self, pixels: Pixels) -> Page:
        """The frame in these pixels, with number 0."""
        small = _thumbnail(pixels)
        for known, page in reversed(self._frames):
            if _looks_same(known, small):
                return page
        page = _recognise_upright(pixels)
        self._frames.append((small, page))
        return page


def _thumbnail(pixels: Pixels) -> Pixels:
    """The image in grey, its longer side at most `_THUMBNAIL_PX`."""
    import numpy
    from PIL import Image

    image = Image.fromarray(numpy.ascontiguousarray(pixels[:, :, ::-1])).convert("L")
    factor = _THUMBNAIL_PX / max(image.size)
    if factor < 1:
        image = image.resize(
            (max(round(image.width * factor), 1), max(round(image.height * factor), 1)), Image.Resampling.BOX
        )
    return numpy.asarray(image)


def _looks_same(first: Pixels, second: Pixels) -> bool:
    """Whether two small pictures differ nowhere by more than compression does; one changed letter is a difference."""
    import numpy

    if first.shape != second.shape:
        return False
    difference = numpy.abs(first.astype(numpy.int16) - second.astype(numpy.int16))
    return int(difference.max(initial=0)) < _SAME_GREY


class _Engine:
    """The OCR engine, made on first use."""

    def __init__(self) -> None:
        self._engine: Any = None

    def read(self, pixels: Pixels) -> Any:
        """Boxes, texts and scores of the lines in the image."""
        if self._engine is None:
            from rapidocr import RapidOCR

            self._engine = RapidOCR(
                params={
                    "Global.use_cls": False,
                    "Global.log_level": "critical",
                    "Global.max_side_len": _MAX_SIDE_PX,
                }
            )
        return self._engine(pixels, return_word_box=True)


_FRAMES = _FrameCache(_CACHED_FRAMES)
_ENGINE = _Engine()


def _decode(data: bytes) -> Pixels:
    import numpy
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Unreadable(
                    f"the image has {image.width} x {image.height} pixels, more than the local engine reads; "
                    "send a smaller one"
                )
            image.draft("RGB", (_MAX_SIDE_PX, _MAX_SIDE_PX))
            upright = ImageOps.exif_transpose(image).convert("RGBA" if "A" in image.getbands() else "RGB")
    except Unreadable:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds, struct.error and SyntaxError among them
        raise Unreadable(
            f"the image cannot be decoded ({type(error).__name__}), it is damaged or of an unknown kind; "
            "send a PNG or JPEG file"
        ) from error
    if upright.mode == "RGBA":
        paper = Image.new("RGB", upright.size, (255, 255, 255))
        paper.paste(upright, mask=upright.getchannel("A"))
        upright = paper
    if max(upright.size) > _MAX_SIDE_PX:
        upright.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return numpy.ascontiguousarray(numpy.asarray(upright)[:, :, ::-1])


class _Reading:
    """One pass of the OCR engine over an image: words with quads, and how sure it is."""

    def __init__(self, pixels: Pixels) -> None:
        self.height, self.width = pixels.shape[:2]
        result = None if _is_blank(pixels) else _ENGINE.read(_padded(pixels))
        self.lines: list[Sequence[_Word]] = []
        self.baselines: list[tuple[float, float]] = []  # angle, length
        self.letters = 0
        self.sure_letters = 0.0
        self.upright_letters = 0
        if result is None or result.boxes is None or result.txts is None:
            return
        for quad, text, score, words in zip(result.boxes, result.txts, result.scores, result.word_results, strict=True):
            self._add(quad.tolist(), text, float(score), words)

    def _add(self, quad: list[list[float]], text: str, score: float, words: Sequence[Any]) -> None:
        dx, dy = quad[1][0] - quad[0][0], quad[1][1] - quad[0][1]
        side = math.hypot(quad[3][0] - quad[0][0], quad[3][1] - quad[0][1])
        length = math.hypot(dx, dy)
        letters = sum(character.isalnum() for character in text)
        self.letters += letters
        self.sure_letters += letters * score
        if letters < 3 or length > side:
            self.upright_letters += letters
        if length > 4 * side:
            self.baselines.append((math.atan2(dy, dx), length))
        pieces = [(str(word[0]), [(float(x), float(y)) for x, y in word[2]]) for word in words]
        self.lines.append(_by_spaces(text, pieces) if pieces else [(text, [(x, y) for x, y in quad])])

    @property
    def confidence(self) -> float:
        """Mean confidence over the letters, 1 when there are none."""
        return self.sure_letters / self.letters if self.letters else 1.0

    @property
    def quality(self) -> float:
        """How much was read and how surely; compares turns of one image."""
        return self.sure_letters * max(self.confidence - 0.5, 0.0) * (0.2 + self.upright_letters / max(self.letters, 1))

    @property
    def is_poor(self) -> bool:
        """Whether another turn of the image may read better: unsure letters, or lines that run from top to bottom."""
        return self.letters >= 8 and (self.confidence < _POOR_CONFIDENCE or self.upright_letters < 0.6 * self.letters)

    def skew(self) -> float:
        """Slope of the long lines in radians, weighted by length."""
        ordered = sorted(self.baselines)
        half = sum(length for _, length in ordered) / 2
        for angle, length in ordered:
            half -= length
            if half <= 0:
                return angle if _MIN_SKEW_RAD < abs(angle) < _MAX_SKEW_RAD else 0.0
        return 0.0


def _is_blank(pixels: Pixels) -> bool:
    """Whether the image is of one colour, so that no text can be on it."""
    return int(pixels.max()) - int(pixels.min()) < _LEAST_CONTRAST


def _padded(pixels: Pixels) -> Pixels:
    """A strip of an image on more white paper, right and below, as the engine enlarges short sides without bound."""
    import numpy

    height, width = pixels.shape[:2]
    least = max(height, width) // _MAX_ASPECT
    if min(height, width) >= least:
        return pixels
    paper = numpy.full((max(height, least), max(width, least), 3), 255, dtype=numpy.uint8)
    paper[:height, :width] = pixels
    return paper


def _by_spaces(text: str, pieces: Sequence[_Word]) -> Sequence[_Word]:
    """The pieces of a line as words: lines with CJK signs come cut into characters, while the text keeps the spaces."""
    words = text.split()
    is_cut = sum(len(piece) == 1 for piece, _ in pieces) > len(pieces) / 2 and len(pieces) > len(words)
    if not is_cut or "".join(words) != "".join(piece for piece, _ in pieces):
        return pieces
    joined: list[_Word] = []
    remaining = iter(pieces)
    for word in words:
        quad: list[tuple[float, float]] = []
        length = 0
        while length < len(word):
            piece, corners = next(remaining)
            quad.extend(corners)
            length += len(piece)
        if length != len(word):
            return pieces
        joined.append((word, quad))
    return joined


def _recognise_upright(pixels: Pixels) -> Page:
    import numpy

    best, turn = _Reading(pixels), 0
    if best.is_poor:
        sideways = best.upright_letters < 0.6 * best.letters
        for quarter_turns in (1, 3) if sideways else (2, 1, 3):
            reading = _Reading(numpy.ascontiguousarray(numpy.rot90(pixels, -quarter_turns)))
            if reading.quality > best.quality * 1.1:
                best, turn = reading, 90 * quarter_turns
            if best.confidence > 0.95 and turn and not best.is_poor:
                break
    return _to_page(best, turn)


def _to_page(reading: _Reading, rotation_deg: int) -> Page:
    skew = reading.skew()
    centre_x, centre_y = reading.width / 2, reading.height / 2
    words: list[_Boxed] = []
    for number, line in enumerate(reading.lines):
        for text, quad in line:
            xs, ys = zip(*(turn(x, y, centre_x, centre_y, -skew) for x, y in quad), strict=True)
            if text.strip():
                tokens = _split_glued(Token(text.strip(), min(xs), min(ys), max(xs), max(ys)))
                words.extend((token, number) for token in tokens)
    line_height = median((t.y1 - t.y0 for t, _ in words), 20.0)
    char_width = median(((t.x1 - t.x0) / len(t.text) for t, _ in words if len(t.text) > 1), line_height / 2)
    lines = [_to_line(_join_spaced(line)) for line in _group_lines(words)]
    return Page(
        0,
        float(reading.width),
        float(reading.height),
        tuple(lines),
        "ocr",
        char_width=max(char_width, 1.0),
        line_height=max(line_height, 1.0),
        rotation_deg=rotation_deg,
        skew_rad=skew,
    )


def _split_glued(token: Token) -> list[Token]:
    """A word as words, where OCR certainly ran some together: label and value, amount and tax mark, code and town."""
    text = _ZERO_AS_LETTER.sub(r"\g<1>0\g<2>", token.text.translate(_TO_ASCII))
    for pattern in (_LABEL_GLUED, _MARK_GLUED, _TOWN_GLUED):
        match = pattern.match(text)
        if match:
            cut = token.x0 + (token.x1 - token.x0) * len(match[1]) / len(text)
            rest = Token(match[2], cut + 0.01, token.y0, token.x1, token.y1)
            return [Token(match[1], token.x0, token.y0, cut, token.y1), *_split_glued(rest)]
    return [replace(token, text=text)]


def _to_line(words: Sequence[_Boxed]) -> Line:
    """The words of a printed line as segments."""
    height = median(token.y1 - token.y0 for token, _ in words)
    runs: list[list[Token]] = []
    previous: _Boxed | None = None
    for token, number in words:
        limit = _SEGMENT_GAP_WITHIN if previous and previous[1] == number else _SEGMENT_GAP_HEIGHTS
        if previous is None or token.x0 - previous[0].x1 >= limit * height:
            runs.append([token])
        else:
            runs[-1].append(token)
        previous = (token, number)
    return Line.of([Segment.of(run) for run in runs])


def _join_spaced(line: Sequence[_Boxed]) -> list[_Boxed]:
    """A line with letter-spaced print put together: four or more single characters, closer than their height."""
    joined: list[_Boxed] = []
    run: list[_Boxed] = []
    for word in line:
        token = word[0]
        fits = len(token.text) == 1 and not _CJK.match(token.text)
        if fits and (not run or token.x0 - run[-1][0].x1 < _SPACED_GAP_HEIGHTS * (token.y1 - token.y0)):
            run.append(word)
            continue
        joined.extend(_as_word(run))
        run = [word] if fits else []
        if not fits:
            joined.append(word)
    return [*joined, *_as_word(run)]


def _as_word(run: Sequence[_Boxed]) -> Sequence[_Boxed]:
    if len(run) < _SPACED_LETTERS:
        return run
    tokens = [token for token, _ in run]
    text = "".join(token.text for token in tokens)
    box = (tokens[0].x0, min(t.y0 for t in tokens), tokens[-1].x1, max(t.y1 for t in tokens))
    return [(Token(text, *box), run[0][1])]


def _group_lines(words: Sequence[_Boxed]) -> list[list[_Boxed]]:
    """Words grouped to printed lines, lines from top to bottom, words from left to right."""
    lines: list[list[_Boxed]] = []
    for word in sorted(words, key=lambda w: (w[0].y0 + w[0].y1) / 2):
        for line in reversed(lines[-4:]):
            if _shares_line(word[0], [token for token, _ in line]):
                line.append(word)
                break
        else:
            lines.append([word])
    for line in lines:
        line.sort(key=lambda w: w[0].x0)
    return sorted(lines, key=lambda line: median((t.y0 + t.y1) / 2 for t, _ in line))


def _shares_line(token: Token, line: Sequence[Token]) -> bool:
    """Whether the word stands level with the line's nearest word and beside its words, not over one of them."""
    nearest = min(line, key=lambda t: max(t.x0 - token.x1, token.x0 - t.x1))
    height = min(token.y1 - token.y0, nearest.y1 - nearest.y0)
    offset = abs((token.y0 + token.y1) - (nearest.y0 + nearest.y1)) / 2
    if offset > 0.5 * height:
        return False
    return all(min(token.x1, t.x1) - max(token.x0, t.x0) <= 0.4 * min(token.x1 - token.x0, t.x1 - t.x0) for t in line)
