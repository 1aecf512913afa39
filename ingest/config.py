"""Settings, each default written once. Flags, environment, recipe files and library calls all build a `Config`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ingest.errors import ConfigError
from ingest.profile import Profile
from ingest.types import Detail, EvidenceMode, JsonObject, PagePolicy

# The base URL of profiles of the embedded engine: a name that no resolver knows, so nothing ever leaves.
_EMBEDDED_URL = "http://local.invalid/v1"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReadingSettings(_Settings):
    """How files become parts."""

    pages: PagePolicy = Field("auto", description="Send pages as image, text, both, or decide per page (auto)")
    passwords: tuple[SecretStr, ...] = Field((), description="Tried in order on encrypted files")
    jpeg_quality: int = Field(80, ge=30, le=95, description="JPEG quality of rendered pages")
    documents: Literal["pages", "native"] = Field("pages", description="Send PDF files as pages, or as they are")
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
    workers: int = Field(2, ge=1, description="Worker processes for rendering and decoding")


class AskingSettings(_Settings):
    """How the model is asked. None leaves a parameter to the profile or out of the request."""

    max_tokens: int | None = Field(None, ge=1, le=65_536, description="Output limit of one request")
    enable_thinking: bool = Field(False, description="Let the model reason first; reasoning is billed as output")
    reasoning_effort: Literal["low", "medium", "high"] | None = Field(None, description="Only with thinking on")
    image_detail: Detail | None = Field(None, description="Image detail of the whole request")
    evidence: EvidenceMode = Field("part", description="Evidence asked of the model: none, part or quote")
    timeout_s: float = Field(600.0, gt=0, description="Time one call may take")
    max_attempts: int = Field(6, ge=1, description="Tries of one call that fails in a retryable way")


class PlanningSettings(_Settings):
    """How parts become chunks."""

    target_tokens: int | None = Field(None, ge=1_000, description="Input tokens a request is filled to")
    context_parts: int = Field(0, ge=0, le=8, description="Neighbouring parts carried as context on each side")


class Endpoint(_Settings):
    """Where requests go. With `local` the embedded engine answers in-process and no socket is opened."""

    base_url: str
    protocol: Literal["chat", "responses", "messages"] = "chat"
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
    protocol: Literal["chat", "responses", "messages"] = "chat",
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
    merge: dict[str, str | JsonObject] = Field(
        default_factory=dict,
        description="Merge rule by path such as lines/*/amount; a name, or a table with x-merge and x-merge-key",
    )

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
    jobs: int = Field(4, ge=1, le=64, description="Documents in flight")


def _hash_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
