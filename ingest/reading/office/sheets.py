"""Workbooks: one chapter for each sheet, cells as the number format shows them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence

from ingest.errors import Unreadable
from ingest.reading.book import LETTER_PT, Book, Chapter, escape, to_table
from ingest.reading.office.package import Node, Package, children

_MAIN = "xl/workbook.xml"
_FONT_PT = 9.0
_CHAR_PT, _CELL_PT = 5.0, 14.0  # width of a character and of a cell's padding at that size
_MAX_CELL_CHARS = 60  # a longer text wraps
_MAX_WIDTH_PT = 5_000.0
_BLOCK_ROWS = 200

# Number formats with a fixed number (ECMA-376 part 1, 18.8.30); those of dates vary with the reader's country.
_BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    9: "0%",
    10: "0.00%",
    37: "#,##0",
    38: "#,##0",
    39: "#,##0.00",
    40: "#,##0.00",
}
_BUILT_IN |= dict.fromkeys((14, 15, 16, 17, *range(27, 32), *range(50, 59)), "yyyy-mm-dd")
_BUILT_IN |= {22: "yyyy-mm-dd hh:mm"} | dict.fromkeys((18, 19, 20, 21, 32, 33, 45, 46, 47), "hh:mm:ss")


def read_sheets(package: Package) -> Book:
    """A workbook as a book. Hidden sheets are read too and say so."""
    main = next((target for kind, target in package.relations("").values() if kind == "officeDocument"), _MAIN)
    workbook, relations = package.xml(main), package.relations(main)
    formats = _formats(package, relations)
    strings = _strings(package, relations)
    epoch = datetime.datetime(1904, 1, 1) if _is_1904(workbook) else datetime.datetime(1899, 12, 30)
    chapters: list[Chapter] = []
    width = LETTER_PT[0]
    for sheet in workbook.iter("sheet"):
        kind, name = relations.get(sheet.get("r:id", ""), ("", ""))
        if kind == "worksheet" and package.has(name):
            rows = _rows(package.xml(name), _Cells(strings, formats, epoch))
            width = max(width, _width(rows))
            title = sheet.get("name", "") + (" (hidden)" if sheet.get("state", "visible") != "visible" else "")
            chapters.extend(_chapters(title, rows))
    if not chapters:
        raise Unreadable(f"{package.source.name} has no sheets")
    return Book(package.title(), chapters, {}, min(width, _MAX_WIDTH_PT), LETTER_PT[1], _FONT_PT)


def _chapters(title: str, rows: Sequence[Sequence[str]]) -> Iterator[Chapter]:
    """A sheet in blocks of rows, since laying out a table takes time by the square of its length."""
    for start in range(0, max(1, len(rows)), _BLOCK_ROWS):
        table = to_table([[escape(text) for text in row] for row in rows[start : start + _BLOCK_ROWS]])
        yield Chapter("", table) if start else Chapter(title, f"<h1>{escape(title)}</h1>{table}")


def _is_1904(workbook: Node) -> bool:
    properties = workbook.find("workbookPr")
    return properties is not None and properties.get("date1904") in ("1", "true")


def _related(package: Package, relations: dict[str, tuple[str, str]], kind: str) -> Node | None:
    name = next((target for found, target in relations.values() if found == kind), "")
    return package.xml(name) if package.has(name) else None


def _strings(package: Package, relations: dict[str, tuple[str, str]]) -> list[str]:
    return [_text(item) for item in children(_related(package, relations, "sharedStrings"), "si")]


def _text(item: Node) -> str:
    """The text of a string and of its runs, without the phonetic reading."""
    runs = [item.findtext("t") or "", *(run.findtext("t") or "" for run in item.findall("r"))]
    return "".join(runs)


def _formats(package: Package, relations: dict[str, tuple[str, str]]) -> list[str]:
    """Number format of each cell style, by the style's index."""
    styles = _related(package, relations, "styles")
    if styles is None:
        return []
    own = {node.get("numFmtId", ""): node.get("formatCode", "") for node in children(styles.find("numFmts"), "numFmt")}
    found: list[str] = []
    for node in children(styles.find("cellXfs"), "xf"):
        number = node.get("numFmtId", "0")
        found.append(own.get(number) or (_BUILT_IN.get(int(number), "") if number.isdigit() else ""))
    return found


