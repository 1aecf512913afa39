"""Recipes and schemas: from a name, a folder, a file or a class to a `Recipe`, and from a recipe to a `Config`.

A recipe is a folder with `recipe.toml` (name, description, and the optional tables `[reading] [asking] [planning]
[merge] [digest]` and `[[check]]`), `schema.json` and, if there is something to say, `instructions.md`. `[merge]` maps
the path of a field (`lines/*/amount`) to a merge rule, a `[[check]]` says what must hold (`net + tax = gross`),
`[digest]` is for the job that makes digests.
Packages offer folders of recipes through the entry point group `ingest.recipes`.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ingest.config import (
    AskingSettings,
    BudgetSettings,
    Config,
    Endpoint,
    ExecuteSettings,
    FindingSettings,
    KeepingSettings,
    PlanningSettings,
    ReadingSettings,
    Recipe,
    check_parameters,
    fit_to_files,
)
from ingest.errors import ConfigError
from ingest.profile import Profile
from ingest.types import Json, JsonObject

GROUP = "ingest.recipes"
"""Entry point group: each value is a package that holds one folder per recipe."""

_RECIPE_FILE, _SCHEMA_FILE, _INSTRUCTIONS_FILE = "recipe.toml", "schema.json", "instructions.md"
_CLASS_SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

_SECTIONS: dict[str, type[BaseModel]] = {
    "reading": ReadingSettings,
    "asking": AskingSettings,
    "planning": PlanningSettings,
    "budget": BudgetSettings,
}

_Model = TypeVar("_Model", bound=BaseModel)


class Offer(NamedTuple):
    """A recipe somebody offers: its name, its folder, and the package it comes from."""

    name: str
    folder: Traversable
    package: str


class _RecipeFile(BaseModel):
    """What `recipe.toml` may hold."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str = ""
    reading: dict[str, Any] = {}
    asking: dict[str, Any] = {}
    planning: dict[str, Any] = {}
    budget: dict[str, Any] = {}
    merge: dict[str, str | dict[str, Any]] = {}
    check: list[str | dict[str, Any]] = []
    digest: dict[str, Any] = {}


