"""Model cards: a model as `GET /v1/models/{id}` describes it."""

from __future__ import annotations

from typing import Any

from ingest.local.contract import Terms
from ingest.local.numbers import ServedModel
from ingest.local.shaping import ENGINE

_PARAMETERS = (
    "disable_formatting",
    "enable_caching",
    "enable_thinking",
    "frequency_penalty",
    "image_detail",
    "max_tokens",
    "presence_penalty",
    "reasoning_effort",
    "stop",
    "stream",
    "stream_options",
)


def model_card(model: ServedModel, terms: Terms) -> dict[str, Any]:
    """The card: window, prices by input length, what goes in and out, and the parameters of a request."""
    numbers = model.numbers
    inputs = ["text", "image", "file", *(["video"] if terms.counts_video else [])]
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "ingest-local",
        "engine": ENGINE,
        "context_window": numbers.window_tokens,
        "context_length": numbers.window_tokens,
        "max_input_tokens": numbers.max_input_tokens,
        "max_output_tokens": numbers.max_output_tokens,
        "pricing_rows": _pricing_rows(model),
        "supported_parameters": sorted(_supported(terms)),
        "input_modalities": inputs,
        "output_modalities": ["text"],
        "capabilities": {
            "structured_output": "json_schema" not in terms.lacks,
            "tools": "tools" not in terms.lacks,
            "thinking": True,
            "streaming": True,
            "image_detail": sorted(numbers.detail),
            "video": terms.counts_video,
            "documents": True,
        },
    }


def _supported(terms: Terms) -> set[str]:
    supported = set(_PARAMETERS)
    if "json_schema" not in terms.lacks:
        supported.add("response_format")
    if "tools" not in terms.lacks:
        supported |= {"tools", "tool_choice"}
    if terms.counts_video:
        supported.add("video_fps")
    return supported


def _pricing_rows(model: ServedModel) -> list[dict[str, Any]]:
    rows = []
    low = 0
    for tier in model.numbers.tiers:
        rows.append(
            {
                "min_input_tokens": low,
                "max_input_tokens": min(tier.below_input_tokens - 1, model.numbers.window_tokens),
                "input_usd_per_million": "0" if model.is_free else str(tier.input_usd_per_million),
                "output_usd_per_million": "0" if model.is_free else str(tier.output_usd_per_million),
            }
        )
        low = tier.below_input_tokens
    return rows
