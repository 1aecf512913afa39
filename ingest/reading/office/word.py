"""Word documents: headings, paragraphs, lists, tables, notes, headers and footers, pictures, in reading order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

from ingest.reading.book import Book, Chapter, escape, to_table
from ingest.reading.office.numbering import Numbering
from ingest.reading.office.package import Node, Package, children, first

_EMU_PER_PT = 12_700
_SHOWN_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".svg")
_MAIN = "word/document.xml"


def read_word(package: Package) -> Book:
    """A Word document as a book. Chapters begin where Word last broke the page, so that page numbers roughly agree."""
    main = next((target for kind, target in package.relations("").values() if kind == "officeDocument"), _MAIN)
    body = package.xml(main).find("body")
    if body is None:
        raise package.damaged("it has no body")
    story = _Story(package, main)
    header, footer = story.margins("header"), story.margins("footer")
    pages: list[list[str]] = [[header]]
    for block in _blocks(body):
        if block.tag == "p" and _breaks_page(block) and "".join(pages[-1]).strip():
            pages.append([])
        pages[-1].append(story.block(block))
    pages[-1].append(story.notes() + footer)
    chapters = [Chapter(_heading(html), html) for page in pages if (html := "".join(page))]
    return Book(package.title(), chapters or [Chapter("", "<p></p>")], story.pictures)


def _blocks(parent: Node) -> Iterator[Node]:
    """Paragraphs and tables, looking through content controls and tracked insertions."""
    for node in parent:
        if node.tag in ("p", "tbl"):
            yield node
        elif node.tag in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
            yield from _blocks(node)


def _breaks_page(paragraph: Node) -> bool:
    if first(paragraph, "lastRenderedPageBreak") is not None or first(paragraph, "pageBreakBefore") is not None:
        return True
    return any(node.get("type") == "page" for node in paragraph.iter("br"))


def _heading(html: str) -> str:
    match = re.search(r"<h[1-3]>(.*?)</h[1-3]>", html, re.DOTALL)
    return re.sub(r"<[^>]+>", "", match.group(1)) if match else ""


class _Story:
    """Turns the blocks of one document into HTML and collects its pictures and notes."""

    def __init__(self, package: Package, main: str) -> None:
        self.pictures: dict[str, bytes] = {}
        self._package = package
        self._relations = package.relations(main)
        self._numbering = Numbering(self._related("numbering"))
        self._styles = {node.get("styleId", ""): node for node in children(self._related("styles"), "style")}
        self._notes: list[str] = []
        self._note_numbers = count(1)

    def _related(self, kind: str) -> Node | None:
        name = next((target for found, target in self._relations.values() if found == kind), "")
        return self._package.xml(name) if self._package.has(name) else None

    def margins(self, kind: str) -> str:
        """The text of all different headers or footers, once each."""
        seen: dict[str, None] = {}
        main_relations = self._relations
        for found, target in main_relations.values():
            if found == kind and self._package.has(target):
                root = self._package.xml(target)
                self._relations = self._package.relations(target)
                html = "".join(self.block(block) for block in _blocks(root))
                if re.sub(r"<(?!img)[^>]+>|\s", "", html):
                    seen.setdefault(html)
        self._relations = main_relations
        return "".join(seen)

    def notes(self) -> str:
        """Foot- and endnotes referred to so far."""
        return "".join(self._notes)

    def block(self, node: Node) -> str:
        """A paragraph or table as HTML."""
        return self._table(node) if node.tag == "tbl" else self._paragraph(node)

    def _table(self, table: Node) -> str:
        rows: list[list[str]] = []
        for row in _rows(table, "tr"):
            cells: list[str] = []
            for cell in _rows(row, "tc"):
                properties = cell.find("tcPr")
                merge = None if properties is None else properties.find("vMerge")
                span = None if properties is None else properties.find("gridSpan")
                continues = merge is not None and merge.get("val", "continue") != "restart"
                cells.append("" if continues else "".join(self.block(block) for block in _blocks(cell)))
                cells.extend([""] * (_to_int(span.get("val") if span is not None else None, 1) - 1))
            rows.append(cells)
        return to_table(rows)

    def _paragraph(self, paragraph: Node) -> str:
        text = "".join(self._inline(node) for node in paragraph)
        properties = paragraph.find("pPr")
        style = self._style(properties)
        label = self._numbering.label(properties, style) if text.strip() else ""
        boxes = "".join(self.block(block) for box in _boxes(paragraph) for block in _blocks(box))
        level = _heading_level(properties, style)
        tag = f"h{level}" if level else "p"
        return f"<{tag}>{escape(label)}{text}</{tag}>{boxes}" if text.strip() or boxes else ""

    def _style(self, properties: Node | None) -> Node | None:
        named = None if properties is None else properties.find("pStyle")
        return self._styles.get(named.get("val", "")) if named is not None else None

    def _inline(self, node: Node) -> str:
        match node.tag:
            case "t":
                return escape(node.text or "")
            case "tab" | "ptab":
                return " \u2003"
            case "br" | "cr":
                return "<br/>"
            case "noBreakHyphen":
                return "\u2011"
            case "sym":
                return escape(_symbol(node))
            case "checkBox" | "checkbox":
                return _checkbox(node)
            case "footnoteReference" | "endnoteReference":
                return self._note(node)
            case "drawing" | "pict":
                return self._picture(node)
            case "pPr" | "rPr" | "del" | "moveFrom" | "Fallback" | "instrText" | "sdtPr" | "txbxContent" | "delText":
                return ""
        return "".join(self._inline(child) for child in node)

    def _note(self, reference: Node) -> str:
        kind = "footnote" if reference.tag == "footnoteReference" else "endnote"
        notes = self._related(f"{kind}s")
        number = next(self._note_numbers)
        for note in children(notes, kind):
            if note.get("id") == reference.get("id"):
                text = "".join(self.block(block) for block in _blocks(note))
                self._notes.append(text.replace("<p>", f"<p>[{number}] ", 1))
        return f"[{number}]"

    def _picture(self, drawing: Node) -> str:
        blip = first(drawing, "blip")
        data = first(drawing, "imagedata")
        reference = blip.get("r:embed", "") if blip is not None else data.get("r:id", "") if data is not None else ""
        name = self._relations.get(reference, ("", ""))[1]
        if not name.lower().endswith(_SHOWN_PICTURES) or not self._package.has(name):
            return ""
        self.pictures[name] = self._package.read(name)
        extent = first(drawing, "extent")
        width_pt = _to_int(extent.get("cx") if extent is not None else None, 0) / _EMU_PER_PT
        size = f' style="width:{min(width_pt, 500):.0f}pt"' if width_pt else ""
        return f'<img src="{escape(name)}"{size}/>'


def _rows(parent: Node, name: str) -> Iterator[Node]:
    for node in parent:
        if node.tag == name:
            yield node
        elif node.tag in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _rows(node, name)


def _boxes(paragraph: Node) -> Iterator[Node]:
    """Text boxes anchored in a paragraph, each once: older programs get the same again as a fallback."""
    for node in paragraph:
        if node.tag == "txbxContent":
            yield node
        elif node.tag not in ("Fallback", "del"):
            yield from _boxes(node)


def _heading_level(properties: Node | None, style: Node | None) -> int:
    name = ""
    if style is not None and (named := style.find("name")) is not None:
        name = named.get("val", "").lower()
    if name == "title":
        return 1
    match = re.fullmatch(r"heading (\d)", name)
    level = properties.find("outlineLvl") if properties is not None else None
    if match:
        return min(6, int(match[1]))
    return _to_int(level.get("val"), 8) + 1 if level is not None and _to_int(level.get("val"), 9) < 6 else 0


def _symbol(node: Node) -> str:
    code = int(node.get("char", "0"), 16) if re.fullmatch(r"[0-9A-Fa-f]{1,5}", node.get("char", "")) else 0
    return {0xF0FE: "☑", 0xF0A8: "☐", 0xF0FC: "✓", 0xF0FB: "✗"}.get(code, chr(code) if code >= 0x20 else "")


def _checkbox(node: Node) -> str:
    state = node.find("checked")
    if state is None:
        state = node.find("default")
    return "☑" if state is not None and state.get("val", "1") in ("1", "true", "on") else "☐"


def _to_int(text: str | None, default: int) -> int:
    try:
        return int(text) if text is not None else default
    except ValueError:
        return default
