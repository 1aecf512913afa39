"""What lasts: answers are never bought twice, files appear whole or not at all."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from ingest.errors import Busy, LedgerError, NewerVersion, OutputError
from ingest.keeping.ledger import NOT_SENT, Ledger
from ingest.keeping.migrations import MIGRATIONS
from ingest.keeping.sinks.files import FilesSink, record_path, write_whole
from ingest.types import PageWords, Reply, Usage, Word

REPLY = Reply(
    '{"a": "ü"}',
    "stop",
    Usage(120, 30, 5, 10),
    "some-model",
    "req-1",
    (PageWords(2, (Word("total", (0.1, 0.2, 0.3, 0.4)),)),),
)


def test_an_answer_outlives_the_process(tmp_path: Path) -> None:
    """A rerun finds everything that was received, usage and read words included."""
    with Ledger(tmp_path) as ledger:
        ledger.store_answer("k", REPLY)
    with Ledger(tmp_path) as ledger:
        assert ledger.answer("k") == REPLY
        assert ledger.has_answer("k")
        assert ledger.answer("other") is None


def test_the_first_answer_stays(tmp_path: Path) -> None:
    """Two racing calls for one key must not change a record that was already written."""
    with Ledger(tmp_path) as ledger:
        ledger.store_answer("k", REPLY)
        ledger.store_answer("k", Reply("{}", "stop", Usage(), "m"))
        assert ledger.answer("k") == REPLY


def test_spending_counts_paid_calls_only() -> None:
    """The summary's money is what this run paid; failed calls are counted as calls."""
    with Ledger(None) as ledger:
        run = ledger.start_run("r", "m", "e")
        ledger.record_attempt(run, "k", 0.1, "rate_limited", "429", Usage(), None)
        ledger.record_attempt(run, "k", 0.1, "answered", "", Usage(10, 2), Decimal("0.001"))
        ledger.record_attempt(run, "l", 0.1, "answered", "", Usage(10, 2), Decimal("0.0000001"))
        assert ledger.run_spending(run) == (3, Decimal("0.0010001"))
        other = ledger.start_run("r", "m", "e")
        ledger.record_attempt(other, "k", 0.1, "answered", "", Usage(10, 2), None)
        assert ledger.run_spending(other) == (1, None)


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """An older program would misread what a newer one wrote."""
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / ".ingest" / "ledger.sqlite") as connection:
        connection.execute("INSERT INTO migrations (number) VALUES (?)", (len(MIGRATIONS) + 1,))
    connection.close()
    with pytest.raises(NewerVersion, match="update ingest"):
        Ledger(tmp_path)


def test_a_file_that_is_no_ledger_is_a_clear_error(tmp_path: Path) -> None:
    """The user is told which file, not shown a database traceback."""
    (tmp_path / ".ingest").mkdir()
    (tmp_path / ".ingest" / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        Ledger(tmp_path)


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


def test_two_runs_into_one_folder_do_not_pay_twice(tmp_path: Path) -> None:
    """The second one is told to wait; who only looks is let in."""
    with Ledger(tmp_path) as ledger:
        ledger.store_answer("k", REPLY)
        with pytest.raises(Busy, match="another run"):
            Ledger(tmp_path)
        with Ledger(tmp_path, is_shared=True) as reader:
            assert reader.has_answer("k")
    Ledger(tmp_path).close()


def test_the_summary_of_an_older_run_does_not_outlive_a_new_start(tmp_path: Path) -> None:
    """A nightly check must not see the numbers of the day before yesterday."""
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / ".tmp-killed.part").write_text("")
    with FilesSink(tmp_path):
        assert not (tmp_path / "run.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_calls_that_never_left_are_not_counted_as_sent() -> None:
    """The summary says what was sent, and that is what may be billed."""
    with Ledger(None) as ledger:
        run = ledger.start_run("r", "m", "e")
        ledger.record_attempt(run, "k", 0.1, NOT_SENT, "no connection", Usage(), None)
        assert ledger.run_spending(run) == (0, Decimal(0))
