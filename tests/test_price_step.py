"""The price step in whole runs over HTTP: documents far longer than a request, a server that counts otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
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
_SMALL_TOKENS = {"en": 630, "table": 1_300, "de": 1_400, "image": 1_310, "mixed": 860}
_STEPS = (0.8, 0.9, 1.0, 1.1, 1.2)


@dataclass
class Server:
    """A server with its own way of counting, and the settings of jobs that ask it; the step `scale` times nearer."""

    folder: Path
    service: Service
    scale: int
    margin: float = 0.06

    @property
    def config(self) -> Config:
        """Settings of every job."""
        planning = {"target_tokens": None, "safety_margin": self.margin}
        asking = {"max_tokens": 32_768}
        config = paid_config(self.folder / "out", concurrency=CONCURRENCY, asking=asking, planning=planning)
        return config.model_copy(update={"profile": _scaled(config.profile, self.scale)})

    @property
    def cap_tokens(self) -> int:
        """The most input of a request at the lower price."""
        return self.config.profile.tiers[0].max_input_tokens

    def ask(self, name: str, kinds: Sequence[str], tokens: int) -> list[int]:
        """Run a job over one document of each kind, of about so many tokens; input of its requests as they came."""
        known = len(self.service.entries)
        folder = self.folder / name
        folder.mkdir()
        for at, kind in enumerate(kinds):
            text = PAGE_BREAK.join(_pages(kind, tokens, random.Random(f"{name} {at}")))
            (folder / f"{at:02}-{kind}.txt").write_text(text, encoding="utf-8")
        summary = Job(folder, self.folder / "out").run(self.config)
        assert summary.complete == len(summary.documents) == len(kinds)
        entries = sorted(self.service.entries[known:], key=lambda entry: int(entry.number))
        return [entry.input_tokens for entry in entries]

    def learn(self) -> None:
        """More replies than it takes, each to one page."""
        assert len(self.ask("learning", ("en", "image", "table", "mixed", "de", "image") * 4, 1)) > WARM

    def errors(self) -> Iterator[float]:
        """Relative errors of predicted input after 20 replies, those left out that were under way meanwhile."""
        with Ledger(self.folder / "out") as ledger:
            observations = ledger.learned.observations(MODEL, self.config.endpoint.label)
        for at in range(WARM, len(observations)):
            seen: Observation = observations[at]
            calibration = Calibration.of(observations[: max(at - CONCURRENCY, WARM)])
            counts = dict(seen.counts)
            yield calibration.weigh([counts.get(kind, 0) for kind in KINDS]) / seen.input_tokens - 1


def _scaled(profile: Profile, scale: int) -> Profile:
    first, second = profile.tiers
    first = first.model_copy(update={"max_input_tokens": 128_000 // scale - 1})
    target = profile.target_input_tokens // scale
    # No limit on bytes: only tokens are to hold the requests.
    changes = {"tiers": (first, second), "target_input_tokens": target, "max_request_bytes": 10**9}
    return profile.model_copy(update=changes)


def _pages(kind: str, tokens: int, dice: random.Random) -> list[str]:
    pages: list[str] = []
    while not pages or len(pages) * _SMALL_TOKENS[kind] < tokens:
        is_image = kind == "image" or (kind == "mixed" and len(pages) % 3 == 0)
        pages.append(f"IMAGE {dice.random()}" if is_image else page_text(dice, 45, "en" if kind == "mixed" else kind))
    return pages


def _start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float, scale: int, margin: float = 0.06
) -> Server:
    return Server(folder, start_service(monkeypatch, skew={"text": text, "image": image}), scale, margin)


def _check_taught(server: Server, requests: int) -> None:
    """Full requests after 20 replies: none over the step, and all as long as they were said to be."""
    server.learn()
    tokens = 120_000 // server.scale * requests
    asked = server.ask("late", ("image", "en", "mixed", "table"), tokens)
    assert max(asked) <= server.cap_tokens
    assert max(asked) > 0.72 * server.cap_tokens
    errors = sorted(abs(error) for error in server.errors())
    assert errors[int(0.95 * (len(errors) - 1))] <= 0.05


def test_no_request_crosses_the_step_when_the_server_counts_six_percent_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the first, of which nothing is known, and scans fill theirs to the brim."""
    server = _start(tmp_path, monkeypatch, 1.06, 1.06, 10)
    asked = server.ask("first", ("image", "en", "table", "mixed"), 48_000)
    assert max(asked) <= server.cap_tokens
    assert asked.index(max(asked)) < WARM
    assert max(asked) > 0.9 * server.cap_tokens


@pytest.mark.parametrize(("text", "image"), [(1.2, 0.8), (0.8, 1.2), (1.2, 1.2), (0.8, 0.8)])
def test_after_twenty_replies_no_request_crosses_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """One token too many doubles the price of a whole request, and the bill was said to be known."""
    _check_taught(_start(tmp_path, monkeypatch, text, image, 10), 3)


def test_chunks_cut_before_the_first_reply_are_looked_at_again_before_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of thirty requests is planned at once, when nothing is known of the server."""
    server = _start(tmp_path, monkeypatch, 1.2, 1.2, 10)
    asked = server.ask("one", ("image",), 12_000 * 30)
    assert max(asked[:CONCURRENCY]) > server.cap_tokens
    # Those under way with the first ones were made before any reply.
    assert max(asked[2 * CONCURRENCY :]) <= server.cap_tokens
    assert Job(tmp_path / "one", tmp_path / "out").run(server.config).requests_sent == 0


def test_a_wider_margin_holds_for_a_server_that_counts_a_fifth_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows nothing of a server can buy more room."""
    server = _start(tmp_path, monkeypatch, 1.2, 1.2, 10, margin=0.21)
    asked = server.ask("first", ("image", "table"), 36_000)
    assert max(asked) <= server.cap_tokens
    assert max(asked) > 0.85 * server.cap_tokens


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("text", _STEPS)
@pytest.mark.parametrize("image", _STEPS)
def test_the_real_step_is_not_crossed_at_any_skew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """The same with requests of the full 120,000 tokens."""
    _check_taught(_start(tmp_path, monkeypatch, text, image, 1), 3)


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize(("text", "image"), [(1.06, 1.06), (1.06, 0.8), (0.8, 1.06)])
def test_the_real_step_is_not_crossed_from_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: float, image: float
) -> None:
    """The same for what is sent before anything is known."""
    server = _start(tmp_path, monkeypatch, text, image, 1)
    assert max(server.ask("first", ("image", "en", "table", "de", "mixed"), 480_000)) <= server.cap_tokens
