"""What replies teach about token counts: how the server's differ from the profile's, and how far to trust that.

Each reply gives one total for a request of several content kinds. The ratios of the kinds are estimated together by
ridge regression (Hoerl and Kennedy 1970) around the profile's own counts, in relative terms, with Huber weights (Huber
1964) against outliers and a recency weight, so that a server that changes its counting is followed. The posterior
covariance of the ratios gives the margin of any mix of kinds: narrow for mixes like those seen, wide for others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul

from ingest.planning.tokens import KINDS, Counts
from ingest.profile import AnswerRule
from ingest.types import Estimate, Observation

DEFAULT_MARGIN = 0.06
"""From the planned 120,000 tokens to the price step at 128,000 (model-facts §10)."""

_KEPT = 200  # observations that count: the newest
_HALF_LIFE = 25.0  # observations after which one counts half
_FULL_TRUST = 20  # replies after which the profile's own safe rules of a kind no longer hold
_SHARE_SEEN = 0.05  # of a request's tokens, from which it says something about a kind
_SIGMAS = 3.0  # of the margin: one request in several hundred passes it
_HUBER = 2.5
_PRIOR_SD = 0.1  # of a ratio around 1, when nothing is known of it: a fifth off is two deviations
_NOISE_SD = 0.02  # of one request around its estimate, before residuals tell
_NOISE_WEIGHT = 4.0  # replies that the figure above is worth
_LEAST_NOISE, _MOST_NOISE = 0.002, 0.25
_LEAST_RATIO, _MOST_RATIO = 0.3, 3.0
_DOUBT = 0.25  # share by which the worst case passes the safe estimate before anything was seen
_LEAST_DOUBT = 0.03

_ANSWER_SPREAD = 3.0  # by how many times itself an answer may pass the expected length before any was seen

_ANSWERS = AnswerRule()
_Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class KindReport:
    """What is known of one kind: the server's count over the profile's, the margin on it, and replies that had it."""

    kind: str
    ratio: float
    margin: float
    replies: int


@dataclass(frozen=True)
class _Fit:
    """Ratios with their covariance, and the relative noise of one observation (a standard deviation)."""

    ratios: tuple[float, ...]
    covariance: _Matrix
    noise: float


@dataclass(frozen=True)
class Calibration:
    """Token counts of the profile, corrected by what replies have shown. Made by `Calibration.of`; pure and frozen."""

    observations: tuple[Observation, ...] = ()
    margin: float = DEFAULT_MARGIN
    answers: AnswerRule = _ANSWERS

    @classmethod
    def of(
        cls, observations: Sequence[Observation], margin: float = DEFAULT_MARGIN, answers: AnswerRule = _ANSWERS
    ) -> Calibration:
        """From answered requests of one model, oldest first; `margin` and `answers` hold before there are any.

        The newest 200 count. Observations without tokens are left out.
        """
        usable = [each for each in observations if each.input_tokens > 0 and _total(each) > 0]
        return cls(tuple(usable[-_KEPT:]), margin, answers)

    @property
    def replies(self) -> int:
        """How many answered requests it rests on."""
        return len(self.observations)

    def estimate(self, counts: Counts) -> Estimate:
        """Input tokens that the server will count: expected, and a value it is not expected to pass.

        Without observations the expected value is the profile's, and the safe value the larger of the profile's safe
        rules and the margin. More tokens of any kind never lower either value.
        """
        expected = self.weigh(counts.expected)
        extra = max(self._allowance(counts), self._band(counts))
        return Estimate(math.ceil(expected - 1e-9), math.ceil(expected + extra - 1e-9))

    def most(self, counts: Counts) -> int:
        """Input tokens for which money is to be reserved: beyond the safe value by what is not yet known."""
        seen = min((n for n, tokens in zip(self._seen, counts.expected, strict=True) if tokens), default=0)
        doubt = max(_LEAST_DOUBT, _DOUBT * (1 - seen / _FULL_TRUST))
        return math.ceil(max(self.estimate(counts).safe, counts.total_safe if seen < _FULL_TRUST else 0) * (1 + doubt))

    def weigh(self, expected: Sequence[int]) -> float:
        """Expected tokens of counts by kind, unrounded: additive over parts."""
        if not self.observations:
            return sum(expected)
        weighed: float = sum(map(mul, self._fit.ratios, expected))
        return weighed

    def answer(self, owned_tokens: int) -> Estimate:
        """Output tokens (without reasoning) of a request whose owned parts have so many tokens by the profile."""
        base, share = self.answer_line
        expected = base + share * owned_tokens
        spread = 2 * self._answer_fit.noise if self.observations else _ANSWER_SPREAD
        return Estimate(math.ceil(expected), math.ceil(expected * (1 + spread)))

    @cached_property
    def answer_line(self) -> tuple[float, float]:
        """Output tokens expected: so many, and so many per token of the owned parts."""
        ratios = self._answer_fit.ratios
        return ratios[0] * self.answers.base_tokens, ratios[1] * self.answers.per_input_token

    @property
    def error_band(self) -> float:
        """Half-width of the 95 % band of the error of a typical request's expected input, as a share of it."""
        if not self.observations:
            return self.margin
        shares = [_shares(each) for each in self.observations]
        typical = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
        return 2 * math.sqrt(_quadratic(typical, self._fit.covariance) + self._fit.noise**2)

    def report(self) -> tuple[KindReport, ...]:
        """What is known of each kind that was seen."""
        rows = zip(KINDS, self._fit.ratios, self._seen, range(len(KINDS)), strict=True)
        variances = [self._fit.covariance[index][index] for index in range(len(KINDS))]
        noise = self._fit.noise**2
        return tuple(
            KindReport(kind, ratio, _SIGMAS * math.sqrt(variances[index] + noise), seen)
            for kind, ratio, seen, index in rows
            if seen
        )

    def _allowance(self, counts: Counts) -> float:
        """What the profile's safe rules and the margin add, kind by kind, less and less the more replies had it."""
        by_rules = by_margin = 0.0
        for expected, safe, doubt in zip(counts.expected, counts.safe, self._doubts, strict=True):
            if expected and doubt:
                by_margin += doubt * expected
                by_rules += doubt * (safe - expected)
        return max(by_rules, by_margin * self.margin)

    def _band(self, counts: Counts) -> float:
        """What the fit does not know of this mix of kinds, those never seen left to the allowance."""
        if not self.observations:
            return 0.0
        known = [tokens if seen else 0 for tokens, seen in zip(counts.expected, self._seen, strict=True)]
        variance = _quadratic(known, self._fit.covariance) + (self._fit.noise * sum(known)) ** 2
        return _SIGMAS * math.sqrt(variance)

    @cached_property
    def _doubts(self) -> tuple[float, ...]:
        return tuple(max(0.0, 1 - seen / _FULL_TRUST) for seen in self._seen)

    @cached_property
    def _seen(self) -> tuple[int, ...]:
        shares = [_shares(each) for each in self.observations]
        return tuple(sum(row[index] >= _SHARE_SEEN for row in shares) for index in range(len(KINDS)))

    @cached_property
    def _fit(self) -> _Fit:
        rows = [_shares(each) for each in self.observations]
        return _regress(rows, [each.input_tokens / _total(each) for each in self.observations], len(KINDS))

    @cached_property
    def _answer_fit(self) -> _Fit:
        rows, targets = [], []
        for each in self.observations:
            parts = (self.answers.base_tokens, self.answers.per_input_token * each.owned_tokens)
            total = sum(parts) or 1.0
            rows.append([part / total for part in parts])
            targets.append(each.output_tokens / total)
        # Schemas differ far more than tokenizers do.
        return _regress(rows, targets, 2, prior_sd=2.0, noise_sd=0.5, most_noise=2.0, least_ratio=0.0, most_ratio=20.0)


