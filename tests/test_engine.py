"""The whole path with a scripted model in the model's place: what happens when answers are good, bad or missing."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from jsonschema import Draft202012Validator

import ingest
from ingest.config import Config
from ingest.engine import session
from ingest.errors import AuthRejected, ConfigError
from ingest.record import Record, RunSummary, record_schema
from tests.scripted_model import SCHEMA, Answer, ScriptedModel, completion, failure


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """The model in the embedded engine's place; retries do not wait."""
    import stamina

    stamina.set_testing(True, attempts=3)
    scripted = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    return scripted


def write_pdf(path: Path, pages: int, rows: int = 2, title: str = "T1") -> Path:
    """A PDF with a title on page 1 and `rows` rows a page, amounts counting up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pymupdf.open() as document:
        for number in range(1, pages + 1):
            lines = [f"TITLE: {title}"] if number == 1 else []
            lines += [f"ROW page{number}row{row} {number * 100 + row}" for row in range(rows)]
            lines.append("plain words that fill the page so that its text layer can be trusted " * 3)
            document.new_page().insert_textbox((50, 50, 550, 800), "\n".join(lines), fontsize=11)
        document.save(path)
    return path


def make_config(output: Path | None, **settings: dict[str, Any]) -> Config:
    """Settings for the scripted model: one thousand tokens a request give many chunks."""
    return ingest.configure(schema=SCHEMA, local=True, output=output, settings=settings)


def run(paths: list[Path], config: Config) -> tuple[list[Record], RunSummary]:
    """All records and the summary."""
    summary = ingest.run_to_folder(paths, config)
    assert config.output is not None
    lines = (config.output / "records.jsonl").read_text(encoding="utf-8").splitlines()
    validator = Draft202012Validator(record_schema())
    for line in lines:
        validator.validate(json.loads(line))
    return [Record[dict[str, Any]].model_validate_json(line) for line in lines], summary


SMALL = {"planning": {"target_tokens": 1_500}}


def names(record: Record) -> list[str]:
    """Names of the rows of a record."""
    return [row["name"] for row in record.data["rows"]]


def test_many_chunks_make_one_record(tmp_path: Path, model: ScriptedModel) -> None:
    """Rows of all chunks stand in reading order, each with its page; every page is accounted for."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 9)
    (record,), _ = run([path], make_config(tmp_path / "out", **SMALL))
    assert len(model.calls) > 1
    assert sorted(number for call in model.calls for number in call) == list(range(1, 10))
    assert record.status == "complete"
    assert record.data["title"] == "T1"
    assert names(record) == [f"page{page}row{row}" for page in range(1, 10) for row in range(2)]
    assert record.provenance["/rows/5/amount"][0].page == 3
    assert record.provenance["/rows/5/amount"][0].bbox is not None
    assert [part.status for part in record.coverage.parts] == ["answered"] * 9


def test_a_second_run_sends_nothing_and_writes_the_same_bytes(tmp_path: Path, model: ScriptedModel) -> None:
    """Nothing is paid twice, and a record depends on nothing but its input."""
    for name in ("a", "b"):
        write_pdf(tmp_path / "in" / f"{name}.pdf", 3, title=name)
    config = make_config(tmp_path / "out")
    _, first = run([tmp_path / "in"], config)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.pdf.json")}
    sent = len(model.calls)
    _, second = run([tmp_path / "in"], config)
    assert len(model.calls) == sent
    assert first.requests_sent == sent
    assert second.requests_sent == 0
    assert second.spent_usd == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.pdf.json")} == before


def test_only_what_changed_is_asked_again(tmp_path: Path, model: ScriptedModel) -> None:
    """A renamed file keeps its answers; another prompt does not."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 2)
    run([path], make_config(tmp_path / "out"))
    moved = path.rename(path.with_name("renamed.pdf"))
    run([moved], make_config(tmp_path / "out"))
    assert len(model.calls) == 1
    config = ingest.configure(schema=SCHEMA, instructions="Only totals.", local=True, output=tmp_path / "out")
    ingest.run_to_folder([moved], config)
    assert len(model.calls) == 2


def test_the_same_bytes_twice_are_asked_once(tmp_path: Path, model: ScriptedModel) -> None:
    """A copy in another folder must not cost a second time, even in the same run."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    (tmp_path / "in" / "copy.pdf").write_bytes(path.read_bytes())
    records, _ = run([tmp_path / "in"], make_config(tmp_path / "out"))
    assert len(records) == 2
    assert records[0].data == records[1].data
    assert len(model.calls) == 1


