"""What settings make of documents before anybody is asked: the words, the limits, the chunks and their keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingest.asking import prompt, schema
from ingest.asking.schema import ChunkSchema, Slot
from ingest.config import Config
from ingest.engine.assembly import hollow_parts
from ingest.errors import ConfigError
from ingest.planning.calibration import Calibration
from ingest.planning.chunks import Layout, Limits, Planner, partition_to_json, request_limits
from ingest.planning.tokens import Counts, count_preamble
from ingest.profile import Profile, VideoRule
from ingest.types import Chunk, Document, Estimate, JsonObject, Medium, Problem, Rendering, Rung

# Enters every request key: raised when the way content is made from a file changes.
_CONTENT_VERSION = 1
# What a request holds beside a clip: prompt, schema, the rest of the body.
_BESIDE_CLIP_BYTES = 500_000


@dataclass(frozen=True, slots=True)
class Brief:
    """What is asked of every document of one medium, and what a request of it may hold.

    `frames` is the static text by rung, `preamble` its tokens with schema and overhead before any calibration,
    `parameters` the model's own settings by gateway name, `digest` a hash of all that is the same in every request.
    `has_first_limit`: answers are asked for at a lower output limit first (see `output_limits`).
    """

    chunk_schema: ChunkSchema
    frames: Mapping[Rung, prompt.Frame]
    preamble: Counts
    limits: Limits
    parameters: JsonObject
    digest: str
    has_first_limit: bool = False


class Blueprint:
    """Settings made ready for planning. Pure: the same settings, document and calibration give the same chunks.

    Raises ConfigError when the schema cannot be asked for or leaves no room for a page.
    """

    def __init__(self, config: Config, like: Blueprint | None = None) -> None:
        """`like` is one with the same recipe and evidence, whose schemas need not be made again."""
        self.config = config
        schemas = {medium: brief.chunk_schema for medium, brief in like._briefs.items()} if like else {}
        media: tuple[Medium, ...] = ("pages", "video")
        self._briefs: dict[Medium, Brief] = {
            medium: _brief(config, medium, schemas.get(medium) or _chunk_schema(config, medium)) for medium in media
        }
        self.rendering = _rendering(config, self._briefs["video"])

    def brief(self, document: Document) -> Brief:
        """What is asked of a document of this medium."""
        return self._briefs[document.medium]

    def planner(self, document: Document, calibration: Calibration) -> Planner:
        """The planner of requests about this document, as token counts are known now."""
        brief, config = self.brief(document), self.config
        return Planner(
            config.profile,
            brief.parameters["image_detail"],
            brief.limits,
            self._context_parts(document),
            calibration,
            brief.parameters.get("video_fps"),
        )

    def _context_parts(self, document: Document) -> int:
        """As set; else a frame on each side, which shows what goes on across a border, and no page or clip."""
        asked = self.config.planning.context_parts
        is_frames = document.medium == "video" and self.config.reading.video == "frames"
        return asked if asked is not None else int(is_frames)

    def layout(self, document: Document, calibration: Calibration) -> Layout:
        """The document's chunks. Parts of which nothing would be sent are in none."""
        return self.planner(document, calibration).plan(solid(document))

    def restore(self, document: Document, calibration: Calibration, pinned: Any) -> Layout | None:
        """The chunks that `pin` wrote down; None when they no longer fit the document."""
        try:
            problems = tuple(Problem(*fields) for fields in pinned["problems"])
            lost = {problem.part_index for problem in problems if problem.code == "too_large"}
            sent = replace(document, parts=tuple(part for part in solid(document).parts if part.index not in lost))
            chunks = self.planner(document, calibration).restore(sent, pinned["chunks"])
        except (KeyError, TypeError):
            return None
        return None if chunks is None else Layout(chunks, problems)

    def narrowed(self, brief: Brief, slots: Sequence[Slot] | None, columns: Sequence[str] | None) -> Brief:
        """What is asked when only some of the schema is: see `slicing.Scope`."""
        if slots is None:
            return brief
        config, chunk_schema = self.config, schema.narrow(brief.chunk_schema, slots, columns)
        frames = {
            rung: prompt.frame(config.recipe, config.asking.evidence, rung, chunk_schema, chunk_schema.medium)
            for rung in brief.frames
        }
        return replace(brief, chunk_schema=chunk_schema, frames=frames)

    def key(self, document: Document, chunk: Chunk, hint: str | None = None, narrowed: JsonObject | None = None) -> str:
        """Identity of a request, from content and settings alone.

        The rung is left out: an answer is the same answer whichever way the schema was handed over. `narrowed` tells
        what alone of the schema is asked for.
        """
        owned = {part.key for part in chunk.owned}
        return _hash(
            self._identity(document)
            | {
                "parts": [[part.key, part.key in owned] for part in chunk.parts],
                "rendering": self.rendering.key if any(part.mode != "text" for part in chunk.parts) else "",
                "hint": hint,
            }
            | ({} if narrowed is None else {"narrowed": narrowed})
        )

    def partition_key(self, document: Document) -> str:
        """Identity of a document under these settings: how it was cut is kept under it."""
        planning = self.config.planning
        return _hash(
            self._identity(document)
            | {
                "parts": [part.key for part in solid(document).parts],
                "rendering": self.rendering.key,
                "filled": [planning.target_tokens, self._context_parts(document)],
            }
        )

    def _identity(self, document: Document) -> JsonObject:
        return {
            "version": _CONTENT_VERSION,
            "source": document.source.sha256,
            "of": len(document.parts),
            "asked": self.brief(document).digest,
            "model": self.config.profile.model,
            "endpoint": self.config.endpoint.label,
        }


