"""The examples of docs/library.md run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import blocks, make_inbox, run_block

pytestmark = pytest.mark.usefixtures("quick_readers")


def test_the_examples_of_the_library_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code that is copied must work, and print what the text promises."""
    make_inbox(tmp_path, "us-one-page.pdf")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "library_example"}
    for _, code, line in blocks("library.md"):
        run_block(code, "library.md", line, scope)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("complete ")
    assert "upload-17.pdf 17" in printed
    assert "1 0" in printed, "one document in the summary of its two calls, for nothing"
    assert printed[-1].startswith("failed ")
    assert scope["names"] == ["us-one-page.pdf"]
