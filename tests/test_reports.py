"""Progress and reports: readable at any width, honest about failures, safe with names made by strangers."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.cells import cell_len

from ingest.record import DocumentRow, ModelInfo, Plan, PlanRow, RecipeInfo, RunSummary, Status, Totals
from ingest.showing.progress import Progress
from ingest.showing.report import Look, plan_table, summary_table
from ingest.showing.text import compact, dollars, duration, printable, shortened
from ingest.types import Event

MODEL = ModelInfo(model="seed-2-0-pro", profile="seed-2-0-pro", protocol="chat", endpoint="https://host/v1")
RECIPE = RecipeInfo(name="invoices", schema_sha256="0", instructions_sha256="0")
EVIL = "in\x1b[2J[red]voice\u202e.pdf"


def row(number: int, status: Status = "complete", name: str | None = None, problem: str | None = None) -> DocumentRow:
    """A document with large numbers."""
    return DocumentRow(
        name=name or f"a long folder name/大きい請求書/another one/{number:04}.pdf",
        status=status,
        pages=12_345,
        chunks=77,
        requests=1_234,
        input_tokens=9_876_543,
        output_tokens=654_321,
        cost_usd=Decimal("1234.56"),
        problem=problem,
    )


def summary(*rows: DocumentRow, **more: object) -> RunSummary:
    """A summary of documents."""
    totals = Totals(input_tokens=sum(item.input_tokens for item in rows), from_ledger=2)
    counts = {status: sum(item.status == status for item in rows) for status in ("complete", "partial", "failed")}
    return RunSummary(documents=rows, totals=totals, model=MODEL, recipe=RECIPE, **counts, **more)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_fit_the_terminal_and_keep_every_number_whole(width: int) -> None:
    """A wrapped or cut figure is a wrong figure."""
    rows = [row(number, "failed" if number == 3 else "complete", problem="x " * 200) for number in range(8)]
    plans = [PlanRow(name=item.name, input_tokens_expected=9_876_543, cost_usd_ceiling=Decimal(9)) for item in rows]
    plan = Plan(documents=tuple(plans), totals=plans[0], model=MODEL, recipe=RECIPE)
    for text in (summary_table(summary(*rows), Look(width)), plan_table(plan, Look(width))):
        assert max(cell_len(line) for line in text.splitlines()) <= width
        assert text.count("9.88M") >= 8
        assert "0007.pdf" in text


def test_long_lists_are_cut_in_the_middle_with_a_count_unless_verbose() -> None:
    """Ten thousand rows help nobody, and a silent cut would hide documents."""
    rows = [row(number) for number in range(100)]
    short = summary_table(summary(*rows), Look(120))
    assert "… 70 more …" in short
    assert "0000.pdf" in short
    assert "0099.pdf" in short
    assert "0050.pdf" not in short
    assert "0050.pdf" in summary_table(summary(*rows), Look(120, verbose=True))


def test_a_failure_in_the_cut_middle_is_still_told() -> None:
    """Failures are what the report is for."""
    rows = [row(number) for number in range(100)]
    rows[50] = row(50, "failed", problem="damaged")
    assert "0050.pdf: damaged" in summary_table(summary(*rows), Look(120))


def test_names_cannot_steer_the_terminal() -> None:
    """A file's name comes from a stranger; escape codes and direction marks must show as text."""
    text = summary_table(summary(row(1, "failed", EVIL, "damaged")), Look(120, color=True))
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J[red]voice\\u202e.pdf" in text
    assert printable("plain 名前.pdf") == "plain 名前.pdf"
    assert printable("bad\udcff") == "bad\\udcff"


def test_a_reason_that_names_its_file_is_not_prefixed_with_the_name() -> None:
    """Most reasons name the file, and saying it twice hides the reason."""
    text = summary_table(summary(row(1, "failed", "a.pdf", "a.pdf has no pages")), Look(120))
    assert "failed  a.pdf has no pages" in text


