"""Arrays of objects that running text answers: parties, duties, signatures, authors, sections, references, facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingest.local.filler import prose
from ingest.local.filler.citations import read_references
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.grids import Grid
from ingest.local.filler.headings import ABSTRACT, Section, first_sentences
from ingest.local.filler.papers import REFERENCES
from ingest.local.filler.prose_facts import topics, topics_of
from ingest.local.filler.schema import EVIDENCE_KEYS, Node
from ingest.local.filler.text import squash

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

Records = list[dict[str, Found]]

_SUMMARY_CHARS = 260
_TEXT_CHARS = 3000
_MAX_SECTIONS = 80


def find(path: Sequence[str], node: Node, fields: Mapping[str, Field], facts: Facts) -> Records | None:
    """The entries of an array the rules here know; None leaves it to the tables."""
    found = topics_of(path[-1], str(node.get("title") or "")) if path else {}
    for group in ("agreements", "papers", "documents"):
        topic = found.get(group, "")
        finder = _FINDERS.get(topic)
        if finder is None or (group == "agreements" and facts.prose.kind != "agreement"):
            continue
        names = _detail_names(topic, fields)
        if names:
            return _named(finder(facts, node, names), names)
    return None


def _detail_names(topic: str, fields: Mapping[str, Field]) -> dict[str, str]:
    """Property name -> detail of the topic's records it asks for."""
    known = topics().details.get(topic, {})
    names = {name: known[squash(name)] for name in fields if squash(name) in known}
    for name, field in fields.items():
        if name not in names and field.own_labels:
            detail = next((known[label] for label in field.own_labels if label in known), None)
            if detail and detail not in names.values():
                names[name] = detail
    return names


def _named(records: Iterable[Mapping[str, Found]], names: Mapping[str, str]) -> Records:
    """The records under the property names the schema uses; those without any of them left out."""
    result = [{name: record[detail] for name, detail in names.items() if detail in record} for record in records]
    return [record for record in result if record]