def test_a_cut_off_answer_is_asked_again_in_halves(tmp_path: Path, model: ScriptedModel) -> None:
    """The same size would be cut off again; nothing is lost and the wasted answer is counted."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 4)
    model.script = lambda pages, number: completion('{"title": null, "ro', "length") if len(pages) > 1 else None
    (record,), summary = run([path], make_config(tmp_path / "out"))
    assert record.status == "complete"
    assert len(names(record)) == 8
    assert model.calls == [[1, 2, 3, 4], [1, 2], [1], [2], [3, 4], [3], [4]]
    assert record.usage.requests == 7
    assert run([path], make_config(tmp_path / "out"))[1].requests_sent == 0
    assert summary.requests_sent == 7


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (completion("", "content_filter"), "refused"),
        (failure(400, "InputTextSensitiveContentDetected", "The input may contain sensitive information"), "refused"),
        (failure(400, "InvalidParameter", "Total tokens of image and text exceed max message tokens."), "failed"),
    ],
)
def test_trouble_is_narrowed_to_the_page_to_blame(
    tmp_path: Path, model: ScriptedModel, answer: Answer, status: str
) -> None:
    """One bad page must not take its neighbours with it, and the record must not look complete."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 5)
    model.script = lambda pages, number: answer if 3 in pages else None
    (record,), _ = run([path], make_config(tmp_path / "out"))
    assert record.status == "partial"
    assert [part.status for part in record.coverage.parts] == ["answered", "answered", status, "answered", "answered"]
    assert names(record) == [f"page{page}row{row}" for page in (1, 2, 4, 5) for row in range(2)]
    assert any(problem.part == 3 for problem in record.problems)


def test_an_answer_off_the_schema_is_asked_once_more(tmp_path: Path, model: ScriptedModel) -> None:
    """The second request carries the validator's words; a good answer then completes the record."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    model.script = lambda pages, number: completion('{"rows": "none"}') if number == 1 else None
    (record,), _ = run([path], make_config(tmp_path / "out"))
    assert record.status == "complete"
    assert len(model.calls) == 2
    assert "rows" in json.dumps(model.bodies[1]["messages"][-1]["content"][-1])


def test_an_answer_that_stays_off_the_schema_fails_its_pages(tmp_path: Path, model: ScriptedModel) -> None:
    """Two bad answers are enough money; the record says which pages are missing."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 2)
    model.script = lambda pages, number: completion("I am sorry, I cannot do that")
    (record,), summary = run([path], make_config(tmp_path / "out"))
    assert record.status == "failed"
    assert record.data is None
    assert len(model.calls) == 2
    assert record.usage.requests == 2
    assert summary.failed == 1


def test_a_transient_failure_is_tried_again_and_paid_once(tmp_path: Path, model: ScriptedModel) -> None:
    """An overloaded server is no reason to lose a page."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    model.script = lambda pages, number: failure(429, "ServerOverloaded") if number < 3 else None
    (record,), summary = run([path], make_config(tmp_path / "out"))
    assert record.status == "complete"
    assert record.usage.requests == 1
    assert summary.requests_sent == 3


def test_a_server_that_stays_down_costs_its_pages_only_now(tmp_path: Path, model: ScriptedModel) -> None:
    """The record says so, and the next run asks for just what is missing."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 9)
    model.script = lambda pages, number: failure(500, "InternalServiceError") if 9 in pages else None
    config = make_config(tmp_path / "out", **SMALL)
    (record,), _ = run([path], config)
    assert record.status == "partial"
    assert record.coverage.parts[8].status == "failed"
    answered = [call for call in model.calls if 9 not in call]
    model.script = lambda pages, number: None
    model.calls.clear()
    (record,), _ = run([path], config)
    assert record.status == "complete"
    assert len(model.calls) == 1
    assert model.calls[0] not in answered


def test_a_wrong_key_stops_the_run_at_once(tmp_path: Path, model: ScriptedModel) -> None:
    """Two hundred documents must not be tried with a key that is wrong."""
    for number in range(12):
        write_pdf(tmp_path / "in" / f"{number:02}.pdf", 1, title=f"t{number}")
    model.script = lambda pages, number: failure(401, "invalid_api_key")
    with pytest.raises(AuthRejected):
        ingest.run_to_folder([tmp_path / "in"], make_config(tmp_path / "out"))
    assert len(model.calls) <= 6


