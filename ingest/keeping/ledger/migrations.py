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
    # 2: attempts are noted before they are sent, with the most they can cost; what calibration learned, how documents
    # were cut, and how each endpoint takes a schema. Money is decimal text. `booking` is open, usage, worst or free.
    (
        "ALTER TABLE attempts ADD COLUMN booking TEXT NOT NULL DEFAULT 'usage'",
        "ALTER TABLE attempts ADD COLUMN document TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN recipe TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN number INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE attempts ADD COLUMN is_repeat INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN is_cut_off INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN tier INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN worst_usd TEXT",
        "ALTER TABLE attempts ADD COLUMN input_usd TEXT",
        "ALTER TABLE attempts ADD COLUMN cached_usd TEXT",
        "ALTER TABLE attempts ADD COLUMN output_usd TEXT",
        "ALTER TABLE attempts ADD COLUMN reasoning_usd TEXT",
        "UPDATE attempts SET booking = 'free' WHERE outcome = 'not_sent'",
        "UPDATE attempts SET booking = 'unknown' WHERE outcome <> 'answered' AND outcome <> 'not_sent'",
        """CREATE TABLE observations (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            model TEXT NOT NULL,
            endpoint TEXT NOT NULL,
            counts TEXT NOT NULL,
            owned_tokens INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL
        )""",
        "CREATE INDEX observations_by_model ON observations (model, endpoint)",
        """CREATE TABLE partitions (
            key TEXT PRIMARY KEY,
            at TEXT NOT NULL,
            chunks TEXT NOT NULL
        )""",
        """CREATE TABLE rungs (
            endpoint TEXT NOT NULL,
            model TEXT NOT NULL,
            at TEXT NOT NULL,
            rung TEXT NOT NULL,
            PRIMARY KEY (endpoint, model)
        )""",
    ),
    # 3: what became of each document, every version of its record, who is asking which chunk at present, and which run
    # an answer and a partition are from.
    (
        """CREATE TABLE documents (
            name TEXT NOT NULL,
            recipe TEXT NOT NULL,
            at TEXT NOT NULL,
            run_id INTEGER NOT NULL,
            status TEXT NOT NULL,
            problem TEXT,
            uri TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            fingerprint TEXT,
            version_id INTEGER NOT NULL,
            PRIMARY KEY (recipe, name)
        )""",
        """CREATE TABLE versions (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            recipe TEXT NOT NULL,
            at TEXT NOT NULL,
            run_id INTEGER NOT NULL,
            status TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            record_sha256 TEXT NOT NULL,
            body BLOB
        )""",
        "CREATE INDEX versions_by_name ON versions (recipe, name, id)",
        """CREATE TABLE owners (
            id TEXT PRIMARY KEY,
            run_id INTEGER NOT NULL,
            host TEXT NOT NULL,
            lock_path TEXT NOT NULL,
            timeout_s REAL NOT NULL,
            seen_at TEXT NOT NULL
        )""",
        """CREATE TABLE claims (
            key TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            at TEXT NOT NULL
        )""",
        "CREATE INDEX claims_by_owner ON claims (owner)",
        "ALTER TABLE answers ADD COLUMN run_id INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE partitions ADD COLUMN run_id INTEGER NOT NULL DEFAULT 0",
    ),
    # 4: digests, with their pages as they were written, and the versions of records that each tells of.
    (
        """CREATE TABLE digests (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            recipe TEXT NOT NULL,
            slot TEXT NOT NULL,
            at TEXT NOT NULL,
            window_start TEXT,
            window_end TEXT NOT NULL,
            body BLOB NOT NULL,
            markdown BLOB NOT NULL,
            html BLOB NOT NULL,
            finished_at TEXT,
            UNIQUE (name, slot)
        )""",
        """CREATE TABLE digest_versions (
            name TEXT NOT NULL,
            version_id INTEGER NOT NULL,
            digest_id INTEGER NOT NULL,
            PRIMARY KEY (name, version_id)
        )""",
    ),
    # 5: schedules and deliveries. Addresses stand here with their secrets masked, and as a hash.
    (
        """CREATE TABLE deliveries (
            key TEXT NOT NULL,
            target TEXT NOT NULL,
            label TEXT NOT NULL,
            state TEXT NOT NULL,
            tries INTEGER NOT NULL,
            at TEXT NOT NULL,
            reason TEXT,
            PRIMARY KEY (key, target)
        )""",
        """CREATE TABLE schedules (
            name TEXT PRIMARY KEY,
            cron TEXT NOT NULL,
            timezone TEXT NOT NULL,
            arguments TEXT NOT NULL,
            directory TEXT NOT NULL,
            added_at TEXT NOT NULL,
            covered_until TEXT NOT NULL,
            claimed_by TEXT,
            claimed_until TEXT
        )""",
        """CREATE TABLE schedule_runs (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            cause TEXT NOT NULL,
            due_from TEXT,
            due_at TEXT,
            due_count INTEGER NOT NULL,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            exit_code INTEGER,
            log TEXT NOT NULL
        )""",
        "CREATE INDEX schedule_runs_by_name ON schedule_runs (name, id)",
    ),
)
