"""A PostgreSQL server of a test's own: made in a temporary folder, on loopback, gone when the tests end.

Use the fixture `postgres` and ask it for a fresh database per test:
`postgres.database()` gives an address such as `postgresql+psycopg://ingest@127.0.0.1:40123/ledger_1`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

USER = "ingest"
_START_S = 30.0
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(slots=True)
class Postgres:
    """A running server. `port` is on 127.0.0.1; everybody on this machine may connect without a password."""

    port: int
    pid: int
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def address(self, database: str = "postgres", scheme: str = "postgresql+psycopg") -> str:
        """The address of a database for SQLAlchemy (or with `scheme` "postgresql" for anybody else)."""
        return f"{scheme}://{USER}@127.0.0.1:{self.port}/{database}"

    def database(self, scheme: str = "postgresql+psycopg") -> str:
        """The address of a new, empty database."""
        import psycopg

        name = f"ledger_{next(self._numbers)}"
        with psycopg.connect(self.address(scheme="postgresql"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.address(name, scheme)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole session of tests; skipped where its programs are not installed."""
    with start() as server:
        yield server


@contextmanager
def start(*settings: str) -> Iterator[Postgres]:
    """A server with settings such as "fsync=on"; it is quick, and not safe against a loss of power, without them.

    It ends with the context, and when this process dies. Skips the test where it cannot be started.
    """
    folder, prefix = _programs(), _as_somebody()
    home = Path(tempfile.mkdtemp(prefix="ingest-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
        make = [*prefix, str(folder / "initdb"), "-D", str(home / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
        subprocess.run([*make, "--locale", "C", "--no-sync"], check=True, capture_output=True, cwd="/")
        port = _free_port()
        options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "fsync=off"]
        run = [*prefix, str(folder / "postgres"), "-D", str(home / "data")]
        for option in (*options, *settings):
            run += ["-c", option]
        with (home.parent / f"{home.name}.log").open("wb") as log:
            server = subprocess.Popen(run, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        try:
            _wait_for(server, port, Path(log.name))
            yield Postgres(port, server.pid)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            Path(log.name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _programs() -> Path:
    """The folder of the server's programs, the newest of those installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'ingest[postgres]'")
    found = shutil.which("initdb")
    if found is not None and (Path(found).parent / "postgres").exists():
        return Path(found).parent
    versions = [path.parent for path in _DEBIAN.glob("*/bin/initdb") if (path.parent / "postgres").exists()]
    if not versions:
        pytest.skip("the PostgreSQL server is not installed (Debian: postgresql)")
    return max(versions, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)


def _as_somebody() -> list[str]:
    """The words before a program: the server refuses to run as root, and has to die with us."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (util-linux)")
    # SIGINT is a fast shutdown: open sessions are ended.
    words = ["setpriv", "--pdeathsig", "INT"]
    if os.geteuid() != 0:
        return words
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("root cannot start PostgreSQL without a user called postgres")
    return [*words, "--reuid", "postgres", "--regid", "postgres", "--init-groups"]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        else:
            return
