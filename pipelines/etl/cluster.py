"""Records as a Ray dataset, made by all machines of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ingest

if TYPE_CHECKING:
    from ray.data import Dataset


def ray_dataset(
    documents: str | Sequence[str] | Dataset,
    recipe: str,
    output: str | None = None,
    *,
    ledger: str | None = None,
    local: bool = False,
    max_cost: float | str | None = None,
    address: str | None = None,
    workers: int | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> Dataset:
    """A Ray dataset with a row for each record: its data in typed columns, what is known of it in columns with `_`.

    `documents` are files, folders, patterns or URLs, or a Ray dataset with a column `bytes`, `uri` or `path`. Answers
    are kept in `ledger`, an address such as `postgresql://USER@HOST/NAME`, or on a single machine below the folder
    `output`. `address` is that of the cluster, by default the one that Ray finds; `workers` is how many processes work,
    by default one for every CPU. Limits hold for all of them together.

    Raises what `ingest.ray_dataset` and `ingest.configure` raise.
    """
    overrides = {name: dict(values) for name, values in (settings or {}).items()}
    overrides["execute"] = {**overrides.get("execute", {}), "address": address, "workers": workers}
    if ledger is not None:
        overrides.setdefault("keeping", {})["ledger"] = ledger
    config = ingest.configure(recipe=recipe, output=output, local=local, max_cost=max_cost, settings=overrides)
    return ingest.ray_dataset(documents if hasattr(documents, "map_batches") else _listed(documents), config)


def _listed(paths: str | Sequence[str]) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths
