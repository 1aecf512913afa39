"""Digests: what is new in a set of documents, told once, each line with its evidence."""

from pipelines.digest.job import Clock, Made, last, run, utc_now
from pipelines.digest.model import Digest
from pipelines.digest.planning import DigestPlan, plan
from pipelines.digest.settings import Alert, DigestRecipe, DigestSettings, load_digest_recipe

__all__ = [
    "Alert",
    "Clock",
    "Digest",
    "DigestPlan",
    "DigestRecipe",
    "DigestSettings",
    "Made",
    "last",
    "load_digest_recipe",
    "plan",
    "run",
    "utc_now",
]
