"""Whether a document schema is one: valid JSON Schema 2020-12, complete in itself, and usable by the validator."""

from __future__ import annotations

import re

from ingest.asking.schema.pointers import MANY, NAMED, children, join, look_up, reference_of
from ingest.errors import ConfigError
from ingest.types import Json

# Beyond it Python's own stack is in danger while validating; no form that people fill is near.
_MAX_DEPTH = 64

# Keywords whose schemas apply to the value itself, not to something inside it.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})

_PLAIN_WORDS = {
    "type": "must be one of string, number, integer, boolean, object, array, null, or a list of them",
    "required": "must be a list of property names, each named once",
    "properties": "must be an object of schemas, one per property",
    "enum": "must be a list of the allowed values",
    "items": "must be one schema; a list of schemas by position belongs under prefixItems",
    "additionalProperties": "must be true, false or a schema",
    "$id": "must not have a fragment",
    "exclusiveMinimum": "must be a number: the bound itself",
    "exclusiveMaximum": "must be a number: the bound itself",
    "anyOf": "must be a list of at least one schema",
    "oneOf": "must be a list of at least one schema",
    "allOf": "must be a list of at least one schema",
    "$defs": "must be an object of schemas by name",
    "pattern": "must be a regular expression in text",
    "format": "must be the name of a format in text",
    "description": "must be text",
    "title": "must be text",
    "$ref": "must be text such as #/$defs/name",
}


def check_document_schema(schema: Json) -> None:
    """Accept a document schema that is valid JSON Schema 2020-12 and refers only to itself.

    No URL is ever fetched. Raises ConfigError with the JSON Pointer of the first thing that is wrong.
    """
    if not isinstance(schema, dict):
        raise ConfigError('the document schema must be a JSON object such as {"type": "object", "properties": …}')
    _check_depth(schema)
    _check_against_metaschema(schema)
    pending: list[tuple[str, Json]] = [("", schema)]
    while pending:
        pointer, node = pending.pop()
        if isinstance(node, dict):
            _check_names(pointer, node)
            _check_reference(pointer, node, schema)
            pending += [(join(pointer, *steps), child) for steps, child in reversed(children(node))]
    _check_ends(schema)


def _fail(pointer: str, words: str) -> ConfigError:
    return ConfigError(f"document schema, at {pointer or 'its root'}: {words}")


def _check_depth(schema: Json) -> None:
    pending: list[tuple[Json, int]] = [(schema, 0)]
    while pending:
        node, depth = pending.pop()
        # Each level of a schema is up to three levels of JSON.
        if depth > 3 * _MAX_DEPTH:
            raise ConfigError(f"the document schema is nested deeper than {_MAX_DEPTH} levels")
        below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        pending += [(child, depth + 1) for child in below]


def _check_against_metaschema(schema: Json) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if error is None:
        return
    path = list(error.absolute_path)
    keyword = _keyword(path)
    if keyword in _PLAIN_WORDS:
        raise _fail(join("", *path), f"{keyword} {_PLAIN_WORDS[keyword]}, not {repr(error.instance)[:80]}")
    raise _fail(join("", *path), error.message[:200])


def _keyword(path: list[str | int]) -> str:
    """The keyword whose value is wrong; "" when the path ends at a sub-schema, such as that of a property."""
    if path and isinstance(path[-1], int):
        path = path[:-1]
    is_name = len(path) > 1 and path[-2] in NAMED
    return "" if not path or is_name or path[-1] in MANY else str(path[-1])


def _check_names(pointer: str, node: dict[str, Json]) -> None:
    if pointer and "$id" in node:
        raise _fail(pointer, "$id is only supported at the root, since it moves what references point to; remove it")
    patterns = [(join(pointer, "pattern"), node["pattern"])] if "pattern" in node else []
    patterns += [(join(pointer, "patternProperties", name), name) for name in node.get("patternProperties", {})]
    for place, pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise _fail(place, f"{pattern!r} is not a regular expression that can be checked here: {error}") from error


def _check_reference(pointer: str, node: dict[str, Json], root: dict[str, Json]) -> None:
    reference = reference_of(node)
    if reference is not None:
        try:
            look_up(root, reference)
        except ConfigError as error:
            raise _fail(pointer, error.message) from error


def _check_ends(root: dict[str, Json]) -> None:
    """Raises ConfigError where a schema applies itself to the very same value: checking it would never end."""
    done: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        _check_ends_at(node, root, [], done)
        pending += [child for _, child in children(node) if isinstance(child, dict)]


def _check_ends_at(node: Json, root: dict[str, Json], path: list[int], done: set[int]) -> None:
    if not isinstance(node, dict) or id(node) in done:
        return
    reference = reference_of(node)
    if id(node) in path:
        about = f"$ref {reference!r}" if reference else f"the schema {_first_words(node)}"
        raise ConfigError(f"document schema: {about} leads only back to itself")
    if len(path) > _MAX_DEPTH:
        raise ConfigError(f"document schema: more than {_MAX_DEPTH} schemas in a row apply to one value")
    path.append(id(node))
    in_place = [child for steps, child in children(node) if steps[0] in _IN_PLACE]
    for child in in_place if reference is None else [look_up(root, reference), *in_place]:
        _check_ends_at(child, root, path, done)
    path.pop()
    done.add(id(node))


def _first_words(node: dict[str, Json]) -> str:
    return f"with {', '.join(list(node)[:3])}"
