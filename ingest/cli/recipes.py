"""`ingest recipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ingest.cli.output import is_color, say, say_json
from ingest.errors import ConfigError

if TYPE_CHECKING:
    from ingest.recipes import Offer


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_recipes)


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def list_recipes(as_json: bool = False) -> None:
    """List the recipes that are installed."""
    from ingest.recipes import offered_recipes
    from ingest.showing.report import Look, recipe_list

    rows = [(offer.name, _description(offer), offer.package) for offer in offered_recipes()]
    if as_json:
        say_json([dict(zip(("name", "description", "package"), row, strict=True)) for row in rows])
    else:
        say(recipe_list([row[:2] for row in rows], Look(color=is_color())))


@recipes.command("show")
@click.argument("name", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def show_recipe(name: str, as_json: bool) -> None:
    """Show a recipe: its fields, settings and instructions."""
    from ingest.recipes import load_recipe
    from ingest.showing.report import Look, recipe_table

    recipe = load_recipe(name)
    if as_json:
        say_json(recipe.model_dump(mode="json"))
    else:
        say(recipe_table(recipe, Look(color=is_color())))


def _description(offer: Offer) -> str:
    """What the recipe says of itself; a broken one does not hide the others."""
    from ingest.recipes import read_offer

    try:
        return read_offer(offer).description
    except ConfigError as error:
        return f"cannot be used: {error.message}"
