"""One document's data compared with its truth, leaf by leaf.

Only what the truth has is compared. A leaf of the prediction for which the truth has no place is `extra` and does not
count; where the truth says null or an empty list, a predicted value is `invented`, and does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ingest.showing.evaluation.alignment import MAX_EXACT_ROWS, Pair, best_pairing, good_pairing
from ingest.showing.evaluation.judging import NOTHING, Judgement, is_empty, is_within, judge, without_sign
from ingest.showing.evaluation.settings import EvaluationOptions, Path_, split_path
from ingest.types import Json
from ingest.values import canonical_json, normal_key

Verdict = Literal["matched", "wrong", "missing", "invented", "extra"]

# Pairing maximises matching leaves first, then rows that match as a whole, then likeness: each outweighs any sum of the
# next.
_MATCH: Final = 10**12
_WHOLE: Final = 10**8
_LIKENESS: Final = 10**3

_Weigh = Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class LeafResult:
    """One leaf. `field` has `*` for list items; `pointer` is its place in the truth, or in the prediction if extra."""

    field: Path_
    pointer: str
    verdict: Verdict
    expected: Json
    predicted: Json
    judgement: Judgement = NOTHING


@dataclass(frozen=True, slots=True)
class RowResult:
    """One list of objects: rows on either side, rows paired, and paired rows in which every compared leaf matches."""

    field: Path_
    expected: int
    predicted: int
    paired: int
    whole: int


@dataclass(slots=True)
class Comparison:
    """All that was compared in one document."""

    leaves: list[LeafResult] = field(default_factory=list)
    rows: list[RowResult] = field(default_factory=list)


def compare(
    predicted: Json, expected: Json, options: EvaluationOptions | None = None, left_out: Collection[str] = ()
) -> Comparison:
    """Compare data with truth. `left_out` are JSON Pointers into the truth that do not count."""
    options = options or EvaluationOptions()
    comparer = _Comparer(options, frozenset("/" + pointer.removeprefix("/") for pointer in left_out))
    comparer.compare(apply_map(predicted, expected, options), expected, (), "")
    return comparer.result


class _Comparer:
    def __init__(self, options: EvaluationOptions, left_out: frozenset[str]) -> None:
        self.result = Comparison()
        self._options = options
        self._left_out = left_out

    def compare(self, predicted: Json, expected: Json, path: Path_, pointer: str) -> None:
        """Compare what stands at `path`; `predicted` is None when nothing does."""
        if pointer in self._left_out:
            return
        if isinstance(expected, dict):
            self._compare_objects(predicted, expected, path, pointer)
        elif isinstance(expected, list):
            self._compare_lists(predicted, expected, path, pointer)
        elif isinstance(predicted, dict | list):
            self._note_all("invented", predicted, path, pointer)
            self._note_leaf(None, expected, path, pointer)
        else:
            self._note_leaf(predicted, expected, path, pointer)

    def _compare_objects(self, predicted: Json, expected: dict[str, Json], path: Path_, pointer: str) -> None:
        if not isinstance(predicted, dict):
            self._note_all("invented", predicted, path, pointer)
            predicted = {}
        for key, value in expected.items():
            self.compare(predicted.get(key), value, (*path, key), f"{pointer}/{_step(key)}")
        for key, value in predicted.items():
            if key not in expected:
                self._note_all("extra", value, (*path, key), f"{pointer}/{_step(key)}")

    def _compare_lists(self, predicted: Json, expected: list[Json], path: Path_, pointer: str) -> None:
        if not isinstance(predicted, list):
            predicted = [] if is_empty(predicted) else [predicted]
        if any(isinstance(item, dict | list) for item in (*expected, *predicted)):
            self._compare_rows(predicted, expected, path, pointer)
        else:
            self._compare_values(predicted, expected, path, pointer)

    def _compare_values(self, predicted: list[Json], expected: list[Json], path: Path_, pointer: str) -> None:
        """Lists of plain values as multisets: order does not count, repeats do."""
        below = (*path, "*")
        left = [n for n in _in_order(expected) if not is_empty(expected[n]) and f"{pointer}/{n}" not in self._left_out]
        right = [n for n in _in_order(predicted) if not is_empty(predicted[n])]

        def weigh(row: int, column: int) -> int:
            return self._weight(predicted[right[column]], expected[left[row]], below)[1]

        pairs = self._pair([[expected[n]] for n in left], [[predicted[n]] for n in right], weigh)
        for row, column in pairs:
            self._note_leaf(predicted[right[column]], expected[left[row]], below, f"{pointer}/{left[row]}")
        paired_left, paired_right = {row for row, _ in pairs}, {column for _, column in pairs}
        alone_left = [n for row, n in enumerate(left) if row not in paired_left]
        alone_right = [n for column, n in enumerate(right) if column not in paired_right]
        # What is left on both sides stands in each other's place; what is then still left is missing or invented.
        for n, other in zip(alone_left, alone_right, strict=False):
            self._note_leaf(predicted[other], expected[n], below, f"{pointer}/{n}")
        for n in alone_left[len(alone_right) :]:
            self._note_leaf(None, expected[n], below, f"{pointer}/{n}")
        for other in alone_right[len(alone_left) :]:
            self._note("invented", predicted[other], below, f"{pointer}/{other}")

    def _compare_rows(self, predicted: list[Json], expected: list[Json], path: Path_, pointer: str) -> None:
        """Lists of objects: rows are paired so that most leaves match; a pair without any match is no pair."""
        below = (*path, "*")
        left = [_Row(n, expected[n], below, self._options) for n in _in_order(expected)]
        left = [row for row in left if row.size and f"{pointer}/{row.number}" not in self._left_out]
        right = [_Row(n, predicted[n], below, self._options) for n in _in_order(predicted)]
        right = [row for row in right if row.size]
        weights: dict[Pair, tuple[int, int]] = {}

        def weigh(row: int, column: int) -> int:
            if (row, column) not in weights:
                weights[row, column] = self._weigh_rows(right[column], left[row])
            return weights[row, column][1]

        pairs = self._pair([row.keys for row in left], [row.keys for row in right], weigh)
        pairs = [(row, column) for row, column in pairs if weigh(row, column) and weights[row, column][0]]
        whole = 0
        for row, column in sorted(pairs, key=lambda pair: left[pair[0]].number):
            mark = len(self.result.leaves)
            self.compare(right[column].value, left[row].value, below, f"{pointer}/{left[row].number}")
            compared = [leaf for leaf in self.result.leaves[mark:] if leaf.verdict != "extra"]
            whole += all(leaf.verdict == "matched" for leaf in compared)
        self._note_alone(left, right, pairs, path, pointer)
        if self._options.is_compared(below) or any(self._options.is_compared(p) for row in left for p in row.paths):
            self.result.rows.append(RowResult(path, len(left), len(right), len(pairs), whole))

    def _note_alone(
        self, left: Sequence[_Row], right: Sequence[_Row], pairs: Sequence[Pair], path: Path_, pointer: str
    ) -> None:
        """Leaves of rows without a partner: missing ones, and invented ones in fields that rows of the truth have."""
        below = (*path, "*")
        paired_left, paired_right = {row for row, _ in pairs}, {column for _, column in pairs}
        for number, row in enumerate(left):
            if number not in paired_left:
                self.compare(None, row.value, below, f"{pointer}/{row.number}")
        known = {known for row in left for known in row.all_paths}
        for number, row in enumerate(right):
            if number in paired_right:
                continue
            for leaf_path, leaf_pointer, value in walk(row.value, below, f"{pointer}/{row.number}"):
                self._note("invented" if not known or leaf_path in known else "extra", value, leaf_path, leaf_pointer)

    def _pair(self, left: Sequence[Sequence[Json]], right: Sequence[Sequence[Json]], weigh: _Weigh) -> list[Pair]:
        if len(left) * len(right) > MAX_EXACT_ROWS**2:
            return good_pairing(_normal_keys(left), _normal_keys(right), weigh)
        return best_pairing([[weigh(row, column) for column in range(len(right))] for row in range(len(left))])

    def _weigh_rows(self, predicted: _Row, expected: _Row) -> tuple[int, int]:
        """(leaves that match, weight) of a pair of rows. Lists within rows count by the values they share."""
        matches, weight = 0, 0
        for path, value in expected.scalars.items():
            other = predicted.scalars.get(path)
            if other is not None:
                is_match, each = self._weight(other, value, path)
                matches += is_match
                weight += each
        shared = (expected.listed & predicted.listed).total() if expected.listed else 0
        matches += shared
        return matches, weight + shared * _MATCH + (_WHOLE if matches == expected.size else 0)

    def _weight(self, predicted: Json, expected: Json, path: Path_) -> tuple[bool, int]:
        judgement = self._judge(predicted, expected, path)
        is_match = self._is_match(judgement, path)
        return is_match, _MATCH * is_match + int(_LIKENESS * judgement.similarity)

    def _judge(self, predicted: Json, expected: Json, path: Path_) -> Judgement:
        if self._options.is_unsigned(path):
            predicted, expected = without_sign(predicted), without_sign(expected)
        judgement = judge(predicted, expected, self._options)
        distance = self._options.distance_allowed(path)
        if distance is None or judgement.numeric or not is_within(predicted, expected, distance):
            return judgement
        return judgement._replace(numeric=True)

    def _is_match(self, judgement: Judgement, path: Path_) -> bool:
        needed = self._options.similarity_needed(path)
        return judgement.is_match or (needed is not None and judgement.similarity >= needed)

    def _note_leaf(self, predicted: Json, expected: Json, path: Path_, pointer: str) -> None:
        """A leaf that the truth has a place for."""
        if pointer in self._left_out or not self._options.is_compared(path):
            return
        if is_empty(expected):
            self._note("invented", predicted, path, pointer)
        elif is_empty(predicted):
            self.result.leaves.append(LeafResult(path, pointer, "missing", expected, None))
        else:
            judgement = self._judge(predicted, expected, path)
            verdict: Verdict = "matched" if self._is_match(judgement, path) else "wrong"
            self.result.leaves.append(LeafResult(path, pointer, verdict, expected, predicted, judgement))

    def _note(self, verdict: Verdict, predicted: Json, path: Path_, pointer: str) -> None:
        """A leaf of the prediction that the truth does not have."""
        if not is_empty(predicted) and self._options.is_compared(path):
            self.result.leaves.append(LeafResult(path, pointer, verdict, None, predicted))

    def _note_all(self, verdict: Verdict, predicted: Json, path: Path_, pointer: str) -> None:
        for leaf_path, leaf_pointer, value in walk(predicted, path, pointer):
            self._note(verdict, value, leaf_path, leaf_pointer)


class _Row:
    """An item of a list, its leaves sorted by whether they stand in a list of their own."""

    __slots__ = ("all_paths", "keys", "listed", "number", "paths", "scalars", "size", "value")

    def __init__(self, number: int, value: Json, path: Path_, options: EvaluationOptions) -> None:
        self.number = number
        self.value = value
        self.scalars: dict[Path_, Json] = {}
        listed: list[Hashable] = []
        self.all_paths: set[Path_] = set()
        for leaf_path, _, leaf in walk(value, path, ""):
            self.all_paths.add(leaf_path)
            if is_empty(leaf) or not options.is_compared(leaf_path):
                continue
            if "*" in leaf_path[len(path) :]:
                listed.append((leaf_path, normal_key(leaf)))
            else:
                self.scalars[leaf_path] = leaf
        self.listed = Counter(listed)
        self.size = len(self.scalars) + len(listed)
        self.paths = set(self.scalars)
        self.keys: list[Json] = [*self.scalars.items(), *listed]


def _normal_keys(rows: Sequence[Sequence[Json]]) -> list[list[Hashable]]:
    return [[(k[0], normal_key(k[1])) if isinstance(k, tuple) else normal_key(k) for k in row] for row in rows]


def _in_order(items: Sequence[Json]) -> list[int]:
    """Numbers of the items, in an order that does not depend on theirs, so that equally good pairings do not either."""
    return sorted(range(len(items)), key=lambda number: canonical_json(items[number]))


def walk(value: Json, path: Path_, pointer: str) -> Iterator[tuple[Path_, str, Json]]:
    """The leaves below a value: (field, JSON Pointer, value), nulls included."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*path, key), f"{pointer}/{_step(key)}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from walk(item, (*path, "*"), f"{pointer}/{number}")
    else:
        yield path, pointer, value


