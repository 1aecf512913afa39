"""What a type checker makes of the front door; checked by mypy, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from pydantic import BaseModel

import ingest


class Invoice(BaseModel):
    """A user's own class."""

    total: float | None


assert_type(ingest.extract("a.pdf", schema=Invoice), ingest.Record[Invoice])
assert_type(ingest.extract("a.pdf", schema=Invoice).data, Invoice | None)
assert_type(ingest.extract("a.pdf", schema={"type": "object"}), ingest.Record[dict[str, Any]])
assert_type(ingest.extract("a.pdf", recipe="invoices", local=True), ingest.Record[dict[str, Any]])
assert_type(ingest.run(["in"], schema=Invoice, output="out"), Iterator[ingest.Record[Invoice]])
assert_type(ingest.run(["in"], recipe="receipts"), Iterator[ingest.Record[dict[str, Any]]])
assert_type(ingest.stream(["in"], schema=Invoice), AsyncIterator[ingest.Record[Invoice]])
assert_type(ingest.stream(["in"], recipe="receipts"), AsyncIterator[ingest.Record[dict[str, Any]]])


async def use_twins() -> None:
    """The asynchronous twins carry the same types."""
    assert_type(await ingest.extract_async("a.pdf", schema=Invoice), ingest.Record[Invoice])
    assert_type(await ingest.extract_async("a.pdf", recipe="papers"), ingest.Record[dict[str, Any]])
