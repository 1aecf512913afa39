"""Archives: their members as documents, and what hostile ones come to."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import ingest
from ingest.config import ReadingSettings
from ingest.reading.discover import Found, describe
from ingest.reading.names import MemberNames, Names
from tests.inputs import by_name, config, model, text, zipped
from tests.reading_samples import make_docx, make_xlsx, word_paragraph
from tests.scripted_model import ScriptedModel

__all__ = ["model"]


def _tarred(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return data.getvalue()


def _link(kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def _zip_link() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        info = zipfile.ZipInfo("link.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("good.txt", text("good"))
    return data.getvalue()


def _encrypted() -> bytes:
    """The flag of encryption set on the first member, in both of its headers."""
    data = bytearray(zipped({"secret.txt": text("secret"), "good.txt": text("good")}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def _bad_crc() -> bytes:
    data = bytearray(zipped({"bad.txt": text("bad"), "good.txt": text("good")}, zipfile.ZIP_STORED))
    data[data.index(b"TITLE: bad") + 3] ^= 0xFF
    return bytes(data)


def _overlapping() -> bytes:
    """Every entry of the directory points to the bytes of the first: David Fifield's way to a small bomb."""
    data = bytearray(zipped({f"{number}.txt": text("same") * 99 for number in range(3)}))
    at = data.index(b"PK\x01\x02")
    while at >= 0:
        data[at + 42 : at + 46] = bytes(4)
        at = data.find(b"PK\x01\x02", at + 1)
    return bytes(data)


def _nested(depth: int) -> bytes:
    data = zipped({"innermost.txt": text("deep")})
    for level in range(depth - 1):
        data = zipped({f"level{level}.zip": data})
    return data


def test_members_of_archives_are_documents(tmp_path: Path, model: ScriptedModel) -> None:
    """Accountants send archives; what is in them is what is asked about."""
    archives = {
        "a.zip": (zipped({"x/a.txt": text("A"), ".hidden": b"x", "__MACOSX/x": b"x"}), ["a.zip/x/a.txt"]),
        "b.tgz": (_tarred({"x/a.txt": text("A"), "./b.txt": text("A")}), ["b.tgz/x/a.txt", "b.tgz/b.txt"]),
        "c.tar": (_tarred({"a.pdf.txt": text("A")}, "w"), ["c.tar/a.pdf.txt"]),
        "d.tar.xz": (_tarred({"a.txt": text("A")}, "w:xz"), ["d.tar.xz/a.txt"]),
        "e.txt.gz": (gzip.compress(text("A")), ["e.txt.gz/e.txt"]),
        "f.txt.bz2": (bz2.compress(text("A")), ["f.txt.bz2/f.txt"]),
        "g.txt.xz": (lzma.compress(text("A")), ["g.txt.xz/g.txt"]),
        "h.zip": (zipped({}), []),
    }
    for name, (data, _) in archives.items():
        (tmp_path / name).write_bytes(data)
    found = by_name([tmp_path])
    assert list(found) == [each for name, (_, members) in archives.items() for each in (name, *members)]
    assert {record.status for record in found.values()} == {"complete"}
    for name, (_, members) in archives.items():
        assert found[name].data is None
        assert found[name].coverage.total == 0
        assert [found[member].data["title"] for member in members] == ["A"] * len(members)


def test_what_cannot_be_taken_is_told_and_the_rest_is_read(tmp_path: Path, model: ScriptedModel) -> None:
    """One bad member must not cost the others, nor pass unseen."""
    good, noise = text("good"), random.Random(1).randbytes(99_999)
    archives = {
        "up.zip": (zipped({"../../up.txt": text("up"), "good.txt": good}), "leads out"),
        "up.tar": (_tarred({"../up.txt": text("up"), "good.txt": good}, "w"), "leads out"),
        "link.zip": (_zip_link(), "links are not followed"),
        "link.tgz": (_tarred({"link.txt": _link(), "good.txt": good}), "links are not followed"),
        "hard.tgz": (_tarred({"l.txt": _link(tarfile.LNKTYPE), "good.txt": good}), "links are not followed"),
        "pipe.tgz": (_tarred({"pipe": _link(tarfile.FIFOTYPE), "good.txt": good}), "device or pipe"),
        "locked.zip": (_encrypted(), "encrypted"),
        "crc.zip": (_bad_crc(), "cannot be unpacked"),
        "cut.tgz": (_tarred({"good.txt": good, "noise": noise})[:50_000], "damaged"),
    }
    (tmp_path / "in").mkdir()
    for name, (data, _) in archives.items():
        (tmp_path / "in" / name).write_bytes(data)
    found = by_name([tmp_path / "in"], tmp_path / "out")
    assert len(found) == 2 * len(archives)
    for name, (_, told) in archives.items():
        assert found[f"{name}/good.txt"].data["title"] == "good"
        assert found[name].status == "partial"
        assert told in found[name].problems[0].message
    assert not (tmp_path / "up.txt").exists()
    assert not list((tmp_path / "out").rglob("up.txt*"))


