"""The local engine at work: what it reads and answers, and how it runs in this process and over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.errors import ConfigError, OutputError
from ingest.local import answering, reader
from ingest.local.server import create_app
from ingest.local.serving import serve
from ingest.local.tags import find_schema
from tests.local_calls import (
    CHAT,
    TOTAL,
    Seen,
    call,
    content,
    echo_words,
    image_bytes,
    image_part,
    message_request,
    page,
    page_in_document,
    post,
    request,
    response_request,
    schema_format,
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the filler was handed; it answers with the words it read."""
    return echo_words(monkeypatch)


@pytest.fixture
def no_ocr(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes the number of every page whose image is read, without reading it."""
    numbers: list[int] = []

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        numbers.append(number)
        return reader.read_text(number, "", is_context)

    monkeypatch.setattr(reader, "read_image", read_image)
    return numbers


@pytest.fixture(scope="module")
def app() -> Any:
    """The engine as it is by default."""
    return create_app()


# What it reads


def test_changing_one_amount_changes_that_value_alone(app: Any) -> None:
    """Answers come from the words sent, so an edited document must give an edited answer and nothing else."""
    text = "Invoice INV-7\nCurrency: EUR\nTotal: {}"
    answers = [
        content(post(app, request(page_in_document(text.format(amount)), response_format=schema_format())))
        for amount in ("125.40", "98.15")
    ]
    assert [answer["total"] for answer in answers] == [125.40, 98.15]
    assert answers[0]["currency"] == answers[1]["currency"] == "EUR"


def test_image_page_is_read_by_ocr_and_words_come_with_boxes(app: Any) -> None:
    """A scan has no words of its own; they and their places must come back for grounding."""
    parts = ['<document pages="1">', '<page number="4">', image_part(image_bytes("Total 125.40 EUR")), "</page>"]
    response = post(app, request(*parts, "</document>", response_format=schema_format()))
    assert content(response)["total"] == 125.40
    (entry,) = response.json()["x_page_words"]
    words = {text: box for *box, text in entry["words"]}
    assert entry["page"] == 4
    x0, y0, x1, y1 = words["125.40"]
    assert 0 < x0 < x1 < 1
    assert 0 < y0 < y1 < 0.5


def test_page_with_words_is_never_read_from_its_image(app: Any, seen: Seen, no_ocr: list[int]) -> None:
    """Born-digital pages carry exact words; OCR would be slower and less true."""
    picture = image_part(image_bytes("other words"))
    parts = [
        '<document pages="3">',
        page(1, "first"),
        '<page number="2">\nsecond',
        picture,
        "</page>",
        '<page number="3">',
        picture,
        "</page>",
        "</document>\nAnswer.",
    ]
    response = post(app, request(*parts, response_format=schema_format()))
    assert content(response) == {"words": "first second "}
    assert no_ocr == [3]
    assert [entry["page"] for entry in response.json()["x_page_words"]] == [3]


def test_tags_give_page_numbers_context_and_instructions(app: Any, seen: Seen) -> None:
    """Values may be taken from owned pages only, so numbers and the context mark must arrive as sent."""
    parts = [
        "Read the totals.",
        '<document pages="2">',
        page(7, "a", ' context="yes"'),
        page(8, "b"),
        "</document>\nGo.",
    ]
    body = request(*parts, response_format=schema_format())
    body["messages"].insert(0, {"role": "system", "content": "You extract."})
    post(app, body)
    assert [(p.number, p.is_context, p.text) for p in seen.pages] == [(7, True, "a"), (8, False, "b")]
    assert seen.instructions == "Read the totals."


def test_tags_spoken_of_in_instructions_open_nothing(app: Any, seen: Seen) -> None:
    """A recipe may explain the tags; only a line that starts with one begins the document."""
    told = 'Pages stand between <document> and </document>, each in <page number="1">.'
    post(app, request(told, page_in_document("a"), response_format=schema_format()))
    assert [(p.number, p.text) for p in seen.pages] == [(1, "a")]
    assert seen.instructions == told
    post(app, request(told, response_format=schema_format()))
    assert [p.number for p in seen.pages] == [1]
    assert "Pages stand between" in seen.pages[0].text


def test_without_tags_every_part_is_a_page(app: Any, seen: Seen, no_ocr: list[int]) -> None:
    """Other clients know nothing of our tags and must be answered from what they send."""
    body = request("one", image_part(image_bytes()), "three", response_format=schema_format())
    body["messages"].insert(0, {"role": "system", "content": "Hints"})
    post(app, body)
    assert [(p.number, p.text) for p in seen.pages] == [(1, "one"), (2, ""), (3, "three")]
    assert no_ocr == [2]
    assert seen.instructions == "Hints"


def test_plain_chat_answers_the_words_read(app: Any) -> None:
    """A request without any schema still gets something real: the document's words."""
    response = post(app, request("Delivery note 5512", image_part(image_bytes("Pallets 17"))))
    assert response.json()["choices"][0]["message"]["content"] == "Delivery note 5512\n\nPallets 17"


def test_forced_tool_gets_the_filled_arguments(app: Any) -> None:
    """The second rung of the ladder asks by a forced function."""
    tools = [{"type": "function", "function": {"name": "save", "parameters": TOTAL}}]
    choice = {"type": "function", "function": {"name": "save"}}
    response = post(app, request(page_in_document("Total: 12.50 USD"), tools=tools, tool_choice=choice)).json()
    (answer,) = response["choices"]
    (tool_call,) = answer["message"]["tool_calls"]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["content"] is None
    assert tool_call["function"]["name"] == "save"
    assert json.loads(tool_call["function"]["arguments"])["total"] == 12.5


@pytest.mark.parametrize("place", ["system", "instructions", "closing"])
def test_schema_written_in_the_prompt_is_filled(app: Any, place: str) -> None:
    """The last rung has no API support: the schema stands in the words of the prompt."""
    written = f"Answer with JSON for this schema:\n{json.dumps(TOTAL, indent=1)}\nNothing else. Example: {{}}"
    texts = [page_in_document("Total: 12.50 USD")]
    body = request(*{"instructions": [written, *texts], "closing": [*texts, written]}.get(place, texts))
    if place == "system":
        body["messages"].insert(0, {"role": "system", "content": written})
    assert content(post(app, body))["total"] == 12.5


def test_find_schema_takes_the_largest_and_leaves_the_rest() -> None:
    """Prompts hold examples and braces in prose beside the schema."""
    text = f'{{not json}} {{"type": "object"}} before {json.dumps(TOTAL)} after {{"a": 1}}'
    assert find_schema(text) == (TOTAL, '{not json} {"type": "object"} before  after {"a": 1}')
    assert find_schema("no braces") == (None, "no braces")


def test_schema_from_wire_is_not_looked_for_in_prose(app: Any, seen: Seen) -> None:
    """A document that prints a schema must not replace the schema that was asked for."""
    printed = json.dumps({"type": "object", "properties": {"other": {"type": "string"}}})
    post(app, request(f"About {printed}", response_format=schema_format()))
    assert seen.schema == TOTAL
    assert "other" in seen.pages[0].text


# The shape of answers


def test_chat_body_has_the_documented_shape(app: Any) -> None:
    """Clients parse these keys; the engine's name must show whatever model id was asked for."""
    body = post(create_app(models=["seed-2-0-pro"]), request("Total: 3 EUR", model="seed-2-0-pro")).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "seed-2-0-pro"
    assert body["system_fingerprint"] == "local-ocr-rules"
    assert body["service_tier"] == "default"
    assert body["choices"][0]["index"] == 0
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert "x_page_words" not in body


def test_thinking_is_told_and_counted_unless_switched_off(app: Any) -> None:
    """Thinking is on by default and billed as output beyond max_tokens."""
    on = post(app, request("Total: 3 EUR", max_tokens=2)).json()
    off = post(app, request("Total: 3 EUR", max_tokens=2, enable_thinking=False)).json()
    reasoning_tokens = on["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert "1 pages, 0 of them by OCR" in on["choices"][0]["message"]["reasoning_content"]
    assert on["usage"]["completion_tokens"] == 2 + reasoning_tokens > 2
    assert "reasoning_content" not in off["choices"][0]["message"]
    assert off["usage"]["completion_tokens"] == 2


def test_max_tokens_cuts_the_json(app: Any, seen: Seen) -> None:
    """A cut answer is the commonest failure of long tables: finish_reason length and broken JSON."""
    body = request("many words " * 50, response_format=schema_format(), max_tokens=20, enable_thinking=False)
    response = post(app, body).json()
    assert response["choices"][0]["finish_reason"] == "length"
    assert response["usage"]["completion_tokens"] == 20
    with pytest.raises(json.JSONDecodeError):
        json.loads(response["choices"][0]["message"]["content"])


def test_cut_never_splits_a_character(app: Any) -> None:
    """Half a character cannot be sent as JSON; the answer ends before it."""
    text = "🧾" * 9
    for limit in range(1, 12):
        body = request(text, max_tokens=limit, enable_thinking=False)
        answer = post(app, body).json()["choices"][0]["message"]["content"]
        assert text.startswith(answer)


def test_stop_words_end_a_plain_answer(app: Any) -> None:
    """The gateway takes one comma-separated string."""
    response = post(app, request("alpha beta gamma delta", stop="delta,gamma", enable_thinking=False)).json()
    assert response["choices"][0]["message"]["content"] == "alpha beta "


def read_stream(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream that must end with its closing event."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_stream_brings_the_same_answer_and_usage(app: Any) -> None:
    """Long jobs are streamed; nothing may differ from the whole body."""
    body = request("Grüße " * 300, image_part(image_bytes("Total 9.75")))
    whole = post(app, body).json()
    response = post(app, body | {"stream": True, "stream_options": {"include_usage": True}})
    events = read_stream(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]][-1] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert [event["x_page_words"] for event in events if "x_page_words" in event] == [whole["x_page_words"]]


def test_stream_brings_tool_arguments_in_pieces(app: Any, seen: Seen) -> None:
    """The tool rung is streamed too; pieces of arguments must join to the whole."""
    tools = [{"type": "function", "function": {"name": "save", "parameters": TOTAL}}]
    body = request("word " * 200, tools=tools, tool_choice="required", stream=True)
    calls = [call for e in read_stream(post(app, body)) for call in e["choices"][0]["delta"].get("tool_calls", [])]
    assert len(calls) > 3
    assert calls[0]["function"]["name"] == "save"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"words": ("word " * 200).strip()}


def test_fences_and_ignored_schema_on_demand(seen: Seen) -> None:
    """Real services wrap JSON unless told not to, and some accept a schema and ignore it: clients must cope."""
    wrapping = create_app(wraps_json=True)
    body = request("x", response_format=schema_format())
    wrapped = post(wrapping, body).json()["choices"][0]["message"]["content"]
    assert wrapped == '```json\n{"words": "x"}\n```'
    assert content(post(wrapping, body | {"disable_formatting": True})) == {"words": "x"}
    ignoring = create_app(ignores_schema=True)
    assert post(ignoring, body).json()["choices"][0]["message"]["content"] == "x"


def test_model_card_tells_prices_and_limits() -> None:
    """Clients compare the card with their own constants at start and warn when they drift."""
    app = create_app(models=["seed-2-0-pro"])
    card = call(app, "GET", "/v1/models/seed-2-0-pro").json()
    assert [row["max_input_tokens"] for row in card["pricing_rows"]] == [127_999, 256_000]
    assert card["pricing_rows"][1]["output_usd_per_million"] == "7.58"
    assert {"max_tokens", "image_detail", "response_format"} <= set(card["supported_parameters"])
    assert card["input_modalities"] == ["text", "image", "file"]
    listed = call(app, "GET", "/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {"local-ocr-rules", "seed-2-0-pro"}
    assert call(app, "GET", "/v1/models/local-ocr-rules").json()["pricing_rows"][0]["input_usd_per_million"] == "0"


def test_slow_reading_does_not_block_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page takes seconds of OCR; text requests and the event loop must go on meanwhile."""
    release = threading.Event()

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        assert release.wait(30)
        return reader.read_text(number, "late")

    monkeypatch.setattr(reader, "read_image", read_image)
    app = create_app()

    async def scenario() -> tuple[int, int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            slow = asyncio.create_task(client.post(CHAT, json=request(image_part(image_bytes("x")))))
            quick = await client.post(CHAT, json=request("quick"))
            assert not slow.done()
            release.set()
            return quick.status_code, (await slow).status_code

    assert asyncio.run(scenario()) == (200, 200)


def test_cancelled_call_leaves_a_working_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gives up in the middle of a page; the rest of its pages are not read and others are still served."""
    started, release = threading.Event(), threading.Event()
    read: list[int] = []

    def read_image(number: int, data: bytes, is_context: bool = False) -> Any:
        read.append(number)
        started.set()
        assert release.wait(30)
        return reader.read_text(number, "late")

    monkeypatch.setattr(reader, "read_image", read_image)
    app = create_app()

    async def scenario() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            parts = [image_part(image_bytes(word)) for word in "abc"]
            task = asyncio.create_task(client.post(CHAT, json=request(*parts)))
            assert await asyncio.to_thread(started.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            release.set()
            return (await client.post(CHAT, json=request(parts[0]))).status_code

    assert asyncio.run(scenario()) == 200
    assert read == [1, 1]
    assert [entry.code for entry in app.state.accounting.entries] == ["cancelled", "stop"]


def test_failure_inside_is_a_500_without_traceback(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of the engine must reach the client as an error it can classify."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(answering, "fill", fail)
    response = post(app, request("x", response_format=schema_format()))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "InternalServiceError"
    assert "secret" not in response.text


# Running it


OFFLINE = """
import asyncio, socket, sys, httpx
from ingest.local.server import create_app
from tests.local_calls import CHAT, image_bytes, image_part, request

async def main():
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")
    socket.socket.connect = refuse
    socket.create_connection = refuse
    socket.getaddrinfo = refuse
    class NoSocket(socket.socket):
        def __init__(self, family=-1, *args, **kwargs):
            if family != socket.AF_UNIX:  # the pair by which it speaks to its own OCR process
                refuse()
            super().__init__(family, *args, **kwargs)
    socket.socket = NoSocket
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app()), base_url="http://x") as client:
        response = await client.post(CHAT, json=request(image_part(image_bytes("Total 125.40"))))
    print(response.json()["choices"][0]["message"]["content"])

asyncio.run(main())
"""


def test_reading_an_image_opens_no_socket() -> None:
    """Offline means offline: the OCR models lie inside the wheel, and nothing is downloaded on first use."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Total 125.40"


@pytest.mark.parametrize("package", ["starlette", "bpe_openai", "uvicorn"])
def test_missing_extra_is_named(package: str) -> None:
    """Without the optional packages the error must say what to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from ingest.errors import ConfigError\n"
        "try:\n    from ingest.local.server import create_app\n    from ingest.local.serving import serve\n"
        "    serve(port=0, app=create_app())\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert "pip install 'ingest[local]'" in done.stdout, done.stderr


def test_serve_refuses_strangers_and_busy_ports() -> None:
    """Other machines may only reach an engine that asks for a key; a taken port is told plainly."""
    with pytest.raises(ConfigError, match="give a token"):
        serve("0.0.0.0", 0, app=create_app())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            serve("127.0.0.1", taken.getsockname()[1], app=create_app())


SERVED = """
import sys
from ingest.local.server import create_app
from ingest.local.serving import serve
serve(port=0, app=create_app(faults=["dropped"]), announce=lambda url: print(url, flush=True))
"""


def test_served_engine_answers_over_a_socket_and_drops_connections() -> None:
    """`ingest serve` is for clients of any language; a dropped connection must look like one on the wire."""
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                client.post("chat/completions", json=request("Total 5"))
            answer = client.post("chat/completions", json=request("Total 5")).json()
        assert answer["choices"][0]["message"]["content"] == "Total 5"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert not re.search("Traceback|ERROR", errors), errors


def test_ledger_is_shown_only_when_enabled(tmp_path: Path) -> None:
    """The ledger tells what was asked and when; it is the owner's choice to show it."""
    assert call(create_app(), "GET", "/v1/local/ledger").status_code == 404
    app = create_app(serves_ledger=True, ledger_path=tmp_path / "deep" / "ledger.jsonl")
    post(app, request("x"))
    shown = call(app, "GET", "/v1/local/ledger").json()
    assert shown["totals"]["requests"] == 1
    lines = (tmp_path / "deep" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == shown["data"]
    with pytest.raises(OutputError):
        create_app(ledger_path=tmp_path)


def test_ingest_serve_takes_faults_limits_and_a_request_log(tmp_path: Path) -> None:
    """The command is how others point their own clients at the contract; its log never holds the key."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[script]\n1 = "quota"\n2 = { kind = "overloaded", retry_after_s = 4 }\n3 = "reset"\n')
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "ingest", "serve", "--port", "0", "--model", "seed-2-0-pro", "--envelope", "ark"]
    command += ["--faults", str(faults), "--seed", "4", "--request-log", str(log), "--latency", "0.01"]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "INGEST_SERVE_TOKEN": "sesame"}
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        headers = {"x-api-key": "sesame", "x-client-request-id": "mine"}
        with httpx.Client(base_url=url, timeout=30, trust_env=False, headers=headers) as client:
            quota = client.post("chat/completions", json=request("Total 5"))
            assert quota.json()["error"]["code"] == "QuotaExceeded"
            assert client.post("messages", json=message_request("Total 5")).headers["retry-after"] == "4"
            with pytest.raises(httpx.TransportError):
                client.post("responses", json=response_request("Total 5"))
            answer = client.post("responses", json=response_request("Total 5"))
            assert answer.json()["output"][-1]["content"][0]["text"] == "Total 5"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert not re.search("Traceback|ERROR", errors), errors
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["fault"] for entry in entries] == ["quota", "overloaded", "reset", ""]
    assert {entry["client_request_id"] for entry in entries} == {"mine"}
    assert "sesame" not in log.read_text() + errors


@pytest.mark.parametrize("faults", ["absent.toml", "7", "nonsense:0.5"])
def test_ingest_serve_refuses_wrong_faults(faults: str) -> None:
    """A slip in the option is a configuration error, not a server without faults."""
    command = [sys.executable, "-m", "ingest", "serve", "--port", "0", "--faults", faults]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "fault file" in done.stderr
