"""What the local engine's rules make of frames: screens with their times, whatever the schema calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import pipelines.recipes
from ingest.asking import schema as asking_schema
from ingest.local.filler import fill
from ingest.local.page import Line, Page, Segment, Token
from ingest.local.reader import read_text

RECIPES = Path(pipelines.recipes.__file__).parent
HEIGHT, BODY, TITLE = 540.0, 25.0, 42.0


def line(text: str, y: float, height: float = BODY, x: float = 60.0) -> Line:
    """A line of a frame; two spaces or more part its segments, and each column of them is 330 px wide."""
    segments = []
    for column, piece in enumerate(part for part in text.split("  ") if part.strip()):
        tokens, left = [], x + 330 * column
        for word in piece.split():
            width = len(word) * height * 0.45
            tokens.append(Token(word, left, y, left + width, y + height))
            left += width + height * 0.3
        segments.append(Segment.of(tokens))
    return Line.of(segments)


def frame(time_s: float, *lines: Line, is_context: bool = False) -> Page:
    """A frame of 960 by 540 pixels."""
    return Page(int(time_s * 10) + 1, 960.0, HEIGHT, lines, "ocr", is_context, 11.0, BODY, time_s=time_s)


def slide(time_s: float, title: str, *points: str, number: str = "", is_context: bool = False) -> Page:
    """A frame that shows a slide."""
    lines = [line(title, 40, TITLE)]
    lines += [line(point, 140 + 52 * row) for row, point in enumerate(points)]
    if number:
        lines.append(line(f"Tidal Kilns  {number}", 510, 17))
    return frame(time_s, *lines, is_context=is_context)


def spoken(time_s: float, text: str) -> Page:
    """What is said from a time on."""
    page = read_text(1, text)
    return Page(int(time_s * 10) + 2, page.width, page.height, page.lines, "text", time_s=time_s, is_spoken=True)


def run(schema: dict[str, Any], pages: list[Page], end_s: float | None = None) -> tuple[Any, dict[str, float | None]]:
    """The data in the user's shape and the time each value is cited at; what is sent back fits the chunk schema."""
    chunk_schema = asking_schema.derive(schema, "part", medium="video")
    filled = fill(chunk_schema.schema, pages, "", end_s).data
    Draft202012Validator(chunk_schema.schema).validate(filled)
    data, cites = asking_schema.restore(filled, chunk_schema)
    return data, {pointer: cite.time_s for pointer, cite in cites.items()}


def recipe(name: str) -> dict[str, Any]:
    """The document schema of a recipe."""
    loaded: dict[str, Any] = json.loads((RECIPES / name / "schema.json").read_text(encoding="utf-8"))
    return loaded


def list_of(**properties: str) -> dict[str, Any]:
    """A schema of a list `slides` of objects with these properties and types."""
    fields = {name: {"type": [kind, "null"]} for name, kind in properties.items()}
    item = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "object", "properties": {"slides": {"type": "array", "items": item}}, "required": ["slides"]}


def test_a_slide_that_fills_up_is_one_slide() -> None:
    """Point by point is how most lectures are shown; an entry per state would list every slide three times."""
    pages = [
        slide(0, "Night Ferries", "Mara Fennick", "Harbour Institute, 14 March 2023"),
        slide(12.4, "The first trial", "• Rain stops the work on 12 days"),
        slide(15, "The first trial", "• Rain stops the work on 26 days", "• Dust is the main cause"),
        slide(20, "What it costs", "• About 31 thousand euros"),
    ]
    data, cites = run(recipe("lecture"), pages, 30.0)
    assert [(s["title"], s["start_s"], s["end_s"]) for s in data["slides"]] == [
        ("Night Ferries", 0, 12.4),
        ("The first trial", 12.4, 20),
        ("What it costs", 20, 30),
    ]
    assert data["slides"][1]["bullets"] == ["Rain stops the work on 26 days", "Dust is the main cause"]
    assert (data["title"], data["speaker"], data["date"]) == ("Night Ferries", "Mara Fennick", "2023-03-14")
    assert (cites["/slides/1"], cites["/slides/1/bullets/1"], cites["/speaker"]) == (12.4, 15, 0)


def test_what_is_still_shown_has_no_end_until_the_video_ends() -> None:
    """The end of a chunk is not the end of a slide: a guess here would be merged into the record as a fact."""
    pages = [slide(0, "Opening words", "One thing"), slide(9, "Second words", "Another thing")]
    assert [s["end_s"] for s in run(recipe("lecture"), pages)[0]["slides"]] == [9, None]
    assert [s["end_s"] for s in run(recipe("lecture"), pages, 12.5)[0]["slides"]] == [9, 12.5]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Costs of the first year", "Costs of the first year", True),
        ("Costs of the first year", "Costs 0f the first vear", True),
        ("Costs of year 1", "Costs of year 2", False),
        ("Costs of the first year", "Costs of the second year", False),
    ],
)
def test_titles_tell_slides_apart(one: str, other: str, is_same: bool) -> None:
    """OCR misreads a letter now and then; a digit that differs is another slide."""
    data, _ = run(recipe("lecture"), [slide(0, one, "Some point"), slide(5, other, "Some point", "More")], 9.0)
    assert len(data["slides"]) == (1 if is_same else 2)


