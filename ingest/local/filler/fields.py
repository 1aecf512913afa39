"""What a property of a schema asks for, told from its name, its parents' names, its title and its description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.local.filler import vocabulary
from ingest.local.filler.schema import Node, types_of
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.vocabulary import Vocabulary

# Words that say which party of a document a property belongs to.
ROLES: Mapping[str, frozenset[str]] = {
    "seller": frozenset(
        "seller vendor supplier issuer merchant company store shop from biller provider sender lieferant verkaeufer "
        "verkaufer rechnungssteller fournisseur vendeur emetteur proveedor vendedor emisor fornitore leverancier "
        "verkoper retailer creditor payee business restaurant hotel".split()
    ),
    "buyer": frozenset(
        "buyer customer client recipient purchaser billto bill invoicee kunde kaufer kaeufer empfanger empfaenger "
        "acheteur destinataire comprador cliente destinatario klant koper debtor consumer guest addressee "
        "billed".split()
    ),
    "ship_to": frozenset(
        "shipto shipping delivery consignee warenempfaenger lieferadresse livraison entrega deliver ship".split()
    ),
    "agency": frozenset(["agency"]),
}
# Words that say which detail of a party is asked for.
_WORDS_OF_ATTRIBUTE: Mapping[str, str] = {
    "name": "name company title nom nombre firma",
    "address": "address adresse direccion anschrift indirizzo adres location addr",
    "street": "street strasse rue calle line1 straat address1",
    "postcode": "zip postcode postal plz zipcode cp",
    "city": "city town ort stadt ville ciudad plaats locality",
    "state": "state province region",
    "country": "country land pays pais",
    "tax_id": "tax vat siret nif cif ustid gstin tva steuernummer taxid vatid registration",
    "email": "email mail",
    "phone": "phone tel telephone telefon",
    "website": "website web url",
    "fax": "fax",
}
_ATTRIBUTES = {word: attribute for attribute, words in _WORDS_OF_ATTRIBUTE.items() for word in words.split()}
_FILLERS = frozenset(
    "the of a de la le du der die das number no nr id value code details info information full printed".split()
)
_ISO_HINT = re.compile(r"\(date as YYYY-MM-DD\)|YYYY-MM-DD|ISO 8601 date", re.IGNORECASE)
_TIME_HINT = re.compile(r"\bHH:MM\b|\(time as", re.IGNORECASE)
_DOC_WORDS = frozenset(
    "invoice receipt document bill header summary totals total amounts details data rechnung facture factura".split()
)


@dataclass(frozen=True, slots=True)
class Field:
    """What a property asks for: a concept or a detail of a party, the kind of its value, its own words."""

    path: tuple[str, ...]
    concept: str | None
    kind: str
    role: str | None
    attribute: str | None
    own_labels: tuple[str, ...]
    description: str

    @property
    def name(self) -> str:
        """The property's name, or "" for the root."""
        return self.path[-1] if self.path else ""


def describe(path: Sequence[str], node: Node, words: Vocabulary | None = None) -> Field:
    """The field a property at this path (names from the root, array indexes left out) asks for."""
    known = words or vocabulary.header()
    name = path[-1] if path else ""
    title, description = str(node.get("title") or ""), str(node.get("description") or "")
    role, attribute = _party(tuple(path), description)
    concept = None if role and attribute not in (None, "tax_id") else _concept(tuple(path), title, known)
    if attribute and role and not (concept and _is_stronger(concept, path, role)):
        concept = None
    else:
        role = attribute = None
    if concept is None and attribute is None:
        role, attribute = _lone_attribute(tuple(path))
    if concept is None and attribute is None:
        concept = _from_description(description, known)
    kind = _kind(concept, known, node, name, title, description)
    return Field(tuple(path), concept, kind, role, attribute, _own_labels(name, title), description)


def _is_stronger(concept: str, path: Sequence[str], role: str) -> bool:
    """Whether a concept (such as customer_number) beats reading the name as a detail of a party."""
    return concept not in ("tax_id", "email", "phone", "website", "fax") and len(name_words(path[-1])) > 1


