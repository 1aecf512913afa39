"""The front door as programs use it: classes as schemas, running loops, early exits."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

import ingest
from ingest.errors import ConfigError


class Total(BaseModel):
    """A user's class with types JSON does not have."""

    invoice_number: str | None = Field(description="Number of the invoice")
    invoice_date: date | None = Field(description="Date of issue")
    gross_amount: Decimal | None = Field(description="Grand total including tax")


class Strict(BaseModel):
    """A class that the sample cannot satisfy."""

    favourite_colour: str


@pytest.fixture
def invoice(fixtures_folder: Path) -> Path:
    """One invoice of one page."""
    return fixtures_folder / "documents" / "invoices" / "us-one-page.pdf"


def test_a_class_as_schema_gives_instances_of_it(invoice: Path) -> None:
    """Typed data is why a program uses classes; provenance stays beside it."""
    record = ingest.extract(invoice, schema=Total, local=True)
    assert record.status == "complete"
    assert isinstance(record.data, Total)
    assert isinstance(record.data.gross_amount, Decimal)
    assert isinstance(record.data.invoice_date, date)
    assert record.provenance["/gross_amount"][0].page == 1


def test_data_that_does_not_fit_the_class_is_not_complete(invoice: Path) -> None:
    """A required value that is not in the document must not be made up, nor pass as complete."""
    record = ingest.extract(invoice, schema=Strict, local=True)
    assert record.data is None
    assert record.status == "partial"
    assert any("favourite_colour" in (problem.pointer or problem.message) for problem in record.problems)


def test_a_running_loop_is_no_obstacle(invoice: Path) -> None:
    """Notebooks have one; the synchronous call must work there, and its twin too."""

    async def notebook() -> tuple[str, str]:
        plain = ingest.extract(invoice, schema=Total, local=True)
        twin = await ingest.extract_async(invoice, schema=Total, local=True)
        assert plain.data == twin.data
        return plain.status, twin.status

    assert asyncio.run(notebook()) == ("complete", "complete")


def test_stream_and_run_give_the_same_records(fixtures_folder: Path) -> None:
    """The twins differ in how they are called, not in what they give."""
    folder = fixtures_folder / "damaged"

    async def collect() -> list[str]:
        return [record.to_json() async for record in ingest.stream([folder], schema=Total, local=True)]

    assert [record.to_json() for record in ingest.run([folder], schema=Total, local=True)] == asyncio.run(collect())


def test_no_thread_stays_behind(invoice: Path) -> None:
    """A library that leaves threads behind hangs its host at exit."""
    before = set(threading.enumerate())
    for _ in ingest.run([invoice], schema=Total, local=True):
        break
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive(), thread.name


def test_two_answers_to_what_is_wanted_are_an_error() -> None:
    """Silently preferring one of them would extract the wrong thing."""
    with pytest.raises(ConfigError, match="either a schema or a recipe"):
        ingest.configure(local=True)
    with pytest.raises(ConfigError, match="either a schema or a recipe"):
        ingest.configure(schema={}, recipe="invoices", local=True)


def test_extract_is_for_one_document(fixtures_folder: Path) -> None:
    """A folder has no one record."""
    with pytest.raises(ConfigError, match=r"use run\(\)"):
        ingest.extract(fixtures_folder / "damaged", schema=Total, local=True)
