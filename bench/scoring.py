"""Records against truth files, leaf by leaf, with the comparison that `ingest eval` uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.showing.evaluation import EvaluationOptions, compare, read_map
from ingest.showing.evaluation.comparing import LeafResult

_Score = Callable[[LeafResult], float]


@dataclass(frozen=True, slots=True)
class Leaves:
    """Compared values of several documents, each with the name of its document."""

    documents: int
    results: tuple[tuple[str, LeafResult], ...]

    def of(self, fields: Collection[str]) -> Leaves:
        """Only the values of these fields (truth paths, `*` for list items)."""
        return Leaves(self.documents, tuple(pair for pair in self.results if "/".join(pair[1].field) in fields))

    def outside_lists(self) -> Leaves:
        """Only the values that stand in no list."""
        return Leaves(self.documents, tuple(pair for pair in self.results if "*" not in pair[1].field))

    def count(self, *verdicts: str) -> int:
        """How many values have one of these verdicts."""
        return sum(leaf.verdict in verdicts for _, leaf in self.results)

    def accuracy(self) -> float | None:
        """Matched over all that the truth has or the record invents; None without any."""
        total = self.count("matched", "wrong", "missing", "invented")
        return self.count("matched") / total if total else None

    def f1(self) -> float | None:
        """Harmonic mean of precision (of what the record says) and recall (of what the truth has)."""
        matched, wrong = self.count("matched"), self.count("wrong")
        total = 2 * (matched + wrong) + self.count("missing", "invented")
        return 2 * matched / total if total else None

    def share_similar(self, least: float) -> float | None:
        """Share of the values in the truth that the record has with at least this similarity."""
        return self._mean(lambda leaf: float(leaf.verdict == "matched" or leaf.judgement.similarity >= least))

    def mean_token_f1(self) -> float | None:
        """Mean of the F1 of words in common; a missing value counts as 0."""
        return self._mean(lambda leaf: leaf.judgement.token_f1)

    def _mean(self, score: _Score) -> float | None:
        scores = [score(leaf) for _, leaf in self.results if leaf.verdict in ("matched", "wrong", "missing")]
        return sum(scores) / len(scores) if scores else None

    def describe(self) -> Iterator[str]:
        """What is not right, one line each."""
        for name, leaf in self.results:
            if leaf.verdict in ("wrong", "missing", "invented"):
                expected, predicted = (json.dumps(v, ensure_ascii=False) for v in (leaf.expected, leaf.predicted))
                yield f"  {name} {leaf.pointer}: {leaf.verdict}: expected {expected}, got {predicted}"


def read_leaves(out: Path, truth_folder: Path, map_file: Path | None, day_first: bool) -> Leaves:
    """Compare every record below `out` with `NAME.truth.json`. Raises FileNotFoundError when a record has no truth.

    Truth files may list JSON Pointers of values that the page does not show (`not_found_in_page_text`) and fields
    whose wording is free (`unscored`); neither counts.
    """
    renames = read_map(map_file) if map_file else {}
    results: list[tuple[str, LeafResult]] = []
    records = sorted(path for path in out.rglob("*.json") if path.name != "run.json")
    for path in records:
        record = json.loads(path.read_text(encoding="utf-8"))
        name = record["document"]["name"]
        content = json.loads((truth_folder / name).with_suffix(".truth.json").read_text(encoding="utf-8"))
        options = EvaluationOptions(map=renames, ignore=content.get("unscored", ()), day_first=day_first)
        left_out = content.get("not_found_in_page_text") or ()
        compared = compare(record["data"], content["truth"], options, left_out)
        results += [(name, leaf) for leaf in compared.leaves]
    return Leaves(len(records), tuple(results))
