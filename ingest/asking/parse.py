"""Reply text to checked data: JSON found in the text, moved to the chunk schema where that is certain, validated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jiter

from ingest.asking.coerce import Change, coerce
from ingest.asking.schema import ChunkSchema, Slot, narrow
from ingest.asking.schema.slices import put_at, value_at
from ingest.errors import ContentRefused, Malformed, OffSchema, Truncated
from ingest.types import Json, JsonObject, Problem, Reply

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)(?:```|\Z)", re.DOTALL)
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_SCALAR_END = re.compile(r"[-+.\w]+\Z")
# Prose before an answer rarely holds braces; hostile text may hold any number.
_MAX_STARTS = 20
_MAX_ERRORS = 5
_MAX_WORDS_CHARS = 200


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer that fits the chunk schema, and what had to be done for it."""

    value: Json
    problems: tuple[Problem, ...] = ()
    changes: tuple[Change, ...] = ()


def parse(reply: Reply, chunk_schema: ChunkSchema) -> Parsed:
    """The data of a reply.

    Text that is not quite JSON is repaired as the last resort, and a problem says so.

    Raises ContentRefused when a filter stopped the answer, Truncated (with the complete items) when it was cut off,
    Malformed when it is not JSON, OffSchema with the validator's words when it does not fit.
    """
    if reply.finish_reason == "content_filter":
        raise ContentRefused("a content filter stopped the answer")
    value = _read(reply.text)
    problems: tuple[Problem, ...] = ()
    if value is None:
        body = _body(reply.text)
        if reply.finish_reason == "length" or _is_cut(body):
            partial = _read_partial(body)
            answer = (
                None if partial is None else coerce(partial, chunk_schema.schema, chunk_schema.evidence != "none")[0]
            )
            raise Truncated("the answer was cut off at the output limit", None, answer)
        value = _repair(body)
        problems = (Problem("parse", "repaired", "the answer was not valid JSON and was repaired"),)
    changes: list[Change] = []
    return Parsed(_check(value, chunk_schema, changes), problems, tuple(changes))


def _read(text: str) -> JsonObject | None:
    """The JSON object in the text: the whole of it, inside a fence, or after some prose."""
    for candidate in _candidates(text):
        try:
            value = jiter.from_json(candidate.encode("utf-8", "replace"), allow_inf_nan=False)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return _read_within(_THOUGHT.sub("", text))


def _candidates(text: str) -> Iterator[str]:
    yield text.strip()
    answer = _THOUGHT.sub("", text).strip()
    yield answer
    yield from (match[1].strip() for match in _FENCE.finditer(answer))


def _read_within(text: str) -> JsonObject | None:
    """The longest JSON object that starts at one of the first braces."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    start, longest, found = -1, 0, None
    for _ in range(_MAX_STARTS):
        start = text.find("{", start + 1)
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and end - start > longest and not _is_inside(text, start, end):
            longest, found = end - start, value
        start = end - 1
    return found if found is None else _encodable(found)


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _encodable(value: JsonObject) -> JsonObject:
    """The value, with half characters (lone surrogates) replaced: they could not be written to any file."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return dict(json.loads(text.encode("utf-8", "replace")))
    return value


def _is_inside(text: str, start: int, end: int) -> bool:
    """Whether an object is a piece of a larger one that could not be read: JSON goes on around it, not prose."""
    before, after = text[:start].rstrip(), text[end:].lstrip()
    return before.endswith(("[", ",", "{", '":')) or after.startswith((",", "]", "}"))


def _body(text: str) -> str:
    """The text from its first brace on, without thoughts and without the fence around it."""
    answer = _THOUGHT.sub("", text)
    fence = _FENCE.search(answer)
    body = fence[1] if fence and "{" in fence[1] else answer
    start = body.find("{")
    if start < 0:
        raise Malformed(f"the answer is not JSON: {_short(answer.strip()) or 'it is empty'}")
    return body[start:].strip()


def _repair(body: str) -> JsonObject:
    from json_repair import repair_json

    try:
        value = repair_json(body, return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError) as error:
        raise Malformed("the answer is not JSON and could not be repaired") from error
    if isinstance(value, list):
        # Prose behind the object is read as a list that begins with it.
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict) or not value:
        raise Malformed(f"the answer is not JSON: {_short(body)}")
    return _encodable(value)


# --- cut off answers ---


def _is_cut(body: str) -> bool:
    """Whether the text stops in the middle. A bracket forgotten behind a whole entry is not that."""
    depth, last = _open_at_end(body)
    return depth > 0 and last not in "}]"


