"""Progress and reports: readable at any width, honest about failures, safe with names made by strangers."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.cells import cell_len

from ingest.record import (
    Choice,
    CostRow,
    DocumentRow,
    Forecast,
    KindCosts,
    ModelInfo,
    Plan,
    PlanRow,
    RecipeInfo,
    Remainder,
    RunSummary,
    Spending,
    Status,
    Totals,
)
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


def test_a_report_on_money_says_what_was_lost_and_what_is_left() -> None:
    """A sum without its doubts looks like a bill."""
    books = Spending(
        calls=9,
        total_usd=Decimal("0.5"),
        confirmed_usd=Decimal("0.3"),
        unconfirmed_calls=2,
        unconfirmed_usd=Decimal("0.2"),
        retries=3,
        retries_usd=Decimal("0.12"),
        cut_off=1,
        cut_off_usd=Decimal("0.04"),
        by_kind=KindCosts(input_usd=Decimal("0.1"), output_usd=Decimal("0.15"), reasoning_usd=Decimal("0.05")),
        by_tier=(
            CostRow(name="127999", calls=6, cost_usd=Decimal("0.1")),
            CostRow(name="224000", calls=1, cost_usd=Decimal("0.2")),
        ),
    )
    text = summary_table(
        summary(
            row(1),
            requests_sent=9,
            spent_usd=Decimal("0.5"),
            max_cost_usd=Decimal(2),
            spending=books,
            planned=Forecast(requests=7, cost_usd_expected=Decimal("0.25"), cost_usd_ceiling=Decimal(1)),
            earlier_unsettled_calls=1,
            earlier_unsettled_usd=Decimal("0.13"),
            remaining=Remainder(
                documents=2,
                requests=4,
                cost_usd_expected=Decimal("0.2"),
                cost_usd_ceiling=None,
                reason="the limit could be passed",
            ),
        ),
        Look(200),
    )
    for told in (
        "9 requests sent in this run, $0.5000 spent of $2.00 allowed.",
        "The plan was 7 requests: $0.2500 expected, $1.00 at most; it took ",
        "By kind of token: $0.1000 input, $0.1500 output, $0.0500 reasoning.",
        "$0.1000 for 6 calls up to 127,999 input tokens, $0.2000 for 1 call up to 224,000 input tokens",
        "$0.1200 of it went to 3 repeated calls.",
        "$0.0400 of it went to 1 answer cut off at the output limit.",
        "$0.2000 of it is for 2 calls that died",
        "left 1 call unsettled: up to $0.1300",
        "Left for lack of money: 4 requests about 2 documents, $0.2000 expected, – at most. The limit could be passed.",
    ):
        assert told in text


def test_a_plan_says_whether_its_limit_will_do_and_what_other_settings_cost() -> None:
    """The choice is made here, or not at all."""
    total = PlanRow(
        name="", requests=3, chunks=3, dear_requests=1, cost_usd_expected=Decimal(1), cost_usd_ceiling=Decimal(4)
    )
    choices = (
        Choice(name="--thinking", requests=3, cost_usd_expected=Decimal(3), difference_usd=Decimal(2), note="a note"),
        Choice(name="--pages text", requests=2, cost_usd_expected=Decimal("0.4"), difference_usd=Decimal("-0.6")),
    )

    def told(limit: str | None) -> str:
        amount = None if limit is None else Decimal(limit)
        plan = Plan(documents=(total,), totals=total, choices=choices, max_cost_usd=amount, model=MODEL, recipe=RECIPE)
        return plan_table(plan, Look(140))

    assert "$1.00 expected, $4.00 at most. 1 of them at the higher price." in told(None)
    assert "The limit" not in told(None)
    assert "covers all of it" in told("4")
    assert "covers what is expected" in told("1")
    assert "would stop early" in told("0.5")
    assert "+$2.00" in told(None)
    assert "–$0.6000" in told(None)


def test_one_reason_of_many_documents_is_told_once() -> None:
    """A limit on money leaves thousands of documents out, all for the same reason."""
    rows = [row(number, "skipped", f"{number}.pdf", "no money") for number in range(1, 8)]
    text = summary_table(summary(*rows, row(1, "failed", "bad.pdf", "damaged")), Look(100))
    assert text.count("no money") == 1
    assert "7 documents, 1.pdf to 7.pdf: no money" in text
    assert "bad.pdf: damaged" in text


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


def test_the_planned_price_is_told_when_it_is_known() -> None:
    """The bill is known before it is sent; what is free has none."""
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress(
            Event("run_planned", requests=12, expected_usd=Decimal("0.5"), ceiling_usd=Decimal("1.25"), documents=3)
        )
        progress(Event("run_planned", requests=1, expected_usd=Decimal(0), ceiling_usd=Decimal(0)))
    assert stream.getvalue().splitlines() == [
        "Planned 12 requests: $0.5000 expected, $1.25 at most",
        "Planned 1 request",
    ]


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
