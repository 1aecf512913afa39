"""What a `--to` means: a kind of sink, its place, and its options."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ingest.errors import ConfigError
from ingest.keeping.sinks import KINDS, SUFFIXES

_SCHEME = re.compile(r"([a-z][a-z0-9]*)(?:\+[a-z0-9_]+)?:", re.IGNORECASE)
_ALIASES = {"postgres": "postgresql"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where records go. `url` may hold a password; `label` is what people are shown and never does."""

    kind: str
    url: str = field(repr=False)
    label: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def take_no_options(self, known: Collection[str] = ()) -> None:
        """Raise ConfigError for an option that is not one of `known`."""
        for name in self.options.keys() - set(known):
            knows = f"only {', '.join(known)}" if known else "none"
            raise ConfigError(f"--to {self.label}: there is no option {name!r} here, {knows}")


def read_target(text: str) -> Target:
    """What a `--to` names: `-`, a path or URL with a known suffix, a database's URL, or `KIND:PLACE?OPTION=VALUE`.

    Raises ConfigError for anything else.
    """
    if text == "-":
        return Target("-", text, "stdout")
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else ""
    kind = _ALIASES.get(kind, kind)
    if scheme and kind in ("sqlite", "postgresql"):
        return Target(kind, text, mask(text))
    if scheme and kind in KINDS:
        place, _, query = text[scheme.end() :].partition("?")
        if not place:
            raise ConfigError(f"--to {kind}: names no place: write {kind}:PATH")
        return Target(kind, place, mask(place), dict(parse_qsl(query, keep_blank_values=True)))
    suffix = PurePosixPath(text).suffix.lower()
    if suffix in SUFFIXES:
        return Target(SUFFIXES[suffix], text, mask(text))
    known = ", ".join([*(f"NAME{end}" for end in SUFFIXES), *(f"{kind}:…" for kind in KINDS if kind != "-"), "-"])
    raise ConfigError(f"--to {mask(text)}: cannot tell what to write there; known are {known}")


def mask(url: str) -> str:
    """A URL for people: without password and without query, where keys may stand."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    user, at, host = parts.netloc.rpartition("@")
    if at:
        host = f"{user.partition(':')[0]}{':***' if ':' in user else ''}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
