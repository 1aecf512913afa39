"""Recipes and schemas become settings, or an error that says what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from ingest.config import Endpoint
from ingest.errors import ConfigError
from ingest.profile import load_profile
from ingest.recipes import build_config, load_recipe, recipe_from_schema, recipe_names, schema_fields
from tests.declared import declare_entry_points

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
ENDPOINT = Endpoint(base_url="http://local.invalid/v1", local=True)


class Line(BaseModel):
    """An item."""

    amount: float


class Bill(BaseModel):
    """A class as users write them."""

    total: float
    lines: list[Line] = []


@dataclass
class Plain:
    """Not a pydantic model, and fine."""

    total: float


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes are found as in an installation."""
    declare_entry_points(monkeypatch)


def write_recipe(folder: Path, toml: str = "", schema: object = SCHEMA, instructions: str | None = None) -> Path:
    """A recipe folder."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(toml, encoding="utf-8")
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    if instructions is not None:
        (folder / "instructions.md").write_text(instructions, encoding="utf-8")
    return folder


def failure(call: object, *args: object) -> str:
    """The message of the ConfigError that a call raises."""
    with pytest.raises(ConfigError) as caught:
        call(*args)  # type: ignore[operator]  # any callable
    return caught.value.message


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_loads_and_makes_a_config(name: str) -> None:
    """A broken recipe in the package would be found by the first user only."""
    assert name in recipe_names()
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.instructions
    assert recipe.description
    build_config(recipe, load_profile("local"), ENDPOINT)


def test_unknown_recipe_names_the_near_one_and_all() -> None:
    """A typing slip should cost one look."""
    message = failure(load_recipe, "invoice")
    assert "did you mean invoices?" in message
    assert "receipts" in message


def test_folder_is_a_recipe_with_settings_and_merge_rules(tmp_path: Path) -> None:
    """A user's own recipe needs no package."""
    toml = """
        description = "mine"
        [reading]
        pages = "image"
        [merge]
        "lines/*/amount" = "first"
        lines = {x-merge = "by-key", x-merge-key = "amount"}
    """
    folder = write_recipe(tmp_path / "mine", toml, Bill.model_json_schema(), "Read well.\n")
    recipe = load_recipe(folder)
    assert (recipe.name, recipe.instructions) == ("mine", "Read well.")
    assert recipe.merge == {"lines/*/amount": "first", "lines": {"x-merge": "by-key", "x-merge-key": "amount"}}
    assert build_config(recipe, load_profile("local"), ENDPOINT).reading.pages == "image"


def test_a_known_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of inputs called `receipts` must not change what `--recipe receipts` means."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path / "receipts", 'description = "mine"')
    assert load_recipe("receipts").description != "mine"
    assert load_recipe("./receipts").description == "mine"


def test_a_name_offered_twice_is_not_chosen_by_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which of two packages answers must not depend on the order of installation."""
    package = tmp_path / "other_recipes"
    write_recipe(package / "receipts")
    (package / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    declare_entry_points(monkeypatch, recipes={"other": "other_recipes"})
    assert "other_recipes and pipelines.recipes" in failure(load_recipe, "receipts")


@pytest.mark.parametrize(
    ("toml", "schema", "told"),
    [
        ("name = ", SCHEMA, "not valid TOML"),
        ("descripton = 'x'", SCHEMA, "did you mean description?"),
        ("[reading]\npages = 'colour'", SCHEMA, "reading.pages"),
        ("[asking]\nmax_token = 5", SCHEMA, "did you mean max_tokens?"),
        ("", [], "a JSON Schema is an object"),
        ("", {"type": "array", "items": {}}, "wrap it"),
        ("", {"type": "object"}, "names no properties"),
        ("", {"type": "object", "properties": {"a": {"type": "money"}}}, "not a JSON Schema: at properties/a/type"),
    ],
)
def test_a_wrong_recipe_says_what_and_where(tmp_path: Path, toml: str, schema: object, told: str) -> None:
    """The message is all a recipe's author has."""
    message = failure(load_recipe, write_recipe(tmp_path / "r", toml, schema))
    assert told in message
    assert str(tmp_path) in message


def test_a_recipe_without_schema_says_which_file_is_missing(tmp_path: Path) -> None:
    """The layout of a recipe folder must be learnable from the error."""
    folder = write_recipe(tmp_path / "r")
    (folder / "schema.json").unlink()
    assert "schema.json" in failure(load_recipe, folder)


