"""Shared fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.local.eyes import EYES
from tests.postgres import postgres
from tests.readers import quick_readers
from tests.s3 import s3, s3_address

__all__ = ["corpus", "fixtures_folder", "postgres", "quick_readers", "s3", "s3_address"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _ocr_process() -> Iterator[None]:
    """One OCR process for all tests: its models take seconds to load."""
    with EYES.in_use():
        yield


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    """The project's own sample documents."""
    return ROOT / "fixtures"


@pytest.fixture(scope="session")
def corpus() -> Path:
    """A folder of real documents with ground truth; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("INGEST_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not (folder / "catalog.json").is_file():
        pytest.skip(f"no corpus of real documents at {folder}; set INGEST_CORPUS to its path")
    return folder
