"""The ledger on every database it is kept in: the same behaviour in memory, in a SQLite file, and in PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.engine.accounts import spending_of
from ingest.errors import Busy, ConfigError, LedgerError, NewerVersion
from ingest.keeping.ledger import Ending, Ledger, Start
from ingest.keeping.ledger.database import Database
from ingest.keeping.ledger.migrations import MIGRATIONS
from ingest.record import Coverage, DocumentInfo, ModelInfo, ProblemInfo, RecipeInfo, Record, Status, UsageInfo
from ingest.types import Bill, Observation, PageWords, Reply, Usage, Word
from tests.postgres import Postgres

REPLY = Reply(
    '{"a": "ü"}',
    "stop",
    Usage(120, 30, 5, 10),
    "some-model",
    "req-1",
    (PageWords(2, (Word("total", (0.1, 0.2, 0.3, 0.4)),)),),
)
START = Start("k", "a.pdf", "invoices", 1, False, Decimal("0.5"))
PATIENT_S = 60.0


@dataclass
class Place:
    """Where a ledger is: opened as often as a test likes."""

    folder: Path | None
    url: str | None = None

    @contextmanager
    def open(self) -> Iterator[Ledger]:
        """The ledger."""
        with Ledger(self.folder, self.url) as ledger:
            yield ledger


@pytest.fixture(params=["memory", "file", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new ledger of each kind."""
    return new_place(request, tmp_path)


