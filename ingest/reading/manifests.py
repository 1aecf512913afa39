"""Lists of documents with what the caller says of each: CSV, JSON Lines, Parquet, or one address a line.

Read as they are gone through, so that a list of any length costs no memory.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from ingest.config import FindingSettings
from ingest.errors import ConfigError, SourceError
from ingest.reading import stores
from ingest.types import JsonObject

STANDARD_INPUT = "-"
_ADDRESS, _NAME = ("uri", "path"), "name"
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One document of a list. `uri` is as written; `problem` is set where the row names none."""

    number: int
    uri: str
    name: str
    metadata: JsonObject
    problem: str | None = None


def read_manifest(manifest: str, settings: FindingSettings) -> Iterator[Row]:
    """The documents of a list, in its order. `-` is a plain list on standard input.

    CSV and Parquet have a column `uri` (or `path`), JSON Lines a field of that name; `name` names the record, all other
    columns are what is said of the document. Empty lines, and in plain lists those that begin with `#`, are left out.

    Raises ConfigError when the list cannot be read or has no such column.
    """
    shown = stores.mask(manifest)
    try:
        with _open(manifest, settings) as file:
            rows = _parser(manifest)(file, shown)
            for number, row in enumerate(rows, 1):
                if row:
                    yield _row(number, row)
    except SourceError as error:
        raise ConfigError(f"--manifest: {error.message}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--manifest: {shown} is not UTF-8 text: {error.reason}; save it as UTF-8") from error
    except csv.Error as error:
        raise ConfigError(f"--manifest: {shown} is no CSV: {error}") from error
    except OSError as error:
        raise ConfigError(f"--manifest: {shown} cannot be read: {error.strerror or type(error).__name__}") from error


def _open(manifest: str, settings: FindingSettings) -> contextlib.AbstractContextManager[BinaryIO]:
    if manifest == STANDARD_INPUT:
        return contextlib.nullcontext(cast("BinaryIO", sys.stdin.buffer))
    if stores.is_url(manifest):
        return stores.connect(stores.Remote(manifest, stores.mask(manifest)), settings)
    return Path(manifest).open("rb")


def _parser(manifest: str) -> Any:
    path = urlsplit(manifest).path if stores.is_url(manifest) else manifest
    suffix = PurePosixPath(path.lower()).suffix
    return {
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".parquet": _parquet_rows,
    }.get(suffix, _lines)


def _row(number: int, row: Mapping[str, Any] | str) -> Row:
    if isinstance(row, str):
        return Row(number, "", "", {}, row)
    address = next((str(row[column]).strip() for column in _ADDRESS if row.get(column)), "")
    name = str(row.get(_NAME) or "").strip()
    column = next((column for column in _ADDRESS if row.get(column)), _ADDRESS[0])
    rest = {key: value for key, value in row.items() if key not in (column, _NAME) and value is not None}
    if not address:
        return Row(number, "", name, {}, "has no uri")
    return Row(number, address, name, to_json(rest))


def to_json(metadata: Mapping[str, Any]) -> JsonObject:
    """Values as JSON holds them: dates, decimals and the like as text. Raises ConfigError for what has no such form."""
    try:
        plain: JsonObject = json.loads(json.dumps(dict(metadata), default=str, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata of a document has to be JSON: {error}") from error
    return plain


def _csv_rows(file: BinaryIO, shown: str) -> Iterator[Mapping[str, Any]]:
    with _text(file) as lines:
        delimiter = "\t" if shown.lower().endswith(".tsv") else ","
        reader = csv.DictReader(lines, delimiter=delimiter, restkey="_more")
        _check_columns(reader.fieldnames or (), shown)
        for row in reader:
            yield {key: value for key, value in row.items() if value != ""}


def _json_rows(file: BinaryIO, shown: str) -> Iterator[Mapping[str, Any] | str]:
    with _text(file) as lines:
        for line in lines:
            try:
                row = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else "is no JSON object"


def _parquet_rows(file: BinaryIO, shown: str) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"--manifest: {shown} needs a package to be read: pip install 'ingest[arrow]'") from error
    try:
        table = parquet.ParquetFile(file)
        _check_columns(table.schema_arrow.names, shown)
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from batch.to_pylist()
    except arrow.ArrowException as error:
        raise ConfigError(f"--manifest: {shown} is no Parquet file, or damaged") from error


def _lines(file: BinaryIO, shown: str) -> Iterator[Mapping[str, Any]]:
    with _text(file) as lines:
        # `find -print0` puts a zero byte after each.
        for each in itertools.chain.from_iterable(line.split("\0") for line in lines):
            address = each.strip()
            yield {} if not address or address.startswith("#") else {"uri": address}


def _check_columns(columns: Any, shown: str) -> None:
    if not any(column in columns for column in _ADDRESS):
        raise ConfigError(f"--manifest: {shown} has no column uri or path, only {', '.join(columns) or 'nothing'}")


@contextlib.contextmanager
def _text(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """The file as text, and still open afterwards: it has an owner who closes it."""
    text = io.TextIOWrapper(io.BufferedReader(cast("io.RawIOBase", file)), encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        with contextlib.suppress(ValueError):
            text.detach().detach()
