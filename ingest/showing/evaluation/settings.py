"""How to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ingest.errors import ConfigError

Path_ = tuple[str, ...]
"""A field of the truth: its steps from the root, `*` for the items of a list."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What to compare, and how exactly.

    Paths are steps joined by `/` (a leading one may stand), `*` for the items of a list: `line_items/*/amount`.

    - `map`: truth path to the path of the prediction that answers it.
    - `ignore`, `only`: truth paths to leave out, or to keep; a path covers all that is below it.
    - `day_first`: reads 03/04/2018 as 3 April, on both sides; dates with points are always read so.
    - `absolute_tolerance`, `relative_tolerance`: how far numbers may differ, whichever allows more; whole numbers
      must be equal.
    - `similar`: by path, the similarity (0 to 1) of texts without case, spaces and punctuation from which they match.
    - `within`: by path, how far numbers may differ there, whole ones too: times of a video, sampled at some rate.
    - `unsigned`: paths whose numbers are compared without sign: standards write the amounts of a credit note positive,
      printed ones are often negative. A path covers all that is below it.
    - `minimums`: by path, the least score; `all` is the share of all leaves that match.
    - `require_all`: a truth without a prediction counts as wholly missing; else it is only listed.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    only: Sequence[str] = ()
    day_first: bool = False
    absolute_tolerance: float = 0.005
    relative_tolerance: float = 1e-6
    similar: Mapping[str, float] = field(default_factory=dict)
    within: Mapping[str, float] = field(default_factory=dict)
    unsigned: Sequence[str] = ()
    minimums: Mapping[str, float] = field(default_factory=dict)
    require_all: bool = False

    @cached_property
    def _ignored(self) -> tuple[Path_, ...]:
        return tuple(split_path(path) for path in self.ignore)

    @cached_property
    def _kept(self) -> tuple[Path_, ...]:
        return tuple(split_path(path) for path in self.only)

    @cached_property
    def _unsigned(self) -> tuple[Path_, ...]:
        return tuple(split_path(path) for path in self.unsigned)

    @cached_property
    def _similar(self) -> dict[Path_, float]:
        return {split_path(path): value for path, value in self.similar.items()}

    @cached_property
    def _within(self) -> dict[Path_, float]:
        return {split_path(path): value for path, value in self.within.items()}

    def is_compared(self, path: Path_) -> bool:
        """Whether the leaf at `path` counts."""
        if any(path[: len(ignored)] == ignored for ignored in self._ignored):
            return False
        return not self._kept or any(path[: len(kept)] == kept for kept in self._kept)

    def is_unsigned(self, path: Path_) -> bool:
        """Whether the number at `path` is compared without sign."""
        return any(path[: len(unsigned)] == unsigned for unsigned in self._unsigned)

    def similarity_needed(self, path: Path_) -> float | None:
        """The similarity from which the leaf at `path` matches, None when similarity is not enough."""
        return self._similar.get(path)

    def distance_allowed(self, path: Path_) -> float | None:
        """How far the number at `path` may be from the expected one, None when the general tolerances hold."""
        return self._within.get(path)


def split_path(path: str) -> Path_:
    """The steps of a path or JSON Pointer."""
    trimmed = path.removeprefix("/")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in trimmed.split("/")) if trimmed else ()


def read_map(path: Path) -> dict[str, str]:
    """The mapping of truth paths to prediction paths in a JSON file. Raises ConfigError when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(target, str) for target in value.values()):
        raise ConfigError(f'{path}: must be an object of paths, such as {{"totals/grand_total": "gross_amount"}}')
    for source, target in value.items():
        if split_path(source).count("*") != split_path(target).count("*"):
            raise ConfigError(f"{path}: {source!r} and {target!r} must have '*' equally often")
    return value
