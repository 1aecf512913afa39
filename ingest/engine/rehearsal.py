"""What a run would ask about a chunk, found out by going through its questions with the answers at hand alone."""

from __future__ import annotations

from ingest.engine.exchange import Answer, Exchange
from ingest.engine.session import Session
from ingest.engine.slicing import Ask
from ingest.types import Chunk, Document


async def rehearse(session: Session, document: Document, chunk: Chunk) -> tuple[Chunk, ...]:
    """The parts of a chunk that a run would send, as the chunks it would send them in. Nothing is rendered or asked.

    It takes every step that a run takes over answers it has: halves, smaller questions, those that `--retry` sets
    aside. What an answer that is not there would lead to is not known, and not counted.
    """
    rehearsal = _Rehearsal(session, document, chunk)
    await rehearsal.settle(Ask(chunk))
    return tuple(rehearsal.missing)


class _Unanswered(Exception):
    """A run would ask here."""


class _Rehearsal(Exchange):
    """The questions about one chunk, none of which is sent."""

    def __init__(self, session: Session, document: Document, chunk: Chunk) -> None:
        super().__init__(session, document, chunk)
        self.missing: list[Chunk] = []

    async def _settle(self, ask: Ask) -> None:
        try:
            await super()._settle(ask)
        except _Unanswered:
            self.missing.append(ask.chunk)

    async def _answer(self, ask: Ask, hint: str | None) -> Answer:
        key = self._key(ask, hint)
        reply = self._session.turns.recall(key, is_aside=key in self._aside)
        if reply is None:
            raise _Unanswered
        return Answer(ask, reply, key)
