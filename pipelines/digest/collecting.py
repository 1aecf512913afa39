"""From the ledger's versions to what became of each document since it was last told of.

Versions between the one last told and the newest are folded: what was changed and changed back is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.digest.changes import Change, compare, keys_of
from pipelines.digest.model import DocumentChange, DocumentKind, Fact, Place

if TYPE_CHECKING:
    import ingest
    from ingest.keeping.ledger import Ledger
    from ingest.keeping.ledger.digests import Untold
    from ingest.keeping.ledger.documents import Version

_MOST_PLACES = 3
"""Places shown for one fact; a list item has one for each of its fields."""


@dataclass(frozen=True, slots=True)
class News:
    """What there is to tell: the versions that become told, and the documents' changes, by name."""

    version_ids: tuple[int, ...]
    documents: tuple[DocumentChange, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """A document's way from what was told last to what is so now."""

    name: str
    old: Version | None
    old_data: Version | None
    new: Version


def collect(ledger: Ledger, name: str, config: ingest.Config, baseline: frozenset[int] = frozenset()) -> News:
    """What no digest of this name tells yet. Versions in `baseline` count as told, and are covered without a word."""
    recipe = config.recipe.name
    keys = keys_of(config.recipe.document_schema, config.recipe.merge)
    untold = ledger.digests.untold(name, recipe)
    steps = _steps(ledger, name, recipe, untold, baseline)
    documents = [_describe(step, keys) for step in _with_renames(steps)]
    told = sorted((change for change in documents if change is not None), key=lambda change: change.name)
    return News(tuple(version.id for version in untold), _numbered(told))


def places(record: ingest.Record[Any] | None, pointer: str) -> tuple[Place, ...]:
    """Where a value stands by the record's provenance; of an item of a list one place a page, by its longest quote."""
    found: dict[tuple[Any, ...], Place] = {}
    for at, evidence in (record.provenance if record else {}).items():
        if at != pointer and not at.startswith(f"{pointer}/"):
            continue
        for one in evidence:
            place = Place(**one.model_dump(include=set(Place.model_fields)))
            where = (place.page, place.start_s)
            if where not in found or len(place.quote or "") > len(found[where].quote or ""):
                found[where] = place
    return tuple(found.values())[:_MOST_PLACES]


def record_file(name: str) -> str:
    """The file of a document's record, relative to the output folder."""
    return f"{name}.json"


def _steps(
    ledger: Ledger, name: str, recipe: str, untold: Sequence[Untold], baseline: frozenset[int]
) -> Iterator[_Step]:
    told = ledger.digests.told(name, recipe)
    newest: dict[str, int] = {}
    before: dict[str, tuple[int, int | None]] = {key: (one.id, one.with_data_id) for key, one in told.items()}
    for version in untold:
        if version.id in baseline:
            has_data = version.status in ("complete", "partial")
            with_data = version.id if has_data else before.get(version.name, (0, None))[1]
            before[version.name] = (version.id, with_data)
        else:
            newest[version.name] = version.id
    for document, version_id in newest.items():
        last_id, data_id = before.get(document, (0, None))
        new = ledger.documents.version(version_id)
        # A version noted late, behind one that was told: what came after it is known already.
        if new is None or version_id < last_id:
            continue
        old = ledger.documents.version(last_id) if last_id else None
        old_data = old if data_id == last_id else ledger.documents.version(data_id) if data_id else None
        yield _Step(document, old, old_data, new)


def _with_renames(steps: Iterator[_Step]) -> Iterator[_Step]:
    """A document that is gone and one that came with the same bytes are one that was renamed."""
    came: list[_Step] = []
    gone: dict[str, list[_Step]] = {}
    for step in steps:
        is_known = step.old is not None and step.old.status != "removed"
        if step.new.status == "removed" and is_known and step.new.sha256:
            gone.setdefault(step.new.sha256, []).append(step)
        elif not is_known and step.new.sha256:
            came.append(step)
        else:
            yield step
    for step in sorted(came, key=lambda one: one.name):
        left = gone.get(step.new.sha256)
        if left:
            source = min(left, key=lambda one: one.name)
            left.remove(source)
            yield replace(step, old=source.old, old_data=source.old_data)
        else:
            yield step
    for rest in gone.values():
        yield from rest


def _describe(step: _Step, keys: Mapping[str, Sequence[str]]) -> DocumentChange | None:
    """A document's change; None when all is as it was told last."""
    old, new = step.old, step.new
    kind = _kind(step)
    if kind is None:
        return None
    record = new.record
    base = step.old_data if kind in ("changed", "renamed", "recovered") else None
    facts = _facts(base, new, keys) if new.status in ("complete", "partial") else ()
    is_replaced = kind == "changed" and old is not None and old.sha256 != new.sha256
    is_same_status = old is not None and (old.status == new.status)
    if kind == "changed" and not facts and not is_replaced and is_same_status:
        return None
    return DocumentChange(
        name=step.name,
        kind=kind,
        was=old.name if old is not None and kind == "renamed" else None,
        status=new.status,
        status_before=old.status if old else None,
        is_replaced=is_replaced,
        problem=record.problems[0].message if record and record.problems and new.status != "complete" else None,
        record=record_file(step.name) if record is not None else None,
        source=record.document.uri if record else "",
        version_id=new.id,
        facts=facts,
    )


def _kind(step: _Step) -> DocumentKind | None:
    old, new = step.old, step.new
    was_there = old is not None and old.status != "removed"
    if new.status == "removed":
        return "removed" if was_there else None
    if was_there and old is not None and old.name != step.name:
        return "renamed"
    if new.status in ("failed", "skipped"):
        if was_there and old is not None and old.status == new.status and old.sha256 == new.sha256:
            return None
        return "failed" if new.status == "failed" else "open"
    if not was_there or old is None or (step.old_data is None and old.status == "skipped"):
        return "added"
    return "recovered" if old.status == "failed" else "changed"


def _facts(old: Version | None, new: Version, keys: Mapping[str, Sequence[str]]) -> tuple[Fact, ...]:
    before = old.record if old else None
    after = new.record
    changes = compare(before.data if before else None, after.data if after else None, keys)
    return tuple(_fact(change, before, after) for change in changes)


def _fact(change: Change, before: ingest.Record[Any] | None, after: ingest.Record[Any] | None) -> Fact:
    evidence = places(before if change.kind == "removed" else after, change.pointer)
    return Fact(
        id="",
        kind=change.kind,
        pointer=change.pointer,
        was=change.was if change.was != change.pointer else "",
        old=change.old,
        new=change.new,
        evidence=evidence,
    )


def _numbered(documents: list[DocumentChange]) -> tuple[DocumentChange, ...]:
    """Facts get their names in the order they are told."""
    number = 0
    told: list[DocumentChange] = []
    for document in documents:
        facts = []
        for fact in document.facts:
            number += 1
            facts.append(fact.model_copy(update={"id": f"F{number}"}))
        told.append(document.model_copy(update={"facts": tuple(facts)}))
    return tuple(told)
