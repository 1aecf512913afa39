"""The parts of README and docs that the code knows better: `python -m tests.readme` writes them anew."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import ingest
from ingest import errors
from ingest.cli.flags import SECTIONS
from ingest.config import Config

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"


def written(page: Path, name: str) -> str:
    """What a page has between `<!-- name -->` and `<!-- end -->`."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", page.read_text(encoding="utf-8"), re.DOTALL)
    assert match, name
    return match[1].strip()


def settings_table() -> str:
    """Every setting with its default, from `config.py`."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            default = "" if field.default in (None, ()) else f"`{field.default}`"
            rows.append(f"| `{section}.{name}` | {default} | {field.description} |")
    jobs = Config.model_fields["jobs"]
    rows.append(f"| `jobs` |  | {jobs.description} |")
    return "\n".join(rows)


def exits_table() -> str:
    """Every exit code, from the error tree."""
    branches = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.IngestError) and errors.IngestError in value.__bases__ and value.exit_code > 1
    ]
    rows = ["| code | meaning |", "|---|---|", "| 0 | all records complete |", "| 1 | some records not complete |"]
    rows += [
        f"| {branch.exit_code} | {(branch.__doc__ or '').splitlines()[0].partition('. ')[0].rstrip('.')} |"
        for branch in sorted(branches, key=lambda branch: branch.exit_code)
    ]
    rows.append("| 70 | a defect of this program; the traceback on stderr belongs into a report |")
    return "\n".join([*rows, "| 130, 143 | interrupted, terminated; every answer received is kept |"])


def recipes_table() -> str:
    """The recipes that come along."""
    rows = ["| recipe | what it extracts |", "|---|---|"]
    rows += [f"| `{name}` | {ingest.load_recipe(name).description} |" for name in ingest.recipe_names()]
    return "\n".join(rows)


def first_command() -> str:
    """The part of the first command that runs the main job."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(blocks[0].rpartition("&&")[2].strip().removeprefix(".venv/bin/"))


def output_block(folder: Path) -> str:
    """What the first command prints, with the seconds and the folder made the same every time."""
    command = [sys.executable, "-m", *first_command().split()[:-1], str(folder), "--quiet"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    text = re.sub(r" in [\d.]+ s;", " in 5.2 s;", done.stdout.replace(str(folder), "out"))
    return f"```text\n{text.strip()}\n```"


def pages() -> dict[Path, dict[str, str]]:
    """Every generated part of the documentation, by file and mark."""
    with tempfile.TemporaryDirectory() as folder:
        output = output_block(Path(folder) / "out")
    return {
        README: {"output": output, "recipes": recipes_table(), "exits": exits_table()},
        SETTINGS: {"settings": settings_table()},
    }


def main() -> None:
    """Write every generated part."""
    for page, parts in pages().items():
        text = page.read_text(encoding="utf-8")
        for name, part in parts.items():
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            text = re.sub(pattern, lambda match, part=part: f"{match[1]}{part}\n{match[2]}", text, flags=re.DOTALL)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
