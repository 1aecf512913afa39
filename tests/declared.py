"""The entry points that pyproject.toml declares, whether or not the package is installed."""

from __future__ import annotations

import tomllib
from importlib import metadata
from typing import Any

import pytest

from tests.conftest import ROOT


def declare_entry_points(monkeypatch: pytest.MonkeyPatch, **more: dict[str, str]) -> None:
    """Let lookups of this project's groups find what pyproject.toml declares, and `more` by group (`recipes={…}`)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared: dict[str, dict[str, str]] = project["entry-points"]
    real = metadata.entry_points

    def entry_points(*, group: str, **rest: Any) -> Any:
        if group not in declared:
            return real(group=group, **rest)
        table = {**declared[group], **more.get(group.removeprefix("ingest."), {})}
        points = [metadata.EntryPoint(name, value, group) for name, value in table.items()]
        return metadata.EntryPoints(points).select(**rest)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
