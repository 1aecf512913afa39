"""One task of an orchestrator: documents in, records in a folder and in tables, a summary out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ingest

_MOST_NAMED = 20


def ingest_folder(
    paths: str | Sequence[str],
    recipe: str,
    output: str,
    *,
    local: bool = False,
    max_cost: float | str | None = None,
    to: Sequence[str] = (),
    must_complete: bool = False,
    settings: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Any]:
    """Ingest files, folders, patterns or URLs into `output`, and into the tables and files named by `to`.

    Arguments and result are plain JSON, so that any orchestrator can pass them between tasks. The result is small
    whatever was ingested: counts, money in US dollars as text, `output`, and under `not_complete` the first 20
    documents that are not, with the reason; the whole summary is `run.json` in the output folder. A task that is tried
    again pays for nothing twice.

    Raises what `ingest.Ingestor.run` raises; with `must_complete` also IngestError when a document is not complete.
    """
    overrides = {name: dict(values) for name, values in (settings or {}).items()}
    if to:
        overrides.setdefault("keeping", {})["to"] = tuple(to)
    config = ingest.configure(recipe=recipe, output=output, local=local, max_cost=max_cost, settings=overrides)
    summary = ingest.run_to_folder([paths] if isinstance(paths, str) else list(paths), config)
    result = _result(summary, output)
    if must_complete and summary.complete < len(summary.documents):
        first = result["not_complete"][0]
        raise ingest.IngestError(
            f"{len(summary.documents) - summary.complete} of {len(summary.documents)} documents are not complete, first"
            f" {first['document']} ({first['problem'] or first['status']}); the others are told of in {output}/run.json"
        )
    return result


def _result(summary: ingest.RunSummary, output: str) -> dict[str, Any]:
    rows = [row for row in summary.documents if row.status != "complete"]
    named = [{"document": row.name, "status": row.status, "problem": row.problem} for row in rows[:_MOST_NAMED]]
    return {
        "documents": len(summary.documents),
        "complete": summary.complete,
        "partial": summary.partial,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "requests_sent": summary.requests_sent,
        "spent_usd": None if summary.spent_usd is None else f"{summary.spent_usd:f}",
        "output": output,
        "not_complete": named,
    }
