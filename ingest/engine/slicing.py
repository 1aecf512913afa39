"""What is kept of an answer that was cut off, what is asked next, and how the pieces make one answer again.

Pure functions. The order in which an answer is made smaller: what was answered to the end is kept and never asked
again; the parts whose entries are not all certain are asked in fewer parts; a single part is asked for its fields
apart, a list that is too long for one answer from its last certain entry on, and a list of which not even one entry
fits column by column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ingest.asking.parse import CutAnswer
from ingest.asking.schema import ChunkSchema, Slot
from ingest.asking.schema.slices import put_at, value_at
from ingest.asking.schema.write import KEY, PAGE, QUOTE, TIME
from ingest.planning.chunks import split_chunk
from ingest.types import Chunk, Estimate, Json, JsonObject, Part

# Of the parts that one answer held whole, a later one is given this share: pages differ.
_DENSITY_MARGIN = 0.8
# So many equal entries at the end of an answer that was cut off are a model that repeats itself, not a document.
_RUNAWAY_ENTRIES = 12
_EVIDENCE = (PAGE, TIME, QUOTE)

PartOf = Callable[[Json, Chunk], int | None]
"""The number of the part of a chunk where an entry or a value with evidence stands; None when it does not say."""


@dataclass(frozen=True, slots=True)
class After:
    """Where a list goes on: behind entry number `count` of the part, which is `entry` in chunk form."""

    count: int
    entry: Json


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the schema is asked for: all of it, some slots, of one list some columns, or its entries from one on."""

    slots: tuple[Slot, ...] | None = None
    columns: tuple[str, ...] | None = None
    after: After | None = None

    @property
    def identity(self) -> JsonObject:
        """What a request key has beyond that of the whole schema."""
        after = None if self.after is None else [self.after.count, self.after.entry]
        return {"slots": self.slots, "columns": self.columns, "after": after}

    @property
    def name(self) -> str:
        """The fields, for people; empty for all."""
        if self.slots is None:
            return ""
        names = ["/".join(slot) for slot in self.slots]
        shown = ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} other fields"
        return shown if self.columns is None else f"{shown} ({', '.join(self.columns)})"


WHOLE = Scope()


@dataclass(frozen=True, slots=True)
class Ask:
    """A question: the parts and what is wanted of them."""

    chunk: Chunk
    scope: Scope = WHOLE


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that is certain: `value` in chunk form, for the owned parts of the chunk, at some slots.

    With `columns` the entries of the one list have these fields alone.
    """

    chunk: Chunk
    slots: tuple[Slot, ...]
    value: JsonObject
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What is kept of an answer and what has to be asked still."""

    said: tuple[Said, ...]
    asks: tuple[Ask, ...]


class UnevenColumns(Exception):
    """Columns of one list came with different numbers of entries, so that rows cannot be made of them."""


def fresh(value: JsonObject, ask: Ask) -> JsonObject:
    """The answer to a question for the entries of a list from one on, without the entries that are known."""
    if ask.scope.after is None or not ask.scope.slots:
        return value
    slot = ask.scope.slots[0]
    _, entries = value_at(value, slot)
    if not isinstance(entries, list):
        return value
    known = ask.scope.after.entry
    start = next((index + 1 for index, entry in enumerate(entries) if _is_same(entry, known)), 0)
    moved: JsonObject = {}
    put_at(moved, slot, entries[start:])
    return moved


def _is_same(entry: Json, known: Json) -> bool:
    """Whether an entry is the known one, as far as both tell. Its place says nothing: the part is one."""
    if isinstance(entry, dict) and isinstance(known, dict):
        names = entry.keys() & known.keys() - set(_EVIDENCE)
        return bool(names) and all(entry[name] == known[name] for name in names)
    return bool(entry == known)


