"""An answer in chunk form turned back into the user's own shape, its evidence set apart."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.asking.schema.combine import same
from ingest.asking.schema.pointers import join
from ingest.asking.schema.shapes import (
    ArrayShape,
    Choice,
    Core,
    Field,
    Leaf,
    MapShape,
    ObjectShape,
    Place,
    Reference,
    Shape,
    Table,
    TupleShape,
    admits_null,
    resolve,
)
from ingest.asking.schema.write import KEY, QUOTE, REST, TIME, VALUE, first_place, place_name, position_name
from ingest.types import Cite, EvidenceMode, Json, Medium

_NO_CITE = Cite(None)


def restore_shape(
    answer: Json, shape: Shape, table: Table, evidence: EvidenceMode, medium: Medium = "pages"
) -> tuple[Json, dict[str, Cite]]:
    """The data in the user's shape and the cites by JSON Pointer into it."""
    restorer = _Restorer(table, evidence, medium)
    if not isinstance(resolve(shape, table), ObjectShape):
        answer = answer.get(VALUE) if isinstance(answer, dict) else None
    data = restorer.restore(shape, answer, first_place(evidence), "")
    return data, restorer.cites


class _Restorer:
    def __init__(self, table: Table, evidence: EvidenceMode, medium: Medium) -> None:
        self.cites: dict[str, Cite] = {}
        self._table = table
        self._has_evidence = evidence != "none"
        self._place = place_name(medium)

    def restore(self, shape: Shape, answer: Json, place: Place, pointer: str, is_option: bool = False) -> Json:
        """The value at `pointer`. What does not fit its shape is passed through as it came."""
        shape = resolve(shape, self._table)
        if answer is None:
            return None
        if isinstance(shape, Leaf):
            return self._leaf(answer, place, pointer)
        if isinstance(shape, Choice):
            option = self._option(shape, answer, place)
            return answer if option is None else self.restore(option, answer, place, pointer, is_option=True)
        if isinstance(shape, ObjectShape) and isinstance(answer, dict):
            return self._object(shape, answer, place, pointer, is_option)
        if isinstance(shape, TupleShape) and isinstance(answer, dict):
            return self._tuple(shape, answer, place, pointer)
        if isinstance(shape, ArrayShape) and isinstance(answer, list):
            return self._array(shape, answer, pointer)
        if isinstance(shape, MapShape) and isinstance(answer, list):
            return self._map(shape, answer, pointer)
        return answer

    def _leaf(self, answer: Json, place: Place, pointer: str) -> Json:
        if not self._is_wrapped(answer, place):
            return answer
        if answer[VALUE] is not None:
            self._cite(answer, pointer)
        return answer[VALUE]

    def _is_wrapped(self, answer: Json, place: Place) -> bool:
        return self._has_evidence and place is not Place.INSIDE and isinstance(answer, dict) and VALUE in answer

    def _cite(self, answer: dict[str, Json], pointer: str) -> None:
        if not self._has_evidence:
            return
        place, quote = answer.get(self._place), answer.get(QUOTE)
        quote = quote.strip() or None if isinstance(quote, str) else None
        cite = Cite(None, quote, _seconds(place)) if self._place == TIME else Cite(_number(place), quote)
        if cite != _NO_CITE:
            self.cites[pointer] = cite

    def _object(
        self, shape: ObjectShape, answer: dict[str, Json], place: Place, pointer: str, is_option: bool
    ) -> dict[str, Json]:
        if place is Place.ENTRY:
            self._cite(answer, pointer)
        data: dict[str, Json] = {}
        for field in shape.fields:
            value = self._field(field, answer.get(field.wire_name), place, pointer, is_option)
            if field.required or (field.wire_name in answer and self._says_something(field, value)):
                data[field.name] = value
        if shape.entries is not None:
            entries = self._map(shape.entries, answer.get(shape.entries_name) or [], pointer)
            data |= {name: value for name, value in entries.items() if name not in data}
        return data

    def _field(self, field: Field, answer: Json, place: Place, pointer: str, is_option: bool) -> Json:
        below = Place.INSIDE if is_option and _is_constant(field.shape) else place.below
        return self.restore(field.shape, answer, below, join(pointer, field.name))

    def _says_something(self, field: Field, value: Json) -> bool:
        """Whether an optional property is better there than not: null and "no entries" only where they are allowed."""
        if value is None:
            return admits_null(field.shape, self._table)
        target = resolve(field.shape, self._table)
        return bool(value) or not isinstance(target, ArrayShape | MapShape) or target.may_be_empty

    def _array(self, shape: ArrayShape, answer: list[Json], pointer: str, first: int = 0) -> list[Json]:
        """The entries. One that says nothing is none: a null without a place in the user's schema, a blank row."""
        keeps_null = admits_null(shape.items, self._table)
        data: list[Json] = []
        for item in answer:
            place = join(pointer, first + len(data))
            value = self.restore(shape.items, item, Place.ENTRY, place)
            if isinstance(value, dict) and _is_blank(value):
                self.cites.pop(place, None)
            elif value is not None or keeps_null:
                data.append(value)
        return data

    def _map(self, shape: MapShape, answer: list[Json], pointer: str) -> dict[str, Json]:
        """The entries by key. Of several with one key the first that says something holds."""
        data: dict[str, Json] = {}
        for entry in answer:
            key = entry.get(KEY) if isinstance(entry, dict) else None
            if key is None or data.get(str(key)) is not None:
                continue
            place = join(pointer, str(key))
            value = self.restore(shape.value, entry.get(VALUE), Place.INSIDE, place)
            if value is not None or admits_null(shape.value, self._table):
                data[str(key)] = value
                self._cite(entry, place)
        return data

    def _tuple(self, shape: TupleShape, answer: dict[str, Json], place: Place, pointer: str) -> list[Json] | None:
        """The positions in order; None when the answer has nothing for any of them."""
        data = [
            self.restore(position, answer.get(position_name(index)), place.below, join(pointer, index))
            for index, position in enumerate(shape.positions)
        ]
        rest = answer.get(REST)
        if shape.rest is not None and isinstance(rest, list):
            data += self._array(shape.rest, rest, pointer, len(data))
        if all(value is None for value in data):
            return None
        if place is Place.ENTRY:
            self._cite(answer, pointer)
        return data

    # --- choices ---

    def _option(self, shape: Choice, answer: Json, place: Place) -> Shape | None:
        """The first option the answer fits, else the one that shares most properties with it."""
        for option in shape.options:
            if self._fits(option, answer, place, is_option=True):
                return option
        return max(shape.options, key=lambda option: self._likeness(option, answer), default=None)

    def _likeness(self, shape: Shape, answer: Json) -> int:
        target = resolve(shape, self._table)
        if isinstance(target, ObjectShape) and isinstance(answer, dict):
            return 1 + sum(field.wire_name in answer for field in target.fields)
        if isinstance(target, ArrayShape | MapShape):
            return int(isinstance(answer, list))
        return int(isinstance(target, Leaf) and not isinstance(answer, dict | list))

    def _fits(self, shape: Shape, answer: Json, place: Place, is_option: bool = False) -> bool:
        shape = resolve(shape, self._table)
        if answer is None:
            return not is_option
        if isinstance(shape, Leaf):
            if self._has_evidence and place is not Place.INSIDE:
                if not isinstance(answer, dict) or not answer.keys() <= {self._place, QUOTE, VALUE}:
                    return False
                answer = answer.get(VALUE)
            return answer is None or any(_is_in(core, answer) for core in shape.cores)
        if isinstance(shape, Choice):
            return any(self._fits(option, answer, place, is_option=True) for option in shape.options)
        if isinstance(shape, ArrayShape):
            return isinstance(answer, list) and all(self._fits(shape.items, item, Place.ENTRY) for item in answer)
        if isinstance(shape, MapShape):
            return isinstance(answer, list) and all(self._fits_entry(shape, entry) for entry in answer)
        assert not isinstance(shape, Reference)
        return isinstance(answer, dict) and self._fits_names(shape, answer, place, is_option)

    def _fits_entry(self, shape: MapShape, entry: Json) -> bool:
        return isinstance(entry, dict) and KEY in entry and self._fits(shape.value, entry.get(VALUE), Place.INSIDE)

    def _fits_names(
        self, shape: ObjectShape | TupleShape, answer: dict[str, Json], place: Place, is_option: bool
    ) -> bool:
        evidence = {self._place, QUOTE} if self._has_evidence and place is Place.ENTRY else set()
        parts = list(_parts(shape, place, is_option))
        if answer.keys() - evidence != {name for name, _, _ in parts}:
            return False
        return all(self._fits(part, answer[name], below) for name, part, below in parts)


