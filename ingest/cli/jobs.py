"""Jobs are found by entry point: the library does not know its pipelines."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from ingest.errors import ConfigError

GROUP = "ingest.jobs"


def find_job(name: str) -> Any:
    """The function behind a job.

    Raises ConfigError when no installed package offers it, or the package cannot be imported.
    """
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise ConfigError(f"the job {name!r} is not installed: reinstall the package, e.g. pip install -e .")
    try:
        return points[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the job {name!r} ({points[0].value}) cannot be loaded: {error}; reinstall it") from error
