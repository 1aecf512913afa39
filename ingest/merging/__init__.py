"""Partials to one record: data merged by declared rules, checked against the schema, each value traced to its page."""
