"""Logging to stderr: time, level, module, message, then fields as `key=value`, or all of it as JSON lines."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MASK = "***"


class _Stderr(logging.Handler):
    """Writes to whatever stderr is now, so that a live view can lift the lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a stderr that is gone is no reason to stop."""
        with contextlib.suppress(OSError):
            print(self.format(record), file=sys.stderr, flush=True)


class _Formatter(logging.Formatter):
    """One line per record with secrets masked; a traceback follows only when the level is debug."""

    def __init__(self, as_json: bool, tracebacks: bool) -> None:
        super().__init__()
        self.secrets: tuple[str, ...] = ()
        self._as_json = as_json
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"}
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = repr(record.exc_info[1])
            if self._tracebacks:
                fields["traceback"] = self.formatException(record.exc_info)
        if self._as_json:
            head = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": message}
            line = json.dumps({**head, **fields}, ensure_ascii=False, default=str)
        else:
            words = [when, record.levelname.lower(), record.name, message]
            line = " ".join([*words, *(f"{name}={_quoted(str(value))}" for name, value in fields.items())])
        for secret in self.secrets:
            line = line.replace(secret, _MASK)
        return line


def configure(level: str, form: str) -> None:
    """Send the log of this package at `level`, and warnings of others, to stderr. Calling it again replaces it."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Stderr)]:
        root.removeHandler(handler)
    handler = _Stderr()
    handler.setFormatter(_Formatter(form == "json", level == "debug"))
    root.addHandler(handler)
    logging.getLogger("ingest").setLevel(level.upper())
    # Our client tells of failed tries itself, at info; stamina's own warnings add their settings to each.
    logging.getLogger("stamina").setLevel(logging.WARNING if level == "debug" else logging.ERROR)


def mask(secrets: Iterable[str]) -> None:
    """Keep these words out of the log, wherever they come from."""
    # Short ones would blot out ordinary words.
    words = tuple(sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True))
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.secrets = words


def _quoted(text: str) -> str:
    return text if text and not any(char.isspace() or char in '"=' for char in text) else json.dumps(text)
