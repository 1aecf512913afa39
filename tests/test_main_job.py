"""The main job on the project's own documents, offline, as the README runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from jsonschema import Draft202012Validator

import ingest
from ingest.local import reader
from ingest.record import record_schema
from ingest.showing.evaluation import EvaluationOptions, evaluate


def run(paths: list[Path], recipe: str, output: Path, **reading: Any) -> dict[str, dict[str, Any]]:
    """Records by document name, each checked against the record schema."""
    config = ingest.configure(recipe=recipe, local=True, output=output, settings={"reading": reading})
    ingest.run_to_folder(paths, config)
    validator = Draft202012Validator(record_schema())
    records = {}
    for line in (output / "records.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        validator.validate(record)
        assert record == json.loads((output / f"{record['document']['name']}.json").read_text(encoding="utf-8"))
        records[record["document"]["name"]] = record
    return records


@pytest.fixture
def count_ocr(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Page numbers that the local engine reads from their image."""
    numbers: list[int] = []
    read = reader.read_image

    def spy(number: int, data: bytes, is_context: bool = False) -> Any:
        numbers.append(number)
        return read(number, data, is_context)

    monkeypatch.setattr(reader, "read_image", spy)
    return numbers


@pytest.mark.parametrize(("kind", "recipe"), [("invoices", "invoices"), ("receipts", "receipts")])
def test_records_say_what_the_documents_say(fixtures_folder: Path, tmp_path: Path, kind: str, recipe: str) -> None:
    """The promise of the README: open a record beside its document and find it right."""
    records = run([fixtures_folder / "documents" / kind], recipe, tmp_path)
    assert {record["status"] for record in records.values()} == {"complete"}
    overall = evaluate(tmp_path, fixtures_folder / "truth" / kind, EvaluationOptions()).to_dict()["overall"]
    assert overall["accuracy"] >= 0.95
    assert overall["precision"] >= 0.95
    grounded = [place for record in records.values() for places in record["provenance"].values() for place in places]
    assert sum(place["grade"] in ("exact", "normalised") for place in grounded) >= 0.95 * len(grounded)


def test_changing_one_amount_changes_that_one_value(fixtures_folder: Path, tmp_path: Path) -> None:
    """Nothing is canned: the record follows the page."""
    original = fixtures_folder / "documents" / "invoices" / "us-one-page.pdf"
    before = run([original], "invoices", tmp_path / "before")["us-one-page.pdf"]["data"]
    changed = tmp_path / "changed.pdf"
    with pymupdf.open(original) as document:
        page = document[0]
        (place,) = page.search_for("June 25, 2021")
        page.add_redact_annot(place, "June 28, 2021", fontsize=9)
        page.apply_redactions()
        document.save(changed)
    after = run([changed], "invoices", tmp_path / "after")["changed.pdf"]["data"]
    assert before.pop("invoice_date") == "2021-06-25"
    assert after.pop("invoice_date") == "2021-06-28"
    assert after == before


def test_born_digital_pages_take_no_ocr(fixtures_folder: Path, tmp_path: Path, count_ocr: list[int]) -> None:
    """A text layer is exact and free to read; the image is read only when asked for."""
    path = fixtures_folder / "documents" / "invoices" / "us-one-page.pdf"
    as_text = run([path], "invoices", tmp_path / "auto")["us-one-page.pdf"]
    assert count_ocr == []
    as_image = run([path], "invoices", tmp_path / "image", pages="image")["us-one-page.pdf"]
    assert count_ocr == [1]
    assert as_image["coverage"]["parts"][0]["mode"] == "image"
    assert as_image["data"]["gross_amount"] == as_text["data"]["gross_amount"]
    assert as_image["provenance"]["/gross_amount"][0]["bbox"] == pytest.approx(
        as_text["provenance"]["/gross_amount"][0]["bbox"], abs=6
    )


def test_every_sample_ends_as_its_list_says(fixtures_folder: Path, tmp_path: Path) -> None:
    """Damaged, locked and unknown files are records with a reason; none stops the others."""
    records = run([fixtures_folder / "damaged", fixtures_folder / "documents" / "encrypted"], "invoices", tmp_path)
    assert len(records) == 9
    for name, record in records.items():
        if name != "text-named.pdf":
            assert record["status"] in ("failed", "partial"), name
            assert record["problems"][0]["message"].startswith(name), name
    assert records["password.pdf"]["problems"][0]["code"] == "encrypted"
    opened = run(
        [fixtures_folder / "documents" / "encrypted"], "invoices", tmp_path / "opened", passwords=["harbour-7"]
    )
    assert opened["password.pdf"]["status"] == "complete"
    assert "harbour-7" not in (tmp_path / "opened" / "records.jsonl").read_text(encoding="utf-8")


def test_scans_and_office_files_are_read_to_the_end(fixtures_folder: Path, tmp_path: Path) -> None:
    """Every page of every kind of file is accounted for."""
    documents = fixtures_folder / "documents"
    records = run([documents / "scans", documents / "generic", documents / "contracts"], "generic", tmp_path)
    for name, record in records.items():
        assert record["status"] == "complete", name
        assert record["coverage"]["answered"] == record["coverage"]["total"] > 0, name
        assert any(value not in (None, []) for value in record["data"].values()), name
