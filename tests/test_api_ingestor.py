"""One Ingestor for many calls: what they share, who may call it and from where, and how calls end."""

from __future__ import annotations

import asyncio
import inspect
import json
import multiprocessing
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import ingest
from ingest import errors
from ingest.api.settings import Settings
from ingest.engine import session
from ingest.errors import Cancelled, ConfigError, Encrypted, IngestError, Unreadable, UnsupportedMedia
from ingest.record import Record, RunSummary
from ingest.types import Event
from tests.money import TextWorkers, paid_config, start_service, write_pages
from tests.scripted_model import SCHEMA, ScriptedModel


class HeldModel(ScriptedModel):
    """A scripted model that keeps every call after the first `free` ones until it is let go."""

    free = 10**6

    def __post_init__(self) -> None:
        self.waiting = threading.Event()
        self.let_go = threading.Event()
        self.arrived = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait, then answer."""
        self.arrived += 1
        if self.arrived > self.free:
            self.waiting.set()
            while not self.let_go.is_set():
                await asyncio.sleep(0.005)
        await super().__call__(scope, receive, send)


class Row(BaseModel):
    """A line of a document."""

    name: str
    amount: float


class Title(BaseModel):
    """A user's class."""

    title: str | None
    rows: list[Row]


class Touchy(BaseModel):
    """A user's class whose validator is not written as pydantic wants it."""

    title: str | None
    rows: list[Row]

    @field_validator("title")
    @classmethod
    def _looks_up(cls, value: str | None) -> str:
        return {"known": "yes"}[value or ""]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldModel]:
    """A model in the embedded engine's place; files are read in this process."""
    scripted = HeldModel()
    scripted.__post_init__()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    monkeypatch.setattr(session, "Workers", TextWorkers)
    yield scripted
    scripted.let_go.set()


def write(folder: Path, *titles: str) -> list[Path]:
    """One small document for each title."""
    folder.mkdir(parents=True, exist_ok=True)
    for title in titles:
        (folder / f"{title}.txt").write_text(f"TITLE: {title}\nROW a 1\n", encoding="utf-8")
    return [folder / f"{title}.txt" for title in titles]


def make(output: Path | None = None, **options: Any) -> ingest.Ingestor:
    """An Ingestor for the scripted model."""
    return ingest.Ingestor(schema=SCHEMA, local=True, output=output, **options)


def titles_of(records: Any) -> list[str]:
    """What was found in records."""
    return [record.data["title"] for record in records]


def test_calls_share_one_run(tmp_path: Path, model: HeldModel) -> None:
    """A service that takes documents one by one must not open ledger, workers and client for each."""
    one, two = write(tmp_path, "one", "two")
    with make(tmp_path / "out") as ingestor:
        assert ingestor.extract(one).data["title"] == "one"
        assert ingestor.plan([one, two]).totals.requests == 1
        assert titles_of(ingestor.run([one, two])) == ["one", "two"]
        assert ingestor.summary().requests_sent == len(model.calls) == 2
        assert ingestor.spending().calls == 2
        assert not (tmp_path / "out" / "run.json").exists()
    written = RunSummary.model_validate_json((tmp_path / "out" / "run.json").read_text())
    assert written == ingestor.summary()
    assert [row.name for row in written.documents] == ["one.txt", "two.txt"]
    with ingest.open_ledger(tmp_path / "out") as ledger:
        assert {posting.run_id for posting in ledger.attempts.postings()} == {1}


def test_files_of_one_name_keep_their_records_apart(tmp_path: Path, model: HeldModel) -> None:
    """Every folder has its `scan.pdf`; the second must not take the place of the first."""
    (one,), (other,) = (write(tmp_path / folder, "scan") for folder in ("a", "b"))
    other.write_text("TITLE: other\nROW a 1\n", encoding="utf-8")
    with make(tmp_path / "out") as ingestor:
        names = [ingestor.extract(path).document.name for path in (one, other, one, other)]
        assert ingestor.plan([other]).documents[0].name == names[1]
    assert names[:2] == names[2:]
    assert names[0] == "scan.txt"
    kept = [json.loads((tmp_path / "out" / f"{name}.json").read_text())["data"]["title"] for name in names[:2]]
    assert kept == ["scan", "other"]
    lines = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["document"]["name"] for line in lines] == names[:2], "one line a document, however often"


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    """A module may make its Ingestor on import: no thread, no folder, no lock until the first call."""
    before = threading.active_count()
    with make(tmp_path / "out") as ingestor:
        with pytest.raises(ConfigError):
            ingestor.extract(tmp_path / "nowhere.pdf")
        assert not (tmp_path / "out").exists()
    assert threading.active_count() == before
    with pytest.raises(ConfigError, match="closed"):
        ingestor.extract(tmp_path)


