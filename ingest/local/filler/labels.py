"""Labels printed on a page: which words of a line name a concept of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest.local.filler import vocabulary
from ingest.local.filler.text import look, squash
from ingest.local.filler.vocabulary import Meaning
from ingest.local.page import Line, Segment

_MAX_LABEL_WORDS = 8
_RATE = re.compile(r"^[(@]?(?:\d{1,2}(?:[.,]\d{1,3})?)?%?[)]?$")


@dataclass(frozen=True, slots=True)
class Hit:
    """Words of a segment that are a label. `start` and `end` count words of the segment.

    `is_first` says that nothing but a percentage or signs stand before it in its segment.
    """

    segment: int
    start: int
    end: int
    label: str
    meanings: tuple[Meaning, ...]
    has_colon: bool
    is_first: bool

    @property
    def is_weak(self) -> bool:
        """Whether the label names its concepts only for lack of a better one."""
        return all(meaning.is_weak for meaning in self.meanings)


def find_hits(line: Line, is_ocr: bool = False) -> tuple[Hit, ...]:
    """The labels of a line from left to right, the longest first where they overlap.

    In text read by OCR, letters that it takes for one another count as the same.
    """
    known = vocabulary.header()
    by_label = known.by_look if is_ocr else known.by_label
    hits: list[Hit] = []
    for index, segment in enumerate(line.segments):
        for start, end, label in longest_matches(segment, by_label, known.longest, is_ocr):
            colon = segment.tokens[end - 1].text.endswith(":") or (
                end < len(segment.tokens) and segment.tokens[end].text.startswith(":")
            )
            if not colon and end == len(segment.tokens) and index + 1 < len(line.segments):
                colon = line.segments[index + 1].text.startswith(":")
            texts = [token.text for token in segment.tokens[: start + 1]]
            is_first = all(_is_rate(texts, i) or not squash(texts[i]) for i in range(start))
            hits.append(Hit(index, start, end, label, by_label[label], colon, is_first))
    return tuple(hits)


def longest_matches(
    segment: Segment, known: Mapping[str, object], longest: int, by_look: bool = False
) -> Iterator[tuple[int, int, str]]:
    """Runs of words whose squashed text is a key of `known`, as (first word, end, key), the longest at each place.

    With `by_look` the keys are squashed texts as `text.look` gives them.
    """
    texts = [token.text for token in segment.tokens]
    words = ["" if _is_rate(texts, index) else squash(text) for index, text in enumerate(texts)]
    if by_look:
        words = [look(word) for word in words]
    ends_label = [token.text.endswith((":", ";", "|")) for token in segment.tokens]
    start = 0
    while start < len(words):
        match = _longest_at(start, words, ends_label, known, longest)
        if match:
            yield start, *match
            start = match[0]
        else:
            start += 1


def _is_rate(texts: Sequence[str], index: int) -> bool:
    """Whether a word is (part of) a percentage, which a label may carry inside: `plus 19 % VAT`."""
    if not _RATE.match(texts[index]):
        return False
    return "%" in texts[index] or (index + 1 < len(texts) and texts[index + 1].startswith("%"))


def _longest_at(
    start: int, words: Sequence[str], ends_label: Sequence[bool], known: Mapping[str, object], longest: int
) -> tuple[int, str] | None:
    if not words[start]:
        return None
    joined, found = "", None
    for end in range(start, min(start + _MAX_LABEL_WORDS, len(words))):
        joined += words[end]
        if len(joined) > longest:
            break
        if joined in known and words[end]:
            found = (end + 1, joined)
        if ends_label[end]:
            break
    return found
