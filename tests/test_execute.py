"""Executors: wherever documents are worked on, the records, the limits and the money are those of one run."""

from __future__ import annotations

import asyncio
import json
import pickle
import zipfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import ingest
from ingest import engine
from ingest.asking.client import Client
from ingest.config import BudgetSettings, Config
from ingest.engine import session
from ingest.engine.open_run import OpenRun
from ingest.errors import BudgetReached, ConfigError, Unreadable
from ingest.execute import Done, Job, Pool, Work, load_executor
from ingest.execute.sharing import FarBudget, FarLimits, Holder, stand_ins
from ingest.keeping.ledger import Ledger
from ingest.profile import RateLimits
from ingest.reading.discover import Found
from ingest.reading.staging import Turn
from ingest.record import Record, RunSummary
from ingest.types import Observer

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "total": {"type": ["number", "null"]}},
    "required": ["number", "total"],
    "additionalProperties": False,
}
CENT = Decimal("0.01")


class Direct:
    """A line to a holder in the same loop; what is sent is pickled, and arrives a little later."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._sent: set[asyncio.Task[Any]] = set()

    async def ask(self, method: str, *arguments: object) -> Any:
        """What the holder gives; it goes on there when nobody waits for it any more."""
        return pickle.loads(pickle.dumps(await asyncio.shield(self._send(method, arguments))))

    def tell(self, method: str, *arguments: object) -> None:
        """Call, and do not wait."""
        self._send(method, arguments)

    def _send(self, method: str, arguments: object) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(getattr(self._holder, method)(*pickle.loads(pickle.dumps(arguments))))
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)
        return task


@dataclass
class Elsewhere:
    """An executor as remote as it can be within one process: what travels is pickled, each worker has its session."""

    config: Config
    workers: int = 2
    names: list[str] = field(default_factory=list)
    is_remote = True

    @asynccontextmanager
    async def start(self, here: Work[Any], away: Job[Any], tell: Observer) -> AsyncIterator[Pool[Any]]:
        """So many workers, which take turns."""
        from contextlib import AsyncExitStack

        config = self.config
        line = Direct(Holder(config.profile.rate_limits, config.calls_at_once, config.budget))
        async with AsyncExitStack() as stack:
            works: list[Work[Any]] = []
            for number in range(self.workers):
                shared = await stack.enter_async_context(stand_ins(line, f"worker {number}", config.budget))
                works.append(await stack.enter_async_context(pickle.loads(pickle.dumps(away)).open(tell, shared)))

            async def work(found: Found, turn: Turn) -> Done[Any]:
                self.names.append(found.name)
                if "lost" in found.name:
                    raise Unreadable(f"{found.name}: 3 workers died")
                done: Done[Any] = await works[len(self.names) % len(works)](pickle.loads(pickle.dumps(found)), Turn())
                return pickle.loads(pickle.dumps(done))

            yield Pool(work, self.workers)


@dataclass
class Api:
    """A model that answers at once, and counts."""

    calls: int = 0
    width: int = 0
    widest: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The same answer to every call."""
        while (await receive()).get("more_body"):
            pass
        self.calls += 1
        self.width += 1
        self.widest = max(self.widest, self.width)
        await asyncio.sleep(0.01)
        self.width -= 1
        content = json.dumps({"number": {"value": "A-1", "_page": 1}, "total": {"value": 12.5, "_page": 1}})
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "seed-2-0-pro",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 30, "total_tokens": 930},
        }
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """The model in the place of the service."""
    api = Api()
    monkeypatch.setattr(session, "Client", partial(Client, transport=httpx.ASGITransport(app=api)))
    return api


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, a damaged one, and an archive with two in it."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Invoice number A-1\nDelivery {number}\nTotal 12.50\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for number in range(2):
            archive.writestr(f"in/{number}.txt", f"Invoice number A-1\nMember {number}\nTotal 12.50\n")
    return folder


def config_of(output: Path, **settings: Any) -> Config:
    """The model at its full price."""
    return ingest.configure(
        schema=SCHEMA,
        base_url="http://127.0.0.1:9/v1",
        output=output,
        jobs=4,
        settings={
            "asking": {"stream": False, "max_tokens": 1_000, "concurrency": 3},
            "reading": {"workers": 1},
            **settings,
        },
    )


def run(folder: Path, config: Config, executor: Any) -> tuple[list[Record[Any]], RunSummary]:
    """One run to its end."""

    async def drain() -> tuple[list[Record[Any]], RunSummary]:
        opened = OpenRun(config, lambda event: None, executor)
        try:
            async with aclosing(engine.records_of(opened, [folder])) as records:
                found = [record async for record in records]
            return found, await opened.finish()
        finally:
            await opened.close()

    return asyncio.run(drain())


def told(records: list[Record[Any]]) -> list[Any]:
    """Records as JSON, without what tells where an answer came from."""
    return [record.model_dump(mode="json") for record in records]


def test_records_do_not_depend_on_who_works_on_them(folder: Path, tmp_path: Path, api: Api) -> None:
    """A job that moves to a cluster gives the same records, in the same order, in one run."""
    here, at_home = run(folder, config_of(tmp_path / "here"), None)
    calls = api.calls
    config = config_of(tmp_path / "there")
    executor = Elsewhere(config)
    there, away = run(folder, config, executor)
    assert told(there) == told(here)
    assert [record.document.parent for record in there].count("more.zip") == 2
    assert len(executor.names) == 8, "an archive's members are done where it was unpacked"
    assert api.calls == 2 * calls
    ignored = {"elapsed_s", "output", "spending"}
    assert away.model_dump(exclude=ignored) == at_home.model_dump(exclude=ignored)
    assert away.spending.total_usd == at_home.spending.total_usd
    with Ledger(tmp_path / "there") as ledger:
        assert [one.finished_at is not None for one in ledger.runs.all()] == [True]
    again, summary = run(folder, config_of(tmp_path / "there"), Elsewhere(config))
    assert api.calls == 2 * calls
    assert summary.requests_sent == 0
    assert [record.data for record in again] == [record.data for record in here]
    for name in ("0.txt.json", "more.zip/in/1.txt.json", "records.jsonl"):
        assert (tmp_path / "there" / name).is_file()


