"""The record's contract: its schema is the model's, its bytes depend on nothing but its content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import ingest
from ingest.record import (
    Coverage,
    DocumentInfo,
    Evidence,
    ModelInfo,
    RecipeInfo,
    Record,
    record_schema,
    status_of,
)

SCHEMA_FILE = Path(ingest.__file__).with_name("record.schema.json")


def _record() -> Record:
    return Record(
        document=DocumentInfo(name="a.pdf", uri="file:///a.pdf", sha256="0" * 64, media_type="", size_bytes=1),
        data={"total": 3},
        status="complete",
        provenance={"/total": (Evidence(page=1, bbox=(0, 0, 1, 1), quote="3", grade="exact"),)},
        model=ModelInfo(model="m", profile="p", protocol="chat", endpoint="local"),
        recipe=RecipeInfo(name="r", schema_sha256="", instructions_sha256=""),
    )


def test_the_schema_file_is_the_models_own() -> None:
    """Readers of records validate against the file; rewrite it with `python -m ingest.record`."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == record_schema()


def test_a_record_fits_its_schema() -> None:
    """What is written is what is promised."""
    Draft202012Validator.check_schema(record_schema())
    Draft202012Validator(record_schema()).validate(json.loads(_record().to_json()))


def test_the_keys_of_a_record_stand_in_the_promised_order() -> None:
    """People read records from the top: document and data come first."""
    keys = list(json.loads(_record().to_json()))
    promised = "document data status provenance confidence conflicts coverage problems notes usage model recipe keys"
    assert keys == promised.split()


@pytest.mark.parametrize(
    ("answered", "total", "is_valid", "status"),
    [
        (3, 3, True, "complete"),
        (3, 3, False, "partial"),
        (2, 3, True, "partial"),
        (0, 3, True, "failed"),
        (0, 0, True, "failed"),
    ],
)
def test_nothing_missing_looks_complete(answered: int, total: int, is_valid: bool, status: str) -> None:
    """A record with a hole is never complete."""
    assert status_of(Coverage(total=total, answered=answered), is_valid) == status


def test_every_public_name_exists_and_is_documented() -> None:
    """The front door is what users rely on."""
    assert ingest.__all__ == sorted(ingest.__all__)
    for name in ingest.__all__:
        assert getattr(ingest, name).__doc__ or name == "Observer", name
