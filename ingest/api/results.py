"""Records as the caller wants them: as instances of a class, or as exceptions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from ingest import errors
from ingest.errors import IngestError
from ingest.record import ProblemInfo, Record

_STAGES: dict[str, type[IngestError]] = {"reading": errors.SourceError, "ask": errors.ModelError}
"""The branch of the error tree for problems of a stage whose code is that of no error."""


def with_class(record: Record[Any], model: type[BaseModel]) -> Record[Any]:
    """The record with its data as an instance of the class; None, and not complete, when the class does not take it.

    Whatever a validator raises counts as a refusal: it is the caller's code, and one document must not end the run.
    """
    fields = {name: getattr(record, name) for name in Record.model_fields}
    problem: ProblemInfo | None = None
    try:
        fields["data"] = None if record.data is None else model.model_validate(record.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"/{step}" for step in first["loc"])
        problem = ProblemInfo(stage="check", code="off_schema", message=first["msg"], pointer=where)
    except Exception as error:
        message = f"a validator of {model.__name__} failed with {type(error).__name__}: {error}"
        problem = ProblemInfo(stage="check", code="off_schema", message=message)
    if problem is not None:
        fields["data"] = None
        if record.status == "complete":
            fields |= {"status": "partial", "problems": (*record.problems, problem)}
    # mypy cannot see that a class known at run time may stand for the type parameter.
    return Record[model](**fields)  # type: ignore[valid-type]


def error_of(record: Record[Any]) -> IngestError:
    """The error that a record stands for which is not complete: of the class that its first problem names.

    Its `record` is the record, with all that was found.
    """
    classes = _error_classes()
    # What went wrong goes before doubts and notes, which have codes of their own.
    named = [problem for problem in record.problems if problem.code in classes]
    problem = next(iter(named or record.problems), None)
    if problem is None:
        error = IngestError(f"{record.document.name} is {record.status}")
    else:
        kind = classes.get(problem.code) or _STAGES.get(problem.stage, errors.ReplyError)
        name, message = record.document.name, problem.message
        part_index = None if problem.part is None else problem.part - 1
        error = kind(message if name in message else f"{name}: {message}", part_index)
    error.record = record
    return error


def _error_classes() -> dict[str, type[IngestError]]:
    """Every class of the tree by its code."""
    found: dict[str, type[IngestError]] = {}
    waiting: list[type[IngestError]] = [IngestError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found
