"""Who may call a served engine: this machine by default, else holders of the token, and no web page at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from ingest.errors import ConfigError
from ingest.local.access import is_loopback
from ingest.local.server import create_app
from ingest.local.serving import serve
from tests.conftest import ROOT
from tests.local_calls import CHAT, MESSAGES, RESPONSES, ServedEngine, message_request, request, response_request

BODIES: dict[str, dict[str, Any]] = {
    CHAT: request("Total 5"),
    RESPONSES: response_request("Total 5"),
    MESSAGES: message_request("Total 5"),
}


def post(url: str, path: str, host: str, **headers: str) -> httpx.Response:
    """A request with a Host header of its own."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{url.removesuffix('/v1')}{path}", json=BODIES[path], headers={"host": host, **headers})


def test_a_web_page_cannot_read_through_a_rebound_name() -> None:
    """A page whose name was made to resolve to this machine must not reach what is served here without a key."""
    with ServedEngine(models=["seed-2-0-pro"]) as url:
        port = url.rpartition(":")[2].removesuffix("/v1")
        for path in BODIES:
            refused = post(url, path, f"evil.example:{port}")
            assert refused.status_code == 403
            error = refused.json()["error"]
            assert "localhost" in error["message"]
            assert error["type"] == "permission_error" if path == MESSAGES else error["code"] == "host_not_allowed"
            assert post(url, path, "localhost").status_code == 200
        for host in (f"127.0.0.1:{port}", "[::1]", "LOCALHOST.", "app.localhost:1"):
            assert post(url, CHAT, host).status_code == 200
        for host in ("127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "[", "evil.example#localhost"):
            assert post(url, CHAT, host).status_code == 403


def test_a_token_lets_a_proxy_call_by_its_own_name() -> None:
    """Behind a reverse proxy the name is the proxy's; who has the key is no web page."""
    with ServedEngine(api_keys=["sesame"]) as url:
        assert post(url, CHAT, "ocr.example", authorization="Bearer sesame").status_code == 200
        assert post(url, CHAT, "localhost").status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "intranet"])
def test_other_machines_need_a_token(host: str) -> None:
    """Documents' words pass through; an open port without a key must not come about by a flag alone."""
    with pytest.raises(ConfigError, match="INGEST_SERVE_TOKEN"):
        serve(host, 0, app=create_app())


@pytest.mark.parametrize("token", [None, "", "two\nlines"])
def test_the_command_refuses_to_start_without_a_usable_token(token: str | None) -> None:
    """An empty variable is no token."""
    environment = {name: value for name, value in os.environ.items() if name != "INGEST_SERVE_TOKEN"}
    environment |= {} if token is None else {"INGEST_SERVE_TOKEN": token}
    command = [sys.executable, "-m", "ingest", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "token" in done.stderr


def test_a_wrong_key_is_the_sdks_own_error() -> None:
    """The vendors' clients must raise their class for a wrong key, not one that nobody handles."""
    app = create_app(api_keys=["sesame"])

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            for_openai = openai.AsyncOpenAI(api_key="sesam", base_url="http://local.invalid/v1", http_client=http)
            for_anthropic = anthropic.AsyncAnthropic(api_key="sesam", base_url="http://local.invalid", http_client=http)
            with pytest.raises(openai.AuthenticationError):
                await for_openai.chat.completions.create(**BODIES[CHAT])
            with pytest.raises(openai.AuthenticationError):
                await for_openai.responses.create(**BODIES[RESPONSES])
            with pytest.raises(anthropic.AuthenticationError):
                await for_anthropic.messages.create(**BODIES[MESSAGES])

    asyncio.run(run())


def test_loopback_is_more_than_one_address() -> None:
    """All of 127/8 and ::1 stay on this machine; a name that merely looks so does not."""
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "127.1")))
