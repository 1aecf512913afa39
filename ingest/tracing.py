"""What is under way, for the log and for traces: run > document > chunk > request.

Each step is a span. Its fields stand in every line that is logged inside it, and where the program has set up
OpenTelemetry the span goes there, too, under the names of its conventions for generative AI where there is one
(https://github.com/open-telemetry/semantic-conventions-genai). Without OpenTelemetry nothing of it is imported.
Neither ever holds what stands in a document, or what was asked or answered.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_SHORT_KEY_CHARS = 12

Attributes = Mapping[str, str | int | float | bool | tuple[str, ...] | None]
Fields = Mapping[str, object]


class Span:
    """One step that is under way. `fields` are those of the log, of the steps around it, too."""

    def __init__(self, fields: Fields, own: Any = None) -> None:
        self.fields = fields
        self._own = own

    @property
    def is_traced(self) -> bool:
        """Whether anybody records it."""
        return self._own is not None

    def set(self, attributes: Attributes) -> None:
        """Add attributes; those without a value are left out."""
        if self._own is not None:
            self._own.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def fail(self, code: str) -> None:
        """Note that the step failed, by the code of the error: its words might repeat what a server said."""
        if self._own is not None:
            self._own.set_attribute("error.type", code)
            self._own.set_status(sys.modules["opentelemetry.trace"].StatusCode.ERROR)

    def end(self) -> None:
        """The step is over."""
        if self._own is not None:
            self._own.end()


_NOTHING = Span({})
_CURRENT: ContextVar[Span | None] = ContextVar("ingest_span", default=None)


def current() -> Span:
    """The innermost step under way."""
    return _CURRENT.get() or _NOTHING


def start(
    name: str,
    fields: Fields | None = None,
    attributes: Attributes | None = None,
    parent: Span | None = None,
    *,
    is_call: bool = False,
) -> Span:
    """Begin a step that does not end where it began; `parent` is the step around it, by default the current one.

    `is_call` marks a request to a server. The owner calls `end`.
    """
    outer = parent or current()
    merged = {**outer.fields, **(fields or {})}
    # Whoever sets up OpenTelemetry has imported it.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return Span(merged)
    kind = trace.SpanKind.CLIENT if is_call else trace.SpanKind.INTERNAL
    around = trace.set_span_in_context(outer._own) if outer._own is not None else None
    own = trace.get_tracer("ingest").start_span(name, context=around, kind=kind)
    span = Span(merged, own if own.is_recording() else None)
    span.set(attributes or {})
    return span


@contextmanager
def span(
    name: str,
    fields: Fields | None = None,
    attributes: Attributes | None = None,
    parent: Span | None = None,
    *,
    is_call: bool = False,
) -> Iterator[Span]:
    """A step around a block; what goes wrong inside is noted by its code."""
    step = start(name, fields, attributes, parent, is_call=is_call)
    token = _CURRENT.set(step)
    try:
        yield step
    except BaseException as error:
        step.fail(getattr(error, "code", type(error).__name__))
        raise
    finally:
        _CURRENT.reset(token)
        step.end()


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Adds the fields of the current step to every line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**current().fields, **(kwargs.get("extra") or {})}
        return msg, kwargs


def logger(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """The logger of a module, whose lines say in which step they were written."""
    return _Logger(logging.getLogger(name), {})


def short(key: str) -> str:
    """A request key as the log shows it."""
    return key[:_SHORT_KEY_CHARS]
