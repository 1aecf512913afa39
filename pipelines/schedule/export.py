"""The same job for those who schedule elsewhere: systemd, cron, Kubernetes, Airflow.

Every text is escaped for its reader: an argument arrives as it was given, whatever is in it. Secrets stay in the
environment there too.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ingest
from pipelines.schedule.cron import Cron, weekday_names

if TYPE_CHECKING:
    from ingest.keeping.ledger.schedules import Schedule


KINDS = ("systemd", "cron", "kubernetes", "airflow")
"""Schedulers a job can be written for."""


def export(schedule: Schedule, kind: str, image: str = "ingest:latest") -> Mapping[str, str]:
    """Files by name that make a scheduler run the job; `kind` is one of `KINDS`.

    `image` is the container image for Kubernetes. Raises ConfigError when the scheduler cannot hold the job.
    """
    if kind == "kubernetes":
        return _kubernetes(schedule, image)
    return {"systemd": _systemd, "cron": _crontab, "airflow": _airflow}[kind](schedule)


def _systemd(schedule: Schedule) -> Mapping[str, str]:
    name = schedule.name
    command = " ".join(_systemd_word(word) for word in (sys.executable, "-P", "-m", "ingest", *schedule.arguments))
    directory = _one_line(schedule.directory, "systemd").replace("%", "%%")
    times = "\n".join(f"OnCalendar={line}" for line in _calendar(Cron(schedule.cron, schedule.timezone)))
    service = f"""[Unit]
Description=ingest: {name}

[Service]
Type=oneshot
WorkingDirectory={directory}
# Keys and addresses, as NAME=value lines; readable by root alone.
EnvironmentFile=-/etc/ingest/{name}.env
ExecStart={command}
"""
    timer = f"""[Unit]
Description=ingest: {name}

[Timer]
{times}
AccuracySec=1s
# One run after the machine was off, for all that was missed.
Persistent=true

[Install]
WantedBy=timers.target
"""
    return {f"ingest-{name}.service": service, f"ingest-{name}.timer": timer}


def _calendar(cron: Cron) -> tuple[str, ...]:
    """Times as systemd writes them (systemd.time(7)); two lines where cron means the day or the weekday."""
    fields = cron.fields
    days = ",".join(weekday_names(fields.weekdays)) if len(fields.weekdays) < 7 else ""
    months, dates = _numbers(fields.months, 12), _numbers(fields.days, 31)
    time = f"{_numbers(fields.hours, 24)}:{_numbers(fields.minutes, 60)}:00 {cron.timezone}"
    if fields.is_either_day:
        return f"{days} *-{months}-* {time}".strip(), f"*-{months}-{dates} {time}"
    return (f"{days} *-{months}-{dates} {time}".strip(),)


def _numbers(values: Sequence[int], count: int) -> str:
    return "*" if len(values) == count else ",".join(f"{value:02d}" for value in values)


def _systemd_word(word: str) -> str:
    """One word of ExecStart: quoted, with C escapes; % and $ doubled (systemd.service(5), command lines)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"' + "".join(char if char >= " " else f"\\x{ord(char):02x}" for char in escaped) + '"'


def _crontab(schedule: Schedule) -> Mapping[str, str]:
    command = shlex.join([sys.executable, "-P", "-m", "ingest", *schedule.arguments])
    line = f"cd {shlex.quote(schedule.directory)} && exec {command}"
    # In a crontab % ends the command, even inside quotes, and \\% stands for it; a backslash before it would be read
    # as part of that, so the quotes are closed and opened between the two.
    line = _one_line(line, "a crontab").replace("\\%", "\\''%").replace("%", "\\%")
    text = f"""# Variables such as INGEST_API_KEY stand above the line, or in the environment of cron.
# cronie reads CRON_TZ; Debian's cron does not, and takes the zone of the machine.
CRON_TZ={schedule.timezone}
{schedule.cron} {line}
"""
    return {f"ingest-{schedule.name}.crontab": text}


def _kubernetes(schedule: Schedule, image: str) -> Mapping[str, str]:
    name = f"ingest-{re.sub('[^a-z0-9-]+', '-', schedule.name.lower()).strip('-')}"[:52].rstrip("-")
    # Kubernetes replaces $(NAME) in arguments and leaves $$(NAME) as $(NAME).
    arguments = "\n".join(f"                - {_yaml(word.replace('$(', '$$('))}" for word in schedule.arguments)
    text = f"""apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: {_yaml(_zero_based(schedule))}
  timeZone: {_yaml(schedule.timezone)}
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: ingest
              image: {_yaml(image)}
              workingDir: {_yaml(schedule.directory)}
              command: ["python", "-P", "-m", "ingest"]
              args:
{arguments}
              # Keys and addresses: kubectl create secret generic {name} --from-literal=INGEST_API_KEY=...
              envFrom:
                - secretRef:
                    name: {name}
                    optional: true
              # Mount the documents and the output folder here.
              volumeMounts: []
          volumes: []
"""
    return {f"{name}.yaml": text}


def _zero_based(schedule: Schedule) -> str:
    """The cron line with Sunday as 0, since Kubernetes knows no 7."""
    *rest, weekday = schedule.cron.split()
    if "7" in weekday and not weekday.startswith("*"):
        weekday = ",".join(str(day) for day in Cron(schedule.cron, schedule.timezone).fields.weekdays)
    return " ".join([*rest, weekday])


def _yaml(text: str) -> str:
    """A YAML scalar: what JSON quotes, YAML reads alike, once the few signs YAML breaks lines at are escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found.group()):04x}", quoted)


def _airflow(schedule: Schedule) -> Mapping[str, str]:
    text = f'''"""The job {schedule.name}, for Airflow 2.8 and later. Keys come from the environment of the worker."""

import subprocess
from datetime import datetime, timezone

from airflow.timetables.trigger import CronTriggerTimetable

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

COMMAND = {["python", "-P", "-m", "ingest", *schedule.arguments]!r}
DIRECTORY = {schedule.directory!r}


@dag(
    dag_id={f"ingest-{schedule.name}"!r},
    schedule=CronTriggerTimetable({_zero_based(schedule)!r}, timezone={schedule.timezone!r}),
    start_date=datetime({schedule.added_at:%Y, %-m, %-d}, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
)
def job():
    @task
    def ingest():
        subprocess.run(COMMAND, cwd=DIRECTORY, check=True)

    ingest()


job()
'''
    return {f"ingest_{re.sub('[^A-Za-z0-9]+', '_', schedule.name)}.py": text}


def _one_line(text: str, reader: str) -> str:
    if any(char in text for char in "\n\r\x00"):
        raise ingest.ConfigError(f"{reader} cannot hold a line break inside a job: put the text into a file, as @FILE")
    return text
