"""Options become one `Config` at the door: flag, then `INGEST_*` variable, then recipe, then default.

Defaults, ranges and descriptions of settings come from `config.py`; nothing is repeated here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ingest.cli import logs
from ingest.cli.flags import SECTIONS, F, Lines, Option, option, setting
from ingest.config import Config, Endpoint, Recipe, resolve_endpoint
from ingest.errors import ConfigError
from ingest.profile import Profile, load_profile, profile_names
from ingest.recipes import build_config, load_recipe, recipe_from_schema, recipe_names

DEFAULT_PROFILE = "seed-2-0-pro"
LOCAL_PROFILE = "local"
DEFAULT_OUTPUT = Path("out")


_EXTRACT, _MODEL, _READ, _ASK, _RUN = "What to extract", "Model", "Reading", "Asking", "Running"
_FIND = "Which documents"

_OPTIONS = (
    option("-r --recipe", _EXTRACT, "A recipe by name, or its folder.", metavar="NAME|DIR"),
    option(
        "-s --schema",
        _EXTRACT,
        "A JSON Schema file, or a pydantic class; the current directory can be imported from.",
        metavar="FILE|module:Class",
    ),
    option("-i --instructions", _EXTRACT, "More instructions, after the recipe's own.", metavar="TEXT|@FILE"),
    option(
        "-o --output",
        _RUN,
        f"Folder for records and ledger. Default: {DEFAULT_OUTPUT}",
        type=click.Path(file_okay=False, path_type=Path),
    ),
    option(
        "-j --jobs",
        _RUN,
        f"{Config.model_fields['jobs'].description}.",
        type=click.IntRange(1, 64),
        metavar="N",
    ),
    option("--local/--no-local", _MODEL, "Answer with the embedded engine: offline, no key, no vision.", default=None),
    option(
        "--profile",
        _MODEL,
        f"Model profile by name ({', '.join(profile_names())}) or TOML file. Default: {DEFAULT_PROFILE}",
        metavar="NAME|FILE",
    ),
    option("--base-url", _MODEL, "Where the API is. Default: the profile's.", metavar="URL"),
    option(
        "--protocol",
        _MODEL,
        f"Dialect of the API: chat, responses, messages. Default: {Endpoint.model_fields['protocol'].default}",
        metavar="NAME",
    ),
    setting("--manifest", "finding", "manifest", _FIND),
    setting("--include", "finding", "include", _FIND),
    setting("--exclude", "finding", "exclude", _FIND),
    setting("--since", "finding", "since", _FIND),
    setting("--changed-only/--no-changed-only", "finding", "changed_only", _FIND),
    setting("--unpack/--no-unpack", "finding", "unpack", _FIND),
    setting("--staged-bytes", "finding", "staged_bytes", _FIND),
    setting("--fetch-timeout", "finding", "fetch_timeout_s", _FIND),
    setting("--executor", "execute", "executor", _RUN),
    setting("--address", "execute", "address", _RUN),
    setting("--ray-workers", "execute", "workers", _RUN),
    setting("--ledger", "keeping", "ledger", _RUN),
    setting("--claim-timeout", "keeping", "claim_timeout_s", _RUN),
    setting("--fresh/--no-fresh", "keeping", "fresh", _RUN),
    setting("--retry", "keeping", "retry", _RUN),
    setting("--to", "keeping", "to", _RUN),
    setting("--max-cost", "budget", "max_cost_usd", _RUN),
    setting("--max-cost-per-document", "budget", "max_cost_per_document_usd", _RUN),
    setting("--pages", "reading", "pages", _READ),
    option(
        "--password",
        _READ,
        "For encrypted files; repeatable. INGEST_PASSWORD holds one per line, and does not show in the process list.",
        multiple=True,
        type=Lines(),
        metavar="TEXT",
    ),
    setting("--documents", "reading", "documents", _READ),
    setting("--native-max-pages", "reading", "native_max_pages", _READ),
    setting("--native-max-bytes", "reading", "native_max_bytes", _READ),
    setting("--max-pages", "reading", "max_pages", _READ),
    setting("--jpeg-quality", "reading", "jpeg_quality", _READ),
    setting("--video", "reading", "video", _READ),
    setting("--fps", "reading", "fps", _READ),
    setting("--frame-tokens", "reading", "frame_tokens", _READ),
    setting("--contact-sheet", "reading", "contact_sheet", _READ),
    setting("--video-stream", "reading", "video_stream", _READ),
    setting("--subtitles", "reading", "subtitles", _READ),
    setting("--max-frames", "reading", "max_frames", _READ),
    setting("--read-timeout", "reading", "call_timeout_s", _READ),
    setting("--workers", "reading", "workers", _READ),
    setting("--evidence", "asking", "evidence", _ASK),
    setting("--verify/--no-verify", "asking", "verify", _ASK),
    setting("--verify-share", "budget", "verify_share", _RUN),
    setting("--thinking/--no-thinking", "asking", "enable_thinking", _ASK),
    setting("--reasoning-effort", "asking", "reasoning_effort", _ASK),
    setting("--image-detail", "asking", "image_detail", _ASK),
    setting("--video-fps", "asking", "video_fps", _ASK),
    setting("--max-tokens", "asking", "max_tokens", _ASK),
    setting("--frequency-penalty", "asking", "frequency_penalty", _ASK),
    setting("--presence-penalty", "asking", "presence_penalty", _ASK),
    setting("--stop", "asking", "stop", _ASK),
    setting("--web-search/--no-web-search", "asking", "enable_web_search", _ASK),
    setting("--caching/--no-caching", "asking", "enable_caching", _ASK),
    setting("--temperature", "asking", "temperature", _ASK),
    setting("--top-p", "asking", "top_p", _ASK),
    setting("--target-tokens", "planning", "target_tokens", _ASK),
    setting("--context-parts", "planning", "context_parts", _ASK),
    setting("--safety-margin", "planning", "safety_margin", _ASK),
    setting("--stream/--no-stream", "asking", "stream", _ASK),
    setting("--timeout", "asking", "timeout_s", _ASK),
    setting("--stall-timeout", "asking", "stall_timeout_s", _ASK),
    setting("--run-timeout", "asking", "run_timeout_s", _ASK),
    setting("--concurrency", "asking", "concurrency", _ASK),
    setting("--http2/--no-http2", "asking", "http2", _ASK),
    setting("--max-attempts", "asking", "max_attempts", _ASK),
)

_SHOW = "Output"

_SHOW_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, cls=Option, heading=_SHOW, help="The result as JSON on stdout."),
    click.option("-q", "--quiet", is_flag=True, cls=Option, heading=_SHOW, help="No progress."),
    click.option("-v", "--verbose", is_flag=True, cls=Option, heading=_SHOW, help="List every document."),
)

_LOG_OPTIONS = (
    option(
        "--log-level",
        _SHOW,
        "What is logged to stderr.",
        type=click.Choice(logs.LEVELS),
        default="warning",
        show_default=True,
    ),
    option(
        "--log-format", _SHOW, "How it is logged.", type=click.Choice(logs.FORMATS), default="text", show_default=True
    ),
)


def config_options(function: F) -> F:
    """Give a command every option that `config_of` reads, and those on what is shown."""
    return _stacked(function, (*_OPTIONS, *_SHOW_OPTIONS, *_LOG_OPTIONS))


def log_options(function: F) -> F:
    """Give a command the options that `start_logging` reads."""
    return _stacked(function, _LOG_OPTIONS)


def start_logging(ctx: click.Context) -> None:
    """Send the log where and how the options say."""
    logs.configure(ctx.params["log_level"], ctx.params["log_format"])


def config_of(ctx: click.Context, needs_key: bool) -> Config:
    """The settings that options, environment and recipe give. Without `needs_key` a missing API key is no error.

    Raises ConfigError when something is missing, contradictory or out of range.
    """
    start_logging(ctx)
    profile, endpoint = _model(ctx, needs_key)
    overrides: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for name, value in ctx.params.items():
        section, _, field = name.partition("_")
        if section in SECTIONS and value is not None and value != ():
            overrides[section][field] = value
    passwords: Sequence[str] = [password for password in ctx.params["password"] if password]
    if passwords:
        overrides["reading"]["passwords"] = tuple(passwords)
    key = endpoint.api_key
    logs.mask([*passwords, *([key.get_secret_value()] if key else [])])
    return build_config(
        _recipe(ctx),
        profile,
        endpoint,
        output=ctx.params["output"] or DEFAULT_OUTPUT,
        jobs=ctx.params["jobs"],
        overrides=overrides,
    )


def _recipe(ctx: click.Context) -> Recipe:
    name, schema = _stronger(ctx, "recipe", "schema")
    instructions = _instructions(ctx.params["instructions"])
    if schema:
        return recipe_from_schema(schema, instructions)
    if not name:
        known = ", ".join(recipe_names()) or "none installed"
        raise ConfigError(f"say what to extract: --recipe NAME ({known}), or --schema FILE|module:Class")
    recipe = load_recipe(name)
    if not instructions:
        return recipe
    return recipe.model_copy(update={"instructions": f"{recipe.instructions}\n\n{instructions}".strip()})


def _instructions(value: str | None) -> str:
    if not value or not value.startswith("@"):
        return value or ""
    try:
        return Path(value[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--instructions: {value[1:]} cannot be read as UTF-8 text: {error}") from error


def _model(ctx: click.Context, needs_key: bool) -> tuple[Profile, Endpoint]:
    local, base_url = _stronger(ctx, "local", "base_url")
    name = ctx.params["profile"]
    profile = load_profile(name or (LOCAL_PROFILE if local else DEFAULT_PROFILE))
    if local and profile.model != load_profile(LOCAL_PROFILE).model:
        raise ConfigError(
            f"profile {profile.name} is not the local engine's: leave --profile out,"
            f' or start yours with extends = "{LOCAL_PROFILE}"'
        )
    if base_url and not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"--base-url {base_url!r} does not start with http:// or https://")
    protocol: str = ctx.params["protocol"] or Endpoint.model_fields["protocol"].default
    if needs_key or local:
        return profile, resolve_endpoint(profile, local=bool(local), base_url=base_url, protocol=protocol)
    # Planning sends nothing: a stand-in key keeps the rules on addresses in one place.
    endpoint = resolve_endpoint(profile, base_url=base_url, protocol=protocol, api_key="unused")
    return profile, endpoint.model_copy(update={"api_key": None})


def _stronger(ctx: click.Context, first: str, second: str) -> tuple[Any, Any]:
    """The values of two options that exclude each other: a flag beats a variable, two flags are an error."""
    values = ctx.params[first], ctx.params[second]
    if not (values[0] and values[1]):
        return values
    from_flag = [ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in (first, second)]
    if from_flag == [True, False]:
        return values[0], None
    if from_flag == [False, True]:
        return None, values[1]
    flags = [f"--{name.replace('_', '-')}" for name in (first, second)]
    raise ConfigError(f"{flags[0]} and {flags[1]} exclude each other: give one")


def _stacked(function: F, decorators: Sequence[Callable[[F], F]]) -> F:
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
