"""What a property of a schema asks for, told from its name, its parents' names, its title and its description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.local.filler import vocabulary
from ingest.local.filler.schema import Node, types_of
from ingest.local.filler.text import name_words, squash
from ingest.local.filler.vocabulary import Meaning, Vocabulary

# Words that say which party of a document a property belongs to.
ROLES: Mapping[str, frozenset[str]] = {
    "seller": frozenset(
        "seller vendor supplier issuer merchant company store shop from biller provider sender lieferant verkaeufer "
        "verkaufer rechnungssteller fournisseur vendeur emetteur proveedor vendedor emisor fornitore leverancier "
        "verkoper retailer creditor payee business restaurant hotel geschaft geschaeft laden handler haendler anbieter "
        "lieferanten magasin marchand commerce tienda comercio negozio winkel".split()
    ),
    "buyer": frozenset(
        "buyer customer client recipient purchaser billto bill invoicee kunde kaufer kaeufer empfanger empfaenger "
        "acheteur destinataire comprador cliente destinatario klant koper debtor consumer guest addressee "
        "billed receiver payer rechnungsempfaenger rechnungsempfanger auftraggeber besteller kundin kunden "
        "billing rechnungsadresse rechnungsanschrift facturation facturacion".split()
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
_ISO_HINT = re.compile(r"\(date as YYYY-MM-DD\)|YYYY-MM-DD|ISO 8601 date", re.IGNORECASE)
_TIME_HINT = re.compile(r"\bHH:MM\b|\(time as", re.IGNORECASE)
_DOC_WORDS = frozenset(
    "invoice receipt document bill header summary totals total amounts details data rechnung facture factura".split()
)
# Names that mean one thing or another until something else is said.
_VAGUE = frozenset(
    "price amount total value sum cost rate item items name no number id date code what who whom when how count type "
    "tax vat charge money preis betrag wert summe name nummer datum satz prix montant "
    "nom numero valeur taux precio importe nombre valor tipo fecha".split()
)
_ABBREVIATIONS: Mapping[str, str] = {
    "amt": "amount", "dt": "date", "tot": "total", "ttl": "total", "supp": "supplier", "cust": "customer",
    "inv": "invoice", "curr": "currency", "cur": "currency", "pr": "price", "prc": "price", "descr": "description",
    "addr": "address", "pos": "position", "nr": "number", "no": "number", "num": "number", "perc": "percent",
    "pct": "percent", "doc": "document", "ord": "order", "cnt": "count", "pmt": "payment", "pymt": "payment",
    "del": "delivery", "qnty": "quantity", "disc": "discount", "rcpt": "receipt", "vend": "vendor",
}  # fmt: skip
# `ä` written as `ae`, and so on.
_UMLAUT = re.compile(r"([aou])e")
_NUMERIC_KINDS = frozenset({"amount", "number", "percent"})
_ID_KINDS = frozenset({"id", "position"})
# Concepts that are details of a party as well.
_PARTY_CONCEPTS = frozenset({"tax_id", "email", "phone", "website", "fax"})
_MAX_CLAUSE_WORDS = 7
# Share of the letters of a description's first clause that a concept's name must have.
_BAG_SHARE = 0.6


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
    """The field a property at this path (names from the root, array indexes left out) asks for.

    An explicit description decides where the name alone says little: `price` described as "Amount of the line".
    """
    known = words or vocabulary.header()
    name = path[-1] if path else ""
    title, description = str(node.get("title") or ""), str(node.get("description") or "")
    role, attribute, concept = _by_name(tuple(path), node, title, description, known)
    is_settled = role is not None and len(path) > 1 and attribute != "tax_id"
    if name and not is_settled and (is_vague(name) or (concept is None and attribute is None)):
        told = _by_description(description, known, _is_numeric(node))
        if any(told):
            role, attribute, concept = told
    kind = _kind(concept, known, node, name, title, description)
    return Field(tuple(path), concept, kind, role, attribute, _own_labels(name, title), description)


def _by_name(
    path: tuple[str, ...], node: Node, title: str, description: str, known: Vocabulary
) -> tuple[str | None, str | None, str | None]:
    """Role, detail and concept that the names of a path, or the title, speak of."""
    numeric = _is_numeric(node)
    role, attribute = _party(path, description)
    if numeric and attribute == "tax_id":
        role = attribute = None
    concept = None if role and attribute not in (None, "tax_id") else _concept(path, title, known, numeric)
    if attribute and role and not (concept and _is_stronger(concept, path, role)):
        concept = None
    else:
        role = attribute = None
    if concept is None and attribute is None and not numeric:
        role, attribute = _lone_attribute(path)
    return role, attribute, concept


def _is_numeric(node: Node) -> bool:
    """Whether the node takes nothing but numbers."""
    kinds = types_of(node) - {"null"}
    return bool(kinds) and kinds <= {"number", "integer"}


def is_vague(name: str) -> bool:
    """Whether a property's name may mean several things, so that its description decides."""
    own = name_words(name)
    return len(own) == 1 and (own[0] in _VAGUE or len(own[0]) == 1)


