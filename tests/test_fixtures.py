"""The sample documents and the generator that draws them."""

from __future__ import annotations

import contextlib
import io
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import pymupdf
import pytest
from jsonschema import Draft202012Validator
from PIL import Image, ImageChops, ImageSequence, ImageStat

import pipelines.recipes
from fixtures.generator.__main__ import FRESH, fresh_lectures
from fixtures.generator.collection import PASSWORD, Sample, collection, truth_text
from fixtures.generator.invoices import make_iban
from fixtures.generator.lectures import lecture_truth, make_lecture

RECIPES = Path(pipelines.recipes.__file__).parent
FOLDERS = ("documents", "videos", "damaged")
MAX_TOTAL_BYTES = 4_500_000


@pytest.fixture(scope="module")
def drawn() -> dict[str, Sample]:
    """The collection, drawn now."""
    return {sample.path: sample for sample in collection()}


def kept_files(folder: Path) -> set[str]:
    """Paths of the documents in the repository."""
    return {
        path.relative_to(folder).as_posix() for part in FOLDERS for path in (folder / part).rglob("*") if path.is_file()
    }


def truth_errors(truth: dict[str, Any], recipe: str) -> list[str]:
    """What is wrong with a truth under the schema of its recipe."""
    schema = json.loads((RECIPES / recipe / "schema.json").read_text(encoding="utf-8"))
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(truth)]


def pdf_pages(data: bytes) -> list[str]:
    """Text of each page."""
    document = pymupdf.open(stream=data, filetype="pdf")
    if document.needs_pass:
        assert document.authenticate(PASSWORD)
    return [document[index].get_text() for index in range(document.page_count)]


def image_frames(data: bytes) -> list[Image.Image]:
    """Each image of an image file, grey."""
    with Image.open(io.BytesIO(data)) as image:
        return [frame.convert("L") for frame in ImageSequence.Iterator(image)]


def video_frames(data: bytes) -> list[tuple[float | None, Image.Image]]:
    """Time and grey picture of each frame that decodes, and of a file without any an empty list."""
    frames: list[tuple[float | None, Image.Image]] = []
    with av.open(io.BytesIO(data)) as container, contextlib.suppress(av.FFmpegError):
        pictures = container.decode(video=0) if container.streams.video else ()
        frames.extend((frame.time, frame.to_image().convert("L").resize((240, 136))) for frame in pictures)
    return frames


def assert_same_frames(path: str, kept: bytes, now: bytes) -> None:
    """The same frames at the same times, nearly the same pixels."""
    before, after = video_frames(kept), video_frames(now)
    assert [time for time, _ in before] == [time for time, _ in after], f"{path} changed"
    for (_, one), (_, other) in zip(before, after, strict=True):
        assert ImageStat.Stat(ImageChops.difference(one, other)).mean[0] < 4, f"{path} changed"


def assert_same_content(path: str, kept: bytes, now: bytes) -> None:
    """Same bytes, or what a newer library may write differently: same page texts, nearly the same pixels."""
    if kept == now:
        return
    if path.startswith("videos/"):
        assert_same_frames(path, kept, now)
        return
    assert not path.startswith("damaged/") or path.endswith((".pdf", ".jpg")), f"{path} changed"
    if path.startswith("damaged/"):
        return
    if path.endswith(".pdf"):
        assert pdf_pages(kept) == pdf_pages(now), f"{path} changed"
        return
    assert path.endswith((".jpg", ".tif")), f"{path} changed"
    before, after = image_frames(kept), image_frames(now)
    assert [frame.size for frame in before] == [frame.size for frame in after], f"{path} changed"
    for one, other in zip(before, after, strict=True):
        assert ImageStat.Stat(ImageChops.difference(one, other)).mean[0] < 4, f"{path} changed"


def test_the_generator_draws_what_is_kept(drawn: dict[str, Sample], fixtures_folder: Path) -> None:
    """Files that the generator cannot draw again would be of unknown origin."""
    assert set(drawn) == kept_files(fixtures_folder)
    for path, sample in drawn.items():
        assert_same_content(path, (fixtures_folder / path).read_bytes(), sample.data)


def test_truth_is_what_the_generator_says(drawn: dict[str, Sample], fixtures_folder: Path) -> None:
    """A truth edited by hand would drift from the drawing."""
    expected = {
        sample.truth_path: truth_text(sample.truth, sample.recipe)
        for sample in drawn.values()
        if sample.truth is not None and sample.recipe is not None
    }
    kept = {
        path.relative_to(fixtures_folder).as_posix(): path.read_text(encoding="utf-8")
        for path in (fixtures_folder / "truth").rglob("*.json")
    }
    assert kept == expected