def _read_partial(body: str) -> JsonObject | None:
    """What is complete of an answer that was cut off: the entry of a list that was being written is left out."""
    try:
        value = jiter.from_json(body.encode("utf-8", "replace"), allow_inf_nan=False, partial_mode="on")
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    _drop_open_entry(value, *_open_at_end(body))
    return value


def _open_at_end(text: str) -> tuple[int, str]:
    """How many brackets are open at the end of the text, and its last character outside of white space."""
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
    # A string that was cut is not in the partial value: what stands before it is complete.
    return depth, "," if in_string else text.rstrip()[-1:]


def _drop_open_entry(value: Json, depth: int, last: str) -> None:
    """Follow the brackets still open; the last entry of the first open list goes, unless it was finished."""
    while depth > 0:
        depth -= 1
        if isinstance(value, list):
            # Of what is not a bracket only a number may be cut and still look whole.
            if value and (depth > 0 or last.isdigit()):
                value.pop()
            return
        if not isinstance(value, dict) or not value:
            return
        value = value[next(reversed(value))]


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """What is certain of an answer that was cut off, in chunk form and fitting the schema.

    `done` are the slots that were answered to the end, `open` the one that was being written; of that, when it is a
    list, `value` has the complete entries, else nothing.
    """

    value: JsonObject
    done: tuple[Slot, ...]
    open: Slot | None = None


def read_cut(reply: Reply, chunk_schema: ChunkSchema) -> CutAnswer | None:
    """What can be kept of an answer that was cut off; None when that is nothing."""
    try:
        body = _body(reply.text)
    except Malformed:
        return None
    depth, _ = _open_at_end(body)
    whole = _without_open_scalar(body)
    try:
        value = jiter.from_json(whole.encode("utf-8", "replace"), allow_inf_nan=False, partial_mode="on")
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    path = _open_path(value, depth)
    slots = chunk_schema.slots
    found = next((slot for slot in slots if path[: len(slot)] == list(slot)), None)
    done = tuple(slot for slot in slots if slot != found and value_at(value, slot)[0])
    kept: JsonObject = {}
    for slot in done:
        put_at(kept, slot, value_at(value, slot)[1])
    asked = list(done)
    if found is not None and chunk_schema.is_list(found):
        entries = value_at(value, found)[1]
        put_at(kept, found, entries[: int(path[len(found)])] if len(path) > len(found) else entries)
        asked.append(found)
    if not asked:
        return CutAnswer({}, (), found) if found else None
    narrowed = narrow(chunk_schema, asked)
    moved, fits = coerce(kept, narrowed.schema, chunk_schema.evidence != "none")
    return CutAnswer(moved, done, found) if fits and isinstance(moved, dict) else None


def _without_open_scalar(body: str) -> str:
    """The text without a number or a word at its very end: it may go on."""
    return body if _in_string(body) else _SCALAR_END.sub("", body.rstrip())


def _in_string(body: str) -> bool:
    depth, last = _open_at_end(body)
    # The helper says "," for a string that was cut; the text then ends otherwise.
    return depth > 0 and last == "," and not body.rstrip().endswith(",")


def _open_path(value: Json, depth: int) -> list[str | int]:
    """The way to the innermost bracket still open: names of properties and numbers of entries."""
    path: list[str | int] = []
    for _ in range(depth - 1):
        if not isinstance(value, dict | list) or not value:
            break
        step: str | int = next(reversed(value)) if isinstance(value, dict) else len(value) - 1
        path.append(step)
        value = value[step]  # type: ignore[index]
    return path


# --- validation ---


def _check(value: JsonObject, chunk_schema: ChunkSchema, changes: list[Change]) -> Json:
    """The answer once it fits. Raises OffSchema with the first errors in the validator's words."""
    from jsonschema.exceptions import best_match

    if not value and chunk_schema.schema.get("required"):
        # Every property is required, and null where the pages do not hold it: an empty object is no answer.
        raise OffSchema("the answer is an empty object: every property is wanted, null where the pages do not hold it")
    moved, fits = coerce(value, chunk_schema.schema, chunk_schema.evidence != "none", changes)
    if fits:
        return moved
    errors = []
    for error in _validator(chunk_schema.text).iter_errors(moved):
        deepest = best_match([error]) or error
        pointer = "".join(f"/{step}" for step in deepest.absolute_path)
        errors.append(f"at {pointer or 'the root'}: {_short(deepest.message)}")
        if len(errors) == _MAX_ERRORS:
            break
    raise OffSchema(f"the answer does not fit the schema: {'; '.join(errors) or 'a number is out of all bounds'}")


@lru_cache(maxsize=16)
def _validator(text: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(json.loads(text), registry=Registry())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_WORDS_CHARS else f"{line[: _MAX_WORDS_CHARS - 1]}…"
