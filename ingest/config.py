"""Settings, each default written once. Flags, environment, recipe files and library calls all build a `Config`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ingest.errors import ConfigError
from ingest.profile import ParameterRule, Profile
from ingest.types import Detail, EvidenceMode, JsonObject, PagePolicy

# The base URL of profiles of the embedded engine: a name that no resolver knows, so nothing ever leaves.
_EMBEDDED_URL = "http://local.invalid/v1"


FPS_BOUNDS = (0.2, 5.0)
"""Frames per second at which models of this kind sample videos (model-facts §3.1)."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReadingSettings(_Settings):
    """How files become parts."""

    pages: PagePolicy = Field("auto", description="Send pages as image, text, both, or decide per page (auto)")
    passwords: tuple[SecretStr, ...] = Field((), description="Tried in order on encrypted files")
    jpeg_quality: int = Field(80, ge=30, le=95, description="JPEG quality of rendered pages")
    documents: Literal["pages", "native"] = Field("pages", description="Send PDF files as pages, or as they are")
    native_max_pages: int = Field(90, ge=1, description="Pages of a PDF sent as it is; larger ones go as pages")
    native_max_bytes: int = Field(14_000_000, ge=1, description="Size of a PDF sent as it is; larger ones go as pages")
    video: Literal["frames", "native"] = Field("frames", description="Send videos as frames, or as clips")
    fps: float | Literal["auto"] = Field("auto", description="Frames per second of video, 0.2 to 5, or auto")
    frame_tokens: int | None = Field(None, ge=64, description="Input tokens of one frame of a video")
    contact_sheet: int = Field(1, ge=1, le=36, description="Frames of a video in one image")
    video_stream: int | None = Field(None, ge=0, description="Index of the video stream; default: the file's own")
    subtitles: bool = Field(True, description="Send subtitles at their times")
    max_frames: int = Field(20_000, ge=1, description="Frames kept of one video")
    max_pages: int = Field(5_000, ge=1, description="Pages read of one document")
    max_pixels: int = Field(300_000_000, ge=1, description="Pixels an image may decode to")
    max_file_bytes: int = Field(2_000_000_000, ge=1, description="Size of one file")
    call_timeout_s: float = Field(60.0, gt=0, description="Time a worker may spend on opening a file or on one page")
    worker_memory_bytes: int = Field(3_000_000_000, ge=500_000_000, description="Address space of one worker process")
    worker_cpu_s: float = Field(120.0, gt=0, description="Processor time a worker may spend on the same")
    max_output_bytes: int = Field(
        250_000_000, ge=1_000_000, description="Bytes one call of a worker may send back, and may write"
    )
    workers: int = Field(2, ge=1, description="Worker processes for rendering and decoding")
    spool_bytes: int = Field(1_000_000_000, ge=0, description="Disk space for frames between opening and sending")

    @field_validator("fps", mode="before")
    @classmethod
    def _samples(cls, value: object) -> object:
        low, high = FPS_BOUNDS
        if value == "auto":
            return value
        told = f"give a rate within the bounds {low:g} to {high:g}, or auto"
        try:
            rate = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is no rate: {told}") from None
        if not low <= rate <= high:
            raise ValueError(f"{rate:g} is outside: {told}")
        return rate


