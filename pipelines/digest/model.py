"""A digest as data: what `digest.json` holds and both pages are made from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from pipelines.digest.changes import Kind

DocumentKind: TypeAlias = Literal["added", "changed", "renamed", "removed", "failed", "recovered", "open"]
Maker: TypeAlias = Literal["model", "rules", "nobody"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Value):
    """Where a value stands in its document."""

    page: int | None = Field(None, description="Page number from 1")
    bbox: tuple[float, float, float, float] | None = Field(None, description="x0, y0, x1, y1 in points from top left")
    start_s: float | None = Field(None, description="Video: start in seconds")
    end_s: float | None = Field(None, description="Video: end in seconds")
    quote: str | None = Field(None, description="The words that stand there")
    grade: str = "cited"


class Fact(_Value):
    """One value that is new, different or gone."""

    id: str = Field(description="Name of the fact within the digest, such as F12")
    kind: Kind
    pointer: str = Field(description="JSON Pointer into the record's data; of a removed value, into the old data")
    was: str = Field("", description="JSON Pointer of the old value")
    old: Any = None
    new: Any = None
    evidence: tuple[Place, ...] = ()


class DocumentChange(_Value):
    """What became of one document since it was last told of."""

    name: str
    kind: DocumentKind
    was: str | None = Field(None, description="The name before a renaming")
    status: str = Field(description="Status of the record, or removed")
    status_before: str | None = Field(None, description="Status when it was last told of")
    is_replaced: bool = Field(False, description="The file's bytes are others than before")
    problem: str | None = None
    record: str | None = Field(None, description="The record's file, relative to the output folder")
    source: str = Field("", description="Where the document is")
    version_id: int = Field(description="Version of the record in the ledger")
    facts: tuple[Fact, ...] = ()


class Shown(_Value):
    """A value an alert stands on."""

    pointer: str
    value: Any = None
    evidence: tuple[Place, ...] = ()


class Attention(_Value):
    """A document to which a condition of the recipe applies."""

    alert: str
    name: str
    record: str
    source: str = Field("", description="Where the document is")
    is_new: bool = Field(description="The last digest did not tell of it")
    shown: tuple[Shown, ...] = ()


class Statement(_Value):
    """A sentence about the facts it cites."""

    section: str
    text: str
    facts: tuple[str, ...]


class Dropped(_Value):
    """Statements of the model that were not let through."""

    uncited: int = Field(0, description="Cited no fact")
    unknown: int = Field(0, description="Cited a fact that there is not")
    unsupported: int = Field(0, description="Said a number, date or name that none of its facts holds")

    @property
    def total(self) -> int:
        """All of them."""
        return self.uncited + self.unknown + self.unsupported


class Asking(_Value):
    """What the writing of the digest took."""

    requests: int = 0
    cost_usd: Decimal | None = Decimal(0)


class Digest(_Value):
    """What is new in a set of records since it was last told."""

    version: Literal[1] = 1
    name: str
    title: str
    recipe: str
    window_start: str | None = Field(None, description="UTC, inclusive; None when nothing was told before")
    window_end: str = Field(description="UTC, exclusive")
    made_by: Maker = Field(description="Who wrote the statements; all else is made by rules in every case")
    model: str = ""
    statements: tuple[Statement, ...] = ()
    dropped: Dropped = Dropped()
    attention: tuple[Attention, ...] = ()
    documents: tuple[DocumentChange, ...] = ()
    documents_known: int = 0
    asking: Asking = Asking()
    notices: tuple[str, ...] = ()
    records_at: str = Field("", description="Address of the output folder; empty where links are relative to the pages")
    places: dict[str, str] = Field(
        {}, description="Folders by URI and which they were, when there was something in them"
    )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing new to tell."""
        return not self.documents and not any(item.is_new for item in self.attention)
