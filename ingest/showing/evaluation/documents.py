"""Predictions and truths on disk, and which belongs to which.

A prediction is a record (`data` is compared, `document.name` is its name) or bare data (its path without `.json`).
A truth is `NAME.truth.json`, `NAME.gold.json` or `NAME.json`, with the values under `truth`, a record, or bare.
In a folder with truth or gold files plain JSON files are something else (schemas, catalogues) and not read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest.errors import ConfigError
from ingest.types import Json

_TRUTH_ENDINGS: Final = (".truth.json", ".gold.json")
_NOT_RECORDS: Final = frozenset({"run.json"})


@dataclass(frozen=True, slots=True)
class Known:
    """One document's data or truth.

    `left_out` are JSON Pointers into a truth, and `unscored` paths of its fields, that its file says not to count.
    """

    name: str
    data: Json
    left_out: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs of prediction and truth, and what stays alone; `reasons` say why where it is not simply absence."""

    pairs: list[tuple[Known, Known]]
    unpredicted: list[Known]
    untold: list[Known]
    reasons: dict[str, str]


def read_predictions(path: Path) -> list[Known]:
    """The predictions in a folder, a JSON file, or a `.jsonl` file of records. Raises ConfigError when it has none."""
    if path.is_dir():
        files = [file for file in _json_files(path) if str(file.relative_to(path)) not in _NOT_RECORDS]
        if not files and (path / "records.jsonl").is_file():
            return _read_lines(path / "records.jsonl")
        found = [_prediction(_load(file), _name(file, path)) for file in files]
    elif path.suffix == ".jsonl":
        found = _read_lines(path)
    else:
        found = [_prediction(_load(path), path.name.removesuffix(".json"))]
    if not found:
        raise ConfigError(f"{path}: holds no records; give the folder that a run wrote, a record, or records.jsonl")
    return found


def read_truths(path: Path) -> list[Known]:
    """The truths in a folder or file. Raises ConfigError when there are none."""
    if not path.is_dir():
        return [_truth(_load(path), _truth_name(path.name))]
    files = _json_files(path)
    told = [file for file in files if file.name.endswith(_TRUTH_ENDINGS)]
    chosen: dict[str, Path] = {}
    for file in sorted(told or files, key=lambda each: each.name.endswith(_TRUTH_ENDINGS[0]), reverse=True):
        chosen.setdefault(_truth_name(_relative(file, path)), file)
    found = [_truth(_load(file), name) for name, file in sorted(chosen.items())]
    if not found:
        raise ConfigError(f"{path}: holds no truth files (NAME.truth.json, NAME.gold.json or NAME.json)")
    return found


def match_names(predictions: Sequence[Known], truths: Sequence[Known]) -> Matching:
    """Which truth belongs to which prediction.

    Tried in this order, and only where there is exactly one candidate on either side: the full relative name
    (`sub/a.pdf`), the name without its last extension (`sub/a`), then the same two without folders where one side's
    folder ends with the other's, as when the truths lie deeper or less deep. Raises ConfigError when a name is there
    twice.
    """
    told, foretold = _by_name(truths), _by_name(predictions)
    pairs: list[tuple[Known, Known]] = []
    for without_folders in (False, True):
        for without_extension in (False, True):
            for truth, prediction in _unique(told, foretold, without_folders, without_extension):
                pairs.append((foretold.pop(prediction), told.pop(truth)))
    reasons = {}
    rivals = _by_key(foretold, True, True)
    for name in told:
        shared = rivals.get(_key(name, True, False), [])
        if shared:
            reasons[name] = f"the same name: {', '.join(sorted(shared)[:3])}; nothing tells which is meant"
    pairs.sort(key=lambda pair: pair[0].name)
    return Matching(pairs, list(told.values()), list(foretold.values()), reasons)


def _by_name(documents: Sequence[Known]) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for document in documents:
        if document.name in found:
            raise ConfigError(f"two documents are named {document.name!r}; give a folder that holds each once")
        found[document.name] = document
    return found


def _unique(
    told: Iterable[str], foretold: Iterable[str], without_folders: bool, without_extension: bool
) -> list[tuple[str, str]]:
    """Pairs of names (truth, prediction) that have no rival. A truth's name has no extension to drop."""
    claims = _by_key(told, without_folders, False)
    answers = _by_key(foretold, without_folders, without_extension)
    return [
        (names[0], answers[key][0])
        for key, names in claims.items()
        if len(names) == 1 and len(answers.get(key, ())) == 1 and _agree_on_folder(names[0], answers[key][0])
    ]


def _agree_on_folder(name: str, other: str) -> bool:
    folders = [f"/{each}".rpartition("/")[0] for each in (name, other)]
    return folders[0].endswith(folders[1]) or folders[1].endswith(folders[0])


def _by_key(names: Iterable[str], without_folders: bool, without_extension: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_key(name, without_folders, without_extension)].append(name)
    return found


def _key(name: str, without_folders: bool, without_extension: bool) -> str:
    folder, slash, base = name.rpartition("/")
    if without_extension and "." in base[1:]:
        base = base.rpartition(".")[0]
    return base if without_folders else f"{folder}{slash}{base}"


def _json_files(folder: Path) -> list[Path]:
    files = folder.rglob("*.json")
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _name(file: Path, folder: Path) -> str:
    return _relative(file, folder).removesuffix(".json")


def _truth_name(name: str) -> str:
    for ending in (*_TRUTH_ENDINGS, ".json"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _load(file: Path) -> Json:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from error


def _read_lines(file: Path) -> list[Known]:
    found = []
    for number, line in enumerate(_lines(file), start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{file}: line {number} is not JSON: {error}") from error
        if not _is_record(value):
            raise ConfigError(f"{file}: line {number} is no record, and a line has no other name to match by")
        found.append(_prediction(value, ""))
    return found


def _lines(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    # Not splitlines: JSON strings may hold U+2028 and the like.
    return (line for line in text.split("\n") if line.strip())


def _is_record(value: Json) -> bool:
    return (
        isinstance(value, dict) and {"document", "data", "status"} <= value.keys() and _record_name(value) is not None
    )


def _record_name(value: Json) -> str | None:
    document = value["document"]
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else None


def _prediction(value: Json, name: str) -> Known:
    return Known(_record_name(value) or name, value["data"]) if _is_record(value) else Known(name, value)


def _truth(value: Json, name: str) -> Known:
    if isinstance(value, dict) and "truth" in value:
        return Known(name, value["truth"], _texts(value, "not_found_in_page_text"), _texts(value, "unscored"))
    return Known(name, value["data"] if _is_record(value) else value)


def _texts(value: dict[str, Json], name: str) -> tuple[str, ...]:
    listed = value.get(name)
    return tuple(each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
