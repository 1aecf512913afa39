"""`ingest serve`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ingest.cli import logs
from ingest.cli.options import log_options, start_logging
from ingest.cli.output import complain, say
from ingest.errors import ConfigError

_SEED_AND_RATE = re.compile(r"-?\d+:[\d.]+(:.*)?")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8700, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option(
    "--token",
    envvar="INGEST_SERVE_TOKEN",
    metavar="TEXT",
    help="Key that callers must send; needed for any host but this machine. INGEST_SERVE_TOKEN does not show in the"
    " process list.",
)
@click.option("--model", "models", multiple=True, metavar="ID", help="A further model id to answer to; repeatable.")
@click.option(
    "--imitate", metavar="NAME", help="Generation whose numbers count: seed-2.0 (default), seed-1.8, seed-1.6."
)
@click.option(
    "--envelope", type=click.Choice(["gateway", "ark"]), default="gateway", show_default=True, help="Form of errors."
)
@click.option("--faults", metavar="FILE|SEED:RATE[:KIND,…]", help="Faults to inject: a TOML or JSON file, or 7:0.2.")
@click.option("--seed", type=int, help="Seed of the faults; comes before the one in --faults.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), metavar="N", help="Answer 429 beyond it.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), metavar="N", help="Answer 429 beyond it.")
@click.option("--max-concurrency", type=click.IntRange(min=1), metavar="N", help="Answer ServerOverloaded beyond it.")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, metavar="S", help="Seconds before an answer.")
@click.option(
    "--tokens-per-second", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Speed of an answer."
)
@click.option("--lacks", multiple=True, type=click.Choice(["json_schema", "tools"]), help="Refuse it; repeatable.")
@click.option("--wrap-json", is_flag=True, help="Put code fences around JSON unless disable_formatting is sent.")
@click.option("--ignore-schema", is_flag=True, help="Accept a schema and answer in words.")
@click.option("--cache-prefixes", is_flag=True, help="Count repeated beginnings as cached tokens.")
@click.option("--count-video", is_flag=True, help="Take video parts, which are counted but not seen.")
@click.option("--allow-unknown-fields", is_flag=True, help="Take fields the responses endpoint does not know.")
@click.option("--openai-usage", is_flag=True, help="Count cache writes in usage of responses, as OpenAI.")
@click.option("--send-done", is_flag=True, help="Send [DONE] behind the last event of responses.")
@click.option("--retry-after", is_flag=True, help="Send Retry-After when a limit per minute is passed.")
@click.option(
    "--ledger",
    "--request-log",
    "ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that gets a JSON line per request: ids, tokens, price, outcome, fault.",
)
@click.option("--show-ledger", is_flag=True, help="Serve the ledger at /v1/local/ledger.")
@log_options
@click.pass_context
def serve(ctx: click.Context, /, host: str, port: int, token: str | None, faults: str | None, **options: Any) -> None:
    """Serve the local engine over HTTP until interrupted: the model's API, answered by rules over the words read.

    \b
    ingest serve --port 8700
    ingest run inbox/ --recipe receipts --profile local --base-url http://127.0.0.1:8700/v1

    It answers /v1/chat/completions, /v1/responses, /v1/messages and /v1/models. Its base URL is printed on stdout once
    it listens.

    \b
    A fault file has rates by kind, or a script by number of the request:
      [rates]
      overloaded = 0.05
      rate_limited = { rate = 0.02, retry_after_s = 3 }
      [script]
      1 = "reset"
      "2-4" = { kind = "unfinished", at = 0.9 }
    """
    start_logging(ctx)
    logs.mask([token] if token else [])
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise ConfigError("the token must be printable ASCII without blanks around it: callers send it in a header")
    try:
        from ingest.local import server, serving
    except ImportError as error:
        raise ConfigError(f"the local engine is not installed ({error}): pip install 'ingest[local]'") from error
    app = server.create_app(
        models=options["models"],
        profile=options["imitate"],
        api_keys=(token,) if token else (),
        envelope=options["envelope"],
        faults=_read_faults(faults),
        fault_seed=options["seed"],
        requests_per_minute=options["requests_per_minute"],
        tokens_per_minute=options["tokens_per_minute"],
        max_concurrency=options["max_concurrency"],
        latency_s=options["latency"],
        tokens_per_s=options["tokens_per_second"],
        lacks=options["lacks"],
        wraps_json=options["wrap_json"],
        ignores_schema=options["ignore_schema"],
        caches_prefixes=options["cache_prefixes"],
        counts_video=options["count_video"],
        refuses_unknown_fields=not options["allow_unknown_fields"],
        counts_cache_writes=options["openai_usage"],
        sends_done=options["send_done"],
        sends_retry_after=options["retry_after"],
        ledger_path=options["ledger"],
        serves_ledger=options["show_ledger"],
    )
    complain("Ctrl-C stops it.")
    serving.serve(host, port, app=app, announce=say)


def _read_faults(text: str | None) -> str | dict[str, Any] | None:
    """The option as `SEED:RATE…`, or what the file it names holds."""
    if text is None or _SEED_AND_RATE.fullmatch(text):
        return text
    from ingest.local.fault_files import load_faults

    return load_faults(Path(text))
