"""The local engine on a port."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from ingest.errors import ConfigError
from ingest.local.access import is_loopback

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

# Where a scope has the function that resets its connection.
RESET = "ingest.reset"


def serve(
    host: str = "127.0.0.1",
    port: int = 8700,
    *,
    app: Starlette,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serves the engine until it is interrupted. Any host but a loopback one needs an app with keys.

    `announce` gets the base URL once the port is open (port 0 takes a free one). Raises ConfigError.
    """
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError as error:
        raise ConfigError("ingest serve needs uvicorn; run: pip install 'ingest[local]'") from error
    app.state.is_on_loopback = is_loopback(host)
    if not app.state.has_keys and not app.state.is_on_loopback:
        raise ConfigError(
            f"{host} can be reached from other machines: give a token (INGEST_SERVE_TOKEN or --token),"
            " or serve on 127.0.0.1"
        )
    open_connections: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        """uvicorn's own, which also tells which connection belongs to which caller: a fault may reset it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                open_connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client is not None:
                open_connections.pop(self.client, None)

    listener = _listen(host, port)
    config = uvicorn.Config(
        _resetting(app, open_connections),
        http=Protocol,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    if announce is not None:
        name = f"[{host}]" if ":" in host else host
        announce(f"http://{name}:{listener.getsockname()[1]}/v1")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot serve on {host}:{port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"cannot serve on {host}:{port}: {error}; choose another port") from error
    return listener


def _resetting(
    app: Starlette, open_connections: dict[tuple[str, int], asyncio.Transport]
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The app, able to reset the connection it answers on, and without a traceback in the log when it does."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        transport = open_connections.get(tuple(scope.get("client") or ("", 0)))
        if transport is not None:
            scope[RESET] = partial(_reset, transport)
        try:
            await app(scope, receive, send)
        except ConnectionResetError:
            # The reset has happened; once the server has heard of it, it does not complain of half a response.
            await asyncio.sleep(0)

    return call


def _reset(transport: asyncio.Transport) -> None:
    """Closes with an RST instead of a FIN: no time to linger for what was not sent."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
