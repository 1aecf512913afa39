"""Totals that agree: among the candidates for net, tax and gross, the ones that add up with what else is printed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ingest.local.filler.candidates import Candidate, candidates_for
from ingest.local.filler.numbers import find_numbers
from ingest.local.filler.values import Value
from ingest.local.filler.view import View

_MAIN = ("net_total", "tax_total", "gross_total")
_OTHERS = ("amount_due", "prepaid", "discount_total", "charge_total", "rounding", "paid", "change")
_TRIED = 7
_CENT = 0.0151
# What a choice of totals gains by agreeing with others, in units of a candidate's score (about 1 for a firm label).
_SUM_AGREES = 1.2
_ADJUSTED_SUM_AGREES = 0.9
_SUM_FAILS = -1.2
_PAID_AGREES = 1.0
_LINES_AGREE = 0.1
_ROUNDED = 0.5
_TAX_TOO_LARGE = -1.0
_NET_TOO_LARGE = -0.8
_SAME_PRINT = -0.7
_LATER = 0.1
_UNLABELLED_SCORE = 0.5

Totals = Mapping[str, Candidate]


@dataclass(frozen=True, slots=True)
class _Hints:
    """Amounts that totals must agree with: sums between net and gross, what was paid, the sum of the records."""

    adjustments: tuple[float, ...]
    roundings: tuple[float, ...]
    paid: tuple[float, ...]
    line_sum: float | None


def settle_totals(view: View, is_in_table: Callable[[int, float], bool], line_sum: float | None = None) -> Totals:
    """The best candidate of each total.

    What stands in tables is left out; `line_sum` is the sum of the records' amounts.
    """
    pools = {concept: _pool(concept, view, is_in_table) for concept in (*_MAIN, *_OTHERS)}
    hints = _hints(pools, line_sum)
    pools["gross_total"] = _with_unlabelled(pools["gross_total"], hints, view, is_in_table)
    chosen = _agreeing(pools, hints)
    for concept in _OTHERS:
        if pools[concept]:
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
        if (
            candidate.place == "column"
            or not (is_in_table(candidate.label_row, candidate.x0) or is_in_table(candidate.row.index, candidate.x0))
        )
        and not view.rows[candidate.label_row].is_carried
    ]
    if any(candidate.value.is_money for candidate in found):
        found = [candidate for candidate in found if candidate.value.is_money]
    ranked = sorted(found, key=lambda c: -(c.score + _LATER * c.row.index / rows))
    seen: dict[float, Candidate] = {}
    for candidate in ranked:
        seen.setdefault(float(candidate.data), candidate)
    return list(seen.values())[:_TRIED]


def _hints(pools: Mapping[str, Sequence[Candidate]], line_sum: float | None) -> _Hints:
    def values(concept: str, count: int = 2) -> list[float]:
        return [float(candidate.data) for candidate in pools[concept][:count]]

    roundings = [value for value in values("rounding") if value and abs(value) < 1]
    signed = [*roundings, *(-value for value in roundings)]
    extras = [*values("charge_total"), *(-abs(value) for value in values("discount_total"))]
    sums = [extra + rounding for extra in extras for rounding in signed]
    paid = tuple(
        given - abs(back) for given in map(abs, values("paid", 3)) for back in values("change") if given > abs(back)
    )
    return _Hints((*signed, *extras, *sums), tuple(roundings), paid, line_sum)


def _with_unlabelled(
    pool: Sequence[Candidate], hints: _Hints, view: View, is_in_table: Callable[[int, float], bool]
) -> list[Candidate]:
    """The pool, and the amount paid less the change where it is printed without a label the vocabulary knows."""
    result = list(pool)
    for wanted in hints.paid[:3]:
        if any(abs(float(candidate.data) - wanted) < _CENT for candidate in result):
            continue
        for row in reversed(view.rows):
            number = next(
                (n for n in find_numbers(row.text, view.decimal) if n.is_money and abs(n.value - wanted) < _CENT / 3),
                None,
            )
            if number and not is_in_table(row.index, row.line.x1 - 1):
                value = Value(number.value, row.text[number.start : number.end])
                result.append(
                    Candidate(value, _UNLABELLED_SCORE, row, "", row.index, "right", row.line.x0, is_weak=True)
                )
                break
    return result


def _agreeing(pools: Mapping[str, Sequence[Candidate]], hints: _Hints) -> dict[str, Candidate]:
    best: tuple[float, dict[str, Candidate]] = (0.0, {})
    grosses = [float(candidate.data) for candidate in pools["gross_total"]]
    options = [[None, *pools[concept]] for concept in _MAIN]
    for net, tax, gross in itertools.product(*options):
        score = sum(candidate.score for candidate in (net, tax, gross) if candidate)
        score += _agreement(net, tax, gross, hints) + _gross_agreement(gross, grosses, hints)
        if score > best[0]:
            picked = dict(zip(_MAIN, (net, tax, gross), strict=True))
            best = (score, {name: candidate for name, candidate in picked.items() if candidate})
    return best[1]


def _agreement(net: Candidate | None, tax: Candidate | None, gross: Candidate | None, hints: _Hints) -> float:
    """What a choice gains by adding up, or loses by contradicting itself."""
    net_value, tax_value, gross_value = (float(c.data) if c else None for c in (net, tax, gross))
    gain = 0.0
    if net_value is not None and tax_value is not None and gross_value is not None:
        rest = gross_value - net_value - tax_value
        is_adjusted = any(abs(rest - extra) < _CENT for extra in hints.adjustments)
        gain += _SUM_AGREES if abs(rest) < _CENT else _ADJUSTED_SUM_AGREES if is_adjusted else _SUM_FAILS
    if gross_value and tax_value is not None and abs(tax_value) > 0.6 * abs(gross_value):
        gain += _TAX_TOO_LARGE
    if gross_value is not None and net_value is not None and abs(net_value) > abs(gross_value) + 0.05:
        gain += _NET_TOO_LARGE
    if hints.line_sum:
        gain += _LINES_AGREE * sum(v is not None and abs(v - hints.line_sum) < _CENT for v in (net_value, gross_value))
    prints = [(c.row.index, c.data, c.label_row) for c in (net, tax, gross) if c]
    return gain + (_SAME_PRINT if len(set(prints)) < len(prints) else 0.0)


def _gross_agreement(gross: Candidate | None, grosses: Sequence[float], hints: _Hints) -> float:
    """What a gross total gains by being what was paid, or another total after rounding."""
    if gross is None:
        return 0.0
    value = float(gross.data)
    gain = _PAID_AGREES if any(abs(value - paid) < _CENT / 3 for paid in hints.paid) else 0.0
    if any(
        other != value and abs(other + rounding - value) < _CENT / 3
        for other in grosses
        for rounding in hints.roundings
    ):
        gain += _ROUNDED
    return gain