class AskingSettings(_Settings):
    """How the model is asked. None leaves a parameter to the profile or out of the request.

    The ranges of the model's parameters are those of its page; a profile may narrow them.
    """

    max_tokens: int | None = Field(None, ge=1, le=65_536, description="Output limit of one request")
    enable_thinking: bool = Field(False, description="Let the model reason first; reasoning is billed as output")
    reasoning_effort: Literal["low", "medium", "high"] | None = Field(None, description="Only with thinking on")
    image_detail: Detail | None = Field(None, description="Image detail of the whole request")
    video_fps: float | None = Field(None, ge=0.2, le=5.0, description="Frames per second sampled of a native video")
    frequency_penalty: float | None = Field(None, ge=-2.0, le=2.0, description="Against words used often; spoils JSON")
    presence_penalty: float | None = Field(None, ge=-2.0, le=2.0, description="Against words used at all; spoils JSON")
    stop: tuple[str, ...] = Field((), description="Words that end an answer, without commas")
    enable_web_search: bool = Field(False, description="Let the model search the web; changes input and cost")
    enable_caching: bool = Field(False, description="Keep the prefix for later calls; not together with a schema")
    temperature: float | None = Field(None, ge=0.0, le=2.0, description="Fixed by the service: warned of, never sent")
    top_p: float | None = Field(None, gt=0.0, le=1.0, description="Fixed by the service: warned of, never sent")
    evidence: EvidenceMode = Field("part", description="Evidence asked of the model: none, part or quote")
    verify: bool = Field(False, description="Look at each chunk a second time for what is missing or wrong")
    stream: bool = Field(True, description="Receive answers as they are written, so that a dead call shows early")
    timeout_s: float = Field(600.0, gt=0, description="Time one call may take")
    stall_timeout_s: float = Field(180.0, gt=0, description="Time a streamed call may stay silent")
    run_timeout_s: float | None = Field(None, gt=0, description="Time a run may ask for; what is open then fails")
    max_attempts: int = Field(6, ge=1, description="Tries of one call that fails in a retryable way")
    concurrency: int | None = Field(None, ge=1, le=1_000, description="Calls under way at once")
    http2: bool = Field(False, description="Speak HTTP/2 where the server does; needs the extra http2")

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _sendable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if not word:
                raise ValueError("a stop word is empty: leave it out")
            if "," in word:
                raise ValueError(
                    f"{word!r} holds a comma; stops are sent as one comma-separated string, so it would arrive as two:"
                    " use a word without one"
                )
        return value


# What a request holds beside a file handed over whole: prompt, schema, the rest of the body.
_BESIDE_FILE_BYTES = 500_000


def fit_to_files(reading: ReadingSettings, profile: Profile, endpoint: Endpoint) -> ReadingSettings:
    """The settings, with what is handed over as it is kept within the profile's limits and those of a request's body.

    Raises ConfigError when the model takes no documents, or the protocol or the model no video.
    """
    if reading.video == "native" and (profile.video is None or endpoint.local or endpoint.protocol == "messages"):
        who = f"profile {profile.name}" if profile.video is None else f"the {endpoint.protocol} protocol"
        who = "the local engine" if endpoint.local else who
        raise ConfigError(f"reading.video: {who} takes no video: send its frames (--video frames)")
    if reading.documents != "native":
        return reading
    if profile.files is None:
        raise ConfigError(f"reading.documents: profile {profile.name} takes no documents: use --documents pages")
    body_bytes = (profile.max_request_bytes - _BESIDE_FILE_BYTES) * 3 // 4
    most = {
        "native_max_pages": min(reading.native_max_pages, profile.files.max_pages),
        "native_max_bytes": min(reading.native_max_bytes, profile.files.max_bytes, body_bytes),
    }
    return reading.model_copy(update=most)


_MODEL_PARAMETERS = (
    "max_tokens",
    "enable_thinking",
    "reasoning_effort",
    "image_detail",
    "video_fps",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "enable_web_search",
    "enable_caching",
)


def check_parameters(asking: AskingSettings, profile: Profile) -> None:
    """Raise ConfigError for parameters that exclude one another, or that the profile's model does not take."""
    if asking.enable_caching and any(rung != "prompt" for rung in profile.ladder):
        raise ConfigError(
            "asking.enable_caching cannot be used with a schema: the service refuses the combination. Leave it out, or"
            ' use a profile file with ladder = ["prompt"], which puts the schema into the prompt'
        )
    if asking.stop and asking.enable_thinking:
        raise ConfigError("asking.stop: the service refuses stops while the model thinks: leave out one of the two")
    for name in _MODEL_PARAMETERS:
        value = getattr(asking, name)
        if value == AskingSettings.model_fields[name].default:
            continue
        if profile.parameters and name not in profile.parameters:
            raise ConfigError(f"asking.{name}: the model of profile {profile.name} does not take it: leave it out")
        if name in profile.parameters and not isinstance(value, tuple | bool):
            _check_range(name, value, profile.parameters[name], profile.name)


def _check_range(name: str, value: str | float, rule: ParameterRule, profile: str) -> None:
    if rule.choices and value not in rule.choices:
        known = ", ".join(str(choice) for choice in rule.choices)
        raise ConfigError(f"asking.{name}: profile {profile} has no {value!r}, only {known}")
    if isinstance(value, str):
        return
    if (rule.min is not None and value < rule.min) or (rule.max is not None and value > rule.max):
        low, high = ("" if bound is None else f"{bound:g}" for bound in (rule.min, rule.max))
        raise ConfigError(f"asking.{name}: {value:g} is outside the {low} to {high} of profile {profile}")


