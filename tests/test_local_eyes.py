"""Images are read in a process of their own: it may die, hang or be killed, and costs one request at most."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ingest.errors import Unreadable
from ingest.local import eyes
from ingest.local.eyes import Eyes, pack_page, unpack_page
from ingest.local.page import Line, Page, Segment, Token
from tests.local_calls import create_app, image_part, post, request


def picture(shade: int = 255) -> bytes:
    """A blank image: it needs decoding, and no model."""
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def sight() -> Iterator[Eyes]:
    """A process of this test's own."""
    own = Eyes()
    with own.in_use():
        yield own
    assert own.process_id is None


def is_running(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_nothing_starts_before_an_image_comes_and_nothing_stays() -> None:
    """Most requests are text; and a finished run leaves no process that holds the models."""
    own = Eyes()
    with own.in_use():
        assert own.process_id is None
        (page,) = own.read("image", picture())
        pid = own.process_id
        assert (page.width, page.height, page.lines, page.origin) == (400.0, 300.0, (), "ocr")
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_cannot_be_decoded_is_told_and_costs_no_process(sight: Eyes) -> None:
    """Damaged images are common, and a process takes long to start."""
    sight.read("image", picture())
    pid = sight.process_id
    with pytest.raises(Unreadable, match="cannot be decoded"):
        sight.read("image", b"no picture")
    sight.read("frame", picture())
    assert sight.process_id == pid


def test_a_process_killed_from_outside_costs_nothing(sight: Eyes) -> None:
    """When memory runs out the system kills whom it likes; the image is not to blame."""
    sight.read("image", picture())
    first = sight.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert len(sight.read("cells", picture(), columns=2, rows=1, count=2)) == 2
    assert sight.process_id != first


def test_an_image_that_hangs_its_process_is_given_up(sight: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image must not hold up all that come after it."""
    sight.read("image", picture())
    stuck = sight.process_id
    assert stuck is not None
    monkeypatch.setattr(eyes, "PAGE_TIMEOUT_S", 0.3)
    sight._process._socket.settimeout(0.3)  # type: ignore[union-attr]
    os.kill(stuck, signal.SIGSTOP)
    with pytest.raises(Unreadable, match=r"longer than 0\.3 s"):
        sight.read("image", picture())
    with pytest.raises(ProcessLookupError):
        os.kill(stuck, 0)
    monkeypatch.undo()
    assert sight.read("image", picture())


def test_an_image_that_kills_two_processes_is_given_up(sight: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried for ever, it would stop the run."""
    killed: list[int] = []
    read = eyes._Process.read

    def crash(process: Any, what: str, data: bytes, how: dict[str, int]) -> Any:
        killed.append(process.pid)
        os.kill(process.pid, signal.SIGSEGV)
        return read(process, what, data, how)

    monkeypatch.setattr(eyes._Process, "read", crash)
    with pytest.raises(Unreadable, match=r"ends the OCR process .*-11"):
        sight.read("image", picture())
    assert len(set(killed)) == 2
    monkeypatch.undo()
    assert sight.read("image", picture())


def test_closing_ends_a_read_under_way(sight: Eyes) -> None:
    """Ctrl-C must not wait for a page in hand, and must not start a process anew."""
    sight.read("image", picture())
    pid = sight.process_id
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    failed: list[str] = []

    def read() -> None:
        try:
            sight.read("image", picture())
        except Unreadable as error:
            failed.append(error.message)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    sight.close()
    thread.join(10)
    assert failed
    assert "closed" in failed[0]
    assert sight.process_id is None


def test_it_ends_when_its_parent_is_killed() -> None:
    """kill -9 on a run must not leave a process that holds the models for ever."""
    script = (
        "import io, sys, time\nfrom PIL import Image\nfrom ingest.local.eyes import EYES\n"
        "out = io.BytesIO(); Image.new('RGB', (40, 30)).save(out, 'PNG')\n"
        "EYES.read('image', out.getvalue()); print(EYES.process_id, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_a_page_crosses_unchanged() -> None:
    """Records must be the same wherever the page was read."""
    tokens = [Token("Tötal\u3042", 0.1, 2.3, 5.000000000000001, 7.0), Token("9,00", 8.25, 2.0, 9.5, 7.125)]
    lines = (Line.of([Segment.of(tokens[:1]), Segment.of(tokens[1:])]),)
    page = Page(0, 640.0, 480.0, lines, "ocr", char_width=3.3, line_height=12.1, rotation_deg=90, skew_rad=-0.01)
    assert unpack_page(pack_page(page)) == page
    for wrong in ({}, {"lines": 3}, pack_page(page) | {"lines": [[]]}, pack_page(page) | {"width": None}):
        with pytest.raises(ValueError, match="no page"):
            unpack_page(wrong)


def test_a_request_whose_image_cannot_be_read_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets a clean error about that image, and the next request is served."""

    def give_up(what: str, data: bytes, **how: int) -> Any:
        raise Unreadable("reading the image took longer than 120 s and was stopped")

    monkeypatch.setattr(eyes.EYES, "read", give_up)
    response = post(create_app(), request("Read.", image_part(picture(254), "image/jpeg")))
    assert response.status_code == 400
    assert "longer than 120 s" in response.json()["error"]["message"]
