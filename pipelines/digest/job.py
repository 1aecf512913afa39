"""The job behind `ingest digest`: records up to date, what is new since it was last told, told once.

A digest is stored together with the versions of records it tells of, in one transaction. So whatever is killed, before
it nothing is told, and after it the digest is there to be written out and delivered: by this call or by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ingest
from pipelines.digest import asking, rules
from pipelines.digest.alerts import compile_alerts, raised
from pipelines.digest.citations import sources
from pipelines.digest.collecting import News, collect, places, record_file
from pipelines.digest.files import folder_of, write_files
from pipelines.digest.model import Attention, Digest, Dropped, Shown, Statement
from pipelines.digest.pages import headline, html_page, markdown_page
from pipelines.digest.settings import DigestRecipe, DigestSettings, digest_recipe, slot_of, stamp
from pipelines.digest.vanished import find_gone

if TYPE_CHECKING:
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.deliveries import Delivery
    from ingest.keeping.ledger.digests import Digest as Stored
    from ingest.keeping.ledger.documents import DocumentState

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Made:
    """What a call of the job did. `digest` is None when there was nothing new and no window asked for a page.

    `is_new` when this call made it; else it is the one that was made before, as it stands in the ledger. `folder` holds
    digest.json, digest.md and digest.html. `summary` is that of the run that brought the records up to date.
    """

    digest: Digest | None
    is_new: bool
    folder: Path | None
    deliveries: tuple[Delivery, ...]
    summary: ingest.RunSummary | None
    notices: tuple[str, ...]

    @property
    def is_fine(self) -> bool:
        """Whether every document is complete, everything could be looked at, and every target confirmed."""
        is_complete = self.summary is None or self.summary.complete == len(self.summary.documents)
        return is_complete and not self.notices and all(one.is_sent for one in self.deliveries)


@dataclass(frozen=True, slots=True)
class _Read:
    """What the reading of a call came to; no summary where there was nothing to read."""

    summary: ingest.RunSummary | None
    notices: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def run(
    paths: Sequence[str | Path],
    config: ingest.Config,
    settings: DigestSettings | None = None,
    observer: ingest.Observer | None = None,
    *,
    now: Clock = utc_now,
) -> Made:
    """Bring the records in `config.output` up to date and tell what is new, once.

    A digest covers every version of a record that no earlier digest of its name covers. With a window (or a slot) there
    is one digest for it: the first call makes it, later ones give it again, byte for byte, and deliver what was not.

    Raises ConfigError for settings that cannot be used, Busy when another process tells the same, and what
    `ingest.run_to_folder` raises. What was read by then is told by the next call.
    """
    settings = settings or DigestSettings()
    if config.output is None:
        raise ingest.ConfigError("a digest needs an output folder: set Config.output")
    recipe = digest_recipe(config, settings)
    name = settings.name or config.recipe.name
    slot = slot_of(settings, now())
    targets = _check(config, settings)
    made = _made_before(config, name, slot)
    if made is not None:
        return _finish(config, name, settings, made, None, _Read(None))
    newest_before = _newest_version(config)
    read = _bring_up_to_date(paths, config, name, observer)
    with open_ledger(config) as ledger:
        digest, news = _tell(ledger, config, settings, recipe, newest_before, read, now())
        if slot is None and digest.is_empty:
            return _finish(config, name, settings, None, None, read)
        digest = _with_statements(digest, recipe, config, _limit(config, settings, read.summary), observer)
        stored = _store(ledger, digest, slot, news, targets)
    return _finish(config, name, settings, stored, digest, read)


def last(config: ingest.Config, settings: DigestSettings | None = None) -> Made:
    """The digest made last, as it stands in the ledger, its files written again.

    Raises ConfigError when none was made.
    """
    settings = settings or DigestSettings()
    name = settings.name or config.recipe.name
    with open_ledger(config) as ledger:
        stored = ledger.digests.last(name)
    if stored is None:
        raise ingest.ConfigError(f"no digest {name!r} was made yet in {config.output}: leave --again out")
    folder = write_files(config.output or Path(), stored)
    return Made(Digest.model_validate_json(stored.body), False, folder, (), None, ())


def _tell(
    ledger: Ledger,
    config: ingest.Config,
    settings: DigestSettings,
    recipe: DigestRecipe,
    newest_before: int,
    read: _Read,
    moment: datetime,
) -> tuple[Digest, News]:
    """The digest of what is not told yet, still without statements, and what it covers."""
    name = settings.name or config.recipe.name
    previous = ledger.digests.last(name)
    start = previous.window_end if previous else _first_start(settings, moment)
    baseline = _baseline(ledger, name, config, start, newest_before) if previous is None else frozenset()
    news = collect(ledger, name, config, baseline)
    renamed = {document.was: document.name for document in news.documents if document.was is not None}
    attention, known = _attention(ledger, config, recipe, previous, renamed, moment)
    digest = Digest(
        name=name,
        title=recipe.title or name,
        recipe=config.recipe.name,
        window_start=start,
        window_end=stamp(moment),
        made_by="nobody",
        attention=attention,
        documents=news.documents,
        documents_known=known,
        notices=read.notices,
        records_at=recipe.records_at,
        places=dict(read.places),
    )
    return digest, news


def _store(
    ledger: Ledger, digest: Digest, slot: str | None, news: News, targets: tuple[tuple[str, str], ...]
) -> Stored:
    # Without a window every digest is one of its own: named by its time and the newest version it tells of.
    slot = slot or f"{digest.window_end}#{max(news.version_ids, default=0)}"
    return ledger.digests.store(
        news.version_ids,
        name=digest.name,
        recipe=digest.recipe,
        slot=slot,
        window_start=digest.window_start,
        window_end=digest.window_end,
        body=digest.model_dump_json(indent=2) + "\n",
        markdown=markdown_page(digest),
        html=html_page(digest),
        delivery=_delivery_key(digest.name, slot),
        targets=targets,
    )


def _with_statements(
    digest: Digest,
    recipe: DigestRecipe,
    config: ingest.Config,
    limit: Decimal | None,
    observer: ingest.Observer | None,
) -> Digest:
    """The digest with its statements: by rules offline, else by the model; nobody is asked where there are no facts."""
    if not any(document.facts for document in digest.documents):
        return digest
    if config.endpoint.local:
        return digest.model_copy(update={"statements": _by_rules(digest, recipe), "made_by": "rules"})
    written = asking.write(digest.documents, sources(digest.documents), recipe, config, limit, observer)
    update: dict[str, Any] = {"asking": written.asking, "dropped": written.dropped, "model": written.model}
    if written.statements or written.problem is None:
        update |= {"statements": written.statements, "made_by": "model"}
    else:
        update |= {"statements": _by_rules(digest, recipe), "made_by": "rules", "dropped": Dropped()}
    if written.problem is not None:
        update["notices"] = (*digest.notices, f"The model's part is not whole: {written.problem}")
    return digest.model_copy(update=update)


def _by_rules(digest: Digest, recipe: DigestRecipe) -> tuple[Statement, ...]:
    watched = {pointer for condition in compile_alerts(recipe.alert) for pointer in condition.pointers}
    return rules.statements(digest.documents, watched)


def _finish(
    config: ingest.Config,
    name: str,
    settings: DigestSettings,
    shown: Stored | None,
    told: Digest | None,
    read: _Read,
) -> Made:
    """Write out and deliver what is stored and not yet finished, the oldest first; `shown` whatever it is.

    `told` is the digest when this call made it, which spares the memory of a second one.
    A call that names nobody to send to leaves what somebody is still to get to one that does.
    """
    deliveries: list[Delivery] = []
    output = config.output or Path()
    with open_ledger(config) as ledger:
        waiting = {one.id: one for one in ledger.digests.unfinished(name)}
        if shown is not None:
            waiting[shown.id] = shown
        if settings.resend:
            waiting |= {one.id: one for one in _unconfirmed(ledger, name)}
        for stored in sorted(waiting.values(), key=lambda one: one.id):
            write_files(output, stored)
            sent = _deliver(ledger, stored, settings)
            deliveries.extend(sent)
            is_left = not settings.to and ledger.deliveries.is_awaited(_delivery_key(name, stored.slot))
            if not stored.is_finished and not is_left and all(one.state != "failed" for one in sent):
                ledger.digests.finish(stored.id)
    digest = told if told is not None or shown is None else Digest.model_validate_json(shown.body)
    return Made(
        digest=digest,
        is_new=told is not None,
        folder=None if shown is None else folder_of(output, shown),
        deliveries=tuple(deliveries),
        summary=read.summary,
        notices=told.notices if told is not None else read.notices,
    )


def _deliver(ledger: Ledger, stored: Stored, settings: DigestSettings) -> tuple[Delivery, ...]:
    if not settings.to:
        return ()
    from pipelines.delivery import deliver

    digest = Digest.model_validate_json(stored.body)
    targets = [target.get_secret_value() for target in settings.to]
    key = _delivery_key(stored.name, stored.slot)
    page = (headline(digest), stored.markdown, stored.html)
    return deliver(ledger, key, *page, targets, is_forced=settings.resend)


def _delivery_key(name: str, slot: str) -> str:
    return f"digest {name} {slot}"


def _unconfirmed(ledger: Ledger, name: str) -> Iterator[Stored]:
    """Digests of a name that some target has not confirmed."""
    prefix = _delivery_key(name, "")
    for delivery in ledger.deliveries.unconfirmed():
        if delivery.key.startswith(prefix):
            stored = ledger.digests.in_slot(name, delivery.key.removeprefix(prefix))
            if stored is not None:
                yield stored


def _check(config: ingest.Config, settings: DigestSettings) -> tuple[tuple[str, str], ...]:
    """Who is to get the digest, as the ledger has them. Raises ConfigError for what would fail later, once paid for."""
    if settings.max_cost_usd is not None and not config.profile.tiers and not config.endpoint.local:
        raise ingest.ConfigError(
            f"a limit on money needs prices, and profile {config.profile.name} has none: leave the limit out"
        )
    if not settings.to:
        return ()
    from pipelines.delivery import check_targets

    return check_targets([target.get_secret_value() for target in settings.to])


def _made_before(config: ingest.Config, name: str, slot: str | None) -> Stored | None:
    if slot is None or not has_ledger(config):
        return None
    with open_ledger(config) as ledger:
        return ledger.digests.in_slot(name, slot)


def _bring_up_to_date(
    paths: Sequence[str | Path], config: ingest.Config, name: str, observer: ingest.Observer | None
) -> _Read:
    """Records of new and changed documents; documents that are gone are noted."""
    try:
        summary = ingest.run_to_folder(paths, config, observer)
    except ingest.NothingFound:
        # A folder that is empty at times is no error of a job that runs every day.
        if not has_ledger(config):
            raise
        summary = None
    listed = {row.name: row.status for row in summary.documents} if summary is not None else {}
    recipe, finding = config.recipe.name, config.finding
    is_whole = not (finding.changed_only or finding.since or config.keeping.retry)
    with open_ledger(config) as ledger:
        known = list(ledger.documents.states(recipe))
        previous = ledger.digests.last(name)
        seen = Digest.model_validate_json(previous.body).places if previous is not None else {}
        gone = find_gone(known, listed, paths, lambda state: _parent(ledger, state), is_whole, seen)
        if gone.names:
            ledger.documents.remove(max(state.run_id for state in known), recipe, gone.names)
    notices = tuple(
        f"Nothing is left below {place}, where there were documents: it may not be mounted, so none counts as gone."
        for place in gone.doubtful
    )
    return _Read(summary, notices, gone.seen)


def _parent(ledger: Ledger, state: DocumentState) -> str | None:
    version = ledger.documents.version(state.version_id)
    return version.record.document.parent if version is not None and version.record is not None else None


def _attention(
    ledger: Ledger,
    config: ingest.Config,
    recipe: DigestRecipe,
    previous: Stored | None,
    renamed: dict[str, str],
    moment: datetime,
) -> tuple[tuple[Attention, ...], int]:
    """The alerts that apply to the records as they are, and how many documents there are."""
    conditions = compile_alerts(recipe.alert)
    told = Digest.model_validate_json(previous.body).attention if previous is not None else ()
    before = {(item.alert, item.name) for item in told}
    before |= {(item.alert, renamed[item.name]) for item in told if item.name in renamed}
    found: list[Attention] = []
    known = 0
    for state in ledger.documents.states(config.recipe.name):
        if state.status == "removed":
            continue
        known += 1
        if not conditions or state.status not in ("complete", "partial"):
            continue
        version = ledger.documents.version(state.version_id)
        if version is None or version.record is None or version.record.data is None:
            continue
        for one in raised(conditions, version.record.data, moment.date()):
            shown = (
                Shown(pointer=pointer, value=value, evidence=places(version.record, pointer))
                for pointer, value in one.values
            )
            found.append(
                Attention(
                    alert=one.alert.name,
                    name=state.name,
                    record=record_file(state.name),
                    source=state.uri,
                    is_new=(one.alert.name, state.name) not in before,
                    shown=tuple(shown),
                )
            )
    order = {alert.name: number for number, alert in enumerate(recipe.alert)}
    return tuple(sorted(found, key=lambda item: (order[item.alert], item.name))), known


def _limit(config: ingest.Config, settings: DigestSettings, summary: ingest.RunSummary | None) -> Decimal | None:
    """Money that the writing may cost: its own limit, else what the reading left of the run's; None without any."""
    if settings.max_cost_usd is not None or config.budget.max_cost_usd is None:
        return settings.max_cost_usd
    spent = summary.spent_usd if summary is not None else None
    return config.budget.max_cost_usd - (spent or Decimal(0))