def solid(document: Document) -> Document:
    """The document without the parts of which nothing would be sent."""
    hollow = hollow_parts(document)
    return replace(document, parts=tuple(part for part in document.parts if part.index not in hollow))


def pin(chunks: Sequence[Chunk], problems: Sequence[Problem]) -> JsonObject:
    """How a document is cut, as JSON for the ledger."""
    told = [[problem.stage, problem.code, problem.message, problem.part_index] for problem in problems]
    return {"chunks": partition_to_json(chunks), "problems": told}


def _hash(identity: JsonObject) -> str:
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _chunk_schema(config: Config, medium: Medium) -> ChunkSchema:
    recipe = config.recipe
    try:
        return schema.derive(recipe.document_schema, config.asking.evidence, recipe.name, medium)
    except RecursionError as error:
        raise ConfigError("the document schema is nested too deeply: flatten it") from error


def _brief(config: Config, medium: Medium, chunk_schema: ChunkSchema) -> Brief:
    recipe, ladder = config.recipe, config.profile.ladder
    frames = {rung: prompt.frame(recipe, config.asking.evidence, rung, chunk_schema, medium) for rung in ladder}
    frame = frames[ladder[0]]
    # Servers write a schema out with spaces between its tokens, whatever way it came.
    schema_text = json.dumps(chunk_schema.schema, ensure_ascii=False)
    preamble = count_preamble((frame.system, frame.opening, frame.closing, schema_text), config.profile)
    parameters = _parameters(config, medium)
    estimate = Estimate(preamble.total, preamble.total_safe)
    limits = request_limits(config.profile, estimate, config.planning.target_tokens, int(parameters["max_tokens"]))
    words = [frame.system, frame.opening, frame.closing]
    digest = _hash({"prompt": words, "schema": chunk_schema.schema, "parameters": parameters})
    has_first_limit = (
        config.asking.max_tokens is None
        and not config.asking.enable_thinking
        and any(tier.output_usd_per_million for tier in config.profile.tiers)
    )
    return Brief(chunk_schema, frames, preamble, limits, parameters, digest, has_first_limit)


def _rendering(config: Config, brief: Brief) -> Rendering:
    profile = config.profile
    rule = profile.images[config.asking.image_detail or profile.default_detail]
    limits = profile.image_limits
    frame_rule = profile.images[brief.parameters["image_detail"]]
    frame_tokens = min(config.reading.frame_tokens or profile.frames.max_tokens, frame_rule.max_tokens)
    tokens = frame_tokens + profile.frames.timestamp_tokens[0] + 2 * profile.overhead.per_part
    return Rendering(
        max_pixels=rule.max_pixels,
        max_bytes=min(profile.image_bytes, limits.max_bytes),
        min_side_px=limits.min_side_px,
        max_aspect_ratio=limits.max_aspect_ratio,
        jpeg_quality=config.reading.jpeg_quality,
        frame_max_pixels=min(frame_tokens * frame_rule.pixels_per_token, frame_rule.max_pixels),
        frames_per_request=max(brief.limits.target_tokens // tokens, 1),
        frame_free_pixels=frame_rule.min_tokens * frame_rule.pixels_per_token,
        **_clip_limits(profile, _clip_fps(config)),
    )


def _clip_limits(profile: Profile, fps: float) -> dict[str, Any]:
    """Clips that fit the body of a request, and are so short that every frame gets the most tokens there are."""
    rule = profile.video or VideoRule()
    body_bytes = (profile.max_request_bytes - _BESIDE_CLIP_BYTES) * 3 // 4  # base64
    return {
        "clip_max_bytes": max(min(rule.max_bytes, body_bytes), 1),
        "clip_max_s": max(rule.budget_tokens // rule.tokens_per_frame[1] - 1, 1) / fps,
        "clip_fps": fps,
    }


def _clip_fps(config: Config) -> float:
    """The rate at which the model samples clips: the one asked for, else the one of frames, else the model's own."""
    if config.asking.video_fps is not None:
        return config.asking.video_fps
    if config.reading.fps != "auto":
        return config.reading.fps
    return (config.profile.video or VideoRule()).default_fps


def _parameters(config: Config, medium: Medium) -> JsonObject:
    """The model's settings by gateway name, those left at their defaults as they are known to be or not at all.

    Which of them an endpoint takes is for the wire to know.
    """
    asking, profile = config.asking, config.profile
    detail = profile.frames.detail if medium == "video" else profile.default_detail
    parameters: JsonObject = {
        "max_tokens": asking.max_tokens or profile.default_output_tokens,
        "enable_thinking": asking.enable_thinking,
        "image_detail": asking.image_detail or detail,
    }
    if asking.enable_thinking and asking.reasoning_effort:
        parameters["reasoning_effort"] = asking.reasoning_effort
    if medium == "video" and config.reading.video == "native":
        parameters["video_fps"] = _clip_fps(config)
    for name in ("frequency_penalty", "presence_penalty", "enable_web_search", "enable_caching"):
        if getattr(asking, name):
            parameters[name] = getattr(asking, name)
    if asking.stop:
        parameters["stop"] = list(asking.stop)
    return parameters
