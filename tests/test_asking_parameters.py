"""Every parameter of the model as a setting: from recipe, flag, environment and Python to the body that is sent."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import ingest
from ingest.asking.rungs import Rungs
from ingest.asking.wire import WIRES, load_wire
from ingest.cli.flags import Command
from ingest.cli.options import config_of, config_options
from ingest.config import AskingSettings, Config
from ingest.engine.session import Session
from ingest.errors import ConfigError
from ingest.types import Document, Json, Part, Source
from tests import fakes

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
GIVEN: dict[str, Json] = {
    "max_tokens": 777,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "stop": ["END", "two words"],
    "enable_web_search": True,
    "image_detail": "xhigh",
}
SENT = {**GIVEN, "stop": "END,two words"}
RANGES: list[tuple[str, list[Any]]] = [
    ("max_tokens", [0, 65_537]),
    ("frequency_penalty", [-2.1, 2.1]),
    ("presence_penalty", [-2.1, 2.1]),
    ("stop", [["a,b"], [""]]),
    ("reasoning_effort", ["extreme"]),
    ("image_detail", ["ultra"]),
    ("video_fps", [0.1, 5.1]),
    ("temperature", [-1, 3]),
    ("top_p", [0, 1.5]),
    ("timeout_s", [0]),
    ("stall_timeout_s", [0]),
    ("run_timeout_s", [0]),
    ("concurrency", [0]),
]


def configured(**asking: Json) -> Config:
    """Settings as a program makes them."""
    return ingest.configure(schema=SCHEMA, api_key=fakes.KEY, settings={"asking": asking})


def body_of(config: Config) -> dict[str, Any]:
    """The body of a request with one image under these settings."""
    source = Source("a", "", Path("a"), 1, "0" * 64, "application/pdf")
    session = Session(config, lambda event: None, is_dry=True)
    brief = session.brief(Document(source, (Part(0, "page", "image"),)))
    contents = fakes.make_request(image=True).contents
    request = session.request("k" * 64, brief, contents, "json_schema")
    return load_wire("chat").encode(request, config.profile).body


def from_flags(*flags: str, env: dict[str, str] | None = None) -> Config | str:
    """Settings as the command line makes them, or what it says is wrong."""
    found: list[Config] = []

    @click.command(cls=Command)
    @config_options
    @click.pass_context
    def command(ctx: click.Context, /, **_: object) -> None:
        found.append(config_of(ctx, needs_key=False))

    variables = {"INGEST_API_KEY": fakes.KEY} | (env or {})
    result = CliRunner().invoke(command, ["--recipe", "invoices", *flags], env=variables)
    if found:
        return found[0]
    return f"{result.output}{result.exception}"


FLAGS = [
    "--max-tokens=777", "--frequency-penalty=0.5", "--presence-penalty=-0.5", "--stop=END", "--stop=two words",
    "--web-search", "--image-detail=xhigh",
]  # fmt: skip
ENVIRONMENT = {
    "INGEST_MAX_TOKENS": "777", "INGEST_FREQUENCY_PENALTY": "0.5", "INGEST_PRESENCE_PENALTY": "-0.5",
    "INGEST_STOP": "END\ntwo words",
    "INGEST_WEB_SEARCH": "1", "INGEST_IMAGE_DETAIL": "xhigh",
}  # fmt: skip


def from_recipe(folder: Path) -> Config:
    """Settings as a recipe's folder gives them."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    lines = [f"{name} = {json.dumps(value)}" for name, value in GIVEN.items()]
    (folder / "recipe.toml").write_text('name = "r"\n[asking]\n' + "\n".join(lines))
    return ingest.configure(recipe=folder, api_key=fakes.KEY)


@pytest.mark.parametrize("way", ["python", "flag", "environment", "recipe"])
def test_every_parameter_reaches_the_request_by_every_way(way: str, tmp_path: Path) -> None:
    """One setting that is lost between a flag and the wire costs a night's run."""
    config = {
        "python": lambda: configured(**GIVEN),
        "flag": lambda: from_flags(*FLAGS),
        "environment": lambda: from_flags(env=ENVIRONMENT),
        "recipe": lambda: from_recipe(tmp_path),
    }[way]()
    assert isinstance(config, Config), config
    body = body_of(config)
    assert {name: body.get(name) for name in SENT} == SENT


def test_a_flag_is_over_the_recipe_and_no_flag_leaves_it(tmp_path: Path) -> None:
    """A list that was not given on the command line must not empty the recipe's."""
    from_recipe(tmp_path)
    flags = ("--recipe", str(tmp_path), "--max-tokens=5")
    config = from_flags(*flags)
    assert isinstance(config, Config), config
    assert (config.asking.max_tokens, config.asking.stop) == (5, ("END", "two words"))


def test_nothing_is_sent_that_was_not_set() -> None:
    """Neutral values spoil JSON or are refused by strict servers: the body holds what is needed and no more."""
    body = body_of(configured())
    unset = {*GIVEN, "temperature", "top_p", "video_fps"} - {"max_tokens", "enable_thinking", "image_detail"}
    assert not unset & body.keys()


@pytest.mark.parametrize(("name", "values"), RANGES)
def test_a_value_out_of_range_is_refused_before_anything_is_read(name: str, values: list[Any]) -> None:
    """The service would say so after the whole body was uploaded, or not at all."""
    for value in values:
        with pytest.raises(ConfigError, match=rf"asking\.{name}"):
            configured(**{name: value})


