"""Model profiles: every figure about a model comes from one TOML file, so that a correction is a data change.

The files stand in `profiles/`; their figures follow the published facts of each model's API, in the
conservative reading where sources disagree.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.errors import ConfigError
from ingest.types import Detail, Rung


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tier(_Value):
    """Prices of a request whose input has at most `max_input_tokens` tokens; all its tokens are billed at this tier."""

    max_input_tokens: int
    input_usd_per_million: Decimal
    output_usd_per_million: Decimal


class ImageRule(_Value):
    """Tokens of one image at one detail: `ceil(w*h / pixels_per_token)` clamped to the range.

    The server never sees more than `max_pixels`; rendering beyond it wastes bytes.
    """

    pixels_per_token: int
    min_tokens: int
    max_tokens: int
    max_pixels: int
    margin: float = Field(0.0, description="Share added to the safe estimate for the undocumented rounding")


class ImageLimits(_Value):
    """What one image may be; beyond it the server answers 400."""

    max_bytes: int
    min_side_px: int
    max_pixels: int
    max_aspect_ratio: float
    media_types: tuple[str, ...]


class FrameRule(_Value):
    """How frames of a video are sent as images: detail, most tokens of one frame, tokens of its time as text."""

    detail: Detail = "low"
    max_tokens: int = 1280
    timestamp_tokens: tuple[int, int] = Field((12, 15), description="Expected and safe")


class VideoRule(_Value):
    """How the model samples a video that is handed over as such.

    `duration * fps` frames, clamped to the frame bounds, share the token budget of the video evenly.
    """

    fps: tuple[float, float] = (0.2, 5.0)
    default_fps: float = 1.0
    frames: tuple[int, int] = (16, 1280)
    tokens_per_frame: tuple[int, int] = (64, 384)
    budget_tokens: int = 81_920
    pixels_per_token: int = 1764
    max_bytes: int = 50_000_000
    media_types: tuple[str, ...] = ("video/mp4", "video/quicktime", "video/x-msvideo")


class FileRule(_Value):
    """Documents handed over as such: the server makes an image of each page."""

    tokens_per_page: int = 1280
    max_pages: int = 90
    max_bytes: int = 50_000_000
    media_types: tuple[str, ...] = ("application/pdf",)


class ParameterRule(_Value):
    """What one request parameter may be: a number within `min` and `max`, or one of `choices`.

    All None or empty: any value of the parameter's own type (a switch, a text).
    """

    min: float | None = None
    max: float | None = None
    choices: tuple[str | int | float, ...] = ()


class AnswerRule(_Value):
    """Output tokens to expect before any answer was seen: so many, and so many per input token of the owned parts.

    Records hold a part of what is printed, with keys and evidence around it.
    """

    base_tokens: int = 300
    per_input_token: float = 0.25


class TextRule(_Value):
    """Tokens for each of what `TextStats` counts: the expected rate, and one that few texts pass."""

    words: tuple[float, float] = (1.0, 1.3)
    long_letters: tuple[float, float] = (0.0, 0.0)
    capitals: tuple[float, float] = (0.0, 0.0)
    accented: tuple[float, float] = (0.0, 0.0)
    clusters: tuple[float, float] = (0.0, 0.0)
    numbers: tuple[float, float] = (1.0, 1.3)
    marks: tuple[float, float] = (1.0, 1.3)
    repeats: tuple[float, float] = (0.0, 0.0)
    gaps: tuple[float, float] = (1.0, 1.3)
    number_gaps: tuple[float, float] = (0.0, 0.0)
    lines: tuple[float, float] = (1.0, 1.3)
    cjk: tuple[float, float] = (0.65, 1.0)
    cyrillic: tuple[float, float] = (0.3, 0.5)
    alphabets: tuple[float, float] = (0.5, 1.0)
    other: tuple[float, float] = (1.0, 2.0)


class Overhead(_Value):
    """Tokens beyond text and media."""

    per_request: int
    per_message: int
    per_part: int


class RateLimits(_Value):
    """Per account and minute; None means unlimited. Tokens count input and reserved output."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    ramp_tokens_per_minute: int | None = Field(
        None, description="How many more tokens a minute may hold than the one before; beyond it growth is a fifth"
    )
    concurrency: int = Field(8, description="Calls under way at once, at first; fewer while the service is pressed")


class Quirks(_Value):
    """Ways of one endpoint that the request builder must know."""

    image_detail: bool = Field(False, description="takes the top-level image_detail parameter")
    thinking: bool = Field(False, description="takes enable_thinking and reasoning_effort")
    disable_formatting: bool = Field(False, description="rewrites answers unless told not to")
    video_fps: bool = Field(False, description="takes the top-level video_fps parameter")
    stop_string: bool = Field(False, description="takes stop as one string, separated by commas")
    strict_schema_only: bool = Field(False, description="refuses schemas with keywords beyond the strict dialect")


class Profile(_Value):
    """One model behind one kind of endpoint."""

    name: str
    model: str
    base_url: str | None = None
    protocols: tuple[str, ...] = ("chat",)
    api_key_env: tuple[str, ...] = ()
    window_tokens: int
    max_input_tokens: int
    max_output_tokens: int
    default_output_tokens: int
    target_input_tokens: int = Field(description="What the planner fills a request to, by the expected estimate")
    tiers: tuple[Tier, ...] = Field((), description="Ascending by max_input_tokens; empty when the price is not known")
    images: dict[Detail, ImageRule]
    default_detail: Detail = "high"
    image_limits: ImageLimits
    frames: FrameRule = FrameRule()
    video: VideoRule | None = Field(None, description="None: the model takes no video")
    files: FileRule | None = Field(None, description="None: the model takes no documents")
    text: TextRule
    overhead: Overhead
    max_request_bytes: int = Field(description="Body of one request, base64 included")
    image_bytes: int = Field(description="What an image is squeezed to, so that the planned size of a request holds")
    rate_limits: RateLimits = RateLimits()
    max_images_per_request: int | None = Field(None, description="None: only the window limits them")
    max_reasoning_tokens: int = Field(0, description="Reasoning on top of the answer, billed as output; thinking on")
    answers: AnswerRule = AnswerRule()
    parameters: dict[str, ParameterRule] = Field(
        default_factory=dict, description="Request parameters that the model takes, by gateway name, with their range"
    )
    ladder: tuple[Rung, ...] = ("json_schema", "tool", "prompt")
    quirks: Quirks = Quirks()


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package, sorted."""
    folder = resources.files("ingest") / "profiles"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_profile(name_or_path: str) -> Profile:
    """A profile by its name, or from a TOML file.

    A file may start from another profile with `extends = "NAME"` and override single values.

    Raises ConfigError when there is none of that name or the file is not a valid profile.
    """
    try:
        return Profile.model_validate(_load_table(name_or_path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ConfigError(f"profile {name_or_path}: {where}: {first['msg']}") from error


def _load_table(name_or_path: str) -> dict[str, Any]:
    if name_or_path in profile_names():
        text = (resources.files("ingest") / "profiles" / f"{name_or_path}.toml").read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(
                f"no profile {name_or_path!r}: give one of {', '.join(profile_names())}, or the path of a TOML file"
            )
        text = path.read_text(encoding="utf-8")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"profile {name_or_path} is not valid TOML: {error}") from error
    base = table.pop("extends", None)
    return table if base is None else _overlay(_load_table(str(base)), table)


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