def test_what_did_not_change_is_left_alone_elsewhere_too(folder: Path, tmp_path: Path, api: Api) -> None:
    """A nightly job on a cluster must not write, or count, what it left alone."""
    config = config_of(tmp_path / "out", finding={"changed_only": True})
    run(folder, config, Elsewhere(config))
    calls = api.calls
    (folder / "0.txt").write_text("Invoice number A-2\nTotal 12.50\n")
    records, _ = run(folder, config, Elsewhere(config))
    assert [record.document.name for record in records] == ["0.txt", "broken.pdf"]
    assert api.calls == calls + 1


def test_a_document_that_is_lost_is_one_failed_record(folder: Path, tmp_path: Path, api: Api) -> None:
    """A document that takes its workers down must not take the run with it."""
    (folder / "lost.txt").write_text("Invoice")
    config = config_of(tmp_path / "out")
    records, summary = run(folder, config, Elsewhere(config))
    (failed,) = [record for record in records if record.document.name == "lost.txt"]
    assert failed.status == "failed"
    assert "3 workers died" in failed.problems[0].message
    assert len(records) == len(summary.documents) == 11
    assert json.loads((tmp_path / "out" / "lost.txt.json").read_text())["status"] == "failed"


def test_workers_share_one_limit_on_money_and_on_calls(folder: Path, tmp_path: Path, api: Api) -> None:
    """Two workers with a limit each would spend it twice, and be throttled for the second half of their calls."""
    config = config_of(tmp_path / "out", budget={"max_cost_usd": "0.012"})
    _, summary = run(folder, config, Elsewhere(config, workers=3))
    assert summary.remaining is not None
    assert summary.spent_usd is not None
    assert 0 < summary.spent_usd <= Decimal("0.012")
    assert 0 < api.calls < 8
    assert api.widest <= 3


def test_what_a_dead_worker_held_is_free_and_its_money_is_spent() -> None:
    """A worker that is killed in the middle of calls must neither block the others nor let the limit be passed."""

    async def trial() -> None:
        holder = Holder(RateLimits(), 1, BudgetSettings(max_cost_usd=3 * CENT))
        line = Direct(holder)
        budget = BudgetSettings(max_cost_usd=3 * CENT)
        dying, other = FarLimits(line, "dying"), FarLimits(line, "other")
        stuck = dying.slot(10)
        await stuck.__aenter__()
        await FarBudget(line, "dying", budget).hold("a", 2 * CENT)
        waiting = asyncio.ensure_future(other.slot(10).__aenter__())
        purse = FarBudget(line, "other", budget)
        wish = asyncio.ensure_future(purse.hold("b", 2 * CENT))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert not wish.done()
        await holder.bury("dying")
        await waiting
        with pytest.raises(BudgetReached):
            await wish
        held = await purse.hold("b", CENT)
        purse.settle(held, CENT / 2)
        await asyncio.sleep(0)
        assert holder._budget.spent_usd == Decimal("0.025")
        assert await holder.enter("dying", 9, 1, 1) is False, "whoever was given up never comes back"

    asyncio.run(trial())


def test_a_silent_worker_loses_its_places() -> None:
    """Where nobody tells of a death, places come free after a while; a worker that lives keeps them."""

    async def trial() -> None:
        holder = Holder(RateLimits(), 2, BudgetSettings(), lease_s=0.6)
        line = Direct(holder)
        await FarLimits(line, "silent").slot(1).__aenter__()
        async with stand_ins(line, "alive", BudgetSettings(), lease_s=0.6) as shared, shared.limits.slot(1):
            assert await asyncio.wait_for(_entered(FarLimits(line, "next")), 5.0)
            await asyncio.sleep(0.8)
            assert holder._limits.gate.active == 1, "that of the one that is alive"

    asyncio.run(trial())


async def _entered(limits: FarLimits) -> bool:
    async with limits.slot(1):
        return True


def test_a_wish_that_is_withdrawn_leaves_nothing_behind() -> None:
    """Calls are cancelled while they wait, at the run's end above all; what they waited for must not be lost."""

    async def trial() -> None:
        holder = Holder(RateLimits(), 1, BudgetSettings(max_cost_usd=CENT))
        line = Direct(holder)
        limits, budget = FarLimits(line, "a"), FarBudget(line, "a", BudgetSettings(max_cost_usd=CENT))
        for steps in range(12):
            held = await budget.hold("x", CENT)
            async with limits.slot(1):
                wishes: list[Awaitable[Any]] = [_entered(limits), budget.hold("y", CENT)]
                tasks = [asyncio.ensure_future(wish) for wish in wishes]
                await asyncio.sleep(0)
                if steps % 2:
                    await asyncio.sleep(0.001)
            budget.settle(held, Decimal(0))
            for _ in range(steps // 2):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(result, BaseException | bool):
                    budget.settle(result, Decimal(0))
            await asyncio.sleep(0.005)
            assert holder._limits.gate.active == 0
            assert holder._budget._run.held_usd == 0

    asyncio.run(trial())


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who asks for a cluster without Ray should read what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ingest.execute.ray", raising=False)
    with pytest.raises(ConfigError, match=r"ingest\[ray\]"):
        load_executor(config_of(tmp_path, execute={"executor": "ray"}))
