"""The pages of a digest: they stand alone, hostile text stays text, and every line leads to its evidence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import ingest
from ingest.cli.app import app
from ingest.recipes import offered_recipes, read_offer
from pipelines.digest import Digest, DigestSettings, Made
from pipelines.digest.model import Place
from pipelines.digest.pages import markdown_text
from pipelines.digest.settings import digest_recipe
from pipelines.digest.wording import quote_text
from tests.digest_samples import Desk, record

_EVIL_NAME = '<script>document.title="owned"</script>"\'><img src=x onerror=alert(1)>.pdf'
_EVIL_VALUE = '"><svg onload=alert(1)> ](javascript:alert(1)) ![x](http://evil.example/x.png) `code` {{ 7*7 }} https://evil.example'


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder of records, offline."""
    return Desk(tmp_path / "out").install(monkeypatch)


def _hostile(desk: Desk) -> tuple[Made, str, str]:
    desk.today = [record(_EVIL_NAME, {"invoice_number": _EVIL_VALUE, "gross_amount": 20000.0, "currency": _EVIL_VALUE})]
    made = desk.made()
    assert made.folder is not None
    return made, *((made.folder / f"digest.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md"))


class _Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


def test_hostile_names_and_values_are_text_in_html(desk: Desk) -> None:
    """A file name that is a script must not run in the reader's browser, nor load anything."""
    _, html, _ = _hostile(desk)
    page = _Page(html)
    assert not page.tags & {"script", "img", "svg", "iframe", "link", "object", "form"}
    assert not any(name.startswith("on") for name in page.names)
    assert all(re.match(r"(#|\.\./|file:///)", address) for address in page.addresses), page.addresses
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert "&lt;svg onload=alert(1)&gt;" in html


def test_hostile_names_and_values_are_text_in_markdown(desk: Desk) -> None:
    """In a chat or a mail made of Markdown there is no link, picture or markup but ours."""
    _, _, markdown = _hostile(desk)
    plain = re.sub(r"\\.", "", markdown)
    assert "<" not in plain.replace("<br>", "")
    assert "![" not in plain
    assert "`" not in plain
    targets = re.findall(r"\]\(([^)]*)\)", plain)
    assert targets
    assert all(target.startswith("../../../") for target in targets), targets
    assert "https://" not in plain
    assert markdown_text("# a\n- b") == "\\# a - b"
    assert markdown_text("1. a 900.00 me@x.org www.x.org") == "1\\. a 900.00 me\\@x.org www\\.x.org"


def test_every_line_leads_to_its_evidence(desk: Desk) -> None:
    """Record, document, page and quote stand by each value; statements lead to the facts they cite."""
    desk.today = [record("sub/a b.pdf", {"gross_amount": 900.0})]
    desk.made()
    desk.today = [record("sub/a b.pdf", {"gross_amount": 1200.0})]
    made = desk.made()
    assert made.folder is not None
    assert made.digest is not None
    html = (made.folder / "digest.html").read_text(encoding="utf-8")
    page = _Page(html)
    assert "../../../sub/a%20b.pdf.json" in page.addresses
    assert "file:///inbox/sub/a%20b.pdf#page=1" in page.addresses
    (statement,) = made.digest.statements
    assert f"#{statement.facts[0]}" in page.addresses
    assert f'id="{statement.facts[0]}"' in html
    assert "“1200.0”" in html
    assert "<del>900.00</del> → <ins>1,200.00</ins>" in html
    assert Digest.model_validate_json((made.folder / "digest.json").read_bytes()) == made.digest


def test_links_of_a_page_that_is_sent_lead_where_the_recipe_says(desk: Desk) -> None:
    """In a mail or a chat a relative link leads nowhere; the address of the output folder makes it whole."""
    desk.today = [record("sub/a b.pdf", {"gross_amount": 20_000.0})]
    found = digest_recipe(desk.config, DigestSettings()).model_copy(update={"records_at": "https://files.example/out"})
    made = desk.made(DigestSettings(recipe=found))
    assert made.folder is not None
    html, markdown = ((made.folder / f"digest.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md"))
    address = "https://files.example/out/sub/a%20b.pdf.json"
    assert address in _Page(html).addresses
    assert f"]({address})" in markdown
    assert "../" not in html + markdown