def _by_description(description: str, known: Vocabulary, numeric: bool) -> tuple[str | None, str | None, str | None]:
    """Role, detail and concept that the first clause of a description names."""
    clause = _CLAUSE.split(description, maxsplit=1)[0]
    words = vocabulary.content_words(clause)
    if not 0 < len(words) <= _MAX_CLAUSE_WORDS:
        return None, None, None
    concept = _longest_bag(words, known, numeric)
    first = _OR.split(clause, maxsplit=1)[0]
    if concept is None and first != clause and len(name_words(first)) > 1:
        concept = _longest_bag(vocabulary.content_words(first), known, numeric)
    if known is vocabulary.header() and not numeric:
        role, attribute = _told_party(words)
        if role and attribute and (concept is None or concept in _PARTY_CONCEPTS):
            return role, attribute, None
    return None, None, concept or _from_description(clause, known, numeric)


def _told_party(words: frozenset[str]) -> tuple[str | None, str | None]:
    """Role and detail of a party in the words of a description, when these are most of what it says."""
    role = next((role for role in ROLES if words & ROLES[role]), None)
    if role is None:
        return None, None
    rest = words - ROLES[role] - {"number"}
    attribute = next((_ATTRIBUTES[word] for word in sorted(rest) if word in _ATTRIBUTES), None)
    silent = rest - _ATTRIBUTES.keys() - {"postal", "legal", "company", "identification", "document", "invoice"}
    return (role, attribute) if len(silent) * 2 <= len(words) else (None, None)


def _longest_bag(words: frozenset[str], known: Vocabulary, numeric: bool) -> str | None:
    """The concept whose name has most of the letters of these words, and all its own words among them."""
    total = sum(map(len, words))
    best: tuple[int, str] | None = None
    for concept in known.concepts.values():
        if numeric and concept.kind not in _NUMERIC_KINDS | _ID_KINDS:
            continue
        for bag in concept.bags:
            size = sum(map(len, bag))
            if bag <= words and size >= _BAG_SHARE * total and (best is None or size > best[0]):
                best = (size, concept.name)
    return best[1] if best else None


def _is_stronger(concept: str, path: Sequence[str], role: str) -> bool:
    """Whether a concept (such as customer_number) beats reading the name as a detail of a party."""
    return concept not in _PARTY_CONCEPTS and len(name_words(path[-1])) > 1


@lru_cache(maxsize=4096)
def _party(path: tuple[str, ...], description: str) -> tuple[str | None, str | None]:
    """Role and detail of a party the last two names of a path speak of."""
    if not path:
        return None, None
    own = [part for word in name_words(path[-1]) for part in _parts(_ABBREVIATIONS.get(word, word))]
    role = _role_of(own)
    if len(path) > 1 and all(word in _ATTRIBUTES for word in own):
        role = _role_of(name_words(path[-2])) or role
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


