"""E-mail as it travels (RFC 5322, MIME), by the standard library."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_binary_file, policy
from email.errors import CloseBoundaryNotFoundDefect, InvalidBase64LengthDefect
from email.message import Message as MimePart

from ingest.reading.containers.message import HEADERS, Attachment, Message, html_to_text
from ingest.reading.markup import decode
from ingest.types import Source

_BODY_TYPES = ("text/plain", "text/html")
# They prove who wrote a message and say nothing of their own.
_SIGNATURES = frozenset(("application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"))


@dataclass(slots=True)
class _Taken:
    """What was taken out of a part and those below it."""

    texts: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n\n".join(text for text in self.texts if text.strip())


def read_mail(source: Source) -> Message:
    """An e-mail taken apart; headers that are broken are shown as they stand."""
    with source.path.open("rb") as file:
        message = message_from_binary_file(file, policy=policy.default)
    taken = _take(message, is_top=True)
    headers = {name: text for name in HEADERS if (text := _header(message, name))}
    is_cut_off = any(
        isinstance(defect, CloseBoundaryNotFoundDefect) for part in message.walk() for defect in part.defects
    )
    return Message(headers, taken.text, tuple(_numbered(taken.attachments)), is_cut_off)


def _take(part: MimePart, is_top: bool = False) -> _Taken:
    kind = part.get_content_type()
    if kind == "message/rfc822" and not is_top:
        return _Taken(attachments=[_nested(part)])
    if part.is_multipart():
        below = [_take(each) for each in _parts(part)]
        attachments = [each for taken in below for each in taken.attachments]
        if kind == "multipart/alternative":
            return _Taken([_fullest([taken.text for taken in below])], attachments)
        return _Taken([text for taken in below for text in taken.texts], attachments)
    if kind in _SIGNATURES:
        return _Taken()
    if kind in _BODY_TYPES and not _filename(part) and part.get_content_disposition() != "attachment":
        text = _text(part)
        return _Taken([html_to_text(text) if kind == "text/html" else text])
    return _Taken(attachments=[Attachment(_filename(part) or _suffix_of(kind), _attached(part))])


def _parts(part: MimePart) -> list[MimePart]:
    payload = part.get_payload()
    return [each for each in payload if isinstance(each, MimePart)] if isinstance(payload, list) else []


def _fullest(texts: list[str]) -> str:
    """Of several forms of one text the first, which is the plain one, unless another says more than twice as much."""
    chosen = ""
    for text in texts:
        if len(text.split()) > 2 * len(chosen.split()):
            chosen = text
    return chosen


def _nested(part: MimePart) -> Attachment:
    inner = next(iter(_parts(part)), None)
    subject = "" if inner is None else " ".join(_header(inner, "Subject").split())
    name = _filename(part) or f"{subject or 'message'}.eml".replace("/", "_").lstrip(".")

    def read() -> bytes:
        return b"" if inner is None else inner.as_bytes(policy=policy.compat32)

    return Attachment(name, read)


def _attached(part: MimePart) -> Callable[[], bytes]:
    def read() -> bytes:
        data = _payload(part)
        if any(isinstance(defect, InvalidBase64LengthDefect) for defect in part.defects):
            raise ValueError("its bytes cannot be decoded")
        return data

    return read


def _payload(part: MimePart) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _text(part: MimePart) -> str:
    data = _payload(part)
    try:
        return data.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decode(data)


def _header(message: MimePart, name: str) -> str:
    try:
        return str(message[name] or "")
    # The library's parser of addresses and dates fails in many ways on what programs write.
    except Exception:
        return next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")


def _filename(part: MimePart) -> str:
    try:
        return (part.get_filename() or "").replace("\\", "/").rpartition("/")[2].strip().lstrip(".")
    # As above.
    except Exception:
        return ""


def _suffix_of(kind: str) -> str:
    return mimetypes.guess_extension(kind) or ".bin"


def _numbered(attachments: list[Attachment]) -> list[Attachment]:
    """Those without a name are called by their place."""
    return [
        Attachment(f"attachment-{number}{each.name}", each.read) if each.name.startswith(".") else each
        for number, each in enumerate(attachments, 1)
    ]
