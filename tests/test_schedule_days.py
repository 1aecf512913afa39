"""Days of a folder that changes under a scheduled digest: every change is told exactly once, and none is invented."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

import ingest
from ingest.keeping.ledger import Ledger
from ingest.keeping.ledger.schedules import Schedule
from tests.conftest import ROOT
from tests.webhooks import Webhook, webhook

pytest.importorskip("apprise", reason="needs the extra digest")
pytest.importorskip("cronsim", reason="needs the extra digest")
pytest.importorskip("jmespath", reason="needs the extra digest")
from pipelines import digest
from pipelines.schedule import jobs

BERLIN_CLOCKS_CHANGE = datetime(2026, 3, 29, tzinfo=UTC)
"""Summer time begins: there is no 02:30 in Berlin on that day, so the job of 02:30 is due at 03:00, 01:00 UTC."""
SCHEMA = {
    "type": "object",
    "properties": {"invoice_number": {"type": "string"}, "total": {"type": "number"}, "due_date": {"type": "string"}},
}
BROKEN = -1
"""Stands for the total of a file that cannot be read: it is empty."""

Told = tuple[str, ...]
"""A change in a form that the folder's own book and a digest share: kind, names, totals."""


@dataclass
class Folder:
    """The inbox and its own book: what stands in which file."""

    path: Path
    book: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    def add(self, total: int) -> None:
        """A new document."""
        name = f"sub/doc {next(self.numbers)}.txt" if total % 3 else f"doc{next(self.numbers)}.txt"
        self._write(name, total)

    def replace(self, name: str, total: int) -> None:
        """Another version of a document under its name."""
        self._write(name, total)

    def remove(self, name: str) -> None:
        """A document goes."""
        (self.path / name).unlink()
        del self.book[name]

    def rename(self, name: str) -> None:
        """A document gets another name."""
        new = f"{Path(name).stem} renamed {next(self.numbers)}.txt"
        (self.path / name).rename(self.path / new)
        self.book[new] = self.book.pop(name)

    def touch(self, name: str) -> None:
        """A document is written again as it was, which is no change."""
        text = (self.path / name).read_text(encoding="utf-8")
        (self.path / name).write_text(text, encoding="utf-8")

    def _write(self, name: str, total: int) -> None:
        self.book[name] = total
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = "".join(char for char in name if char.isdigit())
        text = "" if total == BROKEN else f"Invoice number: INV-{number}\nDue date: 2026-04-01\nTotal: {total}.00\n"
        path.write_text(text, encoding="utf-8")

    def spend_a_day(self, chance: random.Random) -> None:
        """Some of everything that happens to folders."""
        for _ in range(chance.randint(1, 4)):
            kinds = ["add", "add"] if len(self.book) < 3 else ["add", "replace", "remove", "rename", "touch", "break"]
            kind = chance.choice(kinds)
            name = chance.choice(sorted(self.book)) if self.book else ""
            total = chance.randint(100, 9_999)
            if kind == "add":
                self.add(total)
            elif kind in ("replace", "break"):
                self.replace(name, total if kind == "replace" else BROKEN)
            elif kind == "remove":
                self.remove(name)
            elif kind == "rename" and self.book[name] != BROKEN:
                self.rename(name)
            elif kind == "touch":
                self.touch(name)
            else:
                continue
            self.done.add(kind)


def apply(told: list[Told], book: dict[str, int]) -> None:
    """Do to a book what a digest tells; a change that does not fit it was told twice, or invented."""
    for kind, *words in sorted(told, key=lambda one: one[0] == "added"):
        if kind == "added":
            assert words[0] not in book, f"{words[0]} was told before"
            book[words[0]] = int(words[1])
        elif kind == "removed":
            del book[words[0]]
        elif kind == "renamed":
            book[words[1]] = book.pop(words[0])
        elif kind in ("changed", "failed", "recovered"):
            before = book[words[0]]
            book[words[0]] = int(words[1])
            assert before != book[words[0]], f"{words[0]} did not change"
        else:
            raise AssertionError(kind)


def told_by(page: digest.Digest, book: dict[str, int]) -> list[Told]:
    """What a digest tells of documents, checked fact by fact against the book before it."""
    found: list[Told] = []
    for one in page.documents:
        total = BROKEN if one.status == "failed" else None
        for fact in one.facts:
            if fact.pointer == "/total" and one.kind != "removed" and one.status != "failed":
                total = int(fact.new)
                if one.kind == "changed":
                    assert int(fact.old) == book[one.name], "the old value is not what was told before"
        if one.kind in ("removed", "renamed"):
            found.append(("removed", one.name) if one.kind == "removed" else ("renamed", str(one.was), one.name))
            if one.kind == "renamed" and total is not None:
                found.append(("changed", one.name, str(total)))
            continue
        if one.kind == "failed" and one.name not in book:
            found.append(("added", one.name, str(BROKEN)))
            continue
        assert total is not None, f"{one.name} is {one.kind}, and its total is not told"
        found.append((one.kind, one.name, str(total)))
    return found


WORKER = """
import sys
from datetime import datetime
from pathlib import Path
from pydantic import SecretStr
from tests.test_schedule_days import config_of, settings_of
from pipelines import digest
base, moment, url = sys.argv[1:]
digest.run([Path(base) / "inbox"], config_of(Path(base)), settings_of(url), now=lambda: datetime.fromisoformat(moment))
"""


def config_of(base: Path) -> ingest.Config:
    return ingest.configure(schema=SCHEMA, output=base / "out", local=True, settings={"reading": {"workers": 1}})


def settings_of(url: str) -> digest.DigestSettings:
    return digest.DigestSettings(name="morning", to=(SecretStr(url),))


