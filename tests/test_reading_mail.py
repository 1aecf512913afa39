"""E-mails: a page of their own, and what is attached as documents of its own."""

from __future__ import annotations

import sys
from email.message import EmailMessage
from pathlib import Path

import pytest

import ingest
from ingest.config import ReadingSettings
from ingest.errors import UnsupportedMedia
from ingest.reading.containers.message import html_to_text, read_message
from ingest.reading.discover import Found, describe
from ingest.record import Record
from tests.inputs import by_name, config, model, text, zipped
from tests.scripted_model import ScriptedModel

__all__ = ["model"]

pytestmark = pytest.mark.usefixtures("quick_readers")


def _mail(body: str = "", html: str = "", subject: str = "Order", **attachments: bytes) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann Example <ann@example.com>"
    message["To"] = "bob@example.com"
    message["Date"] = "Fri, 23 Dec 2022 12:08:48 -0600"
    message["Subject"] = subject
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in attachments.items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message


def _page(folder: Path, data: bytes, name: str = "a.eml") -> str:
    (folder / name).write_bytes(data)
    source = describe(Found(name, folder / name), ReadingSettings())
    assert source.media_type == "message/rfc822"
    return read_message(source).chapters[0].body


def test_a_mail_and_what_is_attached_become_records(tmp_path: Path, model: ScriptedModel) -> None:
    """The invoice is in the attachment, who sent it is in the mail: both count, and each is its own record."""
    nested = _mail("TITLE: forwarded", subject="Fwd: a/b", **{"deep.txt": text("deep")})
    message = _mail(
        "TITLE: mail\nROW body 5", **{"one.txt": text("one"), "two.zip": zipped({"x/three.txt": text("3")})}
    )
    message.add_attachment(nested)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.eml").write_bytes(message.as_bytes())
    (tmp_path / "in" / "b.txt").write_bytes(text("B"))
    found = by_name([tmp_path / "in"], tmp_path / "out")
    titles = {name: record.data and record.data["title"] for name, record in found.items()}
    assert list(titles.items()) == [
        ("a.eml", "mail"),
        ("a.eml/one.txt", "one"),
        ("a.eml/two.zip", None),
        ("a.eml/two.zip/x/three.txt", "3"),
        ("a.eml/Fwd: a_b.eml", "forwarded"),
        ("a.eml/Fwd: a_b.eml/deep.txt", "deep"),
        ("b.txt", "B"),
    ]
    assert {record.status for record in found.values()} == {"complete"}
    assert found["a.eml/two.zip/x/three.txt"].document.parent == "a.eml/two.zip"
    assert found["a.eml/one.txt"].document.uri.endswith("/in/a.eml#one.txt")
    for name in titles:
        assert (tmp_path / "out" / f"{name}.json").is_file()
    sent = len(model.calls)
    assert by_name([tmp_path / "in"], tmp_path / "out") == found
    assert len(model.calls) == sent


def test_a_plan_prices_what_is_attached(tmp_path: Path, model: ScriptedModel) -> None:
    """A bill that forgets the attachments is no bill, and planning asks nobody."""
    (tmp_path / "a.eml").write_bytes(_mail("hello", **{"one.txt": text("one")}).as_bytes())
    planned = ingest.plan([tmp_path / "a.eml"], config(tmp_path / "out"))
    assert [(row.name, row.requests) for row in planned.documents] == [("a.eml", 1), ("a.eml/one.txt", 1)]
    assert model.calls == []
    summary = ingest.run_to_folder([tmp_path / "a.eml"], config(tmp_path / "out"))
    assert summary.planned is not None
    assert summary.planned.requests == summary.requests_sent == 2


