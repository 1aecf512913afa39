"""The key goes to the endpoint and nowhere else: searched for wherever a run leaves traces, whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ingest
from ingest.asking.client import Attempt, Client, _Auth, fetch_model_card
from ingest.asking.wire import WIRES
from ingest.cli.app import app
from ingest.config import AskingSettings
from ingest.errors import ConfigError, IngestError
from tests import fakes, wire_samples

KEY = "sk-live-9f8e7d6c5b4a3210-Zz"
FAULTS = ("none", "echo_400", "echo_401", "echo_402", "echo_429", "echo_500", "html", "stream_error", "reset", "cut")
SCHEMA = {"type": "object", "properties": {"title": {"type": ["string", "null"]}}}


class _Echo(BaseHTTPRequestHandler):
    """Answers with the fault its server was given; whatever can hold the key of the caller does."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        key = self.headers.get("authorization") or self.headers.get("x-api-key")
        self.server.keys.append(key)
        protocol = {"completions": "chat"}.get(self.path.rsplit("/", 1)[-1], self.path.rsplit("/", 1)[-1])
        fault = self.server.fault
        if fault.startswith("echo_"):
            words = f"your key {key}, your request {raw[:50]!r}, {KEY}"
            body = wire_samples.error_body(protocol, f"bad_{key}", words)
            self._send(int(fault[5:]), json.dumps(body).encode(), "application/json", str(key))
        elif fault == "html":
            self._send(502, f"<html>{key}</html>".encode(), "text/html", str(key))
        else:
            self._stream(fault, protocol, str(key))

    def _stream(self, fault: str, protocol: str, key: str) -> None:
        stream = wire_samples.events(protocol, json.dumps({"title": None}))
        if fault == "stream_error":
            stream = [*stream[:3], wire_samples.error_event(protocol, "server_error", f"key {key}")]
        content = wire_samples.to_bytes(stream)
        if fault in ("cut", "reset"):
            content = content[:-60]
        self._send(200, content, "text/event-stream", key, extra=100 if fault == "reset" else 0)

    def _send(self, status: int, content: bytes, media_type: str, key: str, extra: int = 0) -> None:
        self.send_response(status, "no")
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(content) + extra))
        self.send_header("x-request-id", "req-1")
        self.send_header("x-your-key", key)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Servers in tests say nothing."""


@contextmanager
def echo(fault: str) -> Iterator[tuple[str, list[str]]]:
    """A server with that fault: its base URL, and the keys it was sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.fault, server.keys = fault, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.keys  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def traces_of(error: BaseException) -> str:
    """All that a traceback tool could show: frames with their values, causes, arguments, the pickled error."""
    seen, text, rest = set(), "", [error]
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        text += "".join(traceback.TracebackException.from_exception(one, capture_locals=True).format())
        text += repr(one) + repr(one.args) + pickle.dumps(one).decode("latin-1")
        rest += [other for other in (one.__cause__, one.__context__) if other is not None]
    return text


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("protocol", sorted(WIRES))
def test_no_trace_of_a_call_holds_the_key(protocol: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Logs go to strangers' servers and tracebacks into tickets, with all values of their frames."""
    caplog.set_level(logging.DEBUG)
    attempts: list[Attempt] = []
    with echo(fault) as (url, keys):

        async def call() -> str:
            endpoint = fakes.make_endpoint(KEY, url, protocol=protocol)
            asking = AskingSettings(max_attempts=1, timeout_s=20)
            async with Client(endpoint, fakes.make_profile(), asking, None, attempts.append) as client:
                try:
                    await client.ask(fakes.make_request())
                except IngestError as error:
                    return traces_of(error) + repr(client)
                return repr(client)

        traces = asyncio.run(call())
    assert KEY in keys[0]
    assert (attempts[0].outcome == "answered") == (fault == "none")
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    everything = traces + repr(attempts) + caplog.text + "".join(map(repr, vars_of(caplog.records)))
    assert KEY not in everything
    assert KEY[8:] not in everything


def vars_of(records: list[logging.LogRecord]) -> list[Any]:
    """All that a log handler could look at."""
    return [vars(record) for record in records]


@pytest.mark.parametrize("fault", ["none", "echo_401", "echo_500", "stream_error"])
def test_no_file_and_no_output_of_a_run_holds_the_key(fault: str, tmp_path: Path) -> None:
    """Records, ledger, report, log and screen of a whole run, at the level people use when they file a bug."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("TITLE: a page of text\n" * 5)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    flags = ["--schema", str(tmp_path / "schema.json"), "-o", str(tmp_path / "out"), "--max-attempts", "1"]
    with echo(fault) as (url, keys):
        result = CliRunner().invoke(
            app,
            ["run", str(tmp_path / "in"), *flags, "--base-url", url, "--log-level", "debug"],
            env={"INGEST_API_KEY": KEY, "EMPIRIOLABS_API_KEY": ""},
        )
    assert KEY in keys[0]
    assert result.exit_code == {"none": 0, "echo_401": 4, "echo_402": 4}.get(fault, 1), result.output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(".ingest" in path.parts for path in written)
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in result.output


def test_settings_show_no_key() -> None:
    """Settings are printed in notebooks and dumped into reports."""
    config = ingest.configure(schema=SCHEMA, api_key=KEY, settings={"reading": {"passwords": [KEY]}})
    shown = repr(config) + str(config) + config.model_dump_json() + repr(config.model_dump())
    assert KEY not in shown


@pytest.mark.parametrize("library", ["httpx", "httpcore.http2", "hpack.hpack", "hpack.table", "h2.connection", "h11"])
def test_the_log_of_libraries_below_is_masked(library: str, caplog: pytest.LogCaptureFixture) -> None:
    """At debug level the header table of HTTP/2 writes down every header it is given."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger(library)
    client = Client(fakes.make_endpoint(KEY), fakes.make_profile(), AskingSettings())
    logger.debug("Adding %s to the header table", (b"authorization", f"Bearer {KEY}".encode()))
    assert KEY not in caplog.text
    assert "header table" in caplog.text
    asyncio.run(client.close())
    assert not [found for found in logger.filters if isinstance(found, _Auth)]


@pytest.mark.parametrize("fault", ["echo_401", "echo_500", "reset"])
def test_asking_for_the_model_card_leaves_no_trace(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first call of a run carries the key as all others do."""
    caplog.set_level(logging.DEBUG)
    with echo(fault) as (url, _), pytest.raises(IngestError) as caught:
        asyncio.run(fetch_model_card(fakes.make_endpoint(KEY, url), "seed-2-0-pro"))
    assert KEY not in traces_of(caught.value) + caplog.text


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    """A key pasted with its neighbours is still mostly the key."""
    with pytest.raises(ConfigError) as caught:
        Client(fakes.make_endpoint(f"{KEY} and more"), fakes.make_profile(), AskingSettings())
    assert KEY not in "".join(traceback.format_exception(caught.value)) + pickle.dumps(caught.value).decode("latin-1")
