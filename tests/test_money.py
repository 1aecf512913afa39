"""Both sides' books: what the client says it spent against what the service billed, with faults on."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.planning import pricing
from tests.money import PROTOCOLS, Job, paid_config, start_service, with_limit, write_pages

LOSSES = {
    "rate_limited": 0.04,
    "overloaded": 0.03,
    "unavailable": 0.03,
    "server_error": 0.05,
    "stream_error": 0.03,
    "truncated": 0.04,
    "content_filter": 0.02,
    "malformed": 0.03,
    "garbage": 0.03,
    "dropped": 0.05,
    "unfinished": 0.03,
    "no_close": 0.02,
    "reset": 0.03,
}
"""Shares of the faults that cost money or lose its trace; together four of ten calls."""


_WITHOUT_USAGE = {"garbage", "stream_error", "unfinished", "no_close", "dropped", "reset"}


def _check_books(job: Job, billed_usd: Decimal, entries: list[Any]) -> None:
    """Confirmed calls equal the service's own bills one by one; the rest is never below them."""
    postings = job.postings
    confirmed = [posting.booked_usd for posting in postings if posting.booking == "usage"]
    delivered = [entry for entry in entries if entry.status == 200 and entry.was_delivered]
    with_usage = [entry.cost_usd for entry in delivered if entry.fault not in _WITHOUT_USAGE]
    assert sorted(amount for amount in confirmed if amount is not None) == sorted(with_usage)
    booked = sum((posting.booked_usd or Decimal(0) for posting in postings), Decimal(0))
    assert booked >= billed_usd
    lost = [posting for posting in postings if posting.booking == "worst"]
    billed_apart = billed_usd - sum((amount or Decimal(0) for amount in confirmed), Decimal(0))
    assert sum((posting.booked_usd or Decimal(0) for posting in lost), Decimal(0)) >= billed_apart
    assert all(posting.booking == "free" for posting in postings if posting.outcome == "rate_limited")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_clients_books_are_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """A bill that differs from the service's by a cent is not known; one below it is a lie."""
    service = start_service(monkeypatch, faults=LOSSES, fault_seed=3)
    for number in range(12):
        write_pages(tmp_path / "in" / f"{number:03}.txt", number, pages=1 + number % 5)
    job = Job(tmp_path / "in", tmp_path / "out")
    summary = job.run(paid_config(tmp_path / "out", protocol=protocol))
    assert len(service.entries) > 25
    _check_books(job, service.billed_usd, service.entries)
    spending = summary.spending
    assert summary.spent_usd == spending.total_usd
    assert spending.confirmed_usd is not None
    assert spending.unconfirmed_usd is not None
    assert spending.total_usd == spending.confirmed_usd + spending.unconfirmed_usd
    kinds = spending.by_kind
    assert kinds.input_usd + kinds.cached_usd + kinds.output_usd + kinds.reasoning_usd == spending.confirmed_usd
    assert sum(row.cost_usd or Decimal(0) for row in spending.by_document) == spending.total_usd


def _job(folder: Path, seed: int) -> Job:
    dice = random.Random(seed)
    for number in range(dice.randint(1, 4)):
        pages = dice.randint(1, 6)
        write_pages(folder / "in" / f"{number}.txt", 100 * seed + number, pages, words=dice.choice((24, 60, 160)))
    return Job(folder / "in", folder / "out")


def _runs_within_limits(job: Job, seed: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> int:
    """Random limits, each kept, until the job is done; how many runs it took."""
    dice = random.Random(seed)
    planning = {"target_tokens": dice.choice((1_000, 1_000, 2_000))}
    config = paid_config(job.output, protocol=dice.choice(PROTOCOLS), planning=planning, **settings)
    config = config.model_copy(update={"profile": config.profile.model_copy(update={"default_output_tokens": 1_000})})
    runs = 0
    while True:
        # Each run meets other faults, or a file that is refused once would be refused for ever.
        skew = {"text": dice.uniform(0.8, 1.2), "image": dice.uniform(0.8, 1.2)}
        service = start_service(monkeypatch, faults=LOSSES, fault_seed=1_000 * seed + runs, skew=skew)
        limit = Decimal(dice.randint(5, 20 * (runs + 1))) / 1000
        summary = job.run(with_limit(config, limit))
        runs += 1
        assert service.billed_usd <= limit
        assert summary.spent_usd is not None
        assert service.billed_usd <= summary.spent_usd <= limit
        assert job.bought_twice() == []
        if summary.remaining is None:
            return runs
        assert summary.complete < len(summary.documents)
        assert any(record.status in ("partial", "failed", "skipped") for record in job.records)
        assert summary.remaining.requests > 0
        assert runs < 60


def test_the_service_never_bills_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by one call, not with sixteen at once, not when calls die; and a rerun goes on for more money."""
    runs = [_runs_within_limits(_job(tmp_path / str(seed), seed), seed, monkeypatch) for seed in range(6)]
    assert max(runs) > 1


def test_limits_hold_where_answers_are_cut_off_at_their_first_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an answer is asked for once more at the full length: both are paid, neither twice, and the limit holds."""
    monkeypatch.setattr(pricing, "_LEAST_OUTPUT_TOKENS", 16)
    monkeypatch.setattr(pricing, "_OUTPUT_ROOM", 0.01)
    jobs = [_job(tmp_path / str(seed), seed) for seed in range(50, 53)]
    for seed, job in enumerate(jobs, 50):
        _runs_within_limits(job, seed, monkeypatch, asking={"max_tokens": None})
    cut_off = [posting.key for job in jobs for posting in job.postings if posting.is_cut_off]
    assert sum(key.endswith("-short") for key in cut_off) > 5


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_two_hundred_jobs_keep_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same over two hundred random jobs."""
    for seed in range(100, 300):
        _runs_within_limits(_job(tmp_path / str(seed), seed), seed, monkeypatch)


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_five_hundred_mixed_requests_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """Text and images, every fault that loses money, to the last digit of every call whose usage arrived."""
    service = start_service(monkeypatch, faults=LOSSES, fault_seed=11)
    for number in range(150):
        write_pages(tmp_path / "in" / f"{number:03}.txt", number, pages=1 + number % 6, images=number % 7 == 0)
    job = Job(tmp_path / "in", tmp_path / "out")
    job.run(paid_config(tmp_path / "out", protocol=protocol))
    assert len(service.entries) >= 500
    _check_books(job, service.billed_usd, service.entries)