def _parts(word: str) -> list[str]:
    """The role and the detail of a party that a compound names: `kundenadresse` is [kunde, adresse]."""
    for detail in _ATTRIBUTES:
        if len(detail) < 4 or not word.endswith(detail):
            continue
        stem = word.removesuffix(detail)
        for role in (stem, stem.removesuffix("n"), stem.removesuffix("en"), stem.removesuffix("s")):
            if any(role in words for words in ROLES.values()):
                return [role, detail]
    return [word]


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


def _concept(path: tuple[str, ...], title: str, known: Vocabulary, numeric: bool = False) -> str | None:
    """The concept of a name: as a whole, with its parent's name, by its title, or by the longest name it contains."""
    if not path:
        return None
    own = name_words(path[-1])
    tries = ["".join(own), squash(title)]
    if len(path) > 1:
        tries.insert(0, "".join(name_words(path[-2]) + own))
        tries.append("".join(own + name_words(path[-2])))
    tries.append("".join(word for word in own if word not in _DOC_WORDS))
    full = [_ABBREVIATIONS.get(word, word) for word in own]
    tries.extend(["".join(full), "".join(word for word in full if word not in _DOC_WORDS)])
    rest = [word for word in own if word not in ROLES["seller"]]
    tries.append("" if _says_nothing(rest) else "".join(rest))
    tries.append(_UMLAUT.sub(r"\1", "".join(own)))
    for is_weak in (False, True):
        for text in tries:
            meanings = known.by_name.get(squash(text), ()) if text else ()
            concept = _meant([m for m in meanings if m.is_weak == is_weak], known, numeric)
            if concept:
                return concept
    return _longest_name(own, known, numeric) or _longest_name(full, known, numeric)


def _meant(meanings: Sequence[Meaning], known: Vocabulary, numeric: bool) -> str | None:
    """The concept a name stands for: its own name before a label, one with numbers where a number is asked for."""
    usable = [m for m in meanings if not numeric or known.concepts[m.concept].kind in _NUMERIC_KINDS | _ID_KINDS]
    if not usable:
        return None
    return min(usable, key=lambda m: (numeric and known.concepts[m.concept].kind in _ID_KINDS, m.is_weak)).concept


def _longest_name(own: Sequence[str], known: Vocabulary, numeric: bool = False) -> str | None:
    """The concept of the longest run of words in a name that is a concept's name, if it covers most of the name."""
    best: tuple[int, str] | None = None
    for start in range(len(own)):
        for end in range(start + 1, len(own) + 1):
            run = squash("".join(own[start:end]))
            if len(run) <= (best[0] if best else 0) or (end - start < len(own) and _says_nothing(own[start:end])):
                continue
            concept = _meant([m for m in known.by_name.get(run, ()) if not m.is_weak], known, numeric)
            if concept:
                best = (len(run), concept)
    total = sum(len(word) for word in own if word not in vocabulary.FILLERS)
    return best[1] if best and best[0] >= 0.6 * max(total, 1) else None


def _says_nothing(words: Sequence[str]) -> bool:
    return all(word in vocabulary.FILLERS for word in words)


_CLAUSE = re.compile(r"[,.;:(/]|\bsuch as\b|\be\.g\b")
_OR = re.compile(r"\s(?:or|oder|ou)\s")


def _from_description(clause: str, known: Vocabulary, numeric: bool) -> str | None:
    """The concept named by a clause of a description, its words in their order."""
    words = name_words(clause)
    if not 0 < len(words) <= 8:
        return None
    whole = _meant(known.by_name.get(squash("".join(words)), ()), known, numeric)
    return whole or _longest_name([w for w in words if w not in vocabulary.FILLERS], known, numeric)


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
