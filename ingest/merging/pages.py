"""The words of a page, indexed for finding values: as text in several reading orders, as numbers, dates and times.

Everything is built once per page and only when asked for, so that looking up a value costs no more than a search.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

from ingest.types import BBox, Json, Moment, Word
from ingest.values import find_dates, find_times, fold, has_cjk, read_amount, read_clock, squash, tokens

# A gap wider than this share of the line's height parts two cells; words of running text stand closer.
_CELL_GAP: Final = 0.9
# Lines of one paragraph or cell follow each other within this many line heights.
_LINE_STEP: Final = 1.9
_MAX_HITS: Final = 200
_NUMBER_IN_WORD: Final = re.compile(r"(?<![^\W_])(?:[-−–+](?=[.,\d]))?[.,]?\d[\d.,'’]*(?:[-−–](?!\d))?(?![^\W_])")
_GROUP_START: Final = re.compile(r"\D{0,4}\d{1,3}")
_GROUP_NEXT: Final = re.compile(r"\d{3}(?:[.,]\d{1,4})?\D{0,4}")
# Times are told to a tenth of a second.
_ROUNDING_S: Final = 0.11
_DIGIT_RUN: Final = re.compile(r"\d+")
# Longer numbers identify something, and are often set in groups: IBANs, telephone and tax numbers.
_MAX_FIGURES: Final = 7
_MINUS_WORDS: Final = ("-", "−", "–")


@dataclass(frozen=True, slots=True)
class Span:
    """A run of printed text: the words it covers, as read, cut to characters `start`..`end` of the outer ones.

    `is_inner` when it is only a part of a word (but bounded by punctuation), so a whole word would be the better find.
    `is_scaled` when the value stands there as a percentage.
    """

    words: tuple[int, ...]
    start: int
    end: int
    is_inner: bool = False
    is_scaled: bool = False


class _Stream:
    """The words in one reading order as one string of letters and digits; `starts` is where each word begins."""

    __slots__ = ("order", "starts", "text")

    def __init__(self, order: Sequence[int], squashed: Sequence[str]) -> None:
        self.order = order
        self.starts: list[int] = []
        offset = 0
        for number in order:
            self.starts.append(offset)
            offset += len(squashed[number])
        self.text = "".join(squashed[number] for number in order)

    def locate(self, offset: int) -> tuple[int, int]:
        """Place in `order` of the word that holds character `offset`, and the offset within it."""
        # Words without letters have the same start as their successor; bisect_right finds the one that holds it.
        place = bisect_right(self.starts, offset) - 1
        return place, offset - self.starts[place]


@dataclass(frozen=True)
class PageText:
    """The words of one part. `page_number` counts from 1; `words` is empty when the page has none we could read.

    A part of a video has `moments`, and as words its subtitles or what was read from its frames.
    """

    page_number: int
    words: tuple[Word, ...] = ()
    moments: tuple[Moment, ...] = ()

    @property
    def is_read_whole(self) -> bool:
        """Whether a value that is not among the words does not stand there. Subtitles, which have no place in the
        picture, say nothing about what it shows."""
        return bool(self.words) and not (self.moments and all(word.bbox[2] <= word.bbox[0] for word in self.words))

    def is_time_of(self, value: Json) -> bool:
        """Whether a value says a time (in seconds, or as h:mm:ss) of this part of a video: it need not be printed."""
        seconds = _seconds(value) if self.moments else None
        if seconds is None:
            return False
        return self.moments[0].start_s - _ROUNDING_S <= seconds <= self.moments[-1].end_s + _ROUNDING_S

    def moment_marked(self, value: Json) -> Moment | None:
        """The moment whose frame stands at the time that a value says, or else the one that ends then."""
        seconds = _seconds(value) if self.moments else None
        if seconds is None:
            return None
        for moment in self.moments:
            if min(abs(moment.timestamp_s - seconds), abs(moment.start_s - seconds)) <= _ROUNDING_S:
                return moment
        last = self.moments[-1]
        return last if abs(last.end_s - seconds) <= _ROUNDING_S else None

    def moment_at(self, time_s: float | None) -> tuple[float, float, int] | None:
        """Of a part of a video: start and end of the interval (in seconds) and the pts of the frame that show
        `time_s`; of the whole part when it does not say."""
        if not self.moments:
            return None
        first, last = self.moments[0], self.moments[-1]
        found = [m for m in self.moments if time_s is not None and m.start_s <= time_s < m.end_s]
        if found:
            first = last = found[0]
        return first.start_s, last.end_s, first.pts

    @cached_property
    def lines(self) -> list[list[int]]:
        """Numbers of the words on each line, lines from top to bottom, words from left to right."""
        order = sorted(range(len(self.words)), key=lambda n: (_middle(self.words[n]), self.words[n].bbox[0]))
        lines: list[list[int]] = []
        for number in order:
            word = self.words[number]
            if lines:
                first = self.words[lines[-1][0]]
                height = min(_height(word), _height(first))
                if _middle(word) - _middle(first) <= 0.5 * height:
                    lines[-1].append(number)
                    continue
            lines.append([number])
        for line in lines:
            line.sort(key=lambda n: self.words[n].bbox[0])
        return lines

    @cached_property
    def line_of(self) -> list[int]:
        """For each word the number of its line."""
        found = [0] * len(self.words)
        for number, line in enumerate(self.lines):
            for word in line:
                found[word] = number
        return found

    @cached_property
    def tokens_by_line(self) -> list[set[str]]:
        """The tokens that stand on each line."""
        return [{token for word in line for token in tokens(self.words[word].text)} for line in self.lines]

    @cached_property
    def _orders(self) -> list[tuple[int, ...]]:
        """Reading orders: as given, line by line, and column by column. Values run on in at least one of them."""
        by_line = tuple(number for line in self.lines for number in line)
        given = tuple(range(len(self.words)))
        return list(dict.fromkeys((given, by_line, self._by_column)))

    @cached_property
    def _by_column(self) -> tuple[int, ...]:
        columns: list[list[list[int]]] = []
        for line in self.lines:
            for cell in self._cells(line):
                column = next((c for c in reversed(columns) if self._continues(c[-1], cell)), None)
                if column is None:
                    columns.append([cell])
                else:
                    column.append(cell)
        return tuple(number for column in columns for cell in column for number in cell)

    def _cells(self, line: Sequence[int]) -> Iterator[list[int]]:
        cell: list[int] = []
        for number in line:
            gap = self.words[number].bbox[0] - self.words[cell[-1]].bbox[2] if cell else 0.0
            if cell and gap > _CELL_GAP * _height(self.words[number]):
                yield cell
                cell = []
            cell.append(number)
        if cell:
            yield cell

    def _continues(self, above: Sequence[int], below: Sequence[int]) -> bool:
        top, bottom = self.words[above[0]].bbox, self.words[below[0]].bbox
        step = (bottom[1] + bottom[3] - top[1] - top[3]) / 2
        if not 0 < step <= _LINE_STEP * max(top[3] - top[1], bottom[3] - bottom[1]):
            return False
        overlap = min(self.words[above[-1]].bbox[2], self.words[below[-1]].bbox[2]) - max(top[0], bottom[0])
        return overlap > 0

    @cached_property
    def _streams(self) -> list[_Stream]:
        squashed = [_squash_word(word.text) for word in self.words]
        return [_Stream(order, squashed) for order in self._orders]

    def find_text(self, text: str) -> list[Span]:
        """Where `text` stands, up to case, spaces, punctuation, ligatures, hyphens. Whole words come alone if any."""
        needle = squash(text)
        if not needle:
            bare = text.strip()
            return [Span((n,), 0, len(w.text)) for n, w in enumerate(self.words) if bare and w.text.strip() == bare]
        breaks = _break_offsets(text)
        found: dict[tuple[int, ...], Span] = {}
        for stream in self._streams:
            for span in self._find_in(stream, text, needle, breaks):
                found.setdefault(tuple(sorted(span.words)), self._with_edges(span, text.strip()))
        whole = [span for span in found.values() if not span.is_inner]
        return whole or list(found.values())

    def _find_in(self, stream: _Stream, text: str, needle: str, breaks: frozenset[int]) -> Iterator[Span]:
        # Points, strokes and commas make a short number another one: 8.3 is not 83.
        figures = _figure_groups(text) if len(needle) <= _MAX_FIGURES else ()
        offset, hits = stream.text.find(needle), 0
        while offset >= 0 and hits < _MAX_HITS:
            span = self._cut(stream, offset, offset + len(needle))
            if (
                self._is_bounded(span, needle)
                and self._breaks_well(stream, offset, needle, breaks)
                and (not figures or figures in self._figures_of(span))
            ):
                hits += 1
                first, last = self.words[span.words[0]].text, self.words[span.words[-1]].text
                inner = any(c.isalnum() for c in first[: span.start]) or any(c.isalnum() for c in last[span.end :])
                # 16.4 is not printed where -16.4 is.
                inner = inner or (
                    first[: span.start][-1:] in _MINUS_WORDS and needle[0].isdigit() and text[:1].isdigit()
                )
                yield Span(span.words, span.start, span.end, inner)
            offset = stream.text.find(needle, offset + 1)

    def _figures_of(self, span: Span) -> tuple[tuple[str, ...], ...]:
        """The runs of digits printed, read across the spaces between words and apart."""
        texts = [self.words[number].text for number in span.words]
        texts[-1] = texts[-1][: span.end]
        texts[0] = texts[0][span.start :]
        return _figure_groups("".join(texts)), _figure_groups(" ".join(texts))

    def _with_edges(self, span: Span, text: str) -> Span:
        """The span with the punctuation that `text` begins and ends with, where it is printed too."""
        first, last = self.words[span.words[0]].text, self.words[span.words[-1]].text
        lead, trail = _edges(text)
        start, end = span.start, span.end
        if lead and first[:start].endswith(lead):
            start -= len(lead)
        if trail and last[end:].startswith(trail):
            end += len(trail)
        return Span(span.words, start, end, span.is_inner)

    def _cut(self, stream: _Stream, start: int, end: int) -> Span:
        """The span of characters `start`..`end` of a stream."""
        first, first_offset = stream.locate(start)
        last, last_offset = stream.locate(end - 1)
        words = tuple(stream.order[first : last + 1])
        raw_start = _raw_offsets(self.words[words[0]].text)[first_offset]
        raw_end = _raw_offsets(self.words[words[-1]].text)[last_offset] + 1
        return Span(words, raw_start, raw_end)

    def _is_bounded(self, span: Span, needle: str) -> bool:
        """Whether the span does not begin or end inside a token or a number."""
        first, last = self.words[span.words[0]].text, self.words[span.words[-1]].text
        before, after = first[: span.start], last[span.end :]
        if before and before[-1].isalnum() and not (has_cjk(before[-1]) or has_cjk(needle[0])):
            return False
        if after and after[0].isalnum() and not (has_cjk(after[0]) or has_cjk(needle[-1])):
            return False
        cuts_number = (needle[0].isdigit() and re.search(r"\d[.,'’]$", before)) or (
            needle[-1].isdigit() and re.match(r"[.,'’]\d", after)
        )
        # A year within a date is a find, the whole part of an amount is not.
        return not (cuts_number and any(read_amount(word.strip(".,:;")).readings for word in (first, last)))

    def _breaks_well(self, stream: _Stream, offset: int, needle: str, breaks: frozenset[int]) -> bool:
        """Whether the page breaks the text between words only where that is plausible.

        A line break may hyphenate a word and type may be spaced out, but digits of two neighbouring cells do not make
        a number, nor short words a value.
        """
        place, _ = stream.locate(offset)
        end = offset + len(needle)
        for start in stream.starts[place + 1 :]:
            if start >= end:
                return True
            if start - offset in breaks or start <= offset or has_cjk(needle):
                continue
            if len(needle) < (10 if needle.isdigit() else 6):
                return False
        return True

    @cached_property
    def numbers(self) -> dict[Decimal, list[Span]]:
        """Every number printed, by each of its readings."""
        found: dict[Decimal, list[Span]] = defaultdict(list)
        for line in self.lines:
            for place, number in enumerate(line):
                text = self.words[number].text
                if any(c.isdigit() for c in text):
                    self._read_word(number, text, found)
                    self._read_group(line, place, found)
                elif text in _MINUS_WORDS and place + 1 < len(line):
                    self._read_signed(line[place : place + 2], found)
        return dict(found)

    def _read_word(self, number: int, text: str, found: dict[Decimal, list[Span]]) -> None:
        for match in _NUMBER_IN_WORD.finditer(text):
            start, end = match.start(), len(match[0].rstrip(".,'’")) + match.start()
            is_inner = any(c.isalnum() for c in text[:start] + text[end:])
            span = Span((number,), start, end, is_inner)
            amount = read_amount(match[0].rstrip(".,'’"))
            readings = amount.readings
            if not readings and match[0].isdigit() and not is_inner:
                readings = (Decimal(int(match[0])),)
            if text[:start].endswith("(") and text[end:].startswith(")"):
                readings += tuple(-reading for reading in readings)
            for reading in readings:
                found[reading].append(span)
                if text[end:].lstrip().startswith("%"):
                    found[reading / 100].append(Span((number,), start, end, is_inner, is_scaled=True))
        if not text.isascii() or " " in text.strip():
            for reading in read_amount(text.strip(".,:;")).readings:
                if all(span.words != (number,) for span in found[reading]):
                    found[reading].append(Span((number,), 0, len(text)))

    def _read_group(self, line: Sequence[int], place: int, found: dict[Decimal, list[Span]]) -> None:
        """Numbers whose thousands are parted by spaces, or whose percent sign stands apart."""
        text = self.words[line[place]].text
        if place + 1 < len(line) and self.words[line[place + 1]].text == "%":
            for reading in read_amount(text).readings:
                found[reading / 100].append(Span(tuple(line[place : place + 2]), 0, 1, is_scaled=True))
        if not _GROUP_START.fullmatch(text):
            return
        for end in range(place + 1, min(place + 5, len(line))):
            word, before = self.words[line[end]], self.words[line[end - 1]]
            if not _GROUP_NEXT.fullmatch(word.text) or word.bbox[0] - before.bbox[2] > _CELL_GAP * _height(word):
                return
            joined = " ".join(self.words[n].text for n in line[place : end + 1])
            for reading in read_amount(joined.strip(".:;")).readings:
                found[reading].append(Span(tuple(line[place : end + 1]), 0, len(word.text)))

    def _read_signed(self, pair: Sequence[int], found: dict[Decimal, list[Span]]) -> None:
        word = self.words[pair[1]]
        if word.bbox[0] - self.words[pair[0]].bbox[2] <= 1.5 * _height(word):
            for reading in read_amount(word.text.strip(".:;")).readings:
                found[-reading].append(Span(tuple(pair), 0, len(word.text)))

    @cached_property
    def dates(self) -> dict[str, list[Span]]:
        """Every date printed, by each of its readings as YYYY-MM-DD."""
        found: dict[str, list[Span]] = defaultdict(list)
        for text, starts, order in self._folded:
            for date in find_dates(text):
                span = self._span_of(starts, order, date.start, date.end)
                for reading in date.readings:
                    if span not in found[reading.isoformat()]:
                        found[reading.isoformat()].append(span)
        return dict(found)

    @cached_property
    def times(self) -> dict[str, list[Span]]:
        """Every time of day printed, as HH:MM and, when printed with seconds, as HH:MM:SS too."""
        found: dict[str, list[Span]] = defaultdict(list)
        text, starts, order = self._folded[-1]
        for time in find_times(text):
            span = self._span_of(starts, order, time.start, time.end)
            found[time.minutes].append(span)
            if time.seconds:
                found[f"{time.minutes}:{time.seconds}"].append(span)
        return dict(found)

    @cached_property
    def _folded(self) -> list[tuple[str, list[int], Sequence[int]]]:
        """The words as given and line by line, each as (folded text with spaces, start of each word, their order)."""
        folded = [_fold_word(word.text) for word in self.words]
        by_line = tuple(number for line in self.lines for number in line)
        texts: list[tuple[str, list[int], Sequence[int]]] = []
        for order in dict.fromkeys((tuple(range(len(self.words))), by_line)):
            starts, offset = [], 0
            for number in order:
                starts.append(offset)
                offset += len(folded[number]) + 1
            texts.append((" ".join(folded[number] for number in order), starts, order))
        return texts

    def _span_of(self, starts: Sequence[int], order: Sequence[int], start: int, end: int) -> Span:
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, end - 1) - 1
        words = tuple(order[first : last + 1])
        length = len(self.words[words[-1]].text)
        # Folding rarely changes a date's length; where it does the cut is a character off at most.
        return Span(words, start - starts[first], min(end - starts[last], length))

    def find_signs(self, signs: Sequence[str]) -> list[Span]:
        """Where one of the currency signs stands, alone or beside an amount."""
        found = []
        for number, word in enumerate(self.words):
            text = word.text.casefold()
            for sign in signs:
                start = text.find(sign)
                alone = start >= 0 and not (text[:start][-1:].isalpha() or text[start + len(sign) :][:1].isalpha())
                if alone or (start >= 0 and not sign[0].isalpha()):
                    found.append(Span((number,), start, start + len(sign)))
                    break
        return found

    def find_similar(self, text: str, minimum: float) -> tuple[float, Span] | None:
        """The run of words most like `text`, and its similarity (0 to 100) when that reaches `minimum`."""
        from rapidfuzz import fuzz

        needle = squash(text)
        best: tuple[float, Span] | None = None
        for stream in self._streams:
            found = fuzz.partial_ratio_alignment(needle, stream.text, score_cutoff=minimum)
            # A needle longer than the page would be searched the other way round.
            if found is None or found.dest_end <= found.dest_start or len(needle) > len(stream.text):
                continue
            span = self._whole_words(stream, found.dest_start, found.dest_end)
            score = fuzz.ratio(needle, "".join(_squash_word(self.words[n].text) for n in span.words))
            if score >= minimum and (best is None or score > best[0]):
                best = (score, span)
        return best

    def _whole_words(self, stream: _Stream, start: int, end: int) -> Span:
        """The words covered at least by half, since an alignment of similar text may begin or end within one."""
        first, first_offset = stream.locate(start)
        last, last_offset = stream.locate(end - 1)
        if first < last and first_offset * 2 > len(_squash_word(self.words[stream.order[first]].text)):
            first += 1
        if first < last and (last_offset + 1) * 2 < len(_squash_word(self.words[stream.order[last]].text)):
            last -= 1
        words = tuple(stream.order[first : last + 1])
        return Span(words, 0, len(self.words[words[-1]].text))

    def quote(self, span: Span) -> str:
        """The printed text of a span."""
        if len(span.words) == 1:
            return self.words[span.words[0]].text[span.start : span.end].strip()
        texts = [self.words[number].text for number in span.words]
        texts[0], texts[-1] = texts[0][span.start :], texts[-1][: span.end]
        quote = texts[0]
        for before, text in pairwise(texts):
            quote += text if has_cjk(before[-1:]) and has_cjk(text[:1]) else f" {text}"
        return quote.strip()

    def box(self, span: Span) -> BBox:
        """The box around a span in points; within a word characters are taken as equally wide."""
        boxes = [self.words[number].bbox for number in span.words]
        first, last = self.words[span.words[0]], self.words[span.words[-1]]
        boxes[0] = _part(first, span.start, span.end if len(boxes) == 1 else len(first.text))
        if len(boxes) > 1:
            boxes[-1] = _part(last, 0, span.end)
        x0, y0, x1, y1 = zip(*boxes, strict=True)
        return (round(min(x0), 2), round(min(y0), 2), round(max(x1), 2), round(max(y1), 2))


def _part(word: Word, start: int, end: int) -> BBox:
    length = max(len(word.text), 1)
    x0, y0, x1, y1 = word.bbox
    return (x0 + (x1 - x0) * start / length, y0, x0 + (x1 - x0) * min(end, length) / length, y1)


def _middle(word: Word) -> float:
    return (word.bbox[1] + word.bbox[3]) / 2


def _height(word: Word) -> float:
    return max(word.bbox[3] - word.bbox[1], 0.1)


@lru_cache(maxsize=65_536)
def _squash_word(text: str) -> str:
    return squash(text)


@lru_cache(maxsize=65_536)
def _fold_word(text: str) -> str:
    return fold(text)


@lru_cache(maxsize=4_096)
def _raw_offsets(text: str) -> tuple[int, ...]:
    """For each character of the squashed form, where it stands in `text`."""
    offsets = []
    for offset, char in enumerate(text):
        offsets.extend([offset] * len(squash(char)))
    # Composed and decomposed accents may squash differently as a whole; never index beyond what there is.
    missing = len(squash(text)) - len(offsets)
    return tuple(offsets[: len(squash(text))]) + (len(text) - 1,) * max(missing, 0)


def _edges(text: str) -> tuple[str, str]:
    """What stands before the first and after the last letter or digit."""
    solid = [offset for offset, char in enumerate(text) if char.isalnum()]
    return (text[: solid[0]], text[solid[-1] + 1 :]) if solid else (text, "")


@lru_cache(maxsize=65_536)
def _figure_groups(text: str) -> tuple[str, ...]:
    """The runs of digits in a text that is hardly anything else; empty for any other."""
    solid = squash(text)
    is_number = any(c.isdigit() for c in solid) and sum(c.isalpha() for c in solid) <= 1
    return tuple(_DIGIT_RUN.findall(unicodedata.normalize("NFKC", text))) if is_number else ()


@lru_cache(maxsize=4_096)
def _break_offsets(text: str) -> frozenset[int]:
    """Offsets of the squashed form at which `text` itself has a space or punctuation."""
    breaks, length = set(), 0
    for char in unicodedata.normalize("NFKC", text):
        size = len(squash(char))
        if size == 0:
            breaks.add(length)
        length += size
    return frozenset(breaks)


def _seconds(value: Json) -> float | None:
    """Seconds that a number or a clock time says."""
    seconds = read_clock(value) if isinstance(value, str) else value
    return None if isinstance(seconds, bool) or not isinstance(seconds, int | float) else float(seconds)