def test_the_page_of_a_thousand_new_documents_can_still_be_opened(desk: Desk) -> None:
    """Every document is named, and changed values are all shown; of new ones the later have them in their records."""
    desk.today = [record("a.pdf", {f"t{n}": n for n in range(30)})]
    desk.made()
    names = [f"{n:04}.pdf" for n in range(1_000)]
    changed = record("a.pdf", {f"t{n}": n + 1 for n in range(30)})
    desk.today = [changed, *(record(name, {"gross_amount": 1.0, "currency": name}) for name in names)]
    made = desk.made()
    assert made.folder is not None
    html, markdown = ((made.folder / f"digest.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md"))
    assert html.count("<tr id=") == 30 + 2 * 200
    assert all(f'<span class="name">{name}</span>' in html and f"[{name}]" in markdown for name in names)
    assert "and 10 more values, all in digest.html" in markdown
    page = _Page(html)
    ids = set(re.findall(r'id="([^"]*)"', html))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= ids


@pytest.mark.parametrize(
    ("value", "quote", "shown"),
    [
        (27879.53, "27.879,53", ""),
        (27879.53, "2787,953", "2787,953"),
        (12345, "12.345", "12.345"),
        (-5.5, "5,50", "5,50"),
        ("EUR", "€", "€"),
        ("EUR", "Eur", ""),
        ("2025-08-05", "05.08.2025", "05.08.2025"),
        ({"what": "Tea", "price": 2.0}, "Tea", ""),
    ],
)
def test_a_quote_that_says_nothing_else_is_left_out(value: object, quote: str, shown: str) -> None:
    """A page of amounts is read faster without each of them twice; where a reading may be wrong the words stay."""
    assert quote_text(Place(page=1, quote=quote), value) == shown


def test_the_page_opens_in_a_browser_on_a_phone(desk: Desk) -> None:
    """The hostile name did not run and made no elements, and light and dark differ."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    made, _, _ = _hostile(desk)
    assert made.folder is not None
    shots = []
    for scheme in ("0", "1"):
        shot = made.folder / f"{scheme}.png"
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--window-size=390,900",
        ]
        command += [f"--user-data-dir={made.folder / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}"]
        page = (made.folder / "digest.html").as_uri()
        subprocess.run([*command, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=60)
        shots.append(shot.read_bytes())
    assert shots[0] != shots[1]
    dom = subprocess.run([*command, "--dump-dom", page], check=True, capture_output=True, timeout=60, text=True).stdout
    assert "<title>Invoices: " in dom
    assert "<svg" not in dom


def test_recipes_that_come_along_have_digests_that_can_be_read() -> None:
    """Every built-in recipe can be used for a digest, and those of invoices ask for attention."""
    for offer in offered_recipes():
        recipe = read_offer(offer)
        config = ingest.configure(recipe=offer.folder if isinstance(offer.folder, Path) else offer.name, local=True)
        found = digest_recipe(config, DigestSettings())
        assert found.sections, recipe.name
    alerts = digest_recipe(ingest.configure(recipe="invoices", local=True), DigestSettings()).alert
    assert {alert.name for alert in alerts} == {"Over 10,000", "Overdue", "Due within 7 days"}


def test_the_command_tells_what_is_new(tmp_path: Path) -> None:
    """`ingest digest` end to end over a file: the page on stdout, its place on stderr; told once, again on demand."""
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    (inbox / "a.txt").write_text("Invoice number: 4711\nInvoice date: 2026-01-02\nTotal amount: 12,500.00 EUR\n")
    common = ["digest", str(inbox), "--recipe", "invoices", "-o", str(out), "--local", "-q"]
    first = CliRunner().invoke(app, common)
    assert "a.txt" in first.stdout, first.output
    assert "# Invoices" in first.stdout
    assert "digest.html" in first.stderr
    assert "Nothing new." in CliRunner().invoke(app, common).stdout
    again = json.loads(CliRunner().invoke(app, [*common, "--again", "--json"]).stdout)
    assert [one["name"] for one in again["digest"]["documents"]] == ["a.txt"]
    assert not again["is_new"]
    planned = CliRunner().invoke(app, [part for part in common if part != "--local"] + ["--name", "other", "--plan"])
    assert planned.exit_code == 0, planned.output
    assert "writing" in planned.stdout
    assert "at most $" in planned.stdout


def test_wrong_options_are_told(tmp_path: Path) -> None:
    """A window or a table that cannot be understood is a usage error that says what is."""
    table = tmp_path / "digest.toml"
    table.write_text('[[alert]]\nname = "x"\nwhen = "total >"\n')
    common = ["digest", str(tmp_path), "--recipe", "invoices", "--local", "-q"]
    assert "1d, 6h or 2w" in CliRunner().invoke(app, [*common, "--window", "daily"]).output
    assert "2026-01-31" in CliRunner().invoke(app, [*common, "--since", "soon"]).output
    wrong = CliRunner().invoke(app, [*common, "--digest-recipe", str(table)])
    assert wrong.exit_code == 2
    assert "'x'" in wrong.output
