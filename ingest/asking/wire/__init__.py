"""Wire protocols: a request as an HTTP call and a response as a reply, on plain dicts, without a socket.

A protocol is a module with `encode` and `decode` and one line in `WIRES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from ingest.errors import ConfigError
from ingest.profile import Profile
from ingest.types import HttpCall, HttpReply, Reply, Request

WIRES: dict[str, str] = {
    "chat": "ingest.asking.wire.chat_completions",
}


class Wire(Protocol):
    """One dialect of the API."""

    def encode(self, request: Request, profile: Profile) -> HttpCall:
        """The call that carries `request`. Raises ConfigError for settings that exclude one another."""
        ...

    def decode(self, reply: HttpReply) -> Reply:
        """The answer in a response. Raises the ModelError class that fits, for a response that is an error."""
        ...


def load_wire(protocol: str) -> Wire:
    """The wire protocol of that name. Raises ConfigError when this version does not speak it."""
    module = WIRES.get(protocol)
    if module is None:
        known = ", ".join(sorted(WIRES))
        raise ConfigError(f"the {protocol} protocol is not available in this version: use --protocol {known}")
    return cast("Wire", import_module(module))
