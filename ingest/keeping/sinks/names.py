"""Names that every database takes: of tables, of columns, of files."""

from __future__ import annotations

import re
import unicodedata

from ingest.keeping.sinks.columns import clean_text, short_hash

# PostgreSQL cuts names longer than this, silently.
MAX_NAME_BYTES = 63

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_WORD = re.compile(r"\W+")


def identifier(text: str) -> str:
    """A name as databases have them: small letters of any script, digits, underscores; `invoiceNo.` is `invoice_no`."""
    folded = _NO_WORD.sub("_", _WORD_BORDER.sub("_", unicodedata.normalize("NFKC", clean_text(text)))).lower()
    folded = folded.strip("_") or f"field_{short_hash(text)}"
    return fitted(f"_{folded}" if folded[0].isdigit() else folded)


def fitted(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """The name, cut to what PostgreSQL allows; a cut one ends in a mark made of the whole."""
    if len(name.encode()) <= max_bytes:
        return name
    return f"{name.encode()[: max_bytes - 9].decode(errors='ignore')}_{short_hash(name)}"