NO_REPLIES = Calibration()


def _total(observation: Observation) -> int:
    return sum(tokens for _, tokens in observation.counts)


def _shares(observation: Observation) -> list[float]:
    tokens = dict(observation.counts)
    total = _total(observation)
    return [tokens.get(kind, 0) / total for kind in KINDS]


def _regress(
    rows: Sequence[Sequence[float]],
    targets: Sequence[float],
    size: int,
    prior_sd: float = _PRIOR_SD,
    noise_sd: float = _NOISE_SD,
    most_noise: float = _MOST_NOISE,
    least_ratio: float = _LEAST_RATIO,
    most_ratio: float = _MOST_RATIO,
) -> _Fit:
    """Ratios near 1 with `rows · ratios ≈ targets`, the newest row last."""
    prior = 1 / prior_sd**2
    recency = [0.5 ** ((len(rows) - 1 - index) / _HALF_LIFE) for index in range(len(rows))]
    weights, noise = recency, noise_sd
    deltas, covariance = [0.0] * size, _diagonal(prior_sd**2, size)
    for _ in range(4 if rows else 0):
        precision = [[prior * (i == j) for j in range(size)] for i in range(size)]
        pull = [0.0] * size
        for row, target, weight in zip(rows, targets, weights, strict=True):
            present = [(index, share) for index, share in enumerate(row) if share]
            for i, share in present:
                scaled = weight * share / noise**2
                pull[i] += scaled * (target - 1)
                for j, other in present:
                    precision[i][j] += scaled * other
        covariance = _inverse(precision)
        deltas = [sum(a * b for a, b in zip(line, pull, strict=True)) for line in covariance]
        errors = [
            target - 1 - sum(share * delta for share, delta in zip(row, deltas, strict=True))
            for row, target in zip(rows, targets, strict=True)
        ]
        weights = [w * min(1.0, _HUBER * noise / max(abs(e), 1e-12)) for w, e in zip(recency, errors, strict=True)]
        squares = _NOISE_WEIGHT * noise_sd**2 + sum(w * e * e for w, e in zip(weights, errors, strict=True))
        noise = min(max(math.sqrt(squares / (_NOISE_WEIGHT + sum(weights))), _LEAST_NOISE), most_noise)
    return _Fit(tuple(min(max(1 + delta, least_ratio), most_ratio) for delta in deltas), covariance, noise)


def _quadratic(vector: Sequence[float], matrix: _Matrix) -> float:
    present = [(index, value) for index, value in enumerate(vector) if value]
    return max(sum(a * b * matrix[i][j] for i, a in present for j, b in present), 0.0)


def _diagonal(value: float, size: int) -> _Matrix:
    return tuple(tuple(value * (i == j) for j in range(size)) for i in range(size))


def _inverse(matrix: Sequence[Sequence[float]]) -> _Matrix:
    """Inverse of a small positive definite matrix, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*map(float, line), *(float(i == j) for j in range(size))] for i, line in enumerate(matrix)]
    for pivot in range(size):
        lead = rows[pivot][pivot]
        rows[pivot] = [value / lead for value in rows[pivot]]
        for other in range(size):
            factor = rows[other][pivot]
            if other != pivot and factor:
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[pivot], strict=True)]
    return tuple(tuple(line[size:]) for line in rows)
