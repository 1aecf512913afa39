"""How long an answer may get: at first little more than is expected, then all that the settings allow.

A call that dies without its usage is booked at all it may have written, so a limit of 32,768 tokens on an answer of 300
would let lost calls eat a small budget. An answer that does not fit the first limit is asked for once more at the full
one, before anything is cut in smaller chunks. Neither limit enters the request key of an answer: an answer that was not
cut off is the same answer under any limit, and one that was is kept under a key of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.engine.blueprint import Brief
from ingest.planning.pricing import first_output_tokens
from ingest.types import Chunk, Reply

_ALMOST = 0.9  # of the limit: an answer cut off before it met another bound than ours, and no higher limit helps


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """One limit to ask with. `key` is that of the call, `answer_key` that of an answer which may stand."""

    max_tokens: int
    key: str
    answer_key: str

    def cuts(self, reply: Reply) -> bool:
        """Whether the answer was cut off at this limit, and a higher one may help."""
        if self.key == self.answer_key or reply.finish_reason not in ("length", "unknown"):
            return False
        visible = reply.usage.output_tokens - reply.usage.reasoning_tokens
        return visible >= _ALMOST * self.max_tokens or not reply.usage.output_tokens

    def store_key(self, reply: Reply) -> str:
        """The key to keep an answer under."""
        return self.key if self.cuts(reply) else self.answer_key


def short_key(key: str) -> str:
    """The key of the call that asks for an answer at its first, lower limit."""
    return f"{key}-short"


def first_limit(brief: Brief, chunk: Chunk) -> int:
    """The output limit that a request about this chunk begins with; the full one where a lower one saves nothing.

    With thinking on an endpoint may count reasoning towards the limit (model-facts §14), so it is left alone.
    """
    full = int(brief.parameters["max_tokens"])
    if not brief.has_first_limit:
        return full
    return first_output_tokens(chunk.answer, full)


def output_limits(brief: Brief, chunk: Chunk, key: str, is_cut_short: bool) -> tuple[OutputLimit, ...]:
    """The limits to ask with, one after the other while answers are cut off.

    `is_cut_short` says that the ledger holds an answer to the first call already, which was cut off.
    """
    full = int(brief.parameters["max_tokens"])
    final = OutputLimit(full, key, key)
    first = first_limit(brief, chunk)
    if is_cut_short or first >= full:
        return (final,)
    return OutputLimit(first, short_key(key), key), final
