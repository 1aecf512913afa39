"""Nothing missing looks complete: whole runs against a local engine that fails in every way it knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import ingest
from ingest.errors import IngestError
from ingest.record import record_schema
from tests.faulty_runs import FATAL, FAULTS, prepare, run_once

RECORD = Draft202012Validator(record_schema())


@pytest.fixture(scope="module", autouse=True)
def _hurried() -> Iterator[None]:
    """Retries do not wait."""
    import stamina

    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def paths(fixtures_folder: Path) -> list[Path]:
    """A document of one page and one of two."""
    folder = fixtures_folder / "documents" / "invoices"
    return [folder / "ie-one-page.pdf", folder / "ch-two-pages.pdf"]


@pytest.fixture
def truth(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The data of a run without faults."""
    prepare(monkeypatch, 0, 0.0)
    records = run_once(paths)
    assert isinstance(records, list)
    return {record["document"]["name"]: record["data"] for record in records}


def check(records: list[dict[str, Any]] | IngestError, truth: dict[str, Any]) -> None:
    """A record is complete only when every part was answered, and then it is the whole truth."""
    assert isinstance(records, list)
    assert [record["document"]["name"] for record in records] == list(truth)
    schema = Draft202012Validator(ingest.load_recipe("invoices").document_schema)
    for record in records:
        RECORD.validate(record)
        coverage = record["coverage"]
        assert coverage["total"] == len(coverage["parts"])
        if record["status"] == "complete":
            assert {part["status"] for part in coverage["parts"]} == {"answered"}
            assert schema.is_valid(record["data"])
            assert record["data"] == truth[record["document"]["name"]]
        else:
            assert coverage["answered"] < coverage["total"] or not schema.is_valid(record["data"])
            assert record["problems"]


def _settings(seed: int) -> dict[str, Any]:
    asking = {"max_tokens": 1_200} if seed % 3 == 0 else {}
    return {"asking": asking, "planning": {"target_tokens": 4_000} if seed % 2 else {}}


def test_no_fault_makes_a_hole_look_complete(
    paths: list[Path], truth: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three calls in ten fail, in any of the ways the local engine knows; answers are cut off besides."""
    for seed in range(1, 36):
        prepare(monkeypatch, seed, 0.3)
        check(run_once(paths, **_settings(seed)), truth)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("hundred", range(10))
def test_no_fault_makes_a_hole_look_complete_in_a_thousand_runs(
    paths: list[Path], truth: dict[str, Any], hundred: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for long: rates from one call in ten to nine in ten."""
    for seed in range(100 * hundred + 1, 100 * hundred + 101):
        prepare(monkeypatch, seed, 0.1 + 0.8 * (seed % 10) / 10)
        check(run_once(paths, **_settings(seed)), truth)


@pytest.mark.parametrize("kind", sorted(FATAL))
def test_an_account_in_trouble_ends_the_run(paths: list[Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no retry can help ends at once, with an error that says so, and with no record that looks whole."""
    prepare(monkeypatch, 1, 1.0, (kind,))
    records = run_once(paths)
    assert isinstance(records, IngestError) or all(record["status"] != "complete" for record in records)


@pytest.mark.parametrize("kind", ["content_filter", "refused_input", "refused_output"])
def test_what_is_refused_everywhere_is_marked_so(paths: list[Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that stops every answer leaves every part refused, not failed and not forgotten."""
    prepare(monkeypatch, 1, 1.0, (kind,))
    records = run_once(paths)
    assert isinstance(records, list)
    for record in records:
        assert {part["status"] for part in record["coverage"]["parts"]} == {"refused"}
        assert record["status"] == "failed"


@pytest.mark.parametrize("sheet", [1, 4])
def test_frames_and_contact_sheets_are_refused_one_by_one(
    fixtures_folder: Path, sheet: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video of which every image is refused ends like a document: asked down to the single image, and marked."""
    prepare(monkeypatch, 1, 1.0, ("refused_image",))
    path = fixtures_folder / "videos" / "incident" / "turned.mov"
    records = run_once([path], "incident", reading={"contact_sheet": sheet})
    assert isinstance(records, list)
    (record,) = records
    parts = record["coverage"]["parts"]
    assert {part["status"] for part in parts} == {"refused"}
    assert len(record["problems"]) >= len(parts)
    assert all(part["attempts"] > 1 for part in parts) or len(parts) == 1


def test_the_faults_are_all_there() -> None:
    """A kind added to the local engine takes part without being named here."""
    assert len(FAULTS) > 30
