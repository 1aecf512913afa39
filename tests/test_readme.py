"""What README and docs say is what the program does. Their generated parts are written by `python -m tests.readme`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import readme


@pytest.mark.parametrize(
    ("page", "name", "table"),
    [
        (readme.SETTINGS, "settings", readme.settings_table),
        (readme.README, "exits", readme.exits_table),
        (readme.README, "recipes", readme.recipes_table),
    ],
)
def test_the_tables_are_the_codes_own(page: Path, name: str, table: Callable[[], str]) -> None:
    """A default that changed in the code and not in the docs misleads every reader."""
    assert readme.written(page, name) == table()


def test_the_first_command_prints_what_is_shown(tmp_path: Path) -> None:
    """The first thing a new user compares is his own output with the one in the README."""
    shown = readme.written(readme.README, "output")
    printed = readme.output_block(tmp_path / "out")
    # Token counts may differ by a little between versions of the tokenizer and of MuPDF; documents and states not.
    numbers = re.compile(r"[\d.,]+k?")
    assert numbers.sub("N", re.sub(r" +", " ", printed)) == numbers.sub("N", re.sub(r" +", " ", shown))


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that is copied must work."""
    monkeypatch.chdir(readme.ROOT)
    code = re.search(r"^```python\n(.*?)^```", readme.README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert code
    scope: dict[str, object] = {"__name__": "readme_example"}
    exec(compile(code[1], "README.md", "exec", dont_inherit=True), scope)
    status, amount, page = capsys.readouterr().out.split()
    assert (status, page) == ("complete", "1")
    assert float(amount) > 0
