"""What a ledger knows of all runs: each run, what became of the documents, where the money went."""

from __future__ import annotations

from collections import Counter

from ingest.engine.accounts import spending_of
from ingest.keeping.ledger import Ledger, Run
from ingest.keeping.ledger.deliveries import Delivery
from ingest.record import DeliveryRow, JobRow, RunRow, Spending, Standing, StateRow

_STATUSES = ("complete", "partial", "failed", "skipped", "removed")
_FINE = frozenset({"complete", "removed"})


def standing_of(ledger: Ledger) -> Standing:
    """The ledger as it stands, also while runs are under way. Raises LedgerError."""
    live_runs = ledger.claims.live_runs()
    runs = ledger.runs.all()
    counts: Counter[str] = Counter()
    not_complete: list[StateRow] = []
    for state in ledger.documents.states():
        counts[state.status] += 1
        if state.status not in _FINE:
            shown = {name: getattr(state, name) for name in ("name", "recipe", "status", "problem", "at")}
            not_complete.append(StateRow(**shown, run=state.run_id))
    return Standing(
        runs=tuple(_run(run, spending_of(ledger.attempts.each(run.id)), run.id in live_runs) for run in runs),
        states={status: counts[status] for status in _STATUSES if counts[status]},
        not_complete=tuple(not_complete),
        undelivered=tuple(_delivery(each.as_seen_later()) for each in ledger.deliveries.unconfirmed()),
        failed_jobs=tuple(
            JobRow(name=run.name, exit_code=run.exit_code, at=run.started_at.isoformat(), log=run.log)
            for job in ledger.schedules.all()
            for run in ledger.schedules.runs(job.name, limit=1)
            if run.exit_code
        ),
        books=spending_of(posting for run in runs for posting in ledger.attempts.each(run.id)),
    )


def _delivery(delivery: Delivery) -> DeliveryRow:
    return DeliveryRow(
        what=delivery.key,
        to=delivery.label,
        state="failed" if delivery.state == "failed" else "unknown",
        tries=delivery.tries,
        at=delivery.at,
        reason=delivery.reason or "",
    )


def _run(run: Run, spent: Spending, is_live: bool) -> RunRow:
    return RunRow(
        id=run.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
        state="finished" if run.finished_at else "under way" if is_live else "interrupted",
        recipe=run.recipe,
        model=run.model,
        endpoint=run.endpoint,
        calls=spent.calls,
        spent_usd=spent.total_usd,
    )
