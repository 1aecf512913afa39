"""`ingest digest`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from pydantic import SecretStr

from ingest.cli import logs
from ingest.cli.flags import Command, Dollars, Lines, option
from ingest.cli.jobs import find_job
from ingest.cli.options import config_of, config_options
from ingest.cli.output import complain, say, say_json
from ingest.cli.run import stoppable, with_list

_F = TypeVar("_F", bound=click.Command)
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_DIGEST = "Digest"
# Options of a run that mean something else here, or nothing.
_NOT_HERE = ("keeping_to", "keeping_retry", "finding_since", "verbose")


class _Span(click.ParamType[timedelta]):
    """A length of time such as 1d, 6h or 2w."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """As timedelta, above zero."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*([hdw])\s*", str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no length of time such as 1d, 6h or 2w", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class _Moment(click.ParamType[datetime]):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """As an aware datetime."""
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-01-31 or 2026-01-31T07:00Z", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


def _without(command: _F) -> _F:
    """A command without the options that mean nothing here."""
    command.params = [parameter for parameter in command.params if parameter.name not in _NOT_HERE]
    return command


@_without
@click.command(cls=Command)
@click.argument("paths", nargs=-1, metavar="PATH...")
@option("--name", _DIGEST, "Name of the digest: each change is told once under it. Default: the recipe's name")
@option(
    "--window",
    _DIGEST,
    "One digest for each such span of UTC, as 1d, 6h or 1w; within it, it is given again.",
    type=_Span(),
    metavar="SPAN",
)
@option(
    "--since",
    _DIGEST,
    "Older records are no news to the first digest. Default: everything is",
    type=_Moment(),
    metavar="TIME",
    envvar="INGEST_DIGEST_SINCE",
)
@option(
    "--to",
    _DIGEST,
    "Where the digest is sent, as apprise URL, env:NAME or @FILE; repeatable.",
    multiple=True,
    type=Lines(),
    metavar="URL",
    envvar="INGEST_DIGEST_TO",
)
@option(
    "--digest-max-cost",
    _DIGEST,
    "Money the writing of the digest may cost, beside --max-cost for reading.",
    type=Dollars(),
    metavar="USD",
)
@option("--digest-recipe", _DIGEST, "A TOML file in place of the recipe's [digest].", metavar="FILE")
@option("--plan", _DIGEST, "Tell what it would send and cost; send nothing.", is_flag=True, envvar=None)
@option(
    "--resend",
    _DIGEST,
    "Send again, too, what may have arrived already: deliveries of this digest that ended unknown.",
    is_flag=True,
    envvar=None,
)
@option("--again", _DIGEST, "Give the digest made last once more; read and send nothing.", is_flag=True, envvar=None)
@config_options
@click.pass_context
def digest(ctx: click.Context, /, paths: tuple[str, ...], **options: Any) -> int:
    """Bring records up to date, and tell what is new since it was last told.

    Reads new and changed documents as `ingest run` does, compares with what the last digest told, and writes
    OUT/digests/NAME/TIME/digest.json, digest.md and digest.html. Every change is told once, however often this is run.
    With --local the digest is made by rules; otherwise the model writes statements, each checked against the facts it
    cites. Prints the digest as Markdown.
    """
    paths, config = with_list(paths, config_of(ctx, needs_key=not (options["plan"] or options["again"])))
    logs.mask(list(options["to"]))
    from ingest.showing.progress import Progress

    job = find_job("digest")
    settings = _settings(job, options)
    with stoppable(config), Progress(quiet=bool(options["quiet"])) as progress:
        if options["plan"]:
            planned = job.plan(paths, config, settings, progress)
        elif options["again"]:
            made = job.last(config, settings)
        else:
            made = job.run(paths, config, settings, progress)
    if options["plan"]:
        return _say_plan(planned, bool(options["as_json"]))
    return _say_digest(made, bool(options["as_json"]))


def _settings(job: Any, options: dict[str, Any]) -> Any:
    recipe = job.load_digest_recipe(options["digest_recipe"]) if options["digest_recipe"] else None
    return job.DigestSettings(
        name=options["name"],
        window=options["window"],
        since=options["since"],
        to=tuple(SecretStr(url) for url in options["to"]),
        max_cost_usd=options["digest_max_cost"],
        recipe=recipe,
        resend=options["resend"],
    )


def _say_digest(made: Any, as_json: bool) -> int:
    if as_json:
        say_json(
            {
                "digest": made.digest.model_dump(mode="json") if made.digest else None,
                "is_new": made.is_new,
                "folder": str(made.folder) if made.folder else None,
                "deliveries": [{"to": one.label, "state": one.state, "reason": one.reason} for one in made.deliveries],
                "notices": list(made.notices),
            }
        )
    elif made.digest is None:
        say("Nothing new.")
    else:
        say((made.folder / "digest.md").read_text(encoding="utf-8").rstrip())
    if made.folder is not None:
        complain(f"{'Written' if made.is_new else 'Made before, written again'}: {made.folder / 'digest.html'}")
    for notice in made.notices:
        complain(f"note: {notice}")
    for one in made.deliveries:
        complain(f"{one.label}: {one.state}{f', {one.reason}' if one.reason else ''}")
    return 0 if made.is_fine else 1


def _say_plan(planned: Any, as_json: bool) -> int:
    if as_json:
        say_json({**planned.model_dump(mode="json"), **_totals(planned)})
        return 0
    reading = planned.reading.totals if planned.reading else None
    rows = [("reading", reading), ("writing", planned.writing)]
    for name, figures in rows:
        if figures is not None:
            say(
                f"{name:8} {figures.requests:6,} requests   expected ${_usd(figures.cost_usd_expected)}"
                f"   at most ${_usd(figures.cost_usd_ceiling)}"
            )
    say(f"{'together':8} {'':15}   expected ${_usd(planned.expected_usd)}   at most ${_usd(planned.ceiling_usd)}")
    say(
        f"Facts not told yet: {planned.facts:,}."
        + (
            f" Documents still to be read, their facts estimated: {planned.documents_unread:,}."
            if planned.documents_unread
            else ""
        )
    )
    return 0


def _totals(planned: Any) -> dict[str, str | None]:
    amounts = {"cost_usd_expected": planned.expected_usd, "cost_usd_ceiling": planned.ceiling_usd}
    return {name: None if amount is None else str(amount) for name, amount in amounts.items()}


def _usd(amount: Any) -> str:
    return "?" if amount is None else f"{amount:,.4f}"
