"""Folders of documents and videos in, one validated JSON record per document out, with a vision model.

    record = ingest.extract("invoice.pdf", recipe="invoices", local=True)
    for record in ingest.run(["inbox/"], schema=Invoice, output="out"):
        ...

Names are imported on first use, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.api import (
        Ingestor,
        configure,
        extract,
        extract_async,
        find,
        open_ledger,
        plan,
        run,
        run_to_folder,
        stream,
    )
    from ingest.api.cluster import ray_dataset
    from ingest.config import (
        AskingSettings,
        BudgetSettings,
        Config,
        Endpoint,
        KeepingSettings,
        PlanningSettings,
        ReadingSettings,
        Recipe,
    )
    from ingest.errors import (
        ConfigError,
        IngestError,
        LedgerError,
        ModelError,
        NothingFound,
        OutputError,
        ReplyError,
        SourceError,
    )
    from ingest.keeping.sinks.frames import records_to_arrow, to_pandas, to_polars
    from ingest.profile import Profile, load_profile, profile_names
    from ingest.recipes import load_recipe, recipe_from_schema, recipe_names
    from ingest.record import Evidence, Plan, Record, RunSummary
    from ingest.types import Event, Input, Observer

__version__ = "0.1.0"

__all__ = [
    "AskingSettings",
    "BudgetSettings",
    "Config",
    "ConfigError",
    "Endpoint",
    "Event",
    "Evidence",
    "IngestError",
    "Ingestor",
    "Input",
    "KeepingSettings",
    "LedgerError",
    "ModelError",
    "NothingFound",
    "Observer",
    "OutputError",
    "Plan",
    "PlanningSettings",
    "Profile",
    "ReadingSettings",
    "Recipe",
    "Record",
    "ReplyError",
    "RunSummary",
    "SourceError",
    "configure",
    "extract",
    "extract_async",
    "find",
    "load_profile",
    "load_recipe",
    "open_ledger",
    "plan",
    "profile_names",
    "ray_dataset",
    "recipe_from_schema",
    "recipe_names",
    "records_to_arrow",
    "run",
    "run_to_folder",
    "stream",
    "to_pandas",
    "to_polars",
]

_HOMES = {
    "api": "Ingestor configure extract extract_async find open_ledger plan run run_to_folder stream",
    "api.cluster": "ray_dataset",
    "config": "AskingSettings BudgetSettings Config Endpoint KeepingSettings PlanningSettings ReadingSettings Recipe",
    "errors": "ConfigError IngestError LedgerError ModelError NothingFound OutputError ReplyError SourceError",
    "keeping.sinks.frames": "records_to_arrow to_pandas to_polars",
    "profile": "Profile load_profile profile_names",
    "recipes": "load_recipe recipe_from_schema recipe_names",
    "record": "Evidence Plan Record RunSummary",
    "types": "Event Input Observer",
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names.split():
            value: object = getattr(import_module(f"ingest.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'ingest' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
