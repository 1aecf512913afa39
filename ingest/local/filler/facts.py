"""What the rules know about one document, worked out once and asked by the walk over the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from ingest.local.filler import footage_records, footage_scalars, scalars
from ingest.local.filler.arithmetic import Totals, settle_totals
from ingest.local.filler.fields import Field
from ingest.local.filler.footage import Footage, time_of
from ingest.local.filler.found import Found
from ingest.local.filler.numbers import find_numbers
from ingest.local.filler.parties import Parties
from ingest.local.filler.prose_facts import ProseFacts
from ingest.local.filler.records import find_records
from ingest.local.filler.schema import Node
from ingest.local.filler.table_rows import Table, read_tables
from ingest.local.filler.tables import find_headings
from ingest.local.filler.view import Row, View

Record = Mapping[str, Found]


class Facts:
    """A document's rows with its parties, totals and tables, each found when first asked for.

    `footage` has the frames when the document is a video: its screens stand for pages in the view.
    """

    def __init__(self, view: View, footage: Footage | None = None) -> None:
        self.view = view
        self.footage = footage

    @property
    def first_row(self) -> Row | None:
        """The first row that is not on a context page: evidence for what follows from the whole document."""
        return next((row for row in self.view.rows if not row.page.is_context), None)

    @cached_property
    def prose(self) -> ProseFacts:
        """What the running text tells."""
        return ProseFacts(self.view)

    @cached_property
    def parties(self) -> Parties:
        """Seller, buyer and the like."""
        return Parties(self.view, self.table_rows)

    @cached_property
    def totals(self) -> Totals:
        """The totals that agree with one another."""
        return settle_totals(self.view, self.is_in_table, self._line_sum)

    @cached_property
    def _line_sum(self) -> float | None:
        """The sum of the amounts in the longest table of goods."""
        goods = [table for table in self.tables if table.heading.concepts & {"quantity", "unit_price"}]
        amounts = [
            numbers[-1].value
            for table in sorted(goods, key=lambda table: -len(table.records))[:1]
            for record in table.records
            if (numbers := find_numbers(record.text("amount"), self.view.decimal))
        ]
        return round(sum(amounts), 2) if amounts else None

    @cached_property
    def tables(self) -> list[Table]:
        """All tables with a heading."""
        return read_tables(self.view, find_headings(self.view))

    @cached_property
    def table_rows(self) -> frozenset[int]:
        """Indexes of the rows that belong to tables with records."""
        return frozenset(index for table in self.tables if table.records for index in table.rows)

    @cached_property
    def _table_rights(self) -> dict[int, float]:
        return {index: table.right_at(index) for table in self.tables if table.records for index in table.rows}

    def is_in_table(self, row_index: int, x0: float) -> bool:
        """Whether something at this row and left edge belongs to a table with records."""
        return x0 < self._table_rights.get(row_index, float("-inf"))

    @cached_property
    def item_rows(self) -> frozenset[int]:
        """Indexes of the rows of tables that list goods."""
        return frozenset(
            index
            for table in self.tables
            if table.records and table.heading.concepts & {"quantity", "unit_price"}
            for index in table.rows
        )

    def scalar(self, asked: Field, node: Node) -> Found | None:
        """The value of one field, or None."""
        if self.footage is not None and footage_scalars.answers(asked):
            return footage_scalars.find(asked, self.footage)
        return scalars.find(asked, node, self)

    def records(
        self, path: Sequence[str], node: Node, fields: Mapping[str, Field], nodes: Mapping[str, Node]
    ) -> list[dict[str, Found]]:
        """The records for an array of objects: table rows, positions of a receipt, sections, people."""
        if self.footage is not None:
            found = footage_records.find(path, node, nodes, self.footage)
            if found is not None:
                return found
        return find_records(path, node, fields, nodes, self)

    def time_s(self, row: Row) -> float:
        """Seconds of a video at which a row is seen first. Rows of screens in the view stand for all their frames."""
        if self.footage is not None and any(row.page is page for page in self.view.pages):
            return self.footage.first_seen(row.page, row.line)
        return time_of(row.page)