def test_bombs_come_to_an_end(tmp_path: Path, model: ScriptedModel) -> None:
    """A few kilobytes must not fill the disk: by size, by number, by depth, by entries that share their bytes."""
    zeros = zipped({"zeros.txt": bytes(40_000_000), "after.txt": text("after")})
    (tmp_path / "a-ratio.zip").write_bytes(zeros)
    (tmp_path / "b-many.zip").write_bytes(zipped({f"{number}.txt": text("x") for number in range(9)}))
    (tmp_path / "c-deep.zip").write_bytes(_nested(5))
    (tmp_path / "d-overlap.zip").write_bytes(_overlapping())
    (tmp_path / "e-good.txt").write_bytes(text("good"))
    bounds = {"max_unpacked_bytes": 1_000_000, "max_members": 4, "max_depth": 3}
    found = by_name([tmp_path], finding=bounds)
    problems = {name: record.problems[0].message for name, record in found.items() if record.problems}
    assert found["e-good.txt"].status == "complete"
    assert "max_unpacked_ratio" in problems["a-ratio.zip"]
    assert "max_members" in problems["b-many.zip"]
    assert sum(name.startswith("b-many.zip/") for name in found) == 4
    assert "max_depth" in problems["c-deep.zip/level3.zip/level2.zip/level1.zip"]
    assert not any(name.endswith("innermost.txt") for name in found)
    assert "cannot be unpacked" in problems["d-overlap.zip"]
    assert sum(name.startswith("d-overlap.zip/") for name in found) <= 1


def test_archives_that_are_none_are_failed_records(tmp_path: Path, model: ScriptedModel) -> None:
    """Half an upload is a bad file like any other."""
    data = zipped({"a.txt": random.Random(2).randbytes(9_000)})
    (tmp_path / "cut.zip").write_bytes(data[:5_000])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(data)[:20])
    found = by_name([tmp_path])
    assert [record.status for record in found.values()] == ["failed", "failed"]
    assert all("damaged" in record.problems[0].message for record in found.values())


def test_office_files_are_documents_though_they_are_zips(tmp_path: Path, model: ScriptedModel) -> None:
    """A spreadsheet must not fall apart into its XML."""
    (tmp_path / "a.docx").write_bytes(make_docx(word_paragraph("TITLE: word")))
    (tmp_path / "b.xlsx").write_bytes(
        make_xlsx('<row r="1"><c r="A1" t="inlineStr"><is><t>TITLE: sheet</t></is></c></row>')
    )
    found = by_name([tmp_path])
    assert [(name, record.data["title"]) for name, record in found.items()] == [("a.docx", "word"), ("b.xlsx", "sheet")]


def test_a_stored_pdf_makes_no_pdf_of_its_archive(tmp_path: Path, fixtures_folder: Path) -> None:
    """Archivers leave PDF files as they are, so that the archive begins like one."""
    pdf = next(iter(sorted(fixtures_folder.rglob("*.pdf")))).read_bytes()
    for name, data in (("a.zip", zipped({"a.pdf": pdf}, zipfile.ZIP_STORED)), ("a.tar", _tarred({"a.pdf": pdf}, "w"))):
        (tmp_path / name).write_bytes(data)
        media_type = describe(Found(name, tmp_path / name), ReadingSettings()).media_type
        assert media_type == ("application/zip" if name == "a.zip" else "application/x-tar")


def test_unpacking_can_be_left_out(tmp_path: Path, model: ScriptedModel) -> None:
    """Who wants mails without attachments, and archives refused, can say so."""
    (tmp_path / "a.zip").write_bytes(zipped({"a.txt": text("A")}))
    (record,) = by_name([tmp_path], finding={"unpack": False}).values()
    assert (record.status, record.problems[0].code) == ("failed", "unsupported_media")


def test_archives_larger_than_the_room_for_them_are_read_one_after_the_other(
    tmp_path: Path, model: ScriptedModel
) -> None:
    """Whoever waits for room must not wait for those that wait for him, whatever is nested in what."""
    for number in range(6):
        inner = zipped({f"in{number}.txt": text(f"inner{number}")})
        members = {f"a{number}.txt": text(f"A{number}"), "b.zip": inner, "c.txt": text(f"C{number}")}
        (tmp_path / f"{number}.zip").write_bytes(zipped(members))
    given = [tmp_path, ingest.Input(data=text("last"), name="last.txt")]
    chosen = config(None, finding={"staged_bytes": 1_000}).model_copy(update={"jobs": 2})
    names = [record.document.name for record in ingest.run(given, config=chosen)]
    expected = [
        name
        for number in range(6)
        for name in (
            f"{number}.zip",
            f"{number}.zip/a{number}.txt",
            f"{number}.zip/b.zip",
            f"{number}.zip/b.zip/in{number}.txt",
            f"{number}.zip/c.txt",
        )
    ]
    assert names == [*expected, "last.txt"]


def test_member_names_never_collide_with_documents_beside_them() -> None:
    """`a.zip` and a folder `a.zip/` from two places must not share records, nor members that differ in capitals."""
    names, members = Names(), MemberNames("a.zip")
    assert names.give("/one/a.zip", Path("a.zip")) == "a.zip"
    other = names.give("/two/a.zip/b.txt", Path("a.zip/b.txt"))
    assert other is not None
    assert not other.startswith("a.zip/")
    given = [members.give(Path(name)) for name in ("b.txt", "B.txt", "b.txt", "run.json", "x/../b.txt")]
    assert given[0] == "a.zip/b.txt"
    assert len({name.casefold() for name in given}) == len(given)
    assert all(name.startswith("a.zip/") for name in given)
