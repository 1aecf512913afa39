"""The numbers that Word shows before list items and clauses, which stand nowhere in its text."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from ingest.reading.office.package import Node, children


@dataclass(frozen=True, slots=True)
class _Level:
    style: str
    pattern: str
    start: int


class Numbering:
    """Counts along the paragraphs of a document, in their order."""

    def __init__(self, root: Node | None) -> None:
        abstract = {node.get("abstractNumId", ""): _levels(node) for node in children(root, "abstractNum")}
        self._lists: dict[str, dict[int, _Level]] = {}
        for node in children(root, "num"):
            link = node.find("abstractNumId")
            self._lists[node.get("numId", "")] = abstract.get(link.get("val", "") if link is not None else "", {})
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)

    def label(self, properties: Node | None, style: Node | None) -> str:
        """The label of a paragraph with a trailing space, or "". Call once for each paragraph."""
        numbering = _find(properties) or _find(style.find("pPr") if style is not None else None)
        if numbering is None:
            return ""
        name, depth = _value(numbering, "numId", "0"), int(_value(numbering, "ilvl", "0"))
        levels = self._lists.get(name, {})
        level = levels.get(depth)
        if level is None or level.style == "none":
            return ""
        if level.style == "bullet":
            return "  " * depth + "• "
        counts = self._counts[name]
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [each for each in counts if each > depth]:
            del counts[deeper]

        def number(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            above = levels.get(at)
            return _format(counts.get(at, above.start if above else 1), above.style if above else "decimal")

        return re.sub(r"%(\d)", number, level.pattern) + " "


def _levels(abstract: Node) -> dict[int, _Level]:
    levels: dict[int, _Level] = {}
    for node in children(abstract, "lvl"):
        depth, start = node.get("ilvl", "0"), _value(node, "start", "1")
        if depth.isdigit() and start.isdigit():
            levels[int(depth)] = _Level(_value(node, "numFmt", "decimal"), _value(node, "lvlText", "%1."), int(start))
    return levels


def _find(properties: Node | None) -> Node | None:
    return None if properties is None else properties.find("numPr")


def _value(node: Node, name: str, default: str) -> str:
    child = node.find(name)
    value = child.get("val", default) if child is not None else default
    return value if name not in ("ilvl",) or value.isdigit() else default


def _format(number: int, style: str) -> str:
    if style in ("lowerLetter", "upperLetter"):
        letters = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letters.upper() if style == "upperLetter" else letters
    if style in ("lowerRoman", "upperRoman"):
        return _roman(number) if style == "upperRoman" else _roman(number).lower()
    return f"{number:02}" if style == "decimalZero" else str(number)


def _roman(number: int) -> str:
    steps = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"))
    text = ""
    for value, letters in (*steps, (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        text += letters * (number // value)
        number %= value
    return text