def test_one_title_over_other_content_is_another_slide() -> None:
    """Results, continued."""
    pages = [
        slide(0, "Results", "Yield rose", "Costs fell"),
        slide(5, "Results", "Staff were trained", "Noise stayed low"),
    ]
    assert len(run(recipe("lecture"), pages, 9.0)[0]["slides"]) == 2


def test_a_slide_shown_again_is_an_entry_again() -> None:
    """Its second showing has times of its own."""
    pages = [slide(0, "Plan", "One"), slide(5, "Detail", "Two"), slide(9, "Plan", "One")]
    slides = run(recipe("lecture"), pages, 12.0)[0]["slides"]
    assert [(s["title"], s["start_s"], s["end_s"]) for s in slides] == [
        ("Plan", 0, 5),
        ("Detail", 5, 9),
        ("Plan", 9, 12),
    ]


def test_broken_lines_are_joined_and_edges_left_out() -> None:
    """Titles and points run over two lines; footers and slide numbers are not what the slide says."""
    long_title = frame(
        0,
        line("Comparing Two Methods of Drying", 30, TITLE),
        line("and Storing the Goods", 76, TITLE),
        line("• Every batch is weighed, dried for five days and weighed again by the", 160, x=70),
        line("two inspectors", 192, x=100),
        line("• Dust is the main cause", 244, x=70),
        line("Tidal Kilns  17", 510, 17),
    )
    data, _ = run(recipe("lecture"), [long_title, slide(9, "The end", "Thank you all", number="18")], 12.0)
    first = data["slides"][0]
    assert first["title"] == "Comparing Two Methods of Drying and Storing the Goods"
    assert first["bullets"] == [
        "Every batch is weighed, dried for five days and weighed again by the two inspectors",
        "Dust is the main cause",
    ]
    assert (first["number"], data["slides"][1]["number"]) == ("17", "18")
    assert data["slides"][1]["bullets"] == ["Thank you all"]


def test_slides_of_neighbours_are_left_to_them() -> None:
    """A slide only context frames show would be reported twice; one that began there is whole only with them."""
    pages = [
        slide(0, "Before", "One", is_context=True),
        slide(4, "Across", "Two", is_context=True),
        slide(6, "Across", "Two", "Three"),
        slide(9, "After", "Four", is_context=True),
    ]
    slides = run(recipe("lecture"), pages)[0]["slides"]
    assert [(s["title"], s["start_s"], s["end_s"]) for s in slides] == [("Across", 4, 9)]


def test_users_own_names_for_times() -> None:
    """A schema of somebody else asks for the same things in other words, and for times as text."""
    pages = [slide(3, "Opening", "One thing"), slide(75, "Second part", "Another thing")]
    schema = list_of(heading="string", beginTime="number", until="string", content="string", duration="number")
    slides = run(schema, pages, 100.0)[0]["slides"]
    assert slides[1] == {
        "heading": "Second part",
        "beginTime": 75,
        "until": "1:40",
        "content": "Another thing",
        "duration": 25,
    }
    plain = {"type": "object", "properties": {"slides": {"type": "array", "items": {"type": "string"}}}}
    assert run(plain, pages)[0] == {"slides": ["Opening", "Second part"]}


def form(time_s: float, title: str, *rows: str, notice: str = "") -> Page:
    """A frame that shows a window with a form."""
    lines = [line("Quayside Orders", 50, 18), line(title, 95, 36)]
    lines += [line(row, 160 + 50 * number) for number, row in enumerate(rows)]
    return frame(time_s, *lines, line(f"Send  {notice}", 440, x=140))


def test_a_form_is_reported_with_its_final_values() -> None:
    """Half-typed values are not what was entered."""
    pages = [
        form(0, "New order", "Customer", "Quantity"),
        form(4, "New order", "Customer  Oakh", "Quantity"),
        form(5, "New order", "Customer  Oakhurst", "Quantity"),
        form(8, "New order", "Customer  Oakhurst", "Quantity  40"),
        form(9, "New order", "Customer  Oakhurst", "Quantity  60"),
        form(12, "New order", "Customer  Oakhurst", "Quantity  60", notice="Order 7731 sent"),
    ]
    data, cites = run(recipe("screen-recording"), pages, 15.0)
    assert [tuple(field.values()) for field in data["fields"]] == [
        ("New order", "Customer", "Oakhurst", 5),
        ("New order", "Quantity", "60", 9),
    ]
    assert [(step["start_s"], step["action"]) for step in data["steps"]] == [
        (4, "Customer: Oakhurst"),
        (8, "Quantity: 40"),
        (9, "Quantity: 60"),
        (12, "Order 7731 sent"),
    ]
    assert (data["application"], data["outcome"]) == ("Quayside Orders", "Order 7731 sent")
    assert (cites["/steps/0"], cites["/fields/1"]) == (4, 9)


