"""Who may call a server: those on this machine, or those with a key."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from ingest.local.refusal import Refusal


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_host(header: str) -> None:
    """Raise a 403 Refusal unless a Host header names this machine.

    A web page can have its own name resolve to 127.0.0.1 and then read what is served there as its own ("DNS
    rebinding"); the browser still sends the page's name.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name.rstrip(".")):
        raise Refusal(
            403,
            "host_not_allowed",
            "This server answers to localhost and 127.0.0.1 alone; start it with a token to call it by another name.",
        )


def check_key(authorization: str, api_key: str, known: Collection[str]) -> None:
    """Raise a 401 Refusal unless one of the headers carries a known key; the time it takes tells nothing of the key."""
    scheme, _, bearer = authorization.partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else api_key
    if not key:
        raise Refusal(401, "missing_api_key", "Send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`.")
    # Every key is compared, so that the place of the right one does not show either.
    if not sum(hmac.compare_digest(key.encode(), each.encode()) for each in known):
        raise Refusal(401, "invalid_api_key", "The key is not valid.")
