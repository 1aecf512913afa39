"""Wire dialects: one row per endpoint, with its reading of requests and its shaping of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.local.answering import Answer
from ingest.local.contract import Ask, Terms
from ingest.local.protocols import chat, messages, responses
from ingest.local.shaping import Event

MESSAGES_PATH = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Protocol:
    """One dialect: its path, its body to an Ask, an Answer to its body and to its stream, an error inside a stream."""

    path: str
    read: Callable[[Mapping[str, Any], Terms], Ask]
    shape: Callable[[Ask, Answer, str], dict[str, Any]]
    stream: Callable[[Ask, Answer, str, int], Iterator[Event]]
    error: Callable[[Mapping[str, Any], int], Event]


PROTOCOLS = (
    Protocol("/v1/chat/completions", chat.read_request, chat.shape_body, chat.shape_stream, chat.shape_error),
    Protocol(
        "/v1/responses", responses.read_request, responses.shape_body, responses.shape_stream, responses.shape_error
    ),
    Protocol(MESSAGES_PATH, messages.read_request, messages.shape_body, messages.shape_stream, messages.shape_error),
)