def offered_recipes() -> tuple[Offer, ...]:
    """All recipes that installed packages offer, sorted by name.

    Raises ConfigError when a package that offers recipes cannot be imported.
    """
    return tuple(sorted(_offers(), key=lambda offer: (offer.name, offer.package)))


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that installed packages offer, sorted."""
    return tuple(dict.fromkeys(offer.name for offer in offered_recipes()))


def read_offer(offer: Offer) -> Recipe:
    """The recipe somebody offers. Raises ConfigError when its files are missing or wrong."""
    return _read_recipe(offer.folder, offer.name)


def load_recipe(name_or_folder: str | Path) -> Recipe:
    """A recipe by its name, or from a folder. A name goes first; write `./NAME` for a folder of the same name.

    Raises ConfigError when there is none of that name, or when its files are missing or wrong.
    """
    spec = str(name_or_folder)
    offers = [offer for offer in offered_recipes() if offer.name == spec]
    if len(offers) > 1:
        packages = " and ".join(offer.package for offer in offers)
        raise ConfigError(f"recipe {spec!r} is offered by {packages}: give the folder of the one you mean")
    if offers:
        return read_offer(offers[0])
    folder = Path(spec)
    if folder.is_file() and folder.name == _RECIPE_FILE:
        folder = folder.parent
    if folder.is_dir():
        return _read_recipe(folder, folder.resolve().name)
    raise ConfigError(_unknown_recipe(spec))


def recipe_from_schema(schema: object, instructions: str = "") -> Recipe:
    """A recipe made of a schema alone.

    `schema` is a JSON Schema as a dict, the path of a `.json` or `.toml` file that holds one, `package.module:Class`
    (importable from the current directory too), or a class pydantic understands: a model, dataclass or typed dict.

    Raises ConfigError when it is none of these, or not a schema of an object.
    """
    if isinstance(schema, Mapping):
        return _schema_recipe("schema", dict(schema), instructions)
    if isinstance(schema, (str, Path)):
        spec = str(schema)
        path = Path(spec)
        if path.is_file():
            return _schema_recipe(path.stem, _read_schema(path, spec), instructions)
        if _CLASS_SPEC.fullmatch(spec):
            found = _import_object(spec)
            name = spec.partition(":")[2].rpartition(".")[2]
            value = dict(found) if isinstance(found, Mapping) else _schema_of_class(found, spec)
            return _schema_recipe(name, value, instructions)
        raise ConfigError(f"no schema {spec!r}: give the path of a JSON Schema file, or package.module:Class")
    return _schema_recipe(getattr(schema, "__name__", "schema"), _schema_of_class(schema, repr(schema)), instructions)


def schema_fields(schema: JsonObject) -> Iterator[tuple[str, str, str]]:
    """Path, type and description of every field of a schema, parents first; array items are marked `[]`."""
    yield from _fields(schema, schema, "", ())


def build_config(
    recipe: Recipe,
    profile: Profile,
    endpoint: Endpoint,
    *,
    output: Path | None = None,
    jobs: int | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """The settings of a run: `overrides` by section, over the recipe's, over the defaults.

    Raises ConfigError when a value is out of range or does not suit the profile.
    """
    over = overrides or {}
    below = {name: getattr(recipe, name) for name in _SECTIONS}
    settings: dict[str, object] = {
        name: _validated(model, {**below[name], **over.get(name, {})}, f"{name}.") for name, model in _SECTIONS.items()
    }
    settings["keeping"] = _validated(KeepingSettings, over.get("keeping", {}), "keeping.")
    settings["finding"] = _validated(FindingSettings, over.get("finding", {}), "finding.")
    settings["execute"] = _validated(ExecuteSettings, over.get("execute", {}), "execute.")
    if jobs is not None:
        settings["jobs"] = jobs
    top = {"recipe": recipe, "profile": profile, "endpoint": endpoint, "output": output, **settings}
    config = _validated(Config, top, "")
    _check_against_profile(config)
    return config.model_copy(update={"reading": fit_to_files(config.reading, profile, endpoint)})


def _check_against_profile(config: Config) -> None:
    profile, asking = config.profile, config.asking
    if config.endpoint.protocol not in profile.protocols:
        raise ConfigError(
            f"profile {profile.name} does not speak {config.endpoint.protocol!r}: use {' or '.join(profile.protocols)}"
        )
    if asking.max_tokens is not None and asking.max_tokens > profile.max_output_tokens:
        raise ConfigError(
            f"asking.max_tokens: {asking.max_tokens} is above the {profile.max_output_tokens} of profile {profile.name}"
        )
    if asking.reasoning_effort is not None and not asking.enable_thinking:
        raise ConfigError("asking.reasoning_effort needs thinking: turn thinking on or leave it out")
    if config.budget.is_limited and not profile.tiers:
        raise ConfigError(
            f"a limit on money needs prices, and profile {profile.name} has none: add tiers to a profile file of your"
            " own, or leave the limit out"
        )
    if asking.image_detail is not None and asking.image_detail not in profile.images:
        known = ", ".join(profile.images)
        raise ConfigError(f"asking.image_detail: profile {profile.name} has no {asking.image_detail!r}, only {known}")
    check_parameters(asking, profile)


def _offers() -> Iterator[Offer]:
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            folder = resources.files(point.value)
        except (ImportError, TypeError) as error:
            raise ConfigError(f"the recipes of {point.value} cannot be loaded: {error}; reinstall it") from error
        for entry in folder.iterdir():
            if entry.is_dir() and (entry / _RECIPE_FILE).is_file():
                yield Offer(entry.name, entry, point.value)


def _unknown_recipe(spec: str) -> str:
    names = recipe_names()
    if not names:
        return f"no recipe or folder {spec!r}, and no recipes are installed: reinstall the package"
    close = difflib.get_close_matches(spec, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"no recipe or folder {spec!r}{hint} Recipes: {', '.join(names)}"


def _read_recipe(folder: Traversable, default_name: str) -> Recipe:
    where = str(folder)
    try:
        table = tomllib.loads(_read_text(folder / _RECIPE_FILE, f"recipe {default_name}"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}/{_RECIPE_FILE} is not valid TOML: {error}") from error
    head = _validated(_RecipeFile, table, f"{where}/{_RECIPE_FILE}: ")
    for name, model in _SECTIONS.items():
        _validated(model, getattr(head, name), f"{where}/{_RECIPE_FILE}: {name}.")
    schema = _checked_schema(_read_schema(folder / _SCHEMA_FILE, f"{where}/{_SCHEMA_FILE}"), f"{where}/{_SCHEMA_FILE}")
    instructions = folder / _INSTRUCTIONS_FILE
    return Recipe(
        name=head.name or default_name,
        description=head.description,
        document_schema=schema,
        instructions=_read_text(instructions, where).strip() if instructions.is_file() else "",
        reading=head.reading,
        asking=head.asking,
        planning=head.planning,
        budget=head.budget,
        merge=head.merge,
        checks=tuple(head.check),
        digest=head.digest,
    )


def _schema_recipe(name: str, schema: JsonObject, instructions: str) -> Recipe:
    return Recipe(name=name, document_schema=_checked_schema(schema, f"schema {name}"), instructions=instructions)


def _read_text(path: Traversable, owner: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{owner} has no {path.name}: expected at {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _read_schema(path: Traversable, where: str) -> JsonObject:
    text = _read_text(path, where)
    try:
        value: Json = tomllib.loads(text) if path.name.endswith(".toml") else json.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "TOML" if path.name.endswith(".toml") else "JSON"
        raise ConfigError(f"schema {where} is not valid {kind}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"schema {where} holds a {type(value).__name__}; a JSON Schema is an object")
    return value


def _checked_schema(schema: JsonObject, where: str) -> JsonObject:
    """The schema itself once it is known to be JSON Schema 2020-12 of an object with at least one property."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(step) for step in error.absolute_path) or "its top"
        raise ConfigError(f"{where} is not a JSON Schema: at {place}: {error.message}") from error
    top = _resolved(schema, schema)
    if top.get("type", "object") != "object":
        raise ConfigError(
            f"{where} describes {top['type']!r}, but a record's data is an object: "
            'wrap it, e.g. {"type": "object", "properties": {"items": …}}'
        )
    if not next(_properties(schema, schema), None):
        raise ConfigError(f"{where} names no properties, so there is nothing to extract: add `properties`")
    return schema


