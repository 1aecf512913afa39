"""A cluster of two nodes on loopback: nothing lost, nothing twice, one set of limits, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import ingest
from ingest.planning.pricing import cost_usd
from tests.conftest import ROOT
from tests.postgres import Postgres
from tests.ray_cluster import ENVIRONMENT, RayCluster, cluster
from tests.slow_server import INPUT_TOKENS, OUTPUT_TOKENS, Call, SlowServer, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": ["string", "null"]}, "total": {"type": ["number", "null"]}},
    "required": ["number", "total"],
    "additionalProperties": False,
}
DOCUMENTS = 500
REQUESTS_PER_MINUTE = 400


@pytest.fixture(scope="module")
def ray() -> Iterator[RayCluster]:
    """Two nodes of one CPU each."""
    with cluster(nodes=2, cpus=1) as started:
        yield started


@dataclass
class Job:
    """A folder of documents, and the command that ingests it."""

    root: Path
    server: SlowServer
    ray: RayCluster

    def write(self, documents: int) -> None:
        """Documents of a few lines, each with other bytes."""
        (self.root / "in").mkdir(exist_ok=True)
        for number in range(documents):
            text = f"Invoice number A-1\nDelivery {number}\nTotal 12.50\n"
            (self.root / "in" / f"{number:04d}.txt").write_text(text, encoding="utf-8")

    @contextmanager
    def running(self, *options: str, requests_per_minute: int = 1_000_000) -> Iterator[subprocess.Popen[str]]:
        """The command under way; killed if it is still there in the end."""
        rates = f"requests_per_minute = {requests_per_minute}\ntokens_per_minute = 1_000_000_000\n"
        rates += "ramp_tokens_per_minute = 1_000_000_000\nconcurrency = 64\n"
        profile = f'extends = "seed-2-0-pro"\nname = "cluster"\n[rate_limits]\n{rates}'
        (self.root / "profile.toml").write_text(profile, encoding="utf-8")
        (self.root / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        words = [sys.executable, "-m", "ingest", "run", str(self.root / "in"), "-s", str(self.root / "schema.json")]
        words += ["--profile", str(self.root / "profile.toml"), "--base-url", self.server.base_url]
        words += ["-o", str(self.root / "out"), "--executor", "ray", "--address", self.ray.address, "--workers", "1"]
        words += ["--no-stream", "--max-tokens", "1000", "--json", "-q", *options]
        environment = {**os.environ, **ENVIRONMENT, "INGEST_API_KEY": "sk-not-to-be-seen"}
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *options: str, exit_code: int = 0, **limits: int) -> dict[str, Any]:
        """The summary of a run to its end."""
        with self.running(*options, **limits) as process:
            return finished(process, exit_code)

    def records(self) -> list[str]:
        """Names of the documents in the output folder, one for each record."""
        lines = (self.root / "out" / "records.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["document"]["name"] for line in lines]


def finished(process: subprocess.Popen[str], exit_code: int = 0) -> dict[str, Any]:
    """The summary of a command under way, once it ended as it should."""
    out, errors = process.communicate()
    assert process.returncode == exit_code, errors[-2_000:]
    assert "sk-not-to-be-seen" not in out + errors
    summary: dict[str, Any] = json.loads(out)
    return summary


def wait_for(server: SlowServer, calls: int) -> None:
    """Until the server saw so many."""
    deadline = time.monotonic() + 240
    while len(server.calls()) < calls:
        assert time.monotonic() < deadline, f"only {len(server.calls())} calls came"
        time.sleep(0.5)


def busiest_minute(calls: list[Call]) -> int:
    """The most calls in any 60 seconds."""
    times = sorted(call.at_s for call in calls)
    return max(sum(start <= at < start + 60.0 for at in times) for start in times)


def span_s(calls: list[Call]) -> float:
    """Seconds from the first call to the last."""
    return max(call.at_s for call in calls) - min(call.at_s for call in calls)


def test_a_worker_killed_midway_costs_only_what_was_under_way(ray: RayCluster, tmp_path: Path) -> None:
    """Machines of a cluster come and go: all records once, no answer bought twice, and one limit per minute."""
    with serving(latency_s=0.5) as server:
        job = Job(tmp_path, server, ray)
        job.write(DOCUMENTS)
        with job.running("-j", "8", requests_per_minute=REQUESTS_PER_MINUTE) as process:
            wait_for(server, DOCUMENTS // 3)
            killed = ray.workers()[0]
            os.kill(killed, signal.SIGKILL)
            summary = finished(process)
        calls = server.calls()
    assert summary["complete"] == DOCUMENTS
    assert sorted(job.records()) == [f"{number:04d}.txt" for number in range(DOCUMENTS)]
    assert len(list((tmp_path / "out").glob("*.txt.json"))) == DOCUMENTS
    asked = Counter(call.asked for call in calls)
    assert len(asked) == DOCUMENTS
    again = sum(asked.values()) - DOCUMENTS
    assert again <= 8, "only what the dead worker was asking at that moment is asked again"
    assert summary["spending"]["unsettled_calls"] <= 8
    # The rest of the limit is what a minute of the server's may begin in another place than ours.
    assert busiest_minute(calls) <= REQUESTS_PER_MINUTE
    assert busiest_minute(calls) > REQUESTS_PER_MINUTE * 0.6, "the limit is one for all, and not divided among them"
    with ingest.open_ledger(tmp_path / "out") as ledger:
        assert [run.finished_at is not None for run in ledger.runs.all()] == [True]
    print(f"\n{len(calls)} calls, {again} again, busiest minute {busiest_minute(calls)}, {span_s(calls):.0f} s")


def test_the_limit_on_money_is_one_for_all_workers(ray: RayCluster, tmp_path: Path, postgres: Postgres) -> None:
    """The bill of the whole cluster stays below the limit by the server's own books; later runs go on from there."""
    with serving(latency_s=0.2) as server:
        job = Job(tmp_path, server, ray)
        job.write(60)
        options = ("-j", "8", "--ledger", postgres.database())
        summary = job.run(*options, "--max-cost", "0.03", exit_code=1)
        bought = len(server.calls())
        price = cost_usd(ingest.load_profile("seed-2-0-pro"), INPUT_TOKENS, OUTPUT_TOKENS)
        assert price is not None
        billed = bought * price
        assert 0 < billed <= Decimal("0.03")
        assert 10 < bought < 60
        assert Decimal(summary["spent_usd"]) == billed
        assert summary["remaining"]["documents"] == 60 - bought
        whole = job.run(*options)
        assert whole["complete"] == 60
        assert whole["requests_sent"] == 60 - bought
        assert len(server.calls()) == 60
    print(f"\n{bought} calls for ${billed:.4f} of $0.03")


