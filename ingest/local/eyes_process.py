"""What the OCR process runs: requests come in over a socket, pages go back one by one, until the socket closes.

Started by `eyes.py` as `python -P -m ingest.local.eyes_process FD`. A request is JSON, `what` to read and how, and the
bytes of an image; the answers are `{"page": …}` for each page, and then `{"resident_bytes": …}`, with an `error` when
it could not be read.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from io import BufferedRWPair
from typing import Any

from ingest.errors import SourceError
from ingest.local import ocr
from ingest.local.eyes import FRAME, MEMORY_BYTES, PAGE_TIMEOUT_S, pack_page
from ingest.local.page import Page


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", MEMORY_BYTES)
    _limit("RLIMIT_FSIZE", 0)
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rwb") as stream:
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        try:
            _serve(stream)
        except (BrokenPipeError, ConnectionResetError):
            return  # nobody listens any more


def _serve(stream: BufferedRWPair) -> None:
    while frame := stream.read(FRAME.size):
        head_length, data_length = FRAME.unpack(frame)
        asked = json.loads(stream.read(head_length))
        data = stream.read(data_length)
        _limit_cpu()
        last: dict[str, Any] = {}
        try:
            for page in _pages(asked.pop("what"), data, asked):
                _send(stream, {"page": pack_page(page)})
                _limit_cpu()
        except SourceError as error:
            last["error"] = error.message
        except MemoryError:
            last["error"] = "the image needs more memory than the local engine may use; send a smaller one"
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            last["error"] = f"the image cannot be read ({type(error).__name__}: {error}); send another one"
        _send(stream, last | {"resident_bytes": _resident_bytes()})


def _pages(what: str, data: bytes, how: dict[str, int]) -> Iterator[Page]:
    if what == "cells":
        yield from ocr.read_cells(data, **how)
    else:
        yield ocr.read_frame(data) if what == "frame" else ocr.read_image(data)


def _send(stream: BufferedRWPair, answer: dict[str, Any]) -> None:
    text = json.dumps(answer, separators=(",", ":")).encode()
    stream.write(FRAME.pack(len(text), 0) + text)
    stream.flush()


def _end_with_parent(connection: socket.socket) -> None:
    """End this process as soon as the other side of the socket closes, also while it reads an image."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP)
    while not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll()):
        pass
    os._exit(0)


def _limit(name: str, value: int) -> None:
    """Set a resource limit where the system has it and allows it."""
    try:
        import resource

        resource.setrlimit(getattr(resource, name), (value, value))
    except (ImportError, AttributeError, ValueError, OSError):
        return


def _limit_cpu() -> None:
    """The time of one page on all cores: ends a process that hangs and whose parent is gone."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + PAGE_TIMEOUT_S * (os.cpu_count() or 1)) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        return


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    main()
