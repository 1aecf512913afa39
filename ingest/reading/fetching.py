"""The bytes of a document, here: a local file as it is, everything else in a bounded stage on disk."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

import stamina

from ingest.config import FindingSettings, ReadingSettings
from ingest.errors import SourceError, Unreadable
from ingest.reading import stores
from ingest.reading.discover import Found, check_size, describe
from ingest.reading.staging import Stage, Staged, Staging, Turn
from ingest.reading.stores import Passing, Remote
from ingest.types import Input, Source

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document whose bytes are here, hashed. `staged` is set when they have to be deleted afterwards."""

    source: Source
    staged: Staged | None = None

    def release(self) -> None:
        """Let go of the bytes. Safe to call twice."""
        if self.staged is not None:
            self.staged.release()


async def fetch(
    found: Found, staging: Staging, turn: Turn, finding: FindingSettings, reading: ReadingSettings
) -> Fetched:
    """Bring a document's bytes here and tell what it is.

    Waits for room on disk as `Staging` says. A download that fails in a way that may pass is tried again.

    Raises Unreadable or TooLarge when they cannot be had, NoRoom when there is none and the turn does not wait.
    """
    place = found.place
    if isinstance(place, SourceError):
        raise place
    if isinstance(place, Path):
        return Fetched(await asyncio.to_thread(describe, found, reading))
    mark: str | None = None
    if isinstance(place, Staged):
        staged = place
    elif isinstance(place, Remote):
        staged, mark = await _download(found, place, staging, turn, finding, reading)
    else:
        staged = await _copy(found, place, staging, turn, reading)
    try:
        return Fetched(await asyncio.to_thread(describe, found, reading, staged.path, mark), staged)
    except BaseException:
        staged.release()
        raise


async def _download(
    found: Found, remote: Remote, staging: Staging, turn: Turn, finding: FindingSettings, reading: ReadingSettings
) -> tuple[Staged, str | None]:
    """A remote file in a stage, and its fingerprint."""

    def read(of: BinaryIO, size: int) -> bytes:
        return stores.read(remote, of, size)

    async for attempt in stamina.retry_context(on=Passing, attempts=finding.fetch_attempts, timeout=None):
        with attempt:
            known = remote if remote.fingerprint else await asyncio.to_thread(stores.look, remote, finding)
            size_bytes = known.size_bytes or 0
            check_size(found.name, size_bytes, reading)
            # Room first: a connection that waits for it would be closed by the other side.
            stage = await _room(staging, turn, size_bytes)
            try:
                file = await asyncio.to_thread(stores.connect, known, finding)
            except BaseException:
                stage.release()
                raise
            staged = await _fill(stage, found, file, read, reading)
            if size_bytes and staged.size_bytes != size_bytes:
                staged.release()
                raise Passing(f"{known.uri} was cut off at {staged.size_bytes:,} of {size_bytes:,} bytes")
            return staged, known.fingerprint
    raise Unreadable(f"{remote.uri} cannot be fetched")


async def _copy(found: Found, given: Input, staging: Staging, turn: Turn, reading: ReadingSettings) -> Staged:
    """Bytes, or an open file, of a program in a stage."""
    file = given.file if given.data is None else io.BytesIO(given.data)
    assert file is not None

    def read(of: BinaryIO, size: int) -> bytes:
        try:
            data = of.read(size)
        except (OSError, ValueError) as error:
            raise Unreadable(f"{found.name} cannot be read: {error}") from error
        if not isinstance(data, bytes):
            raise Unreadable(f"{found.name} is a file of text: open it for reading bytes")
        return data

    stage = await _room(staging, turn, 0 if given.data is None else len(given.data))
    return await _fill(stage, found, file, read, reading, is_ours=given.data is not None)


async def _room(staging: Staging, turn: Turn, size_bytes: int) -> Stage:
    """A stage with room for so many bytes."""
    stage = staging.open(turn)
    try:
        await stage.grow(size_bytes)
    except BaseException:
        stage.release()
        raise
    return stage


async def _fill(
    stage: Stage,
    found: Found,
    file: BinaryIO,
    read: Callable[[BinaryIO, int], bytes],
    reading: ReadingSettings,
    is_ours: bool = True,
) -> Staged:
    """Copy a file block by block, asking for what room it lacks before each is written. A file that is ours is closed.

    When anything fails the stage is released.
    """
    # A suffix is what libraries go by.
    suffix = PurePath(found.name).suffix
    path, written = stage.folder / f"data{suffix if suffix.isascii() else ''}", 0
    try:
        with path.open("wb") as target:
            while block := await asyncio.to_thread(read, file, _BLOCK_BYTES):
                written += len(block)
                check_size(found.name, written, reading)
                await stage.grow(max(written - stage.size_bytes, 0))
                await asyncio.to_thread(target.write, block)
    except OSError as error:
        stage.release()
        raise Unreadable(f"{found.name} cannot be kept for reading: {error.strerror}; free some disk space") from error
    except BaseException:
        stage.release()
        raise
    finally:
        if is_ours:
            with contextlib.suppress(Exception):  # a broken connection may fail once more
                await asyncio.to_thread(file.close)
    stage.shrink(written)
    return Staged(path, stage, written)
