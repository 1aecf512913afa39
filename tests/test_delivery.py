"""Delivery: what arrives, what is tried again, and what is never sent twice."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.app import app
from ingest.errors import ConfigError
from ingest.keeping.ledger import Ledger
from tests.conftest import ROOT
from tests.postgres import Postgres
from tests.webhooks import Webhook, webhook

pytest.importorskip("apprise", reason="needs the extra digest")
import stamina

from pipelines import delivery
from pipelines.delivery import check_targets, deliver

TITLE, MARKDOWN = "Monday's digest", "# Digest\n\n- total: 10 → 12\n"
HTML = "<!doctype html><html><head><style>b{}</style></head><body><h1>Digest</h1><p>total: 10 → 12</p></body></html>"
SECRET = "hunter2secret"


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=delivery._TRIES)
    yield
    stamina.set_testing(False)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


def send(ledger: Ledger, *targets: str, key: str = "digest-1", **more: object) -> tuple[tuple[str, int], ...]:
    """Deliver and give state and tries of each target."""
    done = deliver(ledger, key, TITLE, MARKDOWN, HTML, targets, **more)  # type: ignore[arg-type]
    return tuple((one.state, one.tries) for one in done)


def test_a_webhook_gets_title_and_page_once_for_a_key(hook: Webhook) -> None:
    """A digest that is made again must not be posted again; the next one must be."""
    with Ledger(None) as ledger:
        assert send(ledger, hook.url()) == (("sent", 1),)
        assert send(ledger, hook.url()) == (("sent", 1),)
        assert send(ledger, hook.url(), key="digest-2") == (("sent", 1),)
    assert [(got["title"], got["message"].strip()) for got in hook.got] == [(TITLE, MARKDOWN.strip())] * 2


def test_a_key_is_delivered_once_from_a_shared_database(hook: Webhook, postgres: Postgres) -> None:
    """Two machines that make the same digest must post it once."""
    address = postgres.database()
    for _ in range(2):
        with Ledger(None, url=address) as ledger:
            assert send(ledger, hook.url()) == (("sent", 1),)
    assert len(hook.got) == 1


def test_mail_arrives_as_html_with_a_text_beside_it() -> None:
    """People read mail in programs that show HTML and in those that do not."""
    pytest.importorskip("aiosmtpd", reason="needs aiosmtpd")
    from aiosmtpd.controller import Controller

    class Box:
        mails: list[bytes]

        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
            self.mails.append(envelope.content)  # type: ignore[attr-defined]
            return "250 kept"

    box = Box()
    box.mails = []
    controller = Controller(box, hostname="127.0.0.1", port=0)
    controller.port = _free_port()
    controller.start()
    try:
        with Ledger(None) as ledger:
            target = f"mailto://127.0.0.1:{controller.port}?from=robot@example.org&to=reader@example.org"
            assert send(ledger, target) == (("sent", 1),)
    finally:
        controller.stop()
    (mail,) = [message_from_bytes(raw) for raw in box.mails]
    texts = {part.get_content_type(): _text(part) for part in mail.walk() if not part.is_multipart()}
    assert (mail["Subject"], mail["To"]) == (TITLE, "reader@example.org")
    assert texts["text/html"] == HTML
    assert "total: 10 → 12" in texts["text/plain"]
    assert "<" not in texts["text/plain"]


def test_a_refusal_is_tried_again_and_then_confirmed(hook: Webhook) -> None:
    """A service that is down for a second must not cost a digest."""
    hook.statuses = [503, 500]
    with Ledger(None) as ledger:
        assert send(ledger, hook.url()) == (("sent", 3),)


def test_a_lasting_refusal_is_reported_and_tried_by_the_next_run(hook: Webhook) -> None:
    """What was not delivered must be seen, and must not be lost."""
    hook.statuses = [500] * delivery._TRIES
    with Ledger(None) as ledger:
        (failed,) = deliver(ledger, "k", TITLE, MARKDOWN, HTML, [hook.url()])
        assert (failed.state, failed.tries) == ("failed", delivery._TRIES)
        assert "500" in (failed.reason or "")
        assert ledger.deliveries.unconfirmed() == (failed,)
        assert send(ledger, hook.url(), key="k") == (("sent", delivery._TRIES + 1),)
        assert ledger.deliveries.unconfirmed() == ()


def test_an_answer_that_never_comes_is_not_taken_for_a_refusal(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow service that has the page must not get it three times."""
    monkeypatch.setattr(delivery, "_ANSWER_TIMEOUT_S", 0.2)
    hook.before = lambda: time.sleep(0.6)
    with Ledger(None) as ledger:
        assert send(ledger, hook.url()) == (("unknown", 1),)
        assert send(ledger, hook.url()) == (("unknown", 1),)
        assert len(hook.got) == 1
        hook.before = lambda: None
        assert send(ledger, hook.url(), is_forced=True) == (("sent", 2),)
        assert send(ledger, hook.url(), is_forced=True) == (("sent", 2),)


def test_one_target_that_fails_keeps_no_other_from_its_page(hook: Webhook) -> None:
    """A broken chat must not cost everyone their mail."""
    with Ledger(None) as ledger:
        states = send(ledger, f"json://127.0.0.1:{_free_port()}/gone", hook.url())
    assert states == (("failed", delivery._TRIES), ("sent", 1))


