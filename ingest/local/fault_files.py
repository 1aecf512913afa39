"""Faults from a file, TOML or JSON.

    seed = 7            # chance is repeatable; `ingest serve --seed` comes before it
    slow_s = 0.5        # how long a slow answer, and the first piece of a slow_first one, is waited for
    stall_s = 900       # how long a stalled one is silent before its connection is reset

    [rates]             # chance of each kind, together at most 1
    overloaded = 0.05
    rate_limited = { rate = 0.02, retry_after_s = 3 }

    [script]            # by number of the request, from 1; comes before the rates
    1 = "reset"
    "2-4" = "unavailable"
    5 = { kind = "rate_limited", retry_after_s = 20, retry_after_form = "date" }
    "9-" = { kind = "unfinished", at = 0.9 }

A fault is its kind, or a table with `kind` and any of `retry_after_s` (a Retry-After is sent), `retry_after_form`
(seconds or date), `at` (where in the answer or the stream it happens, 0 to 1) and `wait_s`. A script may also be a
list.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from ingest.errors import ConfigError


def load_faults(path: Path) -> dict[str, Any]:
    """The settings in a fault file, for `Faults.of`. Raises ConfigError when it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the fault file {path} cannot be read: {error}") from error
    try:
        settings = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the fault file {path} is not valid {path.suffix or 'TOML'}: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"the fault file {path} must hold a table, see `ingest serve --help`")
    return {"rates": {}, **settings}
