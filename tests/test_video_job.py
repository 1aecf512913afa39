"""Videos through the whole job, offline: one record each, beside documents, with times as evidence."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import ingest
from fixtures.generator.__main__ import fresh_lectures, write_samples
from fixtures.generator.footage import Cue, Encoding, Shot, film, to_srt
from fixtures.generator.lectures import film_lecture, lecture_truth, make_lecture
from fixtures.generator.screens import Theme, draw_slide
from ingest.asking.client import Client
from ingest.engine import session
from ingest.engine.blueprint import Blueprint
from ingest.errors import ConfigError
from ingest.local.server import create_app
from ingest.planning.calibration import NO_REPLIES
from ingest.showing.evaluation import Evaluation, EvaluationOptions, evaluate
from ingest.types import Document, Moment, Part, Source
from tests.test_main_job import run

TIMES = ("slides/*/start_s", "slides/*/end_s", "steps/*/start_s", "fields/*/time_s", "decisions/*/time_s")
TIMES += ("action_items/*/time_s", "events/*/start_s", "events/*/end_s")
TALK = {
    "type": "object",
    "title": "Talk",
    "properties": {
        "slides": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"title": {"type": "string"}, "narration": {"type": ["string", "null"]}},
                "required": ["title", "narration"],
            },
        }
    },
    "required": ["slides"],
}


def score(records: Path, truths: Path, within_s: float, ignore: tuple[str, ...] = ("summary",)) -> Evaluation:
    """The comparison in which times may differ by the distance of two sampled frames."""
    return evaluate(records, truths, EvaluationOptions(within=dict.fromkeys(TIMES, within_s), ignore=ignore))


def small_talk(cues: tuple[Cue, ...] = (), container: str = "mp4") -> bytes:
    """Two slides in eight seconds."""
    slides = (("Night Ferries", "Rain stops the work"), ("Open Questions", "Who counts the stock"))
    shots = [Shot(4000 * n, draw_slide(Theme(), title, (point,))) for n, (title, point) in enumerate(slides)]
    return film(shots, 8000, Encoding(container), cues)


def test_a_lecture_becomes_its_slides(fixtures_folder: Path, tmp_path: Path) -> None:
    """The promise for videos: every slide once, with its text and the time it was shown."""
    video = fixtures_folder / "videos" / "lecture" / "slides.mp4"
    record = run([video], "lecture", tmp_path)["slides.mp4"]
    assert (record["status"], record["problems"]) == ("complete", [])
    truth = fixtures_folder / "truth" / "videos" / "lecture" / "slides.truth.json"
    overall = score(tmp_path / "slides.mp4.json", truth, 1.0).to_dict()["overall"]
    assert overall["accuracy"] >= 0.95
    assert overall["precision"] >= 0.95
    titles = [slide["title"] for slide in record["data"]["slides"]]
    assert len(titles) == len(set(titles)) == 7
    places = [place for found in record["provenance"].values() for place in found]
    assert places
    for place in places:
        assert 0 <= place["start_s"] < place["end_s"] <= 70.1
        assert isinstance(place["frame_pts"], int)
    title = record["provenance"]["/slides/3/title"][0]
    assert title["grade"] in ("exact", "normalised")
    assert title["start_s"] == pytest.approx(record["data"]["slides"][3]["start_s"], abs=0.1)
    assert record["coverage"]["answered"] == record["coverage"]["total"]


def test_a_folder_of_videos_and_documents_gives_a_record_each(fixtures_folder: Path, tmp_path: Path) -> None:
    """A folder holds what it holds; a video is one more file in it, and a sound track is one bad file."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "talk.mp4").write_bytes(small_talk())
    (folder / "notes.txt").write_text("Basin Control Room\n\nPump 3 was repaired.\n", encoding="utf-8")
    shutil.copy(fixtures_folder / "videos" / "damaged" / "audio-only.mp4", folder)
    records = run([folder], "lecture", tmp_path / "out")
    assert {name: record["status"] for name, record in records.items()} == {
        "talk.mp4": "complete",
        "notes.txt": "complete",
        "audio-only.mp4": "failed",
    }
    assert "audio-only.mp4" in records["audio-only.mp4"]["problems"][0]["message"]
    slides = records["talk.mp4"]["data"]["slides"]
    assert [(slide["title"], slide["start_s"], slide["end_s"]) for slide in slides] == [
        ("Night Ferries", 0, pytest.approx(4, abs=1)),
        ("Open Questions", pytest.approx(4, abs=1), pytest.approx(8, abs=0.3)),
    ]


