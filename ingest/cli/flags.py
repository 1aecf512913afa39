"""How options are declared: headings in the help, `INGEST_*` variables, and settings taken over from `config.py`."""

from __future__ import annotations

import types
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ingest.config import (
    AskingSettings,
    BudgetSettings,
    ExecuteSettings,
    FindingSettings,
    KeepingSettings,
    PlanningSettings,
    ReadingSettings,
)

SECTIONS: dict[str, type[BaseModel]] = {
    "reading": ReadingSettings,
    "asking": AskingSettings,
    "planning": PlanningSettings,
    "budget": BudgetSettings,
    "keeping": KeepingSettings,
    "finding": FindingSettings,
    "execute": ExecuteSettings,
}
"""Sections of the settings; an option for a field is named `<section>_<field>`."""

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *args: Any, heading: str = "Other", **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.heading = heading


class Command(click.Command):
    """A command whose help groups its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading in the order of the first of each."""
        groups: dict[str, list[tuple[str, str]]] = {}
        rest: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            line = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if line is not None:
                (groups.setdefault(parameter.heading, []) if isinstance(parameter, Option) else rest).append(line)
        groups["Help"] = rest
        for heading, lines in groups.items():
            with formatter.section(heading):
                formatter.write_dl(lines)


class Dollars(click.ParamType[Decimal]):
    """An amount of US dollars above zero, with or without the sign."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The amount as Decimal: what was typed, to the digit."""
        if isinstance(value, Decimal):
            return value
        try:
            amount = Decimal(str(value).strip().removeprefix("$"))
        except InvalidOperation:
            self.fail(f"{value!r} is not an amount of dollars, such as 2.50", param, ctx)
        if not amount.is_finite() or amount <= 0:
            self.fail(f"{value!r} is not above zero", param, ctx)
        return amount


class Lines(click.types.StringParamType):
    """Text whose environment variable holds one value per line."""

    envvar_list_splitter = "\n"


def option(flags: str, heading: str, help_text: str, **rest: Any) -> Callable[[F], F]:
    """A click option with its `INGEST_*` variable; `flags` as click takes them, separated by blanks."""
    long = next(flag for flag in flags.split() if flag.startswith("--"))
    variable = "INGEST_" + long.partition("/")[0].removeprefix("--").replace("-", "_").upper()
    rest.setdefault("envvar", variable)
    return click.option(*flags.split(), cls=Option, heading=heading, help=help_text, **rest)


def setting(flags: str, section: str, name: str, heading: str) -> Callable[[F], F]:
    """An option for a field of the settings: type, range, default and help are the field's own."""
    field = SECTIONS[section].model_fields[name]
    kind = _type_of(name, field)
    if field.annotation is bool and "/" not in flags:
        kind["type"] = click.Choice(("on", "off"))
    return option(f"{flags} {section}_{name}", heading, _help_of(field), **kind)


def _help_of(field: FieldInfo) -> str:
    default = field.default
    if default is None or default == ():
        return f"{field.description}."
    if isinstance(default, bool):
        shown = "on" if default else "off"
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{field.description}. Default: {shown}"


def _type_of(name: str, field: FieldInfo) -> dict[str, Any]:
    """What click needs to check a value of the field before anything else is done."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        words = [word for arg in get_args(kind) if get_origin(arg) is Literal for word in get_args(arg)]
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
        if words and get_origin(kind) is not Literal:
            # A number or a word: the settings check which.
            return {"type": str, "default": None, "metavar": "|".join(("N", *words))}
    if get_origin(kind) is Literal:
        return {"type": click.Choice(get_args(kind)), "default": None}
    if kind is bool:
        return {"default": None}
    if kind is str:
        return {"type": str, "default": None, "metavar": "TEXT"}
    if kind is SecretStr:
        return {"type": str, "default": None, "metavar": "URL"}
    if get_origin(kind) is tuple:
        if get_origin(get_args(kind)[0]) is Literal:
            return {"type": click.Choice(get_args(get_args(kind)[0])), "default": None, "multiple": True}
        return {"type": Lines(), "default": None, "multiple": True, "metavar": "TEXT"}
    if kind is Decimal:
        return {"type": Dollars(), "default": None, "metavar": "USD"}
    bounds = {key: value for rule in field.metadata for key, value in _bound(rule)}
    metavar = "SECONDS" if name.endswith("_s") else "N"
    range_type = click.IntRange if kind is int else click.FloatRange
    return {"type": range_type(**bounds), "default": None, "metavar": metavar}


def _bound(rule: object) -> list[tuple[str, Any]]:
    if isinstance(rule, annotated_types.Ge):
        return [("min", rule.ge)]
    if isinstance(rule, annotated_types.Gt):
        return [("min", rule.gt), ("min_open", True)]
    if isinstance(rule, annotated_types.Le):
        return [("max", rule.le)]
    return []
