"""Folders as attackers and careless programs leave them: records stay below the output folder, one for each file."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.engine import session
from tests.scripted_model import SCHEMA, ScriptedModel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be made there")

_NAMES = [
    b"plain.txt",
    b"x..txt",
    b"_...",
    b" .txt ",
    b"new\nline.txt",
    b"tab\tand\x1b[31mred.txt",
    b"bell\x07\x7f.txt",
    b"\xff\xfe not utf-8.txt",
    "turned \u202egpj.txt".encode(),
    b"A.txt",
    b"a.TXT",
    "caf\u00e9.txt".encode(),
    "cafe\u0301.txt".encode(),
    b"back\\slash.txt",
    b"-rf",
    b"--output=x",
    b"con.txt",
    b"run.json.txt",
    b"records.jsonl",
    b"$(touch pwned).txt",
    b"{name}%s%n.txt",
    b"<script>.txt",
    b"[bold red]x.txt",
    b"x" * 250 + b".txt",
    "\U0001f4c4".encode() * 60,
]
"""Names of files in one folder, as bytes."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted model in the embedded engine's place."""
    monkeypatch.setattr(session, "EmbeddedEngine", lambda: nullcontext(ScriptedModel()))


def _run(folder: Path, output: Path) -> list[dict[str, Any]]:
    config = ingest.configure(schema=SCHEMA, local=True, output=output)
    ingest.run_to_folder([folder], config)
    return [json.loads(line) for line in (output / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_name_gets_a_record_of_its_own_below_the_output(tmp_path: Path, model: None) -> None:
    """No name leaves the folder, hides another's record, or paints the terminal of whoever lists it."""
    folder = tmp_path / "in"
    deep = os.fsencode(folder) + b"/x../" + b"d" * 200 + b"/" + b"e" * 200
    os.makedirs(deep)
    made = 0
    for place in (os.fsencode(folder), deep):
        for name in _NAMES:
            with open(place + b"/" + name, "wb") as file:
                file.write(b"TITLE: T1\nROW pear %d\n" % made)
            made += 1
    before = sorted(os.listdir(tmp_path))
    output = tmp_path / "out" / "deeper"
    records = _run(folder, output)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])
    assert sorted(os.listdir(tmp_path / "out")) == ["deeper"]
    names = [record["document"]["name"] for record in records]
    assert len(names) == made
    assert len({name.casefold() for name in names}) == made
    assert {record["status"] for record in records} == {"complete"}
    assert len({record["data"]["rows"][0]["amount"] for record in records}) == made
    for name in names:
        path = output / f"{name}.json"
        assert path.resolve().is_relative_to(output.resolve())
        assert json.loads(path.read_text(encoding="utf-8"))["document"]["name"] == name
        assert all(step not in ("", ".", "..") for step in name.split("/"))
        assert all(character.isprintable() or character in "\u200d" for character in name), name


def test_loops_and_special_files_end(tmp_path: Path, model: None) -> None:
    """Links that go round, pipes nobody writes to, and sockets are found in real folders."""
    folder = tmp_path / "in"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "real.txt").write_text("TITLE: T1\n")
    (folder / "a" / "b" / "up").symlink_to(folder)
    (folder / "a" / "b" / "self").symlink_to(folder / "a" / "b" / "self")
    (folder / "nowhere.txt").symlink_to(folder / "missing.txt")
    (folder / "zero.txt").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket.txt"))
        records = {record["document"]["name"]: record for record in _run(folder, tmp_path / "out")}
    assert records["a/real.txt"]["status"] == "complete"
    assert records["nowhere.txt"]["status"] == "failed"
    assert {name for name, record in records.items() if record["status"] == "complete"} == {"a/real.txt"}
    assert "pipe.txt" not in records
    assert len(records) <= 4


def test_a_link_out_of_the_folder_is_read_under_its_own_name(tmp_path: Path, model: None) -> None:
    """A link is given by whoever made the folder; its record must not follow it."""
    (tmp_path / "elsewhere.txt").write_text("TITLE: T7\n")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.txt").symlink_to("../elsewhere.txt")
    (record,) = _run(folder, tmp_path / "out")
    assert record["document"]["name"] == "link.txt"
    assert (tmp_path / "out" / "link.txt.json").is_file()
    assert not (tmp_path / "elsewhere.txt.json").exists()