def test_two_workers_do_more_than_one(ray: RayCluster, tmp_path: Path) -> None:
    """A second machine has to be worth its price where the model's answers are what takes the time."""
    spans: dict[int, float] = {}
    with serving(latency_s=1.0) as server:
        for workers in (1, 2):
            (tmp_path / str(workers)).mkdir()
            job = Job(tmp_path / str(workers), server, ray)
            job.write(80)
            before = len(server.calls())
            assert job.run("-j", "4", "--ray-workers", str(workers))["complete"] == 80
            spans[workers] = span_s(server.calls()[before:])
    assert spans[1] / spans[2] >= 1.6
    print(f"\none worker {spans[1]:.1f} s, two {spans[2]:.1f} s: {spans[1] / spans[2]:.2f} times")


def test_interrupting_a_run_leaves_nobody_behind(ray: RayCluster, tmp_path: Path) -> None:
    """Ctrl-C on a cluster must end its workers, and keep what they had bought."""
    with serving(latency_s=0.3) as server:
        job = Job(tmp_path, server, ray)
        job.write(60)
        with job.running("-j", "2") as process:
            wait_for(server, 10)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
            assert process.returncode == 130
        deadline = time.monotonic() + 30
        while ray.workers():
            assert time.monotonic() < deadline, "workers live on"
            time.sleep(0.2)
        before = len(server.calls())
        assert job.run("-j", "4")["complete"] == 60
        assert len({call.asked for call in server.calls()}) == 60
        assert len(server.calls()) <= 60 + 4, "what was answered is not asked again"
        assert before >= 10