class PlanningSettings(_Settings):
    """How parts become chunks."""

    target_tokens: int | None = Field(None, ge=1_000, description="Input tokens a request is filled to")
    context_parts: int | None = Field(
        None, ge=0, le=8, description="Neighbouring parts carried as context on each side; default: 1 frame, 0 pages"
    )
    safety_margin: float = Field(
        0.06, ge=0, le=0.5, description="Share by which the server may count more input than expected"
    )


class BudgetSettings(_Settings):
    """What a run may spend, in US dollars; None means no limit. Each run starts its own count."""

    max_cost_usd: Decimal | None = Field(None, gt=0, description="Money this run may spend, never passed")
    max_cost_per_document_usd: Decimal | None = Field(None, gt=0, description="Money one document may cost in this run")

    verify_share: float = Field(
        0.3, ge=0, le=1, description="Share of --max-cost that second looks (--verify) may spend"
    )

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.max_cost_usd is not None or self.max_cost_per_document_usd is not None


class KeepingSettings(_Settings):
    """What lasts, and where: the ledger, and what of an earlier run is asked again."""

    ledger: SecretStr | None = Field(
        None, description="Database that keeps answers and money, as a SQLAlchemy URL; default: a file in OUT/.ingest"
    )
    claim_timeout_s: float = Field(
        60.0, gt=0, description="Silence after which another run takes over what a dead one was asking"
    )
    fresh: bool = Field(False, description="Ask everything again, whatever was answered before")
    retry: tuple[Literal["failed", "partial", "refused"], ...] = Field(
        (), description="Only documents that ended so in earlier runs, and ask again what failed in them"
    )
    to: tuple[SecretStr, ...] = Field((), description="Where records go besides OUT: files and tables by URL")


class ExecuteSettings(_Settings):
    """Who does the work: this process, or a cluster. Never part of what a request is."""

    executor: Literal["local", "ray"] = Field(
        "local", description="Where documents are worked on: here, or on a cluster"
    )
    address: str | None = Field(
        None, description="Ray cluster as HOST:PORT, or auto; default: RAY_ADDRESS, else one of this machine's own"
    )
    workers: int | None = Field(
        None, ge=1, le=10_000, description="Worker processes on the cluster; default: one for every CPU"
    )


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class FindingSettings(_Settings):
    """Which documents, and how the bytes of those that are no local files come here."""

    manifest: tuple[str, ...] = Field((), description="List of documents: CSV, JSON Lines, Parquet or one URI a line")
    include: tuple[str, ...] = Field((), description="Only documents whose name matches a pattern such as *.pdf")
    exclude: tuple[str, ...] = Field((), description="No documents whose name matches a pattern such as drafts/*")
    since: str | None = Field(None, description="Only documents changed since 2026-01-31[T12:00], or within 36h or 7d")
    changed_only: bool = Field(False, description="Leave out what has a complete record and did not change since")
    staged_bytes: int = Field(
        4_000_000_000, ge=1, description="Disk space for downloads and unpacked files that wait to be read"
    )
    fetch_timeout_s: float = Field(600.0, gt=0, description="Time one download may take")
    fetch_attempts: int = Field(3, ge=1, description="Tries of a download that fails in a way that may pass")
    unpack: bool = Field(True, description="Read attachments of e-mails and members of archives as documents, too")
    unpack_timeout_s: float = Field(300.0, gt=0, description="Time that unpacking one e-mail or archive may take")
    max_depth: int = Field(3, ge=1, le=10, description="Containers within containers that are opened")
    max_members: int = Field(1_000, ge=1, description="Documents taken from one e-mail or archive")
    max_member_bytes: int = Field(250_000_000, ge=1, description="Size of one document in an e-mail or archive")
    max_unpacked_bytes: int = Field(2_000_000_000, ge=1, description="What one e-mail or archive may unpack to")
    max_unpacked_ratio: int = Field(
        100, ge=1, description="How many times its own size an archive beyond 100 MB may unpack to"
    )

    @field_validator("since")
    @classmethod
    def _is_time(cls, value: str | None) -> str | None:
        if value is not None:
            since_s(value, 0.0)
        return value


