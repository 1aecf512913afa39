"""What a digest is to be: the `[digest]` table of a recipe, and what a call says about name, window and targets."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

import ingest


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Alert(_Settings):
    """A condition on a record's data that asks for attention, evaluated by us and never by the model."""

    name: str = Field(min_length=1, description="What a reader sees, such as: Due within 7 days")
    when: str = Field(min_length=1, description="JMESPath over the data; holds when it gives something")
    show: tuple[str, ...] = Field((), description="Fields shown beside those of the condition, such as seller/name")


class DigestRecipe(_Settings):
    """The `[digest]` table: for whom a digest is written, and what asks for attention."""

    title: str = ""
    audience: str = Field("", description="Who reads it, told to the model")
    language: str = Field("English", description="Language of the model's statements")
    sections: tuple[str, ...] = Field(("What is new", "What changed"), min_length=1, max_length=12)
    instructions: str = Field("", description="What else the model is told")
    records_at: str = Field(
        "",
        pattern=r"^(https?://[^\s<>()\"']*)?$",
        description="Where readers of a mail or chat find the output folder, such as https://files.example/digests/",
    )
    alert: tuple[Alert, ...] = ()


class DigestSettings(_Settings):
    """What one call of the job says. Nothing said: everything that was not told yet, up to now."""

    name: str | None = Field(None, description="Name of the digest; default: the recipe's")
    window: timedelta | None = Field(
        None, description="One digest for each such span of UTC, counted from 1970; told again as it was within it"
    )
    slot: str | None = Field(None, description="Name of the window in place of `window`, such as a time of a schedule")
    since: datetime | None = Field(None, description="What older records say is no news for the first digest")
    to: tuple[SecretStr, ...] = Field((), description="Where the digest is sent, as apprise URLs")
    resend: bool = Field(False, description="Send again, too, what may have arrived already")
    max_cost_usd: Decimal | None = Field(None, gt=0, description="Money the writing of the digest may cost")
    recipe: DigestRecipe | None = Field(None, description="In place of the recipe's own [digest]")


def digest_recipe(config: ingest.Config, settings: DigestSettings) -> DigestRecipe:
    """The digest's own recipe: from the call, else from the recipe of the records.

    Raises ConfigError when its table holds what nobody knows.
    """
    if settings.recipe is not None:
        return settings.recipe
    return _read(config.recipe.digest, f"recipe {config.recipe.name}: digest")


def load_digest_recipe(path: str | Path) -> DigestRecipe:
    """A digest recipe from a TOML file with the keys of the `[digest]` table. Raises ConfigError."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ingest.ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ingest.ConfigError(f"{path} is not valid TOML: {error}") from error
    return _read(table, str(path))


def slot_of(settings: DigestSettings, now: datetime) -> str | None:
    """The name of the window a moment falls in; None when the call names none.

    A window of one day is the UTC day, of 6 hours a quarter of it.
    """
    if settings.slot is not None:
        return settings.slot
    if settings.window is None:
        return None
    start = now - (now - datetime(1970, 1, 1, tzinfo=UTC)) % settings.window
    return f"{stamp(start)}/{stamp(start + settings.window)}"


def stamp(moment: datetime) -> str:
    """A moment as digests write it: ISO 8601, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(table: Mapping[str, Any], where: str) -> DigestRecipe:
    from pipelines.digest.alerts import compile_alerts

    try:
        recipe = DigestRecipe.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ingest.ConfigError(f"{where}.{place}: {first['msg']}") from error
    compile_alerts(recipe.alert)
    return recipe