def test_a_wrong_setting_is_told_at_once() -> None:
    """Better when the program starts than with its first document."""
    with pytest.raises(ConfigError):
        ingest.Ingestor(schema={"type": "nonsense"}, local=True)
    with pytest.raises(ConfigError, match="max_cost"):
        ingest.Ingestor(ingest.configure(schema=SCHEMA, local=True), max_cost=1)
    with pytest.raises(ConfigError, match="on_error"):
        make(on_error="ignore")


def test_the_keywords_are_those_of_configure() -> None:
    """Two lists of the same keywords drift apart unless somebody looks."""
    assert set(Settings.__annotations__) | {"schema"} == set(inspect.signature(ingest.configure).parameters)


def test_one_limit_on_money_for_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that began anew with each document would be none."""
    start_service(monkeypatch)
    paths = [write_pages(tmp_path / "in" / f"{number}.txt", number, 1) for number in range(12)]
    limit = Decimal("0.012")
    with ingest.Ingestor(paid_config(tmp_path / "out", limit=limit)) as ingestor:
        records = [ingestor.extract(path) for path in paths]
        spent_usd = ingestor.summary().spent_usd
    assert records[0].status != "skipped"
    assert records[-1].status == "skipped"
    assert spent_usd is not None
    assert 0 < spent_usd <= limit


def test_threads_may_share_one(tmp_path: Path, model: HeldModel) -> None:
    """A web server calls from many threads; a document that two of them ask for is asked about once."""
    paths = write(tmp_path, *(f"t{number}" for number in range(8)))
    with make() as ingestor, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ingestor.extract, paths * 2))
    assert titles_of(found) == [path.stem for path in paths] * 2
    assert len(model.calls) == 8


def test_a_running_loop_is_no_obstacle(tmp_path: Path, model: HeldModel) -> None:
    """In a notebook a loop runs already: plain calls and asynchronous ones work there, on one and the same Ingestor."""
    one, two, three = write(tmp_path, "one", "two", "three")
    ingestor = make()

    async def cell(path: Path) -> list[str]:
        async with asyncio.timeout(60):
            plain = ingestor.extract(path)
            streamed = [record async for record in ingestor.stream([path])]
            both = await asyncio.gather(ingestor.extract_async(path), ingestor.extract_async(three))
            await ingestor.plan_async([path])
            return titles_of([plain, *streamed, *both])

    assert asyncio.run(cell(one)) == ["one", "one", "one", "three"]
    assert asyncio.run(cell(two)) == ["two", "two", "two", "three"]
    ingestor.close()
    assert len(model.calls) == 3

    async def asynchronously() -> Record:
        async with make() as other:
            return await other.extract_async(one)

    assert asyncio.run(asynchronously()).status == "complete"


def test_leaving_an_iteration_early_leaves_the_ingestor_in_order(tmp_path: Path, model: HeldModel) -> None:
    """What was answered is kept, what was under way is let go, and the next call finds all in order."""
    paths = write(tmp_path, *(f"t{number}" for number in range(6)))
    model.free = 1
    with make(tmp_path / "out", jobs=1) as ingestor:
        for record in ingestor.run(paths):
            assert record.data["title"] == "t0"
            break
        model.let_go.set()
        assert titles_of(ingestor.run(paths)) == [path.stem for path in paths]
    assert model.calls.count([1]) == 6
    assert not (tmp_path / "out" / "run.json").exists(), "a call was cut short: nobody may take this for all"


def test_cancelling_ends_calls_and_keeps_answers(tmp_path: Path, model: HeldModel) -> None:
    """Somebody pressed stop: the call says so, and going on later pays nothing twice."""
    paths = write(tmp_path, *(f"t{number}" for number in range(4)))
    model.free = 2
    with make(tmp_path / "out", jobs=1) as ingestor:

        def stop() -> None:
            model.waiting.wait(30)
            ingestor.cancel()

        stopper = threading.Thread(target=stop)
        stopper.start()
        got: list[Record] = []
        with pytest.raises(Cancelled):
            got.extend(ingestor.run(paths))
        stopper.join()
        assert titles_of(got) == ["t0", "t1"]
        model.let_go.set()
        assert len(list(ingestor.run(paths))) == 4
        assert ingestor.summary().spending.calls == 5, "two answered, one lost with the cancelling, two more"


def test_cancelling_from_a_hook_and_closing_from_a_thread(tmp_path: Path, model: HeldModel) -> None:
    """Neither may wait for itself."""
    paths = write(tmp_path, "one", "two")

    def observe(event: Event) -> None:
        if event.kind == "request_finished":
            ingestor.cancel()

    with make(observer=observe) as ingestor, pytest.raises(Cancelled):
        list(ingestor.run(paths))

    model.free = model.arrived
    other = make()
    closer = threading.Thread(target=lambda: (model.waiting.wait(30), other.close()))
    closer.start()
    with pytest.raises((Cancelled, ConfigError)):
        other.extract(paths[0])
    closer.join()


def test_cancelling_a_task_ends_its_call_alone(tmp_path: Path, model: HeldModel) -> None:
    """A web framework cancels the handler of a client that went away; the others go on."""
    one, two = write(tmp_path, "one", "two")
    model.free = 0

    async def serve() -> Record:
        async with make() as ingestor:
            gone, stays = (asyncio.create_task(ingestor.extract_async(path)) for path in (one, two))
            await asyncio.to_thread(model.waiting.wait, 30)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            model.let_go.set()
            return await stays

    assert asyncio.run(serve()).data["title"] == "two"


def test_hooks_see_everything_and_cannot_hurt_by_accident(tmp_path: Path, model: HeldModel) -> None:
    """A progress bar that fails is a nuisance; a record that the caller could not store is an error."""
    paths = write(tmp_path, "one", "two")
    seen: list[Event] = []
    kept: list[str] = []
    here = threading.get_ident()

    def keep(record: Record[Any]) -> None:
        assert threading.get_ident() == here
        kept.append(record.document.name)

    with make(observer=seen.append, on_record=keep) as ingestor:
        list(ingestor.run(paths))
    assert kept == ["one.txt", "two.txt"]
    assert seen[0].kind == "run_started"
    assert {event.name for event in seen if event.kind == "document_finished"} == set(kept)

    def fail(*_: object) -> None:
        raise OSError("the disk of the caller is full")

    with make(observer=fail) as ingestor:
        assert len(list(ingestor.run(paths))) == 2
    with make(on_record=fail) as ingestor, pytest.raises(OSError, match="disk of the caller"):
        ingestor.extract(paths[0])


def test_a_hook_that_waits_for_its_own_ingestor_is_told(tmp_path: Path, model: HeldModel) -> None:
    """Silence would be a deadlock."""
    told: list[str] = []

    def observe(event: Event) -> None:
        for wrong in (ingestor.summary, ingestor.close):
            try:
                wrong()
            except ConfigError as error:
                told.append(str(error))

    with make(observer=observe) as ingestor:
        ingestor.extract(write(tmp_path, "one")[0])
    assert len(told) >= 2
    assert all("observer" in line for line in told)


def test_records_may_come_as_errors(tmp_path: Path, fixtures_folder: Path) -> None:
    """Who writes `try` gets the class of what is wrong, and the record with it."""
    folder = fixtures_folder / "damaged"
    locked = next(path for path in (fixtures_folder / "documents" / "encrypted").rglob("*.pdf"))
    with ingest.Ingestor(schema=SCHEMA, local=True, on_error="raise") as ingestor:
        for path, kind in (
            (folder / "broken.jpg", Unreadable),
            (folder / "unknown.bin", UnsupportedMedia),
            (locked, Encrypted),
        ):
            with pytest.raises(kind) as caught:
                ingestor.extract(path)
            assert path.name in str(caught.value)
            record = pickle.loads(pickle.dumps(caught.value)).record
            assert record.status == "failed"
            assert record.document.name == path.name
        with pytest.raises(Unreadable):
            list(ingestor.run([folder]))
    assert ingest.extract(folder / "broken.jpg", schema=SCHEMA, local=True).status == "failed"


def test_a_validator_that_fails_in_its_own_way_spoils_one_record(tmp_path: Path, model: HeldModel) -> None:
    """It is the caller's code; a KeyError in it must not end a run over thousands."""
    paths = write(tmp_path, "known", "unknown")
    with ingest.Ingestor(schema=Touchy, local=True) as ingestor:
        good, bad = ingestor.run(paths)
    assert (good.status, bad.status) == ("complete", "partial")
    with ingest.Ingestor(schema=Touchy, local=True, on_error="raise") as ingestor:
        with pytest.raises(errors.OffSchema, match="unknown") as caught:
            ingestor.extract(paths[1])
        assert caught.value.record is not None
        assert caught.value.record.status == "partial"
    assert good.data is not None
    assert good.data.title == "yes"
    assert bad.data is None
    assert "KeyError" in bad.problems[-1].message


