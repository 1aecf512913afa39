"""Profiles: every figure is data, a user's file overrides single values."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from ingest.config import resolve_endpoint
from ingest.errors import ConfigError
from ingest.profile import ParameterRule, load_profile, profile_names


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_sound(name: str) -> None:
    """A profile that contradicts itself would plan requests the server refuses."""
    profile = load_profile(name)
    assert profile.name == name
    assert profile.max_input_tokens <= profile.window_tokens
    assert profile.target_input_tokens < min((tier.max_input_tokens for tier in profile.tiers), default=128_000)
    assert profile.target_input_tokens <= profile.max_input_tokens
    assert profile.default_output_tokens <= profile.max_output_tokens
    assert profile.max_input_tokens + profile.default_output_tokens <= profile.window_tokens + profile.max_output_tokens
    assert [tier.max_input_tokens for tier in profile.tiers] == sorted(tier.max_input_tokens for tier in profile.tiers)
    assert profile.default_detail in profile.images
    for rule in profile.images.values():
        assert rule.min_tokens <= rule.max_tokens
        assert rule.max_pixels == pytest.approx(rule.max_tokens * rule.pixels_per_token, rel=0.02)
    assert profile.frames.detail in profile.images
    assert set(profile.parameters.get("image_detail", ParameterRule()).choices) <= set(profile.images)
    for _, (expected, safe) in profile.text:
        assert expected <= safe
    if profile.files is not None:
        assert profile.files.tokens_per_page * profile.files.max_pages <= profile.target_input_tokens


def test_a_file_overrides_single_values(tmp_path: Path) -> None:
    """A correction of one price must not need a copy of everything else."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "seed-2-0-pro"\nname = "mine"\n[rate_limits]\nrequests_per_minute = 500\n')
    profile = load_profile(str(path))
    assert profile.rate_limits.requests_per_minute == 500
    assert profile.rate_limits.tokens_per_minute == 2_000_000
    assert profile.tiers[0].input_usd_per_million == Decimal("0.63")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window_tokens = 5", "mine.toml"),
        ('extends = "seed-2-0-pro"\nwindow = 5', "window"),
        ("a = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, words: str) -> None:
    """The user must find the line to mend."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_profile(str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    """A typing error is mended without opening the manual."""
    with pytest.raises(ConfigError, match="seed-2-0-pro"):
        load_profile("seed2")


def test_no_key_names_both_ways_out() -> None:
    """The first error a new user meets must say how to go on."""
    profile = load_profile("seed-2-0-pro")
    with pytest.raises(ConfigError, match=r"EMPIRIOLABS_API_KEY.*--local"):
        resolve_endpoint(profile, environ={})
    assert resolve_endpoint(load_profile("local"), local=True, environ={}).local
    assert resolve_endpoint(profile, base_url="http://127.0.0.1:1/v1", environ={}).api_key is None


@pytest.mark.parametrize("url", ["https://me:secret1@host/v1", "https://host/v1?key=secret1"])
def test_a_key_in_the_url_is_refused(url: str) -> None:
    """The URL stands in every record; the message must not repeat the key either."""
    with pytest.raises(ConfigError, match="base URL must not hold") as caught:
        resolve_endpoint(load_profile("seed-2-0-pro"), base_url=url, environ={"INGEST_API_KEY": "k"})
    assert "secret1" not in str(caught.value)


def test_the_embedded_engine_has_its_own_profile() -> None:
    """Another model's name on an answer of the local engine would mislead."""
    with pytest.raises(ConfigError, match="embedded"):
        resolve_endpoint(load_profile("seed-2-0-pro"), local=True, environ={})


def test_a_key_never_shows() -> None:
    """Settings are printed and logged."""
    endpoint = resolve_endpoint(load_profile("seed-2-0-pro"), environ={"INGEST_API_KEY": "sk-very-secret"})
    assert "very-secret" not in repr(endpoint)
    assert "very-secret" not in endpoint.model_dump_json()


def test_a_generic_profile_asks_for_its_model() -> None:
    """No server answers to a model without a name, and the error must say where the name goes."""
    with pytest.raises(ConfigError, match=r"openai-compatible.*model = "):
        resolve_endpoint(load_profile("openai-compatible"), base_url="http://127.0.0.1:1/v1", environ={})
    with pytest.raises(ConfigError, match="--base-url"):
        resolve_endpoint(load_profile("openai-compatible"), environ={})


@pytest.mark.parametrize("name", ["seed-1-8", "seed-1-6", "openai-compatible"])
def test_a_profile_without_a_known_price_states_none(name: str) -> None:
    """A made-up price would be believed."""
    assert load_profile(name).tiers == ()


def test_the_parameters_of_a_model_have_their_ranges() -> None:
    """A value out of range is refused before anything is sent, by the figures of the profile."""
    rules = load_profile("seed-2-0-pro").parameters
    assert (rules["max_tokens"].min, rules["max_tokens"].max) == (1, 65_536)
    assert (rules["video_fps"].min, rules["video_fps"].max) == (0.2, 5.0)
    assert rules["reasoning_effort"].choices == ("low", "medium", "high")
    assert "temperature" not in rules