def test_headers_and_text_stand_on_the_page(tmp_path: Path) -> None:
    """Who wrote when about what is what is asked of mails; nothing of it may run or be fetched."""
    html = "<style>p{}</style><p>Total: <b>12</b>.50</p><script>alert(1)</script><img src='http://evil/x.png'>"
    page = _page(tmp_path, _mail(html=html, subject="<b>Übersicht</b>", **{"a b.pdf": b"x"}).as_bytes())
    for line in (
        "From: Ann Example &lt;ann@example.com&gt;",
        "Date: Fri, 23 Dec 2022 12:08:48 -0600",
        "Subject: &lt;b&gt;Übersicht&lt;/b&gt;",
        "Attachments: a b.pdf",
        "Total: 12.50",
    ):
        assert line in page
    assert "alert" not in page
    assert "evil" not in page


def test_the_plain_text_is_taken_unless_it_says_less(tmp_path: Path) -> None:
    """Programs send `see the HTML version` as the plain text of an invoice."""
    assert "plain words" in _page(tmp_path, _mail("plain words only", "<p>plain words only</p>").as_bytes())
    html = "<table><tr><td>Item</td><td>Price</td></tr><tr><td>Bolt</td><td>4.20 EUR</td></tr></table>"
    page = _page(tmp_path, _mail("see HTML", html).as_bytes())
    assert "Item   Price\nBolt   4.20 EUR" in page
    assert "see HTML" not in page


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("a<br>b", "a\nb"),
        ("<ul><li>x</li><li>y z</li></ul>", "- x\n- y z"),
        ("<p>one\n two</p><p>three</p><div>four</div><div>five</div>", "one two\n\nthree\n\nfour\nfive"),
        ("<b>bold</b> <i>and</i> &lt;more&gt;&nbsp;", "bold and <more>"),
        ("<title>no</title><noscript>yes</noscript>", "yes"),
        ("<script>never ends", ""),
        ("", ""),
    ],
)
def test_html_as_lines(html: str, told: str) -> None:
    """What a reader sees as lines stays lines."""
    assert html_to_text(html) == told


def test_broken_mails_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    """Mail is old, and half of what writes it is wrong."""
    head = b"From: a@b.c\r\nTo: <<>>,,;\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nDate: never\r\n"
    assert "Subject: café" in _page(tmp_path, head + b"\r\nbody")
    unknown = head + b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="x-none"\r\n\r\ncaf\xc3\xa9 au lait'
    assert "café au lait" in _page(tmp_path, unknown)
    no_end = head + b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhello'
    assert "hello" in _page(tmp_path, no_end)


def test_nesting_without_end_is_one_failed_record(tmp_path: Path, model: ScriptedModel) -> None:
    """A mail of ten thousand parts within each other must not take the reader down."""
    head, body = b"From: a@b.c\nSubject: x\nMIME-Version: 1.0\n", b""
    for number in range(3_000):
        body += b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (number, number)
    (tmp_path / "deep.eml").write_bytes(head + body)
    (tmp_path / "good.txt").write_bytes(text("good"))
    found = by_name([tmp_path])
    assert found["good.txt"].status == "complete"
    assert found["deep.eml"].status == "failed"
    assert "Traceback" not in found["deep.eml"].problems[0].message


def test_hostile_names_of_attachments_are_safe(tmp_path: Path, model: ScriptedModel) -> None:
    """A mail must not write outside its own folder, nor over another document's record."""
    message = _mail("x")
    for name in ("../../../etc/passwd", "C:\\temp\\x.txt", "a.txt", "A.txt", ".", "run", "x" * 300 + ".txt"):
        message.add_attachment(text("T"), maintype="text", subtype="plain", filename=name)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.eml").write_bytes(message.as_bytes())
    found = by_name([tmp_path / "in"], tmp_path / "out")
    names = [name for name in found if name != "a.eml"]
    assert len({name.casefold() for name in names}) == 7
    for name in names:
        assert name.startswith("a.eml/")
        assert ".." not in name.split("/")
        assert (tmp_path / "out" / f"{name}.json").is_file()
    assert names[:3] == ["a.eml/passwd", "a.eml/x.txt", "a.eml/a.txt"]


