"""The job behind `ingest run`: every document under the paths, records into the output folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ingest


def run(
    paths: Sequence[str | Path], config: ingest.Config, observer: ingest.Observer | None = None
) -> ingest.RunSummary:
    """Ingest files, folders and globs into `config.output`, and give the summary that `run.json` holds.

    Raises ConfigError without an output folder or when nothing is found; a file that cannot be used is a failed
    record in the summary. Other errors are those of `ingest.run_to_folder`.
    """
    if config.output is None:
        raise ingest.ConfigError("a folder job needs an output folder: set Config.output")
    return ingest.run_to_folder(paths, config, observer)
