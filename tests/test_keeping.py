"""What lasts: answers are never bought twice, files appear whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.engine.accounts import spending_of
from ingest.engine.standing import standing_of
from ingest.errors import LedgerError, NewerVersion, OutputError
from ingest.keeping.ledger import Ending, Ledger, Start
from ingest.keeping.ledger.migrations import MIGRATIONS
from ingest.keeping.sinks.files import FilesSink, record_path, write_whole
from ingest.types import Bill, Reply, Usage

WORST, NOTHING = Decimal("0.5"), Decimal(0)


def start(key: str = "k", worst: str | None = "0.5", number: int = 1) -> Start:
    """A try about to be sent."""
    return Start(key, "a.pdf", "invoices", number, False, None if worst is None else Decimal(worst))


def test_where_the_money_went() -> None:
    """Lost calls are listed apart at their worst case, repeats and cut-off answers by what they cost."""
    with Ledger(None) as ledger:
        run = ledger.runs.start("invoices", "m", "e")
        bill = Bill(127_999, Decimal("0.1"), Decimal("0.01"), Decimal("0.2"), Decimal("0.04"))
        paid = Ending("answered", "", 0.1, "usage", Usage(100, 20, 5, 10), bill, bill.total_usd)
        ledger.attempts.settle(
            ledger.attempts.start(run, start()), Ending("disconnected", "", 1, "worst", booked_usd=WORST)
        )
        ledger.attempts.settle(ledger.attempts.start(run, start(number=2)), paid)
        ledger.attempts.settle(ledger.attempts.start(run, start("l")), replace(paid, is_cut_off=True))
        ledger.attempts.settle(
            ledger.attempts.start(run, start("m")), Ending("not_sent", "", 0, "free", booked_usd=NOTHING)
        )
        ledger.attempts.settle(
            ledger.attempts.start(run, start("m")), Ending("rate_limited", "", 0, "free", booked_usd=NOTHING)
        )
        spending = spending_of(ledger.attempts.postings(run))
    assert spending.calls == 4
    assert spending.total_usd == Decimal("1.2")
    assert (spending.confirmed_usd, spending.unconfirmed_usd, spending.unconfirmed_calls) == (Decimal("0.7"), WORST, 1)
    assert (spending.retries, spending.retries_usd) == (1, Decimal("0.35"))
    assert (spending.cut_off, spending.cut_off_usd) == (1, Decimal("0.35"))
    assert spending.by_kind.reasoning_usd == Decimal("0.08")
    assert [(row.name, row.calls, row.cost_usd) for row in spending.by_tier] == [("127999", 2, Decimal("0.7"))]
    assert [(row.name, row.cached_tokens) for row in spending.by_document] == [("a.pdf", 20)]


def test_a_price_that_is_not_known_is_not_nothing() -> None:
    """A sum that leaves an unknown price out would look cheap."""
    with Ledger(None) as ledger:
        run = ledger.runs.start("r", "m", "e")
        number = ledger.attempts.start(run, start(worst=None))
        ledger.attempts.settle(number, Ending("answered", "", 0.1, "usage", Usage(10, 2)))
        assert spending_of(ledger.attempts.postings(run)).total_usd is None


def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """An update of the program must not lose what was paid for."""
    (tmp_path / ".ingest").mkdir()
    connection = sqlite3.connect(tmp_path / ".ingest" / "ledger.sqlite")
    connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, at TEXT)")
    connection.execute("INSERT INTO migrations VALUES (1, '')")
    for statement in MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("INSERT INTO runs VALUES (1, '', NULL, 'r', 'm', 'e')")
    connection.execute("INSERT INTO answers VALUES ('k', '', 'm', '{}', 'stop', NULL, 10, 2, 0, 0, '[]')")
    row = "INSERT INTO attempts (run_id, key, at, elapsed_s, outcome, message, input_tokens, output_tokens, cost_usd)"
    connection.execute(row + " VALUES (1, 'k', '', 0.1, 'answered', '', 10, 2, '0.5')")
    connection.execute(row + " VALUES (1, 'k', '', 0.1, 'rate_limited', '', 0, 0, NULL)")
    connection.execute(row + " VALUES (1, 'k', '', 0.1, 'not_sent', '', 0, 0, NULL)")
    connection.commit()
    connection.close()
    with Ledger(tmp_path) as ledger:
        assert ledger.answers.has("k")
        spending = spending_of(ledger.attempts.postings())
        assert (spending.calls, spending.total_usd, spending.unconfirmed_calls) == (2, Decimal("0.5"), 0)


def test_an_answer_gives_way_only_to_one_of_a_later_run(tmp_path: Path) -> None:
    """A run that was stopped and goes on must not put its old answer in the place of a fresh one."""
    with Ledger(tmp_path) as ledger:
        for run_id, text, expected in (
            (2, "two", "two"),
            (1, "one", "two"),
            (2, "again", "two"),
            (3, "three", "three"),
        ):
            ledger.answers.store("key", Reply(text, "stop", Usage(), "m"), run_id=run_id, replaces=True)
            found = ledger.answers.get("key")
            assert found is not None
            assert found.text == expected
        ledger.answers.store("key", Reply("four", "stop", Usage(), "m"), run_id=4)
        assert ledger.answers.has("key", since_run=3)
        assert not ledger.answers.has("key", since_run=4)


def test_a_file_that_is_no_ledger_is_a_clear_error(tmp_path: Path) -> None:
    """The user is told which file, not shown a database traceback."""
    (tmp_path / ".ingest").mkdir()
    path = tmp_path / ".ingest" / "ledger.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite.* is damaged: put a copy"):
        Ledger(tmp_path)
    path.unlink()
    Ledger(tmp_path).close()
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(LedgerError, match=r"ledger\.sqlite.* is damaged: put a copy"), Ledger(tmp_path) as cut_off:
        cut_off.runs.start("recipe", "model", "endpoint")


def test_a_ledger_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    """After going back to an older program, what the newer one keeps must not be spoilt."""
    Ledger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / ".ingest" / "ledger.sqlite")) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (?, '')", (len(MIGRATIONS) + 1,))
    with pytest.raises(NewerVersion, match=r"ledger\.sqlite has version .* update ingest"):
        Ledger(tmp_path)


def test_the_password_of_a_database_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are pasted into tickets."""
    psycopg = pytest.importorskip("psycopg")

    def refuse(*_: object, **options: object) -> None:
        raise psycopg.OperationalError(f"connection failed: {options['password']} is wrong")

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(LedgerError, match="bob") as caught:
        Ledger(None, "postgresql://bob:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in caught.value.message


def test_calls_of_runs_under_way_are_not_told_as_lost(tmp_path: Path) -> None:
    """Else the second of two runs warns of money that the first is just about to settle."""
    with Ledger(tmp_path) as ledger:
        killed, living, asking = (ledger.runs.start("recipe", "model", "endpoint") for _ in range(3))
        for run in (killed, living):
            ledger.attempts.start(run, Start("key", "document", "recipe", 1, False, Decimal("0.1")))
        assert [each.run_id for each in ledger.attempts.left_open(asking, {living})] == [killed]


def test_a_ledger_that_may_not_be_written_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are archived on media that nobody can write; a run there is told so."""
    with Ledger(tmp_path) as ledger:
        run = ledger.runs.start("recipe", "model", "endpoint")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    before = {path.name: path.read_bytes() for path in (tmp_path / ".ingest").iterdir()}
    with Ledger(tmp_path) as archived:
        assert [each.id for each in archived.runs.all()] == [run]
        assert standing_of(archived).runs[0].state == "interrupted"
        with pytest.raises(LedgerError, match="choose an output folder that may be written"):
            archived.runs.start("recipe", "model", "endpoint")
    assert {path.name: path.read_bytes() for path in (tmp_path / ".ingest").iterdir()} == before


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash or a full disk while writing must leave the file of the run before."""
    target = tmp_path / "sub" / "a.json"
    write_whole(target, "old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["a.json"]


def test_a_target_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """`-o` may name a file by mistake."""
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="choose a writable"):
        FilesSink(tmp_path / "out")


def test_a_document_named_run_does_not_hide_the_summary(tmp_path: Path) -> None:
    """Record names come from file names, and `run.json` is ours."""
    assert record_path(tmp_path, "run") != tmp_path / "run.json"
    assert record_path(tmp_path, "sub/run") == tmp_path / "sub" / "run.json"


def test_an_unfinished_run_leaves_no_litter(tmp_path: Path) -> None:
    """The collected lines of an interrupted run must not stay behind."""
    with FilesSink(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_summary_of_an_older_run_does_not_outlive_a_new_start(tmp_path: Path) -> None:
    """A nightly check must not see the numbers of the day before yesterday."""
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / ".writing-killed").mkdir()
    with FilesSink(tmp_path):
        assert not (tmp_path / "run.json").exists()
    assert list(tmp_path.iterdir()) == []
