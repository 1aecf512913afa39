"""Published extraction schemas, as they are, through the whole path."""

from __future__ import annotations

import json
from pathlib import Path

import pymupdf
import pytest
from jsonschema import Draft202012Validator

import ingest
from ingest.record import record_schema

CASES = ["10kq", "credit_agreement", "research", "resume", "swimming"]


@pytest.mark.corpus
@pytest.mark.parametrize("name", CASES)
def test_a_published_schema_is_planned_sent_and_merged(corpus: Path, tmp_path: Path, name: str) -> None:
    """A user brings a schema made for something else, and changes nothing in it by hand."""
    folder = corpus / "extract-bench" / name
    form = json.loads(next(folder.glob("*-schema.json")).read_text(encoding="utf-8"))
    form = form.get("schema_definition", form)
    path = tmp_path / "in.pdf"
    with pymupdf.open(sorted(folder.glob("*.pdf"))[0]) as document:
        document.select(list(range(min(3, len(document)))))
        document.save(path)
    settings = {"planning": {"target_tokens": 3_000}, "reading": {"pages": "text"}}
    config = ingest.configure(schema=form, local=True, output=tmp_path / "out", settings=settings)
    planned = ingest.plan([path], config)
    summary = ingest.run_to_folder([path], config)
    assert planned.totals.requests == summary.requests_sent > 0
    record = json.loads((tmp_path / "out" / "in.pdf.json").read_text(encoding="utf-8"))
    Draft202012Validator(record_schema()).validate(record)
    assert {part["status"] for part in record["coverage"]["parts"]} == {"answered"}
    is_valid = Draft202012Validator(form).is_valid(record["data"])
    assert record["status"] == ("complete" if is_valid else "partial")
    assert is_valid or {problem["code"] for problem in record["problems"]} == {"off_schema"}
