"""What a `--to` means: a kind of sink, its place, and its options."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, unquote

from ingest.errors import ConfigError, OutputError
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

    def failed(self, reason: object) -> OutputError:
        """The error that says what became of a sink, and what to do."""
        told = f"{type(reason).__name__}: {self._hide(str(reason))}"
        return OutputError(
            f"cannot write to {self.label} ({told}); answers are kept: mend it and run the same command again"
        )

    def _hide(self, text: str) -> str:
        """The first line of a message, without whatever of the URL the label does not show."""
        line = text.strip().partition("\n")[0]
        words = re.split(r"[:/@?&=#]+", self.url)
        for word in sorted({*words, *map(unquote, words)}, key=len, reverse=True):
            if len(word) > 2 and word not in self.label:
                line = line.replace(word, "***")
        return line

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


def local_places(to: Iterable[str]) -> frozenset[Path]:
    """Files and folders of this machine that are written to: they are results, and no documents.

    Raises ConfigError for a target that is none.
    """
    targets = [read_target(text) for text in to]
    places = [target.url for target in targets if target.kind in ("json", "jsonl", "parquet")]
    places += [target.url.partition("///")[2].partition("?")[0] for target in targets if target.kind == "sqlite"]
    return frozenset(Path(place).absolute() for place in places if place and "://" not in place)


def mask(url: str) -> str:
    """A URL for people: without password and without query, where keys may stand, however it is malformed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return re.sub(r":[^:]*@", ":***@", url)
    plain, _, query = rest.partition("?")
    if "@" in query:
        # The question mark may be part of the password.
        return f"{scheme}://…"
    user, at, place = plain.rpartition("@")
    host, colon, port = plain.partition("/")[0].partition(":")
    if not at and colon and not port.isdigit():
        return f"{scheme}://{host}:***"
    return f"{scheme}://{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{place}"
