"""Arrays of plain values: what follows a label, parted by commas or standing in lines below it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ingest.local.filler import footage_records, goods, prose
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.own_words import find_by_own_words
from ingest.local.filler.schema import Node

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_PARTS = re.compile(r"\s*[;,|•·]\s*")


def find_list(asked: Field, node: Node, facts: Facts) -> list[Found]:
    """The values of an array of scalars, in printed order."""
    if facts.footage is not None:
        shown = footage_records.find_texts(asked.path, facts.footage)
        if shown is not None:
            return shown
    special = prose.find_list(asked, facts)
    if special is not None:
        return special
    column = goods.list_column(asked, node, facts)
    if column:
        return column
    found = find_by_own_words(asked, {}, facts.view)
    if found is None or not isinstance(found.data, str):
        return [found] if found else []
    return [Found(part, found.row, found.label, found.confidence) for part in _PARTS.split(found.data) if part.strip()]
