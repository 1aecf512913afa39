"""The record: one document's validated data with its evidence, as written to `OUT/<name>.json`.

`record.schema.json` at the root of the package is generated from these models (`python -m ingest.record`).
Nothing in a record depends on the clock, the machine or the order of arrival: the same input gives the same bytes.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from typing_extensions import TypeVar

Status: TypeAlias = Literal["complete", "partial", "failed", "skipped"]
PartStatus: TypeAlias = Literal["answered", "refused", "failed", "skipped"]
Grade: TypeAlias = Literal["exact", "normalised", "fuzzy", "cited", "ungrounded"]

T = TypeVar("T", default=dict[str, Any])


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DocumentInfo(_Value):
    """What was read."""

    name: str = Field(description="Relative path that names the record; always with forward slashes")
    uri: str = Field(description="Where the bytes came from")
    sha256: str = Field(description="Hash of the bytes; empty when they could not be read")
    media_type: str = Field(description="IANA media type found from the bytes; empty when not recognised")
    size_bytes: int
    pages: int = Field(0, description="Pages (or images in a multi-image file)")
    frames: int = Field(0, description="Video frames kept")
    title: str | None = None
    parent: str | None = Field(None, description="Name of the e-mail or archive that the document came in")
    metadata: dict[str, Any] = Field(default_factory=dict, description="What the caller's manifest says of it")


class Evidence(_Value):
    """One place a value comes from: a page with a box, or a span of video."""

    page: int | None = Field(None, description="Page number from 1")
    bbox: tuple[float, float, float, float] | None = Field(
        None, description="x0, y0, x1, y1 in points (1/72 inch), origin top left, of the page as displayed"
    )
    quote: str | None = Field(None, description="The words that stand there")
    grade: Grade = Field(
        "cited",
        description=(
            "exact, normalised, fuzzy: found by us in the page's words; cited: the page is the model's word, "
            "the page has no words to check against; ungrounded: the page's words do not hold the value"
        ),
    )
    start_s: float | None = Field(None, description="Video: start of the interval in seconds")
    end_s: float | None = Field(None, description="Video: end of the interval in seconds")
    frame_pts: int | None = Field(None, description="Video: exact stamp of the frame in the stream's time base")


class ConflictSide(_Value):
    """One of the values that disagree."""

    value: Any
    chunk: int = Field(description="Index of the chunk, from 0")
    evidence: tuple[Evidence, ...] = ()


class Conflict(_Value):
    """Chunks disagreed on a value; `data` holds the chosen one."""

    pointer: str = Field(description="JSON Pointer into data")
    chosen: Any
    rule: str = Field(description="Merge rule that chose")
    sides: tuple[ConflictSide, ...]


class PartCoverage(_Value):
    """What became of one page or frame."""

    number: int = Field(description="Page or frame number from 1")
    status: PartStatus
    mode: Literal["image", "text", "both", "native"]
    chunk: int | None = Field(None, description="Index of the chunk that owned it, from 0")
    attempts: int = Field(0, description="Paid or tried calls that carried it as owned")
    reason: str | None = None


class Coverage(_Value):
    """Every page and frame is accounted for."""

    total: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    parts: tuple[PartCoverage, ...] = ()


class ProblemInfo(_Value):
    """A recorded failure or doubt."""

    stage: str = Field(description="read, plan, ask, parse, merge, check or write")
    code: str
    message: str
    part: int | None = Field(None, description="Page or frame number from 1")
    pointer: str | None = Field(None, description="JSON Pointer into data")


class UsageInfo(_Value):
    """Tokens and money of the answers this record is made of, whenever they were bought."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: Decimal | None = Field(Decimal(0), description="None when the profile has no price")


class ModelInfo(_Value):
    """Who answered."""

    model: str
    profile: str
    protocol: str
    endpoint: str = Field(description="Base URL, or 'local' for the embedded engine")


class RecipeInfo(_Value):
    """What was asked."""

    name: str
    schema_sha256: str = Field(description="Hash of the document schema in canonical JSON")
    instructions_sha256: str


