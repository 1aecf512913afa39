"""Fields told from running text rather than from labels: titles, languages, parties and terms of agreements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.schema import Node

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts


def find(asked: Field, node: Node, facts: Facts) -> Found | None:
    """The value of a field that running text answers, or None."""
    return None


def find_list(asked: Field, facts: Facts) -> list[Found] | None:
    """The values of a list that running text answers; None when the rules here do not know the list."""
    return None
