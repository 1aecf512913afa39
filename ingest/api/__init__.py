"""The front door's functions: what `ingest` offers to programs.

Each makes an `Ingestor` for one call. The keywords are those of `configure`; `config` stands for all of them. The
synchronous functions need no event loop and are not troubled by one that runs, as in a notebook.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from pydantic import BaseModel

from ingest.api.ingestor import Given, Ingestor
from ingest.api.settings import Options, PathLike, configure
from ingest.config import Config
from ingest.errors import ConfigError
from ingest.record import Plan, Record, RunSummary
from ingest.types import Input, JsonObject, Observer

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger

__all__ = [
    "Ingestor",
    "configure",
    "extract",
    "extract_async",
    "find",
    "open_ledger",
    "plan",
    "run",
    "run_to_folder",
    "stream",
]

_M = TypeVar("_M", bound=BaseModel)


@overload
def extract(path: Given, *, schema: type[_M], **options: Unpack[Options]) -> Record[_M]: ...
@overload
def extract(
    path: Given, *, schema: JsonObject | PathLike | None = ..., **options: Unpack[Options]
) -> Record[dict[str, Any]]: ...
def extract(
    path: Given, *, schema: JsonObject | type[BaseModel] | PathLike | None = None, **options: Unpack[Options]
) -> Record[Any]:
    """The record of one document.

    With a pydantic class as `schema` the record's data is an instance of it, or None when what was found does not
    fit the class (the record is then `partial`, and its problems say why).

    A document that cannot be read gives a `failed` record. Raises ConfigError when `path` is not one document, and
    the errors of `Ingestor.run`.
    """
    with _ingestor(schema, options) as ingestor:
        return ingestor.extract(path)


@overload
async def extract_async(path: Given, *, schema: type[_M], **options: Unpack[Options]) -> Record[_M]: ...
@overload
async def extract_async(
    path: Given, *, schema: JsonObject | PathLike | None = ..., **options: Unpack[Options]
) -> Record[dict[str, Any]]: ...
async def extract_async(
    path: Given, *, schema: JsonObject | type[BaseModel] | PathLike | None = None, **options: Unpack[Options]
) -> Record[Any]:
    """`extract` for programs that have a running event loop."""
    async with _ingestor(schema, options) as ingestor:
        return await ingestor.extract_async(path)


@overload
def run(paths: Sequence[Given], *, schema: type[_M], **options: Unpack[Options]) -> Iterator[Record[_M]]: ...
@overload
def run(
    paths: Sequence[Given], *, schema: JsonObject | PathLike | None = ..., **options: Unpack[Options]
) -> Iterator[Record[dict[str, Any]]]: ...
def run(
    paths: Sequence[Given], *, schema: JsonObject | type[BaseModel] | PathLike | None = None, **options: Unpack[Options]
) -> Iterator[Record[Any]]:
    """Records of files, folders and globs, in the order of discovery, as they are ready.

    `output` keeps records and ledger in a folder; without it nothing is written and nothing is remembered. Leaving
    the iteration early cancels what is under way and keeps every answer received. Raises what `Ingestor.run` raises.
    """
    ingestor = _ingestor(schema, options)

    def records() -> Iterator[Record[Any]]:
        with ingestor:
            yield from ingestor.run(paths)

    return records()


@overload
def stream(paths: Sequence[Given], *, schema: type[_M], **options: Unpack[Options]) -> AsyncIterator[Record[_M]]: ...
@overload
def stream(
    paths: Sequence[Given], *, schema: JsonObject | PathLike | None = ..., **options: Unpack[Options]
) -> AsyncIterator[Record[dict[str, Any]]]: ...
def stream(
    paths: Sequence[Given], *, schema: JsonObject | type[BaseModel] | PathLike | None = None, **options: Unpack[Options]
) -> AsyncIterator[Record[Any]]:
    """`run` for programs that have a running event loop. Raises what `Ingestor.run` raises."""
    ingestor = _ingestor(schema, options)

    async def records() -> AsyncIterator[Record[Any]]:
        async with ingestor:
            async for record in ingestor.stream(paths):
                yield record

    return records()


def run_to_folder(paths: Sequence[Given], config: Config, observer: Observer | None = None) -> RunSummary:
    """Run to the end, records in `config.output`, and give the summary. Raises what `Ingestor.run` raises.

    All documents are probed before the first call, and the observer is told what the run is planned to cost.
    """
    with Ingestor(config, observer=observer) as ingestor:
        for _ in ingestor._iterate(paths, is_priced_first=True):
            pass
    return ingestor.summary()


def open_ledger(output: PathLike | None = None, url: str | None = None) -> Ledger:
    """The ledger of an output folder, or of a database by its address: what runs cost, found and told.

    Use it as a context manager. It does not keep others from writing.

    Raises ConfigError when the folder holds none or the address is none, LedgerError when it cannot be opened.
    """
    from ingest.keeping.ledger import LEDGER_FOLDER, Ledger

    if url is None and (output is None or not (Path(output) / LEDGER_FOLDER).is_dir()):
        raise ConfigError(f"{output or 'the folder'} holds no ledger: nothing was ever run into it")
    return Ledger(None if output is None else Path(output), url=url)


def find(paths: Sequence[Given], config: Config) -> Iterator[Input]:
    """The local files a run over these paths would read, each by itself and with the name of its record, in order.

    Raises ConfigError when a path does not exist, or is no file or folder of this machine.
    """
    from ingest.reading.discover import discover

    for found in discover(paths, config.output, config.finding):
        if not isinstance(found.place, Path):
            raise ConfigError(f"{found.shown_uri} is no file of this machine")
        yield Input(found.place, name=found.name, metadata=found.metadata)


def plan(paths: Sequence[Given], config: Config, observer: Observer | None = None) -> Plan:
    """What a run would send and what it would cost. Nothing is sent, nothing is rendered.

    Raises ConfigError when nothing is found or the profile has no price.
    """
    with Ingestor(config, observer=observer) as ingestor:
        return ingestor.plan(paths)


def _ingestor(schema: JsonObject | type[BaseModel] | PathLike | None, options: Options) -> Ingestor[Any]:
    ingestor: Ingestor[Any] = Ingestor(schema=schema, **options)
    return ingestor
