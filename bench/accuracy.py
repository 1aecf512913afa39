"""Every accuracy figure of the project, in one table.

`python bench/accuracy.py` draws fresh invoices and receipts with known answers, runs `ingest run --local` on them and
on the corpus of real documents, compares the records with the truth by `ingest eval`, and prints each figure with its
goal. It exits with 1 when a figure falls short. `bench/README.md` says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAPS = ROOT / "bench" / "maps"

Counts = dict[str, Any]
"""One field's counts in the JSON of `ingest eval`: expected, matched, wrong, missing, invented, token_f1."""

_ITEM_COLUMNS = ("description", "quantity", "unit_price", "amount")
_CORPUS_ITEM_COLUMNS = {
    "line_items": ("name", "quantity", "unit_price", "line_total"),
    "lines": ("name", "desc", "qty", "price", "price_unit", "price_subtotal"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with a goal. `measure` takes the counts of every field, by its path in the truth."""

    name: str
    goal: float
    measure: Callable[[dict[str, Counts]], float | None]


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents with known answers, the recipe they are read with, and the figures taken of them.

    `prepare` gives the documents and the folder of their truth, None where there are none. `options` go to
    `ingest eval`.
    """

    name: str
    group: str
    recipe: str
    prepare: Callable[[Path, argparse.Namespace], tuple[list[Path], Path] | None]
    figures: tuple[Figure, ...]
    options: tuple[str, ...] = ()


def _share_right(counts: Iterable[Counts]) -> float | None:
    """Matched values over those that the truth has or the record invents."""
    found = list(counts)
    total = sum(each["expected"] + each["invented"] for each in found)
    return sum(each["matched"] for each in found) / total if total else None


def accuracy(*fields: str) -> Callable[[dict[str, Counts]], float | None]:
    """Share of the values of these fields that are right; an invented value counts as a wrong one."""
    return lambda counts: _share_right(counts[name] for name in fields if name in counts)


def header_accuracy(counts: dict[str, Counts]) -> float | None:
    """Share of right values over all fields outside lists; an empty field left empty does not count."""
    return _share_right(each for name, each in counts.items() if "*" not in name)


def cell_f1(table: str, columns: Sequence[str]) -> Callable[[dict[str, Counts]], float | None]:
    """Harmonic mean of precision and recall over the cells of a table, missing and invented rows included."""
    return lambda counts: _cell_f1(counts, [f"{table}/*/{column}" for column in columns])


def corpus_cell_f1(counts: dict[str, Counts]) -> float | None:
    """The same over the tables of the corpus, which go by different names."""
    return _cell_f1(counts, [f"{table}/*/{name}" for table, names in _CORPUS_ITEM_COLUMNS.items() for name in names])


def _cell_f1(counts: dict[str, Counts], fields: Iterable[str]) -> float | None:
    found = [counts[name] for name in fields if name in counts]
    matched = sum(each["matched"] for each in found)
    total = sum(each["expected"] + each["matched"] + each["wrong"] + each["invented"] for each in found)
    return 2 * matched / total if total else None


def token_f1(field: str) -> Callable[[dict[str, Counts]], float | None]:
    """Mean over the documents of the F1 of words in common."""

    def measure(counts: dict[str, Counts]) -> float | None:
        value: float | None = counts[field]["token_f1"] if field in counts else None
        return value

    return measure


def draw(kind: str) -> Callable[[Path, argparse.Namespace], tuple[list[Path], Path]]:
    """Fresh documents of the generator: as many as the option `kind` says."""

    def prepare(folder: Path, options: argparse.Namespace) -> tuple[list[Path], Path]:
        count, target = str(getattr(options, kind)), folder / kind
        command = [sys.executable, "-m", "fixtures.generator", str(target), "--kind", kind, "--count", count]
        _call([*command, "--seed", str(options.seed)], (0,))
        return [target / "documents"], target / "truth"

    return prepare


def corpus(part: str, pattern: str) -> Callable[[Path, argparse.Namespace], tuple[list[Path], Path] | None]:
    """A folder of the corpus."""

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
        prepare=draw("invoices"),
        figures=(
            Figure("header fields", 0.95, header_accuracy),
            Figure("line items F1", 0.95, cell_f1("line_items", _ITEM_COLUMNS)),
        ),
    ),
    Collection(
        name="generated receipts",
        group="generated",
        recipe="receipts",
        prepare=draw("receipts"),
        figures=(
            Figure("header fields", 0.95, header_accuracy),
            Figure("line items F1", 0.95, cell_f1("items", _ITEM_COLUMNS)),
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
            Figure("company", 0.65, accuracy("company")),
            Figure("address token F1", 0.80, token_f1("address")),
        ),
        options=("--day-first", "--similar", "company=0.9"),
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
            Figure("line items F1", 0.85, corpus_cell_f1),
        ),
        # The XML behind a credit note has its amounts positive, the page may print them negative.
        options=("--map", str(MAPS / "invoices.json"), "--unsigned", "totals", "--unsigned", "line_items"),
    ),
)


