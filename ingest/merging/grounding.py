"""Where each value stands on its page: found by us in the page's words, not believed from the model.

A value is looked for on the page the model cites, then on the other pages of its chunk. What is found becomes
evidence with a box and the words as printed; what is not found is said to be ungrounded, and never dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ingest.merging.merge import Origin, Origins
from ingest.merging.pages import PageText, Span
from ingest.merging.shape import Shape, escape, root_shape, split_pointer
from ingest.record import Conflict, ConflictSide, Evidence, Grade
from ingest.types import BBox, Json, JsonObject
from ingest.values import CURRENCY_SIGNS, read_amount, read_dates, squash, tokens

__all__ = ["PageText", "ground", "ground_conflicts"]

# Shorter texts are similar to too much. From here on one wrong character in six is forgiven, in longer texts one in
# eight, in prose one in five.
_MIN_FUZZY_CHARS: Final = 6
_FUZZY_SHORT: Final = 83.0
_FUZZY_LONG: Final = 87.0
_FUZZY_PROSE: Final = 80.0
_LONG_CHARS: Final = 12
_PROSE_CHARS: Final = 60
# Values of which at least so much is digits are numbers of something; a similar one is another one.
_MAX_FUZZY_DIGITS: Final = 0.4
# Shorter values stand on most pages; found away from the cited page they prove nothing.
_MIN_ELSEWHERE_CHARS: Final = 3
_MAX_FUZZY_ELSEWHERE: Final = 12
_MAX_ANCHORS: Final = 64
_MIN_COVERED: Final = 0.7
# In line heights: how far apart siblings may stand and still speak for each other; what a place already taken costs.
_FAR: Final = 8.0
_TIME_NAME: Final = re.compile(
    r"(?:^|_)(?:s|sec|secs|seconds?|time|start|end|begin|begins|from|to|until|at|timestamp)$|(?<=[a-z])(?:Time|Start|End|S)$"
)
_TAKEN: Final = 4.0
_BACKWARDS: Final = 0.5
_REWRITTEN: Final = 0.3


@dataclass(frozen=True, slots=True)
class _Hit:
    """A place where a value stands."""

    page: PageText
    span: Span
    grade: Grade

    @property
    def key(self) -> tuple[int, tuple[int, ...], int]:
        return (self.page.page_number, self.span.words, self.span.start)

    @property
    def box(self) -> BBox:
        return self.page.box(self.span)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A value to be found. `steps` is its pointer split up; `is_closed` when only given values are allowed (enum)."""

    pointer: str
    steps: tuple[str, ...]
    value: Json
    origins: Origins
    is_closed: bool

    def said_by(self, origin: Origin) -> Json:
        """What is to be found for an origin: its own words where the merged value is put together of several."""
        return self.value if origin.said is None else origin.said


def ground(
    data: Json,
    origins: Mapping[str, Origins],
    pages: Mapping[int, PageText],
    chunk_pages: Mapping[int, Sequence[int]],
    schema: JsonObject | None = None,
) -> dict[str, tuple[Evidence, ...]]:
    """Evidence for each leaf of `data` that has an origin, by JSON Pointer.

    `pages` are the words by page number, `chunk_pages` the page numbers by chunk index. A page that is missing in
    `pages`, or has no words, cannot be checked and its values are `cited`. A value its pages do not hold is
    `ungrounded`, with the cited page. Booleans and, when `schema` tells which those are, values out of a fixed list
    need not be printed: not found they are `cited` too. Of several places the one nearest to the other values of the
    same item is taken, then the first in reading order.
    """
    shape = root_shape(schema) if schema is not None else None
    finder = _Finder(pages, chunk_pages)
    for group in _groups(_leaves_of(data, "", origins, shape)):
        finder.place(group)
    return finder.evidence


