"""The accuracy benchmark: its figures and its maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pipelines.recipes
from bench.accuracy import COLLECTIONS, MAPS, accuracy, cell_f1, header_accuracy, token_f1

RECIPES = Path(pipelines.recipes.__file__).parent


def counts(matched: int, wrong: int = 0, missing: int = 0, invented: int = 0, words: float = 0.0) -> dict[str, Any]:
    """Counts of one field as `ingest eval --json` writes them."""
    expected = matched + wrong + missing
    return {
        "expected": expected,
        "matched": matched,
        "wrong": wrong,
        "missing": missing,
        "invented": invented,
        "token_f1": words,
    }


def has_field(schema: dict[str, Any], path: str) -> bool:
    """Whether a path with `*` for list items names a field of the schema."""
    for step in path.split("/"):
        found = schema.get("items") if step == "*" else schema.get("properties", {}).get(step)
        if found is None:
            return False
        schema = found
    return True


def test_invented_values_lower_accuracy() -> None:
    """A reader that fills every empty field would otherwise score as well as a careful one."""
    fields = {"date": counts(8, wrong=1, missing=1), "total": counts(0, invented=10)}
    assert accuracy("date")(fields) == 0.8
    assert accuracy("date", "total")(fields) == 0.4
    assert accuracy("company")(fields) is None


def test_header_figure_leaves_lists_out() -> None:
    """A hundred easy lines must not hide a wrong invoice number."""
    fields = {"invoice_number": counts(1, wrong=1), "line_items/*/amount": counts(100)}
    assert header_accuracy(fields) == 0.5


def test_cell_f1_counts_both_ways() -> None:
    """Missing rows and invented rows must both cost."""
    fields = {"items/*/amount": counts(6, wrong=2, missing=2, invented=2), "items/*/unit": counts(0, missing=50)}
    assert cell_f1("items", ("amount",))(fields) == pytest.approx(2 * 6 / (10 + 10))


def test_token_f1_is_the_field_s_own() -> None:
    """The address figure is the mean that the evaluation reports."""
    assert token_f1("address")({"address": counts(1, words=0.75)}) == 0.75


@pytest.mark.parametrize("recipe", ["invoices", "contracts"])
def test_maps_lead_to_fields_of_the_recipe(recipe: str) -> None:
    """A map to a field that was renamed would count every value as missing."""
    schema = json.loads((RECIPES / recipe / "schema.json").read_text(encoding="utf-8"))
    mapping = json.loads((MAPS / f"{recipe}.json").read_text(encoding="utf-8"))
    assert [target for target in mapping.values() if not has_field(schema, target)] == []


def test_every_promised_figure_has_a_goal() -> None:
    """A figure dropped from the table would be a promise nobody measures."""
    goals = {(item.name, figure.name): figure.goal for item in COLLECTIONS for figure in item.figures}
    assert len(goals) == 14
    assert all(0.5 < goal < 1 for goal in goals.values())
