"""Made-up documents for tests of planning, the requests they become, and what the local engine counts for those."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.asking.prompt import Frame, contents
from ingest.local.accounting import Tokenizer, count_input
from ingest.local.contract import Ask, Message, TextPart
from ingest.local.images import ImagePart
from ingest.local.numbers import ServedModel, load_numbers
from ingest.planning.calibration import Calibration
from ingest.planning.chunks import Planner, request_limits
from ingest.planning.tokens import count_preamble
from ingest.profile import load_profile
from ingest.types import Chunk, Document, Estimate, Loaded, Part, Source, Text, TextStats

PROFILE = load_profile("seed-2-0-pro")
FRAME = Frame(
    "You extract data from documents. You are given pages of one document. " * 30,
    "Every position of the invoice is one entry: number, text, quantity, price and amount. " * 20,
    "Extract the data from the document above as JSON that fits the schema.",
)
_WORDS = {
    "en": (
        "the buyer shall pay within thirty days of receipt unless otherwise agreed in writing by both parties and the"
        " supplier may suspend further deliveries until payment has been made in full under this Agreement for all"
        " Goods, Services and expenses listed in Schedule B (see clause 14.2), including reasonable attorneys' fees."
    ).split(),
    "de": (
        "der Käufer hat innerhalb von 30 Tagen nach Erhalt der Rechnung zu zahlen, sofern die Parteien nichts anderes"
        " vereinbart haben, und der Lieferant kann weitere Lieferungen bis zur vollen Zahlung aussetzen. Für alle Waren"
        " und Leistungen gilt die gesetzliche Umsatzsteuer gemäß § 12 des Vertrags in seiner jeweils gültigen Fassung."
    ).split(),
    "zh": "买方应在收到发票后三十日内支付货款逾期付款的应当承担违约责任",
}


@dataclass(frozen=True)
class Paper:
    """A document with the text of each page; pages of mode image have an empty one."""

    document: Document
    texts: tuple[str, ...]


def document_of(parts: Sequence[Part], size_bytes: int = 1) -> Document:
    """A document of these parts that is in no file."""
    return Document(
        Source("a.pdf", "file:///a.pdf", Path("/a.pdf"), size_bytes, "0" * 64, "application/pdf"), tuple(parts)
    )


def page_text(rng: random.Random, lines: int, kind: str) -> str:
    """A page as laid out: prose of a language, or rows of a table with its gaps."""
    if kind == "table":
        rows = (
            f"{rng.randint(1, 999):>4}   {' '.join(rng.choices(_WORDS['en'], k=3)):<40}{rng.uniform(1, 9e4):>14,.2f}"
            f"{rng.uniform(1, 9e5):>16,.2f}"
            for _ in range(lines)
        )
        return "\n".join(rows)
    joint = "" if kind == "zh" else " "
    return "\n".join(joint.join(rng.choices(_WORDS[kind], k=40 if kind == "zh" else 11)) for _ in range(lines))


def paper(pages: Sequence[tuple[str, int, str]], seed: int = 0) -> Paper:
    """A document of pages given as (mode, lines, kind of text)."""
    rng = random.Random(seed)
    texts = tuple("" if mode == "image" else page_text(rng, lines, kind) for mode, lines, kind in pages)
    parts = [
        Part(index, "page", mode, text=TextStats.of(text))  # type: ignore[arg-type]
        for index, ((mode, _, _), text) in enumerate(zip(pages, texts, strict=True))
    ]
    return Paper(document_of(parts), texts)


def planner(
    calibration: Calibration | None = None, target_tokens: int | None = None, context_parts: int = 0
) -> Planner:
    """The planner of the default profile for requests with `FRAME`."""
    preamble = count_preamble((FRAME.system, FRAME.opening, FRAME.closing), PROFILE)
    estimate = Estimate(preamble.total, preamble.total_safe)
    limits = request_limits(PROFILE, estimate, target_tokens, PROFILE.default_output_tokens)
    return Planner(PROFILE, "high", limits, context_parts, calibration or Calibration())


def served_tokens(paper: Paper, chunk: Chunk, skew: Mapping[str, float] | None = None) -> int:
    """What the local engine's own counter makes of the request for a chunk, its counts skewed by kind.

    A piece of a page has its share of the lines, as reading cuts it.
    """
    sent = contents(FRAME, paper.document, chunk, [_loaded(paper, part) for part in chunk.parts])
    parts = tuple(
        TextPart(content.text) if isinstance(content, Text) else ImagePart(b"", "image/jpeg", 1264, 1786)
        for content in sent
    )
    messages = (Message("system", (TextPart(FRAME.system),)), Message("user", parts))
    numbers = load_numbers("seed-2.0")
    ask = Ask(ServedModel("seed-2-0-pro", numbers, False), messages, 32_768, image_detail="high")
    return sum(count_input(ask, Tokenizer(skew=skew)).values())


def _loaded(paper: Paper, part: Part) -> Loaded:
    found: list[Text | str] = []
    if part.mode != "image":
        lines = paper.texts[part.index].split("\n")
        start, stop = (len(lines) * at // part.pieces for at in (part.piece, part.piece + 1))
        found.append(Text("\n".join(lines[start:stop])))
    if part.mode != "text":
        found.append("image")
    return Loaded(part, tuple(found))  # type: ignore[arg-type]