def test_what_crosses_processes_pickles(tmp_path: Path, model: HeldModel) -> None:
    """Executors and orchestrators send settings out and records back."""
    (path,) = write(tmp_path, "one")
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path / "out")
    with ingest.Ingestor(config, schema=Title, on_error="raise") as ingestor:
        typed = ingestor.extract(path)
        summary = ingestor.summary()
    plain = ingest.extract(path, config=config)
    for value in (config, plain, typed, summary):
        assert pickle.loads(pickle.dumps(value)) == value
    assert isinstance(pickle.loads(pickle.dumps(typed)).data, Title)
    with pickle.loads(pickle.dumps(ingestor)) as restored:
        assert restored.config == ingestor.config
        assert isinstance(restored.extract(path).data, Title)


def test_every_error_pickles() -> None:
    """A worker's error that cannot be unpickled hides what was wrong."""
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, IngestError)]
    for kind in kinds:
        error = pickle.loads(pickle.dumps(kind("what happened", 3)))
        assert (type(error), error.message, error.part_index) == (kind, "what happened", 3)


def test_an_iterator_that_is_forgotten_ends_its_call(tmp_path: Path, model: HeldModel) -> None:
    """Nobody closes generators by hand: `next(run(...))` must not leave work behind."""
    paths = write(tmp_path, "one", "two", "three")
    model.free = 1
    with make(jobs=1) as ingestor:
        first = next(ingestor.run(paths))
        assert first.data["title"] == "one"
        deadline = time.monotonic() + 10
        while ingestor._calls and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not ingestor._calls


def test_the_summary_is_json(tmp_path: Path, model: HeldModel) -> None:
    """Orchestrators pass it on as text."""
    with make() as ingestor:
        ingestor.extract(write(tmp_path, "one")[0])
    assert json.loads(ingestor.summary().model_dump_json())["complete"] == 1


def _ask(ingestor: ingest.Ingestor, path: Path, queue: Any) -> None:
    """What a child process does with the Ingestor of its parent."""
    with ingestor:
        record = ingestor.extract(path)
        queue.put((record.status, ingestor.summary().requests_sent, threading.active_count() > 1))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_have_one_of_their_own(tmp_path: Path, method: str) -> None:
    """Process pools of either kind are everywhere; a child that waits for its parent's threads waits for ever."""
    (path,) = write(tmp_path / "in", "one")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    with make(tmp_path / "out") as ingestor:
        assert ingestor.extract(path).status == "complete"
        child = context.Process(target=_ask, args=(ingestor, path, queue))
        child.start()
        assert queue.get(timeout=60) == ("complete", 0, True), "the child reads the answers that its parent bought"
        child.join(30)
        assert child.exitcode == 0
        assert ingestor.extract(path).status == "complete"
    with make(tmp_path / "out") as after:
        assert after.extract(path).status == "complete"
