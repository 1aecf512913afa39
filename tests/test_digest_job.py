"""Digests over a ledger: each change once, whatever is killed, however often they are made."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import ingest
from ingest.errors import Busy
from ingest.keeping.ledger.deliveries import Delivery
from ingest.keeping.ledger.digests import Digests
from ingest.keeping.ledger.documents import DocumentState
from pipelines.digest import Digest, DigestRecipe, DigestSettings, Made, last, run
from pipelines.digest import job as job_module
from pipelines.digest.settings import Alert
from pipelines.digest.vanished import Gone, find_gone
from tests.digest_samples import Desk, record
from tests.postgres import Postgres
from tests.webhooks import webhook

_DAY = datetime(2026, 3, 2, 7, tzinfo=UTC)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder of records, offline."""
    return Desk(tmp_path / "out").install(monkeypatch)


def _told(made: Made) -> dict[str, tuple[str, list[tuple[str, Any, Any]]]]:
    """By document: what became of it, and its values as pointer, old and new."""
    documents = made.digest.documents if made.digest else ()
    return {one.name: (one.kind, [(fact.pointer, fact.old, fact.new) for fact in one.facts]) for one in documents}


def test_each_change_is_told_once(desk: Desk) -> None:
    """The second morning tells what changed since the first, and the third has nothing to say."""
    desk.today = [record("a.pdf", {"total": 1.0}), record("b.pdf", {"total": 2.0})]
    assert _told(desk.made()) == {
        "a.pdf": ("added", [("/total", None, 1.0)]),
        "b.pdf": ("added", [("/total", None, 2.0)]),
    }
    desk.today = [record("a.pdf", {"total": 1}), record("b.pdf", {"total": 3.0})]
    second = desk.made()
    assert _told(second)["b.pdf"] == ("changed", [("/total", 2.0, 3.0)])
    third = desk.made()
    assert (third.digest, third.folder, third.is_fine) == (None, None, True)


def test_what_came_between_two_digests_is_folded(desk: Desk) -> None:
    """Old is what was told last and new what is so now; what was undone in between is not told."""
    desk.today = [record("a.pdf", {"t": 1}, content="x"), record("b.pdf", {"t": 1}), record("c.pdf", {"t": 1})]
    desk.made()
    desk.today = [record("a.pdf", {"t": 2}, content="x"), record("b.pdf", {"t": 2})]
    desk.removed = ["c.pdf"]
    desk.run_to_folder([])
    desk.today = [record("a.pdf", {"t": 1}, content="x"), record("b.pdf", {"t": 3}), record("c.pdf", {"t": 1})]
    assert _told(desk.made()) == {"b.pdf": ("changed", [("/t", 1, 3)])}


def test_removed_renamed_failed_and_readable_again(desk: Desk) -> None:
    """Each is one line of its own kind: a file that moved is not new, one that broke has not lost its values."""
    desk.today = [record("gone.pdf", {"t": 1}), record("moved.pdf", {"t": 2}), record("broken.pdf", {"t": 3})]
    desk.made()
    desk.today = [
        record("here/moved.pdf", {"t": 2}),
        record("broken.pdf", None, status="failed", content="?", problem="no pages"),
        record("open.pdf", None, status="skipped", content="!", problem="money limit"),
    ]
    desk.removed = ["gone.pdf", "moved.pdf"]
    made = desk.made()
    assert _told(made) == {
        "gone.pdf": ("removed", []),
        "here/moved.pdf": ("renamed", []),
        "broken.pdf": ("failed", []),
        "open.pdf": ("open", []),
    }
    assert not made.is_fine
    assert made.digest is not None
    told = {one.name: one for one in made.digest.documents}
    assert told["here/moved.pdf"].was == "moved.pdf"
    assert told["broken.pdf"].problem == "no pages"
    desk.today = [record("broken.pdf", {"t": 4}), record("open.pdf", {"t": 5}), record("gone.pdf", {"t": 1})]
    assert _told(desk.made()) == {
        "broken.pdf": ("recovered", [("/t", 3, 4)]),
        "gone.pdf": ("added", [("/t", None, 1)]),
        "open.pdf": ("added", [("/t", None, 5)]),
    }


