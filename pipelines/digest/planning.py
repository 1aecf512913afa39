"""What a digest would send and cost: the reading of what is new, and the writing of the digest over it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import ingest
from ingest.record import PlanFigures
from pipelines.digest import asking
from pipelines.digest.collecting import collect
from pipelines.digest.job import has_ledger, open_ledger
from pipelines.digest.model import DocumentChange
from pipelines.digest.settings import DigestSettings, digest_recipe

_CHARS_PER_TOKEN = 4
_MOST_STAND_IN_CHARS = 2_000_000
"""Text planned for documents that are still to be read; more of it is priced in proportion."""


class DigestPlan(BaseModel):
    """The price of a digest before anything is sent. Prices are None without a price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    reading: ingest.Plan | None = Field(description="Bringing the records up to date; None when no document was found")
    facts: int = Field(description="Facts that are known and not told yet")
    documents_unread: int = Field(description="Documents whose facts are not known yet; their length is estimated")
    writing: PlanFigures = Field(description="The model's statements over the facts; nothing where rules make them")
    max_cost_usd: Decimal | None = Field(None, description="The limit on writing that was given")

    @property
    def expected_usd(self) -> Decimal | None:
        """Reading and writing together."""
        return self._both("cost_usd_expected")

    @property
    def ceiling_usd(self) -> Decimal | None:
        """The most that both can cost."""
        return self._both("cost_usd_ceiling")

    def _both(self, name: str) -> Decimal | None:
        figures = [self.writing, *([self.reading.totals] if self.reading else [])]
        amounts = [getattr(figure, name) for figure in figures]
        return None if None in amounts else sum(amounts, start=Decimal(0))


def plan(
    paths: Sequence[str | Path],
    config: ingest.Config,
    settings: DigestSettings | None = None,
    observer: ingest.Observer | None = None,
) -> DigestPlan:
    """What `run` would send now and what it would cost; nothing is sent.

    The facts of documents that were read already are known; those of documents still to be read are taken to be as long
    as the answers about them. Raises ConfigError when the profile has no price.
    """
    settings = settings or DigestSettings()
    recipe = digest_recipe(config, settings)
    name = settings.name or config.recipe.name
    try:
        reading = ingest.plan(paths, config, observer)
    except ingest.NothingFound:
        reading = None
    known: tuple[DocumentChange, ...] = ()
    if has_ledger(config):
        with open_ledger(config) as ledger:
            known = collect(ledger, name, config).documents
    facts = sum(len(document.facts) for document in known)
    unread = [row for row in reading.documents if row.requests] if reading else []
    writing = PlanFigures()
    if not config.endpoint.local and (facts or unread):
        expected = sum(row.output_tokens_expected for row in unread)
        ceiling = sum(row.output_tokens_ceiling for row in unread)
        writing = _writing(asking.facts_text(known), expected, ceiling, recipe, config, settings)
    return DigestPlan(
        name=name,
        reading=reading,
        facts=facts,
        documents_unread=len(unread),
        writing=writing,
        max_cost_usd=settings.max_cost_usd,
    )


def _writing(
    known: str, expected: int, ceiling: int, recipe: Any, config: ingest.Config, settings: DigestSettings
) -> PlanFigures:
    """The price of writing over facts that are known and answers of so many tokens that are not."""
    chars = min(expected * _CHARS_PER_TOKEN, _MOST_STAND_IN_CHARS)
    line = "[F100000] /field/name: value of a field that is still to be read, 1,234.56\n"
    text = f"{known}\n{line * (-(-chars // len(line)))}"
    totals = asking.plan_writing([text], recipe, config, settings.max_cost_usd).totals
    figures = PlanFigures(**{name: getattr(totals, name) for name in PlanFigures.model_fields})
    planned = max(figures.input_tokens_safe, 1)
    missing = max(expected - chars // _CHARS_PER_TOKEN, 0)
    figures = _grown(
        figures,
        Fraction(planned + missing, planned),
        Fraction(planned + missing + ceiling - min(expected, ceiling), planned),
    )
    most = settings.max_cost_usd
    if most is not None and figures.cost_usd_ceiling is not None and figures.cost_usd_expected is not None:
        figures = figures.model_copy(
            update={
                "cost_usd_ceiling": min(most, figures.cost_usd_ceiling),
                "cost_usd_expected": min(most, figures.cost_usd_expected),
            }
        )
    return figures


def _grown(figures: PlanFigures, expected: Fraction, ceiling: Fraction) -> PlanFigures:
    """Figures in proportion to more input: what is expected, and what is the most."""
    grown: dict[str, Any] = {}
    for name, value in figures.model_dump().items():
        factor = ceiling if name.endswith(("_ceiling", "_safe")) else expected
        if isinstance(value, Decimal):
            grown[name] = value if factor == 1 else value * factor.numerator / factor.denominator
        else:
            grown[name] = None if value is None else -(-value * factor.numerator // factor.denominator)
    return figures.model_copy(update=grown)
