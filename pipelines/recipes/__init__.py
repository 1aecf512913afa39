"""Recipes that come with the package: one folder each, with `recipe.toml`, `schema.json` and `instructions.md`.

The command line finds this folder through the entry point `ingest.recipes`.
"""
