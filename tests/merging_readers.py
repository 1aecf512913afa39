"""Readers in the model's place: they know the truth of a document and answer each chunk from it, well or badly."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ingest.types import Chunk, Cite, Part, Partial

TEXT = {"type": ["string", "null"]}
NUMBER = {"type": ["number", "null"]}
ROW_FIELDS = {"position": TEXT, "article": TEXT, "name": TEXT, "quantity": NUMBER, "price": NUMBER, "amount": NUMBER}
INVOICE = {
    "type": "object",
    "properties": {
        "number": TEXT,
        "date": TEXT,
        "seller": {"type": "object", "properties": {"name": TEXT, "city": TEXT}},
        "lines": {"type": "array", "items": {"type": "object", "properties": ROW_FIELDS}},
        "net": {**NUMBER, "x-merge": "last"},
        "gross": {**NUMBER, "x-merge": "last"},
    },
}


@dataclass(frozen=True)
class Truth:
    """A document as it is: `pages` of them, its rows in order each with its page, its other values each with the pages
    that print it (by steps joined with a slash)."""

    pages: int
    rows: tuple[tuple[dict[str, Any], int], ...]
    values: dict[str, tuple[Any, tuple[int, ...]]] = field(default_factory=dict)
    schema: dict[str, Any] = field(default_factory=lambda: INVOICE)

    @property
    def data(self) -> dict[str, Any]:
        """What a record must hold."""
        return self._data(set(range(1, self.pages + 1)))

    def _data(self, numbers: set[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.schema["properties"]:
            if name == "lines":
                found[name] = [row for row, page in self.rows if page in numbers]
            elif name in self.values:
                value, pages = self.values[name]
                found[name] = value if numbers & set(pages) else None
            else:
                inner = [path for path in self.values if path.startswith(f"{name}/")]
                found[name] = {
                    path.split("/")[1]: self.values[path][0] if numbers & set(self.values[path][1]) else None
                    for path in inner
                }
        return found


def draw_invoice(dice: random.Random, rows: int, pages: int) -> Truth:
    """An invoice whose lines repeat now and then, next to each other, over page ends, and with empty fields."""
    lines: list[dict[str, Any]] = []
    for number in range(1, rows + 1):
        if lines and dice.random() < 0.15:
            lines.append(dict(dice.choice(lines[-3:])))
            continue
        quantity, price = dice.randint(1, 9), dice.randint(1, 9_999) / 100
        kind = dice.choice(["Cable", "Screw", "steel plate,", "Nut M6", "螺丝"])
        name = f"{kind} {dice.choice(['grey', '2 m', 'A-17', ''])}"
        line = {
            "position": str(number) if dice.random() < 0.8 else None,
            "article": dice.choice([f"A{dice.randint(1, 30):03}", None]),
            "name": name.strip(),
            "quantity": dice.choice([quantity, None]),
            "price": price if dice.random() < 0.9 else None,
            "amount": round(quantity * price, 2) if dice.random() < 0.97 else None,
        }
        lines.append(line)
    borders = sorted(dice.randint(0, rows) for _ in range(pages - 1))
    placed = tuple((line, 1 + sum(border <= n for border in borders)) for n, line in enumerate(lines))
    everywhere = tuple(range(1, pages + 1))
    values = {
        "number": (f"RE-{dice.randint(1, 99_999):05}", everywhere),
        "date": ("2024-03-05", (1,)),
        "seller/name": ("Acme GmbH", everywhere),
        "seller/city": ("Köln", (1, pages)),
        "net": (round(dice.random() * 9_000, 2), (pages,)),
        "gross": (round(dice.random() * 9_000, 2), (max(1, pages - 1),)),
    }
    return Truth(pages, placed, values)


def cut(pages: int, borders: Sequence[int], context: int = 0) -> list[Chunk]:
    """Chunks of a document of so many pages, cut before the pages of index `borders`, with neighbours as context."""
    parts = [Part(index, "page", "text") for index in range(pages)]
    edges = [0, *sorted({border for border in borders if 0 < border < pages}), pages]
    chunks = []
    for index, (start, end) in enumerate(pairwise(edges)):
        around = parts[max(0, start - context) : start] + parts[end : end + context]
        chunks.append(Chunk(index, tuple(parts[start:end]), tuple(around)))
    return chunks


def read_exactly(truth: Truth, chunk: Chunk, is_cited: bool = True) -> Partial:
    """The truth restricted to what the chunk owns."""
    numbers = {part.number for part in chunk.owned}
    pages = [page for _, page in truth.rows if page in numbers]
    cites = {f"/lines/{n}": Cite(page) for n, page in enumerate(pages)}
    for path, (_, places) in truth.values.items():
        if here := sorted(numbers & set(places)):
            cites[f"/{path}"] = Cite(here[0])
    return Partial(chunk, truth._data(numbers), cites if is_cited else {})


@dataclass
class NoisyReader:
    """Repeats the rows of context pages, varies case and spacing, and overlooks some rows at the borders of chunks.

    `dropped` are the numbers of the rows it overlooked where it had to report them, `misread` how often it got the
    number of the document wrong.
    """

    dice: random.Random
    dropped: Counter[int] = field(default_factory=Counter)
    misread: int = 0

    def read(self, truth: Truth, chunk: Chunk) -> Partial:
        """An answer to the chunk."""
        owned, carried = ({part.number for part in parts} for parts in (chunk.owned, chunk.context))
        seen = [n for n, (_, page) in enumerate(truth.rows) if page in owned | carried]
        own = [n for n in seen if truth.rows[n][1] in owned]
        kept = []
        for n in seen:
            if own and n in (own[0], own[-1]) and self.dice.random() < 0.02:
                self.dropped[n] += 1
                continue
            kept.append(n)
        partial = read_exactly(truth, chunk)
        data = dict(partial.data)
        data["lines"] = [{key: self._vary(value) for key, value in truth.rows[n][0].items()} for n in kept]
        if self.dice.random() < 0.1:
            data["number"] = "RE-00000"
            self.misread += 1
        cites = {pointer: cite for pointer, cite in partial.cites.items() if not pointer.startswith("/lines")}
        cites |= {f"/lines/{at}": Cite(truth.rows[n][1]) for at, n in enumerate(kept)}
        return Partial(chunk, data, cites)

    def _vary(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return self.dice.choice([value, value.upper(), value.lower(), value.replace(" ", "  "), f" {value}"])


def plain(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """A row without differences of case and spacing, to compare and count with."""
    return tuple(
        (key, re.sub(r"\s+", " ", value).strip().casefold() if isinstance(value, str) else value)
        for key, value in sorted(row.items())
        if value is not None
    )
