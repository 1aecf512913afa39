"""The local engine's own numbers, read from `profiles.toml`: limits, token rules and prices of the service."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from ingest.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices in USD per million tokens for requests with fewer input tokens than `below_input_tokens`."""

    below_input_tokens: int
    input_usd_per_million: Decimal
    output_usd_per_million: Decimal


@dataclass(frozen=True, slots=True)
class DetailRule:
    """Tokens of an image at one level of detail: pixels over `pixels_per_token`, kept between the two bounds."""

    pixels_per_token: int
    min_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class VideoRule:
    """How a video is sampled and counted.

    Frames per video lie between two bounds and share `token_budget`; each gets one of `frame_tokens` when the rule
    `is_stepped`, else any value between the first and the last; a timestamp before each costs `tokens_per_stamp`.
    """

    min_fps: float
    max_fps: float
    default_fps: float
    min_frames: int
    max_frames: int
    token_budget: int
    frame_tokens: tuple[int, ...]
    is_stepped: bool
    tokens_per_stamp: int


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What any request must keep to, whatever the model."""

    max_body_bytes: int
    max_image_bytes: int
    max_video_bytes: int
    max_file_bytes: int
    min_side_px: int
    min_pixels: int
    max_pixels: int
    max_aspect_ratio: int
    max_schema_depth: int
    max_stop_words: int
    min_thinking_budget: int
    default_max_tokens: int
    default_max_output_tokens: int
    image_media_types: Mapping[str, str]
    video_media_types: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Numbers:
    """One generation of the service: window, overhead, image rules, price tiers."""

    name: str
    window_tokens: int
    max_input_tokens: int
    max_output_tokens: int
    tokens_per_request: int
    tokens_per_message: int
    tokens_per_part: int
    detail_per_part: bool
    default_detail: str
    min_pixels: int
    max_pixels: int
    tiers: tuple[Tier, ...]
    detail: Mapping[str, DetailRule]
    video: VideoRule


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model id the engine answers to. `is_free` ids are billed nothing."""

    id: str
    numbers: Numbers
    is_free: bool


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(resources.files("ingest.local").joinpath("profiles.toml").read_text("utf-8"))


@cache
def load_limits() -> RequestLimits:
    """The limits every request must keep to."""
    return RequestLimits(**_file()["request"])


@cache
def load_numbers(name: str) -> Numbers:
    """The numbers of one generation, `seed-2.0`, `seed-1.8` or `seed-1.6`; raises ConfigError for another name."""
    known = sorted(key for key, value in _file().items() if "tiers" in value)
    if name not in known:
        raise ConfigError(f"the local engine has no profile {name!r}; choose one of {', '.join(known)}")
    table = dict(_file()[name])
    tiers = tuple(
        Tier(
            tier["below_input_tokens"],
            Decimal(tier["input_usd_per_million"]),
            Decimal(tier["output_usd_per_million"]),
        )
        for tier in table.pop("tiers")
    )
    detail = {level: DetailRule(**rule) for level, rule in table.pop("detail").items()}
    video = table.pop("video")
    rule = VideoRule(**video | {"frame_tokens": tuple(video["frame_tokens"])})
    return Numbers(name=name, tiers=tiers, detail=detail, video=rule, **table)


def load_models(extra_ids: tuple[str, ...] = (), profile: str | None = None) -> dict[str, ServedModel]:
    """Every model id the engine answers to: its own, and `extra_ids` at full prices; `profile` overrides the file's."""
    models = {
        model_id: ServedModel(model_id, load_numbers(profile or entry["profile"]), entry["free"])
        for model_id, entry in _file()["models"].items()
    }
    for model_id in extra_ids:
        numbers = load_numbers(profile or _file()["defaults"]["profile"])
        models.setdefault(model_id, ServedModel(model_id, numbers, is_free=False))
    return models


def load_table(name: str) -> Mapping[str, float]:
    """A table of plain numbers: `documents`, `cache` or `sampling`."""
    table: dict[str, float] = _file()[name]
    return table


def text_encoding() -> str:
    """Name of the byte-pair encoding that counts text."""
    return str(_file()["text"]["encoding"])


def default_system_message() -> str:
    """The system message the gateway puts in front of a request without one."""
    return str(_file()["text"]["system_message"])
