"""A rule-based filler: any JSON Schema in, data that conforms to it out, read from the pages and never invented."""

from ingest.local.filler.fill import Filled, fill

__all__ = ["Filled", "fill"]