def test_events_are_what_comes_and_goes() -> None:
    """What is on the picture all the time did not happen."""
    camera = [line("Basin Control Room", 40, 32), line("Camera 7", 120), line("Inflow normal", 160)]
    alarm = line("14:02:06 Pump 3 stopped", 420, 30)
    pages = [frame(0, *camera), frame(6, *camera, alarm), frame(10, *camera, alarm), frame(14, *camera)]
    data, _ = run(recipe("incident"), pages, 20.0)
    assert data["events"] == [{"start_s": 6, "end_s": 14, "clock": "14:02:06", "what": "Pump 3 stopped"}]
    assert (data["location"], data["source"]) == ("Basin Control Room", "Camera 7")


def notes(time_s: float, decisions: list[str], tasks: list[str]) -> Page:
    """A frame that shows notes of a meeting."""
    texts = ["Agenda", "  1. Budget of the quay", "  2. New crane", "Decisions", *(f"  {d}" for d in decisions)]
    texts += ["Action items", *(f"  {task}" for task in tasks)]
    lines = [line("Harbour Board, 3 June 2024", 30, 36)]
    for row, text in enumerate(texts):
        lines.append(line(text.strip(), 90 + 32 * row, x=84 if text.startswith("  ") else 60))
    return frame(time_s, *lines)


def test_minutes_of_a_meeting_have_their_times() -> None:
    """A decision counts from when it is written down, and a task belongs to somebody."""
    tasks = ["Order the crane - Mara, 15 June", "Pavel: Print new signs by Friday"]
    pages = [notes(0, [], []), notes(9, ["Buy the crane"], tasks[:1]), notes(15, ["Buy the crane"], tasks)]
    data, _ = run(recipe("meeting"), pages, 20.0)
    assert [item["topic"] for item in data["agenda"]] == ["Budget of the quay", "New crane"]
    assert data["decisions"] == [{"decision": "Buy the crane", "time_s": 9}]
    assert data["action_items"] == [
        {"task": "Order the crane", "owner": "Mara", "due": "15 June", "time_s": 9},
        {"task": "Print new signs", "owner": "Pavel", "due": "Friday", "time_s": 15},
    ]


def test_subtitles_are_words_at_their_time() -> None:
    """What is said but not shown is on the record as well."""
    schema = list_of(title="string", narration="string") | {"title": "Talk"}
    schema["properties"]["order_number"] = {"type": ["string", "null"], "description": "Number of the order"}
    pages = [
        slide(0, "Plan", "One"),
        spoken(0, "Order number: 77-3120"),
        slide(8, "Detail", "Two"),
        spoken(8, "Thank you."),
    ]
    data, cites = run(schema, pages, 10.0)
    assert data["slides"] == [
        {"title": "Plan", "narration": "Order number: 77-3120"},
        {"title": "Detail", "narration": "Thank you."},
    ]
    assert data["order_number"] == "77-3120"
    assert cites["/order_number"] == 0


def test_a_value_is_cited_where_it_is_seen_first() -> None:
    """A screen is read in its final state, but the value may have come later than the screen."""
    schema = {"type": "object", "properties": {"invoice_number": {"type": ["string", "null"]}}}
    pages = [
        form(0, "Invoice details", "Customer  Oakhurst", "Status  open"),
        form(6, "Invoice details", "Customer  Oakhurst", "Invoice number  RE-2024-118"),
        form(9, "Invoice details", "Customer  Oakhurst", "Invoice number  RE-2024-118", notice="Saved"),
    ]
    assert run(schema, pages) == ({"invoice_number": "RE-2024-118"}, {"/invoice_number": 6})


@pytest.mark.parametrize("name", ["lecture", "meeting", "screen-recording", "incident", "generic"])
def test_frames_without_text_give_an_empty_record(name: str) -> None:
    """A film of the sea must not fail, and must not be full of inventions."""
    data, cites = run(recipe(name), [frame(0), frame(5), frame(9)], 10.0)
    assert cites == {}
    assert not any(data[key] for key in data)


def test_the_ordinary_rules_work_on_frames() -> None:
    """An invoice held into a camera is an invoice."""
    schema = {
        "type": "object",
        "properties": {"invoice_number": {"type": ["string", "null"]}, "invoice_date": {"type": ["string", "null"]}},
    }
    page = frame(
        4, line("Invoice", 40, TITLE), line("Invoice number  RE-77120", 140), line("Invoice date  2024-05-17", 180)
    )
    data, cites = run(schema, [frame(0), page])
    assert data == {"invoice_number": "RE-77120", "invoice_date": "2024-05-17"}
    assert set(cites.values()) == {4}