def test_schema_from_file_class_and_dict_agree(tmp_path: Path) -> None:
    """All ways to hand over a schema must ask the same."""
    path = tmp_path / "bill.json"
    path.write_text(json.dumps(Bill.model_json_schema()), encoding="utf-8")
    from_file = recipe_from_schema(path, "Look twice.")
    assert (from_file.name, from_file.instructions) == ("bill", "Look twice.")
    assert recipe_from_schema(Bill).schema_sha256 == from_file.schema_sha256
    assert recipe_from_schema(Bill.model_json_schema()).schema_sha256 == from_file.schema_sha256
    assert recipe_from_schema(Plain).document_schema["properties"]["total"]["type"] == "number"


def test_class_is_imported_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's own class works as it does for uvicorn, and the directory does not stay importable."""
    import sys

    code = "from pydantic import BaseModel\nclass Memo(BaseModel):\n    subject: str\n"
    (tmp_path / "my_schemas_here.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        recipe = recipe_from_schema("my_schemas_here:Memo")
    finally:
        sys.modules.pop("my_schemas_here", None)
    assert recipe.name == "Memo"
    assert list(recipe.document_schema["properties"]) == ["subject"]
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("missing.json", "give the path of a JSON Schema file, or package.module:Class"),
        ("no_such_module_here:Bill", "no module no_such_module_here"),
        ("tests.test_recipes_loading:Bil", "did you mean Bill?"),
        ("no_such_file.py:Bill", "write no_such_file:Bill"),
        ("json:dumps", "is not a class"),
        ("builtins:int", "a record's data is an object"),
    ],
)
def test_a_wrong_schema_says_what_to_do(spec: str, told: str) -> None:
    """Nobody should have to read our source to name a schema."""
    assert told in failure(recipe_from_schema, spec)


def test_an_error_inside_the_users_module_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bug must not look like ours, nor come as a traceback."""
    (tmp_path / "broken_schemas_here.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "ZeroDivisionError: division by zero" in failure(recipe_from_schema, "broken_schemas_here:Bill")


def test_fields_of_a_recursive_schema_end() -> None:
    """A tree of nodes is a usual schema, and showing it must not hang."""
    node = {"type": "object", "properties": {"name": {"type": "string"}, "below": {"items": {"$ref": "#/$defs/n"}}}}
    schema = {"$defs": {"n": node}, "$ref": "#/$defs/n"}
    paths = [path for path, _, _ in schema_fields(recipe_from_schema(schema).document_schema)]
    assert paths[:2] == ["name", "below"]
    assert len(paths) < 10


def test_overrides_win_over_the_recipe_which_wins_over_defaults(tmp_path: Path) -> None:
    """The order of precedence is a promise of the command line and of programs alike."""
    recipe = load_recipe(write_recipe(tmp_path / "r", "[asking]\nmax_tokens = 500\ntimeout_s = 5"))
    config = build_config(recipe, load_profile("local"), ENDPOINT, overrides={"asking": {"max_tokens": 700}})
    assert (config.asking.max_tokens, config.asking.timeout_s, config.asking.max_attempts) == (700, 5, 6)


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("asking", {"max_tokens": 10**9}, "asking.max_tokens"),
        ("asking", {"reasoning_effort": "high"}, "needs thinking"),
        ("reading", {"jpeg_quality": 7}, "reading.jpeg_quality"),
        ("reading", {"pagse": "image"}, "did you mean pages?"),
    ],
)
def test_a_setting_out_of_range_is_named(tmp_path: Path, section: str, values: dict[str, object], told: str) -> None:
    """A bad value must stop the run before anything is sent."""
    recipe = recipe_from_schema(SCHEMA)
    with pytest.raises(ConfigError, match=told):
        build_config(recipe, load_profile("local"), ENDPOINT, overrides={section: values})


def test_a_protocol_the_profile_does_not_speak_is_refused() -> None:
    """The local engine speaks chat only; asking it otherwise would fail once per chunk."""
    with pytest.raises(ConfigError, match="does not speak 'messages'"):
        build_config(
            recipe_from_schema(SCHEMA), load_profile("local"), ENDPOINT.model_copy(update={"protocol": "messages"})
        )


def test_secrets_do_not_show_in_errors_or_settings() -> None:
    """A password in an error message ends up in a log."""
    recipe = recipe_from_schema(SCHEMA)
    overrides = {"reading": {"passwords": ("hunter2-secret",), "jpeg_quality": "hunter2-secret"}}
    with pytest.raises(ConfigError) as caught:
        build_config(recipe, load_profile("local"), ENDPOINT, overrides=overrides)
    assert "hunter2" not in caught.value.message
    assert caught.value.__cause__ is None
