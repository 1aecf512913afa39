"""Evidence on real pages: right page, right box, checked by other means than those that found it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pymupdf
import pypdfium2
import pytest

from ingest.merging.grounding import ground
from ingest.merging.merge import Origin, merge
from ingest.merging.pages import PageText
from ingest.types import Cite, Partial
from tests.merging_readers import cut
from tests.merging_samples import page_texts
from tests.merging_truth import Tally, tally

NEEDED, WRONG_PAGES = 0.97, 0.005


def judge(total: Tally, at_least: int) -> None:
    """The promise of the issue, on enough values to mean something."""
    assert total.values >= at_least
    assert total.found >= NEEDED * total.values, total.misses
    assert total.wrong_page <= WRONG_PAGES * total.values, total.misses


def truth_of(file: Path) -> Any:
    found = json.loads(file.read_text())
    return found.get("truth", found)


def test_values_of_the_sample_documents_are_found_where_they_stand(fixtures_folder: Path) -> None:
    """Evidence that points elsewhere is worse than none; here every value's place is known."""
    total = Tally(misses=[])
    for file in sorted((fixtures_folder / "documents").rglob("*")):
        truth = fixtures_folder / "truth" / file.parent.name / f"{file.stem}.truth.json"
        if file.suffix in (".pdf", ".docx", ".xlsx") and truth.is_file() and file.parent.name in ("invoices", "papers"):
            total += tally(file, truth_of(truth), page_texts(file))
    judge(total, at_least=2_000)


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("folder", "at_least"),
    [
        ("invoices", 600),
        ("adbuys", 60),
        ("contracts", 40),
        ("tables", 3_000),
        pytest.param("extract-bench", 900, marks=pytest.mark.long),
    ],
)
def test_values_of_real_documents_are_found_where_they_stand(corpus: Path, folder: str, at_least: int) -> None:
    """As above, on documents of strangers: rotated tables, filings, contracts, invoices of several countries."""
    total = Tally(misses=[])
    for file in sorted((corpus / folder).rglob("*.pdf")):
        (labels,) = [*file.parent.glob(f"{file.stem}.truth.json"), *file.parent.glob(f"{file.stem}.gold.json")]
        truth = truth_of(labels)
        if folder == "tables":
            truth = [[cell["text"] for cell in r["cells"]] for table in truth["tables"] for r in table["regions"]]
        total += tally(file, truth, page_texts(file))
    judge(total, at_least)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("is_cropped", [False, True])
def test_box_lies_on_the_ink_of_turned_and_cropped_pages(tmp_path: Path, rotation: int, is_cropped: bool) -> None:
    """A box is drawn over the page as people see it; another renderer must have its ink there."""
    file = tmp_path / "turned.pdf"
    with pymupdf.open() as document:
        page = document.new_page(width=600, height=800)
        page.insert_text((200, 300), "Total 4711", fontsize=20)
        if is_cropped:
            page.set_cropbox(pymupdf.Rect(100, 150, 500, 700))
        page.set_rotation(rotation)
        document.save(file)
    data, origins = {"f": 4711}, {"/f": (Origin(0, Cite(1)),)}
    box = ground(data, origins, page_texts(file), {0: (1,)})["/f"][0].bbox
    assert box is not None
    with pypdfium2.PdfDocument(str(file)) as document:
        image = document[0].render(scale=1, grayscale=True).to_pil().point(lambda level: 255 * (level < 128))
    ink = image.getbbox()
    assert ink is not None
    # The ink is "Total 4711"; the box is the second half of it, whichever way it runs.
    inside = image.crop(tuple(round(edge) for edge in box)).getbbox()
    assert inside is not None
    wide, high = (box[2] - box[0], box[3] - box[1]) if rotation in (0, 180) else (box[3] - box[1], box[2] - box[0])
    assert 40 <= wide <= 50
    assert 15 <= high <= 35
    for low, edge, top in zip(ink[:2] * 2, box, ink[2:] * 2, strict=True):
        assert low - 9 <= edge <= top + 9


def read_gross(page: PageText, gross: float, has_it: bool) -> tuple[float | None, str]:
    """What a reader takes for the gross amount of a page: the true one where it stands, else the largest amount."""
    best: tuple[float | None, str] = (None, "")
    for line in page.lines:
        text = " ".join(page.words[number].text for number in line)
        amounts = [float(amount.replace(",", "")) for amount in re.findall(r"\$?(\d[\d,]*\.\d\d)\b", text)]
        if has_it and gross in amounts and re.search("total|gross", text, re.IGNORECASE):
            return gross, text
        if amounts and (best[0] is None or max(amounts) > best[0]):
            best = (max(amounts), text)
    return (gross, "") if has_it else best


@pytest.mark.corpus
@pytest.mark.parametrize(
    "rule", ["max", {"x-merge": "last", "x-merge-prefer": ["total", "gross"]}], ids=["max", "last with prefer"]
)
def test_gross_amount_of_a_late_page_wins_over_subtotals(corpus: Path, rule: Any) -> None:
    """An order prints weekly sums on each page and the amount that counts on one page near the end."""
    schema = {"properties": {"gross": {"type": ["number", "null"]}}}
    late = 0
    for file in sorted((corpus / "adbuys").glob("*.pdf")):
        labels = json.loads(file.with_suffix(".truth.json").read_text())
        gross, stands = labels["truth"]["gross_amount"], labels["found_on_pages"]["gross_amount"]
        pages = page_texts(file)
        partials = []
        for chunk in cut(len(pages), range(1, len(pages))):
            number = chunk.owned[0].number
            value, quote = read_gross(pages[number], gross, number in stands)
            partials.append(Partial(chunk, {"gross": value}, {"/gross": Cite(number, quote or None)}))
        merged = merge(partials[::-1], schema, {"/gross": rule})
        assert merged.data == {"gross": gross}, file.name
        evidence = ground(merged.data, merged.origins, pages, {n: (n + 1,) for n in range(len(pages))})["/gross"]
        if gross:
            assert {each.page for each in evidence} <= set(stands), file.name
        late += 1 not in stands
    assert late >= 6
