"""Fields that running text answers: which rule finds what a property asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ingest.local.filler.addresses import is_title
from ingest.local.filler.documents import names_kind
from ingest.local.filler.fields import Field
from ingest.local.filler.found import Found
from ingest.local.filler.language import detect_language, language_names
from ingest.local.filler.prose_facts import field_topics
from ingest.local.filler.schema import MISSING, Node, fit
from ingest.local.filler.signatures import last_date

if TYPE_CHECKING:
    from ingest.local.filler.facts import Facts

# Topics other rules answer as well: of papers of sale they know more.
_SHARED = frozenset({"date", "author", "organisation", "recipient", "reference_number", "summary"})
_HEAD_ROWS = 16
_SAME_KINDS: Mapping[str, tuple[str, ...]] = {
    "non-disclosure": (
        "NDA",
        "non-disclosure agreement",
        "confidentiality agreement",
        "confidentiality",
        "nondisclosure",
    ),
    "services": (
        "service",
        "service agreement",
        "services agreement",
        "consulting",
        "consulting agreement",
        "maintenance",
    ),
    "licence": ("license", "license agreement", "licence agreement", "licensing"),
    "lease": ("lease agreement", "rental", "rental agreement", "tenancy"),
    "employment": ("employment agreement", "employment contract"),
    "purchase": ("sale", "sales", "purchase agreement", "sales agreement", "sale and purchase"),
    "supply": ("supply agreement",),
    "loan": ("loan agreement", "credit", "credit agreement"),
    "partnership": ("partnership agreement", "joint venture"),
    "amendment": ("addendum",),
}


def answers(asked: Field, facts: Facts) -> bool:
    """Whether the rules here decide about a field, so that no other rule is asked: their None then means not said."""
    topics = field_topics(asked)
    if not topics or len(asked.path) > 2:
        return False
    kind = facts.prose.kind
    if (kind == "agreement" and "agreements" in topics) or (kind == "paper" and "papers" in topics):
        return True
    topic = topics.get("documents")
    if topic is None:
        return topics.get("papers") in ("page_count", "abstract")
    if topic in _SHARED:
        if kind is not None or facts.prose.is_long_prose:
            return True
        if _sells(facts):
            return False
        return topic != "date" or facts.prose.is_prose or find(asked, {}, facts) is not None
    return True


def _sells(facts: Facts) -> bool:
    """Whether the document states a total to pay, or lists goods."""
    return bool(facts.item_rows) or any(facts.totals.get(name) for name in ("gross_total", "amount_due", "tax_total"))


def find(asked: Field, node: Node, facts: Facts) -> Found | None:
    """The value of a field that running text answers, or None."""
    topics = field_topics(asked)
    kind = facts.prose.kind
    if kind == "agreement" and "agreements" in topics:
        finder = _AGREEMENTS.get(topics["agreements"])
        return finder(facts, node) if finder else None
    if "papers" in topics and (kind == "paper" or topics["papers"] in ("page_count", "abstract")):
        finder = _PAPERS.get(topics["papers"])
        return finder(facts, node) if finder else None
    finder = _DOCUMENTS.get(topics.get("documents", ""))
    return finder(facts, node) if finder else None


def find_list(asked: Field, facts: Facts) -> list[Found] | None:
    """The values of a list that running text answers; None when the rules here do not know the list."""
    topics = field_topics(asked)
    prose = facts.prose
    if topics.get("papers") == "keywords":
        return prose.paper.keywords()
    if topics.get("papers") == "authors" and prose.kind == "paper":
        return [record["name"] for record in prose.authors]
    if topics.get("agreements") == "parties" and prose.kind == "agreement":
        return [Found(party.name, party.row, None, 0.75) for party in prose.parties]
    if topics.get("documents") == "sections":
        return [Found(section.printed, section.row, None, 0.6) for section in prose.headings.sections]
    if topics.get("documents") == "organisations":
        return _organisations(facts)
    if topics.get("documents") == "places":
        return prose.overview.places()
    if topics.get("documents") == "people":
        return [record["name"] for record in people(facts)]
    return None


def people(facts: Facts) -> list[dict[str, Found]]:
    """The people a document names for certain: authors of a paper, signers, and those of any document."""
    prose = facts.prose
    if prose.kind == "paper":
        return [{"name": record["name"]} for record in prose.authors]
    found = [{new: r[old] for new, old in (("name", "name"), ("role", "title")) if old in r} for r in prose.signatures]
    known = {str(record["name"].data) for record in found}
    found.extend(record for record in prose.overview.people() if str(record["name"].data) not in known)
    return found


def _organisations(facts: Facts) -> list[Found]:
    own = facts.prose.overview.organisation()
    found = facts.prose.overview.organisations()
    known = {str(name.data).casefold() for name in found}
    return [own, *found] if own and str(own.data).casefold() not in known else found


def _fitting(options: Iterable[str], node: Node, found: Found) -> Found | None:
    """The first of several words for one thing that the node takes."""
    for option in options:
        if fit(option, node) is not MISSING:
            return Found(option, found.row, found.label, found.confidence)
    return None


def _title(facts: Facts, node: Node) -> Found | None:
    """The title; of papers of sale the words that say what they are, wherever these stand in the head."""
    if _sells(facts) and facts.prose.kind is None:
        for row in facts.view.rows[:_HEAD_ROWS] if facts.prose.running.begins else ():
            for segment in row.segments:
                if is_title(segment.text) and names_kind(segment.text) and segment.text[:1].isupper():
                    return Found(segment.text.strip(), row, None, 0.7)
    title = facts.prose.headings.title
    return title[0] if title else None


def _contract_type(facts: Facts, node: Node) -> Found | None:
    title = _title(facts, node)
    kind = facts.prose.agreement.kind(str(title.data) if title else None)
    anchor = title or (Found("", facts.first_row, None, 0.5) if facts.first_row else None)
    if anchor is None:
        return None
    if kind is None:
        return _fitting(["other"], node, anchor) if node.get("enum") and facts.prose.running.begins else None
    return _fitting([kind, *_SAME_KINDS.get(kind, ()), "other"], node, Found(kind, anchor.row, None, 0.7))


def _contract_number(facts: Facts, node: Node) -> Found | None:
    """The number the title carries, or the one a label names."""
    title = _title(facts, node)
    if title:
        match = re.search(
            r"(?:\bNo\.?|\bNr\.?|\bN[°º]|#|\bnúm\.?|\bnumber)\s*:?\s*([A-Z0-9][\w./-]*\d[\w./-]*)",
            str(title.data),
            re.IGNORECASE,
        )
        if match:
            return Found(match[1].rstrip("."), title.row, None, 0.8)
    found = facts.prose.overview.reference()
    return found if found and found.label else None


def _signing_date(facts: Facts, node: Node) -> Found | None:
    return last_date(facts.prose.signatures)


def _effective_date(facts: Facts, node: Node) -> Found | None:
    agreement = facts.prose.agreement
    return agreement.effective_date() or last_date(facts.prose.signatures)


def _language(facts: Facts, node: Node) -> Found | None:
    detected = detect_language(facts.view.text)
    if detected is None:
        return None
    code, confidence = detected
    names = [name.capitalize() for name in language_names(code)]
    found = Found(code, facts.first_row, None, confidence)
    wants_name = re.search(
        r"\bname of the language\b|\bEnglish,|'English'|\"English\"", str(node.get("description", ""))
    )
    return _fitting([*names[:1], code] if wants_name else [code, *names], node, found)


def document_type(facts: Facts, node: Node) -> Found | None:
    """The kind of document, in the words of the node's enumeration where it has one."""
    prose = facts.prose
    options = prose.overview.kinds()
    first = facts.first_row
    if prose.kind == "paper":
        venue = prose.paper.venue()
        by_venue = (
            ["preprint"]
            if venue and str(venue.data) == "arXiv"
            else ["conference paper"]
            if venue and "roceedings" in str(venue.data)
            else ["journal article"]
        )
        options = [
            Found(word, first, None, 0.6)
            for word in [*by_venue, "research paper", "scientific article", "article", "paper"]
        ]
        if not node.get("enum"):
            options = options[1:]
    elif prose.kind == "agreement":
        options = [Found(word, first, None, 0.7) for word in ("contract", "agreement")] + options
    for option in options:
        found = _fitting([str(option.data)], node, option)
        if found:
            return found
    return None


