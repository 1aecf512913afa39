"""The command group: a table of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import difflib
import importlib
from typing import IO, Any

import click

from ingest.cli.output import complain, say
from ingest.errors import IngestError

COMMANDS = {
    "run": ("ingest.cli.run:run", "Read documents, ask the model, write one record per document."),
    "plan": ("ingest.cli.plan:plan", "Tell what a run would send and cost; send nothing."),
    "status": ("ingest.cli.status:status", "Show how the last run into a folder went."),
    "show": ("ingest.cli.status:show", "Show records with the place of every value."),
    "eval": ("ingest.cli.evaluate:evaluate", "Compare records with known answers."),
    "digest": ("ingest.cli.digest:digest", "Tell what is new in documents, once, with its evidence."),
    "recipes": ("ingest.cli.recipes:recipes", "List the recipes, or show one."),
    "schedule": ("ingest.cli.schedule:schedule", "Run ingest at set times; export jobs to other schedulers."),
    "serve": ("ingest.cli.serve:serve", "Serve the local engine over HTTP."),
    "doctor": ("ingest.cli.doctor:doctor", "Check what is installed and configured."),
}
"""Name to the command's place and its line in the help; `module:attribute`, imported on first use."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM: 128 + the signal's number, as shells give them."""


class Stopped(click.ClickException):
    """An expected end: one line on stderr, and an exit code."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code  # type: ignore[misc]  # click's stub says class variable; click reads the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        complain(self.message)


class App(click.Group):
    """Loads commands on first use and turns expected errors into one line on stderr and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and give one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command named first, or a usage error that names the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> None:
        """Call the command; what it returns is the exit code."""
        try:
            result = super().invoke(ctx)
        except IngestError as error:
            raise Stopped(f"error: {error.message}", error.exit_code) from error
        except KeyboardInterrupt:
            raise Stopped("Interrupted.", INTERRUPTED) from None
        ctx.exit(result if isinstance(result, int) else 0)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ingest import __version__

        say(f"ingest {__version__}")
        ctx.exit()


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def app() -> None:
    """Folders of documents and videos in, one validated JSON record per document out.

    \b
    ingest run inbox/ --recipe invoices -o out --local    offline, on the embedded engine
    ingest plan inbox/ --recipe invoices                  the price, before anything is sent
    ingest run inbox/ --recipe invoices -o out            with the model

    Exit codes: 0 all complete, 1 some records not complete, 2 usage or configuration, 3 files, 4 model, 5 answers,
    6 ledger, 7 output, 70 a bug, 130 interrupted.
    """
