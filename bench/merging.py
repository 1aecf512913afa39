"""Time of merging and of finding evidence, beside the time of reading the same pages.

`python bench/merging.py` makes a PDF of 100 pages with a table on each, reads its words as the engine does, and finds
1,000 values in it: cited, uncited, and half of them nowhere to be found. Then it merges 1,000 chunks, with and without
context, and joins 5,000 names by key. Exit code 1 when evidence for the 1,000 values takes 2 seconds or more.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymupdf

from ingest.config import ReadingSettings
from ingest.merging.grounding import ground
from ingest.merging.merge import Origin, merge
from ingest.merging.pages import PageText
from ingest.reading import extractor_for
from ingest.reading.discover import Found, describe
from ingest.types import Chunk, Cite, Part, Partial, Rendering

PAGES, LINES, VALUES, GOAL_S = 100, 45, 1_000, 2.0
RENDERING = Rendering(max_pixels=400_000, max_bytes=2_000_000, min_side_px=14, max_aspect_ratio=150, jpeg_quality=80)


def main() -> int:
    """Measure and print; 0 when evidence is found in time."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_document(Path(folder) / "long.pdf")
        pages, reading_s = timed(lambda: read_pages(file))
    rows = [row_of(1 + n // 2, 3 + 20 * (n % 2)) for n in range(VALUES // 5)]
    lost = [{**row, "name": f"nowhere to be seen {n}", "article": f"ZZ-{n:05}"} for n, row in enumerate(rows)]
    print(f"{PAGES} pages, {sum(len(page.words) for page in pages.values())} words: read in {reading_s:.2f} s")
    worst_s = 0.0
    for label, data, is_cited in (("cited", rows, True), ("uncited", rows, False), ("half not there", lost, False)):
        fresh = {number: PageText(number, page.words) for number, page in pages.items()}
        origins = {
            f"/{n}/{key}": (Origin(0, Cite(1 + n // 2 if is_cited else None)),)
            for n, row in enumerate(data)
            for key in row
        }
        found, seconds = timed(lambda d=data, o=origins, p=fresh: ground(d, o, p, {0: tuple(p)}))
        graded = sum(places[0].grade not in ("cited", "ungrounded") for places in found.values())
        print(
            f"  evidence for {len(found)} values, {label}: {seconds:.2f} s, {seconds / reading_s:.2f} of reading,"
            f" {graded} found"
        )
        worst_s = max(worst_s, seconds)
    for context in (0, 1):
        partials, schema = chunks_of(1_000, context)
        merged, seconds = timed(lambda p=partials, s=schema: merge(p, s))
        print(f"merge of 1,000 chunks, {len(merged.data['rows'])} rows, context {context}: {seconds:.2f} s")
    merged, seconds = timed(lambda: merge(*names_of(500)))
    print(f"5,000 names of 500 chunks by key: {seconds:.2f} s, {len(merged.data['rows'])} entities")
    return int(worst_s >= GOAL_S)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its seconds of processor time, which other work on the machine does not change."""
    begin = time.process_time()
    result = call()
    return result, time.process_time() - begin


def row_of(page: int, line: int) -> dict[str, Any]:
    """A table row like no other."""
    number = page * LINES + line
    return {
        "article": f"AB-{number:05}",
        "name": f"Hexagon bolt p{page} size {line}",
        "date": f"2023-{line % 12 + 1:02}-{page % 28 + 1:02}",
        "price": round(number * 1.37, 2),
        "amount": round(number * 13.7, 1),
    }


def write_document(path: Path) -> Path:
    """A PDF with a table of `LINES` rows on each page, numbers and dates as printed in Germany."""
    with pymupdf.open() as document:
        for number in range(1, PAGES + 1):
            page = document.new_page()
            for line in range(LINES):
                row = row_of(number, line)
                day = ".".join(reversed(row["date"].split("-")))
                cells = (row["article"], row["name"], day, german(row["price"]), german(row["amount"]))
                for x, cell in zip((40, 110, 300, 390, 480), cells, strict=True):
                    page.insert_text((x, 60 + 16 * line), cell, fontsize=9)
        document.save(path)
    return path


def german(amount: float) -> str:
    """An amount as printed in Germany."""
    return f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))


def read_pages(file: Path) -> dict[int, PageText]:
    """The words of each page as the engine reads them."""
    settings = ReadingSettings()
    source = describe(Found(file.name, file), settings)
    extractor = extractor_for(source.media_type)
    document = extractor.open(source, settings)
    parts = [replace(part, mode="text") for part in document.parts]
    loaded = extractor.load(document, parts, RENDERING, settings)
    return {item.part.number: PageText(item.part.number, item.words) for item in loaded}


def chunks_of(count: int, context: int) -> tuple[list[Partial], dict[str, Any]]:
    """Chunks of one page with ten rows each; with context, each repeats the rows of the page before."""
    parts = [Part(n, "page", "text") for n in range(count)]
    partials = []
    for n in range(count):
        numbers = [n + 1] if n == 0 or not context else [n, n + 1]
        rows = [(row_of(number, line), number) for number in numbers for line in range(10)]
        cites = {f"/rows/{at}": Cite(number) for at, (_, number) in enumerate(rows)}
        chunk = Chunk(n, (parts[n],), tuple(parts[max(0, n - 1) : n]) if context else ())
        partials.append(Partial(chunk, {"total": n, "rows": [row for row, _ in rows]}, cites))
    return partials, {"properties": {"rows": {"type": "array"}, "total": {"x-merge": "last"}}}


def names_of(count: int) -> tuple[list[Partial], dict[str, Any]]:
    """Chunks with ten names each; every name comes twice, once with a letter misread."""
    partials = []
    for n in range(count):
        letters = [chr(97 + (n // 2 // 26**place) % 26) for place in range(3)]
        rows = [{"name": f"{''.join(letters) * 3}{chr(97 + at) * 2}berg & Companions", "pages": n} for at in range(10)]
        rows = [{**row, "name": row["name"].replace("Comp", "Cornp" if n % 2 else "Comp")} for row in rows]
        partials.append(Partial(Chunk(n, (Part(n, "page", "text"),)), {"rows": rows}, {}))
    rule = {"x-merge": "by-key", "x-merge-key": "name", "type": "array", "items": {"type": "object"}}
    return partials, {"properties": {"rows": rule}}


if __name__ == "__main__":
    sys.exit(main())
