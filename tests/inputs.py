"""What tests of inputs share: documents a scripted model answers about, places to put them, and runs over them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import ingest
from ingest.engine import session
from ingest.reading.discover import Given
from ingest.record import Record
from tests.scripted_model import SCHEMA, ScriptedModel


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """The model in the embedded engine's place; retries do not wait."""
    import stamina

    stamina.set_testing(True, attempts=3)
    scripted = ScriptedModel()
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(scripted))
    return scripted


def text(title: str) -> bytes:
    """A document of one page."""
    return f"TITLE: {title}\nROW first 1\n{'plain words that fill the page ' * 8}\n".encode()


def config(output: Path | None, **settings: dict[str, Any]) -> ingest.Config:
    """Settings for the scripted model."""
    return ingest.configure(schema=SCHEMA, local=True, output=output, settings=settings)


def records(given: Sequence[Given], output: Path | None = None, **settings: dict[str, Any]) -> list[Record]:
    """The records of a run in the order they came."""
    return list(ingest.run(given, config=config(output, **settings)))


def by_name(given: Sequence[Given], output: Path | None = None, **settings: dict[str, Any]) -> dict[str, Record]:
    """The records of a run by name."""
    return {record.document.name: record for record in records(given, output, **settings)}


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


@contextmanager
def web(pages: Mapping[str, bytes], failures: int = 0, cut_at: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A web server on loopback: its address, and the paths it was asked for.

    Its first `failures` answers are 503; with `cut_at` it promises whole files and closes after so many bytes.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(is_body=False)

        def do_GET(self) -> None:
            self._answer(is_body=True)

        def _answer(self, is_body: bool) -> None:
            nonlocal failures
            asked.append(self.path)
            content = pages.get(self.path.partition("?")[0])
            failures -= 1
            if failures >= 0 or content is None:
                self.send_error(503 if failures >= 0 else 404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(content)}"')
            self.send_header("Accept-Ranges", "none")
            self.end_headers()
            if is_body:
                self.wfile.write(content[:cut_at])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test tells."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
