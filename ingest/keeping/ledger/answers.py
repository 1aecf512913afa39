"""The answers, each under the key of its request. What was once received is never bought again."""

from __future__ import annotations

import json

from ingest.keeping.ledger.attempts import Ending, settle
from ingest.keeping.ledger.claims import let_go
from ingest.keeping.ledger.database import Database, is_storable, now, sql
from ingest.keeping.ledger.learned import observe
from ingest.types import Observation, PageWords, Reply, Usage, Word

# Before a text that was written as JSON, since no database would take it as it is.
_ESCAPED = "\ufdd0json:"


class Answers:
    """Answers by request key. `since_run` is the number of the run from which on an answer counts; 0 counts all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, since_run: int = 0) -> Reply | None:
        """The answer stored under a request key, None when it was never received."""
        with self._database.reading() as connection:
            found = connection.execute(sql(_GET), {"key": key, "run": since_run})
            row = found.mappings().first()
        if row is None:
            return None
        return Reply(
            text=_read(row["text"]),
            finish_reason=row["finish_reason"],
            usage=Usage(row["input_tokens"], row["output_tokens"], row["reasoning_tokens"], row["cached_tokens"]),
            model=row["model"],
            request_id=row["request_id"],
            page_words=_page_words_from_json(row["page_words"]),
        )

    def has(self, key: str, since_run: int = 0) -> bool:
        """Whether an answer is stored under a request key."""
        with self._database.reading() as connection:
            return connection.execute(sql(_HAS), {"key": key, "run": since_run}).first() is not None

    def store(
        self,
        key: str,
        reply: Reply,
        *,
        run_id: int = 0,
        replaces: bool = False,
        settled: tuple[int, Ending] | None = None,
        learned: tuple[str, str, Observation] | None = None,
        owner: str | None = None,
    ) -> None:
        """Keep an answer; it is on disk when this returns. A second answer under one key changes nothing.

        With `replaces` it takes the place of one that an earlier run stored. In the same transaction the attempt that
        brought it is settled (`settled`: its number and how it ended), what it taught is kept (`learned`: model,
        endpoint, observation), and the owner's claim on the key is let go.
        """
        values = {
            "key": key,
            "at": now(),
            "run": run_id,
            "model": reply.model,
            "text": _written(reply.text),
            "finish_reason": reply.finish_reason,
            "request_id": reply.request_id,
            "input": reply.usage.input_tokens,
            "output": reply.usage.output_tokens,
            "reasoning": reply.usage.reasoning_tokens,
            "cached": reply.usage.cached_tokens,
            "page_words": _page_words_to_json(reply.page_words),
        }
        with self._database.transaction() as connection:
            connection.execute(sql(_STORE + (_REPLACE if replaces else " DO NOTHING")), values)
            if settled is not None:
                settle(connection, *settled)
            if learned is not None:
                observe(connection, *learned)
            if owner is not None:
                let_go(connection, key, owner)


_GET = "SELECT * FROM answers WHERE key = :key AND run_id >= :run"
_HAS = "SELECT 1 FROM answers WHERE key = :key AND run_id >= :run"
_STORE = (
    "INSERT INTO answers (key, created_at, run_id, model, text, finish_reason, request_id, input_tokens,"
    " output_tokens, reasoning_tokens, cached_tokens, page_words) VALUES (:key, :at, :run, :model, :text,"
    " :finish_reason, :request_id, :input, :output, :reasoning, :cached, :page_words) ON CONFLICT (key)"
)
_COLUMNS = (
    "created_at",
    "run_id",
    "model",
    "text",
    "finish_reason",
    "request_id",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "page_words",
)
_REPLACE = (
    f" DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
    " WHERE answers.run_id < excluded.run_id"
)


def _written(value: str) -> str:
    return value if is_storable(value) and not value.startswith(_ESCAPED) else _ESCAPED + json.dumps(value)


def _read(value: str) -> str:
    return json.loads(value.removeprefix(_ESCAPED)) if value.startswith(_ESCAPED) else value


def _page_words_to_json(pages: tuple[PageWords, ...]) -> str:
    rows = [
        [page.part_number, [[*(round(edge, 5) for edge in word.bbox), word.text] for word in page.words], page.time_s]
        for page in pages
    ]
    written = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return written if is_storable(written) else json.dumps(rows, separators=(",", ":"))


def _page_words_from_json(value: str) -> tuple[PageWords, ...]:
    return tuple(
        PageWords(number, tuple(Word(row[4], (row[0], row[1], row[2], row[3])) for row in words), *time_s)
        for number, words, *time_s in json.loads(value)
    )
