"""The `ingest` command. Commands are imported when they are called, so that help appears at once."""

from __future__ import annotations

import sys
import traceback

CRASHED = 70
"""Exit code of a bug (EX_SOFTWARE of sysexits.h): 1 means that some records are not complete."""


def main() -> None:
    """Run the command line; the exit code tells how it went."""
    from ingest.cli.app import app

    try:
        app(prog_name="ingest")
    except Exception:  # every expected failure has become an exit code before this
        traceback.print_exc()
        print("This is a bug in ingest; answers received so far are kept in the output folder.", file=sys.stderr)
        sys.exit(CRASHED)
