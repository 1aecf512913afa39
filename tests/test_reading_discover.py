"""Files in, safe and stable names out."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

import pytest

from ingest.config import ReadingSettings
from ingest.errors import ConfigError, TooLarge, Unreadable
from ingest.reading.discover import Found, describe, discover
from ingest.record import DocumentInfo, ModelInfo, RecipeInfo, Record

SETTINGS = ReadingSettings()


def _fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def _names(*paths: Path | str, output: Path | None = None) -> list[str]:
    return [found.name for found in discover(paths, output)]


def test_a_folder_yields_its_files_sorted_with_relative_names(tmp_path: Path) -> None:
    """The order of records must not depend on the file system."""
    _fill(tmp_path, "b.pdf", "a.pdf", "sub/z.pdf", "sub/deeper/y.pdf", "aa/x.pdf")
    assert _names(tmp_path) == ["a.pdf", "b.pdf", "aa/x.pdf", "sub/z.pdf", "sub/deeper/y.pdf"]


def test_hidden_files_and_our_own_output_are_skipped(tmp_path: Path) -> None:
    """A second run must not ingest the records of the first."""
    _fill(
        tmp_path, "a.pdf", ".DS_Store", ".git/config", "out/a.pdf.json", "older/.ingest/ledger.db", "older/a.pdf.json"
    )
    assert _names(tmp_path, output=tmp_path / "out") == ["a.pdf"]
    assert _names(tmp_path / ".DS_Store") == [".DS_Store"]


RECORD = Record[dict[str, Any]](
    document=DocumentInfo(name="a.pdf", uri="file:///a.pdf", sha256="", media_type="", size_bytes=0),
    status="failed",
    model=ModelInfo(model="m", profile="p", protocol="chat", endpoint="local"),
    recipe=RecipeInfo(name="r", schema_sha256="", instructions_sha256=""),
)


def test_a_record_and_a_folder_never_want_one_name(tmp_path: Path) -> None:
    """`foo` becomes `foo.json`; a folder of that name, or of the summary's, must not stop the run."""
    _fill(tmp_path, "foo", "foo.json/b.txt", "run.json/c.txt")
    names = _names(tmp_path)
    records = {f"{name}.json" for name in names} | {"run.json", "records.jsonl"}
    assert len(records) == 5
    assert not {folder.as_posix() for name in names for folder in PurePath(name).parents} & records


def test_records_written_beside_their_sources_are_skipped(tmp_path: Path) -> None:
    """`-o .` puts records next to the files they are of."""
    _fill(tmp_path, "a.pdf", "a.pdf.json", "data.json", "records.jsonl", "run.json", ".ingest/ledger.db")
    (tmp_path / "a.pdf.json").write_text(RECORD.to_json())
    assert _names(tmp_path, output=tmp_path) == ["a.pdf", "data.json"]
    assert _names(f"{tmp_path}/*", output=tmp_path) == ["a.pdf", "data.json"]
    assert _names(tmp_path, output=tmp_path / "elsewhere") == ["a.pdf", "data.json"]


def test_two_files_that_share_a_name_are_told_apart_the_same_way_every_time(tmp_path: Path) -> None:
    """One record must never overwrite another, and a rerun must find its records again."""
    _fill(tmp_path, "one/scan.pdf", "two/scan.pdf", "three/SCAN.pdf")
    paths = [
        tmp_path / folder / name for folder, name in (("one", "scan.pdf"), ("two", "scan.pdf"), ("three", "SCAN.pdf"))
    ]
    names = _names(*paths)
    assert names[0] == "scan.pdf"
    assert len({name.casefold() for name in names}) == 3
    assert names[1].startswith("scan~")
    assert names[1].endswith(".pdf")
    assert names == _names(*paths)


def test_a_file_given_twice_comes_once(tmp_path: Path) -> None:
    """`docs docs/a.pdf` must not pay for a.pdf twice."""
    _fill(tmp_path, "docs/a.pdf", "docs/b.pdf")
    assert _names(tmp_path / "docs", tmp_path / "docs" / "a.pdf", tmp_path / "docs" / "." / "b.pdf") == [
        "a.pdf",
        "b.pdf",
    ]


def test_names_are_safe_below_any_folder(tmp_path: Path) -> None:
    """A hostile file name must not write outside the output folder or garble a terminal."""
    names = ["a\nb.pdf", "\x1b[31mred.pdf", "rtl\u202efdp.exe", "x" * 250 + ".pdf", "back\\slash.pdf", "... ", "run"]
    for name in names:
        (tmp_path / name).write_text("x")
    undecodable = os.fsencode(str(tmp_path)) + b"/caf\xe9.pdf"
    with open(undecodable, "w") as file:
        file.write("x")
    found = _names(*(tmp_path / name for name in sorted(os.listdir(tmp_path))))
    assert len(found) == len(set(found)) == len(names) + 1
    for name in found:
        assert name.isprintable()
        assert ".." not in name.split("/")
        assert "\\" not in name
        assert "/" not in name
        assert len(name.encode()) <= 180
        assert name != "run"


