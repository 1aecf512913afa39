"""Checks that a recipe or a schema declares, such as `sum(lines[*].amount) = net`: a small language of its own.

No library fits: JMESPath has no arithmetic, and evaluators of Python expressions know no paths into JSON. The language
has numbers, paths, `+ - * /`, brackets, the functions below and one comparison. It reads values and does nothing else.

    check      = sum ("=" | "!=" | "<" | "<=" | ">" | ">=") sum
    path       = name { "." name | "[*]" | "[" number "]" }        name: letters, digits, _; others in double quotes
    functions  = sum min max count abs

`[*]` inside `sum min max count` gathers the values of all entries. Outside of them it makes the check one of each entry
of that list. A check with a value that is null or missing does not apply. Numbers are decimals, never floats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Final, NamedTuple, TypeAlias

from ingest.errors import ConfigError
from ingest.merging.shape import Shape, escape, root_shape
from ingest.record import ProblemInfo
from ingest.types import Json, JsonObject

_TOKEN: Final = re.compile(
    r'\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[^\W\d]\w*|"[^"]+")|(?P<mark>\[\*\]|[<>!=]=|[-+*/()<>=.\[\]]))'
)
_COMPARISONS: Final[dict[str, Callable[[Decimal], bool]]] = {
    "=": lambda excess: excess == 0,
    "==": lambda excess: excess == 0,
    "!=": lambda excess: excess != 0,
    "<": lambda excess: excess < 0,
    "<=": lambda excess: excess <= 0,
    ">": lambda excess: excess > 0,
    ">=": lambda excess: excess >= 0,
}
_GATHERING: Final = ("sum", "min", "max", "count")
_FUNCTIONS: Final = (*_GATHERING, "abs")
# Printed amounts are rounded to the last digit: half a cent for each value that enters a comparison.
_HALF_CENT: Final = Decimal("0.005")
_MAX_CHARS: Final = 500
_MAX_DEPTH: Final = 20
_MAX_FAILURES: Final = 20

_Step: TypeAlias = str | int
_EACH: Final = "*"


class _Value(NamedTuple):
    """A number and where it comes from; None when a value it needs is not there."""

    number: Decimal | None
    pointers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Path:
    steps: tuple[_Step, ...]
    each: tuple[bool, ...]  # which of the steps are [*]


@dataclass(frozen=True, slots=True)
class _Number:
    value: Decimal


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    argument: _Node


@dataclass(frozen=True, slots=True)
class _Binary:
    operator: str
    left: _Node
    right: _Node


_Node: TypeAlias = _Path | _Number | _Call | _Binary


@dataclass(frozen=True, slots=True)
class Check:
    """One declared check. `tolerance` None allows half a cent for each value that enters."""

    text: str
    left: _Node
    operator: str
    right: _Node
    tolerance: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a check, at one entry where it is one of each entry; `pointers` are the values involved."""

    check: Check
    holds: bool
    left: Decimal
    right: Decimal
    pointers: tuple[str, ...]


def read_checks(declared: Sequence[str | JsonObject], schema: JsonObject) -> tuple[Check, ...]:
    """The checks of a recipe (`[[check]]`) and of the schema's root (`x-check`), the recipe's first.

    Each is the text of a check, or an object with `that` and perhaps `tolerance`. Raises ConfigError for one that
    cannot be read, or that names a field the schema does not have.
    """
    own = schema.get("x-check", [])
    if not isinstance(own, list):
        own = [own]
    return tuple(_read(each, schema) for each in (*declared, *own))


def run_checks(data: Json, checks: Sequence[Check]) -> tuple[Verdict, ...]:
    """The verdict on every check that applies, in their order."""
    return tuple(verdict for check in checks for verdict in _verdicts(check, data))


def problems_of(verdicts: Sequence[Verdict]) -> tuple[ProblemInfo, ...]:
    """A problem for each check that does not hold; of one that fails at many entries the first, and how many."""
    problems = []
    for check in dict.fromkeys(verdict.check for verdict in verdicts):
        failed = [verdict for verdict in verdicts if verdict.check == check and not verdict.holds]
        for verdict in failed[:_MAX_FAILURES]:
            message = f"{check.text}: {_shown(verdict.left)} and {_shown(verdict.right)}"
            pointer = verdict.pointers[0] if len(verdict.pointers) == 1 else _common(verdict.pointers)
            problems.append(ProblemInfo(stage="check", code="check_failed", message=message, pointer=pointer))
        if len(failed) > _MAX_FAILURES:
            message = f"{check.text}: fails at {len(failed)} entries; the others are not listed"
            problems.append(ProblemInfo(stage="check", code="check_failed", message=message))
    return tuple(problems)