def test_bounds_are_told_on_the_mail_itself(tmp_path: Path, model: ScriptedModel) -> None:
    """What was left out must show where people look, and make the record less than complete."""
    message = _mail("x", **{f"{number}.txt": text(str(number)) for number in range(5)}, **{"big.txt": b"x" * 9_000})
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    found = by_name([tmp_path], finding={"max_members": 3})
    assert list(found) == ["a.eml", "a.eml/0.txt", "a.eml/1.txt", "a.eml/2.txt"]
    assert found["a.eml"].status == "partial"
    assert "max_members" in found["a.eml"].problems[0].message
    found = by_name([tmp_path], finding={"max_member_bytes": 5_000, "exclude": ["[01].txt"]})
    assert list(found) == ["a.eml", "a.eml/2.txt", "a.eml/3.txt", "a.eml/4.txt"]
    assert "max_member_bytes" in found["a.eml"].problems[0].message


def test_a_mail_that_breaks_off_is_not_complete(tmp_path: Path, model: ScriptedModel) -> None:
    """Half a download of a mail looks like a mail: the lost attachments must not go unnoticed."""
    whole = _mail("TITLE: mail", **{"one.txt": text("one"), "two.txt": text("two")}).as_bytes()
    (tmp_path / "a.eml").write_bytes(whole[: whole.index(b"two.txt") + 30])
    found = by_name([tmp_path])
    assert found["a.eml/one.txt"].status == "complete"
    assert found["a.eml"].status == "partial"
    assert "breaks off" in found["a.eml"].problems[-1].message


def test_an_attachment_that_cannot_be_decoded_is_told(tmp_path: Path, model: ScriptedModel) -> None:
    """The letters of its encoding are text, and must not pass for the document."""
    whole = _mail("TITLE: mail", **{"one.txt": text("one")}).as_bytes()
    start = whole.index(b"\n\n", whole.index(b"one.txt")) + 2
    (tmp_path / "a.eml").write_bytes(whole[:start] + b"%%%%notbase64\n" + whole[whole.index(b"\n--", start) :])
    found = by_name([tmp_path])
    assert list(found) == ["a.eml"]
    assert found["a.eml"].status == "partial"
    assert "one.txt cannot be unpacked" in found["a.eml"].problems[0].message


def test_a_mail_under_the_name_of_a_pdf_is_told(tmp_path: Path, model: ScriptedModel) -> None:
    """What a gateway leaves in place of a file it refused must not pass for the file."""
    (tmp_path / "invoice.pdf").write_bytes(_mail("Your file was refused").as_bytes())
    (record,) = by_name([tmp_path]).values()
    assert record.status == "failed"
    assert "e-mail under another name" in record.problems[0].message


def test_outlook_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out of a missing package is one line to type."""
    from dataclasses import replace

    monkeypatch.setitem(sys.modules, "extract_msg", None)
    (tmp_path / "a.msg").write_bytes(b"x")
    source = replace(
        describe(Found("a.msg", tmp_path / "a.msg"), ReadingSettings()), media_type="application/vnd.ms-outlook"
    )
    with pytest.raises(UnsupportedMedia, match=r"pip install 'ingest\[msg\]'"):
        read_message(source)


@pytest.mark.corpus
def test_mails_of_the_corpus(corpus: Path, model: ScriptedModel) -> None:
    """Mails as programs wrote them: body and attachments are read, an empty one is told."""
    pytest.importorskip("extract_msg")
    found = by_name([corpus / "office" / "*.eml", corpus / "office" / "*.msg"])

    def status(name: str) -> str:
        record: Record = found[name]
        return record.status

    assert status("unstructured-email-with-image.eml") == "complete"
    assert status("unstructured-fake-email-attachment.eml") == "complete"
    assert status("unstructured-fake-email-attachment.eml/fake-attachment.txt") == "complete"
    assert status("docling-msg_with_attachment.msg") == "complete"
    assert status("docling-msg_with_attachment.msg/test.txt") == "complete"
    assert "empty e-mail" in found["unstructured-empty.eml"].problems[0].message
    assert found["unstructured-email-with-image.eml/unstructured_logo.png"].document.media_type == "image/png"
