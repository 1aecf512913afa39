"""Totals that agree: among the candidates for net, tax and gross, the ones that add up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from ingest.local.filler.candidates import Candidate, candidates_for
from ingest.local.filler.view import View

CONCEPTS = (
    "net_total", "tax_total", "gross_total", "amount_due", "prepaid", "discount_total", "charge_total", "rounding", "paid", "change",
)  # fmt: skip
_TRIED = 7
_AGREES = 1.2
_CENT = 0.0151
_LATER = 0.1

Totals = Mapping[str, Candidate]


def settle_totals(view: View, is_in_table: Callable[[int, float], bool], line_sum: float | None = None) -> Totals:
    """The best candidate of each total. What stands in tables is left out; `line_sum` is the sum of the records' amounts."""
    pools = {concept: _pool(concept, view, is_in_table) for concept in CONCEPTS}
    chosen = _agreeing(pools, line_sum)
    for concept in CONCEPTS:
        if concept not in chosen and concept not in ("net_total", "tax_total", "gross_total") and pools[concept]:
            chosen[concept] = pools[concept][0]
    if "gross_total" not in chosen and "amount_due" in chosen and "prepaid" not in chosen:
        chosen["gross_total"] = chosen["amount_due"]
    return chosen


def _pool(concept: str, view: View, is_in_table: Callable[[int, float], bool]) -> list[Candidate]:
    """Distinct candidates, best first; later rows count a little more, as totals stand at the end."""
    rows = max(len(view.rows), 1)
    found = [
        candidate
        for candidate in candidates_for(concept, "amount", view)
        if not is_in_table(candidate.label_row, candidate.x0)
        and not is_in_table(candidate.row.index, candidate.x0)
        and not view.rows[candidate.label_row].is_carried
    ]
    ranked = sorted(found, key=lambda c: -(c.score + _LATER * c.row.index / rows))
    seen: dict[float, Candidate] = {}
    for candidate in ranked:
        seen.setdefault(float(candidate.data), candidate)
    return list(seen.values())[:_TRIED]


def _agreeing(pools: Mapping[str, Sequence[Candidate]], line_sum: float | None) -> dict[str, Candidate]:
    best: tuple[float, dict[str, Candidate]] = (0.0, {})
    options = [[None, *pools[concept]] for concept in ("net_total", "tax_total", "gross_total")]
    for net, tax, gross in itertools.product(*options):
        score = sum(candidate.score for candidate in (net, tax, gross) if candidate)
        score += _agreement(net, tax, gross, line_sum)
        if score > best[0]:
            picked = {"net_total": net, "tax_total": tax, "gross_total": gross}
            best = (score, {name: candidate for name, candidate in picked.items() if candidate})
    return best[1]


def _agreement(net: Candidate | None, tax: Candidate | None, gross: Candidate | None, line_sum: float | None) -> float:
    """What a choice gains by adding up, or loses by contradicting itself."""
    values = [float(c.data) if c else None for c in (net, tax, gross)]
    net_value, tax_value, gross_value = values
    gain = 0.0
    if net_value is not None and tax_value is not None and gross_value is not None:
        gain += _AGREES if abs(net_value + tax_value - gross_value) < _CENT else -0.5
    if gross_value is not None and tax_value is not None and gross_value != 0 and abs(tax_value) > 0.6 * abs(gross_value):
        gain -= 1.0
    if gross_value is not None and net_value is not None and abs(net_value) > abs(gross_value) + _CENT:
        gain -= 0.8
    if line_sum is not None and line_sum:
        gain += 0.4 * sum(value is not None and abs(value - line_sum) < _CENT for value in (net_value, gross_value))
    used = [c.row.index * 1000 + round(c.row.line.x1) for c in (net, tax, gross) if c]
    texts = [(c.row.index, c.data) for c in (net, tax, gross) if c]
    if len(set(used)) < len(used) and len(set(texts)) < len(texts):
        gain -= 0.7
    return gain
