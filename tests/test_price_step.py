"""The price step in whole runs over HTTP: documents far longer than a request, a server that counts otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.config import Config
from ingest.keeping.ledger import Ledger
from ingest.planning.calibration import Calibration
from ingest.planning.tokens import KINDS
from ingest.profile import Profile
from ingest.types import Observation
from tests.money import MODEL, PAGE_BREAK, Job, Service, paid_config, start_service
from tests.planned import page_text

CONCURRENCY = 4
WARM = 20
IN_FLIGHT = CONCURRENCY + 1
CORNERS = ((1.2, 0.8), (0.8, 1.2), (1.2, 1.2), (0.8, 0.8))
STEPS = (0.8, 0.9, 1.0, 1.1, 1.2)


@dataclass(frozen=True)
class Trial:
    """One job against one server: its requests in the order they came, and what the replies taught."""

    entries: tuple[int, ...]
    observations: tuple[Observation, ...]
    cap_tokens: int

    def errors(self) -> Iterator[float]:
        """Relative errors of predicted input, each from the replies before it less those that may not have been in."""
        for at, seen in enumerate(self.observations):
            calibration = Calibration.of(self.observations[: max(at - IN_FLIGHT, 0)])
            counts = dict(seen.counts)
            yield calibration.weigh([counts.get(kind, 0) for kind in KINDS]) / seen.input_tokens - 1


def _scaled(profile: Profile, scale: int) -> Profile:
    """The profile with its price step and what follows from it so many times smaller: the same job in less time."""
    first, second = profile.tiers
    first = first.model_copy(update={"max_input_tokens": 128_000 // scale - 1})
    target = {"target_input_tokens": profile.target_input_tokens // scale, "max_request_bytes": 60_000_000}
    return profile.model_copy(update={"tiers": (first, second), **target})


def _write(folder: Path, scale: int, requests: int) -> None:
    """Texts of three kinds, scans, and a mix of both; each fills its share of the requests to the brim."""
    dice = random.Random(requests)
    folder.mkdir()
    kinds = ("en", "image", "table", "mixed", "de", "image")
    for at, kind in enumerate(kinds):
        tokens = 120_000 // scale * requests // len(kinds)
        pages = []
        while tokens > 0:
            is_image = kind == "image" or (kind == "mixed" and len(pages) % 3 == 0)
            text = "IMAGE" if is_image else page_text(dice, 45, "en" if kind == "mixed" else kind)
            tokens -= 1_300 if is_image else {"en": 630, "mixed": 630, "table": 1_300, "de": 1_400}[kind]
            pages.append(text)
        (folder / f"{at}-{kind}.txt").write_text(PAGE_BREAK.join(pages), encoding="utf-8")


def _run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, skew: Mapping[str, float], scale: int, requests: int, margin: float
) -> Trial:
    service: Service = start_service(monkeypatch, skew=skew)
    _write(folder / "in", scale, requests)
    asking = {"max_tokens": 32_768}
    planning = {"target_tokens": None, "safety_margin": margin}
    config: Config = paid_config(folder / "out", concurrency=CONCURRENCY, asking=asking, planning=planning)
    config = config.model_copy(update={"profile": _scaled(config.profile, scale)})
    summary = Job(folder / "in", folder / "out").run(config)
    assert summary.complete == len(summary.documents) == 6
    with Ledger(folder / "out", is_shared=True) as ledger:
        observations = ledger.observations(MODEL, config.endpoint.label)
    entries = sorted(service.entries, key=lambda entry: int(entry.number))
    return Trial(
        tuple(entry.input_tokens for entry in entries), observations, config.profile.tiers[0].max_input_tokens
    )


def _check_after_twenty(trial: Trial) -> None:
    late = trial.entries[WARM + IN_FLIGHT :]
    assert len(late) >= 15
    assert max(late) <= trial.cap_tokens
    assert sorted(late)[len(late) // 2] > 0.8 * trial.cap_tokens
    errors = sorted(abs(error) for error in list(trial.errors())[WARM + IN_FLIGHT :])
    assert errors[int(0.95 * (len(errors) - 1))] <= 0.05


@pytest.mark.parametrize(("text", "image"), [(1.06, 1.06), (1.06, 0.8)])
def test_no_request_of_a_job_crosses_the_step_when_the_server_counts_six_percent_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """Not even the first, of which nothing is known."""
    trial = _run(tmp_path, monkeypatch, {"text": text, "image": image}, 10, 24, 0.06)
    assert max(trial.entries) <= trial.cap_tokens
    assert max(trial.entries) > 0.9 * trial.cap_tokens


@pytest.mark.parametrize(("text", "image"), CORNERS)
def test_after_twenty_replies_no_request_of_a_job_crosses_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """The later chunks of a document were cut before the first reply, and are looked at again before they are sent."""
    _check_after_twenty(_run(tmp_path, monkeypatch, {"text": text, "image": image}, 10, 48, 0.06))


def test_a_wider_margin_holds_for_a_server_that_counts_a_fifth_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows nothing of a server can buy more room."""
    trial = _run(tmp_path, monkeypatch, {"text": 1.2, "image": 1.2}, 10, 12, 0.21)
    assert max(trial.entries) <= trial.cap_tokens


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("text", STEPS)
@pytest.mark.parametrize("image", STEPS)
def test_the_real_step_is_not_crossed_at_any_skew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """The same with requests of the full 120,000 tokens."""
    trial = _run(tmp_path, monkeypatch, {"text": text, "image": image}, 1, 60, 0.06)
    _check_after_twenty(trial)
    if max(text, image) <= 1.06:
        assert max(trial.entries) <= trial.cap_tokens