def _shown(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _common(pointers: Sequence[str]) -> str | None:
    """The entry all the pointers lead into; None when that is the whole data."""
    split = [pointer.split("/") for pointer in pointers]
    shared = []
    for steps in zip(*split, strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return "/".join(shared) or None


# --- reading ---


def _read(declared: str | JsonObject, schema: JsonObject) -> Check:
    table = {"that": declared} if isinstance(declared, str) else declared
    text, tolerance = table.get("that"), table.get("tolerance")
    if not isinstance(text, str) or not set(table) <= {"that", "tolerance"}:
        raise ConfigError('a check is a text, or a table with "that" and perhaps "tolerance"')
    if tolerance is not None and (isinstance(tolerance, bool) or not isinstance(tolerance, int | float)):
        raise ConfigError(f"check {text!r}: the tolerance must be a number")
    if tolerance is not None and not 0 <= tolerance < float("inf"):
        raise ConfigError(f"check {text!r}: the tolerance must be 0 or more")
    left, operator, right = _Parser(text).comparison()
    check = Check(text, left, operator, right, None if tolerance is None else Decimal(str(tolerance)))
    root = root_shape(schema)
    for path in (*_paths(left), *_paths(right)):
        _check_path(text, path, root)
    lists = {path.steps[: path.each.index(True)] for path in _free_paths(check)}
    if len(lists) > 1:
        raise ConfigError(f"check {text!r}: only entries of one list can be compared with one another")
    return check


def _check_path(text: str, path: _Path, shape: Shape) -> None:
    for step, is_each in zip(path.steps, path.each, strict=True):
        if is_each or isinstance(step, int):
            if "array" not in shape.types:
                raise ConfigError(f"check {text!r}: [{step}] stands behind something that is no list")
            shape = shape.items
        elif shape.has_child(step):
            shape = shape.child(step)
        else:
            known = ", ".join(shape.order) or "none"
            raise ConfigError(f"check {text!r}: the schema has no {step!r} there (known: {known})")


class _Parser:
    """Recursive descent over the tokens of one check."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._place = 0
        self._depth = 0

    def _split(self, text: str) -> list[tuple[str, str]]:
        if len(text) > _MAX_CHARS:
            raise ConfigError(f"check {text[:40]!r}… is longer than {_MAX_CHARS} characters")
        tokens, place = [], 0
        text = text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise ConfigError(f"check {text!r}: {text[place:].lstrip()[:10]!r} is not understood")
            tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            place = match.end()
        return tokens

    def comparison(self) -> tuple[_Node, str, _Node]:
        """The whole check."""
        left = self._sum()
        kind, operator = self._next()
        if kind != "mark" or operator not in _COMPARISONS:
            raise self._error("compares nothing: it needs =, !=, <, <=, > or >=")
        right = self._sum()
        if self._place < len(self._tokens):
            raise self._error(f"has {self._tokens[self._place][1]!r} too much")
        return left, operator, right

    def _sum(self) -> _Node:
        node = self._product()
        while self._peek() in ("+", "-"):
            node = _Binary(self._next()[1], node, self._product())
        return node

    def _product(self) -> _Node:
        node = self._factor()
        while self._peek() in ("*", "/"):
            node = _Binary(self._next()[1], node, self._factor())
        return node

    def _factor(self) -> _Node:
        kind, word = self._next()
        if kind == "number":
            return _Number(Decimal(word))
        if word == "-":
            return _Binary("-", _Number(Decimal(0)), self._nested(self._factor))
        if word == "(":
            node = self._nested(self._sum)
            self._expect(")")
            return node
        if kind == "name" and word in _FUNCTIONS and self._peek() == "(":
            self._next()
            node = self._nested(self._sum)
            self._expect(")")
            if word in _GATHERING and not (isinstance(node, _Path) and any(node.each)):
                raise self._error(f"{word}() takes the values of a list, such as lines[*].amount")
            return _Call(word, node)
        if kind == "name":
            return self._path(word)
        raise self._error(f"{word!r} is not understood there" if word else "ends too early")

    def _nested(self, read: Callable[[], _Node]) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error("is nested too deeply")
        node = read()
        self._depth -= 1
        return node

    def _path(self, first: str) -> _Path:
        steps: list[_Step] = [first.strip('"')]
        each = [False]
        while self._peek() in (".", "[*]", "["):
            mark = self._next()[1]
            if mark == "[*]":
                steps.append(_EACH)
            elif mark == "[":
                kind, word = self._next()
                if kind != "number" or "." in word:
                    raise self._error("an entry is named by its number, from 0, or [*]")
                steps.append(int(word))
                self._expect("]")
            else:
                kind, word = self._next()
                if kind != "name":
                    raise self._error("a name must follow the point")
                steps.append(word.strip('"'))
            each.append(mark == "[*]")
        return _Path(tuple(steps), tuple(each))

    def _peek(self) -> str:
        return self._tokens[self._place][1] if self._place < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            return "", ""
        self._place += 1
        return self._tokens[self._place - 1]

    def _expect(self, mark: str) -> None:
        if self._next()[1] != mark:
            raise self._error(f"lacks {mark!r}")

    def _error(self, words: str) -> ConfigError:
        return ConfigError(f"check {self._text!r} {words}")


def _paths(node: _Node, is_gathered: bool | None = None) -> Iterator[_Path]:
    """The paths below a node: all, or those inside (True) or outside (False) of functions that gather."""
    if isinstance(node, _Path):
        if is_gathered is not True:
            yield node
    elif isinstance(node, _Call):
        if node.name not in _GATHERING:
            yield from _paths(node.argument, is_gathered)
        elif is_gathered is not False:
            yield from _paths(node.argument)
    elif isinstance(node, _Binary):
        yield from _paths(node.left, is_gathered)
        yield from _paths(node.right, is_gathered)


def _free_paths(check: Check) -> list[_Path]:
    """Paths with [*] outside of gathering functions: the check is one of each entry."""
    return [path for side in (check.left, check.right) for path in _paths(side, False) if any(path.each)]


# --- evaluating ---


def _verdicts(check: Check, data: Json) -> Iterator[Verdict]:
    free = _free_paths(check)
    if not free:
        verdict = _verdict(check, data, None)
        if verdict is not None:
            yield verdict
        return
    head = free[0].steps[: free[0].each.index(True)]
    found = list(_find(data, head, (False,) * len(head), "", None))
    entries = found[0][1] if found else None
    for number in range(len(entries) if isinstance(entries, list) else 0):
        verdict = _verdict(check, data, number)
        if verdict is not None:
            yield verdict


def _verdict(check: Check, data: Json, number: int | None) -> Verdict | None:
    try:
        left, right = _value(check.left, data, number), _value(check.right, data, number)
        if left.number is None or right.number is None:
            return None
        excess = left.number - right.number
    except (InvalidOperation, DivisionByZero):
        return None
    pointers = tuple(dict.fromkeys((*left.pointers, *right.pointers)))
    tolerance = _HALF_CENT * len(pointers) if check.tolerance is None else check.tolerance
    compared = Decimal(0) if abs(excess) <= tolerance else excess
    return Verdict(check, _COMPARISONS[check.operator](compared), left.number, right.number, pointers)


def _value(node: _Node, data: Json, number: int | None) -> _Value:
    if isinstance(node, _Number):
        return _Value(node.value)
    if isinstance(node, _Path):
        values = [
            _Value(_decimal(item), (pointer,)) for pointer, item in _find(data, node.steps, node.each, "", number)
        ]
        return values[0] if len(values) == 1 else _Value(None)
    if isinstance(node, _Call):
        return _called(node, data, number)
    left, right = _value(node.left, data, number), _value(node.right, data, number)
    if left.number is None or right.number is None:
        return _Value(None)
    pointers = (*left.pointers, *right.pointers)
    match node.operator:
        case "+":
            return _Value(left.number + right.number, pointers)
        case "-":
            return _Value(left.number - right.number, pointers)
        case "*":
            return _Value(left.number * right.number, pointers)
    return _Value(left.number / right.number, pointers)


def _called(call: _Call, data: Json, number: int | None) -> _Value:
    if call.name == "abs":
        value = _value(call.argument, data, number)
        return _Value(None if value.number is None else abs(value.number), value.pointers)
    assert isinstance(call.argument, _Path)
    # Gathering looks at all entries, also in a check that is one of each entry.
    found = list(_find(data, call.argument.steps, call.argument.each, "", None))
    pointers = tuple(pointer for pointer, _ in found)
    if call.name == "count":
        return _Value(Decimal(len(found)), pointers)
    values = [_decimal(item) for _, item in found]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return _Value(None)
    gathered = {"sum": sum(known, Decimal(0)), "min": min(known), "max": max(known)}
    return _Value(gathered[call.name], pointers)


def _find(
    data: Json, steps: tuple[_Step, ...], each: tuple[bool, ...], pointer: str, number: int | None
) -> Iterator[tuple[str, Json]]:
    """The values at a path with their pointers; `number` picks the entry of its first [*]."""
    if not steps:
        yield pointer, data
        return
    step, rest, below = steps[0], steps[1:], each[1:]
    if each[0]:
        entries = data if isinstance(data, list) else []
        for place, item in enumerate(entries):
            if number is None or place == number:
                yield from _find(item, rest, below, f"{pointer}/{place}", None)
    elif isinstance(step, int):
        if isinstance(data, list) and step < len(data):
            yield from _find(data[step], rest, below, f"{pointer}/{step}", number)
        else:
            yield f"{pointer}/{step}", None
    else:
        inner = data.get(step) if isinstance(data, dict) else None
        yield from _find(inner, rest, below, f"{pointer}/{escape(step)}", number)


def _decimal(value: Json) -> Decimal | None:
    """A number of the data; a text that is plainly one counts, since amounts may be kept as text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
