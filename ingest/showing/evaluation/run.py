"""The whole evaluation: files in, scores out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ingest.errors import ConfigError
from ingest.showing.evaluation.comparing import Comparison, compare
from ingest.showing.evaluation.documents import Known, Matching, match_names, read_predictions, read_truths
from ingest.showing.evaluation.scores import Counts, Evaluation, Shortfall, Tally, add_up
from ingest.showing.evaluation.settings import EvaluationOptions, split_path
from ingest.types import Json


def evaluate(predicted: Path, expected: Path, options: EvaluationOptions | None = None) -> Evaluation:
    """Compare the predictions at `predicted` with the truths at `expected`.

    `predicted` is a folder of records (or of bare data), one such file, or `records.jsonl`; `expected` a folder or
    file of truths. A record without data counts as an answer with every value missing. Raises ConfigError when a path
    holds nothing usable or no names match.
    """
    options = options or EvaluationOptions()
    matching = _match(predicted, expected)
    if not matching.pairs and not options.require_all:
        raise ConfigError(
            f"no prediction in {predicted} has its truth in {expected}: the names do not match "
            f"({_example(matching.untold)} and {_example(matching.unpredicted)}, for example)"
        )
    tally = Tally()
    for prediction, truth in matching.pairs:
        tally.add(prediction.name, truth.name, _compare(prediction.data, truth, options))
    if options.require_all:
        for truth in matching.unpredicted:
            tally.add(truth.name, truth.name, _compare(None, truth, options))
    reasons = matching.reasons
    alone = (truth.name for truth in matching.unpredicted)
    names = [f"{name} ({reasons[name]})" if name in reasons else name for name in alone]
    return Evaluation(
        overall=tally.overall,
        fields=tally.field_scores(),
        rows=tally.row_scores(),
        documents=tuple(tally.documents),
        unpredicted=tuple(names),
        untold=tuple(prediction.name for prediction in matching.untold),
        differences=tuple(tally.differences),
        differences_left_out=tally.differences_left_out,
        shortfalls=tuple(_shortfalls(tally, options)),
    )


def _compare(data: Json, truth: Known, options: EvaluationOptions) -> Comparison:
    """The comparison without what the truth says not to count."""
    if truth.unscored:
        options = replace(options, ignore=(*options.ignore, *truth.unscored))
    return compare(data, truth.data, options, truth.left_out)


def _match(predicted: Path, expected: Path) -> Matching:
    predictions, truths = read_predictions(predicted), read_truths(expected)
    if len(predictions) == 1 and not predicted.is_dir() and not expected.is_dir():
        # Two files named on the command line belong together, whatever they are called.
        return Matching([(predictions[0], truths[0])], [], [], {})
    return match_names(predictions, truths)


def _example(documents: Sequence[Known]) -> str:
    return repr(documents[0].name) if documents else "nothing"


def _shortfalls(tally: Tally, options: EvaluationOptions) -> Iterator[Shortfall]:
    for path, minimum in options.minimums.items():
        score = _score(tally, path)
        if score is None or score < minimum:
            yield Shortfall(path, minimum, score)


def _score(tally: Tally, path: str) -> float | None:
    """Of `all` and of fields the accuracy, of a list of objects the row F1."""
    steps = split_path(path)
    if path == "all":
        return tally.overall.accuracy
    if steps in tally.rows:
        return add_up(tally.below((*steps, "*"))).f1
    found: Counts = add_up(tally.below(steps))
    return found.accuracy
