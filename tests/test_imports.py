"""Who may import whom, and what an import may cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = {
    "PIL", "apscheduler", "av", "click", "fsspec", "httpx", "jsonschema", "numpy", "onnxruntime", "pandas", "pebble",
    "polars", "pyarrow", "pymupdf", "rapidocr", "ray", "rich", "sqlalchemy", "stamina", "starlette", "uvicorn",
}  # fmt: skip
"""Packages that nobody should wait for who does not use them."""


def loaded_by(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running `code`."""
    program = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return HEAVY & set(done.stdout.splitlines()[-1].split())


def called(*args: str) -> str:
    """Code that calls the command line and lives on."""
    return f"from ingest.cli.app import app\ntry:\n    app({list(args)!r})\nexcept SystemExit:\n    pass\n"


def test_import_contracts_hold() -> None:
    """The layout stays what it says: steps are strangers, and the referee shares nothing."""
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_import_ingest_loads_nothing_heavy() -> None:
    """A program that only wants the types must not pay for MuPDF."""
    assert loaded_by("import ingest") == set()


def test_every_public_name_can_be_had_and_is_sorted() -> None:
    """What the front door announces must be there, in an order that makes a diff readable."""
    import ingest

    assert list(ingest.__all__) == sorted(ingest.__all__)
    for name in ingest.__all__:
        assert getattr(ingest, name) is not None


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        (("--help",), {"click"}),
        (("--version",), {"click"}),
        (("run", "--help"), {"click"}),
        (("doctor", "--help"), {"click"}),
        (("status", "/nowhere"), {"click", "rich"}),
    ],
)
def test_commands_load_only_what_they_use(args: tuple[str, ...], allowed: set[str]) -> None:
    """Help that takes a second feels broken."""
    assert loaded_by(called(*args)) - allowed == set()


def test_a_refused_command_reads_no_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A missing key is told before MuPDF and the network are even loaded."""
    assert loaded_by(called("run", "nothing", "--recipe", "nope")) & {"pymupdf", "httpx", "sqlalchemy", "av"} == set()