def _date(facts: Facts, node: Node) -> Found | None:
    prose = facts.prose
    if prose.kind == "agreement":
        return _effective_date(facts, node)
    if prose.kind == "paper":
        date = prose.paper.publication_date()
        return date if date and len(str(date.data)) == 10 else None
    return prose.overview.date()


def _author(facts: Facts, node: Node) -> Found | None:
    if facts.prose.kind == "paper":
        names = [str(record["name"].data) for record in facts.prose.authors]
        return Found(", ".join(names), facts.prose.authors[0]["name"].row, None, 0.6) if names else None
    return facts.prose.overview.author() if facts.prose.kind is None else None


def _summary(facts: Facts, node: Node) -> Found | None:
    return (facts.prose.paper.abstract() if facts.prose.kind == "paper" else None) or facts.prose.overview.summary()


def _authors(facts: Facts, node: Node) -> Found | None:
    return _author(facts, node)


def _page_count(facts: Facts, node: Node) -> Found | None:
    pages = facts.view.pages
    whole = bool(pages) and pages[0].number <= 1 and not any(page.is_context for page in pages)
    return Found(float(len(pages)), facts.first_row, None, 0.6) if whole else None


def _abstract(facts: Facts, node: Node) -> Found | None:
    return facts.prose.paper.abstract()


