"""What the log and traces tell of a run: enough to find a call at the service, nothing of what documents say."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.cli import logs
from tests.money import Job, paid_config, start_service, write_pages

SECRET_WORDS = re.compile(r"Rechnung|delivery|請求書|Straße|Invoice number|Grand total")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two documents, one of two pages."""
    write_pages(tmp_path / "in" / "a.txt", 1, 2)
    write_pages(tmp_path / "in" / "b.txt", 2, 1)
    return Job(tmp_path / "in", tmp_path / "out")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The spans of a program that has set up OpenTelemetry."""
    pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@pytest.fixture
def log() -> Iterator[list[logging.LogRecord]]:
    """Everything that is logged, at the lowest level."""
    kept: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    root = logging.getLogger("ingest")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(handler)
    root.setLevel(level)


def test_spans_stand_in_one_another_and_carry_what_a_call_cost(
    job: Job, spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where time and money of a slow night went is read off its trace: run, document, chunk, request."""
    service = start_service(monkeypatch)
    summary = job.run(paid_config(job.output))
    found = spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in found}
    (run,) = [span for span in found if span.name == "ingest run"]
    calls = [span for span in found if span.name == "chat seed-2-0-pro"]
    assert len(calls) == len(service.entries) == 3
    for call in calls:
        chunk = by_id[call.parent.span_id]
        document = by_id[chunk.parent.span_id]
        assert (chunk.name, document.name) == ("ingest chunk", "ingest document")
        assert document.parent.span_id == run.context.span_id
        assert document.attributes["ingest.status"] == "complete"
    booked = {entry.request_id: entry for entry in service.entries}
    for call in calls:
        entry = booked[call.attributes["gen_ai.response.id"]]
        assert call.attributes["gen_ai.usage.input_tokens"] == entry.input_tokens
        assert call.attributes["gen_ai.usage.output_tokens"] == entry.output_tokens
        assert call.attributes["gen_ai.request.model"] == "seed-2-0-pro"
        assert call.attributes["ingest.cost_usd"] == pytest.approx(float(entry.cost_usd))
    assert Decimal(str(run.attributes["ingest.cost_usd"])) == summary.spent_usd
    assert run.attributes["ingest.documents.complete"] == 2


def test_a_failed_call_is_marked_by_its_code(job: Job, spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace must show which tries failed and why, and that the call went well in the end."""
    start_service(monkeypatch, faults=["overloaded"])
    job.run(paid_config(job.output, concurrency=1))
    calls = [span for span in spans.get_finished_spans() if span.name == "chat seed-2-0-pro"]
    failed = [call for call in calls if not call.status.is_ok]
    assert [call.attributes["error.type"] for call in failed] == ["overloaded"]
    assert failed[0].attributes["ingest.request.attempt"] == 1
    assert {call.attributes["ingest.request.attempt"] for call in calls} == {1, 2}


def test_a_run_from_a_program_is_part_of_its_trace(job: Job, spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ETL job sees the documents it asked for below its own step, though they run on another thread."""
    from opentelemetry import trace

    start_service(monkeypatch)
    with trace.get_tracer("job").start_as_current_span("nightly") as nightly:
        record = ingest.extract(job.folder / "b.txt", config=paid_config(job.output))
    assert record.status == "complete"
    (run,) = [span for span in spans.get_finished_spans() if span.name == "ingest run"]
    assert run.parent.span_id == nightly.get_span_context().span_id


def test_neither_log_nor_trace_holds_a_word_of_the_documents(
    job: Job, spans: Any, log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs go to people and services that may not read the documents, also at debug level."""
    start_service(monkeypatch, faults=["malformed", "refusal", "overloaded"])
    job.run(paid_config(job.output))
    told = "".join(repr(vars(record)) for record in log)
    told += "".join(span.to_json() for span in spans.get_finished_spans())
    assert "a.txt" in told
    assert not SECRET_WORDS.findall(told)
    assert SECRET_WORDS.findall((job.folder / "a.txt").read_text(encoding="utf-8"))


def test_a_line_about_a_call_says_whose_it_is(
    job: Job, log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With document, key, try and the server's own id one line is enough to ask the service about a call."""
    service = start_service(monkeypatch, faults=["overloaded"])
    job.run(paid_config(job.output, concurrency=1))
    lines = [vars(record) for record in log if record.getMessage() == "call ended"]
    assert len(lines) == len(service.entries)
    assert {line["document"] for line in lines} == {"a.txt", "b.txt"}
    assert {line["request_id"] for line in lines} == {entry.request_id for entry in service.entries}
    keys = {posting.key for posting in job.postings}
    assert all(any(key.startswith(line["key"]) for key in keys) for line in lines)
    assert sorted({(line["attempt"], line["outcome"]) for line in lines}) == [
        (1, "answered"),
        (1, "overloaded"),
        (2, "answered"),
    ]
    assert {line["run"] for line in lines} == {1}


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_comes_as_text_or_as_json_lines(
    form: str, job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person reads the one, a log collector the other; both carry the same fields."""
    start_service(monkeypatch)
    try:
        logs.configure("debug", form)
        job.run(paid_config(job.output))
    finally:
        logs.configure("warning", "text")
    lines = [line for line in capsys.readouterr().err.splitlines() if "call ended" in line]
    assert len(lines) == 3
    if form == "json":
        assert {json.loads(line)["document"] for line in lines} == {"a.txt", "b.txt"}
        assert {json.loads(line)["level"] for line in lines} == {"debug"}
    else:
        assert all(
            re.search(r"run=1 document=[ab]\.txt chunk=\d key=\w{12} attempt=1 request_id=\w+", line) for line in lines
        )
