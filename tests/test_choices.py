"""Prices of other settings: those that `plan` shows are those that `plan` gives under these settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pymupdf
import pytest

import ingest
from ingest.config import Config, ReadingSettings
from ingest.engine import session
from ingest.errors import ConfigError
from ingest.profile import load_profile
from ingest.reading import extractor_for
from ingest.recipes import load_recipe
from ingest.record import Choice, Plan
from ingest.types import Document, Moment, Part, Source
from tests.conftest import ROOT

FIGURES = (
    "requests",
    "dear_requests",
    "input_tokens_expected",
    "input_tokens_safe",
    "output_tokens_expected",
    "output_tokens_ceiling",
    "cost_usd_expected",
    "cost_usd_ceiling",
)
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "--pages text": {"reading": {"pages": "text"}},
    "--pages image": {"reading": {"pages": "image"}},
    "--pages both": {"reading": {"pages": "both"}},
    "--image-detail low": {"asking": {"image_detail": "low"}},
    "--thinking": {"asking": {"enable_thinking": True}},
    "--no-thinking": {"asking": {"enable_thinking": False}},
}


class SameProcess:
    """Reading without processes; a file `*.mp4` is a video of 40 small frames."""

    def __init__(self, settings: ReadingSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> SameProcess:
        """Ready."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Done."""

    async def open(self, source: Source, *_: object) -> Document:
        """The document, probed."""
        if source.name.endswith(".mp4"):
            moments = [(Moment(at, 1, 1, at, at, at + 1),) for at in range(40)]
            parts = [
                Part(at, "frame", "image", width_px=420, height_px=420, moments=own) for at, own in enumerate(moments)
            ]
            return Document(source, tuple(parts))
        return extractor_for(source.media_type).open(source, self._settings)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pages of all kinds: with text, with text and graphics, scanned, blank, with a worthless text layer, a picture."""
    monkeypatch.setattr(session, "Workers", SameProcess)
    inbox = tmp_path / "in"
    inbox.mkdir()
    shutil.copy(ROOT / "fixtures" / "documents" / "contracts" / "nda.pdf", inbox)
    with pymupdf.open() as document:
        document.new_page()
        spoilt = document.new_page()
        picture = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 60, 80), False)
        picture.clear_with(90)
        whole = spoilt.rect
        spoilt.insert_image(whole, pixmap=picture)
        spoilt.insert_text((50, 50), "page 2 of 4")
        document.new_page().insert_image(whole, pixmap=picture)
        document.new_page().insert_text((50, 50), "An ordinary page with a sentence on it.")
        document.save(inbox / "mixed.pdf")
        picture.save(inbox / "photo.png")
    return inbox


def settings(**sections: dict[str, Any]) -> Config:
    """The default profile, changed by sections of settings."""
    config = Config(
        recipe=load_recipe("generic"),
        profile=load_profile("seed-2-0-pro"),
        endpoint=ingest.Endpoint(base_url="http://nowhere.invalid/v1"),
    )
    for name, values in sections.items():
        config = config.model_copy(update={name: getattr(config, name).model_copy(update=values)})
    return config


def _figures(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in FIGURES}


def _choices(plan: Plan) -> dict[str, Choice]:
    return {choice.name: choice for choice in plan.choices}


@pytest.mark.parametrize(
    "present",
    [
        {},
        {"reading": {"pages": "image"}},
        {"reading": {"pages": "text"}, "asking": {"enable_thinking": True}},
        {"reading": {"pages": "both"}, "asking": {"image_detail": "xhigh"}},
    ],
    ids=["auto", "image", "text", "both"],
)
def test_the_price_of_another_setting_is_what_a_plan_under_it_costs(folder: Path, present: dict[str, Any]) -> None:
    """Who follows the advice must get the price he was promised, to the last digit."""
    plan = ingest.plan([folder], settings(**present))
    shown, total = _choices(plan), plan.totals.cost_usd_expected
    pages = present.get("reading", {}).get("pages")
    assert {f"--pages {policy}" for policy in ("text", "image", "both") if policy != pages} <= shown.keys()
    assert "--image-detail low" in shown
    assert (
        "--no-thinking" if "asking" in present and "enable_thinking" in present["asking"] else "--thinking"
    ) in shown
    for name, choice in shown.items():
        if name in SETTINGS:
            change = {section: {**present.get(section, {}), **values} for section, values in SETTINGS[name].items()}
            plan = ingest.plan([folder], settings(**{**present, **change}))
            assert (name, _figures(choice)) == (name, _figures(plan.totals))
            assert choice.difference_usd == (plan.totals.cost_usd_expected or 0) - (total or 0)


def test_frames_have_a_detail_and_a_rate_of_their_own(folder: Path) -> None:
    """Frames go at low detail unless told otherwise; then low is what saves most."""
    shutil.rmtree(folder)
    folder.mkdir()
    # The box that says what the file is; nothing of it is decoded here.
    (folder / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\x00" * 64)
    usual = ingest.plan([folder], settings())
    assert usual.totals.frames == 40
    shown = _choices(usual)
    assert not {"--image-detail low", "--pages text"} & shown.keys()
    assert (shown["--fps, half of it"].difference_usd or 0) < 0
    sheets = shown["--contact-sheet 4"]
    assert sheets.input_tokens_expected < usual.totals.input_tokens_expected * 0.6
    assert (sheets.difference_usd or 0) < 0
    high = ingest.plan([folder], settings(asking={"image_detail": "high"}, reading={"fps": 2.0}))
    shown = _choices(high)
    assert shown["--fps 1"].input_tokens_expected < high.totals.input_tokens_expected
    low = ingest.plan([folder], settings(asking={"image_detail": "low"}))
    assert _figures(shown["--image-detail low"]) == _figures(low.totals)


def test_an_unknown_price_is_told_with_the_way_out(folder: Path) -> None:
    """Unknown is not free, and what to do about it stands in the message."""
    config = settings().model_copy(update={"profile": load_profile("seed-1-8")})
    with pytest.raises(ConfigError, match=r'extends = "seed-1-8" and its tiers'):
        ingest.plan([folder], config)
