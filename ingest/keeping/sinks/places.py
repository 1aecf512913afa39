"""Files on this machine or on a store that fsspec knows. What is written appears whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec

from ingest.errors import ConfigError
from ingest.keeping.sinks.target import mask

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}


class Place:
    """A file by its path or URL.

    Raises ConfigError when no store is known by the URL's scheme, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        scheme = urlsplit(url).scheme if "://" in url else ""
        self.path: Path | None = None
        try:
            self._store, self._name = fsspec.core.url_to_fs(url)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            told = f"pip install 'ingest[{extra}]'" if extra else str(error)
            raise ConfigError(f"{mask(url)}: files of {scheme}:// need another package: {told}") from error
        except ValueError as error:
            raise ConfigError(f"{mask(url)}: no store is known by {scheme}://") from error
        if scheme in ("", "file", "local"):
            self.path = Path(self._name)

    def beside(self, name: str) -> Place:
        """A file in this folder."""
        return Place(f"{self._url.rstrip('/')}/{name}")

    def exists(self) -> bool:
        """Whether there is a file now."""
        self._store.invalidate_cache()
        return bool(self._store.isfile(self._name))

    @contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        """The file's bytes, from anywhere in it."""
        file: Any = self._store.open(self._name, "rb")
        with file:
            yield file

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A file of this machine to be written, which takes the place when the context ends without an error."""
        if self.path is None:
            with tempfile.TemporaryDirectory(prefix="ingest-sink-") as folder:
                yield Path(folder) / "whole"
                self._store.put_file(str(Path(folder) / "whole"), self._name)
                self._store.invalidate_cache()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
            left.unlink(missing_ok=True)  # by a process that was killed
        near = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            yield near
            with near.open("rb+") as file:
                os.fsync(file.fileno())
            near.replace(self.path)
        finally:
            near.unlink(missing_ok=True)
        _force_folder(self.path.parent)


def _force_folder(folder: Path) -> None:
    """Have the new name on disk, where the file system can be told to."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
