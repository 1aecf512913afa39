"""Whole runs over each protocol: the same record however it was asked for, and no hole whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from ingest.config import Config
from ingest.engine.in_flight import Rooms
from ingest.errors import AuthRejected, QuotaExhausted
from ingest.local.faults import KINDS
from ingest.record import Record
from tests import money
from tests.money import PROTOCOLS, Job, paid_config, start_service, write_pages

RUNGS = ("json_schema", "tool", "prompt")
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
STOPPED = {
    **dict.fromkeys(("quota", "set_limit", "no_credits", "overdue"), QuotaExhausted),
    **dict.fromkeys(("bad_key", "denied", "no_model"), AuthRejected),
}
REFUSED = ("refused_input", "refused_image", "refused_output", "content_filter", "refusal")
QUICK = {"slow": 0.01, "slow_first": 0.01, "stalled": 0.01}
# Each kind on one protocol, in turn; the other two take a minute more.
TURNS = [
    pytest.param(kind, protocol, marks=() if number % len(PROTOCOLS) == PROTOCOLS.index(protocol) else pytest.mark.long)
    for number, kind in enumerate(sorted(KINDS))
    for protocol in PROTOCOLS
]


@pytest.fixture(autouse=True)
def _retries() -> Iterator[None]:
    """`start_service` makes retries wait for nothing; afterwards they wait again."""
    yield
    stamina.set_testing(False)


def with_ladder(config: Config, *rungs: Any) -> Config:
    """The settings for a model that is asked on these rungs alone."""
    return config.model_copy(update={"profile": config.profile.model_copy(update={"ladder": rungs})})


def run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, **options: Any) -> tuple[Job, Any]:
    """A run over the documents of `tmp_path / "in"` against a new local engine."""
    service = start_service(monkeypatch, **options)
    job = Job(tmp_path / "in", config.output or tmp_path)
    job.run(config)
    return job, service


def said(record: Record[Any]) -> dict[str, Any]:
    """The record without what tells how it was asked for: protocol, request keys, tokens and money."""
    value = record.to_dict()
    del value["model"], value["keys"], value["usage"]
    return value


def test_a_document_gives_the_same_record_however_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of gateway, rung or transport must not change a record: data, provenance, coverage, problems."""
    write_pages(tmp_path / "in" / "a.txt", 1, pages=3, images=1)
    write_pages(tmp_path / "in" / "b.txt", 2, pages=1)
    records: list[list[dict[str, Any]]] = []
    ways = [(protocol, rung, True) for protocol in PROTOCOLS for rung in RUNGS]
    ways += [("chat", "json_schema", False), ("responses", "tool", False), ("messages", "prompt", False)]
    ways.append(("messages", "tool", False))
    for protocol, rung, stream in ways:
        config = paid_config(tmp_path / f"{protocol}-{rung}-{stream}", protocol=protocol, asking={"stream": stream})
        job, service = run_once(tmp_path, monkeypatch, with_ladder(config, rung))
        records.append([said(record) for record in job.records])
        assert {entry.endpoint for entry in service.entries} == {PATHS[protocol]}
        # A cut answer to a forced tool hides on this protocol unless it is streamed.
        assert {entry.is_streamed for entry in service.entries} == {stream or (protocol, rung) == ("messages", "tool")}
    assert [record["status"] for record in records[0]] == ["complete", "complete"]
    assert records[0][0]["data"]["invoice_number"] == "1-1"
    assert all(other == records[0] for other in records[1:])


@pytest.mark.parametrize(("kind", "protocol"), TURNS)
def test_no_fault_leaves_a_hole_or_is_paid_twice(
    kind: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fault in a run of one page: the right end, within a few calls, nothing complete that is not."""
    write_pages(tmp_path / "in" / "a.txt", 3, pages=1)
    clean, _ = run_once(tmp_path, monkeypatch, paid_config(tmp_path / "clean", protocol=protocol))
    fault = {"kind": kind, "wait_s": QUICK[kind]} if kind in QUICK else kind
    config = paid_config(tmp_path / "out", protocol=protocol, asking={"timeout_s": 20.0})
    if kind in STOPPED:
        with pytest.raises(STOPPED[kind]):
            run_once(tmp_path, monkeypatch, config, faults=[fault])
        return
    job, service = run_once(tmp_path, monkeypatch, config, faults=[fault])
    (record,) = job.records
    if kind in REFUSED:
        assert (record.status, record.data) == ("failed", None)
        assert record.coverage.refused == 1
        assert len(service.entries) == 1
    else:
        assert record.status == "complete", record.problems
        assert record.data == clean.records[0].data
        assert len(service.entries) <= 3
    assert not job.bought_twice()
    booked = sum(posting.booked_usd or 0 for posting in job.postings)
    assert service.billed_usd <= booked <= len(service.entries) * max(each.worst_usd or 0 for each in job.postings)


def test_a_run_out_of_time_stops_and_the_next_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the time did not suffice for is neither opened nor failed: it is open, and the summary says so."""
    for number in range(12):
        write_pages(tmp_path / "in" / f"{number:02}.txt", number, pages=1)
    opened: list[str] = []
    whole = money.TextWorkers.open

    async def noted(self: Any, source: Any, *rest: Any) -> Any:
        opened.append(source.name)
        return await whole(self, source, *rest)

    monkeypatch.setattr(money.TextWorkers, "open", noted)
    config = paid_config(tmp_path / "out", asking={"run_timeout_s": 0.8}).model_copy(update={"jobs": 2})
    start_service(monkeypatch, latency_s=0.3)
    job = Job(tmp_path / "in", tmp_path / "out")
    summary = job.run(config)
    assert 0 < summary.complete < 12
    assert summary.complete + summary.skipped == 12
    assert len(opened) < 12
    late = [record for record in job.records if record.status == "skipped"]
    assert all(record.problems[0].code == "deadline_passed" for record in late)
    assert "run the same command again" in late[-1].problems[0].message
    again = start_service(monkeypatch)
    assert job.run(paid_config(tmp_path / "out")).complete == 12
    assert len(again.entries) == 12 - summary.complete
    assert not job.bought_twice()


def test_requests_in_memory_are_bounded_in_bytes() -> None:
    """Fifty requests of 20 MB at once would not fit a small machine; fifty small ones do."""

    async def most_at_once(size_bytes: int) -> tuple[int, int]:
        rooms, now, most = Rooms(51, 100_000_000), 0, 0

        async def hold() -> None:
            nonlocal now, most
            async with rooms.take(size_bytes):
                now += 1
                most = max(most, now)
                try:
                    await asyncio.sleep(0)
                finally:
                    now -= 1

        given_up = asyncio.create_task(hold())
        tasks = [asyncio.create_task(hold()) for _ in range(200)]
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(*tasks)
        return most, now

    assert asyncio.run(most_at_once(20_000_000)) == (5, 0)
    assert asyncio.run(most_at_once(1_000)) == (51, 0)
    assert asyncio.run(most_at_once(900_000_000)) == (1, 0)
