"""Office files keep the structure that extraction lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import Unreadable
from ingest.reading.paged import EXTRACTOR
from ingest.types import Document, Text
from tests.reading_samples import (
    RENDERING,
    SETTINGS,
    describe_file,
    make_docx,
    make_pptx,
    make_xlsx,
    make_zip,
    word_paragraph,
)


def _read(path: Path, data: bytes) -> tuple[Document, list[str]]:
    document = EXTRACTOR.open(describe_file(path, data), SETTINGS)
    loaded = EXTRACTOR.load(document, document.parts, RENDERING, SETTINGS)
    return document, ["\n".join(each.text for each in page.contents if isinstance(each, Text)) for page in loaded]


def _cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{word_paragraph(text)}</w:tc>"


def test_a_row_of_a_word_table_is_a_line_of_the_text(tmp_path: Path) -> None:
    """An invoice written in Word is a table; its cells one below the other would mean nothing."""
    rows = [
        _cell("Item") + _cell("Quantity") + _cell("Price"),
        _cell("Pears", "<w:vMerge w:val='restart'/>") + _cell("2") + _cell("1.20"),
        _cell("", "<w:vMerge/>") + _cell("3") + _cell("1.80"),
        _cell("Total", "<w:gridSpan w:val='2'/>") + _cell("3.00"),
    ]
    table = "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"
    _, [text] = _read(tmp_path / "a.docx", make_docx(table))
    lines = [line for line in text.splitlines() if line.strip()]
    assert [line.split() for line in lines] == [
        ["Item", "Quantity", "Price"],
        ["Pears", "2", "1.20"],
        ["3", "1.80"],
        ["Total", "3.00"],
    ]
    assert len({line.index(price) for line, price in zip(lines, ("Price", "1.20", "1.80", "3.00"), strict=True)}) == 1


def test_deleted_text_is_gone_and_inserted_text_is_there(tmp_path: Path) -> None:
    """A contract with tracked changes must be read as it stands now."""
    body = (
        "<w:p><w:r><w:t xml:space='preserve'>Price: </w:t></w:r><w:del><w:r><w:delText>100</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>200</w:t></w:r></w:ins></w:p>"
    )
    _, [text] = _read(tmp_path / "a.docx", make_docx(body))
    assert text == "Price: 200"


def test_page_breaks_and_headings_of_word_are_kept(tmp_path: Path) -> None:
    """`page 2` in a record should be page 2 in Word."""
    body = word_paragraph("one") + "<w:p><w:r><w:br w:type='page'/><w:t>two</w:t></w:r></w:p>"
    body += word_paragraph("Terms", "<w:outlineLvl w:val='0'/>")
    document, texts = _read(tmp_path / "a.docx", make_docx(body))
    assert [text.split() for text in texts] == [["one"], ["two", "Terms"]]
    assert [part.section for part in document.parts] == [None, "Terms"]


def test_every_slide_is_a_page_with_its_title_as_section(tmp_path: Path) -> None:
    """Slides must not run into each other."""
    document, texts = _read(tmp_path / "a.pptx", make_pptx("Agenda &amp; goals", "Budget"))
    assert texts == ["Agenda & goals", "Budget"]
    assert [part.section for part in document.parts] == ["Agenda & goals", "Budget"]
    assert (document.parts[0].width_pt, document.parts[0].height_pt) == (720, 540)


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("General", "1234.5", "1234.5"),
        ("General", "1E+20", "1e+20"),
        ("0.00", "1234.5", "1234.50"),
        ("#,##0.00", "1234.5", "1,234.50"),
        ("0%", "0.19", "19%"),
        ("dd/mm/yyyy", "45356", "2024-03-05"),
        ("[$-409]d\\-mmm\\-yy;@", "45356", "2024-03-05"),
        ("yyyy\\-mm\\-dd\\ hh:mm", "45356.75", "2024-03-05 18:00:00"),
        ("h:mm", "0.5", "12:00:00"),
        ("[$€-407] #,##0.00", "12", "€ 12.00"),
        ('#,##0.00 "kg"', "12", "12.00 kg"),
        ("@", "007", "7"),
    ],
)
def test_cells_show_what_the_number_format_says(tmp_path: Path, code: str, value: str, shown: str) -> None:
    """A date that reads 45356 cannot be extracted."""
    escaped = code.replace('"', "&quot;")
    formats = (
        f'<numFmts><numFmt numFmtId="200" formatCode="{escaped}"/></numFmts><cellXfs><xf numFmtId="200"/></cellXfs>'
    )
    rows = f'<row r="1"><c r="A1" s="0"><v>{value}</v></c></row>'
    _, [text] = _read(tmp_path / "a.xlsx", make_xlsx(rows, formats))
    assert text.splitlines()[-1].strip() == shown


def test_sheets_keep_columns_and_strings(tmp_path: Path) -> None:
    """Empty cells must not shift a row to the left."""
    rows = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="C1" t="inlineStr"><is><t>Amount due now</t></is></c></row>'
        '<row r="7"><c r="A7" t="s"><v>1</v></c><c r="B7" t="b"><v>1</v></c><c r="C7"><v>3</v></c></row>'
        '<row r="8"><c r="C8"><v>4</v></c></row>'
    )
    document, [text] = _read(
        tmp_path / "a.xlsx", make_xlsx(rows, strings="<si><t>Name</t></si><si><r><t>pe</t></r><r><t>ar</t></r></si>")
    )
    lines = [line for line in text.splitlines() if line.strip()]
    assert document.parts[0].section == "Data"
    assert lines[1].split() == ["Name", "Amount", "due", "now"]
    assert lines[2].split() == ["pear", "TRUE", "3"]
    assert lines[1].index("Amount") == lines[2].index("3") == lines[3].index("4")


def test_a_wide_sheet_is_not_cut_off(tmp_path: Path) -> None:
    """Months across, and the total in the last column."""
    cells = "".join(
        f'<c r="{chr(65 + index)}1" t="inlineStr"><is><t>column number {index}</t></is></c>' for index in range(26)
    )
    document, [text] = _read(tmp_path / "a.xlsx", make_xlsx(f'<row r="1">{cells}</row>'))
    assert "column number 25" in text
    assert document.parts[0].width_pt > 1500


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx"])
def test_damaged_office_files_say_so(tmp_path: Path, name: str) -> None:
    """A part that is not XML, a missing part, and an entity bomb."""
    folder, main = {"a.docx": ("word", "document"), "a.pptx": ("ppt", "presentation"), "a.xlsx": ("xl", "workbook")}[
        name
    ]
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    for content in ("<broken", bomb, "<x/>"):
        with pytest.raises(Unreadable, match=name):
            _read(tmp_path / name, make_zip({f"{folder}/{main}.xml": content}))