def ground_conflicts(
    conflicts: Sequence[Conflict],
    side_origins: Sequence[Sequence[Origins]],
    pages: Mapping[int, PageText],
    chunk_pages: Mapping[int, Sequence[int]],
) -> tuple[Conflict, ...]:
    """`conflicts` with the evidence of each side. `side_origins` come from the merge, in the same order."""
    grounded = []
    for conflict, sides in zip(conflicts, side_origins, strict=True):
        shown = []
        for side, origins in zip(conflict.sides, sides, strict=True):
            finder = _Finder(pages, chunk_pages)
            for leaf in _leaves_of(side.value, conflict.pointer, {conflict.pointer: origins}, None):
                finder.place([leaf])
            evidence = finder.evidence.get(conflict.pointer, ())
            shown.append(ConflictSide(value=side.value, chunk=side.chunk, evidence=evidence))
        grounded.append(conflict.model_copy(update={"sides": tuple(shown)}))
    return tuple(grounded)


def _leaves_of(value: Json, pointer: str, origins: Mapping[str, Origins], shape: Shape | None) -> Iterator[_Leaf]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves_of(item, f"{pointer}/{escape(key)}", origins, shape.child(key) if shape else None)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves_of(item, f"{pointer}/{number}", origins, shape.items if shape else None)
    elif value is not None and pointer in origins:
        closed = isinstance(value, bool) or (shape is not None and shape.enum)
        yield _Leaf(pointer, tuple(split_pointer(pointer)), value, origins[pointer], closed)


