"""The process that reads images by OCR, from the side of the engine: started when first needed, bounded, replaced.

Whatever an image does to its decoder or to the OCR engine costs the request that carried it and nothing else: the
process runs within bounds of memory and time, and the next call starts another one. It sees no key of this process's
environment, and answers in JSON. One process is enough: the OCR engine itself uses all cores.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ingest.errors import Unreadable
from ingest.local.page import Line, Page, Segment, Token

PAGE_TIMEOUT_S = 120.0
"""Time for reading one page or frame, the start of the process included; OCR of a dense page takes a few seconds."""
MEMORY_BYTES = 4_000_000_000
"""Address space of the process; the OCR models, their working memory and one image take about half of it."""
_MAX_RESIDENT_BYTES = 1_500_000_000
"""A process that holds more memory than this after a call is replaced."""
_MAX_ANSWER_BYTES = 64_000_000
FRAME = struct.Struct(">QQ")
"""Before each message: length of its JSON and of the bytes after it."""

_PASSED_ON = frozenset("PATH HOME LANG TZ TMPDIR TEMP TMP LD_LIBRARY_PATH DYLD_LIBRARY_PATH VIRTUAL_ENV".split())


class Eyes:
    """Reads images in a process of its own. Safe to use from many threads, which take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._users = 0
        self._process: _Process | None = None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the process from call to call; it ends when nobody uses it any more, else with this one."""
        with self._count:
            self._users += 1
        try:
            yield
        finally:
            with self._count:
                self._users -= 1
                if not self._users:
                    self.close()

    def read(self, what: str, data: bytes, **how: int) -> list[Page]:
        """The pages in an encoded image: of an `image`, a `frame`, or the `cells` of a contact sheet.

        Raises Unreadable when the image cannot be decoded, kills two processes, or takes too long.
        """
        with self._turn:
            for is_last in (False, True):
                process = self._started()
                try:
                    return process.read(what, data, how)
                except TimeoutError as error:
                    self._drop()
                    told = f"reading the image took longer than {PAGE_TIMEOUT_S:g} s and was stopped"
                    raise Unreadable(f"{told}; send a smaller one") from error
                except (OSError, EOFError, ValueError) as error:
                    was_closed = self._process is not process
                    self._drop()
                    if was_closed:
                        raise Unreadable("the local engine was closed while it read an image") from error
                    # Killed from outside, or by the image: a second process tells.
                    if is_last:
                        told = f"reading the image ends the OCR process ({process.ending}): it is damaged or malicious"
                        raise Unreadable(told) from error
                finally:
                    if process.resident_bytes > _MAX_RESIDENT_BYTES:
                        self._drop()
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """End the process; a call under way fails. The next call starts another one."""
        self._drop()

    @property
    def process_id(self) -> int | None:
        """Of the process that runs, if any does."""
        process = self._process
        return process.pid if process is not None else None

    def _started(self) -> _Process:
        if self._process is None or not self._process.is_alive:
            self._drop()
            self._process = _Process()
        return self._process

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()


class _Process:
    """One process and the socket to it."""

    def __init__(self) -> None:
        self.resident_bytes = 0
        self._socket, theirs = socket.socketpair()
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(("LC_", "PYTHON", "COV_", "OMP_"))
        }
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "ingest.local.eyes_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**environment, "PYTHONPATH": path},
            )
        self._socket.settimeout(PAGE_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def ending(self) -> str:
        """How the process ended."""
        status = self._process.poll()
        return "it gave a wrong answer" if status is None else f"status {status}"

    def read(self, what: str, data: bytes, how: dict[str, int]) -> list[Page]:
        """The pages. Raises Unreadable as the process does, TimeoutError, OSError and EOFError when it is lost."""
        head = json.dumps({"what": what, **how}).encode()
        self._socket.sendall(FRAME.pack(len(head), len(data)) + head)
        self._socket.sendall(data)
        pages: list[Page] = []
        while True:
            answer = self._receive()
            if "page" in answer:
                pages.append(unpack_page(answer["page"]))
                continue
            self.resident_bytes = int(answer.get("resident_bytes", 0))
            if "error" in answer:
                raise Unreadable(str(answer["error"]))
            return pages

    def _receive(self) -> dict[str, Any]:
        length, _ = FRAME.unpack(self._exactly(FRAME.size))
        if length > _MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
        answer = json.loads(self._exactly(length))
        if not isinstance(answer, dict):
            raise ValueError("the answer is no object")
        return answer

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            block = self._socket.recv(min(length - len(data), 1 << 20))
            if not block:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)
                raise EOFError
            data += block
        return bytes(data)

    def kill(self) -> None:
        """End the process at once. Safe to call twice, and while another thread waits for an answer."""
        if self.is_alive:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def pack_page(page: Page) -> dict[str, Any]:
    """A page read by OCR as a JSON value."""
    lines = [
        [[[t.text, t.x0, t.y0, t.x1, t.y1] for t in segment.tokens] for segment in line.segments] for line in page.lines
    ]
    return {
        "width": page.width,
        "height": page.height,
        "lines": lines,
        "char_width": page.char_width,
        "line_height": page.line_height,
        "rotation_deg": page.rotation_deg,
        "skew_rad": page.skew_rad,
    }


def unpack_page(value: dict[str, Any]) -> Page:
    """The page, with number 0. Raises ValueError for anything else."""
    try:
        lines = tuple(
            Line.of([Segment.of([Token(str(text), *map(float, box)) for text, *box in segment]) for segment in line])
            for line in value["lines"]
        )
        return Page(
            0,
            float(value["width"]),
            float(value["height"]),
            lines,
            "ocr",
            char_width=float(value["char_width"]),
            line_height=float(value["line_height"]),
            rotation_deg=int(value["rotation_deg"]),
            skew_rad=float(value["skew_rad"]),
        )
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError("the answer is no page") from error


EYES = Eyes()
atexit.register(EYES.close)