def test_machines_that_cannot_share_a_file_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger in a file on one machine would have the others pay again for what it knows."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ingest.execute import ray as executor

    nodes = [{"NodeManagerHostname": name, "Alive": True} for name in ("a", "b")]
    config = ingest.configure(schema=SCHEMA, local=True, output=tmp_path)
    monkeypatch.setattr(executor.ray, "nodes", lambda: nodes[:1])
    executor.check_ledger(config)
    monkeypatch.setattr(executor.ray, "nodes", lambda: nodes)
    with pytest.raises(ingest.ConfigError, match="2 machines, which cannot share"):
        executor.check_ledger(config)
    shared = {"keeping": {"ledger": "postgresql://etl@db/ingest"}}
    executor.check_ledger(ingest.configure(schema=SCHEMA, local=True, settings=shared))
    with pytest.raises(ingest.ConfigError, match="share a ledger"):
        executor.check_ledger(ingest.configure(schema=SCHEMA, local=True))
    with pytest.raises(ingest.ConfigError, match="HOST:PORT"):
        executor.connect("ray://somewhere:10001")


DATASET = """
import sys
import ray.data
from pipelines import etl

folder, out, url, address, profile = sys.argv[1:]
settings = {"asking": {"stream": False, "max_tokens": 1000}, "reading": {"workers": 1}}
import ingest
schema = folder + "/../schema.json"
config = ingest.configure(schema=schema, profile=profile, base_url=url, output=out, jobs=4,
    settings={**settings, "execute": {"address": address, "workers": 2}})
listed = ingest.ray_dataset(folder, config)
rows = listed.take_all()
print(len(rows), sorted({row["_status"] for row in rows}), {row["total"] for row in rows}, listed.columns()[:4])
given = ray.data.read_binary_files(folder, include_paths=True, override_num_blocks=2)
again = ingest.ray_dataset(given.map(lambda row: {**row, "batch": 7}), config).take_all()
print(len(again), {row["_metadata"] for row in again})
"""


def test_a_dataset_holds_a_row_for_each_record(ray: RayCluster, tmp_path: Path) -> None:
    """Whoever has a Ray pipeline gets typed rows, for files and for bytes, and loses nothing with a worker."""
    with serving(latency_s=0.5) as server:
        job = Job(tmp_path, server, ray)
        job.write(24)
        with job.running("--max-cost", "0.000001"):
            pass
        words = [
            sys.executable,
            "-c",
            DATASET,
            str(tmp_path / "in"),
            str(tmp_path / "ds"),
            server.base_url,
            ray.address,
        ]
        words.append(str(tmp_path / "profile.toml"))
        environment = {**os.environ, **ENVIRONMENT}
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        ) as process:
            wait_for(server, 8)
            os.kill(ray.workers("ray::MapWorker")[0], signal.SIGKILL)
            out, errors = process.communicate()
        assert process.returncode == 0, errors[-3_000:]
        first, second = out.splitlines()[-2:]
        assert first == "24 ['complete'] {12.5} ['_record_id', '_document', '_status', '_recipe']"
        assert second == "24 {'{\"batch\":7}'}"
        assert len({call.asked for call in server.calls()}) == 24
        assert len(server.calls()) <= 24 + 4, "what was answered is not asked again"
