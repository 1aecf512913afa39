"""The `ingest` command. Commands are imported when they are called, so that help appears at once."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the exit code tells how it went."""
    from ingest.cli.app import app

    app()