@pytest.fixture(params=["file", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new ledger of each kind that several can open."""
    return new_place(request, tmp_path)


def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new ledger of the kind that is asked for."""
    if request.param == "postgresql":
        return Place(None, request.getfixturevalue("postgres").database("postgresql"))
    return Place(tmp_path if request.param == "file" else None)


def record(name: str, status: Status = "complete", total: object = 1) -> Record[dict[str, Any]]:
    """What became of a document."""
    return Record[dict[str, Any]](
        document=DocumentInfo(name=name, uri=f"file:///{name}", sha256="s", size_bytes=1, media_type="text/plain"),
        data={"total": total},
        status=status,
        coverage=Coverage(total=1, answered=1),
        problems=() if status == "complete" else (ProblemInfo(stage="ask", code="x", message="not\x00good"),),
        usage=UsageInfo(),
        model=ModelInfo(profile="p", model="m", endpoint="e", protocol="chat"),
        recipe=RecipeInfo(name="invoices", schema_sha256="1", instructions_sha256="2"),
        keys=("k",),
    )


def test_an_answer_comes_back_as_it_was(place: Place) -> None:
    """A record made from the ledger must be the one made from the reply, whatever the model wrote."""
    odd = replace(REPLY, text='{"a": "\x00\ud800ß"}', page_words=(PageWords(1, (Word("\x00", (0, 0, 1, 1)),), 2.5),))
    with place.open() as ledger:
        ledger.answers.store("k", REPLY)
        ledger.answers.store("odd", odd)
        ledger.answers.store("k", Reply("{}", "stop", Usage(), "m"))
        assert ledger.answers.get("k") == REPLY
        assert ledger.answers.get("odd") == odd
        assert ledger.answers.get("other") is None
        assert (ledger.answers.has("k"), ledger.answers.has("other")) == (True, False)


def test_a_later_run_replaces_what_it_asked_again(place: Place) -> None:
    """`--fresh` and `--retry` use no older answer, and never one that a run after them got is lost."""
    newer = replace(REPLY, text="{}")
    with place.open() as ledger:
        ledger.answers.store("k", REPLY, run_id=3)
        assert ledger.answers.get("k", since_run=4) is None
        assert not ledger.answers.has("k", since_run=4)
        ledger.answers.store("k", newer, run_id=4, replaces=True)
        assert ledger.answers.get("k", since_run=4) == newer
        ledger.answers.store("k", REPLY, run_id=3, replaces=True)
        assert ledger.answers.get("k") == newer


def test_an_answer_its_bill_and_its_claim_are_one(shared: Place) -> None:
    """Neither a paid answer without its bill nor a claim on what is answered may be left behind."""
    bill = Bill(127_999, Decimal("0.0000001"), Decimal(0), Decimal("0.2"), Decimal("0.03"))
    ending = Ending("answered", "", 0.1, "usage", REPLY.usage, bill, bill.total_usd, is_cut_off=True)
    learned = ("m", "e", Observation((("text", 90), ("fixed", 20)), 90, 120, 25))
    with shared.open() as ledger, shared.open() as other:
        run = ledger.runs.start("invoices", "m", "e")
        owner = ledger.claims.enter(run, PATIENT_S)
        other.claims.enter(other.runs.start("invoices", "m", "e"), PATIENT_S)
        assert ledger.claims.take("k")
        number = ledger.attempts.start(run, START)
        assert not other.claims.take("k")
        ledger.answers.store("k", REPLY, settled=(number, ending), learned=learned, owner=owner)
        assert other.claims.take("k")
    with shared.open() as ledger:
        (posting,) = ledger.attempts.postings(run)
        assert (posting.booking, posting.bill, posting.usage) == ("usage", bill, REPLY.usage)
        assert (posting.booked_usd, posting.is_cut_off) == (Decimal("0.2300001"), True)
        assert ledger.answers.get("k") == REPLY
        assert ledger.learned.observations("m", "e") == (learned[2],)
        assert ledger.learned.observations("m", "other") == ()


def test_a_try_that_was_never_settled_stays_at_its_worst(place: Place) -> None:
    """A killed run may have been billed for what it sent; one that lives will settle it itself."""
    with place.open() as ledger:
        run = ledger.runs.start("invoices", "m", "e")
        ledger.attempts.start(run, START)
        later = ledger.runs.start("invoices", "m", "e")
        (left,) = ledger.attempts.left_open(later)
        assert (left.booking, left.document, left.booked_usd) == ("open", "a.pdf", Decimal("0.5"))
        assert spending_of(ledger.attempts.postings()).unsettled_usd == Decimal("0.5")
        assert ledger.attempts.left_open(later, live_runs={run}) == ()
        assert ledger.attempts.postings(later) == ()


def test_one_owner_has_a_claim(shared: Place) -> None:
    """Two runs that ask for one chunk pay twice."""
    with shared.open() as one, shared.open() as two:
        for ledger in (one, two):
            ledger.claims.enter(ledger.runs.start("r", "m", "e"), PATIENT_S)
        assert (one.claims.take("k"), one.claims.take("k"), two.claims.take("k")) == (True, True, False)
        assert two.claims.take("l")
        assert one.claims.live_runs() == {1, 2}
        one.claims.release("k")
        assert two.claims.take("k")
        two.claims.leave()
        assert (one.claims.take("l"), one.claims.live_runs()) == (True, {1})


def test_an_owner_of_another_machine_is_dead_once_it_is_silent(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lost its power gives back what it was asking for; one that is seen keeps it."""
    from ingest.keeping.ledger import claims

    with shared.open() as one, shared.open() as two:
        one.claims.enter(one.runs.start("r", "m", "e"), 0.2)
        one.claims.take("k")
        monkeypatch.setattr(claims, "_host", lambda: "elsewhere")
        two.claims.enter(two.runs.start("r", "m", "e"), PATIENT_S)
        assert not two.claims.take("k")
        assert two.claims.live_runs() == {1, 2}
        threading.Event().wait(0.3)
        assert two.claims.live_runs() == {2}
        one.claims.beat()
        assert not two.claims.take("k")
        threading.Event().wait(0.3)
        assert two.claims.take("k")


def test_a_silent_owner_of_this_machine_lives_while_it_holds_its_lock(shared: Place) -> None:
    """A laptop that slept over the timeout must not lose its claims to a second run on it."""
    with shared.open() as one, shared.open() as two:
        one.claims.enter(one.runs.start("r", "m", "e"), 0.01)
        one.claims.take("k")
        two.claims.enter(two.runs.start("r", "m", "e"), PATIENT_S)
        threading.Event().wait(0.05)
        assert not two.claims.take("k")


_HOLDER = """
import sys
from ingest.keeping.ledger import Ledger
folder, url = sys.argv[1:]
ledger = Ledger(None, url) if url else Ledger(__import__("pathlib").Path(folder))
ledger.claims.enter(ledger.runs.start("r", "m", "e"), 3600)
print(ledger.claims.take("k"), flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_of_this_machine_is_dead_at_once(shared: Place) -> None:
    """Who starts again right after a crash must not wait for a timeout."""
    command = [sys.executable, "-c", _HOLDER, str(shared.folder or ""), shared.url or ""]
    with (
        shared.open() as ledger,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        ledger.claims.enter(ledger.runs.start("r", "m", "e"), PATIENT_S)
        assert not ledger.claims.take("k")
        assert ledger.claims.live_runs() == {1, 2}
        holder.kill()
        holder.wait()
        assert ledger.claims.live_runs() == {2}
        assert ledger.claims.take("k")


def test_a_run_of_one_machine_needs_nobody(place: Place) -> None:
    """Claims of a ledger in memory must not cost anything, nor fail."""
    with place.open() as ledger:
        assert ledger.claims.take("k")
        ledger.claims.release("k")
        ledger.claims.leave()


def test_what_runs_learned_is_kept(place: Place) -> None:
    """A document is asked for in the pieces of the run that cut it first, even when two cut it at once."""
    first, second = [{"owned": [[0, 3]]}], [{"owned": [[0, 1]]}, {"owned": [[2, 3]]}]
    with place.open() as ledger:
        assert ledger.learned.partition("d") is None
        assert ledger.learned.store_partition("d", first, 4)
        assert not ledger.learned.store_partition("d", second, 5)
        assert not ledger.learned.store_partition("d", second, 5, second)
        assert ledger.learned.store_partition("d", second, 5, first)
        assert ledger.learned.partition("d") == (second, 5)
        ledger.learned.store_rung("e", "m", "tool")
        assert (ledger.learned.rung("e", "m"), ledger.learned.rung("e", "other")) == ("tool", None)


def test_states_and_versions_of_documents(place: Place) -> None:
    """Digests and `--retry` stand on what became of each document, and on a version only where something changed."""
    with place.open() as ledger:
        documents = ledger.documents
        assert documents.store(1, record("b.pdf"), "10-20")
        assert documents.store(1, record("a.pdf", "partial"))
        assert not documents.store(2, record("b.pdf"))
        assert documents.store(2, record("b.pdf", total=2))
        documents.remove(3, "invoices", ["a.pdf", "never.pdf"])
        documents.remove(3, "invoices", ["a.pdf"])
        states = list(documents.states())
        assert [(state.name, state.status, state.run_id) for state in states] == [
            ("a.pdf", "removed", 3),
            ("b.pdf", "complete", 2),
        ]
        assert list(documents.states("other")) == []
        versions = list(documents.versions("invoices"))
        assert [(version.name, version.status) for version in versions] == [
            ("b.pdf", "complete"),
            ("a.pdf", "partial"),
            ("b.pdf", "complete"),
            ("a.pdf", "removed"),
        ]
        assert (versions[2].record, versions[3].record) == (record("b.pdf", total=2), None)
        assert documents.before(versions[2]) == versions[0]
        assert [version.id for version in documents.versions("invoices", versions[2].id)] == [versions[3].id]
        assert documents.version(states[1].version_id) == versions[2]


def test_texts_that_no_database_takes_are_kept_as_near_as_can_be(place: Place) -> None:
    """A file name or a server's message with bytes of no text must not end a run."""
    with place.open() as ledger:
        run = ledger.runs.start("r", "m", "e")
        number = ledger.attempts.start(run, replace(START, document="a\x00\udcff.pdf"))
        ledger.attempts.settle(number, Ending("server_error", "no\x00", 0.1, "worst"))
        assert ledger.attempts.postings()[0].document == "a�?.pdf"
        ledger.documents.store(run, record("a.pdf", "failed"))
        state = ledger.documents.state("invoices", "a.pdf")
        assert state is not None
        assert state.problem == "not�good"


def test_two_that_open_a_new_ledger_at_once_make_it_once(shared: Place) -> None:
    """A fleet of runs that is started together finds one ledger, in its newest form."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with shared.open() as ledger:
                for _ in range(5):
                    ledger.runs.start("r", "m", "e")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with shared.open() as ledger:
        assert [run.id for run in ledger.runs.all()] == list(range(1, 31))


def test_a_newer_ledger_is_refused(shared: Place) -> None:
    """An older program would misread what a newer one wrote."""
    database = Database(shared.folder, shared.url)
    database.write("INSERT INTO migrations (number) VALUES (:n)", {"n": len(MIGRATIONS) + 1})
    database.close()
    with pytest.raises(NewerVersion, match="update ingest"), shared.open():
        pass


def test_what_the_database_says_is_one_clear_error(place: Place) -> None:
    """Users see what happened to which ledger, not a traceback of its driver."""
    database = Database(place.folder, place.url)
    with pytest.raises(LedgerError, match="cannot be used"):
        database.write("INSERT INTO nowhere (a) VALUES (:a)", {"a": 1})
    database.close()


def test_a_lost_connection_is_told_and_the_next_one_works(postgres: Postgres) -> None:
    """A database that is restarted in the night costs the call under way, not a traceback nor the rest."""
    database = Database(None, postgres.database())
    with pytest.raises(LedgerError, match="was lost in the middle; run the same command again") as told:
        lose(database)
    assert "\n" not in str(told.value)
    database.write("INSERT INTO rungs VALUES (:a, :a, :a, :a)", {"a": "x"})
    database.close()


def lose(database: Database) -> None:
    """Have the server end the connection in the middle of a transaction."""
    with database.transaction() as connection:
        number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        database.write("SELECT pg_terminate_backend(:number)", {"number": number})
        connection.exec_driver_sql("SELECT 1")


def test_an_address_tells_no_password_and_no_other_database_is_taken() -> None:
    """Errors stand in logs and bug reports."""
    with pytest.raises(LedgerError) as told:
        Ledger(None, "postgresql://somebody:sekret@127.0.0.1:1/nowhere")
    assert "sekret" not in str(told.value)
    assert "somebody:***@127.0.0.1" in str(told.value)
    with pytest.raises(ConfigError, match="PostgreSQL or SQLite, not in mysql"):
        Ledger(None, "mysql://somebody:sekret@127.0.0.1/nowhere")
    with pytest.raises(ConfigError, match="not one of a database"):
        Ledger(None, "somewhere")


def test_a_file_that_stays_locked_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the file for long is named as the reason; who only reads is let in."""
    monkeypatch.setattr("ingest.keeping.ledger.database.BUSY_TIMEOUT_S", 0.05)
    with Ledger(tmp_path) as ledger, closing(sqlite3.connect(tmp_path / ".ingest" / "ledger.sqlite")) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="stayed locked"):
            ledger.answers.store("k", REPLY)
        assert not ledger.answers.has("k")
        holder.rollback()
        ledger.answers.store("k", REPLY)
