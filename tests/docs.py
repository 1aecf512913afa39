"""The examples in `docs/`: blocks of Python, run one after the other as a reader would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^(?:<!-- needs (?P<needs>[\w.]+) -->\n)?```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str | None, str, int]]:
    """Every block of a page: the package it needs, if any, its code, and the line it stands on."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        (match["needs"], match["code"], text.count("\n", 0, match.start("code"))) for match in _BLOCK.finditer(text)
    ]


def run_block(code: str, page: str, line: int, scope: dict[str, Any]) -> None:
    """Run a block; tracebacks name the page and the line in it."""
    exec(compile("\n" * line + code, str(DOCS / page), "exec", dont_inherit=True), scope)


def make_inbox(folder: Path, *names: str) -> None:
    """The files that the examples speak of."""
    (folder / "inbox").mkdir(parents=True)
    for name in names:
        source = ROOT / "fixtures" / "documents" / "invoices" / name
        (folder / "inbox" / name).write_bytes(source.read_bytes())
    (folder / "damaged").symlink_to(ROOT / "fixtures" / "damaged")
