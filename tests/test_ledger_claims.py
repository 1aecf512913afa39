"""Who asks when a run was stopped, lost its ledger, or cut a document further than another one that waits for it."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.config import KeepingSettings
from ingest.engine import session
from ingest.engine.in_flight import Rooms
from ingest.engine.session import Session
from ingest.engine.turns import Turns
from ingest.errors import LedgerError
from ingest.keeping.ledger import Ledger, claims
from ingest.keeping.ledger.database import Database
from ingest.planning.chunks import Planner, split_chunk
from ingest.types import Chunk, Document
from tests.money import PAGE_BREAK, TextWorkers
from tests.reading_samples import describe_file
from tests.scripted_model import SCHEMA, ScriptedModel

pytest.importorskip("fcntl", reason="needs locks of files")


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lock files of these tests are in a folder of their own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary" / f"ingest-{os.getuid()}"


def test_a_stopped_run_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z in one shell must not block the others; a run that is only slow keeps what it claimed."""
    at_s = 0.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: at_s)
    with Ledger(tmp_path) as stopped, Ledger(tmp_path) as other:
        stopped.claims.enter(1, 60)
        other.claims.enter(2, 60)
        assert stopped.claims.take("key")
        assert not other.claims.take("key")
        at_s = 59
        assert not other.claims.take("key")
        time.sleep(0.002)  # seen at another millisecond
        stopped.claims.beat()
        at_s = 119
        assert not other.claims.take("key")
        assert other.claims.live_runs() == {1, 2}
        at_s = 180
        assert other.claims.take("key")
        # It goes on, and is one of the living again; what it lost stays with the other.
        stopped.claims.beat()
        assert other.claims.live_runs() == {1, 2}
        stopped.claims.release("key")
        assert stopped.claims.take("next")
        assert not stopped.claims.take("key")


def test_a_run_tells_the_others_that_it_lives(tmp_path: Path) -> None:
    """On another machine a run of many hours is known by nothing else."""

    async def main() -> None:
        with Ledger(tmp_path) as ledger, Ledger(tmp_path) as other:
            settings = KeepingSettings.model_construct(claim_timeout_s=0.05)
            async with Turns(ledger, settings, Rooms(1), 1).claiming():
                first = _seen(other)
                deadline = time.monotonic() + 20
                while _seen(other) == first:
                    assert time.monotonic() < deadline, "it was silent"
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def _seen(ledger: Ledger) -> str:
    with ledger._database.reading() as connection:
        return str(connection.exec_driver_sql("SELECT seen_at FROM owners").scalar_one())


def test_a_run_that_loses_the_ledger_at_its_end_is_known_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: Path
) -> None:
    """Else who starts again at once waits a minute for a run that has told of its own end."""
    gone = Ledger(tmp_path)
    gone.claims.enter(1, 3_600)
    assert gone.claims.take("key")
    with monkeypatch.context() as patch:
        patch.setattr(Database, "quick_transaction", _away)
        gone.close()
    with Ledger(tmp_path) as later:
        assert later.claims.live_runs() == frozenset()
        later.claims.enter(2, 3_600)
        assert later.claims.take("key")
        assert len(list(locks.iterdir())) == 1
    assert list(locks.iterdir()) == []


def _away(_: Database) -> Any:
    raise LedgerError("the server is away")


def test_old_locks_of_killed_runs_are_cleared_away(tmp_path: Path, locks: Path) -> None:
    """Each killed run leaves an empty file, and its ledger may never be opened again."""
    with Ledger(tmp_path / "one") as living:
        living.claims.enter(1, 60)
        (held,) = locks.iterdir()
        (locks / "new.lock").touch()
        (locks / "old.lock").touch()
        for path in (held, locks / "old.lock"):
            os.utime(path, (0, 0))
        with Ledger(tmp_path / "two") as other:
            other.claims.enter(1, 60)
            assert {held, locks / "new.lock"} < set(locks.iterdir())
            assert not (locks / "old.lock").exists()


def test_a_run_follows_another_that_cut_the_document_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ask for the same pieces, also where each learns of another chunk that it is too long."""
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(ScriptedModel()))
    monkeypatch.setattr(session, "Workers", TextWorkers)
    pages = [f"ROW r{number} {number}\n{'plain words ' * 40}" for number in range(12)]
    path = tmp_path / "a.txt"
    path.write_text(PAGE_BREAK.join(pages), encoding="utf-8")
    too_long: set[int] = set()

    def replan(_: Planner, document: Document, chunk: Chunk) -> tuple[Chunk, ...]:
        return split_chunk(chunk) if chunk.owned[0].index in too_long else (chunk,)

    monkeypatch.setattr(Planner, "replan", replan)
    planning = {"target_tokens": 1_400}
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out", settings={"planning": planning})

    async def main() -> None:
        async with AsyncExitStack() as stack:
            one, two = [await stack.enter_async_context(Session(config, lambda event: None)) for _ in range(2)]
            await one.begin()
            await two.begin()
            document = await one.workers.open(describe_file(path))
            cut, other = one.cut(document), two.cut(document)
            assert _pages(cut.chunks) == _pages(other.chunks)
            first, last = cut.chunks[0], cut.chunks[-1]
            assert len(first.owned) > 1
            assert len(last.owned) > 1
            too_long.add(first.owned[0].index)
            pieces = one.replan(document, first)
            too_long.clear()
            assert _pages(two.replan(document, first)) == _pages(pieces) != _pages([first])
            too_long.add(last.owned[0].index)
            two.replan(document, last)
            too_long.clear()
            assert len(one.replan(document, last)) == 2
            assert len(one.replan(document, first)) == 2
            assert _pages(cut.chunks) == _pages(other.chunks)

    asyncio.run(main())


def _pages(chunks: Any) -> list[list[int]]:
    return [[part.number for part in chunk.owned] for chunk in chunks]
