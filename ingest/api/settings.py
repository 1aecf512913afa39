"""What a caller says, as one `Config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from pydantic import BaseModel

from ingest.config import Config, resolve_endpoint
from ingest.errors import ConfigError
from ingest.profile import load_profile
from ingest.recipes import build_config, load_recipe, recipe_from_schema
from ingest.record import Record
from ingest.types import JsonObject, Observer

PathLike: TypeAlias = str | Path
Money: TypeAlias = Decimal | int | float | str
OnError: TypeAlias = Literal["record", "raise"]
OnRecord: TypeAlias = Callable[[Record[Any]], None]


class Settings(TypedDict, total=False):
    """The keywords of `configure` beside the schema."""

    recipe: PathLike | None
    instructions: str
    output: PathLike | None
    local: bool
    profile: str | None
    base_url: str | None
    protocol: str
    api_key: str | None
    jobs: int | None
    max_cost: Money | None
    max_cost_per_document: Money | None
    settings: Mapping[str, Mapping[str, object]] | None


class Options(Settings, total=False):
    """The keywords of an `Ingestor` beside the schema, which the functions of the front door take, too."""

    config: Config | None
    observer: Observer | None
    on_record: OnRecord | None
    on_error: OnError


def configure(
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    instructions: str = "",
    output: PathLike | None = None,
    local: bool = False,
    profile: str | None = None,
    base_url: str | None = None,
    protocol: str = "chat",
    api_key: str | None = None,
    jobs: int | None = None,
    max_cost: Money | None = None,
    max_cost_per_document: Money | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """Settings of a run from what a caller has at hand.

    Give either `schema` (a JSON Schema, the path of one, a pydantic class, or `package.module:Class`) or `recipe` (a
    name or a folder). `local` answers with the embedded engine and needs no key; otherwise the key comes from
    `api_key` or the environment. `max_cost` and `max_cost_per_document` are hard limits in US dollars on what this run,
    and each document in it, may cost. `settings` overrides single values by section: `{"reading": {"pages": "image"}}`.

    Raises ConfigError when something is missing or out of range.
    """
    if (schema is None) == (recipe is None):
        raise ConfigError("give either a schema or a recipe")
    chosen = load_recipe(recipe) if recipe is not None else recipe_from_schema(schema, instructions)
    if recipe is not None and instructions:
        chosen = chosen.model_copy(update={"instructions": f"{chosen.instructions}\n\n{instructions}".strip()})
    model = load_profile(profile or ("local" if local else "seed-2-0-pro"))
    endpoint = resolve_endpoint(model, local=local, base_url=base_url, protocol=protocol, api_key=api_key)
    folder = None if output is None else Path(output)
    overrides = {name: dict(values) for name, values in (settings or {}).items()}
    for name, amount in (("max_cost_usd", max_cost), ("max_cost_per_document_usd", max_cost_per_document)):
        if amount is not None:
            overrides.setdefault("budget", {})[name] = str(amount)
    return build_config(chosen, model, endpoint, output=folder, jobs=jobs, overrides=overrides)


def config_of(
    config: Config | None, schema: JsonObject | type[BaseModel] | PathLike | None, **settings: Unpack[Settings]
) -> Config:
    """The settings given, or those of a ready `config` with another recipe or output.

    Raises ConfigError when they contradict each other.
    """
    if config is None:
        return configure(schema=schema, **settings)
    if settings.get("local") and not config.endpoint.local:
        raise ConfigError("local=True and a config for another endpoint exclude each other: make the config with local")
    recipe, output = settings.get("recipe"), settings.get("output")
    if schema is not None and recipe is not None:
        raise ConfigError("give either a schema or a recipe")
    others = sorted(name for name, value in settings.items() if value and name not in ("local", "recipe", "output"))
    if others:
        raise ConfigError(f"{', '.join(others)}: a ready config holds them already; give them to configure()")
    update: JsonObject = {}
    if schema is not None:
        update["recipe"] = recipe_from_schema(schema)
    if recipe is not None:
        update["recipe"] = load_recipe(recipe)
    if output is not None:
        update["output"] = Path(output)
    return config.model_copy(update=update)


def class_of(schema: object) -> type[BaseModel] | None:
    """The pydantic class that a schema is, if it is one."""
    return schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None
