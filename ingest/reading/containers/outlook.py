"""E-mail as Outlook saves it (MS-OXMSG), by extract-msg: extra `msg`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingest.errors import Unreadable, UnsupportedMedia
from ingest.reading.containers.message import HEADERS, Attachment, Message, html_to_text
from ingest.reading.markup import decode
from ingest.types import Source

_FIELDS = dict(zip(HEADERS, ("sender", "to", "cc", "date", "subject"), strict=True))


def read_outlook(source: Source) -> Message:
    """An Outlook message taken apart.

    Raises UnsupportedMedia without the package, or when it is no message but a contact or the like; Unreadable when it
    is damaged.
    """
    try:
        import extract_msg
    except ImportError as error:
        raise UnsupportedMedia(
            f"{source.name} is an Outlook message, and the package that reads it is not installed:"
            " pip install 'ingest[msg]', or save it as .eml"
        ) from error
    try:
        # Not closed: attachments are read from it later, and the worker lets go of it with them.
        message: Any = extract_msg.openMsg(
            str(source.path), errorBehavior=extract_msg.enums.ErrorBehavior.SUPPRESS_ALL, delayAttachments=False
        )
    # The library raises errors of its own and of others on a damaged file.
    except Exception as error:
        raise Unreadable(f"{source.name} cannot be opened: it is damaged ({type(error).__name__})") from error
    if not hasattr(message, "body"):
        raise UnsupportedMedia(f"{source.name} is an Outlook file of another kind than a message: export it as PDF")
    headers = {name: text for name, field in _FIELDS.items() if (text := str(getattr(message, field, None) or ""))}
    attachments = enumerate(message.attachments, 1)
    return Message(headers, _text(message), tuple(_attachment(each, number) for number, each in attachments))


def _text(message: Any) -> str:
    body = str(message.body or "")
    if body.strip():
        return body
    html = message.htmlBody
    return html_to_text(decode(html)) if html else ""


def _attachment(attachment: Any, number: int) -> Attachment:
    name = str(attachment.getFilename() or "").strip("\0 ") or f"attachment-{number}"
    if not isinstance(attachment.data, bytes | None) and not name.lower().endswith(".msg"):
        name = f"{name}.msg"
    return Attachment(name.replace("/", "_"), _reader(attachment))


def _reader(attachment: Any) -> Callable[[], bytes]:
    def read() -> bytes:
        data = attachment.data
        if isinstance(data, bytes):
            return data
        if data is None:
            raise ValueError("it has no content")
        return bytes(data.exportBytes())

    return read
