"""Documents as a Ray dataset: rows that name them in, a row for each record out."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ingest.config import Config, FindingSettings
from ingest.engine.working import Away, Outcomes
from ingest.errors import ConfigError, SourceError, Unreadable
from ingest.keeping.ledger import Ledger
from ingest.keeping.sinks.frames import records_to_arrow
from ingest.reading.discover import Found, Given, discover
from ingest.types import Input, JsonObject

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

_PICKLED = "pickled"


def ray_dataset(documents: Sequence[Given] | Given | Dataset, config: Config) -> Dataset:
    """Records of documents as a Ray dataset, with the columns of `records_to_arrow`. It is lazy, as all of them are.

    `documents` are files, folders, patterns and URLs, or a Ray dataset with a column `bytes`, `uri` or `path`, and
    perhaps `name`; its other columns are carried into the records as metadata. Limits per minute and on money hold for
    all processes together, however often the dataset is read. Answers are kept in the ledger that the settings name, so
    that what is worked on twice is asked once; records go nowhere but into the rows.

    Raises ConfigError when Ray is not installed, the cluster cannot be reached, nothing is found, or the machines of
    the cluster cannot share the ledger; errors that end a run are raised while it is read.
    """
    from ingest.execute import ray

    rows: Any = documents
    read: Callable[[Mapping[str, Any]], Sequence[Found]] = partial(_named, finding=config.finding)
    if not hasattr(documents, "map_batches"):
        given: Any = [documents] if isinstance(documents, str | os.PathLike | Input) else documents
        found = discover(given, config.output, config.finding)
        rows, read = [{_PICKLED: pickle.dumps(_sent(each))} for each in found], _unpickled
        if not rows:
            raise ConfigError("no files found: there is nothing to make a dataset of")
    ray.join(config)
    url = None if config.keeping.ledger is None else config.keeping.ledger.get_secret_value()
    with Ledger(config.output, url) as ledger:
        run_id = ledger.runs.start(config.recipe.name, config.profile.model, config.endpoint.label)
    away = Away.of(config, run_id)
    return ray.map_documents(rows, away, away.config, read, partial(_table, schema=config.recipe.document_schema))


def _sent(found: Found) -> Found:
    """A document as it can be sent to another process."""
    from ingest.execute import ray

    try:
        return ray.portable(found)
    except SourceError as error:
        return replace(found, place=error)


def _unpickled(row: Mapping[str, Any]) -> Sequence[Found]:
    """A document that was listed where the dataset was made."""
    found: Found = pickle.loads(row[_PICKLED])  # noqa: S301 (ours: rows of others are read by `_named`)
    return (found,)


def _named(row: Mapping[str, Any], finding: FindingSettings) -> Sequence[Found]:
    """The documents that a row of somebody else's dataset names. Raises ConfigError when it has none of the columns."""
    address = row.get("uri") or row.get("path")
    data = row.get("bytes")
    if not address and data is None:
        raise ConfigError("a dataset of documents has a column bytes, uri or path: rename one of its columns")
    name = str(row.get("name") or address or f"document-{hashlib.sha256(data or b'').hexdigest()[:16]}")
    metadata = {key: value for key, value in row.items() if key not in ("uri", "path", "bytes", "name")}
    given = Input(None if data is not None else str(address), data=data, name=name, metadata=metadata)
    try:
        return tuple(discover([given], None, finding))
    except ConfigError as error:
        return (Found(name, Unreadable(error.message), name, metadata),)


def _table(outcomes: Sequence[Outcomes], schema: JsonObject) -> pyarrow.Table:
    return records_to_arrow([each.record for some in outcomes for each in some if each.record is not None], schema)
