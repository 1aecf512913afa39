"""What the goods and taxes of a document say together: the values of one column, how many goods, which tax rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.local.filler import vocabulary
from ingest.local.filler.fields import Field, describe
from ingest.local.filler.found import Found
from ingest.local.filler.schema import Node, types_of
from ingest.local.filler.text import name_words

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

_COLUMNS = ("description", "item_number", "quantity", "unit", "unit_price", "amount", "tax_rate")
_TAXES = ("tax_rate", "tax_basis", "tax_amount")
# Words that name the goods themselves, so that a list called so is one of their names.
_GOODS = frozenset(
    "item product good article purchase position artikel produkt ware posten produit producto articulo prodotto "
    "articolo productos articulos produits articles".split()
)
_LISTED = frozenset({*_COLUMNS, *_TAXES})


def list_column(asked: Field, node: Node, facts: Facts) -> list[Found] | None:
    """The values for an array of plain values that is a column of the goods, or the tax rates; None for others."""
    concept = _column_of(asked, node)
    if concept is None:
        return None
    if concept == "tax_rate":
        return tax_rates(facts)
    return [record[concept] for record in _records(facts, "line_items", _COLUMNS) if concept in record]


def _column_of(asked: Field, node: Node) -> str | None:
    """The column an array's name means, in the singular: `itemNames`, `products`, `tax_rates`."""
    words = [_singular(word) for word in name_words(asked.name)]
    about = set(words) | vocabulary.content_words(asked.description.split(".", 1)[0])
    kinds = types_of(node) - {"null"}
    concept = describe(("_".join(words),), {**node, "description": ""}, vocabulary.columns()).concept
    if concept == "tax_rate":
        return concept
    if not about & _GOODS or concept not in _LISTED | {None}:
        return None
    if kinds == {"string"} and concept in (None, "description", "item_number"):
        return concept or "description"
    return concept


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word


def _records(facts: Facts, name: str, concepts: tuple[str, ...]) -> list[dict[str, Found]]:
    """The records an array of objects with these concepts as properties would get."""
    kinds = vocabulary.columns().concepts
    fields = {c: Field((name, c), c, kinds[c].kind, None, None, (), "") for c in concepts}
    return facts.records((name,), {}, fields, {c: {} for c in concepts})


def tax_rates(facts: Facts) -> list[Found]:
    """The tax rates the document names, each once: of its summary of taxes, else of its goods."""
    for name, concepts in (("taxes", _TAXES), ("line_items", _COLUMNS)):
        rates: dict[object, Found] = {}
        for record in _records(facts, name, concepts):
            if "tax_rate" in record:
                rates.setdefault(record["tax_rate"].data, record["tax_rate"])
        if rates:
            return list(rates.values())
    return []


def tax_rate(facts: Facts) -> Found | None:
    """The document's tax rate, if it has but one."""
    rates = tax_rates(facts)
    return rates[0] if len(rates) == 1 else None


def item_count(facts: Facts) -> Found | None:
    """How many goods are listed, told only where the pages run from the document's first to its total."""
    pages = facts.view.pages
    if not pages or pages[0].number > 1 or not facts.totals.get("gross_total"):
        return None
    records = _records(facts, "line_items", _COLUMNS)
    row = next((found.row for found in records[0].values()), None) if records else None
    return Found(len(records), row, None, 0.6) if records else None
