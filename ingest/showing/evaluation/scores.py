"""The figures of an evaluation, and how they are made of leaves.

Of the leaves the truth has a value for (`expected`), each is matched, wrong, or missing. Values predicted where the
truth says there is none are invented. So

    accuracy = recall = matched / expected
    precision         = matched / (matched + wrong + invented)
    f1                = harmonic mean of the two

over all leaves alike (micro average). `extra` leaves, for which the truth has no place, count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ingest.showing.evaluation.comparing import Comparison, LeafResult
from ingest.showing.evaluation.settings import Path_
from ingest.types import Json

MAX_DIFFERENCES = 2_000
"""Leaves listed one by one in an evaluation."""


@dataclass(slots=True)
class Counts:
    """Leaves by verdict, and matched in which way. A leaf may match in several ways."""

    expected: int = 0
    matched: int = 0
    wrong: int = 0
    missing: int = 0
    invented: int = 0
    extra: int = 0
    exact: int = 0
    normalised: int = 0
    numeric: int = 0
    date: int = 0
    token_f1_sum: float = 0.0
    similarity_sum: float = 0.0

    def add(self, leaf: LeafResult) -> None:
        """Count one leaf."""
        if leaf.verdict in ("matched", "wrong", "missing"):
            self.expected += 1
            judgement = leaf.judgement
            self.exact += judgement.exact
            self.normalised += judgement.normalised
            self.numeric += judgement.numeric
            self.date += judgement.date
            self.token_f1_sum += judgement.token_f1
            self.similarity_sum += judgement.similarity
        setattr(self, leaf.verdict, getattr(self, leaf.verdict) + 1)

    @property
    def accuracy(self) -> float | None:
        """Share of expected leaves that match; None when none is expected. The same as recall."""
        return self.matched / self.expected if self.expected else None

    @property
    def precision(self) -> float | None:
        """Share of the values given that match; None when none was given."""
        given = self.matched + self.wrong + self.invented
        return self.matched / given if given else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall: twice the matches over expected and given values together."""
        total = self.expected + self.matched + self.wrong + self.invented
        return 2 * self.matched / total if total else None

    @property
    def token_f1(self) -> float | None:
        """Mean over the expected leaves; one that is missing has 0."""
        return self.token_f1_sum / self.expected if self.expected else None

    @property
    def similarity(self) -> float | None:
        """Mean over the expected leaves; one that is missing has 0."""
        return self.similarity_sum / self.expected if self.expected else None

    def to_dict(self) -> dict[str, Any]:
        """Counts and the scores made of them."""
        value = {name: count for name, count in asdict(self).items() if not name.endswith("_sum")}
        scores = {name: getattr(self, name) for name in ("accuracy", "precision", "f1", "token_f1", "similarity")}
        return value | {name: None if score is None else round(score, 6) for name, score in scores.items()}