def _first_start(settings: DigestSettings, moment: datetime) -> str | None:
    """Where the window of the first digest of a name begins; later ones follow one another without a gap."""
    if settings.since is not None:
        return stamp(settings.since)
    return stamp(moment - settings.window) if settings.window is not None else None


def _baseline(
    ledger: Ledger, name: str, config: ingest.Config, start: str | None, newest_before: int
) -> frozenset[int]:
    """Versions that are no news to the first digest: older than its window, and not made by this very call."""
    if start is None:
        return frozenset()
    begin = datetime.fromisoformat(start)
    untold = ledger.digests.untold(name, config.recipe.name)
    return frozenset(one.id for one in untold if one.id <= newest_before and datetime.fromisoformat(one.at) < begin)


def _newest_version(config: ingest.Config) -> int:
    if not has_ledger(config):
        return 0
    with open_ledger(config) as ledger:
        return max((state.version_id for state in ledger.documents.states(config.recipe.name)), default=0)


def has_ledger(config: ingest.Config) -> bool:
    """Whether there is a ledger to look into."""
    is_folder = config.output is not None and (config.output / ".ingest").is_dir()
    return config.keeping.ledger is not None or is_folder


def open_ledger(config: ingest.Config) -> Ledger:
    """The ledger of a run's settings, shared with whoever runs."""
    url = config.keeping.ledger
    return ingest.open_ledger(config.output, None if url is None else url.get_secret_value())
