"""Exports: other schedulers read the same times and hand over the same arguments."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import ConfigError
from ingest.keeping.ledger.schedules import Schedule

pytest.importorskip("cronsim", reason="needs the extra digest")
from pipelines.schedule.cron import Cron
from pipelines.schedule.export import KINDS, _calendar, export

NOW = datetime(2026, 3, 2, tzinfo=UTC)
HARD = (
    "run",
    "in box/ü 50%",
    "-i",
    "say \"x\" 'y' $HOME $(id) `id` %n \\% {{ ds }} ; # & \\",
    "--to",
    "env:TEAM",
    ";",
    "",
)


def job(cron: str = "0 7 * * 1-5", arguments: tuple[str, ...] = HARD, name: str = "Morning_1.x") -> Schedule:
    return Schedule(name, cron, "Europe/Berlin", arguments, "/srv/in box", NOW, NOW)


def texts(kind: str, schedule: Schedule) -> list[str]:
    return list(export(schedule, kind).values())


def test_a_crontab_line_hands_over_the_arguments_to_the_letter(tmp_path: Path) -> None:
    """Cron and the shell both have signs of their own; a file name may hold any of them."""
    schedule = Schedule("a", "0 7 * * 1-5", "Europe/Berlin", HARD, str(tmp_path), NOW, NOW)
    line = texts("cron", schedule)[0].splitlines()[-1]
    assert line.startswith("0 7 * * 1-5 cd ")
    command = _as_cron_reads_it(line.removeprefix("0 7 * * 1-5 "))
    told = "import sys, json; print(json.dumps([sys.argv[1:]]))"
    command = command.replace(f"{shlex.quote(sys.executable)} -P -m ingest", shlex.join([sys.executable, "-c", told]))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(HARD)]


def _as_cron_reads_it(command: str) -> str:
    """The command as Vixie's cron and its children see it: a backslash guards the next sign, % ends it."""
    read, is_escaped = "", False
    for char in command:
        if is_escaped and char == "%":
            read = read[:-1] + char
            is_escaped = False
            continue
        if not is_escaped and char == "%":
            break
        is_escaped = char == "\\" and not is_escaped
        read += char
    return read


def test_kubernetes_gets_a_valid_cron_job() -> None:
    """A manifest that does not parse, or runs twice at once, is no export."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    manifest: dict[str, Any] = yaml.safe_load(texts("kubernetes", job())[0])
    spec = manifest["spec"]
    container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    assert manifest["metadata"]["name"] == "ingest-morning-1-x"
    assert (spec["schedule"], spec["timeZone"]) == ("0 7 * * 1-5", "Europe/Berlin")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert [word.replace("$$(", "$(") for word in container["args"]] == list(HARD)
    assert container["workingDir"] == "/srv/in box"
    hard = "\x7f\x85\u2028\ufeff\t\x1b😀"
    again = yaml.safe_load(texts("kubernetes", job(arguments=("run", hard)))[0])
    assert again["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"] == ["run", hard]


@pytest.mark.parametrize(("line", "sent"), [("0 7 * * 7", "0 7 * * 0"), ("0 7 * * 5-7", "0 7 * * 0,5,6")])
def test_kubernetes_knows_sunday_only_as_zero(line: str, sent: str) -> None:
    """Kubernetes refuses the 7 that cron takes."""
    assert f'schedule: "{sent}"' in texts("kubernetes", job(line))[0]


def test_the_dag_file_is_python_and_runs_the_command_once_at_a_time() -> None:
    """A DAG file that does not load takes down the list of DAGs."""
    text = texts("airflow", job())[0]
    compiled = compile(text, "dag.py", "exec")
    constants = {name: value for name, value in _constants(text).items() if name in compiled.co_names}
    assert constants["COMMAND"] == ["python", "-P", "-m", "ingest", *HARD]
    assert constants["DIRECTORY"] == "/srv/in box"
    assert "max_active_runs=1" in text
    assert "CronTriggerTimetable('0 7 * * 1-5', timezone='Europe/Berlin')" in text


def _constants(text: str) -> dict[str, object]:
    import ast

    found = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in found if isinstance(node.targets[0], ast.Name)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 7 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 07:00:00 Europe/Berlin"]),
        ("*/15 * * * *", ["*-*-* *:00,15,30,45:00 Europe/Berlin"]),
        ("30 6 1,15 * *", ["*-*-01,15 06:30:00 Europe/Berlin"]),
        ("0 0 13 * 7", ["Sun *-*-* 00:00:00 Europe/Berlin", "*-*-13 00:00:00 Europe/Berlin"]),
        ("5 4 * 2,3 0", ["Sun *-02,03-* 04:05:00 Europe/Berlin"]),
    ],
)
def test_systemd_times_are_the_same_times(line: str, expected: list[str]) -> None:
    """What cron says in five fields, systemd says otherwise; the days must not shift."""
    assert list(_calendar(Cron(line, "Europe/Berlin"))) == expected


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("line", ["0 7 * * 1-5", "*/20 8-17 * * *", "30 2 * * 0", "0 0 13 * *"])
def test_systemd_itself_reads_the_times_alike(line: str) -> None:
    """The judge of a timer is systemd."""
    cron = Cron(line, "Europe/Berlin")
    (calendar,) = _calendar(cron)
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=1", "--base-time=2026-03-02 00:00:00 UTC", calendar],
        capture_output=True,
        text=True,
        env={"TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    shown = next(row.partition(":")[2].strip() for row in done.stdout.splitlines() if "Next elapse" in row)
    assert shown == f"{cron.next(NOW):%a %Y-%m-%d %H:%M:%S UTC}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """A unit with a quoting error is refused only when it is installed, far from here."""
    schedule = Schedule("a", "0 7 * * 1-5", "Europe/Berlin", HARD, str(tmp_path), NOW, NOW)
    for name, text in export(schedule, "systemd").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [row for row in done.stderr.splitlines() if "ingest-a" in row]
    assert complaints == []


def test_a_systemd_command_line_is_quoted() -> None:
    """systemd expands % and $ and reads C escapes; none of these may touch a file name."""
    (line,) = [row for row in texts("systemd", job())[0].splitlines() if row.startswith("ExecStart=")]
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line.removeprefix("ExecStart="))]
    assert words[-len(HARD) :] == list(HARD)


@pytest.mark.parametrize("kind", ["systemd", "cron"])
def test_a_line_break_that_a_scheduler_cannot_hold_is_told(kind: str) -> None:
    """A folder or text with a line break must not become a second line of somebody's crontab."""
    broken = Schedule("a", "0 7 * * *", "UTC", ("run", "x"), "/srv/a\n* * * * * root id", NOW, NOW)
    with pytest.raises(ConfigError, match="line break"):
        export(broken, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_export_holds_a_secret(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are committed and mailed around."""
    monkeypatch.setenv("TEAM", "slack://hunter2")
    assert "hunter2" not in "".join(texts(kind, job(arguments=("digest", "x", "--to", "env:TEAM"))))
