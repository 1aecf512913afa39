"""Every accuracy figure of the project, in one table.

`python bench/accuracy.py` draws fresh invoices and receipts with known answers, runs the pipeline on them and on the
corpus of real documents with the local engine, compares the records with the truth, and prints each figure with its
goal. It exits with 1 when a figure falls short. `bench/README.md` says what each figure means.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.scoring import Leaves, read_leaves  # noqa: E402

INVOICE_SEED, RECEIPT_SEED = 20_240, 20_241

ITEM_FIELDS = ("description", "quantity", "unit_price", "amount")
CORPUS_ITEM_FIELDS = tuple(
    f"{table}/*/{column}"
    for table, columns in (
        ("line_items", ("name", "quantity", "unit_price", "line_total")),
        ("lines", ("name", "desc", "qty", "price", "price_unit", "price_subtotal")),
    )
    for column in columns
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with a goal. `measure` takes the compared leaves of all documents of the set."""

    name: str
    goal: float
    measure: Callable[[Leaves], float | None]


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents with known answers, the recipe they are read with, and the figures taken of them."""

    name: str
    group: str
    recipe: str
    prepare: Callable[[Path, argparse.Namespace], tuple[list[Path], Path] | None]
    figures: tuple[Figure, ...]
    map_file: str | None = None
    day_first: bool = False


def accuracy(*fields: str) -> Callable[[Leaves], float | None]:
    """Share of the values of these fields that are right; an invented value counts as a wrong one."""
    return lambda leaves: leaves.of(fields).accuracy()


def header_accuracy(leaves: Leaves) -> float | None:
    """Share of right values over all fields outside lists; an empty field left empty is not counted."""
    return leaves.outside_lists().accuracy()


def item_f1(*fields: str) -> Callable[[Leaves], float | None]:
    """Harmonic mean of precision and recall over the cells of the table of items."""
    return lambda leaves: leaves.of(fields).f1()


def similar(field: str, least: float) -> Callable[[Leaves], float | None]:
    """Share of texts at least this similar, letter by letter."""
    return lambda leaves: leaves.of((field,)).share_similar(least)


def token_f1(field: str) -> Callable[[Leaves], float | None]:
    """Mean over the documents of the F1 of words in common."""
    return lambda leaves: leaves.of((field,)).mean_token_f1()


def draw(kind: str, count: Callable[[argparse.Namespace], int], seed: int) -> Callable[..., tuple[list[Path], Path]]:
    """Fresh documents of the generator."""

    def prepare(folder: Path, options: argparse.Namespace) -> tuple[list[Path], Path]:
        from fixtures.generator.__main__ import FRESH, write_samples

        write_samples(FRESH[kind](count(options), seed + options.seed), folder / kind)
        return [folder / kind / "documents"], folder / kind / "truth"

    return prepare


def corpus(part: str, pattern: str) -> Callable[..., tuple[list[Path], Path] | None]:
    """A folder of the corpus; None where there is no corpus."""

    def prepare(folder: Path, options: argparse.Namespace) -> tuple[list[Path], Path] | None:
        root = Path(os.environ.get("INGEST_CORPUS", ROOT.parent / "shared" / "corpus"))
        paths = sorted((root / part).glob(pattern))[: options.limit]
        return (paths, root / part) if paths else None

    return prepare


COLLECTIONS = (
    Collection(
        name="generated invoices",
        group="generated",
        recipe="invoices",
        prepare=draw("invoices", lambda options: options.invoices, INVOICE_SEED),
        figures=(
            Figure("header fields", 0.95, header_accuracy),
            Figure("line items F1", 0.95, item_f1(*(f"line_items/*/{name}" for name in ITEM_FIELDS))),
        ),
    ),
    Collection(
        name="generated receipts",
        group="generated",
        recipe="receipts",
        prepare=draw("receipts", lambda options: options.receipts, RECEIPT_SEED),
        figures=(
            Figure("header fields", 0.95, header_accuracy),
            Figure("items F1", 0.95, item_f1(*(f"items/*/{name}" for name in ITEM_FIELDS))),
        ),
    ),
    Collection(
        name="corpus receipts",
        group="receipts",
        recipe="receipts",
        prepare=corpus("receipts", "*.jpg"),
        figures=(
            Figure("date", 0.85, accuracy("date")),
            Figure("total", 0.70, accuracy("total")),
            Figure("company", 0.65, similar("company", 0.9)),
            Figure("address token F1", 0.80, token_f1("address")),
        ),
        day_first=True,
    ),
    Collection(
        name="corpus invoices",
        group="invoices",
        recipe="invoices",
        prepare=corpus("invoices", "*.pdf"),
        figures=(
            Figure("invoice number", 0.85, accuracy("invoice_number")),
            Figure("dates", 0.85, accuracy("issue_date", "date", "delivery_date", "due_date")),
            Figure("net amount", 0.85, accuracy("totals/tax_basis_total", "amount_untaxed")),
            Figure("tax amount", 0.85, accuracy("totals/tax_total")),
            Figure("gross amount", 0.85, accuracy("totals/grand_total", "amount")),
            Figure("line items F1", 0.85, item_f1(*CORPUS_ITEM_FIELDS)),
        ),
        map_file="invoices.json",
    ),
)


def run_pipeline(paths: Iterable[Path], recipe: str, out: Path, jobs: int) -> None:
    """Run the main command offline. Raises RuntimeError when it fails as a whole; failed documents only score worse."""
    command = [sys.executable, "-m", "ingest", "run", *map(str, paths), "--recipe", recipe, "--local"]
    command += ["-o", str(out), "--jobs", str(jobs), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"ingest run ended with exit code {done.returncode}:\n{done.stderr[-2_000:]}")


def measure(collection: Collection, folder: Path, options: argparse.Namespace) -> list[tuple[Figure, float | None]]:
    """Run one collection and take its figures; empty where its documents are absent."""
    prepared = collection.prepare(folder, options)
    if prepared is None:
        print(f"{collection.name}: skipped, no corpus; set INGEST_CORPUS to its path", file=sys.stderr)
        return []
    paths, truth = prepared
    out = folder / f"out-{collection.name.replace(' ', '-')}"
    started = time.monotonic()
    run_pipeline(paths, collection.recipe, out, options.jobs)
    map_file = ROOT / "bench" / "maps" / collection.map_file if collection.map_file else None
    leaves = read_leaves(out, truth, map_file, collection.day_first)
    seconds = time.monotonic() - started
    print(f"{collection.name}: {leaves.documents} documents in {seconds:.0f} s, records in {out}", file=sys.stderr)
    if options.verbose:
        print("\n".join(leaves.describe()), file=sys.stderr)
    return [(figure, figure.measure(leaves)) for figure in collection.figures]


def print_row(cells: Sequence[str]) -> None:
    """One line of the table."""
    print(f"{cells[0]:<20} {cells[1]:<18} {cells[2]:>7} {cells[3]:>7}  {cells[4]}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted({item.group for item in COLLECTIONS}))
    parser.add_argument("--jobs", type=int, default=2, help="documents in flight")
    parser.add_argument("--invoices", type=int, default=24, help="generated invoices")
    parser.add_argument("--receipts", type=int, default=16, help="generated receipts")
    parser.add_argument("--seed", type=int, default=0, help="added to the seeds of the generated documents")
    parser.add_argument("--limit", type=int, default=None, help="documents of each part of the corpus")
    parser.add_argument("--keep", type=Path, help="keep documents and records in this folder")
    parser.add_argument("--verbose", action="store_true", help="every wrong, missing and invented value, to stderr")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a figure falls short."""
    options = parse(arguments)
    short = False
    print_row(("collection", "figure", "value", "goal", ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for collection in COLLECTIONS:
            if options.only and collection.group not in options.only:
                continue
            for figure, value in measure(collection, folder, options):
                is_short = value is None or value < figure.goal
                short = short or is_short
                shown = "-" if value is None else f"{value:.3f}"
                print_row((collection.name, figure.name, shown, f"{figure.goal:.2f}", "short" if is_short else "ok"))
                sys.stdout.flush()
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