def next_step(ask: Ask, cut: CutAnswer, chunk_schema: ChunkSchema, part_of: PartOf) -> Step | None:
    """How to go on after an answer was cut off; None when it cannot be asked for in anything smaller."""
    slots = ask.scope.slots or chunk_schema.slots
    done = tuple(slot for slot in slots if slot in cut.done)
    is_open = cut.open in slots
    rest = tuple(slot for slot in slots if slot not in done and slot != cut.open)
    entries = _certain_entries(cut, chunk_schema, ask) if is_open and cut.open else []
    said = [_said(ask.chunk, done, cut.value)] if done else []
    if not said and not entries and len(ask.chunk.owned) > 1:
        return Step((), tuple(replace(ask, chunk=half) for half in _halves(ask.chunk)))
    if len(ask.chunk.owned) > 1:
        return _fewer_parts(ask.chunk, said, (cut.open, entries) if is_open and cut.open else None, rest, part_of)
    if is_open and cut.open and entries:
        return _from_there_on(ask, said, cut.open, entries, rest)
    missing = (*((cut.open,) if is_open and cut.open else ()), *rest)
    if not missing:
        return Step(tuple(said), ())
    if said or (is_open and rest):
        # The slot that was too long beside the others may fit alone.
        groups = [missing[:1], missing[1:]] if is_open else [missing]
    elif len(missing) > 1:
        groups = [missing[: len(missing) // 2], missing[len(missing) // 2 :]]
    else:
        return _by_columns(ask, missing[0], chunk_schema)
    asks = tuple(Ask(ask.chunk, Scope(slots=group)) for group in groups if group)
    return Step(tuple(said), asks)


def in_halves(ask: Ask) -> tuple[Ask, ...]:
    """The question in halves of its parts; one part stays alone."""
    return tuple(replace(ask, chunk=half) for half in split_chunk(ask.chunk))


def _halves(chunk: Chunk) -> list[Chunk]:
    """The two halves of a chunk, each with its neighbour as context: an entry may cross the new border."""
    return _runs(chunk, chunk.owned, -(-len(chunk.owned) // 2))


def _said(chunk: Chunk, slots: tuple[Slot, ...], value: JsonObject, columns: tuple[str, ...] | None = None) -> Said:
    kept: JsonObject = {}
    for slot in slots:
        put_at(kept, slot, value_at(value, slot)[1])
    return Said(chunk, slots, kept, columns)


def _certain_entries(cut: CutAnswer, chunk_schema: ChunkSchema, ask: Ask) -> list[Json]:
    assert cut.open is not None
    if not chunk_schema.is_list(cut.open):
        return []
    _, entries = value_at(fresh(cut.value, ask), cut.open)
    if not isinstance(entries, list):
        return []
    # Whether the last entries are a loop cannot be told from a few.
    tail = entries[-_RUNAWAY_ENTRIES:]
    if len(tail) == _RUNAWAY_ENTRIES and all(entry == tail[0] for entry in tail):
        while entries and entries[-1] == tail[0]:
            entries = entries[:-1]
    return entries


def _fewer_parts(
    chunk: Chunk,
    said: list[Said],
    open_list: tuple[Slot, list[Json]] | None,
    rest: tuple[Slot, ...],
    part_of: PartOf,
) -> Step | None:
    missing = (*((open_list[0],) if open_list else ()), *rest)
    if not missing:
        return Step(tuple(said), ())
    slot, entries = open_list or ((), [])
    before = _certain_parts(chunk, entries, part_of)
    if not before:
        asks = [Ask(run, Scope(slots=missing)) for run in _halves(chunk)]
        return Step(tuple(said), tuple(asks))
    (kept,) = _runs(chunk, before, len(before))
    numbers = {part.number for part in before}
    value: JsonObject = {}
    put_at(value, slot, [entry for entry in entries if part_of(entry, chunk) in numbers])
    said.append(Said(kept, (slot,), value))
    asks = [Ask(kept, Scope(slots=rest))] if rest else []
    size = max(int(len(before) * _DENSITY_MARGIN), 1)
    asks += [Ask(run, Scope(slots=missing)) for run in _runs(chunk, chunk.owned[len(before) :], size)]
    return Step(tuple(said), tuple(asks))


def _certain_parts(chunk: Chunk, entries: Sequence[Json], part_of: PartOf) -> tuple[Part, ...]:
    """The owned parts of which every entry is there: those before the part of the last entry, if the order is kept."""
    order: dict[int, int] = {}
    for place, part in enumerate(chunk.owned):
        # Of a page in pieces the first: which piece an entry stands on is not said.
        order.setdefault(part.number, place)
    places = [order.get(part_of(entry, chunk) or 0, -1) for entry in entries]
    if not places or places[0] < 0 or any(later < earlier for earlier, later in pairwise(places)):
        return ()
    return chunk.owned[: places[-1]]


def _runs(chunk: Chunk, parts: Sequence[Part], size: int) -> list[Chunk]:
    """Consecutive parts of a chunk in runs of about one size, each with the parts beside it as context."""
    count = -(-len(parts) // size)
    bounds = [len(parts) * number // count for number in range(count + 1)]
    carried = chunk.parts
    place_of = {(part.index, part.piece): place for place, part in enumerate(carried)}
    runs = []
    for start, stop in pairwise(bounds):
        own = tuple(parts[start:stop])
        first = place_of[own[0].index, own[0].piece]
        last = place_of[own[-1].index, own[-1].piece]
        near = (*carried[max(first - 1, 0) : first], *carried[last + 1 : last + 2])
        context = tuple(part for part in near if part.mode != "native")
        # Context that was planned stays with the run it adjoins.
        planned = [part for part in chunk.context if _adjoins(part, own, chunk)]
        context += tuple(part for part in planned if part not in context)
        share = Estimate(
            *(each * len(own) // len(chunk.owned) for each in (chunk.estimate.expected, chunk.estimate.safe))
        )
        answer = Estimate(*(each * len(own) // len(chunk.owned) for each in (chunk.answer.expected, chunk.answer.safe)))
        runs.append(Chunk(chunk.index, own, context, share, answer))
    return runs


def _adjoins(part: Part, own: Sequence[Part], chunk: Chunk) -> bool:
    is_before = (part.index, part.piece) < (chunk.owned[0].index, chunk.owned[0].piece)
    return own[0] == chunk.owned[0] if is_before else own[-1] == chunk.owned[-1]


def _from_there_on(ask: Ask, said: list[Said], slot: Slot, entries: list[Json], rest: tuple[Slot, ...]) -> Step:
    value: JsonObject = {}
    put_at(value, slot, entries)
    columns = ask.scope.columns
    said.append(Said(ask.chunk, (slot,), value, columns))
    count = len(entries) + (ask.scope.after.count if ask.scope.after else 0)
    asks = [Ask(ask.chunk, Scope((slot,), columns, After(count, entries[-1])))]
    if rest:
        asks.append(Ask(ask.chunk, Scope(slots=rest)))
    return Step(tuple(said), tuple(asks))


def _by_columns(ask: Ask, slot: Slot, chunk_schema: ChunkSchema) -> Step | None:
    columns = ask.scope.columns or chunk_schema.columns(slot)
    if len(columns) < 2:
        return None
    asks = [Ask(ask.chunk, Scope((slot,), half, ask.scope.after)) for half in _column_halves(columns)]
    return Step((), tuple(asks))


def _column_halves(columns: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    middle = len(columns) // 2
    return columns[:middle], columns[middle:]


# --- the pieces together ---


def runs_of(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The finest runs of parts that no answer divides, in reading order, with the context of the smallest that had it.

    Together they own every part that any of the chunks owns, each once.
    """
    asked = list(chunks)
    parts = {(part.index, part.piece): part for chunk in asked for part in chunk.owned}
    starts = {_place(chunk.owned[0]) for chunk in asked}
    ends = {_place(chunk.owned[-1]) for chunk in asked}
    runs: list[list[Part]] = []
    for place in sorted(parts):
        if not runs or place in starts or _place(runs[-1][-1]) in ends:
            runs.append([])
        runs[-1].append(parts[place])
    return [_as_chunk(tuple(run), asked) for run in runs]


def _as_chunk(owned: tuple[Part, ...], asked: Sequence[Chunk]) -> Chunk:
    """A chunk of these parts: the smallest that was asked about them, cut to them."""
    numbers = {_place(part) for part in owned}
    around = min(
        (chunk for chunk in asked if numbers <= {_place(part) for part in chunk.owned}),
        key=lambda chunk: len(chunk.owned),
    )
    if around.owned == owned:
        return around
    context = tuple(part for part in around.context if _adjoins(part, owned, around))
    return replace(around, owned=owned, context=context)


def _place(part: Part) -> tuple[int, int]:
    return part.index, part.piece


def shares(said: Said, runs: Sequence[Chunk], part_of: PartOf) -> list[tuple[Chunk, Said]]:
    """What an answer says of each of the runs it speaks for: values by the place they are cited at, else the first."""
    owned = {_place(part) for part in said.chunk.owned}
    own = [run for run in runs if _place(run.owned[0]) in owned]
    if len(own) == 1:
        return [(own[0], said)]
    home: dict[int, int] = {}
    for place, run in enumerate(own):
        for part in run.owned:
            home.setdefault(part.number, place)
    values: list[JsonObject] = [{} for _ in own]
    for slot in said.slots:
        _, value = value_at(said.value, slot)
        if isinstance(value, list):
            for place, share in enumerate(values):
                put_at(share, slot, [e for e in value if home.get(part_of(e, said.chunk) or 0, 0) == place])
        elif value is not None:
            put_at(values[home.get(part_of(value, said.chunk) or 0, 0)], slot, value)
    return [(run, replace(said, value=value)) for run, value in zip(own, values, strict=True)]


def together(pieces: Sequence[Said], chunk_schema: ChunkSchema) -> JsonObject:
    """The answer of one run in chunk form, of pieces in the order they were asked. Raises UnevenColumns."""
    answer = chunk_schema.blank()
    lists: dict[Slot, dict[tuple[str, ...] | None, list[Json]]] = {}
    for piece in pieces:
        for slot in piece.slots:
            is_there, value = value_at(piece.value, slot)
            if isinstance(value, list) and chunk_schema.is_list(slot):
                lists.setdefault(slot, {}).setdefault(piece.columns, []).extend(value)
            elif is_there and value is not None:
                put_at(answer, slot, value)
    for slot, by_columns in lists.items():
        whole = by_columns.pop(None, [])
        put_at(answer, slot, whole + (_joined(by_columns, chunk_schema.columns(slot)) if by_columns else []))
    return answer


def _joined(by_columns: Mapping[tuple[str, ...] | None, list[Any]], columns: tuple[str, ...]) -> list[Any]:
    """Rows of columns that were asked for apart, row by row. Raises UnevenColumns."""
    own = by_columns.get(columns, [])
    if len(columns) < 2:
        return own
    first, second = (_joined(by_columns, half) for half in _column_halves(columns))
    if len(first) != len(second):
        raise UnevenColumns
    return own + [left | right for left, right in zip(first, second, strict=True)]


def words(ask: Ask) -> str | None:
    """What the model is told beyond the schema when a list goes on from an entry."""
    after = ask.scope.after
    if after is None or not ask.scope.slots:
        return None
    entry = after.entry
    if isinstance(entry, dict):
        wanted = {KEY, *ask.scope.columns} if ask.scope.columns else None
        entry = {
            name: value for name, value in entry.items() if name not in _EVIDENCE and (wanted is None or name in wanted)
        }
    shown = json.dumps(entry, ensure_ascii=False)
    return (
        f"Of the list `{'/'.join(ask.scope.slots[0])}` the first {after.count} entries are known; "
        f"the last of them is {shown}. Begin the list with this entry, and go on with all that follow it."
    )
