"""Partials to one record: the data merged by declared rules, checked against the schema, each value traced to its page."""