@lru_cache(maxsize=4096)
def _party(path: tuple[str, ...], description: str) -> tuple[str | None, str | None]:
    """Role and detail of a party the last two names of a path speak of."""
    if not path:
        return None, None
    own = name_words(path[-1])
    role = _role_of(own)
    attribute = next(
        (_ATTRIBUTES[w] for w in reversed(own) if w in _ATTRIBUTES and not (role and w in ROLES[role])), None
    )
    if role and attribute is None and all(w in ROLES[role] or w in ("name", "party", "details") for w in own):
        attribute = "name"
    if role is None and attribute and len(path) > 1:
        for parent in reversed(path[:-1]):
            role = _role_of(name_words(parent))
            if role:
                break
    return role, attribute


def _role_of(words: Sequence[str]) -> str | None:
    for role in ("ship_to", "buyer", "seller", "agency"):
        if any(word in ROLES[role] for word in words) or squash("".join(words[:2])) in ROLES[role]:
            return role
    return None


def _lone_attribute(path: tuple[str, ...]) -> tuple[str | None, str | None]:
    """A detail such as `address` without a party: the one who issued the document."""
    own = name_words(path[-1]) if path else []
    attributes = [
        _ATTRIBUTES[word] for word in own if word in _ATTRIBUTES and word not in ("title", "name", "state", "land")
    ]
    if attributes and len(own) <= 2:
        return "seller", attributes[0]
    return None, None


def _concept(path: tuple[str, ...], title: str, known: Vocabulary) -> str | None:
    """The concept of a name: as a whole, with its parent's name, by its title, or by the longest name it contains."""
    if not path:
        return None
    own = name_words(path[-1])
    tries = ["".join(own), squash(title)]
    if len(path) > 1:
        tries.insert(0, "".join(name_words(path[-2]) + own))
        tries.append("".join(own + name_words(path[-2])))
    tries.append("".join(word for word in own if word not in _DOC_WORDS))
    for text in tries:
        meanings = known.by_name.get(squash(text)) if text else None
        if meanings:
            return min(meanings, key=lambda meaning: meaning.is_weak).concept
    return _longest_name(own, known)


def _longest_name(own: Sequence[str], known: Vocabulary) -> str | None:
    """The concept of the longest run of words in a name that is a concept's name, if it covers most of the name."""
    best: tuple[int, str] | None = None
    for start in range(len(own)):
        for end in range(start + 1, len(own) + 1):
            run = squash("".join(own[start:end]))
            meanings = [m for m in known.by_name.get(run, ()) if not m.is_weak]
            if meanings and (best is None or len(run) > best[0]):
                best = (len(run), meanings[0].concept)
    total = sum(len(word) for word in own if word not in _FILLERS)
    return best[1] if best and best[0] >= 0.6 * max(total, 1) else None


_CLAUSE = re.compile(r"[,.;:(]|\bsuch as\b|\be\.g\b")


def _from_description(description: str, known: Vocabulary) -> str | None:
    """The concept named by the first clause of a description."""
    clause = _CLAUSE.split(description, maxsplit=1)[0]
    words = name_words(clause)
    if not 0 < len(words) <= 8:
        return None
    meanings = known.by_name.get(squash("".join(words)))
    return meanings[0].concept if meanings else _longest_name([w for w in words if w not in _FILLERS], known)


def _kind(concept: str | None, known: Vocabulary, node: Node, name: str, title: str, description: str) -> str:
    """How the value is read, told from the schema's type first and the concept second."""
    kinds = types_of(node) - {"null"}
    if node.get("format") in ("date", "date-time") or _ISO_HINT.search(description):
        return "date"
    if concept:
        kind = known.concepts[concept].kind
        if kinds <= {"number", "integer"} and kind not in ("amount", "number", "percent"):
            return "number"
        return kind
    if node.get("format") == "time" or _TIME_HINT.search(description):
        return "time"
    if node.get("format") == "email":
        return "email"
    if node.get("format") in ("uri", "url"):
        return "url"
    if kinds and kinds <= {"number", "integer"}:
        return "amount" if "integer" not in kinds else "number"
    if kinds == {"boolean"}:
        return "boolean"
    words = name_words(name) + name_words(title)
    if {"date", "datum", "fecha"} & set(words):
        return "date"
    if {"number", "no", "id", "code", "nr"} & set(words[-1:]):
        return "id"
    return "text"


def _own_labels(name: str, title: str) -> tuple[str, ...]:
    """The property's own words as labels a page may carry."""
    forms = ["".join(name_words(name)), squash(title)]
    return tuple(dict.fromkeys(form for form in forms if len(form) >= 3))
