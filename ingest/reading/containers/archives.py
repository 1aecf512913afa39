"""Archives: zip, tar (plain or compressed), and single files compressed by gzip, bzip2 or xz."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from ingest.config import ReadingSettings
from ingest.errors import Encrypted, Unreadable
from ingest.reading.containers import DAMAGE, Entry
from ingest.types import Source

_ENCRYPTED_FLAG = 0x1  # APPNOTE.TXT 4.4.4
_UNSAFE = "was left out: its name leads out of the archive"
_LINK = "was left out: it is a link, and links are not followed"

Opener = Callable[[], AbstractContextManager[BinaryIO]]


class Archive:
    """Lists the files of an archive; folders are no entries, and links and devices are told, never followed."""

    def entries(self, source: Source, settings: ReadingSettings) -> Iterator[Entry]:
        """The files inside, in their order. Raises Unreadable when the archive is damaged from the start."""
        if source.media_type == "application/zip":
            return _zip_entries(source, settings)
        return _tar_entries(source)


CONTAINER = Archive()


def _zip_entries(source: Source, settings: ReadingSettings) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(source.path)
    except DAMAGE as error:
        raise Unreadable(f"{source.name} cannot be opened: it is damaged or cut off; make it again") from error
    with archive:
        passwords = [password.get_secret_value().encode() for password in settings.passwords]
        for info in archive.infolist():
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if _leads_out(info.filename):
                yield Entry(info.filename, problem=_UNSAFE)
            elif stat.S_ISLNK(mode):
                yield Entry(info.filename, problem=_LINK)
            elif info.flag_bits & _ENCRYPTED_FLAG:
                yield _encrypted(archive, info, passwords)
            else:
                yield Entry(info.filename, _zip_opener(archive, info, None))


def _encrypted(archive: zipfile.ZipFile, info: zipfile.ZipInfo, passwords: list[bytes]) -> Entry:
    """An entry with the password that opens it. The check that ZIP has for this is weak; the CRC tells in the end."""
    for password in passwords:
        try:
            with archive.open(info, pwd=password) as file:
                file.read(1)
        except NotImplementedError:
            break
        except DAMAGE:
            continue
        return Entry(info.filename, _zip_opener(archive, info, password))
    problem = "is encrypted: unpack the archive, or give its password with --password (AES needs unpacking)"
    return Entry(info.filename, problem=problem, code=Encrypted.code)


def _zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo, password: bytes | None) -> Opener:
    return lambda: cast("AbstractContextManager[BinaryIO]", archive.open(info, pwd=password))


def _tar_entries(source: Source) -> Iterator[Entry]:
    """Read as a stream, so that a compressed archive is decompressed once."""
    try:
        archive = tarfile.open(source.path, mode="r|*")  # noqa: SIM115 - closed below
    except tarfile.ReadError:
        yield from _single(source)
        return
    except DAMAGE as error:
        raise Unreadable(f"{source.name} cannot be opened: it is damaged or cut off; make it again") from error
    with archive:
        while True:
            try:
                info = archive.next()
            except DAMAGE:
                yield Entry("the rest", problem="cannot be read: the archive is damaged or cut off")
                return
            if info is None:
                return
            if info.isdir():
                continue
            if _leads_out(info.name):
                yield Entry(info.name, problem=_UNSAFE)
            elif info.issym() or info.islnk():
                yield Entry(info.name, problem=_LINK)
            elif not info.isreg():
                yield Entry(info.name, problem="was left out: it is no file but a device or pipe")
            else:
                yield Entry(info.name, _tar_opener(archive, info))
            # The library keeps every header it has seen.
            cast("Any", archive).members.clear()


def _tar_opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Opener:
    return lambda: cast("AbstractContextManager[BinaryIO]", archive.extractfile(info) or io.BytesIO())


def _single(source: Source) -> Iterator[Entry]:
    """One compressed file, called as the archive without its last suffix."""
    openers: dict[str, Callable[..., Any]] = {
        "application/gzip": gzip.open,
        "application/x-bzip2": bz2.open,
        "application/x-xz": lzma.open,
    }
    opener = openers.get(source.media_type)
    if opener is None:
        raise Unreadable(f"{source.name} cannot be opened: it is damaged or cut off; make it again")
    name = PurePosixPath(source.name).stem if PurePosixPath(source.name).suffix else "content"
    yield Entry(name, lambda: cast("AbstractContextManager[BinaryIO]", opener(source.path, "rb")))


def _leads_out(name: str) -> bool:
    return ".." in name.replace("\\", "/").split("/")
