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
    async with ingest.Ingestor(schema=Invoice, local=True) as ingestor:
        assert_type(await ingestor.extract_async("a.pdf"), ingest.Record[Invoice])
        assert_type(ingestor.stream(["in"]), AsyncIterator[ingest.Record[Invoice]])
        assert_type(await ingestor.plan_async(["in"]), ingest.Plan)


def use_ingestor(config: ingest.Config) -> None:
    """An Ingestor knows the class of its records; its keywords are checked."""
    with ingest.Ingestor(config, schema=Invoice, on_error="raise") as typed:
        assert_type(typed, ingest.Ingestor[Invoice])
        assert_type(typed.extract(ingest.Input(data=b"%PDF", name="a.pdf")).data, Invoice | None)
        assert_type(typed.run(["in"]), Iterator[ingest.Record[Invoice]])
    with ingest.Ingestor(config, observer=lambda event: print(event.kind)) as plain:
        assert_type(plain.extract("a.pdf"), ingest.Record[dict[str, Any]])
        assert_type(plain.summary(), ingest.RunSummary)
    ingest.Ingestor(recipe="invoices", max_cost="2.50", on_record=lambda record: print(record.status))
    ingest.Ingestor(recipe="invoices", max_price=2)  # type: ignore[call-overload]
    ingest.Ingestor(recipe="invoices", on_error="ignore")  # type: ignore[call-overload]
    ingest.extract("a.pdf", recipe="invoices", on_error="raise", jobs=4)