def test_a_window_is_told_once_and_reproduced_byte_for_byte(desk: Desk) -> None:
    """A second call on the same day gives the same page again; what came since is told the next day."""
    settings = DigestSettings(window=timedelta(days=1))
    desk.today = [record("a.pdf", {"t": 1})]
    first = desk.made(settings, now=lambda: _DAY)
    assert first.folder is not None
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    for path in first.folder.iterdir():
        path.write_text("spoiled")
    desk.today = [record("b.pdf", {"t": 1})]
    again = desk.made(settings, now=lambda: _DAY + timedelta(hours=9))
    assert (again.is_new, again.folder, again.digest) == (False, first.folder, first.digest)
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    assert desk.runs == 1
    next_day = desk.made(settings, now=lambda: _DAY + timedelta(days=1))
    assert set(_told(next_day)) == {"b.pdf"}
    assert next_day.digest is not None
    assert next_day.digest.window_start == "2026-03-02T07:00:00Z"
    assert last(desk.config).digest == next_day.digest


def test_a_named_window_without_news_says_so_and_others_leave_no_page(desk: Desk) -> None:
    """Whoever waits for the morning's page sees that the job ran; a call by hand makes no empty pages."""
    desk.today = [record("a.pdf", {"t": 1})]
    desk.made()
    made = desk.made(DigestSettings(slot="monday"))
    assert made.digest is not None
    assert made.folder is not None
    assert made.digest.is_empty
    assert "Nothing new." in (made.folder / "digest.md").read_text()
    assert desk.made().digest is None


def test_older_records_are_no_news_to_a_first_digest_with_a_start(desk: Desk) -> None:
    """Who begins with digests over a full folder is not told of all that is in it; what is read now is news."""
    desk.today = [record("old.pdf", {"t": 1})]
    desk.run_to_folder([])
    desk.today = [record("new.pdf", {"t": 1})]
    settings = DigestSettings(since=datetime.now(UTC) + timedelta(hours=1))
    assert set(_told(desk.made(settings))) == {"new.pdf"}
    desk.today = [record("old.pdf", {"t": 2})]
    assert _told(desk.made(settings)) == {"old.pdf": ("changed", [("/t", 1, 2)])}


def test_digests_of_two_names_tell_the_same_changes_each(desk: Desk) -> None:
    """A daily and a weekly digest over one folder do not take each other's news away."""
    desk.today = [record("a.pdf", {"t": 1})]
    assert set(_told(desk.made(DigestSettings(name="daily")))) == {"a.pdf"}
    assert set(_told(desk.made(DigestSettings(name="weekly")))) == {"a.pdf"}


class _Killed(BaseException):
    """Stands for a process that is killed."""


_STEPS = ("before the record", "before storing", "after storing", "before delivery", "after delivery")


