"""What a worker process runs: requests come in over a socket, results go back one by one, until the socket closes.

Started by `workers.py` as `python -P -m ingest.reading.serving FD PARENT_PID MEMORY_BYTES CPU_S OUTPUT_BYTES`. A
request is `(operation, source, arguments)`, pickled; the answers are `(ITEM, value)` for each result and then
`(DONE, should_retire)` or `(FAILED, (error, should_retire))`. A frame is 8 bytes of length, big-endian, and the pickle.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from io import BufferedRWPair
from typing import Any

from ingest.config import ReadingSettings
from ingest.errors import IngestError, SourceError, TooLarge, Unreadable
from ingest.reading import DEFAULT_RENDERING, PagewiseExtractor, SampledExtractor, extractor_for
from ingest.reading.confining import confine, limit_cpu
from ingest.reading.containers import unpack
from ingest.reading.unchanged import check_unchanged
from ingest.types import Document, Source

READY, ITEM, DONE, FAILED = "ready", "item", "done", "failed"
LENGTH = struct.Struct(">Q")


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    descriptor, parent, memory_bytes, output_bytes = (int(sys.argv[at]) for at in (1, 2, 3, 5))
    cpu_s = float(sys.argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # PyMuPDF loads its layout models whenever they are installed: half a second, and memory that is not used here.
    sys.modules["pymupdf.layout"] = None  # type: ignore[assignment]
    confine(memory_bytes, output_bytes, parent)
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
        try:
            _serve(stream, memory_bytes, cpu_s)
        except (BrokenPipeError, ConnectionResetError):
            return  # nobody listens any more


def _serve(stream: BufferedRWPair, memory_bytes: int, cpu_s: float) -> None:
    _send(stream, (READY, None))
    while length := stream.read(LENGTH.size):
        operation, source, arguments = pickle.loads(stream.read(LENGTH.unpack(length)[0]))  # noqa: S301 - the parent's own
        should_retire = False
        try:
            limit_cpu(cpu_s)
            check_unchanged(source)
            for item in _results(operation, source, arguments):
                # Before the result is handed over: it must be of the bytes that were hashed.
                check_unchanged(source)
                _send(stream, (ITEM, item))
                limit_cpu(cpu_s)
            _give_back()
            _send(stream, (DONE, _resident_bytes() > memory_bytes // 2))
            continue
        except IngestError as error:
            # A file may fail itself only, and not the run; and the parent knows no classes of other packages.
            is_ours = isinstance(error, SourceError) and type(error).__module__ == SourceError.__module__
            failure = error if is_ours else Unreadable(error.message, error.part_index)
        except MemoryError:
            failure = TooLarge(f"{source.name} needs more memory than a worker may use: raise worker_memory_bytes")
            should_retire = True
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            failure = Unreadable(f"{source.name} cannot be read ({type(error).__name__}: {error})")
        _send(stream, (FAILED, (failure, should_retire)))


def _results(operation: str, source: Source, arguments: tuple[Any, ...]) -> Iterator[object]:
    settings: ReadingSettings = arguments[-1]
    if operation == "unpack":
        yield from unpack(source, *arguments)
        return
    extractor = extractor_for(source.media_type, source.name)
    if operation == "prepare":
        return
    if isinstance(extractor, SampledExtractor):
        yield from _sampled(extractor, operation, source, arguments)
    elif operation == "survey":
        if isinstance(extractor, PagewiseExtractor):
            yield extractor.survey(source, settings), True
        else:
            yield extractor.open(source, settings), False
    elif operation == "probe" and isinstance(extractor, PagewiseExtractor):
        document, indices, _ = arguments
        yield from extractor.probe(document, indices, settings)
    elif operation == "load":
        loaded: Document = arguments[0]
        yield from extractor.load(loaded, arguments[1], arguments[2], settings)
    else:
        raise Unreadable(f"{source.name}: its extractor cannot {operation}")


def _sampled(
    extractor: SampledExtractor, operation: str, source: Source, arguments: tuple[Any, ...]
) -> Iterator[object]:
    *given, rendering, spool, settings = arguments
    rendering = rendering or DEFAULT_RENDERING
    if operation == "survey":
        yield extractor.scan(source, rendering, settings, spool)
    elif operation == "look":
        yield from extractor.look(given[0], given[1], rendering, settings, spool)
    elif operation == "settle":
        yield extractor.settle(given[0], given[1], rendering, settings, spool)
    elif operation == "load":
        yield from extractor.fetch(given[0], given[1], rendering, settings, spool)
    else:
        raise Unreadable(f"{source.name}: its extractor cannot {operation}")


def _send(stream: BufferedRWPair, message: tuple[str, object]) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _give_back() -> None:
    """Return to the system what a call took and freed: glibc keeps it, and many workers hold it side by side."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


if __name__ == "__main__":
    main()
