"""Identifiers as printed: document numbers, IBAN, BIC, tax numbers, e-mail addresses, phone numbers, links."""

from __future__ import annotations

import re

from ingest.local.filler.text import share_of_digits

_IBAN = re.compile(r"\b([A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){2,8}(?: ?[A-Z0-9]{1,4})?)\b")
_BIC = re.compile(r"\b[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,24}){1,4}")
_URL = re.compile(
    r"(?:https?://|www\.)[^\s,;)]{3,200}|\b[a-z0-9-]{2,40}\.(?:com|de|fr|es|org|net|io|eu|co\.uk|nl|it)\b(?:/\S*)?",
    re.IGNORECASE,
)
_PHONE = re.compile(r"\(?\+?\d[\d\s()./-]{5,20}\d")
_PIECE = re.compile(r"#?[A-Za-z0-9ÄÖÜäöü][\w./#&+-]*")
# Country prefix and shape of VAT numbers (European Commission, VIES), spaces between groups allowed.
_VAT = re.compile(
    r"\b(?:ATU ?\d{8}|BE ?[01]?\d{3}[ .]?\d{3}[ .]?\d{3}|BG ?\d{9,10}|CY ?\d{8}[A-Z]|CZ ?\d{8,10}"
    r"|DE ?\d{3} ?\d{3} ?\d{3}|DK ?(?:\d{2} ?){4}"
    r"|EE ?\d{9}|EL ?\d{9}|ES ?[A-Z0-9]\d{7}[A-Z0-9]|FI ?\d{8}|FR ?[A-Z0-9]{2} ?\d{3} ?\d{3} ?\d{3}"
    r"|GB ?\d{3} ?\d{4} ?\d{2}|HR ?\d{11}|HU ?\d{8}|IE ?\d[A-Z0-9]\d{5}[A-Z]{1,2}|IT ?\d{11}|LT ?\d{9,12}|LU ?\d{8}"
    r"|LV ?\d{11}|MT ?\d{8}|NL ?\d{9} ?B ?\d{2}|PL ?\d{10}|PT ?\d{9}|RO ?\d{2,10}|SE ?\d{12}|SI ?\d{8}|SK ?\d{10}"
    r"|CHE[- ]?\d{3}\.?\d{3}\.?\d{3}(?: ?(?:MWST|TVA|IVA))?|[A-Z]\d{8}|\d{8}[A-Z]|\d{2}[A-Z]{5}\d{4}[A-Z]\d[A-Z]\w)\b"
)  # fmt: skip


def find_iban(text: str, labelled: bool = False) -> str | None:
    """The first IBAN, without spaces; unless a label says so, its check digits (ISO 7064) must hold."""
    for match in _IBAN.finditer(text[:4000]):
        compact = match[1].replace(" ", "")
        length = _IBAN_LENGTHS.get(compact[:2])
        lengths = [length] if length else range(len(compact), 14, -1)
        for size in lengths:
            if size <= len(compact) and _check_digits_hold(compact[:size]):
                return compact[:size]
        if labelled and 15 <= len(compact) <= 34:
            return compact[:length] if length else compact
    return None


# Lengths of IBANs by country (SWIFT IBAN registry); others are taken as long as they are printed.
_IBAN_LENGTHS = {
    "AT": 20, "BE": 16, "CH": 21, "DE": 22, "DK": 18, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "IE": 22, "IT": 27,
    "LU": 20, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "SE": 24,
}  # fmt: skip


def _check_digits_hold(iban: str) -> bool:
    rearranged = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


def find_bic(text: str) -> str | None:
    """The first BIC (ISO 9362)."""
    match = _BIC.search(text[:4000])
    return match[0] if match else None


def find_email(text: str) -> str | None:
    """The first e-mail address."""
    match = _EMAIL.search(text[:4000])
    return match[0] if match else None


def find_url(text: str) -> str | None:
    """The first link or host name."""
    match = _URL.search(_EMAIL.sub(" ", text[:4000]))
    return match[0].rstrip(".") if match else None


def find_phone(text: str) -> str | None:
    """The first run of digits long enough for a phone number."""
    match = _PHONE.search(text[:4000])
    return match[0].strip() if match else None


def find_vat_id(text: str) -> str | None:
    """The first number in the shape of a country's VAT number."""
    match = _VAT.search(text[:4000])
    return match[0] if match else None


_TAX_PREFIX = re.compile(
    r"^(?:EIN|NIF|CIF|TIN|UID|ID|No|Nr|VAT|GST|REG|BTW|TVA|IVA)\b[\s.:#]*(?:No|Nr|ID)?[\s.:#]*", re.IGNORECASE
)


def find_tax_id(text: str) -> str | None:
    """A tax or registration number at the beginning of a text that follows its label."""
    text = _TAX_PREFIX.sub("", text[:200].strip(" :#.-()[]"))
    vat = _VAT.match(text)
    if vat:
        return vat[0]
    pieces: list[str] = []
    for word in text.split():
        stripped = word.strip(" :,;()[]")
        if (
            not stripped
            or not re.fullmatch(r"[\w./-]+", stripped)
            or (not any(c.isdigit() for c in stripped) and not (len(stripped) <= 3 and stripped.isupper()))
        ):
            break
        pieces.append(stripped)
        if word.endswith((",", ";", ")")) or len(pieces) == 6:
            break
    while pieces and not any(c.isdigit() for c in pieces[-1]):
        pieces.pop()
    candidate = " ".join(pieces)
    return candidate if sum(c.isdigit() for c in candidate) >= 5 else None


_NUMBER_WORD = re.compile(r"^(?:nr|no|n°|nº|num|number|nummer|número|numéro)[.:°º]*\s+", re.IGNORECASE)


def find_id(text: str) -> str | None:
    """The document or customer number at the beginning of a text: one word with a digit, or short groups of them."""
    words = _NUMBER_WORD.sub("", text[:300].strip().lstrip(":.-–= ")).split()
    if words and words[0].startswith("(") and words[0].endswith(")"):
        return None
    pieces: list[str] = []
    for word in words[:5]:
        stripped = word.strip(":,;()[]")
        if not stripped:
            break
        if not _PIECE.fullmatch(stripped):
            if not pieces and len(words) > 1 and not any(c.isalnum() for c in stripped):
                continue
            break
        has_digit = any(c.isdigit() for c in stripped)
        if not has_digit and not (stripped.isupper() and len(stripped) <= 4 and len(words) > 1):
            break
        pieces.append(stripped)
        if word[-1] in ",;)":
            break
    while pieces and not any(c.isdigit() for c in pieces[-1]):
        pieces.pop()
    if not pieces:
        return None
    joined = " ".join(pieces)
    if len(pieces) > 1 and not all(share_of_digits(piece) > 0.3 for piece in pieces[1:]):
        joined = next(piece for piece in pieces if any(c.isdigit() for c in piece))
    return joined
