"""Wire protocols: a request as an HTTP call and a response as a reply, on plain dicts, without a socket.

A protocol is a module with what `Wire` names, and one line in `WIRES`. Packages offer protocols of their own through
the entry point group `ingest.wire`: the name of the entry point is the name of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Protocol, cast

from ingest.asking.sse import SseEvent
from ingest.errors import ConfigError
from ingest.profile import Profile
from ingest.types import HttpCall, HttpReply, Json, JsonObject, Reply, Request, Rung, Usage

GROUP = "ingest.wire"

WIRES: dict[str, str] = {
    "chat": "ingest.asking.wire.chat_completions",
    "messages": "ingest.asking.wire.messages",
    "responses": "ingest.asking.wire.responses",
}


class StreamDecoder(Protocol):
    """A streamed answer being put together."""

    @property
    def is_closed(self) -> bool:
        """Whether the closing event came: what follows it is not read."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens named so far."""
        ...

    def feed(self, event: SseEvent) -> None:
        """Take one event. Raises Disconnected for one that is damaged."""
        ...

    def finish(self) -> JsonObject:
        """The body as it would have come in one piece, an error object included.

        Raises Disconnected when the closing event did not come.
        """
        ...


class Wire(Protocol):
    """One dialect of the API."""

    @property
    def RUNGS(self) -> tuple[Rung, ...]:
        """The rungs of the ladder this protocol is known to carry, best first."""
        ...

    @property
    def KEY_HEADER(self) -> str:
        """The header that carries the API key: `authorization` (as a bearer) or one of the protocol's own."""
        ...

    @property
    def HEADERS(self) -> Mapping[str, str]:
        """Headers sent with every call."""
        ...

    def encode(self, request: Request, profile: Profile, is_streamed: bool = False) -> HttpCall:
        """The call that carries `request`.

        Raises ConfigError for settings that exclude one another, and for content the protocol has no part for.
        """
        ...

    def decode(self, reply: HttpReply) -> Reply:
        """The answer in a response. Raises the ModelError class that fits, for a response that is an error."""
        ...

    def usage(self, body: Json) -> Usage:
        """The tokens a body names, whether it is an answer or not; zeros when it names none."""
        ...

    def Stream(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        ...


def wire_names() -> tuple[str, ...]:
    """Names of the protocols at hand, those of other packages included, sorted."""
    return tuple(sorted({*WIRES, *(point.name for point in metadata.entry_points(group=GROUP))}))


def load_wire(protocol: str) -> Wire:
    """The wire protocol of that name.

    Raises ConfigError when there is none, or when the package that offers it cannot be imported.
    """
    module = WIRES.get(protocol)
    if module is not None:
        return cast("Wire", import_module(module))
    for point in metadata.entry_points(group=GROUP, name=protocol):
        try:
            return cast("Wire", point.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the {protocol} protocol ({point.value}) cannot be loaded: {error}") from error
    raise ConfigError(f"no protocol is called {protocol!r}: use --protocol {', '.join(wire_names())}")


def ladder(profile: Profile, protocol: str) -> tuple[Rung, ...]:
    """The profile's rungs that the protocol carries; all of the profile's own when it carries none of them."""
    known = load_wire(protocol).RUNGS
    return tuple(rung for rung in profile.ladder if rung in known) or profile.ladder
