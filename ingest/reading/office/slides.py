"""Presentations: one chapter for each slide, its shapes from top to bottom and left to right."""

from __future__ import annotations

from collections.abc import Iterator

from ingest.errors import Unreadable
from ingest.reading.book import Book, Chapter, escape, to_table
from ingest.reading.office.package import Node, Package, children, first

_EMU_PER_PT = 12_700
_MAIN = "ppt/presentation.xml"
_SHOWN_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".svg")


def read_slides(package: Package) -> Book:
    """A presentation as a book on sheets of the slides' size. A damaged slide says so in its place."""
    main = next((target for kind, target in package.relations("").values() if kind == "officeDocument"), _MAIN)
    root = package.xml(main)
    relations = package.relations(main)
    order = [node.get("r:id", "") for node in root.iter("sldId")]
    names = [relations[reference][1] for reference in order if reference in relations]
    if not names:
        raise Unreadable(f"{package.source.name} has no slides")
    pictures: dict[str, bytes] = {}
    chapters = [_slide(package, name, pictures) for name in names]
    size = root.find("sldSz")
    width, height = (_to_number(size.get(side) if size is not None else None) / _EMU_PER_PT for side in ("cx", "cy"))
    return Book(package.title(), chapters, pictures, max(width, 400.0), max(height, 300.0), 14.0)


def _slide(package: Package, name: str, pictures: dict[str, bytes]) -> Chapter:
    root, relations = package.xml(name), package.relations(name)
    tree = first(root, "spTree")
    shapes = sorted(_shapes(tree), key=_place) if tree is not None else []
    title, parts = "", list[str]()
    for shape in shapes:
        if shape.tag == "pic":
            parts.append(_picture(package, shape, relations, pictures))
            continue
        table = first(shape, "tbl")
        if table is not None:
            parts.append(_table(table))
            continue
        paragraphs = [text for node in children(shape.find("txBody"), "p") if (text := _paragraph(node))]
        if _is_title(shape) and paragraphs and not title:
            title = " ".join(paragraphs)
            parts.append(f"<h1>{'<br/>'.join(paragraphs)}</h1>")
        else:
            parts.extend(f"<p>{text}</p>" for text in paragraphs)
    return Chapter(_plain(title), "".join(parts) or "<p></p>")


def _shapes(tree: Node) -> Iterator[Node]:
    for node in tree:
        if node.tag in ("sp", "pic", "graphicFrame", "cxnSp"):
            yield node
        elif node.tag == "AlternateContent":
            choice = node.find("Choice")
            yield from _shapes(choice if choice is not None else node)
        elif node.tag == "grpSp":
            yield from _shapes(node)


def _place(shape: Node) -> tuple[float, float, float]:
    """Titles first, then by rows of about a third of an inch, then from the left."""
    offset = first(shape, "off")
    left, top = (_to_number(offset.get(axis) if offset is not None else None) for axis in ("x", "y"))
    return (0.0 if _is_title(shape) else 1.0, top // 300_000, left)


def _is_title(shape: Node) -> bool:
    placeholder = first(shape, "ph")
    return placeholder is not None and placeholder.get("type") in ("title", "ctrTitle")


def _paragraph(paragraph: Node) -> str:
    text = "".join(_inline(node) for node in paragraph)
    properties = paragraph.find("pPr")
    depth = int(_to_number(properties.get("lvl") if properties is not None else None))
    bullet = "• " if properties is not None and first(properties, "buChar") is not None else ""
    return "\u2003" * min(depth, 8) + escape(bullet) + text if text.strip() else ""


def _inline(node: Node) -> str:
    if node.tag == "br":
        return "<br/>"
    if node.tag in ("r", "fld"):
        return escape(node.findtext("t") or "")
    return ""


def _table(table: Node) -> str:
    rows: list[list[str]] = []
    for row in children(table, "tr"):
        cells: list[str] = []
        for cell in children(row, "tc"):
            hidden = cell.get("hMerge") in ("1", "true") or cell.get("vMerge") in ("1", "true")
            lines = [text for node in children(cell.find("txBody"), "p") if (text := _paragraph(node))]
            cells.append("" if hidden else "<br/>".join(lines))
        rows.append(cells)
    return to_table(rows)


def _picture(package: Package, shape: Node, relations: dict[str, tuple[str, str]], pictures: dict[str, bytes]) -> str:
    blip = first(shape, "blip")
    name = relations.get(blip.get("r:embed", "") if blip is not None else "", ("", ""))[1]
    if not name.lower().endswith(_SHOWN_PICTURES) or not package.has(name):
        return ""
    pictures[name] = package.read(name)
    extent = first(shape, "ext")
    width_pt = _to_number(extent.get("cx") if extent is not None else None) / _EMU_PER_PT
    size = f' style="width:{width_pt:.0f}pt"' if width_pt else ""
    return f'<p><img src="{escape(name)}"{size}/></p>'


def _plain(html: str) -> str:
    return html.replace("<br/>", " ").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")


def _to_number(text: str | None) -> float:
    try:
        return float(text) if text is not None else 0.0
    except ValueError:
        return 0.0