class Killed(BaseException):
    """The daemon died with what it ran."""


@dataclass
class World:
    """A folder, a daemon with a simulated clock, and somebody who gets the digests."""

    base: Path
    hook: Webhook
    folder: Folder
    now: datetime
    kill_next: bool = False
    killed_over: str = ""

    def run_job(self, schedule: Schedule, log: Path, lock: int, renew: Callable[[], object]) -> int:
        """Stands where the daemon starts `ingest digest`, so that the job has the simulated clock."""
        if self.kill_next:
            self.kill_next = False
            self._run_and_kill()
            raise Killed
        inbox, settings = [self.folder.path], settings_of(self.hook.url())
        made = digest.run(inbox, config_of(self.base), settings, now=lambda: self.now)
        return 0 if made.is_fine else 1

    def _run_and_kill(self) -> None:
        """Kill -9 at the worst moment: the webhook has the digest, and nobody noted that it has."""
        arguments = (str(self.base), self.now.isoformat(), self.hook.url())
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        self.hook.before = lambda: os.kill(process.pid, signal.SIGKILL)
        _, told = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, told
        self.killed_over = self.hook.got[-1]["title"]
        self.hook.before = lambda: None

    def pages(self) -> list[digest.Digest]:
        """Every digest made, oldest first, as it stands in its file."""
        files = (self.base / "out" / "digests").rglob("digest.json")
        found = [digest.Digest.model_validate(json.loads(file.read_text(encoding="utf-8"))) for file in files]
        return sorted(found, key=lambda page: page.window_end)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "inbox").mkdir()
    with webhook() as hook:
        yield World(tmp_path, hook, Folder(tmp_path / "inbox"), BERLIN_CLOCKS_CHANGE)


def live(world: World, days: int, crash: int, down: range, change: int, seed: int) -> None:
    """Days go by, hour by hour: people work at noon, the digest is due at 02:30 of Berlin, and things go wrong."""
    chance = random.Random(seed)
    start = BERLIN_CLOCKS_CHANGE - timedelta(days=change - 1)
    world.now = start - timedelta(hours=6)
    with Ledger(world.base / "state") as ledger:
        jobs.add(ledger, "morning", "30 2 * * *", "Europe/Berlin", ("digest", "inbox"), world.base, world.now)
        desk = jobs.Desk(ledger, world.base / "state", world.run_job, lambda: world.now)
        world.folder.add(500)
        for hour in range(-6, days * 24):
            day = hour // 24 + 1
            world.now = start + timedelta(hours=hour, minutes=5)
            if hour % 24 == 12 and day < days:
                world.folder.spend_a_day(chance)
                if day == crash - 1:
                    world.folder.add(700)  # there must be something to be killed over
            if day in down:
                continue
            world.kill_next |= day == crash and hour % 24 == 0
            schedule = ledger.schedules.get("morning")
            assert schedule is not None
            if not jobs.dues(schedule, world.now):
                continue  # as the daemon does
            try:
                jobs.run_due(desk, "morning")
            except Killed:
                continue
        runs = ledger.schedules.runs("morning", 100)[::-1]
    check_runs(runs_by_day=[(run.started_at, run.due_count, run.exit_code) for run in runs], start=start, days=days,
               crash=crash, down=down)  # fmt: skip


def check_runs(
    runs_by_day: list[tuple[datetime, int, int | None]], start: datetime, days: int, crash: int, down: range
) -> None:
    """Once a day; once more after the crash; once for all the days that were missed."""
    counts: dict[int, list[int]] = {}
    for started_at, due_count, _ in runs_by_day:
        counts.setdefault((started_at - start) // timedelta(days=1) + 1, []).append(due_count)
    expected = {day: [1] for day in range(1, days + 1) if day not in down}
    expected[crash] = [1, 1]
    expected[down.stop] = [len(down), 1]
    assert counts == expected
    on_change = [at for at, _, _ in runs_by_day if at.date() == BERLIN_CLOCKS_CHANGE.date()]
    assert [f"{at:%H:%M}" for at in on_change] == ["01:05"], "02:30 does not exist; the clocks jump at 01:00 UTC"


def check_told(world: World) -> None:
    """The digests, read one after the other, lead from an empty folder to the one that is there."""
    book: dict[str, int] = {}
    pages = world.pages()
    kinds = {one.kind for page in pages for one in page.documents}
    assert kinds >= {"added", "changed", "removed", "renamed", "failed"}
    for page in pages:
        told = told_by(page, book)
        assert told, "a digest of nothing was made"
        assert len({one[-1] if one[0] == "renamed" else one[1] for one in told}) >= len(page.documents)
        apply(told, book)
    assert book == world.folder.book
    titles = [got["title"] for got in world.hook.got]
    assert len(titles) == len(pages), "every digest is delivered once, that of the killed process too"


SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (0, 2))]


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_days(world: World, seed: int) -> None:
    """An operator reads the digests instead of the folder: what they miss, nobody sees, whatever goes wrong.

    Every kind of change, a crash on day 5, the daemon down on days 9 to 11, summer time on day 15.
    """
    live(world, days=20, crash=5, down=range(9, 12), change=15, seed=seed)
    assert world.folder.done == {"add", "replace", "remove", "rename", "touch", "break"}
    check_told(world)
    # The killed process left one delivery of which nobody knows whether it arrived; it is sent again when asked for.
    settings = settings_of(world.hook.url()).model_copy(update={"resend": True})
    made = digest.run([world.folder.path], config_of(world.base), settings, now=lambda: world.now)
    assert [one.state for one in made.deliveries] == ["sent"]
    repeated = world.hook.got[-1]["title"]
    assert repeated == world.killed_over