def _call(command: Sequence[str], accepted: Sequence[int]) -> str:
    """Run a command; its standard output. Raises RuntimeError on another exit code than the accepted ones."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in accepted:
        raise RuntimeError(f"{' '.join(command)[:300]} ended with exit code {done.returncode}:\n{done.stderr[-2_000:]}")
    return done.stdout


def run_pipeline(paths: Iterable[Path], recipe: str, out: Path, jobs: int) -> None:
    """Run the main command offline; documents that fail (exit code 1) only score worse."""
    command = [sys.executable, "-m", "ingest", "run", *map(str, paths), "--recipe", recipe, "--local"]
    _call([*command, "-o", str(out), "--jobs", str(jobs)], (0, 1))


def evaluate(out: Path, truth: Path, options: Sequence[str]) -> dict[str, Any]:
    """The scores of `ingest eval`."""
    result: dict[str, Any] = json.loads(
        _call([sys.executable, "-m", "ingest", "eval", str(out), str(truth), *options, "--json"], (0,))
    )
    return result


def measure(collection: Collection, folder: Path, options: argparse.Namespace) -> list[tuple[Figure, float | None]]:
    """Run one collection and take its figures; empty where its documents are absent."""
    prepared = collection.prepare(folder, options)
    if prepared is None:
        print(f"{collection.name}: skipped, no corpus; set INGEST_CORPUS to its path", file=sys.stderr)
        return []
    paths, truth = prepared
    out = folder / f"out-{collection.name.replace(' ', '-')}"
    # Answers kept by an earlier run would be scored instead of today's.
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    run_pipeline(paths, collection.recipe, out, options.jobs)
    scores = evaluate(out, truth, collection.options)
    seconds = time.monotonic() - started
    print(f"{collection.name}: {scores['documents_scored']} documents in {seconds:.0f} s", file=sys.stderr)
    if options.verbose:
        for difference in scores["differences"]:
            line = "  {document} {pointer}: {verdict}: {expected!r} != {predicted!r}".format(**difference)
            print(line, file=sys.stderr)
    return [(figure, figure.measure(scores["fields"])) for figure in collection.figures]


def print_row(cells: Sequence[str]) -> None:
    """One line of the table."""
    print(f"{cells[0]:<20} {cells[1]:<18} {cells[2]:>7} {cells[3]:>6}  {cells[4]}".rstrip(), flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted({item.group for item in COLLECTIONS}))
    parser.add_argument("--jobs", type=int, default=2, help="documents in flight")
    parser.add_argument("--invoices", type=int, default=24, help="generated invoices")
    parser.add_argument("--receipts", type=int, default=16, help="generated receipts")
    parser.add_argument("--seed", type=int, default=2_024, help="chance of the generated documents")
    parser.add_argument("--limit", type=int, default=None, help="documents taken of each part of the corpus")
    parser.add_argument("--keep", type=Path, help="keep documents and records in this folder")
    parser.add_argument("--verbose", action="store_true", help="list what differs, on stderr")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a figure falls short."""
    options = parse(arguments)
    short = False
    print_row(("collection", "figure", "value", "goal", ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep.absolute() if options.keep else Path(temporary)
        for collection in COLLECTIONS:
            if options.only and collection.group not in options.only:
                continue
            for figure, value in measure(collection, folder, options):
                is_short = value is None or value < figure.goal
                short = short or is_short
                shown = "-" if value is None else f"{value:.3f}"
                print_row((collection.name, figure.name, shown, f"{figure.goal:.2f}", "short" if is_short else "ok"))
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
