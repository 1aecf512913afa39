"""Document schema to chunk schema, and an answer back to the user's shape.

The chunk schema is what the model is asked to fill for some pages of a document: every leaf may be null, lists may
be empty, every value carries its evidence, and only keywords of the API's strict dialect are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ingest.asking.schema.check import check_document_schema
from ingest.asking.schema.normalise import normalise
from ingest.asking.schema.restore import restore_shape
from ingest.asking.schema.shapes import Leaf, ObjectShape, Shape, Table, resolve
from ingest.asking.schema.slices import Slot, blank, columns_of, is_list, narrow_shape, shape_at, slots_of, written
from ingest.asking.schema.write import reserved_names, schema_name
from ingest.errors import ConfigError
from ingest.types import Cite, EvidenceMode, Json, JsonObject, Medium

__all__ = ["ChunkSchema", "Slot", "check_document_schema", "derive", "narrow", "restore"]


@dataclass(frozen=True, slots=True)
class ChunkSchema:
    """What is asked of the model. `schema` is sent; `text` is the same as compact JSON; the shapes lead back."""

    name: str
    schema: JsonObject
    evidence: EvidenceMode
    text: str
    shape: Shape = field(repr=False)
    table: Table = field(repr=False)
    medium: Medium = "pages"

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Everything outside of lists that can be asked for by itself, in the order of the schema."""
        return slots_of(self.shape, self.table)

    def is_list(self, slot: Slot) -> bool:
        """Whether a list of entries is the answer at a slot."""
        return is_list(shape_at(self.shape, self.table, slot))

    def columns(self, slot: Slot) -> tuple[str, ...]:
        """Fields of the entries of the list at a slot; none where the entries are no objects."""
        return columns_of(self.shape, self.table, slot)

    def blank(self) -> JsonObject:
        """The answer that says nothing."""
        return blank(self.shape, self.table)


def derive(
    document_schema: JsonObject,
    evidence: EvidenceMode = "part",
    name: str | None = None,
    medium: Medium = "pages",
) -> ChunkSchema:
    """The chunk schema of a document schema. A pure function of its arguments.

    `evidence` decides what each value carries: nothing, its place (`_page`, in a video `_time_s`), or the place and the
    words (`_quote`).
    `name` is sent with the schema; without it the schema's title is.

    Raises ConfigError for a schema that asks for nothing, or for something no strict schema can express.
    """
    check_document_schema(document_schema)
    shape, table = normalise(document_schema, reserved_names(evidence, medium))
    _check_asks_something(document_schema, resolve(shape, table))
    schema, text = written(shape, table, evidence, medium)
    title = schema_name(name or document_schema.get("title"))
    return ChunkSchema(title, schema, evidence, text, shape, table, medium)


def narrow(chunk_schema: ChunkSchema, slots: Sequence[Slot], columns: Sequence[str] | None = None) -> ChunkSchema:
    """The chunk schema with some of its slots alone, and of the entries of their lists some columns alone."""
    shape = narrow_shape(chunk_schema.shape, chunk_schema.table, slots, columns)
    schema, text = written(shape, chunk_schema.table, chunk_schema.evidence, chunk_schema.medium)
    return replace(chunk_schema, schema=schema, text=text, shape=shape)


def restore(answer: Json, chunk_schema: ChunkSchema) -> tuple[Json, dict[str, Cite]]:
    """An answer that fits the chunk schema in the user's shape, and where its values stand.

    Evidence fields are gone from the data. Null stays where the user's schema allows or requires the property, and
    is left out elsewhere. A cite's JSON Pointer names a leaf, or an entry of a list whose leaves share the cite.
    """
    return restore_shape(answer, chunk_schema.shape, chunk_schema.table, chunk_schema.evidence, chunk_schema.medium)


def _check_asks_something(document_schema: JsonObject, root: Shape) -> None:
    if isinstance(root, ObjectShape):
        is_empty = not root.fields and root.entries is None
    else:
        is_empty = isinstance(root, Leaf) and not {"type", "enum", "const", "$ref"} & document_schema.keys()
    if not is_empty:
        return
    inner = [name for name, value in document_schema.items() if isinstance(value, dict) and "properties" in value]
    if inner:
        hint = f"the schema seems to stand inside its {inner[0]!r}: give that part alone"
    else:
        hint = 'it needs "type": "object" and "properties"'
    raise ConfigError(f"the document schema asks for no fields: {hint}")
