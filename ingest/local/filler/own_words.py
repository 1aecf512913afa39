"""Fields of no known concept: the words of the property itself, looked for as labels on the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.schema import Node
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.values import Value, clean_text, read
from ingest.local.filler.view import Row, View
from ingest.local.page import Segment

_MAX_LABEL_WORDS = 6
_EXACT, _PARTLY = 0.75, 0.5


def find_by_own_words(asked: Field, node: Node, view: View) -> Found | None:
    """The value beside the label that says what the property's name or title says, or None."""
    forms = set(asked.own_labels)
    words = [word for word in name_words(asked.name) if len(word) > 2]
    best: Found | None = None
    for row in view.rows:
        for index, segment in enumerate(row.segments):
            for label, end, score in _labels_in(segment, forms, words):
                found = _value_beside(row, index, end, label, score, asked, node, view)
                if found and (best is None or found.confidence > best.confidence):
                    best = found
    return best


def _labels_in(segment: Segment, forms: set[str], words: list[str]) -> Iterator[tuple[str, int, float]]:
    """Beginnings of a segment that match: printed label, words used, score."""
    joined = ""
    for end, token in enumerate(segment.tokens[:_MAX_LABEL_WORDS], 1):
        joined += squash(token.text)
        if joined in forms:
            yield " ".join(t.text for t in segment.tokens[:end]).strip(" :"), end, _EXACT
            return
        if token.text.endswith(":"):
            if len(words) >= 2 and sum(word in joined for word in words) * 3 >= 2 * len(words):
                yield " ".join(t.text for t in segment.tokens[:end]).strip(" :"), end, _PARTLY
            return


def _value_beside(
    row: Row, index: int, end: int, label: str, score: float, asked: Field, node: Node, view: View
) -> Found | None:
    segment = row.segments[index]
    inline = clean_text(" ".join(token.text for token in segment.tokens[end:]))
    has_colon = segment.tokens[end - 1].text.endswith(":") or re.match(
        r"\s*:", " ".join(t.text for t in segment.tokens[end:])
    )
    if inline:
        if not has_colon and asked.kind in ("text", "boolean"):
            return None
        value = _read(asked, inline, view)
        return Found(value.data, row, label, score) if value else None
    if index + 1 < len(row.segments):
        value = _read(asked, row.segments[index + 1].text.lstrip(": "), view)
        if value:
            return Found(value.data, row, label, score - 0.03)
    below = view.rows[row.index + 1] if row.index + 1 < len(view.rows) else None
    if below and below.page is row.page and below.gap < 1.6 and row.index + 1 < len(view.rows):
        for other in below.segments:
            if min(other.x1, segment.x1) - max(other.x0, segment.x0) > 0 and not other.text.endswith(":"):
                value = _read(asked, other.text, view)
                if value:
                    return Found(value.data, below, label, score - 0.15)
    return None


def _read(asked: Field, text: str, view: View) -> Value | None:
    kind = "text" if asked.kind in ("boolean", "doctype") else asked.kind
    return read(kind, text, view)
