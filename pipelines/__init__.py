"""Jobs and recipes built on the front door of `ingest`."""
