"""Records compared with known answers: how every accuracy figure of this project is made.

`evaluate` pairs predictions with truths and scores them leaf by leaf; `render` shows the result to people, its
`to_dict` to programs. The modules: `documents` finds and pairs files, `judging` compares two values, `alignment` pairs
rows, `comparing` walks one document, `scores` adds up, `table` draws.
"""

from ingest.showing.evaluation.comparing import compare
from ingest.showing.evaluation.judging import Judgement, judge
from ingest.showing.evaluation.run import evaluate
from ingest.showing.evaluation.scores import DocumentScore, Evaluation, FieldScore, RowScore, Shortfall
from ingest.showing.evaluation.settings import EvaluationOptions, read_map
from ingest.showing.evaluation.table import render

__all__ = [
    "DocumentScore",
    "Evaluation",
    "EvaluationOptions",
    "FieldScore",
    "Judgement",
    "RowScore",
    "Shortfall",
    "compare",
    "evaluate",
    "judge",
    "read_map",
    "render",
]
