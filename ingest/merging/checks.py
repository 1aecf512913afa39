"""The merged data against the user's own schema: what is certain is put right, the rest is reported.

jsonschema is slow to import, so it is imported where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

from ingest.merging.shape import Shape, escape, root_shape
from ingest.record import ProblemInfo
from ingest.types import Json, JsonObject

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_STAGE: Final = "check"
_MAX_VALUE_CHARS: Final = 60

_FORMAT_WORDS: Final = {
    "date": "a date (YYYY-MM-DD)",
    "date-time": "a date and time (YYYY-MM-DDThh:mm:ssZ)",
    "time": "a time of day (hh:mm:ssZ)",
    "email": "an e-mail address",
    "uri": "a web address",
    "uuid": "a UUID",
}
_TYPE_WORDS: Final = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}


def validate(data: Json, document_schema: JsonObject, limit: int = 100) -> tuple[ProblemInfo, ...]:
    """The places where `data` does not fit `document_schema`, each a problem `off_schema` with its JSON Pointer.

    JSON Schema 2020-12 unless the schema names another draft; formats are checked. At most `limit` violations are
    listed, and one more problem says that there are others. A schema that cannot be used is a problem `bad_schema`.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing.exceptions import Unresolvable

    validator_class = _exact(validator_for(document_schema, default=Draft202012Validator))
    checker = validator_class(document_schema, format_checker=validator_class.FORMAT_CHECKER)
    try:
        validator_class.check_schema(document_schema)
        found = list(islice(_problems(checker.iter_errors(data)), limit + 1))
    except SchemaError as error:
        return (ProblemInfo(stage=_STAGE, code="bad_schema", message=f"the schema is not valid: {error.message}"),)
    except Unresolvable as error:
        message = f"the schema refers to {error.ref!r}, which cannot be found; only references within the schema work"
        return (ProblemInfo(stage=_STAGE, code="bad_schema", message=message),)
    if len(found) > limit:
        message = f"more than {limit} values do not fit the schema; the others are not listed"
        found[limit:] = [ProblemInfo(stage=_STAGE, code="off_schema", message=message)]
    return tuple(found)


@lru_cache(maxsize=8)
def _exact(validator_class: type[Validator]) -> type[Validator]:
    """The validator with a `multipleOf` that reckons in decimals: in floats 2212.99 is no multiple of 0.01."""
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    def multiple_of(validator: Validator, step: float, value: Json, schema: JsonObject) -> Iterator[ValidationError]:
        if validator.is_type(value, "number") and not _is_multiple(value, step):
            yield ValidationError(f"{value!r} is not a multiple of {step}")

    extended: type[Validator] = extend(validator_class, {"multipleOf": multiple_of})
    return extended


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    exact, of = (Fraction(each) if isinstance(each, int) else Fraction(repr(each)) for each in (value, step))
    return exact % of == 0


def prune(data: Json, schema: JsonObject) -> Json:
    """`data` with what is certain put right, and nothing invented.

    Chunks answer a schema in which everything may be null, so after merging: null goes away where a property is
    optional and not nullable; a missing required property becomes null where null is allowed, else an empty list or
    an object of such values where only that is allowed. Anything else stays as it is, for `validate` to report.
    """
    return _prune(data, root_shape(schema), ())


def _prune(value: Json, shape: Shape, filling: tuple[tuple[int, ...], ...]) -> Json:
    if isinstance(value, list):
        return [_prune(item, shape.items, filling) for item in value]
    if not isinstance(value, dict):
        return value
    required = shape.required
    pruned: JsonObject = {}
    for key, item in value.items():
        child = shape.child(key)
        if item is None and not child.allows_null:
            if key in required:
                pruned[key] = _empty(child, filling)
        else:
            pruned[key] = _prune(item, child, filling)
    missing = [key for key in required if key not in value]
    for key in missing:
        filled = _empty(shape.child(key), filling)
        if filled is not None or shape.child(key).allows_null:
            pruned[key] = filled
    return _in_order(pruned, shape) if missing else pruned


def _empty(shape: Shape, filling: tuple[tuple[int, ...], ...]) -> Json:
    """What stands for "nothing found" at a required place: null where allowed, else [] or an object of such values."""
    if shape.allows_null:
        return None
    if shape.types == {"array"}:
        return []
    # An object that requires itself cannot be filled; stop where the place comes round again.
    if shape.types == {"object"} and shape.identity not in filling:
        return _prune({}, shape, (*filling, shape.identity))
    return None


def _in_order(value: JsonObject, shape: Shape) -> JsonObject:
    order = [key for key in shape.order if key in value]
    return {key: value[key] for key in (*order, *(key for key in value if key not in order))}


def _problems(errors: Iterable[ValidationError]) -> Iterator[ProblemInfo]:
    """Each problem once: jsonschema reports every property an object lacks by itself, ours names them all."""
    seen = set()
    for error in errors:
        problem = _problem(error)
        if (problem.pointer, problem.message) not in seen:
            seen.add((problem.pointer, problem.message))
            yield problem


def _problem(error: ValidationError) -> ProblemInfo:
    from jsonschema.exceptions import best_match

    # Of an anyOf that fails, the branch that came closest says more than "fits none".
    closest = best_match([error]) or error
    pointer = "".join(f"/{escape(str(step))}" for step in closest.absolute_path)
    return ProblemInfo(stage=_STAGE, code="off_schema", message=f"{_place(pointer)} {_say(closest)}", pointer=pointer)


def _place(pointer: str) -> str:
    return pointer.removeprefix("/") or "the data"


def _say(error: ValidationError) -> str:
    wanted, value = error.validator_value, _show(error.instance)
    match error.validator:
        case "type":
            types = wanted if isinstance(wanted, list) else [wanted]
            return f"must be {' or '.join(_TYPE_WORDS.get(each, str(each)) for each in types)}, and is {value}"
        case "required":
            return f"lacks {', '.join(key for key in wanted if key not in error.instance)}"
        case "format":
            return f"must be {_FORMAT_WORDS.get(str(wanted), f'of format {wanted}')}, and is {value}"
        case "enum":
            return f"must be one of {_show(wanted)}, and is {value}"
        case "const":
            return f"must be {_show(wanted)}, and is {value}"
        case "pattern":
            return f"must match {wanted}, and is {value}"
        case "minimum" | "exclusiveMinimum":
            return f"must be {'at least' if error.validator == 'minimum' else 'more than'} {wanted}, and is {value}"
        case "maximum" | "exclusiveMaximum":
            return f"must be {'at most' if error.validator == 'maximum' else 'less than'} {wanted}, and is {value}"
        case "minItems" | "maxItems":
            bound = "at least" if error.validator == "minItems" else "at most"
            return f"must have {bound} {wanted} items, and has {len(error.instance)}"
        case "minLength" | "maxLength":
            bound = "at least" if error.validator == "minLength" else "at most"
            return f"must have {bound} {wanted} characters, and is {value}"
        case "additionalProperties":
            return f"has properties the schema does not know: {error.message.split('(')[-1].rstrip(')')}"
        case "uniqueItems":
            return "must not repeat items, and does"
    return f"does not fit the schema: {_shorten(error.message, 200)}"


def _show(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    return _shorten(str(value) if isinstance(value, int | float) else repr(value), _MAX_VALUE_CHARS)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