def _parties(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    records: Records = []
    for party in facts.prose.parties:
        record = {"name": Found(party.name, party.row, None, 0.8)}
        for detail, value in (("role", party.role), ("address", party.address), ("registration", party.registration)):
            if value:
                record[detail] = Found(value, party.row, None, 0.7)
        records.append(record)
    return records


def _sections(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    described = str(node.get("description") or "")
    deepest = (
        1 if re.search(r"\bfirst[- ]level|\btop[- ]level|level 1\b", described) and "second" not in described else 2
    )
    has_number = "number" in names.values()
    records: Records = []
    for section in facts.prose.headings.sections:
        is_front = ABSTRACT.match(section.printed) or REFERENCES.match(section.printed)
        if section.level > deepest or (is_front and facts.prose.kind == "paper") or len(records) >= _MAX_SECTIONS:
            continue
        records.append(_section(section, has_number))
    return records


def _section(section: Section, has_number: bool) -> dict[str, Found]:
    heading = section.heading if has_number else section.printed
    record = {
        "heading": Found(heading, section.row, None, 0.65),
        "level": Found(float(section.level), section.row, None, 0.6),
    }
    if section.number:
        record["number"] = Found(section.number, section.row, None, 0.7)
    summary = first_sentences(section, 1, _SUMMARY_CHARS)
    if summary:
        record["summary"] = Found(summary.data, summary.row, None, 0.45)
        text = "\n".join(paragraph.text for paragraph in section.body)
        record["text"] = Found(
            text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS].rsplit(" ", 1)[0] + " …", summary.row, None, 0.6
        )
    return record


def _clauses(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    return [_section(section, True) for section in facts.prose.headings.sections if section.body][:_MAX_SECTIONS]


def _references(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    records = read_references(facts.prose.paper)
    name = next((name for name, detail in names.items() if detail == "authors"), None)
    if name is None or not _is_array(node, name):
        return records
    key = _first_property(_items(_items(node).get("properties", {}).get(name, {})))
    for record in records:
        if "authors" in record:
            persons = _split_persons(str(record["authors"].data))
            record["authors"] = Found(
                [{key: person} for person in persons] if key else persons, record["authors"].row, None, 0.5
            )
    return records


def _split_persons(text: str) -> list[str]:
    """The persons of a list of names as references print it: `A. Roe, J. Doe and P. Poe`, `Roe, A., Doe, J.`."""
    inverted = re.findall(r"[A-ZÀ-Þ][\w'’-]+(?:\s[A-ZÀ-Þ][\w'’-]+)?,\s(?:[A-Z]\.[\s-]?){1,3}", text)
    if inverted and sum(map(len, inverted)) > 0.6 * len(text):
        return [person.strip(" ,") for person in inverted]
    parts = re.split(r",\s+(?:and\s+|&\s+)?|\s+(?:and|und|et|y|&)\s+|;\s*", text)
    return [part.strip() for part in parts if any(c.isalpha() for c in part) and part.strip(" .").lower() != "et al"][
        :60
    ]


def _tables(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    if not {"rows", "columns"} & set(names.values()):
        return list(facts.prose.paper.captions(of_tables=True))
    return [_grid(grid, node, names) for grid in facts.prose.grids]


def _grid(grid: Grid, node: Node, names: Mapping[str, str]) -> dict[str, Found]:
    """A table as a record; its rows in the shape the schema gives them: lists, or objects with one list."""
    record: dict[str, Found] = {"rows": Found(_rows(grid, node, names), grid.row, None, 0.55)}
    record["columns"] = Found(list(grid.columns), grid.row, None, 0.55)
    if grid.caption:
        record["caption"] = Found(grid.caption, grid.row, None, 0.5)
    return record


def _rows(grid: Grid, node: Node, names: Mapping[str, str]) -> list[Any]:
    name = next((name for name, detail in names.items() if detail == "rows"), None)
    row_node = _items(_items(node).get("properties", {}).get(name, {})) if name else {}
    properties = row_node.get("properties")
    if not isinstance(properties, Mapping):
        return [list(row) for row in grid.rows]
    listed = [key for key in properties if key not in EVIDENCE_KEYS and _takes_array(properties[key])]
    if listed:
        return [{listed[0]: list(row)} for row in grid.rows]
    keys = {squash(heading): index for index, heading in enumerate(grid.columns)}
    return [{key: row[keys[squash(key)]] for key in properties if squash(key) in keys} for row in grid.rows]


def _items(node: Any) -> Mapping[str, Any]:
    """The node of an array's items, alternatives with null opened."""
    plain = _opened(node)
    return _opened(plain.get("items", {}))


def _opened(node: Any) -> Mapping[str, Any]:
    if not isinstance(node, Mapping):
        return {}
    for keyword in ("anyOf", "oneOf"):
        options = node.get(keyword)
        if isinstance(options, list):
            return next(
                (option for option in options if isinstance(option, Mapping) and option.get("type") != "null"), {}
            )
    return node


def _takes_array(node: Any) -> bool:
    kind = _opened(node).get("type")
    return kind == "array" or (isinstance(kind, list) and "array" in kind)


def _is_array(node: Node, name: str) -> bool:
    return _takes_array(_items(node).get("properties", {}).get(name, {}))


def _first_property(node: Mapping[str, Any]) -> str | None:
    """The first property of an object's node that is no evidence; None for values that are no objects."""
    properties = node.get("properties")
    if not isinstance(properties, Mapping) or (
        "value" in properties and EVIDENCE_KEYS & properties.keys() and len(properties) <= 3
    ):
        return None
    return next((name for name in properties if name not in EVIDENCE_KEYS), None)


def _key_facts(facts: Facts, node: Node, names: Mapping[str, str]) -> Records:
    return [
        {"label": Found(label, row, None, 0.65), "value": Found(value, row, label, 0.65)}
        for label, value, row in facts.prose.overview.facts
    ]


_Finder = Callable[["Facts", Node, Mapping[str, str]], Iterable[Mapping[str, Found]]]
_FINDERS: Mapping[str, _Finder] = {
    "parties": _parties,
    "obligations": lambda facts, node, names: facts.prose.agreement.duties(),
    "signatures": lambda facts, node, names: facts.prose.signatures,
    "clauses": _clauses,
    "authors": lambda facts, node, names: facts.prose.authors,
    "references": _references,
    "figures": lambda facts, node, names: facts.prose.paper.captions(of_tables=False),
    "tables": _tables,
    "sections": _sections,
    "key_facts": _key_facts,
    "people": lambda facts, node, names: prose.people(facts),
}
