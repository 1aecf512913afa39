"""Predictions and truths on disk, and which belongs to which.

A prediction is a record (`data` is compared, `document.name` is its name) or bare data (its path without `.json`).
A truth is `NAME.truth.json`, `NAME.gold.json` or `NAME.json`, with the values under `truth`, a record, or bare.
In a folder with truth or gold files plain JSON files are something else (schemas, catalogues) and not read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from ingest.errors import ConfigError
from ingest.types import Json

_TRUTH_ENDINGS: Final = (".truth.json", ".gold.json")
_NOT_RECORDS: Final = frozenset({"run.json"})


@dataclass(frozen=True, slots=True)
class Known:
    """One document's data or truth. `left_out` are JSON Pointers into a truth that its file says not to count."""

    name: str
    data: Json
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Matching:
    """Pairs of prediction and truth; and what stays alone, with the reason when it is not simply absence."""

    pairs: list[tuple[Known, Known]] = field(default_factory=list)
    unpredicted: list[Known] = field(default_factory=list)
    untold: list[Known] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def read_predictions(path: Path) -> list[Known]:
    """The predictions in a folder, a JSON file, or a `.jsonl` file of records. Raises ConfigError when there are none."""
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
    found = [_truth(_load(file), _truth_name(_relative(file, path))) for file in told or files]
    if not found:
        raise ConfigError(f"{path}: holds no truth files (NAME.truth.json, NAME.gold.json or NAME.json)")
    return found


def match_names(predictions: Sequence[Known], truths: Sequence[Known]) -> Matching:
    """Which truth belongs to which prediction.

    Tried in this order, and only where there is exactly one candidate on either side: the full relative name
    (`sub/a.pdf`), the name without its last extension (`sub/a`), then the same two without folders.
    """
    matching = Matching(unpredicted=list(truths), untold=list(predictions))
    if len(predictions) == 1 and len(truths) == 1 and _is_lonely(predictions[0], truths[0]):
        return Matching(pairs=[(predictions[0], truths[0])])
    for level in range(4):
        _match_level(matching, level)
    for truth in matching.unpredicted:
        rivals = [other.name for other in matching.untold if _keys(truth.name, 3) & _keys(other.name, 3)]
        if rivals:
            matching.reasons[truth.name] = f"several files share the name: {', '.join(sorted(rivals)[:3])}"
    matching.pairs.sort(key=lambda pair: pair[0].name)
    return matching


def _match_level(matching: Matching, level: int) -> None:
    by_key: dict[str, list[Known]] = defaultdict(list)
    for prediction in matching.untold:
        for key in _keys(prediction.name, level):
            by_key[key].append(prediction)
    claims: dict[str, list[Known]] = defaultdict(list)
    for truth in matching.unpredicted:
        claims[_base(truth.name) if level > 1 else truth.name].append(truth)
    for key, claimants in claims.items():
        candidates = by_key.get(key, [])
        if len(claimants) == 1 and len(candidates) == 1 and candidates[0] in matching.untold:
            matching.pairs.append((candidates[0], claimants[0]))
            matching.untold.remove(candidates[0])
            matching.unpredicted.remove(claimants[0])


def _keys(name: str, level: int) -> set[str]:
    """What a prediction's name answers to: 0 itself, 1 without extension, 2 and 3 the same without folders."""
    shown = _base(name) if level > 1 else name
    return {shown} if level in (0, 2) else {shown, str(PurePosixPath(shown).with_suffix("")) if shown else shown}


def _is_lonely(prediction: Known, truth: Known) -> bool:
    """Whether one prediction and one truth were given as files, so that they belong together whatever their names."""
    return True


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


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
        listed = value.get("not_found_in_page_text")
        left_out = tuple(each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
        return Known(name, value["truth"], left_out)
    return Known(name, value["data"] if _is_record(value) else value)