def test_a_parent_path_gives_no_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`../invoices` must not become a record above the output folder."""
    _fill(tmp_path, "invoices/a.pdf", "work/keep")
    monkeypatch.chdir(tmp_path / "work")
    assert _names("../invoices") == ["a.pdf"]
    assert _names("../invoices/a.pdf") == ["a.pdf"]


def test_globs_name_files_relative_to_their_fixed_part(tmp_path: Path) -> None:
    """Patterns reach us unexpanded from Windows shells, cron and library calls."""
    _fill(tmp_path, "docs/2024/a.pdf", "docs/2025/b.pdf", "docs/2025/b.txt", "docs/2025/deep/c.pdf")
    assert _names(f"{tmp_path}/docs/*/*.pdf") == ["2024/a.pdf", "2025/b.pdf"]
    assert _names(f"{tmp_path}/docs/**/*.pdf") == ["2024/a.pdf", "2025/b.pdf", "2025/deep/c.pdf"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    """Browsers save `scan [1].pdf`."""
    _fill(tmp_path, "scan [1].pdf")
    assert _names(tmp_path / "scan [1].pdf") == ["scan [1].pdf"]


@pytest.mark.parametrize("given", ["missing.pdf", "missing/*.pdf", "memory://nowhere/key", "", "nul\0byte"])
def test_what_does_not_exist_is_a_configuration_error_before_anything_is_read(tmp_path: Path, given: str) -> None:
    """A mistyped path must not cost half a run."""
    _fill(tmp_path, "a.pdf")
    with pytest.raises(ConfigError):
        discover([tmp_path, given and f"{tmp_path}/{given}" if "://" not in given else given])


def test_an_empty_folder_yields_nothing(tmp_path: Path) -> None:
    """Whether that is an error is for the engine to say."""
    assert _names(tmp_path) == []


def test_link_loops_end(tmp_path: Path) -> None:
    """A backup folder that links to itself must not hang a nightly job."""
    _fill(tmp_path, "a/x.pdf", "b/y.pdf")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    assert sorted(_names(tmp_path)) == ["a/x.pdf", "b/y.pdf"]


def test_pipes_in_a_folder_do_not_block(tmp_path: Path) -> None:
    """Opening a pipe waits for ever."""
    _fill(tmp_path, "a.pdf")
    os.mkfifo(tmp_path / "pipe")
    assert _names(tmp_path) == ["a.pdf"]
    with pytest.raises(Unreadable, match="not a regular file"):
        describe(Found("pipe", tmp_path / "pipe"), SETTINGS)


def test_describing_hashes_and_recognises(tmp_path: Path) -> None:
    """Identity comes from the bytes, not from name or date."""
    _fill(tmp_path, "a.txt", "copy/of.txt")
    (tmp_path / "copy" / "of.txt").write_text("a.txt")
    one, two = (describe(found, SETTINGS) for found in discover([tmp_path]))
    assert one.sha256 == two.sha256
    assert one.size_bytes == 5
    assert one.media_type == "text/plain"
    assert one.uri == (tmp_path / "a.txt").as_uri()


def test_files_that_cannot_be_described_say_why(tmp_path: Path) -> None:
    """Empty, vanished, dangling and oversized files are single bad records."""
    (tmp_path / "empty.pdf").touch()
    (tmp_path / "dangling.pdf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "large.pdf").write_bytes(b"x" * 100)
    with pytest.raises(Unreadable, match="empty"):
        describe(Found("empty.pdf", tmp_path / "empty.pdf"), SETTINGS)
    with pytest.raises(Unreadable, match="vanished"):
        describe(Found("gone.pdf", tmp_path / "gone.pdf"), SETTINGS)
    assert _names(tmp_path) == ["dangling.pdf", "empty.pdf", "large.pdf"]
    with pytest.raises(Unreadable, match="vanished"):
        describe(Found("dangling.pdf", tmp_path / "dangling.pdf"), SETTINGS)
    with pytest.raises(TooLarge, match="max_file_bytes"):
        describe(Found("large.pdf", tmp_path / "large.pdf"), ReadingSettings(max_file_bytes=99))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_bad_record(tmp_path: Path) -> None:
    """One folder without permission must not stop the others."""
    _fill(tmp_path, "a.pdf", "closed/b.pdf", "secret.pdf")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "secret.pdf").chmod(0)
    found = list(discover([tmp_path]))
    (tmp_path / "closed").chmod(0o700)
    assert [each.name for each in found] == ["a.pdf", "secret.pdf", "closed"]
    with pytest.raises(Unreadable, match="permissions"):
        describe(found[1], SETTINGS)


def test_records_of_oddly_named_files_are_no_documents(tmp_path: Path) -> None:
    """Output beside the input must not be ingested by the next run, even where the record's name was made safe."""
    (tmp_path / "new\nline.pdf").write_bytes(b"%PDF-")
    (tmp_path / "new_line.pdf.json").write_text(RECORD.to_json())
    assert [found.name for found in discover([tmp_path], tmp_path)] == ["new_line.pdf"]
