"""The front door's functions: what `ingest` offers to programs.

Each has one way to be told everything, a `Config` made by `configure`, and short arguments for what most calls
need. The synchronous functions run their own event loop in a thread of its own, so a notebook's running loop is no
obstacle.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from ingest.config import Config, resolve_endpoint
from ingest.errors import ConfigError
from ingest.profile import load_profile
from ingest.recipes import build_config, load_recipe, recipe_from_schema
from ingest.record import Plan, ProblemInfo, Record, RunSummary
from ingest.types import JsonObject, Observer

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger

_M = TypeVar("_M", bound=BaseModel)
_T = TypeVar("_T")

PathLike = str | Path
Money = Decimal | int | float | str


def configure(
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    instructions: str = "",
    output: PathLike | None = None,
    local: bool = False,
    profile: str | None = None,
    base_url: str | None = None,
    protocol: str = "chat",
    api_key: str | None = None,
    jobs: int | None = None,
    max_cost: Money | None = None,
    max_cost_per_document: Money | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Config:
    """Settings of a run from what a caller has at hand.

    Give either `schema` (a JSON Schema, the path of one, a pydantic class, or `package.module:Class`) or `recipe` (a
    name or a folder). `local` answers with the embedded engine and needs no key; otherwise the key comes from
    `api_key` or the environment. `max_cost` and `max_cost_per_document` are hard limits in US dollars on what this run,
    and each document in it, may cost. `settings` overrides single values by section: `{"reading": {"pages": "image"}}`.

    Raises ConfigError when something is missing or out of range.
    """
    if (schema is None) == (recipe is None):
        raise ConfigError("give either a schema or a recipe")
    chosen = load_recipe(recipe) if recipe is not None else recipe_from_schema(schema, instructions)
    if recipe is not None and instructions:
        chosen = chosen.model_copy(update={"instructions": f"{chosen.instructions}\n\n{instructions}".strip()})
    model = load_profile(profile or ("local" if local else "seed-2-0-pro"))
    endpoint = resolve_endpoint(model, local=local, base_url=base_url, protocol=protocol, api_key=api_key)
    folder = None if output is None else Path(output)
    overrides = {name: dict(values) for name, values in (settings or {}).items()}
    for name, amount in (("max_cost_usd", max_cost), ("max_cost_per_document_usd", max_cost_per_document)):
        if amount is not None:
            overrides.setdefault("budget", {})[name] = str(amount)
    return build_config(chosen, model, endpoint, output=folder, jobs=jobs, overrides=overrides)


@overload
def extract(
    path: PathLike, *, schema: type[_M], local: bool = ..., output: PathLike | None = ..., config: Config | None = ...
) -> Record[_M]: ...
@overload
def extract(
    path: PathLike,
    *,
    schema: JsonObject | PathLike | None = ...,
    recipe: PathLike | None = ...,
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
) -> Record[dict[str, Any]]: ...
def extract(
    path: PathLike,
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    local: bool = False,
    output: PathLike | None = None,
    config: Config | None = None,
) -> Record[Any]:
    """The record of one document.

    With a pydantic class as `schema` the record's data is an instance of it, or None when what was found does not
    fit the class (the record is then `partial`, and its problems say why).

    A document that cannot be read gives a `failed` record. Raises ConfigError when `path` is not one document, and
    the errors of `stream`.
    """
    return _wait(_one(path, _config(schema, recipe, local, output, config), _class_of(schema)))


@overload
async def extract_async(
    path: PathLike, *, schema: type[_M], local: bool = ..., output: PathLike | None = ..., config: Config | None = ...
) -> Record[_M]: ...
@overload
async def extract_async(
    path: PathLike,
    *,
    schema: JsonObject | PathLike | None = ...,
    recipe: PathLike | None = ...,
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
) -> Record[dict[str, Any]]: ...
async def extract_async(
    path: PathLike,
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    local: bool = False,
    output: PathLike | None = None,
    config: Config | None = None,
) -> Record[Any]:
    """`extract` for programs that have a running event loop."""
    return await _one(path, _config(schema, recipe, local, output, config), _class_of(schema))


@overload
def run(
    paths: Sequence[PathLike],
    *,
    schema: type[_M],
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
    observer: Observer | None = ...,
) -> Iterator[Record[_M]]: ...
@overload
def run(
    paths: Sequence[PathLike],
    *,
    schema: JsonObject | PathLike | None = ...,
    recipe: PathLike | None = ...,
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
    observer: Observer | None = ...,
) -> Iterator[Record[dict[str, Any]]]: ...
def run(
    paths: Sequence[PathLike],
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    local: bool = False,
    output: PathLike | None = None,
    config: Config | None = None,
    observer: Observer | None = None,
) -> Iterator[Record[Any]]:
    """Records of files, folders and globs, in the order of discovery, as they are ready.

    `output` keeps records and ledger in a folder; without it nothing is written and nothing is remembered. Leaving
    the iteration early cancels what is under way and keeps every answer received.
    """
    chosen = _config(schema, recipe, local, output, config)
    return _iterate(_records(paths, chosen, _class_of(schema), observer))


@overload
def stream(
    paths: Sequence[PathLike],
    *,
    schema: type[_M],
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
    observer: Observer | None = ...,
) -> AsyncIterator[Record[_M]]: ...
@overload
def stream(
    paths: Sequence[PathLike],
    *,
    schema: JsonObject | PathLike | None = ...,
    recipe: PathLike | None = ...,
    local: bool = ...,
    output: PathLike | None = ...,
    config: Config | None = ...,
    observer: Observer | None = ...,
) -> AsyncIterator[Record[dict[str, Any]]]: ...
def stream(
    paths: Sequence[PathLike],
    *,
    schema: JsonObject | type[BaseModel] | PathLike | None = None,
    recipe: PathLike | None = None,
    local: bool = False,
    output: PathLike | None = None,
    config: Config | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Record[Any]]:
    """`run` for programs that have a running event loop.

    Raises ConfigError when nothing is found, AuthRejected and QuotaExhausted when the endpoint will not serve this
    account, LedgerError and OutputError when results cannot be kept. Files that cannot be used are failed records.
    """
    chosen = _config(schema, recipe, local, output, config)
    return _records(paths, chosen, _class_of(schema), observer)


def run_to_folder(paths: Sequence[PathLike], config: Config, observer: Observer | None = None) -> RunSummary:
    """Run to the end, records in `config.output`, and give the summary. Raises what `stream` raises."""
    from ingest import engine

    summaries: list[RunSummary] = []

    async def drain() -> None:
        async with aclosing(engine.run(paths, config, observer, summaries.append, is_priced_first=True)) as records:
            async for _ in records:
                pass

    _wait(drain())
    return summaries[0]


def open_ledger(output: PathLike | None = None, url: str | None = None) -> Ledger:
    """The ledger of an output folder, or of a database by its address: what runs cost, found and told.

    Use it as a context manager. It does not keep others from writing.

    Raises ConfigError when the folder holds none or the address is none, LedgerError when it cannot be opened.
    """
    from ingest.keeping.ledger import LEDGER_FOLDER, Ledger

    if url is None and (output is None or not (Path(output) / LEDGER_FOLDER).is_dir()):
        raise ConfigError(f"{output or 'the folder'} holds no ledger: nothing was ever run into it")
    return Ledger(None if output is None else Path(output), is_shared=True, url=url)


def plan(paths: Sequence[PathLike], config: Config, observer: Observer | None = None) -> Plan:
    """What a run would send and what it would cost. Nothing is sent, nothing is rendered.

    Raises ConfigError when nothing is found or the profile has no price.
    """
    from ingest import engine

    return _wait(engine.plan(paths, config, observer))


async def _one(path: PathLike, config: Config, model: type[BaseModel] | None) -> Record[Any]:
    from ingest.reading.discover import discover

    # Told before anything is asked: a folder would be paid for and then refused.
    count = await asyncio.to_thread(lambda: len(list(islice(discover([path], config.output), 2))))
    if count > 1:
        raise ConfigError(f"{path} holds several documents: use run() for more than one")
    async with aclosing(_records([path], config, model, None)) as stream_of_one:
        records = [record async for record in stream_of_one]
    return records[0]


async def _records(
    paths: Sequence[PathLike], config: Config, model: type[BaseModel] | None, observer: Observer | None
) -> AsyncGenerator[Record[Any]]:
    from ingest import engine

    async with aclosing(engine.run(paths, config, observer)) as records:
        async for record in records:
            yield record if model is None else _typed(record, model)


def _class_of(schema: object) -> type[BaseModel] | None:
    return schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None


def _config(
    schema: JsonObject | type[BaseModel] | PathLike | None,
    recipe: PathLike | None,
    local: bool,
    output: PathLike | None,
    config: Config | None,
) -> Config:
    if config is not None and local and not config.endpoint.local:
        raise ConfigError("local=True and a config for another endpoint exclude each other: make the config with local")
    if schema is not None and recipe is not None:
        raise ConfigError("give either a schema or a recipe")
    if config is None:
        return configure(schema=schema, recipe=recipe, local=local, output=output)
    update: JsonObject = {}
    if schema is not None:
        update["recipe"] = recipe_from_schema(schema)
    if recipe is not None:
        update["recipe"] = load_recipe(recipe)
    if output is not None:
        update["output"] = Path(output)
    return config.model_copy(update=update)


def _typed(record: Record[Any], model: type[BaseModel]) -> Record[Any]:
    """The record with its data as an instance of the class; None, and not complete, when it does not fit."""
    fields = {name: getattr(record, name) for name in Record.model_fields}
    try:
        fields["data"] = None if record.data is None else model.model_validate(record.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"/{step}" for step in first["loc"])
        problem = ProblemInfo(stage="check", code="off_schema", message=first["msg"], pointer=where)
        fields["data"] = None
        if record.status == "complete":
            fields |= {"status": "partial", "problems": (*record.problems, problem)}
    # mypy cannot see that a class known at run time may stand for the type parameter.
    return Record[model](**fields)  # type: ignore[valid-type]


class _LoopThread:
    """An event loop in a thread of its own; leaving it cancels what still runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ingest", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()


def _wait(work: Coroutine[Any, Any, _T]) -> _T:
    thread = _LoopThread()
    try:
        return thread.wait(work)
    finally:
        thread.close()


def _iterate(records: AsyncGenerator[_T]) -> Iterator[_T]:
    thread = _LoopThread()
    try:
        while True:
            try:
                record = thread.wait(_advance(records))
            except StopAsyncIteration:
                return
            yield record
    finally:
        # An iteration left early ends its workers and closes its ledger before the loop goes.
        thread.wait(records.aclose())
        thread.close()


async def _advance(records: AsyncGenerator[_T]) -> _T:
    return await anext(records)