def test_every_truth_fits_its_recipe(drawn: dict[str, Sample]) -> None:
    """A truth outside the schema could never be reached by a valid record."""
    for path, sample in drawn.items():
        if sample.truth is not None and sample.recipe is not None:
            assert truth_errors(sample.truth, sample.recipe) == [], path


def test_unscored_fields_exist(fixtures_folder: Path) -> None:
    """A misspelt path would quietly count a field that is a matter of wording."""
    for path in fixtures_folder.rglob("*.truth.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert {item.split("/")[0] for item in content["unscored"]} <= set(content["truth"]), path.name


@pytest.mark.parametrize("kind", sorted(FRESH.keys() - {"lectures"}))
def test_fresh_documents_repeat_by_seed(kind: str) -> None:
    """An accuracy figure is worth nothing unless the same seed measures the same documents."""
    first, again, other = (list(FRESH[kind](3, seed)) for seed in (7, 7, 8))
    assert first == again
    assert all(one.data != two.data for one, two in zip(first, other, strict=True))


def test_fresh_lectures_repeat_by_seed() -> None:
    """The same for videos, which take longer to make: one short one."""
    first, again, other = (list(fresh_lectures(1, seed, slides=3, duration_s=12)) for seed in (7, 7, 8))
    assert first == again
    assert first[0].data != other[0].data


def test_a_lecture_s_truth_is_what_it_shows_and_when() -> None:
    """A time off the frame grid, or a gap between slides, would punish a reader who is right."""
    truths = (lecture_truth(make_lecture(random.Random(seed), 12, 600)) for seed in range(20))
    for truth in truths:
        assert truth_errors(truth, "lecture") == []
        slides = truth["slides"]
        assert len({slide["title"] for slide in slides}) == len(slides) == 12
        assert [slide["start_s"] for slide in slides[1:]] == [slide["end_s"] for slide in slides[:-1]]
        assert all(round(slide["start_s"] * 5, 6).is_integer() for slide in slides)
        assert (slides[0]["start_s"], slides[-1]["end_s"]) == (0.0, 600.0)
        assert all(slide["bullets"] for slide in slides)


def test_fresh_invoices_add_up() -> None:
    """Truth that contradicts itself would punish a correct reader."""
    for sample in FRESH["invoices"](24, 99):
        truth = sample.truth
        assert truth is not None
        assert truth_errors(truth, "invoices") == []
        net, tax, gross = (Decimal(str(truth[name])) for name in ("net_amount", "tax_amount", "gross_amount"))
        assert net + tax == gross
        assert sum(Decimal(str(row["amount"])) for row in truth["taxes"]) == tax
        assert sum(Decimal(str(row["basis"])) for row in truth["taxes"]) == net
        assert sum(Decimal(str(row["amount"])) for row in truth["line_items"]) >= net


def test_printed_values_stand_on_the_page() -> None:
    """Every name, number and description in the truth must be legible on some page of the document."""
    for sample in FRESH["invoices"](16, 5):
        truth = sample.truth
        assert truth is not None
        text = " ".join(" ".join(pdf_pages(sample.data)).split())
        wanted = [truth["invoice_number"], truth["seller"]["name"], truth["buyer"]["name"], truth["seller"]["tax_id"]]
        wanted += [truth[name] for name in ("order_number", "customer_number", "payment_terms") if truth[name]]
        wanted += [item["item_number"] for item in truth["line_items"] if item["item_number"]]
        assert [value for value in wanted if value not in text] == []


def test_ibans_pass_their_check() -> None:
    """A reader that verifies IBANs must accept ours."""
    for pattern in ("DE####################", "GB##QZMD##############", "FR#########################"):
        iban = make_iban(random.Random(3), pattern).replace(" ", "")
        digits = "".join(str(int(char, 36)) for char in iban[4:] + iban[:4])
        assert int(digits) % 97 == 1
        assert len(iban) == len(pattern)


def test_the_collection_stays_small(fixtures_folder: Path) -> None:
    """The files travel with every clone."""
    total = sum(path.stat().st_size for part in FOLDERS for path in (fixtures_folder / part).rglob("*.*"))
    assert total <= MAX_TOTAL_BYTES


def test_the_readme_lists_every_file(fixtures_folder: Path) -> None:
    """A file nobody can explain is a file nobody dares to remove."""
    readme = (fixtures_folder / "README.md").read_text(encoding="utf-8")
    listed = {
        line.split("|")[1].strip()
        for line in readme.splitlines()
        if line.startswith(tuple(f"| {folder}/" for folder in FOLDERS))
    }
    assert listed == kept_files(fixtures_folder)
