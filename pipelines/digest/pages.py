"""The two pages of a digest, Markdown and HTML, from its data. Both stand alone: nothing is fetched, nothing runs.

Everything that comes from documents is escaped: in HTML by the template engine, in Markdown by `markdown_text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context

from pipelines.digest.model import Attention, Digest, DocumentChange, DocumentKind, Place, Statement
from pipelines.digest.wording import (
    difference,
    happened,
    is_item,
    place_text,
    pointer_text,
    quote_text,
    value_text,
)

TO_OUTPUT = "../../../"
"""From a digest's folder to the output folder."""

_KINDS: tuple[tuple[DocumentKind, str], ...] = (
    ("failed", "Failed"),
    ("open", "Not read yet"),
    ("changed", "Changed"),
    ("added", "New"),
    ("renamed", "Renamed"),
    ("removed", "Gone"),
    ("recovered", "Readable again"),
)
_TROUBLE: tuple[DocumentKind, ...] = ("failed", "open")
_MADE_BY = {
    "model": "Statements by {model}, each checked against the facts it cites.",
    "rules": "Made by rules, no model.",
    "nobody": "Made by rules; no model was asked.",
}
_FACTS_OPEN = 12
"""Documents with up to so many facts show them at once."""
_NEW_WITH_FACTS = 200
"""New documents shown with their facts; of more only the name, since the record has them all."""
_FACTS_IN_MARKDOWN = 20
"""Facts of one document in Markdown, which goes to chats and terminals; the HTML page has all."""

# What means something anywhere in a line; what makes a line a heading, a list or a rule; what becomes a link by itself.
_MARKDOWN = re.compile(
    r"[\\`*_{}\[\]<>|~&$@]|^[#+=-]|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)|!(?=\[)|:(?=//)|(?<=\bwww)\."
)


@dataclass(frozen=True, slots=True)
class Section:
    """Statements under one heading, each with the facts it cites and their documents."""

    title: str
    statements: tuple[tuple[Statement, tuple[tuple[str, DocumentChange, Place | None], ...]], ...]


def markdown_page(digest: Digest) -> str:
    """The digest as Markdown."""
    return _render("digest.md.j2", digest)


def html_page(digest: Digest) -> str:
    """The digest as one HTML file."""
    return _render("digest.html.j2", digest)


def headline(digest: Digest) -> str:
    """What is new in one line: the subject of a mail."""
    if digest.is_empty:
        return f"{digest.title}: nothing new"
    counts = [f"{len(group)} {title.lower()}" for title, group in groups(digest)]
    new = sum(item.is_new for item in digest.attention)
    need = [f"{new} need{'s' if new == 1 else ''} attention"] if new else []
    return f"{digest.title}: {', '.join(need + counts)}"


def groups(digest: Digest) -> list[tuple[str, list[DocumentChange]]]:
    """Documents by what became of them, in the order they are shown; none that is empty."""
    grouped = ((title, [one for one in digest.documents if one.kind == kind]) for kind, title in _KINDS)
    return [(title, found) for title, found in grouped if found]


def alerts(items: Iterable[Attention]) -> list[tuple[str, list[Attention]]]:
    """What asks for attention, by alert; the new ones first."""
    names = list(dict.fromkeys(item.alert for item in items))
    return [
        (name, sorted((i for i in items if i.alert == name), key=lambda i: (not i.is_new, i.name))) for name in names
    ]


def sections(digest: Digest) -> list[Section]:
    """Statements under their headings, in the order of the headings' first statements."""
    where = {fact.id: (document, fact) for document in digest.documents for fact in document.facts}
    found: dict[str, list[Any]] = {}
    for statement in digest.statements:
        cited = []
        for name in statement.facts:
            document, fact = where[name]
            cited.append((name, document, fact.evidence[0] if fact.evidence else None))
        found.setdefault(statement.section, []).append((statement, _once(cited)))
    return [Section(title, tuple(statements)) for title, statements in found.items()]


def brief(digest: Digest) -> set[str]:
    """Names of new documents shown without their facts: the later ones of very many that no statement cites."""
    cited = {name for statement in digest.statements for name in statement.facts}
    new = [one for one in digest.documents if one.kind == "added"][_NEW_WITH_FACTS:]
    return {one.name for one in new if not any(fact.id in cited for fact in one.facts)}


def markdown_text(text: object) -> str:
    """Text that stays text in Markdown: one line, with every sign that means something escaped."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(str(text).split()))


@pass_context
def record_link(context: Context, record: str) -> str:
    """The address of a record's file: where the recipe says that readers find it, else relative to the page."""
    base = context["digest"].records_at
    return f"{base.rstrip('/')}/{quote(record)}" if base else TO_OUTPUT + quote(record)


def source_link(source: str, place: Place | None = None) -> str:
    """The address of the document itself, at the page; empty for what no reader opens (a bucket, a pipe).

    Of what came in an e-mail or an archive it is the address of that, without a page.
    """
    parts = urlsplit(source)
    if parts.scheme not in ("file", "http", "https"):
        return ""
    if parts.fragment:
        return "" if place is not None else source.partition("#")[0]
    if place is not None and place.page is not None:
        return f"{source}#page={place.page}"
    return f"{source}#t={place.start_s:g}" if place is not None and place.start_s is not None else source


def _once(
    cited: Sequence[tuple[str, DocumentChange, Place | None]],
) -> tuple[tuple[str, DocumentChange, Place | None], ...]:
    """Citations without a second one of the same place in the same document."""
    found: dict[tuple[object, ...], tuple[str, DocumentChange, Place | None]] = {}
    for name, document, place in cited:
        key = (document.name, place.page if place else None, place.start_s if place else None)
        found.setdefault(key, (name, document, place))
    return tuple(found.values())


def _render(template: str, digest: Digest) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            digest=digest,
            headline=headline(digest),
            troubles=[(title, found) for title, found in groups(digest) if found[0].kind in _TROUBLE],
            groups=[(title, found) for title, found in groups(digest) if found[0].kind not in _TROUBLE],
            alerts=alerts(digest.attention),
            sections=sections(digest),
            made_by=_MADE_BY[digest.made_by].format(model=digest.model or "the model"),
            brief=brief(digest),
            facts_open=_FACTS_OPEN,
            facts_in_markdown=_FACTS_IN_MARKDOWN,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.digest", "templates"),
        autoescape=select_autoescape(disabled_extensions=("md.j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "difference": difference,
        "happened": happened,
        "values_first": lambda facts: sorted(facts, key=is_item),
        "md": markdown_text,
        "window": _window,
        "place": place_text,
        "pointer": pointer_text,
        "quoted": quote_text,
        "record": record_link,
        "source": source_link,
        "value": value_text,
    }
    return environment


def _window(digest: Digest) -> str:
    """`2026-11-21 07:00 to 2026-11-22 07:00 UTC`; the day once when it is the same."""
    start, end = digest.window_start, digest.window_end
    if start is None:
        return f"until {end[:10]} {end[11:16]} UTC"
    day = "" if start[:10] == end[:10] else f"{end[:10]} "
    return f"{start[:10]} {start[11:16]} to {day}{end[11:16]} UTC"
