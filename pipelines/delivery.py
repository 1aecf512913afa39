"""A title and a page to the people who want it: mail, chat, webhooks, whatever apprise speaks to.

At most once per key and target. A try is in the ledger before it is made; a target that refuses is tried again, here
and by the next run; one that may have heard us and did not answer is not, since nobody knows whether it has the page.

An address holds passwords. It is given by itself, as `env:NAME` or as `@FILE`, and never leaves this module: the
ledger, messages and logs have it masked, and a hash of it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stamina

import ingest

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.deliveries import Delivery, DeliveryState

_TRIES = 3
_WAIT_S, _LONGEST_WAIT_S = 1.0, 15.0
# Apprise itself gives a webhook four seconds, after which a slow one would count as not reached.
_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S = 15.0, 60.0
_MAIL_BODY = 32_768  # apprise's bound where a service names none, as those that send mail do
# How requests, urllib3 and smtplib word that something was sent and no answer came.
_NO_ANSWER = re.compile(r"read timed out|remote ?disconnected|connection (reset|aborted)|unexpectedly closed", re.I)
# Words of a document must not call everyone in a chat to the screen: an invisible space takes the call out of them.
_MENTION = re.compile(r"(?<=<)@|@(?=(?:everyone|here|channel|all)\b)", re.I)
_WEBHOOKS = ("json", "xml", "form", "apprise")
_CUT = "\n\n…"

# Without this, Python prints stamina's warnings about each retry on stderr when the program logs nothing.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Target:
    """A checked address: apprise's object for it, its hash, and how it may be shown."""

    service: Any
    hash: str
    label: str
    secrets: tuple[str, ...]


class _Refused(Exception):
    """A try that the target surely did not accept."""


