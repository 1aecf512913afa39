"""`ingest doctor`: what is installed, what is configured, what is missing."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import Literal, NamedTuple, TypeAlias

import click

from ingest.cli.options import DEFAULT_PROFILE, LOCAL_PROFILE
from ingest.cli.output import is_color, say, say_json
from ingest.errors import ConfigError, IngestError
from ingest.profile import Profile, load_profile

State: TypeAlias = Literal["ok", "absent", "drift", "missing"]
"""`absent` is something one may do without, `drift` a figure that the endpoint states otherwise than the profile,
`missing` something nothing works without."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"]([^'\"]+)['\"])?")


class Finding(NamedTuple):
    """One line of the report."""

    about: str
    state: State
    told: str


@click.command()
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, envvar="INGEST_PROFILE", metavar="NAME|FILE")
@click.option("--base-url", envvar="INGEST_BASE_URL", metavar="URL", help="Where the API is. Default: the profile's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def doctor(profile: str, base_url: str | None, as_json: bool) -> int:
    """Check what is installed and configured; keys are named, never shown.

    With a key (or a server on this machine) the endpoint is asked what it says of the model, and prices and limits
    that differ from the profile's are shown as drift. No document is read, and nothing is bought. The exit code is 1
    when something is missing that nothing works without.
    """
    from ingest.showing.report import Look, findings_table

    findings = [*_python(), *_packages(), *_recipes(), *_endpoint(load_profile(profile), base_url)]
    if as_json:
        say_json([finding._asdict() for finding in findings])
    else:
        say(findings_table(findings, Look(color=is_color())))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _python() -> Iterator[Finding]:
    state: State = "ok" if sys.version_info >= (3, 11) else "missing"
    yield Finding("python", state, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        yield Finding("ingest", "ok", metadata.version("ingest"))
    except metadata.PackageNotFoundError:
        yield Finding("ingest", "missing", "not installed, only importable: pip install -e .")


def _packages() -> Iterator[Finding]:
    """Required packages one by one, extras as wholes."""
    try:
        requirements = metadata.requires("ingest") or []
    except metadata.PackageNotFoundError:
        return
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            continue
        name, extra = match.groups()
        if extra is None:
            version = _version(name)
            yield Finding(name, "ok" if version else "missing", version or f"not installed: pip install {name}")
        elif name != "ingest":
            extras.setdefault(extra, []).append(name)
    for extra, names in extras.items():
        if extra == "dev":
            continue
        lacking = [name for name in names if _version(name) is None]
        told = f"{', '.join(lacking)} not installed: pip install 'ingest[{extra}]'" if lacking else ", ".join(names)
        yield Finding(f"extra {extra}", "absent" if lacking else "ok", told)
    yield _ocr()
    office = shutil.which("soffice") or shutil.which("libreoffice")
    yield Finding("LibreOffice", "ok" if office else "absent", office or "not found: ODF, RTF and DOC cannot be read")


def _ocr() -> Finding:
    if find_spec("rapidocr") is None or find_spec("onnxruntime") is None:
        return Finding("OCR engine", "absent", "not installed: --local reads text layers only")
    return Finding("OCR engine", "ok", f"rapidocr {_version('rapidocr')} on onnxruntime {_version('onnxruntime')}")


def _recipes() -> Iterator[Finding]:
    from ingest.cli.jobs import find_job
    from ingest.recipes import recipe_names

    try:
        names = recipe_names()
        yield Finding("recipes", "ok" if names else "missing", ", ".join(names) or "none: reinstall the package")
    except IngestError as error:
        yield Finding("recipes", "missing", error.message)
    try:
        find_job("folder")
    except ConfigError as error:
        yield Finding("job folder", "missing", error.message)


def _endpoint(profile: Profile, base_url: str | None) -> Iterator[Finding]:
    yield Finding("profile", "ok", f"{profile.name}: model {profile.model}")
    url = base_url or profile.base_url
    yield Finding("endpoint", "ok" if url else "absent", url or "none: give --base-url")
    names = (*profile.api_key_env, "INGEST_API_KEY")
    present = next((name for name in names if os.environ.get(name)), None)
    told = f"present in {present}" if present else f"none: set {' or '.join(names)}, or run with --local"
    yield Finding("API key", "ok" if present else "absent", told)
    if url:
        yield from _model_card(profile, base_url)


def _model_card(profile: Profile, base_url: str | None) -> Iterator[Finding]:
    """What the endpoint says of the model, against the profile."""
    from ingest.config import resolve_endpoint

    if profile.name == LOCAL_PROFILE:
        return
    try:
        endpoint = resolve_endpoint(profile, base_url=base_url, protocol=profile.protocols[0])
    except ConfigError:
        return  # no key, and the line above says so
    from ingest.asking.client import fetch_model_card
    from ingest.planning.drift import find_drift, has_figures

    try:
        card = asyncio.run(fetch_model_card(endpoint, profile.model))
    except IngestError as error:
        yield Finding("model card", "absent", error.message)
        return
    if card is None or not has_figures(card):
        yield Finding("model card", "absent", f"the endpoint says nothing of {profile.model} that could be compared")
        return
    drift = find_drift(profile, card)
    for sentence in drift:
        yield Finding("model card", "drift", f"{sentence}: correct it in a profile file of your own")
    if not drift:
        yield Finding("model card", "ok", f"prices and limits of {profile.model} are those of the profile")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