def test_color_only_when_asked() -> None:
    """A report piped into a file must be plain text."""
    assert "\x1b" not in summary_table(summary(row(1)), Look(80))
    assert "\x1b" in summary_table(summary(row(1)), Look(80, color=True))


def test_money_of_this_run_is_told_apart_from_the_price_of_the_records() -> None:
    """After a rerun the records still cost what they cost, and the run cost nothing."""
    text = summary_table(summary(row(1), requests_sent=0, spent_usd=Decimal(0)), Look(120))
    assert "0 requests sent in this run, $0 spent" in text
    assert "2 answers came from the ledger" in text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (dollars(None), "–"),
        (dollars(Decimal("0")), "$0"),
        (dollars(Decimal("0.00001")), "<$0.0001"),
        (dollars(Decimal("0.0123")), "$0.0123"),
        (dollars(Decimal("1234.5")), "$1,234.50"),
        (compact(9_999), "9,999"),
        (compact(10_000), "10.0k"),
        (compact(999_960), "1.00M"),
        (duration(59.94), "59.9 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(3_725), "1 h 02 min"),
        (shortened("folder/name.pdf", 12), "fold…ame.pdf"),
        (shortened("請求書請求書請求書", 9), "請…求書"),
    ],
)
def test_numbers_and_names_are_short_and_right(told: str, expected: str) -> None:
    """Rounding must not cross into the wrong unit, nor a wide letter into the next column."""
    assert told == expected


class Clock:
    """A clock that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


def test_lines_show_each_document_failures_with_reasons_and_signs_of_life() -> None:
    """A log of a nightly job has no cursor to move, and must not look dead for an hour."""
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock) as progress:
        progress(Event("run_started", documents=2))
        progress(Event("document_started", EVIL))
        progress(Event("document_planned", EVIL, chunks=4))
        progress(Event("request_finished"))
        clock.now_s = 20
        progress(Event("request_finished", from_ledger=True))
        progress(Event("document_finished", EVIL, status="failed", message="two\nlines"))
        progress(Event("document_finished", "b.pdf", status="complete"))
    assert stream.getvalue().splitlines() == [
        "2 documents",
        "0/2 documents · 2/4 chunks · 1 from the ledger · 20.0 s",
        "[1/2] failed   in\\x1b[2J[red]voice\\u202e.pdf: two lines",
        "[2/2] complete b.pdf",
    ]


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_live_view_leaves_only_failures_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the run is over the summary speaks; the bar must be gone, the reasons not."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with Progress(stream=stream) as progress:
        progress(Event("run_started", documents=2))
        progress(Event("document_finished", "fine.pdf", status="complete"))
        progress(Event("document_finished", "[bold]bad.pdf", status="failed", message="damaged"))
    shown = stream.getvalue()
    assert "[bold]bad.pdf: damaged" in shown
    assert "fine.pdf" not in shown
    assert shown.endswith("\x1b[2K")


def test_quiet_shows_nothing() -> None:
    """Quiet means quiet, failures too: they stand in the summary."""
    stream = Terminal()
    with Progress(quiet=True, stream=stream) as progress:
        progress(Event("run_started", documents=1))
        progress(Event("document_finished", "a", status="failed", message="x"))
    assert stream.getvalue() == ""


def test_a_stream_that_is_gone_does_not_stop_the_run() -> None:
    """A closed terminal must not cost the answers of a night."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress(stream=Gone()) as progress:
        progress(Event("run_started", documents=1))
        progress(Event("document_finished", "a", status="failed", message="x"))


def test_share_grows_within_one_long_document_and_never_passes_one() -> None:
    """A single film of a hundred chunks must not stand at nought until its end."""
    progress = Progress(quiet=True)
    progress(Event("run_started", documents=1))
    progress(Event("document_started", "film"))
    progress(Event("document_planned", "film", chunks=4))
    shares = []
    for _ in range(6):
        progress(Event("request_finished"))
        shares.append(progress.share)
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