def _parts(shape: ObjectShape | TupleShape, place: Place, is_option: bool) -> Iterable[tuple[str, Shape, Place]]:
    """Wire name, shape and place of everything an object or a tuple holds."""
    if isinstance(shape, TupleShape):
        yield from ((position_name(index), part, place.below) for index, part in enumerate(shape.positions))
        if shape.rest is not None:
            yield REST, shape.rest, place.below
        return
    for field in shape.fields:
        is_plain = is_option and _is_constant(field.shape)
        yield field.wire_name, field.shape, Place.INSIDE if is_plain else place.below
    if shape.entries is not None:
        yield shape.entries_name, shape.entries, place.below


def _number(place: Json) -> int | None:
    """The number of a page, None for anything else."""
    return place if isinstance(place, int) and not isinstance(place, bool) and place > 0 else None


def _seconds(place: Json) -> float | None:
    """Seconds from the start of a video, None for anything else."""
    is_time = isinstance(place, int | float) and not isinstance(place, bool) and 0 <= place < float("inf")
    return float(place) if is_time else None


def _is_blank(value: Json) -> bool:
    """Whether there is no value in it, at any depth."""
    if isinstance(value, dict):
        return all(map(_is_blank, value.values()))
    return all(map(_is_blank, value)) if isinstance(value, list) else value is None


def _is_constant(shape: Shape) -> bool:
    return isinstance(shape, Leaf) and shape.is_constant


def _is_in(core: Core, value: Json) -> bool:
    if core.enum is not None:
        return any(same(value, other) for other in core.enum)
    if isinstance(value, bool):
        return "boolean" in core.types
    if isinstance(value, str):
        return "string" in core.types
    if isinstance(value, float) and not value.is_integer():
        return "number" in core.types
    return isinstance(value, int | float) and bool({"integer", "number"} & set(core.types))
