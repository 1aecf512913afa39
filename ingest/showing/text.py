"""Text made safe and short for a terminal: names of files come from strangers."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from io import StringIO
from shutil import get_terminal_size
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Table

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that may move the cursor, reorder or hide text, or that cannot be encoded."""

STATUS_STYLES = {"complete": "green", "partial": "yellow", "failed": "red", "skipped": "dim"}
"""How a record's status is coloured on a terminal."""

T = TypeVar("T")


def printable(text: str) -> str:
    """The text with control, format and surrogate characters as visible escapes such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE else char for char in text
    )


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, printable, cut at `limit` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def with_reason(name: str, reason: str | None) -> str:
    """`name: reason`, or the reason alone when it names the file itself."""
    if not reason:
        return printable(name)
    told = one_line(reason)
    return told if printable(name) in told else f"{printable(name)}: {told}"


def shortened(text: str, limit: int) -> str:
    """The text cut in the middle to `limit` columns: both the folder and the end of a file name are telling."""
    if cell_len(text) <= limit:
        return text
    tail_columns = (limit - 1) * 2 // 3
    head = set_cell_size(text, limit - 1 - tail_columns).rstrip()
    start = len(text)
    while cell_len(text[start - 1 :]) <= tail_columns:
        start -= 1
    return f"{head}…{text[start:]}"


def thinned(rows: Sequence[T], limit: int) -> tuple[Sequence[T], int, Sequence[T]]:
    """First rows, how many are left out, last rows: about `limit` rows are kept; no cut is made for two or three."""
    if len(rows) <= limit + 3:
        return rows, 0, ()
    tail = limit // 2
    head = limit - tail
    return rows[:head], len(rows) - limit, rows[len(rows) - tail :]


def compact(number: int) -> str:
    """A count in at most six columns: `9,876`, `98.8k`, `1.23M`."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1_000:.1f}k" if number < 999_950 else f"{number / 1_000_000:.2f}M"


def count(number: int, noun: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(value: Decimal | None) -> str:
    """US dollars with as many digits as a small price needs; a dash without a price."""
    if value is None:
        return "–"
    if value == 0:
        return "$0"
    if value < Decimal("0.0001"):
        return "<$0.0001"
    return f"${value:,.4f}" if value < 1 else f"${value:,.2f}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def terminal_width() -> int:
    """Columns of the terminal, or of `COLUMNS`; 100 when there is neither."""
    return max(40, get_terminal_size((100, 24)).columns)


def rendered(*items: RenderableType, width: int, color: bool = False) -> str:
    """Rich renderables as text of at most `width` columns, without trailing blanks."""
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color or "NO_COLOR" in os.environ,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    for item in items:
        console.print(item)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def ruled_table(footer: bool = True) -> Table:
    """An empty table with a line below its heads, and totals below it unless told otherwise."""
    return Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        show_footer=footer,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        footer_style="bold",
    )
