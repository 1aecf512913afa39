"""A Ray cluster of two nodes on loopback, for as long as a context; nothing of Ray is imported by who uses it.

`with cluster() as ray:` gives its address. It ends with the context, and when this process dies.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

OBJECT_STORE_BYTES = 100_000_000
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Else Ray takes 127.0.0.1 for the machine's address in its network, where nobody listens.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""What programs need in their environment to join."""


@dataclass(frozen=True)
class RayCluster:
    """A cluster that runs; `pid` is the process that started its nodes."""

    address: str
    pid: int

    def workers(self, title: str = "ray::Worker") -> list[int]:
        """The processes that documents are given to; `title` is how theirs begins."""
        processes = {int(path.name): path for path in Path("/proc").iterdir() if path.name.isdigit()}
        return sorted(pid for pid, path in processes.items() if _is_titled(path, title) and self.pid in _above(pid))


@contextmanager
def cluster(nodes: int = 2, cpus: int = 1) -> Iterator[RayCluster]:
    """Nodes with so many CPUs each. Skips the test where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'ingest[ray]'")
    words = [sys.executable, "-m", "tests.ray_cluster", str(nodes), str(cpus)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
        env=environment,
    )  # fmt: skip
    assert starter.stdin is not None
    assert starter.stdout is not None
    try:
        address = next((line.split()[1] for line in starter.stdout if line.startswith("address ")), None)
        if address is None:
            pytest.fail("the Ray cluster did not start")
        yield RayCluster(address, starter.pid)
    finally:
        starter.stdin.close()
        starter.stdout.close()
        try:
            starter.wait(60)
        except subprocess.TimeoutExpired:
            starter.kill()
            starter.wait()


def _is_titled(path: Path, title: str) -> bool:
    try:
        return path.joinpath("cmdline").read_bytes().startswith(title.encode())
    except OSError:
        return False


def _above(pid: int) -> set[int]:
    """A process and those it came from."""
    found: set[int] = set()
    while pid > 1:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def _run(nodes: int, cpus: int) -> None:
    from ray.cluster_utils import Cluster

    options = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES, "node_ip_address": "127.0.0.1"}
    started = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    for _ in range(nodes - 1):
        started.add_node(**options)
    print("address", started.address, flush=True)
    sys.stdin.read()
    started.shutdown()


if __name__ == "__main__":
    _run(int(sys.argv[1]), int(sys.argv[2]))