def since_s(text: str, now_s: float) -> float:
    """A time such as `2026-01-31T12:00` (local unless it says otherwise), or a duration such as `36h` before `now_s`.

    In seconds since 1970. Raises ValueError when it is neither.
    """
    duration = _DURATION.fullmatch(text.strip())
    if duration is not None:
        return now_s - float(duration[1]) * _UNIT_S[duration[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 2026-01-31T12:00 nor a duration such as 36h") from None


class Endpoint(_Settings):
    """Where requests go. With `local` the embedded engine answers in-process and no socket is opened."""

    base_url: str
    protocol: str = Field("chat", description="chat, responses, messages, or one that another package offers")
    api_key: SecretStr | None = None
    local: bool = False

    @property
    def label(self) -> str:
        """What records and reports call it."""
        return "local" if self.local else self.base_url


def resolve_endpoint(
    profile: Profile,
    *,
    local: bool = False,
    base_url: str | None = None,
    protocol: str = "chat",
    api_key: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Endpoint:
    """Where requests of this profile go, with the key from the argument, else from the environment.

    Raises ConfigError when there is neither a key nor `local`, or no base URL; a server on this machine needs no key.
    """
    if local and profile.name != "local":
        raise ConfigError(
            f"the embedded engine answers as profile 'local', not as {profile.name!r}: leave one of them out"
        )
    if local:
        return Endpoint(base_url="http://local.invalid/v1", protocol="chat", local=True)
    url = base_url or profile.base_url
    if not url:
        raise ConfigError(f"profile {profile.name} has no base URL: give --base-url")
    if not profile.model:
        raise ConfigError(
            f'profile {profile.name} names no model: write a profile file with extends = "{profile.name}" and'
            ' model = "the id your server answers to", and give it with --profile FILE'
        )
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        # The URL stands in every record; a key in it would too.
        raise ConfigError("the base URL must not hold a password, a key or a query: set the key in the environment")
    names = (*profile.api_key_env, "INGEST_API_KEY")
    key = api_key or next((environ[name] for name in names if environ.get(name)), None)
    if key is None and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            f"no API key for {url}: set {' or '.join(names)} in the environment,"
            " or add --local (local=True) to run offline on the embedded engine"
        )
    return Endpoint(base_url=url.rstrip("/"), protocol=protocol, api_key=None if key is None else SecretStr(key))


class Recipe(_Settings):
    """What to extract: a document schema, instructions, and settings that belong to the kind of document."""

    name: str = "schema"
    description: str = ""
    document_schema: JsonObject = Field(description="JSON Schema 2020-12 of the record's data")
    instructions: str = ""
    reading: JsonObject = Field(default_factory=dict, description="Overrides of ReadingSettings")
    asking: JsonObject = Field(default_factory=dict, description="Overrides of AskingSettings")
    planning: JsonObject = Field(default_factory=dict, description="Overrides of PlanningSettings")
    budget: JsonObject = Field(default_factory=dict, description="Overrides of BudgetSettings")
    merge: dict[str, str | JsonObject] = Field(
        default_factory=dict,
        description="Merge rule by path such as lines/*/amount; a name, or a table with x-merge and x-merge-key",
    )
    checks: tuple[str | JsonObject, ...] = Field(
        (), description="Checks such as net + tax = gross; a text, or a table with that and tolerance"
    )
    digest: JsonObject = Field(default_factory=dict, description="What digests of such records tell; read by their job")

    @property
    def schema_sha256(self) -> str:
        """Hash of the document schema in canonical JSON."""
        return _hash_json(self.document_schema)

    @property
    def instructions_sha256(self) -> str:
        """Hash of the instructions."""
        return hashlib.sha256(self.instructions.encode()).hexdigest()


class Config(_Settings):
    """Everything a run needs to know."""

    recipe: Recipe
    profile: Profile
    endpoint: Endpoint
    output: Path | None = Field(None, description="Folder for records and ledger; None keeps the ledger in memory")
    reading: ReadingSettings = ReadingSettings()
    asking: AskingSettings = AskingSettings()
    planning: PlanningSettings = PlanningSettings()
    budget: BudgetSettings = BudgetSettings()
    keeping: KeepingSettings = KeepingSettings()
    finding: FindingSettings = FindingSettings()
    execute: ExecuteSettings = ExecuteSettings()
    jobs: int | None = Field(
        None, ge=1, le=64, description="Documents in flight; default: as many as calls at once, at least 4"
    )

    @property
    def calls_at_once(self) -> int:
        """Calls that may be under way at once."""
        return self.asking.concurrency or self.profile.rate_limits.concurrency

    @property
    def documents_at_once(self) -> int:
        """Documents in flight: a folder of one-page documents keeps all calls busy."""
        return self.jobs or min(max(self.calls_at_once, 4), 64)


def _hash_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
