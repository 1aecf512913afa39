"""What an endpoint says of its model, against the profile: a figure that moved makes every price and plan wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ingest.planning.pricing import tier_of
from ingest.profile import Profile
from ingest.types import Json

# Names by which endpoints call one thing; the first found counts.
_INPUT_PRICES = ("input_usd_per_million", "input_price", "input", "prompt")
_OUTPUT_PRICES = ("output_usd_per_million", "output_price", "output", "completion")
_LOW_ENDS = ("min_input_tokens", "min_tokens", "min_context", "min")
_HIGH_ENDS = ("max_input_tokens", "max_tokens", "max_context", "max")
_WINDOWS = ("context_window", "context_length", "max_context_length", "context")


def find_drift(profile: Profile, card: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a model card of `GET /v1/models/{id}` differs from the profile, in sentences; none when they agree.

    Only what the card states and what we can read is compared; a field in another form is left out.
    """
    return (*_prices(profile, card), *_sizes(profile, card), *_parameters(profile, card), *_modalities(card))


def has_figures(card: Mapping[str, Any]) -> bool:
    """Whether the card states anything that can be compared."""
    names = ("pricing_rows", "supported_parameters", "max_input_tokens", "max_output_tokens", *_WINDOWS)
    return any(card.get(name) for name in names)


def _prices(profile: Profile, card: Mapping[str, Any]) -> Iterator[str]:
    """The price at both ends of each row that the endpoint states, per million tokens."""
    rows = card.get("pricing_rows")
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        stated = (_number(row, _INPUT_PRICES), _number(row, _OUTPUT_PRICES))
        if None in stated:
            continue
        low = int(_number(row, _LOW_ENDS) or 0)
        high = int(_number(row, _HIGH_ENDS) or profile.max_input_tokens)
        for tokens in dict.fromkeys((low, min(high, profile.max_input_tokens))):
            tier = tier_of(profile, tokens)
            ours = None if tier is None else (tier.input_usd_per_million, tier.output_usd_per_million)
            if ours is None:
                yield f"the endpoint states prices (${stated[0]} in, ${stated[1]} out), and the profile has none"
                return
            if tokens <= profile.max_input_tokens and ours != stated:
                yield (
                    f"a request of {tokens:,} input tokens costs ${stated[0]} in and ${stated[1]} out per million"
                    f" tokens; the profile says ${ours[0]} and ${ours[1]}"
                )
                break


def _sizes(profile: Profile, card: Mapping[str, Any]) -> Iterator[str]:
    """Sizes smaller than the profile's break requests; larger ones only waste room."""
    sizes = (
        (_WINDOWS, profile.window_tokens, "context window"),
        (("max_input_tokens",), profile.max_input_tokens, "input limit"),
        (("max_output_tokens", "max_completion_tokens"), profile.max_output_tokens, "output limit"),
    )
    for names, ours, what in sizes:
        stated = _number(card, names)
        if stated is not None and int(stated) != ours:
            yield f"the {what} is {int(stated):,} tokens; the profile says {ours:,}"


def _parameters(profile: Profile, card: Mapping[str, Any]) -> Iterator[str]:
    supported = card.get("supported_parameters")
    if not isinstance(supported, list) or not supported:
        return
    sent = ["max_tokens"]
    sent += ["image_detail"] if profile.quirks.image_detail else []
    sent += ["enable_thinking"] if profile.quirks.thinking else []
    sent += ["disable_formatting"] if profile.quirks.disable_formatting else []
    missing = [name for name in sent if name not in supported]
    if missing:
        yield f"the endpoint does not list {', '.join(missing)}, which the profile sends"


def _modalities(card: Mapping[str, Any]) -> Iterator[str]:
    accepted = card.get("input_modalities", card.get("modalities"))
    if isinstance(accepted, list) and accepted and "image" not in accepted:
        yield f"the model takes {', '.join(map(str, accepted))}, and no images"


def _number(table: Mapping[str, Any], names: tuple[str, ...]) -> Decimal | None:
    """The first of the names that holds a number."""
    for name in names:
        value: Json = table.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                number = Decimal(str(value).removeprefix("$"))
            except InvalidOperation:
                continue
            if number.is_finite() and 0 <= number < 10**12:
                return number
    return None
