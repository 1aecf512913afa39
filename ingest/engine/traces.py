"""What log and traces tell of runs and documents: names, counts and money, never a word of what was read."""

from __future__ import annotations

from typing import Any

from ingest import tracing
from ingest.config import Config
from ingest.engine.assembly import model_info
from ingest.record import Record, RunSummary

_LOG = tracing.logger(__name__)


def start_of_run(config: Config, run_id: int) -> tracing.Span:
    """The step around all documents of a run; whoever opens the run ends it."""
    info = model_info(config)
    attributes: tracing.Attributes = {
        "ingest.run.id": run_id,
        "ingest.recipe": config.recipe.name,
        "ingest.profile": info.profile,
        "gen_ai.request.model": info.model,
    }
    return tracing.start("ingest run", {"run": run_id}, attributes)


def tell_of_run(step: tracing.Span, summary: RunSummary) -> None:
    """Put the sums of a run into its trace and the log."""
    counts = {status: getattr(summary, status) for status in ("complete", "partial", "failed", "skipped")}
    spent_usd = summary.spent_usd
    step.set(
        {
            **{f"ingest.documents.{status}": count for status, count in counts.items()},
            "ingest.requests": summary.requests_sent,
            "ingest.cost_usd": None if spent_usd is None else float(spent_usd),
        }
    )
    _LOG.info("run ended", extra={**step.fields, **counts, "requests": summary.requests_sent, "spent_usd": spent_usd})


def tell_of(step: tracing.Span, record: Record[Any]) -> None:
    """Put what became of a document into the log and its trace, without a word of what it says."""
    usage = record.usage
    step.set(
        {
            "ingest.document.name": record.document.name,
            "ingest.document.media_type": record.document.media_type,
            "ingest.document.size_bytes": record.document.size_bytes,
            "ingest.document.pages": record.document.pages,
            "ingest.status": record.status,
            "ingest.requests": usage.requests,
            "ingest.cost_usd": None if usage.cost_usd is None else float(usage.cost_usd),
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
        }
    )
    if record.status == "failed":
        step.fail(record.problems[0].code if record.problems else "failed")
    _LOG.info(
        "document ended",
        extra={
            "status": record.status,
            "requests": usage.requests,
            "problems": ",".join(dict.fromkeys(problem.code for problem in record.problems)) or "none",
        },
    )
