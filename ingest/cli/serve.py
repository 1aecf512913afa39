"""`ingest serve`."""

from __future__ import annotations

from pathlib import Path

import click

from ingest.cli.options import log_options, start_logging
from ingest.cli.output import complain, say
from ingest.errors import ConfigError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--token", envvar="INGEST_SERVE_TOKEN", help="Key that callers must send; needed for any host but this machine."
)
@click.option("--model", "models", multiple=True, metavar="ID", help="A further model id to answer to; repeatable.")
@click.option("--faults", metavar="SEED:RATE[:KIND,…]", help="Faults to inject, such as 7:0.2.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), metavar="N", help="Answer 429 beyond it.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), metavar="N", help="Answer 429 beyond it.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that gets a JSON line per request: tokens, price, outcome.",
)
@log_options
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    host: str,
    port: int,
    token: str | None,
    models: tuple[str, ...],
    faults: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    ledger: Path | None,
    **options: object,
) -> None:
    """Serve the local engine over HTTP until interrupted: the model's API, answered by rules over the words read.

    \b
    ingest serve --port 8700
    ingest run inbox/ --recipe receipts --profile local --base-url http://127.0.0.1:8700/v1

    Its base URL is printed on stdout once it listens.
    """
    start_logging(ctx)
    try:
        from ingest.local import server
    except ImportError as error:
        raise ConfigError(f"the local engine is not installed ({error}): pip install 'ingest[local]'") from error
    app = server.create_app(
        models=models,
        api_keys=(token,) if token else (),
        faults=faults,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        ledger_path=ledger,
    )
    complain("Ctrl-C stops it.")
    server.serve(host, port, app=app, announce=say)
