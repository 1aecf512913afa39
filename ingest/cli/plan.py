"""`ingest plan`."""

from __future__ import annotations

import click

from ingest.cli.flags import Command
from ingest.cli.options import config_of, config_options
from ingest.cli.output import is_color, say, say_json
from ingest.cli.run import with_list


@click.command(cls=Command)
@click.argument("paths", nargs=-1, metavar="PATH...")
@config_options
@click.pass_context
def plan(ctx: click.Context, /, paths: tuple[str, ...], **options: object) -> int:
    """Tell what a run would send and what it would cost. Nothing is sent, and no key is needed.

    Takes the options of `ingest run`. Chunks that OUT/.ingest holds an answer to cost nothing again.
    """
    paths, config = with_list(paths, config_of(ctx, needs_key=False))
    from ingest import api
    from ingest.showing.progress import Progress
    from ingest.showing.report import Look, plan_table

    with Progress(quiet=bool(options["quiet"])) as progress:
        planned = api.plan(paths, config, progress)
    if options["as_json"]:
        say_json(planned.model_dump(mode="json"))
    else:
        say(plan_table(planned, Look(color=is_color(), verbose=bool(options["verbose"]))))
    return 1 if any(row.problem for row in planned.documents) else 0