def test_a_profile_narrows_the_ranges() -> None:
    """Another model behind the same gateway has limits of its own, and they are data."""
    profile = fakes.make_profile(parameters={"max_tokens": {"max": 1_000}, "image_detail": {"choices": ["low"]}})
    config = configured()
    for asking in ({"max_tokens": 2_000}, {"image_detail": "high"}, {"stop": ["a"]}, {"enable_web_search": True}):
        with pytest.raises(ConfigError, match=rf"asking\.{next(iter(asking))}"):
            ingest.recipes.build_config(config.recipe, profile, config.endpoint, overrides={"asking": asking})


def test_caching_with_a_schema_is_refused_with_the_way_out() -> None:
    """The service refuses the combination, and nothing has been read yet when we say so."""
    with pytest.raises(ConfigError, match=r"enable_caching.*schema.*ladder"):
        configured(enable_caching=True)
    config = configured()
    profile = fakes.make_profile(ladder=["prompt"])
    overrides = {"asking": {"enable_caching": True}}
    allowed = ingest.recipes.build_config(config.recipe, profile, config.endpoint, overrides=overrides)
    assert allowed.asking.enable_caching


def test_thinking_and_effort_go_together_by_every_way(tmp_path: Path) -> None:
    """Thinking costs six times its input: on or off, it is said, and an effort without it is a 400."""
    python = configured(enable_thinking=True, reasoning_effort="high")
    flags = from_flags("--thinking", "--reasoning-effort=high")
    variables = from_flags(env={"INGEST_THINKING": "1", "INGEST_REASONING_EFFORT": "high"})
    for config in (python, flags, variables):
        assert isinstance(config, Config), config
        body = body_of(config)
        assert (body["enable_thinking"], body["reasoning_effort"]) == (True, "high")
    with pytest.raises(ConfigError, match="reasoning_effort needs thinking"):
        configured(reasoning_effort="low")
    with pytest.raises(ConfigError, match="stop"):
        configured(enable_thinking=True, stop=["END"])


def test_fixed_parameters_warn_once_and_are_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who sets a temperature should learn that it does nothing, not believe that it does."""
    caplog.set_level(logging.WARNING)
    body = body_of(configured(temperature=0.0, top_p=0.9))
    assert not {"temperature", "top_p"} & body.keys()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["temperature", "top_p"]


def test_stops_may_be_one_word() -> None:
    """A recipe with one stop need not write a list."""
    assert configured(stop="END").asking.stop == ("END",)


@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_settings_of_the_call_have_defaults_that_fit_together(protocol: str) -> None:
    """Silence must show before the call's own time is over."""
    asking = AskingSettings()
    assert asking.stall_timeout_s < asking.timeout_s <= 900  # the gateway hangs up after 15 minutes
    assert asking.stream


# --- the ladder ---


def test_a_refused_rung_is_left_and_the_next_one_kept() -> None:
    """One refusal is enough: the rest of the run asks on the rung below, and the ledger is told once it works."""
    kept: list[str] = []
    rungs = Rungs(("json_schema", "tool", "prompt"), None, kept.append)
    assert rungs.refused("json_schema")
    assert rungs.current == "tool"
    # Calls that were under way on the old rung say the same.
    assert rungs.refused("json_schema")
    assert rungs.current == "tool"
    rungs.answered("tool")
    rungs.answered("tool")
    assert kept == ["tool"]
    assert rungs.refused("tool")
    assert not rungs.refused("prompt")
    assert rungs.current == "prompt"


def test_a_remembered_rung_is_first_and_a_refusal_starts_over() -> None:
    """Gateways change: when what worked last week is refused, the better rungs are tried again too."""
    rungs = Rungs(("json_schema", "tool", "prompt"), "tool")
    assert rungs.current == "tool"
    assert rungs.refused("tool")
    assert rungs.current == "json_schema"
    assert Rungs(("tool", "prompt"), "json_schema").current == "tool"


def test_a_schema_that_is_taken_and_ignored_loses_its_rung() -> None:
    """Some models answer 200 with any text: repeated answers off the schema say so, a single one does not."""
    rungs = Rungs(("json_schema", "tool", "prompt"))
    for _ in range(2):
        rungs.answered("json_schema", is_fitting=False)
    assert rungs.current == "json_schema"
    rungs.answered("json_schema", is_fitting=False)
    assert rungs.current == "tool"
    for _ in range(8):
        rungs.answered("tool")
    assert not rungs.is_on_trial("tool")
    for _ in range(6):
        rungs.answered("tool", is_fitting=False)
    assert rungs.current == "tool"
    bottom = Rungs(("prompt",))
    for _ in range(9):
        bottom.answered("prompt", is_fitting=False)
    assert bottom.current == "prompt"


def test_a_better_rung_is_tried_again_after_many_answers() -> None:
    """A refusal of one day should not cost the strict schema for ever."""
    rungs = Rungs(("json_schema", "tool"))
    rungs.refused("json_schema")
    for _ in range(199):
        rungs.answered("tool")
    assert rungs.current == "tool"
    rungs.answered("tool")
    assert rungs.current == "json_schema"
    rungs.refused("json_schema")
    assert rungs.current == "tool"
