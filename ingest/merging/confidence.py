"""How far a value can be trusted, from evidence that we hold ourselves; what the model claims plays no part.

The figures are an order, not a measured probability: a value found word for word before one that was only cited, one
that two chunks agree on before one that a single chunk says, one that makes a declared check fail behind all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ingest.merging.arithmetic import Verdict
from ingest.merging.merge import Origins
from ingest.record import Conflict, Evidence, Grade

# What each kind of evidence leaves of doubt.
_DOUBT: Final[dict[Grade, float]] = {
    "exact": 0.05,
    "normalised": 0.08,
    "fuzzy": 0.25,
    "cited": 0.4,
    "ungrounded": 0.7,
}
_NO_EVIDENCE: Final = 0.5
# The share of the doubt that stays when chunks agree, or a check holds.
_AGREED: Final = 0.6
_HELD: Final = 0.5
# The share of the trust that stays when chunks disagree, or a check fails.
_DISPUTED: Final = 0.6
_FAILED: Final = 0.5


def confidence(
    grades: Iterable[Grade], agreeing_chunks: int = 1, is_disputed: bool = False, held: int = 0, failed: int = 0
) -> float:
    """Trust in one value, 0 to 1 with two decimals.

    The best of its `grades` (see `record.Evidence`) sets out. Each further chunk that says the same, up to two, and
    one or more declared checks that hold leave a share of the doubt; chunks that disagree, and one or more checks that
    fail, a share of the trust.
    """
    doubt = min((_DOUBT[grade] for grade in grades), default=_NO_EVIDENCE)
    doubt *= _AGREED ** min(max(agreeing_chunks - 1, 0), 2)
    if held and not failed:
        doubt *= _HELD
    trust = 1 - doubt
    if is_disputed:
        trust *= _DISPUTED
    if failed:
        trust *= _FAILED
    return round(trust, 2)


def confidences(
    provenance: Mapping[str, Sequence[Evidence]],
    origins: Mapping[str, Origins],
    conflicts: Sequence[Conflict],
    verdicts: Sequence[Verdict],
) -> dict[str, float]:
    """`confidence` of every value that has evidence, by JSON Pointer, in the order of `provenance`."""
    held: dict[str, int] = {}
    failed: dict[str, int] = {}
    for verdict in verdicts:
        counts = held if verdict.holds else failed
        for pointer in verdict.pointers:
            counts[pointer] = counts.get(pointer, 0) + 1
    disputed = {conflict.pointer for conflict in conflicts}
    return {
        pointer: confidence(
            (place.grade for place in places),
            len({origin.chunk_index for origin in origins.get(pointer, ())}),
            any(above in disputed for above in _above(pointer)) if disputed else False,
            held.get(pointer, 0),
            failed.get(pointer, 0),
        )
        for pointer, places in provenance.items()
    }


def _above(pointer: str) -> list[str]:
    """The pointer and all that lead to it."""
    steps = pointer.split("/")
    return ["/".join(steps[:count]) for count in range(1, len(steps) + 1)]
