"""The ledger's history: an append-only list of small steps. A released step never changes."""

from __future__ import annotations

from collections.abc import Sequence

MIGRATIONS: Sequence[Sequence[str]] = (
    # 1: runs, answers by request key, attempts.
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            recipe TEXT NOT NULL,
            model TEXT NOT NULL,
            endpoint TEXT NOT NULL
        )""",
        """CREATE TABLE answers (
            key TEXT PRIMARY KEY,
            created_at TEXT NOT NULL,
            model TEXT NOT NULL,
            text TEXT NOT NULL,
            finish_reason TEXT NOT NULL,
            request_id TEXT,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL,
            cached_tokens INTEGER NOT NULL,
            page_words TEXT NOT NULL
        )""",
        """CREATE TABLE attempts (
            id INTEGER PRIMARY KEY,
            run_id INTEGER NOT NULL,
            key TEXT NOT NULL,
            at TEXT NOT NULL,
            elapsed_s REAL NOT NULL,
            outcome TEXT NOT NULL,
            message TEXT NOT NULL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            cost_usd TEXT
        )""",
        "CREATE INDEX attempts_by_run ON attempts (run_id)",
        "CREATE INDEX attempts_by_key ON attempts (key)",
    ),
)
