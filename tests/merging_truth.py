"""A second opinion on where values stand: another PDF library's text, searched by plain string comparison."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pypdfium2

from ingest.merging.grounding import ground
from ingest.merging.merge import Origin
from ingest.merging.pages import PageText
from ingest.record import Evidence
from ingest.types import Cite

_MONTHS = "January February March April May June July August September October November December".split()
_SEPARATORS = ((",", "."), (".", ","), (" ", ","), ("'", "."), ("’", "."), ("", "."), ("", ","), ("\xa0", ","))


@dataclass
class Tally:
    """Of the values that stand on some page: found with the right page and a box that says them, found elsewhere, and
    boxes that do not say the value. `misses` lists what was not found right."""

    values: int = 0
    found: int = 0
    wrong_page: int = 0
    wrong_box: int = 0
    misses: list[str] | None = None

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.values + other.values,
            self.found + other.found,
            self.wrong_page + other.wrong_page,
            self.wrong_box + other.wrong_box,
            [*(self.misses or ()), *(other.misses or ())],
        )


def tally(path: Path, truth: Any, pages: dict[int, PageText]) -> Tally:
    """Ground the leaves of `truth`, uncited and with all pages in one chunk, and compare with the second opinion."""
    raw = raw_texts(path) if path.suffix == ".pdf" else {n: _joined(page) for n, page in pages.items()}
    leaves = dict(leaves_of(truth))
    found = ground(truth, {pointer: (Origin(0, Cite(None)),) for pointer in leaves}, pages, {0: tuple(pages)})
    total = Tally(misses=[])
    for pointer, value in leaves.items():
        stands = {number for number, text in raw.items() if says(text, value)}
        if stands:
            total += _judge(pointer, value, stands, found[pointer][0], pages)
    return total


def _judge(pointer: str, value: Any, stands: set[int], evidence: Evidence, pages: dict[int, PageText]) -> Tally:
    line = f"{pointer} {value!r} on {sorted(stands)}: {evidence.grade}, page {evidence.page}, {evidence.quote!r}"
    if evidence.bbox is None or evidence.page is None:
        return Tally(1, misses=[f"not found: {line}"])
    if evidence.page not in stands:
        return Tally(1, wrong_page=1, misses=[f"wrong page: {line}"])
    if not _box_says(pages[evidence.page], evidence, value):
        return Tally(1, wrong_box=1, misses=[f"wrong box: {line}"])
    return Tally(1, 1)


def _box_says(page: PageText, evidence: Evidence, value: Any) -> bool:
    """Whether the words under the box, in the order of the page, are the value and hardly more."""
    assert evidence.bbox is not None
    x0, y0, x1, y1 = evidence.bbox
    under = [
        word.text
        for word in page.words
        if word.bbox[2] > x0 + 0.2
        and word.bbox[0] < x1 - 0.2
        and y0 - 0.5 <= (word.bbox[1] + word.bbox[3]) / 2 <= y1 + 0.5
    ]
    text = " ".join(under)
    return says(text, value) or sorted(_solid(text)) == sorted(_solid(str(value)))


def raw_texts(path: Path) -> dict[int, str]:
    """The text of each page as pdfium has it."""
    with pypdfium2.PdfDocument(str(path)) as document:
        texts = {}
        for index in range(len(document)):
            page = document[index]
            textpage = page.get_textpage()
            texts[index + 1] = re.sub(r"[\r\n]+", "\n", textpage.get_text_bounded())
            textpage.close()
            page.close()
        return texts


def says(text: str, value: Any) -> bool:
    """Whether a text holds a value, by plain search for its common spellings."""
    if isinstance(value, bool) or not str(value).strip():
        return False
    if isinstance(value, int | float):
        return any(_stands(form, r"(?<![\d.,])", r"(?![.,]?\d)", text) for form in _spellings(value))
    line, printed = _line(text), value.strip()
    if any(_stands(form.lower(), r"(?<!\w)", r"(?!\w)", line) for form in _dates(value)):
        return True
    solid = _solid(value)
    if len(solid) < 5 or re.fullmatch(r"[-+(]?[\d.,]+[)%]?", printed):
        # Words of two columns may run into each other, figures and words do not make one.
        after = r"[\d]|[.,]\d" if printed[-1].isdigit() else r"\w"
        return _stands(printed.lower(), r"(?<![\w.,-])", rf"(?!{after})", text.lower())
    return solid in _solid(text)


def _stands(form: str, before: str, after: str, text: str) -> bool:
    return form in text and re.search(before + re.escape(form) + after, text) is not None


@lru_cache(maxsize=256)
def _line(text: str) -> str:
    return " ".join(text.split()).lower()


def _spellings(value: float) -> Iterator[str]:
    for decimals in range(5):
        text = f"{abs(value):,.{decimals}f}"
        if float(text.replace(",", "")) == abs(value):
            whole, _, rest = text.partition(".")
            yield from (whole.replace(",", group) + (point + rest if rest else "") for group, point in _SEPARATORS)


def _dates(value: str) -> Iterator[str]:
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", value)
    if match is None:
        return
    year, month, day = (int(group) for group in match.groups())
    yield value
    names = (_MONTHS[month - 1], _MONTHS[month - 1][:3])
    for d, m in ((f"{day:02}", f"{month:02}"), (str(day), str(month))):
        for y in (str(year), f"{year % 100:02}"):
            yield from (form for sep in "./-" for form in (f"{d}{sep}{m}{sep}{y}", f"{m}{sep}{d}{sep}{y}"))
            for name in names:
                yield from (
                    f"{name} {d}, {y}",
                    f"{d} {name} {y}",
                    f"{d}-{name}-{y}",
                    f"{name} {d} {y}",
                    f"{d}. {name} {y}",
                )
                yield from (f"{d}{end} day of {name}, {y}" for end in ("st", "nd", "rd", "th"))


def leaves_of(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves that are not null or booleans, by JSON Pointer."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves_of(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves_of(item, f"{pointer}/{number}")
    elif value is not None and not isinstance(value, bool):
        yield pointer, value


@lru_cache(maxsize=4_096)
def _solid(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _joined(page: PageText) -> str:
    return " ".join(word.text for word in page.words)