def test_secrets_of_an_address_are_nowhere(
    hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook's address is its password: who reads ledger, log or report must not be able to post."""
    caplog.set_level(logging.DEBUG)
    hook.statuses = [403] * delivery._TRIES
    monkeypatch.setenv("HOOK", f"json://robot:{SECRET}@127.0.0.1:{hook.port}/{SECRET}-path?+X-Key={SECRET}")
    with Ledger(tmp_path) as ledger:
        (failed,) = deliver(ledger, "k", TITLE, MARKDOWN, HTML, ["env:HOOK"])
    assert failed.state == "failed"
    assert hook.got[0]["path"] == f"/{SECRET}-path"
    assert SECRET not in repr(failed)
    assert SECRET not in caplog.text
    for file in (tmp_path / ".ingest").iterdir():
        assert SECRET.encode() not in file.read_bytes()


def test_a_reason_that_names_the_address_is_masked(hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a service says of its failure stands in `status`; the password it repeats must not."""
    import apprise

    url = f"json://robot:{SECRET}@127.0.0.1:{hook.port}/{SECRET}-path"

    def send_badly(self: object, **_: object) -> bool:
        logging.getLogger("apprise").warning("no way to %s, tried %s-path", url, SECRET)
        return False

    monkeypatch.setattr(type(apprise.Apprise.instantiate(url)), "send", send_badly)
    with Ledger(None) as ledger:
        (failed,) = deliver(ledger, "k", TITLE, MARKDOWN, HTML, [url])
    assert failed.reason == "no way to ***, tried ***"


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("env:NOT_SET", "NOT_SET"),
        ("@/nowhere/target", "cannot be read"),
        (f"bogus://{SECRET}", "no address"),
        (f"mailto://me:{SECRET}@example.org?to=a@example.org,b@example.org", "its own --to"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_beforehand_and_masked(reference: str, hint: str) -> None:
    """A typing error must show before a digest is paid for, without the password in it."""
    with pytest.raises(ConfigError, match=hint) as caught:
        check_targets([reference])
    assert SECRET not in str(caught.value)


def test_an_address_can_stand_in_a_file(hook: Webhook, tmp_path: Path) -> None:
    """Jobs of a scheduler take addresses from mounted secrets."""
    (tmp_path / "target").write_text(hook.url() + "\n", encoding="utf-8")
    with Ledger(None) as ledger:
        assert send(ledger, f"@{tmp_path / 'target'}") == (("sent", 1),)


def test_a_document_cannot_call_everyone_in_a_chat(hook: Webhook) -> None:
    """Chats take @everyone from a webhook at its word; an invoice may hold it, and so may its name."""
    with Ledger(None) as ledger:
        deliver(ledger, "k", "@Here", "see @everyone <@&12> me@here.org a@example.org @allies", HTML, [hook.url()])
    (got,) = hook.got
    assert got["title"] == "@\u200bHere"
    assert got["message"] == "see @\u200beveryone <@\u200b&12> me@\u200bhere.org a@example.org @allies"


def test_a_long_page_is_one_message_cut_at_a_line() -> None:
    """A chat that takes 2,000 characters gets one message, not nine, and no half line."""
    text = "\n".join(f"- line {number}" for number in range(400))
    cut = delivery._fit(text, 2_000)
    assert len(cut) <= 2_000
    assert set(cut.splitlines()) - set(text.splitlines()) == {"", "…"}
    assert delivery._fit(text, 0) == text


SENDER = """
import sys
from pathlib import Path
from ingest.keeping.ledger import Ledger
from pipelines.delivery import deliver
with Ledger(Path(sys.argv[1])) as ledger:
    print(*(one.state for one in deliver(ledger, "k", "T", "m", "h", sys.argv[2:])))
"""


@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
def test_a_process_killed_while_delivering_never_sends_twice(hook: Webhook, tmp_path: Path, moment: str) -> None:
    """A crash in the worst instant must not post a digest again to someone who has it."""
    first, second = hook.url("first"), hook.url("second")
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(tmp_path), first, second], cwd=ROOT)

    def kill() -> None:
        if hook.got[-1]["path"] == "/second":
            os.kill(sender.pid, signal.SIGKILL)

    if moment == "before the answer":
        hook.before = kill
    else:
        hook.after = kill
    assert sender.wait(60) == -signal.SIGKILL or moment == "after the answer"
    hook.before = hook.after = lambda: None
    again = subprocess.run(
        [sys.executable, "-c", SENDER, str(tmp_path), first, second], cwd=ROOT, capture_output=True, text=True
    )
    assert [got["path"] for got in hook.got] == ["/first", "/second"]
    assert again.stdout.split() in (["sent", "unknown"], ["sent", "sent"])
    assert again.stdout.split()[1] == "unknown" or moment == "after the answer"


def _text(part: Message) -> str:
    return bytes(part.get_payload(decode=True)).decode().replace("\r\n", "\n").strip()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_status_shows_what_was_not_delivered_and_says_so_by_its_exit_code(
    hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody misses a digest that never came, unless something says that it should have."""
    monkeypatch.setenv("HOOK", f"json://robot:{SECRET}@127.0.0.1:{hook.port}/{SECRET}")
    (tmp_path / ".ingest").mkdir()
    hook.statuses = [500] * delivery._TRIES
    with Ledger(tmp_path) as ledger:
        deliver(ledger, "digest morning", TITLE, MARKDOWN, HTML, ["env:HOOK"])
        ledger.deliveries.begin("digest evening", "hash", "slack://A...A")
    status = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert status.exit_code == 1
    assert "digest morning, failed (tries: 3)" in status.output
    assert "digest evening, unknown (tries: 1): stopped while sending" in status.output
    assert SECRET not in status.output
