"""Arrays of objects that running text answers: sections, people, key-value pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.schema import Node

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts


def find(path: Sequence[str], node: Node, fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Found]] | None:
    """The entries of an array the rules here know; None leaves it to the tables."""
    return None
