"""What the documents of one run share in one process: settings made ready, workers, client, ledger, books."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from ingest import tracing
from ingest.asking import schema, wire
from ingest.asking.client import Client
from ingest.asking.rungs import Rungs
from ingest.config import Config
from ingest.engine.assembly import model_info
from ingest.engine.blueprint import Blueprint, Brief, pin
from ingest.engine.books import Books
from ingest.engine.embedded import EmbeddedEngine
from ingest.engine.in_flight import Place, Rooms
from ingest.engine.output_limits import OutputLimit, output_limits, short_key
from ingest.engine.turns import Turn, Turns
from ingest.execute.sharing import Shared
from ingest.keeping.ledger import LEDGER_FOLDER, Ledger
from ingest.merging.arithmetic import read_checks
from ingest.merging.merge import check_rules
from ingest.planning.calibration import Calibration
from ingest.planning.chunks import Layout, Planner
from ingest.reading.staging import Staging
from ingest.reading.workers import Workers
from ingest.types import (
    Chunk,
    Content,
    Document,
    Json,
    JsonObject,
    Loaded,
    Observation,
    Observer,
    Problem,
    Reply,
    Request,
    Rung,
)

_LOG = logging.getLogger(__name__)

_OBSERVATIONS_HELD = 400
# Working them in takes milliseconds: not worth it for each of many.
_LEARNT_SHARE = 20


class Cut:
    """The chunks that a document is asked about in; changes when one of them has to be cut further."""

    def __init__(self, key: str, chunks: tuple[Chunk, ...], problems: tuple[Problem, ...]) -> None:
        self.key, self.chunks, self.problems = key, chunks, problems


class Session:
    """One run's steps made ready. Use as an async context manager; leaving it closes everything it opened.

    As it is opened it is enough for planning; once it has begun, it asks. With `is_dry` not even a ledger is made.

    Raises ConfigError when the schema or a merge rule cannot be used, LedgerError when the ledger cannot.
    """

    def __init__(self, config: Config, tell: Observer, is_dry: bool = False) -> None:
        recipe = config.recipe
        schema.check_document_schema(recipe.document_schema)
        check_rules(recipe.document_schema, recipe.merge)
        self.checks = read_checks(recipe.checks, recipe.document_schema)
        self.config = config
        self.tell = tell
        self.blueprint = Blueprint(config)
        self.rendering = self.blueprint.rendering
        self._is_dry = is_dry
        self.run_id = 0
        self._is_asking = False
        _warn_of_fixed(config)
        self.rungs = Rungs(wire.ladder(config.profile, config.endpoint.protocol))
        self._observations: list[Observation] = []
        self._unlearned = 0
        self.calibration = Calibration.of((), config.planning.safety_margin, config.profile.answers)
        self._cuts: WeakValueDictionary[str, Cut] = WeakValueDictionary()
        # Loaded parts wait for their turn at the client.
        self.in_flight = Rooms(config.calls_at_once + 1)
        self._stack = AsyncExitStack()
        self.span = tracing.current()

    async def __aenter__(self) -> Self:
        config = self.config
        try:
            has_ledger = config.output is not None and (config.output / LEDGER_FOLDER).is_dir()
            folder = config.output if has_ledger or not self._is_dry else None
            url = None if config.keeping.ledger is None else config.keeping.ledger.get_secret_value()
            self.ledger = self._stack.enter_context(Ledger(folder, url=url))
            self.turns = Turns(self.ledger, config.keeping, self.in_flight)
            self._learn(*self.ledger.learned.observations(config.profile.model, config.endpoint.label))
            self.staging = self._stack.enter_context(Staging(config.finding.staged_bytes))
            self.workers = await self._stack.enter_async_context(Workers(config.reading))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def begin(self, run_id: int | None = None, shared: Shared | None = None) -> None:
        """From now on ask, as part of a run that is in the ledger; without its number it is a run of its own.

        `shared` are the limits of all who work on the run, else they are this session's alone. Raises ConfigError when
        the endpoint cannot be used.
        """
        config = self.config
        info = model_info(config)
        self.run_id = run_id or self.ledger.runs.start(config.recipe.name, info.model, info.endpoint)
        self.rungs = self._recall_rungs()
        self.turns = Turns(self.ledger, config.keeping, self.in_flight, self.run_id)
        owner = await self._stack.enter_async_context(self.turns.claiming())
        self.books = Books(config, self.ledger, self.run_id, owner, None if shared is None else shared.budget)
        app = await self._stack.enter_async_context(EmbeddedEngine()) if config.endpoint.local else None
        client = Client(
            config.endpoint,
            config.profile,
            config.asking,
            app,
            on_attempt=self.books.after,
            before_attempt=self.books.before,
            limits=None if shared is None else shared.limits,
        )
        self.client = await self._stack.enter_async_context(client)
        self._is_asking = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def rung(self) -> Rung:
        """How the schema is handed over at present."""
        return self.rungs.current

    def step_down(self, refused: Rung) -> bool:
        """Go on with another rung than one that was refused; False when there is none."""
        return self.rungs.refused(refused)

    def _recall_rungs(self) -> Rungs:
        """The ladder, from the rung that worked last for this endpoint, protocol and model."""
        endpoint, model = self.config.endpoint, self.config.profile.model
        place = f"{endpoint.label} {endpoint.protocol}"
        return Rungs(
            wire.ladder(self.config.profile, endpoint.protocol),
            self.ledger.learned.rung(place, model),
            lambda rung: self.ledger.learned.store_rung(place, model, rung),
        )

    def brief(self, document: Document) -> Brief:
        """What is asked of a document of this medium."""
        return self.blueprint.brief(document)

    def layout(self, document: Document) -> Layout:
        """The document's chunks. What was already answered in some cut is never cut otherwise."""
        before = self.ledger.learned.partition(self.blueprint.partition_key(document))
        pinned = None if before is None else self._restored(before, document)
        return pinned or self.blueprint.layout(document, self.calibration)

    def cut(self, document: Document) -> Cut:
        """How the document is asked about in this run, kept durably; copies of it share the cut while it is held."""
        key = self.blueprint.partition_key(document)
        cut = self._cuts.get(key)
        if cut is None:
            layout = self._pin(key, document)
            cut = self._cuts[key] = Cut(key, layout.chunks, layout.problems)
        return cut

    def _pin(self, key: str, document: Document) -> Layout:
        """How the document is cut from now on, for this run and for others that are under way."""
        while True:
            before = self.ledger.learned.partition(key)
            if before is not None and (pinned := self._restored(before, document)) is not None:
                return pinned
            layout = self.blueprint.layout(document, self.calibration)
            told = pin(layout.chunks, layout.problems)
            if not layout.chunks or self.ledger.learned.store_partition(
                key, told, self.run_id, None if before is None else before[0]
            ):
                return layout

    def replan(self, document: Document, chunk: Chunk) -> tuple[Chunk, ...]:
        """The chunk as token counts are known now: in several when it could pass the price step by now.

        The new cut is kept at once, so that a rerun, a copy of the document, or another run asks for the same pieces.
        """
        cut = self._cuts[self.blueprint.partition_key(document)]
        owned = {part.key for part in chunk.owned}
        while True:
            before = self._followed(cut, document)
            known = tuple(each for each in cut.chunks if all(part.key in owned for part in each.owned))
            if len(known) > 1:
                return known
            pieces = self.planner(document).replan(document, chunk)
            if len(pieces) == 1 or not known:
                return pieces
            chunks = tuple(each for old in cut.chunks for each in (pieces if old.owned == chunk.owned else (old,)))
            if self.ledger.learned.store_partition(cut.key, pin(chunks, cut.problems), self.run_id, before):
                cut.chunks = chunks
                return pieces

    def _followed(self, cut: Cut, document: Document) -> Json:
        """How the ledger has the document cut, taken over where another run had to cut it further."""
        before = self.ledger.learned.partition(cut.key)
        if before is None:
            return None
        if before[0] != pin(cut.chunks, cut.problems) and (layout := self._restored(before, document)) is not None:
            cut.chunks, cut.problems = layout.chunks, layout.problems
        return before[0]

    def planner(self, document: Document) -> Planner:
        """The planner of requests about a document, as token counts are known now."""
        return self.blueprint.planner(document, self.calibration)

    def _restored(self, before: tuple[Json, int], document: Document) -> Layout | None:
        """How the document was cut before, when an answer to that cut was bought, or a run is about to buy one."""
        pinned, run_id = before
        layout = self.blueprint.restore(document, self.calibration, pinned)
        if layout is None or any(self.has_answer(self.key(document, chunk)) for chunk in layout.chunks):
            return layout
        is_in_use = run_id == self.run_id or run_id in self.ledger.claims.live_runs()
        return layout if is_in_use else None

    def has_answer(self, key: str) -> bool:
        """Whether a request need not be sent: its answer is in the ledger, and counts in this run."""
        return self.turns.has(key)

    def in_time(self) -> AbstractAsyncContextManager[None]:
        """Around what goes before a call: raises DeadlinePassed when the run's time is over. Planning has no such."""
        return self.client.in_time() if self._is_asking else nullcontext()

    def turn(
        self, key: str, document: Document, chunk: Chunk | None = None, *, is_aside: bool = False
    ) -> AbstractAsyncContextManager[Turn]:
        """The turn to ask about a chunk, or about a document with nothing of it in the request (see `Turns.take`)."""
        size_bytes = 0 if chunk is None else self.planner(document).size_bytes(document, chunk)
        return self.turns.take(key, self.in_time, size_bytes, is_aside=is_aside)

    async def load(self, document: Document, chunk: Chunk, place: Place) -> tuple[Loaded, ...]:
        """The content of a chunk's parts. Raises DeadlinePassed when the run's time is over before it is there."""
        async with self.in_time():
            loaded = await self.workers.load(document, chunk.parts, self.rendering)
        place.holds(loaded)
        return loaded

    def key(self, document: Document, chunk: Chunk, hint: str | None = None, narrowed: JsonObject | None = None) -> str:
        """Identity of a request, from content and settings alone."""
        return self.blueprint.key(document, chunk, hint, narrowed)

    def request(
        self, key: str, brief: Brief, contents: tuple[Content, ...], rung: Rung, max_tokens: int | None = None
    ) -> Request:
        """A request with all that is the same for every chunk; `max_tokens` where it differs from the settings."""
        parameters = brief.parameters if max_tokens is None else {**brief.parameters, "max_tokens": max_tokens}
        return Request(
            key=key,
            model=self.config.profile.model,
            system=brief.frames[rung].system,
            contents=contents,
            schema=brief.chunk_schema.schema,
            schema_name=brief.chunk_schema.name,
            rung=rung,
            parameters=parameters,
        )

    def limits(self, document: Document, chunk: Chunk, key: str) -> tuple[OutputLimit, ...]:
        """The output limits to ask about a chunk with, one after the other while answers are cut off."""
        return output_limits(self.brief(document), chunk, key, self.has_answer(short_key(key)))

    def keep(self, document: Document, chunk: Chunk, limit: OutputLimit, reply: Reply, hint: str | None) -> None:
        """Store a bought answer before anybody reads it, and learn from its usage how tokens are counted."""
        observation = None
        # A count beyond the window is a server's nonsense, and teaches nothing.
        if 0 < reply.usage.input_tokens <= self.config.profile.window_tokens and hint is None:
            observation = self.planner(document).observe(chunk, reply.usage)
        self.books.keep(limit.key, reply, observation, limit.store_key(reply))
        if observation is not None:
            self._learn(observation)

    def _learn(self, *observations: Observation) -> None:
        # Calibration itself looks at fewer.
        self._observations = [*self._observations, *observations][-_OBSERVATIONS_HELD:]
        self._unlearned += len(observations)
        if self._unlearned * _LEARNT_SHARE < len(self._observations):
            return
        config, self._unlearned = self.config, 0
        self.calibration = Calibration.of(self._observations, config.planning.safety_margin, config.profile.answers)


def _warn_of_fixed(config: Config) -> None:
    for name in ("temperature", "top_p"):
        if getattr(config.asking, name) is not None:
            _LOG.warning("%s is fixed by the service and is not sent: answers may differ between runs", name)