def check_targets(targets: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[tuple[str, str], ...]:
    """Hash and masked label of each address, as deliveries in the ledger have them.

    Raises ConfigError for an address that cannot be used, before anything is paid for.
    """
    checked = (_target(reference, environ) for reference in targets)
    return tuple((target.hash, target.label) for target in checked)


def deliver(
    ledger: Ledger,
    key: str,
    title: str,
    markdown: str,
    html: str,
    targets: Sequence[str],
    *,
    is_forced: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Delivery, ...]:
    """Send a page to every target that has not confirmed it yet, and tell how it stands with each.

    `key` names the page: what was confirmed under it is never sent again. Mail gets `html`, with a text made of it;
    other services get `markdown`, cut at a line when they take no more. A delivery whose end was never known is left
    alone unless `is_forced`. The result has one delivery per target: sent, failed or unknown.

    Raises ConfigError for an address that cannot be used, LedgerError when nothing can be noted.
    """
    checked = [_target(reference, environ) for reference in targets]
    return tuple(_deliver_one(ledger, key, title, markdown, html, target, is_forced) for target in checked)


def _deliver_one(
    ledger: Ledger, key: str, title: str, markdown: str, html: str, target: _Target, is_forced: bool
) -> Delivery:
    deliveries = ledger.deliveries
    tries = stamina.retry_context(
        on=_Refused, attempts=_TRIES, timeout=None, wait_initial=_WAIT_S, wait_max=_LONGEST_WAIT_S
    )
    try:
        for attempt in tries:
            with attempt:
                if not deliveries.begin(key, target.hash, target.label, is_forced):
                    break
                state, reason = _send(target, title, markdown, html)
                deliveries.settle(key, target.hash, state, reason)
                if state == "failed":
                    raise _Refused(reason)
    except _Refused:
        pass
    found = deliveries.get(key, target.hash)
    if found is None:
        raise ingest.LedgerError(f"the delivery to {target.label} is not in the ledger though it was noted")
    return found.as_seen_later()


def _send(target: _Target, title: str, markdown: str, html: str) -> tuple[DeliveryState, str | None]:
    """One try: how it ended, and why it did not succeed."""
    from apprise import Apprise, NotifyFormat

    if _is_mail(target.service):
        body, form = html, NotifyFormat.HTML
    else:
        title, markdown = (_MENTION.sub("@\u200b", text) for text in (title, markdown))
        body, form = _fit(markdown, target.service.body_maxlen), NotifyFormat.MARKDOWN
    apprise = Apprise(asset=target.service.asset)
    apprise.add(target.service)
    started = time.monotonic()
    with _listening() as heard:
        is_sent = bool(apprise.notify(body=body, title=title, body_format=form))
    if is_sent:
        return "sent", None
    reason = _masked(next((line for level, line in reversed(heard) if level >= logging.WARNING), "refused"), target)
    waited_s = time.monotonic() - started
    if waited_s >= _ANSWER_TIMEOUT_S or any(_NO_ANSWER.search(line) for _, line in heard):
        return "unknown", f"no answer; it may have arrived ({reason})"
    return "failed", reason


def _target(reference: str, environ: Mapping[str, str]) -> _Target:
    where, address = _resolve(reference, environ)
    apprise = _apprise()
    asset = apprise.AppriseAsset(async_mode=False, secure_logging=True, storage_mode=apprise.PersistentStoreMode.MEMORY)
    with _listening():
        service = apprise.Apprise.instantiate(address, asset=asset)
    if service is None:
        raise ingest.ConfigError(f"{where} is no address that apprise understands: write e.g. mailtos://, slack://")
    label = _label(service)
    if len(service) > 1:
        raise ingest.ConfigError(
            f"{label} sends {len(service)} messages: give each its own --to, so that each gets the page once"
        )
    service.socket_connect_timeout = _ANSWER_TIMEOUT_S if _is_mail(service) else _CONNECT_TIMEOUT_S
    service.socket_read_timeout = _ANSWER_TIMEOUT_S
    return _Target(service, _hash(address), label, _secrets(address, label))


def _resolve(reference: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """How to call the reference in an error, and the address it stands for."""
    if reference.startswith("env:"):
        address = environ.get(reference[4:], "").strip()
        where = f"the variable {reference[4:]} (--to {reference})"
    elif reference.startswith("@"):
        where = f"the file {reference[1:]} (--to {reference})"
        try:
            address = Path(reference[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ingest.ConfigError(f"{where} cannot be read: {error}") from error
    else:
        where, address = f"--to {reference.partition(':')[0]}:…", reference
    if not address:
        raise ingest.ConfigError(f"{where} holds no address: put an apprise URL there")
    return where, address


def _apprise() -> Any:
    try:
        import apprise
    except ImportError as error:
        raise ingest.ConfigError("--to needs apprise: pip install 'ingest[digest]'") from error
    return apprise


@functools.cache
def _hash(address: str) -> str:
    """What stands for an address in the ledger; slow to make, so that passwords in it cannot be guessed from it."""
    return hashlib.scrypt(address.encode(), salt=b"ingest.delivery", n=2**14, r=8, p=1, dklen=16).hex()


def _is_mail(service: Any) -> bool:
    """Whether the service takes whole HTML pages: its first format is HTML, without a bound as chats have it."""
    formats = service.notify_format
    first = formats[0] if isinstance(formats, tuple) else formats
    return str(getattr(first, "value", first)) == "html" and int(service.body_maxlen) >= _MAIL_BODY


def _fit(text: str, most: int) -> str:
    """The text, cut after a line where a service takes no more; split, it would be several messages."""
    if not most or len(text) <= most:
        return text
    kept = text[: most - len(_CUT)]
    return kept[: kept.rfind("\n") if "\n" in kept else len(kept)].rstrip() + _CUT


def _label(service: Any) -> str:
    """The address as it may be shown: apprise's masked form without parameters, and without the path of a webhook,
    which apprise leaves open though it is often the only secret."""
    scheme, _, rest = str(service.url(privacy=True)).partition("?")[0].partition("://")
    if scheme.rstrip("s") in _WEBHOOKS:
        host, slash, path = rest.partition("/")
        rest = f"{host}/…" if slash and path else host
    return f"{scheme}://{rest.rstrip('/')}"


def _secrets(address: str, label: str) -> tuple[str, ...]:
    """The pieces of an address that its masked form does not show, longest first."""
    pieces = {piece for piece in re.split(r"[/@:?&=,#+]+", address) if len(piece) >= 4 and piece not in label}
    return (address, *sorted(pieces, key=len, reverse=True))


def _masked(line: str, target: _Target) -> str:
    for secret in target.secrets:
        line = line.replace(secret, "***")
    return " ".join("".join(char if char.isprintable() else " " for char in line).split())[:300]


@contextmanager
def _listening() -> Iterator[list[tuple[int, str]]]:
    """What apprise and its HTTP library log meanwhile, kept from everyone else: it may hold addresses."""
    heard: list[tuple[int, str]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append((record.levelno, record.getMessage()[:2_000]))

    ear = Ear()
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "requests")]
    before = [(logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [ear], False
        logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            # On first use apprise imports what all its services need, some of it on its way out of Python.
            warnings.simplefilter("ignore")
            yield heard
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