@pytest.mark.parametrize("kind", ["track", "sidecar", "off"])
def test_what_is_said_stands_at_its_slide(tmp_path: Path, kind: str) -> None:
    """Subtitles are the speaker's words; a file beside the video belongs to it and is no document."""
    cues = (Cue(500, 2500, "Welcome to all."), Cue(5000, 7000, "Any questions?"))
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "sidecar":
        (folder / "talk.mp4").write_bytes(small_talk())
        (folder / "talk.srt").write_bytes(to_srt(cues))
    else:
        (folder / "talk.mkv").write_bytes(small_talk(cues, "matroska"))
    schema = tmp_path / "talk.json"
    schema.write_text(json.dumps(TALK), encoding="utf-8")
    records = run_schema([folder], schema, tmp_path / "out", subtitles=kind != "off")
    (record,) = records.values()
    said = [slide["narration"] for slide in record["data"]["slides"]]
    assert said == ([None, None] if kind == "off" else ["Welcome to all.", "Any questions?"])


def run_schema(paths: list[Path], schema: Path, output: Path, **reading: Any) -> dict[str, dict[str, Any]]:
    """Records of a run with a schema instead of a recipe."""
    config = ingest.configure(schema=schema, local=True, output=output, settings={"reading": reading})
    ingest.run_to_folder(paths, config)
    lines = (output / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["document"]["name"]: record for record in map(json.loads, lines)}


def test_a_slide_cut_by_a_chunk_border_is_one_slide(tmp_path: Path) -> None:
    """Chunks end where they must; the record shows the talk, not the chunks."""
    lecture = make_lecture(random.Random(4), 4, 24)
    (tmp_path / "talk.mp4").write_bytes(film_lecture(lecture))
    settings = {"planning": {"target_tokens": 3_200}, "reading": {"fps": 2.0}}
    config = ingest.configure(recipe="lecture", local=True, output=tmp_path / "out", settings=settings)
    ingest.run_to_folder([tmp_path / "talk.mp4"], config)
    record = json.loads((tmp_path / "out" / "talk.mp4.json").read_text(encoding="utf-8"))
    assert len({part["chunk"] for part in record["coverage"]["parts"]}) > 1
    expected = lecture_truth(lecture)["slides"]
    assert [slide["title"] for slide in record["data"]["slides"]] == [slide["title"] for slide in expected]
    for slide, truth in zip(record["data"]["slides"], expected, strict=True):
        assert slide["start_s"] == pytest.approx(truth["start_s"], abs=0.5)
        assert slide["end_s"] == pytest.approx(truth["end_s"], abs=0.5)
        assert slide["bullets"] == truth["bullets"]


@pytest.mark.parametrize(
    ("asked", "reading", "expected"),
    [({}, {}, (0, 1)), ({"context_parts": 2}, {}, (2, 2)), ({}, {"video": "native"}, (0, 0))],
)
def test_frames_at_a_border_are_shown_to_both_sides(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], reading: dict[str, Any], expected: tuple[int, int]
) -> None:
    """What is on at a border of chunks is seen by both without being asked for; pages and clips would cost too much."""
    monkeypatch.setenv("INGEST_API_KEY", "sk-test")
    config = ingest.configure(
        recipe="generic", profile="seed-2-0-pro", settings={"planning": asked, "reading": reading}
    )
    moment = Moment(0, 1, 25, 0.0, 0.0, 1.0)
    parts = (Part(0, "page", "image"), Part(0, "frame", "image", moments=(moment,)))
    source = Source("a", "file:///a", Path("a"), 0, "", "")
    planners = [Blueprint(config).planner(Document(source, (part,)), NO_REPLIES) for part in parts]
    assert tuple(planner.context_parts for planner in planners) == expected