@dataclass(frozen=True, slots=True)
class FieldScore:
    """The leaves of one field over all documents. `field` has `*` for list items."""

    field: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class RowScore:
    """One list of objects over all documents.

    A row of the truth and one of the prediction are paired when at least one compared leaf matches, so that the sum of
    matching leaves is the greatest possible. Rows of the truth without a partner are missing, those of the prediction
    invented. `whole` are the pairs in which every compared leaf matches. `leaves` are all compared leaves of the rows,
    those of missing and invented rows included: its F1 is the row F1 shown.
    """

    field: str
    expected: int
    predicted: int
    paired: int
    whole: int
    leaves: Counts

    @property
    def missing(self) -> int:
        """Rows of the truth that the prediction does not have."""
        return self.expected - self.paired

    @property
    def invented(self) -> int:
        """Rows of the prediction that the truth does not have."""
        return self.predicted - self.paired

    def to_dict(self) -> dict[str, Any]:
        """Row counts, and the scores of the rows' leaves."""
        return {
            "expected": self.expected,
            "predicted": self.predicted,
            "paired": self.paired,
            "missing": self.missing,
            "invented": self.invented,
            "whole": self.whole,
            "leaves": self.leaves.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """One document: the names it goes by on both sides, and its leaves."""

    name: str
    truth: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Difference:
    """A leaf that does not match."""

    document: str
    field: str
    pointer: str
    verdict: str
    expected: Json
    predicted: Json


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A field below its minimum. `score` is None when there is nothing to score, as for a field that does not exist."""

    field: str
    minimum: float
    score: float | None


@dataclass(frozen=True)
class Evaluation:
    """The result. `unpredicted` are truths without a prediction, `untold` predictions without a truth, with reasons."""

    overall: Counts
    fields: tuple[FieldScore, ...]
    rows: tuple[RowScore, ...]
    documents: tuple[DocumentScore, ...]
    unpredicted: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    differences_left_out: int = 0
    shortfalls: tuple[Shortfall, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as a JSON value."""
        return {
            "documents_scored": len(self.documents),
            "unpredicted": list(self.unpredicted),
            "untold": list(self.untold),
            "overall": self.overall.to_dict(),
            "fields": {score.field: score.counts.to_dict() for score in self.fields},
            "rows": {score.field: score.to_dict() for score in self.rows},
            "documents": {score.name: {"truth": score.truth} | score.counts.to_dict() for score in self.documents},
            "differences": [asdict(difference) for difference in self.differences],
            "differences_left_out": self.differences_left_out,
            "shortfalls": [asdict(shortfall) for shortfall in self.shortfalls],
        }


@dataclass(slots=True)
class _RowCounts:
    expected: int = 0
    predicted: int = 0
    paired: int = 0
    whole: int = 0


@dataclass(slots=True)
class Tally:
    """Adds up documents."""

    overall: Counts = field(default_factory=Counts)
    fields: dict[Path_, Counts] = field(default_factory=dict)
    rows: dict[Path_, _RowCounts] = field(default_factory=dict)
    documents: list[DocumentScore] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    differences_left_out: int = 0

    def add(self, name: str, truth: str, comparison: Comparison) -> None:
        """Count one document."""
        counts = Counts()
        for leaf in comparison.leaves:
            counts.add(leaf)
            self.overall.add(leaf)
            self.fields.setdefault(leaf.field, Counts()).add(leaf)
            if leaf.verdict not in ("matched", "extra"):
                self._note(name, leaf)
        for row in comparison.rows:
            total = self.rows.setdefault(row.field, _RowCounts())
            total.expected += row.expected
            total.predicted += row.predicted
            total.paired += row.paired
            total.whole += row.whole
        self.documents.append(DocumentScore(name, truth, counts))

    def _note(self, name: str, leaf: LeafResult) -> None:
        if len(self.differences) >= MAX_DIFFERENCES:
            self.differences_left_out += 1
            return
        place = "/".join(leaf.field)
        self.differences.append(Difference(name, place, leaf.pointer, leaf.verdict, leaf.expected, leaf.predicted))

    def field_scores(self) -> tuple[FieldScore, ...]:
        """Fields in the order in which they were met."""
        return tuple(FieldScore("/".join(path), counts) for path, counts in self.fields.items())

    def row_scores(self) -> tuple[RowScore, ...]:
        """Lists of objects in the order in which they were met."""
        found = []
        for path, total in self.rows.items():
            leaves = add_up(self.below((*path, "*")))
            found.append(RowScore("/".join(path), total.expected, total.predicted, total.paired, total.whole, leaves))
        return tuple(found)

    def below(self, path: Path_) -> Iterable[Counts]:
        """The counts of all fields at or below `path`."""
        return [counts for other, counts in self.fields.items() if other[: len(path)] == path]


def add_up(many: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    total = Counts()
    for counts in many:
        for name, value in asdict(counts).items():
            setattr(total, name, getattr(total, name) + value)
    return total
