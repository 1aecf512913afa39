"""What asks for attention: conditions of the recipe in JMESPath, evaluated on the data by us.

Numbers may be written as they are (`gross_amount > 10000`; plain JMESPath wants them between backticks). Beyond
JMESPath's own functions there are `days_until(date)` (whole days from the digest's day, negative when past; null for
what is no date) and `within(date, days)` (from today to that many days ahead).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import ingest
from pipelines.digest.changes import escape, is_nothing
from pipelines.digest.settings import Alert

_NUMBER = re.compile(r"(?P<before>(?:==|!=|[<>]=?)\s*)(?P<number>-?\d+(?:\.\d+)?)(?![\w`'\"])")
_DAYS = re.compile(r"(\bwithin\([^,()]+,\s*)(-?\d+)(\s*\))")


@dataclass(frozen=True, slots=True)
class Condition:
    """An alert ready to be evaluated. `paths` are the fields it stands on, and those it shows."""

    alert: Alert
    expression: Any
    paths: tuple[tuple[str, ...], ...]

    @property
    def pointers(self) -> tuple[str, ...]:
        """The same fields as JSON Pointers."""
        return tuple("".join(f"/{escape(step)}" for step in path) for path in self.paths)


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert that applies to a record: JSON Pointers and values that it stands on."""

    alert: Alert
    values: tuple[tuple[str, Any], ...]


def compile_alerts(alerts: Iterable[Alert]) -> tuple[Condition, ...]:
    """The conditions of a recipe. Raises ConfigError for one that is no JMESPath, or when its package is missing."""
    return tuple(_compile(alert) for alert in alerts)


def raised(conditions: Sequence[Condition], data: dict[str, Any], today: date) -> Iterator[Raised]:
    """The alerts that apply to a record's data on a day.

    Raises ConfigError when a condition uses a function on what it is not made for.
    """
    if not conditions:
        return
    import jmespath
    from jmespath.exceptions import JMESPathError

    options = jmespath.Options(custom_functions=_functions(today))
    for condition in conditions:
        try:
            found = condition.expression.search(data, options=options)
        except JMESPathError as error:
            raise ingest.ConfigError(f"digest alert {condition.alert.name!r} cannot be evaluated: {error}") from error
        if found is False or is_nothing(found):
            continue
        values = zip(condition.pointers, (_at(data, path) for path in condition.paths), strict=True)
        yield Raised(condition.alert, tuple((pointer, value) for pointer, value in values if not is_nothing(value)))


def _compile(alert: Alert) -> Condition:
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError as error:
        raise ingest.ConfigError("alerts of digests need jmespath: pip install 'ingest[digest]'") from error
    text = _DAYS.sub(r"\1`\2`\3", _NUMBER.sub(r"\g<before>`\g<number>`", alert.when))
    try:
        expression = jmespath.compile(text)
    except JMESPathError as error:
        raise ingest.ConfigError(f"digest alert {alert.name!r}: {' '.join(str(error).split())}") from error
    shown = (tuple(path.strip("/").split("/")) for path in alert.show)
    return Condition(alert, expression, tuple(dict.fromkeys([*_fields(expression.parsed), *shown])))


def _fields(node: Any) -> Iterator[tuple[str, ...]]:
    """The fields that a parsed expression stands on; of what is looked for in a list, the list."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        yield (node["value"],)
    elif kind == "subexpression":
        chains = [list(_fields(child)) for child in children]
        if all(len(chain) == 1 for chain in chains):
            yield tuple(step for chain in chains for step in chain[0])
        else:
            yield from chains[0]
    elif kind in ("projection", "filter_projection", "value_projection", "index_expression", "flatten", "pipe"):
        yield from _fields(children[0])
    else:
        for child in children:
            if isinstance(child, dict):
                yield from _fields(child)


def _at(data: Any, path: Sequence[str]) -> Any:
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _functions(today: date) -> Any:
    from jmespath import functions

    class Functions(functions.Functions):  # type: ignore[misc]  # the package has no types
        """JMESPath's functions and ours, on one day."""

        @functions.signature({"types": ["string", "null"]})  # type: ignore[untyped-decorator]
        def _func_days_until(self, text: str | None) -> int | None:
            day = _day(text)
            return None if day is None else (day - today).days

        @functions.signature({"types": ["string", "null"]}, {"types": ["number"]})  # type: ignore[untyped-decorator]
        def _func_within(self, text: str | None, days: float) -> bool:
            day = _day(text)
            return day is not None and 0 <= (day - today).days <= days

    return Functions()


def _day(text: str | None) -> date | None:
    try:
        return datetime.fromisoformat(text.strip()).date() if text else None
    except ValueError:
        return None
