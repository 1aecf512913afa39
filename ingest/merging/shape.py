"""What a document schema says about a place in the data: its types, its merge rule, what belongs below it.

`$ref`, `allOf`, `anyOf` and `oneOf` are resolved here, lazily, so that a schema may refer to itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ingest.errors import ConfigError
from ingest.types import Json, JsonObject

Rules = Mapping[str, str | JsonObject]
"""Merge rules by path, such as `{"/totals/gross": "last"}`; `*` stands for every item of an array. A value is the
name of a strategy, or an object with the schema's own keywords: `{"x-merge": "by-key", "x-merge-key": "id"}`."""

# Of every hundred letters of two keys about eight may differ: one misread letter in a name of a dozen.
SIMILARITY: Final = 92.0

_KEYWORDS: Final = (
    "x-merge",
    "x-merge-key",
    "x-merge-similarity",
    "x-merge-adjacent",
    "x-merge-span",
    "x-merge-prefer",
)

_RULE: Final = "\0rule"
_JOINED: Final = "\0joined"
# A node of these alone only points to another one.
_SIGNPOSTS: Final = {"$ref", "title", "description"}
_ALL: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A strategy's name and its settings, each a keyword of its own beside `x-merge`.

    `keys` (`x-merge-key`): the properties that identify an item. `similarity` (`x-merge-similarity`, 0 to 100): how
    alike two keys must be to be one; 100 joins equal keys alone. `is_adjacent` (`x-merge-adjacent`): join only items
    that meet at the border of two chunks. `span` (`x-merge-span`): the two properties that hold an item's start and
    end. `prefer` (`x-merge-prefer`): words; values whose quote has one of them go before all others.
    """

    name: str
    keys: tuple[str, ...] = ()
    similarity: float = SIMILARITY
    is_adjacent: bool = False
    span: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()


class Shape:
    """One place in the data, seen through the schema. `rule` is the merge rule declared for it, or None.

    A place may be described by several schema nodes (the branches of `anyOf`, the parts of `allOf`); children
    are looked up in all of them.
    """

    __slots__ = (
        "_children",
        "_items",
        "_node",
        "_nodes",
        "_required",
        "_root",
        "_rules",
        "enum",
        "is_unique",
        "order",
        "rule",
        "types",
    )

    def __init__(self, root: JsonObject, node: Json, rules: JsonObject | None = None) -> None:
        self._root = root
        self._node = node
        self._rules = rules or {}
        self._required: tuple[str, ...] | None = None
        self._nodes = tuple(_flatten(root, node, set()))
        self._children: dict[str, Shape] = {}
        self._items: Shape | None = None
        self.types = frozenset(_types(root, node, frozenset()))
        self.order = tuple(dict.fromkeys(key for each in self._nodes for key in _object(each.get("properties"))))
        self.is_unique = any(each.get("uniqueItems") is True for each in self._nodes)
        self.enum = any("enum" in each or "const" in each for each in self._nodes)
        self.rule = self._declared_rule()

    @property
    def node(self) -> JsonObject:
        """The schema of this place; its references lead on from the root of the document schema."""
        found = self._node if isinstance(self._node, dict) else {}
        return {key: value for key, value in found.items() if key != _JOINED}

    @property
    def description(self) -> str:
        """What the schema says about the place, "" when nothing."""
        words = (node.get("description") for node in self._nodes)
        return next((each for each in words if isinstance(each, str)), "")

    @property
    def allows_null(self) -> bool:
        """Whether null fits here."""
        return "null" in self.types

    def has_format(self, name: str) -> bool:
        """Whether text here is to be of this `format`, whichever branch of a union it takes."""
        return any(node.get("format") == name for node in self._nodes)

    @property
    def required(self) -> tuple[str, ...]:
        """Properties an object must have here, whichever branch of an `anyOf` it takes."""
        if self._required is None:
            self._required = tuple(_required(self._root, self._node, frozenset()))
        return self._required

    def child(self, key: str) -> Shape:
        """The place of property `key`."""
        if key not in self._children:
            found = [node["properties"][key] for node in self._nodes if key in _object(node.get("properties"))]
            if not found:
                found = [n["additionalProperties"] for n in self._nodes if _object(n.get("additionalProperties"))]
            self._children[key] = Shape(self._root, _together(found), self._rules.get(key))
        return self._children[key]

    @property
    def items(self) -> Shape:
        """The place of an item of this array."""
        if self._items is None:
            found = [node["items"] for node in self._nodes if _object(node.get("items"))]
            found += [item for node in self._nodes for item in node.get("prefixItems", ()) if _object(item)]
            self._items = Shape(self._root, _together(found, "anyOf"), self._rules.get("*"))
            for name, rule in zip(self.rule.span if self.rule else (), ("min", "max"), strict=False):
                self._items.child(name).rule = self._items.child(name).rule or Rule(rule)
        return self._items

    @property
    def has_items(self) -> bool:
        """Whether the schema describes items here."""
        return any(_object(node.get("items")) or node.get("prefixItems") for node in self._nodes)

    @property
    def identity(self) -> tuple[int, ...]:
        """The same for places described by the same schema nodes, as where a schema refers to itself."""
        return tuple(id(node) for node in self._nodes if not node.keys() <= _SIGNPOSTS and _JOINED not in node)

    def has_child(self, key: str) -> bool:
        """Whether the schema names property `key` here."""
        return any(key in _object(node.get("properties")) for node in self._nodes)

    def _declared_rule(self) -> Rule | None:
        if _RULE in self._rules:
            return _rule(self._rules[_RULE])
        return next((_rule(node) for node in self._nodes if "x-merge" in node), None)


def root_shape(schema: JsonObject, rules: Rules | None = None) -> Shape:
    """The place of the whole data under `schema`, with `rules` overriding those of the schema."""
    tree: JsonObject = {}
    for path, rule in (rules or {}).items():
        branch = tree
        for token in split_pointer(path):
            branch = branch.setdefault(token, {})
        branch[_RULE] = {"x-merge": rule} if isinstance(rule, str) else rule
    return Shape(schema, schema, tree)


def split_pointer(pointer: str) -> list[str]:
    """The steps of a JSON Pointer; the leading slash may be missing."""
    if pointer in ("", "/"):
        return []
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.removeprefix("/").split("/")]


def escape(step: str) -> str:
    """A property name as a step of a JSON Pointer."""
    return step.replace("~", "~0").replace("/", "~1")


def _rule(declared: JsonObject) -> Rule:
    name = declared.get("x-merge")
    if not isinstance(name, str):
        raise ConfigError(f"x-merge must be the name of a merge strategy, not {name!r}")
    unknown = sorted(key for key in declared if key.startswith("x-merge") and key not in _KEYWORDS)
    if unknown:
        raise ConfigError(f"unknown merge keyword {unknown[0]!r}; known are {', '.join(_KEYWORDS)}")
    similarity, is_adjacent = declared.get("x-merge-similarity", SIMILARITY), declared.get("x-merge-adjacent", False)
    if isinstance(similarity, bool) or not isinstance(similarity, int | float) or not 0 <= similarity <= 100:
        raise ConfigError(f"x-merge-similarity must be a number from 0 to 100, not {similarity!r}")
    if not isinstance(is_adjacent, bool):
        raise ConfigError(f"x-merge-adjacent must be true or false, not {is_adjacent!r}")
    span = _names(declared, "x-merge-span")
    if len(span) not in (0, 2):
        raise ConfigError(f"x-merge-span must name two properties, start and end, not {declared['x-merge-span']!r}")
    prefer = _names(declared, "x-merge-prefer")
    return Rule(name, _names(declared, "x-merge-key"), float(similarity), is_adjacent, span, prefer)


def _names(declared: JsonObject, keyword: str) -> tuple[str, ...]:
    """A text or a list of texts."""
    value = declared.get(keyword, ())
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) and each for each in listed):
        raise ConfigError(f"{keyword} must be a text or a list of texts, not {value!r}")
    return tuple(listed)


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _together(nodes: list[Json], keyword: str = "allOf") -> Json:
    if not nodes:
        return {}
    return nodes[0] if len(nodes) == 1 else {keyword: nodes, _JOINED: True}


def _flatten(root: JsonObject, node: Json, seen: set[int]) -> Iterator[JsonObject]:
    """The node and all nodes it stands for. One that refers to itself is visited once."""
    if not isinstance(node, dict) or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if "$ref" in node:
        yield from _flatten(root, resolve_ref(root, node["$ref"]), seen)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for branch in node.get(keyword, ()):
            yield from _flatten(root, branch, seen)


def resolve_ref(root: JsonObject, ref: Json) -> Json:
    """The schema a local reference names; {} (anything goes) for one that leads outside or nowhere.

    Whether all references lead somewhere is checked where the schema is read; here a bad one must not stop a merge.
    """
    if not isinstance(ref, str) or not ref.startswith("#"):
        return {}
    node: Json = root
    for step in split_pointer(ref[1:]):
        if isinstance(node, dict):
            node = node.get(step, {})
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return {}
    return node


def _required(root: JsonObject, node: Json, seen: frozenset[int]) -> dict[str, None]:
    """Names of required properties, in order. Of branches only what all that allow an object have in common."""
    if not isinstance(node, dict) or id(node) in seen:
        return {}
    seen = seen | {id(node)}
    own = node.get("required")
    names = dict.fromkeys(own if isinstance(own, list) else ())
    always = [resolve_ref(root, node["$ref"])] if "$ref" in node else []
    for branch in (*always, *node.get("allOf", ())):
        names |= _required(root, branch, seen)
    for keyword in ("anyOf", "oneOf"):
        branches = [b for b in node.get(keyword, ()) if "object" in _types(root, b, frozenset())]
        found = [_required(root, branch, seen) for branch in branches]
        if found:
            names |= dict.fromkeys(key for key in found[0] if all(key in other for other in found[1:]))
    return names


def _types(root: JsonObject, node: Json, seen: frozenset[int]) -> frozenset[str]:
    """The JSON types that may stand at `node`. A number includes integers."""
    if node is False:
        return frozenset()
    if not isinstance(node, dict) or id(node) in seen:
        return _ALL
    seen = seen | {id(node)}
    types = _own_types(node)
    if "$ref" in node:
        types &= _types(root, resolve_ref(root, node["$ref"]), seen)
    for branch in node.get("allOf", ()):
        types &= _types(root, branch, seen)
    for keyword in ("anyOf", "oneOf"):
        if keyword in node:
            types &= frozenset().union(*(_types(root, branch, seen) for branch in node[keyword]))
    return types


def _own_types(node: JsonObject) -> frozenset[str]:
    types = _ALL
    declared = node.get("type")
    if isinstance(declared, str):
        types = frozenset({declared})
    elif isinstance(declared, list):
        types = frozenset(each for each in declared if isinstance(each, str))
    if "number" in types:
        types |= {"integer"}
    if "enum" in node:
        types &= frozenset().union(*(types_of(value) for value in node["enum"]))
    if "const" in node:
        types &= types_of(node["const"])
    return types


def types_of(value: Json) -> frozenset[str]:
    """The JSON types a value has: a whole number is an integer and a number."""
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int | float):
        return frozenset({"number", "integer"}) if float(value).is_integer() else frozenset({"number"})
    if isinstance(value, str):
        return frozenset({"string"})
    return frozenset({"array"}) if isinstance(value, list) else frozenset({"object"})
