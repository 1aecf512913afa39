"""The zip container of Office Open XML: parts, relationships, XML without namespaces."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from types import TracebackType
from typing import Self
from xml.etree import ElementTree

from ingest.errors import TooLarge, Unreadable
from ingest.types import Source

_MAX_PART_BYTES = 400_000_000
"""Unpacked size of one part; the largest sheet that Excel can show stays below."""

# What zipfile raises on damage, encryption and compression methods it does not know.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)

Node = ElementTree.Element


class Package:
    """An open Office file. Use as a context manager."""

    def __init__(self, source: Source) -> None:
        self.source = source
        try:
            self._archive = zipfile.ZipFile(source.path)
        except _ZIP_DAMAGE as error:
            raise self.damaged(str(error)) from error
        self._names = set(self._archive.namelist())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def damaged(self, reason: str) -> Unreadable:
        """The error for a file that is not what it should be."""
        return Unreadable(f"{self.source.name} cannot be opened: it is damaged or cut off ({reason})")

    def has(self, name: str) -> bool:
        """Whether there is a part of that name."""
        return name in self._names

    def read(self, name: str) -> bytes:
        """The bytes of a part."""
        try:
            if self._archive.getinfo(name).file_size > _MAX_PART_BYTES:
                raise TooLarge(f"{self.source.name} unpacks to more than {_MAX_PART_BYTES:,} bytes: split it")
            return self._archive.read(name)
        except _ZIP_DAMAGE as error:
            raise self.damaged(f"its part {name} cannot be read") from error

    def xml(self, name: str) -> Node:
        """A part as XML, namespaces removed from all names."""
        data = self.read(name)
        if b"<!DOCTYPE" in data[:2048]:
            raise self.damaged(f"its part {name} has a document type, which no Office program writes")
        try:
            root = ElementTree.fromstring(data)  # noqa: S314 - no document type, so no entity can be declared
        except ElementTree.ParseError as error:
            raise self.damaged(f"its part {name} is not XML: {error}") from error
        for node in root.iter():
            if isinstance(node.tag, str):
                node.tag = node.tag.rpartition("}")[2]
            for key in [key for key in node.attrib if key.startswith("{")]:
                # `id` and `r:id` may stand on one element; the relationship keeps its prefix.
                prefix = "r:" if "relationships" in key else ""
                node.attrib[prefix + key.rpartition("}")[2]] = node.attrib.pop(key)
        return root

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Relationships of a part: id to (kind, name of the target part). External targets are left out."""
        folder, _, last = name.rpartition("/")
        relations_name = posixpath.join(folder, "_rels", f"{last}.rels")
        if not self.has(relations_name):
            return {}
        found: dict[str, tuple[str, str]] = {}
        for node in self.xml(relations_name):
            if node.get("TargetMode") != "External":
                target = node.get("Target", "")
                path = (
                    target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
                )
                found[node.get("Id", "")] = (node.get("Type", "").rpartition("/")[2], path)
        return found

    def title(self) -> str:
        """The title among the file's properties, or ""."""
        if not self.has("docProps/core.xml"):
            return ""
        try:
            return (self.xml("docProps/core.xml").findtext("title") or "").strip()
        except Unreadable:
            return ""


def first(node: Node, name: str) -> Node | None:
    """The first descendant of that name."""
    return next(node.iter(name), None)


def children(node: Node | None, name: str) -> list[Node]:
    """The children of that name; none of None."""
    return [] if node is None else node.findall(name)
