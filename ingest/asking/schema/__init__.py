"""Document schema to chunk schema, and an answer back to the user's shape.

The chunk schema is what the model is asked to fill for some pages of a document: every leaf may be null, lists may
be empty, every value carries its evidence, and only keywords of the API's strict dialect are used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ingest.asking.schema.check import check_document_schema
from ingest.asking.schema.normalise import normalise
from ingest.asking.schema.restore import restore_shape
from ingest.asking.schema.shapes import Leaf, ObjectShape, Shape, Table, resolve
from ingest.asking.schema.write import reserved_names, schema_name, write
from ingest.errors import ConfigError
from ingest.types import Cite, EvidenceMode, Json, JsonObject, Medium

__all__ = ["ChunkSchema", "check_document_schema", "derive", "restore"]


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
    schema = write(shape, table, evidence, medium)
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    title = schema_name(name or document_schema.get("title"))
    return ChunkSchema(title, schema, evidence, text, shape, table, medium)


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
