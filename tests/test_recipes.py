"""The recipes that come with the package."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

import ingest
import pipelines.recipes
from ingest.config import AskingSettings, PlanningSettings, ReadingSettings
from ingest.merging.arithmetic import read_checks
from pipelines.digest.settings import DigestRecipe

FOLDER = Path(pipelines.recipes.__file__).parent
NAMES = (
    "contracts",
    "generic",
    "incident",
    "invoices",
    "lecture",
    "meeting",
    "papers",
    "receipts",
    "screen-recording",
)
MERGE_RULES = {
    "object": set(),
    "array": {"concat", "union", "by-key", "first", "last", "longest"},
    "leaf": {"agree", "first", "last", "max", "min", "sum", "longest", "any", "all", "synthesize"},
}
TABLES: dict[str, type[BaseModel]] = {
    "reading": ReadingSettings,
    "asking": AskingSettings,
    "planning": PlanningSettings,
    "digest": DigestRecipe,
}


def load_schema(name: str) -> dict[str, Any]:
    """The document schema of a recipe."""
    schema: dict[str, Any] = json.loads((FOLDER / name / "schema.json").read_text(encoding="utf-8"))
    return schema


def walk(schema: dict[str, Any], path: str = "", depth: int = 1) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every subschema with its path and its level."""
    yield path or "/", schema, depth
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}/{name}", depth + 1)
    if "items" in schema:
        # An array and its items are one level of nesting, as a reader of the data sees it.
        yield from walk(schema["items"], f"{path}/*", depth)


def test_the_folder_holds_the_promised_recipes() -> None:
    """Users name recipes on the command line; one that went missing would be noticed there first."""
    found = sorted(path.parent.name for path in FOLDER.glob("*/recipe.toml"))
    assert found == list(NAMES)


def test_the_entry_point_leads_to_the_folder() -> None:
    """The command line finds recipes only through this entry point."""
    declared = tomllib.loads((FOLDER.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert declared["project"]["entry-points"]["ingest.recipes"] == {"builtin": "pipelines.recipes"}
    for point in entry_points(group="ingest.recipes", name="builtin"):
        assert point.load() is pipelines.recipes


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_known(name: str) -> None:
    """A misspelt key in recipe.toml would silently change nothing."""
    recipe = tomllib.loads((FOLDER / name / "recipe.toml").read_text(encoding="utf-8"))
    assert recipe["name"] == name
    assert recipe["description"].strip()
    assert set(recipe) <= {"name", "description", "merge", "check", *TABLES}
    for table, settings in TABLES.items():
        settings.model_validate(recipe.get(table, {}))


@pytest.mark.parametrize("name", NAMES)
def test_checks_can_be_read(name: str) -> None:
    """A check that names a field the schema does not have would end every run at its start."""
    recipe = ingest.load_recipe(name)
    assert len(read_checks(recipe.checks, recipe.document_schema)) == len(recipe.checks)


@pytest.mark.parametrize("name", NAMES)
def test_instructions_are_written_out(name: str) -> None:
    """Instructions are sent with every request: they must exist and stay short."""
    text = (FOLDER / name / "instructions.md").read_text(encoding="utf-8")
    assert 200 < len(text) < 2_500


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid_and_described(name: str) -> None:
    """Descriptions are what the model and the reviewer go by; a property without one is a guess."""
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    for path, part, _ in walk(schema):
        assert len(part.get("description", "")) > 3, f"{name}: {path} has no description"


@pytest.mark.parametrize("name", NAMES)
def test_schema_keeps_to_the_strict_form(name: str) -> None:
    """Endpoints with strict schemas refuse open objects, optional properties and deep nesting."""
    for path, part, depth in walk(load_schema(name)):
        assert depth <= 5, f"{name}: {path} is nested too deep"
        if part["type"] == "object":
            assert part["required"] == list(part["properties"]), path
            assert part["additionalProperties"] is False, path
        elif part["type"] != "array" and not path.endswith("/*"):
            assert "null" in part["type"], f"{name}: {path} cannot be null"


@pytest.mark.parametrize("name", NAMES)
def test_merge_rules_exist_for_their_type(name: str) -> None:
    """A rule that does not fit its type would fail only when a long document is merged."""
    for path, part, _ in walk(load_schema(name)):
        rule = part.get("x-merge")
        kind = part["type"] if part["type"] in ("object", "array") else "leaf"
        assert rule is None or rule in MERGE_RULES[kind], f"{name}: {path} has the rule {rule}"
        if rule == "by-key":
            keys = part["x-merge-key"]
            assert set([keys] if isinstance(keys, str) else keys) <= set(part["items"]["properties"]), path


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_document_can_be_recorded(name: str) -> None:
    """A document without any of the values must still give a valid record, all null."""

    def blank(schema: dict[str, Any]) -> Any:
        if schema["type"] == "object":
            return {key: blank(child) for key, child in schema["properties"].items()}
        return [] if schema["type"] == "array" else None

    schema = load_schema(name)
    Draft202012Validator(schema).validate(blank(schema))