@pytest.mark.parametrize("protocol", ["chat", "responses"])
def test_clips_are_sent_to_models_that_take_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Whoever wants the model to look for itself hands over the clip, for about what the plan said."""
    monkeypatch.setenv("INGEST_API_KEY", "sk-test")
    app = create_app(models=["seed-2-0-pro"], counts_video=True)
    monkeypatch.setattr(session, "Client", partial(Client, transport=httpx.ASGITransport(app=app)))
    (tmp_path / "talk.mp4").write_bytes(small_talk())
    config = ingest.configure(
        recipe="lecture",
        profile="seed-2-0-pro",
        base_url="http://engine.invalid/v1",
        protocol=protocol,
        output=tmp_path / "out",
        settings={"reading": {"video": "native", "fps": 4.0}},
    )
    planned = ingest.plan([tmp_path / "talk.mp4"], config).totals.input_tokens_expected
    ingest.run_to_folder([tmp_path / "talk.mp4"], config)
    record = json.loads((tmp_path / "out" / "talk.mp4.json").read_text(encoding="utf-8"))
    assert (record["status"], record["coverage"]["answered"]) == ("complete", 1)
    (entry,) = app.state.accounting.entries
    assert entry.input_tokens > 32 * 384
    assert planned == pytest.approx(entry.input_tokens, rel=0.15)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"local": True}, "the local engine takes no video"),
        ({"profile": "seed-2-0-pro", "protocol": "messages"}, "the messages protocol takes no video"),
        ({"profile": "own.toml"}, "profile openai-compatible takes no video"),
    ],
)
def test_clips_are_refused_where_nobody_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, Any], reason: str
) -> None:
    """Said before anything is read or sent, with the way out."""
    monkeypatch.setenv("INGEST_API_KEY", "sk-test")
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text('extends = "openai-compatible"\nmodel = "own"\n', encoding="utf-8")
    if "local" not in where:
        where = {**where, "base_url": "http://engine.invalid/v1"}
    with pytest.raises(ConfigError, match=f"{reason}: send its frames"):
        ingest.configure(recipe="lecture", settings={"reading": {"video": "native"}}, **where)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["screen-recording", "meeting", "incident", "lecture"])
def test_every_kept_video_is_read_to_the_letter(fixtures_folder: Path, tmp_path: Path, kind: str) -> None:
    """Each recipe for videos has a fixture, and the local engine reads it well enough to show what a record holds."""
    records = run([fixtures_folder / "videos" / kind], kind, tmp_path, fps=5.0)
    assert {record["status"] for record in records.values()} == {"complete"}
    ignore = ("summary", "steps/*/action")
    overall = score(tmp_path, fixtures_folder / "truth" / "videos" / kind, 0.2, ignore).to_dict()["overall"]
    assert overall["accuracy"] >= 0.95
    assert overall["precision"] >= 0.95


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_long_lectures_keep_every_slide(tmp_path: Path) -> None:
    """Twelve slides in ten minutes: 95 % of the titles, starts within the rate, none invented and none twice."""
    write_samples(fresh_lectures(2, 23), tmp_path / "made")
    records = run([tmp_path / "made" / "documents"], "lecture", tmp_path / "out")
    result = score(tmp_path / "out", tmp_path / "made" / "truth", 1.0)
    told = result.to_dict()
    rows, fields = told["rows"]["slides"], told["fields"]
    assert rows["predicted"] == rows["expected"] == rows["paired"] == 24
    assert fields["slides/*/title"]["accuracy"] >= 0.95
    assert fields["slides/*/start_s"]["accuracy"] == 1.0
    for record in records.values():
        titles = [slide["title"] for slide in record["data"]["slides"]]
        assert len(titles) == len(set(titles)) == 12


@pytest.mark.long
def test_a_truncated_video_gives_what_decodes(fixtures_folder: Path, tmp_path: Path) -> None:
    """Half a talk is worth having, and must not pass for the whole."""
    records = run([fixtures_folder / "videos" / "damaged"], "lecture", tmp_path)
    record = records["truncated.mp4"]
    assert record["status"] == "partial"
    assert record["data"]["slides"]
    assert any("truncated.mp4" in problem["message"] for problem in record["problems"])