_AGREEMENTS: Mapping[str, Callable[[Facts, Node], Found | None]] = {
    "contract_type": _contract_type,
    "contract_number": _contract_number,
    "effective_date": _effective_date,
    "signing_date": _signing_date,
    "expiration_date": lambda facts, _: facts.prose.agreement.expiration_date(),
    "term": lambda facts, _: facts.prose.agreement.term(),
    "renewal": lambda facts, _: facts.prose.agreement.clause("renewal"),
    "automatic_renewal": lambda facts, _: facts.prose.agreement.automatic_renewal(),
    "termination": lambda facts, _: facts.prose.agreement.clause("termination"),
    "notice_period": lambda facts, _: facts.prose.agreement.notice_period(),
    "confidentiality_period": lambda facts, _: facts.prose.agreement.confidentiality_period(),
    "governing_law": lambda facts, _: facts.prose.agreement.governing_law(),
    "jurisdiction": lambda facts, _: facts.prose.agreement.jurisdiction(),
    "contract_value": lambda facts, _: facts.prose.agreement.contract_value(),
    "payment_terms": lambda facts, _: facts.prose.agreement.clause("payment"),
    "liability_limit": lambda facts, _: facts.prose.agreement.clause("liability", count=1),
}
_PAPERS: Mapping[str, Callable[[Facts, Node], Found | None]] = {
    "abstract": _abstract,
    "authors": _authors,
    "publication_date": lambda facts, _: facts.prose.paper.publication_date(),
    "year": lambda facts, _: facts.prose.paper.year(),
    "venue": lambda facts, _: facts.prose.paper.venue(),
    "volume": lambda facts, _: facts.prose.paper.volume(),
    "issue": lambda facts, _: facts.prose.paper.issue(),
    "pages": lambda facts, _: facts.prose.paper.pages(),
    "doi": lambda facts, _: facts.prose.paper.doi(),
    "identifier": lambda facts, _: facts.prose.paper.identifier(),
    "funding": lambda facts, _: facts.prose.paper.funding(),
    "page_count": _page_count,
}
_DOCUMENTS: Mapping[str, Callable[[Facts, Node], Found | None]] = {
    "title": _title,
    "document_type": document_type,
    "language": _language,
    "date": _date,
    "author": _author,
    "organisation": lambda facts, _: facts.prose.overview.organisation(),
    "recipient": lambda facts, _: facts.prose.overview.recipient(),
    "reference_number": lambda facts, _: facts.prose.overview.reference(),
    "summary": _summary,
}