def _kill(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Have the process die at a step of the next call."""

    def dying(function: Any, is_before: bool) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            result = None if is_before else function(*arguments, **more)
            raise _Killed(result)

        return call

    targets: dict[str, tuple[Any, str, bool]] = {
        "before the record": (job_module, "collect", True),
        "before storing": (Digests, "store", True),
        "after storing": (Digests, "store", False),
        "before delivery": (job_module, "_deliver", True),
        "after delivery": (Digests, "finish", True),
    }
    where, name, is_before = targets[step]
    monkeypatch.setattr(where, name, dying(getattr(where, name), is_before))


def _made_and_killed(desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str, settings: DigestSettings) -> None:
    with monkeypatch.context() as patched:
        _kill(patched, step)
        with pytest.raises(_Killed):
            desk.made(settings)


def test_twenty_days_with_kills_tell_every_change_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applying the digests one after the other gives the folder as it is: nothing lost, repeated or invented."""
    dice = random.Random(7)
    folder: dict[str, dict[str, Any]] = {}
    mirror: dict[str, dict[str, Any]] = {}
    for _ in range(20):
        for name in [name for name in folder if dice.random() < 0.2]:
            del folder[name]
            desk.removed.append(name)
        for name in [f"{dice.choice('abcdefgh')}.pdf" for _ in range(3)]:
            folder[name] = {"t": dice.randrange(5), "u": dice.choice([None, "x", "y"])}
            desk.removed = [one for one in desk.removed if one != name]
        desk.today = [record(name, data, content=name + repr(data)) for name, data in folder.items()]
        if dice.random() < 0.5:
            _made_and_killed(desk, monkeypatch, dice.choice(_STEPS), DigestSettings(slot=f"{dice.random()}"))
            if dice.random() < 0.5:
                continue
        desk.made()
    desk.made()
    # Folders are named by time and tell nothing of the order within a second; the ledger's numbers do.
    with desk.ledger() as ledger, ledger._database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT name, slot FROM digests ORDER BY id").all()
        stored = [ledger.digests.in_slot(*row) for row in rows]
    for one in stored:
        assert one is not None
        _apply(Digest.model_validate_json(one.body), mirror)
    assert mirror == {name: {k: v for k, v in data.items() if v is not None} for name, data in folder.items()}


def _apply(digest: Digest, mirror: dict[str, dict[str, Any]]) -> None:
    for one in digest.documents:
        if one.kind == "removed":
            del mirror[one.name]
            continue
        if one.kind == "renamed":
            mirror[one.name] = mirror.pop(str(one.was))
        assert (one.kind == "added") == (one.name not in mirror), one
        held = mirror.setdefault(one.name, {})
        for fact in one.facts:
            assert held.get(fact.pointer[1:]) == fact.old
            held[fact.pointer[1:]] = fact.new
            if fact.new is None:
                del held[fact.pointer[1:]]


@pytest.mark.parametrize("step", _STEPS)
def test_a_call_after_a_kill_tells_and_delivers_what_is_missing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Wherever the process died, the next call leaves one digest with the change, its files, and its delivery."""
    sent: dict[str, int] = {}

    def deliver(ledger: Any, key: str, *_: Any, **__: Any) -> tuple[Delivery, ...]:
        sent.setdefault(key, 0)
        sent[key] += 1
        return (Delivery(key, "t", "json://…", "sent", 1, "", None),)

    monkeypatch.setattr("pipelines.delivery.deliver", deliver)
    settings = DigestSettings(to=(SecretStr("json://127.0.0.1:9/x"),))
    desk.today = [record("a.pdf", {"t": 1})]
    _made_and_killed(desk, monkeypatch, step, settings)
    desk.made(settings)
    pages = sorted((desk.config.output or Path()).glob("digests/invoices/*/digest.json"))
    assert [_names(page) for page in pages] == [["a.pdf"]]
    assert list(sent.values()) == ([2] if step == "after delivery" else [1])
    assert desk.made(settings).deliveries == ()


def _names(page: Path) -> list[str]:
    return [one.name for one in Digest.model_validate_json(page.read_text()).documents]


def test_a_refused_delivery_is_tried_again_by_the_next_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that did not get through is not forgotten because the next day has nothing new, and it shows."""
    states = iter(["failed", "failed", "sent"])

    def deliver(ledger: Any, key: str, *_: Any, **__: Any) -> tuple[Delivery, ...]:
        return (Delivery(key, "t", "json://…", next(states), 1, "", "refused"),)

    monkeypatch.setattr("pipelines.delivery.deliver", deliver)
    settings = DigestSettings(to=(SecretStr("json://127.0.0.1:9/x"),))
    desk.today = [record("a.pdf", {"t": 1})]
    assert not desk.made(settings).is_fine
    assert not desk.made(settings).is_fine
    assert desk.made(settings).is_fine
    assert desk.made(settings).deliveries == ()


def test_what_was_to_be_sent_is_not_forgotten_by_a_call_that_sends_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before it was sent, then looked at by hand: the team still gets its digest the next morning."""
    with webhook() as hook:
        settings = DigestSettings(to=(SecretStr(hook.url()),))
        desk.today = [record("a.pdf", {"t": 1})]
        _made_and_killed(desk, monkeypatch, "before delivery", settings)
        desk.made()
        with desk.ledger() as ledger:
            (waiting,) = ledger.deliveries.unconfirmed()
        assert (waiting.state, waiting.tries, waiting.reason) == ("failed", 0, "not sent yet")
        assert hook.got == []
        assert [(one.state, one.tries) for one in desk.made(settings).deliveries] == [("sent", 1)]
        assert desk.made(settings).deliveries == ()
        assert len(hook.got) == 1


def test_of_two_processes_one_tells(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs at the same time must not both send the same news."""
    desk.today = [record("a.pdf", {"t": 1})]
    store = Digests.store

    def overtaken(self: Digests, versions: Any, **digest: Any) -> Any:
        monkeypatch.setattr(Digests, "store", store)
        store(self, versions, **digest)
        return store(self, versions, **digest)

    monkeypatch.setattr(Digests, "store", overtaken)
    with pytest.raises(Busy, match="another process"):
        desk.made()


def test_a_ledger_on_postgresql_tells_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    """Several machines share one ledger: each change is told once there, too."""
    url = postgres.database()
    desk = Desk(tmp_path / "out", settings={"keeping": {"ledger": url}}).install(monkeypatch)
    desk.today = [record("a.pdf", {"t": 1}), record("b.pdf", {"t": 1})]
    assert set(_told(desk.made())) == {"a.pdf", "b.pdf"}
    desk.today = [record("a.pdf", {"t": 2})]
    desk.removed = ["b.pdf"]
    with webhook() as hook:
        settings = DigestSettings(slot="tuesday", to=(SecretStr(hook.url()),))
        made = desk.made(settings)
        assert _told(made) == {"a.pdf": ("changed", [("/t", 1, 2)]), "b.pdf": ("removed", [])}
        assert [(one.state, one.tries) for one in made.deliveries] == [("sent", 1)]
        assert desk.made(settings).digest == made.digest
        assert len(hook.got) == 1
    assert desk.made().digest is None


def test_attention_is_what_the_data_says_and_new_only_once(desk: Desk) -> None:
    """An invoice comes due without any file changing: the day it does there is a digest, and not again the next day."""
    recipe = DigestRecipe(alert=(Alert(name="Due soon", when="within(due, 7)", show=("t",)),))
    settings = DigestSettings(recipe=recipe)
    desk.today = [record("a.pdf", {"t": 5.0, "due": "2026-03-12"})]
    assert desk.made(settings, now=lambda: _DAY).digest.attention == ()  # type: ignore[union-attr]
    due = desk.made(settings, now=lambda: _DAY + timedelta(days=3))
    assert due.digest is not None
    (item,) = due.digest.attention
    assert (item.name, item.is_new, due.digest.documents) == ("a.pdf", True, ())
    assert [(one.pointer, one.value, one.evidence[0].page) for one in item.shown] == [
        ("/due", "2026-03-12", 1),
        ("/t", 5.0, 1),
    ]
    assert desk.made(settings, now=lambda: _DAY + timedelta(days=4)).digest is None


def test_offline_the_digest_is_made_by_rules_and_says_so(desk: Desk) -> None:
    """Nobody takes statements of rules for a model's; the largest change stands first."""
    settings = DigestSettings(recipe=DigestRecipe(alert=(Alert(name="Any", when="z > 1"),)))
    desk.today = [record("a.pdf", {"t": 100.0}), record("b.pdf", {"t": 900.0, "u": 100.0, "z": 1})]
    desk.made(settings)
    desk.today = [
        record("a.pdf", {"t": 101.0}),
        record("b.pdf", {"u": 101.0, "t": 1200.0, "v": "x", "w": "y", "z": 0}),
        record("c.pdf", {"t": 5, "z": 0}),
    ]
    made = desk.made(settings)
    assert made.digest is not None
    assert made.folder is not None
    assert made.digest.made_by == "rules"
    assert [one.text for one in made.digest.statements] == [
        "b.pdf: Z 1 → 0 (-1, -100.0 %); T 900.00 → 1,200.00 (+300.00, +33.3 %); U 100.00 → 101.00 (+1.00, +1.0 %);"
        " V: x (new); 1 more value",
        "a.pdf: T 100.00 → 101.00 (+1.00, +1.0 %)",
        "c.pdf is new. Z: 0; T: 5",
    ], "what changed most first; in a document what the alerts stand on first"
    cited = {fact.id: fact.pointer for one in made.digest.documents for fact in one.facts}
    assert [cited[name] for name in made.digest.statements[0].facts] == ["/z", "/t", "/u", "/v"]
    assert "Made by rules, no model." in (made.folder / "digest.html").read_text()


def test_a_wrong_digest_table_is_told_before_anything_is_read(desk: Desk) -> None:
    """A slip in the recipe must not cost a night's reading first."""
    recipe = desk.config.recipe.model_copy(update={"digest": {"alerts": []}})
    config = desk.config.model_copy(update={"recipe": recipe})
    with pytest.raises(ingest.ConfigError, match="digest"):
        run(["/elsewhere"], config)
    assert desk.runs == 0


def _listed(desk: Desk, *folders: Path) -> Made:
    """A call over folders, in which the run finds the files that are there."""
    desk.today = [
        record(path.name, {"t": path.stem}, folder=folder) for folder in folders for path in sorted(folder.iterdir())
    ]
    return run(list(folders), desk.config)


def test_only_files_that_are_gone_count_as_gone(desk: Desk, tmp_path: Path) -> None:
    """A removed file is told; a folder that is empty, perhaps not mounted, is told as such and not as removals."""
    inbox, other = tmp_path / "inbox", tmp_path / "other"
    for path in (inbox / "a.txt", inbox / "b.txt", inbox / "c.txt", other / "d.txt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert set(_told(_listed(desk, inbox, other))) == {"a.txt", "b.txt", "c.txt", "d.txt"}
    (inbox / "a.txt").unlink()
    assert _told(_listed(desk, inbox, other)) == {"a.txt": ("removed", [])}
    # Only the other folder is given: the documents of the first are none of its business.
    assert _listed(desk, other).digest is None
    inbox.rename(tmp_path / "away")
    inbox.mkdir()
    empty = _listed(desk, inbox, other)
    assert empty.digest is None
    assert not empty.is_fine
    assert "may not be mounted" in empty.notices[0]
    inbox.rmdir()
    (tmp_path / "away").rename(inbox)
    assert _listed(desk, inbox, other).digest is None


def test_a_file_that_is_there_but_was_not_listed_is_not_gone(desk: Desk, tmp_path: Path) -> None:
    """A pattern that takes in fewer files than the day before, or a folder without permission, removes nothing."""
    (tmp_path / "a.pdf").touch()
    (tmp_path / "b.txt").touch()
    _listed(desk, tmp_path)
    desk.today = [record("a.pdf", {"t": "a"}, folder=tmp_path)]
    assert run([str(tmp_path / "*.pdf")], desk.config).digest is None


def test_an_empty_folder_is_a_notice_and_not_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that runs every day over a folder that is emptied at times still tells what was not told yet."""
    desk.today = [record("a.pdf", {"t": 1})]
    desk.run_to_folder([])
    monkeypatch.setattr(ingest, "run_to_folder", _nothing_found)
    made = desk.made()
    assert set(_told(made)) == {"a.pdf"}
    assert made.is_fine


def test_a_folder_that_was_emptied_is_told_as_such(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who files away all that was read sees it gone the next morning; another folder in its place says nothing."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.txt").touch()
    _listed(desk, inbox)
    monkeypatch.setattr(ingest, "run_to_folder", _nothing_found)
    inbox.rename(tmp_path / "mounted")
    inbox.mkdir()
    for _ in range(2):
        unmounted = run([inbox], desk.config)
        assert (unmounted.digest, unmounted.is_fine) == (None, False)
        assert "may not be mounted" in unmounted.notices[0]
    inbox.rmdir()
    (tmp_path / "mounted").rename(inbox)
    (inbox / "a.txt").unlink()
    emptied = run([inbox], desk.config)
    assert _told(emptied) == {"a.txt": ("removed", [])}
    assert emptied.is_fine


def _nothing_found(*_: Any) -> Any:
    raise ingest.NothingFound("no files found in inbox")


def test_what_is_in_a_bucket_or_an_archive_is_gone_when_its_place_is_listed_without_it() -> None:
    """Attachments and objects have no file to look for; a listing that leaves out by choice says nothing of them."""

    def state(name: str, uri: str) -> DocumentState:
        return DocumentState(name, "r", "", 1, "complete", None, uri, "", None, 1)

    known = [
        state("a.pdf", "s3://bucket/in/a.pdf"),
        state("b.pdf", "s3://bucket/in/b.pdf"),
        state("mail.eml", "s3://bucket/in/mail.eml"),
        state("mail.eml/c.pdf", "s3://bucket/in/mail.eml#c.pdf"),
        state("z.pdf", "s3://bucket/elsewhere/z.pdf"),
    ]
    listed = {"a.pdf": "complete", "mail.eml": "complete"}
    gone = find_gone(known, listed, ["s3://bucket/in/"], lambda one: one.name.rpartition("/")[0] or None)
    assert gone.names == ("b.pdf", "mail.eml/c.pdf")
    assert find_gone(known, listed, ["s3://bucket/in/"], lambda one: None, is_whole=False).names == ()
    damaged = {"a.pdf": "complete", "b.pdf": "complete", "mail.eml": "failed"}
    assert find_gone(known, damaged, ["s3://bucket/in/"], lambda one: one.name.rpartition("/")[0] or None).names == ()
    assert find_gone(known, {}, ["s3://bucket/in/"], lambda one: None) == Gone((), ("s3://bucket/in",), {})