class _Cells:
    """Turns cells into what is seen in them."""

    def __init__(self, strings: Sequence[str], formats: Sequence[str], epoch: datetime.datetime) -> None:
        self._strings, self._formats, self._epoch = strings, formats, epoch

    def read(self, cell: Node) -> str:
        """The text that a cell shows."""
        kind, value = cell.get("t", "n"), cell.findtext("v") or ""
        if kind == "inlineStr":
            inline = cell.find("is")
            return _text(inline) if inline is not None else ""
        if kind == "s":
            return self._strings[int(value)] if value.isdigit() and int(value) < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if kind != "n" or not value:
            return value
        style = cell.get("s", "0")
        code = self._formats[int(style)] if style.isdigit() and int(style) < len(self._formats) else ""
        try:
            return self._number(float(value), code)
        except (ValueError, OverflowError):
            return value

    def _number(self, value: float, code: str) -> str:
        shape = re.sub(r'"[^"]*"|\\.|_.|\*.', "", code.split(";")[0])
        bare = re.sub(r"\[[^\]]*\]", "", shape)
        if re.search(r"[ymdhs]", bare, re.IGNORECASE) and "E+" not in bare:
            return self._date(value, bare.lower())
        places = len(match[1]) if (match := re.search(r"\.([0#?]+)", bare)) else 0
        if "%" in bare:
            return f"{value * 100:.{places}f}%"
        if not re.search(r"[0#]", bare) or "E" in bare or "/" in bare:
            return _general(value)
        text = f"{value:,.{places}f}" if "," in bare else f"{value:.{places}f}"
        before, after = _currency(code.split(";")[0])
        return f"{before}{text}{after}"

    def _date(self, value: float, code: str) -> str:
        """A date as ISO 8601, whatever the order the format asks for, so that day and month cannot be confused."""
        moment = self._epoch + datetime.timedelta(days=value)
        moment = (moment + datetime.timedelta(microseconds=500_000)).replace(microsecond=0)
        has_day, has_time = re.search(r"[yd]", code) is not None, re.search(r"[hs]", code) is not None
        if not has_day and not has_time:
            return moment.strftime("%Y-%m")
        if has_day and (not has_time or value == int(value)):
            return moment.strftime("%Y-%m-%d")
        return moment.strftime("%Y-%m-%d %H:%M:%S" if has_day and value >= 1 else "%H:%M:%S")


def _general(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.15g}"


def _currency(code: str) -> tuple[str, str]:
    """Literal text of a number format before and after the digits, such as a currency's sign."""
    code = re.sub(r"\[\$([^\]\-]*)(?:-[^\]]*)?\]", lambda match: f'"{match[1]}"', code)
    code = re.sub(r"\[[^\]]*\]|_.|\*.", "", code)
    code = re.sub(r"\\(.)", r'"\1"', code)
    digits = re.search(r"[0#?][0#?.,]*", code)
    if digits is None:
        return "", ""
    sides = code[: digits.start()], code[digits.end() :]
    return _literals(sides[0]), _literals(sides[1])


def _literals(side: str) -> str:
    return "".join(quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([$€£¥ ])', side))


def _rows(sheet: Node, cells: _Cells) -> list[list[str]]:
    """The rows that hold anything, over the columns that hold anything."""
    table: list[dict[int, str]] = []
    for row in sheet.iter("row"):
        line: dict[int, str] = {}
        for position, cell in enumerate(children(row, "c")):
            text = cells.read(cell)
            if text.strip():
                line[_column(cell.get("r", ""), position)] = text
        if line:
            table.append(line)
    used = sorted(set[int]().union(*table))
    return [[line.get(column, "") for column in used] for line in table]


def _column(reference: str, position: int) -> int:
    letters = re.match(r"[A-Z]{1,3}", reference)
    if letters is None:
        return position
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _width(rows: Sequence[Sequence[str]]) -> float:
    """Width of the sheet, in points, at which no column must wrap before its time."""
    columns = len(rows[0]) if rows else 0
    longest = [max(min(_MAX_CELL_CHARS, len(row[column])) for row in rows) for column in range(columns)]
    return sum(chars * _CHAR_PT + _CELL_PT for chars in longest) + 72
