"""What a rule found: the value, where it stands, the label that led to it and how sure the rule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ingest.local.filler.candidates import Candidate
from ingest.local.filler.view import Row


@dataclass(frozen=True, slots=True)
class Found:
    """A value with its row (None when it follows from the whole document) and its confidence 0..1."""

    data: str | float | bool | list[Any]
    row: Row | None
    label: str | None = None
    confidence: float = 0.5
    printed: str | None = None

    @property
    def quote(self) -> str | None:
        """The printed words the value was read from: label and value where they are known, else the line."""
        if self.printed is not None:
            return self.printed
        return " ".join(segment.text for segment in self.row.segments) if self.row else None


def from_candidate(candidate: Candidate, confidence: float | None = None) -> Found:
    """The candidate as a finding; its score serves as confidence unless one is given."""
    sure = candidate.score if confidence is None else confidence
    return Found(candidate.data, candidate.row, candidate.label, round(min(max(sure, 0.05), 0.99), 3), candidate.quote)


def as_number(found: Found) -> float:
    """The value of a finding that a rule for numbers made."""
    assert isinstance(found.data, (int, float))
    return float(found.data)