def test_one_bad_file_is_one_bad_record(tmp_path: Path, model: ScriptedModel) -> None:
    """Damaged, empty, unknown and locked files are records; the others are read as without them."""
    folder = tmp_path / "in"
    write_pdf(folder / "good.pdf", 1)
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "cut.pdf").write_bytes((folder / "good.pdf").read_bytes()[:300])
    with pymupdf.open(folder / "good.pdf") as document:
        document.save(folder / "locked.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open", owner_pw="own")
    records, summary = run([folder], make_config(tmp_path / "out"))
    status = {record.document.name: record.status for record in records}
    assert status == {
        "cut.pdf": "failed",
        "empty.pdf": "failed",
        "good.pdf": "complete",
        "locked.pdf": "failed",
        "noise.bin": "failed",
    }
    codes = {record.document.name: record.problems[0].code for record in records if record.problems}
    assert codes["locked.pdf"] == "encrypted"
    assert codes["noise.bin"] == "unsupported_media"
    assert (summary.complete, summary.failed) == (1, 4)
    opened, _ = run([folder / "locked.pdf"], make_config(tmp_path / "out2", reading={"passwords": ["open"]}))
    assert opened[0].data == next(record.data for record in records if record.document.name == "good.pdf")


def test_data_that_does_not_fit_the_schema_is_not_complete(tmp_path: Path, model: ScriptedModel) -> None:
    """A required value that no page gives is a hole, and is named."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "title": {"type": "string", "pattern": "^Z"}}}
    config = ingest.configure(schema=schema, local=True, output=tmp_path / "out")
    (record,), _ = run([path], config)
    assert record.status == "partial"
    assert any(problem.pointer == "/title" for problem in record.problems)


def test_plan_counts_what_run_would_send(tmp_path: Path, model: ScriptedModel) -> None:
    """The bill is known before it is sent, and what is already answered costs nothing more."""
    write_pdf(tmp_path / "in" / "a.pdf", 6)
    config = make_config(tmp_path / "out", **SMALL)
    planned = ingest.plan([tmp_path / "in"], config)
    assert not (tmp_path / "out").exists()
    assert model.calls == []
    run([tmp_path / "in"], config)
    assert planned.totals.requests == len(model.calls)
    assert ingest.plan([tmp_path / "in"], config).totals.requests == 0


def test_nothing_found_is_an_error(tmp_path: Path, model: ScriptedModel) -> None:
    """An empty folder in a nightly job is a mistake somebody should hear of."""
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="no files found"):
        ingest.run_to_folder([tmp_path / "in"], make_config(tmp_path / "out"))


def test_leaving_early_keeps_what_was_received(tmp_path: Path, model: ScriptedModel) -> None:
    """A library user may stop after the first record; the next run pays for the rest only."""
    for number in range(3):
        write_pdf(tmp_path / "in" / f"{number}.pdf", 1, title=f"t{number}")
    config = make_config(tmp_path / "out").model_copy(update={"jobs": 1})
    for record in ingest.run([tmp_path / "in"], config=config):
        assert record.document.name == "0.pdf"
        break
    received = len(model.calls)
    _, summary = run([tmp_path / "in"], config)
    assert summary.requests_sent <= 3 - received + 1
    assert summary.complete == 3


def test_a_wrong_merge_rule_is_told_before_anything_is_read(tmp_path: Path, model: ScriptedModel) -> None:
    """A misspelt rule found after the answers came would have cost their price."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    config = make_config(tmp_path / "out")
    for rules in ({"totl": "first"}, {"title": "newest"}):
        recipe = config.recipe.model_copy(update={"merge": rules})
        with pytest.raises(ConfigError, match=next(iter(rules))):
            ingest.run_to_folder([path], config.model_copy(update={"recipe": recipe}))
    assert model.calls == []


def test_a_page_of_which_nothing_was_sent_is_not_answered(tmp_path: Path, model: ScriptedModel) -> None:
    """With text alone wanted a scan sends nothing: its page is skipped, and the record is not complete."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    with pymupdf.open(path) as document:
        scan = document[0].get_pixmap(dpi=72)
        document.new_page().insert_image(document[0].rect, pixmap=scan)
        document.save(tmp_path / "in" / "b.pdf")
    (record,), _ = run([tmp_path / "in" / "b.pdf"], make_config(tmp_path / "out", reading={"pages": "text"}))
    assert [part.status for part in record.coverage.parts] == ["answered", "skipped"]
    assert record.status == "partial"


def test_an_absurd_count_of_tokens_costs_no_answer(tmp_path: Path, model: ScriptedModel) -> None:
    """A server's nonsense in its usage must not lose what was paid for."""
    path = write_pdf(tmp_path / "in" / "a.pdf", 1)
    status, body = completion('{"title": null, "rows": []}')
    body["usage"]["prompt_tokens"] = 10**30
    model.script = lambda pages, number: (status, body)
    (record,), _ = run([path], make_config(tmp_path / "out"))
    assert record.status == "complete"