def _groups(leaves: Iterator[_Leaf]) -> Iterator[list[_Leaf]]:
    """Leaves that stand together: those directly in one object (or list), which follow one another."""
    groups: dict[tuple[str, ...], list[_Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(leaf.steps[:-1], []).append(leaf)
    for group in groups.values():
        # Members of a list of plain values, and the fields of the document itself, do not stand on one line.
        if group[0].steps[-1:] and (len(group[0].steps) <= 1 or group[0].steps[-1].isdigit()):
            yield from ([leaf] for leaf in group)
        else:
            yield group


class _Finder:
    """Finds values on pages and remembers which places are taken."""

    def __init__(self, pages: Mapping[int, PageText], chunk_pages: Mapping[int, Sequence[int]]) -> None:
        self.evidence: dict[str, tuple[Evidence, ...]] = {}
        self._pages = pages
        self._chunk_pages = chunk_pages
        self._found: dict[tuple[int, str, Json], list[_Hit]] = {}
        self._taken: dict[tuple[str, ...], set[tuple[int, tuple[int, ...], int]]] = defaultdict(set)
        self._last: dict[tuple[str, ...], _Hit] = {}

    def place(self, group: Sequence[_Leaf]) -> None:
        """Find the leaves of one object together, so that of several places those near each other are taken."""
        home = self._home(group)
        options = [(leaf, self._options(leaf, leaf.origins[0], home)) for leaf in group]
        chosen = self._choose([(leaf, hits) for leaf, hits in options if hits])
        for leaf in group:
            hit = chosen.get(leaf.pointer)
            evidence = [self._evidence(leaf, leaf.origins[0], hit)]
            for origin in leaf.origins[1:]:
                others = self._options(leaf, origin, None)
                evidence.append(self._evidence(leaf, origin, self._best_alone(leaf, others) if others else None))
            located = [each for each in evidence if each.grade not in ("cited", "ungrounded")]
            self.evidence[leaf.pointer] = tuple(dict.fromkeys(located or evidence))

    def _home(self, group: Sequence[_Leaf]) -> int | None:
        """The page on which most of a group stands when the model does not say: one of those with its longest value."""
        if len(group) < 2 or any(self._cited(leaf.origins[0]) is not None for leaf in group):
            return None
        longest = max(group, key=lambda leaf: len(squash(str(leaf.said_by(leaf.origins[0])))))
        numbers = self._numbers(longest.origins[0])
        pages = [page for page in map(self._pages.get, numbers) if page is not None and page.words]
        pages = [page for page in pages if self._lookup(longest.said_by(longest.origins[0]), page, fuzzy=False)]

        def holds(page: PageText) -> int:
            return sum(bool(self._lookup(leaf.said_by(leaf.origins[0]), page, fuzzy=False)) for leaf in group)

        return max(pages, key=holds).page_number if pages else None

    def _options(self, leaf: _Leaf, origin: Origin, home: int | None) -> list[_Hit]:
        """The places of a value: on the cited page, else on the page of the chunk nearest to it (or to `home`)."""
        value = leaf.said_by(origin)
        if isinstance(value, bool):
            return []
        cited = self._cited(origin)
        if cited is not None:
            page = self._pages.get(cited)
            if page is None or not page.words:
                return []
            if _is_time(leaf, value) and page.is_time_of(value):
                return []
            hits = self._near_quote(self._lookup(value, page, fuzzy=True), page, origin.cite.quote)
            if hits:
                return hits
            # In a video a number is as likely a time, which nobody prints.
            if len(squash(str(value))) < _MIN_ELSEWHERE_CHARS or (page.moments and not isinstance(value, str)):
                return []
        near = cited if cited is not None else home or 0
        others = sorted(self._numbers(origin), key=lambda number: (abs(number - near), number))
        found = [page for page in map(self._pages.get, others) if page is not None and page.words]
        return self._elsewhere(value, [page for page in found if page.page_number != cited])

    def _elsewhere(self, value: Json, pages: Sequence[PageText]) -> list[_Hit]:
        """The places on the first of the pages that has any: as given, else written otherwise, else nearly so."""
        otherwise: list[_Hit] = []
        for page in pages:
            hits = self._lookup(value, page, fuzzy=False)
            if any(_is_plain(hit, value) for hit in hits):
                return hits
            otherwise = otherwise or hits
        if otherwise or not isinstance(value, str):
            return otherwise
        for page in pages[:_MAX_FUZZY_ELSEWHERE]:
            hits = self._lookup(value, page, fuzzy=True)
            if hits:
                return hits
        return []

    def _numbers(self, origin: Origin) -> Sequence[int]:
        return self._chunk_pages.get(origin.chunk_index, ())

    def _cited(self, origin: Origin) -> int | None:
        """The cited page, unless it is none of those the model saw."""
        numbers = self._numbers(origin)
        return origin.cite.part_number if not numbers or origin.cite.part_number in numbers else None

    def _lookup(self, value: Json, page: PageText, fuzzy: bool) -> list[_Hit]:
        key = (page.page_number, "fuzzy" if fuzzy else type(value).__name__, value)
        if key not in self._found:
            hits = _search(value, page)
            if not hits and fuzzy and isinstance(value, str):
                hits = _search_similar(value, page)
            self._found[key] = sorted(hits, key=_reading_place)
        return self._found[key]

    def _near_quote(self, hits: list[_Hit], page: PageText, quote: str | None) -> list[_Hit]:
        """Of several places those within the words the model quoted, when it quoted words that are there."""
        if quote is None or len(hits) < 2:
            return hits
        quoted = {word for span in page.find_text(quote) for word in span.words}
        return [hit for hit in hits if quoted.issuperset(hit.span.words)] or hits

    def _choose(self, options: Sequence[tuple[_Leaf, list[_Hit]]]) -> dict[str, _Hit]:
        """One place for each leaf of a group."""
        if not options:
            return {}
        if len(options) == 1:
            leaf, hits = options[0]
            return {leaf.pointer: self._take(leaf, self._best_alone(leaf, hits))}
        anchor = self._anchor(options)
        chosen: dict[str, _Hit] = {}
        used: set[tuple[int, tuple[int, ...], int]] = set()
        for leaf, hits in options:
            hit = min(hits, key=lambda h: self._cost(h, anchor, leaf) + (_TAKEN if h.key in used else 0.0))
            used.add(hit.key)
            chosen[leaf.pointer] = self._take(leaf, hit)
        self._last[_pattern(options[0][0].steps[:-1])] = anchor
        return chosen

    def _anchor(self, options: Sequence[tuple[_Leaf, list[_Hit]]]) -> _Hit:
        """The place of the rarest value that has the other values nearest to it."""
        rarest, hits = min(options, key=lambda option: len(option[1]))
        if len(hits) == 1:
            return hits[0]
        others = [_Rows(found) for leaf, found in options if leaf is not rarest]
        previous = self._last.get(_pattern(rarest.steps[:-1]))

        def cost(hit: _Hit) -> float:
            taken = _TAKEN if hit.key in self._taken[_pattern(rarest.steps)] else 0.0
            backwards = _BACKWARDS if previous and _reading_place(hit) < _reading_place(previous) else 0.0
            return taken + backwards + sum(rows.nearest(hit) for rows in others)

        return min(hits[:_MAX_ANCHORS], key=cost)

    def _cost(self, hit: _Hit, anchor: _Hit, leaf: _Leaf) -> float:
        taken = _TAKEN / 2 if hit.key in self._taken[_pattern(leaf.steps)] else 0.0
        return taken + _REWRITTEN * _is_rewritten(leaf, hit) + _distance(hit, anchor)

    def _best_alone(self, leaf: _Leaf, hits: Sequence[_Hit]) -> _Hit:
        """Without siblings: as the model wrote it, then with the field's own name on the line, then the first."""
        if len(hits) == 1:
            return hits[0]
        names = {token for token in _name_tokens(leaf.steps) if len(token) > 2}
        taken = self._taken[_pattern(leaf.steps)]

        def cost(hit: _Hit) -> tuple[bool, bool, int]:
            page = hit.page
            line = page.line_of[hit.span.words[0]]
            return (hit.key in taken, _is_rewritten(leaf, hit), -len(names & page.tokens_by_line[line]))

        return min(hits, key=cost)

    def _take(self, leaf: _Leaf, hit: _Hit) -> _Hit:
        self._taken[_pattern(leaf.steps)].add(hit.key)
        return hit

    def _at_time(self, origin: Origin, value: Json) -> Evidence | None:
        """The frame, of those the model saw, at whose time or end the value is: checked by us, though never printed."""
        cited = self._cited(origin)
        for number in dict.fromkeys((*(() if cited is None else (cited,)), *self._numbers(origin))):
            page = self._pages.get(number)
            moment = None if page is None else page.moment_marked(value)
            if moment is not None:
                return Evidence(grade="exact", start_s=moment.start_s, end_s=moment.end_s, frame_pts=moment.pts)
        return None

    def _evidence(self, leaf: _Leaf, origin: Origin, hit: _Hit | None) -> Evidence:
        if hit is not None:
            return _shown(hit.page, origin, hit.grade, hit.span)
        cited = self._cited(origin)
        numbers = [cited] if cited is not None else list(self._numbers(origin))
        number = cited if cited is not None or len(numbers) != 1 else numbers[0]
        pages = [self._pages.get(each) for each in numbers]
        page = pages[0] if len(pages) == 1 else None
        value = leaf.said_by(origin)
        if _is_time(leaf, value):
            timed = self._at_time(origin, value)
            if timed is not None:
                return timed
            if page is not None and page.is_time_of(value):
                return _shown(page, origin, "cited", None)
        if not numbers or any(each is None or not each.is_read_whole for each in pages):
            if page is not None and page.moments:
                return _shown(page, origin, "cited", None)
            is_video = any(each is not None and each.moments for each in pages)
            return Evidence(page=None if is_video else number, quote=origin.cite.quote, grade="cited")
        grade: Grade = "cited" if leaf.is_closed else "ungrounded"
        if page is None:
            return Evidence(page=number, quote=None, grade=grade)
        quoted = page.find_text(origin.cite.quote)[:1] if origin.cite.quote else []
        return _shown(page, origin, grade, quoted[0] if quoted else None)


def _is_time(leaf: _Leaf, value: Json) -> bool:
    """Whether a value is a time by its form (`0:12`) or by its field's name: `start_s`, `endTime`, `timestamp`."""
    if isinstance(value, str):
        return ":" in value
    names = [step for step in leaf.steps if not step.isdigit()]
    return bool(names) and bool(_TIME_NAME.search(names[-1]))


def _is_plain(hit: _Hit, value: Json) -> bool:
    """Whether a value stands there by itself and as given: no part of a word, no percentage, no other notation."""
    return not (hit.span.is_inner or hit.span.is_scaled or (isinstance(value, str) and hit.grade != "exact"))


def _shown(page: PageText, origin: Origin, grade: Grade, span: Span | None) -> Evidence:
    """Evidence at a place: page, box and printed words; of a video the interval, its frame, and the words if any."""
    quote = None if span is None else page.quote(span)
    moment = page.moment_at(origin.cite.time_s)
    if moment is not None:
        start_s, end_s, pts = moment
        quote = quote if span is not None or page.is_read_whole else origin.cite.quote
        return Evidence(quote=quote, grade=grade, start_s=start_s, end_s=end_s, frame_pts=pts)
    box = None if span is None else page.box(span)
    return Evidence(page=page.page_number, bbox=box, quote=quote, grade=grade)


class _Rows:
    """Places of one value by height on the page, to find the nearest to a given height quickly."""

    def __init__(self, hits: Sequence[_Hit]) -> None:
        self._heights: dict[int, list[float]] = defaultdict(list)
        for hit in hits:
            self._heights[hit.page.page_number].append(_height(hit))
        for heights in self._heights.values():
            heights.sort()

    def nearest(self, hit: _Hit) -> float:
        """Distance in line heights to the nearest place, at most `_FAR`."""
        heights = self._heights.get(hit.page.page_number)
        if not heights:
            return _FAR
        y = _height(hit)
        at = bisect_left(heights, y)
        gap = min(abs(heights[i] - y) for i in (at - 1, at) if 0 <= i < len(heights))
        return min(gap / _line_height(hit), _FAR)


def _search(value: Json, page: PageText) -> list[_Hit]:
    """Places where `value` stands, exactly or written otherwise."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return _search_number(value, page)
    text = str(value)
    hits = [_Hit(page, span, _grade(page, span, text)) for span in page.find_text(text)]
    dates = read_dates(text)
    if dates:
        known = {frozenset(hit.span.words) for hit in hits}
        spans = [span for date in dates for span in page.dates.get(date.isoformat(), ())]
        hits += [_Hit(page, span, "normalised") for span in spans if frozenset(span.words) not in known]
    if hits:
        return hits
    return [_Hit(page, span, "normalised") for span in _search_meaning(text, page)]


def _search_meaning(text: str, page: PageText) -> Sequence[Span]:
    """A text that says a number, a time or a currency, printed in other characters."""
    readings = read_amount(text).readings
    if len(readings) == 1:
        spans = page.numbers.get(readings[0], [])
        # A whole number in a text may be an identifier: 165 is not 165.00, but 1234 may be set as 1,234.
        same = [span for span in spans if squash(page.quote(span)) == text] if text.isdigit() else spans
        return _best_spans(same)
    if re.fullmatch(r"\d\d?:\d\d(?::\d\d)?", text):
        return page.times.get(text.zfill(5) if len(text) < 6 else text.zfill(8), [])
    return page.find_signs(CURRENCY_SIGNS[text]) if text in CURRENCY_SIGNS else []


def _search_number(value: float, page: PageText) -> list[_Hit]:
    wanted = Decimal(str(value))
    if not wanted.is_finite():
        return []
    texts = {str(value), str(int(value))} if float(value).is_integer() else {str(value)}
    spans = _best_spans(page.numbers.get(wanted, []))
    if spans:
        return [_Hit(page, s, "exact" if page.quote(s) in texts else "normalised") for s in spans]
    # The same amount with the other sign: discounts and credits are often printed without one.
    return [_Hit(page, span, "fuzzy") for span in _best_spans(page.numbers.get(-wanted, []))] if wanted else []


def _best_spans(spans: Sequence[Span]) -> list[Span]:
    """Whole words before parts of words, plain values before percentages."""
    for inner, scaled in ((False, False), (False, True), (True, False), (True, True)):
        found = [span for span in spans if span.is_inner == inner and span.is_scaled == scaled]
        if found:
            return found
    return []


def _search_similar(text: str, page: PageText) -> list[_Hit]:
    """The one place most like `text`: misread letters, or a text put together from pieces that stand apart."""
    needle = squash(text)
    if len(needle) < _MIN_FUZZY_CHARS:
        return []
    digits = sum(char.isdigit() for char in needle)
    if digits <= _MAX_FUZZY_DIGITS * len(needle):
        found = page.find_similar(text, _similarity_needed(len(needle)))
        if found is not None:
            return [_Hit(page, found[1], "fuzzy")]
    return _search_pieces(text, len(needle), page)


def _similarity_needed(size: int) -> float:
    if size >= _PROSE_CHARS:
        return _FUZZY_PROSE
    return _FUZZY_LONG if size >= _LONG_CHARS else _FUZZY_SHORT


def _search_pieces(text: str, size: int, page: PageText) -> list[_Hit]:
    """A text such as an address, whose parts stand on lines of their own: found when most of it is there."""
    pieces = [piece for piece in re.split(r"[,;\n|]+", text) if len(squash(piece)) >= _MIN_ELSEWHERE_CHARS]
    if len(pieces) < 2:
        return []
    words: list[int] = []
    covered = 0
    for piece in pieces:
        spans = page.find_text(piece)
        if not spans:
            continue
        covered += len(squash(piece))
        near = min(spans, key=lambda span: abs(page.line_of[span.words[0]] - page.line_of[words[-1]]) if words else 0)
        if words and abs(page.line_of[near.words[0]] - page.line_of[words[-1]]) > _FAR:
            return []
        words.extend(word for word in near.words if word not in words)
    if covered < _MIN_COVERED * size:
        return []
    return [_Hit(page, Span(tuple(words), 0, len(page.words[words[-1]].text)), "fuzzy")]


def _grade(page: PageText, span: Span, text: str) -> Grade:
    return "exact" if " ".join(page.quote(span).split()) == " ".join(text.split()) else "normalised"


def _is_rewritten(leaf: _Leaf, hit: _Hit) -> bool:
    """Whether a text stands there in another spelling. Numbers lose their spelling in JSON, so theirs says nothing."""
    return isinstance(leaf.value, str) and hit.grade != "exact"


def _reading_place(hit: _Hit) -> tuple[int, int, float]:
    word = hit.span.words[0]
    return (hit.page.page_number, hit.page.line_of[word], hit.page.words[word].bbox[0])


def _height(hit: _Hit) -> float:
    box = hit.page.words[hit.span.words[0]].bbox
    return (box[1] + box[3]) / 2


def _line_height(hit: _Hit) -> float:
    box = hit.page.words[hit.span.words[0]].bbox
    return max(box[3] - box[1], 1.0)


def _distance(hit: _Hit, anchor: _Hit) -> float:
    """In line heights; on one line what stands further left is a little nearer, so that columns keep their order."""
    if hit.page.page_number != anchor.page.page_number:
        return _FAR
    gap = abs(_height(hit) - _height(anchor)) / _line_height(anchor)
    return (0.0 if gap < 0.6 else gap) + hit.page.words[hit.span.words[0]].bbox[0] * 1e-5


def _pattern(steps: Sequence[str]) -> tuple[str, ...]:
    """The field a pointer names, whatever the item."""
    return tuple("*" if step.isdigit() else step for step in steps)


def _name_tokens(steps: Sequence[str]) -> list[str]:
    """The words of a field's name: `grossAmount` and `gross_amount` are two each."""
    name = steps[-1] if steps and not steps[-1].isdigit() else ""
    return tokens(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")))