def _import_object(spec: str) -> object:
    module_name, _, attribute = spec.partition(":")
    # Only while importing, so that a file here cannot stand in for a module that is loaded later.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        found: object = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's own code: whatever it raises is theirs to fix
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module_name, module_name.partition(".")[0])
        named = f"; write {module_name.removesuffix('.py')}:{attribute}" if module_name.endswith(".py") else ""
        told = (
            f"no module {module_name}, looked in {here} too{named}" if missing else f"{type(error).__name__}: {error}"
        )
        raise ConfigError(f"schema {spec!r} cannot be imported: {told}") from error
    finally:
        sys.path.remove(here)
    for step in attribute.split("."):
        if not hasattr(found, step):
            close = difflib.get_close_matches(step, [name for name in dir(found) if not name.startswith("_")], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"schema {spec!r}: {module_name} has no {step!r}{hint}")
        found = getattr(found, step)
    return found


def _schema_of_class(found: object, spec: str) -> JsonObject:
    if not isinstance(found, type):
        raise ConfigError(f"schema {spec!r} is not a class: give a pydantic model, a dataclass or a typed dict")
    try:
        return TypeAdapter(found).json_schema()
    except PydanticUserError as error:
        raise ConfigError(f"schema {spec!r} cannot become a JSON Schema: {str(error).splitlines()[0]}") from error


def _fields(node: JsonObject, root: JsonObject, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, str, str]]:
    for name, sub in _properties(node, root):
        below = _resolved(sub, root)
        kinds = _kinds(sub, root)
        here = f"{path}.{name}" if path else name
        here += "[]" if "array" in kinds else ""
        yield here, " | ".join(kinds) or "any", str(sub.get("description", below.get("description", "")))
        # A schema that holds itself is followed once: its properties are the same objects again.
        if id(sub) not in above:
            yield from _fields(sub, root, here, (*above, id(sub)))


def _kinds(node: JsonObject, root: JsonObject) -> list[str]:
    """Type names of a schema without null, `array` first."""
    node = _resolved(node, root)
    stated = node.get("type", [])
    kinds = [stated] if isinstance(stated, str) else list(stated)
    if not kinds and ("enum" in node or "const" in node):
        kinds = ["enum"]
    for key in ("anyOf", "oneOf", "allOf"):
        kinds += [kind for sub in node.get(key, []) if isinstance(sub, dict) for kind in _kinds(sub, root)]
    return sorted(set(kinds) - {"null"})


def _properties(node: JsonObject, root: JsonObject, depth: int = 0) -> Iterator[tuple[str, JsonObject]]:
    """Properties of an object schema, seen through `$ref`, unions and array items."""
    if depth > 16:  # a `$ref` that leads to itself
        return
    node = _resolved(node, root)
    for name, sub in node.get("properties", {}).items():
        yield name, sub if isinstance(sub, dict) else {}
    inner = [*(sub for key in ("anyOf", "oneOf", "allOf") for sub in node.get(key, [])), node.get("items")]
    for sub in inner:
        if isinstance(sub, dict):
            yield from _properties(sub, root, depth + 1)


def _resolved(node: JsonObject, root: JsonObject) -> JsonObject:
    """The node a local `$ref` points to; the node itself when it points nowhere we can follow."""
    for _ in range(16):
        target = node.get("$ref")
        if not isinstance(target, str) or not target.startswith("#/"):
            break
        found: Json = root
        for step in target[2:].split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            break
        node = found
    return node


def _validated(model: type[_Model], value: Mapping[str, Any], where: str) -> _Model:
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        # Only place and message: the value may be a secret.
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}{place}: {message}{_known_fields(model, first)}") from None


def _known_fields(model: type[BaseModel], error: Any) -> str:
    if error["type"] != "extra_forbidden" or len(error["loc"]) != 1:
        return ""
    close = difflib.get_close_matches(str(error["loc"][0]), list(model.model_fields), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(model.model_fields)}"