def _step(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def apply_map(predicted: Json, expected: Json, options: EvaluationOptions) -> Json:
    """The prediction with the fields of `options.map` moved to the truth's paths.

    One map may serve truths of several shapes: an entry for a field that this truth does not have moves nothing.
    """
    if not options.map or not isinstance(predicted, dict):
        return predicted
    entries = sorted((split_path(truth), split_path(source)) for truth, source in options.map.items())
    moves = [(truth, source) for truth, source in entries if any(True for _ in _select(expected, truth, ()))]
    found = [(truth, list(_select(predicted, source, ()))) for truth, source in moves]
    shaped = _copy(predicted)
    for _, source in moves:
        _remove(shaped, source)
    for truth, _ in moves:
        _remove(shaped, truth)
    for truth, values in found:
        for numbers, value in values:
            shaped = _put(shaped, truth, numbers, _copy(value))
    return shaped


def _select(value: Json, path: Path_, numbers: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Json]]:
    """The values at `path`, each with the numbers its `*` stand for."""
    if not path:
        yield numbers, value
    elif path[0] == "*" and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _select(item, path[1:], (*numbers, number))
    elif isinstance(value, dict) and path[0] in value:
        yield from _select(value[path[0]], path[1:], numbers)


def _remove(value: Json, path: Path_) -> None:
    if isinstance(value, list) and path[0] == "*" and len(path) > 1:
        for item in value:
            _remove(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        if len(path) == 1:
            del value[path[0]]
        else:
            _remove(value[path[0]], path[1:])


def _put(value: Json, path: Path_, numbers: tuple[int, ...], leaf: Json) -> Json:
    """`value` with `leaf` at `path`, whose `*` stand for `numbers`; objects and lists are made as needed."""
    if not path:
        return leaf
    if path[0] == "*":
        items = value if isinstance(value, list) else []
        items.extend({} for _ in range(numbers[0] + 1 - len(items)))
        items[numbers[0]] = _put(items[numbers[0]], path[1:], numbers[1:], leaf)
        return items
    fields = value if isinstance(value, dict) else {}
    fields[path[0]] = _put(fields.get(path[0]), path[1:], numbers, leaf)
    return fields


def _copy(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