class Record(BaseModel, Generic[T]):
    """One document's result. `data` is None when nothing could be extracted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    document: DocumentInfo
    data: T | None = None
    status: Status
    provenance: dict[str, tuple[Evidence, ...]] = Field(
        default_factory=dict, description="JSON Pointer of each leaf of data to the places it comes from"
    )
    confidence: dict[str, float] = Field(
        default_factory=dict,
        description="Trust in each value by JSON Pointer, 0 to 1, from evidence, agreement of chunks and checks",
    )
    conflicts: tuple[Conflict, ...] = ()
    coverage: Coverage = Coverage()
    problems: tuple[ProblemInfo, ...] = ()
    notes: tuple[ProblemInfo, ...] = Field(
        (),
        description="What was put right: in the file while reading it, in a value to fit the schema (a date written as"
        " YYYY-MM-DD)",
    )
    usage: UsageInfo = UsageInfo()
    model: ModelInfo
    recipe: RecipeInfo
    keys: tuple[str, ...] = Field((), description="Request keys of the answers used, in chunk order")

    def __reduce__(self) -> tuple[Any, ...]:
        # A record of a caller's class is of a class made on the way, which another process cannot look up by its name.
        return _restored, (type(self).__pydantic_generic_metadata__["args"], self.__getstate__())

    def to_json(self, indent: int | None = 2) -> str:
        """The record as JSON text: keys in the declared order, evidence without empty fields."""
        return to_json(self.to_dict(), indent=indent).decode()

    def to_dict(self) -> dict[str, Any]:
        """The record as a JSON value, as written to disk."""
        value: dict[str, Any] = self.model_dump(mode="json")
        for places in value["provenance"].values():
            for place in places:
                for empty in [name for name, item in place.items() if item is None]:
                    del place[empty]
        return value


def _restored(arguments: tuple[Any, ...], state: dict[Any, Any]) -> Record[Any]:
    kind: type[Record[Any]] = Record[arguments] if arguments else Record  # type: ignore[valid-type]
    record = kind.__new__(kind)
    record.__setstate__(state)
    return record


def status_of(coverage: Coverage, is_valid: bool) -> Status:
    """The one rule for a record's status.

    failed: no part was answered; skipped: none was even asked. complete: every part was answered and the data fits the
    document schema. partial: anything between.
    """
    if not coverage.answered:
        return "skipped" if coverage.total and coverage.skipped == coverage.total else "failed"
    return "complete" if coverage.answered == coverage.total and is_valid else "partial"


class Totals(_Value):
    """Numbers of one document, or summed over a run."""

    pages: int = 0
    frames: int = 0
    chunks: int = 0
    requests: int = Field(0, description="Answers the records are made of, whenever they were bought")
    from_ledger: int = Field(0, description="Of those, answers that were already in the ledger when the run began")
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Field(Decimal(0), description="None when the profile has no price")


class CostRow(_Value):
    """Calls and money under one heading: a document, a recipe, a price tier."""

    name: str
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = Field(0, description="Part of the input tokens")
    output_tokens: int = 0
    reasoning_tokens: int = Field(0, description="Part of the output tokens")
    cost_usd: Decimal | None = Field(Decimal(0), description="Booked, worst cases included; None without a price")


class KindCosts(_Value):
    """Money by kind of token, of the calls whose usage arrived."""

    input_usd: Decimal = Decimal(0)
    cached_usd: Decimal = Decimal(0)
    output_usd: Decimal = Field(Decimal(0), description="Visible answers")
    reasoning_usd: Decimal = Decimal(0)


class Spending(_Value):
    """Where money went, from the ledger: every call is booked before it is sent, and settled after.

    `total_usd` is what may have been billed at most: `confirmed_usd` by the server's own usage, and
    `unconfirmed_usd` for calls that died without it, booked at the most they can have cost. None without a price.
    """

    calls: int = Field(0, description="Calls sent, failed ones included")
    total_usd: Decimal | None = Decimal(0)
    confirmed_usd: Decimal | None = Decimal(0)
    unconfirmed_calls: int = 0
    unconfirmed_usd: Decimal | None = Decimal(0)
    unsettled_calls: int = Field(0, description="Of these, calls under way when an earlier run was killed")
    unsettled_usd: Decimal | None = Decimal(0)
    retries: int = Field(0, description="Calls that repeat one that failed or was of no use")
    retries_usd: Decimal | None = Decimal(0)
    cut_off: int = Field(0, description="Answers cut off at the output limit")
    cut_off_usd: Decimal | None = Decimal(0)
    by_kind: KindCosts = KindCosts()
    by_document: tuple[CostRow, ...] = ()
    by_recipe: tuple[CostRow, ...] = ()
    by_tier: tuple[CostRow, ...] = Field((), description="By the greatest input of the tier, in tokens")


class Remainder(_Value):
    """What a limit on money left undone, and what it would cost. Prices are None without a price."""

    documents: int = 0
    requests: int = 0
    parts: int = 0
    cost_usd_expected: Decimal | None = Decimal(0)
    cost_usd_ceiling: Decimal | None = Decimal(0)
    reason: str = ""


class Forecast(_Value):
    """What a run was planned to send and cost before its first call."""

    documents: int = 0
    requests: int = 0
    input_tokens_expected: int = 0
    input_tokens_safe: int = 0
    cost_usd_expected: Decimal | None = Decimal(0)
    cost_usd_ceiling: Decimal | None = Decimal(0)


class DocumentRow(Totals):
    """One document in the summary of a run."""

    name: str
    status: Status
    problem: str | None = Field(None, description="Message of the first problem")


class RunSummary(_Value):
    """What a run did, written as `OUT/run.json`."""

    documents: tuple[DocumentRow, ...]
    totals: Totals
    complete: int = 0
    partial: int = 0
    failed: int = 0
    skipped: int = 0
    requests_sent: int = Field(0, description="Calls made in this very run, failed ones included")
    spent_usd: Decimal | None = Field(
        Decimal(0), description="Money spent in this very run, worst cases of lost calls included; None without a price"
    )
    max_cost_usd: Decimal | None = Field(None, description="The limit that was given for the run")
    max_cost_per_document_usd: Decimal | None = Field(None, description="The limit that was given for each document")
    planned: Forecast | None = Field(None, description="The plan made before the first call; None when none was made")
    spending: Spending = Spending()
    earlier_unsettled_calls: int = Field(0, description="Calls that earlier, killed runs sent and never settled")
    earlier_unsettled_usd: Decimal | None = Field(Decimal(0), description="The most that those may have cost")
    remaining: Remainder | None = Field(None, description="What a limit on money left undone; None when nothing")
    elapsed_s: float = 0.0
    model: ModelInfo
    recipe: RecipeInfo
    output: str | None = Field(None, description="Folder the records were written to")


class RunRow(_Value):
    """One run in the ledger."""

    id: int
    started_at: str
    finished_at: str | None = None
    state: Literal["finished", "under way", "interrupted"]
    recipe: str
    model: str
    endpoint: str
    calls: int = Field(0, description="Calls sent, failed ones included")
    spent_usd: Decimal | None = Field(Decimal(0), description="None without a price")


class StateRow(_Value):
    """A document as the last run left it. `status` may be "removed": it is no longer where it was."""

    name: str
    recipe: str
    status: Status | Literal["removed"]
    problem: str | None = None
    at: str
    run: int = Field(description="Number of the run that stored it")


class DeliveryRow(_Value):
    """Something that a target has not confirmed."""

    what: str
    to: str = Field(description="The target's address with its secrets masked")
    state: Literal["failed", "unknown"] = Field(description="Refused; or sent without hearing whether it arrived")
    tries: int
    at: str
    reason: str = ""


class JobRow(_Value):
    """A scheduled job whose last run failed."""

    name: str
    exit_code: int
    at: str
    log: str


class Standing(_Value):
    """What a ledger knows of all runs."""

    runs: tuple[RunRow, ...] = Field((), description="Oldest first")
    states: dict[str, int] = Field(default_factory=dict, description="Documents by status")
    not_complete: tuple[StateRow, ...] = Field((), description="Documents that are not complete, and why")
    undelivered: tuple[DeliveryRow, ...] = Field((), description="What did not reach a target, or may not have")
    failed_jobs: tuple[JobRow, ...] = Field((), description="Scheduled jobs whose last run failed")
    books: Spending = Spending()


class PlanFigures(_Value):
    """Requests that would be sent, their tokens and their price. Chunks answered before need none."""

    requests: int = 0
    dear_requests: int = Field(0, description="Of these, requests in a dearer price tier than the first")
    input_tokens_expected: int = 0
    input_tokens_safe: int = 0
    output_tokens_expected: int = 0
    output_tokens_ceiling: int = 0
    cost_usd_expected: Decimal | None = Decimal(0)
    cost_usd_ceiling: Decimal | None = Decimal(0)


class Choice(PlanFigures):
    """What a job would cost with one setting changed, beside the present price."""

    name: str = Field(description="The setting as an option of the command line")
    difference_usd: Decimal | None = Field(Decimal(0), description="Expected price less that of the present settings")
    note: str = ""


class PlanRow(PlanFigures):
    """One document in a plan. `problem` is set when it cannot be read; it then costs nothing."""

    name: str
    pages: int = 0
    frames: int = 0
    chunks: int = 0
    answered: int = Field(0, description="Of these, chunks of which every answer is in the ledger")
    problem: str | None = None


class Plan(_Value):
    """What a run would send, and its price. `totals` sums the rows; its name is empty."""

    documents: tuple[PlanRow, ...]
    totals: PlanRow
    choices: tuple[Choice, ...] = Field((), description="What other settings would change")
    max_cost_usd: Decimal | None = Field(None, description="The limit that was given")
    model: ModelInfo
    recipe: RecipeInfo


def record_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a record as written."""
    schema = Record[dict[str, Any]].model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Record"
    # Evidence is written without its empty fields, so none of them is required.
    schema["$defs"]["Evidence"].pop("required", None)
    return schema


def write_record_schema(path: Path) -> None:
    """Rewrite `record.schema.json`."""
    path.write_text(json.dumps(record_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_record_schema(Path(__file__).with_name("record.schema.json"))
